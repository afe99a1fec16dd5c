// SPDX-License-Identifier: Apache-2.0
// File mappings, their coherence with read and write, and EFAULT from calls given bad pointers.
#include <fcntl.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>

#include "tests/syscalls/util.h"

namespace {

constexpr size_t kPage = 4096;
constexpr int kRw = PROT_READ | PROT_WRITE;

class FileMapping : public testing::Test {
 protected:
  void SetUp() override {
    fd_ = Fd(open((dir_ / "f").c_str(), O_RDWR | O_CREAT, 0600));
    ASSERT_TRUE(fd_.ok());
  }
  char* Map(size_t pages, int prot, int flags, off_t offset = 0) {
    return static_cast<char*>(mmap(nullptr, pages * kPage, prot, flags, fd_.get(), offset));
  }
  void Fill(size_t pages) {
    for (size_t i = 0; i < pages; ++i) {
      std::string page(kPage, static_cast<char>('a' + i));
      ASSERT_EQ(static_cast<ssize_t>(kPage), pwrite(fd_.get(), page.data(), kPage, i * kPage));
    }
  }
  TempDir dir_;
  Fd fd_;
};

TEST_F(FileMapping, SharedWriteIsReadBack) {
  Fill(2);
  char* p = Map(2, kRw, MAP_SHARED);
  ASSERT_NE(MAP_FAILED, p);
  EXPECT_EQ('a', p[0]);
  EXPECT_EQ('b', p[kPage]);
  memcpy(p + kPage + 10, "hello", 5);
  char buf[5];
  ASSERT_EQ(5, pread(fd_.get(), buf, 5, kPage + 10));
  EXPECT_EQ(0, memcmp(buf, "hello", 5));
  munmap(p, 2 * kPage);
}

TEST_F(FileMapping, WriteIsSeenThroughSharedMapping) {
  Fill(1);
  char* p = Map(1, PROT_READ, MAP_SHARED);
  EXPECT_EQ('a', p[100]);
  ASSERT_EQ(3, pwrite(fd_.get(), "new", 3, 100));
  EXPECT_EQ(0, memcmp(p + 100, "new", 3));
  munmap(p, kPage);
}

TEST_F(FileMapping, TwoSharedMappingsAreOne) {
  Fill(1);
  char* p = Map(1, kRw, MAP_SHARED);
  Fd other(open((dir_ / "f").c_str(), O_RDWR));
  auto* q = static_cast<char*>(mmap(nullptr, kPage, kRw, MAP_SHARED, other.get(), 0));
  p[1] = 'P';
  EXPECT_EQ('P', q[1]);
  q[2] = 'Q';
  EXPECT_EQ('Q', p[2]);
  munmap(p, kPage);
  munmap(q, kPage);
}

TEST_F(FileMapping, PrivateWriteStaysPrivate) {
  Fill(1);
  char* p = Map(1, kRw, MAP_PRIVATE);
  p[0] = 'P';
  char c;
  ASSERT_EQ(1, pread(fd_.get(), &c, 1, 0));
  EXPECT_EQ('a', c);
  ASSERT_EQ(1, pwrite(fd_.get(), "Z", 1, 0));
  EXPECT_EQ('P', p[0]);
  munmap(p, kPage);
}

TEST_F(FileMapping, OffsetSelectsThePage) {
  Fill(3);
  char* p = Map(1, PROT_READ, MAP_PRIVATE, 2 * kPage);
  ASSERT_NE(MAP_FAILED, p);
  EXPECT_EQ('c', p[0]);
  munmap(p, kPage);
  EXPECT_FAILS(EINVAL, Map(1, PROT_READ, MAP_PRIVATE, 10));
}

TEST_F(FileMapping, TailOfTheLastPageIsZero) {
  ASSERT_EQ(3, write(fd_.get(), "abc", 3));
  char* p = Map(1, PROT_READ, MAP_PRIVATE);
  EXPECT_EQ('c', p[2]);
  for (size_t i = 3; i < kPage; ++i) ASSERT_EQ(0, p[i]);
  munmap(p, kPage);
}

sigjmp_buf g_jump;

bool Faults(volatile char* p, int sig) {
  static volatile int caught;
  caught = 0;
  ScopedHandler handler(sig, [](int s) {
    caught = s;
    siglongjmp(g_jump, 1);
  });
  if (sigsetjmp(g_jump, 1) == 0) (void)*p;
  return caught == sig;
}

TEST_F(FileMapping, TruncatedPagesRaiseSIGBUS) {
  Fill(2);
  char* p = Map(2, PROT_READ, MAP_SHARED);
  EXPECT_EQ('b', p[kPage]);
  ASSERT_OK(ftruncate(fd_.get(), kPage));
  EXPECT_TRUE(Faults(p + kPage, SIGBUS));
  EXPECT_FALSE(Faults(p, SIGBUS));
  ASSERT_OK(ftruncate(fd_.get(), 2 * kPage));
  EXPECT_FALSE(Faults(p + kPage, SIGBUS));
  EXPECT_EQ(0, p[kPage]);
  munmap(p, 2 * kPage);
}

TEST_F(FileMapping, GrowingFileBecomesAccessible) {
  char* p = Map(2, kRw, MAP_SHARED);
  ASSERT_OK(ftruncate(fd_.get(), 2 * kPage));
  p[kPage] = 'g';
  char c;
  ASSERT_EQ(1, pread(fd_.get(), &c, 1, kPage));
  EXPECT_EQ('g', c);
  munmap(p, 2 * kPage);
}

TEST_F(FileMapping, ReadBeyondEofThroughSyscallIsEFAULT) {
  char* p = Map(1, PROT_READ, MAP_SHARED);
  Pipe pipe;
  EXPECT_FAILS(EFAULT, write(pipe.w.get(), p, 1));
  munmap(p, kPage);
}

TEST_F(FileMapping, SurvivesCloseAndUnlink) {
  Fill(1);
  char* p = Map(1, kRw, MAP_SHARED);
  fd_.reset();
  ASSERT_OK(unlink((dir_ / "f").c_str()));
  EXPECT_EQ('a', p[0]);
  p[0] = 'z';
  EXPECT_EQ('z', p[0]);
  munmap(p, kPage);
}

TEST_F(FileMapping, AccessModeIsChecked) {
  Fill(1);
  Fd ro(open((dir_ / "f").c_str(), O_RDONLY));
  Fd wo(open((dir_ / "f").c_str(), O_WRONLY));
  EXPECT_FAILS(EACCES, mmap(nullptr, kPage, kRw, MAP_SHARED, ro.get(), 0));
  EXPECT_FAILS(EACCES, mmap(nullptr, kPage, PROT_READ, MAP_SHARED, wo.get(), 0));
  void* p = mmap(nullptr, kPage, kRw, MAP_PRIVATE, ro.get(), 0);
  EXPECT_NE(MAP_FAILED, p);
  munmap(p, kPage);
  p = mmap(nullptr, kPage, PROT_READ, MAP_SHARED, ro.get(), 0);
  ASSERT_NE(MAP_FAILED, p);
  EXPECT_FAILS(EACCES, mprotect(p, kPage, kRw));
  munmap(p, kPage);
}

TEST_F(FileMapping, UnmappableFiles) {
  Pipe pipe;
  EXPECT_FAILS(ENODEV, mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, pipe.r.get(), 0));
  Fd dir(open("/tmp", O_RDONLY | O_DIRECTORY));
  EXPECT_FAILS(ENODEV, mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, dir.get(), 0));
}

TEST_F(FileMapping, SharedIsSeenByTheChildAndByItsWrites) {
  Fill(1);
  char* p = Map(1, kRw, MAP_SHARED);
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(p[0] == 'a');
              p[0] = 'C';
              CHILD_CHECK(pwrite(fd_.get(), "D", 1, 1) == 1);
            }));
  EXPECT_EQ('C', p[0]);
  EXPECT_EQ('D', p[1]);
  munmap(p, kPage);
}

TEST_F(FileMapping, Msync) {
  Fill(1);
  char* p = Map(1, kRw, MAP_SHARED);
  p[0] = 'm';
  EXPECT_OK(msync(p, kPage, MS_SYNC));
  EXPECT_OK(msync(p, kPage, MS_ASYNC | MS_INVALIDATE));
  EXPECT_FAILS(EINVAL, msync(p, kPage, MS_SYNC | MS_ASYNC));
  EXPECT_FAILS(EINVAL, msync(p + 1, kPage, MS_SYNC));
  munmap(p, kPage);
  EXPECT_FAILS(ENOMEM, msync(p, kPage, MS_SYNC));
}

TEST_F(FileMapping, ReadIntoAMappingOfTheSameFile) {
  Fill(2);
  char* p = Map(2, kRw, MAP_SHARED);
  ASSERT_EQ(static_cast<ssize_t>(kPage), pread(fd_.get(), p + kPage, kPage, 0));
  EXPECT_EQ('a', p[kPage]);
  munmap(p, 2 * kPage);
}

TEST_F(FileMapping, MapsLineNamesTheFile) {
  Fill(1);
  char* p = Map(1, PROT_READ, MAP_SHARED);
  std::string maps = ReadFile("/proc/self/maps");
  size_t at = maps.find(dir_ / "f");
  ASSERT_NE(std::string::npos, at);
  std::string line = maps.substr(maps.rfind('\n', at) + 1, 60);
  EXPECT_NE(std::string::npos, line.find(" r--s 00000000 ")) << line;
  munmap(p, kPage);
}

TEST_F(FileMapping, DevZeroIsAnonymousMemory) {
  Fd zero(open("/dev/zero", O_RDWR));
  auto* p = static_cast<char*>(mmap(nullptr, kPage, kRw, MAP_PRIVATE, zero.get(), 0));
  ASSERT_NE(MAP_FAILED, p);
  EXPECT_EQ(0, p[9]);
  p[9] = 1;
  munmap(p, kPage);
}

TEST_F(FileMapping, MremapKeepsTheFile) {
  Fill(3);
  char* p = Map(1, PROT_READ, MAP_SHARED);
  auto* q = static_cast<char*>(mremap(p, kPage, 3 * kPage, MREMAP_MAYMOVE));
  ASSERT_NE(MAP_FAILED, q);
  EXPECT_EQ('a', q[0]);
  EXPECT_EQ('c', q[2 * kPage]);
  munmap(q, 3 * kPage);
}

class BadPointer : public testing::Test {
 protected:
  void SetUp() override {
    page_ = static_cast<char*>(mmap(nullptr, 2 * kPage, kRw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(page_ + kPage, kPage, PROT_NONE);
  }
  void TearDown() override { munmap(page_, 2 * kPage); }
  // The start of the unusable page.
  char* bad() { return page_ + kPage; }
  char* page_;
};

TEST_F(BadPointer, ReadAndWrite) {
  Pipe p;
  EXPECT_FAILS(EFAULT, syscall(SYS_write, p.w.get(), bad(), 1));
  EXPECT_EQ(1, write(p.w.get(), "x", 1));
  EXPECT_FAILS(EFAULT, syscall(SYS_read, p.r.get(), bad(), 1));
  EXPECT_FAILS(EFAULT, syscall(SYS_read, p.r.get(), 0xffff800000000000ul, 1));
}

TEST_F(BadPointer, PathsAreReadUpToTheirEnd) {
  memcpy(bad() - 5, "/tmp", 5);
  EXPECT_OK(access(bad() - 5, F_OK));
  bad()[-1] = 'x';
  EXPECT_FAILS(EFAULT, syscall(SYS_open, bad() - 5, O_RDONLY));
  EXPECT_FAILS(EFAULT, syscall(SYS_open, nullptr, O_RDONLY));
}

TEST_F(BadPointer, OutputStructures) {
  EXPECT_FAILS(EFAULT, syscall(SYS_stat, "/", bad() - 8));
  EXPECT_FAILS(EFAULT, syscall(SYS_uname, bad()));
  EXPECT_FAILS(EFAULT, syscall(SYS_pipe, bad()));
  EXPECT_FAILS(EFAULT, syscall(SYS_getcwd, bad(), 4096));
  EXPECT_FAILS(EFAULT, syscall(SYS_sysinfo, bad()));
  EXPECT_FAILS(EFAULT, syscall(SYS_getrlimit, 0, bad()));
  EXPECT_FAILS(EFAULT, syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, bad()));
}

TEST_F(BadPointer, InputStructures) {
  EXPECT_FAILS(EFAULT, syscall(SYS_nanosleep, bad(), nullptr));
  EXPECT_FAILS(EFAULT, syscall(SYS_writev, 1, bad(), 1));
  EXPECT_FAILS(EFAULT, syscall(SYS_rt_sigprocmask, SIG_BLOCK, bad(), nullptr, 8));
  EXPECT_FAILS(EFAULT, syscall(SYS_poll, bad(), 1, 0));
}

TEST_F(BadPointer, FailedPipeLeaksNoDescriptor) {
  int before = dup(0);
  close(before);
  for (int i = 0; i < 10; ++i) syscall(SYS_pipe, bad());
  int after = dup(0);
  close(after);
  EXPECT_EQ(before, after);
}

TEST_F(BadPointer, PartialWriteStopsAtTheHole) {
  TempDir dir;
  Fd fd(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  memset(page_, 'w', kPage);
  ssize_t n = write(fd.get(), bad() - 10, 20);
  EXPECT_TRUE(n == 10 || (n == -1 && errno == EFAULT)) << n;
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_LE(st.st_size, 10);
}

}  // namespace
