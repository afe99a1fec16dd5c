// SPDX-License-Identifier: Apache-2.0
// Private to fs/overlay.
//
// A tar archive in the pax interchange format (POSIX.1-2008, pax(1)): ustar headers, and extended ones for what does
// not fit into them. Extended attributes are records SCHILY.xattr.NAME, which tar(1) and container engines read. One
// thread.
#ifndef SENTRY_FS_OVERLAY_TAR_WRITER_H_
#define SENTRY_FS_OVERLAY_TAR_WRITER_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sentry/fs/overlay/overlay.h"
#include "sentry/vfs/inode.h"

namespace sentry::fs {

struct TarEntry {
  std::string path;
  // A regular file's is followed by `size` bytes of Data.
  mode_t mode = 0;
  std::string hard_link;  // the path of an earlier entry that this one is another name of
  std::string target;     // of a symbolic link
  uint64_t size = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  dev_t rdev = 0;
  vfs::Timestamp mtime;
  std::vector<std::pair<std::string, std::string>> xattrs;
};

class TarWriter {
 public:
  explicit TarWriter(const TarSink& sink) : sink_(sink) {}
  // Errors of all: the sink's; EINVAL for a type that tar has not (sockets).
  Result<void> Add(const TarEntry& entry);
  // Part of the data of the entry that was added last.
  Result<void> Data(const void* data, size_t length);
  // Fills the entry up: with zeroes to its size, then to a whole block.
  Result<void> EndData();
  // The end of the archive.
  Result<void> Finish();

 private:
  Result<void> Put(const void* data, size_t length);
  Result<void> Zeroes(uint64_t length);
  Result<void> Extended(const std::string& records);

  const TarSink& sink_;
  uint64_t missing_ = 0;  // of the current entry's data
  uint64_t written_ = 0;  // of the archive
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_OVERLAY_TAR_WRITER_H_
