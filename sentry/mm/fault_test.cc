// SPDX-License-Identifier: Apache-2.0
// Faults, copy-on-write, fork, growing stacks, truncation.
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "sentry/mm/fake_platform.h"

namespace sentry::mm {
namespace {

constexpr uint64_t kP = kPageSize;
constexpr uint64_t kHere = kGuestBase + (32 << 20);
constexpr Protection kNone{}, kRo{true, false, false}, kRw{true, true, false};

class FaultTest : public MmTest {
 protected:
  uint64_t MapFile(RefPtr<FakeFile> file, uint64_t length, bool shared, Protection prot = kRw) {
    MmapRequest request = At(kHere, length);
    request.object = std::move(file);
    request.is_private = !shared;
    request.protection = prot;
    return Map(request);
  }
};

TEST_F(FaultTest, SignalsAndCodes) {
  int code = 0;
  uint64_t value = 0;
  EXPECT_EQ(GuestAccess(*mm, kHere, &value, 8, false, Access::kUnknown, &code), SIGSEGV);
  EXPECT_EQ(code, SEGV_MAPERR);
  MmapRequest request = At(kHere, kP);
  request.protection = kNone;
  Map(request);
  EXPECT_EQ(GuestAccess(*mm, kHere, &value, 8, false, Access::kUnknown, &code), SIGSEGV);
  EXPECT_EQ(code, SEGV_ACCERR);
  ASSERT_TRUE(mm->Mprotect(kHere, kP, kRo).ok());
  EXPECT_EQ(GuestAccess(*mm, kHere, &value, 8, false, Access::kUnknown, &code), 0);
  for (Access access : {Access::kUnknown, Access::kWrite}) {
    code = 0;
    EXPECT_EQ(GuestAccess(*mm, kHere, &value, 8, true, access, &code), SIGSEGV);
    EXPECT_EQ(code, SEGV_ACCERR);
  }
  EXPECT_EQ(mm->HandleFault(kHere, Access::kExec).code, SEGV_ACCERR);
  EXPECT_EQ(mm->HandleFault(UINT64_MAX, Access::kUnknown).code, SEGV_MAPERR);
  EXPECT_EQ(mm->HandleFault(uint64_t{1} << 63, Access::kUnknown).signal, SIGSEGV);
  EXPECT_EQ(mm->HandleFault(0, Access::kRead).code, SEGV_MAPERR);
}

TEST_F(FaultTest, EagerMappingTakesNoFault) {
  Map(At(kHere, 16 * kP));
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 15 * kP) == kRw);
  SpaceOf(*mm).bound = false;
  Map(At(kHere, 16 * kP));
  EXPECT_TRUE(SpaceOf(*mm).mapped.empty());
  SpaceOf(*mm).bound = true;
  mm->MapEagerly();
  EXPECT_TRUE(SpaceOf(*mm).At(kHere) == kRw);
}

TEST_F(FaultTest, ASpuriousFaultIsRetriedATrueOneIsNot) {
  Map(At(kHere, kP));
  EXPECT_EQ(mm->HandleFault(kHere, Access::kWrite).signal, 0);
  auto again = mm->HandleFault(kHere, Access::kWrite);
  EXPECT_EQ(again.signal, SIGSEGV) << "nothing changed in between: it can't make progress";
  EXPECT_EQ(mm->HandleFault(kHere, Access::kUnknown, SIGBUS).signal, 0);
  EXPECT_EQ(mm->HandleFault(kHere, Access::kUnknown, SIGBUS).signal, SIGBUS) << "the host has no memory";
}

TEST_F(FaultTest, HostOutOfMappingsStartsOver) {
  Map(At(kHere, kP));
  SpaceOf(*mm).fail_maps = 1;
  Map(At(kHere + 2 * kP, kP));  // left lazy
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 2 * kP) == kNone);
  SpaceOf(*mm).fail_maps = 1;
  EXPECT_EQ(Poke(*mm, kHere + 2 * kP, 1), 0);
  EXPECT_TRUE(SpaceOf(*mm).At(kHere) == kNone) << "dropped to make room";
  EXPECT_EQ(Poke(*mm, kHere, 1), 0);
  SpaceOf(*mm).fail_maps = 1000;
  Map(At(kHere + 4 * kP, kP));
  EXPECT_EQ(Poke(*mm, kHere + 4 * kP, 1), SIGBUS);
  SpaceOf(*mm).fail_maps = 0;
}

TEST_F(FaultTest, ForkSharesUntilWritten) {
  Map(At(kHere, 64 * kP));
  for (int i = 0; i < 64; ++i) ASSERT_EQ(Poke(*mm, kHere + i * kP, 100 + i), 0);
  uint64_t before = memory->UsedBytes();
  auto child = std::move(mm->Fork()).value();
  EXPECT_EQ(memory->UsedBytes(), before);
  EXPECT_TRUE(SpaceOf(*mm).At(kHere) == kRo);
  EXPECT_EQ(SpaceOf(*mm).protects, 1);
  ASSERT_EQ(Poke(*mm, kHere, 1), 0);
  ASSERT_EQ(Poke(*child, kHere + kP, 2), 0);
  EXPECT_EQ(Value(*child, kHere), 100u);
  EXPECT_EQ(Value(*child, kHere + kP), 2u);
  EXPECT_EQ(Value(*mm, kHere + kP), 101u);
  EXPECT_EQ(memory->UsedBytes(), before + (64 << 10)) << "one granule: the parent's; the child took the other one over";
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 15 * kP) == kRw) << "the granule";
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 16 * kP) == kRo);
  child.Reset();
  EXPECT_EQ(Poke(*mm, kHere + 16 * kP, 3), 0);
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 63 * kP) == kRw) << "taken over in whole when the only owner";
  EXPECT_EQ(memory->UsedBytes(), before);
}

TEST_F(FaultTest, ForkCopiesWhatBothWillWrite) {
  Map(At(kHere, 64 * kP));
  for (int i = 0; i < 64; ++i) ASSERT_EQ(Poke(*mm, kHere + i * kP, 100 + i), 0);
  const uint64_t before = memory->UsedBytes();
  const uint64_t written[] = {kHere + 20 * kP + 8, 0x1000};
  auto child = std::move(mm->Fork(written)).value();
  EXPECT_EQ(memory->UsedBytes(), before + (64 << 10)) << "one granule";
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 15 * kP) == kRo);
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 16 * kP) == kRw);
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 31 * kP) == kRw);
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 32 * kP) == kRo);
  child->MapEagerly();
  EXPECT_TRUE(SpaceOf(*child).At(kHere + 20 * kP) == kRw);
  EXPECT_TRUE(SpaceOf(*child).At(kHere + 32 * kP) == kRo);
  ASSERT_EQ(Poke(*mm, kHere + 20 * kP, 1), 0);
  ASSERT_EQ(Poke(*child, kHere + 21 * kP, 2), 0);
  EXPECT_EQ(Value(*child, kHere + 20 * kP), 120u);
  EXPECT_EQ(Value(*mm, kHere + 21 * kP), 121u);
  // What is written to after a fork is copied by the next, if nobody else runs here.
  ASSERT_EQ(Poke(*mm, kHere + 40 * kP, 1), 0);
  auto shared = std::move(mm->Fork()).value();
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 40 * kP) == kRo);
  shared.Reset();
  ASSERT_EQ(Poke(*mm, kHere + 40 * kP, 2), 0);
  auto copied = std::move(mm->Fork(std::span(written).first(1))).value();
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 40 * kP) == kRw);
  EXPECT_EQ(Value(*copied, kHere + 40 * kP), 2u);
  EXPECT_EQ(Value(*copied, kHere + 63 * kP), 163u);
  copied.Reset();
  child.Reset();
  ASSERT_TRUE(mm->Munmap(kHere, 64 * kP).ok());
  EXPECT_EQ(memory->UsedBytes(), 0u);
}

TEST_F(FaultTest, AnImageIsMappedInOneGo) {
  auto file = MakeRef<FakeFile>(64 * kP);
  auto map = [&](uint64_t address, uint64_t length, Protection prot) {
    MmapRequest request = At(address, length);
    request.object = file;
    request.offset = 32 * kP;
    request.is_private = true;
    request.protection = prot;
    Map(request);
  };
  mm->BeginImage();
  map(kHere, 32 * kP, kRo);
  map(kHere + 32 * kP, 4 * kP, kRw);
  map(kHere + 64 * kP, 32 * kP, kRw);
  Map(At(kHere + 128 * kP, 4 * kP));
  ASSERT_EQ(mm->CopyOut(UserAddr(kHere + 129 * kP), "stack", 5).value(), 5u);
  EXPECT_EQ(SpaceOf(*mm).maps, 0);
  mm->MapEagerly();
  EXPECT_TRUE(SpaceOf(*mm).At(kHere) == kRo);
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 32 * kP) == kRw) << "a copy of the data";
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 64 * kP) == kRo) << "too large for a copy";
  EXPECT_TRUE(SpaceOf(*mm).At(kHere + 131 * kP) == kRw);
  EXPECT_EQ(Value(*mm, kHere + kP), 33 * kP + 7);
  ASSERT_EQ(Poke(*mm, kHere + 32 * kP, 9), 0);
  EXPECT_EQ(Value(*mm, kHere + 32 * kP), 9u);
  EXPECT_EQ(Value(*mm, kHere + 33 * kP), 33 * kP + 7);
  EXPECT_EQ(Value(*mm, kHere + 64 * kP), 32 * kP + 7) << "the file has what it had";
}

TEST_F(FaultTest, AFaultBeforeTheImageIsMapped) {
  mm->BeginImage();
  Map(At(kHere, 4 * kP));
  EXPECT_EQ(Poke(*mm, kHere, 1), 0);
  EXPECT_EQ(Value(*mm, kHere), 1u);
}

TEST_F(FaultTest, ForkFlags) {
  Map(At(kHere, kP));
  Map(At(kHere + 2 * kP, kP));
  uint64_t shared = Map(Anon(kP, true));
  ASSERT_EQ(Poke(*mm, kHere, 1), 0);
  ASSERT_EQ(Poke(*mm, shared, 1), 0);
  ASSERT_TRUE(mm->Madvise(kHere, kP, MADV_WIPEONFORK).ok());
  ASSERT_TRUE(mm->Madvise(kHere + 2 * kP, kP, MADV_DONTFORK).ok());
  ASSERT_TRUE(mm->Mlock(kHere, kP, true).ok());
  auto child = std::move(mm->Fork()).value();
  EXPECT_EQ(Value(*child, kHere), 0u);
  EXPECT_EQ(Poke(*child, kHere + 2 * kP, 1), SIGSEGV);
  ASSERT_EQ(Poke(*child, shared, 2), 0);
  EXPECT_EQ(Value(*mm, shared), 2u);
  EXPECT_EQ(child->GetUsage().locked_bytes, 0u);
  EXPECT_EQ(Vmas(*child).size(), 2u);
}

TEST_F(FaultTest, ForkCopiesWhatTheHostIsWritingTo) {
  Map(At(kHere, 64 * kP));
  ASSERT_EQ(Poke(*mm, kHere + 20 * kP, 1), 0);
  auto pinned = mm->Pin(UserAddr(kHere + 20 * kP), 8, true);
  ASSERT_TRUE(pinned.ok());
  auto child = std::move(mm->Fork()).value();
  ASSERT_EQ(Poke(*mm, kHere + 21 * kP, 5), 0);  // would have copied the granule away from under the pin
  uint64_t value = 42;
  memcpy(pinned->pieces()[0].iov_base, &value, 8);
  EXPECT_EQ(Value(*mm, kHere + 20 * kP), 42u);
  EXPECT_EQ(Value(*child, kHere + 20 * kP), 1u);
}

TEST_F(FaultTest, PrivateFileIsReadInPlaceAndCopiedOnWrite) {
  auto file = MakeRef<FakeFile>(64 * kP);
  MapFile(file, 64 * kP, false);
  EXPECT_EQ(Value(kHere + 63 * kP), 63 * kP + 7);
  EXPECT_EQ(file->backings, 1) << "one fault maps the whole file";
  EXPECT_EQ(memory->UsedBytes(), 0u);
  ASSERT_EQ(Poke(*mm, kHere + 17 * kP, 1), 0);
  EXPECT_EQ(Value(kHere + 18 * kP), 18 * kP + 7);
  uint64_t value = 0;
  ASSERT_EQ(pread(file->fd(), &value, 8, 17 * kP), 8);
  EXPECT_EQ(value, 17 * kP + 7);
  EXPECT_EQ(memory->UsedBytes(), 64u << 10);
  // DONTNEED brings the file's page back.
  ASSERT_TRUE(mm->Madvise(kHere, 64 * kP, MADV_DONTNEED).ok());
  EXPECT_EQ(Value(kHere + 17 * kP), 17 * kP + 7);
}

TEST_F(FaultTest, SharedFileWritesReachTheFile) {
  auto file = MakeRef<FakeFile>(4 * kP);
  MapFile(file, 4 * kP, true);
  ASSERT_EQ(Poke(*mm, kHere + kP, 99), 0);
  uint64_t value = 0;
  ASSERT_EQ(pread(file->fd(), &value, 8, kP), 8);
  EXPECT_EQ(value, 99u);
  auto child = std::move(mm->Fork()).value();
  ASSERT_EQ(Poke(*child, kHere + kP, 100), 0);
  EXPECT_EQ(Value(kHere + kP), 100u);
}

TEST_F(FaultTest, BeyondTheFileIsBusError) {
  auto file = MakeRef<FakeFile>(2 * kP + 100);
  MapFile(file, 8 * kP, false);
  int code = 0;
  uint64_t value = 0;
  EXPECT_EQ(Value(kHere + 2 * kP), 2 * kP + 7);
  EXPECT_EQ(GuestAccess(*mm, kHere + 3 * kP, &value, 8, false, Access::kUnknown, &code), SIGBUS);
  EXPECT_EQ(code, BUS_ADRERR);
  EXPECT_EQ(mm->CopyIn(UserAddr(kHere + 3 * kP), &value, 8).error_number(), EFAULT);
}

TEST_F(FaultTest, TruncateTakesPagesAway) {
  auto file = MakeRef<FakeFile>(8 * kP);
  MapFile(file, 8 * kP, false);
  ASSERT_EQ(Poke(*mm, kHere + 5 * kP, 1), 0);
  EXPECT_EQ(Value(kHere), 7u);
  auto child = std::move(mm->Fork()).value();
  EXPECT_EQ(Value(*child, kHere + 5 * kP), 1u);
  file->Resize(4 * kP);
  file->reverse_map().Invalidate(4 * kP, UINT64_MAX, true);
  for (auto* space : {mm.get(), child.get()}) {
    EXPECT_EQ(Value(*space, kHere), 7u);
    EXPECT_EQ(Poke(*space, kHere + 5 * kP, 1), SIGBUS);
    EXPECT_TRUE(SpaceOf(*space).At(kHere + 4 * kP) == kNone);
  }
  file->Resize(8 * kP);
  EXPECT_EQ(Value(kHere + 5 * kP), 0u);
  child.Reset();
  EXPECT_FALSE(file->reverse_map().Empty());
  ASSERT_TRUE(mm->Munmap(kHere + 2 * kP, 2 * kP).ok());
  ASSERT_TRUE(mm->Munmap(kHere, 8 * kP).ok());
  EXPECT_TRUE(file->reverse_map().Empty());
}

TEST_F(FaultTest, InvalidateFollowsMovedMappings) {
  auto file = MakeRef<FakeFile>(8 * kP);
  MapFile(file, 8 * kP, true);
  EXPECT_EQ(Value(kHere + kP), kP + 7);
  uint64_t to = kHere + (1 << 20);
  ASSERT_TRUE(mm->Mremap(kHere + kP, 2 * kP, 2 * kP, MREMAP_MAYMOVE | MREMAP_FIXED, to).ok());
  EXPECT_EQ(Value(to), kP + 7);
  file->reverse_map().Invalidate(kP, kP, false);
  EXPECT_TRUE(SpaceOf(*mm).At(to) == kNone);
  EXPECT_TRUE(SpaceOf(*mm).At(to + kP) == kRw);
}

TEST_F(FaultTest, StackGrowsWithinLimitAndGap) {
  uint64_t top = kHere + (64 << 20);
  MmapRequest request = At(top - 4 * kP, 4 * kP);
  request.grows_down = true;
  Map(request);
  EXPECT_EQ(Poke(*mm, top - 100 * kP, 1), 0);
  EXPECT_EQ(Value(top - 100 * kP), 1u);
  EXPECT_EQ(Vmas(*mm).size(), 1u);
  EXPECT_EQ(Poke(*mm, top - (8 << 20) - 8, 1), SIGSEGV) << "RLIMIT_STACK";
  EXPECT_EQ(Poke(*mm, top - (8 << 20), 1), 0);
  // Another mapping keeps its distance.
  uint64_t other = top - (64 << 20);
  request.address = other + (6 << 20);
  request.length = kP;
  Map(request);
  Map(At(other, kP));
  EXPECT_EQ(Poke(*mm, other + 256 * kP, 1), SIGSEGV);
  EXPECT_EQ(Poke(*mm, other + 257 * kP, 1), 0);
  MmapRequest hint = Anon(kP);
  hint.address = other + 200 * kP;
  EXPECT_NE(Map(hint), hint.address) << "mmap stays out of the gap";
  uint64_t value = 3;
  EXPECT_TRUE(mm->CopyOut(UserAddr(top - (7 << 20)), &value, 8).ok());
}

TEST_F(FaultTest, ThreadsFaultTogether) {
  auto file = MakeRef<FakeFile>(512 * kP);
  MapFile(file, 512 * kP, false);
  auto child = std::move(mm->Fork()).value();
  std::atomic<int> bad{0};
  auto body = [&](uint64_t salt) {
    for (uint64_t i = 0; i < 512; ++i) {
      uint64_t page = (i * 37) % 512, value = 0;
      uint64_t at = kHere + page * kP;
      if (Peek(*mm, at, &value) != 0 || value != page * kP + 7) ++bad;
      if (Poke(*mm, at + 8 * salt, i) != 0) ++bad;
      if (Peek(*mm, at + 8 * salt, &value) != 0 || value != i) ++bad;
    }
  };
  std::thread one(body, 1), two(body, 2);
  one.join();
  two.join();
  EXPECT_EQ(bad, 0);
  EXPECT_EQ(Value(*child, kHere + 3 * kP + 8), 0u);
}

}  // namespace
}  // namespace sentry::mm
