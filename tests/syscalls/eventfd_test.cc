// SPDX-License-Identifier: Apache-2.0
// eventfd, timerfd, pidfd and memfd.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

#include <thread>

#include "tests/syscalls/util.h"

namespace {

TEST(Eventfd, CountsAndResets) {
  Fd fd(eventfd(3, EFD_NONBLOCK));
  eventfd_t v = 0;
  ASSERT_OK(eventfd_write(fd.get(), 4));
  ASSERT_OK(eventfd_read(fd.get(), &v));
  EXPECT_EQ(7u, v);
  EXPECT_FAILS(EAGAIN, eventfd_read(fd.get(), &v));
}

TEST(Eventfd, Semaphore) {
  Fd fd(eventfd(2, EFD_NONBLOCK | EFD_SEMAPHORE));
  eventfd_t v = 0;
  ASSERT_OK(eventfd_read(fd.get(), &v));
  EXPECT_EQ(1u, v);
  ASSERT_OK(eventfd_read(fd.get(), &v));
  EXPECT_FAILS(EAGAIN, eventfd_read(fd.get(), &v));
}

TEST(Eventfd, LimitsAndErrors) {
  Fd fd(eventfd(0, EFD_NONBLOCK));
  ASSERT_OK(eventfd_write(fd.get(), 0xfffffffffffffffe));
  EXPECT_FAILS(EAGAIN, eventfd_write(fd.get(), 1));
  EXPECT_FALSE(PollFor(fd.get(), POLLOUT, 0));
  EXPECT_FAILS(EINVAL, eventfd_write(fd.get(), ~0ull));
  char small[4] = {};
  EXPECT_FAILS(EINVAL, read(fd.get(), small, 4));
  EXPECT_FAILS(EINVAL, write(fd.get(), small, 4));
  EXPECT_FAILS(EINVAL, eventfd(0, 0x10));
}

TEST(Eventfd, WakesABlockedReader) {
  Fd fd(eventfd(0, 0));
  std::thread t([&] { eventfd_write(fd.get(), 9); });
  eventfd_t v = 0;
  ASSERT_OK(eventfd_read(fd.get(), &v));
  EXPECT_EQ(9u, v);
  t.join();
}

TEST(Timerfd, OneShotExpires) {
  Fd fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  itimerspec spec = {{0, 0}, {0, 1000000}};
  ASSERT_OK(timerfd_settime(fd.get(), 0, &spec, nullptr));
  uint64_t n = 0;
  ASSERT_EQ(8, read(fd.get(), &n, 8));
  EXPECT_EQ(1u, n);
  ASSERT_OK(timerfd_gettime(fd.get(), &spec));
  EXPECT_EQ(0, spec.it_value.tv_nsec + spec.it_value.tv_sec);
}

TEST(Timerfd, PeriodicAccumulates) {
  Fd fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
  itimerspec spec = {{0, 1000000}, {0, 1}};
  // Due since boot: at once and many times over.
  ASSERT_OK(timerfd_settime(fd.get(), TFD_TIMER_ABSTIME, &spec, nullptr));
  ASSERT_TRUE(PollFor(fd.get(), POLLIN, 20000));
  uint64_t n = 0;
  ASSERT_EQ(8, read(fd.get(), &n, 8));
  EXPECT_GT(n, 1u);
}

TEST(Timerfd, DisarmAndErrors) {
  Fd fd(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
  itimerspec spec = {{7, 0}, {1000, 0}}, old = {};
  ASSERT_OK(timerfd_settime(fd.get(), 0, &spec, nullptr));
  uint64_t n;
  EXPECT_FAILS(EAGAIN, read(fd.get(), &n, 8));
  EXPECT_FAILS(EINVAL, read(fd.get(), &n, 4));
  itimerspec off = {};
  ASSERT_OK(timerfd_settime(fd.get(), 0, &off, &old));
  EXPECT_EQ(7, old.it_interval.tv_sec);
  EXPECT_GT(old.it_value.tv_sec, 900);
  off.it_value.tv_nsec = 1000000000;
  EXPECT_FAILS(EINVAL, timerfd_settime(fd.get(), 0, &off, nullptr));
  EXPECT_FAILS(EINVAL, timerfd_create(99, 0));
  Fd other(eventfd(0, 0));
  EXPECT_FAILS(EINVAL, timerfd_settime(other.get(), 0, &spec, nullptr));
}

int PidfdOpen(pid_t pid, unsigned flags = 0) { return syscall(SYS_pidfd_open, pid, flags); }

TEST(Pidfd, PollsReadableAtExitAndWaits) {
  Event go;
  Child child([&] {
    CHILD_CHECK(go.Wait());
    _exit(8);
  });
  Fd fd(PidfdOpen(child.pid()));
  ASSERT_OK(fd.get());
  EXPECT_EQ(FD_CLOEXEC, fcntl(fd.get(), F_GETFD));
  EXPECT_FALSE(PollFor(fd.get(), POLLIN, 0));
  go.Set();
  EXPECT_TRUE(PollFor(fd.get(), POLLIN, 20000));
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PIDFD, fd.get(), &info, WEXITED | WNOWAIT));
  EXPECT_EQ(8, info.si_status);
  EXPECT_EQ(Exited(8), child.Wait());
  EXPECT_FAILS(ESRCH, syscall(SYS_pidfd_send_signal, fd.get(), 0, nullptr, 0));
}

TEST(Pidfd, SendSignal) {
  Child child([] {
    for (;;) pause();
  });
  Fd fd(PidfdOpen(child.pid()));
  EXPECT_OK(syscall(SYS_pidfd_send_signal, fd.get(), 0, nullptr, 0));
  EXPECT_FAILS(EINVAL, syscall(SYS_pidfd_send_signal, fd.get(), 0, nullptr, 0x1000));
  EXPECT_OK(syscall(SYS_pidfd_send_signal, fd.get(), SIGTERM, nullptr, 0));
  EXPECT_EQ(Killed(SIGTERM), child.Wait());
}

TEST(Pidfd, Errors) {
  EXPECT_FAILS(EINVAL, PidfdOpen(0));
  EXPECT_FAILS(ESRCH, PidfdOpen(0x3ffffff0));
  EXPECT_FAILS(EINVAL, PidfdOpen(getpid(), 1));
  Pipe p;
  EXPECT_FAILS(EBADF, syscall(SYS_pidfd_send_signal, p.r.get(), 0, nullptr, 0));
}

TEST(Pidfd, ADirectoryOfProcServesForSignals) {
  Child child([] {
    for (;;) pause();
  });
  std::string path = "/proc/" + std::to_string(child.pid());
  Fd directory(open(path.c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_TRUE(directory.ok());
  EXPECT_OK(syscall(SYS_pidfd_send_signal, directory.get(), 0, nullptr, 0));
  EXPECT_FAILS(EINVAL, syscall(SYS_pidfd_send_signal, directory.get(), 100, nullptr, 0));
  // Nothing else of /proc does, and no other call takes it.
  Fd tasks(open((path + "/task").c_str(), O_RDONLY)), stat(open((path + "/stat").c_str(), O_RDONLY));
  Fd thread(open((path + "/task/" + std::to_string(child.pid())).c_str(), O_RDONLY)), root(open("/proc", O_RDONLY));
  ASSERT_TRUE(tasks.ok() && thread.ok() && stat.ok() && root.ok());
  for (const Fd* fd : {&tasks, &thread, &stat, &root}) {
    EXPECT_FAILS(EBADF, syscall(SYS_pidfd_send_signal, fd->get(), 0, nullptr, 0));
  }
  EXPECT_FAILS(EBADF, syscall(SYS_pidfd_getfd, directory.get(), 0, 0));
  EXPECT_OK(syscall(SYS_pidfd_send_signal, directory.get(), SIGKILL, nullptr, 0));
  EXPECT_EQ(Killed(SIGKILL), child.Wait());
  EXPECT_FAILS(ESRCH, syscall(SYS_pidfd_send_signal, directory.get(), 0, nullptr, 0));
}

TEST(Pidfd, Getfd) {
  Pipe p;
  Event go;
  Child child([&] { CHILD_CHECK(go.Wait()); });
  int number = p.w.get();
  p.w.reset();
  Fd fd(PidfdOpen(child.pid()));
  Fd stolen(syscall(SYS_pidfd_getfd, fd.get(), number, 0));
  ASSERT_OK(stolen.get());
  EXPECT_EQ(1, write(stolen.get(), "s", 1));
  EXPECT_FAILS(EBADF, syscall(SYS_pidfd_getfd, fd.get(), 9999, 0));
  go.Set();
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Memfd, IsAnUnlinkedFile) {
  Fd fd(memfd_create("name", MFD_CLOEXEC));
  ASSERT_OK(fd.get());
  EXPECT_EQ(3, write(fd.get(), "abc", 3));
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(3, st.st_size);
  EXPECT_EQ(0u, st.st_nlink);
  char buf[64] = {};
  ASSERT_OK(readlink(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), buf, sizeof buf - 1));
  EXPECT_STREQ("/memfd:name (deleted)", buf);
  EXPECT_FAILS(EINVAL, memfd_create(std::string(250, 'n').c_str(), 0));
  EXPECT_FAILS(EINVAL, memfd_create("x", 0x8000));
}

TEST(Memfd, SealsNeedPermission) {
  Fd fd(memfd_create("x", 0));
  EXPECT_EQ(F_SEAL_SEAL, fcntl(fd.get(), F_GET_SEALS));
  EXPECT_FAILS(EPERM, fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE));
}

TEST(Memfd, SizeSeals) {
  Fd fd(memfd_create("x", MFD_ALLOW_SEALING));
  ASSERT_OK(ftruncate(fd.get(), 4096));
  ASSERT_OK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
  EXPECT_EQ(F_SEAL_SHRINK | F_SEAL_GROW, fcntl(fd.get(), F_GET_SEALS));
  EXPECT_FAILS(EPERM, ftruncate(fd.get(), 0));
  EXPECT_FAILS(EPERM, ftruncate(fd.get(), 8192));
  EXPECT_FAILS(EPERM, pwrite(fd.get(), "x", 1, 4096));
  EXPECT_EQ(1, pwrite(fd.get(), "x", 1, 4095));
}

TEST(Memfd, WriteSeal) {
  Fd fd(memfd_create("x", MFD_ALLOW_SEALING));
  ASSERT_OK(ftruncate(fd.get(), 4096));
  void* p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(MAP_FAILED, p);
  EXPECT_FAILS(EBUSY, fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE));
  munmap(p, 4096);
  ASSERT_OK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL));
  EXPECT_FAILS(EPERM, write(fd.get(), "x", 1));
  EXPECT_FAILS(EPERM, mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  EXPECT_FAILS(EPERM, fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW));
  void* q = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd.get(), 0);
  EXPECT_NE(MAP_FAILED, q);
  munmap(q, 4096);
}

TEST(Memfd, FutureWriteSealKeepsOldMappings) {
  Fd fd(memfd_create("x", MFD_ALLOW_SEALING));
  ASSERT_OK(ftruncate(fd.get(), 4096));
  auto* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  ASSERT_OK(fcntl(fd.get(), F_ADD_SEALS, 0x10 /* F_SEAL_FUTURE_WRITE */));
  p[0] = 'w';
  char c;
  EXPECT_EQ(1, pread(fd.get(), &c, 1, 0));
  EXPECT_EQ('w', c);
  EXPECT_FAILS(EPERM, write(fd.get(), "x", 1));
  munmap(p, 4096);
}

}  // namespace
