// SPDX-License-Identifier: Apache-2.0
// Anonymous memory: mmap placement and sharing, mprotect, munmap, mremap, brk, madvise, mincore, stack growth.
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <vector>

#include "tests/syscalls/util.h"

namespace {

constexpr size_t kPage = 4096;

char* Anon(size_t pages, int prot = PROT_READ | PROT_WRITE, int flags = MAP_PRIVATE, void* at = nullptr) {
  return static_cast<char*>(mmap(at, pages * kPage, prot, flags | MAP_ANONYMOUS, -1, 0));
}

// Whether a page can be read and written, asked through system calls so that nothing faults.
struct Probe {
  Pipe p;
  bool Readable(const char* at) {
    bool ok = write(p.w.get(), at, 1) == 1;
    char c;
    return ok && read(p.r.get(), &c, 1) == 1;
  }
  bool Writable(char* at) { return write(p.w.get(), "w", 1) == 1 && (read(p.r.get(), at, 1) == 1 || Drain()); }
  bool Drain() {
    char c;
    ssize_t n = read(p.r.get(), &c, 1);
    (void)n;
    return false;
  }
};

struct Vma {
  uintptr_t start, end;
  std::string perms, name;
};

std::vector<Vma> Maps() {
  std::vector<Vma> out;
  std::string text = ReadFile("/proc/self/maps");
  for (size_t pos = 0; pos < text.size();) {
    size_t eol = text.find('\n', pos);
    std::string line = text.substr(pos, eol - pos);
    pos = eol + 1;
    Vma v;
    char perms[8], name[512] = "";
    if (sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " %7s %*x %*s %*u %511[^\n]", &v.start, &v.end, perms, name) >=
        3) {
      v.perms = perms;
      v.name = name;
      out.push_back(v);
    }
  }
  return out;
}

std::string PermsAt(const void* p) {
  auto a = reinterpret_cast<uintptr_t>(p);
  for (const Vma& v : Maps())
    if (v.start <= a && a < v.end) return v.perms;
  return "";
}

TEST(Mmap, AnonymousIsZeroFilled) {
  char* p = Anon(16);
  ASSERT_NE(MAP_FAILED, p);
  for (size_t i = 0; i < 16 * kPage; ++i) ASSERT_EQ(0, p[i]);
  EXPECT_OK(munmap(p, 16 * kPage));
}

TEST(Mmap, InvalidArguments) {
  EXPECT_FAILS(EINVAL, mmap(nullptr, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  EXPECT_FAILS(EINVAL, mmap(nullptr, kPage, PROT_READ, MAP_ANONYMOUS, -1, 0));
  EXPECT_FAILS(EBADF, mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, -1, 0));
  EXPECT_FAILS(EBADF, mmap(nullptr, 0, PROT_READ, 0, -1, 0)) << "the descriptor comes before length and type";
  EXPECT_FAILS(EINVAL, mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 100));
  EXPECT_FAILS(EINVAL, mmap((void*)0x10001, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  EXPECT_FAILS(ENOMEM, mmap(nullptr, 1ul << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  EXPECT_FAILS(ENOMEM, mmap(nullptr, -1ul, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

TEST(Mmap, FixedReplacesWhatWasThere) {
  char* p = Anon(3);
  memset(p, 'x', 3 * kPage);
  ASSERT_EQ(p + kPage, Anon(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, p + kPage));
  EXPECT_EQ('x', p[0]);
  EXPECT_EQ(0, p[kPage]);
  EXPECT_EQ('x', p[2 * kPage]);
  munmap(p, 3 * kPage);
}

TEST(Mmap, NoreplaceRefusesAnOverlap) {
  char* p = Anon(2);
  EXPECT_FAILS(EEXIST, Anon(1, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, p + kPage));
  munmap(p + kPage, kPage);
  EXPECT_EQ(p + kPage, Anon(1, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, p + kPage));
  munmap(p, 2 * kPage);
}

TEST(Mmap, HintIsTakenWhenFree) {
  char* p = Anon(4);
  munmap(p, 4 * kPage);
  char* q = Anon(1, PROT_READ, MAP_PRIVATE, p);
  EXPECT_EQ(p, q);
  char* r = Anon(1, PROT_READ, MAP_PRIVATE, p);
  EXPECT_NE(p, r);
  munmap(q, kPage);
  munmap(r, kPage);
}

TEST(Mmap, LowAddressesWithinMap32bit) {
  char* p = Anon(1, PROT_READ, MAP_PRIVATE | MAP_32BIT);
  ASSERT_NE(MAP_FAILED, p);
  EXPECT_LT(reinterpret_cast<uintptr_t>(p), 1ul << 31);
  munmap(p, kPage);
}

TEST(Mmap, LengthIsRoundedUpToPages) {
  auto* p = static_cast<char*>(mmap(nullptr, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  p[kPage - 1] = 1;
  EXPECT_OK(munmap(p, 1));
  Probe probe;
  EXPECT_FALSE(probe.Readable(p));
}

TEST(Mmap, SharedIsSeenAcrossFork) {
  char* p = Anon(1, PROT_READ | PROT_WRITE, MAP_SHARED);
  EXPECT_EQ(Exited(0), RunInChild([&] { p[10] = 'c'; }));
  EXPECT_EQ('c', p[10]);
  munmap(p, kPage);
}

TEST(Mmap, PrivateIsCopiedAcrossFork) {
  constexpr size_t kPages = 600;
  char* p = Anon(kPages);
  for (size_t i = 0; i < kPages; ++i) p[i * kPage] = 'p';
  EXPECT_EQ(Exited(0), RunInChild([&] {
              for (size_t i = 0; i < kPages; ++i) CHILD_CHECK(p[i * kPage] == 'p');
              for (size_t i = 0; i < kPages; i += 3) p[i * kPage] = 'c';
              for (size_t i = 0; i < kPages; ++i) CHILD_CHECK(p[i * kPage] == (i % 3 ? 'p' : 'c'));
            }));
  for (size_t i = 0; i < kPages; ++i) ASSERT_EQ('p', p[i * kPage]);
  munmap(p, kPages * kPage);
}

TEST(Mmap, PrivateStaysApartOverThreeGenerations) {
  char* p = Anon(1);
  p[0] = 1;
  EXPECT_EQ(Exited(0), RunInChild([&] {
              p[0] = 2;
              CHILD_CHECK(RunInChild([&] {
                            CHILD_CHECK(p[0] == 2);
                            p[0] = 3;
                            CHILD_CHECK(RunInChild([&] { CHILD_CHECK(p[0] == 3); }) == Exited(0));
                          }) == Exited(0));
              CHILD_CHECK(p[0] == 2);
            }));
  EXPECT_EQ(1, p[0]);
  munmap(p, kPage);
}

TEST(Mmap, RlimitAsIsEnforced) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              rlimit rl = {256 << 20, 256 << 20};
              CHILD_CHECK(setrlimit(RLIMIT_AS, &rl) == 0);
              CHILD_CHECK(Anon((512 << 20) / kPage) == MAP_FAILED && errno == ENOMEM);
              CHILD_CHECK(Anon(1) != MAP_FAILED);
            }));
}

TEST(Munmap, PunchesAHole) {
  char* p = Anon(3);
  memset(p, 'x', 3 * kPage);
  ASSERT_OK(munmap(p + kPage, kPage));
  Probe probe;
  EXPECT_TRUE(probe.Readable(p));
  EXPECT_FALSE(probe.Readable(p + kPage));
  EXPECT_TRUE(probe.Readable(p + 2 * kPage));
  EXPECT_OK(munmap(p, 3 * kPage)) << "holes don't matter";
}

TEST(Munmap, InvalidArguments) {
  char* p = Anon(1);
  EXPECT_FAILS(EINVAL, munmap(p + 1, kPage));
  EXPECT_FAILS(EINVAL, munmap(p, 0));
  EXPECT_FAILS(EINVAL, munmap(p, -kPage));
  EXPECT_OK(munmap(p, kPage));
  EXPECT_OK(munmap(p, kPage));
}

TEST(Mprotect, SplitsAndMergesInMaps) {
  char* p = Anon(3);
  ASSERT_OK(mprotect(p + kPage, kPage, PROT_READ));
  EXPECT_EQ("rw-p", PermsAt(p));
  EXPECT_EQ("r--p", PermsAt(p + kPage));
  EXPECT_EQ("rw-p", PermsAt(p + 2 * kPage));
  Probe probe;
  EXPECT_TRUE(probe.Readable(p + kPage));
  EXPECT_FALSE(probe.Writable(p + kPage));
  ASSERT_OK(mprotect(p, 3 * kPage, PROT_NONE));
  EXPECT_EQ("---p", PermsAt(p + kPage));
  EXPECT_FALSE(probe.Readable(p));
  munmap(p, 3 * kPage);
}

TEST(Mprotect, KeepsTheContent) {
  char* p = Anon(1);
  p[7] = 'k';
  ASSERT_OK(mprotect(p, kPage, PROT_NONE));
  ASSERT_OK(mprotect(p, kPage, PROT_READ));
  EXPECT_EQ('k', p[7]);
  munmap(p, kPage);
}

TEST(Mprotect, Errors) {
  char* p = Anon(2);
  munmap(p + kPage, kPage);
  EXPECT_FAILS(ENOMEM, mprotect(p, 2 * kPage, PROT_READ));
  EXPECT_EQ("r--p", PermsAt(p)) << "changed up to the hole";
  EXPECT_FAILS(EINVAL, mprotect(p + 1, kPage, PROT_READ));
  EXPECT_OK(mprotect(p, 0, PROT_READ));
  munmap(p, kPage);
}

TEST(Mprotect, ExecutesGeneratedCode) {
  char* p = Anon(1);
  memcpy(p, "\xb8\x2a\x00\x00\x00\xc3", 6);
  ASSERT_OK(mprotect(p, kPage, PROT_READ | PROT_EXEC));
  EXPECT_EQ(42, reinterpret_cast<int (*)()>(p)());
  ASSERT_OK(mprotect(p, kPage, PROT_READ | PROT_WRITE));
  p[1] = 43;
  ASSERT_OK(mprotect(p, kPage, PROT_READ | PROT_EXEC));
  EXPECT_EQ(43, reinterpret_cast<int (*)()>(p)());
  munmap(p, kPage);
}

TEST(Mremap, GrowsInPlaceOrMoves) {
  char* p = Anon(3);
  memset(p, 'm', 2 * kPage);
  munmap(p + 2 * kPage, kPage);
  auto* q = static_cast<char*>(mremap(p, 2 * kPage, 3 * kPage, 0));
  ASSERT_EQ(p, q);
  EXPECT_EQ('m', q[2 * kPage - 1]);
  EXPECT_EQ(0, q[2 * kPage]);
  char* block = Anon(1, PROT_READ, MAP_PRIVATE | MAP_FIXED, p + 2 * kPage);
  EXPECT_FAILS(ENOMEM, mremap(p, 2 * kPage, 8 * kPage, 0));
  q = static_cast<char*>(mremap(p, 2 * kPage, 8 * kPage, MREMAP_MAYMOVE));
  ASSERT_NE(MAP_FAILED, q);
  EXPECT_NE(p, q);
  EXPECT_EQ('m', q[0]);
  EXPECT_EQ('m', q[2 * kPage - 1]);
  EXPECT_EQ(0, q[8 * kPage - 1]);
  Probe probe;
  EXPECT_FALSE(probe.Readable(p));
  munmap(q, 8 * kPage);
  munmap(block, kPage);
}

TEST(Mremap, ShrinkUnmapsTheTail) {
  char* p = Anon(3);
  ASSERT_EQ(p, mremap(p, 3 * kPage, kPage, 0));
  Probe probe;
  EXPECT_TRUE(probe.Readable(p));
  EXPECT_FALSE(probe.Readable(p + kPage));
  munmap(p, kPage);
}

TEST(Mremap, FixedMovesOntoTheTarget) {
  char* p = Anon(1);
  char* target = Anon(1);
  p[0] = 'f';
  target[0] = 't';
  ASSERT_EQ(target, mremap(p, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, target));
  EXPECT_EQ('f', target[0]);
  EXPECT_EQ("", PermsAt(p));
  munmap(target, kPage);
}

TEST(Mremap, DontunmapLeavesAnEmptyMapping) {
  char* p = Anon(1);
  p[0] = 'd';
  auto* q = static_cast<char*>(mremap(p, kPage, kPage, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, nullptr));
  ASSERT_NE(MAP_FAILED, q);
  EXPECT_EQ('d', q[0]);
  EXPECT_EQ(0, p[0]);
  munmap(p, kPage);
  munmap(q, kPage);
}

TEST(Mremap, Errors) {
  char* p = Anon(1);
  EXPECT_FAILS(EINVAL, mremap(p + 1, kPage, kPage, 0));
  EXPECT_FAILS(EINVAL, mremap(p, kPage, 0, 0));
  EXPECT_FAILS(EINVAL, mremap(p, kPage, kPage, MREMAP_FIXED, p));
  EXPECT_FAILS(EINVAL, mremap(p, kPage, kPage, 0x80));
  munmap(p, kPage);
  EXPECT_FAILS(EFAULT, mremap(p, kPage, 2 * kPage, MREMAP_MAYMOVE));
}

TEST(Brk, GrowsAndShrinks) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              // Raw calls only: the C library's allocator owns the break otherwise.
              auto brk_at = [](uintptr_t a) { return static_cast<uintptr_t>(syscall(SYS_brk, a)); };
              uintptr_t start = brk_at(0);
              uintptr_t page = (start + kPage - 1) & ~(kPage - 1);
              CHILD_CHECK(brk_at(page + 4 * kPage) == page + 4 * kPage);
              auto* p = reinterpret_cast<char*>(page);
              for (size_t i = 0; i < 4 * kPage; ++i) CHILD_CHECK(p[i] == 0);
              memset(p, 'b', 4 * kPage);
              CHILD_CHECK(brk_at(page + kPage) == page + kPage);
              CHILD_CHECK(brk_at(page + 2 * kPage) == page + 2 * kPage);
              CHILD_CHECK(p[0] == 'b' && p[kPage] == 0);
              CHILD_CHECK(brk_at(1) == page + 2 * kPage);
            }));
}

TEST(Madvise, DontneedZeroesPrivateMemory) {
  char* p = Anon(3);
  memset(p, 'x', 3 * kPage);
  ASSERT_OK(madvise(p + kPage, kPage, MADV_DONTNEED));
  EXPECT_EQ('x', p[0]);
  EXPECT_EQ(0, p[kPage]);
  EXPECT_EQ('x', p[2 * kPage]);
  munmap(p, 3 * kPage);
}

TEST(Madvise, DontneedKeepsSharedMemory) {
  char* p = Anon(1, PROT_READ | PROT_WRITE, MAP_SHARED);
  p[0] = 's';
  ASSERT_OK(madvise(p, kPage, MADV_DONTNEED));
  EXPECT_EQ('s', p[0]);
  munmap(p, kPage);
}

TEST(Madvise, FreedPageKeepsALaterWrite) {
  char* p = Anon(1);
  p[0] = 'x';
  ASSERT_OK(madvise(p, kPage, MADV_FREE));
  p[0] = 'y';
  EXPECT_EQ('y', p[0]);
  EXPECT_EQ(0, p[1]);
  munmap(p, kPage);
}

TEST(Madvise, DontforkAndWipeonfork) {
  char* p = Anon(2);
  memset(p, 'x', 2 * kPage);
  ASSERT_OK(madvise(p, kPage, MADV_DONTFORK));
  ASSERT_OK(madvise(p + kPage, kPage, MADV_WIPEONFORK));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Probe probe;
              CHILD_CHECK(!probe.Readable(p));
              CHILD_CHECK(p[kPage] == 0);
            }));
  EXPECT_EQ('x', p[kPage]);
  munmap(p, 2 * kPage);
}

TEST(Madvise, Errors) {
  char* p = Anon(1);
  EXPECT_FAILS(EINVAL, madvise(p, kPage, 12345));
  EXPECT_FAILS(EINVAL, madvise(p + 1, kPage, MADV_DONTNEED));
  munmap(p, kPage);
  EXPECT_FAILS(ENOMEM, madvise(p, kPage, MADV_DONTNEED));
}

TEST(Mincore, TouchedPagesAreResident) {
  char* p = Anon(2);
  p[0] = 1;
  unsigned char vec[2] = {};
  ASSERT_OK(mincore(p, 2 * kPage, vec));
  EXPECT_EQ(1, vec[0] & 1);
  EXPECT_FAILS(EINVAL, mincore(p + 1, kPage, vec));
  EXPECT_FAILS(EFAULT, mincore(p, kPage, reinterpret_cast<unsigned char*>(8)));
  munmap(p, 2 * kPage);
  EXPECT_FAILS(ENOMEM, mincore(p, kPage, vec));
}

TEST(Stack, GrowsOnDemand) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              constexpr size_t kSize = 3 << 20;
              volatile char big[kSize];
              for (size_t i = kSize; i > 0; i -= kPage) big[i - 1] = static_cast<char>(i >> 12);
              for (size_t i = kSize; i > 0; i -= kPage) CHILD_CHECK(big[i - 1] == static_cast<char>(i >> 12));
            }));
}

TEST(Stack, GrowsdownMappingExtends) {
  // The guard gap, 256 pages unless set otherwise at boot, has to stay free below what it grows to.
  char* p = Anon(600, PROT_NONE);
  ASSERT_OK(munmap(p, 600 * kPage));
  char* top = p + 590 * kPage;
  ASSERT_EQ(top, Anon(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, top));
  // One page below the mapping, as a push would touch it.
  static_cast<volatile char*>(top)[-8] = 1;
  EXPECT_EQ("rw-p", PermsAt(top - 8));
  munmap(top - 8 * kPage, 9 * kPage);
}

TEST(Stack, OverflowIsSIGSEGV) {
  EXPECT_EQ(Killed(SIGSEGV), RunInChild([] {
              rlimit rl = {1 << 20, 1 << 20};
              CHILD_CHECK(setrlimit(RLIMIT_STACK, &rl) == 0);
              volatile char here = 0;
              auto* at = const_cast<char*>(&here);
              for (int i = 0; i < (16 << 20); i += 1024) *static_cast<volatile char*>(at - i) = 1;
            }));
}

TEST(Maps, ShowsStackHeapAndImage) {
  bool stack = false, exe = false;
  uintptr_t last = 0;
  int local;
  for (const Vma& v : Maps()) {
    EXPECT_GE(v.start, last) << "sorted, not overlapping";
    last = v.end;
    auto a = reinterpret_cast<uintptr_t>(&local);
    if (v.start <= a && a < v.end) stack = v.name == "[stack]";
    auto f = reinterpret_cast<uintptr_t>(&Anon);
    if (v.start <= f && f < v.end) exe = v.perms == "r-xp" && v.name.find("mmap_test") != std::string::npos;
  }
  EXPECT_TRUE(stack);
  EXPECT_TRUE(exe);
}

TEST(Mlock, LocksAndReportsErrors) {
  char* p = Anon(1);
  EXPECT_OK(mlock(p, kPage));
  EXPECT_OK(munlock(p, kPage));
  munmap(p, kPage);
  EXPECT_FAILS(ENOMEM, mlock(p, kPage));
}

}  // namespace
