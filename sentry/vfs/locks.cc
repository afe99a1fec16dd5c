// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/locks.h"

#include <algorithm>
#include <unordered_set>

#include "base/cleanup.h"

namespace sentry::vfs {
namespace {
// Lock owners looked at in one deadlock search: past it, no deadlock is reported (fcntl(2) promises no complete
// detection).
constexpr size_t kMaxSearch = 1000;
}  // namespace

Mutex FileLocks::mu_{LockRank::kLeaf};

std::vector<FileLocks::Waiter*>& FileLocks::Waiters() {
  static auto& waiters = *new std::vector<Waiter*>();
  return waiters;
}

std::unordered_set<FileLocks*>& FileLocks::Registry() {
  static auto& registry = *new std::unordered_set<FileLocks*>();
  return registry;
}

FileLocks::~FileLocks() {
  MutexLock lock(mu_);
  Registry().erase(this);
}

bool FileLocks::Conflicts(const Held& held, const LockRequest& request) {
  if ((held.kind == LockKind::kFlock) != (request.kind == LockKind::kFlock)) return false;
  if (held.kind == request.kind && held.owner == request.owner) return false;
  if (held.type == LockType::kRead && request.type == LockType::kRead) return false;
  return held.range.start < request.range.end && request.range.start < held.range.end;
}

const FileLocks::Held* FileLocks::FindConflictLocked(const LockRequest& request) const {
  // The lowest conflicting lock, as F_GETLK reports.
  const Held* first = nullptr;
  for (const Held& held : held_) {
    if (Conflicts(held, request) && (!first || held.range.start < first->range.start)) first = &held;
  }
  return first;
}

// Replaces what the owner holds in the range: cuts and splits its locks, then adds the new one, merged with equal
// neighbours.
void FileLocks::ApplyLocked(const LockRequest& request) {
  std::vector<Held> result;
  result.reserve(held_.size() + 2);
  Held added{request.kind, request.type, request.range, request.owner, request.pid};
  for (const Held& held : held_) {
    if (held.kind != request.kind || held.owner != request.owner) {
      result.push_back(held);
      continue;
    }
    const bool touches = held.range.start <= added.range.end && added.range.start <= held.range.end;
    if (touches && held.type == request.type) {
      added.range.start = std::min(added.range.start, held.range.start);
      added.range.end = std::max(added.range.end, held.range.end);
      continue;
    }
    if (held.range.start >= request.range.end || held.range.end <= request.range.start) {
      result.push_back(held);
      continue;
    }
    if (held.range.start < request.range.start) {
      result.push_back(held);
      result.back().range.end = request.range.start;
    }
    if (held.range.end > request.range.end) {
      result.push_back(held);
      result.back().range.start = request.range.end;
    }
  }
  if (request.type != LockType::kUnlock) result.push_back(added);
  held_ = std::move(result);
  if (held_.empty()) {
    Registry().erase(this);
  } else {
    Registry().insert(this);
  }
}

Result<void> FileLocks::TrySetLocked(const LockRequest& request) {
  if (request.type != LockType::kUnlock && FindConflictLocked(request)) return Errno(EAGAIN);
  ApplyLocked(request);
  return OkResult();
}

bool FileLocks::WouldDeadlockLocked(FileLocks& locks, const LockRequest& request) {
  std::unordered_set<const void*> seen;
  std::vector<const void*> todo;
  auto add_holders = [&](const FileLocks& at, const LockRequest& wanted) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (const Held& held : at.held_) {
      if (held.kind == LockKind::kPosix && Conflicts(held, wanted) && seen.insert(held.owner).second)
        todo.push_back(held.owner);
    }
  };
  add_holders(locks, request);
  while (!todo.empty() && seen.size() < kMaxSearch) {
    const void* owner = todo.back();
    todo.pop_back();
    if (owner == request.owner) return true;
    for (const Waiter* waiter : Waiters()) {
      if (waiter->request.owner == owner) add_holders(*waiter->locks, waiter->request);
    }
  }
  return false;
}

Result<void> FileLocks::Set(const LockRequest& request, bool block) {
  // Anything but a write lock may drop or weaken what the owner held, which may let others in.
  bool weakens = request.type != LockType::kWrite;
  Result<void> first;
  {
    MutexLock lock(mu_);
    // flock(2): a conversion drops the old lock first, and may lose it.
    if (request.kind == LockKind::kFlock) {
      weakens |= std::erase_if(held_, [&](const Held& held) {
                   return held.kind == LockKind::kFlock && held.owner == request.owner && held.type != request.type;
                 }) > 0;
    }
    first = TrySetLocked(request);
    if (!first.ok() && block && request.kind == LockKind::kPosix && WouldDeadlockLocked(*this, request))
      return Errno(EDEADLK);
  }
  if (weakens) queue_.Notify(kAllEvents);
  if (first.ok() || !block) return first;

  Waiter waiter{this, request};
  base::Cleanup forget([&] {
    MutexLock lock(mu_);
    std::erase(Waiters(), &waiter);
  });
  if (request.kind == LockKind::kPosix) {
    MutexLock lock(mu_);
    Waiters().push_back(&waiter);
  }
  auto result = BlockOn(Caller::Current(), queue_, kAllEvents, false, kNoDeadline, [&]() -> Result<void> {
    MutexLock lock(mu_);
    auto attempt = TrySetLocked(request);
    // Checked again at each wake-up: the lock may have gone to one who waits for this owner.
    if (!attempt.ok() && request.kind == LockKind::kPosix && WouldDeadlockLocked(*this, request)) return Errno(EDEADLK);
    return attempt;
  });
  // Replacing a write lock by a read lock lets readers in.
  if (result.ok() && request.type == LockType::kRead) queue_.Notify(kAllEvents);
  return result;
}

std::optional<LockInfo> FileLocks::Test(const LockRequest& request) {
  MutexLock lock(mu_);
  const Held* held = FindConflictLocked(request);
  if (!held) return std::nullopt;
  return LockInfo{held->kind, held->type, held->range, held->kind == LockKind::kOfd ? -1 : held->pid};
}

void FileLocks::ReleaseOwner(LockKind kind, const void* owner) {
  size_t erased;
  {
    MutexLock lock(mu_);
    erased = std::erase_if(held_, [&](const Held& held) { return held.kind == kind && held.owner == owner; });
  }
  if (erased) queue_.Notify(kAllEvents);
}

std::vector<FileLocks::Listed> FileLocks::ListAll() {
  std::vector<Listed> all;
  std::vector<RefPtr<Inode>> references;  // each may turn out to be the last: not under the lock
  MutexLock lock(mu_);
  for (FileLocks* locks : Registry()) {
    Inode* inode = locks->inode_.load(std::memory_order_relaxed);
    // An inode on its way out takes itself off the registry in a moment.
    if (!inode || !inode->TryIncRef()) continue;
    references.push_back(RefPtr<Inode>::Adopt(inode));
    for (const Held& held : locks->held_) {
      Listed listed{references.back(), {held.kind, held.type, held.range, held.pid}, {}};
      for (const Waiter* waiter : Waiters()) {
        const LockRequest& wanted = waiter->request;
        if (waiter->locks == locks && Conflicts(held, wanted))
          listed.waiting.push_back({wanted.kind, wanted.type, wanted.range, wanted.pid});
      }
      all.push_back(std::move(listed));
    }
  }
  return all;
}

std::vector<LockInfo> FileLocks::List() {
  MutexLock lock(mu_);
  std::vector<LockInfo> list;
  for (const Held& held : held_) list.push_back({held.kind, held.type, held.range, held.pid});
  return list;
}

}  // namespace sentry::vfs
