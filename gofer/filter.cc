// SPDX-License-Identifier: Apache-2.0
#include "gofer/filter.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/sanitizer.h"

namespace gofer {
namespace {

constexpr int kGlibcSetxid = 33;
constexpr int kDebugExitStatus = 128 + SIGSYS;

struct Rule {
  int call;
  std::vector<scmp_arg_cmp> args = {};  // all must hold; several rules for one call are alternatives
};

using Arg = scmp_arg_cmp;
Arg Equal(unsigned arg, uint64_t value) { return {arg, SCMP_CMP_EQ, value, 0}; }
Arg Masked(unsigned arg, uint64_t mask, uint64_t value) { return {arg, SCMP_CMP_MASKED_EQ, mask, value}; }

std::vector<Rule> Rules(int proc_fd) {
  const uint64_t proc = static_cast<uint32_t>(proc_fd);
  const uint64_t no_follow = O_NOFOLLOW | O_CLOEXEC;
  const uint64_t thread_flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                                CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  return {
      // The protocol.
      {SCMP_SYS(sendmsg)},
      {SCMP_SYS(recvmsg)},
      {SCMP_SYS(socketpair), {Equal(0, AF_UNIX), Equal(1, SOCK_SEQPACKET | SOCK_CLOEXEC), Equal(2, 0)}},
      {SCMP_SYS(shutdown)},
      {SCMP_SYS(poll)},
      {SCMP_SYS(ppoll)},
      {SCMP_SYS(close)},
      // Opening: one component that is not followed, or what an fd of our own names.
      {SCMP_SYS(openat), {Equal(0, proc)}},
      {SCMP_SYS(openat), {Masked(2, no_follow, no_follow)}},
      {SCMP_SYS(openat2)},
      {SCMP_SYS(fcntl), {Equal(1, F_DUPFD_CLOEXEC)}},
      // Attributes.
      {SCMP_SYS(statx)},
      {SCMP_SYS(fstatfs)},
      {SCMP_SYS(fchownat), {Equal(4, AT_EMPTY_PATH)}},
      {SCMP_SYS(fchmodat), {Equal(0, proc)}},
      {SCMP_SYS(utimensat), {Equal(0, proc)}},
      {SCMP_SYS(ftruncate)},
      {SCMP_SYS(getxattr)},
      {SCMP_SYS(setxattr)},
      {SCMP_SYS(listxattr)},
      {SCMP_SYS(removexattr)},
      {SCMP_SYS(readlinkat)},
      {SCMP_SYS(syncfs)},
      // Names.
      {SCMP_SYS(mkdirat)},
      {SCMP_SYS(symlinkat)},
      {SCMP_SYS(mknodat), {Masked(2, S_IFMT, S_IFREG)}},
      {SCMP_SYS(mknodat), {Masked(2, S_IFMT, S_IFIFO)}},
      {SCMP_SYS(mknodat), {Masked(2, S_IFMT, S_IFCHR), Equal(3, 0)}},
      {SCMP_SYS(linkat), {Equal(0, proc), Equal(4, AT_SYMLINK_FOLLOW)}},
      {SCMP_SYS(unlinkat)},
      {SCMP_SYS(renameat2)},
      // Directories.
      {SCMP_SYS(getdents64)},
      {SCMP_SYS(lseek)},
      // Threads, with their own working directory and umask.
      {SCMP_SYS(clone), {Masked(0, 0xffffffff & ~uint64_t{CLONE_DETACHED}, thread_flags)}},
      {SCMP_SYS(unshare), {Equal(0, CLONE_FS)}},
      {SCMP_SYS(fchdir), {Equal(0, proc)}},
      {SCMP_SYS(umask)},
      // glibc's handler for setuid(2) in all threads, which the first pthread_create installs.
      {SCMP_SYS(rt_sigaction), {Equal(0, kGlibcSetxid)}},
      {SCMP_SYS(set_robust_list)},
      {SCMP_SYS(rseq)},
      {SCMP_SYS(rt_sigprocmask)},
      {SCMP_SYS(rt_sigreturn)},
      {SCMP_SYS(futex)},
      {SCMP_SYS(sched_yield)},
      {SCMP_SYS(sched_setaffinity), {Equal(0, 0)}},
      {SCMP_SYS(restart_syscall)},
      {SCMP_SYS(exit)},
      {SCMP_SYS(exit_group)},
      // Memory: never executable.
      {SCMP_SYS(mmap), {Masked(2, PROT_EXEC, 0), Masked(3, MAP_ANONYMOUS, MAP_ANONYMOUS)}},
      {SCMP_SYS(mprotect), {Masked(2, PROT_EXEC, 0)}},
      {SCMP_SYS(munmap)},
      {SCMP_SYS(mremap)},
      {SCMP_SYS(madvise)},
      {SCMP_SYS(brk)},
      // The log, the clock, and dying.
      {SCMP_SYS(write)},
      {SCMP_SYS(writev)},
      {SCMP_SYS(clock_gettime)},
      {SCMP_SYS(gettimeofday)},
      {SCMP_SYS(clock_nanosleep)},
      {SCMP_SYS(getpid)},
      {SCMP_SYS(gettid)},
      {SCMP_SYS(getrandom)},
      {SCMP_SYS(rt_sigaction), {Equal(0, SIGABRT)}},
      {SCMP_SYS(tgkill), {Equal(2, SIGABRT)}},
  };
}

// Async-signal-safe; every call it makes is allowed.
void ReportForbiddenCall(int, siginfo_t* info, void*) {
  char text[96] = "gofer: forbidden system call ";
  char* end = std::to_chars(text + strlen(text), text + sizeof text - 1, info->si_syscall).ptr;
  *end++ = '\n';
  [[maybe_unused]] ssize_t n = write(STDERR_FILENO, text, end - text);
  _exit(kDebugExitStatus);
}

absl::Status Failed(absl::string_view what, int negative_errno) {
  return absl::ErrnoToStatus(-negative_errno, absl::StrCat("gofer: seccomp filter: ", what));
}

absl::Status Fill(scmp_filter_ctx context, const FilterOptions& options) {
  for (const Rule& rule : Rules(options.proc_fd)) {
    int result = seccomp_rule_add_array(context, SCMP_ACT_ALLOW, rule.call, rule.args.size(), rule.args.data());
    if (result < 0) return Failed(absl::StrCat("rule for system call ", rule.call), result);
  }
  for (long call : base::SanitizerCalls()) {
    int result = seccomp_rule_add(context, SCMP_ACT_ALLOW, static_cast<int>(call), 0);
    if (result < 0) return Failed(absl::StrCat("rule for system call ", call), result);
  }
  // glibc then uses clone(2), whose flags can be checked.
  int result = seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  if (result < 0) return Failed("rule for clone3", result);
  // A binary search by call number instead of a list: the filter's cost per call.
  seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  result = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  if (result < 0) return Failed("action for foreign architectures", result);
  result = seccomp_load(context);
  if (result < 0) return Failed("load (is CONFIG_SECCOMP_FILTER on?)", result);
  return absl::OkStatus();
}

}  // namespace

absl::Status InstallGoferFilter(const FilterOptions& options) {
  if (options.proc_fd < 0) return absl::InvalidArgumentError("gofer: seccomp filter: no fd of /proc/self/fd");
  if (options.debug) {
    struct sigaction action = {};
    action.sa_sigaction = ReportForbiddenCall;
    action.sa_flags = SA_SIGINFO;
    if (sigaction(SIGSYS, &action, nullptr) < 0) return Failed("SIGSYS handler", -errno);
  }
  scmp_filter_ctx context = seccomp_init(options.debug ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS);
  if (!context) return absl::ResourceExhaustedError("gofer: seccomp filter: out of memory");
  absl::Status status = Fill(context, options);
  seccomp_release(context);
  return status;
}

std::vector<std::string> AllowedGoferCalls() {
  std::vector<std::string> names;
  for (const Rule& rule : Rules(0)) {
    char* name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, rule.call);
    std::string text = name ? name : absl::StrCat("#", rule.call);
    free(name);
    if (names.empty() || names.back() != text) names.push_back(std::move(text));
  }
  return names;
}

}  // namespace gofer
