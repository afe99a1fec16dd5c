// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/inet/resolver_relay.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include <deque>
#include <string>
#include <thread>
#include <unordered_map>

#include "base/log.h"

namespace sentry::socket {
namespace {

using net::SocketAddress;

constexpr size_t kDnsHeader = 12, kMaxMessage = 65535, kMaxPending = 1024;
const SocketAddress kServer{net::IpAddress::V4(0x7f00000b), 53};

// All clients share the host's socket, so each query goes out with an id of its own, which finds its client again.
class ResolverRelay final : public net::UdpService {
 public:
  ResolverRelay(RefPtr<net::Stack> stack, base::UniqueFd socket)
      : stack_(std::move(stack)), socket_(std::move(socket)) {}

  void Receive(const SocketAddress& from, net::Buffer data) override {
    if (data.size() < kDnsHeader) return;
    std::string query = data.ToString();
    uint16_t id;
    memcpy(&id, query.data(), sizeof id);
    id = Remember(from, id);
    memcpy(query.data(), &id, sizeof id);
    iovec part = {query.data(), query.size()};
    msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    // ECONNREFUSED tells of an earlier one: the client asks again.
    (void)sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  void Run() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    std::string answer(kMaxMessage, '\0');
    for (;;) {
      iovec part = {answer.data(), answer.size()};
      msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
      const ssize_t n = recvmsg(socket_.get(), &message, 0);
      if (n < 0) {
        if (errno == EINTR || errno == ECONNREFUSED) continue;
        LOG_WARNING("the way to the name server is lost: recvmsg: %s", strerror(errno));
        return;
      }
      if (static_cast<size_t>(n) < kDnsHeader) continue;
      uint16_t id;
      memcpy(&id, answer.data(), sizeof id);
      Client client;
      if (!Take(id, &client)) continue;
      memcpy(answer.data(), &client.id, sizeof id);
      (void)stack_->SendUdp(kServer, client.address, net::Buffer::Copy(answer.data(), static_cast<size_t>(n))).ok();
    }
  }

 private:
  struct Client {
    SocketAddress address;
    uint16_t id = 0;
    uint64_t serial = 0;
  };

  uint16_t Remember(const SocketAddress& from, uint16_t id) {
    MutexLock lock(mu_);
    // Those that have had no answer for the longest time.
    while (pending_.size() >= kMaxPending) ForgetOldest();
    uint16_t own;
    do {
      own = static_cast<uint16_t>(stack_->environment().Random());
    } while (pending_.contains(own));
    pending_[own] = {from, id, ++serial_};
    order_.emplace_back(own, serial_);
    // Each that waits has a place in the order, and so have some that were answered.
    while (order_.size() > 4 * kMaxPending) ForgetOldest();
    return own;
  }

  void ForgetOldest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const auto [id, serial] = order_.front();
    order_.pop_front();
    auto it = pending_.find(id);
    if (it != pending_.end() && it->second.serial == serial) pending_.erase(it);
  }

  bool Take(uint16_t id, Client* client) {
    MutexLock lock(mu_);
    auto it = pending_.find(id);
    if (it == pending_.end()) return false;
    *client = it->second;
    pending_.erase(it);
    return true;
  }

  const RefPtr<net::Stack> stack_;
  const base::UniqueFd socket_;
  Mutex mu_{LockRank::kNetDevice};
  std::unordered_map<uint16_t, Client> pending_ ABSL_GUARDED_BY(mu_);
  std::deque<std::pair<uint16_t, uint64_t>> order_ ABSL_GUARDED_BY(mu_);
  uint64_t serial_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace

void StartResolverRelay(RefPtr<net::Stack> stack, base::UniqueFd socket) {
  auto relay = MakeRef<ResolverRelay>(stack, std::move(socket));
  stack->SetUdpService(kServer, relay);
  std::thread([relay] { relay->Run(); }).detach();
}

}  // namespace sentry::socket
