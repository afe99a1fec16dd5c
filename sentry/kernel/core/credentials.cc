// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/core/credentials.h"

#include <algorithm>

namespace sentry {

RefPtr<Credentials> Credentials::Clone() const {
  auto copy = MakeRef<Credentials>();
  copy->ruid = ruid, copy->euid = euid, copy->suid = suid, copy->fsuid = fsuid;
  copy->rgid = rgid, copy->egid = egid, copy->sgid = sgid, copy->fsgid = fsgid;
  copy->groups = groups;
  copy->permitted = permitted, copy->inheritable = inheritable, copy->effective = effective;
  copy->bounding = bounding, copy->ambient = ambient;
  copy->securebits = securebits;
  copy->keep_caps = keep_caps;
  copy->user_ns = user_ns;
  return copy;
}

bool Credentials::InGroup(gid_t gid) const {
  return gid == fsgid || std::binary_search(groups.begin(), groups.end(), gid);
}

bool Credentials::HasCapabilityIn(const UserNamespace* target, int capability) const {
  if (!target || !user_ns) return HasCapability(capability);
  for (const UserNamespace* ns = target;; ns = ns->parent().get()) {
    if (ns->IsSame(*user_ns)) return HasOwnCapability(capability);
    if (ns->level() <= user_ns->level()) return false;
    if (ns->parent()->IsSame(*user_ns) && ns->owner() == euid) return true;
  }
}

void Credentials::EnterUserNamespace(RefPtr<UserNamespace> ns) {
  securebits = 0;
  keep_caps = false;
  inheritable = ambient = 0;
  permitted = effective = bounding = kAllCapabilities;
  user_ns = std::move(ns);
}

RefPtr<Credentials> Credentials::Root(CapabilitySet capabilities) {
  auto creds = MakeRef<Credentials>();
  creds->permitted = creds->effective = creds->bounding = capabilities;
  creds->user_ns = MakeRef<UserNamespace>();
  return creds;
}

}  // namespace sentry
