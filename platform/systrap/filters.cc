// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/filters.h"

#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <iterator>
#include <optional>
#include <utility>

#include "platform/systrap/stub_memory.h"

namespace platform::systrap {

const uint64_t kCloneThreadFlags =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_UNTRACED;

namespace {

constexpr int kLoad = BPF_LD | BPF_W | BPF_ABS;
constexpr int kEqual = BPF_JMP | BPF_JEQ | BPF_K;
constexpr uint32_t kNumber = offsetof(seccomp_data, nr);
constexpr uint32_t kIp = offsetof(seccomp_data, instruction_pointer);

constexpr uint32_t ArgLow(int n) { return static_cast<uint32_t>(offsetof(seccomp_data, args) + 8 * n); }
sock_filter Statement(int code, uint32_t k) { return BPF_STMT(static_cast<uint16_t>(code), k); }
sock_filter Jump(int code, uint32_t k, uint8_t yes, uint8_t no) {
  return BPF_JUMP(static_cast<uint16_t>(code), k, yes, no);
}
sock_filter Return(uint32_t verdict) { return Statement(BPF_RET | BPF_K, verdict); }

// Ends with the instruction pointer's low half loaded; what isn't x86-64 or far from `page` is trapped.
std::vector<sock_filter> Prologue(uint64_t page) {
  return {
      Statement(kLoad, offsetof(seccomp_data, arch)),
      Jump(kEqual, AUDIT_ARCH_X86_64, 1, 0),
      Return(SECCOMP_RET_TRAP),
      Statement(kLoad, kIp + 4),
      Jump(kEqual, static_cast<uint32_t>(page >> 32), 1, 0),
      Return(SECCOMP_RET_TRAP),
      Statement(kLoad, kIp),
  };
}

}  // namespace

std::vector<sock_filter> BuildBaseFilter(uint64_t page, int socket) {
  // Each with at most one fixed 32-bit argument.
  struct Rule {
    uint32_t number;
    int argument = 0;
    std::optional<uint32_t> value = std::nullopt;
  };
  const Rule rules[] = {
      // Guest threads, all day long.
      {SYS_futex, 1, FUTEX_WAIT},
      {SYS_futex, 1, FUTEX_WAKE},
      {SYS_rseq},
      // Service threads.
      {SYS_NOTIFY},
      {SYS_mmap},
      {SYS_munmap},
      {SYS_mprotect},
      {SYS_mremap, 3, MREMAP_MAYMOVE | MREMAP_FIXED},
      {SYS_clone, 0, static_cast<uint32_t>(kCloneThreadFlags)},
      // The birth of a process or of a thread.
      {SYS_clone, 0, CLONE_FILES | SIGCHLD},
      {SYS_prctl, 0, PR_SET_PDEATHSIG},
      {SYS_getppid},
      {SYS_seccomp, 0, SECCOMP_SET_MODE_FILTER},
      {SYS_rt_sigprocmask, 0, SIG_SETMASK},
      {SYS_sigaltstack},
      // The zygote.
      {SYS_read, 0, static_cast<uint32_t>(socket)},
      {SYS_write, 0, static_cast<uint32_t>(socket)},
      {SYS_exit_group},
      {SYS_wait4, 2, static_cast<uint32_t>(__WALL | WNOHANG)},
  };
  std::vector<sock_filter> filter = Prologue(page);
  filter.push_back(Statement(BPF_ALU | BPF_AND | BPF_K, ~uint32_t{4095}));
  filter.push_back(Jump(kEqual, static_cast<uint32_t>(page), 1, 0));
  filter.push_back(Return(SECCOMP_RET_TRAP));
  filter.push_back(Statement(kLoad, kNumber));
  for (const Rule& rule : rules) {
    if (!rule.value) {
      filter.push_back(Jump(kEqual, rule.number, 0, 1));
      filter.push_back(Return(SECCOMP_RET_ALLOW));
      continue;
    }
    // The number is in the accumulator again behind each block.
    filter.push_back(Jump(kEqual, rule.number, 0, 4));
    filter.push_back(Statement(kLoad, ArgLow(rule.argument)));
    filter.push_back(Jump(kEqual, *rule.value, 0, 1));
    filter.push_back(Return(SECCOMP_RET_ALLOW));
    filter.push_back(Statement(kLoad, kNumber));
  }
  // The zygote sets debug registers of its children, and nothing else.
  const sock_filter ptrace[] = {
      Jump(kEqual, SYS_ptrace, 1, 0),
      Return(SECCOMP_RET_TRAP),
      Statement(kLoad, ArgLow(0)),
      Jump(kEqual, PTRACE_SEIZE, 9, 0),
      Jump(kEqual, PTRACE_INTERRUPT, 8, 0),
      Jump(kEqual, PTRACE_DETACH, 7, 0),
      Jump(kEqual, PTRACE_POKEUSER, 1, 0),
      Jump(kEqual, PTRACE_PEEKUSER, 0, 6),
      Statement(kLoad, ArgLow(2) + 4),
      Jump(kEqual, 0, 0, 4),
      Statement(kLoad, ArgLow(2)),
      Jump(BPF_JMP | BPF_JGE | BPF_K, offsetof(struct user, u_debugreg), 0, 2),
      Jump(BPF_JMP | BPF_JGE | BPF_K, offsetof(struct user, u_debugreg) + sizeof(user::u_debugreg), 1, 0),
      Return(SECCOMP_RET_ALLOW),
  };
  filter.insert(filter.end(), std::begin(ptrace), std::end(ptrace));
  filter.push_back(Return(SECCOMP_RET_TRAP));
  return filter;
}

std::vector<sock_filter> BuildServiceFilter() {
  return {
      Statement(kLoad, kNumber),
      Jump(kEqual, SYS_NOTIFY, 0, 1),
      Return(SECCOMP_RET_USER_NOTIF),
      Return(SECCOMP_RET_ALLOW),
  };
}

std::vector<sock_filter> BuildGuestFilter(uint64_t page) {
  std::vector<sock_filter> filter = Prologue(page);
  struct Site {
    uint64_t after;
    uint32_t operation;
  };
  const Site sites[] = {
      {StubOffset(kSystrapGuestWait), FUTEX_WAIT},
      {StubOffset(kSystrapGuestWake), FUTEX_WAKE},
  };
  // The area is in the guest's memory, whatever the arguments.
  const std::pair<const uint8_t*, uint32_t> calls[] = {{kSystrapGuestRseq, SYS_rseq},
                                                       {kSystrapGuestProbe, SYS_rseq},
                                                       {kSystrapGuestProbeEnd, SYS_rseq},
                                                       // The service filter makes a notification of it.
                                                       {kSystrapGuestPark, SYS_NOTIFY}};
  for (const auto& [after, number] : calls) {
    filter.push_back(Jump(kEqual, static_cast<uint32_t>(page + StubOffset(after)), 0, 4));
    filter.push_back(Statement(kLoad, kNumber));
    filter.push_back(Jump(kEqual, number, 0, 1));
    filter.push_back(Return(SECCOMP_RET_ALLOW));
    filter.push_back(Return(SECCOMP_RET_TRAP));
  }
  constexpr uint8_t kBlock = 10;
  for (const Site& site : sites) {
    filter.push_back(Jump(kEqual, static_cast<uint32_t>(page + site.after), 0, kBlock));
    filter.push_back(Statement(kLoad, kNumber));
    filter.push_back(Jump(kEqual, SYS_futex, 0, kBlock - 3));
    filter.push_back(Statement(kLoad, ArgLow(1)));
    filter.push_back(Jump(kEqual, site.operation, 0, kBlock - 5));
    filter.push_back(Statement(kLoad, ArgLow(3)));  // no time-out
    filter.push_back(Jump(kEqual, 0, 0, kBlock - 7));
    filter.push_back(Statement(kLoad, ArgLow(3) + 4));
    filter.push_back(Jump(kEqual, 0, 0, 1));
    filter.push_back(Return(SECCOMP_RET_ALLOW));
    filter.push_back(Return(SECCOMP_RET_TRAP));
  }
  filter.push_back(Return(SECCOMP_RET_TRAP));
  return filter;
}

}  // namespace platform::systrap
