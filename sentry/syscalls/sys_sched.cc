// SPDX-License-Identifier: Apache-2.0
// Scheduling parameters: kept and read back; the host's scheduler decides. sched(7), sched_setaffinity(2),
// ioprio_set(2), getpriority(2), set_mempolicy(2).
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/host_info.h"

#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif
#ifndef SCHED_RESET_ON_FORK
#define SCHED_RESET_ON_FORK 0x40000000
#endif

namespace sentry::syscalls {
namespace {

constexpr int kMinNice = -20, kMaxNice = 19;
constexpr int kIoprioClassShift = 13, kIoprioLevels = 8;

bool IsRealTime(int policy) { return policy == SCHED_FIFO || policy == SCHED_RR; }
bool IsFair(int policy) { return policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE; }

Result<void> CheckSameUser(Task& task, Task& target) {
  RefPtr<const Credentials> its = target.creds_ref();
  const Credentials& own = *task.creds();
  if (&target == &task) return {};
  if (!its) return Errno(ESRCH);
  if (own.HasCapabilityIn(its->user_ns, CAP_SYS_NICE)) return {};
  if (own.euid == its->euid || own.euid == its->ruid) return {};
  return Errno(EPERM);
}

Result<RefPtr<Task>> Target(Task& task, pid_t pid) {
  if (pid < 0) return Errno(EINVAL);
  return FindTask(task, pid);
}

// The policy with SCHED_RESET_ON_FORK, as sched_policy keeps it.
int PolicyOf(const Task& task) { return task.sched_policy.load(std::memory_order_relaxed) & ~SCHED_RESET_ON_FORK; }
bool ResetsOnFork(const Task& task) { return task.sched_policy.load(std::memory_order_relaxed) & SCHED_RESET_ON_FORK; }

bool MayNice(Task& target, int nice) {
  return static_cast<uint64_t>(20 - nice) <= target.group().limits().Soft(RLIMIT_NICE);
}

struct Schedule {
  int policy = SCHED_OTHER;
  bool reset_on_fork = false;
  int priority = 0;
  std::optional<int> nice;  // of fair policies; the present one otherwise
  bool keep = false;        // SCHED_FLAG_KEEP_PARAMS: checked, but all stays, the policy as well
};

// What sched(7) lets a thread without CAP_SYS_NICE do. EPERM.
Result<void> CheckUnprivileged(Task& task, Task& target, const Schedule& wanted) {
  if (task.HasCapability(CAP_SYS_NICE)) return {};
  const int before = PolicyOf(target), nice = target.nice.load(std::memory_order_relaxed);
  bool refused = false;
  if (IsFair(wanted.policy)) refused = wanted.nice && *wanted.nice < nice && !MayNice(target, *wanted.nice);
  if (IsRealTime(wanted.policy)) {
    const uint64_t limit = target.group().limits().Soft(RLIMIT_RTPRIO);
    if (wanted.policy != before && limit == 0) refused = true;
    if (wanted.priority > target.sched_priority.load(std::memory_order_relaxed) &&
        static_cast<uint64_t>(wanted.priority) > limit) {
      refused = true;
    }
  }
  if (before == SCHED_IDLE && wanted.policy != SCHED_IDLE && !MayNice(target, nice)) refused = true;
  if (ResetsOnFork(target) && !wanted.reset_on_fork) refused = true;
  return refused ? Errno(EPERM) : Result<void>();
}

Result<void> SetSchedule(Task& task, Task& target, const Schedule& wanted) {
  const int policy = wanted.policy;
  if (!IsRealTime(policy) && !IsFair(policy)) return Errno(EINVAL);
  if (IsRealTime(policy) ? wanted.priority < 1 || wanted.priority > 99 : wanted.priority != 0) return Errno(EINVAL);
  TRY(CheckUnprivileged(task, target, wanted));
  TRY(CheckSameUser(task, target));
  const int kept = wanted.keep ? PolicyOf(target) : policy;
  target.sched_policy.store(kept | (wanted.reset_on_fork ? SCHED_RESET_ON_FORK : 0), std::memory_order_relaxed);
  if (wanted.keep) return {};
  target.sched_priority.store(wanted.priority, std::memory_order_relaxed);
  if (IsFair(policy) && wanted.nice) target.nice.store(*wanted.nice, std::memory_order_relaxed);
  return {};
}

Result<void> SetNice(Task& task, Task& target, int nice) {
  nice = std::clamp(nice, kMinNice, kMaxNice);
  if (nice < target.nice.load(std::memory_order_relaxed) && !task.HasCapability(CAP_SYS_NICE) &&
      !MayNice(target, nice)) {
    return Errno(EACCES);
  }
  target.nice.store(nice, std::memory_order_relaxed);
  return {};
}

// Calls `visit` for every thread that a (which, who) pair of getpriority(2) or ioprio_get(2) names: 0 process, 1 group,
// 2 user. False when there is none.
bool ForEachNamed(Task& task, int kind, int who, const std::function<void(Task&)>& visit) {
  kernel::TaskSet& tasks = kernel::Kernel::Get().tasks();
  if (kind == 0) {
    RefPtr<Task> target = who == 0 ? RefPtr<Task>(&task) : tasks.FindTask(task.pid_ns(), who);
    if (!target) return false;
    visit(*target);
    return true;
  }
  bool found = false;
  RefPtr<kernel::ProcessGroup> group;
  if (kind == 1) {
    group = who == 0 ? task.group().process_group() : tasks.FindProcessGroup(task.pid_ns(), who);
    if (!group) return false;
  }
  uid_t uid = who == 0 ? task.creds()->ruid : task.creds()->ToKernel(IdKind::kUser, static_cast<uint32_t>(who));
  if (uid == kInvalidId) return false;
  for (auto& [id, each] : tasks.ThreadGroups(task.pid_ns())) {
    if (kind == 1 && !(each->process_group() == group)) continue;
    for (const RefPtr<Task>& thread : each->Threads()) {
      RefPtr<const Credentials> creds = thread->creds_ref();
      if (kind == 2 && (!creds || creds->ruid != uid)) continue;
      found = true;
      visit(*thread);
    }
  }
  return found;
}

}  // namespace

SYSCALL_HANDLER(SysSchedYield) {
  HostYield();
  return 0;
}

SYSCALL_HANDLER(SysSchedGetaffinity) {
  unsigned cpus = OnlineCpus();
  size_t size = args.Uint(1);
  if (static_cast<unsigned>(size) * 8 < cpus || size % sizeof(uint64_t)) return Errno(EINVAL);
  RefPtr<Task> target = TRY(FindTask(task, args.Int(0)));
  uint64_t mask = target->cpu_affinity.load(std::memory_order_relaxed) & OnlineCpuMask();
  TRY(task.CopyOut(args.Addr(2), mask));
  return static_cast<int64_t>(sizeof mask);
}

SYSCALL_HANDLER(SysSchedSetaffinity) {
  uint64_t mask = 0;
  TRY(task.CopyInBytes(args.Addr(2), &mask, std::min<size_t>(args.Uint(1), sizeof mask)));
  RefPtr<Task> target = TRY(FindTask(task, args.Int(0)));
  TRY(CheckSameUser(task, *target));
  if ((mask & OnlineCpuMask()) == 0) return Errno(EINVAL);
  // All CPUs that there are is no restriction.
  if ((mask & OnlineCpuMask()) == OnlineCpuMask()) mask = ~uint64_t{0};
  target->SetAffinity(mask);
  return 0;
}

SYSCALL_HANDLER(SysSchedGetscheduler) {
  RefPtr<Task> target = TRY(Target(task, args.Int(0)));
  return target->sched_policy.load(std::memory_order_relaxed);
}

SYSCALL_HANDLER(SysSchedSetscheduler) {
  if (args.Int(1) < 0 || args.Addr(2).IsNull()) return Errno(EINVAL);
  auto priority = TRY(task.CopyIn<int32_t>(args.Addr(2)));
  RefPtr<Task> target = TRY(Target(task, args.Int(0)));
  TRY(SetSchedule(task, *target,
                  {.policy = args.Int(1) & ~SCHED_RESET_ON_FORK,
                   .reset_on_fork = (args.Int(1) & SCHED_RESET_ON_FORK) != 0,
                   .priority = priority}));
  return 0;
}

SYSCALL_HANDLER(SysSchedGetparam) {
  if (args.Addr(1).IsNull()) return Errno(EINVAL);
  RefPtr<Task> target = TRY(Target(task, args.Int(0)));
  TRY(task.CopyOut(args.Addr(1), int32_t{target->sched_priority.load(std::memory_order_relaxed)}));
  return 0;
}

SYSCALL_HANDLER(SysSchedSetparam) {
  if (args.Addr(1).IsNull()) return Errno(EINVAL);
  auto priority = TRY(task.CopyIn<int32_t>(args.Addr(1)));
  RefPtr<Task> target = TRY(Target(task, args.Int(0)));
  TRY(SetSchedule(task, *target,
                  {.policy = PolicyOf(*target), .reset_on_fork = ResetsOnFork(*target), .priority = priority}));
  return 0;
}

SYSCALL_HANDLER(SysSchedGetPriorityMax) {
  int policy = args.Int(0);
  if (IsRealTime(policy)) return 99;
  return IsFair(policy) || policy == SCHED_DEADLINE ? Value(0) : Value(Errno(EINVAL));
}

SYSCALL_HANDLER(SysSchedGetPriorityMin) {
  int policy = args.Int(0);
  if (IsRealTime(policy)) return 1;
  return IsFair(policy) || policy == SCHED_DEADLINE ? Value(0) : Value(Errno(EINVAL));
}

SYSCALL_HANDLER(SysSchedRrGetInterval) {
  RefPtr<Task> target = TRY(Target(task, args.Int(0)));
  int policy = PolicyOf(*target);
  int64_t slice = policy == SCHED_FIFO ? 0 : policy == SCHED_RR ? 100'000'000 : 4'000'000;
  TRY(task.CopyOut(args.Addr(1), base::ToTimespec(slice)));
  return 0;
}

namespace {
struct SchedAttr {  // struct sched_attr, SCHED_ATTR_SIZE_VER1
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
  uint32_t util_min, util_max;
};
static_assert(sizeof(SchedAttr) == 56);
constexpr uint32_t kSchedAttrMinimum = 48;

// linux/sched.h: SCHED_FLAG_*.
enum SchedFlags : uint64_t {
  kFlagResetOnFork = 1,
  kFlagKeepPolicy = 8,
  kFlagKeepParams = 0x10,
  kFlagUtilClamp = 0x60,
  kFlagsAll = 0x7f,
};
constexpr uint32_t kUtilMost = 1024;

// The parameters of SCHED_DEADLINE (sched(7)): runtime <= deadline <= period, in nanoseconds below 2^63.
bool IsDeadlineValid(const SchedAttr& attr) {
  constexpr uint64_t kTop = uint64_t{1} << 63;
  if (attr.deadline == 0 || attr.runtime < 1024 || ((attr.deadline | attr.period) & kTop)) return false;
  const uint64_t period = attr.period ? attr.period : attr.deadline;
  return period >= attr.deadline && attr.deadline >= attr.runtime;
}

// As copy_struct_from_user(). E2BIG tells the size by the way.
Result<SchedAttr> CopyInSchedAttr(Task& task, UserAddr address) {
  auto size = TRY(task.CopyIn<uint32_t>(address));
  if (size == 0) size = kSchedAttrMinimum;
  bool fits = size >= kSchedAttrMinimum && size <= kPageSize;
  SchedAttr attr = {};
  if (fits) {
    std::vector<uint8_t> bytes(std::max<size_t>(size, sizeof attr));
    TRY(task.CopyInBytes(address, bytes.data(), size));
    fits = std::all_of(bytes.begin() + sizeof attr, bytes.end(), [](uint8_t byte) { return byte == 0; });
    memcpy(&attr, bytes.data(), sizeof attr);
  }
  if (!fits) {
    TRY(task.CopyOut(address, static_cast<uint32_t>(sizeof(SchedAttr))));
    return Errno(E2BIG);
  }
  if ((attr.flags & kFlagUtilClamp) && size < sizeof attr) return Errno(EINVAL);
  attr.size = size;
  attr.nice = std::clamp(attr.nice, kMinNice, kMaxNice);
  return attr;
}
}  // namespace

SYSCALL_HANDLER(SysSchedSetattr) {
  if (args.Addr(1).IsNull() || args.Int(0) < 0 || args.Uint(2) != 0) return Errno(EINVAL);
  SchedAttr attr = TRY(CopyInSchedAttr(task, args.Addr(1)));
  if (static_cast<int>(attr.policy) < 0) return Errno(EINVAL);
  RefPtr<Task> target = TRY(Target(task, args.Int(0)));
  if (attr.flags & ~uint64_t{kFlagsAll}) return Errno(EINVAL);
  Schedule wanted{.policy = static_cast<int>(attr.policy),
                  .reset_on_fork = (attr.flags & kFlagResetOnFork) != 0,
                  .priority = static_cast<int>(std::min<uint32_t>(attr.priority, INT32_MAX)),
                  .nice = attr.nice};
  if (attr.flags & kFlagKeepPolicy) {
    wanted.policy = PolicyOf(*target);
    wanted.reset_on_fork = ResetsOnFork(*target);
  }
  if (attr.flags & kFlagKeepParams) {
    wanted.keep = true;
    wanted.priority = target->sched_priority.load(std::memory_order_relaxed);
    wanted.nice.reset();
  }
  // Clamps are hints to a scheduler: checked, not kept.
  if ((attr.flags & kFlagUtilClamp) && (attr.util_min > kUtilMost || attr.util_max > kUtilMost)) {
    const uint32_t reset = ~0u;
    if ((attr.util_min > kUtilMost && attr.util_min != reset) || (attr.util_max > kUtilMost && attr.util_max != reset))
      return Errno(EINVAL);
  }
  if (wanted.policy == SCHED_DEADLINE) {
    if (!IsDeadlineValid(attr) || attr.priority != 0) return Errno(EINVAL);
    if (!task.HasCapability(CAP_SYS_NICE)) return Errno(EPERM);
    // As on a machine whose bandwidth is all given away: the host's scheduler makes no promises to a sandbox.
    return Errno(EBUSY);
  }
  TRY(SetSchedule(task, *target, wanted));
  return 0;
}

SYSCALL_HANDLER(SysSchedGetattr) {
  uint32_t size = args.Uint(2);
  if (args.Addr(1).IsNull() || size < kSchedAttrMinimum || size > kPageSize || args.Uint(3) != 0) return Errno(EINVAL);
  RefPtr<Task> target = TRY(Target(task, args.Int(0)));
  SchedAttr attr = {};
  attr.size = std::min<uint32_t>(size, sizeof attr);
  attr.policy = static_cast<uint32_t>(PolicyOf(*target));
  if (ResetsOnFork(*target)) attr.flags = kFlagResetOnFork;
  if (IsRealTime(PolicyOf(*target))) {
    attr.priority = static_cast<uint32_t>(target->sched_priority.load(std::memory_order_relaxed));
  } else {
    attr.nice = target->nice.load(std::memory_order_relaxed);
  }
  attr.util_max = kUtilMost;
  TRY(task.CopyOutBytes(args.Addr(1), &attr, attr.size));
  return 0;
}

SYSCALL_HANDLER(SysGetpriority) {
  if (args.Int(0) < PRIO_PROCESS || args.Int(0) > PRIO_USER) return Errno(EINVAL);
  int best = kMaxNice;
  bool found = ForEachNamed(task, args.Int(0), args.Int(1),
                            [&](Task& each) { best = std::min(best, each.nice.load(std::memory_order_relaxed)); });
  if (!found) return Errno(ESRCH);
  return 20 - best;  // the raw call's range is 1..40
}

SYSCALL_HANDLER(SysSetpriority) {
  if (args.Int(0) < PRIO_PROCESS || args.Int(0) > PRIO_USER) return Errno(EINVAL);
  Result<void> result;
  bool found = ForEachNamed(task, args.Int(0), args.Int(1), [&](Task& each) {
    Result<void> one = CheckSameUser(task, each);
    if (one.ok()) one = SetNice(task, each, args.Int(2));
    if (!one.ok()) result = one;
  });
  if (!found) return Errno(ESRCH);
  TRY(std::move(result));
  return 0;
}

SYSCALL_HANDLER(SysIoprioSet) {
  const uint32_t kind = args.Uint(0) - 1;
  const int value = args.Int(2);
  int io_class = value >> kIoprioClassShift, level = value & ((1 << kIoprioClassShift) - 1);
  if (io_class < 0 || io_class > 3) return Errno(EINVAL);
  // Levels are of the classes real-time and best-effort only.
  if (((io_class == 1 || io_class == 2) && level >= kIoprioLevels) || (io_class == 0 && level != 0)) {
    return Errno(EINVAL);
  }
  if (kind > 2) return Errno(EINVAL);
  if (io_class == 1 && !task.HasCapability(CAP_SYS_ADMIN) && !task.HasCapability(CAP_SYS_NICE)) return Errno(EPERM);
  Result<void> result;
  bool found = ForEachNamed(task, static_cast<int>(kind), args.Int(1), [&](Task& each) {
    Result<void> one = CheckSameUser(task, each);
    if (one.ok()) {
      each.io_priority.store(value, std::memory_order_relaxed);
    } else {
      result = one;
    }
  });
  if (!found) return Errno(ESRCH);
  TRY(std::move(result));
  return 0;
}

SYSCALL_HANDLER(SysIoprioGet) {
  const uint32_t kind = args.Uint(0) - 1;
  if (kind > 2) return Errno(EINVAL);
  int best = INT32_MAX;
  bool found = ForEachNamed(task, static_cast<int>(kind), args.Int(1), [&](Task& each) {
    best = std::min(best, each.io_priority.load(std::memory_order_relaxed));
  });
  if (!found) return Errno(ESRCH);
  return best;
}

SYSCALL_HANDLER(SysRseq) {
  platform::RseqArea area{.address = args.Addr(0).value(), .length = args.Uint(1), .signature = args.Uint(3)};
  TRY(task.SetRseq(area, args.Int(2)));
  return 0;
}

SYSCALL_HANDLER(SysGetcpu) {
  uint32_t cpu = CurrentCpu(), node = 0;
  // Affinity is the guest's own; the host schedules as it likes. A pinned thread must find itself where it asked to be.
  uint64_t allowed = task.cpu_affinity.load(std::memory_order_relaxed) & OnlineCpuMask();
  if (allowed && (cpu >= 64 || !(allowed >> cpu & 1))) cpu = static_cast<uint32_t>(std::countr_zero(allowed));
  if (!args.Addr(0).IsNull()) TRY(task.CopyOut(args.Addr(0), cpu));
  if (!args.Addr(1).IsNull()) TRY(task.CopyOut(args.Addr(1), node));
  return 0;
}

// One memory node: every policy that names it (or none) is the default one.
namespace {
Result<void> CheckNodes(Task& task, int mode, UserAddr nodes, uint64_t max_node) {
  int kind = mode & ~MPOL_MODE_FLAGS;
  if (kind < MPOL_DEFAULT || kind > 6) return Errno(EINVAL);
  uint64_t mask = 0;
  if (!nodes.IsNull() && max_node != 1) {
    if (max_node - 1 > kPageSize * 8) return Errno(EINVAL);  // 0 wraps
    std::vector<uint64_t> words((max_node - 1 + 63) / 64);
    TRY(task.CopyInBytes(nodes, words.data(), words.size() * 8));
    mask = words[0];
    if (max_node - 1 < 64) mask &= (uint64_t{1} << (max_node - 1)) - 1;
    if (std::any_of(words.begin() + 1, words.end(), [](uint64_t w) { return w != 0; })) return Errno(EINVAL);
  }
  if (mask & ~uint64_t{1}) return Errno(EINVAL);
  bool needs_nodes = kind == MPOL_BIND || kind == MPOL_INTERLEAVE;
  if (needs_nodes && mask == 0) return Errno(EINVAL);
  if (kind == MPOL_DEFAULT && mask != 0) return Errno(EINVAL);
  return {};
}
}  // namespace

SYSCALL_HANDLER(SysSetMempolicy) {
  TRY(CheckNodes(task, args.Int(0), args.Addr(1), args.Ulong(2)));
  return 0;
}

SYSCALL_HANDLER(SysMbind) {
  const uint64_t start = args.Ulong(0), length = PageUp(args.Ulong(1)), flags = args.Uint(5);
  TRY(CheckNodes(task, args.Int(2), args.Addr(3), args.Ulong(4)));
  if (flags & ~uint64_t{MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL}) return Errno(EINVAL);
  if ((flags & MPOL_MF_MOVE_ALL) && !task.HasCapability(CAP_SYS_NICE)) return Errno(EPERM);
  if (start % kPageSize || start + length < start) return Errno(EINVAL);
  return 0;
}

SYSCALL_HANDLER(SysGetMempolicy) {
  uint64_t flags = args.raw[4], max_node = args.Ulong(2);
  if (flags & ~uint64_t{MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED}) return Errno(EINVAL);
  if (!(flags & MPOL_F_ADDR) && args.raw[3] != 0) return Errno(EINVAL);
  if ((flags & MPOL_F_MEMS_ALLOWED) && (flags & (MPOL_F_NODE | MPOL_F_ADDR))) return Errno(EINVAL);
  if (!args.Addr(0).IsNull()) TRY(task.CopyOut(args.Addr(0), int32_t{0}));  // MPOL_DEFAULT, or node 0
  if (!args.Addr(1).IsNull()) {
    if (max_node == 0 || max_node > kPageSize * 8) return Errno(EINVAL);
    std::vector<uint64_t> words((max_node + 63) / 64);
    if (flags & MPOL_F_MEMS_ALLOWED) words[0] = 1;
    TRY(task.CopyOutBytes(args.Addr(1), words.data(), words.size() * 8));
  }
  return 0;
}

}  // namespace sentry::syscalls
