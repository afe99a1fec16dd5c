// SPDX-License-Identifier: Apache-2.0
// Which endpoint has which port: one table for TCP, one for UDP, one for echo ids. Thread-safe; its locks are leaves
// (kNetPorts), but for the table of connections.
#ifndef SENTRY_NET_PORT_TABLE_H_
#define SENTRY_NET_PORT_TABLE_H_

#include <array>
#include <functional>
#include <unordered_map>
#include <vector>

#include "sentry/net/endpoint.h"

namespace sentry::net {

class PortTable {
 public:
  // Adds `user` at `port`, or at a free one of [low, high] when that is 0. EADDRINUSE.
  Result<void> Bind(PortUser& user, uint16_t port, uint16_t low, uint16_t high, uint64_t random);
  // Adds without looking for conflicts: a child beside its listener.
  void Join(PortUser& user, uint16_t port);
  // Chooses a port for a connection: `usable(port)` says whether the tuple is free; ports that somebody bound
  // explicitly are not chosen. `usable` runs under the table's lock. EADDRNOTAVAIL.
  Result<void> BindForConnect(PortUser& user, uint16_t low, uint16_t high, uint64_t random,
                              const std::function<bool(uint16_t)>& usable);
  void Unbind(PortUser& user);
  // Starts to listen if no other user of the port objects. EADDRINUSE.
  Result<void> Listen(PortUser& user);
  // Changes a user under the table's lock.
  void Update(PortUser& user, const std::function<void(PortUser&)>& change);
  // The endpoint that packets from `remote` to `local` are for: the most specific one; of a SO_REUSEPORT group the one
  // that `hash` picks.
  RefPtr<Endpoint> Find(const IpAddress& local, uint16_t port, const SocketAddress& remote, uint32_t interface,
                        bool listeners_only, uint64_t hash) const;
  // All that accept it (multicast and broadcast).
  std::vector<RefPtr<Endpoint>> FindAll(const IpAddress& local, uint16_t port, const SocketAddress& remote) const;
  // Endpoints that have a port.
  std::vector<RefPtr<Endpoint>> All(bool listeners_only) const;

 private:
  struct Bucket {
    std::vector<PortUser*> users;
  };
  struct Shard {
    mutable Mutex mu{LockRank::kNetPorts};
    std::unordered_map<uint16_t, Bucket> buckets ABSL_GUARDED_BY(mu);
  };
  static constexpr size_t kShards = 16;
  Shard& ShardOf(uint16_t port) { return shards_[port % kShards]; }
  const Shard& ShardOf(uint16_t port) const { return shards_[port % kShards]; }
  static void Insert(Bucket& bucket, PortUser& user, uint16_t port);

  std::array<Shard, kShards> shards_;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_PORT_TABLE_H_
