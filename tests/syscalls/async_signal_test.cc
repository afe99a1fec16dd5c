// SPDX-License-Identifier: Apache-2.0
// O_ASYNC, F_SETOWN(_EX) and F_SETSIG of fcntl(2): signals about files that become ready.
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>

#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

#ifndef F_SETSIG
#define F_SETSIG 10
#define F_GETSIG 11
#endif

namespace {

// The next of `signal`, which is blocked, within 20 s.
int Take(int signal, siginfo_t* info) {
  sigset_t set = SetOf({signal});
  timespec timeout = {20, 0};
  int got;
  while ((got = sigtimedwait(&set, info, &timeout)) < 0 && errno == EINTR) {
  }
  return got;
}
bool Pending(int signal) {
  sigset_t set;
  sigpending(&set);
  return sigismember(&set, signal) == 1;
}
void Drain(int signal) {
  sigset_t set = SetOf({signal});
  timespec zero = {};
  while (sigtimedwait(&set, nullptr, &zero) > 0) {
  }
}

class AsyncSignal : public testing::Test {
 protected:
  const int rt_ = SIGRTMIN + 3;
  ScopedBlock block_{SIGIO, rt_};
  void TearDown() override {
    Drain(SIGIO);
    Drain(rt_);
  }
  // For the process, with `signal` (0: SIGIO).
  void Arm(int fd, int signal = 0) {
    ASSERT_OK(fcntl(fd, F_SETOWN, getpid()));
    ASSERT_OK(fcntl(fd, F_SETSIG, signal));
    ASSERT_OK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC));
  }
};

TEST_F(AsyncSignal, PipeTellsOfData) {
  Pipe p;
  Arm(p.r.get());
  EXPECT_FALSE(Pending(SIGIO));
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  siginfo_t info = {};
  EXPECT_EQ(Take(SIGIO, &info), SIGIO);
}

TEST_F(AsyncSignal, ChosenSignalNamesFileAndBand) {
  Pipe p;
  Arm(p.r.get(), rt_);
  EXPECT_EQ(fcntl(p.r.get(), F_GETSIG), rt_);
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  siginfo_t info = {};
  ASSERT_EQ(Take(rt_, &info), rt_);
  EXPECT_EQ(info.si_code, POLL_IN);
  EXPECT_EQ(info.si_fd, p.r.get());
  EXPECT_EQ(info.si_band & POLLIN, POLLIN);
}

TEST_F(AsyncSignal, SocketTellsOfData) {
  int fds[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
  Fd a(fds[0]), b(fds[1]);
  Arm(a.get(), rt_);
  ASSERT_EQ(write(b.get(), "x", 1), 1);
  siginfo_t info = {};
  ASSERT_EQ(Take(rt_, &info), rt_);
  EXPECT_EQ(info.si_fd, a.get());
}

TEST_F(AsyncSignal, TerminalTellsOfInput) {
  int master, slave;
  ASSERT_OK(openpty(&master, &slave, nullptr, nullptr, nullptr));
  Fd m(master), s(slave);
  Arm(s.get(), rt_);
  ASSERT_EQ(write(m.get(), "x\n", 2), 2);
  siginfo_t info = {};
  EXPECT_EQ(Take(rt_, &info), rt_);
}

TEST_F(AsyncSignal, OffMeansNoMore) {
  Pipe p;
  Arm(p.r.get());
  int off = 0;
  ASSERT_OK(ioctl(p.r.get(), FIOASYNC, &off));
  EXPECT_FALSE(fcntl(p.r.get(), F_GETFL) & O_ASYNC);
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  // The signal of a second file, armed later, shows that the first's would have been there.
  Pipe q;
  Arm(q.r.get(), rt_);
  ASSERT_EQ(write(q.w.get(), "x", 1), 1);
  siginfo_t info = {};
  EXPECT_EQ(Take(rt_, &info), rt_);
  EXPECT_FALSE(Pending(SIGIO));
  int on = 1;
  ASSERT_OK(ioctl(p.r.get(), FIOASYNC, &on));
  EXPECT_TRUE(fcntl(p.r.get(), F_GETFL) & O_ASYNC);
}

TEST_F(AsyncSignal, ClosedFilesAreForgotten) {
  for (int i = 0; i < 50; ++i) {
    Pipe p;
    Arm(p.r.get());
    ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  }
}

TEST_F(AsyncSignal, OtherFilesHaveNoSuchFlag) {
  sigset_t set = SetOf({SIGUSR1});
  ScopedBlock block({SIGUSR1});
  Fd event(eventfd(0, 0)), signals(signalfd(-1, &set, 0)), epoll(epoll_create1(0));
  epoll_event interest = {.events = EPOLLIN, .data = {}};
  ASSERT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, event.get(), &interest));
  for (const Fd* fd : {&event, &signals, &epoll}) {
    Arm(fd->get());
    EXPECT_FALSE(fcntl(fd->get(), F_GETFL) & O_ASYNC);
    int on = 0;
    EXPECT_OK(ioctl(fd->get(), FIOASYNC, &on));
    on = 1;
    EXPECT_FAILS(ENOTTY, ioctl(fd->get(), FIOASYNC, &on));
  }
  const uint64_t one = 1;
  ASSERT_EQ(write(event.get(), &one, sizeof one), 8);
  kill(getpid(), SIGUSR1);
  // Theirs would be there by the time a pipe's is.
  Pipe p;
  Arm(p.r.get(), rt_);
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  siginfo_t info = {};
  EXPECT_EQ(Take(rt_, &info), rt_);
  EXPECT_FALSE(Pending(SIGIO));
  Drain(SIGUSR1);
}

TEST_F(AsyncSignal, OutlivesTheThreadThatAskedForIt) {
  Pipe p;
  std::thread([&] { Arm(p.r.get()); }).join();
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  siginfo_t info = {};
  EXPECT_EQ(Take(SIGIO, &info), SIGIO);
}

TEST_F(AsyncSignal, SwitchedByManyThreadsAtOnce) {
  Pipe p;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 500; ++round) {
        int on = (i + round) % 2;
        EXPECT_OK(ioctl(p.r.get(), FIOASYNC, &on));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int on = 0;
  ASSERT_OK(ioctl(p.r.get(), FIOASYNC, &on));
  Arm(p.r.get());
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  siginfo_t info = {};
  EXPECT_EQ(Take(SIGIO, &info), SIGIO);
}

TEST_F(AsyncSignal, OwnerMayBeAThread) {
  Pipe p;
  f_owner_ex owner = {F_OWNER_TID, static_cast<pid_t>(syscall(SYS_gettid))};
  ASSERT_OK(fcntl(p.r.get(), F_SETOWN_EX, &owner));
  f_owner_ex got = {};
  ASSERT_OK(fcntl(p.r.get(), F_GETOWN_EX, &got));
  EXPECT_EQ(got.type, F_OWNER_TID);
  EXPECT_EQ(got.pid, owner.pid);
  ASSERT_OK(fcntl(p.r.get(), F_SETFL, O_ASYNC));
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  siginfo_t info = {};
  EXPECT_EQ(Take(SIGIO, &info), SIGIO);
}

TEST_F(AsyncSignal, OwnerMayBeAGroup) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(setpgid(0, 0) == 0);
              Pipe p;
              CHILD_CHECK(fcntl(p.r.get(), F_SETOWN, -getpid()) == 0);
              CHILD_CHECK(fcntl(p.r.get(), F_SETFL, O_ASYNC) == 0);
              CHILD_CHECK(write(p.w.get(), "x", 1) == 1);
              siginfo_t info;
              CHILD_CHECK(Take(SIGIO, &info) == SIGIO);
            }),
            Exited(0));
}

TEST_F(AsyncSignal, UnprivilegedOwnersSignalOnlyTheirOwn) {
  Pipe p, ready;
  Child root([&] {
    // Would die of the signal.
    char byte;
    CHILD_CHECK(read(ready.r.get(), &byte, 1) == 1);
  });
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
              CHILD_CHECK(fcntl(p.r.get(), F_SETOWN, root.pid()) == 0);
              CHILD_CHECK(fcntl(p.r.get(), F_SETSIG, SIGKILL) == 0);
              CHILD_CHECK(fcntl(p.r.get(), F_SETFL, O_ASYNC) == 0);
              CHILD_CHECK(write(p.w.get(), "x", 1) == 1);
              // A signal of its own comes after.
              Pipe q;
              CHILD_CHECK(fcntl(q.r.get(), F_SETOWN, getpid()) == 0);
              CHILD_CHECK(fcntl(q.r.get(), F_SETFL, O_ASYNC) == 0);
              CHILD_CHECK(write(q.w.get(), "x", 1) == 1);
              siginfo_t info;
              CHILD_CHECK(Take(SIGIO, &info) == SIGIO);
            }),
            Exited(0));
  ASSERT_EQ(write(ready.w.get(), "x", 1), 1);
  EXPECT_EQ(root.Wait(), Exited(0));
}

TEST_F(AsyncSignal, Errors) {
  Pipe p;
  EXPECT_FAILS(EINVAL, fcntl(p.r.get(), F_SETSIG, 65));
  EXPECT_FAILS(EINVAL, fcntl(p.r.get(), F_SETSIG, -1));
  EXPECT_FAILS(ESRCH, fcntl(p.r.get(), F_SETOWN, 0x3ffffff));
  f_owner_ex owner = {static_cast<__pid_type>(7), 1};
  EXPECT_FAILS(EINVAL, fcntl(p.r.get(), F_SETOWN_EX, &owner));
  EXPECT_FAILS(EFAULT, fcntl(p.r.get(), F_SETOWN_EX, reinterpret_cast<void*>(8)));
  EXPECT_FAILS(EBADF, fcntl(9999, F_SETOWN, getpid()));
}

}  // namespace
