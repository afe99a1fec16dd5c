// SPDX-License-Identifier: Apache-2.0
// Page placement on a machine of one node: migrate_pages(2), move_pages(2), set_mempolicy_home_node(2).
#include <linux/mempolicy.h>

#include <algorithm>

#include "sentry/kernel/ptrace.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

// A node mask as the kernel takes it: `max_node` counts one more than the bits. EINVAL for nodes past the possible
// ones.
Result<uint64_t> CopyInNodes(Task& task, UserAddr address, uint64_t max_node) {
  --max_node;
  if (max_node == 0 || address.IsNull()) return uint64_t{0};
  if (max_node > kPageSize * 8) return Errno(EINVAL);
  std::vector<uint64_t> words((max_node + 63) / 64);
  TRY(task.CopyInBytes(address, words.data(), words.size() * sizeof(uint64_t)));
  if (max_node % 64) words.back() &= (uint64_t{1} << (max_node % 64)) - 1;
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i]) return Errno(EINVAL);
  }
  return words[0];
}

Result<RefPtr<Task>> Target(Task& task, pid_t pid) {
  RefPtr<Task> target = TRY(FindTask(task, pid));
  if (target.get() != &task) {
    Result<void> allowed = kernel::CheckPtraceAccess(task, *target);
    if (!allowed.ok()) return Errno(EPERM);
  }
  return target;
}

// Where a page is: node 0, -EFAULT when nothing is mapped, -ENOENT when it has no memory.
int32_t PageStatus(mm::MemoryManager& mm, uint64_t address) {
  std::vector<uint8_t> resident;
  if (!mm.Mincore(PageDown(address), kPageSize, &resident).ok()) return -EFAULT;
  return !resident.empty() && (resident[0] & 1) ? 0 : -ENOENT;
}

}  // namespace

SYSCALL_HANDLER(SysMigratePages) {
  const uint64_t old_nodes = TRY(CopyInNodes(task, args.Addr(2), args.Ulong(1)));
  const uint64_t new_nodes = TRY(CopyInNodes(task, args.Addr(3), args.Ulong(1)));
  (void)old_nodes;
  TRY(Target(task, args.Int(0)));
  // Of the nodes asked for, those that exist must be some.
  if (!(new_nodes & 1)) return Errno(EINVAL);
  if ((new_nodes & ~uint64_t{1}) && !task.HasCapability(CAP_SYS_NICE)) return Errno(EPERM);
  return 0;  // every page is there already
}

SYSCALL_HANDLER(SysMovePages) {
  const uint64_t count = args.Ulong(1);
  const int flags = args.Int(5);
  constexpr int kMove = MPOL_MF_MOVE, kMoveAll = MPOL_MF_MOVE_ALL;
  if (flags & ~(kMove | kMoveAll)) return Errno(EINVAL);
  if ((flags & kMoveAll) && !task.HasCapability(CAP_SYS_NICE)) return Errno(EPERM);
  RefPtr<Task> target = TRY(Target(task, args.Int(0)));
  RefPtr<mm::MemoryManager> mm = target->mm_ref();
  if (!mm) return Errno(EINVAL);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t page = TRY(task.CopyIn<uint64_t>(args.Addr(2) + i * 8));
    int32_t status;
    if (!args.Addr(3).IsNull()) {
      const int32_t node = TRY(task.CopyIn<int32_t>(args.Addr(3) + i * 4));
      if (node != 0) return Errno(ENODEV);
    }
    status = PageStatus(*mm, page);
    TRY(task.CopyOut(args.Addr(4) + i * 4, status));
    // However many are asked for, a kill is heard.
    if (i % 1024 == 1023 && task.HasDeliverableSignal()) return Errno(EINTR);
  }
  return 0;
}

// Policies are checked and then forgotten (mbind): no range has one that this could change.
SYSCALL_HANDLER(SysSetMempolicyHomeNode) {
  const uint64_t start = args.Ulong(0), length = args.Ulong(1), node = args.Ulong(2);
  if (start % kPageSize || args.Ulong(3) != 0 || node != 0) return Errno(EINVAL);
  if (start + PageUp(length) < start) return Errno(EINVAL);
  if (PageUp(length) == 0) return 0;
  return Errno(ENOENT);
}

}  // namespace sentry::syscalls
