// SPDX-License-Identifier: Apache-2.0
// What many handlers share: paths, descriptors, times, vectors, sets from guest memory.
#include <fcntl.h>
#include <limits.h>

#include <algorithm>

#include "sentry/kernel/task_set.h"
#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/call_scope.h"
#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

Result<std::string> CopyInPath(Task& task, UserAddr address) { return task.CopyInString(address, PATH_MAX); }

Result<vfs::WalkContext> WalkFrom(Task& task, int dirfd, std::string_view path, bool empty_allowed) {
  vfs::FsContext& fs = task.fs();
  vfs::WalkContext context{
      .root = fs.root(), .start = {}, .creds = *task.creds(), .mounts = task.namespaces().mounts, .umask = fs.umask()};
  bool absolute = !path.empty() && path.front() == '/';
  if (absolute || dirfd == AT_FDCWD) {
    context.start = fs.cwd();
    return context;
  }
  vfs::FileRef file = TRY(GetAnyFile(task, dirfd));
  bool whole = path.empty() && empty_allowed;
  if (!whole && !path.empty() && !file->inode()->IsDirectory()) return Errno(ENOTDIR);
  context.start = file->path();
  return context;
}

Result<vfs::FileRef> GetFile(Task& task, int fd) {
  if (fd == CallScope::kFile && CallScope::Current()) [[unlikely]] {
    const vfs::FileRef& file = CallScope::Current()->file();
    if (!file || (file->flags() & O_PATH)) return Errno(EBADF);
    return file;
  }
  return task.fds().GetOpen(fd);
}
Result<vfs::FileRef> GetAnyFile(Task& task, int fd) {
  if (fd == CallScope::kFile && CallScope::Current()) [[unlikely]] {
    if (!CallScope::Current()->file()) return Errno(EBADF);
    return CallScope::Current()->file();
  }
  return task.fds().Get(fd);
}

Result<int64_t> InstallFile(Task& task, vfs::FileRef file, bool close_on_exec) {
  if (CallScope* scope = CallScope::Current(); scope && scope->captures()) [[unlikely]] {
    scope->made = std::move(file);
    return 0;
  }
  return TRY(task.fds().Add(std::move(file), close_on_exec, task.SoftLimit(RLIMIT_NOFILE)));
}

Result<std::vector<iovec>> CopyInIovec(Task& task, UserAddr address, uint64_t wide_count) {
  const auto count = static_cast<uint32_t>(wide_count);  // import_iovec's unsigned
  if (count > IOV_MAX) return Errno(EINVAL);
  std::vector<iovec> vectors(count);
  if (count) TRY(task.CopyInBytes(address, vectors.data(), count * sizeof(iovec)));
  size_t total = 0;
  for (iovec& v : vectors) {
    if (static_cast<ssize_t>(v.iov_len) < 0) return Errno(EINVAL);
    v.iov_len = std::min(v.iov_len, kMaxRwCount - total);
    total += v.iov_len;
  }
  return vectors;
}

Result<int64_t> CopyInTimespecNs(Task& task, UserAddr address) {
  timespec ts = TRY(task.CopyIn<timespec>(address));
  if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= base::kNsPerSecond) return Errno(EINVAL);
  if (ts.tv_sec >= INT64_MAX / base::kNsPerSecond) return INT64_MAX;
  return ts.tv_sec * base::kNsPerSecond + ts.tv_nsec;
}

int64_t DeadlineAfter(int64_t relative_ns) {
  int64_t deadline;
  if (__builtin_add_overflow(base::MonotonicNs(), relative_ns, &deadline)) return kNoDeadline;
  return deadline;
}

int64_t HostTimeOf(const Task& task, clockid_t clock, int64_t at_ns) {
  int64_t host;
  if (__builtin_sub_overflow(at_ns, task.namespaces().time->OffsetOf(clock), &host)) return INT64_MAX;
  return std::max<int64_t>(host, 0);
}

Result<int64_t> CopyInTimeoutDeadline(Task& task, UserAddr address) {
  if (address.IsNull()) return kNoDeadline;
  return DeadlineAfter(TRY(CopyInTimespecNs(task, address)));
}

Result<kernel::SignalSet> CopyInSignalSet(Task& task, UserAddr address, uint64_t size) {
  if (size != sizeof(kernel::SignalSet)) return Errno(EINVAL);
  return TRY(task.CopyIn<kernel::SignalSet>(address)) & ~kernel::kUnblockable;
}

Result<RefPtr<Task>> FindTask(Task& task, pid_t tid) {
  if (tid == 0) return RefPtr<Task>(&task);
  RefPtr<Task> found = kernel::Kernel::Get().tasks().FindTask(task.pid_ns(), tid);
  if (!found) return Errno(ESRCH);
  return found;
}

}  // namespace sentry::syscalls
