// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/fanotify.h"

#include <algorithm>

namespace sentry::vfs {
namespace {

constexpr uint64_t kFlags = FAN_ONDIR | FAN_EVENT_ON_CHILD;

}  // namespace

Fanotify& Fanotify::Get() {
  static Fanotify* fanotify = new Fanotify;
  return *fanotify;
}

Fanotify::Key Fanotify::KeyOf(Kind kind, const Path& path) {
  switch (kind) {
    case Kind::kInode:
      return {kind, reinterpret_cast<uint64_t>(path.inode().get())};
    case Kind::kMount:
      return {kind, path.mount->unique_id()};
    case Kind::kFilesystem:
      break;
  }
  return {kind, reinterpret_cast<uint64_t>(&path.inode()->filesystem())};
}

Result<void> Fanotify::Add(const RefPtr<FanotifySink>& sink, const Path& path, const Change& change) {
  MutexLock lock(mu_);
  std::vector<Mark>& marks = marks_[KeyOf(change.kind, path)];
  auto it = std::ranges::find_if(marks, [&](const Mark& mark) { return mark.sink == sink; });
  if (it == marks.end()) {
    size_t mine = 0;
    for (const auto& [key, others] : marks_) {
      mine += std::ranges::count_if(others, [&](const Mark& mark) { return mark.sink == sink; });
    }
    if (mine >= change.limit) {
      if (marks.empty()) marks_.erase(KeyOf(change.kind, path));
      return Errno(ENOSPC);
    }
    Mark mark{.sink = sink};
    if (change.kind == Kind::kInode) mark.inode = path.inode();
    if (change.kind == Kind::kFilesystem) mark.filesystem = path.inode()->filesystem_ref();
    if (change.kind == Kind::kMount) mark.mount_id = static_cast<uint64_t>(path.mount->id());
    marks.push_back(std::move(mark));
    it = std::prev(marks.end());
    count_.fetch_add(1, std::memory_order_release);
  }
  if (change.ignored) {
    it->ignored |= change.mask;
    it->survives_modify |= change.survives_modify;
  } else {
    it->mask |= change.mask;
  }
  return OkResult();
}

Result<void> Fanotify::Remove(const RefPtr<FanotifySink>& sink, const Path& path, const Change& change) {
  std::vector<Mark> dropped;  // after the lock
  MutexLock lock(mu_);
  auto entry = marks_.find(KeyOf(change.kind, path));
  if (entry == marks_.end()) return Errno(ENOENT);
  auto it = std::ranges::find_if(entry->second, [&](const Mark& mark) { return mark.sink == sink; });
  if (it == entry->second.end()) return Errno(ENOENT);
  (change.ignored ? it->ignored : it->mask) &= ~change.mask;
  // What only says of which files nothing is left to say (fanotify_mark_remove_from_mask).
  if ((it->mask | it->ignored) & ~kFlags) return OkResult();
  dropped.push_back(std::move(*it));
  entry->second.erase(it);
  if (entry->second.empty()) marks_.erase(entry);
  count_.fetch_sub(1, std::memory_order_release);
  return OkResult();
}

template <typename Wanted>
void Fanotify::RemoveIf(Wanted wanted) {
  std::vector<Mark> dropped;  // after the lock
  MutexLock lock(mu_);
  for (auto entry = marks_.begin(); entry != marks_.end();) {
    std::vector<Mark>& marks = entry->second;
    for (auto it = marks.begin(); it != marks.end();) {
      if (!wanted(entry->first, *it)) {
        ++it;
        continue;
      }
      dropped.push_back(std::move(*it));
      it = marks.erase(it);
    }
    entry = marks.empty() ? marks_.erase(entry) : std::next(entry);
  }
  count_.fetch_sub(dropped.size(), std::memory_order_release);
}

void Fanotify::Flush(const FanotifySink& sink, Kind kind) {
  RemoveIf([&](const Key& key, const Mark& mark) { return key.first == kind && mark.sink == &sink; });
}

void Fanotify::RemoveAll(const FanotifySink& sink) {
  RemoveIf([&](const Key&, const Mark& mark) { return mark.sink == &sink; });
}

void Fanotify::Forget(const Inode& inode) {
  RemoveIf([&](const Key&, const Mark& mark) { return mark.inode == &inode; });
}

std::vector<Fanotify::Info> Fanotify::List(const FanotifySink& sink) {
  std::vector<std::pair<Info, RefPtr<Inode>>> found;
  {
    MutexLock lock(mu_);
    for (const auto& [key, marks] : marks_) {
      for (const Mark& mark : marks) {
        if (!(mark.sink == &sink)) continue;
        const Filesystem* filesystem = mark.inode ? &mark.inode->filesystem() : mark.filesystem.get();
        found.push_back({{key.first, mark.mask, mark.ignored, mark.survives_modify, mark.mount_id,
                          filesystem ? filesystem->device() : 0, 0},
                         mark.inode});
      }
    }
  }
  std::vector<Info> list;
  for (auto& [info, inode] : found) {
    auto stat = inode ? inode->GetStat() : Result<InodeStat>(Errno(ENOENT));
    if (stat.ok()) info.inode = stat->ino;
    list.push_back(info);
  }
  return list;
}

Fanotify::Targets Fanotify::Find(uint64_t mask, const Mount* mount, const Inode& target, const Inode* parent) {
  struct Wish {
    RefPtr<FanotifySink> sink;
    uint64_t mask = 0, ignored = 0;
  };
  std::map<const FanotifySink*, Wish> wishes;
  const bool of_directory = mask & FAN_ONDIR;
  {
    MutexLock lock(mu_);
    auto visit = [&](const Key& key, bool as_parent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      auto entry = marks_.find(key);
      if (entry == marks_.end()) return;
      for (Mark& mark : entry->second) {
        if (as_parent && !((mark.mask | mark.ignored) & FAN_EVENT_ON_CHILD)) continue;
        // What is ignored until the file is changed.
        if ((mask & FAN_MODIFY) && !mark.survives_modify) mark.ignored = 0;
        Wish& wish = wishes[mark.sink.get()];
        wish.sink = mark.sink;
        wish.ignored |= mark.ignored;
        if (of_directory && !(mark.mask & FAN_ONDIR)) continue;
        wish.mask |= mark.mask;
      }
    };
    visit({Kind::kInode, reinterpret_cast<uint64_t>(&target)}, false);
    if (parent) visit({Kind::kInode, reinterpret_cast<uint64_t>(parent)}, true);
    if (mount) visit({Kind::kMount, mount->unique_id()}, false);
    visit({Kind::kFilesystem, reinterpret_cast<uint64_t>(&target.filesystem())}, false);
  }
  Targets targets;
  for (auto& [key, wish] : wishes) {
    const uint64_t wanted = mask & wish.mask & ~wish.ignored & ~kFlags;
    if (wanted) targets.emplace_back(std::move(wish.sink), wanted | (mask & FAN_ONDIR));
  }
  std::ranges::sort(targets, [](const auto& a, const auto& b) { return a.first->priority() > b.first->priority(); });
  return targets;
}

void Fanotify::Notify(const FanotifyEvent& event) {
  const Inode* directory = event.directory ? event.directory->inode().get() : nullptr;
  const Inode* target = event.changes_names ? directory : event.object;
  if (!target) return;
  const Mount* mount = event.path ? event.path->mount.get() : nullptr;
  for (const auto& [sink, mask] : Find(event.mask, mount, *target, event.changes_names ? nullptr : directory))
    sink->OnEvent(event, mask);
}

Result<void> Fanotify::Ask(const Path& path, uint64_t mask) {
  const RefPtr<Dentry> parent = path.dentry->parent();
  Inode& inode = *path.inode();
  if (!inode.IsRegular() && !inode.IsDirectory()) return OkResult();
  if (inode.IsDirectory()) mask |= FAN_ONDIR;
  for (const auto& [sink, wanted] : Find(mask, path.mount.get(), inode, parent ? parent->inode().get() : nullptr))
    TRY(sink->AskPermission(path, wanted));
  return OkResult();
}

}  // namespace sentry::vfs
