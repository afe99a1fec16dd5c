// SPDX-License-Identifier: Apache-2.0
#include "platform/ptrace/stub_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "base/errno.h"
#include "base/log.h"

namespace platform::ptrace {

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

void StubWatch::Start(std::function<void(pid_t)> on_death) {
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
    bool watched;
    {
      base::MutexLock lock(mu_);
      watched = pidfds_.erase(pid) > 0;
    }
    if (watched) on_death_(pid);
  }
}

}  // namespace platform::ptrace
