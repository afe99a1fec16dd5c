// SPDX-License-Identifier: Apache-2.0
// Test doubles: an AddressSpace that really maps guest addresses of [kGuestBase, kGuestBase + kGuestSize) into the test
// process at an offset, so that a "guest access" is a SafeCopy there with HandleFault on a fault; and a file object.
#ifndef SENTRY_MM_FAKE_PLATFORM_H_
#define SENTRY_MM_FAKE_PLATFORM_H_

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "platform/memory_file.h"
#include "platform/platform.h"
#include "platform/safe_copy.h"
#include "sentry/mm/memory_manager.h"

namespace sentry::mm {

inline constexpr uint64_t kGuestBase = 0x10'0000'0000;
inline constexpr uint64_t kGuestSize = uint64_t{4} << 30;

class FakeSpace final : public platform::AddressSpace {
 public:
  FakeSpace() {
    host_ =
        static_cast<uint8_t*>(mmap(nullptr, kGuestSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  }
  ~FakeSpace() override { munmap(host_, kGuestSize); }

  Result<void> Map(uint64_t address, uint64_t length, int fd, uint64_t offset, Protection protection, bool) override {
    if (!bound) return Errno(EPERM);
    if (fail_maps > 0 && fail_maps--) return Errno(ENOMEM);
    ++maps;
    Forget(address, length);
    mapped[address] = {address + length, protection};
    if (Inside(address, length)) {
      void* p = mmap(Host(address), length, protection.ToHost(), MAP_SHARED | MAP_FIXED, fd, offset);
      if (p == MAP_FAILED) return Errno::Last();
    }
    return OkResult();
  }
  void Unmap(uint64_t address, uint64_t length) override {
    ++unmaps;
    Forget(address, length);
    // From the range's part inside the window.
    uint64_t from = std::max(address, kGuestBase), to = std::min(address + length, kGuestBase + kGuestSize);
    if (from < to) {
      mmap(Host(from), to - from, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    }
  }
  void Protect(uint64_t address, uint64_t length, Protection protection) override {
    ++protects;
    Split(address);
    Split(address + length);
    for (auto& [start, entry] : mapped) {
      if (start < address || start >= address + length) continue;
      entry.second = protection;
      if (Inside(start, entry.first - start)) mprotect(Host(start), entry.first - start, protection.ToHost());
    }
  }

  uint8_t* Host(uint64_t address) const { return host_ + (address - kGuestBase); }
  static bool Inside(uint64_t address, uint64_t length) {
    return address >= kGuestBase && address + length <= kGuestBase + kGuestSize;
  }
  // The protection of a page; none when unmapped.
  Protection At(uint64_t address) const {
    auto it = mapped.upper_bound(address);
    if (it == mapped.begin() || std::prev(it)->second.first <= address) return {};
    return std::prev(it)->second.second;
  }

  bool bound = true;
  int fail_maps = 0;
  int maps = 0, unmaps = 0, protects = 0;
  std::map<uint64_t, std::pair<uint64_t, Protection>> mapped;  // start -> end, protection

 private:
  void Split(uint64_t at) {
    auto it = mapped.lower_bound(at);
    if (it == mapped.begin()) return;
    --it;
    if (it->first >= at || it->second.first <= at) return;
    mapped[at] = it->second;
    it->second.first = at;
  }
  void Forget(uint64_t address, uint64_t length) {
    Split(address);
    Split(address + length);
    mapped.erase(mapped.lower_bound(address), mapped.lower_bound(address + length));
  }
  uint8_t* host_;
};

class FakePlatform final : public platform::Platform {
 public:
  const char* Name() const override { return "fake"; }
  Result<RefPtr<platform::AddressSpace>> NewAddressSpace() override {
    return RefPtr<platform::AddressSpace>(new FakeSpace());
  }
  std::unique_ptr<platform::Context> NewContext() override { return nullptr; }
  size_t FpuStateSize() const override { return 0; }
};

// A file on a memfd, mapped as a host fd or through the MemoryFile (as a page cache would).
class FakeFile final : public MappedObject {
 public:
  FakeFile(uint64_t size, bool writable = true) : writable_(writable) {
    fd_ = UniqueFd(memfd_create("file", 0));
    Resize(size);
    for (uint64_t at = 0; at < size; at += kPageSize) {
      uint64_t value = at + 7;
      EXPECT_EQ(pwrite(fd_.get(), &value, std::min<uint64_t>(8, size - at), at), std::min<int64_t>(8, size - at));
    }
  }
  void Resize(uint64_t size) {
    EXPECT_EQ(ftruncate(fd_.get(), size), 0);
    size_ = size;
  }
  Result<Backing> GetBacking(uint64_t offset, uint64_t length, bool) override {
    ++backings;
    if (offset >= PageUp(size_)) return Errno(EFAULT);
    return Backing{
        .fd = fd_.get(), .offset = offset, .length = std::min(length, PageUp(size_) - offset), .writable = writable_};
  }
  std::string Name() const override { return "/file"; }
  dev_t Device() const override { return 42; }
  uint64_t InodeNumber() const override { return 43; }
  Result<void> Sync(uint64_t, uint64_t length) override {
    synced += length;
    return OkResult();
  }
  const void* Identity() const override { return this; }
  ReverseMap& reverse_map() override { return reverse_map_; }
  int fd() const { return fd_.get(); }

  uint64_t synced = 0;
  int backings = 0;

 private:
  UniqueFd fd_;
  uint64_t size_ = 0;
  bool writable_;
  ReverseMap reverse_map_;
};

inline FakeSpace& SpaceOf(MemoryManager& mm) { return static_cast<FakeSpace&>(mm.address_space()); }

// What a guest instruction would do. The signal, or 0.
inline int GuestAccess(MemoryManager& mm, uint64_t address, void* data, size_t length, bool write,
                       Access access = Access::kUnknown, int* code = nullptr) {
  for (int i = 0; i < 20; ++i) {
    bool inside = FakeSpace::Inside(address, length);
    if (inside) {
      uint8_t* at = SpaceOf(mm).Host(address);
      size_t n = write ? platform::SafeCopy(at, data, length) : platform::SafeCopy(data, at, length);
      if (n == length) return 0;
    }
    auto signal = mm.HandleFault(address, access);
    if (signal.signal) {
      if (code) *code = signal.code;
      return signal.signal;
    }
    if (!inside) return 0;
  }
  ADD_FAILURE() << "no progress at " << std::hex << address;
  return -1;
}
inline int Poke(MemoryManager& mm, uint64_t address, uint64_t value, Access access = Access::kUnknown) {
  return GuestAccess(mm, address, &value, sizeof value, true, access);
}
inline int Peek(MemoryManager& mm, uint64_t address, uint64_t* value, Access access = Access::kUnknown) {
  return GuestAccess(mm, address, value, sizeof *value, false, access);
}

class MmTest : public testing::Test {
 protected:
  void SetUp() override {
    platform::InstallSafeCopyHandler();
    memory = std::move(platform::MemoryFile::Create()).value();
    mm = New();
  }
  void TearDown() override {
    mm.Reset();
    // Nothing may be left behind.
    EXPECT_EQ(memory->UsedBytes(), 0u);
    // With every reference gone the free ranges are one again, from 0 up to wherever the last allocation was.
    auto probe = memory->Allocate(platform::MemoryFile::kMaxSize / 2);
    ASSERT_TRUE(probe.ok());
    memory->DecRef(*probe);
    auto whole = memory->Allocate(probe->end);
    ASSERT_TRUE(whole.ok());
    EXPECT_EQ(whole->start, 0u) << "leaked references";
    memory->DecRef(*whole);
  }
  RefPtr<MemoryManager> New() {
    auto made = std::move(MemoryManager::Create(platform, *memory)).value();
    made->SetMmapBase(kGuestBase + kGuestSize);
    return made;
  }
  static MmapRequest Anon(uint64_t length, bool shared = false) {
    MmapRequest request;
    request.length = length;
    request.protection = {true, true, false};
    request.is_private = !shared;
    return request;
  }
  static MmapRequest At(uint64_t address, uint64_t length) {
    MmapRequest request = Anon(length);
    request.address = address;
    request.fixed = true;
    return request;
  }
  uint64_t Map(const MmapRequest& request) {
    auto result = mm->Mmap(request);
    EXPECT_TRUE(result.ok()) << result.error_number();
    return result.ok() ? *result : 0;
  }
  uint64_t Value(uint64_t address) { return Value(*mm, address); }
  static uint64_t Value(MemoryManager& mm, uint64_t address) {
    uint64_t value = 0xdead;
    EXPECT_EQ(Peek(mm, address, &value), 0);
    return value;
  }
  static std::vector<VmaInfo> Vmas(MemoryManager& mm) {
    std::vector<VmaInfo> all;
    mm.ForEachVma([&](const VmaInfo& info) { all.push_back(info); });
    return all;
  }

  FakePlatform platform;
  std::unique_ptr<platform::MemoryFile> memory;
  RefPtr<MemoryManager> mm;
};

}  // namespace sentry::mm

#endif  // SENTRY_MM_FAKE_PLATFORM_H_
