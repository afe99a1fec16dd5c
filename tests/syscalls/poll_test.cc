// SPDX-License-Identifier: Apache-2.0
// poll, select, ppoll, pselect and epoll.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include <thread>

#include "tests/syscalls/util.h"

namespace {

TEST(Poll, CountsReadyDescriptors) {
  Pipe a, b;
  ASSERT_EQ(1, write(b.w.get(), "x", 1));
  pollfd p[] = {{a.r.get(), POLLIN, 77}, {b.r.get(), POLLIN, 77}, {-1, POLLIN, 77}, {b.w.get(), POLLOUT, 77}};
  EXPECT_EQ(2, poll(p, 4, 0));
  EXPECT_EQ(0, p[0].revents);
  EXPECT_EQ(POLLIN, p[1].revents);
  EXPECT_EQ(0, p[2].revents) << "negative descriptors are skipped";
  EXPECT_EQ(POLLOUT, p[3].revents);
}

TEST(Poll, ClosedDescriptorIsPOLLNVAL) {
  pollfd p = {9999, POLLIN, 0};
  EXPECT_EQ(1, poll(&p, 1, -1));
  EXPECT_EQ(POLLNVAL, p.revents);
}

TEST(Poll, TimesOut) {
  Pipe a;
  pollfd p = {a.r.get(), POLLIN, 0};
  EXPECT_EQ(0, poll(&p, 1, 1));
  EXPECT_EQ(0, poll(nullptr, 0, 1));
}

TEST(Poll, WakesWhenDataArrives) {
  Pipe a;
  std::thread writer([&] { EXPECT_EQ(1, write(a.w.get(), "x", 1)); });
  EXPECT_TRUE(PollFor(a.r.get(), POLLIN, 20000));
  writer.join();
}

TEST(Poll, RegularFilesAreAlwaysReady) {
  Fd f(open("/proc/self/exe", O_RDONLY));
  pollfd p = {f.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(1, poll(&p, 1, 0));
  EXPECT_EQ(POLLIN | POLLOUT, p.revents);
}

TEST(Ppoll, MaskAppliesWhileWaiting) {
  ScopedHandler handler(SIGUSR1, [](int) {});
  ScopedBlock block({SIGUSR1});
  raise(SIGUSR1);
  sigset_t none = SetOf({});
  timespec t = {20, 0};
  EXPECT_FAILS(EINTR, ppoll(nullptr, 0, &t, &none));
  t = {0, -1};
  EXPECT_FAILS(EINVAL, ppoll(nullptr, 0, &t, nullptr));
}

TEST(Select, MarksReadySets) {
  Pipe a, b;
  ASSERT_EQ(1, write(b.w.get(), "x", 1));
  fd_set r, w;
  FD_ZERO(&r);
  FD_ZERO(&w);
  FD_SET(a.r.get(), &r);
  FD_SET(b.r.get(), &r);
  FD_SET(a.w.get(), &w);
  timeval zero = {};
  EXPECT_EQ(2, select(FD_SETSIZE, &r, &w, nullptr, &zero));
  EXPECT_FALSE(FD_ISSET(a.r.get(), &r));
  EXPECT_TRUE(FD_ISSET(b.r.get(), &r));
  EXPECT_TRUE(FD_ISSET(a.w.get(), &w));
}

TEST(Select, Errors) {
  fd_set r;
  FD_ZERO(&r);
  FD_SET(50, &r);
  timeval zero = {};
  EXPECT_FAILS(EBADF, select(FD_SETSIZE, &r, nullptr, nullptr, &zero));
  EXPECT_FAILS(EINVAL, select(-1, nullptr, nullptr, nullptr, &zero));
}

TEST(Select, LinuxUpdatesTheTimeout) {
  Pipe a;
  ASSERT_EQ(1, write(a.w.get(), "x", 1));
  fd_set r;
  FD_ZERO(&r);
  FD_SET(a.r.get(), &r);
  timeval tv = {100, 0};
  ASSERT_EQ(1, select(a.r.get() + 1, &r, nullptr, nullptr, &tv));
  EXPECT_TRUE(tv.tv_sec == 99 || (tv.tv_sec == 100 && tv.tv_usec == 0) || tv.tv_sec > 50);
  EXPECT_LE(tv.tv_sec, 100);
}

class EpollTest : public testing::Test {
 protected:
  int Ctl(int op, int fd, uint32_t events, uint64_t data = 0) {
    epoll_event ev = {};
    ev.events = events;
    ev.data.u64 = data;
    return epoll_ctl(ep_.get(), op, fd, &ev);
  }
  // Number of events within `ms`; the first is left in ev_.
  int Wait(int ms = 0) { return epoll_wait(ep_.get(), ev_, 8, ms); }
  void Put(const Pipe& p) { ASSERT_EQ(1, write(p.w.get(), "x", 1)); }
  void Take(const Pipe& p) {
    char c;
    ASSERT_EQ(1, read(p.r.get(), &c, 1));
  }
  Fd ep_{epoll_create1(EPOLL_CLOEXEC)};
  epoll_event ev_[8];
  Pipe p_;
};

TEST_F(EpollTest, LevelTriggeredRepeats) {
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN, 0x123456789abc));
  EXPECT_EQ(0, Wait());
  Put(p_);
  EXPECT_EQ(1, Wait());
  EXPECT_EQ(0x123456789abcu, ev_[0].data.u64);
  EXPECT_EQ(static_cast<uint32_t>(EPOLLIN), ev_[0].events);
  EXPECT_EQ(1, Wait());
  Take(p_);
  EXPECT_EQ(0, Wait());
}

TEST_F(EpollTest, EdgeTriggeredReportsNewDataOnly) {
  Put(p_);
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN | EPOLLET));
  EXPECT_EQ(1, Wait()) << "ready when added";
  EXPECT_EQ(0, Wait());
  Put(p_);
  EXPECT_EQ(1, Wait());
  EXPECT_EQ(0, Wait());
  ASSERT_OK(Ctl(EPOLL_CTL_MOD, p_.r.get(), EPOLLIN | EPOLLET));
  EXPECT_EQ(1, Wait()) << "a change arms it again";
}

TEST_F(EpollTest, OneshotDisarms) {
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN | EPOLLONESHOT));
  Put(p_);
  EXPECT_EQ(1, Wait());
  Put(p_);
  EXPECT_EQ(0, Wait());
  ASSERT_OK(Ctl(EPOLL_CTL_MOD, p_.r.get(), EPOLLIN | EPOLLONESHOT));
  EXPECT_EQ(1, Wait());
}

TEST_F(EpollTest, ControlErrors) {
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN));
  EXPECT_FAILS(EEXIST, Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN));
  EXPECT_FAILS(ENOENT, Ctl(EPOLL_CTL_MOD, p_.w.get(), EPOLLOUT));
  EXPECT_FAILS(ENOENT, Ctl(EPOLL_CTL_DEL, p_.w.get(), 0));
  EXPECT_FAILS(EBADF, Ctl(EPOLL_CTL_ADD, 9999, EPOLLIN));
  EXPECT_FAILS(EINVAL, Ctl(EPOLL_CTL_ADD, ep_.get(), EPOLLIN));
  EXPECT_FAILS(EINVAL, Ctl(99, p_.r.get(), EPOLLIN));
  Fd file(open("/proc/self/exe", O_RDONLY));
  EXPECT_FAILS(EPERM, Ctl(EPOLL_CTL_ADD, file.get(), EPOLLIN));
  epoll_event ev = {};
  EXPECT_FAILS(EINVAL, epoll_ctl(p_.r.get(), EPOLL_CTL_ADD, p_.w.get(), &ev));
  EXPECT_FAILS(EFAULT, syscall(SYS_epoll_ctl, ep_.get(), EPOLL_CTL_ADD, p_.w.get(), 8));
}

TEST_F(EpollTest, WaitErrors) {
  EXPECT_FAILS(EINVAL, epoll_wait(ep_.get(), ev_, 0, 0));
  EXPECT_FAILS(EINVAL, epoll_wait(p_.r.get(), ev_, 1, 0));
  EXPECT_FAILS(EBADF, epoll_wait(9999, ev_, 1, 0));
  EXPECT_FAILS(EINVAL, epoll_create(0));
  EXPECT_FAILS(EINVAL, epoll_create1(1));
}

TEST_F(EpollTest, HangupNeedsNotBeAskedFor) {
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), 0));
  EXPECT_EQ(0, Wait());
  p_.w.reset();
  ASSERT_EQ(1, Wait());
  EXPECT_EQ(static_cast<uint32_t>(EPOLLHUP), ev_[0].events);
}

TEST_F(EpollTest, ClosingRemoves) {
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN));
  Put(p_);
  int number = p_.r.get();
  p_.r.reset();
  EXPECT_EQ(0, Wait());
  EXPECT_FAILS(EBADF, Ctl(EPOLL_CTL_DEL, number, 0));
}

TEST_F(EpollTest, DuplicateKeepsTheRegistration) {
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN, 5));
  Fd copy(dup(p_.r.get()));
  p_.r.reset();
  Put(p_);
  EXPECT_EQ(1, Wait());
  EXPECT_EQ(5u, ev_[0].data.u64);
}

TEST_F(EpollTest, NestedIsReadableWhenTheInnerIs) {
  Fd outer(epoll_create1(0));
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN));
  epoll_event ev = {EPOLLIN, {}};
  ASSERT_OK(epoll_ctl(outer.get(), EPOLL_CTL_ADD, ep_.get(), &ev));
  EXPECT_EQ(0, epoll_wait(outer.get(), ev_, 1, 0));
  Put(p_);
  EXPECT_EQ(1, epoll_wait(outer.get(), ev_, 1, 0));
  EXPECT_TRUE(PollFor(ep_.get(), POLLIN, 0));
  EXPECT_FAILS(ELOOP, Ctl(EPOLL_CTL_ADD, outer.get(), EPOLLIN));
}

TEST_F(EpollTest, WakesABlockedWaiter) {
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN));
  std::thread writer([&] { Put(p_); });
  EXPECT_EQ(1, Wait(20000));
  writer.join();
}

TEST_F(EpollTest, AddingAReadyDescriptorWakesAWaiter) {
  Put(p_);
  std::thread adder([&] { ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN)); });
  EXPECT_EQ(1, Wait(20000));
  adder.join();
}

TEST_F(EpollTest, ExclusiveRules) {
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN | EPOLLEXCLUSIVE));
  EXPECT_FAILS(EINVAL, Ctl(EPOLL_CTL_MOD, p_.r.get(), EPOLLIN));
  EXPECT_FAILS(EINVAL, Ctl(EPOLL_CTL_ADD, p_.w.get(), EPOLLOUT | EPOLLONESHOT | EPOLLEXCLUSIVE));
  Put(p_);
  EXPECT_EQ(1, Wait());
}

TEST_F(EpollTest, MaxeventsRotatesThroughAll) {
  Pipe q;
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, p_.r.get(), EPOLLIN, 1));
  ASSERT_OK(Ctl(EPOLL_CTL_ADD, q.r.get(), EPOLLIN, 2));
  Put(p_);
  Put(q);
  uint64_t seen = 0;
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(1, epoll_wait(ep_.get(), ev_, 1, 0));
    seen |= ev_[0].data.u64;
  }
  EXPECT_EQ(3u, seen);
}

TEST_F(EpollTest, PwaitAppliesItsMask) {
  ScopedHandler handler(SIGUSR1, [](int) {});
  ScopedBlock block({SIGUSR1});
  raise(SIGUSR1);
  sigset_t none = SetOf({});
  EXPECT_FAILS(EINTR, epoll_pwait(ep_.get(), ev_, 1, 20000, &none));
  sigset_t pending;
  sigpending(&pending);
  EXPECT_FALSE(sigismember(&pending, SIGUSR1));
}

}  // namespace
