// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/address_space.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
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
constexpr size_t kMaxRefused = 256;

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
      patching_(platform.may_patch()),
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
  std::vector<uint64_t> patch_units;
  {
    base::MutexLock lock(mu_);
    empty = empty && EmptyLocked();
    stub.service = std::move(service_);
    stub.service_cpu = service_cpu_;
    stub.areas = std::move(units_);
    patch_units = std::move(patch_units_);
  }
  {
    base::MutexLock lock(threads_mu_);
    stub.threads = std::move(threads_);
  }
  if (empty && platform_.GiveStub(*this, stub)) {
    // Mapped nowhere now.
    for (uint64_t unit : patch_units) platform_.file().Free(unit);
    return;
  }
  platform_.Unregister(*this);
  if (!dead()) kill(pid_, SIGKILL);
  std::vector<uint64_t> units = stub.Units();
  units.insert(units.end(), patch_units.begin(), patch_units.end());
  platform_.FreeAfterDeath(pid_, std::move(units));
}

bool SystrapAddressSpace::EmptyLocked() {
  // Of several threads some would stop while others are still looked at.
  if (units_.size() > 1 || parked_.size() != units_.size()) return false;
  DropPatchesLocked(0, kGuestAddressLimit, /*restore=*/false);
  TakeBackRoomLocked(0, kGuestAddressLimit);
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
    for (size_t i = first; i < next; ++i) {
      BeforeChangeLocked(mappings[i].address, mappings[i].address + mappings[i].length, /*restore=*/false);
    }
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
  BeforeChangeLocked(start, end, /*restore=*/false);
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
  BeforeChangeLocked(address, address + length, /*restore=*/true);
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

void SystrapAddressSpace::MarkText(uint64_t address, uint64_t length) {
  if (!ValidRange(address, length)) return;
  base::MutexLock lock(mu_);
  if (patching_) sites_.text.Add(address, address + length);
}

void SystrapAddressSpace::LendRoom(uint64_t address, uint64_t length) {
  if (!ValidRange(address, length)) return;
  base::MutexLock lock(mu_);
  if (patching_) sites_.Lend(address, address + length);
}

void SystrapAddressSpace::TakeBackRoom(uint64_t address, uint64_t length) {
  if (!ValidRange(address, length)) return;
  base::MutexLock lock(mu_);
  TakeBackRoomLocked(address, address + length);
}

namespace {
std::optional<CallSites::Gate> Copy(const CallSites::Gate* gate) {
  return gate == nullptr ? std::nullopt : std::optional(*gate);
}
}  // namespace

std::optional<CallSites::Gate> SystrapAddressSpace::GateAt(uint64_t address, bool gone) {
  base::MutexLock lock(mu_);
  return Copy(sites_.GateAt(address, gone));
}

std::optional<CallSites::Gate> SystrapAddressSpace::GateReturningTo(uint64_t address, bool gone) {
  base::MutexLock lock(mu_);
  return Copy(sites_.GateReturningTo(address, gone));
}

std::optional<CallSites::Gate> SystrapAddressSpace::RelocatedEndingAt(uint64_t address) {
  base::MutexLock lock(mu_);
  return Copy(sites_.RelocatedEndingAt(address));
}

void SystrapAddressSpace::StopPatching() {
  base::MutexLock lock(mu_);
  patching_ = false;
  DropPatchesLocked(0, kGuestAddressLimit, /*restore=*/true);
}

bool SystrapAddressSpace::RunAllLocked(std::span<const Order> orders) {
  base::Result<Service::Outcome> outcome = RunLocked(orders);
  return outcome.ok() && outcome->error.number() == 0;
}

uint64_t SystrapAddressSpace::TakePageLocked() {
  if (free_pages_.empty()) {
    base::Result<uint64_t> unit = platform_.file().Allocate();
    if (!unit.ok()) return 0;
    patch_units_.push_back(*unit);
    for (uint64_t page = 0; page < kAreaSize; page += kPageSize) free_pages_.push_back(*unit + page);
  }
  const uint64_t page = free_pages_.back();
  free_pages_.pop_back();
  return page;
}

void SystrapAddressSpace::BeforeChangeLocked(uint64_t start, uint64_t end, bool restore) {
  sites_.text.Remove(start, end);
  DropPatchesLocked(start, end, restore);
  if (sites_.HasRoomIn(start, end)) TakeBackRoomLocked(start, end);
}

void SystrapAddressSpace::DropPatchesLocked(uint64_t start, uint64_t end, bool restore) {
  std::vector<Order> orders;
  auto first = sites_.pages.lower_bound(start);
  auto last = sites_.pages.lower_bound(end);
  for (auto it = first; it != last; ++it) {
    const CallSites::Page& page = it->second;
    // A move replaces what is there at one stroke.
    orders.push_back(
        restore ? Call(SYS_mremap, page.shadow, kPageSize, kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED, page.address)
                : Call(SYS_munmap, page.shadow, kPageSize));
    free_pages_.push_back(page.file_offset);
  }
  sites_.pages.erase(first, last);
  static_assert(CallSites::kMaxPages <= MAX_ORDERS);
  if (orders.empty()) return;
  if (!RunAllLocked(orders) && !dead()) Kill("patched text that can't be put back");
  // Whoever was resumed before this may have met what was there.
  patch_epoch_.fetch_add(1, std::memory_order_seq_cst);
}

void SystrapAddressSpace::TakeBackRoomLocked(uint64_t start, uint64_t end) {
  if (!sites_.HasRoomIn(start, end)) return;
  DropPatchesLocked(0, kGuestAddressLimit, /*restore=*/true);
  std::vector<Order> orders;
  static_assert(CallSites::kMaxRoomPages <= MAX_ORDERS);
  for (const CallSites::Room& room : sites_.rooms()) {
    if (room.start >= end || room.end <= start) continue;
    for (const CallSites::RoomPage& page : room.pages) {
      orders.push_back(Call(SYS_munmap, page.address, kPageSize));
      free_pages_.push_back(page.file_offset);
    }
  }
  sites_.TakeBack(start, end);
  if (!orders.empty() && !RunAllLocked(orders) && !dead()) Kill("code of patched calls that can't be removed");
  patch_epoch_.fetch_add(1, std::memory_order_seq_cst);
}

void SystrapAddressSpace::PatchSite(uint64_t return_address, uint64_t number) {
  base::MutexLock lock(mu_);
  if (!patching_ || dead() || refused_.size() >= kMaxRefused) return;
  if (std::find(refused_.begin(), refused_.end(), return_address) != refused_.end()) return;
  if (!PatchLocked(return_address, number)) refused_.push_back(return_address);
}

void SystrapAddressSpace::RefuseSite(uint64_t return_address) {
  base::MutexLock lock(mu_);
  if (refused_.size() < kMaxRefused) refused_.push_back(return_address);
  const uint64_t page = (return_address - 1) & ~(kPageSize - 1);
  DropPatchesLocked(page, page + kPageSize, /*restore=*/true);
}

bool SystrapAddressSpace::PatchLocked(uint64_t return_address, uint64_t number) {
  const uint64_t address = (return_address - 1) & ~(kPageSize - 1);
  if (address >= kGuestAddressLimit) return false;
  // The clocks have a vDSO, and answers that take a trap.
  if (number == SYS_clock_gettime || number == SYS_gettimeofday || number == SYS_time) return false;
  // Later perhaps.
  if (sites_.text.ForEach(address, address + kPageSize,
                          [&](uint64_t from, uint64_t to) { return to - from != kPageSize; })) {
    return true;
  }
  auto patched = sites_.pages.find(address);
  if (patched == sites_.pages.end() && sites_.pages.size() >= CallSites::kMaxPages) return false;
  const uint64_t offset = TakePageLocked();
  if (offset == 0) return false;
  uint8_t* view = platform_.file().Pointer(offset);
  const uint64_t fd = static_cast<uint64_t>(platform_.file().fd());
  CallSites::Page page = {.address = address, .file_offset = offset, .shadow = 0, .relocated = {}};
  if (patched != sites_.pages.end()) {
    page.shadow = patched->second.shadow;
    page.relocated = patched->second.relocated;
    memcpy(view, platform_.file().Pointer(patched->second.file_offset), kPageSize);
  } else {
    page.shadow = sites_.FreeShadow();
    // A second mapping of what is mapped there (mremap(2), old_size 0), and a copy of that.
    const Order copy[] = {
        Call(SYS_mremap, address, 0, kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED, page.shadow),
        Call(SYS_mmap, kCopyAddress, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, offset),
        Call(ORDER_COPY, kCopyAddress, page.shadow, kPageSize),
        Call(SYS_munmap, kCopyAddress, kPageSize),
    };
    if (!RunAllLocked(copy)) {
      patching_ = false;
      const Order undo[] = {Call(SYS_munmap, page.shadow, kPageSize), Call(SYS_munmap, kCopyAddress, kPageSize)};
      (void)RunAllLocked(undo);
      free_pages_.push_back(offset);
      return false;
    }
  }
  const std::optional<CallSite> site =
      FindCallSite(std::span<const uint8_t, kPageSize>(view, kPageSize), address, return_address - address, number);
  const uint64_t gate = site ? sites_.PlaceFor(*site) : 0;
  CallSites::RoomPage* room_page = gate == 0 ? nullptr : sites_.PageOf(gate);
  std::vector<Order> orders;
  bool ok = gate != 0;
  if (ok && room_page == nullptr) {
    const uint64_t room_offset = TakePageLocked();
    ok = room_offset != 0;
    if (ok) {
      memset(platform_.file().Pointer(room_offset), 0xcc, kPageSize);
      orders.push_back(Call(SYS_mmap, gate & ~(kPageSize - 1), kPageSize, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED,
                            fd, room_offset));
      room_page = &sites_.AddPage(gate, room_offset);
    }
  }
  if (ok) {
    const uint64_t code = platform_.zygote().layout().page + StubOffset(kSystrapGate);
    sites_.WriteGate(platform_.file().Pointer(room_page->file_offset), gate, *site, code);
    CallSites::WriteJump(view, *site, gate);
    if (!site->moved) page.relocated[site->return_address()] = gate;
    orders.push_back(Call(SYS_mmap, address, kPageSize, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, offset));
    // Before any thread can get there.
    patched_.store(true, std::memory_order_seq_cst);
    ok = RunAllLocked(orders);
    // The host has no room for more mappings perhaps; what is mapped where is not known.
    if (!ok && !dead()) Kill("a patched page that can't be mapped");
    if (ok) {
      if (patched != sites_.pages.end()) free_pages_.push_back(patched->second.file_offset);
      sites_.pages[address] = page;
      return true;
    }
  }
  free_pages_.push_back(offset);
  if (patched == sites_.pages.end() && !dead()) {
    const Order undo = Call(SYS_munmap, page.shadow, kPageSize);
    (void)RunAllLocked({&undo, 1});
  }
  return false;
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
