// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/host/host_poller.h"

#include <poll.h>
#include <sys/epoll.h>

#include <thread>

#include "base/log.h"

namespace sentry::fs {
namespace {
HostPoller* poller = nullptr;
}

Result<void> HostPoller::Start() {
  UniqueFd fd(epoll_create1(EPOLL_CLOEXEC));
  if (!fd) return Errno::Last();
  poller = new HostPoller(std::move(fd));
  return OkResult();
}

HostPoller& HostPoller::Get() { return *poller; }

bool HostPoller::Add(int fd, WaitQueue& queue) {
  MutexLock lock(mu_);
  epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET, .data = {.fd = fd}};
  if (epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return false;
  queues_[fd] = &queue;
  if (!running_) {
    running_ = true;
    std::thread([this] { Run(); }).detach();
  }
  return true;
}

void HostPoller::Remove(int fd) {
  MutexLock lock(mu_);
  epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
  queues_.erase(fd);
}

void HostPoller::Run() {
  for (;;) {
    epoll_event events[16];
    int n = epoll_wait(epoll_fd_.get(), events, 16, -1);
    if (n < 0) {
      if (errno == EINTR) continue;
      FATAL("host poller: epoll_wait: %s", Errno::Last().Name());
    }
    MutexLock lock(mu_);
    for (int i = 0; i < n; ++i) {
      auto it = queues_.find(events[i].data.fd);
      if (it == queues_.end()) continue;
      EventMask mask = events[i].events;
      if (mask & EPOLLIN) mask |= kEventIn;
      if (mask & EPOLLOUT) mask |= kEventOut;
      it->second->Notify(mask);
    }
  }
}

EventMask PollHostFd(int fd) {
  pollfd p{.fd = fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP, .revents = 0};
  if (poll(&p, 1, 0) < 0) return EPOLLERR;
  EventMask mask = static_cast<EventMask>(p.revents);
  if (mask & EPOLLIN) mask |= kEventIn;
  if (mask & EPOLLOUT) mask |= kEventOut;
  return mask;
}

}  // namespace sentry::fs
