// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/compatibility.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace sentry::syscalls {
namespace {

TEST(CompatibilityTest, TheDocumentIsFresh) {
  std::ifstream file("docs/compatibility.md");
  ASSERT_TRUE(file) << "run from the workspace's root (bazel test does)";
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_TRUE(text.str() == CompatibilityMarkdown()) << "docs/compatibility.md is stale: run tools/update-docs";
}

TEST(CompatibilityTest, RowsAreInOrderAndComplete) {
  std::istringstream text(SyscallsText());
  std::string line;
  int last = -1, rows = 0;
  while (std::getline(text, line)) {
    int number;
    char name[64];
    if (sscanf(line.c_str(), "%d %63s", &number, name) != 2 || line[0] != ' ') continue;
    EXPECT_GT(number, last) << line;
    last = number;
    ++rows;
  }
  EXPECT_EQ(last, 462);
  EXPECT_NE(SyscallsText().find(std::to_string(rows) + " system calls: "), std::string::npos);
}

TEST(CompatibilityTest, RefusalsNameTheirError) {
  EXPECT_NE(SyscallsText().find("acct                       EPERM"), std::string::npos);
  EXPECT_NE(CompatibilityMarkdown().find("| 163 | `acct` | EPERM |"), std::string::npos);
}

}  // namespace
}  // namespace sentry::syscalls
