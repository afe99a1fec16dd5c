// SPDX-License-Identifier: Apache-2.0
// Tasks in control groups: birth, moves, end, and the stops that a group imposes on them.
#include <signal.h>

#include <algorithm>

#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

CgroupCpuUsage UsageOf(const Task& task) {
  const CpuUsage usage = task.usage();
  return {usage.user_ns, usage.system_ns};
}

void AddSince(CgroupCpuUsage& total, const CgroupCpuUsage& now, const CgroupCpuUsage& base) {
  total.user_ns += std::max<int64_t>(now.user_ns - base.user_ns, 0);
  total.system_ns += std::max<int64_t>(now.system_ns - base.system_ns, 0);
}

Cgroup& PlaceOfChild(Cgroup& root, const Task* parent, Cgroup* into) {
  if (into && &into->hierarchy() == &root.hierarchy()) return *into;
  return parent ? Cgroups::Of(*parent, root.hierarchy()) : root;
}

// A process may not be in a group that hands resources out, lest it compete with the group's children.
Result<void> CheckDestination(const Cgroup& to) {
  if (to.removed) return Errno(ENODEV);
  if (!to.IsV2()) {
    const bool is_cpuset = to.hierarchy().controllers & kCpuset;
    return is_cpuset && !to.IsRoot() && (to.cpus.empty() || to.mems.empty()) ? Result<void>(Errno(ENOSPC)) : OkResult();
  }
  if (!to.Domain().IsValidDomain()) return Errno(EOPNOTSUPP);
  if (to.CanBeThreadRoot() || to.threaded) return OkResult();
  return to.subtree_control ? Result<void>(Errno(EBUSY)) : OkResult();
}

}  // namespace

Cgroup& Cgroups::Of(const Task& task, const CgroupHierarchy& hierarchy) {
  const TaskCgroups* cgroups = task.internal().cgroups.get();
  Cgroup* group = cgroups ? cgroups->places[static_cast<size_t>(hierarchy.slot)].group.get() : nullptr;
  return group && &group->hierarchy() == &hierarchy ? *group : *hierarchy.root;
}

void Cgroups::Enter(Task& task, RefPtr<Cgroup> group) {
  TaskCgroups& cgroups = *task.internal().cgroups;
  const CgroupHierarchy& hierarchy = group->hierarchy();
  TaskCgroups::Place& place = cgroups.places[static_cast<size_t>(hierarchy.slot)];
  place.group = std::move(group);
  place.base = UsageOf(task);
  bool first = false;  // of a group that had none: nobody watches it yet
  for (Cgroup* at = place.group.get(); at; at = at->parent()) {
    at->pids.peak = std::max(at->pids.peak, ++at->pids.current);
    if (!cgroups.live) continue;
    at->parked += cgroups.parked;
    if (++at->live != 1) continue;
    first = true;
    at->Notify(CgroupEvent::kEvents);
  }
  if (!cgroups.live) return;
  place.group->tasks_.insert(&task);
  if (hierarchy.controllers & kMemory) SetCharge(cgroups);
  if (first && (hierarchy.controllers & kMemory)) WatchMemoryLocked(*place.group);
  if (first && (hierarchy.controllers & kCpu)) WatchCpuLocked(*place.group);
}

void Cgroups::SetCharge(TaskCgroups& cgroups) {
  RefPtr<mm::MemoryCharge> charge;
  for (const TaskCgroups::Place& place : cgroups.places) {
    if (place.group && (place.group->hierarchy().controllers & kMemory)) charge = place.group->charges[0];
  }
  MutexLock lock(cgroups.charge_mu);
  std::swap(cgroups.charge, charge);
}

// The other way round. A zombie has a place in pids only.
void Cgroups::Leave(Task& task, TaskCgroups::Place& place) {
  const TaskCgroups& cgroups = *task.internal().cgroups;
  const RefPtr<Cgroup> group = std::move(place.group);
  for (Cgroup* at = group.get(); at; at = at->parent()) --at->pids.current;
  if (!cgroups.live) return;
  group->tasks_.erase(&task);
  AddSince(group->gone, UsageOf(task), place.base);
  for (Cgroup* at = group.get(); at; at = at->parent()) {
    at->parked -= cgroups.parked;
    if (--at->live == 0) at->Notify(CgroupEvent::kEvents);
  }
}

Result<void> Cgroups::CheckForkLocked(const Task* parent, Cgroup* into, bool is_thread) {
  if (into) {
    TRY(CheckDestination(*into));
    if (is_thread && parent && &Of(*parent, into->hierarchy()).Domain() != &into->Domain()) return Errno(EOPNOTSUPP);
  }
  for (const RefPtr<Cgroup>& root : roots_) {
    if (!root || !(root->hierarchy().controllers & kPids)) continue;
    Cgroup& place = PlaceOfChild(*root, parent, into);
    for (Cgroup* at = &place; at; at = at->parent()) {
      if (at->pids.current < at->pids.max) continue;
      ++place.pids.refused;
      place.Notify(CgroupEvent::kPidsEvents);
      return Errno(EAGAIN);
    }
  }
  return OkResult();
}

void Cgroups::ForkLocked(Task& child, const Task* parent, Cgroup* into) {
  child.internal().cgroups = std::make_unique<TaskCgroups>();
  child.internal().cgroups->live = true;
  for (const RefPtr<Cgroup>& root : RootsLocked()) {
    Cgroup& place = PlaceOfChild(*root, parent, into);
    Enter(child, RefPtr<Cgroup>(&place));
    for (Cgroup* at = &place; at; at = at->parent()) UpdateFrozen(*at);
  }
  UpdateStops(child);
}

void Cgroups::ExitLocked(Task& task) {
  TaskCgroups* cgroups = task.internal().cgroups.get();
  if (!cgroups || !cgroups->live) return;
  for (TaskCgroups::Place& place : cgroups->places) {
    if (!place.group) continue;
    Cgroup& group = *place.group;
    group.tasks_.erase(&task);
    AddSince(group.gone, UsageOf(task), place.base);
    for (Cgroup* at = &group; at; at = at->parent()) {
      at->parked -= cgroups->parked;
      if (--at->live == 0) at->Notify(CgroupEvent::kEvents);
      UpdateFrozen(*at);
    }
  }
  cgroups->live = cgroups->parked = false;
}

void Cgroups::ReleaseLocked(Task& task) {
  TaskCgroups* cgroups = task.internal().cgroups.get();
  if (!cgroups) return;
  ExitLocked(task);
  for (TaskCgroups::Place& place : cgroups->places) {
    if (place.group) Leave(task, place);
  }
}

Result<void> Cgroups::CheckMoveLocked(const std::vector<Task*>& tasks, Cgroup& to, bool whole_process) const {
  TRY(CheckDestination(to));
  if (!to.IsV2() || whole_process) return OkResult();
  for (Task* task : tasks) {
    if (&Of(*task, to.hierarchy()).Domain() != &to.Domain()) return Errno(EOPNOTSUPP);
  }
  return OkResult();
}

Result<void> Cgroups::MoveLocked(const std::vector<Task*>& tasks, Cgroup& to, bool whole_process) {
  TRY(CheckMoveLocked(tasks, to, whole_process));
  for (Task* task : tasks) {
    TaskCgroups* cgroups = task->internal().cgroups.get();
    const RefPtr<Cgroup> from(&Of(*task, to.hierarchy()));
    if (!cgroups || !cgroups->live || from.get() == &to) continue;
    Leave(*task, cgroups->places[static_cast<size_t>(to.hierarchy().slot)]);
    Enter(*task, RefPtr<Cgroup>(&to));
    UpdateStops(*task);
    for (Cgroup* at = from.get(); at; at = at->parent()) UpdateFrozen(*at);
  }
  for (Cgroup* at = &to; at; at = at->parent()) UpdateFrozen(*at);
  return OkResult();
}

void Cgroups::UpdateFrozen(Cgroup& group) {
  const bool frozen = group.IsFrozen();
  if (std::exchange(group.frozen_shown, frozen) != frozen) group.Notify(CgroupEvent::kEvents);
}

void Cgroups::UpdateStops(Task& task) {
  Task::Internal& internal = task.internal();
  uint32_t wanted = 0;
  for (const RefPtr<Cgroup>& root : roots_) {
    if (!root) continue;
    const Cgroup& group = Of(task, root->hierarchy());
    if (group.IsFreezing()) wanted |= kWorkFreeze;
    if (group.IsThrottled()) wanted |= kWorkThrottle;
  }
  constexpr uint32_t kBoth = kWorkFreeze | kWorkThrottle;
  const uint32_t now = internal.work.load(std::memory_order_acquire) & kBoth;
  if (wanted & ~now & kWorkFreeze) Task::Internal::AddWork(task, kWorkFreeze);
  if (wanted & ~now & kWorkThrottle) Task::Internal::AddThrottle(task);
  if (now & ~wanted) {
    internal.work.fetch_and(~(now & ~wanted), std::memory_order_seq_cst);
    if ((now & ~wanted & kWorkFreeze) && std::exchange(internal.cgroups->parked, false)) {
      for (const TaskCgroups::Place& place : internal.cgroups->places) {
        for (Cgroup* at = place.group.get(); at; at = at->parent()) --at->parked;
      }
    }
    if (internal.parked.load(std::memory_order_seq_cst)) Task::Internal::Kick(task);
  }
}

void Cgroups::UpdateStopsLocked(Cgroup& group) {
  group.ForEach([&](Cgroup& each) {
    for (Task* task : each.tasks_) UpdateStops(*task);
  });
  group.ForEach([&](Cgroup& each) { UpdateFrozen(each); });
}

void Cgroups::KillLocked(Cgroup& group) {
  group.ForEach([](Cgroup& each) {
    for (Task* task : each.tasks_) {
      SignalLock signals(task->group());
      Task::Internal::ExitGroupLocked(task->group(), {.signal = SIGKILL});
    }
  });
}

void Cgroups::OnParked(Task& task) {
  MutexLock lock(mu());
  TaskCgroups* cgroups = task.internal().cgroups.get();
  if (!cgroups || !cgroups->live || cgroups->parked) return;
  if (!(task.internal().work.load(std::memory_order_acquire) & kWorkFreeze)) return;
  cgroups->parked = true;
  for (const TaskCgroups::Place& place : cgroups->places) {
    for (Cgroup* at = place.group.get(); at; at = at->parent()) {
      ++at->parked;
      Get().UpdateFrozen(*at);
    }
  }
}

}  // namespace sentry::kernel
