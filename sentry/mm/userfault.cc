// SPDX-License-Identifier: Apache-2.0
#include "sentry/mm/userfault.h"

#include <string.h>

#include <algorithm>

#include "platform/safe_copy.h"
#include "sentry/kernel/core/caller.h"
#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {

thread_local Userfault missed;

uint64_t AddressIn(const UserfaultContext& context, uint64_t address) {
  return context.HasFeature(UFFD_FEATURE_EXACT_ADDRESS) ? address : PageDown(address);
}

}  // namespace

// ---- the address space's side

bool MemoryManager::State::CheckUserfault(const Vma& vma, uint64_t address, bool write, Userfault* fault) {
  auto it = PmapAt(PageDown(address));
  uint64_t flags;
  if (it == pmaps.end()) {
    if (!(vma.userfault_modes & UFFDIO_REGISTER_MODE_MISSING)) return false;
    flags = write ? UFFD_PAGEFAULT_FLAG_WRITE : 0;
  } else {
    if (!write || !it->second.userfault_wp) return false;
    flags = UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP;
  }
  *fault = {vma.userfault, address, flags};
  return true;
}

void MemoryManager::State::DropUntouched(uint64_t start, uint64_t end) {
  SplitPmap(start);
  SplitPmap(end);
  std::vector<std::pair<uint64_t, uint64_t>> holes;
  std::vector<uint8_t> resident;
  for (auto it = PmapAfter(start); it != pmaps.end() && it->second.start < end; ++it) {
    const Pmap& pmap = it->second;
    if (!pmap.anon || pmap.fd >= 0) continue;
    resident.resize(pmap.length() / kPageSize);
    memory.ResidentPages(pmap.File(pmap.start, pmap.end), resident.data());
    for (uint64_t at = pmap.start; at < pmap.end; at += kPageSize) {
      // What is not resident may have been swapped out.
      if ((resident[(at - pmap.start) / kPageSize] & 1) || memory.DataBytes(pmap.File(at, at + kPageSize))) continue;
      if (!holes.empty() && holes.back().second == at) {
        holes.back().second += kPageSize;
      } else {
        holes.emplace_back(at, at + kPageSize);
      }
    }
  }
  for (const auto& [from, to] : holes) DropPmaps(from, to);
}

void MemoryManager::State::SetUserfault(uint64_t start, uint64_t end, RefPtr<UserfaultContext> context,
                                        uint64_t modes) {
  for (uint64_t at = start; at < end;) {
    auto it = VmaAfter(at);
    if (it == vmas.end() || it->second.start >= end) break;
    const uint64_t from = std::max(at, it->second.start), to = std::min(end, it->second.end);
    at = to;
    SplitVma(from);
    SplitVma(to);
    Vma& vma = VmaAt(from)->second;
    if (context) {
      if (!vma.userfault) DropUntouched(from, to);
    } else {
      SetWriteProtected(from, to, false);
    }
    dropped_contexts.push_back(std::exchange(vma.userfault, context));
    vma.userfault_modes = static_cast<uint8_t>(modes);
  }
  MergeVmas(start, end);
}

void MemoryManager::State::SetWriteProtected(uint64_t start, uint64_t end, bool on) {
  SplitPmap(start);
  SplitPmap(end);
  for (auto it = PmapAfter(start); it != pmaps.end() && it->second.start < end; ++it) it->second.userfault_wp = on;
  UpdateStub(start, end);
  for (auto it = PmapAfter(start); it != pmaps.end() && it->second.start < end; ++it) it = MergePmap(it);
}

Result<void> MemoryManager::State::PlacePage(uint64_t page, const void* data, bool write_protected) {
  if (vmas.empty()) return Errno(ESRCH);
  auto it = VmaAt(page);
  if (it == vmas.end() || !it->second.userfault) return Errno(ENOENT);
  if (write_protected && !(it->second.userfault_modes & UFFDIO_REGISTER_MODE_WP)) return Errno(EINVAL);
  if (PmapAt(page) != pmaps.end()) return Errno(EEXIST);
  platform::FileRange range = TRY(AllocateFor(page, page + kPageSize));
  if (data && platform::SafeCopy(memory.Pointer(range.start), data, kPageSize) != kPageSize) {
    ReleaseRange(page, page + kPageSize, range.start);
    return Errno(ENOMEM);
  }
  MergePmap(InsertPmap({.start = page,
                        .end = page + kPageSize,
                        .offset = range.start,
                        .anon = true,
                        .userfault_wp = write_protected,
                        .prot = it->second.prot}));
  return OkResult();
}

Result<void> MemoryManager::AwaitUserfaults(UserAddr address, size_t length, bool write) {
  if (!HasUserfaults()) return OkResult();
  const uint64_t end = address.value() + length;
  if (end < address.value()) return OkResult();
  for (uint64_t at = address.value(); at < end;) {
    Userfault fault;
    {
      Lock lock(*this);
      // What cannot be accessed at all is the copy's to find out.
      auto it = state_->VmaAfter(at);
      if (it == state_->vmas.end() || it->second.start >= end) return OkResult();
      const Vma& vma = it->second;
      at = std::max(at, vma.start);
      const uint64_t to = std::min(end, vma.end);
      const bool allowed = write ? vma.prot.write : !IsNone(vma.prot);
      if (!vma.userfault || !allowed) {
        at = to;
        continue;
      }
      while (at < to && !state_->CheckUserfault(vma, at, write, &fault)) at = PageDown(at) + kPageSize;
    }
    if (fault) TRY(AwaitForCopy(std::move(fault)));
  }
  return OkResult();
}

void MemoryManager::State::CollectEvents(uint64_t start, uint64_t end, uint64_t feature, uint8_t event,
                                         UserfaultEvents* events) {
  if (!mm.HasUserfaults()) return;
  for (auto it = VmaAfter(start); it != vmas.end() && it->second.start < end; ++it) {
    const Vma& vma = it->second;
    if (!vma.userfault || !vma.userfault->HasFeature(feature)) continue;
    uffd_msg message = {};
    message.event = event;
    message.arg.remove.start = std::max(start, vma.start);
    message.arg.remove.end = std::min(end, vma.end);
    events->Add(vma.userfault, message);
  }
}

UserfaultEvents::~UserfaultEvents() { Clear(); }

void UserfaultEvents::Add(RefPtr<UserfaultContext> context, const uffd_msg& message, RefPtr<UserfaultContext> fork) {
  context->BeginChange();
  changing_.push_back(context);
  events_.push_back({std::move(context), message, std::move(fork)});
}

void UserfaultEvents::Post() {
  for (UserfaultContext::Event& event : std::exchange(events_, {})) UserfaultContext::Post(std::move(event));
}

void UserfaultEvents::Clear() {
  for (const auto& context : std::exchange(changing_, {})) context->EndChange();
  events_.clear();
}

// ---- waiting

Result<void> AwaitForCopy(Userfault fault) {
  if (fault.context->user_mode_only() || fault.context->HasFeature(UFFD_FEATURE_SIGBUS) || !Caller::CurrentOrNull())
    return Errno(EFAULT);
  if (base::HeldMutexes() > 0) {
    missed = std::move(fault);
    return Errno(EFAULT);
  }
  return fault.context->Await(fault.address, fault.flags, true);
}

bool AwaitMissedUserfault() {
  if (!missed) return false;
  Userfault fault = std::exchange(missed, {});
  return AwaitForCopy(std::move(fault)).ok();
}

bool UserfaultContext::MustWait(uint64_t page, uint64_t flags) {
  MemoryManager::Lock lock(*mm_);
  auto it = mm_->state_->VmaAt(page);
  if (it == mm_->state_->vmas.end() || it->second.userfault.get() != this) return false;
  auto pmap = mm_->state_->PmapAt(page);
  if (flags & UFFD_PAGEFAULT_FLAG_WP) return pmap != mm_->state_->pmaps.end() && pmap->second.userfault_wp;
  return pmap == mm_->state_->pmaps.end();
}

void UserfaultContext::Remove(Waiting* waiting) {
  MutexLock lock(mu_);
  std::erase(waiting_, waiting);
}

Result<void> UserfaultContext::Await(uint64_t address, uint64_t flags, bool killable) {
  Caller& caller = Caller::Current();
  Waiting waiting{AddressIn(*this, address), flags, static_cast<uint32_t>(caller.CallerTid())};
  BlockerEntry entry(caller.blocker());
  wake_queue_.Add(entry, kAllEvents);
  {
    MutexLock lock(mu_);
    if (released_) return OkResult();
    waiting_.push_back(&waiting);
  }
  Result<void> result;
  // The handler may have been here between the fault and the queue.
  if (MustWait(PageDown(address), flags)) {
    read_queue_.Notify(kEventIn);
    while (result.ok()) {
      {
        MutexLock lock(mu_);
        if (waiting.woken || released_) break;
      }
      result = killable ? caller.BlockKillable() : caller.Block();
    }
  }
  Remove(&waiting);
  return result;
}

void UserfaultContext::Post(Event event) {
  Caller* caller = Caller::CurrentOrNull();
  if (!caller) return;
  UserfaultContext& context = *event.context;
  Posted posted{&event};
  BlockerEntry entry(caller->blocker());
  context.wake_queue_.Add(entry, kAllEvents);
  {
    MutexLock lock(context.mu_);
    if (context.released_) return;
    context.posted_.push_back(&posted);
  }
  context.read_queue_.Notify(kEventIn);
  for (Result<void> result; result.ok(); result = caller->BlockKillable()) {
    MutexLock lock(context.mu_);
    if (posted.delivered || context.released_) break;
  }
  MutexLock lock(context.mu_);
  std::erase(context.posted_, &posted);
}

bool UserfaultContext::Enable(uint64_t features) {
  MutexLock lock(mu_);
  if (IsEnabled()) return false;
  features_.store(features, std::memory_order_relaxed);
  enabled_.store(true, std::memory_order_release);
  return true;
}

bool UserfaultContext::HasMessages() const {
  MutexLock lock(mu_);
  return !posted_.empty() || std::ranges::any_of(waiting_, [](const Waiting* w) { return !w->delivered; });
}

UserfaultContext::Counts UserfaultContext::counts() const {
  MutexLock lock(mu_);
  const size_t pending = std::ranges::count_if(waiting_, [](const Waiting* w) { return !w->delivered; });
  return {pending, waiting_.size()};
}

bool UserfaultContext::NextMessage(uffd_msg* message, RefPtr<UserfaultContext>* fork) {
  {
    MutexLock lock(mu_);
    for (Waiting* waiting : waiting_) {
      if (waiting->delivered) continue;
      waiting->delivered = true;
      *message = {};
      message->event = UFFD_EVENT_PAGEFAULT;
      message->arg.pagefault.flags = waiting->flags;
      message->arg.pagefault.address = waiting->address;
      if (HasFeature(UFFD_FEATURE_THREAD_ID)) message->arg.pagefault.feat.ptid = waiting->tid;
      return true;
    }
    if (posted_.empty()) return false;
    Posted* posted = posted_.front();
    posted_.pop_front();
    posted->delivered = true;
    *message = posted->event->message;
    *fork = posted->event->fork;
  }
  wake_queue_.Notify(kAllEvents);
  return true;
}

void UserfaultContext::Wake(uint64_t start, uint64_t length) {
  {
    MutexLock lock(mu_);
    for (Waiting* waiting : waiting_) {
      const uint64_t page = PageDown(waiting->address);
      if (page >= start && page - start < length) waiting->woken = waiting->delivered = true;
    }
  }
  wake_queue_.Notify(kAllEvents);
}

void UserfaultContext::Release() {
  {
    MutexLock lock(mu_);
    released_ = true;
  }
  {
    MemoryManager::Lock lock(*mm_);
    std::vector<std::pair<uint64_t, uint64_t>> mine;
    for (const auto& [start, vma] : mm_->state_->vmas) {
      if (vma.userfault.get() == this) mine.emplace_back(start, vma.end);
    }
    for (const auto& [start, end] : mine) mm_->state_->SetUserfault(start, end, nullptr, 0);
  }
  wake_queue_.Notify(kAllEvents);
  read_queue_.Notify(kAllEvents);
}

// ---- the ioctls

Result<void> UserfaultContext::CheckRange(uint64_t start, uint64_t length) const {
  if (start % kPageSize || length % kPageSize || length == 0) return Errno(EINVAL);
  if (start < kGuestAddressMin || start >= kGuestAddressLimit || length > kGuestAddressLimit - start)
    return Errno(EINVAL);
  return OkResult();
}

Result<void> UserfaultContext::Register(uint64_t start, uint64_t length, uint64_t modes) {
  if (modes == 0 ||
      (modes & ~uint64_t{UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MINOR}))
    return Errno(EINVAL);
  TRY(CheckRange(start, length));
  MemoryManager::Lock lock(*mm_);
  MemoryManager::State& state = *mm_->state_;
  if (state.vmas.empty()) return Errno(ENOMEM);
  auto it = state.VmaAfter(start);
  if (it == state.vmas.end()) return Errno(ENOMEM);
  if (it->second.start >= start + length) return Errno(EINVAL);
  if (state.vmas.size() + 2 > kMaxVmas) return Errno(ENOMEM);
  for (auto at = it; at != state.vmas.end() && at->second.start < start + length; ++at) {
    const Vma& vma = at->second;
    if (!vma.Anonymous() || (modes & UFFDIO_REGISTER_MODE_MINOR)) return Errno(EINVAL);
    if (!vma.max_prot.write) return Errno(EPERM);
    if (vma.userfault && vma.userfault.get() != this) return Errno(EBUSY);
  }
  mm_->userfaults_.store(true, std::memory_order_release);
  state.SetUserfault(start, start + length, RefPtr<UserfaultContext>(this), modes);
  return OkResult();
}

Result<void> UserfaultContext::Unregister(uint64_t start, uint64_t length) {
  TRY(CheckRange(start, length));
  {
    MemoryManager::Lock lock(*mm_);
    MemoryManager::State& state = *mm_->state_;
    auto it = state.VmaAfter(start);
    if (it == state.vmas.end()) return Errno(ENOMEM);
    if (it->second.start >= start + length) return Errno(EINVAL);
    for (auto at = it; at != state.vmas.end() && at->second.start < start + length; ++at) {
      if (!at->second.Anonymous()) return Errno(EINVAL);
    }
    if (state.vmas.size() + 2 > kMaxVmas) return Errno(ENOMEM);
    state.SetUserfault(start, start + length, nullptr, 0);
  }
  Wake(start, length);
  return OkResult();
}

Result<void> UserfaultContext::Place(uint64_t start, uint64_t length, const Fill& fill, bool write_protected,
                                     uint64_t* done) {
  *done = 0;
  TRY(CheckRange(start, length));
  {
    // All of it lies in one mapping.
    MemoryManager::Lock lock(*mm_);
    MemoryManager::State& state = *mm_->state_;
    if (state.vmas.empty()) return Errno(ESRCH);
    auto it = state.VmaAt(start);
    if (it == state.vmas.end() || !it->second.userfault || start + length > it->second.end) return Errno(ENOENT);
  }
  uint8_t page[kPageSize];
  while (*done < length) {
    if (fill) TRY(fill(*done, page));
    MemoryManager::Lock lock(*mm_);
    if (changing_.load(std::memory_order_acquire) > 0) return Errno(EAGAIN);
    TRY(mm_->state_->PlacePage(start + *done, fill ? page : nullptr, write_protected));
    *done += kPageSize;
  }
  return OkResult();
}

Result<void> UserfaultContext::WriteProtect(uint64_t start, uint64_t length, bool on) {
  TRY(CheckRange(start, length));
  MemoryManager::Lock lock(*mm_);
  if (changing_.load(std::memory_order_acquire) > 0) return Errno(EAGAIN);
  MemoryManager::State& state = *mm_->state_;
  auto it = state.VmaAt(start);
  if (it == state.vmas.end() || !it->second.userfault || start + length > it->second.end ||
      !(it->second.userfault_modes & UFFDIO_REGISTER_MODE_WP))
    return Errno(ENOENT);
  state.SetWriteProtected(start, start + length, on);
  return OkResult();
}

}  // namespace sentry::mm
