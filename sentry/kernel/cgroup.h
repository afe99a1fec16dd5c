// SPDX-License-Identifier: Apache-2.0
// Control groups (cgroups(7)): one v2 hierarchy with the controllers that no v1 hierarchy has taken, and the v1
// hierarchies that were mounted. What is counted and enforced is here; fs/cgroup shows it as files.
//
// Everything is guarded by the TaskSet mutex (T) unless it says otherwise; methods named ...Locked and the fields of a
// Cgroup want it held. A group counts for itself and all groups below, except where "own" is said.
//
// A task is in one group of each hierarchy from its link to its end; it keeps its place in `pids` until it is reaped.
#ifndef SENTRY_KERNEL_CGROUP_H_
#define SENTRY_KERNEL_CGROUP_H_

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/core/timer.h"
#include "sentry/kernel/core/wait_queue.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/mm/memory_charge.h"

namespace sentry::kernel {

enum Controller : uint32_t {
  kCpuset = 1,
  kCpu = 2,
  kCpuacct = 4,  // v1 only
  kMemory = 8,
  kFreezer = 16,  // v1 only
  kPids = 32,
};
inline constexpr uint32_t kV1Controllers = kCpuset | kCpu | kCpuacct | kMemory | kFreezer | kPids;
inline constexpr uint32_t kV2Controllers = kCpuset | kCpu | kMemory | kPids;
inline constexpr uint32_t kThreadedControllers = kCpuset | kCpu | kPids;
struct ControllerName {
  Controller bit;
  const char* name;
};
// In the order that Linux lists them.
inline constexpr ControllerName kControllers[] = {{kCpuset, "cpuset"}, {kCpu, "cpu"},         {kCpuacct, "cpuacct"},
                                                  {kMemory, "memory"}, {kFreezer, "freezer"}, {kPids, "pids"}};

inline constexpr int kMaxHierarchies = 12;
inline constexpr int64_t kCgroupNoLimit = INT64_MAX;

struct CgroupHierarchy : public RefCounted<CgroupHierarchy> {
  int slot = 0;              // 0: v2; of Cgroups' table
  int id = 0;                // as /proc/cgroups shows it
  uint32_t controllers = 0;  // v1: those it was mounted with; v2: those that no v1 hierarchy has
  std::string name;          // v1: name=
  Cgroup* root = nullptr;    // borrowed: there as long as any of its groups
  bool IsV2() const { return slot == 0; }
};

// Files whose changes are told (poll(2), inotify(7)).
enum class CgroupEvent : uint8_t { kEvents, kPidsEvents, kMemoryEvents, kCount };

// What fs/cgroup keeps for a group.
class CgroupObserver : public RefCounted<CgroupObserver> {
 public:
  virtual ~CgroupObserver() = default;
  virtual void OnEvent(CgroupEvent event) = 0;  // T may be held
};

struct CgroupCpuUsage {
  int64_t user_ns = 0, system_ns = 0;
};

// cpu.max and cpu.cfs_*.
struct CgroupCpu {
  int64_t quota_ns = -1, period_ns = 100'000'000, burst_ns = 0;  // quota -1: none
  int64_t weight = 100, shares = 1024, idle = 0;                 // stored
  // Enforcement. `start_usage_ns`: the group's CPU time at the start of the period less what it owes.
  int64_t period_start_ns = 0, start_usage_ns = 0;
  bool is_outside = false;  // the host enforces the quota
  bool throttled = false;
  int64_t throttled_since_ns = 0;
  int64_t periods = 0, throttled_periods = 0, throttled_ns = 0;
};

struct CgroupPids {
  int64_t current = 0, peak = 0, max = kCgroupNoLimit, refused = 0;
};

struct CgroupMemory {
  int64_t max = kCgroupNoLimit, high = kCgroupNoLimit, low = 0, min = 0, swap_max = kCgroupNoLimit,
          swap_high = kCgroupNoLimit;
  bool oom_group = false;
  bool is_outside = false;                      // the sandbox's own watch enforces the limit
  int64_t anonymous = 0, shared = 0, peak = 0;  // as last measured; `Usage` is their sum
  uint64_t max_events = 0, oom_events = 0, oom_kills = 0, oom_group_kills = 0, failures = 0;
  uint64_t own_max_events = 0, own_oom_events = 0, own_oom_kills = 0;
  int64_t Usage() const { return anonymous + shared; }
};

class Cgroup : public RefCounted<Cgroup> {
 public:
  Cgroup(RefPtr<CgroupHierarchy> hierarchy, RefPtr<Cgroup> parent, std::string name);
  ~Cgroup();
  CgroupHierarchy& hierarchy() const { return *hierarchy_; }
  bool IsV2() const { return hierarchy_->IsV2(); }
  Cgroup* parent() const { return parent_.get(); }
  bool IsRoot() const { return !parent_; }
  uint64_t id() const { return id_; }  // its inode number; never used again
  int depth() const { return depth_; }
  const std::string& name() const { return name_; }

  bool IsBelow(const Cgroup& ancestor) const;      // or the same
  std::string PathFrom(const Cgroup& root) const;  // "/", "/a/b", "/../x"
  bool IsPopulated() const { return live > 0; }
  // Which have files here.
  uint32_t AvailableControllers() const;
  CgroupCpuUsage CpuUsage() const;
  // This and all below, parents first.
  void ForEach(const std::function<void(Cgroup&)>& visit);
  const std::set<Task*>& tasks() const { return tasks_; }  // own, live
  // Something shown by the group's file of that event changed.
  void Notify(CgroupEvent event);
  WaitQueue& event_queue() { return event_queue_; }
  uint64_t event_sequence(CgroupEvent event) const {
    return sequences_[static_cast<size_t>(event)].load(std::memory_order_acquire);
  }
  bool IsFreezing() const;  // asked for here or above
  bool IsFrozen() const { return IsFreezing() && parked == live; }
  bool IsThrottled() const;  // here or above

  // cgroup.type.
  bool IsThreadRoot() const;
  bool IsValidDomain() const;
  bool CanBeThreadRoot() const;
  const Cgroup& Domain() const;

  std::map<std::string, RefPtr<Cgroup>, std::less<>> children;
  bool removed = false;
  uint32_t subtree_control = 0;
  bool threaded = false;
  bool is_container = false;  // made at a container's start: has all controllers, whatever its parent enables
  bool limits_set = false;    // of a container: by its config.json
  bool freeze = false, frozen_shown = false;
  bool clone_children = false, notify_on_release = false;
  int64_t max_depth = kCgroupNoLimit, max_descendants = kCgroupNoLimit;
  int64_t descendants = 0;
  int64_t live = 0, parked = 0;  // tasks, and those of them that stand still for a freeze
  CgroupPids pids;
  CgroupCpu cpu;
  CgroupMemory memory;
  // Own first; then those of removed groups below that still hold something.
  std::vector<RefPtr<mm::MemoryCharge>> charges{MakeRef<mm::MemoryCharge>()};
  std::string cpus, mems;  // cpuset: as written
  CgroupCpuUsage gone;     // CPU time of tasks and groups that left
  RefPtr<CgroupObserver> observer;

  // Owner and permission bits of the directory ("") and its files, where they were changed.
  struct Owner {
    uid_t uid = 0;
    gid_t gid = 0;
    mode_t mode = 0;  // permission bits
  };
  std::map<std::string, Owner, std::less<>> owners;

 private:
  friend class Cgroups;
  const RefPtr<CgroupHierarchy> hierarchy_;
  const RefPtr<Cgroup> parent_;
  const std::string name_;
  const uint64_t id_;
  const int depth_;
  std::set<Task*> tasks_;
  WaitQueue event_queue_;
  std::atomic<uint64_t> sequences_[static_cast<size_t>(CgroupEvent::kCount)] = {};
};

// A task's places.
struct TaskCgroups {
  struct Place {
    RefPtr<Cgroup> group;
    CgroupCpuUsage base;  // the task's CPU time when it came
  };
  std::array<Place, kMaxHierarchies> places;  // by slot
  bool live = false;                          // in the groups' lists and counts
  bool parked = false;                        // counted as standing still
  // Where the task's shared memory is counted: of its group in the hierarchy with the memory controller.
  Mutex charge_mu{LockRank::kLeaf};
  RefPtr<mm::MemoryCharge> charge ABSL_GUARDED_BY(charge_mu);
};

// The one registry of the sandbox. Made at first use; lives as long as the process.
class Cgroups {
 public:
  static Cgroups& Get();
  static Mutex& mu();  // T
  const RefPtr<CgroupNamespace>& root_namespace() const { return root_namespace_; }

  // The root of the hierarchy that such a mount shows. A v1 hierarchy is made from controllers that nobody uses:
  // neither another v1 one nor a guest through v2's cgroup.subtree_control. It has the containers' groups with their
  // limits. EBUSY, ENOSPC. Takes T.
  Result<RefPtr<Cgroup>> FindOrMake(bool v2, uint32_t controllers, const std::string& name, bool may_make);
  // Its last mount is gone: a v1 hierarchy without groups of guests ends, and v2 gets its controllers back. Takes T.
  void Release(CgroupHierarchy& hierarchy);
  std::vector<RefPtr<Cgroup>> RootsLocked() const;

  // Birth: EAGAIN over pids.max, ENODEV, EBUSY, EOPNOTSUPP for a bad `into` (CLONE_INTO_CGROUP). Then, once nothing can
  // fail, the child enters its parent's groups (the roots and `into` without a parent).
  Result<void> CheckForkLocked(const Task* parent, Cgroup* into, bool is_thread);
  void ForkLocked(Task& child, const Task* parent, Cgroup* into);
  void ExitLocked(Task& task);     // runs no more
  void ReleaseLocked(Task& task);  // reaped
  // Where the task is; the root for one that has no place.
  static Cgroup& Of(const Task& task, const CgroupHierarchy& hierarchy);

  // EBUSY, EOPNOTSUPP, ENODEV, ENOSPC (v1 cpuset without CPUs). Never EAGAIN: pids.max does not count for moves.
  Result<void> CheckMoveLocked(const std::vector<Task*>& tasks, Cgroup& to, bool whole_process) const;
  Result<void> MoveLocked(const std::vector<Task*>& tasks, Cgroup& to, bool whole_process);
  // EEXIST, ENODEV (removed), EAGAIN (limits of depth and number).
  Result<RefPtr<Cgroup>> MakeLocked(Cgroup& parent, const std::string& name);
  Result<void> RemoveLocked(Cgroup& group);  // EBUSY
  // cgroup.subtree_control. EOPNOTSUPP, EBUSY, ENOENT.
  Result<void> SetSubtreeControlLocked(Cgroup& group, uint32_t enable, uint32_t disable);
  Result<void> MakeThreadedLocked(Cgroup& group);
  // `freeze` or a throttle changed: tells all tasks below.
  void UpdateStopsLocked(Cgroup& group);
  void KillLocked(Cgroup& group);
  // cpu.max and its kin (cgroup_cpu.cc); quota -1: none. EINVAL at the root, and (v1) above the quota of a group above.
  Result<void> SetBandwidthLocked(Cgroup& group, int64_t quota_ns, int64_t period_ns, int64_t burst_ns);
  // (own) The task stands still for a freeze. No lock held.
  static void OnParked(Task& task);

  // From now on shared memory is counted for who makes it. Once, where every Caller is a Task.
  static void CountSharedMemory() { mm::MemoryCharge::SetHook(&ChargeOfCaller); }
  // Called without locks after a process was killed for a group's memory.max. Once, before the first process.
  static void SetOomHook(void (*hook)(const std::string& container_id));
  // memory.max. EINVAL at the root.
  Result<void> SetMemoryMaxLocked(Cgroup& group, int64_t max);
  // The memory settings and counts with what is used now. Takes T, and not for long.
  CgroupMemory MemoryOf(Cgroup& group);
  // The group of a container and those above it, made when they are not there. Takes T.
  RefPtr<Cgroup> MakeContainerGroup(const std::string& path);
  // A new namespace with the task's groups (`in` alone without one) as roots. Takes T.
  RefPtr<CgroupNamespace> NewNamespace(const Task* task, Cgroup* in, RefPtr<UserNamespace> owner, UserCharge charge);

  // /proc/PID/cgroup as seen from a namespace; /proc/cgroups. Take T.
  std::string TextOf(const Task& task, const CgroupNamespace& seen_from);
  std::string Table();
  // "cpu,cpuacct", "name=systemd".
  static std::string NameOf(const CgroupHierarchy& hierarchy);

 private:
  Cgroups();
  void Leave(Task& task, TaskCgroups::Place& place);
  void Enter(Task& task, RefPtr<Cgroup> group);
  RefPtr<Cgroup> MakeContainerGroupLocked(Cgroup& root, const std::string& path);
  void MirrorContainers(Cgroup& root);
  void UpdateStops(Task& task);
  void UpdateFrozen(Cgroup& group);
  void SetCharge(TaskCgroups& cgroups);
  struct MemoryPicture;
  void MeasureMemory(Cgroup& top, MemoryPicture* picture);
  // Kills when the group has too much; who is on its way out then.
  RefPtr<ThreadGroup> KeepLimit(Cgroup& group);
  void CountOom(Cgroup& limited, Cgroup& of_victim);
  void WatchMemory();
  void WatchMemoryLocked(const Cgroup& group);
  static RefPtr<mm::MemoryCharge> ChargeOfCaller();
  void CheckCpu();
  int64_t CheckCpuOf(Cgroup& group, int64_t now_ns);  // when to look again
  void WatchCpuLocked(const Cgroup& group);           // a task came to where a quota may be

  std::array<RefPtr<Cgroup>, kMaxHierarchies> roots_;  // by slot
  RefPtr<CgroupNamespace> root_namespace_;
  int next_id_ = 1;
  int64_t groups_ = 0;
  bool watching_memory_ = false;
  Blocker memory_wake_;
  Timer cpu_timer_{[this](uint64_t) { CheckCpu(); }};
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_CGROUP_H_
