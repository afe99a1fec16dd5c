// SPDX-License-Identifier: Apache-2.0
// userfaultfd(2): the descriptor side; what the address space does is in mm/userfault.h.
#ifndef SENTRY_FS_USERFAULTFD_USERFAULTFD_H_
#define SENTRY_FS_USERFAULTFD_USERFAULTFD_H_

#include "sentry/mm/userfault.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {

class UserfaultFile final : public vfs::FileDescription {
 public:
  // `flags`: O_NONBLOCK, O_CLOEXEC (of the descriptors of children, too).
  UserfaultFile(const Credentials& creds, RefPtr<mm::UserfaultContext> context, int flags);
  ~UserfaultFile() override;

  Result<size_t> Read(IoTarget& target) override;
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override;
  EventMask Poll() override;
  WaitQueue* wait_queue() override { return &context_->read_queue(); }
  std::string LinkName() const override { return "anon_inode:[userfaultfd]"; }
  std::string FdInfo() const override;

 private:
  Result<int64_t> Api(UserAddr argument);
  Result<int64_t> Register(UserAddr argument);
  Result<int64_t> Copy(UserAddr argument);
  Result<int64_t> Zero(UserAddr argument);
  Result<int64_t> WriteProtect(UserAddr argument);
  Result<int64_t> Continue(UserAddr argument);

  const RefPtr<mm::UserfaultContext> context_;
  const bool close_on_exec_;
};

}  // namespace sentry::fs

#endif  // SENTRY_FS_USERFAULTFD_USERFAULTFD_H_
