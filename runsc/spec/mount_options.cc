// SPDX-License-Identifier: Apache-2.0
#include "runsc/spec/mount_options.h"

#include <linux/mount.h>

#include <string_view>

namespace runsc::spec {
namespace {

// mount(2) flags that <linux/mount.h> does not export.
constexpr uint64_t kMsNoSymFollow = 256;

enum class Effect : uint8_t { kSet, kClear, kPropagation, kCopyUp, kUnsupported };

struct Option {
  std::string_view name;
  Effect effect;
  uint64_t flags = 0;
  Propagation propagation = Propagation::kNone;
  bool recursive = false;
};

// Recursive attributes (rro, ...) act on the one mount: the sandbox has no mounts below a bind mount.
constexpr Option kOptions[] = {
    {"defaults", Effect::kSet, 0},
    {"async", Effect::kClear, MS_SYNCHRONOUS},
    {"sync", Effect::kSet, MS_SYNCHRONOUS},
    {"atime", Effect::kClear, MS_NOATIME},
    {"noatime", Effect::kSet, MS_NOATIME},
    {"diratime", Effect::kClear, MS_NODIRATIME},
    {"nodiratime", Effect::kSet, MS_NODIRATIME},
    {"relatime", Effect::kSet, MS_RELATIME},
    {"norelatime", Effect::kClear, MS_RELATIME},
    {"strictatime", Effect::kSet, MS_STRICTATIME},
    {"nostrictatime", Effect::kClear, MS_STRICTATIME},
    {"lazytime", Effect::kSet, MS_LAZYTIME},
    {"nolazytime", Effect::kClear, MS_LAZYTIME},
    {"dirsync", Effect::kSet, MS_DIRSYNC},
    {"mand", Effect::kSet, MS_MANDLOCK},
    {"nomand", Effect::kClear, MS_MANDLOCK},
    {"iversion", Effect::kSet, MS_I_VERSION},
    {"noiversion", Effect::kClear, MS_I_VERSION},
    {"silent", Effect::kSet, MS_SILENT},
    {"loud", Effect::kClear, MS_SILENT},
    {"remount", Effect::kSet, MS_REMOUNT},
    {"ro", Effect::kSet, MS_RDONLY},
    {"rw", Effect::kClear, MS_RDONLY},
    {"dev", Effect::kClear, MS_NODEV},
    {"nodev", Effect::kSet, MS_NODEV},
    {"exec", Effect::kClear, MS_NOEXEC},
    {"noexec", Effect::kSet, MS_NOEXEC},
    {"suid", Effect::kClear, MS_NOSUID},
    {"nosuid", Effect::kSet, MS_NOSUID},
    {"symfollow", Effect::kClear, kMsNoSymFollow},
    {"nosymfollow", Effect::kSet, kMsNoSymFollow},
    {"bind", Effect::kSet, MS_BIND},
    {"rbind", Effect::kSet, MS_BIND | MS_REC},
    {"rro", Effect::kSet, MS_RDONLY},
    {"rrw", Effect::kClear, MS_RDONLY},
    {"rnodev", Effect::kSet, MS_NODEV},
    {"rdev", Effect::kClear, MS_NODEV},
    {"rnoexec", Effect::kSet, MS_NOEXEC},
    {"rexec", Effect::kClear, MS_NOEXEC},
    {"rnosuid", Effect::kSet, MS_NOSUID},
    {"rsuid", Effect::kClear, MS_NOSUID},
    {"rnoatime", Effect::kSet, MS_NOATIME},
    {"ratime", Effect::kClear, MS_NOATIME},
    {"rnodiratime", Effect::kSet, MS_NODIRATIME},
    {"rdiratime", Effect::kClear, MS_NODIRATIME},
    {"rrelatime", Effect::kSet, MS_RELATIME},
    {"rnorelatime", Effect::kClear, MS_RELATIME},
    {"rstrictatime", Effect::kSet, MS_STRICTATIME},
    {"rnostrictatime", Effect::kClear, MS_STRICTATIME},
    {"rsymfollow", Effect::kClear, kMsNoSymFollow},
    {"rnosymfollow", Effect::kSet, kMsNoSymFollow},
    {"private", Effect::kPropagation, 0, Propagation::kPrivate, false},
    {"shared", Effect::kPropagation, 0, Propagation::kShared, false},
    {"slave", Effect::kPropagation, 0, Propagation::kSlave, false},
    {"unbindable", Effect::kPropagation, 0, Propagation::kUnbindable, false},
    {"rprivate", Effect::kPropagation, 0, Propagation::kPrivate, true},
    {"rshared", Effect::kPropagation, 0, Propagation::kShared, true},
    {"rslave", Effect::kPropagation, 0, Propagation::kSlave, true},
    {"runbindable", Effect::kPropagation, 0, Propagation::kUnbindable, true},
    {"tmpcopyup", Effect::kCopyUp},
    {"idmap", Effect::kUnsupported},
    {"ridmap", Effect::kUnsupported},
};

const Option* FindOption(std::string_view name) {
  for (const Option& option : kOptions) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

}  // namespace

std::string ApplyMountOption(const std::string& option, Mount* mount) {
  if (option.empty()) return "must not be empty";
  const Option* found = FindOption(option);
  if (!found) {
    mount->data.push_back(option);
    return "";
  }
  switch (found->effect) {
    case Effect::kSet:
      mount->flags |= found->flags;
      break;
    case Effect::kClear:
      mount->flags &= ~found->flags;
      break;
    case Effect::kPropagation:
      mount->propagation = found->propagation;
      mount->propagation_recursive = found->recursive;
      break;
    case Effect::kCopyUp:
      mount->copy_up = true;
      break;
    case Effect::kUnsupported:
      return "\"" + option + "\": not supported: map ids with a user namespace instead";
  }
  return "";
}

bool ParsePropagation(const std::string& name, Propagation* propagation, bool* recursive) {
  const Option* found = FindOption(name);
  if (!found || found->effect != Effect::kPropagation) return false;
  *propagation = found->propagation;
  *recursive = found->recursive;
  return true;
}

std::vector<std::string> KnownMountOptions() {
  std::vector<std::string> names;
  for (const Option& option : kOptions) {
    if (option.effect != Effect::kUnsupported) names.emplace_back(option.name);
  }
  return names;
}

}  // namespace runsc::spec
