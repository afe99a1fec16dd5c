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

RefPtr<Credentials> Credentials::Root(CapabilitySet capabilities) {
  auto creds = MakeRef<Credentials>();
  creds->permitted = creds->effective = creds->bounding = capabilities;
  creds->user_ns = MakeRef<UserNamespace>(nullptr, 0);
  return creds;
}

}  // namespace sentry
