// SPDX-License-Identifier: Apache-2.0
#include "sentry/loader/script.h"

#include <gtest/gtest.h>

namespace sentry::loader {
namespace {

std::string Show(std::string_view start) {
  auto line = ParseScriptLine(start);
  if (!line.ok()) return "error " + std::to_string(line.error_number());
  return line->interpreter + (line->has_argument ? "|" + line->argument : "");
}

const std::string kNoExec = "error " + std::to_string(ENOEXEC);

TEST(Script, SplitsNameAndArgument) {
  EXPECT_EQ(Show("#!/bin/sh\necho"), "/bin/sh");
  EXPECT_EQ(Show("#! \t/bin/sh  \t-e -x \t\n"), "/bin/sh|-e -x");
  EXPECT_EQ(Show("#!/bin/sh"), "/bin/sh");
  EXPECT_EQ(Show("#!/usr/bin/env python3"), "/usr/bin/env|python3");
  EXPECT_EQ(Show(std::string_view("#!/bin/sh\0 x\n", 13)), "/bin/sh");
}

TEST(Script, RefusesLinesWithoutName) {
  EXPECT_EQ(Show("#!\n"), kNoExec);
  EXPECT_EQ(Show("#! \t \n/bin/sh"), kNoExec);
  EXPECT_EQ(Show("#!"), kNoExec);
  EXPECT_EQ(Show("#"), kNoExec);
}

TEST(Script, CutsLongLinesLikeLinux) {
  // A name that runs out of the 256 bytes may be cut: refused. An argument is cut silently.
  std::string name(300, 'a');
  EXPECT_EQ(Show(("#!/" + name).substr(0, kFormatBytes)), kNoExec);
  std::string line = ("#!/bin/sh " + name).substr(0, kFormatBytes);
  EXPECT_EQ(Show(line), "/bin/sh|" + name.substr(0, kFormatBytes - 1 - 10));
  // With the newline as byte 256 all fits.
  std::string full = "#!/" + std::string(kFormatBytes - 4, 'b') + "\n";
  ASSERT_EQ(full.size(), kFormatBytes);
  EXPECT_EQ(Show(full), "/" + std::string(kFormatBytes - 4, 'b'));
}

}  // namespace
}  // namespace sentry::loader
