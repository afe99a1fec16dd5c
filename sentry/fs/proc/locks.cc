// SPDX-License-Identifier: Apache-2.0
// /proc/locks: POSIX, OFD and BSD locks, and leases (proc(5)).
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "sentry/fs/proc/system.h"
#include "sentry/kernel/kernel.h"
#include "sentry/vfs/leases.h"
#include "sentry/vfs/locks.h"

namespace sentry::fs {
namespace {

// As this instance's pid namespace sees the process; 0: it does not, or it is gone.
pid_t Shown(const Context& context, pid_t pid) {
  if (pid <= 0) return pid;
  kernel::Kernel& kernel = kernel::Kernel::Get();
  RefPtr<kernel::ThreadGroup> group = kernel.tasks().FindThreadGroup(*kernel.root_pid_ns(), pid);
  return group ? group->TgidIn(context.fs.pid_ns()) : 0;
}

const char* TypeName(vfs::LockType type) { return type == vfs::LockType::kRead ? "READ" : "WRITE"; }

std::string Place(vfs::Inode& inode) {
  std::string text;
  auto stat = inode.GetStat();
  if (!stat.ok()) return "00:00:0";
  Append(text, "%02x:%02x:%llu", major(stat->dev), minor(stat->dev), static_cast<unsigned long long>(stat->ino));
  return text;
}

void AppendLock(const Context& context, std::string& text, size_t number, const char* prefix, vfs::Inode& inode,
                const vfs::LockInfo& lock) {
  const char* kind = lock.kind == vfs::LockKind::kFlock   ? "FLOCK  ADVISORY "
                     : lock.kind == vfs::LockKind::kPosix ? "POSIX  ADVISORY "
                                                          : "OFDLCK ADVISORY ";
  const pid_t pid = lock.kind == vfs::LockKind::kOfd ? -1 : Shown(context, lock.pid);
  Append(text, "%zu: %s%s %s %d %s ", number, prefix, kind, TypeName(lock.type), pid, Place(inode).c_str());
  if (lock.kind == vfs::LockKind::kFlock || lock.range.end > INT64_MAX) {
    Append(text, "%llu EOF\n",
           static_cast<unsigned long long>(lock.kind == vfs::LockKind::kFlock ? 0 : lock.range.start));
  } else {
    Append(text, "%llu %llu\n", static_cast<unsigned long long>(lock.range.start),
           static_cast<unsigned long long>(lock.range.end - 1));
  }
}

}  // namespace

Result<std::string> LocksTable(const Context& context) {
  std::string text;
  size_t number = 0;
  for (const vfs::FileLocks::Listed& listed : vfs::FileLocks::ListAll()) {
    AppendLock(context, text, ++number, "", *listed.inode, listed.lock);
    for (const vfs::LockInfo& waiting : listed.waiting)
      AppendLock(context, text, number, "-> ", *listed.inode, waiting);
  }
  for (const vfs::Leases::Info& lease : vfs::Leases::Get().List()) {
    const bool breaking = lease.target != -1;
    const int type = breaking ? lease.target : lease.type;
    Append(text, "%zu: LEASE  %s %s %d %s 0 EOF\n", ++number, breaking ? "BREAKING " : "ACTIVE   ",
           type == F_UNLCK   ? "UNLCK"
           : type == F_RDLCK ? "READ"
                             : "WRITE",
           lease.pid, Place(*lease.inode).c_str());
  }
  return text;
}

}  // namespace sentry::fs
