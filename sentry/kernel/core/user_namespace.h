// SPDX-License-Identifier: Apache-2.0
// User namespaces (user_namespaces(7)): id maps, who owns which, and how many namespaces each user may have.
//
// Ids in credentials, inodes and messages are "kernel ids": those of the sandbox's root user namespace. They are
// translated where a guest reads or writes them.
#ifndef SENTRY_KERNEL_CORE_USER_NAMESPACE_H_
#define SENTRY_KERNEL_CORE_USER_NAMESPACE_H_

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "sentry/common.h"

namespace sentry {

inline constexpr uint32_t kInvalidId = ~uint32_t{0};
inline constexpr uint32_t kOverflowId = 65534;  // shown for ids without a mapping (/proc/sys/kernel/overflowuid)

// Inode numbers of /proc/PID/ns links, one count for namespaces of all kinds.
uint64_t NextNamespaceInode();

enum class IdKind : uint8_t { kUser, kGroup, kProject };

// One direction-free table of up to 340 ranges. Immutable.
class IdMap {
 public:
  struct Extent {
    uint32_t inside;   // first id in the namespace
    uint32_t outside;  // first id outside: the kernel's in a finished map
    uint32_t count;
  };
  static constexpr size_t kMaxExtents = 340;
  IdMap() = default;
  explicit IdMap(std::vector<Extent> extents) : extents_(std::move(extents)) {}
  // kInvalidId where there is no mapping. The whole range [id, id + count) must be in one extent.
  uint32_t Out(uint32_t inside, uint32_t count = 1) const;
  uint32_t In(uint32_t outside) const;
  const std::vector<Extent>& extents() const { return extents_; }

 private:
  std::vector<Extent> extents_;
};

// What /proc/sys/user/max_* limit.
enum class UserCount : uint8_t { kUser, kPid, kUts, kIpc, kNet, kMount, kCgroup, kTime, kKinds };

class UserCharge;

// Thread-safe.
class UserNamespace : public RefCounted<UserNamespace> {
 public:
  static constexpr int kMaxLevel = 33;
  // The root one: every id is itself.
  UserNamespace();
  // Child of `parent`, without maps. `owner` and `owner_group` are the creator's effective kernel ids.
  // `parent_could_set_fcap`: its creator had CAP_SETFCAP in the parent, so that root may be mapped.
  UserNamespace(RefPtr<UserNamespace> parent, uid_t owner, gid_t owner_group, bool parent_could_set_fcap);
  ~UserNamespace();

  const RefPtr<UserNamespace>& parent() const { return parent_; }
  uid_t owner() const { return owner_; }
  gid_t owner_group() const { return owner_group_; }
  bool IsRoot() const { return !parent_; }
  int level() const { return level_; }
  uint64_t inode_number() const { return inode_number_; }
  bool parent_could_set_fcap() const { return parent_could_set_fcap_; }
  bool IsSameOrDescendantOf(const UserNamespace& other) const;
  // Two root namespaces are one (tests make their own).
  bool IsSame(const UserNamespace& other) const { return this == &other || (IsRoot() && other.IsRoot()); }

  // To and from kernel ids; kInvalidId without a mapping.
  uint32_t ToKernel(IdKind kind, uint32_t id) const;
  uint32_t FromKernel(IdKind kind, uint32_t id) const;
  // For what is only shown: the overflow id instead.
  uint32_t Shown(IdKind kind, uint32_t id) const {
    const uint32_t seen = FromKernel(kind, id);
    return seen == kInvalidId ? kOverflowId : seen;
  }
  bool HasMap(IdKind kind) const { return map(kind) != nullptr; }
  // Extents with kernel ids; empty before the map was written.
  std::vector<IdMap::Extent> Extents(IdKind kind) const;
  // Once. EPERM: there is one already, or a range is not mapped in the parent.
  Result<void> SetMap(IdKind kind, std::vector<IdMap::Extent> in_parent);
  bool setgroups_allowed() const { return setgroups_allowed_.load(std::memory_order_acquire); }
  // /proc/PID/setgroups. EPERM: back to "allow", or after the gid map.
  Result<void> SetSetgroups(bool allow);

  // /proc/sys/user/max_*.
  int32_t Max(UserCount kind) const { return max_[static_cast<size_t>(kind)].load(std::memory_order_relaxed); }
  // Its own place in the count of its creator.
  void set_charge(std::unique_ptr<UserCharge> charge) { charge_ = std::move(charge); }
  void SetMax(UserCount kind, int32_t max) { max_[static_cast<size_t>(kind)].store(max, std::memory_order_relaxed); }

 private:
  friend class UserCharge;
  using Counts = std::array<int32_t, static_cast<size_t>(UserCount::kKinds)>;
  const IdMap* map(IdKind kind) const { return maps_[static_cast<size_t>(kind)].load(std::memory_order_acquire); }

  const RefPtr<UserNamespace> parent_;
  const uid_t owner_ = 0;
  const gid_t owner_group_ = 0;
  const int level_ = 0;
  const bool parent_could_set_fcap_ = true;
  const uint64_t inode_number_;
  std::atomic<const IdMap*> maps_[3] = {};  // owned
  Mutex map_mu_{LockRank::kNamespace};      // writers
  std::atomic<bool> setgroups_allowed_{true};
  std::array<std::atomic<int32_t>, static_cast<size_t>(UserCount::kKinds)> max_;
  std::unique_ptr<UserCharge> charge_;
  std::map<uid_t, Counts> counts_;  // by kernel uid; guarded by the one mutex of all charges
};

// One namespace (or other counted thing) of a user, counted in the user namespace it was made in and, for the owner of
// each namespace on the way, in those above (ucounts of Linux). Given back by the destructor.
class UserCharge {
 public:
  UserCharge() = default;
  UserCharge(UserCharge&& other) noexcept = default;
  UserCharge& operator=(UserCharge&& other) noexcept;
  ~UserCharge() { Release(); }
  // ENOSPC over a limit anywhere up the line.
  static Result<UserCharge> Take(RefPtr<UserNamespace> ns, uid_t uid, UserCount kind);

 private:
  void Release();
  RefPtr<UserNamespace> ns_;
  uid_t uid_ = 0;
  UserCount kind_ = UserCount::kUser;
};

}  // namespace sentry

#endif  // SENTRY_KERNEL_CORE_USER_NAMESPACE_H_
