// SPDX-License-Identifier: Apache-2.0
// Descriptors: close, dup, fcntl, ioctl, flock, close_range.
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task_set.h"
#include "sentry/syscalls/async_notifier.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/vfs/leases.h"
#include "sentry/vfs/locks.h"

#ifndef F_SETSIG
#define F_SETSIG 10
#define F_GETSIG 11
#endif

namespace sentry::syscalls {
namespace {

// Linux's f_owner_ex with the type as the guest gives it: a value outside of the enumeration may not be in a C++ enum.
struct OwnerEx {
  int type;
  pid_t pid;
};
static_assert(sizeof(OwnerEx) == sizeof(f_owner_ex));

Result<vfs::LockType> LockTypeOf(short type) {
  switch (type) {
    case F_RDLCK:
      return vfs::LockType::kRead;
    case F_WRLCK:
      return vfs::LockType::kWrite;
    case F_UNLCK:
      return vfs::LockType::kUnlock;
  }
  return Errno(EINVAL);
}

// [l_start, l_start + l_len) from l_whence, as fcntl_locking(2) defines it.
Result<vfs::LockRange> LockRangeOf(vfs::FileDescription& file, const struct flock& lock) {
  int64_t start = lock.l_start;
  if (lock.l_whence == SEEK_CUR) {
    if (__builtin_add_overflow(start, file.position(), &start)) return Errno(EOVERFLOW);
  } else if (lock.l_whence == SEEK_END) {
    int64_t size = static_cast<int64_t>(TRY(file.GetStat()).size);
    if (__builtin_add_overflow(start, size, &start)) return Errno(EOVERFLOW);
  } else if (lock.l_whence != SEEK_SET) {
    return Errno(EINVAL);
  }
  if (start < 0) return Errno(EINVAL);
  if (lock.l_len == 0) return vfs::LockRange{static_cast<uint64_t>(start), UINT64_MAX};
  int64_t end;
  if (__builtin_add_overflow(start, lock.l_len, &end)) return Errno(EOVERFLOW);
  if (lock.l_len < 0) std::swap(start, end);
  if (start < 0) return Errno(EINVAL);
  return vfs::LockRange{static_cast<uint64_t>(start), static_cast<uint64_t>(end)};
}

Value RecordLock(Task& task, vfs::FileDescription& file, int command, UserAddr address) {
  struct flock lock = TRY(task.CopyIn<struct flock>(address));
  bool ofd = command == F_OFD_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW;
  if (ofd && lock.l_pid != 0) return Errno(EINVAL);
  vfs::LockRequest request{.kind = ofd ? vfs::LockKind::kOfd : vfs::LockKind::kPosix,
                           .type = TRY(LockTypeOf(lock.l_type)),
                           .range = TRY(LockRangeOf(file, lock)),
                           .owner = ofd ? file.ofd_owner() : task.LockOwner(),
                           .pid = ofd ? -1 : task.group().tgid()};
  vfs::FileLocks& locks = file.inode()->locks();
  if (command == F_GETLK || command == F_OFD_GETLK) {
    if (request.type == vfs::LockType::kUnlock) return Errno(EINVAL);
    auto found = locks.Test(request);
    if (!found) {
      lock.l_type = F_UNLCK;
    } else {
      lock.l_type = found->type == vfs::LockType::kRead ? F_RDLCK : F_WRLCK;
      lock.l_whence = SEEK_SET;
      lock.l_start = found->range.start;
      lock.l_len = found->range.end == UINT64_MAX ? 0 : found->range.end - found->range.start;
      lock.l_pid = found->pid;
    }
    TRY(task.CopyOut(address, lock));
    return 0;
  }
  if (request.type == vfs::LockType::kRead && !file.IsReadable()) return Errno(EBADF);
  if (request.type == vfs::LockType::kWrite && !file.IsWritable()) return Errno(EBADF);
  TRY(locks.Set(request, command == F_SETLKW || command == F_OFD_SETLKW));
  return 0;
}

Value SetOwner(Task& task, vfs::FileDescription& file, int type, pid_t id) {
  kernel::TaskSet& tasks = task.kernel().tasks();
  const bool known = type == F_OWNER_TID   ? tasks.FindTask(task.pid_ns(), id) != nullptr
                     : type == F_OWNER_PID ? tasks.FindThreadGroup(task.pid_ns(), id) != nullptr
                                           : tasks.FindProcessGroup(task.pid_ns(), id) != nullptr;
  if (id != 0 && !known) return Errno(ESRCH);
  vfs::AsyncOwner owner = file.async_owner();
  owner.type = type;
  owner.id = id;
  file.set_async_owner(owner);
  return 0;
}

// Commands that an O_PATH descriptor has too.
bool AllowedForPath(int command) {
  return command == F_DUPFD || command == F_DUPFD_CLOEXEC || command == F_GETFD || command == F_SETFD ||
         command == F_GETFL;
}

}  // namespace

SYSCALL_HANDLER(SysClose) {
  TRY(task.fds().Close(args.Int(0)));
  return 0;
}

SYSCALL_HANDLER(SysDup) { return InstallFile(task, TRY(GetAnyFile(task, args.Int(0))), false); }

SYSCALL_HANDLER(SysDup2) {
  int old_fd = args.Int(0), new_fd = args.Int(1);
  vfs::FileRef file = TRY(GetAnyFile(task, old_fd));
  if (old_fd == new_fd) return new_fd;
  TRY(task.fds().Set(new_fd, std::move(file), false, task.SoftLimit(RLIMIT_NOFILE)));
  return new_fd;
}

SYSCALL_HANDLER(SysDup3) {
  int old_fd = args.Int(0), new_fd = args.Int(1), flags = args.Int(2);
  if ((flags & ~O_CLOEXEC) || old_fd == new_fd) return Errno(EINVAL);
  TRY(task.fds().Set(new_fd, TRY(GetAnyFile(task, old_fd)), flags & O_CLOEXEC, task.SoftLimit(RLIMIT_NOFILE)));
  return new_fd;
}

SYSCALL_HANDLER(SysCloseRange) {
  unsigned first = args.Uint(0), last = args.Uint(1), flags = args.Uint(2);
  if (first > last || (flags & ~(CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE))) return Errno(EINVAL);
  if (flags & CLOSE_RANGE_UNSHARE) task.set_fds(task.fds().Clone());
  task.fds().CloseRange(first, last, flags & CLOSE_RANGE_CLOEXEC);
  return 0;
}

SYSCALL_HANDLER(SysFcntl) {
  int fd = args.Int(0), command = args.Int(1);
  vfs::FileRef file = TRY(AllowedForPath(command) ? GetAnyFile(task, fd) : GetFile(task, fd));
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: {
      uint64_t limit = task.SoftLimit(RLIMIT_NOFILE);
      if (args.Int(2) < 0 || args.Uint(2) >= limit) return Errno(EINVAL);
      return TRY(task.fds().Add(std::move(file), command == F_DUPFD_CLOEXEC, limit, args.Int(2)));
    }
    case F_GETFD:
      return TRY(task.fds().GetCloseOnExec(fd)) ? FD_CLOEXEC : 0;
    case F_SETFD:
      TRY(task.fds().SetCloseOnExec(fd, args.Int(2) & FD_CLOEXEC));
      return 0;
    case F_GETFL:
      return file->flags();
    case F_SETFL:
      TRY(SetStatusFlags(task, *file, fd, args.Int(2)));
      return 0;
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      return RecordLock(task, *file, command, args.Addr(2));
    case F_GETOWN: {
      vfs::AsyncOwner owner = file->async_owner();
      return owner.type == F_OWNER_PGRP ? -owner.id : owner.id;
    }
    case F_SETOWN:
      if (args.Int(2) == INT32_MIN) return Errno(EINVAL);
      return args.Int(2) < 0 ? SetOwner(task, *file, F_OWNER_PGRP, -args.Int(2))
                             : SetOwner(task, *file, F_OWNER_PID, args.Int(2));
    case F_GETOWN_EX: {
      vfs::AsyncOwner owner = file->async_owner();
      TRY(task.CopyOut(args.Addr(2), OwnerEx{owner.type, owner.id}));
      return 0;
    }
    case F_SETOWN_EX: {
      OwnerEx owner = TRY(task.CopyIn<OwnerEx>(args.Addr(2)));
      if (owner.type != F_OWNER_TID && owner.type != F_OWNER_PID && owner.type != F_OWNER_PGRP) return Errno(EINVAL);
      return SetOwner(task, *file, owner.type, owner.pid);
    }
    case F_GETSIG:
      return file->async_owner().signal;
    case F_SETSIG: {
      if (args.Int(2) < 0 || args.Int(2) > kernel::kSignalMax) return Errno(EINVAL);
      vfs::AsyncOwner owner = file->async_owner();
      owner.signal = args.Int(2);
      file->set_async_owner(owner);
      return 0;
    }
    case F_SETPIPE_SZ:
    case F_GETPIPE_SZ:
      return file->Fcntl(command, args.Ulong(2));
    case F_GET_SEALS:
      return TRY(file->inode()->GetSeals());
    case F_ADD_SEALS:
      if (!file->IsWritable()) return Errno(EPERM);
      TRY(file->inode()->AddSeals(args.Int(2)));
      return 0;
    case F_GETLEASE:
      return vfs::Leases::Get().TypeOf(*file);
    case F_SETLEASE:
      return SetLease(task, *file, fd, args.Int(2));
    case F_NOTIFY:
      return SetDirectoryNotification(task, *file, fd, args.Uint(2));
    case F_GET_RW_HINT:
    case F_GET_FILE_RW_HINT:
      TRY(task.CopyOut(args.Addr(2), uint64_t{0}));
      return 0;
    case F_SET_RW_HINT:
    case F_SET_FILE_RW_HINT:
      return TRY(task.CopyIn<uint64_t>(args.Addr(2))) > 5 ? Value(Errno(EINVAL)) : Value(0);
  }
  return Errno(EINVAL);
}

SYSCALL_HANDLER(SysIoctl) {
  int fd = args.Int(0);
  unsigned request = args.Uint(1);
  vfs::FileRef file = TRY(GetFile(task, fd));
  switch (request) {
    case FIOCLEX:
    case FIONCLEX:
      TRY(task.fds().SetCloseOnExec(fd, request == FIOCLEX));
      return 0;
    case FIONBIO: {
      int on = TRY(task.CopyIn<int>(args.Addr(2)));
      TRY(file->SetStatusFlags(on ? file->flags() | O_NONBLOCK : file->flags() & ~O_NONBLOCK));
      return 0;
    }
    case FIOASYNC: {
      int on = TRY(task.CopyIn<int>(args.Addr(2)));
      if (!on == !(file->flags() & O_ASYNC)) return 0;
      if (!SignalsReadiness(*file)) return Errno(ENOTTY);
      TRY(SetStatusFlags(task, *file, fd, on ? file->flags() | O_ASYNC : file->flags() & ~O_ASYNC));
      return 0;
    }
    case FIBMAP:
      // No file's blocks are numbered here.
      if (!file->inode()->IsRegular()) break;
      if (!task.HasCapability(CAP_SYS_RAWIO)) return Errno(EPERM);
      TRY(task.CopyIn<int>(args.Addr(2)));
      return Errno(EINVAL);
    case FIGETBSZ:
      TRY(task.CopyOut(args.Addr(2), static_cast<int>(TRY(file->GetStat()).block_size)));
      return 0;
    case FIONREAD:
      if (file->inode()->IsRegular()) {
        int64_t left = static_cast<int64_t>(TRY(file->GetStat()).size) - file->position();
        TRY(task.CopyOut(args.Addr(2), static_cast<int>(left)));
        return 0;
      }
      break;
  }
  return file->Ioctl(request, args.Ulong(2));
}

SYSCALL_HANDLER(SysFlock) {
  int operation = args.Int(1);
  if (operation & LOCK_MAND) return 0;  // ignored since Linux 5.15
  vfs::LockType type;
  switch (operation & ~LOCK_NB) {
    case LOCK_SH:
      type = vfs::LockType::kRead;
      break;
    case LOCK_EX:
      type = vfs::LockType::kWrite;
      break;
    case LOCK_UN:
      type = vfs::LockType::kUnlock;
      break;
    default:
      return Errno(EINVAL);
  }
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  TRY(file->inode()->locks().Set(
      {.kind = vfs::LockKind::kFlock, .type = type, .range = {}, .owner = file.get(), .pid = task.group().tgid()},
      !(operation & LOCK_NB)));
  return 0;
}

}  // namespace sentry::syscalls
