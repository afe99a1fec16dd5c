// SPDX-License-Identifier: Apache-2.0
#include "runsc/spec/spec.h"

#include <sys/mount.h>

namespace runsc::spec {

const Namespace* Linux::Find(NamespaceType type) const {
  for (const Namespace& ns : namespaces) {
    if (ns.type == type) return &ns;
  }
  return nullptr;
}

std::vector<GoferMount> GoferMounts(const Spec& spec) {
  std::vector<GoferMount> mounts;
  mounts.push_back({.source = spec.root_path, .destination = "/", .readonly = spec.root.readonly});
  for (size_t i = 0; i < spec.mounts.size(); ++i) {
    const Mount& mount = spec.mounts[i];
    if (!mount.IsBind()) continue;
    mounts.push_back({.source = mount.source,
                      .destination = mount.destination,
                      .readonly = (mount.flags & MS_RDONLY) != 0,
                      .mount_index = static_cast<int>(i)});
  }
  return mounts;
}

}  // namespace runsc::spec
