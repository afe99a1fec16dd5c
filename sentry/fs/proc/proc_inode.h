// SPDX-License-Identifier: Apache-2.0
// The building blocks of procfs: inodes with stable numbers, text files made from a table, directories that list
// themselves.
#ifndef SENTRY_FS_PROC_PROC_INODE_H_
#define SENTRY_FS_PROC_PROC_INODE_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sentry/fs/proc/proc_fs.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {

// A process (`task` null: whatever its leader is at the time) or one of its threads; empty for files of the system.
// Holds no more than the objects: each use asks Get() whether they are still there.
struct TaskRef {
  RefPtr<kernel::ThreadGroup> group;
  RefPtr<kernel::Task> task;

  explicit operator bool() const { return static_cast<bool>(group); }
  // Null once it was reaped. A zombie has no address space, files or namespaces.
  RefPtr<kernel::Task> Get() const;
  // Its id in the sandbox's root namespace: the base of inode numbers.
  pid_t Id() const { return task ? task->tid() : group->tgid(); }
};

struct TextEntry;

// What a generator sees. `task` is set, alive or a zombie, for entries of /proc/PID.
struct Context {
  ProcFs& fs;
  const TextEntry& entry;
  RefPtr<kernel::Task> task;
  bool whole_process = false;        // of /proc/PID, not of /proc/PID/task/TID
  RefPtr<const Credentials> opener;  // of the file that is written; null: a sentry thread's
  bool at_start = true;              // the write is at offset 0

  // Throughout: null for zombies.
  RefPtr<mm::MemoryManager> mm() const { return task->mm_ref(); }
  kernel::ThreadGroup& group() const { return task->group(); }
};

using Generator = Result<std::string> (*)(const Context& context);
// Gets one write whole; answers how much was used (all, usually).
using Writer = Result<size_t> (*)(const Context& context, std::string_view data);
using OpenCheck = Result<void> (*)(const Context& context);

using FileMaker = Result<vfs::FileRef> (*)(const Context& context, const vfs::Path& path, int flags);

// One text file. `text` is the content where there is no generator.
struct TextEntry {
  const char* name;
  mode_t mode;
  Generator read = nullptr;
  Writer write = nullptr;
  OpenCheck open = nullptr;
  const char* text = "";
  FileMaker make_file = nullptr;  // null: an ordinary text file
  bool of_net = false;            // belongs to who owns the caller's network namespace
};

class ProcInode : public vfs::Inode {
 public:
  ProcInode(ProcFs& fs, mode_t mode, uint64_t ino, TaskRef task = {});

  Result<vfs::InodeStat> GetStat() override;
  // Modes and owners don't change; truncation (O_TRUNC) means nothing.
  Result<void> SetStat(const vfs::SetStatRequest& request) override;
  Result<void> CheckPermission(const Credentials& creds, int mask) override;

  ProcFs& fs() const { return static_cast<ProcFs&>(filesystem()); }
  uint64_t ino() const { return ino_; }
  const TaskRef& task_ref() const { return task_; }
  // /proc/PID, which pidfd_send_signal(2) takes for a pidfd.
  virtual bool IsProcessDirectory() const { return false; }
  // ESRCH once it is gone.
  Result<RefPtr<kernel::Task>> LiveTask() const;

 private:
  const mode_t mode_;
  const uint64_t ino_;
  const TaskRef task_;
  const vfs::Timestamp created_;
};

class TextInode final : public ProcInode {
 public:
  TextInode(ProcFs& fs, uint64_t ino, const TextEntry& entry, TaskRef task = {})
      : ProcInode(fs, S_IFREG | entry.mode, ino, std::move(task)), entry_(entry) {}
  Result<vfs::InodeStat> GetStat() override;
  Result<void> CheckPermission(const Credentials& creds, int mask) override;
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;
  Result<std::string> Generate() const;
  Result<size_t> Store(std::string_view data, RefPtr<const Credentials> opener = {}, bool at_start = true) const;

 private:
  Result<Context> MakeContext() const;
  const TextEntry& entry_;
};

// A directory that can list itself. Cookies rise along the list and stay with a name.
class ProcDirectory : public ProcInode {
 public:
  using ProcInode::ProcInode;
  struct Entry {
    std::string name;
    uint64_t ino;
    uint8_t type;
    int64_t cookie;  // >= kFirstCookie
  };
  static constexpr int64_t kFirstCookie = 2;
  virtual Result<std::vector<Entry>> List() = 0;
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override;
};

// Names that are there as long as the filesystem.
class StaticDirectory : public ProcDirectory {
 public:
  explicit StaticDirectory(ProcFs& fs, uint64_t ino, mode_t mode = 0555) : ProcDirectory(fs, S_IFDIR | mode, ino) {}
  // Before others can see the directory.
  void Add(std::string name, RefPtr<ProcInode> inode);
  ProcInode* Find(std::string_view name) const;
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override;
  Result<std::vector<Entry>> List() override;
  void Clear();  // at the last unmount

 private:
  std::vector<std::pair<std::string, RefPtr<ProcInode>>> entries_;
};

class ProcLink final : public ProcInode {
 public:
  using Target = Result<std::string> (*)(ProcFs& fs);
  ProcLink(ProcFs& fs, uint64_t ino, Target target) : ProcInode(fs, S_IFLNK | 0777, ino), target_(target) {}
  Result<std::string> ReadLink() override { return target_(fs()); }

 private:
  const Target target_;
};

// As printf, appended.
[[gnu::format(printf, 2, 3)]] void Append(std::string& text, const char* format, ...);
// A decimal number without sign or leading zero; false when it isn't one below 2^31.
bool ParseId(std::string_view text, int* id);
// The number in what was written to a file (blanks around it); EINVAL.
Result<int64_t> ParseNumber(std::string_view data);

// A kernel id as the calling task's user namespace shows it; a sentry thread sees it as it is.
uint32_t ShownToReader(IdKind kind, uint32_t id);

// What the calling task's time namespace adds to times since boot.
int64_t ReaderBootOffset();

// ptrace_may_access of the calling task (a sentry thread may do all): `error` where it may not.
Result<void> CheckAccess(kernel::Task& target, Errno error);

// Inode numbers of per-task files: fixed while the task lives.
enum class InodeKind : uint8_t { kTaskDir, kThreadDir, kEntry, kFd, kFdInfo, kNamespace, kNet };
constexpr uint64_t TaskInode(pid_t id, InodeKind kind, uint32_t index) {
  return (uint64_t{static_cast<uint32_t>(id)} + 1) << 36 | uint64_t{static_cast<uint8_t>(kind)} << 32 | index;
}

}  // namespace sentry::fs

#endif  // SENTRY_FS_PROC_PROC_INODE_H_
