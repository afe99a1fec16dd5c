// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/unix/in_flight.h"

#include <linux/capability.h>

#include "sentry/socket/unix/endpoint.h"
#include "sentry/socket/unix/unix_socket.h"

namespace sentry::socket {
namespace {

// The AF_UNIX endpoint behind a file, or null.
UnixEndpoint* EndpointOf(const vfs::FileRef& file) {
  Socket* socket = file->AsSocket();
  return socket && socket->domain() == AF_UNIX ? &static_cast<UnixSocket*>(socket)->endpoint() : nullptr;
}

thread_local bool collecting = false;

}  // namespace

InFlight& InFlight::Get() {
  static InFlight& instance = *new InFlight();
  return instance;
}

Result<void> InFlight::Add(UnixEndpoint& holder, Message& message, uint64_t limit) {
  if (message.files.empty()) return OkResult();
  MutexLock lock(mu_);
  size_t& mine = per_user_[message.files_owner];
  if (mine > limit) return Errno(ETOOMANYREFS);
  mine += message.files.size();
  files_ += message.files.size();
  for (const vfs::FileRef& file : message.files) {
    UnixEndpoint* endpoint = EndpointOf(file);
    if (!endpoint) continue;
    ++nodes_[endpoint].in_flight;
    ++nodes_[&holder].holds[endpoint];
    sockets_.fetch_add(1, std::memory_order_relaxed);
  }
  return OkResult();
}

void InFlight::Remove(UnixEndpoint& holder, const Message& message) {
  if (message.files.empty()) return;
  MutexLock lock(mu_);
  auto user = per_user_.find(message.files_owner);
  user->second -= message.files.size();
  if (user->second == 0) per_user_.erase(user);
  files_ -= message.files.size();
  for (const vfs::FileRef& file : message.files) {
    UnixEndpoint* endpoint = EndpointOf(file);
    if (!endpoint) continue;
    --nodes_[endpoint].in_flight;
    auto& holds = nodes_[&holder].holds;
    if (--holds[endpoint] == 0) holds.erase(endpoint);
    Forget(endpoint);
    sockets_.fetch_sub(1, std::memory_order_relaxed);
  }
  Forget(&holder);
}

void InFlight::Forget(UnixEndpoint* endpoint) {
  auto it = nodes_.find(endpoint);
  if (it != nodes_.end() && !it->second.in_flight && it->second.holds.empty() && !it->second.listener) nodes_.erase(it);
}

std::vector<vfs::FileRef> InFlight::Copy(const Message& message) {
  MutexLock lock(mu_);
  return message.files;
}

void InFlight::SetListener(UnixEndpoint& endpoint, UnixEndpoint* listener) {
  MutexLock lock(mu_);
  if (listener) {
    nodes_[&endpoint].listener = listener;
  } else if (auto it = nodes_.find(&endpoint); it != nodes_.end()) {
    it->second.listener = nullptr;
    Forget(&endpoint);
  }
}

size_t InFlight::count() const {
  MutexLock lock(mu_);
  return files_;
}

std::vector<RefPtr<UnixEndpoint>> InFlight::FindGarbage() {
  // Candidates: sockets that queues alone refer to. `outside` counts the references that do not come from candidates.
  std::unordered_map<UnixEndpoint*, unsigned> outside;
  for (auto& [endpoint, node] : nodes_) {
    if (node.in_flight && endpoint->FileReferences() == node.in_flight) outside[endpoint] = node.in_flight;
  }
  if (outside.empty()) return {};
  // What a connection in a backlog holds counts as held by its listener.
  std::unordered_map<UnixEndpoint*, std::vector<UnixEndpoint*>> owners;
  for (auto& [endpoint, node] : nodes_) {
    UnixEndpoint* owner = node.listener ? node.listener : endpoint;
    if (!node.holds.empty() && outside.contains(owner)) owners[owner].push_back(endpoint);
  }
  auto each_held = [&](UnixEndpoint* owner, auto visit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    auto it = owners.find(owner);
    if (it == owners.end()) return;
    for (UnixEndpoint* holder : it->second) {
      for (auto& [held, times] : nodes_[holder].holds) {
        if (outside.contains(held)) visit(held, times);
      }
    }
  };
  for (auto& [endpoint, count] : outside) {
    each_held(endpoint, [&](UnixEndpoint* held, unsigned times) { outside[held] -= times; });
  }
  std::vector<UnixEndpoint*> reachable;
  std::unordered_map<UnixEndpoint*, bool> live;
  for (auto& [endpoint, count] : outside) {
    if (count && live.emplace(endpoint, true).second) reachable.push_back(endpoint);
  }
  while (!reachable.empty()) {
    UnixEndpoint* endpoint = reachable.back();
    reachable.pop_back();
    each_held(endpoint, [&](UnixEndpoint* held, unsigned) {
      if (live.emplace(held, true).second) reachable.push_back(held);
    });
  }
  std::vector<RefPtr<UnixEndpoint>> garbage;
  for (auto& [endpoint, count] : outside) {
    if (live.contains(endpoint)) continue;
    for (UnixEndpoint* holder : owners[endpoint]) garbage.emplace_back(holder);
  }
  return garbage;
}

void InFlight::CollectAfterClose() { Collect(kClosePays); }

void InFlight::CollectAfterSend() {
  if (sockets_.load(std::memory_order_relaxed) > kManySockets) Collect(kSendPays);
}

void InFlight::Collect(size_t payment) {
  const size_t sockets = sockets_.load(std::memory_order_relaxed);
  if (sockets == 0 || collecting || paid_.fetch_add(payment, std::memory_order_relaxed) + payment < sockets) return;
  paid_.store(0, std::memory_order_relaxed);
  collecting = true;
  std::vector<RefPtr<UnixEndpoint>> garbage;
  {
    MutexLock lock(mu_);
    garbage = FindGarbage();
  }
  std::vector<vfs::FileRef> files;
  for (const RefPtr<UnixEndpoint>& endpoint : garbage) endpoint->TakeFiles(&files);
  DropFiles(std::move(files));
  collecting = false;
}

}  // namespace sentry::socket
