// SPDX-License-Identifier: Apache-2.0
// landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2).
#include <linux/landlock.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>

#include "sentry/kernel/task_internal.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/special_files.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kAttributeVersion1 = 8;
// Rules of all open rulesets together: each keeps a file in the sentry's memory.
constexpr size_t kMaxOpenRules = 1 << 18;
std::atomic<size_t> open_rules{0};

class RulesetFile final : public vfs::FileDescription {
 public:
  RulesetFile(vfs::Path path, RefPtr<vfs::LandlockRuleset> ruleset)
      : FileDescription(std::move(path), O_RDWR), ruleset_(std::move(ruleset)) {
    MutexLock lock(registry_mu_);
    registry_.insert(this);
  }
  ~RulesetFile() override {
    open_rules.fetch_sub(charged_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    MutexLock lock(registry_mu_);
    registry_.erase(this);
  }
  // Without run-time type information: the set of all of them says which file is one.
  static RulesetFile* From(FileDescription& file) {
    MutexLock lock(registry_mu_);
    return registry_.contains(&file) ? static_cast<RulesetFile*>(&file) : nullptr;
  }
  Result<size_t> Read(IoTarget&) override { return Errno(EINVAL); }
  Result<size_t> Write(IoSource&) override { return Errno(EINVAL); }
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  std::string LinkName() const override { return "anon_inode:[landlock-ruleset]"; }
  vfs::LandlockRuleset& ruleset() { return *ruleset_; }
  // Before a rule is added. ENOMEM.
  Result<void> Charge() {
    if (open_rules.fetch_add(1, std::memory_order_relaxed) >= kMaxOpenRules) {
      open_rules.fetch_sub(1, std::memory_order_relaxed);
      return Errno(ENOMEM);
    }
    charged_.fetch_add(1, std::memory_order_relaxed);
    return OkResult();
  }

 private:
  static inline Mutex registry_mu_{LockRank::kLeaf};
  static inline std::set<const FileDescription*> registry_ ABSL_GUARDED_BY(registry_mu_);
  RefPtr<vfs::LandlockRuleset> ruleset_;
  std::atomic<size_t> charged_{0};
};

// EBADF, EBADFD. The file keeps its ruleset.
Result<vfs::FileRef> GetRuleset(Task& task, int fd) {
  vfs::FileRef file = TRY(GetFile(task, fd));
  if (!RulesetFile::From(*file)) return Errno(EBADFD);
  return file;
}

}  // namespace

SYSCALL_HANDLER(SysLandlockCreateRuleset) {
  const UserAddr address = args.Addr(0);
  const size_t size = args.Size(1);
  if (args.Uint(2) != 0) {
    const bool version = args.Uint(2) == LANDLOCK_CREATE_RULESET_VERSION && address.IsNull() && size == 0;
    return version ? Value(vfs::kLandlockAbi) : Value(Errno(EINVAL));
  }
  if (size < kAttributeVersion1) return Errno(EINVAL);
  if (size > kPageSize) return Errno(E2BIG);
  std::vector<uint8_t> bytes(size);
  TRY(task.CopyInBytes(address, bytes.data(), size));
  // Attributes of later versions may be there if they ask for nothing.
  if (std::any_of(bytes.begin() + kAttributeVersion1, bytes.end(), [](uint8_t b) { return b != 0; })) {
    return Errno(E2BIG);
  }
  uint64_t handled;
  memcpy(&handled, bytes.data(), sizeof handled);
  if (handled & ~vfs::kLandlockAllRights) return Errno(EINVAL);
  if (handled == 0) return Errno(ENOMSG);
  static const RefPtr<Credentials> kRoot = Credentials::Root(0);
  vfs::Path path = vfs::NewAnonymousPath("[landlock-ruleset]", S_IFREG | 0600, *kRoot);
  return InstallFile(task, MakeRef<RulesetFile>(std::move(path), MakeRef<vfs::LandlockRuleset>(handled)), true);
}

SYSCALL_HANDLER(SysLandlockAddRule) {
  if (args.Uint(3) != 0) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetRuleset(task, args.Int(0)));
  vfs::LandlockRuleset& ruleset = RulesetFile::From(*file)->ruleset();
  if (args.Uint(1) != LANDLOCK_RULE_PATH_BENEATH) return Errno(EINVAL);
  const auto rule = TRY(task.CopyIn<landlock_path_beneath_attr>(args.Addr(2)));
  const uint64_t rights = rule.allowed_access;
  if (rights == 0) return Errno(ENOMSG);
  if (rights & ~ruleset.handled()) return Errno(EINVAL);
  vfs::FileRef parent = TRY(GetAnyFile(task, rule.parent_fd));
  if (vfs::IsAnonymousMount(*parent->path().mount)) return Errno(EBADFD);
  TRY(RulesetFile::From(*file)->Charge());
  TRY(ruleset.Add(parent->path(), rights));
  return 0;
}

SYSCALL_HANDLER(SysLandlockRestrictSelf) {
  if (!task.no_new_privs.load(std::memory_order_relaxed) && !task.HasOwnCapability(CAP_SYS_ADMIN)) return Errno(EPERM);
  if (args.Uint(1) != 0) return Errno(EINVAL);
  vfs::FileRef file = TRY(GetRuleset(task, args.Int(0)));
  vfs::LandlockRuleset& ruleset = RulesetFile::From(*file)->ruleset();
  kernel::Task::Internal::SetLandlock(
      task, TRY(vfs::LandlockDomain::Create(kernel::Task::Internal::LandlockOf(task), ruleset)));
  return 0;
}

}  // namespace sentry::syscalls
