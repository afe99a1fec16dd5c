// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/memory_watch.h"

#include <signal.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "sentry/kernel/kernel.h"

namespace sentry {
namespace {

// The fastest a guest was seen to touch new pages, doubled: 4 bytes a nanosecond.
constexpr uint64_t kBytesPerNs = 4;
constexpr int64_t kShortestNs = 2'000'000, kLongestNs = 500'000'000;

std::atomic<uint64_t> watched_limit{UINT64_MAX};
std::function<void(const std::string&)> on_kill;

void SleepNs(int64_t ns) {
  timespec ts = base::ToTimespec(ns);
  clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, nullptr);
}

// False when there is nobody to kill.
bool KillLargest() {
  kernel::Kernel& kernel = kernel::Kernel::Get();
  RefPtr<kernel::ThreadGroup> victim;
  uint64_t most = 0;
  for (const auto& [pid, group] : kernel.tasks().ThreadGroups(*kernel.root_pid_ns())) {
    if (group->IsExiting()) continue;
    auto leader = group->leader();
    RefPtr<mm::MemoryManager> mm = leader ? leader->mm_ref() : nullptr;
    if (!mm) continue;
    // oom_score_adj works as on Linux: a share of all memory, and -1000 spares the process.
    int adjust = group->oom_score_adj.load();
    if (adjust <= -1000) continue;
    int64_t points = static_cast<int64_t>(mm->GetUsage().resident_bytes) +
                     static_cast<int64_t>(kernel.options().total_memory / 1000) * adjust;
    uint64_t size = static_cast<uint64_t>(std::max<int64_t>(points, 1));
    if (size > most) {
      most = size;
      victim = group;
    }
  }
  if (!victim) return false;
  LOG_WARNING("out of memory: killed process %d, which used %lu MiB", victim->tgid(),
              static_cast<unsigned long>(most >> 20));
  (void)victim->SendSignal(kernel::KernelSignal(SIGKILL)).ok();
  if (on_kill) on_kill(victim->container_id());
  // Give it time to go: its memory comes back when its last thread is through.
  (void)victim->WaitForExit(base::MonotonicNs() + base::kNsPerSecond);
  return true;
}

}  // namespace

void OnOomKill(std::function<void(const std::string&)> callback) { on_kill = std::move(callback); }
void SetMemoryWatchLimit(uint64_t limit) {
  watched_limit.store(limit, std::memory_order_relaxed);
  kernel::Kernel::Get().memory_file().LimitChanged();
}

void StartMemoryWatch() {
  std::thread([] {
    for (;;) {
      platform::MemoryFile& memory = kernel::Kernel::Get().memory_file();
      memory.AwaitAllocated(watched_limit);
      uint64_t limit = watched_limit.load(std::memory_order_relaxed);
      uint64_t used = memory.UsedBytes();
      if (used > limit && KillLargest()) continue;
      uint64_t left = used < limit ? limit - used : 0;
      SleepNs(std::clamp(static_cast<int64_t>(left / kBytesPerNs), kShortestNs, kLongestNs));
    }
  }).detach();
}

}  // namespace sentry
