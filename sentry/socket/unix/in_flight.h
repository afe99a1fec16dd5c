// SPDX-License-Identifier: Apache-2.0
// Descriptors that are in messages: counted per user (RLIMIT_NOFILE bounds them, ETOOMANYREFS), and a collector for
// sockets that only messages in each other's queues still refer to. One leaf mutex guards all of it.
//
// A file that a message takes is registered after the message's reference was made, and unregistered before that
// reference is used or dropped; MSG_PEEK copies under the mutex. So a socket whose reference count equals its
// registrations can be reached through queues only.
#ifndef SENTRY_SOCKET_UNIX_IN_FLIGHT_H_
#define SENTRY_SOCKET_UNIX_IN_FLIGHT_H_

#include <map>
#include <unordered_map>
#include <vector>

#include "sentry/socket/unix/message.h"

namespace sentry::socket {

class UnixEndpoint;

class InFlight {
 public:
  static InFlight& Get();

  // The message's files are in `holder`'s queue from now on. ETOOMANYREFS when its owner has more than `limit` in
  // flight.
  Result<void> Add(UnixEndpoint& holder, Message& message, uint64_t limit);
  // They are not any more; the message still has its references.
  void Remove(UnixEndpoint& holder, const Message& message);
  // References for MSG_PEEK.
  std::vector<vfs::FileRef> Copy(const Message& message);
  // `endpoint` waits in the backlog of `listener` (null: it was accepted, or dropped): what it holds, the listener
  // holds.
  void SetListener(UnixEndpoint& endpoint, UnixEndpoint* listener);
  // Takes the queues of unreachable sockets apart. A run costs time in proportion to the sockets in flight, so it
  // happens when enough of these calls came since the last one: at each end of a socket, and, once many are in flight,
  // at each send of descriptors. No locks may be held.
  void CollectAfterClose();
  void CollectAfterSend();
  size_t count() const;

 private:
  static constexpr size_t kClosePays = 16, kSendPays = 2, kManySockets = 1024;
  void Collect(size_t payment);
  struct Node {
    unsigned in_flight = 0;                             // references to its file in queues
    std::unordered_map<UnixEndpoint*, unsigned> holds;  // sockets in its own queue
    UnixEndpoint* listener = nullptr;
  };
  void Forget(UnixEndpoint* endpoint) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::vector<RefPtr<UnixEndpoint>> FindGarbage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_{LockRank::kLeaf};
  std::map<uid_t, size_t> per_user_ ABSL_GUARDED_BY(mu_);
  std::unordered_map<UnixEndpoint*, Node> nodes_ ABSL_GUARDED_BY(mu_);
  size_t files_ ABSL_GUARDED_BY(mu_) = 0;
  std::atomic<size_t> sockets_{0};  // references to sockets in queues
  std::atomic<size_t> paid_{0};     // towards the next run
};

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_UNIX_IN_FLIGHT_H_
