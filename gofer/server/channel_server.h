// SPDX-License-Identifier: Apache-2.0
// The threads that serve one connection, one per channel.
#ifndef GOFER_SERVER_CHANNEL_SERVER_H_
#define GOFER_SERVER_CHANNEL_SERVER_H_

#include <memory>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "gofer/server/connection.h"

namespace gofer {

class ChannelServer : public std::enable_shared_from_this<ChannelServer> {
 public:
  // `fs` is kept alive by the threads.
  ChannelServer(std::shared_ptr<const HostFs> fs, base::UniqueFd root, const Connection::Settings& settings);

  // Serves `socket` on a thread of its own. EAGAIN when there can't be one; ENFILE above kMaxChannels.
  base::Result<void> AddChannel(base::UniqueFd socket);
  // The first channel's: hangs up (POLLHUP) when the connection is over.
  int primary_fd() const;
  // Makes all threads end as soon as the request that each is at is done.
  void Shutdown();
  // False when threads are still there at `deadline_ns` (CLOCK_MONOTONIC).
  bool WaitUntil(int64_t deadline_ns);

 private:
  static void* ThreadMain(void* argument);
  void Serve(int socket, bool primary);
  base::Result<void> OpenChannel(Connection::Reply* out);

  const std::shared_ptr<const HostFs> fs_;
  Connection connection_;
  mutable base::Mutex mu_{base::LockRank::kLeaf};
  base::CondVar ended_;
  int live_threads_ ABSL_GUARDED_BY(mu_) = 0;
  bool shut_down_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<base::UniqueFd> sockets_ ABSL_GUARDED_BY(mu_);  // open for the life of the object; [0] = primary
};

}  // namespace gofer

#endif  // GOFER_SERVER_CHANNEL_SERVER_H_
