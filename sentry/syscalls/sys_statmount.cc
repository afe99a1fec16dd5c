// SPDX-License-Identifier: Apache-2.0
// statmount(2), listmount(2): mounts by their unique ids.
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <optional>

#include "sentry/syscalls/access_ok.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/mount_util.h"

namespace sentry::syscalls {
namespace {

// The kernel's layouts (linux/mount.h of Linux 6.10).
struct Request {
  uint32_t size, spare;
  uint64_t mount_id, param, namespace_id;
};
constexpr size_t kFirstRequestSize = 24;
struct StatMount {
  uint32_t size, options;
  uint64_t mask;
  uint32_t device_major, device_minor;
  uint64_t magic;
  uint32_t sb_flags, type;
  uint64_t id, parent_id;
  uint32_t old_id, old_parent_id;
  uint64_t attributes, propagation, peer_group, master, propagate_from;
  uint32_t root, point;
  uint64_t namespace_id;
  uint64_t spare[49];
};
static_assert(sizeof(StatMount) == 512);
enum Mask : uint64_t {
  kSbBasic = 1,
  kMountBasic = 2,
  kPropagateFrom = 4,
  kRoot = 8,
  kPoint = 16,
  kType = 32,
  kNamespaceId = 64,
  kOptions = 128,
  kReservedMask = uint64_t{1} << 63,
};
constexpr uint64_t kFirstUniqueId = (uint64_t{1} << 31) + 1, kNamespaceRoot = ~uint64_t{0};
constexpr size_t kMaxListed = 1'000'000, kMaxStrings = 64 << 10;

Result<Request> CopyInRequest(Task& task, UserAddr address) {
  const auto size = TRY(task.CopyIn<uint32_t>(address));
  if (size < kFirstRequestSize) return Errno(EINVAL);
  if (size > kPageSize) return Errno(E2BIG);
  std::vector<uint8_t> bytes(size);
  TRY(task.CopyInBytes(address, bytes.data(), size));
  Request request = {};
  memcpy(&request, bytes.data(), std::min<size_t>(size, sizeof request));
  if (std::any_of(bytes.begin() + std::min<size_t>(size, sizeof request), bytes.end(),
                  [](uint8_t b) { return b != 0; }))
    return Errno(E2BIG);
  if (request.spare != 0) return Errno(EINVAL);
  // Mounts of other namespaces than the caller's are not served.
  if (request.namespace_id != 0) return Errno(ENOENT);
  return request;
}

using Info = vfs::MountNamespace::Info;

bool IsShown(Task& task, const Info& info) {
  const vfs::MountNamespace& mounts = *task.namespaces().mounts;
  return vfs::PathName(mounts, {info.mount, info.mount->root()}, task.fs().root()).starts_with('/');
}

std::string RootOf(const vfs::Mount& mount) {
  std::string path;
  RefPtr<vfs::Dentry> at = mount.root();
  while (RefPtr<vfs::Dentry> up = at->parent()) {
    path.insert(0, "/" + at->name());
    at = std::move(up);
  }
  return path.empty() ? "/" : path;
}

uint64_t AttributesOf(uint32_t flags) {
  static constexpr std::pair<uint32_t, uint64_t> kRows[] = {
      {vfs::kMountReadOnly, 1}, {vfs::kMountNoSuid, 2},        {vfs::kMountNoDev, 4},
      {vfs::kMountNoExec, 8},   {vfs::kMountNoDirAtime, 0x80}, {vfs::kMountNoSymFollow, 0x200000}};
  uint64_t attributes = flags & vfs::kMountNoAtime ? 0x10 : flags & vfs::kMountRelAtime ? 0 : 0x20;
  for (const auto& [flag, attribute] : kRows) {
    if (flags & flag) attributes |= attribute;
  }
  return attributes;
}

void FillBasic(Task& task, const Info& info, uint64_t mask, StatMount& out) {
  const vfs::Filesystem& filesystem = *info.mount->filesystem();
  if (mask & kSbBasic) {
    out.device_major = major(filesystem.device());
    out.device_minor = minor(filesystem.device());
    out.magic = info.mount->filesystem()->GetStatFs().magic;
    out.sb_flags = filesystem.IsReadOnly() ? 1 : 0;
  }
  if (mask & kMountBasic) {
    out.id = info.mount->unique_id();
    out.parent_id = info.parent ? info.parent->unique_id() : out.id;
    out.old_id = static_cast<uint32_t>(info.mount->id());
    out.old_parent_id = static_cast<uint32_t>(info.parent_id);
    out.attributes = AttributesOf(info.mount->flags());
    out.propagation =
        (info.unbindable ? 1u << 17 : 0) | (info.peer_group ? 1u << 20 : 0) | (info.master ? 1u << 19 : 0);
    if (out.propagation == 0) out.propagation = 1u << 18;
    out.peer_group = static_cast<uint64_t>(info.peer_group);
    out.master = static_cast<uint64_t>(info.master);
  }
  if (mask & kPropagateFrom)
    out.propagate_from = static_cast<uint64_t>(info.propagate_from ? info.propagate_from : info.master);
  if (mask & kNamespaceId) out.namespace_id = task.namespaces().mounts->inode_number();
}

}  // namespace

SYSCALL_HANDLER(SysStatmount) {
  if (args.Uint(3) != 0) return Errno(EINVAL);
  const Request request = TRY(CopyInRequest(task, args.Addr(0)));
  if (request.mount_id < kFirstUniqueId) return Errno(EINVAL);
  if (request.param & kReservedMask) return Errno(EINVAL);
  std::optional<Info> found;
  for (const Info& info : task.namespaces().mounts->List()) {
    if (info.mount->unique_id() == request.mount_id) found = info;
  }
  if (!found) return Errno(ENOENT);
  if (!IsShown(task, *found) && !MayMount(task)) return Errno(EPERM);
  StatMount out = {};
  FillBasic(task, *found, request.param, out);
  std::string strings;
  auto add = [&](uint64_t bit, uint32_t& offset, const std::string& text) {
    if (!(request.param & bit)) return;
    offset = static_cast<uint32_t>(strings.size());
    strings.append(text).push_back('\0');
  };
  const vfs::MountNamespace& mounts = *task.namespaces().mounts;
  add(kType, out.type, std::string(found->mount->filesystem()->TypeName()));
  add(kRoot, out.root, RootOf(*found->mount));
  add(kPoint, out.point, vfs::PathName(mounts, {found->mount, found->mount->root()}, task.fs().root()));
  add(kOptions, out.options, found->mount->filesystem()->MountOptions());
  if (strings.size() > kMaxStrings) return Errno(EOVERFLOW);
  out.mask = request.param & 0xff;
  out.size = static_cast<uint32_t>(sizeof out + strings.size());
  const size_t room = args.Size(2);
  if (!strings.empty() && room < out.size) return Errno(EOVERFLOW);
  TRY(task.CopyOutBytes(args.Addr(1), &out, std::min(room, sizeof out)));
  if (!strings.empty()) TRY(task.CopyOutBytes(args.Addr(1) + sizeof out, strings.data(), strings.size()));
  return 0;
}

SYSCALL_HANDLER(SysListmount) {
  constexpr unsigned kReverse = 1;
  const unsigned flags = args.Uint(3);
  if (flags & ~kReverse) return Errno(EINVAL);
  if (args.Size(2) > kMaxListed) return Errno(EOVERFLOW);
  TRY(CheckRange(args.Addr(1), args.Size(2) * sizeof(uint64_t)));
  const Request request = TRY(CopyInRequest(task, args.Addr(0)));
  if (request.mount_id < kFirstUniqueId || (request.param != 0 && request.param < kFirstUniqueId)) return Errno(EINVAL);
  std::vector<Info> all = task.namespaces().mounts->List();
  std::optional<vfs::Path> top;
  RefPtr<vfs::Mount> origin;
  if (request.mount_id == kNamespaceRoot) {
    top = task.fs().root();
  } else {
    for (const Info& info : all) {
      if (info.mount->unique_id() == request.mount_id) origin = info.mount;
    }
    if (!origin) return Errno(ENOENT);
    top = vfs::Path{origin, origin->root()};
  }
  std::vector<uint64_t> ids;
  for (const Info& info : all) {
    if (info.mount == origin) continue;
    const std::string name = vfs::PathName(*task.namespaces().mounts, {info.mount, info.mount->root()}, *top);
    if (name.starts_with('/')) ids.push_back(info.mount->unique_id());
  }
  std::sort(ids.begin(), ids.end());
  if (flags & kReverse) std::reverse(ids.begin(), ids.end());
  if (request.param != 0) {
    std::erase_if(ids, [&](uint64_t id) { return flags & kReverse ? id >= request.param : id <= request.param; });
  }
  if (ids.size() > args.Size(2)) ids.resize(args.Size(2));
  if (!ids.empty()) TRY(task.CopyOutBytes(args.Addr(1), ids.data(), ids.size() * sizeof(uint64_t)));
  return static_cast<int64_t>(ids.size());
}

}  // namespace sentry::syscalls
