// SPDX-License-Identifier: Apache-2.0
// /proc/PID/map_files: a link for each mapping of a file, named by its addresses.
#include <dirent.h>
#include <stdio.h>

#include "sentry/fs/proc/task_dir.h"

namespace sentry::fs {
namespace {

using kernel::Task;

constexpr uint32_t kFirstIndex = 4096;

// "start-end" in hexadecimal, without leading zeroes.
bool ParseRange(std::string_view text, uint64_t* start, uint64_t* end) {
  const std::string copy(text);
  int used = 0;
  unsigned long long from, to;
  if (sscanf(copy.c_str(), "%llx-%llx%n", &from, &to, &used) != 2 || used != static_cast<int>(copy.size()))
    return false;
  char again[40];
  snprintf(again, sizeof again, "%llx-%llx", from, to);
  *start = from;
  *end = to;
  return copy == again;
}

// The name of the file that is mapped exactly there; ENOENT.
Result<std::string> MappedName(Task& task, uint64_t start, uint64_t end) {
  RefPtr<mm::MemoryManager> mm = task.mm_ref();
  std::string name;
  if (mm) {
    mm->ForEachVma([&](const mm::VmaInfo& vma) {
      if (vma.start == start && vma.end == end && vma.inode) name = vma.name;
    });
  }
  if (name.empty()) return Errno(ENOENT);
  return name;
}

class MapLink final : public ProcInode {
 public:
  MapLink(ProcFs& fs, TaskRef task, uint64_t start, uint64_t end)
      : ProcInode(fs, S_IFLNK | 0600,
                  TaskInode(task.Id(), InodeKind::kEntry, kFirstIndex + static_cast<uint32_t>(start >> 12)), task),
        start_(start),
        end_(end) {}
  Result<std::string> ReadLink() override {
    RefPtr<Task> task = task_ref().Get();
    if (!task) return Errno(ENOENT);
    TRY(CheckAccess(*task, Errno(EACCES)));
    return MappedName(*task, start_, end_);
  }

 private:
  const uint64_t start_, end_;
};

class MapFilesDirectory final : public TaskDirectory {
 public:
  MapFilesDirectory(ProcFs& fs, TaskRef task)
      : TaskDirectory(fs, S_IFDIR | 0500, TaskInode(task.Id(), InodeKind::kEntry, kFirstIndex - 1), task) {}

  Result<RefPtr<vfs::Inode>> Lookup(std::string_view name) override {
    uint64_t start, end;
    RefPtr<Task> task = task_ref().Get();
    if (!task || !ParseRange(name, &start, &end)) return Errno(ENOENT);
    TRY(CheckAccess(*task, Errno(EACCES)));
    RefPtr<mm::MemoryManager> mm = task->mm_ref();
    if (!mm || !mm->ObjectAt(start, nullptr)) return Errno(ENOENT);
    return RefPtr<vfs::Inode>(MakeRef<MapLink>(fs(), task_ref(), start, end));
  }
  Result<std::vector<Entry>> List() override {
    RefPtr<Task> task = task_ref().Get();
    if (!task) return Errno(ENOENT);
    TRY(CheckAccess(*task, Errno(EACCES)));
    std::vector<Entry> list;
    RefPtr<mm::MemoryManager> mm = task->mm_ref();
    if (!mm) return list;
    mm->ForEachVma([&](const mm::VmaInfo& vma) {
      if (!vma.inode) return;
      char name[40];
      snprintf(name, sizeof name, "%llx-%llx", static_cast<unsigned long long>(vma.start),
               static_cast<unsigned long long>(vma.end));
      list.push_back(
          {name, TaskInode(task_ref().Id(), InodeKind::kEntry, kFirstIndex + static_cast<uint32_t>(vma.start >> 12)),
           DT_LNK, kFirstCookie + static_cast<int64_t>(vma.start >> 12)});
    });
    return list;
  }
};

}  // namespace

RefPtr<ProcInode> NewMapFilesDirectory(ProcFs& fs, TaskRef task) {
  return MakeRef<MapFilesDirectory>(fs, std::move(task));
}

}  // namespace sentry::fs
