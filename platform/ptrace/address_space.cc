// SPDX-License-Identifier: Apache-2.0
#include "platform/ptrace/address_space.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "base/log.h"
#include "platform/ptrace/context.h"

namespace platform::ptrace {
namespace {

bool ValidRange(uint64_t address, uint64_t length) {
  return length != 0 && address % kPageSize == 0 && length % kPageSize == 0 && address < kGuestAddressLimit &&
         length <= kGuestAddressLimit - address;
}

// Before the mapping below the tracee's own rseq area changes: the host would find it gone on the way to the next call.
// The next Switch registers it again.
base::Result<void> LeaveRseq(Tracee& tracee, uint64_t start, uint64_t end) {
  const RseqArea& area = tracee.rseq();
  if (area.address == 0 || area.address >= end || area.address + area.length <= start) return base::OkResult();
  return tracee.SetRseq({});
}

}  // namespace

base::Result<base::RefPtr<PtraceAddressSpace>> PtraceAddressSpace::Create(PtracePlatform& platform) {
  // On the caller's CPU the three hand-overs that follow are cheap.
  if (PtraceContext* current = PtraceContext::Current()) {
    platform.placement().PinOther(current->slot(), platform.zygote().pid());
  }
  pid_t pid = TRY(platform.zygote().Fork());
  base::RefPtr<PtraceAddressSpace> space(new PtraceAddressSpace(platform, pid));
  Tracee leader(platform.layout(), platform.watch(), pid, pid);
  base::Result<void> attached = leader.Attach();
  if (!attached.ok()) {
    if (leader.dead()) space->MarkDead();
    // Killed at birth, by the out-of-memory killer perhaps; anything else is a host that forbids ptrace.
    return attached.error_number() == ESRCH ? base::Errno(EAGAIN) : attached.error();
  }
  base::Result<pid_t> service = leader.CloneThread();
  if (service.ok()) {
    space->service_tid_ = *service;
    leader.Detach();
  } else if (!leader.dead()) {
    // A traced child would stay a zombie of this thread.
    leader.KillProcess();
  }
  if (leader.dead()) {
    space->MarkDead();
    return !service.ok() && service.error_number() != ESRCH ? service.error() : base::Errno(EAGAIN);
  }
  platform.watch().Add(pid, space->service_tid_);
  return space;
}

PtraceAddressSpace::~PtraceAddressSpace() {
  CHECK_THAT(contexts_.empty());
  platform_.watch().Remove(pid_);
  if (!dead()) kill(pid_, SIGKILL);
}

void PtraceAddressSpace::Register(PtraceContext& context) {
  base::MutexLock lock(mu_);
  contexts_.push_back(&context);
}

void PtraceAddressSpace::Unregister(PtraceContext& context) {
  base::MutexLock lock(mu_);
  std::erase(contexts_, &context);
}

PtraceContext* PtraceAddressSpace::OwnContextLocked() const {
  PtraceContext* current = PtraceContext::Current();
  if (current != nullptr && current->BoundTo(*this)) return current;
  for (PtraceContext* context : contexts_) {
    if (context->OwnedByCaller()) return context;
  }
  return nullptr;
}

base::Result<void> PtraceAddressSpace::WithTracee(const std::function<base::Result<void>(Tracee&)>& body) {
  if (dead()) return base::Errno(ESRCH);
  if (PtraceContext* own = OwnContextLocked()) {
    base::Result<void> result = body(own->tracee());
    if (own->tracee().dead()) MarkDead();
    if (!own->tracee().stuck() || dead()) return result;
  }
  Tracee service(platform_.layout(), platform_.watch(), pid_, service_tid_);
  if (PtraceContext* current = PtraceContext::Current()) {
    platform_.placement().PinOther(current->slot(), service_tid_);
  }
  base::Result<void> result = service.Attach();
  if (!result.ok() && !service.dead() && !dead()) {
    // The host stopped to allow ptrace: without it the guest can't run either.
    LOG_ERROR("ptrace platform: attaching to stub thread %d: errno %d", service_tid_, result.error_number());
  }
  if (result.ok()) {
    result = body(service);
    service.Detach();
  }
  if (service.dead()) MarkDead();
  return result;
}

base::Result<pid_t> PtraceAddressSpace::NewThread(const Placement::Slot& slot) {
  base::MutexLock lock(mu_);
  if (dead()) return base::Errno(ESRCH);
  Tracee service(platform_.layout(), platform_.watch(), pid_, service_tid_);
  // The new thread inherits the CPU, and both hand-overs below stay on it.
  platform_.placement().PinOther(slot, service_tid_);
  base::Result<void> attached = service.Attach();
  base::Result<pid_t> tid = base::Errno(ESRCH);
  if (attached.ok()) {
    tid = service.CloneThread();
    service.Detach();
  } else if (!service.dead()) {
    tid = attached.error();
  }
  if (service.dead()) MarkDead();
  return tid;
}

base::Result<void> PtraceAddressSpace::Map(uint64_t address, uint64_t length, int fd, uint64_t offset,
                                           Protection protection, bool populate) {
  if (!ValidRange(address, length) || offset % kPageSize != 0) return base::Errno(EINVAL);
  const uint64_t arguments[] = {
      address,
      length,
      static_cast<uint64_t>(protection.ToHost()),
      static_cast<uint64_t>(MAP_SHARED | MAP_FIXED | (populate ? MAP_POPULATE : 0)),
      static_cast<uint64_t>(fd),
      offset,
  };
  base::MutexLock lock(mu_);
  return WithTracee([&](Tracee& tracee) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) -> base::Result<void> {
    TRY(LeaveRseq(tracee, address, address + length));
    base::Result<uint64_t> result = tracee.Call(SYS_mmap, arguments);
    if (result.ok()) {
      mapped_.Add(address, address + length);
      return base::OkResult();
    }
    if (tracee.stuck()) return result.error();
    // The host may have removed the old mapping before it failed, or not.
    UnmapLocked(tracee, address, address + length);
    return result.error();
  });
}

void PtraceAddressSpace::UnmapLocked(Tracee& tracee, uint64_t start, uint64_t end) {
  if (!mapped_.Intersects(start, end)) return;
  if (!LeaveRseq(tracee, start, end).ok()) return;
  const uint64_t arguments[] = {start, end - start};
  base::Result<uint64_t> result = tracee.Call(SYS_munmap, arguments);
  if (tracee.stuck()) return;
  if (!result.ok() && result.error_number() != ESRCH) {
    Kill("munmap", start, end, result.error());
    return;
  }
  mapped_.Remove(start, end);
}

void PtraceAddressSpace::Unmap(uint64_t address, uint64_t length) {
  if (!ValidRange(address, length)) {
    LOG_ERROR("ptrace platform: Unmap of bad range %#lx+%#lx", address, length);
    return;
  }
  base::MutexLock lock(mu_);
  if (!mapped_.Intersects(address, address + length)) return;
  base::Result<void> result = WithTracee([&](Tracee& tracee) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    UnmapLocked(tracee, address, address + length);
    return base::OkResult();
  });
  if (!result.ok() && !dead()) Kill("attach for munmap", address, address + length, result.error());
}

void PtraceAddressSpace::Protect(uint64_t address, uint64_t length, Protection protection) {
  if (!ValidRange(address, length)) {
    LOG_ERROR("ptrace platform: Protect of bad range %#lx+%#lx", address, length);
    return;
  }
  base::MutexLock lock(mu_);
  if (!mapped_.Intersects(address, address + length)) return;
  base::Result<void> result = WithTracee([&](Tracee& tracee) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) -> base::Result<void> {
    TRY(LeaveRseq(tracee, address, address + length));
    base::Errno error(0);
    // mprotect(2) stops at the first hole.
    bool ok = mapped_.ForEach(address, address + length, [&](uint64_t start, uint64_t end) {
      const uint64_t arguments[] = {start, end - start, static_cast<uint64_t>(protection.ToHost())};
      base::Result<uint64_t> changed = tracee.Call(SYS_mprotect, arguments);
      if (!changed.ok()) error = changed.error();
      return changed.ok();
    });
    if (ok || error.number() == ESRCH || tracee.stuck()) return base::OkResult();
    // Too many mappings, or a file that can't be written: the guest then faults on the whole range instead.
    UnmapLocked(tracee, address, address + length);
    return base::OkResult();
  });
  if (!result.ok() && !dead()) Kill("attach for mprotect", address, address + length, result.error());
}

void PtraceAddressSpace::Kill(const char* call, uint64_t start, uint64_t end, base::Errno error) {
  LOG_ERROR("ptrace platform: %s of [%#lx, %#lx) in stub %d: %s; the guest process is killed", call, start, end, pid_,
            error.Name());
  platform_.watch().Remove(pid_);
  // Not MarkDead: the pid is valid until a Context or the destructor sees the process gone.
  kill(pid_, SIGKILL);
}

}  // namespace platform::ptrace
