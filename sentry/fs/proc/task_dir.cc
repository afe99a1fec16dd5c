// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/proc/task_dir.h"

#include <dirent.h>

#include <optional>

#include "sentry/kernel/kernel.h"

namespace sentry::fs {

using kernel::Kernel;
using kernel::Task;
using kernel::ThreadGroup;

namespace {

constexpr int64_t kPidCookieBase = 1 << 16;

// Entries that aren't plain text.
enum class Special : uint8_t { kFd, kFdInfo, kNs, kNet, kExe, kCwd, kRoot, kMem, kPagemap, kTask, kAttr, kMapFiles };
struct SpecialEntry {
  const char* name;
  Special kind;
  uint8_t type;
  bool processes_only = false;
};
constexpr SpecialEntry kSpecials[] = {
    {"task", Special::kTask, DT_DIR, true}, {"fd", Special::kFd, DT_DIR},
    {"fdinfo", Special::kFdInfo, DT_DIR},   {"ns", Special::kNs, DT_DIR},
    {"net", Special::kNet, DT_DIR},         {"attr", Special::kAttr, DT_DIR},
    {"exe", Special::kExe, DT_LNK},         {"cwd", Special::kCwd, DT_LNK},
    {"root", Special::kRoot, DT_LNK},       {"mem", Special::kMem, DT_REG},
    {"pagemap", Special::kPagemap, DT_REG}, {"map_files", Special::kMapFiles, DT_DIR, true},
};
constexpr uint32_t kProcessEntryIndex = 256, kSpecialIndex = 512, kAttrIndex = 600;

// Security modules' attributes: without one, reading gives EINVAL (proc_pid_attr_read).
Result<std::string> NoAttribute(const Context&) { return Errno(EINVAL); }
constexpr TextEntry kAttributes[] = {
    {"current", 0666, &NoAttribute},   {"exec", 0666, &NoAttribute}, {"fscreate", 0666, &NoAttribute},
    {"keycreate", 0666, &NoAttribute}, {"prev", 0444, &NoAttribute}, {"sockcreate", 0666, &NoAttribute},
};

class AttrDirectory final : public TaskDirectory {
 public:
  using TaskDirectory::TaskDirectory;
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override {
    for (uint32_t i = 0; i < std::size(kAttributes); ++i) {
      if (name == kAttributes[i].name)
        return RefPtr<vfs::Inode>(MakeRef<TextInode>(fs(), Ino(i), kAttributes[i], task_ref()));
    }
    return Errno(ENOENT);
  }
  Result<std::vector<Entry>> List() override {
    std::vector<Entry> list;
    for (uint32_t i = 0; i < std::size(kAttributes); ++i)
      list.push_back({kAttributes[i].name, Ino(i), DT_REG, kFirstCookie + i});
    return list;
  }

 private:
  uint64_t Ino(uint32_t i) const { return ino() + 1 + i; }
};

// /proc/PID/task.
class ThreadListDirectory final : public TaskDirectory {
 public:
  using TaskDirectory::TaskDirectory;
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override {
    int id;
    if (!ParseId(name, &id)) return Errno(ENOENT);
    RefPtr<Task> task = Kernel::Get().tasks().FindTask(fs().pid_ns(), id);
    if (!task || !(task->group_ref() == task_ref().group)) return Errno(ENOENT);
    return RefPtr<vfs::Inode>(NewTaskDirectory(fs(), {task_ref().group, task}));
  }
  Result<std::vector<Entry>> List() override {
    TRY(LiveTask());
    std::vector<Entry> list;
    for (const RefPtr<Task>& thread : task_ref().group->Threads()) {
      pid_t tid = thread->TidIn(fs().pid_ns());
      if (tid <= 0) continue;
      list.push_back(
          {std::to_string(tid), TaskInode(thread->tid(), InodeKind::kThreadDir, 0), DT_DIR, kPidCookieBase + tid});
    }
    std::sort(list.begin(), list.end(), [](const Entry& a, const Entry& b) { return a.cookie < b.cookie; });
    return list;
  }
};

class EntriesDirectory final : public TaskDirectory {
 public:
  using TaskDirectory::TaskDirectory;
  bool IsProcessDirectory() const override { return is_process(); }
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override;
  Result<std::vector<Entry>> List() override;

 private:
  bool is_process() const { return !task_ref().task; }
  uint64_t Ino(uint32_t index) const {
    return TaskInode(task_ref().Id(), InodeKind::kEntry, index + (is_process() ? 0 : 1024));
  }
  RefPtr<ProcInode> MakeSpecial(uint32_t index) const;
};

RefPtr<ProcInode> EntriesDirectory::MakeSpecial(uint32_t index) const {
  const TaskRef& task = task_ref();
  switch (kSpecials[index].kind) {
    case Special::kFd:
      return NewFdDirectory(fs(), task, false);
    case Special::kFdInfo:
      return NewFdDirectory(fs(), task, true);
    case Special::kNs:
      return NewNsDirectory(fs(), task);
    case Special::kNet:
      return NewNetDirectory(fs(), task);
    case Special::kExe:
      return NewTaskLink(fs(), task, TaskLink::kExe);
    case Special::kCwd:
      return NewTaskLink(fs(), task, TaskLink::kCwd);
    case Special::kRoot:
      return NewTaskLink(fs(), task, TaskLink::kRoot);
    case Special::kMem:
      return NewMemInode(fs(), task, 0600);
    case Special::kPagemap:
      return NewMemInode(fs(), task, 0400);
    case Special::kTask:
      return MakeRef<ThreadListDirectory>(fs(), S_IFDIR | 0555, Ino(kSpecialIndex + index), task);
    case Special::kAttr:
      return MakeRef<AttrDirectory>(fs(), S_IFDIR | 0555, Ino(kAttrIndex), task);
    case Special::kMapFiles:
      return NewMapFilesDirectory(fs(), task);
  }
  return nullptr;
}

Result<RefPtr<vfs::Inode>> EntriesDirectory::Lookup(std::string_view name) {
  if (!task_ref().Get()) return Errno(ENOENT);
  auto find = [&](std::span<const TextEntry> entries, uint32_t base) -> RefPtr<vfs::Inode> {
    for (uint32_t i = 0; i < entries.size(); ++i) {
      if (name == entries[i].name) return MakeRef<TextInode>(fs(), Ino(base + i), entries[i], task_ref());
    }
    return nullptr;
  };
  if (RefPtr<vfs::Inode> found = find(TaskEntries(), 0)) return found;
  if (is_process()) {
    if (RefPtr<vfs::Inode> found = find(ProcessEntries(), kProcessEntryIndex)) return found;
  }
  for (uint32_t i = 0; i < std::size(kSpecials); ++i) {
    if (name == kSpecials[i].name && (is_process() || !kSpecials[i].processes_only))
      return RefPtr<vfs::Inode>(MakeSpecial(i));
  }
  return Errno(ENOENT);
}

Result<std::vector<ProcDirectory::Entry>> EntriesDirectory::List() {
  if (!task_ref().Get()) return Errno(ENOENT);
  std::vector<Entry> list;
  int64_t cookie = kFirstCookie;
  for (uint32_t i = 0; i < std::size(kSpecials); ++i) {
    if (is_process() || !kSpecials[i].processes_only) {
      list.push_back({kSpecials[i].name, MakeSpecial(i)->ino(), kSpecials[i].type, cookie});
    }
    ++cookie;
  }
  auto add = [&](std::span<const TextEntry> entries, uint32_t base) {
    for (uint32_t i = 0; i < entries.size(); ++i) list.push_back({entries[i].name, Ino(base + i), DT_REG, cookie++});
  };
  add(TaskEntries(), 0);
  if (is_process()) add(ProcessEntries(), kProcessEntryIndex);
  return list;
}

}  // namespace

RefPtr<ProcInode> NewTaskDirectory(ProcFs& fs, TaskRef task) {
  InodeKind kind = task.task ? InodeKind::kThreadDir : InodeKind::kTaskDir;
  uint64_t ino = TaskInode(task.Id(), kind, 0);
  return MakeRef<EntriesDirectory>(fs, S_IFDIR | 0555, ino, std::move(task));
}

Result<RefPtr<vfs::Inode>> RootDirectory::Lookup(std::string_view name) {
  int id;
  if (!ParseId(name, &id)) return StaticDirectory::Lookup(name);
  // Threads that aren't leaders can be reached by their id, too, though they aren't listed (proc(5)).
  RefPtr<Task> task = Kernel::Get().tasks().FindTask(fs().pid_ns(), id);
  if (!task || !fs().MaySee(*task, 2)) return Errno(ENOENT);
  TaskRef ref{task->group_ref(), nullptr};
  if (!(task->group().leader() == task)) ref.task = task;
  return RefPtr<vfs::Inode>(NewTaskDirectory(fs(), std::move(ref)));
}

Result<std::vector<ProcDirectory::Entry>> RootDirectory::List() {
  std::vector<Entry> list = TRY(StaticDirectory::List());
  for (const auto& [pid, group] : Kernel::Get().tasks().ThreadGroups(fs().pid_ns())) {
    RefPtr<Task> leader = group->leader();
    if (!leader || !fs().MaySee(*leader, 2)) continue;
    list.push_back(
        {std::to_string(pid), TaskInode(group->tgid(), InodeKind::kTaskDir, 0), DT_DIR, kPidCookieBase + pid});
  }
  return list;
}

RefPtr<ThreadGroup> ProcessOfDirectory(vfs::FileDescription& file) {
  if (file.inode()->filesystem().TypeName() != "proc") return nullptr;
  auto& inode = static_cast<ProcInode&>(*file.inode());
  return inode.IsProcessDirectory() ? inode.task_ref().group : nullptr;
}

}  // namespace sentry::fs
