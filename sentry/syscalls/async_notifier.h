// SPDX-License-Identifier: Apache-2.0
// Signals to the owner of a file (F_SETOWN, F_SETSIG of fcntl(2)): O_ASYNC, leases and directory notification.
//
// O_ASYNC is for the kinds of files that have a fasync in the kernel; others never have the flag. An event may come
// under any lock, so its signal is sent by the retry thread of the process that turned O_ASYNC on
// (kernel/async_work.h); with that process the notifications end.
#ifndef SENTRY_SYSCALLS_ASYNC_NOTIFIER_H_
#define SENTRY_SYSCALLS_ASYNC_NOTIFIER_H_

#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

// How the owner of a file is told, with the rights of the task that asked for it.
struct OwnerSignal {
  OwnerSignal(Task& task, int fd) : group(task.group_ref()), creds(task.creds()), fd(fd) {}
  // SIGIO, or the chosen signal with si_code `code` (POLL_IN...), `band` (poll(2) events) and the descriptor. Nothing
  // without an owner, or for one that the asker could not signal. Without locks.
  void Send(const vfs::AsyncOwner& owner, int code, int64_t band) const;

  RefPtr<kernel::ThreadGroup> group;
  RefPtr<const Credentials> creds;
  int fd;
};

// Pipes, sockets, terminals and other devices that poll, inotify.
bool SignalsReadiness(vfs::FileDescription& file);
// F_SETFL and FIOASYNC: sets the status flags; O_ASYNC starts or ends the notifications of `file` about `fd`.
Result<void> SetStatusFlags(Task& task, vfs::FileDescription& file, int fd, int flags);
// F_SETLEASE, F_NOTIFY.
Value SetLease(Task& task, vfs::FileDescription& file, int fd, int type);
Value SetDirectoryNotification(Task& task, vfs::FileDescription& file, int fd, uint32_t mask);

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_ASYNC_NOTIFIER_H_
