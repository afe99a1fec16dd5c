// SPDX-License-Identifier: Apache-2.0
// Credentials of a task (credentials(7), capabilities(7)): immutable once shared; a change makes a copy.
#ifndef SENTRY_KERNEL_CORE_CREDENTIALS_H_
#define SENTRY_KERNEL_CORE_CREDENTIALS_H_

#include <linux/capability.h>
#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "sentry/common.h"

namespace sentry {

using CapabilitySet = uint64_t;  // bit n = capability n
inline constexpr CapabilitySet kAllCapabilities = (uint64_t{1} << (CAP_LAST_CAP + 1)) - 1;
constexpr CapabilitySet CapBit(int capability) { return uint64_t{1} << capability; }

// user_namespaces(7). Ids inside credentials are "kernel ids" (those of the root user namespace of the sandbox).
class UserNamespace : public RefCounted<UserNamespace> {
 public:
  struct Mapping {
    uint32_t inside, outside, count;
  };
  UserNamespace(RefPtr<UserNamespace> parent, uid_t owner) : parent_(std::move(parent)), owner_(owner) {}
  const RefPtr<UserNamespace>& parent() const { return parent_; }
  uid_t owner() const { return owner_; }
  bool IsRoot() const { return !parent_; }
  int level() const { return parent_ ? parent_->level() + 1 : 0; }

 private:
  RefPtr<UserNamespace> parent_;
  uid_t owner_;
};

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
  RefPtr<UserNamespace> user_ns;

  bool HasCapability(int capability) const { return effective & CapBit(capability); }
  // `gid` is the fsgid or among the supplementary groups.
  bool InGroup(gid_t gid) const;
  static RefPtr<Credentials> Root(CapabilitySet capabilities);
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_CORE_CREDENTIALS_H_
