// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/address_space.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "platform/systrap/context.h"
#include "platform/systrap/filters.h"
#include "platform/systrap/futex.h"

namespace platform::systrap {
namespace {

// A new guest thread says that it is there; the host may be slow, but not that slow.
constexpr int64_t kThreadTimeoutNs = 10 * base::kNsPerSecond;
constexpr int64_t kThreadPollNs = base::kNsPerSecond / 50;

bool ValidRange(uint64_t address, uint64_t length) {
  return length != 0 && address % kPageSize == 0 && length % kPageSize == 0 && address < kGuestAddressLimit &&
         length <= kGuestAddressLimit - address;
}

Order Call(uint64_t number, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0, uint64_t d = 0, uint64_t e = 0,
           uint64_t f = 0) {
  return {.number = number, .arguments = {a, b, c, d, e, f}, .result = 0};
}

Order MapOrder(const Mapping& m) {
  return Call(SYS_mmap, m.address, m.length, static_cast<uint64_t>(m.protection.ToHost()),
              static_cast<uint64_t>(MAP_SHARED | MAP_FIXED | (m.populate ? MAP_POPULATE : 0)),
              static_cast<uint64_t>(m.fd), m.offset);
}

}  // namespace

SystrapAddressSpace::SystrapAddressSpace(SystrapPlatform& platform, StubProcess stub)
    : platform_(platform),
      pid_(stub.pid),
      control_offset_(stub.control),
      service_(std::move(stub.service)),
      service_cpu_(stub.service_cpu),
      units_(std::move(stub.areas)),
      threads_(std::move(stub.threads)) {
  for (auto& thread : threads_) parked_.push_back(thread.get());
}

base::Result<base::RefPtr<SystrapAddressSpace>> SystrapAddressSpace::Create(SystrapPlatform& platform) {
  if (std::optional<StubProcess> pooled = platform.TakeStub()) {
    base::RefPtr<SystrapAddressSpace> space(new SystrapAddressSpace(platform, *std::move(pooled)));
    platform.Register(*space, /*watched=*/true);
    return space;
  }
  uint64_t unit = TRY(platform.file().Allocate());
  base::Result<pid_t> pid = platform.Fork(unit);
  if (!pid.ok()) {
    platform.file().Free(unit);
    return pid.error();
  }
  StubProcess stub;
  stub.pid = *pid;
  stub.control = unit;
  base::RefPtr<SystrapAddressSpace> space(new SystrapAddressSpace(platform, std::move(stub)));
  base::Result<void> started = base::OkResult();
  {
    base::MutexLock lock(space->mu_);
    started = space->service_.Start(space->control(), *pid);
  }
  if (!started.ok()) {
    space->MarkDead();
    kill(*pid, SIGKILL);
    // Killed at birth, by the out-of-memory killer perhaps; anything else is a host that has no notifications for us.
    return started.error_number() == ESRCH ? base::Errno(EAGAIN) : started.error();
  }
  platform.Register(*space, /*watched=*/false);
  return space;
}

SystrapAddressSpace::~SystrapAddressSpace() {
  StubProcess stub;
  stub.pid = pid_;
  stub.control = control_offset_;
  bool empty = !dead() && platform_.HasRoomForStub();
  {
    base::MutexLock lock(mu_);
    empty = empty && EmptyLocked();
    stub.service = std::move(service_);
    stub.service_cpu = service_cpu_;
    stub.areas = std::move(units_);
  }
  {
    base::MutexLock lock(threads_mu_);
    stub.threads = std::move(threads_);
  }
  if (empty && platform_.GiveStub(*this, stub)) return;
  platform_.Unregister(*this);
  if (!dead()) kill(pid_, SIGKILL);
  platform_.FreeAfterDeath(pid_, stub.Units());
}

bool SystrapAddressSpace::EmptyLocked() {
  // Of several threads some would stop while others are still looked at.
  if (units_.size() > 1 || parked_.size() != units_.size()) return false;
  UnmapLocked(0, kGuestAddressLimit);
  if (dead()) return false;
  return parked_.empty() || CleanseLocked(*parked_[0]);
}

bool SystrapAddressSpace::CleanseLocked(StubThread& thread) {
  if (SystrapContext* current = SystrapContext::Current(); current != nullptr) {
    platform_.placement().PinOther(current->slot(), thread.tid);
  }
  Mailbox& mailbox = thread.mailbox();
  auto give_turn = [&] {
    if ((mailbox.state.exchange(STATE_GUEST, std::memory_order_seq_cst) & STATE_SLEEP) != 0) FutexWake(&mailbox.state);
  };
  mailbox.flags = FLAG_PARK;
  give_turn();
  const uint64_t ip = platform_.zygote().layout().page + StubOffset(kSystrapGuestPark);
  base::Result<uint64_t> held = service_.AwaitThread(thread.tid, ip, thread.address(), mailbox.state);
  if (!held.ok()) return false;
  // Nobody runs in the process now.
  thread.Clear();
  thread.PrepareFrame();
  constexpr uint64_t kNone = 1;
  mailbox.result = kNone;
  mailbox.state.store(STATE_GUEST, std::memory_order_seq_cst);
  if (!service_.LetGo(*held).ok()) return false;
  int64_t deadline = base::MonotonicNs() + kThreadTimeoutNs;
  for (;;) {
    uint32_t state = STATE_GUEST;
    if (!mailbox.state.compare_exchange_strong(state, STATE_GUEST | STATE_SLEEP) &&
        state != (STATE_GUEST | STATE_SLEEP)) {
      break;
    }
    if (dead() || base::MonotonicNs() > deadline || kill(pid_, 0) != 0) return false;
    FutexWait(&mailbox.state, STATE_GUEST | STATE_SLEEP, kThreadPollNs);
  }
  const auto result = static_cast<int64_t>(mailbox.result);
  return result == 0 || (result == -ENOSYS && !platform_.SupportsRseq());
}

Control* SystrapAddressSpace::control() const {
  return reinterpret_cast<Control*>(platform_.file().Pointer(control_offset_));
}

base::Result<Service::Outcome> SystrapAddressSpace::RunLocked(std::span<const Order> orders) {
  if (dead()) return base::Errno(ESRCH);
  // A hand-over between CPUs would cost ten times as much.
  if (SystrapContext* current = SystrapContext::Current(); current != nullptr && current->slot().index >= 0) {
    if (current->slot().index != service_cpu_) {
      service_cpu_ = current->slot().index;
      platform_.placement().PinOther(current->slot(), pid_);
    }
  }
  base::Result<Service::Outcome> outcome = service_.Run(orders);
  if (!outcome.ok()) {
    kill(pid_, SIGKILL);
    OnDeath();
  }
  return outcome;
}

base::Result<StubThread*> SystrapAddressSpace::TakeThread() {
  base::MutexLock lock(mu_);
  if (dead()) return base::Errno(ESRCH);
  if (parked_.empty()) return NewThreadLocked();
  StubThread* thread = parked_.back();
  parked_.pop_back();
  return thread;
}

void SystrapAddressSpace::ParkThread(StubThread* thread) {
  base::MutexLock lock(mu_);
  parked_.push_back(thread);
}

base::Result<StubThread*> SystrapAddressSpace::NewThreadLocked() {
  if (units_.size() >= platform_.max_threads()) return base::Errno(EAGAIN);
  uint64_t unit = TRY(platform_.file().Allocate());
  uint64_t address = kAreaAddress + units_.size() * kAreaSize;
  units_.push_back(unit);
  auto thread = std::make_unique<StubThread>(platform_.file().Pointer(unit), address, platform_.initial_fpu().size());
  thread->PrepareFrame();
  Mailbox& mailbox = thread->mailbox();
  mailbox.state.store(STATE_GUEST | STATE_SLEEP, std::memory_order_relaxed);
  Control& page = *control();
  page.area = address;
  page.stack = {
      .ss_sp = reinterpret_cast<void*>(address + kPageSize), .ss_flags = 0, .ss_size = AREA_ANSWERS - kPageSize};
  const uint64_t fd = static_cast<uint64_t>(platform_.file().fd());
  const Order orders[] = {
      Call(SYS_mmap, address, AREA_ANSWERS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, unit),
      Call(SYS_mmap, address + AREA_ANSWERS, kPageSize, PROT_READ, MAP_SHARED | MAP_FIXED, fd, unit + AREA_ANSWERS),
      Call(SYS_clone, kCloneThreadFlags),
  };
  Service::Outcome outcome = TRY(RunLocked(orders));
  if (outcome.error.number() != 0) return outcome.error.number() == ENOMEM ? outcome.error : base::Errno(EAGAIN);
  thread->tid = static_cast<pid_t>(outcome.result);
  // It reads the control page until it has posted.
  int64_t deadline = base::MonotonicNs() + kThreadTimeoutNs;
  for (;;) {
    uint32_t state = mailbox.state.load(std::memory_order_acquire);
    if ((state & ~STATE_SLEEP) == STATE_EVENT) break;
    if (dead() || base::MonotonicNs() > deadline || kill(pid_, 0) != 0) {
      Kill("a guest thread that doesn't start");
      return base::Errno(ESRCH);
    }
    FutexWait(&mailbox.state, state, kThreadPollNs);
  }
  StubThread* result = thread.get();
  base::MutexLock lock(threads_mu_);
  threads_.push_back(std::move(thread));
  return result;
}

base::Result<void> SystrapAddressSpace::MapAll(std::span<const Mapping> mappings) {
  std::vector<Order> orders;
  for (size_t next = 0; next < mappings.size();) {
    orders.clear();
    const size_t first = next;
    for (; next < mappings.size() && orders.size() < MAX_ORDERS; ++next) {
      const Mapping& m = mappings[next];
      if (!ValidRange(m.address, m.length) || m.offset % kPageSize != 0) return base::Errno(EINVAL);
      orders.push_back(MapOrder(m));
    }
    base::MutexLock lock(mu_);
    Service::Outcome outcome = TRY(RunLocked(orders));
    for (size_t i = 0; i < outcome.done; ++i) {
      const Mapping& m = mappings[first + i];
      mapped_.Add(m.address, m.address + m.length);
    }
    if (outcome.error.number() == 0) continue;
    // The host may have removed the old mapping before it failed, or not.
    const Mapping& failed = mappings[first + outcome.done];
    UnmapLocked(failed.address, failed.address + failed.length);
    return outcome.error;
  }
  return base::OkResult();
}

base::Result<void> SystrapAddressSpace::Map(uint64_t address, uint64_t length, int fd, uint64_t offset,
                                            Protection protection, bool populate) {
  const Mapping mapping = {address, length, fd, offset, protection, populate};
  return MapAll({&mapping, 1});
}

void SystrapAddressSpace::UnmapLocked(uint64_t start, uint64_t end) {
  if (!mapped_.Intersects(start, end)) return;
  const Order order = Call(SYS_munmap, start, end - start);
  base::Result<Service::Outcome> outcome = RunLocked({&order, 1});
  if (!outcome.ok()) return;
  if (outcome->error.number() != 0) {
    LOG_ERROR("systrap platform: munmap of [%#lx, %#lx) in stub %d: %s", start, end, pid_, outcome->error.Name());
    Kill("a mapping that can't be removed");
    return;
  }
  mapped_.Remove(start, end);
}

void SystrapAddressSpace::Unmap(uint64_t address, uint64_t length) {
  if (!ValidRange(address, length)) {
    LOG_ERROR("systrap platform: Unmap of bad range %#lx+%#lx", address, length);
    return;
  }
  base::MutexLock lock(mu_);
  UnmapLocked(address, address + length);
}

void SystrapAddressSpace::Protect(uint64_t address, uint64_t length, Protection protection) {
  if (!ValidRange(address, length)) {
    LOG_ERROR("systrap platform: Protect of bad range %#lx+%#lx", address, length);
    return;
  }
  base::MutexLock lock(mu_);
  std::vector<Order> orders;
  auto run = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (orders.empty()) return true;
    base::Result<Service::Outcome> outcome = RunLocked(orders);
    orders.clear();
    return outcome.ok() && outcome->error.number() == 0;
  };
  // mprotect(2) stops at the first hole.
  bool ok = mapped_.ForEach(address, address + length, [&](uint64_t start, uint64_t end) {
    mu_.AssertHeld();  // ForEach is a template that knows no locks
    orders.push_back(Call(SYS_mprotect, start, end - start, static_cast<uint64_t>(protection.ToHost())));
    return orders.size() < MAX_ORDERS || run();
  });
  // Too many mappings, or a file that can't be written: the guest then faults on the whole range instead.
  if ((!ok || !run()) && !dead()) UnmapLocked(address, address + length);
}

void SystrapAddressSpace::Kill(const char* why) {
  LOG_WARNING("systrap platform: stub %d: %s; the guest process is killed", pid_, why);
  platform_.Forget(*this);
  kill(pid_, SIGKILL);
  OnDeath();
}

void SystrapAddressSpace::OnDeath(int signal) {
  if (signal != 0) death_signal_.store(signal, std::memory_order_relaxed);
  MarkDead();
  base::MutexLock lock(threads_mu_);
  for (auto& thread : threads_) {
    // Whoever is about to sleep on the word finds it changed.
    thread->mailbox().state.store(0, std::memory_order_seq_cst);
    FutexWake(&thread->mailbox().state);
  }
}

}  // namespace platform::systrap
