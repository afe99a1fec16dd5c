// SPDX-License-Identifier: Apache-2.0
#include "platform/ptrace/stub_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "base/errno.h"
#include "base/log.h"

namespace platform::ptrace {
namespace {

// linux/pidfd.h of Linux 6.15.
struct PidfdInfo {
  uint64_t mask;
  uint64_t cgroup;
  uint32_t pid, tgid, ppid, ids[8];
  int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);
constexpr unsigned long kGetInfo = _IOWR(0xff, 11, PidfdInfo);
constexpr uint64_t kInfoExit = 1 << 3;

// What killed the process of a pidfd that is ready; 0: not known. It is told once it is reaped,
// which is a moment later.
int DeathSignal(int pidfd) {
  constexpr int kTries = 100;
  for (int i = 0; i < kTries; ++i) {
    PidfdInfo info = {.mask = kInfoExit};
    if (ioctl(pidfd, kGetInfo, &info) != 0) return 0;
    if ((info.mask & kInfoExit) != 0) return WIFSIGNALED(info.exit_code) ? WTERMSIG(info.exit_code) : 0;
    sched_yield();
  }
  return 0;
}

}  // namespace

StubWatch::StubWatch() : epoll_fd_(epoll_create1(EPOLL_CLOEXEC)) {}

void StubWatch::Add(pid_t pid, pid_t service_tid) {
  if (!epoll_fd_) return;
  constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, service_tid, kPidfdThread)));
  if (!pidfd) pidfd.Reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd) return;
  base::MutexLock lock(mu_);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = static_cast<uint64_t>(pid)}};
  if (epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, pidfd.get(), &event) == 0) pidfds_[pid] = std::move(pidfd);
}

void StubWatch::Remove(pid_t pid) {
  base::UniqueFd closed;  // which takes it out of the epoll instance
  base::MutexLock lock(mu_);
  auto it = pidfds_.find(pid);
  if (it == pidfds_.end()) return;
  closed = std::move(it->second);
  pidfds_.erase(it);
}

void StubWatch::Start(DeathCallback on_death) {
  if (!epoll_fd_) return;
  on_death_ = std::move(on_death);
  std::thread([this] { Run(); }).detach();
}

void StubWatch::Run() {
  for (;;) {
    epoll_event event;
    int n = epoll_wait(epoll_fd_.get(), &event, 1, -1);
    if (n < 0 && errno != EINTR) {
      LOG_ERROR("stub watch: epoll_wait: %s", base::Errno::Last().Name());
      return;
    }
    if (n != 1) continue;
    pid_t pid = static_cast<pid_t>(event.data.u64);
    base::UniqueFd pidfd;
    {
      base::MutexLock lock(mu_);
      auto it = pidfds_.find(pid);
      if (it == pidfds_.end()) continue;
      pidfd = std::move(it->second);
      pidfds_.erase(it);
    }
    on_death_(pid, DeathSignal(pidfd.get()));
  }
}

}  // namespace platform::ptrace
