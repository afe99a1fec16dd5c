// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/leases.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "sentry/kernel/core/caller.h"
#include "sentry/kernel/core/tunables.h"

namespace sentry::vfs {

struct Leases::Lease final : public FileDescription::EpollLink {
  Lease(FileDescription& file, int type, Notice on_break)
      : file(&file), inode(file.inode().get()), type(type), on_break(std::move(on_break)) {}
  // The last close gives the lease up.
  void OnFileDestroyed() override {
    Leases& table = Leases::Get();
    auto self = table.Take(*file);
    table.queue_.Notify(kAllEvents);
  }

  const pid_t pid = Caller::CurrentOrNull() ? Caller::Current().CallerTgid() : 0;
  FileDescription* const file;
  Inode* const inode;  // lives as long as the file
  int type;            // F_RDLCK, F_WRLCK; F_UNLCK: its holder did not give it up in time and has lost it
  int target = -1;     // what it is to become; -1: nobody wants in
  int64_t deadline_ns = 0;
  Notice on_break;
};

Leases& Leases::Get() {
  static Leases* leases = new Leases;
  return *leases;
}

std::unique_ptr<Leases::Lease> Leases::Take(const FileDescription& file) {
  MutexLock lock(mu_);
  auto it = std::find_if(leases_.begin(), leases_.end(), [&](const auto& lease) { return lease->file == &file; });
  if (it == leases_.end()) return nullptr;
  std::unique_ptr<Lease> lease = std::move(*it);
  leases_.erase(it);
  count_.fetch_sub(1, std::memory_order_release);
  return lease;
}

Result<void> Leases::AddLocked(std::unique_ptr<Lease>& fresh) {
  Lease* mine = nullptr;
  for (const auto& lease : leases_) {
    if (lease->inode != fresh->inode) continue;
    if (lease->file == fresh->file) {
      mine = lease.get();
    } else if (lease->type == F_UNLCK) {
      continue;
    } else if (fresh->type == F_WRLCK || lease->type == F_WRLCK || lease->target == F_UNLCK) {
      return Errno(EAGAIN);
    }
  }
  if (!mine) {
    leases_.push_back(std::move(fresh));
    count_.fetch_add(1, std::memory_order_release);
    return OkResult();
  }
  // One that is being broken only gets weaker.
  if (mine->target != -1 && (mine->target == F_UNLCK || fresh->type == F_WRLCK)) return Errno(EAGAIN);
  mine->target = -1;
  mine->type = fresh->type;
  return OkResult();
}

Result<void> Leases::Set(FileDescription& file, int type, Notice on_break) {
  if (type == F_UNLCK) {
    auto lease = Take(file);
    if (!lease) return Errno(EAGAIN);
    file.RemoveEpollLink(lease.get());
    queue_.Notify(kAllEvents);
    return lease->type == F_UNLCK ? Result<void>(Errno(EAGAIN)) : OkResult();
  }
  Inode& inode = *file.inode();
  // A read lease suffers no writer, the holder itself included; a write lease no other description at all.
  if (type == F_RDLCK) {
    if (!inode.DenyWriteAccess().ok()) return Errno(EAGAIN);
    inode.AllowWriteAccess();
  } else if (inode.open_count() > 1) {
    return Errno(EAGAIN);
  }
  auto lease = std::make_unique<Lease>(file, type, std::move(on_break));
  file.AddEpollLink(lease.get());
  auto add = [&] {
    MutexLock lock(mu_);
    return AddLocked(lease);
  };
  auto added = add();
  if (lease) file.RemoveEpollLink(lease.get());  // it was not taken
  queue_.Notify(kAllEvents);
  return added;
}

int Leases::TypeOf(const FileDescription& file) const {
  MutexLock lock(mu_);
  for (const auto& lease : leases_) {
    if (lease->file == &file) return lease->target != -1 ? lease->target : lease->type;
  }
  return F_UNLCK;
}

std::vector<Leases::Info> Leases::List() const {
  MutexLock lock(mu_);
  std::vector<Info> list;
  for (const auto& lease : leases_) {
    if (lease->type != F_UNLCK && lease->inode->TryIncRef())
      list.push_back({RefPtr<Inode>::Adopt(lease->inode), lease->type, lease->target, lease->pid});
  }
  return list;
}

bool Leases::ConflictsLocked(const Inode& inode, bool write, Notices* notices, int64_t* deadline_ns) {
  const int64_t now = base::MonotonicNs();
  bool conflict = false;
  for (const auto& lease : leases_) {
    if (lease->inode != &inode || lease->type == F_UNLCK || (!write && lease->type == F_RDLCK)) continue;
    const int target = write ? F_UNLCK : F_RDLCK;
    if (lease->target != F_UNLCK && lease->target != target) {
      if (lease->target == -1) {
        const int64_t seconds = tunables::lease_break_time.Get();
        lease->deadline_ns = seconds > 0 ? now + seconds * base::kNsPerSecond : kNoDeadline;
      }
      lease->target = target;
      // A holder on its way out hears nothing; its lease is gone in a moment.
      if (lease->file->TryIncRef()) notices->emplace_back(FileRef::Adopt(lease->file), lease->on_break);
    }
    if (now >= lease->deadline_ns) {
      lease->type = std::exchange(lease->target, -1);
      continue;
    }
    conflict = true;
    *deadline_ns = std::min(*deadline_ns, lease->deadline_ns);
  }
  return conflict;
}

Result<void> Leases::Break(Inode& inode, bool write, bool nonblocking) {
  Caller* caller = Caller::CurrentOrNull();
  if (!caller) return OkResult();
  BlockerEntry entry(caller->blocker());
  queue_.Add(entry, kAllEvents);
  for (Result<void> slept;;) {
    Notices notices;
    int64_t deadline = kNoDeadline;
    bool conflict;
    {
      MutexLock lock(mu_);
      conflict = ConflictsLocked(inode, write, &notices, &deadline);
    }
    for (const auto& [file, notice] : notices) notice(*file);
    if (!conflict) return OkResult();
    if (nonblocking) return Errno(EAGAIN);
    if (!slept.ok() && slept.error() != Errno(ETIMEDOUT)) return slept.error();
    slept = caller->Block(deadline);
  }
}

}  // namespace sentry::vfs
