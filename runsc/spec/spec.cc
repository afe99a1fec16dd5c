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

Pod PodOf(const std::map<std::string, std::string>& annotations) {
  constexpr const char* kKeys[][2] = {
      {"io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"},
      {"io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"},
  };
  for (const auto& [type, sandbox] : kKeys) {
    auto found = annotations.find(type);
    if (found == annotations.end()) continue;
    if (found->second == "sandbox") return {.role = PodRole::kSandbox};
    if (found->second != "container") continue;
    auto id = annotations.find(sandbox);
    return {.role = PodRole::kContainer, .sandbox_id = id == annotations.end() ? "" : id->second};
  }
  return {};
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
