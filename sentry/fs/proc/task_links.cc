// SPDX-License-Identifier: Apache-2.0
// exe, cwd and root: links that go to the place itself, whatever its name is by now.
#include "sentry/fs/proc/task_dir.h"

namespace sentry::fs {

using kernel::Task;

std::string PathForReader(const Task& of, const vfs::Path& path) {
  Task* reader = Task::CurrentOrNull();
  RefPtr<vfs::FsContext> fs = reader ? reader->fs_ref() : of.fs_ref();
  RefPtr<kernel::Namespaces> namespaces = reader ? reader->namespaces_ref() : of.namespaces_ref();
  if (!fs || !namespaces || !namespaces->mounts) return vfs::PathNameFromTop(path);
  std::string name = vfs::PathName(*namespaces->mounts, path, fs->root());
  // Links show a place outside the root by its name from the top (d_path), only getcwd(2) says more.
  constexpr std::string_view kUnreachable = "(unreachable)";
  if (name.starts_with(kUnreachable)) name.erase(0, kUnreachable.size());
  return name;
}

namespace {

class TaskLinkInode final : public ProcInode {
 public:
  TaskLinkInode(ProcFs& fs, TaskRef task, TaskLink which)
      : ProcInode(fs, S_IFLNK | 0777,
                  TaskInode(task.Id(), InodeKind::kEntry, (task.task ? 1024 : 0) + 700 + static_cast<uint32_t>(which)),
                  task),
        which_(which) {}
  Result<std::string> ReadLink() override {
    RefPtr<Task> task;
    vfs::Path path = TRY(Place(&task));
    return PathForReader(*task, path);
  }
  Result<std::optional<vfs::Path>> FollowMagicLink() override {
    RefPtr<Task> task;
    return std::optional<vfs::Path>(TRY(Place(&task)));
  }

 private:
  Result<vfs::Path> Place(RefPtr<Task>* task) {
    *task = task_ref().Get();
    if (!*task) return Errno(ENOENT);
    TRY(CheckAccess(**task, Errno(EACCES)));
    vfs::Path path;
    if (which_ == TaskLink::kExe) {
      if ((*task)->mm_ref()) path = (*task)->exe();
    } else if (RefPtr<vfs::FsContext> fs = (*task)->fs_ref()) {
      path = which_ == TaskLink::kCwd ? fs->cwd() : fs->root();
    }
    if (!path) return Errno(ENOENT);
    return path;
  }
  const TaskLink which_;
};

}  // namespace

RefPtr<ProcInode> NewTaskLink(ProcFs& fs, TaskRef task, TaskLink which) {
  return MakeRef<TaskLinkInode>(fs, std::move(task), which);
}

}  // namespace sentry::fs
