// SPDX-License-Identifier: Apache-2.0
// Connections that a listener has: those in their handshake and those that wait for accept(2). Shared by the listener
// and its children, each under the other's lock at most: its own lock comes after an endpoint's. Thread-safe.
#ifndef SENTRY_NET_TCP_LISTEN_QUEUE_H_
#define SENTRY_NET_TCP_LISTEN_QUEUE_H_

#include <unordered_set>
#include <vector>

#include "sentry/net/deferred.h"
#include "sentry/net/ring.h"

namespace sentry::net {

class TcpEndpoint;

class ListenQueue : public RefCounted<ListenQueue> {
 public:
  void set_observer(RefPtr<Observer> observer);
  void set_backlog(int backlog);
  int backlog() const;
  // Whether accept(2)'s queue is full, as tcp_v4_conn_request asks.
  bool IsFull() const;
  // False: too many handshakes, or closed.
  bool AddPending(TcpEndpoint& child, size_t limit);
  void RemovePending(TcpEndpoint& child);
  // A handshake is complete; false: the queue is full, or closed.
  bool Complete(TcpEndpoint& child);
  // Null: none.
  RefPtr<TcpEndpoint> Take();
  size_t ready() const;
  bool closed() const;
  // No more; what was there is for the caller to end.
  std::vector<RefPtr<TcpEndpoint>> Close();
  // listen(2) again after shutdown(2).
  void Reopen();

 private:
  mutable Mutex mu_{LockRank::kNetListen};
  RefPtr<Observer> observer_ ABSL_GUARDED_BY(mu_);
  Ring<RefPtr<TcpEndpoint>> ready_ ABSL_GUARDED_BY(mu_);
  std::unordered_set<TcpEndpoint*> pending_ ABSL_GUARDED_BY(mu_);  // each leaves before it dies
  size_t backlog_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_TCP_LISTEN_QUEUE_H_
