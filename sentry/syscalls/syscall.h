// SPDX-License-Identifier: Apache-2.0
// What a system call handler is. Each family has a file sys_*.cc with functions of this signature, named Sys + the
// call's name in CamelCase (SysReadv, SysEpollPwait2, SysRtSigaction); table_x86_64.inc names them. A handler decodes,
// copies in, calls the subsystem, copies out. It returns the value, an errno, or an internal restart errno
// (base/errno.h).
#ifndef SENTRY_SYSCALLS_SYSCALL_H_
#define SENTRY_SYSCALLS_SYSCALL_H_

#include <time.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sentry/kernel/task.h"
#include "sentry/vfs/vfs.h"

namespace sentry::syscalls {

using kernel::Task;

struct Arguments {
  uint64_t raw[6];
  int Int(int i) const { return static_cast<int>(raw[i]); }
  unsigned Uint(int i) const { return static_cast<unsigned>(raw[i]); }
  int64_t Long(int i) const { return static_cast<int64_t>(raw[i]); }
  uint64_t Ulong(int i) const { return raw[i]; }
  size_t Size(int i) const { return raw[i]; }
  UserAddr Addr(int i) const { return UserAddr(raw[i]); }
  mode_t Mode(int i) const { return static_cast<mode_t>(raw[i] & 07777); }
};

using Value = Result<int64_t>;
using Handler = Value (*)(Task& task, const Arguments& args);

#define SYSCALL_HANDLER(name) \
  ::sentry::syscalls::Value name(::sentry::kernel::Task& task, const ::sentry::syscalls::Arguments& args)

// Largest transfer of one read or write (include/linux/fs.h).
inline constexpr size_t kMaxRwCount = 0x7ffff000;

// A path argument; ENAMETOOLONG from PATH_MAX on, EFAULT.
Result<std::string> CopyInPath(Task& task, UserAddr address);
// Where a *at call starts. With a relative path `dirfd` must be a directory (or anything, for an empty path with
// AT_EMPTY_PATH). EBADF, ENOTDIR. `creds` must outlive the result.
Result<vfs::WalkContext> WalkFrom(Task& task, int dirfd, std::string_view path, bool empty_allowed = false);
// Descriptors; EBADF.
Result<vfs::FileRef> GetFile(Task& task, int fd);                                // not O_PATH
Result<vfs::FileRef> GetAnyFile(Task& task, int fd);                             // O_PATH too
Result<int64_t> InstallFile(Task& task, vfs::FileRef file, bool close_on_exec);  // the descriptor; EMFILE

// iovec arrays: EINVAL beyond IOV_MAX or on negative lengths, clipped to kMaxRwCount in total.
Result<std::vector<iovec>> CopyInIovec(Task& task, UserAddr address, uint64_t count);

// A timespec as nanoseconds; EINVAL when malformed. NULL gives `if_null`.
Result<int64_t> CopyInTimespecNs(Task& task, UserAddr address);
// Relative time-out in the guest's memory to an absolute CLOCK_MONOTONIC deadline (saturating); NULL: kNoDeadline.
// A time of the clock in the task's time namespace as one of the host's; what lies before the host's beginning is 0.
int64_t HostTimeOf(const Task& task, clockid_t clock, int64_t at_ns);
Result<int64_t> CopyInTimeoutDeadline(Task& task, UserAddr address);
int64_t DeadlineAfter(int64_t relative_ns);  // saturating
// sigset_t with its size argument; EINVAL when the size isn't 8.
Result<kernel::SignalSet> CopyInSignalSet(Task& task, UserAddr address, uint64_t size);

// Names a task or a process from the caller's namespace.
Result<RefPtr<Task>> FindTask(Task& task, pid_t tid);  // ESRCH; 0 = the caller

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_SYSCALL_H_
