// SPDX-License-Identifier: Apache-2.0
// signalfd(2): reads take the signals of the reading task and its process.
#ifndef SENTRY_FS_SIGNALFD_SIGNALFD_H_
#define SENTRY_FS_SIGNALFD_SIGNALFD_H_

#include <atomic>
#include <vector>

#include "sentry/kernel/task.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {

class SignalFd final : public vfs::FileDescription {
 public:
  static RefPtr<SignalFd> Create(const Credentials& creds, kernel::SignalSet mask, int flags);
  static SignalFd* From(vfs::FileDescription& file);
  void set_mask(kernel::SignalSet mask);

  Result<size_t> Read(IoTarget& target) override;
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  EventMask Poll() override;
  // The calling task's.
  WaitQueue* wait_queue() override;
  // Keeps the adding task, whose queue the epoll item sits in, for the life of the file.
  Result<void> OnEpollAdd() override;
  std::string FdInfo() const override;

 private:
  SignalFd(vfs::Path path, kernel::SignalSet mask, int flags);

  std::atomic<kernel::SignalSet> mask_;
  Mutex mu_{LockRank::kLeaf};
  std::vector<RefPtr<kernel::Task>> watched_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_SIGNALFD_SIGNALFD_H_
