// SPDX-License-Identifier: Apache-2.0
#include "platform/stub/stub_filter.h"

#include <linux/audit.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>

namespace platform::stub {
namespace {

constexpr uint32_t kArgLow(int n) { return static_cast<uint32_t>(offsetof(seccomp_data, args) + 8 * n); }

// Calls allowed with any arguments. read and write serve the zygote; the memory calls are the sentry's, injected.
constexpr uint32_t kCalls[] = {
    SYS_pause, SYS_mmap,  SYS_munmap,  SYS_mprotect, SYS_mremap,     SYS_madvise,
    SYS_read,  SYS_write, SYS_getppid, SYS_exit,     SYS_exit_group, SYS_rseq,
};

// Calls allowed with one exact (32-bit) first argument.
struct CallWithArgument {
  uint32_t number;
  uint32_t argument;
};
constexpr CallWithArgument kCallsWithArgument[] = {
    {SYS_clone, CLONE_FILES | SIGCHLD},
    {SYS_clone, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_UNTRACED},
    {SYS_prctl, PR_SET_PDEATHSIG},
};

sock_filter Statement(int code, uint32_t k) { return BPF_STMT(static_cast<uint16_t>(code), k); }
sock_filter Jump(int code, uint32_t k, uint8_t yes, uint8_t no) {
  return BPF_JUMP(static_cast<uint16_t>(code), k, yes, no);
}

}  // namespace

std::vector<sock_filter> BuildStubFilter(uint64_t page) {
  constexpr int kLoad = BPF_LD | BPF_W | BPF_ABS;
  constexpr int kEqual = BPF_JMP | BPF_JEQ | BPF_K;
  const sock_filter trap = Statement(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
  const sock_filter allow = Statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  constexpr uint32_t kIp = offsetof(seccomp_data, instruction_pointer);

  std::vector<sock_filter> filter = {
      Statement(kLoad, offsetof(seccomp_data, arch)),
      Jump(kEqual, AUDIT_ARCH_X86_64, 1, 0),
      trap,
      Statement(kLoad, kIp + 4),
      Jump(kEqual, static_cast<uint32_t>(page >> 32), 1, 0),
      trap,
      Statement(kLoad, kIp),
      Statement(BPF_ALU | BPF_AND | BPF_K, ~uint32_t{4095}),
      Jump(kEqual, static_cast<uint32_t>(page), 1, 0),
      trap,
      Statement(kLoad, offsetof(seccomp_data, nr)),
  };
  for (uint32_t number : kCalls) {
    filter.push_back(Jump(kEqual, number, 0, 1));
    filter.push_back(allow);
  }
  for (const CallWithArgument& call : kCallsWithArgument) {
    // Each block leaves the number in the accumulator when it doesn't match.
    filter.push_back(Jump(kEqual, call.number, 0, 4));
    filter.push_back(Statement(kLoad, kArgLow(0)));
    filter.push_back(Jump(kEqual, call.argument, 0, 1));
    filter.push_back(allow);
    filter.push_back(Statement(kLoad, offsetof(seccomp_data, nr)));
  }
  filter.push_back(trap);
  return filter;
}

}  // namespace platform::stub
