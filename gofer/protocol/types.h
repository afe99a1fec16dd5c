// SPDX-License-Identifier: Apache-2.0
// Values that both ends of the gofer protocol speak of. Attr, SetAttrRequest fields and StatFs travel as they stand
// (little-endian, no padding); everything that a caller of Client sees is here.
#ifndef GOFER_PROTOCOL_TYPES_H_
#define GOFER_PROTOCOL_TYPES_H_

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/errno.h"
#include "base/unique_fd.h"

namespace gofer {

// Names a file on the server, within one connection. Every id that a call returns belongs to the caller, who gives it
// back with exactly one Forget. Two ids may name one file (compare Attr dev and ino to find hard links). Ids are never
// reused within a connection.
using NodeId = uint64_t;
inline constexpr NodeId kNoNode = 0;

// An open directory stream on the server. Given back with CloseDir.
using DirHandle = uint64_t;

// "Leave it as the host made it", for uid and gid arguments.
inline constexpr uint32_t kKeepId = UINT32_MAX;

inline constexpr uint32_t kMaxWalkNames = 64;
inline constexpr uint32_t kMaxNameLength = 255;
inline constexpr uint32_t kMaxXattrSize = 65536 - 512;  // value or list; larger ones are refused with E2BIG

struct TimeStamp {
  int64_t sec = 0;
  uint32_t nsec = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(TimeStamp) == 16);

// statx(2), completely. `mask` says which of the fields the host's filesystem filled (STATX_*).
struct Attr {
  uint32_t mask = 0;
  uint32_t mode = 0;  // with S_IFMT
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t nlink = 0;
  uint32_t blksize = 0;
  uint64_t size = 0;
  uint64_t blocks = 0;  // 512-byte units
  uint64_t ino = 0;
  uint64_t mnt_id = 0;      // the host's mount; differs across host submounts
  uint64_t attributes = 0;  // STATX_ATTR_*
  uint32_t dev_major = 0;
  uint32_t dev_minor = 0;
  uint32_t rdev_major = 0;
  uint32_t rdev_minor = 0;
  TimeStamp atime;
  TimeStamp mtime;
  TimeStamp ctime;
  TimeStamp btime;  // valid when mask has STATX_BTIME
};
static_assert(sizeof(Attr) == 144);

struct NodeAttr {
  NodeId node = kNoNode;
  Attr attr;
};

// Which fields SetAttr changes. The order of application is that of the bits, size last but for times (a truncation
// would spoil the times); uid and gid before mode, as chown(2) clears the set-id bits.
enum SetAttrField : uint32_t {
  kSetUid = 1u << 0,
  kSetGid = 1u << 1,
  kSetMode = 1u << 2,
  kSetSize = 1u << 3,
  kSetAtime = 1u << 4,
  kSetMtime = 1u << 5,
  kSetAtimeNow = 1u << 6,  // the host's clock; excludes kSetAtime
  kSetMtimeNow = 1u << 7,
};

struct AttrChange {
  uint32_t fields = 0;  // SetAttrField
  uint32_t mode = 0;    // permission and set-id bits (07777)
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;
  TimeStamp atime;
  TimeStamp mtime;
};
static_assert(sizeof(AttrChange) == 56);

// statfs(2).
struct StatFs {
  uint64_t type = 0;
  uint64_t bsize = 0;
  uint64_t blocks = 0;
  uint64_t bfree = 0;
  uint64_t bavail = 0;
  uint64_t files = 0;
  uint64_t ffree = 0;
  uint64_t namelen = 0;
  uint64_t frsize = 0;
  uint64_t flags = 0;
};
static_assert(sizeof(StatFs) == 80);

struct DirEntry {
  uint64_t ino = 0;
  uint64_t cookie = 0;  // where the entry after this one starts: pass it to ReadDir to go on behind this entry
  uint8_t type = 0;     // DT_*; DT_UNKNOWN from a few filesystems
  std::string name;     // never "." or "..": the caller makes those
};

struct DirPage {
  std::vector<DirEntry> entries;
  bool end = false;  // no entries behind these
};

struct WalkResult {
  // One for each name found, in order; shorter than the names asked for when the walk stopped.
  std::vector<NodeAttr> found;
  // Why it stopped before names[found.size()]: 0 = it did not; ENOENT = no such name; ENOTDIR = the last one found is
  // no directory (a symbolic link too: the server never follows one, read it with ReadLink and walk again).
  int stop_errno = 0;
};

struct OpenFile {
  base::UniqueFd fd;
};

struct CreatedFile {
  NodeAttr node;
  base::UniqueFd fd;  // opened with the flags asked for
};

// What the server said about the connection when it was mounted.
struct MountInfo {
  NodeAttr root;  // a directory, or a regular file when a single file is bind-mounted
  bool read_only = false;
  bool submounts = true;  // host mounts below the root are visible
  uint32_t name_max = kMaxNameLength;
  uint64_t max_nodes = 0;  // ids the connection may hold; above it calls that make nodes fail with ENFILE
  uint64_t max_fds = 0;    // host fds the connection may hold: a bound on directories and on deleted files in use
  // O_PATH fd of the root, donated when the connection is served with direct access (--directfs); else empty.
  base::UniqueFd root_fd;
};

}  // namespace gofer

#endif  // GOFER_PROTOCOL_TYPES_H_
