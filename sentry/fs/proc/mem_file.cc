// SPDX-License-Identifier: Apache-2.0
// /proc/PID/mem: the process's memory by address, for debuggers. /proc/PID/pagemap: present for CAP_SYS_ADMIN only, and
// without frame numbers.
#include <algorithm>

#include "sentry/fs/proc/task_dir.h"

namespace sentry::fs {
namespace {

constexpr size_t kChunk = 64 << 10;
// One entry of 8 bytes for each page of the 47-bit address space.
constexpr int64_t kPagemapSize = (int64_t{1} << 47) / kPageSize * 8;

class MemFile final : public vfs::FileDescription {
 public:
  // The permission of the opener counts, for the address space of that time (proc(5)).
  MemFile(vfs::Path path, int flags, RefPtr<mm::MemoryManager> mm)
      : FileDescription(std::move(path), flags), mm_(std::move(mm)) {}

  Result<size_t> PRead(IoTarget& target, int64_t offset) override {
    if (!Alive()) return size_t{0};
    std::string buffer(std::min(target.remaining(), kChunk), '\0');
    size_t done = 0;
    while (target.remaining()) {
      const size_t want = std::min(target.remaining(), buffer.size());
      auto got = mm_->CopyIn(UserAddr(static_cast<uint64_t>(offset) + done), buffer.data(), want, true);
      if (!got.ok() || *got == 0) return done ? Result<size_t>(done) : Errno(EIO);
      auto put = target.Put(buffer.data(), *got);
      if (!put.ok()) return done ? Result<size_t>(done) : put.error();
      done += *put;
      if (*got < want || *put < *got) break;
    }
    return done;
  }
  Result<size_t> PWrite(IoSource& source, int64_t offset, int64_t* end) override {
    if (offset < 0) offset = position();  // O_APPEND means nothing here
    *end = offset;
    if (!Alive()) return size_t{0};
    std::string buffer(std::min(source.remaining(), kChunk), '\0');
    size_t done = 0;
    while (source.remaining()) {
      auto took = source.Take(buffer.data(), std::min(source.remaining(), buffer.size()));
      if (!took.ok()) return done ? Result<size_t>(done) : took.error();
      if (*took == 0) break;
      auto put = mm_->CopyOut(UserAddr(static_cast<uint64_t>(offset) + done), buffer.data(), *took, true);
      const size_t n = put.ok() ? *put : 0;
      if (n < *took) source.Untake(*took - n);
      done += n;
      if (n == 0 && done == 0) return Errno(EIO);
      if (n < *took) break;
    }
    *end = offset + static_cast<int64_t>(done);
    return done;
  }

 private:
  // Whatever becomes of the address space object, nothing is mapped in it after its last task.
  bool Alive() const { return mm_ && mm_->task_count.load(std::memory_order_acquire) > 0; }
  const RefPtr<mm::MemoryManager> mm_;
};

class PagemapFile final : public vfs::FileDescription {
 public:
  PagemapFile(vfs::Path path, int flags) : FileDescription(std::move(path), flags) {}
  Result<size_t> PRead(IoTarget& target, int64_t offset) override {
    if (offset < 0 || offset % 8) return Errno(EINVAL);
    if (offset >= kPagemapSize) return size_t{0};
    return target.PutZeroes(std::min(target.remaining() & ~size_t{7}, kChunk));
  }
};

class MemInode final : public ProcInode {
 public:
  MemInode(ProcFs& fs, TaskRef task, mode_t mode)
      : ProcInode(fs, S_IFREG | mode,
                  TaskInode(task.Id(), InodeKind::kEntry, (task.task ? 1024 : 0) + 720 + (mode == 0400)), task),
        is_pagemap_(mode == 0400) {}
  Result<vfs::FileRef> Open(const vfs::Path& path, int flags) override {
    RefPtr<kernel::Task> task = TRY(LiveTask());
    TRY(CheckAccess(*task, Errno(EACCES)));
    if (!is_pagemap_) return vfs::FileRef(MakeRef<MemFile>(path, flags, task->mm_ref()));
    Caller* caller = Caller::CurrentOrNull();
    if (caller && !caller->creds()->HasCapability(CAP_SYS_ADMIN)) return Errno(EPERM);
    return vfs::FileRef(MakeRef<PagemapFile>(path, flags));
  }

 private:
  const bool is_pagemap_;
};

}  // namespace

RefPtr<ProcInode> NewMemInode(ProcFs& fs, TaskRef task, mode_t mode) {
  return MakeRef<MemInode>(fs, std::move(task), mode);
}

}  // namespace sentry::fs
