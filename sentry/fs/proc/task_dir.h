// SPDX-License-Identifier: Apache-2.0
// /proc itself with its process directories, /proc/PID and /proc/PID/task/TID, and the directories in them.
#ifndef SENTRY_FS_PROC_TASK_DIR_H_
#define SENTRY_FS_PROC_TASK_DIR_H_

#include <span>

#include "sentry/fs/proc/proc_inode.h"

namespace sentry::fs {

// The root: the static names, and one directory per process of the pid namespace.
class RootDirectory final : public StaticDirectory {
 public:
  explicit RootDirectory(ProcFs& fs) : StaticDirectory(fs, 1) {}
  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override;
  Result<std::vector<Entry>> List() override;
  bool MayCacheNames() const override { return false; }
};

// A directory about a task: nothing in it may outlive the task in the dentry cache.
class TaskDirectory : public ProcDirectory {
 public:
  using ProcDirectory::ProcDirectory;
  bool MayCacheNames() const override { return false; }
};

// /proc/PID (`task.task` null) or /proc/PID/task/TID.
RefPtr<ProcInode> NewTaskDirectory(ProcFs& fs, TaskRef task);

// fd_dir.cc
RefPtr<ProcInode> NewFdDirectory(ProcFs& fs, TaskRef task, bool info);
// map_files.cc
RefPtr<ProcInode> NewMapFilesDirectory(ProcFs& fs, TaskRef task);
// ns_file.cc
RefPtr<ProcInode> NewNsDirectory(ProcFs& fs, TaskRef task);
// net.cc
RefPtr<ProcInode> NewNetDirectory(ProcFs& fs, TaskRef task);
// task_links.cc: exe, cwd, root
enum class TaskLink : uint8_t { kExe, kCwd, kRoot };
RefPtr<ProcInode> NewTaskLink(ProcFs& fs, TaskRef task, TaskLink which);
// What /proc shows of a place: its path as seen from the reader's root.
std::string PathForReader(const kernel::Task& of, const vfs::Path& path);
// mem_file.cc: mem and pagemap
RefPtr<ProcInode> NewMemInode(ProcFs& fs, TaskRef task, mode_t mode);

// The text files: of every task, and of processes only.
std::span<const TextEntry> TaskEntries();
std::span<const TextEntry> ProcessEntries();

// Generators, by file.
// task_stat.cc
Result<std::string> TaskTimeOffsets(const Context& context);
Result<size_t> WriteTaskTimeOffsets(const Context& context, std::string_view data);
Result<std::string> TaskStat(const Context& context);
Result<std::string> TaskStatus(const Context& context);
Result<std::string> TaskStatm(const Context& context);
// task_maps.cc
Result<std::string> TaskMaps(const Context& context);
Result<std::string> TaskSmaps(const Context& context);
Result<std::string> TaskSmapsRollup(const Context& context);
Result<std::string> TaskNumaMaps(const Context& context);
// task_mounts.cc
Result<std::string> TaskMounts(const Context& context);
Result<std::string> TaskMountInfo(const Context& context);
Result<std::string> TaskMountStats(const Context& context);
// Their files can be polled: POLLPRI and POLLERR once after each change of the mounts (proc(5), /proc/PID/mounts).
Result<vfs::FileRef> NewMountsFile(const Context& context, const vfs::Path& path, int flags);
// id_maps.cc
Result<std::string> TaskIdMap(const Context& context);
Result<size_t> WriteTaskIdMap(const Context& context, std::string_view data);
Result<std::string> TaskSetgroups(const Context& context);
Result<size_t> WriteTaskSetgroups(const Context& context, std::string_view data);
// task_args.cc
Result<std::string> TaskCmdline(const Context& context);
Result<std::string> TaskEnviron(const Context& context);
Result<std::string> TaskAuxv(const Context& context);

}  // namespace sentry::fs

#endif  // SENTRY_FS_PROC_TASK_DIR_H_
