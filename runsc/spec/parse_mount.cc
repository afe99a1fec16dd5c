// SPDX-License-Identifier: Apache-2.0
// One element of `mounts`.
#include <linux/mount.h>

#include <string_view>

#include "absl/strings/str_cat.h"
#include "runsc/spec/mount_options.h"
#include "runsc/spec/parse.h"
#include "runsc/spec/parse_internal.h"

namespace runsc::spec {
namespace {

// File system types, with the options that each knows beyond the general ones ("key" or "key=value").
struct TypeRow {
  std::string_view type;
  std::string_view options[8];
};
constexpr TypeRow kTypes[] = {
    {"bind", {}},
    {"proc", {"hidepid", "gid", "subset"}},
    {"sysfs", {}},
    {"tmpfs", {"size", "mode", "nr_inodes", "nr_blocks", "uid", "gid", "huge", "inode64"}},
    {"devtmpfs", {"size", "mode", "nr_inodes"}},
    {"devpts", {"newinstance", "ptmxmode", "mode", "gid", "uid", "max"}},
    {"mqueue", {}},
    {"cgroup", {"nsdelegate", "memory_recursiveprot", "xattr", "all"}},
    {"cgroup2", {"nsdelegate", "memory_recursiveprot"}},
};

const TypeRow* FindType(std::string_view type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

bool Knows(const TypeRow& row, std::string_view key) {
  // SELinux labels are added by engines on hosts that have it.
  if (key == "context") return true;
  for (std::string_view known : row.options) {
    if (!known.empty() && known == key) return true;
  }
  return false;
}

}  // namespace

void ReadMount(ObjectReader& r, const std::string& bundle, Mount* mount) {
  std::vector<std::string> options;
  r.String("destination", &mount->destination, Need::kRequired);
  r.String("type", &mount->type);
  r.String("source", &mount->source);
  r.Strings("options", &options);
  r.WarnUnsupported("uidMappings", "map ids with a user namespace instead");
  r.WarnUnsupported("gidMappings", "map ids with a user namespace instead");
  if (!r.ok()) return;
  if (mount->destination[0] != '/') {
    return r.Fail("destination", "must be an absolute path, is \"" + mount->destination + "\"");
  }
  mount->destination = CleanPath(mount->destination);
  if (mount->destination == "/") return r.Fail("destination", "must not be \"/\": the root is named by root.path");

  for (size_t i = 0; i < options.size(); ++i) {
    std::string wrong = ApplyMountOption(options[i], mount);
    if (!wrong.empty()) return r.Fail(absl::StrCat("options[", i, "]"), wrong);
  }
  // mount(2) ignores the type of a bind mount; engines write "bind", "none" or nothing.
  if (mount->flags & MS_BIND) mount->type = "bind";
  const TypeRow* row = FindType(mount->type);
  if (mount->type.empty()) return r.Fail("type", "missing, and options has neither bind nor rbind");
  if (!row) return r.Fail("type", "file system \"" + mount->type + "\" is not supported");
  for (size_t i = 0; i < options.size(); ++i) {
    Mount unused;
    ApplyMountOption(options[i], &unused);
    if (unused.data.empty()) continue;
    std::string_view key = std::string_view(options[i]).substr(0, options[i].find('='));
    if (!Knows(*row, key)) {
      return r.Fail(absl::StrCat("options[", i, "]"), "unknown option \"" + options[i] + "\" for " + mount->type);
    }
  }
  if (!mount->IsBind()) return;
  mount->flags |= MS_BIND;
  if (mount->source.empty()) return r.Fail("source", "missing: a bind mount needs the host path");
  if (mount->source[0] != '/') mount->source = bundle + "/" + mount->source;
  mount->source = CleanPath(mount->source);
}

}  // namespace runsc::spec
