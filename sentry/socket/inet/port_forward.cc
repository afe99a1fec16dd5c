// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/inet/port_forward.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "sentry/kernel/core/wait_queue.h"
#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::socket {
namespace {

constexpr int64_t kConnectNs = 25 * base::kNsPerSecond;
constexpr int kMaxForwards = 256;
constexpr size_t kChunk = 64 << 10;

std::atomic<int> forwards{0};

// Wakes the thread of each direction.
class Events final : public net::Observer {
 public:
  void OnEvents(uint32_t) override {
    to_guest.Wake();
    from_guest.Wake();
  }
  Blocker to_guest, from_guest;
};

class Forward {
 public:
  Forward(RefPtr<net::TcpEndpoint> endpoint, RefPtr<Events> events, base::UniqueFd host)
      : endpoint_(std::move(endpoint)), events_(std::move(events)), host_(std::move(host)) {}
  ~Forward() {
    Close();
    forwards.fetch_sub(1, std::memory_order_relaxed);
  }

  void ToGuest() {
    auto buffer = std::make_unique<uint8_t[]>(kChunk);
    for (;;) {
      iovec part = {buffer.get(), kChunk};
      msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
      const ssize_t n = recvmsg(host_.get(), &message, 0);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      if (!Send(buffer.get(), static_cast<size_t>(n))) break;
    }
    (void)endpoint_->Shutdown(SHUT_WR).ok();
    // Nobody reads what the guest says once the other end is closed, not just shut down.
    pollfd gone{.fd = host_.get(), .events = 0};
    while (poll(&gone, 1, -1) < 0 && errno == EINTR) {
    }
    Close();
    events_->from_guest.Wake();
  }

  void FromGuest() {
    for (;;) {
      bool at_mark = false;
      auto data = endpoint_->Peek(0, kChunk, &at_mark);
      if (!data.ok() && data.error() == Errno(EAGAIN)) {
        events_->from_guest.Wait(kNoDeadline);
        continue;
      }
      if (!data.ok()) {
        shutdown(host_.get(), SHUT_RDWR);
        return;
      }
      if (data->empty()) {
        shutdown(host_.get(), SHUT_WR);
        return;
      }
      const std::string bytes = data->ToString();
      if (!Receive(bytes)) {
        shutdown(host_.get(), SHUT_RDWR);
        return;
      }
      endpoint_->Consume(bytes.size());
    }
  }

 private:
  void Close() {
    if (!closed_.exchange(true)) endpoint_->Close(false);
  }
  // False: the guest's end takes no more.
  bool Send(const uint8_t* data, size_t length) {
    while (length > 0) {
      bool at_end = false;
      auto room = endpoint_->ReserveSend(length, &at_end);
      if (!room.ok() && room.error() == Errno(EAGAIN)) {
        events_->to_guest.Wait(kNoDeadline);
        continue;
      }
      if (!room.ok()) return false;
      const size_t n = std::min(*room, length);
      net::Buffer block = net::Buffer::Copy(data, n);
      // Out of blocks: others give some back.
      if (n == 0 || block.size() != n) {
        events_->to_guest.Wait(base::MonotonicNs() + base::kNsPerSecond / 10);
        continue;
      }
      if (!endpoint_->Append(std::move(block), false, false).ok()) return false;
      data += n;
      length -= n;
    }
    return true;
  }
  bool Receive(const std::string& bytes) {
    for (size_t done = 0; done < bytes.size();) {
      iovec part = {const_cast<char*>(bytes.data()) + done, bytes.size() - done};
      msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
      const ssize_t n = sendmsg(host_.get(), &message, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      done += static_cast<size_t>(n);
    }
    return true;
  }

  const RefPtr<net::TcpEndpoint> endpoint_;
  const RefPtr<Events> events_;
  const base::UniqueFd host_;
  std::atomic<bool> closed_{false};
};

Result<RefPtr<net::TcpEndpoint>> Connect(net::Stack& stack, const net::SocketAddress& address, Events& events) {
  auto endpoint = MakeRef<net::TcpEndpoint>(stack, !address.ip.IsV4());
  endpoint->set_observer(RefPtr<net::Observer>(&events));
  const int64_t deadline = base::MonotonicNs() + kConnectNs;
  for (;;) {
    auto done = endpoint->Connect(address);
    if (done.ok()) return endpoint;
    if (done.error() == Errno(EINPROGRESS)) continue;
    if (done.error() == Errno(EALREADY) && events.to_guest.Wait(deadline)) continue;
    endpoint->Close(true);
    return done.error() == Errno(EALREADY) ? Errno(ETIMEDOUT) : done.error();
  }
}

// Signals of the host are for other threads.
template <typename Body>
void StartThread(Body body) {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  std::thread(std::move(body)).detach();
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

}  // namespace

Result<void> ForwardPort(RefPtr<net::Stack> stack, uint16_t port, base::UniqueFd host) {
  if (forwards.fetch_add(1, std::memory_order_relaxed) >= kMaxForwards) {
    forwards.fetch_sub(1, std::memory_order_relaxed);
    return Errno(EAGAIN);
  }
  auto events = MakeRef<Events>();
  auto endpoint = Connect(*stack, {net::IpAddress::LoopbackV4(), port}, *events);
  if (!endpoint.ok() && endpoint.error() == Errno(ECONNREFUSED))
    endpoint = Connect(*stack, {net::IpAddress::LoopbackV6(), port}, *events);
  if (!endpoint.ok()) {
    forwards.fetch_sub(1, std::memory_order_relaxed);
    return endpoint.error();
  }
  auto forward = std::make_shared<Forward>(*endpoint, std::move(events), std::move(host));
  StartThread([forward] { forward->ToGuest(); });
  StartThread([forward] { forward->FromGuest(); });
  return OkResult();
}

}  // namespace sentry::socket
