// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/compatibility.h"

#include <errno.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string_view>

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

TEST(CompatibilityTest, EveryCallHasARowAndFewAreRefused) {
  std::set<int> rows;
  int refused = 0;
  auto take = [&](int number) { EXPECT_TRUE(rows.insert(number).second) << number; };
  auto refuse = [&](int number, int error, std::string_view reason) {
    take(number);
    ++refused;
    EXPECT_TRUE(error == EPERM || error == ENOSYS) << number;
    EXPECT_FALSE(reason.empty()) << number;
  };
#define CALL(number, name, handler, arguments) take(number);
#define PART(number, name, handler, arguments, note) take(number);
#define NONE(number, name, error, reason) refuse(number, error, reason);
#define GONE(number, name, reason) take(number);
#include "sentry/syscalls/table_x86_64.inc"
  // x86-64 has no calls 335 to 423.
  for (int number = 0; number <= 462; ++number)
    EXPECT_EQ(rows.count(number) != 0, number <= 334 || number >= 424) << number;
  EXPECT_LE(refused, 20);
}

TEST(CompatibilityTest, RefusalsNameTheirError) {
  EXPECT_NE(SyscallsText().find("acct                       EPERM"), std::string::npos);
  EXPECT_NE(CompatibilityMarkdown().find("| 163 | `acct` | EPERM |"), std::string::npos);
}

}  // namespace
}  // namespace sentry::syscalls
