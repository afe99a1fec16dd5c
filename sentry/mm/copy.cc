// SPDX-License-Identifier: Apache-2.0
// Copies between the sentry and guest memory, and atomic words.
#include <string.h>

#include <algorithm>

#include "platform/safe_copy.h"
#include "sentry/mm/host_memory.h"
#include "sentry/mm/mm_state.h"

namespace sentry::mm {
namespace {
// Copied per hold of the lock.
constexpr size_t kChunk = 1 << 20;
}  // namespace

Result<PmapMap::iterator> MemoryManager::State::Reach(uint64_t address, bool write, bool ignore_permissions,
                                                      uint64_t* zeroes) {
  auto it = PmapAt(address);
  missed = {};
  if (it != pmaps.end()) {
    const Pmap& pmap = it->second;
    if (write ? pmap.prot.write && !pmap.cow && pmap.writable && !pmap.userfault_wp : !IsNone(pmap.prot)) return it;
  }
  if (address >= kGuestAddressLimit) return Errno(EFAULT);
  auto found = VmaAt(address);
  if (found == vmas.end()) found = GrowStack(address);
  if (found == vmas.end()) return Errno(EFAULT);
  const Vma& vma = found->second;
  bool allowed = write ? vma.prot.write : !IsNone(vma.prot);
  if (!allowed && ignore_permissions) allowed = write ? vma.is_private && vma.max_prot.write : vma.max_prot.read;
  if (!allowed) return Errno(EFAULT);
  if (vma.userfault && CheckUserfault(vma, address, write, &missed)) return Errno(EFAULT);
  if (it == pmaps.end() && !write && zeroes && vma.Anonymous()) {
    auto next = PmapAfter(address);
    uint64_t end = next == pmaps.end() ? vma.end : std::min(vma.end, next->second.start);
    *zeroes = end - address;
    return pmaps.end();
  }
  auto pmap = GetPmap(vma, PageDown(address), write);
  if (!pmap.ok()) return Errno(EFAULT);
  // The guest will want it, too; when this thread may not map, the guest's touch faults it in.
  if (write && !(*pmap)->second.InStub() && MapStub((*pmap)->second, false).ok()) return MergePmap(*pmap);
  return pmap;
}

size_t MemoryManager::State::Transfer(Direction direction, uint64_t address, uint8_t* buffer, size_t length,
                                      bool ignore_permissions) {
  size_t done = 0;
  while (done < length) {
    uint64_t at = address + done, zeroes = 0;
    bool write = direction != Direction::kIn;
    auto reached = Reach(at, write, ignore_permissions, &zeroes);
    if (!reached.ok()) break;
    size_t want = length - done, got;
    if (*reached == pmaps.end()) {
      got = want = std::min<uint64_t>(want, zeroes);
      memset(buffer + done, 0, got);
    } else {
      const Pmap& pmap = (*reached)->second;
      want = std::min<uint64_t>(want, pmap.end - at);
      uint64_t offset = pmap.OffsetOf(at);
      if (pmap.fd < 0) {
        uint8_t* page = memory.Pointer(offset);
        got = direction == Direction::kIn    ? platform::SafeCopy(buffer + done, page, want)
              : direction == Direction::kOut ? platform::SafeCopy(page, buffer + done, want)
                                             : platform::SafeZero(page, want);
      } else if (!write) {
        int64_t n = HostRead(pmap.fd, buffer + done, want, offset);
        got = n < 0 ? 0 : want;
        if (n >= 0 && static_cast<size_t>(n) < want) memset(buffer + done + n, 0, want - n);
      } else {
        static const uint8_t kZeroes[4096] = {};
        if (direction == Direction::kZero) want = std::min(want, sizeof kZeroes);
        int64_t n = HostWriteMapped(pmap.fd, direction == Direction::kZero ? kZeroes : buffer + done, want, offset);
        got = n < 0 ? 0 : n;
      }
    }
    done += got;
    if (got < want) break;
  }
  return done;
}

Result<size_t> MemoryManager::CopyIn(UserAddr from, void* to, size_t length, bool ignore_permissions) {
  size_t done = 0;
  while (done < length) {
    size_t want = std::min(length - done, kChunk);
    size_t n;
    Userfault fault;
    {
      Lock lock(*this);
      n = state_->Transfer(State::Direction::kIn, from.value() + done, static_cast<uint8_t*>(to) + done, want,
                           ignore_permissions);
      fault = state_->TakeMissed();
    }
    done += n;
    if (n < want && !(fault && AwaitForCopy(std::move(fault)).ok())) break;
  }
  if (done == 0 && length > 0) return Errno(EFAULT);
  return done;
}

Result<size_t> MemoryManager::CopyOut(UserAddr to, const void* from, size_t length, bool ignore_permissions) {
  size_t done = 0;
  while (done < length) {
    size_t want = std::min(length - done, kChunk);
    size_t n;
    Userfault fault;
    {
      Lock lock(*this);
      uint8_t* source = const_cast<uint8_t*>(static_cast<const uint8_t*>(from)) + done;  // only read
      n = state_->Transfer(State::Direction::kOut, to.value() + done, source, want, ignore_permissions);
      fault = state_->TakeMissed();
    }
    done += n;
    if (n < want && !(fault && AwaitForCopy(std::move(fault)).ok())) break;
  }
  if (done == 0 && length > 0) return Errno(EFAULT);
  return done;
}

Result<size_t> MemoryManager::ZeroOut(UserAddr to, size_t length) {
  size_t done = 0;
  while (done < length) {
    size_t want = std::min(length - done, kChunk);
    size_t n;
    Userfault fault;
    {
      Lock lock(*this);
      n = state_->Transfer(State::Direction::kZero, to.value() + done, nullptr, want, false);
      fault = state_->TakeMissed();
    }
    done += n;
    if (n < want && !(fault && AwaitForCopy(std::move(fault)).ok())) break;
  }
  if (done == 0 && length > 0) return Errno(EFAULT);
  return done;
}

Result<std::string> MemoryManager::CopyInString(UserAddr from, size_t limit) {
  std::string result;
  uint64_t address = from.value();
  char buffer[1024];
  while (result.size() < limit) {
    // Not past a page's end: the string may end right before an unmapped page.
    size_t want =
        std::min({limit - result.size(), sizeof buffer, static_cast<size_t>(kPageSize - address % kPageSize)});
    // Most strings are short paths.
    if (result.empty()) want = std::min<size_t>(want, 256);
    size_t got = TRY(CopyIn(UserAddr(address), buffer, want));
    size_t text = strnlen(buffer, got);
    result.append(buffer, text);
    if (text < got) return result;
    if (got < want) return Errno(EFAULT);
    address += got;
  }
  return Errno(ENAMETOOLONG);
}

Result<uint32_t> MemoryManager::Load32(UserAddr address) {
  if (address.value() % 4) return Errno(EINVAL);
  TRY(AwaitUserfaults(address, sizeof(uint32_t), false));
  Lock lock(*this);
  uint64_t zeroes = 0;
  auto it = TRY(state_->Reach(address.value(), false, false, &zeroes));
  if (it == state_->pmaps.end()) return uint32_t{0};
  const Pmap& pmap = it->second;
  uint32_t value = 0;
  uint64_t offset = pmap.OffsetOf(address.value());
  if (pmap.fd >= 0) {
    if (HostRead(pmap.fd, &value, sizeof value, offset) < 0) return Errno(EFAULT);
  } else if (!platform::SafeLoad32(reinterpret_cast<const uint32_t*>(memory_file_.Pointer(offset)), &value)) {
    return Errno(EFAULT);
  }
  return value;
}

Result<uint32_t> MemoryManager::CompareExchange32(UserAddr address, uint32_t expected, uint32_t desired) {
  if (address.value() % 4) return Errno(EINVAL);
  TRY(AwaitUserfaults(address, sizeof(uint32_t), true));
  Lock lock(*this);
  auto it = TRY(state_->Reach(address.value(), true, false, nullptr));
  const Pmap& pmap = it->second;
  uint64_t offset = pmap.OffsetOf(address.value());
  bool exchanged = false;
  auto exchange = [&](uint8_t* word) {
    return platform::SafeCompareExchange32(reinterpret_cast<uint32_t*>(word), &expected, desired, &exchanged);
  };
  if (pmap.fd < 0) {
    if (!exchange(memory_file_.Pointer(offset))) return Errno(EFAULT);
    return expected;
  }
  HostPage page(pmap.fd, PageDown(offset));
  if (!page.data() || !exchange(page.data() + offset % kPageSize)) return Errno(EFAULT);
  return expected;
}

Result<FutexKey> MemoryManager::GetFutexKey(UserAddr address, bool process_shared) {
  if (address.value() % 4) return Errno(EINVAL);
  if (address.value() >= kGuestAddressLimit) return Errno(EFAULT);
  if (!process_shared) return FutexKey{this, address.value()};
  Lock lock(*this);
  auto it = state_->VmaAt(address.value());
  if (it == state_->vmas.end() || IsNone(it->second.prot)) return Errno(EFAULT);
  const Vma& vma = it->second;
  // Never the key of a private futex there (FUT_OFF_MMSHARED): words are aligned, so the bit is free.
  if (vma.is_private) return FutexKey{this, address.value() | 2};
  return FutexKey{vma.object->Identity(), vma.OffsetOf(address.value())};
}

}  // namespace sentry::mm
