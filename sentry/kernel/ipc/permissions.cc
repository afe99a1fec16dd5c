// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/ipc/permissions.h"

#include <algorithm>

#include "sentry/kernel/core/caller.h"

namespace sentry::ipc {
namespace {

bool InGroup(const Credentials& creds, gid_t gid) {
  return creds.egid == gid || std::binary_search(creds.groups.begin(), creds.groups.end(), gid);
}

}  // namespace

PidStamp PidStamp::OfCaller() {
  const Caller* caller = Caller::CurrentOrNull();
  return caller ? PidStamp{caller->CallerTgid(), caller->CallerPidNamespace()} : PidStamp();
}

pid_t PidStamp::Seen() const {
  const Caller* caller = Caller::CurrentOrNull();
  return caller && caller->CallerPidNamespace() == pid_namespace ? pid : 0;
}

Permissions NewPermissions(key_t key, uint32_t mode, const Credentials& creds) {
  return {
      .key = key, .uid = creds.euid, .cuid = creds.euid, .gid = creds.egid, .cgid = creds.egid, .mode = mode & 0777};
}

Result<void> CheckAccess(const Permissions& permissions, uint32_t wanted, const Credentials& creds) {
  wanted = ((wanted >> 6) | (wanted >> 3) | wanted) & 07;
  uint32_t granted = permissions.mode;
  if (creds.euid == permissions.cuid || creds.euid == permissions.uid) {
    granted >>= 6;
  } else if (InGroup(creds, permissions.cgid) || InGroup(creds, permissions.gid)) {
    granted >>= 3;
  }
  if ((wanted & ~granted & 07) && !creds.HasCapability(CAP_IPC_OWNER)) return Errno(EACCES);
  return OkResult();
}

Result<void> CheckOwner(const Permissions& permissions, const Credentials& creds) {
  if (creds.euid == permissions.cuid || creds.euid == permissions.uid || creds.HasCapability(CAP_SYS_ADMIN))
    return OkResult();
  return Errno(EPERM);
}

Result<void> ChangeOwner(Permissions& permissions, const OwnerChange& change) {
  if (change.uid == static_cast<uid_t>(-1) || change.gid == static_cast<gid_t>(-1)) return Errno(EINVAL);
  permissions.uid = change.uid;
  permissions.gid = change.gid;
  permissions.mode = (permissions.mode & ~0777u) | (change.mode & 0777);
  return OkResult();
}

int64_t NowSeconds() { return base::RealtimeNs() / base::kNsPerSecond; }

}  // namespace sentry::ipc
