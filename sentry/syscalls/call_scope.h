// SPDX-License-Identifier: Apache-2.0
// CallScope: lets a system call handler work on a file that has no descriptor, and keeps the file that it makes from
// getting one (io_uring's registered files and direct descriptors; files that were closed while a request waits). While
// the scope lives, on its thread, GetFile and GetAnyFile take kFile as a descriptor for `file`, and InstallFile hands
// its file to `made` when capture is on.
#ifndef SENTRY_SYSCALLS_CALL_SCOPE_H_
#define SENTRY_SYSCALLS_CALL_SCOPE_H_

#include "sentry/vfs/file_description.h"

namespace sentry::syscalls {

class CallScope {
 public:
  static constexpr int kFile = -0x7ace;  // no guest gets here with it: the scope is open only while handlers are called

  explicit CallScope(vfs::FileRef file, bool capture = false)
      : file_(std::move(file)), capture_(capture), outer_(current_) {
    current_ = this;
  }
  ~CallScope() { current_ = outer_; }
  CallScope(const CallScope&) = delete;

  static CallScope* Current() { return current_; }
  const vfs::FileRef& file() const { return file_; }
  bool captures() const { return capture_; }
  vfs::FileRef made;

 private:
  static inline thread_local CallScope* current_ = nullptr;
  const vfs::FileRef file_;
  const bool capture_;
  CallScope* const outer_;
};

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_CALL_SCOPE_H_
