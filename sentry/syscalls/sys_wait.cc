// SPDX-License-Identifier: Apache-2.0
// wait4(2), waitid(2).
#include <limits.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {
namespace {

using kernel::WaitRequest;
using kernel::WaitResult;

constexpr int kTreeOptions = static_cast<int>(__WNOTHREAD | __WCLONE | __WALL);

timeval ToTimeval(int64_t ns) { return {.tv_sec = ns / base::kNsPerSecond, .tv_usec = ns % base::kNsPerSecond / 1000}; }

Result<void> CopyOutUsage(Task& task, UserAddr address, const kernel::CpuUsage& usage) {
  if (address.IsNull()) return OkResult();
  rusage out = {};
  out.ru_utime = ToTimeval(usage.user_ns);
  out.ru_stime = ToTimeval(usage.system_ns);
  out.ru_maxrss = static_cast<long>(usage.max_rss_kb);
  out.ru_minflt = static_cast<long>(usage.minor_faults);
  out.ru_majflt = static_cast<long>(usage.major_faults);
  out.ru_nvcsw = static_cast<long>(usage.voluntary_switches);
  out.ru_nivcsw = static_cast<long>(usage.involuntary_switches);
  return task.CopyOut(address, out);
}

pid_t OwnGroupId(Task& task) {
  RefPtr<kernel::ProcessGroup> group = task.group().process_group();
  return group ? group->IdIn(task.pid_ns()) : 0;
}

// The six fields that the kernel fills in; the padding between them stays as it is.
Result<void> CopyOutInfo(Task& task, UserAddr address, const WaitResult& result) {
  if (address.IsNull()) return OkResult();
  struct Head {
    int32_t signo, error, code;
  } head = {.signo = result.pid ? SIGCHLD : 0, .error = 0, .code = result.code};
  struct Tail {
    int32_t pid;
    uint32_t uid;
    int32_t status;
  } tail = {.pid = result.pid, .uid = result.uid, .status = result.status};
  TRY(task.CopyOut(address, head));
  return task.CopyOut(address + offsetof(siginfo_t, si_pid), tail);
}

}  // namespace

SYSCALL_HANDLER(SysWait4) {
  pid_t pid = args.Int(0);
  int options = args.Int(2);
  if (options & ~(WNOHANG | WUNTRACED | WCONTINUED | kTreeOptions)) return Errno(EINVAL);
  if (pid == INT_MIN) return Errno(ESRCH);
  WaitRequest request;
  request.options = options | WEXITED;
  if (pid > 0) {
    request.who = WaitRequest::Who::kPid;
    request.id = pid;
  } else if (pid != -1) {
    request.who = WaitRequest::Who::kGroup;
    request.id = pid == 0 ? OwnGroupId(task) : -pid;
  }
  WaitResult result = TRY(kernel::Kernel::Get().tasks().Wait(task, request));
  if (result.pid == 0) return 0;
  if (!args.Addr(1).IsNull()) TRY(task.CopyOut(args.Addr(1), static_cast<int32_t>(result.wait_status)));
  TRY(CopyOutUsage(task, args.Addr(3), result.usage));
  return result.pid;
}

namespace {

Result<WaitResult> WaitForId(Task& task, const Arguments& args) {
  int which = args.Int(0), options = args.Int(3);
  pid_t id = args.Int(1);
  if (options & ~(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | kTreeOptions)) return Errno(EINVAL);
  if (!(options & (WEXITED | WSTOPPED | WCONTINUED))) return Errno(EINVAL);
  WaitRequest request;
  request.options = options;
  bool nonblocking_file = false;
  switch (which) {
    case P_ALL:
      break;
    case P_PID:
      if (id <= 0) return Errno(EINVAL);
      request.who = WaitRequest::Who::kPid;
      request.id = id;
      break;
    case P_PGID:
      if (id < 0) return Errno(EINVAL);
      request.who = WaitRequest::Who::kGroup;
      request.id = id == 0 ? OwnGroupId(task) : id;
      break;
    case P_PIDFD: {
      if (id < 0) return Errno(EINVAL);
      vfs::FileRef file = TRY(GetFile(task, id));
      request.who = WaitRequest::Who::kPidfd;
      request.target = kernel::ThreadGroupOfPidFile(*file);
      if (!request.target) return Errno(EBADF);
      nonblocking_file = file->IsNonBlocking();
      if (nonblocking_file) request.options |= WNOHANG;
      break;
    }
    default:
      return Errno(EINVAL);
  }
  WaitResult result = TRY(kernel::Kernel::Get().tasks().Wait(task, request));
  if (result.pid == 0 && nonblocking_file && !(options & WNOHANG)) return Errno(EAGAIN);
  return result;
}

}  // namespace

SYSCALL_HANDLER(SysWaitid) {
  Result<WaitResult> result = WaitForId(task, args);
  if (result.ok() && result->pid != 0) TRY(CopyOutUsage(task, args.Addr(4), result->usage));
  // Also what failed clears it.
  TRY(CopyOutInfo(task, args.Addr(2), result.ok() ? *result : WaitResult{}));
  if (!result.ok()) return result.error();
  return 0;
}

}  // namespace sentry::syscalls
