// SPDX-License-Identifier: Apache-2.0
// What a container uses, its limits, its pauses and its end.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "sentry/boot/container.h"
#include "sentry/boot/container_cgroup.h"

namespace sentry {

using kernel::Cgroups;
using runsc::control::ContainerState;

namespace {

constexpr int64_t kDestroyTimeoutNs = 5 * base::kNsPerSecond;

}  // namespace

absl::Status Container::SetPaused(bool paused) {
  base::MutexLock lock(mu_);
  ContainerState from = paused ? ContainerState::kRunning : ContainerState::kPaused;
  if (state_ != from) return absl::FailedPreconditionError(paused ? "container not running" : "container not paused");
  state_ = paused ? ContainerState::kPaused : ContainerState::kRunning;
  if (options_.is_alone) {
    paused ? kernel::Kernel::Get().Pause() : kernel::Kernel::Get().Unpause();
    return absl::OkStatus();
  }
  const RefPtr<kernel::Cgroup> group = OwnCgroup();
  base::MutexLock tasks(Cgroups::mu());
  group->freeze = paused;
  Cgroups::Get().UpdateStopsLocked(*group);
  return absl::OkStatus();
}

absl::Status Container::Update(const runsc::control::ResourceUpdate& update) {
  const RefPtr<kernel::Cgroup> group = OwnCgroup();
  base::MutexLock tasks(Cgroups::mu());
  auto limit = [](uint64_t value) { return value >= INT64_MAX ? kernel::kCgroupNoLimit : static_cast<int64_t>(value); };
  if (update.max_tasks) group->pids.max = limit(*update.max_tasks);
  if (update.memory_limit_bytes && !Cgroups::Get().SetMemoryMaxLocked(*group, limit(*update.memory_limit_bytes)).ok())
    return absl::InternalError("the container has no control group of its own");
  return absl::OkStatus();
}

runsc::control::Stats Container::GetStats() {
  const RefPtr<kernel::Cgroup> group = OwnCgroup();
  const kernel::CgroupMemory memory = Cgroups::Get().MemoryOf(*group);
  runsc::control::Stats stats;
  stats.memory_bytes = static_cast<uint64_t>(memory.Usage());
  stats.memory_limit_bytes = memory.max == kernel::kCgroupNoLimit ? 0 : static_cast<uint64_t>(memory.max);
  {
    base::MutexLock tasks(Cgroups::mu());
    const kernel::CgroupCpuUsage usage = group->CpuUsage();
    stats.cpu_ns = static_cast<uint64_t>(usage.user_ns + usage.system_ns);
    stats.pids = static_cast<uint64_t>(group->pids.current);
  }
  base::MutexLock lock(mu_);
  stats.oom_kills = oom_kills_;
  return stats;
}

void Container::CountOomKill() {
  std::vector<runsc::control::CountDone> waiters;
  uint64_t kills;
  {
    base::MutexLock lock(mu_);
    kills = ++oom_kills_;
    waiters.swap(oom_waiters_);
  }
  for (auto& done : waiters) done(kills);
}

void Container::WaitOom(uint64_t seen, runsc::control::CountDone done) {
  absl::StatusOr<uint64_t> answer;
  {
    base::MutexLock lock(mu_);
    answer = oom_kills_;
    if (oom_kills_ <= seen) {
      if (state_ != ContainerState::kStopped) {
        // Of callers that have gone, too: bounded.
        if (oom_waiters_.size() >= kMaxOomWaiters) oom_waiters_.erase(oom_waiters_.begin());
        oom_waiters_.push_back(std::move(done));
        return;
      }
      answer = absl::NotFoundError("container not running");
    }
  }
  done(std::move(answer));
}

void Container::WatchGofers(std::function<void()> lost) {
  // Their own: the connections may end under the watch.
  std::vector<base::UniqueFd> sockets;
  for (const GoferLink& gofer : tree_.gofers) sockets.emplace_back(fcntl(gofer.socket(), F_DUPFD_CLOEXEC, 3));
  std::thread([sockets = std::move(sockets), lost = std::move(lost)] {
    std::vector<pollfd> polled;
    for (const base::UniqueFd& fd : sockets) polled.push_back({.fd = fd.get(), .events = 0, .revents = 0});
    for (;;) {
      if (poll(polled.data(), polled.size(), -1) < 0) {
        if (errno == EINTR) continue;
        FATAL("gofer watch: poll: %s", Errno::Last().Name());
      }
      for (const pollfd& p : polled) {
        if (p.revents != 0) return lost();
      }
    }
  }).detach();
}

void Container::HangUp() {
  for (const GoferLink& gofer : tree_.gofers) gofer.HangUp();
}

void Container::Destroy() {
  End(SIGKILL);
  const int64_t deadline = base::MonotonicNs() + kDestroyTimeoutNs;
  for (const RefPtr<kernel::ThreadGroup>& group : ThreadGroups()) {
    if (group->HasExited()) continue;
    if (!group->WaitForExit(deadline))
      LOG_WARNING("container %s: process %d is slow to end", id_.c_str(), group->tgid());
  }
  if (!is_first()) RemoveContainerCgroup(OwnCgroup());
}

}  // namespace sentry
