// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/userfaultfd/userfaultfd.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "sentry/kernel/task.h"
#include "sentry/vfs/special_files.h"

namespace sentry::fs {
namespace {

using mm::UserfaultContext;

constexpr char kName[] = "anon_inode:[userfaultfd]";
constexpr uint64_t kApiIoctls = UFFD_API_IOCTLS;
constexpr uint64_t kRangeIoctls =
    uint64_t{1} << _UFFDIO_WAKE | uint64_t{1} << _UFFDIO_COPY | uint64_t{1} << _UFFDIO_ZEROPAGE;

// How an operation that fills pages ends: the count or the error goes to the field, and a part is EAGAIN.
Result<int64_t> Report(UserAddr field, uint64_t length, uint64_t done, const Result<void>& result) {
  const int64_t told = done || result.ok() ? static_cast<int64_t>(done) : -int64_t{result.error().number()};
  TRY(Caller::Current().CopyOut(field, told));
  if (told < 0) return result.error();
  return done == length ? Result<int64_t>(0) : Errno(EAGAIN);
}

}  // namespace

UserfaultFile::UserfaultFile(const Credentials& creds, RefPtr<UserfaultContext> context, int flags)
    : FileDescription(vfs::NewAnonymousPath(kName, 0600, creds), O_RDWR | (flags & O_NONBLOCK)),
      context_(std::move(context)),
      close_on_exec_(flags & O_CLOEXEC) {}

UserfaultFile::~UserfaultFile() { context_->Release(); }

Result<size_t> UserfaultFile::Read(IoTarget& target) {
  if (!context_->IsEnabled()) return Errno(EINVAL);
  if (target.remaining() < sizeof(uffd_msg)) return Errno(EINVAL);
  size_t done = 0;
  while (target.remaining() >= sizeof(uffd_msg)) {
    uffd_msg message;
    RefPtr<UserfaultContext> fork;
    if (!context_->NextMessage(&message, &fork)) break;
    if (fork) {
      auto& task = kernel::Task::Current();
      const int flags = (this->flags() & O_NONBLOCK) | (close_on_exec_ ? O_CLOEXEC : 0);
      auto fd = task.fds().Add(MakeRef<UserfaultFile>(*task.creds(), std::move(fork), flags), close_on_exec_,
                               task.SoftLimit(RLIMIT_NOFILE));
      if (!fd.ok()) return done ? Result<size_t>(done) : fd.error();
      message.arg.fork.ufd = static_cast<uint32_t>(*fd);
    }
    auto n = target.Put(&message, sizeof message);
    if (!n.ok()) return done ? Result<size_t>(done) : n;
    done += *n;
  }
  if (done == 0) return Errno(EAGAIN);
  return done;
}

EventMask UserfaultFile::Poll() {
  // A blocking descriptor is no good for poll(2): a fault may be woken before it is read.
  if (!context_->IsEnabled() || !IsNonBlocking()) return EPOLLERR;
  return context_->HasMessages() ? EventMask{EPOLLIN} : 0;
}

std::string UserfaultFile::FdInfo() const {
  const UserfaultContext::Counts counts = context_->counts();
  char text[128];
  snprintf(text, sizeof text, "pending:\t%zu\ntotal:\t%zu\nAPI:\t%llx:%llx:%llx\n", counts.pending, counts.total,
           UFFD_API, static_cast<unsigned long long>(context_->features()),
           static_cast<unsigned long long>(kApiIoctls | UserfaultContext::kFeatures));
  return text;
}

Result<int64_t> UserfaultFile::Ioctl(unsigned request, uint64_t argument) {
  const UserAddr at(argument);
  if (request == UFFDIO_API) return Api(at);
  if (!context_->IsEnabled()) return Errno(EINVAL);
  switch (request) {
    case UFFDIO_REGISTER:
      return Register(at);
    case UFFDIO_UNREGISTER: {
      auto range = TRY(Caller::Current().CopyIn<uffdio_range>(at));
      TRY(context_->Unregister(range.start, range.len));
      return 0;
    }
    case UFFDIO_WAKE: {
      auto range = TRY(Caller::Current().CopyIn<uffdio_range>(at));
      TRY(context_->CheckRange(range.start, range.len));
      context_->Wake(range.start, range.len);
      return 0;
    }
    case UFFDIO_COPY:
      return Copy(at);
    case UFFDIO_ZEROPAGE:
      return Zero(at);
    case UFFDIO_WRITEPROTECT:
      return WriteProtect(at);
    case UFFDIO_CONTINUE:
      return Continue(at);
    default:
      return Errno(EINVAL);
  }
}

Result<int64_t> UserfaultFile::Api(UserAddr argument) {
  Caller& caller = Caller::Current();
  auto api = TRY(caller.CopyIn<uffdio_api>(argument));
  const uint64_t wanted = api.features;
  Errno error(EINVAL);
  if (api.api == UFFD_API && !(wanted & ~UserfaultContext::kFeatures)) {
    if ((wanted & UFFD_FEATURE_EVENT_FORK) && !caller.creds()->HasCapability(CAP_SYS_PTRACE)) {
      error = Errno(EPERM);
    } else {
      api.features = UserfaultContext::kFeatures;
      api.ioctls = kApiIoctls;
      TRY(caller.CopyOut(argument, api));
      if (context_->Enable(wanted)) return 0;
    }
  }
  api = {};
  TRY(caller.CopyOut(argument, api));
  return error;
}

Result<int64_t> UserfaultFile::Register(UserAddr argument) {
  Caller& caller = Caller::Current();
  auto registration = TRY(caller.CopyIn<uffdio_register>(argument));
  TRY(context_->Register(registration.range.start, registration.range.len, registration.mode));
  registration.ioctls =
      kRangeIoctls | (registration.mode & UFFDIO_REGISTER_MODE_WP ? uint64_t{1} << _UFFDIO_WRITEPROTECT : 0);
  TRY(caller.CopyOut(argument + offsetof(uffdio_register, ioctls), registration.ioctls));
  return 0;
}

Result<int64_t> UserfaultFile::Copy(UserAddr argument) {
  Caller& caller = Caller::Current();
  auto copy = TRY(caller.CopyIn<uffdio_copy>(argument));
  if (copy.mode & ~uint64_t{UFFDIO_COPY_MODE_DONTWAKE | UFFDIO_COPY_MODE_WP}) return Errno(EINVAL);
  if (copy.src + copy.len <= copy.src) return Errno(EINVAL);
  TRY(context_->CheckRange(copy.dst, copy.len));
  uint64_t done;
  auto result = context_->Place(
      copy.dst, copy.len,
      [&](uint64_t offset, void* page) { return caller.CopyInBytes(UserAddr(copy.src + offset), page, kPageSize); },
      copy.mode & UFFDIO_COPY_MODE_WP, &done);
  if (done && !(copy.mode & UFFDIO_COPY_MODE_DONTWAKE)) context_->Wake(copy.dst, done);
  return Report(argument + offsetof(uffdio_copy, copy), copy.len, done, result);
}

Result<int64_t> UserfaultFile::Zero(UserAddr argument) {
  auto zero = TRY(Caller::Current().CopyIn<uffdio_zeropage>(argument));
  if (zero.mode & ~uint64_t{UFFDIO_ZEROPAGE_MODE_DONTWAKE}) return Errno(EINVAL);
  TRY(context_->CheckRange(zero.range.start, zero.range.len));
  uint64_t done;
  auto result = context_->Place(zero.range.start, zero.range.len, nullptr, false, &done);
  if (done && !(zero.mode & UFFDIO_ZEROPAGE_MODE_DONTWAKE)) context_->Wake(zero.range.start, done);
  return Report(argument + offsetof(uffdio_zeropage, zeropage), zero.range.len, done, result);
}

Result<int64_t> UserfaultFile::WriteProtect(UserAddr argument) {
  auto protect = TRY(Caller::Current().CopyIn<uffdio_writeprotect>(argument));
  if (protect.mode & ~uint64_t{UFFDIO_WRITEPROTECT_MODE_DONTWAKE | UFFDIO_WRITEPROTECT_MODE_WP}) return Errno(EINVAL);
  const bool on = protect.mode & UFFDIO_WRITEPROTECT_MODE_WP,
             wake = !(protect.mode & UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
  if (on && !wake) return Errno(EINVAL);
  TRY(context_->WriteProtect(protect.range.start, protect.range.len, on));
  if (!on && wake) context_->Wake(protect.range.start, protect.range.len);
  return 0;
}

// For pages of a file that are there but not mapped: no memory that can be registered has such.
Result<int64_t> UserfaultFile::Continue(UserAddr argument) {
  auto range = TRY(Caller::Current().CopyIn<uffdio_continue>(argument));
  TRY(context_->CheckRange(range.range.start, range.range.len));
  return Report(argument + offsetof(uffdio_continue, mapped), range.range.len, 0, Errno(EINVAL));
}

}  // namespace sentry::fs
