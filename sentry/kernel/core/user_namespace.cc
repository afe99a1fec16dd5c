// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/core/user_namespace.h"

namespace sentry {
namespace {

constexpr int32_t kRootMax = 31000;

Mutex& ChargeMutex() {
  static Mutex& mu = *new Mutex(LockRank::kLeaf);
  return mu;
}

}  // namespace

uint64_t NextNamespaceInode() {
  // Linux's initial namespaces have the first numbers from PROC_DYNAMIC_FIRST - 8 (include/linux/proc_ns.h) on.
  static std::atomic<uint64_t> next{0xF0000000};
  return next.fetch_add(1, std::memory_order_relaxed);
}

uint32_t IdMap::Out(uint32_t inside, uint32_t count) const {
  for (const Extent& e : extents_) {
    if (inside >= e.inside && inside - e.inside < e.count && count <= e.count - (inside - e.inside))
      return e.outside + (inside - e.inside);
  }
  return kInvalidId;
}

uint32_t IdMap::In(uint32_t outside) const {
  for (const Extent& e : extents_) {
    if (outside >= e.outside && outside - e.outside < e.count) return e.inside + (outside - e.outside);
  }
  return kInvalidId;
}

UserNamespace::UserNamespace() : inode_number_(0xEFFFFFFD) {
  for (auto& max : max_) max.store(kRootMax, std::memory_order_relaxed);
}

UserNamespace::UserNamespace(RefPtr<UserNamespace> parent, uid_t owner, gid_t owner_group, bool parent_could_set_fcap)
    : parent_(std::move(parent)),
      owner_(owner),
      owner_group_(owner_group),
      level_(parent_->level_ + 1),
      parent_could_set_fcap_(parent_could_set_fcap),
      inode_number_(NextNamespaceInode()),
      setgroups_allowed_(parent_->setgroups_allowed()) {
  for (auto& max : max_) max.store(INT32_MAX, std::memory_order_relaxed);
}

UserNamespace::~UserNamespace() {
  for (auto& map : maps_) delete map.load(std::memory_order_relaxed);
}

bool UserNamespace::IsSameOrDescendantOf(const UserNamespace& other) const {
  const UserNamespace* ns = this;
  while (ns && ns->level_ > other.level_) ns = ns->parent_.get();
  return ns && ns->IsSame(other);
}

uint32_t UserNamespace::ToKernel(IdKind kind, uint32_t id) const {
  if (IsRoot()) return id;
  const IdMap* map = this->map(kind);
  return map ? map->Out(id) : kInvalidId;
}

uint32_t UserNamespace::FromKernel(IdKind kind, uint32_t id) const {
  if (IsRoot()) return id;
  const IdMap* map = this->map(kind);
  return map ? map->In(id) : kInvalidId;
}

std::vector<IdMap::Extent> UserNamespace::Extents(IdKind kind) const {
  if (IsRoot()) return {{0, 0, kInvalidId}};
  const IdMap* map = this->map(kind);
  return map ? map->extents() : std::vector<IdMap::Extent>();
}

Result<void> UserNamespace::SetMap(IdKind kind, std::vector<IdMap::Extent> in_parent) {
  if (IsRoot()) return Errno(EPERM);
  MutexLock lock(map_mu_);
  if (map(kind)) return Errno(EPERM);
  if (!parent_->IsRoot()) {
    const IdMap* above = parent_->map(kind);
    for (IdMap::Extent& e : in_parent) {
      const uint32_t kernel_id = above ? above->Out(e.outside, e.count) : kInvalidId;
      if (kernel_id == kInvalidId) return Errno(EPERM);
      e.outside = kernel_id;
    }
  }
  maps_[static_cast<size_t>(kind)].store(new IdMap(std::move(in_parent)), std::memory_order_release);
  return OkResult();
}

Result<void> UserNamespace::SetSetgroups(bool allow) {
  MutexLock lock(map_mu_);
  if (allow) return setgroups_allowed() ? OkResult() : Result<void>(Errno(EPERM));
  if (map(IdKind::kGroup) || IsRoot()) return Errno(EPERM);
  setgroups_allowed_.store(false, std::memory_order_release);
  return OkResult();
}

UserCharge& UserCharge::operator=(UserCharge&& other) noexcept {
  Release();
  ns_ = std::move(other.ns_);
  uid_ = other.uid_;
  kind_ = other.kind_;
  return *this;
}

Result<UserCharge> UserCharge::Take(RefPtr<UserNamespace> ns, uid_t uid, UserCount kind) {
  const size_t index = static_cast<size_t>(kind);
  MutexLock lock(ChargeMutex());
  uid_t user = uid;
  for (UserNamespace* at = ns.get(); at; user = at->owner_, at = at->parent_.get()) {
    auto it = at->counts_.find(user);
    if ((it == at->counts_.end() ? 0 : it->second[index]) >= at->Max(kind)) return Errno(ENOSPC);
  }
  user = uid;
  for (UserNamespace* at = ns.get(); at; user = at->owner_, at = at->parent_.get()) ++at->counts_[user][index];
  UserCharge charge;
  charge.ns_ = std::move(ns);
  charge.uid_ = uid;
  charge.kind_ = kind;
  return charge;
}

void UserCharge::Release() {
  if (!ns_) return;
  {
    MutexLock lock(ChargeMutex());
    uid_t user = uid_;
    for (UserNamespace* at = ns_.get(); at; user = at->owner_, at = at->parent_.get()) {
      auto it = at->counts_.find(user);
      if (it == at->counts_.end()) continue;
      --it->second[static_cast<size_t>(kind_)];
      if (it->second == UserNamespace::Counts{}) at->counts_.erase(it);
    }
  }
  ns_.Reset();
}

}  // namespace sentry
