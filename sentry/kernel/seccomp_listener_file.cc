// SPDX-License-Identifier: Apache-2.0
// The file of a seccomp listener: the ioctls of seccomp_unotify(2).
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>

#include "sentry/kernel/seccomp_listener.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/special_files.h"

namespace sentry::kernel {
namespace {

// linux/seccomp.h from 6.6 on.
constexpr unsigned kSetFlags = _IOW(SECCOMP_IOC_MAGIC, 4, uint64_t);
constexpr uint64_t kSyncWakeUp = 1;
// An early definition had the direction wrong; Linux still takes it.
constexpr unsigned kIdValidWrongDirection = _IOR(SECCOMP_IOC_MAGIC, 2, uint64_t);
constexpr unsigned kAddFdVersion0 = 24;

// The size is part of the request, and may be that of a later version.
bool IsAddFd(unsigned request) {
  constexpr unsigned kSizeBits = _IOC_SIZEMASK << _IOC_SIZESHIFT;
  return (request & ~kSizeBits) == (SECCOMP_IOCTL_NOTIF_ADDFD & ~kSizeBits);
}

// As copy_struct_from_user(): a longer struct than ours is right if the rest is zero.
Result<seccomp_notif_addfd> CopyInAddFd(Task& task, UserAddr from, size_t size) {
  if (size < kAddFdVersion0 || size >= kPageSize) return Errno(EINVAL);
  std::vector<uint8_t> bytes(std::max(size, sizeof(seccomp_notif_addfd)));
  TRY(task.CopyInBytes(from, bytes.data(), size));
  if (std::any_of(bytes.begin() + sizeof(seccomp_notif_addfd), bytes.end(), [](uint8_t byte) { return byte != 0; })) {
    return Errno(E2BIG);
  }
  seccomp_notif_addfd request;
  memcpy(&request, bytes.data(), sizeof request);
  return request;
}

class ListenerFile final : public vfs::FileDescription {
 public:
  ListenerFile(vfs::Path path, RefPtr<SeccompListener> listener)
      : FileDescription(std::move(path), O_RDWR), listener_(std::move(listener)) {}
  ~ListenerFile() override { listener_->Close(); }

  Result<size_t> Read(IoTarget&) override { return Errno(EINVAL); }
  Result<size_t> Write(IoSource&) override { return Errno(EINVAL); }
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  EventMask Poll() override { return listener_->Poll(); }
  WaitQueue* wait_queue() override { return &listener_->queue(); }
  std::string LinkName() const override { return "anon_inode:seccomp notify"; }

  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override {
    Task& task = Task::Current();
    UserAddr address(argument);
    if (IsAddFd(request)) return listener_->AddFd(task, TRY(CopyInAddFd(task, address, _IOC_SIZE(request))));
    switch (request) {
      case SECCOMP_IOCTL_NOTIF_RECV:
        return listener_->Receive(task, address);
      case SECCOMP_IOCTL_NOTIF_SEND:
        return listener_->Send(TRY(task.CopyIn<seccomp_notif_resp>(address)));
      case SECCOMP_IOCTL_NOTIF_ID_VALID:
      case kIdValidWrongDirection:
        return listener_->IsValid(TRY(task.CopyIn<uint64_t>(address)));
      case kSetFlags:
        // SYNC_WAKE_UP is a hint to a scheduler.
        if (argument & ~kSyncWakeUp) return Errno(EINVAL);
        return 0;
      default:
        return Errno(EINVAL);
    }
  }

 private:
  RefPtr<SeccompListener> listener_;
};

}  // namespace

vfs::FileRef NewSeccompListenerFile(RefPtr<SeccompListener> listener) {
  static const RefPtr<Credentials> kRoot = Credentials::Root(0);
  return MakeRef<ListenerFile>(vfs::NewAnonymousPath("seccomp notify", S_IFREG | 0600, *kRoot), std::move(listener));
}

}  // namespace sentry::kernel
