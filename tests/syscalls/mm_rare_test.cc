// SPDX-License-Identifier: Apache-2.0
// mseal(2), remap_file_pages(2), pkey_*(2), memfd_secret(2), cachestat(2), process_mrelease(2), and page placement on a
// machine of one node: migrate_pages(2), move_pages(2), set_mempolicy_home_node(2).
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <vector>

#include "tests/syscalls/util.h"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif

namespace {

constexpr size_t kPage = 4096;
constexpr long kCachestat = 451, kMseal = 462, kHomeNode = 450;

char* Map(size_t length, int prot = PROT_READ | PROT_WRITE, int flags = MAP_PRIVATE | MAP_ANONYMOUS) {
  return static_cast<char*>(mmap(nullptr, length, prot, flags, -1, 0));
}

bool Lacks(long call) { return syscall(call, ~0ul, ~0ul, ~0ul, ~0ul) == -1 && errno == ENOSYS; }

TEST(Mseal, ForbidsChanges) {
  if (Lacks(kMseal)) GTEST_SKIP() << "Linux before 6.10";
  // Sealed memory stays with its process: in a child.
  EXPECT_EQ(RunInChild([] {
              char* memory = Map(4 * kPage);
              CHILD_CHECK(syscall(kMseal, memory + kPage, 2 * kPage, 0) == 0);
              CHILD_CHECK(munmap(memory, 2 * kPage) == -1 && errno == EPERM);
              CHILD_CHECK(mprotect(memory + 2 * kPage, kPage, PROT_READ) == -1 && errno == EPERM);
              CHILD_CHECK(mmap(memory + kPage, kPage, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                              MAP_FAILED &&
                          errno == EPERM);
              CHILD_CHECK(mremap(memory + kPage, kPage, 2 * kPage, MREMAP_MAYMOVE) == MAP_FAILED && errno == EPERM);
              CHILD_CHECK(mremap(memory + kPage, 2 * kPage, kPage, 0) == MAP_FAILED && errno == EPERM);
              char* other = Map(kPage);
              CHILD_CHECK(mremap(other, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, memory + kPage) == MAP_FAILED &&
                          errno == EPERM);
              memory[kPage] = 'w';
              // Writable memory may be thrown away: a write could do the same.
              CHILD_CHECK(madvise(memory + kPage, kPage, MADV_DONTNEED) == 0);
              CHILD_CHECK(memory[kPage] == 0);
              // Again, and the neighbours are free.
              CHILD_CHECK(syscall(kMseal, memory + kPage, kPage, 0) == 0);
              CHILD_CHECK(munmap(memory, kPage) == 0);
              CHILD_CHECK(munmap(memory + 3 * kPage, kPage) == 0);
              // Inherited by fork.
              CHILD_CHECK(RunInChild([&] { CHILD_CHECK(munmap(memory + kPage, kPage) == -1 && errno == EPERM); }) ==
                          Exited(0));
            }),
            Exited(0));
}

TEST(Mseal, ReadOnlyMemoryCannotBeDiscarded) {
  if (Lacks(kMseal)) GTEST_SKIP() << "Linux before 6.10";
  EXPECT_EQ(RunInChild([] {
              char* memory = Map(kPage);
              memory[0] = 'k';
              CHILD_CHECK(mprotect(memory, kPage, PROT_READ) == 0);
              CHILD_CHECK(syscall(kMseal, memory, kPage, 0) == 0);
              CHILD_CHECK(madvise(memory, kPage, MADV_DONTNEED) == -1 && errno == EPERM);
              CHILD_CHECK(madvise(memory, kPage, MADV_FREE) == -1 && errno == EPERM);
              CHILD_CHECK(madvise(memory, kPage, MADV_WILLNEED) == 0);
              CHILD_CHECK(memory[0] == 'k');
            }),
            Exited(0));
}

TEST(Mseal, Errors) {
  if (Lacks(kMseal)) GTEST_SKIP() << "Linux before 6.10";
  char* memory = Map(3 * kPage);
  ASSERT_OK(munmap(memory + kPage, kPage));
  EXPECT_FAILS(EINVAL, syscall(kMseal, memory, kPage, 1));
  EXPECT_FAILS(EINVAL, syscall(kMseal, memory + 1, kPage, 0));
  EXPECT_FAILS(EINVAL, syscall(kMseal, memory, SIZE_MAX, 0));
  EXPECT_FAILS(ENOMEM, syscall(kMseal, memory, 3 * kPage, 0));
  EXPECT_FAILS(ENOMEM, syscall(kMseal, memory + kPage, kPage, 0));
  EXPECT_OK(syscall(kMseal, memory, 0, 0));
  EXPECT_OK(munmap(memory, kPage));
  EXPECT_OK(munmap(memory + 2 * kPage, kPage));
}

TEST(RemapFilePages, Reorders) {
  Fd file(memfd_create("pages", 0));
  ASSERT_OK(ftruncate(file.get(), 3 * kPage));
  char* memory = static_cast<char*>(mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  for (int i = 0; i < 3; ++i) memory[i * kPage] = static_cast<char>('a' + i);
  ASSERT_OK(syscall(SYS_remap_file_pages, memory, kPage, 0, 2, 0));
  EXPECT_EQ(memory[0], 'c');
  memory[0] = 'z';
  EXPECT_EQ(memory[2 * kPage], 'z');
  EXPECT_EQ(memory[kPage], 'b');
  EXPECT_FAILS(EINVAL, syscall(SYS_remap_file_pages, memory, kPage, PROT_READ, 0, 0));
  EXPECT_FAILS(EINVAL, syscall(SYS_remap_file_pages, memory, 0, 0, 0, 0));
  EXPECT_FAILS(EINVAL, syscall(SYS_remap_file_pages, memory, SIZE_MAX, 0, 0, 0));
  EXPECT_FAILS(EINVAL, syscall(SYS_remap_file_pages, memory, kPage, 0, ~0ul, 0));
  munmap(memory, 3 * kPage);
  EXPECT_FAILS(EINVAL, syscall(SYS_remap_file_pages, memory, kPage, 0, 0, 0));
  char* mine = Map(kPage);
  EXPECT_FAILS(EINVAL, syscall(SYS_remap_file_pages, mine, kPage, 0, 0, 0));
  munmap(mine, kPage);
}

// What holds on every machine, and on one without the feature.
TEST(Pkey, WithoutKeys) {
  EXPECT_FAILS(EINVAL, syscall(SYS_pkey_alloc, 1, 0));
  EXPECT_FAILS(EINVAL, syscall(SYS_pkey_alloc, 0, 8));
  EXPECT_FAILS(EINVAL, syscall(SYS_pkey_free, 15));
  EXPECT_FAILS(EINVAL, syscall(SYS_pkey_free, -1));
  char* memory = Map(kPage);
  EXPECT_OK(syscall(SYS_pkey_mprotect, memory, kPage, PROT_READ, -1));
  EXPECT_FAILS(EINVAL, syscall(SYS_pkey_mprotect, memory, kPage, PROT_READ, 15));
  EXPECT_FAILS(EINVAL, syscall(SYS_pkey_mprotect, memory + 1, kPage, PROT_READ, 15));
  EXPECT_OK(syscall(SYS_pkey_mprotect, memory, 0, PROT_READ, 15));
  munmap(memory, kPage);
  long key = syscall(SYS_pkey_alloc, 0, 0);
  if (key >= 0) {
    syscall(SYS_pkey_free, key);
    GTEST_SKIP() << "this CPU has protection keys";
  }
  EXPECT_EQ(errno, EINVAL);
}

TEST(MemfdSecret, SharedMappingsOnly) {
  Fd file(static_cast<int>(syscall(SYS_memfd_secret, O_CLOEXEC)));
  if (!file.ok() && errno == ENOSYS) GTEST_SKIP() << "secretmem.enable is off";
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(fcntl(file.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_FAILS(EINVAL, syscall(SYS_memfd_secret, 1));
  EXPECT_FAILS(EINVAL, syscall(SYS_memfd_secret, ~0u));
  ASSERT_OK(ftruncate(file.get(), 2 * kPage));
  EXPECT_FAILS(EINVAL, ftruncate(file.get(), kPage));
  char c = 0;
  EXPECT_FAILS(EINVAL, read(file.get(), &c, 1));
  EXPECT_FAILS(EINVAL, write(file.get(), &c, 1));
  EXPECT_EQ(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, file.get(), 0), MAP_FAILED);
  EXPECT_EQ(errno, EINVAL);
  char* memory = static_cast<char*>(mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  ASSERT_NE(memory, MAP_FAILED);
  memory[kPage] = 's';
  EXPECT_EQ(RunInChild([&] { CHILD_CHECK(memory[kPage] == 's'); }), Exited(0));
  struct stat st;
  ASSERT_OK(fstat(file.get(), &st));
  EXPECT_EQ(st.st_size, static_cast<off_t>(2 * kPage));
  munmap(memory, 2 * kPage);
}

struct CachestatRange {
  uint64_t offset, length;
};
struct Counts {
  uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

TEST(Cachestat, CountsPages) {
  if (Lacks(kCachestat)) GTEST_SKIP() << "Linux before 6.5";
  Fd file(memfd_create("cached", 0));
  const std::string data(4 * kPage, 'd');
  ASSERT_EQ(write(file.get(), data.data(), data.size()), static_cast<ssize_t>(data.size()));
  CachestatRange range = {0, 0};
  Counts counts = {};
  ASSERT_OK(syscall(kCachestat, file.get(), &range, &counts, 0));
  EXPECT_EQ(counts.cached, 4u);
  EXPECT_EQ(counts.writeback, 0u);
  range = {kPage, 2 * kPage};
  ASSERT_OK(syscall(kCachestat, file.get(), &range, &counts, 0));
  EXPECT_EQ(counts.cached, 2u);
  range = {100 * kPage, kPage};
  ASSERT_OK(syscall(kCachestat, file.get(), &range, &counts, 0));
  EXPECT_EQ(counts.cached, 0u);
  EXPECT_FAILS(EINVAL, syscall(kCachestat, file.get(), &range, &counts, 1));
  EXPECT_FAILS(EFAULT, syscall(kCachestat, file.get(), 8, &counts, 0));
  EXPECT_FAILS(EFAULT, syscall(kCachestat, file.get(), &range, 8, 0));
  EXPECT_FAILS(EBADF, syscall(kCachestat, -1, &range, &counts, 0));
}

TEST(ProcessMrelease, OnlyOfTheDying) {
  if (Lacks(SYS_process_mrelease)) GTEST_SKIP() << "Linux before 5.15";
  EXPECT_FAILS(EBADF, syscall(SYS_process_mrelease, -1, 0));
  Fd null(open("/dev/null", O_RDONLY));
  EXPECT_FAILS(EBADF, syscall(SYS_process_mrelease, null.get(), 0));
  Child child([] { pause(); });
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, child.pid(), 0)));
  ASSERT_TRUE(pidfd.ok());
  EXPECT_FAILS(EINVAL, syscall(SYS_process_mrelease, pidfd.get(), 1));
  EXPECT_FAILS(EINVAL, syscall(SYS_process_mrelease, pidfd.get(), 0));
  child.Kill(SIGKILL);
  long released = syscall(SYS_process_mrelease, pidfd.get(), 0);
  EXPECT_TRUE(released == 0 || errno == ESRCH) << errno;  // it may be gone already
  EXPECT_EQ(child.Wait(), Killed(SIGKILL));
  EXPECT_FAILS(ESRCH, syscall(SYS_process_mrelease, pidfd.get(), 0));
}

TEST(Numa, MigratePages) {
  unsigned long nodes = 1, none = 0, far = 1ul << 60;
  EXPECT_EQ(syscall(SYS_migrate_pages, 0, 65, &nodes, &nodes), 0);
  EXPECT_EQ(syscall(SYS_migrate_pages, getpid(), 65, &nodes, &nodes), 0);
  EXPECT_FAILS(EINVAL, syscall(SYS_migrate_pages, 0, 65, &nodes, &none));
  EXPECT_FAILS(EINVAL, syscall(SYS_migrate_pages, 0, 65, &nodes, &far));
  EXPECT_FAILS(EFAULT, syscall(SYS_migrate_pages, 0, 65, 8, &nodes));
  EXPECT_FAILS(EFAULT, syscall(SYS_migrate_pages, 0, 65, &nodes, 8));
  EXPECT_FAILS(EINVAL, syscall(SYS_migrate_pages, 0, 1ul << 40, &nodes, &nodes));
  EXPECT_FAILS(ESRCH, syscall(SYS_migrate_pages, 0x7ffffff0, 65, &nodes, &nodes));
}

TEST(Numa, MovePages) {
  char* memory = Map(2 * kPage);
  memory[0] = 1;
  void* pages[] = {memory, reinterpret_cast<void*>(kPage)};
  int status[2] = {77, 77}, nodes[2] = {0, 0};
  ASSERT_OK(syscall(SYS_move_pages, 0, 2, pages, nullptr, status, 0));
  EXPECT_EQ(status[0], 0);
  EXPECT_EQ(status[1], -EFAULT);
  status[0] = 77;
  ASSERT_OK(syscall(SYS_move_pages, 0, 1, pages, nodes, status, MPOL_MF_MOVE));
  EXPECT_EQ(status[0], 0);
  EXPECT_FAILS(EINVAL, syscall(SYS_move_pages, 0, 1, pages, nodes, status, 1));
  nodes[0] = 60;
  EXPECT_FAILS(ENODEV, syscall(SYS_move_pages, 0, 1, pages, nodes, status, MPOL_MF_MOVE));
  EXPECT_FAILS(EFAULT, syscall(SYS_move_pages, 0, 1, 8, nullptr, status, 0));
  EXPECT_FAILS(EFAULT, syscall(SYS_move_pages, 0, 1, pages, nullptr, 8, 0));
  EXPECT_FAILS(ESRCH, syscall(SYS_move_pages, 0x7ffffff0, 1, pages, nullptr, status, 0));
  EXPECT_OK(syscall(SYS_move_pages, 0, 0, nullptr, nullptr, nullptr, 0));
  munmap(memory, 2 * kPage);
}

TEST(Numa, HomeNode) {
  if (Lacks(kHomeNode)) GTEST_SKIP() << "Linux before 5.17, or without NUMA";
  char* memory = Map(kPage);
  EXPECT_FAILS(EINVAL, syscall(kHomeNode, memory + 1, kPage, 0, 0));
  EXPECT_FAILS(EINVAL, syscall(kHomeNode, memory, kPage, 60, 0));
  EXPECT_FAILS(EINVAL, syscall(kHomeNode, memory, kPage, 0, 1));
  EXPECT_OK(syscall(kHomeNode, memory, 0, 0, 0));
  EXPECT_FAILS(ENOENT, syscall(kHomeNode, memory, kPage, 0, 0));
  munmap(memory, kPage);
}

}  // namespace
