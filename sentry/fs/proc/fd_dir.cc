// SPDX-License-Identifier: Apache-2.0
// /proc/PID/fd (links that open the same file again) and /proc/PID/fdinfo.
#include <dirent.h>

#include "sentry/fs/proc/task_dir.h"
#include "sentry/fs/proc/text_file.h"
#include "sentry/kernel/fd_table.h"

namespace sentry::fs {

using kernel::FdTable;
using kernel::Task;

namespace {

struct OpenFile {
  RefPtr<Task> task;
  vfs::FileRef file;
  bool close_on_exec = false;
};

// ENOENT when the task or the descriptor is gone. Not under vfs locks: the reference may be the last one.
Result<OpenFile> Find(const TaskRef& ref, int fd) {
  OpenFile found;
  found.task = ref.Get();
  RefPtr<FdTable> fds = found.task ? found.task->fds_ref() : nullptr;
  if (!fds) return Errno(ENOENT);
  auto file = fds->Get(fd);
  if (!file.ok()) return Errno(ENOENT);
  found.file = *file;
  found.close_on_exec = fds->GetCloseOnExec(fd).value_or(false);
  return found;
}

class FdLink final : public ProcInode {
 public:
  FdLink(ProcFs& fs, TaskRef task, int fd)
      : ProcInode(fs, S_IFLNK | 0700, TaskInode(task.Id(), InodeKind::kFd, static_cast<uint32_t>(fd)), task), fd_(fd) {}

  // The permission bits tell how the file is open (proc(5)).
  Result<vfs::InodeStat> GetStat() override {
    OpenFile open = TRY(Find(task_ref(), fd_));
    vfs::InodeStat stat = TRY(ProcInode::GetStat());
    stat.mode = S_IFLNK | S_IXUSR | (open.file->IsReadable() ? S_IRUSR : 0) | (open.file->IsWritable() ? S_IWUSR : 0);
    stat.size = 64;
    return stat;
  }
  Result<std::string> ReadLink() override {
    OpenFile open = TRY(Checked());
    std::string name = open.file->LinkName();
    if (!name.empty()) return name;
    name = PathForReader(*open.task, open.file->path());
    // Pipes and sockets are called by their inode.
    if (name == "pipe:" || name == "socket:") name += "[" + std::to_string(TRY(open.file->GetStat()).ino) + "]";
    return name;
  }
  Result<std::optional<vfs::Path>> FollowMagicLink() override {
    return std::optional<vfs::Path>(TRY(Checked()).file->path());
  }

 private:
  Result<OpenFile> Checked() {
    OpenFile open = TRY(Find(task_ref(), fd_));
    TRY(CheckAccess(*open.task, Errno(EACCES)));
    return open;
  }
  const int fd_;
};

// Its own kind of text: of a descriptor, not of a task.
class FdInfoFile final : public vfs::FileDescription {
 public:
  FdInfoFile(vfs::Path path, int flags, TaskRef task, int fd)
      : FileDescription(std::move(path), flags), task_(std::move(task)), fd_(fd) {}
  Result<size_t> PRead(IoTarget& target, int64_t offset) override {
    std::string text = TRY(Generate());
    if (offset < 0 || static_cast<uint64_t>(offset) >= text.size() || !target.remaining()) return size_t{0};
    return target.Put(text.data() + offset, std::min(target.remaining(), text.size() - static_cast<size_t>(offset)));
  }
  Result<size_t> Read(IoTarget& target) override {
    // The file may take locks of its own for its lines: not under the position's.
    int64_t at;
    {
      MutexLock lock(position_mu());
      at = position();
    }
    size_t n = TRY(PRead(target, at));
    MutexLock lock(position_mu());
    set_position(at + static_cast<int64_t>(n));
    return n;
  }

 private:
  Result<std::string> Generate() {
    OpenFile open = TRY(Find(task_, fd_));
    std::string text;
    const int flags = open.file->flags() | (open.close_on_exec ? O_CLOEXEC : 0);
    auto stat = open.file->GetStat();
    Append(text, "pos:\t%lld\nflags:\t0%o\nmnt_id:\t%d\nino:\t%llu\n", static_cast<long long>(open.file->position()),
           flags, open.file->path().mount ? open.file->path().mount->id() : 0,
           static_cast<unsigned long long>(stat.ok() ? stat->ino : 0));
    return text + open.file->FdInfo();
  }
  const TaskRef task_;
  const int fd_;
};

class FdInfoInode final : public ProcInode {
 public:
  FdInfoInode(ProcFs& fs, TaskRef task, int fd)
      : ProcInode(fs, S_IFREG | 0444, TaskInode(task.Id(), InodeKind::kFdInfo, static_cast<uint32_t>(fd)), task),
        fd_(fd) {}
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override {
    RefPtr<Task> task = TRY(LiveTask());
    TRY(CheckAccess(*task, Errno(EACCES)));
    return vfs::FileRef(MakeRef<FdInfoFile>(path, flags, task_ref(), fd_));
  }

 private:
  const int fd_;
};

class FdDirectory final : public TaskDirectory {
 public:
  FdDirectory(ProcFs& fs, TaskRef task, bool info)
      : TaskDirectory(fs, S_IFDIR | 0500, TaskInode(task.Id(), info ? InodeKind::kFdInfo : InodeKind::kFd, 0xffff'ffff),
                      task),
        info_(info) {}

  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override {
    int fd;
    if (!ParseId(name, &fd)) return Errno(ENOENT);
    RefPtr<Task> task = task_ref().Get();
    RefPtr<FdTable> fds = task ? task->fds_ref() : nullptr;
    // Called with a directory's lock: no reference to the file may end here.
    if (!fds || !fds->GetCloseOnExec(fd).ok()) return Errno(ENOENT);
    if (info_) return RefPtr<vfs::Inode>(MakeRef<FdInfoInode>(fs(), task_ref(), fd));
    return RefPtr<vfs::Inode>(MakeRef<FdLink>(fs(), task_ref(), fd));
  }
  Result<std::vector<Entry>> List() override {
    RefPtr<Task> task = task_ref().Get();
    if (!task) return Errno(ENOENT);
    std::vector<Entry> list;
    RefPtr<FdTable> fds = task->fds_ref();
    if (!fds) return list;
    for (int fd : fds->List()) {
      list.push_back(
          {std::to_string(fd),
           TaskInode(task_ref().Id(), info_ ? InodeKind::kFdInfo : InodeKind::kFd, static_cast<uint32_t>(fd)),
           static_cast<uint8_t>(info_ ? DT_REG : DT_LNK), kFirstCookie + fd});
    }
    return list;
  }

 private:
  const bool info_;
};

}  // namespace

RefPtr<ProcInode> NewFdDirectory(ProcFs& fs, TaskRef task, bool info) {
  return MakeRef<FdDirectory>(fs, std::move(task), info);
}

}  // namespace sentry::fs
