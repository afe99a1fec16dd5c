// SPDX-License-Identifier: Apache-2.0
// rseq(2). The host's kernel does the work, on the stub thread (platform::Context::SetRseq); what is left here are the
// rules of registration, and leaving a critical section when the sentry itself delivers a signal.
// Source: linux/rseq.h, Documentation of librseq, kernel/rseq.c for errors and their order.
#include <linux/rseq.h>

#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

constexpr uint32_t kRseqSize = 32;  // ORIG_RSEQ_SIZE, the only one of Linux 6.1

UserAddr Field(const platform::RseqArea& area, size_t offset) { return UserAddr(area.address + offset); }

bool Inside(const rseq_cs& section, uint64_t ip) { return ip - section.start_ip < section.post_commit_offset; }

}  // namespace

Result<void> Task::Internal::RegisterRseq(Task& task) {
  Internal& internal = *task.internal_;
  // Present and writable in the stub from here on: the host's kernel writes it when the sentry can't help. Writing
  // needs no more than the pin, but the page must be mapped, too.
  auto pin = task.mm_->Pin(UserAddr(internal.rseq.address), internal.rseq.length, /*for_write=*/true);
  if (!pin.ok()) return Errno(EFAULT);
  internal.rseq_pin = std::move(*pin);
  if (task.mm_->HandleFault(internal.rseq.address, platform::Access::kWrite).signal != 0) return Errno(EFAULT);
  return task.context_->SetRseq(internal.rseq);
}

Result<void> Task::SetRseq(const platform::RseqArea& area, int flags) {
  platform::RseqArea& current = internal_->rseq;
  if (!kernel_.platform().SupportsRseq()) return Errno(ENOSYS);
  if (flags & RSEQ_FLAG_UNREGISTER) {
    if ((flags & ~RSEQ_FLAG_UNREGISTER) || current.address == 0 || current.address != area.address ||
        current.length != area.length) {
      return Errno(EINVAL);
    }
    if (current.signature != area.signature) return Errno(EPERM);
    TRY(CopyOut(Field(current, offsetof(struct rseq, cpu_id_start)), uint32_t{0}));
    TRY(CopyOut(Field(current, offsetof(struct rseq, cpu_id)), static_cast<uint32_t>(RSEQ_CPU_ID_UNINITIALIZED)));
    TRY(context_->SetRseq({}));
    current = {};
    internal_->rseq_pin = {};
    return OkResult();
  }
  if (flags != 0) return Errno(EINVAL);
  if (current.address != 0) {
    if (current.address != area.address || current.length != area.length) return Errno(EINVAL);
    return Errno(current.signature != area.signature ? EPERM : EBUSY);
  }
  if (area.length != kRseqSize || area.address % kRseqSize != 0) return Errno(EINVAL);
  if (area.address >= platform::kGuestAddressLimit) return Errno(EFAULT);
  // A descriptor left over in recycled memory is not one of this registration.
  TRY(CopyOut(Field(area, offsetof(struct rseq, rseq_cs)), uint64_t{0}));
  current = area;
  Result<void> registered = Internal::RegisterRseq(*this);
  if (!registered.ok()) {
    current = {};
    internal_->rseq_pin = {};
  }
  return registered;
}

bool Task::Internal::AbortRseq(Task& task) {
  const platform::RseqArea& area = task.internal_->rseq;
  auto pointer = task.CopyIn<uint64_t>(Field(area, offsetof(struct rseq, rseq_cs)));
  if (!pointer.ok()) return false;
  if (*pointer == 0) return true;
  rseq_cs section;
  if (!task.CopyInBytes(UserAddr(*pointer), &section, sizeof section).ok()) return false;
  if (section.version != 0 || section.flags != 0) return false;
  if (section.start_ip >= platform::kGuestAddressLimit || section.abort_ip >= platform::kGuestAddressLimit ||
      section.start_ip + section.post_commit_offset >= platform::kGuestAddressLimit ||
      section.start_ip + section.post_commit_offset < section.start_ip || Inside(section, section.abort_ip)) {
    return false;
  }
  auto signature = task.CopyIn<uint32_t>(UserAddr(section.abort_ip - sizeof(uint32_t)));
  if (!signature.ok() || *signature != area.signature) return false;
  // One left behind is cleared as well: the kernel looks at it again at every preemption otherwise.
  if (!task.CopyOut(Field(area, offsetof(struct rseq, rseq_cs)), uint64_t{0}).ok()) return false;
  if (Inside(section, task.regs().rip)) task.regs().rip = section.abort_ip;
  return true;
}

}  // namespace sentry::kernel
