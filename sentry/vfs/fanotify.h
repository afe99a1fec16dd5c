// SPDX-License-Identifier: Apache-2.0
// The vfs side of fanotify(7): marks on inodes, mounts and filesystems, and who is told. The descriptor side is
// fs/fanotify. One table for the sandbox, empty nearly always: the paths that every open takes look at one counter.
// Thread-safe; sinks are called without locks of rank > kInode.
#ifndef SENTRY_VFS_FANOTIFY_H_
#define SENTRY_VFS_FANOTIFY_H_

#include <sys/fanotify.h>

#include <atomic>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sentry/vfs/path.h"

namespace sentry::vfs {

class FileDescription;

struct FanotifyEvent {
  uint64_t mask = 0;           // FAN_*, with FAN_ONDIR when it is about a directory
  const Path* path = nullptr;  // of an open file; null for other events
  // What it happened to. Null in an event of a directory's names when the file is not known.
  Inode* object = nullptr;
  const Dentry* object_dentry = nullptr;
  // Where that is, if it is known; the directory whose names changed.
  const Dentry* directory = nullptr;
  std::string_view name;
  bool changes_names = false;  // FAN_CREATE, FAN_DELETE, FAN_MOVED_*, FAN_RENAME
  // FAN_RENAME
  const Dentry* new_directory = nullptr;
  std::string_view new_name;
};

class FanotifySink : public RefCounted<FanotifySink> {
 public:
  virtual ~FanotifySink() = default;
  // Higher ones are asked first: FAN_CLASS_*.
  virtual unsigned priority() const = 0;
  virtual void OnEvent(const FanotifyEvent& event, uint64_t mask) = 0;
  // Waits for the answer. EPERM, kErestartsys (death).
  virtual Result<void> AskPermission(const Path& path, uint64_t mask) = 0;
};

class Fanotify {
 public:
  static Fanotify& Get();
  bool Any() const { return count_.load(std::memory_order_acquire) != 0; }

  enum class Kind : uint8_t { kInode, kMount, kFilesystem };
  struct Change {
    Kind kind;
    uint64_t mask;         // FAN_*, with FAN_ONDIR and FAN_EVENT_ON_CHILD
    bool ignored = false;  // the mask is of what is ignored
    bool survives_modify = false;
    size_t limit = SIZE_MAX;  // of the sink's marks
  };
  // Adds to the sink's mark of that object, made if need be (ENOSPC); or removes from it (ENOENT).
  Result<void> Add(const RefPtr<FanotifySink>& sink, const Path& path, const Change& change);
  Result<void> Remove(const RefPtr<FanotifySink>& sink, const Path& path, const Change& change);
  // All marks of a kind, or all there are.
  void Flush(const FanotifySink& sink, Kind kind);
  void RemoveAll(const FanotifySink& sink);
  struct Info {
    Kind kind;
    uint64_t mask, ignored;
    bool survives_modify;
    uint64_t mount_id, device, inode;  // as far as the kind has it
  };
  std::vector<Info> List(const FanotifySink& sink);

  void Notify(const FanotifyEvent& event);
  // Before a file is opened or read: FAN_OPEN_PERM and its kin.
  Result<void> Ask(const Path& path, uint64_t mask);
  // The last name and the last use of an inode are gone: so are its marks.
  void Forget(const Inode& inode);

 private:
  struct Mark {
    RefPtr<FanotifySink> sink;
    uint64_t mask = 0, ignored = 0;
    bool survives_modify = false;
    RefPtr<Inode> inode;
    RefPtr<Filesystem> filesystem;
    uint64_t mount_id = 0;
  };
  using Key = std::pair<Kind, uint64_t>;
  static Key KeyOf(Kind kind, const Path& path);
  using Targets = std::vector<std::pair<RefPtr<FanotifySink>, uint64_t>>;
  // The sinks that want some of `mask`, and what of it. `target`: whose marks count, `parent`: those for its children's
  // events, too.
  Targets Find(uint64_t mask, const Mount* mount, const Inode& target, const Inode* parent);
  template <typename Wanted>
  void RemoveIf(Wanted wanted);

  std::atomic<size_t> count_{0};
  Mutex mu_{LockRank::kLeaf};
  std::map<Key, std::vector<Mark>> marks_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_FANOTIFY_H_
