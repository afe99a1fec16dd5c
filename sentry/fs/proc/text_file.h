// SPDX-License-Identifier: Apache-2.0
// An open text file of procfs. A read at offset 0 takes a new picture; reads further on see the same one, so that a
// file read in pieces is consistent (as seq_file's).
#ifndef SENTRY_FS_PROC_TEXT_FILE_H_
#define SENTRY_FS_PROC_TEXT_FILE_H_

#include <string>

#include "sentry/vfs/file_description.h"

namespace sentry::fs {

class TextFile : public vfs::FileDescription {
 public:
  TextFile(vfs::Path path, int flags) : FileDescription(std::move(path), flags) {
    if (Caller* caller = Caller::CurrentOrNull()) opener_ = caller->creds();
  }

  Result<size_t> Read(IoTarget& target) override;
  Result<size_t> PRead(IoTarget& target, int64_t offset) override;
  Result<size_t> Write(IoSource& source) override;
  Result<size_t> PWrite(IoSource& source, int64_t offset, int64_t* end) override;

 private:
  struct Text : public RefCounted<Text> {
    std::string data;
  };
  // Without locks: generators take those of tasks, mounts and files.
  Result<RefPtr<Text>> Snapshot(int64_t offset);
  static Result<size_t> Copy(const Text& text, IoTarget& target, int64_t offset);

  RefPtr<const Credentials> opener_;
  Mutex mu_{LockRank::kLeaf};
  RefPtr<Text> text_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_PROC_TEXT_FILE_H_
