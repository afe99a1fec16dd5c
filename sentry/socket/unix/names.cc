// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/unix/names.h"

#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "sentry/socket/environment.h"

namespace sentry::socket {

Result<ParsedUnixName> ParseUnixName(std::string_view address) {
  constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);
  sa_family_t family;
  if (address.size() < kPathOffset || address.size() > sizeof(sockaddr_un)) return Errno(EINVAL);
  memcpy(&family, address.data(), sizeof family);
  if (family != AF_UNIX) return Errno(EINVAL);
  std::string_view name = address.substr(kPathOffset);
  ParsedUnixName parsed;
  if (name.empty()) {
    parsed.bytes = address;
  } else if (name.front() == '\0') {
    parsed.kind = ParsedUnixName::Kind::kAbstract;
    parsed.bytes = address;
  } else {
    parsed.kind = ParsedUnixName::Kind::kPath;
    parsed.path = name.substr(0, name.find('\0'));
    parsed.bytes = std::string(address.substr(0, kPathOffset)) + parsed.path + '\0';
  }
  return parsed;
}

RefPtr<UnixEndpoint> BoundName::Get() const {
  MutexLock lock(mu_);
  return endpoint_;
}

void BoundName::Clear() {
  RefPtr<UnixEndpoint> dropped;  // after the lock
  MutexLock lock(mu_);
  dropped = std::move(endpoint_);
}

UnixNames& UnixNames::Get() {
  static UnixNames& instance = *new UnixNames();
  return instance;
}

bool UnixNames::AddAbstract(uint64_t net_namespace, int type, const std::string& bytes, UnixEndpoint& endpoint) {
  MutexLock lock(mu_);
  return abstract_.try_emplace(Key(net_namespace, type, bytes), &endpoint).second;
}

void UnixNames::RemoveAbstract(uint64_t net_namespace, int type, const std::string& bytes) {
  RefPtr<UnixEndpoint> dropped;
  MutexLock lock(mu_);
  auto it = abstract_.find(Key(net_namespace, type, bytes));
  if (it == abstract_.end()) return;
  dropped = std::move(it->second);
  abstract_.erase(it);
}

RefPtr<UnixEndpoint> UnixNames::FindAbstract(uint64_t net_namespace, int type, const std::string& bytes) const {
  MutexLock lock(mu_);
  auto it = abstract_.find(Key(net_namespace, type, bytes));
  return it == abstract_.end() ? nullptr : it->second;
}

Result<RefPtr<UnixEndpoint>> UnixNames::Find(const UnixEndpoint& from, const ParsedUnixName& name) const {
  if (name.kind == ParsedUnixName::Kind::kUnnamed) return Errno(EINVAL);
  if (name.kind == ParsedUnixName::Kind::kAbstract) {
    RefPtr<UnixEndpoint> found = FindAbstract(from.net_namespace(), from.type(), name.bytes);
    if (!found) return Errno(ECONNREFUSED);
    return found;
  }
  vfs::WalkContext context = GetEnvironment().walk();
  vfs::Path path = TRY(vfs::Resolve(context, name.path, vfs::kFollowFinal));
  vfs::Inode& inode = *path.inode();
  TRY(inode.CheckPermission(context.creds, vfs::kMayWrite));
  if (inode.type() != S_IFSOCK) return Errno(ECONNREFUSED);
  // Only Bind puts an object on an inode of this type.
  RefPtr<vfs::SpecialObject> special = inode.special();
  RefPtr<UnixEndpoint> found = special ? static_cast<BoundName*>(special.get())->Get() : nullptr;
  if (!found) return Errno(ECONNREFUSED);
  if (found->type() != from.type()) return Errno(EPROTOTYPE);
  return found;
}

void UnixNames::AddOpen(UnixEndpoint& endpoint) {
  MutexLock lock(mu_);
  open_.insert(&endpoint);
}

void UnixNames::RemoveOpen(UnixEndpoint& endpoint) {
  MutexLock lock(mu_);
  open_.erase(&endpoint);
}

std::vector<RefPtr<UnixEndpoint>> UnixNames::List(uint64_t net_namespace) const {
  std::vector<RefPtr<UnixEndpoint>> list;
  MutexLock lock(mu_);
  for (UnixEndpoint* endpoint : open_) {
    if (endpoint->net_namespace() == net_namespace) list.emplace_back(endpoint);
  }
  return list;
}

}  // namespace sentry::socket
