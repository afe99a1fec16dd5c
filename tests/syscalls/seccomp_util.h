// SPDX-License-Identifier: Apache-2.0
// Short ways to write and install seccomp filters.
#ifndef TESTS_SYSCALLS_SECCOMP_UTIL_H_
#define TESTS_SYSCALLS_SECCOMP_UTIL_H_

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <vector>

#include "tests/syscalls/util.h"

using Filter = std::vector<sock_filter>;

inline sock_filter Stmt(int code, uint32_t k) { return BPF_STMT(static_cast<uint16_t>(code), k); }
inline sock_filter Jump(int code, uint32_t k, uint8_t jt, uint8_t jf) {
  return BPF_JUMP(static_cast<uint16_t>(code), k, jt, jf);
}
inline sock_filter Ret(uint32_t k) { return Stmt(BPF_RET | BPF_K, k); }
inline sock_filter Load(size_t offset) { return Stmt(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)); }

// `action` for one call, the rest is allowed.
inline Filter On(long number, uint32_t action) {
  return {Load(offsetof(seccomp_data, nr)), Jump(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
          Ret(action), Ret(SECCOMP_RET_ALLOW)};
}

inline long Seccomp(unsigned op, unsigned flags, const void* argument) {
  return syscall(SYS_seccomp, op, flags, argument);
}

inline long Install(const Filter& filter, unsigned flags = 0) {
  sock_fprog program = {static_cast<unsigned short>(filter.size()), const_cast<sock_filter*>(filter.data())};
  return Seccomp(SECCOMP_SET_MODE_FILTER, flags, &program);
}

inline void NoNewPrivs() { CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0); }

// A call that nothing else makes.
inline long Probe(long a = 0, long b = 0) { return syscall(SYS_getpgid, a, b); }
constexpr long kProbe = SYS_getpgid;

#endif  // TESTS_SYSCALLS_SECCOMP_UTIL_H_
