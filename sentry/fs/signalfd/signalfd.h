// SPDX-License-Identifier: Apache-2.0
// signalfd(2): reads take the signals of the reading task and its process.
#ifndef SENTRY_FS_SIGNALFD_SIGNALFD_H_
#define SENTRY_FS_SIGNALFD_SIGNALFD_H_

#include <atomic>
#include <memory>
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
  // The file's own, which from here on hears of the calling process' signals, too, until that process or the file ends.
  WaitQueue* wait_queue() override;
  std::string FdInfo() const override;

 private:
  // Passes the news of a process' signals on to queue_. It keeps the thread group, in whose queue it is.
  class Relay;
  SignalFd(vfs::Path path, kernel::SignalSet mask, int flags);
  ~SignalFd() override;

  std::atomic<kernel::SignalSet> mask_;
  WaitQueue queue_;
  Mutex mu_{LockRank::kTask};  // outside of the queues'
  std::vector<std::unique_ptr<Relay>> relays_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_SIGNALFD_SIGNALFD_H_
