// SPDX-License-Identifier: Apache-2.0
// Calls of which the sandbox has little to tell: ustat(2), sysfs(2), quotactl(2), modify_ldt(2), lsm_*(2).
#include <fcntl.h>
#include <linux/quota.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>

#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

// <linux/lsm.h>, newer than some header packages.
constexpr uint32_t LSM_ATTR_UNDEF = 0, LSM_FLAG_SINGLE = 1;
constexpr uint64_t LSM_ID_UNDEF = 0, LSM_ID_CAPABILITY = 100, LSM_ID_LANDLOCK = 110;
struct lsm_ctx {
  uint64_t id, flags, len, ctx_len;
};

constexpr int kQuotaTypes = 3;  // user, group, project

// The number that stat(2) shows, as ustat(2) takes it: 20 bits of minor around 12 of major.
dev_t DecodeDevice(uint32_t encoded) {
  return makedev((encoded & 0xfff00) >> 8, (encoded & 0xff) | ((encoded >> 12) & 0xfff00));
}

}  // namespace

SYSCALL_HANDLER(SysUstat) {
  struct Ustat {
    int32_t free_blocks;
    uint64_t free_inodes;
    char name[6], pack[6];
  };
  const dev_t device = DecodeDevice(args.Uint(0));
  for (const vfs::MountNamespace::Info& info : task.namespaces().mounts->List()) {
    vfs::Filesystem& filesystem = *info.mount->filesystem();
    if (filesystem.device() != device) continue;
    const vfs::StatFs stat = filesystem.GetStatFs();
    Ustat out;
    memset(&out, 0, sizeof out);
    out.free_blocks = static_cast<int32_t>(stat.blocks_free);
    out.free_inodes = stat.files_free;
    TRY(task.CopyOut(args.Addr(1), out));
    return 0;
  }
  return Errno(EINVAL);
}

SYSCALL_HANDLER(SysSysfs) {
  const auto types = vfs::FilesystemTypes();
  switch (args.Int(0)) {
    case 1: {
      const std::string name = TRY(CopyInPath(task, args.Addr(1)));
      auto it = std::find_if(types.begin(), types.end(), [&](const auto& type) { return type.first == name; });
      if (it == types.end()) return Errno(EINVAL);
      return it - types.begin();
    }
    case 2: {
      if (args.Uint(1) >= types.size()) return Errno(EINVAL);
      const std::string& name = types[args.Uint(1)].first;
      TRY(task.CopyOutBytes(args.Addr(2), name.c_str(), name.size() + 1));
      return 0;
    }
    case 3:
      return static_cast<int64_t>(types.size());
    default:
      return Errno(EINVAL);
  }
}

// No filesystem here keeps quotas: the answers are those for devices without a filesystem and for filesystems without
// quotas.
SYSCALL_HANDLER(SysQuotactl) {
  const unsigned command = args.Uint(0) >> SUBCMDSHIFT, type = args.Uint(0) & SUBCMDMASK;
  if (type >= kQuotaTypes) return Errno(EINVAL);
  if (args.Addr(1).IsNull()) return command == Q_SYNC ? Value(0) : Value(Errno(ENODEV));
  const std::string path = TRY(CopyInPath(task, args.Addr(1)));
  vfs::WalkContext context = TRY(WalkFrom(task, AT_FDCWD, path));
  const vfs::InodeStat stat = TRY(vfs::Stat(context, path, vfs::kFollowFinal));
  return Errno(S_ISBLK(stat.mode) ? ENODEV : ENOTBLK);
}

SYSCALL_HANDLER(SysQuotactlFd) {
  TRY(GetFile(task, args.Int(0)));
  const unsigned type = args.Uint(1) & SUBCMDMASK;
  return Errno(type >= kQuotaTypes ? EINVAL : ENOSYS);
}

// The table is empty, and stays so: the host loads it for guest code only by calls that the platform does not make.
SYSCALL_HANDLER(SysModifyLdt) {
  constexpr uint64_t kDefaultSize = 128;
  constexpr int kRead = 0, kReadDefault = 2;
  // Its result is an unsigned int on Linux: errors are not sign-extended.
  auto failure = [](int error) { return int64_t{static_cast<uint32_t>(-error)}; };
  if (args.Int(0) == kRead) return 0;
  if (args.Int(0) != kReadDefault) return failure(ENOSYS);
  const std::string zeroes(std::min(args.Ulong(2), kDefaultSize), '\0');
  if (!zeroes.empty() && !task.CopyOutBytes(args.Addr(1), zeroes.data(), zeroes.size()).ok()) return failure(EFAULT);
  return static_cast<int64_t>(zeroes.size());
}

// The security modules are capabilities and landlock; neither has attributes.
SYSCALL_HANDLER(SysLsmGetSelfAttr) {
  if (args.Uint(0) == LSM_ATTR_UNDEF || args.Addr(2).IsNull()) return Errno(EINVAL);
  TRY(task.CopyIn<uint32_t>(args.Addr(2)));
  if (args.Uint(3) & ~LSM_FLAG_SINGLE) return Errno(EINVAL);
  if (args.Uint(3) & LSM_FLAG_SINGLE) {
    if (args.Addr(1).IsNull()) return Errno(EINVAL);
    if (TRY(task.CopyIn<lsm_ctx>(args.Addr(1))).id == LSM_ID_UNDEF) return Errno(EINVAL);
  }
  return Errno(EOPNOTSUPP);
}

SYSCALL_HANDLER(SysLsmSetSelfAttr) {
  const uint32_t size = args.Uint(2);
  if (args.Uint(3) != 0 || size < sizeof(lsm_ctx)) return Errno(EINVAL);
  if (size > kPageSize) return Errno(E2BIG);
  const lsm_ctx context = TRY(task.CopyIn<lsm_ctx>(args.Addr(1)));
  if (size < context.len || context.ctx_len > UINT64_MAX - sizeof context ||
      context.len < sizeof context + context.ctx_len)
    return Errno(EINVAL);
  return Errno(EOPNOTSUPP);
}

SYSCALL_HANDLER(SysLsmListModules) {
  if (args.Uint(2) != 0) return Errno(EINVAL);
  const uint32_t room = TRY(task.CopyIn<uint32_t>(args.Addr(1)));
  constexpr uint64_t kModules[] = {LSM_ID_CAPABILITY, LSM_ID_LANDLOCK};
  TRY(task.CopyOut(args.Addr(1), static_cast<uint32_t>(sizeof kModules)));
  if (room < sizeof kModules) return Errno(E2BIG);
  TRY(task.CopyOutBytes(args.Addr(0), kModules, sizeof kModules));
  return static_cast<int64_t>(std::size(kModules));
}

}  // namespace sentry::syscalls
