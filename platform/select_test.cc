// SPDX-License-Identifier: Apache-2.0
#include "platform/select.h"

#include <string>

#include "gtest/gtest.h"

namespace platform {
namespace {

TEST(SelectTest, KnownNames) {
  for (std::string name : {"ptrace", "systrap", "auto"}) {
    auto platform = MakePlatform(name);
    ASSERT_TRUE(platform.ok()) << platform.status().ToString();
    EXPECT_EQ((*platform)->Name(), name == "auto" ? "systrap" : name);
    EXPECT_GE((*platform)->FpuStateSize(), 512u);
  }
}

TEST(SelectTest, UnknownNameIsNamedWithTheKnownOnes) {
  auto platform = MakePlatform("vax");
  ASSERT_FALSE(platform.ok());
  EXPECT_EQ(platform.status().code(), absl::StatusCode::kInvalidArgument);
  std::string message(platform.status().message());
  EXPECT_NE(message.find("vax"), std::string::npos);
  EXPECT_NE(message.find("ptrace"), std::string::npos);
}

}  // namespace
}  // namespace platform
