// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/filesystems.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/log.h"
#include "gofer/protocol/client.h"
#include "runsc/errors.h"
#include "sentry/boot/container_cgroup.h"
#include "sentry/fs/cgroup/cgroup.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/core/io.h"
#include "sentry/kernel/kernel.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

using runsc::spec::GoferMount;
using runsc::spec::Mount;

std::string Reason(Errno error) { return runsc::ErrnoText(error.number()); }

class Builder {
 public:
  explicit Builder(MountTreeRequest request)
      : request_(std::move(request)),
        spec_(request_.args->spec),
        config_(request_.args->config),
        gofer_mounts_(runsc::spec::GoferMounts(spec_)) {}

  absl::StatusOr<MountTree> Build() {
    RETURN_IF_ERROR(MountRoot());
    bool has_dev = false, has_proc = false, has_sys = false;
    for (size_t i = 0; i < spec_.mounts.size(); ++i) {
      const Mount& mount = spec_.mounts[i];
      has_dev |= mount.destination == "/dev";
      has_proc |= mount.destination == "/proc";
      has_sys |= mount.destination == "/sys";
      RETURN_IF_ERROR(runsc::Annotate(AddMount(mount, static_cast<int>(i)),
                                      absl::StrCat("mounts[", i, "] (", mount.destination, ")")));
      if (mount.destination == "/dev" && mount.type == "tmpfs") RETURN_IF_ERROR(Populate());
    }
    // Programs expect these whatever config.json lists (gVisor mounts them too).
    if (!has_proc) RETURN_IF_ERROR(AddMount({.destination = "/proc", .type = "proc", .source = "proc"}, -1));
    if (!has_sys)
      RETURN_IF_ERROR(AddMount({.destination = "/sys", .type = "sysfs", .source = "sysfs", .flags = MS_RDONLY}, -1));
    if (!has_dev) {
      RETURN_IF_ERROR(AddMount(
          {.destination = "/dev", .type = "tmpfs", .source = "tmpfs", .flags = MS_NOSUID, .data = {"mode=755"}}, -1));
      RETURN_IF_ERROR(Populate());
    }
    if (!tree_.devpts) {
      RETURN_IF_ERROR(AddMount({.destination = "/dev/pts",
                                .type = "devpts",
                                .source = "devpts",
                                .data = {"newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
                               -1));
    }
    if (!mounted_shm_) {
      RETURN_IF_ERROR(AddMount({.destination = "/dev/shm",
                                .type = "tmpfs",
                                .source = "shm",
                                .flags = MS_NOSUID | MS_NODEV,
                                .data = {"mode=1777"}},
                               -1));
    }
    ApplySysctls();
    RETURN_IF_ERROR(MaskPaths());
    if (spec_.root.readonly) tree_.root.mount->set_flags(tree_.root.mount->flags() | vfs::kMountReadOnly);
    return std::move(tree_);
  }

 private:
  vfs::WalkContext Context() const {
    return {.root = tree_.root, .start = tree_.root, .creds = *request_.creds, .mounts = tree_.mounts, .umask = 0};
  }

  absl::StatusOr<RefPtr<vfs::Filesystem>> Attach(size_t index, bool overlay, bool shared) {
    if (index >= request_.gofer_fds.size()) return absl::InternalError("no gofer connection for this mount");
    auto client =
        gofer::Client::Connect(std::move(request_.gofer_fds[index]), {.on_disconnect = request_.on_gofer_lost});
    if (!client.ok())
      return absl::UnavailableError(
          absl::StrCat("the gofer does not serve ", gofer_mounts_[index].source, ": ", Reason(client.error())));
    gofer::Client* link = client->get();
    RefPtr<vfs::Filesystem> filesystem = fs::NewGoferFilesystem(std::move(*client), {.shared = shared && !overlay});
    tree_.gofers.emplace_back(filesystem, link);
    if (!overlay) return filesystem;
    tmpfs::TmpfsOptions options;
    // Without a size the sandbox's memory is the bound, which statfs(2) tells: programs look whether there is room.
    options.size = config_.overlay_size ? config_.overlay_size : kernel::Kernel::Get().options().total_memory;
    options.nr_inodes = 0;
    auto upper = tmpfs::Tmpfs::Create(*Memory(), options);
    auto merged = fs::NewOverlay(filesystem, upper);
    if (!merged.ok()) return absl::InternalError(absl::StrCat("overlay: ", Reason(merged.error())));
    return *merged;
  }

  platform::MemoryFile* Memory() const { return &kernel::Kernel::Get().memory_file(); }

  absl::Status MountRoot() {
    bool overlay = config_.overlay_root && request_.args->upper != runsc::UpperLayer::kNone;
    auto attached = Attach(0, overlay, config_.file_access == runsc::FileAccess::kShared);
    if (!attached.ok()) return runsc::Annotate(attached.status(), "root.path");
    RefPtr<vfs::Filesystem> root = *attached;
    if (overlay) tree_.overlay = root;
    RefPtr<vfs::Inode> inode = root->Root();
    if (!inode || !inode->IsDirectory())
      return absl::InvalidArgumentError(absl::StrCat("root.path: ", spec_.root_path, " is not a directory"));
    auto dentry = vfs::Dentry::NewRoot(inode);
    auto mount = MakeRef<vfs::Mount>(root, dentry, vfs::kMountRelAtime, overlay ? "overlay" : "none");
    tree_.mounts = MakeRef<vfs::MountNamespace>(mount, request_.creds->user_ns);
    tree_.root = {mount, dentry};
    return absl::OkStatus();
  }

  // mkdir -p of the destination below the container's root (an empty file as the last part for a file's bind mount).
  absl::StatusOr<vfs::Path> MountPoint(const std::string& destination, bool directory) {
    vfs::WalkContext context = Context();
    std::vector<std::string> parts = absl::StrSplit(destination, '/', absl::SkipEmpty());
    std::string path;
    for (size_t i = 0; i < parts.size(); ++i) {
      path += "/" + parts[i];
      if (vfs::Resolve(context, path, vfs::kFollowFinal | vfs::kInRoot).ok()) continue;
      bool last = i + 1 == parts.size();
      auto made = last && !directory ? vfs::Mknod(context, path, S_IFREG | 0644, 0) : vfs::Mkdir(context, path, 0755);
      if (!made.ok())
        return absl::FailedPreconditionError(
            absl::StrCat("cannot make the mount point ", path, ": ", Reason(made.error())));
    }
    auto where = vfs::Resolve(context, destination, vfs::kFollowFinal | vfs::kInRoot);
    if (!where.ok()) return absl::FailedPreconditionError(absl::StrCat("mount point: ", Reason(where.error())));
    return *where;
  }

  static uint32_t FlagsOf(uint64_t ms) {
    uint32_t flags = 0;
    if (ms & MS_RDONLY) flags |= vfs::kMountReadOnly;
    if (ms & MS_NOSUID) flags |= vfs::kMountNoSuid;
    if (ms & MS_NODEV) flags |= vfs::kMountNoDev;
    if (ms & MS_NOEXEC) flags |= vfs::kMountNoExec;
    if (ms & MS_NOATIME) flags |= vfs::kMountNoAtime;
    if (ms & MS_NODIRATIME) flags |= vfs::kMountNoDirAtime;
    if (!(ms & (MS_NOATIME | MS_STRICTATIME))) flags |= vfs::kMountRelAtime;
    return flags;
  }

  absl::Status AddMount(const Mount& mount, int index) {
    RefPtr<vfs::Filesystem> filesystem;
    std::string type = mount.type;
    if (mount.IsBind()) {
      size_t attach = 0;
      while (attach < gofer_mounts_.size() && gofer_mounts_[attach].mount_index != index) ++attach;
      filesystem = VALUE_OR_RETURN(
          Attach(attach, request_.args->upper_on_all_mounts, config_.file_access_mounts == runsc::FileAccess::kShared));
    } else if (type == "cgroup" || type == "cgroup2") {
      // As runc on a host with cgroup v2: the container's own subtree, whichever version is asked for.
      type = "cgroup2";
      filesystem = fs::NewCgroup2At(ContainerCgroup(request_.args->container_id, spec_, request_.is_first));
    } else if (type == "proc" && request_.pid_ns) {
      std::string options = absl::StrJoin(mount.data, ",");
      auto made = fs::NewProcFor(request_.pid_ns, options);
      if (!made.ok())
        return absl::InvalidArgumentError(absl::StrCat("options \"", options, "\": ", Reason(made.error())));
      filesystem = *made;
    } else {
      vfs::FilesystemFactory factory = vfs::FindFilesystemType(type);
      if (!factory)
        return absl::InvalidArgumentError(
            absl::StrCat("type: \"", mount.type, "\" is not a filesystem of this kernel"));
      std::string options = absl::StrJoin(mount.data, ",");
      auto made = factory({mount.source, options, *request_.creds});
      if (!made.ok())
        return absl::InvalidArgumentError(absl::StrCat("options \"", options, "\": ", Reason(made.error())));
      filesystem = *made;
    }
    RefPtr<vfs::Inode> root = filesystem->Root();
    vfs::Path where = VALUE_OR_RETURN(MountPoint(mount.destination, root->IsDirectory()));
    auto made = MakeRef<vfs::Mount>(filesystem, vfs::Dentry::NewRoot(root), FlagsOf(mount.flags),
                                    mount.source.empty() ? type : mount.source);
    auto attached = tree_.mounts->Attach(made, where);
    if (!attached.ok()) return absl::FailedPreconditionError(absl::StrCat("mounting: ", Reason(attached.error())));
    if (mount.type == "devpts") tree_.devpts = {made, made->root()};
    mounted_shm_ |= mount.destination == "/dev/shm";
    return absl::OkStatus();
  }

  absl::Status Populate() {
    auto where = vfs::Resolve(Context(), "/dev", vfs::kFollowFinal);
    if (!where.ok()) return absl::InternalError(absl::StrCat("/dev: ", Reason(where.error())));
    std::string failed;
    auto done = fs::PopulateDev(tree_.mounts, *where, &failed);
    if (!done.ok()) return absl::InternalError(absl::StrCat("/dev/", failed, ": ", Reason(done.error())));
    for (const runsc::spec::Device& device : spec_.linux.devices) {
      mode_t type = device.type == 'b' ? S_IFBLK : device.type == 'p' ? S_IFIFO : S_IFCHR;
      dev_t number = makedev(static_cast<unsigned>(device.major), static_cast<unsigned>(device.minor));
      auto made = vfs::Mknod(Context(), device.path, type | device.mode, number);
      if (!made.ok() && made.error() != Errno(EEXIST)) {
        LOG_WARNING("linux.devices: %s: %s", device.path.c_str(), Reason(made.error()).c_str());
        continue;
      }
      auto node = vfs::Resolve(Context(), device.path, 0);
      vfs::SetStatRequest owner;
      owner.uid = device.uid;
      owner.gid = device.gid;
      if (node.ok()) (void)vfs::SetStat(Context(), *node, owner).ok();
    }
    return absl::OkStatus();
  }

  // Engines set some by default: one that this kernel hasn't got is told of and costs no container.
  void ApplySysctls() {
    for (const auto& [name, value] : spec_.linux.sysctl) {
      std::string path = "/proc/sys/" + name;
      std::replace(path.begin() + strlen("/proc/sys/"), path.end(), '.', '/');
      auto file = vfs::Open(Context(), path, O_WRONLY, 0);
      BufferSource source(value.data(), value.size());
      int64_t end = 0;
      Result<size_t> written = file.ok() ? (*file)->PWrite(source, 0, &end) : file.error();
      if (!written.ok())
        LOG_WARNING("linux.sysctl: %s = %s: %s", name.c_str(), value.c_str(), Reason(written.error()).c_str());
    }
  }

  // Masked files become /dev/null, masked directories an empty read-only tmpfs; read-only paths are bound over
  // themselves.
  absl::Status MaskPaths() {
    vfs::WalkContext context = Context();
    for (const std::string& path : spec_.linux.masked_paths) {
      auto where = vfs::Resolve(context, path, vfs::kFollowFinal | vfs::kInRoot);
      if (!where.ok()) continue;  // nothing to hide
      Result<void> done = OkResult();
      if (where->inode()->IsDirectory()) {
        auto empty = vfs::FindFilesystemType("tmpfs")({"tmpfs", "size=0,mode=555", *request_.creds});
        if (!empty.ok())
          return absl::InternalError(absl::StrCat("linux.maskedPaths: ", path, ": ", Reason(empty.error())));
        done = tree_.mounts->Attach(
            MakeRef<vfs::Mount>(*empty, vfs::Dentry::NewRoot((*empty)->Root()), vfs::kMountReadOnly, "tmpfs"), *where);
      } else {
        auto null = vfs::Resolve(context, "/dev/null", 0);
        if (!null.ok()) return absl::InternalError("linux.maskedPaths: there is no /dev/null");
        done = tree_.mounts->Bind(*null, *where, false);
      }
      if (!done.ok()) return absl::InternalError(absl::StrCat("linux.maskedPaths: ", path, ": ", Reason(done.error())));
    }
    for (const std::string& path : spec_.linux.readonly_paths) {
      auto where = vfs::Resolve(context, path, vfs::kFollowFinal | vfs::kInRoot);
      if (!where.ok()) continue;
      auto done = tree_.mounts->Bind(*where, *where, true);
      auto bound = vfs::Resolve(context, path, vfs::kFollowFinal | vfs::kInRoot);
      if (!done.ok() || !bound.ok())
        return absl::InternalError(absl::StrCat("linux.readonlyPaths: ", path, " cannot be bound"));
      bound->mount->set_flags(bound->mount->flags() | vfs::kMountReadOnly);
    }
    return absl::OkStatus();
  }

  MountTreeRequest request_;
  const runsc::spec::Spec& spec_;
  const runsc::Config& config_;
  const std::vector<GoferMount> gofer_mounts_;
  MountTree tree_;
  bool mounted_shm_ = false;
};

}  // namespace

absl::StatusOr<MountTree> BuildMountTree(MountTreeRequest request) { return Builder(std::move(request)).Build(); }

}  // namespace sentry
