// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/service.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "platform/systrap/futex.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

namespace platform::systrap {
namespace {

constexpr uint64_t kSyncWakeUp = 1;  // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, since Linux 6.6
// A stub that isn't ready by then never will be.
constexpr int64_t kStartTimeoutNs = 10 * base::kNsPerSecond;
constexpr int kStoppedMs = 100;
// A parked thread's notification comes at once, unless the guest has led it elsewhere.
constexpr int64_t kParkTimeoutNs = base::kNsPerSecond / 20;
constexpr int64_t kStartPollNs = base::kNsPerSecond / 50;

}  // namespace

base::Result<void> Service::Start(Control* control, pid_t pid) {
  control_ = control;
  pid_ = pid;
  int64_t deadline = base::MonotonicNs() + kStartTimeoutNs;
  while (control->ready.load(std::memory_order_acquire) == 0) {
    FutexWait(&control->ready, 0, kStartPollNs);
    if (kill(pid, 0) != 0 || base::MonotonicNs() > deadline) return base::Errno(ESRCH);
  }
  if (control->listener < 0) return base::Errno(-control->listener);
  listener_.Reset(control->listener);
  // Hand-overs stay on the caller's CPU. An older kernel does without.
  ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SET_FLAGS, kSyncWakeUp);
  return Receive();
}

base::Result<void> Service::Receive() {
  for (;;) {
    // The ioctl alone would sleep for ever on the notifications of a dead process on kernels before 6.11.
    pollfd polled = {.fd = listener_.get(), .events = POLLIN};
    int n = poll(&polled, 1, kStoppedMs);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::Errno::Last();
    if (n == 0) {
      // Busy, or stopped by somebody outside: then the sentry would wait for ever.
      kill(pid_, SIGCONT);
      continue;
    }
    if ((polled.revents & POLLIN) == 0) return base::Errno(ESRCH);
    seccomp_notif notification = {};
    if (ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &notification) != 0) {
      // ENOENT: killed meanwhile; the next poll tells.
      if (errno == EINTR || errno == ENOENT) continue;
      return base::Errno(ESRCH);
    }
    // A guest thread's, out of turn: it stays where it is.
    if (notification.pid != static_cast<uint32_t>(pid_)) continue;
    pending_ = notification.id;
    result_ = notification.data.args[0];
    done_ = notification.data.args[1];
    return base::OkResult();
  }
}

base::Result<uint64_t> Service::AwaitThread(pid_t tid, uint64_t ip, uint64_t argument,
                                            const std::atomic<uint32_t>& state) {
  if (!listener_) return base::Errno(ESRCH);
  int64_t deadline = base::MonotonicNs() + kParkTimeoutNs;
  for (;;) {
    pollfd polled = {.fd = listener_.get(), .events = POLLIN};
    int n = poll(&polled, 1, 1);
    if ((polled.revents & (POLLHUP | POLLERR)) != 0) return base::Errno(ESRCH);
    if (n == 1) {
      seccomp_notif notification = {};
      if (ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &notification) == 0 &&
          notification.pid == static_cast<uint32_t>(tid) && notification.data.nr == SYS_NOTIFY &&
          notification.data.arch == AUDIT_ARCH_X86_64 && notification.data.instruction_pointer == ip &&
          notification.data.args[0] == argument) {
        return notification.id;
      }
    }
    bool event = (state.load(std::memory_order_relaxed) & STATE_EVENT) != 0;
    if (event || base::MonotonicNs() > deadline) return base::Errno(ETIMEDOUT);
  }
}

base::Result<void> Service::LetGo(uint64_t notification) {
  seccomp_notif_resp response = {};
  response.id = notification;
  while (ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) != 0) {
    if (errno != EINTR) return base::Errno(errno);
  }
  return base::OkResult();
}

base::Result<Service::Outcome> Service::Run(std::span<const Order> orders) {
  CHECK_THAT(!orders.empty() && orders.size() <= MAX_ORDERS);
  if (!listener_) return base::Errno(ESRCH);
  std::copy(orders.begin(), orders.end(), control_->orders);
  control_->count = static_cast<uint32_t>(orders.size());
  seccomp_notif_resp response = {};
  response.id = pending_;
  // A barrier for both: the answer wakes the thread after the orders were written.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  while (ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) != 0) {
    if (errno == EINTR) continue;
    if (errno != ENOENT) return base::Errno(ESRCH);
    // Dead; or stopped by somebody outside, which withdraws the notification until the thread goes on and repeats it.
    kill(pid_, SIGCONT);
    TRY(Receive());
    response.id = pending_;
  }
  TRY(Receive());
  Outcome outcome = {.done = done_, .result = result_};
  if (done_ != orders.size()) outcome.error = base::Errno(static_cast<int>(-static_cast<int64_t>(result_)));
  return outcome;
}

}  // namespace platform::systrap
