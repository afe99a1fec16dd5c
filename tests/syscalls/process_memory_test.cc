// SPDX-License-Identifier: Apache-2.0
// process_vm_readv, process_vm_writev and process_madvise: another process's memory, and who may touch it.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "tests/syscalls/util.h"

namespace {

constexpr size_t kPage = 4096;
constexpr uid_t kNobody = 65534;

void BecomeNobody() {
  CHILD_CHECK(setresgid(kNobody, kNobody, kNobody) == 0);
  CHILD_CHECK(setresuid(kNobody, kNobody, kNobody) == 0);
}

[[noreturn]] void PauseForever() {
  for (;;) pause();
}

ssize_t Advise(int pidfd, const iovec* vectors, size_t count, int advice, unsigned flags = 0) {
  return syscall(SYS_process_madvise, pidfd, vectors, count, advice, flags);
}

int OpenPidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

// Two pages of "a", one inaccessible, one of "b", at the same place in every child.
class ProcessMemory : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(MAP_FAILED, memory_);
    memset(memory_, 'a', 2 * kPage);
    memset(memory_ + 3 * kPage, 'b', kPage);
    ASSERT_OK(mprotect(memory_ + 2 * kPage, kPage, PROT_NONE));
  }
  void TearDown() override { munmap(memory_, 4 * kPage); }

  char* memory_ =
      static_cast<char*>(mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
};

TEST_F(ProcessMemory, ReadStopsAtTheFirstHole) {
  Child child(PauseForever);
  std::string buffer(4 * kPage, 0);
  iovec local = {buffer.data(), buffer.size()}, remote = {memory_ + kPage, 3 * kPage};
  EXPECT_EQ(static_cast<ssize_t>(kPage), process_vm_readv(child.pid(), &local, 1, &remote, 1, 0));
  EXPECT_EQ(std::string(kPage, 'a'), buffer.substr(0, kPage));
  remote = {memory_ + 2 * kPage, kPage};
  EXPECT_FAILS(EFAULT, process_vm_readv(child.pid(), &local, 1, &remote, 1, 0));
  local.iov_base = nullptr;
  remote = {memory_, kPage};
  EXPECT_FAILS(EFAULT, process_vm_readv(child.pid(), &local, 1, &remote, 1, 0));
}

TEST_F(ProcessMemory, VectorsNeedNotMatch) {
  Child child(PauseForever);
  char out[6] = {};
  iovec local[] = {{out, 1}, {out + 1, 0}, {out + 1, 3}, {out + 4, 1}};
  iovec remote[] = {{memory_ + 2 * kPage - 2, 2}, {nullptr, 0}, {memory_ + 3 * kPage, 3}};
  EXPECT_EQ(5, process_vm_readv(child.pid(), local, 4, remote, 3, 0));
  EXPECT_STREQ("aabbb", out);
}

TEST_F(ProcessMemory, NothingToCopyNeedsNoProcess) {
  constexpr pid_t kNoProcess = 0x3ffffff0;
  char c = 0;
  iovec none = {&c, 0}, one = {&c, 1};
  EXPECT_EQ(0, process_vm_readv(kNoProcess, &none, 1, &one, 1, 0));
  EXPECT_EQ(0, process_vm_readv(kNoProcess, &one, 1, &none, 1, 0));
  EXPECT_EQ(0, process_vm_readv(kNoProcess, nullptr, 0, reinterpret_cast<iovec*>(8), 1, 0));
  EXPECT_FAILS(ESRCH, process_vm_readv(kNoProcess, &one, 1, &one, 1, 0));
  EXPECT_FAILS(ESRCH, process_vm_readv(0, &one, 1, &one, 1, 0));
  EXPECT_FAILS(EINVAL, process_vm_readv(getpid(), &one, 1, &one, 1, 1));
  EXPECT_FAILS(EINVAL, process_vm_readv(getpid(), &one, IOV_MAX + 1, &one, 1, 0));
  EXPECT_FAILS(EFAULT, process_vm_readv(getpid(), &one, 1, reinterpret_cast<iovec*>(8), 1, 0));
  one.iov_len = static_cast<size_t>(-1);
  EXPECT_FAILS(EINVAL, process_vm_readv(getpid(), &one, 1, &one, 1, 0));
}

TEST_F(ProcessMemory, OwnMemoryIsFree) {
  char out[3] = {};
  iovec local = {out, 2}, remote = {memory_, 2};
  EXPECT_EQ(Exited(0), RunInChild([&] {
              BecomeNobody();
              CHILD_CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
              CHILD_CHECK(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 2);
            }));
}

TEST_F(ProcessMemory, AnotherUsersIsEPERM) {
  Child child(PauseForever);
  char out[2];
  iovec local = {out, 2}, remote = {memory_, 2};
  EXPECT_EQ(Exited(0), RunInChild([&] {
              BecomeNobody();
              CHILD_CHECK(process_vm_readv(child.pid(), &local, 1, &remote, 1, 0) == -1 && errno == EPERM);
              CHILD_CHECK(process_vm_writev(child.pid(), &local, 1, &remote, 1, 0) == -1 && errno == EPERM);
            }));
}

// Of two processes of one user, the undumpable one is out of the other's reach, and so is one with more capabilities.
TEST_F(ProcessMemory, OwnUsersUnlessUndumpable) {
  for (int dumpable : {1, 0}) {
    Event ready;
    Child child([&] {
      BecomeNobody();
      CHILD_CHECK(prctl(PR_SET_DUMPABLE, dumpable) == 0);
      ready.Set();
      PauseForever();
    });
    ASSERT_TRUE(ready.Wait());
    char out[2];
    iovec local = {out, 2}, remote = {memory_, 2};
    EXPECT_EQ(Exited(0), RunInChild([&] {
                BecomeNobody();
                ssize_t n = process_vm_readv(child.pid(), &local, 1, &remote, 1, 0);
                CHILD_CHECK(dumpable ? n == 2 : n == -1 && errno == EPERM);
              }))
        << "dumpable " << dumpable;
    EXPECT_EQ(2, process_vm_readv(child.pid(), &local, 1, &remote, 1, 0)) << "CAP_SYS_PTRACE";
  }
}

TEST_F(ProcessMemory, AdviceLeavesContentsAlone) {
  Event go;
  Child child([&] {
    CHILD_CHECK(go.Wait());
    for (size_t i = 0; i < 2 * kPage; ++i) CHILD_CHECK(memory_[i] == 'a');
    CHILD_CHECK(memory_[3 * kPage] == 'b');
  });
  Fd pidfd(OpenPidfd(child.pid()));
  ASSERT_TRUE(pidfd.ok());
  iovec vectors[] = {{memory_, 2 * kPage}, {memory_ + 3 * kPage, kPage}};
  EXPECT_EQ(static_cast<ssize_t>(3 * kPage), Advise(pidfd.get(), vectors, 2, MADV_COLD));
  EXPECT_EQ(static_cast<ssize_t>(3 * kPage), Advise(pidfd.get(), vectors, 2, MADV_PAGEOUT));
  EXPECT_EQ(static_cast<ssize_t>(kPage), Advise(pidfd.get(), vectors + 1, 1, MADV_WILLNEED));
  EXPECT_EQ(0, Advise(pidfd.get(), vectors, 0, MADV_COLD));
  go.Set();
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST_F(ProcessMemory, AdviceEndsAtTheFirstUnmappedRange) {
  Child child(PauseForever);
  Fd pidfd(OpenPidfd(child.pid()));
  iovec vectors[] = {{memory_, kPage}, {reinterpret_cast<void*>(kPage), kPage}, {memory_ + kPage, kPage}};
  EXPECT_EQ(static_cast<ssize_t>(kPage), Advise(pidfd.get(), vectors, 3, MADV_COLD));
  EXPECT_FAILS(ENOMEM, Advise(pidfd.get(), vectors + 1, 2, MADV_COLD));
}

TEST_F(ProcessMemory, AdviceErrors) {
  Child child(PauseForever);
  Fd pidfd(OpenPidfd(child.pid()));
  iovec one = {memory_, kPage};
  EXPECT_FAILS(EINVAL, Advise(pidfd.get(), &one, 1, MADV_COLD, 1));
  EXPECT_FAILS(EINVAL, Advise(pidfd.get(), &one, 1, 12345));
  EXPECT_FAILS(EINVAL, Advise(pidfd.get(), &one, 1, MADV_DONTNEED)) << "would lose another's data";
  EXPECT_FAILS(EINVAL, Advise(pidfd.get(), &one, IOV_MAX + 1, MADV_COLD));
  EXPECT_FAILS(EFAULT, Advise(pidfd.get(), reinterpret_cast<iovec*>(8), 1, MADV_COLD));
  EXPECT_FAILS(EBADF, Advise(-1, &one, 1, MADV_COLD));
  Pipe pipe;
  EXPECT_FAILS(EBADF, Advise(pipe.r.get(), &one, 1, MADV_COLD)) << "no pidfd";
  iovec odd = {memory_ + 1, kPage};
  EXPECT_FAILS(EINVAL, Advise(pidfd.get(), &odd, 1, MADV_COLD));
  child.Kill(SIGKILL);
  child.Wait();
  EXPECT_FAILS(ESRCH, Advise(pidfd.get(), &one, 1, MADV_COLD));
}

TEST_F(ProcessMemory, AdviceNeedsAccessAndNice) {
  Child roots(PauseForever);
  Event ready;
  Child nobodys([&] {
    BecomeNobody();
    CHILD_CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    ready.Set();
    PauseForever();
  });
  ASSERT_TRUE(ready.Wait());
  iovec one = {memory_, kPage};
  EXPECT_EQ(Exited(0), RunInChild([&] {
              Fd to_roots(OpenPidfd(roots.pid())), to_nobodys(OpenPidfd(nobodys.pid()));
              BecomeNobody();
              CHILD_CHECK(Advise(to_roots.get(), &one, 1, MADV_COLD) == -1 && errno == EACCES);
              CHILD_CHECK(Advise(to_nobodys.get(), &one, 1, MADV_COLD) == -1 && errno == EPERM);
            }));
}

}  // namespace
