// SPDX-License-Identifier: Apache-2.0
#include "sentry/loader/initial_stack.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <string.h>

namespace sentry::loader {
namespace {

constexpr uint64_t kTop = 0x7ffff000;

class Reader {
 public:
  explicit Reader(const InitialStack& stack) : stack_(stack) {}
  uint64_t Word(uint64_t index) const {
    uint64_t value;
    memcpy(&value, stack_.bytes.data() + index * 8, 8);
    return value;
  }
  std::string String(uint64_t address) const {
    return reinterpret_cast<const char*>(stack_.bytes.data() + (address - stack_.pointer));
  }

 private:
  const InitialStack& stack_;
};

TEST(InitialStack, LaysOutWhatTheAbiSays) {
  for (size_t extra = 0; extra < 3; ++extra) {
    std::vector<std::string> argv = {"prog", "", "two"}, envp(extra, "A=b");
    StackContents contents;
    contents.argv = &argv;
    contents.envp = &envp;
    contents.filename = "/bin/prog";
    memset(contents.random, 7, sizeof contents.random);
    contents.auxv = {{AT_PAGESZ, 4096}};
    auto stack = BuildInitialStack(contents, kTop, 8 << 20);
    ASSERT_TRUE(stack.ok());
    EXPECT_EQ(stack->pointer % 16, 0u);
    EXPECT_EQ(stack->pointer + stack->bytes.size(), kTop);
    Reader r(*stack);
    EXPECT_EQ(r.Word(0), 3u);
    EXPECT_EQ(r.String(r.Word(1)), "prog");
    EXPECT_EQ(r.String(r.Word(2)), "");
    EXPECT_EQ(r.String(r.Word(3)), "two");
    EXPECT_EQ(r.Word(4), 0u);
    for (size_t i = 0; i < extra; ++i) EXPECT_EQ(r.String(r.Word(5 + i)), "A=b");
    EXPECT_EQ(r.Word(5 + extra), 0u);
    EXPECT_EQ(r.Word(1), stack->arg_start);
    EXPECT_EQ(stack->arg_end - stack->arg_start, 5u + 1 + 4);
    EXPECT_EQ(stack->env_end - stack->env_start, 4 * extra);
    bool saw_random = false, saw_name = false, saw_page = false;
    size_t at = 6 + extra;
    for (; r.Word(at) != AT_NULL; at += 2) {
      if (r.Word(at) == AT_RANDOM) saw_random = r.String(r.Word(at + 1)).substr(0, 16) == std::string(16, 7);
      if (r.Word(at) == AT_EXECFN) saw_name = r.String(r.Word(at + 1)) == "/bin/prog";
      if (r.Word(at) == AT_PAGESZ) saw_page = r.Word(at + 1) == 4096;
    }
    EXPECT_TRUE(saw_random);
    EXPECT_TRUE(saw_name);
    EXPECT_TRUE(saw_page);
    EXPECT_EQ(stack->auxv.back(), 0u);
  }
}

TEST(InitialStack, LimitsArguments) {
  EXPECT_EQ(ArgumentSpace(8 << 20), uint64_t{2} << 20);
  EXPECT_EQ(ArgumentSpace(UINT64_MAX), uint64_t{6} << 20);
  EXPECT_EQ(ArgumentSpace(4096), uint64_t{128} << 10);
  std::vector<std::string> argv(1, std::string(kMaxArgumentString - 1, 'x')), envp;
  StackContents contents;
  contents.argv = &argv;
  contents.envp = &envp;
  EXPECT_TRUE(BuildInitialStack(contents, kTop, 8 << 20).ok());
  argv[0] += 'x';
  EXPECT_EQ(BuildInitialStack(contents, kTop, 8 << 20).error_number(), E2BIG);
  // Many small ones: their pointers count.
  argv.assign(300000, "");
  EXPECT_EQ(BuildInitialStack(contents, kTop, 8 << 20).error_number(), E2BIG);
}

}  // namespace
}  // namespace sentry::loader
