// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/exec_credentials.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <string.h>

namespace sentry::kernel {

Result<FileCapabilities> ParseFileCapabilities(std::string_view value) {
  auto word = [&](size_t index) {
    uint32_t n = 0;
    memcpy(&n, value.data() + index * 4, 4);
    return n;
  };
  if (value.size() < 4) return Errno(EINVAL);
  uint32_t magic = word(0);
  size_t words;
  bool has_root = false;
  switch (magic & VFS_CAP_REVISION_MASK) {
    case VFS_CAP_REVISION_1:
      words = VFS_CAP_U32_1;
      break;
    case VFS_CAP_REVISION_2:
      words = VFS_CAP_U32_2;
      break;
    case VFS_CAP_REVISION_3:
      words = VFS_CAP_U32_3;
      has_root = true;
      break;
    default:
      return Errno(EINVAL);
  }
  if (value.size() != 4 * (1 + 2 * words + (has_root ? 1 : 0))) return Errno(EINVAL);
  FileCapabilities caps;
  for (size_t i = 0; i < words; ++i) {
    caps.permitted |= uint64_t{word(1 + 2 * i)} << (32 * i);
    caps.inheritable |= uint64_t{word(2 + 2 * i)} << (32 * i);
  }
  caps.permitted &= kAllCapabilities;
  caps.inheritable &= kAllCapabilities;
  caps.effective = magic & VFS_CAP_FLAGS_EFFECTIVE;
  if (has_root) caps.root_uid = word(1 + 2 * words);
  return caps;
}

namespace {

// A user namespace of which `root_uid` is the root, the credentials' own or one above (rootid_owns_currentns).
bool OwnsNamespace(const Credentials& creds, uid_t root_uid) {
  for (const UserNamespace* ns = creds.user_ns.get(); ns; ns = ns->parent().get()) {
    if (ns->FromKernel(IdKind::kUser, root_uid) == 0) return true;
  }
  return root_uid == 0;
}

}  // namespace

Result<ExecFile> InspectExecFile(const Credentials& creds, const vfs::FileDescription& file, bool ignore_privilege) {
  ExecFile result;
  if (ignore_privilege || (file.path().mount && (file.path().mount->flags() & vfs::kMountNoSuid))) return result;
  const UserNamespace* mounted_by = file.inode()->filesystem().user_ns();
  if (mounted_by && creds.user_ns && !creds.user_ns->IsSameOrDescendantOf(*mounted_by)) return result;
  vfs::Inode& inode = *file.inode();
  vfs::InodeStat stat = TRY(inode.GetStat());
  const bool mapped = creds.FromKernel(IdKind::kUser, stat.uid) != kInvalidId &&
                      creds.FromKernel(IdKind::kGroup, stat.gid) != kInvalidId;
  if (mapped && (stat.mode & S_ISUID)) result.set_uid = stat.uid;
  // Without group execution, set-group-id marks mandatory locking (inode(7)).
  if (mapped && (stat.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) result.set_gid = stat.gid;
  auto attribute = inode.GetXattr("security.capability");
  if (!attribute.ok()) return result;  // none, or not supported there
  FileCapabilities caps = TRY(ParseFileCapabilities(*attribute));
  // Else meant for another user namespace's root.
  if (OwnsNamespace(creds, caps.root_uid)) result.capabilities = caps;
  return result;
}

Result<ExecCredentials> TransformCredentials(const Credentials& old, const ExecFile& file) {
  RefPtr<Credentials> creds = old.Clone();
  if (file.set_uid) creds->euid = *file.set_uid;
  if (file.set_gid) creds->egid = *file.set_gid;
  creds->suid = creds->fsuid = creds->euid;
  creds->sgid = creds->fsgid = creds->egid;
  const bool set_id = creds->euid != old.euid || creds->egid != old.egid;

  CapabilitySet file_permitted = file.capabilities ? file.capabilities->permitted : 0;
  CapabilitySet file_inheritable = file.capabilities ? file.capabilities->inheritable : 0;
  bool file_effective = file.capabilities && file.capabilities->effective;
  CapabilitySet permitted = (old.inheritable & file_inheritable) | (file_permitted & old.bounding);
  if (file_effective && (file_permitted & ~permitted)) return Errno(EPERM);

  // Root gets all, unless a set-user-id-root program says with capabilities of its own which it wants.
  const bool root_is_special = !(old.securebits & SECBIT_NOROOT);
  const uid_t root = old.RootUid();
  const bool is_root = creds->euid == root || creds->ruid == root;
  if (root_is_special && is_root && !(file.capabilities && creds->ruid != root && creds->euid == root)) {
    permitted = old.inheritable | old.bounding;
    if (creds->euid == root) file_effective = true;
  }
  const bool privileged_file = set_id || file.capabilities.has_value();
  creds->ambient = privileged_file ? 0 : old.ambient;
  creds->permitted = permitted | creds->ambient;
  creds->effective = file_effective ? creds->permitted : creds->ambient;
  creds->securebits &= ~static_cast<uint32_t>(SECBIT_KEEP_CAPS);
  creds->keep_caps = false;

  ExecCredentials result;
  result.changed_ids = set_id;
  const bool gained = creds->permitted & ~creds->ambient;
  result.secure = set_id || (creds->ruid != root && (file_effective || gained));
  result.creds = std::move(creds);
  return result;
}

}  // namespace sentry::kernel
