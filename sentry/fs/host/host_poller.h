// SPDX-License-Identifier: Apache-2.0
// One thread that waits for events on host descriptors and passes them to WaitQueues (edge-triggered: it sleeps while
// nothing changes). Thread-safe.
#ifndef SENTRY_FS_HOST_HOST_POLLER_H_
#define SENTRY_FS_HOST_HOST_POLLER_H_

#include <atomic>
#include <map>
#include <memory>

#include "sentry/common.h"
#include "sentry/kernel/core/wait_queue.h"

namespace sentry::fs {

class HostPoller {
 public:
  // Opens the epoll instance; the thread starts with the first registration. Call once, at boot.
  static Result<void> Start();
  static HostPoller& Get();

  // Events of `fd` go to `queue` until Remove. False if the host can't poll it (a regular file): it is always ready.
  bool Add(int fd, WaitQueue& queue);
  // No notification is running or starts after this returns.
  void Remove(int fd);

 private:
  explicit HostPoller(UniqueFd epoll_fd) : epoll_fd_(std::move(epoll_fd)) {}
  void Run();

  UniqueFd epoll_fd_;
  // Taken around Notify so that Remove can wait; below kWaitQueue in order.
  Mutex mu_{LockRank::kNamespace};
  std::map<int, WaitQueue*> queues_ ABSL_GUARDED_BY(mu_);
  bool running_ ABSL_GUARDED_BY(mu_) = false;
};

// What poll(2) says of a host descriptor now.
EventMask PollHostFd(int fd);

}  // namespace sentry::fs

#endif  // SENTRY_FS_HOST_HOST_POLLER_H_
