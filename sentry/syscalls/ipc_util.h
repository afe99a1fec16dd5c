// SPDX-License-Identifier: Apache-2.0
// struct ipc64_perm and times of semctl, shmctl and msgctl. glibc's structures are the kernel's on x86-64.
#ifndef SENTRY_SYSCALLS_IPC_UTIL_H_
#define SENTRY_SYSCALLS_IPC_UTIL_H_

#include <sys/ipc.h>

#include "sentry/kernel/ipc/permissions.h"
#include "sentry/kernel/ipc/registry.h"
#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

inline ipc_perm ToIpcPerm(const Credentials& creds, const ipc::Permissions& from, int id) {
  ipc_perm perm = {};
  perm.__key = from.key;
  perm.uid = creds.ShownUid(from.uid);
  perm.gid = creds.ShownGid(from.gid);
  perm.cuid = creds.ShownUid(from.cuid);
  perm.cgid = creds.ShownGid(from.cgid);
  perm.mode = from.mode;
  perm.__seq = static_cast<unsigned short>(id >> ipc::kIndexBits);
  return perm;
}

// EINVAL: an id without a mapping.
inline Result<ipc::OwnerChange> ToOwnerChange(const Credentials& creds, const ipc_perm& perm) {
  const uid_t uid = creds.ToKernel(IdKind::kUser, perm.uid);
  const gid_t gid = creds.ToKernel(IdKind::kGroup, perm.gid);
  if (uid == kInvalidId || gid == kInvalidId) return Errno(EINVAL);
  return ipc::OwnerChange{uid, gid, perm.mode};
}

inline const kernel::IpcNamespace& IpcOf(Task& task) { return *task.namespaces().ipc; }

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_IPC_UTIL_H_
