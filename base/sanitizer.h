// SPDX-License-Identifier: Apache-2.0
// What a build with --config=asan, ubsan or asan_ubsan means for a process that confines itself.
#ifndef BASE_SANITIZER_H_
#define BASE_SANITIZER_H_

#include <sys/syscall.h>

#include <span>

namespace base {

#if defined(RUNSC_SANITIZED)  // base/BUILD.bazel
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// Host calls that the runtimes of the sanitizers make of their own: at the start and end of threads, and for a report.
// A seccomp filter of a sanitized process lets them pass without a look at their arguments; empty in all other builds.
inline std::span<const long> SanitizerCalls() {
  if constexpr (!kSanitized) return {};
  static constexpr long kCalls[] = {
      SYS_sigaltstack, SYS_sched_getaffinity, SYS_sched_yield, SYS_prctl,    SYS_getrlimit,
      SYS_prlimit64,   SYS_madvise,           SYS_futex,       SYS_readlink, SYS_getpid,
      SYS_gettid,      SYS_newfstatat,        SYS_close,       SYS_write,    SYS_pipe2};
  return kCalls;
}

// Calls that they make for a report, and do without: they are to fail with EPERM.
inline std::span<const long> SanitizerRefusedCalls() {
  if constexpr (!kSanitized) return {};
  static constexpr long kCalls[] = {SYS_open,  SYS_openat, SYS_access, SYS_stat,
                                    SYS_lstat, SYS_fork,   SYS_vfork,  SYS_socketpair};
  return kCalls;
}

}  // namespace base

#endif  // BASE_SANITIZER_H_
