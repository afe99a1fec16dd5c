// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>

#include <atomic>

#include "sentry/vfs/special_files.h"

namespace sentry::vfs {
namespace {

// Rights over what is not a directory.
constexpr uint64_t kFileRights =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE;
// Handled by every ruleset, and granted by those only that name it.
constexpr uint64_t kAlwaysHandled = LANDLOCK_ACCESS_FS_REFER;
// Linux has 2^32 - 1; each one here keeps a file in the sentry's memory.
constexpr size_t kMaxRules = 1 << 16;

// Of all domains together: no guest fills the sentry's memory with layers.
constexpr size_t kMaxRulesOfDomains = 1 << 18;
std::atomic<size_t> rules_of_domains{0};

thread_local const LandlockDomain* current_domain = nullptr;

uint64_t RightToMake(mode_t type) {
  switch (type & S_IFMT) {
    case S_IFLNK:
      return LANDLOCK_ACCESS_FS_MAKE_SYM;
    case S_IFDIR:
      return LANDLOCK_ACCESS_FS_MAKE_DIR;
    case S_IFCHR:
      return LANDLOCK_ACCESS_FS_MAKE_CHAR;
    case S_IFBLK:
      return LANDLOCK_ACCESS_FS_MAKE_BLOCK;
    case S_IFIFO:
      return LANDLOCK_ACCESS_FS_MAKE_FIFO;
    case S_IFSOCK:
      return LANDLOCK_ACCESS_FS_MAKE_SOCK;
    default:
      return LANDLOCK_ACCESS_FS_MAKE_REG;
  }
}

uint64_t RightToRemove(bool is_directory) {
  return is_directory ? LANDLOCK_ACCESS_FS_REMOVE_DIR : LANDLOCK_ACCESS_FS_REMOVE_FILE;
}

}  // namespace

Result<void> LandlockRuleset::Add(const Path& path, uint64_t rights) {
  if (!path.inode()->IsDirectory() && (rights & ~kFileRights)) return Errno(EINVAL);
  MutexLock lock(mu_);
  auto found = rules_.find(path.inode().get());
  if (found == rules_.end()) {
    if (rules_.size() >= kMaxRules) return Errno(E2BIG);
    found = rules_.emplace(path.inode().get(), Rule{0, path.dentry}).first;
  }
  found->second.rights |= rights;
  return OkResult();
}

Result<RefPtr<LandlockDomain>> LandlockDomain::Create(RefPtr<LandlockDomain> below, const LandlockRuleset& ruleset) {
  RefPtr<LandlockDomain> domain(new LandlockDomain);
  if (below) domain->layers_ = below->layers_ + 1;
  if (domain->layers_ > kMaxLayers) return Errno(E2BIG);
  domain->below_ = std::move(below);
  domain->handled_ = ruleset.handled() | kAlwaysHandled;
  MutexLock lock(ruleset.mu_);
  const size_t count = ruleset.rules_.size();
  if (rules_of_domains.fetch_add(count, std::memory_order_relaxed) + count > kMaxRulesOfDomains) {
    rules_of_domains.fetch_sub(count, std::memory_order_relaxed);
    return Errno(ENOMEM);
  }
  domain->rules_ = ruleset.rules_;
  return domain;
}

LandlockDomain::~LandlockDomain() { rules_of_domains.fetch_sub(rules_.size(), std::memory_order_relaxed); }

bool LandlockDomain::IsAncestorOf(const LandlockDomain* of) const {
  for (; of; of = of->below_.get()) {
    if (of == this) return true;
  }
  return false;
}

const LandlockDomain* LandlockDomain::Current() { return current_domain; }
void LandlockDomain::SetCurrent(const LandlockDomain* domain) { current_domain = domain; }

void LandlockPlace::Visit(const Inode& inode) {
  size_t layer = 0;
  for (const LandlockDomain* at = domain_; at; at = at->below_.get(), ++layer) {
    auto rule = at->rules_.find(&inode);
    if (rule != at->rules_.end()) grants_[layer] |= rule->second.rights;
  }
}

// Objects that are in no tree of files are free for all.
void LandlockPlace::Climb(const Path& place) {
  Path at = place;
  for (;;) {
    if (at.dentry->inode()) Visit(*at.dentry->inode());
    if (at.dentry == at.mount->root()) {
      Path covered;
      if (!MountNamespace::CoveredBy(*at.mount, &covered)) break;
      at = std::move(covered);
      continue;
    }
    RefPtr<Dentry> parent = at.dentry->parent();
    if (!parent) break;
    at.dentry = std::move(parent);
  }
  if (IsAnonymousMount(*at.mount)) grants_.fill(~uint64_t{0});
}

uint64_t LandlockPlace::Missing(uint64_t rights) const {
  uint64_t missing = 0;
  size_t layer = 0;
  for (const LandlockDomain* at = domain_; at; at = at->below_.get(), ++layer) {
    missing |= rights & at->handled_ & ~grants_[layer];
  }
  return missing;
}

bool LandlockPlace::GrantsMoreThan(const LandlockPlace& there, uint64_t rights) const {
  size_t layer = 0;
  for (const LandlockDomain* at = domain_; at; at = at->below_.get(), ++layer) {
    if (rights & at->handled_ & grants_[layer] & ~there.grants_[layer]) return true;
  }
  return false;
}

namespace {

Result<void> Check(const LandlockPlace& place, uint64_t rights) {
  if (place.Missing(rights)) return Errno(EACCES);
  return OkResult();
}

// Whether `moved` would be allowed more where it gets to than where it was.
bool GainsRights(const Inode& moved, const LandlockPlace& from, const LandlockPlace& to) {
  LandlockPlace before = from, after = to;
  before.Visit(moved);
  after.Visit(moved);
  return after.GrantsMoreThan(before, moved.IsDirectory() ? kLandlockAllRights : kFileRights);
}

}  // namespace

Result<void> LandlockCheckOpen(const Path& path, int flags, bool execute) {
  if (!LandlockDomain::Current()) return OkResult();
  uint64_t rights = 0;
  const int mode = flags & O_ACCMODE;
  if (mode != O_WRONLY) {
    rights = path.inode()->IsDirectory() ? LANDLOCK_ACCESS_FS_READ_DIR : LANDLOCK_ACCESS_FS_READ_FILE;
  }
  if (mode != O_RDONLY) rights |= LANDLOCK_ACCESS_FS_WRITE_FILE;
  if (execute) rights |= LANDLOCK_ACCESS_FS_EXECUTE;
  return Check(LandlockPlace(path), rights);
}

Result<void> LandlockCheckCreate(const LandlockPlace& directory, mode_t type) {
  return Check(directory, RightToMake(type));
}

Result<void> LandlockCheckRemove(const LandlockPlace& directory, bool is_directory) {
  return Check(directory, RightToRemove(is_directory));
}

Result<void> LandlockCheckMove(const LandlockMove& move) {
  const LandlockPlace &source = move.source_directory, &target = move.target_directory;
  if (!target.IsRestricted()) return OkResult();
  uint64_t at_source = move.exchange ? RightToMake(move.target->type()) : 0;
  uint64_t at_target = RightToMake(move.moved.type());
  if (move.removes) {
    at_source |= RightToRemove(move.moved.IsDirectory());
    if (move.target) at_target |= RightToRemove(move.target->IsDirectory());
  }
  if (move.same_directory) return Check(target, at_source | at_target);
  // What is simply denied is told before what only the reparenting makes wrong.
  TRY(Check(source, at_source));
  TRY(Check(target, at_target));
  if (source.Missing(LANDLOCK_ACCESS_FS_REFER) || target.Missing(LANDLOCK_ACCESS_FS_REFER)) return Errno(EXDEV);
  if (GainsRights(move.moved, source, target)) return Errno(EXDEV);
  if (move.exchange && GainsRights(*move.target, target, source)) return Errno(EXDEV);
  return OkResult();
}

Result<void> LandlockCheckMount() {
  if (LandlockDomain::Current()) return Errno(EPERM);
  return OkResult();
}

}  // namespace sentry::vfs
