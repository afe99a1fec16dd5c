// SPDX-License-Identifier: Apache-2.0
// User and group ids of the caller: credentials(7), and what their changes do to capabilities (capabilities(7), "Effect
// of user ID changes on capabilities").
#include <linux/securebits.h>

#include <algorithm>

#include "sentry/syscalls/cred_util.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

constexpr uint32_t kUnchanged = ~0u;
constexpr int kMaxGroups = 65536;
constexpr CapabilitySet kFileCapabilities = CapBit(CAP_CHOWN) | CapBit(CAP_DAC_OVERRIDE) | CapBit(CAP_DAC_READ_SEARCH) |
                                            CapBit(CAP_FOWNER) | CapBit(CAP_FSETID) | CapBit(CAP_LINUX_IMMUTABLE) |
                                            CapBit(CAP_MAC_OVERRIDE) | CapBit(CAP_MKNOD);

void FixCapabilities(const Credentials& old, Credentials& now) {
  if (now.securebits & SECBIT_NO_SETUID_FIXUP) return;
  const uid_t root = old.RootUid();
  bool was_root = old.ruid == root || old.euid == root || old.suid == root;
  bool is_root = now.ruid == root || now.euid == root || now.suid == root;
  if (was_root && !is_root) {
    if (!now.keep_caps) now.permitted = now.effective = 0;
    now.ambient = 0;
  }
  if (old.euid == root && now.euid != root) now.effective = 0;
  if (old.euid != root && now.euid == root) now.effective = now.permitted;
}

bool AnyOf(uint32_t id, std::initializer_list<uint32_t> allowed) {
  return std::find(allowed.begin(), allowed.end(), id) != allowed.end();
}

// An id given to set*id(2): -1 means unchanged; EINVAL for ids without a mapping.
Result<uint32_t> IdArgument(const Credentials& creds, IdKind kind, uint32_t id) {
  if (id == kUnchanged) return kUnchanged;
  const uint32_t kernel_id = creds.ToKernel(kind, id);
  if (kernel_id == kInvalidId) return Errno(EINVAL);
  return kernel_id;
}

Value CopyOutThree(Task& task, const Arguments& args, uint32_t a, uint32_t b, uint32_t c) {
  TRY(task.CopyOut(args.Addr(0), a));
  TRY(task.CopyOut(args.Addr(1), b));
  TRY(task.CopyOut(args.Addr(2), c));
  return 0;
}

}  // namespace

void InstallCredentials(Task& task, RefPtr<Credentials> creds) {
  const Credentials& old = *task.creds();
  bool gained = (creds->permitted & ~old.permitted) != 0;
  if (old.euid != creds->euid || old.egid != creds->egid || old.fsuid != creds->fsuid || old.fsgid != creds->fsgid ||
      gained) {
    task.mm().dumpable.store(0, std::memory_order_relaxed);
    task.parent_death_signal.store(0, std::memory_order_relaxed);
  }
  task.set_creds(std::move(creds));
}

SYSCALL_HANDLER(SysGetuid) { return task.creds()->ShownUid(task.creds()->ruid); }
SYSCALL_HANDLER(SysGeteuid) { return task.creds()->ShownUid(task.creds()->euid); }
SYSCALL_HANDLER(SysGetgid) { return task.creds()->ShownGid(task.creds()->rgid); }
SYSCALL_HANDLER(SysGetegid) { return task.creds()->ShownGid(task.creds()->egid); }

SYSCALL_HANDLER(SysGetresuid) {
  const Credentials& c = *task.creds();
  return CopyOutThree(task, args, c.ShownUid(c.ruid), c.ShownUid(c.euid), c.ShownUid(c.suid));
}

SYSCALL_HANDLER(SysGetresgid) {
  const Credentials& c = *task.creds();
  return CopyOutThree(task, args, c.ShownGid(c.rgid), c.ShownGid(c.egid), c.ShownGid(c.sgid));
}

SYSCALL_HANDLER(SysSetuid) {
  const Credentials& old = *task.creds();
  const uint32_t uid = old.ToKernel(IdKind::kUser, args.Uint(0));
  if (uid == kInvalidId) return Errno(EINVAL);
  RefPtr<Credentials> now = old.Clone();
  if (old.HasOwnCapability(CAP_SETUID)) {
    now->ruid = now->suid = uid;
  } else if (!AnyOf(uid, {old.ruid, old.suid})) {
    return Errno(EPERM);
  }
  now->euid = now->fsuid = uid;
  FixCapabilities(old, *now);
  InstallCredentials(task, std::move(now));
  return 0;
}

SYSCALL_HANDLER(SysSetreuid) {
  const Credentials& old = *task.creds();
  const uint32_t ruid = TRY(IdArgument(old, IdKind::kUser, args.Uint(0)));
  const uint32_t euid = TRY(IdArgument(old, IdKind::kUser, args.Uint(1)));
  bool capable = old.HasOwnCapability(CAP_SETUID);
  RefPtr<Credentials> now = old.Clone();
  if (ruid != kUnchanged) {
    if (!capable && !AnyOf(ruid, {old.ruid, old.euid})) return Errno(EPERM);
    now->ruid = ruid;
  }
  if (euid != kUnchanged) {
    if (!capable && !AnyOf(euid, {old.ruid, old.euid, old.suid})) return Errno(EPERM);
    now->euid = euid;
  }
  if (ruid != kUnchanged || (euid != kUnchanged && euid != old.ruid)) now->suid = now->euid;
  now->fsuid = now->euid;
  FixCapabilities(old, *now);
  InstallCredentials(task, std::move(now));
  return 0;
}

SYSCALL_HANDLER(SysSetresuid) {
  const Credentials& old = *task.creds();
  bool capable = old.HasOwnCapability(CAP_SETUID);
  RefPtr<Credentials> now = old.Clone();
  uint32_t ids[3];
  for (int i = 0; i < 3; ++i) ids[i] = TRY(IdArgument(old, IdKind::kUser, args.Uint(i)));
  uid_t* targets[] = {&now->ruid, &now->euid, &now->suid};
  for (int i = 0; i < 3; ++i) {
    const uint32_t uid = ids[i];
    if (uid == kUnchanged) continue;
    if (!capable && !AnyOf(uid, {old.ruid, old.euid, old.suid})) return Errno(EPERM);
    *targets[i] = uid;
  }
  now->fsuid = now->euid;
  FixCapabilities(old, *now);
  InstallCredentials(task, std::move(now));
  return 0;
}

SYSCALL_HANDLER(SysSetfsuid) {
  const Credentials& old = *task.creds();
  const uint32_t uid = old.ToKernel(IdKind::kUser, args.Uint(0));
  uid_t before = old.fsuid;
  bool allowed =
      uid != kUnchanged && (AnyOf(uid, {old.ruid, old.euid, old.suid, old.fsuid}) || old.HasOwnCapability(CAP_SETUID));
  if (!allowed || uid == before) return old.ShownUid(before);
  const uint32_t shown = old.ShownUid(before);
  RefPtr<Credentials> now = old.Clone();
  now->fsuid = uid;
  if (!(now->securebits & SECBIT_NO_SETUID_FIXUP)) {
    const uid_t root = old.RootUid();
    if (before == root && uid != root) now->effective &= ~kFileCapabilities;
    if (before != root && uid == root) now->effective |= now->permitted & kFileCapabilities;
  }
  InstallCredentials(task, std::move(now));
  return shown;
}

SYSCALL_HANDLER(SysSetgid) {
  const Credentials& old = *task.creds();
  const uint32_t gid = old.ToKernel(IdKind::kGroup, args.Uint(0));
  if (gid == kInvalidId) return Errno(EINVAL);
  RefPtr<Credentials> now = old.Clone();
  if (old.HasOwnCapability(CAP_SETGID)) {
    now->rgid = now->sgid = gid;
  } else if (!AnyOf(gid, {old.rgid, old.sgid})) {
    return Errno(EPERM);
  }
  now->egid = now->fsgid = gid;
  InstallCredentials(task, std::move(now));
  return 0;
}

SYSCALL_HANDLER(SysSetregid) {
  const Credentials& old = *task.creds();
  const uint32_t rgid = TRY(IdArgument(old, IdKind::kGroup, args.Uint(0)));
  const uint32_t egid = TRY(IdArgument(old, IdKind::kGroup, args.Uint(1)));
  bool capable = old.HasOwnCapability(CAP_SETGID);
  RefPtr<Credentials> now = old.Clone();
  if (rgid != kUnchanged) {
    if (!capable && !AnyOf(rgid, {old.rgid, old.egid})) return Errno(EPERM);
    now->rgid = rgid;
  }
  if (egid != kUnchanged) {
    if (!capable && !AnyOf(egid, {old.rgid, old.egid, old.sgid})) return Errno(EPERM);
    now->egid = egid;
  }
  if (rgid != kUnchanged || (egid != kUnchanged && egid != old.rgid)) now->sgid = now->egid;
  now->fsgid = now->egid;
  InstallCredentials(task, std::move(now));
  return 0;
}

SYSCALL_HANDLER(SysSetresgid) {
  const Credentials& old = *task.creds();
  bool capable = old.HasOwnCapability(CAP_SETGID);
  RefPtr<Credentials> now = old.Clone();
  uint32_t ids[3];
  for (int i = 0; i < 3; ++i) ids[i] = TRY(IdArgument(old, IdKind::kGroup, args.Uint(i)));
  gid_t* targets[] = {&now->rgid, &now->egid, &now->sgid};
  for (int i = 0; i < 3; ++i) {
    const uint32_t gid = ids[i];
    if (gid == kUnchanged) continue;
    if (!capable && !AnyOf(gid, {old.rgid, old.egid, old.sgid})) return Errno(EPERM);
    *targets[i] = gid;
  }
  now->fsgid = now->egid;
  InstallCredentials(task, std::move(now));
  return 0;
}

SYSCALL_HANDLER(SysSetfsgid) {
  const Credentials& old = *task.creds();
  const uint32_t gid = old.ToKernel(IdKind::kGroup, args.Uint(0));
  gid_t before = old.fsgid;
  bool allowed =
      gid != kUnchanged && (AnyOf(gid, {old.rgid, old.egid, old.sgid, old.fsgid}) || old.HasOwnCapability(CAP_SETGID));
  if (!allowed || gid == before) return old.ShownGid(before);
  const uint32_t shown = old.ShownGid(before);
  RefPtr<Credentials> now = old.Clone();
  now->fsgid = gid;
  InstallCredentials(task, std::move(now));
  return shown;
}

SYSCALL_HANDLER(SysGetgroups) {
  const std::vector<gid_t>& groups = task.creds()->groups;
  int size = args.Int(0);
  if (size < 0) return Errno(EINVAL);
  if (size == 0) return static_cast<int64_t>(groups.size());
  if (static_cast<size_t>(size) < groups.size()) return Errno(EINVAL);
  std::vector<gid_t> shown;
  for (gid_t gid : groups) shown.push_back(task.creds()->ShownGid(gid));
  if (!shown.empty()) TRY(task.CopyOutBytes(args.Addr(1), shown.data(), shown.size() * sizeof(gid_t)));
  return static_cast<int64_t>(groups.size());
}

SYSCALL_HANDLER(SysSetgroups) {
  const Credentials& old = *task.creds();
  // Until the gid map is there, and after "deny", groups could only be dropped to gain access (user_namespaces(7)).
  const UserNamespace* ns = old.user_ns.get();
  const bool allowed = !ns || ns->IsRoot() || (ns->HasMap(IdKind::kGroup) && ns->setgroups_allowed());
  if (!old.HasOwnCapability(CAP_SETGID) || !allowed) return Errno(EPERM);
  unsigned size = args.Uint(0);
  if (size > kMaxGroups) return Errno(EINVAL);
  std::vector<gid_t> groups(size);
  if (size) TRY(task.CopyInBytes(args.Addr(1), groups.data(), size * sizeof(gid_t)));
  for (gid_t& gid : groups) {
    gid = old.ToKernel(IdKind::kGroup, gid);
    if (gid == kInvalidId) return Errno(EINVAL);
  }
  std::sort(groups.begin(), groups.end());
  RefPtr<Credentials> now = old.Clone();
  now->groups = std::move(groups);
  InstallCredentials(task, std::move(now));
  return 0;
}

}  // namespace sentry::syscalls
