// SPDX-License-Identifier: Apache-2.0
#include "runsc/cmd/parse_signal.h"

#include <signal.h>

#include "gtest/gtest.h"

namespace runsc {
namespace {

TEST(ParseSignal, NamesAndNumbers) {
  EXPECT_EQ(*ParseSignal("TERM"), SIGTERM);
  EXPECT_EQ(*ParseSignal("sigkill"), SIGKILL);
  EXPECT_EQ(*ParseSignal("9"), 9);
  EXPECT_EQ(*ParseSignal("0"), 0);
  EXPECT_EQ(*ParseSignal("64"), 64);
  EXPECT_EQ(*ParseSignal("IOT"), SIGABRT);
  EXPECT_EQ(*ParseSignal("POLL"), SIGIO);
  EXPECT_EQ(*ParseSignal("SIGRTMIN"), SIGRTMIN);
  EXPECT_EQ(*ParseSignal("RTMIN+3"), SIGRTMIN + 3);
  EXPECT_EQ(*ParseSignal("RTMAX-1"), SIGRTMAX - 1);
}

TEST(ParseSignal, Unknown) {
  for (const char* bad : {"", "SIG", "NOPE", "-1", "65", "9x", "RTMIN-1", "RTMAX+1", "RTMIN+", "TERM "}) {
    EXPECT_FALSE(ParseSignal(bad).ok()) << bad;
  }
  EXPECT_EQ(ParseSignal("NOPE").status().message(), "unknown signal \"NOPE\"");
}

}  // namespace
}  // namespace runsc
