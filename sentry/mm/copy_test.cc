// SPDX-License-Identifier: Apache-2.0
// Copies, strings, pins, host I/O through pinned pages, atomic words and futex keys.
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>

#include "sentry/mm/fake_platform.h"

namespace sentry::mm {
namespace {

constexpr uint64_t kP = kPageSize;
constexpr uint64_t kHere = kGuestBase + (32 << 20);
constexpr Protection kNone{}, kRo{true, false, false};

class CopyTest : public MmTest {
 protected:
  void SetUp() override {
    MmTest::SetUp();
    Map(At(kHere, 4 * kP));
  }
  std::string In(uint64_t at, size_t length) {
    std::string result(length, '?');
    auto n = mm->CopyIn(UserAddr(at), result.data(), length);
    result.resize(n.ok() ? *n : 0);
    return result;
  }
  int Out(uint64_t at, std::string_view text) {
    auto n = mm->CopyOut(UserAddr(at), text.data(), text.size());
    return n.ok() ? static_cast<int>(*n) : -n.error_number();
  }
};

TEST_F(CopyTest, PartialAtTheEdge) {
  std::string text(2 * kP, 'x');
  EXPECT_EQ(Out(kHere + 3 * kP, text), static_cast<int>(kP));
  EXPECT_EQ(In(kHere + 4 * kP - 3, 10), "xxx");
  EXPECT_EQ(Out(kHere + 4 * kP, text), -EFAULT);
  EXPECT_EQ(Out(kHere - 1, text), -EFAULT);
  EXPECT_EQ(mm->ZeroOut(UserAddr(kHere + 4 * kP - 2), 100).value_or(0), 2u);
  EXPECT_EQ(In(kHere + 4 * kP - 3, 3), std::string("x\0\0", 3));
  EXPECT_EQ(*mm->CopyIn(UserAddr(0), nullptr, 0), 0u);
}

TEST_F(CopyTest, HostileAddresses) {
  char buffer[16];
  for (uint64_t at : {uint64_t{0}, uint64_t{1}, UINT64_MAX, UINT64_MAX - 7, uint64_t{1} << 63,
                      platform::kGuestAddressLimit, platform::kGuestAddressLimit - 4}) {
    EXPECT_EQ(mm->CopyIn(UserAddr(at), buffer, sizeof buffer).error_number(), EFAULT) << at;
    EXPECT_EQ(mm->CopyOut(UserAddr(at), buffer, sizeof buffer).error_number(), EFAULT) << at;
    EXPECT_EQ(mm->CopyInString(UserAddr(at), 100).error_number(), EFAULT);
    EXPECT_EQ(mm->Pin(UserAddr(at), SIZE_MAX, true).error_number(), EFAULT);
    EXPECT_NE(mm->Load32(UserAddr(at)).error_number(), 0);
    EXPECT_NE(mm->GetFutexKey(UserAddr(at), true).error_number(), 0);
    (void)mm->Munmap(at, SIZE_MAX).ok();
    (void)mm->Mprotect(at, SIZE_MAX - 100, kRo).ok();
    (void)mm->Mremap(at, SIZE_MAX, SIZE_MAX, 3, at).ok();
    (void)mm->Mremap(at & ~(kP - 1), kP, uint64_t{1} << 46, 3, at & ~(kP - 1)).ok();
    (void)mm->Madvise(at, SIZE_MAX, MADV_DONTNEED).ok();
    (void)mm->Mlock(at, SIZE_MAX, true).ok();
    (void)mm->Msync(at, SIZE_MAX, MS_SYNC).ok();
    std::vector<uint8_t> pages;
    (void)mm->Mincore(at, SIZE_MAX, &pages).ok();
    mm->InvalidatePages(at & ~(kP - 1), SIZE_MAX, true);
  }
  EXPECT_EQ(Vmas(*mm).size(), 1u);
  EXPECT_EQ(Out(kHere, "alive"), 5);
}

TEST_F(CopyTest, ReadingUntouchedMemoryTakesNone) {
  MmapRequest request = Anon(64 << 20);
  request.no_reserve = true;
  uint64_t at = Map(request);
  EXPECT_EQ(In(at + 12345, 3 << 20), std::string(3 << 20, '\0'));
  EXPECT_EQ(memory->UsedBytes(), 0u);
  EXPECT_EQ(*mm->Load32(UserAddr(at)), 0u);
}

TEST_F(CopyTest, PermissionsAndTheTracersPrivilege) {
  ASSERT_EQ(Out(kHere, "abc"), 3);
  ASSERT_TRUE(mm->Mprotect(kHere, kP, kNone).ok());
  char buffer[3];
  EXPECT_EQ(mm->CopyIn(UserAddr(kHere), buffer, 3).error_number(), EFAULT);
  EXPECT_EQ(*mm->CopyIn(UserAddr(kHere), buffer, 3, true), 3u);
  EXPECT_EQ(memcmp(buffer, "abc", 3), 0);
  // A breakpoint in shared program text stays private.
  auto file = MakeRef<FakeFile>(4 * kP);
  MmapRequest request = At(kHere, 4 * kP);
  request.object = RefPtr<MappedObject>(file);
  request.protection = {true, false, true};
  Map(request);
  EXPECT_EQ(mm->CopyOut(UserAddr(kHere + kP), "\xcc", 1).error_number(), EFAULT);
  EXPECT_EQ(*mm->CopyOut(UserAddr(kHere + kP), "\xcc", 1, true), 1u);
  EXPECT_EQ(In(kHere + kP, 1), "\xcc");
  char original;
  ASSERT_EQ(pread(file->fd(), &original, 1, kP), 1);
  EXPECT_NE(original, '\xcc');
  EXPECT_FALSE(SpaceOf(*mm).At(kHere + kP).write);
  // Not into shared read-only mappings.
  request.is_private = false;
  request.protection = kRo;
  Map(request);
  EXPECT_EQ(mm->CopyOut(UserAddr(kHere), "x", 1, true).error_number(), EFAULT);
}

TEST_F(CopyTest, CopyOutBreaksCopyOnWriteInTheStubToo) {
  ASSERT_EQ(Out(kHere, "parent"), 6);
  auto child = std::move(mm->Fork()).value();
  EXPECT_EQ(Value(kHere) & 0xff, 'p');
  for (bool bound : {false, true}) {
    SpaceOf(*mm).bound = bound;
    ASSERT_EQ(Out(kHere, bound ? "second" : "first!"), 6);
    SpaceOf(*mm).bound = true;
    EXPECT_EQ(Value(kHere) & 0xff, bound ? 's' : 'f') << "the stub no longer shows the shared page";
  }
  EXPECT_EQ(Value(*child, kHere) & 0xff, 'p');
}

TEST_F(CopyTest, SharedFileThroughTheDescriptor) {
  auto file = MakeRef<FakeFile>(kP + 100);
  MmapRequest request = At(kHere, 2 * kP);
  request.object = RefPtr<MappedObject>(file);
  request.is_private = false;
  Map(request);
  EXPECT_EQ(Out(kHere + kP + 90, std::string(20, 'z')), 20);
  EXPECT_EQ(lseek(file->fd(), 0, SEEK_END), static_cast<off_t>(kP + 100)) << "a mapping never extends its file";
  EXPECT_EQ(In(kHere + kP + 90, 20), std::string(10, 'z') + std::string(10, '\0'));
  EXPECT_EQ(*mm->CompareExchange32(UserAddr(kHere), 7, 8), 7u);
  EXPECT_EQ(*mm->Load32(UserAddr(kHere)), 8u);
  EXPECT_EQ(mm->Pin(UserAddr(kHere), 8, true)->size(), 0u) << "use a bounce buffer";
}

TEST_F(CopyTest, Strings) {
  ASSERT_EQ(Out(kHere, std::string("hello\0x", 7)), 7);
  EXPECT_EQ(*mm->CopyInString(UserAddr(kHere), 6), "hello");
  EXPECT_EQ(mm->CopyInString(UserAddr(kHere), 5).error_number(), ENAMETOOLONG);
  std::string big(3 * kP, 'b');
  ASSERT_EQ(Out(kHere + kP, big), static_cast<int>(big.size()));
  EXPECT_EQ(mm->CopyInString(UserAddr(kHere + kP), 4 * kP).error_number(), EFAULT) << "runs off the end";
  EXPECT_EQ(mm->CopyInString(UserAddr(kHere + kP), kP).error_number(), ENAMETOOLONG);
  ASSERT_EQ(Out(kHere + 4 * kP - 1, std::string("\0", 1)), 1);
  EXPECT_EQ(mm->CopyInString(UserAddr(kHere + kP), 3 * kP)->size(), 3 * kP - 1);
}

TEST_F(CopyTest, PinsKeepMemoryAcrossMunmap) {
  ASSERT_EQ(Out(kHere, "data"), 4);
  auto pinned = std::move(mm->Pin(UserAddr(kHere), 100 * kP, false)).value();
  EXPECT_EQ(pinned.size(), 4 * kP) << "up to the end of the mapping";
  ASSERT_TRUE(mm->Munmap(kHere, 4 * kP).ok());
  EXPECT_EQ(memcmp(pinned.pieces()[0].iov_base, "data", 4), 0);
  PinnedPages moved = std::move(pinned);
  EXPECT_EQ(pinned.size(), 0u);  // NOLINT: moved from on purpose
  EXPECT_EQ(moved.size(), 4 * kP);
}

TEST_F(CopyTest, VectorsAndHostFiles) {
  std::vector<iovec> vectors = {{reinterpret_cast<void*>(kHere), 3},
                                {nullptr, 0},
                                {reinterpret_cast<void*>(kHere + kP - 2), 5},
                                {reinterpret_cast<void*>(kHere + 4 * kP - 4), 100}};
  UserTarget target(*mm, vectors);
  EXPECT_EQ(target.remaining(), 108u);
  EXPECT_EQ(*target.Put("abcdefgh", 8), 8u);
  EXPECT_EQ(*target.Put("ijklmnop", 8), 4u) << "the rest is not mapped";
  EXPECT_EQ(target.Put("x", 1).error_number(), EFAULT);
  UserSource source(*mm, vectors);
  char buffer[20] = {};
  EXPECT_EQ(*source.Take(buffer, 10), 10u);
  EXPECT_STREQ(buffer, "abcdefghij");
  source.Untake(9);
  EXPECT_EQ(source.remaining(), 107u);
  EXPECT_EQ(*source.Take(buffer, 4), 4u);
  EXPECT_EQ(memcmp(buffer, "bcde", 4), 0);
  source.Untake(4);
  UniqueFd file(memfd_create("out", 0));
  EXPECT_EQ(*source.TakeToHost(file.get(), 10, 100), 11u);
  EXPECT_EQ(source.TakeToHost(file.get(), 21, 100).error_number(), EFAULT);
  UserTarget back(*mm, UserAddr(kHere + 2 * kP), 100);
  EXPECT_EQ(*back.PutFromHost(file.get(), 10, 100), 11u) << "end of file";
  EXPECT_EQ(In(kHere + 2 * kP, 12), std::string("bcdefghijkl\0", 12));
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  UniqueFd a(pair[0]), b(pair[1]);
  ASSERT_EQ(write(a.get(), "stream", 6), 6);
  UserTarget stream(*mm, vectors);
  EXPECT_EQ(*stream.PutFromHost(b.get(), -1, 100), 6u) << "one read";
  EXPECT_EQ(In(kHere, 3), "str");
  EXPECT_EQ(In(kHere + kP - 2, 3), "eam");
  // A mapped host file as the buffer goes through a bounce buffer.
  auto object = MakeRef<FakeFile>(2 * kP);
  MmapRequest request = At(kHere, 2 * kP);
  request.object = RefPtr<MappedObject>(object);
  request.is_private = false;
  Map(request);
  UserTarget bounced(*mm, UserAddr(kHere), 100);
  EXPECT_EQ(*bounced.PutFromHost(file.get(), 10, 11), 11u);
  char seen[11];
  ASSERT_EQ(pread(object->fd(), seen, 11, 0), 11);
  EXPECT_EQ(memcmp(seen, "bcdefghijkl", 11), 0);
}

TEST_F(CopyTest, LargeReadsIntoLazyMemory) {
  uint64_t size = 40 << 20;
  UniqueFd file(memfd_create("big", 0));
  ASSERT_EQ(ftruncate(file.get(), size), 0);
  ASSERT_EQ(pwrite(file.get(), "end", 3, size - 3), 3);
  MmapRequest request = Anon(size);
  request.no_reserve = true;
  uint64_t at = Map(request);
  UserTarget target(*mm, UserAddr(at), size);
  EXPECT_EQ(*target.PutFromHost(file.get(), 0, size), size);
  EXPECT_EQ(In(at + size - 3, 3), "end");
}

TEST_F(CopyTest, AtomicWords) {
  EXPECT_EQ(mm->Load32(UserAddr(kHere + 2)).error_number(), EINVAL);
  EXPECT_EQ(*mm->CompareExchange32(UserAddr(kHere), 0, 5), 0u);
  EXPECT_EQ(*mm->CompareExchange32(UserAddr(kHere), 0, 6), 5u);
  EXPECT_EQ(*mm->Load32(UserAddr(kHere)), 5u);
  ASSERT_TRUE(mm->Mprotect(kHere, kP, kRo).ok());
  EXPECT_EQ(mm->CompareExchange32(UserAddr(kHere), 5, 6).error_number(), EFAULT);
}

TEST_F(CopyTest, FutexKeys) {
  auto child = std::move(mm->Fork()).value();
  uint64_t shared = Map(Anon(kP, true));
  auto other = std::move(mm->Fork()).value();
  uint64_t twin = *other->Mremap(shared, 0, kP, MREMAP_MAYMOVE, 0);
  EXPECT_EQ(*mm->GetFutexKey(UserAddr(shared + 8), true), *other->GetFutexKey(UserAddr(twin + 8), true));
  EXPECT_FALSE(*mm->GetFutexKey(UserAddr(shared + 8), true) == *mm->GetFutexKey(UserAddr(shared + 4), true));
  EXPECT_FALSE(*mm->GetFutexKey(UserAddr(kHere), true) == *child->GetFutexKey(UserAddr(kHere), true));
  EXPECT_FALSE(*mm->GetFutexKey(UserAddr(kHere), true) == *mm->GetFutexKey(UserAddr(kHere), false));
  EXPECT_EQ(mm->GetFutexKey(UserAddr(kHere + 1), false).error_number(), EINVAL);
  EXPECT_EQ(mm->GetFutexKey(UserAddr(kGuestBase), true).error_number(), EFAULT);
}

TEST_F(CopyTest, ClearReleasesEverything) {
  ASSERT_EQ(Out(kHere, "x"), 1);
  mm->Clear();
  EXPECT_TRUE(Vmas(*mm).empty());
  EXPECT_TRUE(SpaceOf(*mm).mapped.empty());
  EXPECT_EQ(memory->UsedBytes(), 0u);
  EXPECT_EQ(Out(kHere, "x"), -EFAULT);
  EXPECT_NE(Map(Anon(kP)), 0u);
}

}  // namespace
}  // namespace sentry::mm
