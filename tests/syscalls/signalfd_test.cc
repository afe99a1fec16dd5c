// SPDX-License-Identifier: Apache-2.0
// signalfd(2) and those who wait for it. What waits may outlive the thread whose signals it waits for.
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include <thread>

#include "tests/syscalls/uring_util.h"

namespace {

class Signalfd : public testing::Test {
 protected:
  bool Readable(int timeout_ms = 0) { return PollFor(fd_.get(), POLLIN, timeout_ms); }
  void Read(int signal) {
    signalfd_siginfo info = {};
    EXPECT_EQ(read(fd_.get(), &info, sizeof info), static_cast<ssize_t>(sizeof info)) << strerror(errno);
    EXPECT_EQ(info.ssi_signo, static_cast<uint32_t>(signal));
  }
  // Still of use, whatever waited for it.
  void Works() {
    EXPECT_FALSE(Readable());
    kill(getpid(), SIGUSR1);
    EXPECT_TRUE(Readable());
    Read(SIGUSR1);
  }

  ScopedBlock block_{SIGUSR1, SIGUSR2};
  sigset_t set_ = SetOf({SIGUSR1});
  Fd fd_{signalfd(-1, &set_, SFD_NONBLOCK | SFD_CLOEXEC)};
};

TEST_F(Signalfd, NewMaskWakesWaiters) {
  kill(getpid(), SIGUSR2);
  std::thread waiter([&] { EXPECT_TRUE(Readable(20000)); });
  sigset_t other = SetOf({SIGUSR2});
  EXPECT_EQ(signalfd(fd_.get(), &other, 0), fd_.get());
  waiter.join();
  Read(SIGUSR2);
}

TEST_F(Signalfd, BlockingReadGetsTheSignalOfTheReader) {
  Fd blocking(signalfd(-1, &set_, 0));
  std::atomic<pid_t> tid{0};
  std::thread reader([&] {
    tid = gettid();
    signalfd_siginfo info = {};
    EXPECT_EQ(read(blocking.get(), &info, sizeof info), static_cast<ssize_t>(sizeof info));
    EXPECT_EQ(info.ssi_signo, static_cast<uint32_t>(SIGUSR1));
  });
  while (tid == 0) sched_yield();
  EXPECT_OK(syscall(SYS_tgkill, getpid(), tid.load(), SIGUSR1));
  reader.join();
}

TEST_F(Signalfd, EpollOutlivesTheThreadThatAdded) {
  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  std::thread([&] {
    epoll_event event = {.events = EPOLLIN, .data = {.u64 = 7}};
    EXPECT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd_.get(), &event));
  }).join();
  epoll_event event = {.events = EPOLLIN, .data = {.u64 = 8}};
  EXPECT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_MOD, fd_.get(), &event));
  kill(getpid(), SIGUSR1);
  epoll_event got = {};
  EXPECT_EQ(epoll_wait(epoll.get(), &got, 1, 20000), 1);
  EXPECT_EQ(got.data.u64, 8u);
  Read(SIGUSR1);
  Works();
}

TEST_F(Signalfd, EpollOutlivesTheProcessThatAdded) {
  Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  EXPECT_EQ(RunInChild([&] {
              epoll_event event = {.events = EPOLLIN, .data = {.u64 = 7}};
              CHILD_CHECK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd_.get(), &event) == 0);
            }),
            Exited(0));
  EXPECT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_DEL, fd_.get(), nullptr));
  Works();
}

TEST_F(Signalfd, AioPollOutlivesItsThread) {
  aio_context_t context = 0;
  ASSERT_OK(syscall(SYS_io_setup, 4, &context));
  iocb request = {};
  request.aio_lio_opcode = IOCB_CMD_POLL;
  request.aio_fildes = static_cast<uint32_t>(fd_.get());
  request.aio_buf = POLLIN;
  std::thread([&] {
    iocb* list = &request;
    EXPECT_EQ(syscall(SYS_io_submit, context, 1, &list), 1);
  }).join();
  Works();
  EXPECT_OK(syscall(SYS_io_destroy, context));
  Works();
}

TEST_F(Signalfd, UringPollOutlivesItsThread) {
  REQUIRE_URING();
  {
    TestRing ring;
    std::thread([&] {
      ring.Add(IORING_OP_POLL_ADD, fd_.get()).poll32_events = POLLIN;
      EXPECT_EQ(ring.Submit(), 1);
    }).join();
    Works();
  }
  Works();
}

}  // namespace
