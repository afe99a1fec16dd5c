// SPDX-License-Identifier: Apache-2.0
// landlock(7), ABI version 2: rights over file hierarchies that a thread has given up for good. A ruleset collects
// rules; restrict_self puts a copy of it as one more layer on the thread's domain. Every layer must grant a right
// somewhere on the way from the file up to the root; rights that a layer does not handle it grants.
//
// A domain belongs to a thread, as in Linux, and one sentry thread runs one guest thread: the domain that the vfs
// checks against is a thread-local (threads of the sentry itself have none). The kernel layer keeps the reference and
// hands it on to children.
#ifndef SENTRY_VFS_LANDLOCK_H_
#define SENTRY_VFS_LANDLOCK_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>

#include "sentry/common.h"
#include "sentry/vfs/path.h"

namespace sentry::vfs {

inline constexpr int kLandlockAbi = 2;
inline constexpr uint64_t kLandlockAllRights = (uint64_t{1} << 14) - 1;

// Thread-safe.
class LandlockRuleset : public RefCounted<LandlockRuleset> {
 public:
  explicit LandlockRuleset(uint64_t handled) : handled_(handled) {}
  uint64_t handled() const { return handled_; }
  // Grants `rights` over `path` and all below. EINVAL: rights that only directories have, over another file. E2BIG.
  Result<void> Add(const Path& path, uint64_t rights);

 private:
  friend class LandlockDomain;
  // The dentry keeps the inode, and the inode's identity.
  struct Rule {
    uint64_t rights = 0;
    RefPtr<Dentry> dentry;
  };
  using Rules = std::map<const Inode*, Rule>;
  const uint64_t handled_;
  mutable Mutex mu_{LockRank::kLeaf};
  Rules rules_ ABSL_GUARDED_BY(mu_);
};

// Immutable.
class LandlockDomain : public RefCounted<LandlockDomain> {
 public:
  static constexpr int kMaxLayers = 16;
  // E2BIG: too many layers. `below` may be null.
  static Result<RefPtr<LandlockDomain>> Create(RefPtr<LandlockDomain> below, const LandlockRuleset& ruleset);
  ~LandlockDomain();
  int layers() const { return layers_; }
  // Whether `of` (may be null) is this domain or was made from it.
  bool IsAncestorOf(const LandlockDomain* of) const;

  // The calling thread's; null: unrestricted. The caller of Set keeps the reference.
  static const LandlockDomain* Current();
  static void SetCurrent(const LandlockDomain* domain);

 private:
  friend class LandlockPlace;
  LandlockDomain() = default;
  RefPtr<LandlockDomain> below_;
  uint64_t handled_ = 0;
  LandlockRuleset::Rules rules_;
  int layers_ = 1;
};

// What the current thread's domain grants along the way from a place up to the root: taken before directories are
// locked, since it asks the mount table. Costs one load without a domain.
class LandlockPlace {
 public:
  explicit LandlockPlace(const Path& place) : domain_(LandlockDomain::Current()) {
    if (domain_) Climb(place);
  }
  bool IsRestricted() const { return domain_ != nullptr; }
  // Adds what rules of `inode` itself grant.
  void Visit(const Inode& inode);
  // Of the requested rights, those that some layer handles and does not grant.
  uint64_t Missing(uint64_t rights) const;
  // Whether some layer grants here what it does not grant there, of the rights that matter.
  bool GrantsMoreThan(const LandlockPlace& there, uint64_t rights) const;

 private:
  void Climb(const Path& place);
  const LandlockDomain* domain_;
  std::array<uint64_t, LandlockDomain::kMaxLayers> grants_ = {};  // newest layer first
};

// OkResult without a domain. Locks: leaves, but for Open also the mount table's.
// open(2) of `path` with these flags; `execute`: for execve(2). EACCES.
Result<void> LandlockCheckOpen(const Path& path, int flags, bool execute);
// A new name of an inode of this type (S_IF*) in `directory`. EACCES.
Result<void> LandlockCheckCreate(const LandlockPlace& directory, mode_t type);
// A name that goes. EACCES.
Result<void> LandlockCheckRemove(const LandlockPlace& directory, bool is_directory);
struct LandlockMove {
  const LandlockPlace& source_directory;
  const LandlockPlace& target_directory;
  bool same_directory = false;
  const Inode& moved;
  const Inode* target = nullptr;  // what the new name is already, if anything
  bool exchange = false;          // RENAME_EXCHANGE
  bool removes = false;           // rename(2), not link(2)
};
// EACCES; EXDEV when the file would get to where more is allowed, or without LANDLOCK_ACCESS_FS_REFER.
Result<void> LandlockCheckMove(const LandlockMove& move);
// mount(2) and the like. EPERM.
Result<void> LandlockCheckMount();

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_LANDLOCK_H_
