// SPDX-License-Identifier: Apache-2.0
// The filter, evaluated.
#include "platform/stub/stub_filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#include <algorithm>
#include <optional>

#include "gtest/gtest.h"
#include "platform/stub/bpf_evaluator.h"

namespace platform::stub {
namespace {

constexpr uint64_t kPage = 0x7fff'fe00'0000;
constexpr uint32_t kArchI386 = AUDIT_ARCH_I386;

class StubFilterTest : public ::testing::Test {
 protected:
  bool Allowed(uint64_t number, uint64_t argument = 0, uint64_t ip = kPage + 0x100, uint32_t arch = AUDIT_ARCH_X86_64) {
    seccomp_data data = {};
    data.nr = static_cast<int>(number);
    data.arch = arch;
    data.instruction_pointer = ip;
    data.args[0] = argument;
    std::optional<uint32_t> verdict = Evaluate(filter_, data);
    EXPECT_TRUE(verdict == SECCOMP_RET_ALLOW || verdict == SECCOMP_RET_TRAP);
    return verdict == SECCOMP_RET_ALLOW;
  }
  std::vector<sock_filter> filter_ = BuildStubFilter(kPage);
};

TEST_F(StubFilterTest, OnlyTheListedCalls) {
  const std::vector<uint64_t> any = {SYS_read,    SYS_write, SYS_mmap, SYS_mprotect, SYS_munmap,     SYS_mremap,
                                     SYS_madvise, SYS_pause, SYS_exit, SYS_getppid,  SYS_exit_group, SYS_rseq};
  for (uint64_t number = 0; number < 1024; ++number) {
    bool listed = std::find(any.begin(), any.end(), number) != any.end();
    EXPECT_EQ(Allowed(number), listed) << number;
    EXPECT_FALSE(Allowed(number | 0x4000'0000)) << "x32 " << number;
    EXPECT_FALSE(Allowed(number, 0, kPage + 0x100, kArchI386)) << number;
  }
  EXPECT_FALSE(Allowed(0xffff'ffff));
}

TEST_F(StubFilterTest, OnlyFromTheStubPage) {
  EXPECT_TRUE(Allowed(SYS_pause, 0, kPage));
  EXPECT_TRUE(Allowed(SYS_pause, 0, kPage + 4095));
  for (uint64_t ip : {kPage - 1, kPage + 4096, uint64_t{0x40'0000}, kPage & 0xffff'ffff, kPage + (uint64_t{1} << 32),
                      uint64_t{0xffff'ffff'ff60'0000}}) {
    EXPECT_FALSE(Allowed(SYS_pause, 0, ip)) << std::hex << ip;
  }
}

TEST_F(StubFilterTest, Arguments) {
  constexpr uint64_t kThread =
      CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_UNTRACED;
  EXPECT_TRUE(Allowed(SYS_clone, CLONE_FILES | SIGCHLD));
  EXPECT_TRUE(Allowed(SYS_clone, kThread));
  EXPECT_FALSE(Allowed(SYS_clone, SIGCHLD));
  EXPECT_FALSE(Allowed(SYS_clone, kThread | CLONE_NEWUSER));
  EXPECT_TRUE(Allowed(SYS_prctl, 1));
  EXPECT_FALSE(Allowed(SYS_prctl, 22));
}

}  // namespace
}  // namespace platform::stub
