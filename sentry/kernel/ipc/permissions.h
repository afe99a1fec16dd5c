// SPDX-License-Identifier: Apache-2.0
// Owners and modes of System V objects (sysvipc(7)).
#ifndef SENTRY_KERNEL_IPC_PERMISSIONS_H_
#define SENTRY_KERNEL_IPC_PERMISSIONS_H_

#include <sys/ipc.h>
#include <sys/types.h>

#include <cstdint>

#include "sentry/common.h"
#include "sentry/kernel/core/credentials.h"

namespace sentry::ipc {

// A process id that stays readable after its process: as its own pid namespace names it, 0 for readers in others.
struct PidStamp {
  pid_t pid = 0;
  uint64_t pid_namespace = 0;
  static PidStamp OfCaller();  // empty for a sentry thread without a task
  pid_t Seen() const;          // by the caller
};

struct Permissions {
  key_t key = IPC_PRIVATE;
  uid_t uid = 0, cuid = 0;
  gid_t gid = 0, cgid = 0;
  uint32_t mode = 0;  // 0777 and the SHM_* state bits
};

// What IPC_SET changes.
struct OwnerChange {
  uid_t uid;
  gid_t gid;
  uint32_t mode;
};

Permissions NewPermissions(key_t key, uint32_t mode, const Credentials& creds);
// `wanted` has read, write and execute bits in any of the three places of a mode. EACCES.
Result<void> CheckAccess(const Permissions& permissions, uint32_t wanted, const Credentials& creds);
// IPC_SET and IPC_RMID: owner, creator or CAP_SYS_ADMIN. EPERM.
Result<void> CheckOwner(const Permissions& permissions, const Credentials& creds);
// EINVAL for ids that are none.
Result<void> ChangeOwner(Permissions& permissions, const OwnerChange& change);

int64_t NowSeconds();  // CLOCK_REALTIME

}  // namespace sentry::ipc

#endif  // SENTRY_KERNEL_IPC_PERMISSIONS_H_
