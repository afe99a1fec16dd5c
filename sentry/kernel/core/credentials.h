// SPDX-License-Identifier: Apache-2.0
// Credentials of a task (credentials(7), capabilities(7)): immutable once shared; a change makes a copy.
#ifndef SENTRY_KERNEL_CORE_CREDENTIALS_H_
#define SENTRY_KERNEL_CORE_CREDENTIALS_H_

#include <linux/capability.h>
#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/core/user_namespace.h"

namespace sentry {

using CapabilitySet = uint64_t;  // bit n = capability n
inline constexpr CapabilitySet kAllCapabilities = (uint64_t{1} << (CAP_LAST_CAP + 1)) - 1;
constexpr CapabilitySet CapBit(int capability) { return uint64_t{1} << capability; }

// Ids are kernel ids (user_namespace.h).
struct Credentials : public RefCounted<Credentials> {
  Credentials() = default;
  // A private copy to change before it is shared.
  RefPtr<Credentials> Clone() const;

  uid_t ruid = 0, euid = 0, suid = 0, fsuid = 0;
  gid_t rgid = 0, egid = 0, sgid = 0, fsgid = 0;
  std::vector<gid_t> groups;  // sorted
  CapabilitySet permitted = 0, inheritable = 0, effective = 0, bounding = 0, ambient = 0;
  uint32_t securebits = 0;
  bool keep_caps = false;
  RefPtr<UserNamespace> user_ns;  // null (tests): the root one

  // Over the sandbox as a whole: in its root user namespace (Linux's capable()).
  bool HasCapability(int capability) const {
    return (effective & CapBit(capability)) && (!user_ns || user_ns->IsRoot());
  }
  // Over what belongs to the credentials' own user namespace.
  bool HasOwnCapability(int capability) const { return effective & CapBit(capability); }
  // Over what belongs to `target` (ns_capable()): the effective set in its own namespace and those below; the owner of
  // a namespace, in its parent, has all over it. Null: the root one.
  bool HasCapabilityIn(const UserNamespace* target, int capability) const;
  bool HasCapabilityIn(const RefPtr<UserNamespace>& target, int capability) const {
    return HasCapabilityIn(target.get(), capability);
  }
  // Translation to kernel ids and back, by `user_ns`. See UserNamespace.
  uint32_t ToKernel(IdKind kind, uint32_t id) const { return user_ns ? user_ns->ToKernel(kind, id) : id; }
  uint32_t FromKernel(IdKind kind, uint32_t id) const { return user_ns ? user_ns->FromKernel(kind, id) : id; }
  uint32_t Shown(IdKind kind, uint32_t id) const { return user_ns ? user_ns->Shown(kind, id) : id; }
  uid_t ShownUid(uid_t uid) const { return Shown(IdKind::kUser, uid); }
  gid_t ShownGid(gid_t gid) const { return Shown(IdKind::kGroup, gid); }
  // The kernel id of the namespace's root user; kInvalidId when it is not mapped.
  uid_t RootUid() const { return ToKernel(IdKind::kUser, 0); }
  // All capabilities in a namespace just made or entered (set_cred_user_ns()).
  void EnterUserNamespace(RefPtr<UserNamespace> ns);
  // `gid` is the fsgid or among the supplementary groups.
  bool InGroup(gid_t gid) const;
  static RefPtr<Credentials> Root(CapabilitySet capabilities);
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_CORE_CREDENTIALS_H_
