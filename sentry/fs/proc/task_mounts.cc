// SPDX-License-Identifier: Apache-2.0
// mounts, mountinfo and mountstats (proc(5)): the mounts that can be reached from the task's root.
#include <sys/sysmacros.h>

#include <functional>

#include "sentry/fs/proc/task_dir.h"
#include "sentry/fs/proc/text_file.h"

namespace sentry::fs {
namespace {

std::string Escaped(std::string_view text) {
  std::string escaped;
  for (char c : text) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\\' || c == '#') {
      Append(escaped, "\\%03o", static_cast<unsigned char>(c));
    } else {
      escaped += c;
    }
  }
  return escaped.empty() ? "none" : escaped;
}

std::string MountFlagNames(uint32_t flags) {
  static constexpr struct {
    uint32_t flag;
    const char* name;
  } kNames[] = {{vfs::kMountNoSuid, ",nosuid"},          {vfs::kMountNoDev, ",nodev"},
                {vfs::kMountNoExec, ",noexec"},          {vfs::kMountNoAtime, ",noatime"},
                {vfs::kMountNoDirAtime, ",nodiratime"},  {vfs::kMountRelAtime, ",relatime"},
                {vfs::kMountNoSymFollow, ",nosymfollow"}};
  std::string text = flags & vfs::kMountReadOnly ? "ro" : "rw";
  for (const auto& [flag, name] : kNames) {
    if (flags & flag) text += name;
  }
  return text;
}

std::string WithComma(const std::string& options) { return options.empty() ? "" : "," + options; }

// The part of the filesystem that is mounted (bind mounts of directories).
std::string RootInFilesystem(const vfs::Mount& mount) {
  std::string path;
  RefPtr<vfs::Dentry> at = mount.root();
  while (RefPtr<vfs::Dentry> up = at->parent()) {
    path.insert(0, "/" + at->name());
    at = std::move(up);
  }
  if (mount.root()->IsUnhashed()) path += "//deleted";
  return mount.filesystem()->MountRoot(path.empty() ? "/" : path);
}

using Visit = std::function<void(const vfs::MountNamespace::Info& info, const std::string& where)>;

Result<void> ForEachMount(const Context& context, const Visit& visit) {
  RefPtr<kernel::Namespaces> namespaces = context.task->namespaces_ref();
  RefPtr<vfs::FsContext> fs = context.task->fs_ref();
  if (!namespaces || !namespaces->mounts || !fs) return Errno(EINVAL);
  const vfs::Path root = fs->root();
  for (const vfs::MountNamespace::Info& info : namespaces->mounts->List()) {
    std::string where = vfs::PathName(*namespaces->mounts, {info.mount, info.mount->root()}, root);
    if (!where.starts_with('/')) continue;
    visit(info, where);
  }
  return OkResult();
}

class MountsFile final : public TextFile {
 public:
  MountsFile(vfs::Path path, int flags, RefPtr<vfs::MountNamespace> mounts)
      : TextFile(std::move(path), flags), mounts_(std::move(mounts)), seen_(mounts_->changes()) {}
  EventMask Poll() override {
    const uint64_t now = mounts_->changes();
    return kEventIn | (seen_.exchange(now) == now ? 0u : EventMask{EPOLLPRI | EPOLLERR});
  }
  WaitQueue* wait_queue() override { return &mounts_->change_queue(); }

 private:
  const RefPtr<vfs::MountNamespace> mounts_;
  std::atomic<uint64_t> seen_;
};

}  // namespace

Result<vfs::FileRef> NewMountsFile(const Context& context, const vfs::Path& path, int flags) {
  RefPtr<kernel::Namespaces> namespaces = context.task->namespaces_ref();
  if (!namespaces || !namespaces->mounts) return Errno(EINVAL);
  return vfs::FileRef(MakeRef<MountsFile>(path, flags, namespaces->mounts));
}

Result<std::string> TaskMounts(const Context& context) {
  std::string text;
  TRY(ForEachMount(context, [&](const vfs::MountNamespace::Info& info, const std::string& where) {
    const vfs::Filesystem& filesystem = *info.mount->filesystem();
    text += Escaped(info.mount->source()) + " " + Escaped(where) + " " + std::string(filesystem.TypeName()) + " " +
            MountFlagNames(info.mount->flags()) + WithComma(filesystem.MountOptions()) + " 0 0\n";
  }));
  return text;
}

Result<std::string> TaskMountInfo(const Context& context) {
  std::string text;
  TRY(ForEachMount(context, [&](const vfs::MountNamespace::Info& info, const std::string& where) {
    const vfs::Filesystem& filesystem = *info.mount->filesystem();
    const dev_t device = filesystem.device();
    Append(text, "%d %d %u:%u ", info.mount->id(), info.parent_id, major(device), minor(device));
    text += Escaped(RootInFilesystem(*info.mount)) + " " + Escaped(where) + " " + MountFlagNames(info.mount->flags());
    if (info.peer_group) Append(text, " shared:%d", info.peer_group);
    if (info.master) Append(text, " master:%d", info.master);
    if (info.propagate_from) Append(text, " propagate_from:%d", info.propagate_from);
    if (info.unbindable) text += " unbindable";
    text += " - " + std::string(filesystem.TypeName()) + " " + Escaped(info.mount->source()) + " " +
            (filesystem.IsReadOnly() ? "ro" : "rw") + WithComma(filesystem.MountOptions()) + "\n";
  }));
  return text;
}

Result<std::string> TaskMountStats(const Context& context) {
  std::string text;
  TRY(ForEachMount(context, [&](const vfs::MountNamespace::Info& info, const std::string& where) {
    text += "device " + Escaped(info.mount->source()) + " mounted on " + Escaped(where) + " with fstype " +
            std::string(info.mount->filesystem()->TypeName()) + "\n";
  }));
  return text;
}

}  // namespace sentry::fs
