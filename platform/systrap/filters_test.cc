// SPDX-License-Identifier: Apache-2.0
// The filters, evaluated.
#include "platform/systrap/filters.h"

#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <algorithm>

#include "gtest/gtest.h"
#include "platform/stub/bpf_evaluator.h"
#include "platform/systrap/stub_memory.h"

namespace platform::systrap {
namespace {

const uint64_t kPage = kGuestAddressLimit + 0x3'0000;
constexpr int kSocket = 7;
constexpr uint64_t kFdCalls[] = {SYS_read, SYS_write};

struct Call {
  uint64_t number;
  uint64_t ip = kPage + 0x100;
  uint64_t arguments[6] = {};
  uint32_t arch = AUDIT_ARCH_X86_64;
};

uint32_t Verdict(const std::vector<sock_filter>& filter, const Call& call) {
  seccomp_data data = {};
  data.nr = static_cast<int>(call.number);
  data.arch = call.arch;
  data.instruction_pointer = call.ip;
  std::copy(std::begin(call.arguments), std::end(call.arguments), data.args);
  std::optional<uint32_t> verdict = stub::Evaluate(filter, data);
  EXPECT_TRUE(verdict.has_value());
  return verdict.value_or(SECCOMP_RET_KILL_PROCESS);
}
bool Allows(const std::vector<sock_filter>& filter, const Call& call) {
  uint32_t verdict = Verdict(filter, call);
  EXPECT_TRUE(verdict == SECCOMP_RET_ALLOW || verdict == SECCOMP_RET_TRAP) << std::hex << verdict;
  return verdict == SECCOMP_RET_ALLOW;
}

TEST(BaseFilterTest, OnlyTheListedCalls) {
  std::vector<sock_filter> filter = BuildBaseFilter(kPage, kSocket);
  const uint64_t any[] = {SYS_NOTIFY,  SYS_mmap,        SYS_munmap, SYS_mprotect,
                          SYS_getppid, SYS_sigaltstack, SYS_rseq,   SYS_exit_group};
  for (uint64_t number = 0; number < 1024; ++number) {
    bool listed = std::find(std::begin(any), std::end(any), number) != std::end(any);
    // An argument no rule has.
    EXPECT_EQ(Allows(filter, {.number = number, .arguments = {999, 999}}), listed) << number;
    EXPECT_FALSE(Allows(filter, {.number = number | 0x4000'0000})) << "x32 " << number;
    EXPECT_FALSE(Allows(filter, {.number = number, .arch = AUDIT_ARCH_I386})) << number;
  }
  EXPECT_FALSE(Allows(filter, {.number = 0xffff'ffff}));
}

TEST(BaseFilterTest, Arguments) {
  std::vector<sock_filter> filter = BuildBaseFilter(kPage, kSocket);
  for (uint64_t number : kFdCalls) {
    EXPECT_TRUE(Allows(filter, {.number = number, .arguments = {kSocket}}));
    EXPECT_FALSE(Allows(filter, {.number = number, .arguments = {kSocket + 1}}));
  }
  EXPECT_TRUE(Allows(filter, {.number = SYS_clone, .arguments = {kCloneThreadFlags}}));
  EXPECT_TRUE(Allows(filter, {.number = SYS_clone, .arguments = {CLONE_FILES | SIGCHLD}}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_clone, .arguments = {SIGCHLD}}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_clone, .arguments = {kCloneThreadFlags | CLONE_NEWUSER}}));
  EXPECT_TRUE(Allows(filter, {.number = SYS_prctl, .arguments = {1}}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_prctl, .arguments = {22}}));
  EXPECT_TRUE(Allows(filter, {.number = SYS_mremap, .arguments = {0, 0, 0, MREMAP_MAYMOVE | MREMAP_FIXED}}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_mremap, .arguments = {0, 0, 0, MREMAP_MAYMOVE}}));
  EXPECT_TRUE(Allows(filter, {.number = SYS_futex, .arguments = {0, FUTEX_WAIT}}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_futex, .arguments = {0, FUTEX_LOCK_PI}}));
}

TEST(BaseFilterTest, DebugRegistersOnly) {
  std::vector<sock_filter> filter = BuildBaseFilter(kPage, kSocket);
  constexpr uint64_t kDebug = offsetof(struct user, u_debugreg);
  for (uint64_t request = 0; request < 0x4400; ++request) {
    bool always = request == PTRACE_SEIZE || request == PTRACE_INTERRUPT || request == PTRACE_DETACH;
    bool sometimes = request == PTRACE_POKEUSER || request == PTRACE_PEEKUSER;
    EXPECT_EQ(Allows(filter, {.number = SYS_ptrace, .arguments = {request, 1}}), always) << request;
    for (uint64_t at = 0; at < sizeof(user); at += 8) {
      bool debug = at >= kDebug && at < kDebug + 64;
      EXPECT_EQ(Allows(filter, {.number = SYS_ptrace, .arguments = {request, 1, at}}), always || (sometimes && debug));
    }
    const uint64_t high = kDebug + (uint64_t{1} << 32);
    EXPECT_EQ(Allows(filter, {.number = SYS_ptrace, .arguments = {request, 1, high}}), always);
  }
  EXPECT_TRUE(Allows(filter, {.number = SYS_wait4, .arguments = {1, 0, __WALL | WNOHANG}}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_wait4, .arguments = {1, 0, __WALL}}));
}

TEST(BaseFilterTest, OnlyFromTheStubPage) {
  std::vector<sock_filter> filter = BuildBaseFilter(kPage, kSocket);
  EXPECT_TRUE(Allows(filter, {.number = SYS_getppid, .ip = kPage}));
  EXPECT_TRUE(Allows(filter, {.number = SYS_getppid, .ip = kPage + 4095}));
  for (uint64_t ip : {kPage - 1, kPage + 4096, uint64_t{0x40'0000}, kPage & 0xffff'ffff, kPage + (uint64_t{1} << 32),
                      uint64_t{0xffff'ffff'ff60'0000}}) {
    EXPECT_FALSE(Allows(filter, {.number = SYS_getppid, .ip = ip})) << std::hex << ip;
  }
}

// seccomp takes the strictest verdict: a guest's call is a trap but from one place.
TEST(ServiceFilterTest, NotifiesOneCall) {
  std::vector<sock_filter> filter = BuildServiceFilter();
  for (uint64_t number = 0; number < 1024; ++number) {
    EXPECT_EQ(Verdict(filter, {.number = number}), number == SYS_NOTIFY ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_ALLOW);
  }
}

TEST(GuestFilterTest, SleepAndWakeFromTheirPlacesOnly) {
  std::vector<sock_filter> filter = BuildGuestFilter(kPage);
  const uint64_t wait = kPage + StubOffset(kSystrapGuestWait);
  const uint64_t wake = kPage + StubOffset(kSystrapGuestWake);
  const uint64_t rseqs[] = {kPage + StubOffset(kSystrapGuestRseq), kPage + StubOffset(kSystrapGuestProbe),
                            kPage + StubOffset(kSystrapGuestProbeEnd)};
  const uint64_t park = kPage + StubOffset(kSystrapGuestPark);
  EXPECT_TRUE(Allows(filter, {.number = SYS_futex, .ip = wait, .arguments = {1, FUTEX_WAIT, 2}}));
  EXPECT_TRUE(Allows(filter, {.number = SYS_futex, .ip = wake, .arguments = {1, FUTEX_WAKE, 1}}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_futex, .ip = wait, .arguments = {1, FUTEX_WAKE, 2}}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_futex, .ip = wake, .arguments = {1, FUTEX_WAIT, 1}}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_futex, .ip = wake, .arguments = {1, FUTEX_WAIT_BITSET, 1}}));
  for (uint64_t timeout : {uint64_t{1}, uint64_t{1} << 32}) {
    EXPECT_FALSE(Allows(filter, {.number = SYS_futex, .ip = wait, .arguments = {1, FUTEX_WAIT, 2, timeout}}));
  }
  // From anywhere in the page, any call, with arguments that the sleep has.
  for (uint64_t ip = kPage; ip < kPage + kPageSize; ++ip) {
    for (uint64_t number = 0; number < 512; ++number) {
      bool rseq = std::find(std::begin(rseqs), std::end(rseqs), ip) != std::end(rseqs) && number == SYS_rseq;
      bool sleeps = (ip == wait && number == SYS_futex) || rseq || (ip == park && number == SYS_NOTIFY);
      ASSERT_EQ(Allows(filter, {.number = number, .ip = ip, .arguments = {1, FUTEX_WAIT, 2}}), sleeps) << number;
    }
  }
  EXPECT_FALSE(Allows(filter, {.number = SYS_futex, .ip = wait, .arch = AUDIT_ARCH_I386}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_futex | 0x4000'0000, .ip = wait}));
  EXPECT_FALSE(Allows(filter, {.number = SYS_futex, .ip = wait + (uint64_t{1} << 32)}));
}

}  // namespace
}  // namespace platform::systrap
