// SPDX-License-Identifier: Apache-2.0
// mmap, munmap, mprotect, mremap, brk, madvise, mlock: Linux's rules, one by one.
#include <linux/mman.h>
#include <sys/mman.h>

#include "sentry/mm/fake_platform.h"
#include "sentry/mm/shm_object.h"

namespace sentry::mm {
namespace {

constexpr uint64_t kP = kPageSize;
constexpr uint64_t kHere = kGuestBase + (32 << 20);
constexpr Protection kNone{}, kRo{true, false, false}, kRw{true, true, false};

class MappingTest : public MmTest {
 protected:
  int MmapError(const MmapRequest& request) { return mm->Mmap(request).error_number(); }
};

TEST_F(MappingTest, BadArguments) {
  EXPECT_EQ(MmapError(Anon(0)), EINVAL);
  EXPECT_EQ(MmapError(Anon(UINT64_MAX)), ENOMEM);
  EXPECT_EQ(MmapError(Anon(uint64_t{1} << 47)), ENOMEM);
  EXPECT_EQ(MmapError(At(kHere + 1, kP)), EINVAL);
  EXPECT_EQ(MmapError(At(0, kP)), EPERM);
  EXPECT_EQ(MmapError(At(0xffff'ffff'ffff'f000, kP)), ENOMEM);
  EXPECT_EQ(MmapError(At(platform::kGuestAddressLimit, kP)), ENOMEM);
  MmapRequest request = Anon(kP);
  request.offset = 1;
  EXPECT_EQ(MmapError(request), EINVAL);
  request.offset = uint64_t{1} << 63;
  request.object = MakeRef<FakeFile>(kP);
  EXPECT_EQ(MmapError(request), EOVERFLOW);
  request.offset = 0;
  request.max_protection = kRo;
  EXPECT_EQ(MmapError(request), EACCES);
  EXPECT_EQ(mm->Munmap(kHere + 1, kP).error_number(), EINVAL);
  EXPECT_EQ(mm->Munmap(kHere, 0).error_number(), EINVAL);
  EXPECT_EQ(mm->Munmap(kHere, UINT64_MAX).error_number(), EINVAL);
  EXPECT_TRUE(mm->Munmap(kHere, kP).ok()) << "unmapping nothing is fine";
}

TEST_F(MappingTest, TopDownMergesIntoOneVmaAndOneHostMapping) {
  uint64_t last = 0;
  for (int i = 0; i < 200; ++i) {
    uint64_t at = Map(Anon(kP));
    if (last) {
      EXPECT_EQ(at, last - kP);
    }
    last = at;
  }
  EXPECT_EQ(Vmas(*mm).size(), 1u);
  // Contiguous in the file, too: the last one, when unmapped and mapped again, still is.
  EXPECT_TRUE(mm->Munmap(last, kP).ok());
  EXPECT_EQ(Map(Anon(kP)), last);
  EXPECT_EQ(mm->GetUsage().virtual_bytes, 200 * kP);
  auto pinned = mm->Pin(UserAddr(last), 200 * kP, true);
  ASSERT_TRUE(pinned.ok());
  EXPECT_EQ(pinned->pieces().size(), 1u);
}

TEST_F(MappingTest, HintsFixedAndNoReplace) {
  MmapRequest request = Anon(kP);
  request.address = kHere + 5;
  EXPECT_EQ(Map(request), kHere);
  EXPECT_NE(Map(request), kHere) << "a hint never replaces";
  request.address = kHere;
  request.no_replace = true;
  EXPECT_EQ(MmapError(request), EEXIST);
  request.address = kHere + kP;
  EXPECT_EQ(Map(request), kHere + kP);
  ASSERT_EQ(Poke(*mm, kHere, 5), 0);
  EXPECT_EQ(Map(At(kHere, kP)), kHere);
  EXPECT_EQ(Value(kHere), 0u);
  request = Anon(kP);
  request.below_4g = true;
  EXPECT_LT(Map(request), 0x8000'0000u);
}

TEST_F(MappingTest, ProtectSplitsMergesAndStopsAtHoles) {
  Map(At(kHere, 8 * kP));
  ASSERT_TRUE(mm->Mprotect(kHere + 2 * kP, kP, kRo).ok());
  EXPECT_EQ(Vmas(*mm).size(), 3u);
  EXPECT_EQ(Poke(*mm, kHere + 2 * kP, 1), SIGSEGV);
  EXPECT_EQ(Poke(*mm, kHere + 3 * kP, 1), 0);
  ASSERT_TRUE(mm->Mprotect(kHere + 2 * kP, kP, kRw).ok());
  EXPECT_EQ(Vmas(*mm).size(), 1u);
  EXPECT_EQ(Poke(*mm, kHere + 2 * kP, 1), 0);
  ASSERT_TRUE(mm->Munmap(kHere + 4 * kP, kP).ok());
  EXPECT_EQ(mm->Mprotect(kHere, 8 * kP, kNone).error_number(), ENOMEM);
  EXPECT_TRUE(Vmas(*mm)[0].protection == kNone) << "what lies before the hole has changed";
  EXPECT_TRUE(Vmas(*mm)[1].protection == kRw);
  EXPECT_EQ(mm->Mprotect(kHere + 1, kP, kRw).error_number(), EINVAL);
  EXPECT_EQ(mm->Mprotect(kHere, UINT64_MAX, kRw).error_number(), ENOMEM);
  EXPECT_TRUE(mm->Mprotect(kHere, 0, kRw).ok());
}

TEST_F(MappingTest, MprotectRespectsTheFilesMode) {
  MmapRequest request = Anon(kP, true);
  request.object = MakeRef<FakeFile>(kP);
  request.protection = kRo;
  request.max_protection = kRo;
  uint64_t at = Map(request);
  EXPECT_EQ(mm->Mprotect(at, kP, kRw).error_number(), EACCES);
}

TEST_F(MappingTest, ReservationsTakeNoMemoryUntilAccessible) {
  MmapRequest request = Anon(uint64_t{16} << 40);
  request.protection = kNone;
  request.no_reserve = true;
  uint64_t big = Map(request);
  EXPECT_EQ(SpaceOf(*mm).maps, 0);
  EXPECT_EQ(mm->GetUsage().resident_bytes, 0u);
  EXPECT_TRUE(mm->Munmap(big, request.length).ok());
  request.length = 64 << 20;
  request.no_reserve = false;
  uint64_t at = Map(request);
  EXPECT_EQ(SpaceOf(*mm).maps, 0);
  ASSERT_TRUE(mm->Mprotect(at, 33 * kP, kRw).ok());
  EXPECT_EQ(SpaceOf(*mm).maps, 1) << "mapped at once, in one piece";
  EXPECT_EQ(Poke(*mm, at + 32 * kP, 1), 0);
}

TEST_F(MappingTest, RemapGrowsInPlaceMovesAndShrinks) {
  Map(At(kHere, 2 * kP));
  ASSERT_EQ(Poke(*mm, kHere + kP, 77), 0);
  EXPECT_EQ(*mm->Mremap(kHere, 2 * kP, 4 * kP, 0, 0), kHere);
  EXPECT_EQ(Vmas(*mm).size(), 1u);
  Map(At(kHere + 5 * kP, kP));
  EXPECT_EQ(mm->Mremap(kHere, 4 * kP, 8 * kP, 0, 0).error_number(), ENOMEM);
  uint64_t moved = *mm->Mremap(kHere, 4 * kP, 8 * kP, MREMAP_MAYMOVE, 0);
  EXPECT_NE(moved, kHere);
  EXPECT_EQ(Value(moved + kP), 77u);
  EXPECT_EQ(Poke(*mm, kHere, 1), SIGSEGV);
  EXPECT_EQ(*mm->Mremap(moved, 8 * kP, kP, 0, 0), moved);
  EXPECT_EQ(Poke(*mm, moved + kP, 1), SIGSEGV);
  EXPECT_EQ(mm->Mremap(moved + kP, kP, 2 * kP, MREMAP_MAYMOVE, 0).error_number(), EFAULT);
  EXPECT_EQ(mm->Mremap(moved, kP, 0, 0, 0).error_number(), EINVAL);
  EXPECT_EQ(mm->Mremap(moved, kP, kP, MREMAP_FIXED, kHere).error_number(), EINVAL);
  EXPECT_EQ(mm->Mremap(moved, kP, kP, MREMAP_FIXED | MREMAP_MAYMOVE, moved).error_number(), EINVAL);
  EXPECT_EQ(mm->Mremap(moved, 0, kP, MREMAP_MAYMOVE, 0).error_number(), EINVAL) << "private";
  EXPECT_EQ(mm->Mremap(moved, kP, kP, 64, 0).error_number(), EINVAL);
}

TEST_F(MappingTest, RemapDuplicatesSharedAndKeepsWithDontUnmap) {
  uint64_t at = Map(Anon(2 * kP, true));
  ASSERT_EQ(Poke(*mm, at + kP, 3), 0);
  uint64_t twin = *mm->Mremap(at, 0, 2 * kP, MREMAP_MAYMOVE, 0);
  EXPECT_EQ(Value(twin + kP), 3u);
  ASSERT_EQ(Poke(*mm, twin, 4), 0);
  EXPECT_EQ(Value(at), 4u);
  uint64_t own = Map(Anon(2 * kP));
  ASSERT_EQ(Poke(*mm, own, 9), 0);
  uint64_t away = *mm->Mremap(own, 2 * kP, 2 * kP, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
  EXPECT_EQ(Value(away), 9u);
  EXPECT_EQ(Value(own), 0u) << "what stays behind is empty";
  EXPECT_EQ(mm->Mremap(own, kP, 2 * kP, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0).error_number(), EINVAL);
}

TEST_F(MappingTest, Brk) {
  mm->SetBrkStart(kHere);
  EXPECT_EQ(mm->Brk(0), kHere);
  EXPECT_EQ(mm->Brk(kHere + 100), kHere + 100);
  EXPECT_EQ(Poke(*mm, kHere, 1), 0);
  EXPECT_EQ(mm->Brk(kHere + 10 * kP), kHere + 10 * kP);
  ASSERT_EQ(Vmas(*mm).size(), 1u);
  EXPECT_EQ(Vmas(*mm)[0].name, "[heap]");
  ASSERT_EQ(Poke(*mm, kHere + 9 * kP, 5), 0);
  EXPECT_EQ(mm->Brk(kHere + kP), kHere + kP);
  EXPECT_EQ(Poke(*mm, kHere + 9 * kP, 5), SIGSEGV);
  EXPECT_EQ(mm->Brk(kHere + 10 * kP), kHere + 10 * kP);
  EXPECT_EQ(Value(kHere + 9 * kP), 0u);
  Map(At(kHere + 20 * kP, kP));
  EXPECT_EQ(mm->Brk(kHere + 21 * kP), kHere + 10 * kP) << "in the way";
  EXPECT_EQ(mm->Brk(UINT64_MAX), kHere + 10 * kP);
  mm->SetLimits({.data = 11 * kP});
  EXPECT_EQ(mm->Brk(kHere + 12 * kP), kHere + 10 * kP);
}

TEST_F(MappingTest, Limits) {
  mm->SetLimits({.address_space = 10 * kP});
  Map(At(kHere, 8 * kP));
  EXPECT_EQ(MmapError(Anon(3 * kP)), ENOMEM);
  Map(At(kHere, 10 * kP));  // the replaced ones do not count
  EXPECT_EQ(mm->Mremap(kHere, 10 * kP, 11 * kP, MREMAP_MAYMOVE, 0).error_number(), ENOMEM);
  mm->SetLimits({.data = 10 * kP, .memlock = 2 * kP});
  EXPECT_EQ(MmapError(Anon(kP)), ENOMEM);
  MmapRequest request = Anon(4 * kP);
  request.protection = kRo;
  uint64_t ro = Map(request);
  EXPECT_EQ(mm->Mprotect(ro, kP, kRw).error_number(), ENOMEM);
  EXPECT_EQ(mm->Mlock(ro, 3 * kP, true).error_number(), ENOMEM);
  EXPECT_TRUE(mm->Mlock(ro + 10, kP, true).ok()) << "two pages";
  EXPECT_TRUE(mm->Mlock(ro, 2 * kP, true).ok()) << "already counted";
  EXPECT_EQ(mm->GetUsage().locked_bytes, 2 * kP);
  EXPECT_EQ(mm->Madvise(ro, kP, MADV_DONTNEED).error_number(), EINVAL) << "locked";
  request.locked = true;
  EXPECT_EQ(MmapError(request), EAGAIN);
  EXPECT_TRUE(mm->MlockAll(0).ok());
  EXPECT_EQ(mm->GetUsage().locked_bytes, 0u);
  EXPECT_EQ(mm->MlockAll(MCL_CURRENT).error_number(), ENOMEM);
  mm->SetLimits({.memlock = 0});
  EXPECT_EQ(mm->Mlock(ro, kP, true).error_number(), EPERM);
  MemoryManager::SetMemoryLimit(1 << 20);
  EXPECT_EQ(MmapError(Anon(2 << 20)), ENOMEM);
  EXPECT_EQ(MmapError(Anon(2 << 20, true)), ENOMEM);
  request = Anon(2 << 20);
  request.no_reserve = true;
  EXPECT_EQ(MmapError(request), 0);
  MemoryManager::SetMemoryLimit(UINT64_MAX);
}

TEST_F(MappingTest, Madvise) {
  Map(At(kHere, 4 * kP));
  for (int i = 0; i < 4; ++i) ASSERT_EQ(Poke(*mm, kHere + i * kP, 1), 0);
  ASSERT_TRUE(mm->Madvise(kHere + kP, kP, MADV_DONTNEED).ok());
  EXPECT_EQ(Value(kHere), 1u);
  EXPECT_EQ(Value(kHere + kP), 0u);
  EXPECT_EQ(Value(kHere + 2 * kP), 1u);
  EXPECT_EQ(mm->Madvise(kHere + 1, kP, MADV_DONTNEED).error_number(), EINVAL);
  EXPECT_EQ(mm->Madvise(kHere, kP, 999).error_number(), EINVAL);
  EXPECT_EQ(mm->Madvise(kHere, UINT64_MAX, MADV_DONTNEED).error_number(), EINVAL);
  EXPECT_EQ(mm->Madvise(kHere, 8 * kP, MADV_DONTNEED).error_number(), ENOMEM);
  EXPECT_EQ(Value(kHere + 3 * kP), 0u) << "the mapped part was done";
  EXPECT_EQ(mm->Madvise(kHere, kP, MADV_REMOVE).error_number(), EINVAL);
  uint64_t shared = Map(Anon(2 * kP, true));
  ASSERT_EQ(Poke(*mm, shared, 1), 0);
  EXPECT_TRUE(mm->Madvise(shared, kP, MADV_DONTNEED).ok());
  EXPECT_EQ(Value(shared), 1u) << "shared memory stays";
  EXPECT_EQ(mm->Madvise(shared, kP, MADV_FREE).error_number(), EINVAL);
  EXPECT_EQ(mm->Madvise(shared, kP, MADV_WIPEONFORK).error_number(), EINVAL);
  EXPECT_TRUE(mm->Madvise(shared, kP, MADV_REMOVE).ok());
  EXPECT_EQ(Value(shared), 0u);
  EXPECT_TRUE(mm->Madvise(kHere, kP, MADV_HUGEPAGE).ok());
  EXPECT_TRUE(mm->Madvise(kHere, 4 * kP, 23 /* MADV_POPULATE_WRITE */).ok());
  EXPECT_EQ(mm->Madvise(kHere, 8 * kP, 23).error_number(), ENOMEM);
}

TEST_F(MappingTest, MincoreAndMsync) {
  Map(At(kHere, 4 * kP));
  ASSERT_EQ(Poke(*mm, kHere + 2 * kP, 1), 0);
  std::vector<uint8_t> pages;
  ASSERT_TRUE(mm->Mincore(kHere, 4 * kP, &pages).ok());
  EXPECT_EQ(pages, (std::vector<uint8_t>{0, 0, 1, 0}));
  EXPECT_EQ(mm->Mincore(kHere, 5 * kP, &pages).error_number(), ENOMEM);
  MmapRequest reserve = Anon(uint64_t{1} << 44);
  reserve.no_reserve = true;
  EXPECT_EQ(mm->Mincore(Map(reserve), reserve.length, &pages).error_number(), ENOMEM) << "no 4 GiB of answer";
  EXPECT_EQ(mm->Mincore(kHere + 1, kP, &pages).error_number(), EINVAL);
  auto file = MakeRef<FakeFile>(8 * kP);
  MmapRequest request = Anon(4 * kP, true);
  request.object = RefPtr<MappedObject>(file);
  uint64_t at = Map(request);
  EXPECT_TRUE(mm->Msync(at, 2 * kP, MS_SYNC).ok());
  EXPECT_EQ(file->synced, 2 * kP);
  EXPECT_TRUE(mm->Msync(at, kP, MS_ASYNC).ok());
  EXPECT_EQ(mm->Msync(at, kP, MS_SYNC | MS_ASYNC).error_number(), EINVAL);
  EXPECT_EQ(mm->Msync(at, kP, 64).error_number(), EINVAL);
  EXPECT_EQ(mm->Msync(kGuestBase, kP, MS_SYNC).error_number(), ENOMEM);
  ASSERT_TRUE(mm->Mlock(at, kP, true).ok());
  EXPECT_EQ(mm->Msync(at, kP, MS_INVALIDATE).error_number(), EBUSY);
}

TEST_F(MappingTest, ManyMappingsAreRefusedBeforeTheHostRefuses) {
  SpaceOf(*mm).bound = false;
  int error = 0;
  uint64_t count = 0;
  for (; count < 70000 && !error; ++count) {
    MmapRequest request = At(kGuestBase + 2 * count * kP, kP);
    request.protection = kNone;
    error = MmapError(request);
  }
  EXPECT_EQ(error, ENOMEM);
  EXPECT_EQ(count, 65531u);
}

TEST_F(MappingTest, ProcView) {
  auto file = MakeRef<FakeFile>(8 * kP);
  MmapRequest request = At(kHere, 2 * kP);
  request.object = RefPtr<MappedObject>(file);
  request.offset = kP;
  Map(request);
  uint64_t shared = Map(Anon(kP, true));
  EXPECT_EQ(Value(kHere), kP + 7);
  auto all = Vmas(*mm);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "/file");
  EXPECT_EQ(all[0].offset, kP);
  EXPECT_EQ(all[0].inode, 43u);
  EXPECT_EQ(all[1].start, shared);
  EXPECT_EQ(all[1].name, "/dev/zero (deleted)");
  uint64_t offset = 0;
  EXPECT_TRUE(mm->ObjectAt(kHere + kP, &offset) == file.get());
  EXPECT_EQ(offset, 2 * kP);
  EXPECT_FALSE(mm->ObjectAt(kGuestBase, &offset));
  ASSERT_EQ(Poke(*mm, kHere, 1), 0);
  auto usage = mm->GetUsage();
  EXPECT_EQ(usage.virtual_bytes, 3 * kP);
  EXPECT_EQ(usage.resident_bytes, 2 * kP);
}

TEST(ChooseMmapBase, StaysWithinBounds) {
  for (uint64_t limit : {uint64_t{0}, uint64_t{8} << 20, UINT64_MAX}) {
    for (uint64_t random : {uint64_t{0}, UINT64_MAX}) {
      uint64_t base = MemoryManager::ChooseMmapBase(limit, random);
      EXPECT_EQ(base % kP, 0u);
      EXPECT_LT(base, platform::kGuestAddressLimit - (128 << 20));
      EXPECT_GT(base, platform::kGuestAddressLimit / 8);
    }
  }
}

}  // namespace
}  // namespace sentry::mm
