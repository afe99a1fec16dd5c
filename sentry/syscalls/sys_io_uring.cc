// SPDX-License-Identifier: Apache-2.0
// io_uring_setup, io_uring_enter, io_uring_register, and the descriptor of a ring.
#include <fcntl.h>
#include <linux/io_uring.h>

#include <algorithm>

#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/uring.h"
#include "sentry/vfs/special_files.h"

namespace sentry::syscalls {
namespace {

constexpr char kName[] = "anon_inode:[io_uring]";
constexpr uint32_t kSetupFlags = IORING_SETUP_IOPOLL | IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF | IORING_SETUP_CQSIZE |
                                 IORING_SETUP_CLAMP | IORING_SETUP_ATTACH_WQ | IORING_SETUP_R_DISABLED |
                                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                                 IORING_SETUP_SQE128 | IORING_SETUP_CQE32 | IORING_SETUP_SINGLE_ISSUER |
                                 IORING_SETUP_DEFER_TASKRUN;

class RingFile final : public vfs::FileDescription {
 public:
  RingFile(vfs::Path path, RefPtr<Ring> ring) : FileDescription(std::move(path), O_RDWR), ring_(std::move(ring)) {}
  ~RingFile() override { ring_->Close(); }

  Ring& ring() { return *ring_; }
  Result<size_t> Read(IoTarget&) override { return Errno(EINVAL); }
  Result<size_t> Write(IoSource&) override { return Errno(EINVAL); }
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  EventMask Poll() override { return ring_->Poll(); }
  WaitQueue* wait_queue() override { return &ring_->queue(); }

  Result<void> ConfigureMmap(mm::MmapRequest& request) override {
    RefPtr<RingMemory> memory;
    switch (request.offset) {
      case IORING_OFF_SQ_RING:
      case IORING_OFF_CQ_RING:  // one region for both
        memory = ring_->queues().rings();
        break;
      case IORING_OFF_SQES:
        memory = ring_->queues().sqes();
        break;
      default:
        return Errno(EINVAL);
    }
    if (request.length > memory->length()) return Errno(EINVAL);
    request.object = memory;
    request.offset = 0;
    return OkResult();
  }

 private:
  const RefPtr<Ring> ring_;
};

// Combinations that the kernel refuses (io_uring_create of 6.1).
Result<void> CheckFlags(Task& task, const io_uring_params& p) {
  if (p.resv[0] || p.resv[1] || p.resv[2]) return Errno(EINVAL);
  const uint32_t flags = p.flags;
  if (flags & ~kSetupFlags) return Errno(EINVAL);
  const bool sqpoll = flags & IORING_SETUP_SQPOLL;
  if ((flags & IORING_SETUP_SQ_AFF) && !sqpoll) return Errno(EINVAL);
  if (sqpoll && (flags & (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_DEFER_TASKRUN)))
    return Errno(EINVAL);
  if ((flags & IORING_SETUP_TASKRUN_FLAG) && !(flags & (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN)))
    return Errno(EINVAL);
  if ((flags & IORING_SETUP_DEFER_TASKRUN) && !(flags & IORING_SETUP_SINGLE_ISSUER)) return Errno(EINVAL);
  if (flags & IORING_SETUP_ATTACH_WQ) {
    vfs::FileRef other = TRY(GetFile(task, static_cast<int>(p.wq_fd)));
    if (!RingOf(*other)) return Errno(EINVAL);
  }
  return OkResult();
}

// The argument of a wait: a mask, and with IORING_ENTER_EXT_ARG a time-out.
struct WaitArgument {
  UserAddr mask;
  uint64_t mask_size = 0;
  int64_t deadline = kNoDeadline;
};

Result<WaitArgument> CopyInWait(Task& task, uint32_t flags, UserAddr argument, uint64_t size) {
  if (!(flags & IORING_ENTER_EXT_ARG)) return WaitArgument{.mask = argument, .mask_size = size};
  if (size != sizeof(io_uring_getevents_arg)) return Errno(EINVAL);
  auto arg = TRY(task.CopyIn<io_uring_getevents_arg>(argument));
  if (arg.pad) return Errno(EINVAL);
  WaitArgument wait{.mask = UserAddr(arg.sigmask), .mask_size = arg.sigmask_sz};
  if (arg.ts) wait.deadline = TRY(CopyInTimeoutDeadline(task, UserAddr(arg.ts)));
  return wait;
}

Result<vfs::FileRef> GetRing(Task& task, int fd) {
  vfs::FileRef file = TRY(GetFile(task, fd));
  if (!RingOf(*file)) return Errno(EOPNOTSUPP);
  return file;
}

}  // namespace

Ring* RingOf(vfs::FileDescription& file) {
  // No tree can hold a detached dentry, and only rings have this name.
  if (file.path().dentry->parent() || file.path().dentry->name() != kName) return nullptr;
  return &static_cast<RingFile&>(file).ring();
}

vfs::FileRef NewRingFile(Task& task, RefPtr<Ring> ring) {
  return vfs::FileRef(new RingFile(vfs::NewAnonymousPath(kName, 0600, *task.creds()), std::move(ring)));
}

SYSCALL_HANDLER(SysIoUringSetup) {
  auto params = TRY(task.CopyIn<io_uring_params>(args.Addr(1)));
  TRY(CheckFlags(task, params));
  RefPtr<Ring> ring = TRY(Ring::Create(task, args.Uint(0), &params));
  TRY(task.CopyOut(args.Addr(1), params));
  vfs::FileRef file = NewRingFile(task, ring);
  if ((params.flags & IORING_SETUP_SQPOLL) && !ring->IsDisabled()) TRY(ring->WakeSqThread(task));
  return InstallFile(task, std::move(file), true);
}

SYSCALL_HANDLER(SysIoUringEnter) {
  const uint32_t to_submit = args.Uint(1), min_complete = args.Uint(2), flags = args.Uint(3);
  if (flags & ~uint32_t{IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP | IORING_ENTER_SQ_WAIT | IORING_ENTER_EXT_ARG})
    return Errno(EINVAL);
  vfs::FileRef file = TRY(GetRing(task, args.Int(0)));
  Ring& ring = *RingOf(*file);
  if (ring.IsDisabled()) return Errno(EBADFD);
  int64_t submitted = 0;
  if (ring.setup_flags() & IORING_SETUP_SQPOLL) {
    if (flags & IORING_ENTER_SQ_WAKEUP) TRY(ring.WakeSqThread(task));
    submitted = to_submit;
  } else if (to_submit) {
    submitted = TRY(ring.Submit(task, to_submit));
    if (submitted != to_submit) return submitted;
  }
  if (!(flags & IORING_ENTER_GETEVENTS)) {
    (void)ring.queues().Flush();
    return submitted;
  }
  auto wait = [&]() -> Result<void> {
    WaitArgument argument = TRY(CopyInWait(task, flags, args.Addr(4), args.Size(5)));
    if (!argument.mask.IsNull()) task.SetTemporaryMask(TRY(CopyInSignalSet(task, argument.mask, argument.mask_size)));
    return ring.Wait(task, min_complete, argument.deadline);
  };
  auto waited = wait();
  if (submitted || waited.ok()) return submitted;
  return waited.error();
}

SYSCALL_HANDLER(SysIoUringRegister) {
  vfs::FileRef file = TRY(GetRing(task, args.Int(0)));
  return RingOf(*file)->Register(task, args.Uint(1), args.Addr(2), args.Uint(3));
}

}  // namespace sentry::syscalls
