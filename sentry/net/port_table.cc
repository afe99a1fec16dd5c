// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/port_table.h"

#include <errno.h>

#include <algorithm>

namespace sentry::net {
namespace {

bool Overlap(const PortUser& a, const PortUser& b) {
  if (a.device && b.device && a.device != b.device) return false;
  if (a.address == b.address) return true;
  if (a.address.IsAny() && (a.address.IsV4() == b.address.IsV4() || a.dual)) return true;
  return b.address.IsAny() && (a.address.IsV4() == b.address.IsV4() || b.dual);
}

// Whether `other`, which is there, objects to `user` (inet_csk_bind_conflict, udp_lib_lport_inuse).
bool Conflict(const PortUser& other, const PortUser& user) {
  if (&other == &user || !Overlap(other, user)) return false;
  if (other.reuse_port && user.reuse_port && other.uid == user.uid) return false;
  return !(other.reuse_address && user.reuse_address && !other.listening);
}

bool AnyConflict(const std::vector<PortUser*>& users, const PortUser& user) {
  for (const PortUser* other : users) {
    if (Conflict(*other, user)) return true;
  }
  return false;
}

// -1: not for it.
int Score(const PortUser& user, const IpAddress& local, const SocketAddress& remote, uint32_t interface) {
  if (!user.endpoint || !user.Accepts(local)) return -1;
  if (user.device && interface && user.device != interface) return -1;
  if (user.connected && user.remote != remote) return -1;
  return (user.address.IsAny() ? 0 : 2) + (user.address.IsV4() == local.IsV4() ? 1 : 0) + (user.connected ? 8 : 0) +
         (user.device ? 4 : 0);
}

RefPtr<Endpoint> Reference(Endpoint* endpoint) {
  return endpoint->TryIncRef() ? RefPtr<Endpoint>::Adopt(endpoint) : nullptr;
}

}  // namespace

void PortTable::Insert(Bucket& bucket, PortUser& user, uint16_t port) {
  user.port = port;
  user.index = bucket.users.size();
  bucket.users.push_back(&user);
}

Result<void> PortTable::Bind(PortUser& user, uint16_t port, uint16_t low, uint16_t high, uint64_t random) {
  const bool any = port == 0;
  high = std::max(low, high);  // the two settings are not read at once
  const uint32_t count = any ? high - low + 1u : 1u;
  const uint32_t start = any ? static_cast<uint32_t>(random % count) : 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (any) port = static_cast<uint16_t>(low + (start + i) % count);
    Shard& shard = ShardOf(port);
    MutexLock lock(shard.mu);
    auto it = shard.buckets.find(port);
    if (it != shard.buckets.end() && AnyConflict(it->second.users, user)) continue;
    // A port for the asking is nobody else's, whatever the options.
    if (any && it != shard.buckets.end() && !it->second.users.empty() && user.reuse_address) continue;
    Insert(shard.buckets[port], user, port);
    return OkResult();
  }
  return Errno(EADDRINUSE);
}

void PortTable::Join(PortUser& user, uint16_t port) {
  Shard& shard = ShardOf(port);
  MutexLock lock(shard.mu);
  Insert(shard.buckets[port], user, port);
}

Result<void> PortTable::BindForConnect(PortUser& user, uint16_t low, uint16_t high, uint64_t random,
                                       const std::function<bool(uint16_t)>& usable) {
  high = std::max(low, high);
  const uint32_t count = high - low + 1u;
  const uint32_t start = static_cast<uint32_t>(random % count);
  for (uint32_t i = 0; i < count; ++i) {
    const auto port = static_cast<uint16_t>(low + (start + i) % count);
    Shard& shard = ShardOf(port);
    MutexLock lock(shard.mu);
    Bucket& bucket = shard.buckets[port];
    bool taken = false;
    for (const PortUser* other : bucket.users) taken |= !other->automatic;
    if (taken || (!bucket.users.empty() && !usable(port))) continue;
    user.automatic = true;
    Insert(bucket, user, port);
    return OkResult();
  }
  return Errno(EADDRNOTAVAIL);
}

void PortTable::Unbind(PortUser& user) {
  if (user.port == 0) return;
  Shard& shard = ShardOf(user.port);
  MutexLock lock(shard.mu);
  auto it = shard.buckets.find(user.port);
  std::vector<PortUser*>& users = it->second.users;
  users[user.index] = users.back();
  users[user.index]->index = user.index;
  users.pop_back();
  if (users.empty()) shard.buckets.erase(it);
  user.port = 0;
  user.listening = false;
}

Result<void> PortTable::Listen(PortUser& user) {
  Shard& shard = ShardOf(user.port);
  MutexLock lock(shard.mu);
  const bool before = user.listening;
  user.listening = true;
  if (!before && AnyConflict(shard.buckets[user.port].users, user)) {
    user.listening = false;
    return Errno(EADDRINUSE);
  }
  return OkResult();
}

void PortTable::Update(PortUser& user, const std::function<void(PortUser&)>& change) {
  if (user.port == 0) {
    change(user);
    return;
  }
  MutexLock lock(ShardOf(user.port).mu);
  change(user);
}

RefPtr<Endpoint> PortTable::Find(const IpAddress& local, uint16_t port, const SocketAddress& remote, uint32_t interface,
                                 bool listeners_only, uint64_t hash) const {
  const Shard& shard = ShardOf(port);
  MutexLock lock(shard.mu);
  auto it = shard.buckets.find(port);
  if (it == shard.buckets.end()) return nullptr;
  PortUser* best = nullptr;
  int best_score = -1;
  size_t group = 0;
  for (PortUser* user : it->second.users) {
    if (listeners_only && !user->listening) continue;
    const int score = Score(*user, local, remote, interface);
    if (score < 0 || score < best_score) continue;
    if (score > best_score) group = 0;
    best_score = score;
    ++group;
    // The later one shadows, but a group shares: reservoir sampling by the hash.
    if (group > 1 && best->reuse_port && user->reuse_port) {
      hash = hash * 6364136223846793005u + 1442695040888963407u;
      if ((hash >> 33) % group != 0) continue;
    }
    best = user;
  }
  return best ? Reference(best->endpoint) : nullptr;
}

std::vector<RefPtr<Endpoint>> PortTable::FindAll(const IpAddress& local, uint16_t port,
                                                 const SocketAddress& remote) const {
  std::vector<RefPtr<Endpoint>> found;
  const Shard& shard = ShardOf(port);
  MutexLock lock(shard.mu);
  auto it = shard.buckets.find(port);
  if (it == shard.buckets.end()) return found;
  for (PortUser* user : it->second.users) {
    if (!user->endpoint || !user->Accepts(local) || (user->connected && user->remote != remote)) continue;
    if (RefPtr<Endpoint> endpoint = Reference(user->endpoint)) found.push_back(std::move(endpoint));
  }
  return found;
}

std::vector<RefPtr<Endpoint>> PortTable::All(bool listeners_only) const {
  std::vector<RefPtr<Endpoint>> found;
  for (const Shard& shard : shards_) {
    MutexLock lock(shard.mu);
    for (const auto& [port, bucket] : shard.buckets) {
      for (const PortUser* user : bucket.users) {
        if (!user->endpoint || (listeners_only && !user->listening)) continue;
        if (RefPtr<Endpoint> endpoint = Reference(user->endpoint)) found.push_back(std::move(endpoint));
      }
    }
  }
  return found;
}

}  // namespace sentry::net
