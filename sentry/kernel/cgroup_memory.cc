// SPDX-License-Identifier: Apache-2.0
// Memory of control groups. Guests fault pages in without the sentry, so a group's memory is measured: the private
// memory of the address spaces whose (first) task is in it, each page once however many fork relatives share it, and
// what its tasks put into tmpfs and shared memory (mm/memory_charge.h). memory.max is kept by a thread that measures
// the groups with a limit: often when little is left, seldom otherwise, and not at all without one.
#include <signal.h>

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/memory_use.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

using platform::FileRange;

// The fastest a guest was seen to touch new pages, doubled: 4 bytes a nanosecond (boot/memory_watch.cc).
constexpr int64_t kBytesPerNs = 4;
constexpr int64_t kShortestNs = 2'000'000, kLongestNs = 500'000'000;
// While nothing grows the pause doubles up to this.
constexpr int64_t kLongestNearNs = 50'000'000;
constexpr int64_t kVictimPatienceNs = base::kNsPerSecond;

struct Member {
  RefPtr<Cgroup> group;
  RefPtr<ThreadGroup> process;
  RefPtr<mm::MemoryManager> mm;
  int64_t bytes = 0;
};

struct Piece {
  FileRange range;
  size_t member;
};

// The bytes behind each member's private memory; what several share is the first one's.
void MeasureMembers(std::vector<Member>& members) {
  std::vector<Piece> pieces;
  std::vector<FileRange> ranges;
  for (size_t i = 0; i < members.size(); ++i) {
    ranges.clear();
    members[i].mm->PrivateRanges(&ranges);
    for (const FileRange& range : ranges) pieces.push_back({range, i});
  }
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    return a.range.start != b.range.start ? a.range.start < b.range.start : a.member < b.member;
  });
  const platform::MemoryFile& memory = Kernel::Get().memory_file();
  uint64_t counted = 0;  // everything below
  for (size_t i = 0; i < pieces.size();) {
    FileRange run = {std::max(pieces[i].range.start, counted), pieces[i].range.end};
    const size_t member = pieces[i].member;
    // Neighbours of one member are asked about at once.
    for (++i; i < pieces.size() && pieces[i].member == member && pieces[i].range.start <= run.end; ++i)
      run.end = std::max(run.end, pieces[i].range.end);
    if (run.end <= run.start) continue;
    members[member].bytes += static_cast<int64_t>(memory.DataBytes(run));
    counted = run.end;
  }
}

void (*oom_hook)(const std::string& container_id) = nullptr;

int64_t Badness(const Member& member, int64_t limit) {
  const int adjust = member.process->oom_score_adj.load(std::memory_order_relaxed);
  if (adjust <= -1000) return 0;
  return std::max<int64_t>(member.bytes + limit / 1000 * adjust, 1);
}

}  // namespace

struct Cgroups::MemoryPicture {
  std::vector<Member> members;
};

void Cgroups::MeasureMemory(Cgroup& top, MemoryPicture* picture) {
  std::vector<Member>& members = picture->members;
  struct Shared {
    RefPtr<Cgroup> group;
    std::vector<RefPtr<mm::MemoryCharge>> charges;
    int64_t bytes = 0;
  };
  std::vector<Shared> groups;
  {
    MutexLock lock(mu());
    std::set<const mm::MemoryManager*> seen;
    top.ForEach([&](Cgroup& each) {
      groups.push_back({RefPtr<Cgroup>(&each), each.charges});
      for (Task* task : each.tasks_) {
        RefPtr<mm::MemoryManager> mm = task->mm_ref();
        if (mm && seen.insert(mm.get()).second)
          members.push_back({RefPtr<Cgroup>(&each), task->group_ref(), std::move(mm)});
      }
    });
  }
  MeasureMembers(members);
  for (Shared& each : groups) {
    for (const RefPtr<mm::MemoryCharge>& charge : each.charges) each.bytes += charge->Measure();
  }
  MutexLock lock(mu());
  for (const Shared& each : groups) each.group->memory.anonymous = each.group->memory.shared = 0;
  auto add = [&](Cgroup& group, int64_t CgroupMemory::*kind, int64_t bytes) {
    for (Cgroup* at = &group; at; at = at == &top ? nullptr : at->parent()) at->memory.*kind += bytes;
  };
  for (const Member& member : members) add(*member.group, &CgroupMemory::anonymous, member.bytes);
  for (const Shared& each : groups) add(*each.group, &CgroupMemory::shared, each.bytes);
  for (const Shared& each : groups) {
    CgroupMemory& memory = each.group->memory;
    memory.peak = std::max(memory.peak, memory.Usage());
  }
}

CgroupMemory Cgroups::MemoryOf(Cgroup& group) {
  MemoryPicture picture;
  MeasureMemory(group, &picture);
  MutexLock lock(mu());
  return group.memory;
}

uint64_t SharedMemoryInUse() {
  std::vector<RefPtr<mm::MemoryCharge>> charges;
  {
    MutexLock lock(Cgroups::mu());
    for (const RefPtr<Cgroup>& root : Cgroups::Get().RootsLocked())
      root->ForEach([&](Cgroup& each) { charges.insert(charges.end(), each.charges.begin(), each.charges.end()); });
  }
  int64_t bytes = 0;
  for (const RefPtr<mm::MemoryCharge>& charge : charges) bytes += charge->Measure();
  return bytes > 0 ? static_cast<uint64_t>(bytes) : 0;
}

void Cgroups::SetOomHook(void (*hook)(const std::string& container_id)) { oom_hook = hook; }

void Cgroups::CountOom(Cgroup& limited, Cgroup& of_victim) {
  auto tell = [](Cgroup* from) {
    for (Cgroup* at = from; at; at = at->parent()) at->Notify(CgroupEvent::kMemoryEvents);
  };
  ++limited.memory.own_max_events;
  ++limited.memory.own_oom_events;
  ++limited.memory.failures;
  for (Cgroup* at = &limited; at; at = at->parent()) {
    ++at->memory.max_events;
    ++at->memory.oom_events;
  }
  ++of_victim.memory.own_oom_kills;
  for (Cgroup* at = &of_victim; at; at = at->parent()) ++at->memory.oom_kills;
  tell(&of_victim);
  if (&limited != &of_victim) tell(&limited);
}

RefPtr<ThreadGroup> Cgroups::KeepLimit(Cgroup& group) {
  MemoryPicture picture;
  MeasureMemory(group, &picture);
  RefPtr<ThreadGroup> victim;
  {
    MutexLock lock(mu());
    if (group.memory.Usage() <= group.memory.max || group.removed) return nullptr;
    const Member* worst = nullptr;
    int64_t most = 0;
    for (const Member& member : picture.members) {
      if (member.process->state().has_exited.load(std::memory_order_acquire)) continue;
      const int64_t badness = Badness(member, group.memory.max);
      if (badness <= most) continue;
      most = badness;
      worst = &member;
    }
    if (!worst) return nullptr;
    CountOom(group, *worst->group);
    victim = worst->process;
    LOG_WARNING("out of memory in cgroup %s: killed process %d", group.PathFrom(*group.hierarchy().root).c_str(),
                victim->tgid());
    if (group.memory.oom_group) {
      for (Cgroup* at = &group; at; at = at->parent()) ++at->memory.oom_group_kills;
      KillLocked(group);
    }
  }
  (void)victim->SendSignal(KernelSignal(SIGKILL)).ok();
  if (oom_hook) oom_hook(victim->container_id());
  return victim;
}

void Cgroups::WatchMemory() {
  int64_t pause = kShortestNs, total_before = 0;
  for (;;) {
    std::vector<RefPtr<Cgroup>> limited;
    {
      MutexLock lock(mu());
      for (const RefPtr<Cgroup>& root : RootsLocked()) {
        if (!(root->hierarchy().controllers & kMemory)) continue;
        root->ForEach([&](Cgroup& group) {
          const bool has_limit = group.memory.max != kCgroupNoLimit && !group.memory.is_outside;
          if (has_limit && group.IsPopulated()) limited.emplace_back(&group);
        });
      }
    }
    int64_t left = INT64_MAX, total = 0;
    for (const RefPtr<Cgroup>& group : limited) {
      if (RefPtr<ThreadGroup> victim = KeepLimit(*group)) {
        // Its memory comes back when its last thread is through.
        (void)victim->WaitForExit(base::MonotonicNs() + kVictimPatienceNs);
        left = 0;
        total_before = 0;
        continue;
      }
      MutexLock lock(mu());
      left = std::min(left, std::max<int64_t>(group->memory.max - group->memory.Usage(), 0));
      total += group->memory.Usage();
    }
    const int64_t wanted = std::clamp(left / kBytesPerNs, kShortestNs, kLongestNs);
    pause = total <= total_before ? std::max(wanted, std::min(pause * 2, kLongestNearNs)) : wanted;
    total_before = total;
    // Woken by a new limit, and by a task that comes to a group with one.
    (void)memory_wake_.Wait(limited.empty() ? kNoDeadline : base::MonotonicNs() + pause);
  }
}

void Cgroups::WatchMemoryLocked(const Cgroup& group) {
  for (const Cgroup* at = &group; at; at = at->parent()) {
    if (at->memory.max == kCgroupNoLimit || at->memory.is_outside) continue;
    if (!std::exchange(watching_memory_, true)) std::thread([this] { WatchMemory(); }).detach();
    memory_wake_.Wake();
    return;
  }
}

Result<void> Cgroups::SetMemoryMaxLocked(Cgroup& group, int64_t max) {
  if (group.IsRoot()) return Errno(EINVAL);
  group.memory.max = max;
  group.memory.is_outside = false;
  WatchMemoryLocked(group);
  return OkResult();
}

RefPtr<mm::MemoryCharge> Cgroups::ChargeOfCaller() {
  const Task* task = Task::CurrentOrNull();
  TaskCgroups* cgroups = task ? task->internal().cgroups.get() : nullptr;
  if (!cgroups) return nullptr;
  MutexLock lock(cgroups->charge_mu);
  return cgroups->charge;
}

}  // namespace sentry::kernel
