// SPDX-License-Identifier: Apache-2.0
// The `linux` object.
#include <set>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "runsc/spec/mount_options.h"
#include "runsc/spec/parse_internal.h"

namespace runsc::spec {
namespace {

struct NamespaceName {
  std::string_view name;
  NamespaceType type;
};
constexpr NamespaceName kNamespaces[] = {
    {"pid", NamespaceType::kPid},       {"network", NamespaceType::kNetwork}, {"mount", NamespaceType::kMount},
    {"ipc", NamespaceType::kIpc},       {"uts", NamespaceType::kUts},         {"user", NamespaceType::kUser},
    {"cgroup", NamespaceType::kCgroup}, {"time", NamespaceType::kTime},
};

void ReadNamespaces(ObjectReader& reader, Linux* linux) {
  reader.Objects("namespaces", [&](ObjectReader& r, size_t) {
    std::string type;
    Namespace ns;
    r.String("type", &type, Need::kRequired);
    ReadAbsolutePath(r, "path", &ns.path, Need::kOptional);
    if (!r.ok()) return;
    const NamespaceName* found = nullptr;
    for (const NamespaceName& n : kNamespaces) {
      if (n.name == type) found = &n;
    }
    if (!found) return r.Fail("type", "unknown namespace \"" + type + "\"");
    ns.type = found->type;
    if (linux->Find(ns.type)) return r.Fail("type", "namespace \"" + type + "\" is listed twice");
    linux->namespaces.push_back(std::move(ns));
  });
}

void ReadIdMappings(ObjectReader& reader, const char* name, std::vector<IdMapping>* out) {
  reader.Objects(name, [&](ObjectReader& r, size_t) {
    IdMapping mapping;
    r.Uint32("containerID", &mapping.container_id, Need::kRequired);
    r.Uint32("hostID", &mapping.host_id, Need::kRequired);
    r.Uint32("size", &mapping.size, Need::kRequired);
    if (r.ok() && mapping.size == 0) r.Fail("size", "must not be 0");
    out->push_back(mapping);
  });
}

void ReadDevices(ObjectReader& reader, Linux* linux) {
  reader.Objects("devices", [&](ObjectReader& r, size_t) {
    Device device;
    std::string type;
    r.String("type", &type, Need::kRequired);
    ReadAbsolutePath(r, "path", &device.path, Need::kRequired);
    if (!r.ok()) return;
    if (type != "c" && type != "u" && type != "b" && type != "p") {
      return r.Fail("type", "must be one of c, b, u, p, is \"" + type + "\"");
    }
    device.type = type == "u" ? 'c' : type[0];
    Need need = type == "p" ? Need::kOptional : Need::kRequired;
    r.Integer("major", &device.major, 0, (1 << 12) - 1, need);
    r.Integer("minor", &device.minor, 0, (1 << 20) - 1, need);
    int64_t mode = device.mode;
    r.Integer("fileMode", &mode, 0, UINT32_MAX);
    device.mode = static_cast<mode_t>(mode) & 07777;
    r.Uint32("uid", &device.uid);
    r.Uint32("gid", &device.gid);
    linux->devices.push_back(device);
  });
}

void CheckPaths(ObjectReader& r, const char* name, const std::vector<std::string>& paths) {
  for (size_t i = 0; i < paths.size(); ++i) {
    if (paths[i].empty() || paths[i][0] != '/') {
      r.Fail(absl::StrCat(name, "[", i, "]"), "must be an absolute path, is \"" + paths[i] + "\"");
    }
  }
}

}  // namespace

void ReadResources(ObjectReader& r, Resources* resources) {
  r.Object("memory", [&](ObjectReader& m) {
    m.OptionalInteger("limit", &resources->memory_limit, -1, INT64_MAX);
    m.OptionalInteger("reservation", &resources->memory_reservation, -1, INT64_MAX);
    m.OptionalInteger("swap", &resources->memory_swap, -1, INT64_MAX);
    m.Ignore({"kernel", "kernelTCP", "swappiness", "disableOOMKiller", "useHierarchy", "checkBeforeUpdate"});
    // As Docker writes it: no limit.
    for (auto* limit : {&resources->memory_limit, &resources->memory_reservation, &resources->memory_swap}) {
      if (*limit == 0) limit->reset();
    }
    if (resources->memory_limit && resources->memory_swap && *resources->memory_swap > 0 &&
        *resources->memory_limit > *resources->memory_swap) {
      m.Fail("swap", "must not be below memory.limit: it counts memory and swap together");
    }
  });
  r.Object("cpu", [&](ObjectReader& c) {
    std::optional<int64_t> shares, period;
    c.OptionalInteger("shares", &shares, 0, INT64_MAX);
    c.OptionalInteger("quota", &resources->cpu_quota, -1, INT64_MAX);
    c.OptionalInteger("period", &period, 0, 1'000'000);
    c.String("cpus", &resources->cpuset_cpus);
    c.String("mems", &resources->cpuset_mems);
    c.Ignore({"burst", "realtimeRuntime", "realtimePeriod", "idle"});
    if (shares.value_or(0) > 0) resources->cpu_shares = *shares;
    if (period.value_or(0) > 0) resources->cpu_period = *period;
    if (resources->cpu_quota == 0) resources->cpu_quota.reset();
  });
  r.Object("pids", [&](ObjectReader& p) {
    p.OptionalInteger("limit", &resources->pids_limit, -1, INT64_MAX);
    if (resources->pids_limit == 0) resources->pids_limit.reset();
  });
  r.StringMap("unified", &resources->unified);
  for (const auto& [file, content] : resources->unified) {
    // The name becomes a file name of the cgroup's directory.
    if (file.empty() || file[0] == '.' || file.find('/') != std::string::npos) {
      r.Fail("unified[\"" + file + "\"]", "not a cgroup file name");
    }
  }
  // Devices are the sentry's own: no rule of the host's is needed. The rest limits what the sandbox does not use.
  r.Ignore({"devices", "blockIO", "hugepageLimits", "network", "rdma"});
}

void ReadLinux(ObjectReader& r, Linux* linux) {
  ReadNamespaces(r, linux);
  ReadIdMappings(r, "uidMappings", &linux->uid_mappings);
  ReadIdMappings(r, "gidMappings", &linux->gid_mappings);
  ReadDevices(r, linux);
  r.StringMap("sysctl", &linux->sysctl);
  r.Object("resources", [&](ObjectReader& resources) { ReadResources(resources, &linux->resources); });
  r.String("cgroupsPath", &linux->cgroups_path);
  r.Strings("maskedPaths", &linux->masked_paths);
  r.Strings("readonlyPaths", &linux->readonly_paths);
  CheckPaths(r, "maskedPaths", linux->masked_paths);
  CheckPaths(r, "readonlyPaths", linux->readonly_paths);
  std::string propagation;
  r.String("rootfsPropagation", &propagation);
  bool recursive = false;
  if (!propagation.empty() && !ParsePropagation(propagation, &linux->rootfs_propagation, &recursive)) {
    r.Fail("rootfsPropagation", "unknown propagation \"" + propagation + "\"");
  }
  r.Object("seccomp", [&](ObjectReader& seccomp) { ReadSeccomp(seccomp, &linux->seccomp.emplace()); });
  r.WarnUnsupported("mountLabel", "the guest kernel has no SELinux");
  r.WarnUnsupported("intelRdt", "the sandbox does not join RDT groups");
  r.WarnUnsupported("timeOffsets", "guests see the host's clocks");
  r.Object("personality", [](ObjectReader& p) {
    std::string domain;
    p.String("domain", &domain, Need::kRequired);
    p.Ignore({"flags"});
    if (p.ok() && domain != "LINUX") p.Fail("domain", "\"" + domain + "\" is not supported: only LINUX (64-bit) is");
  });
  if (!r.ok()) return;
  bool maps = !linux->uid_mappings.empty() || !linux->gid_mappings.empty();
  const Namespace* user = linux->Find(NamespaceType::kUser);
  if (maps && !user) r.Fail("uidMappings", "id mappings need a \"user\" entry in linux.namespaces");
  if (user && user->path.empty() && linux->uid_mappings.empty())
    r.Fail("uidMappings", "missing: a new user namespace needs them");
  if (user && user->path.empty() && linux->gid_mappings.empty())
    r.Fail("gidMappings", "missing: a new user namespace needs them");
}

}  // namespace runsc::spec
