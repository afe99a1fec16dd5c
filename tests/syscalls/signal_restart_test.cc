// SPDX-License-Identifier: Apache-2.0
// Which interrupted calls restart under SA_RESTART and which fail with EINTR (signal(7)), and interval timers.
// A repeating timer interrupts, so no test depends on when the call starts to block; where a call has to restart, the
// handler ends it by another way after a few rounds.
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <linux/futex.h>

#include "tests/syscalls/util.h"

namespace {

volatile sig_atomic_t g_ticks;
int g_write_fd = -1;

void Tick(int) { g_ticks = g_ticks + 1; }

// From the third tick on, makes the descriptor that the test blocks on ready.
void TickThenWrite(int) {
  int saved = errno;
  g_ticks = g_ticks + 1;
  if (g_ticks == 3) {
    ssize_t n = write(g_write_fd, "x", 1);
    (void)n;
  }
  errno = saved;
}

class Restart : public testing::Test {
 protected:
  void SetUp() override { g_ticks = 0; }
};

TEST_F(Restart, PipeReadFailsWithoutSaRestart) {
  Pipe p;
  ScopedHandler handler(SIGALRM, Tick);
  ScopedTicks ticks;
  char c;
  EXPECT_FAILS(EINTR, read(p.r.get(), &c, 1));
}

TEST_F(Restart, PipeReadRestarts) {
  Pipe p;
  g_write_fd = p.w.get();
  ScopedHandler handler(SIGALRM, TickThenWrite, SA_RESTART);
  ScopedTicks ticks;
  char c;
  EXPECT_EQ(1, read(p.r.get(), &c, 1));
  EXPECT_GE(g_ticks, 3);
}

TEST_F(Restart, PipeWriteFailsWithoutSaRestart) {
  Pipe p(O_NONBLOCK);
  std::string big(4096, 'x');
  while (write(p.w.get(), big.data(), big.size()) > 0) {
  }
  ASSERT_OK(fcntl(p.w.get(), F_SETFL, 0));
  ScopedHandler handler(SIGALRM, Tick);
  ScopedTicks ticks;
  EXPECT_FAILS(EINTR, write(p.w.get(), big.data(), big.size()));
}

TEST_F(Restart, PartialWriteReturnsTheCount) {
  Pipe p;
  std::string big(1 << 20, 'x');
  ScopedHandler handler(SIGALRM, Tick, SA_RESTART);
  ScopedTicks ticks;
  ssize_t n = write(p.w.get(), big.data(), big.size());
  EXPECT_GT(n, 0);
  EXPECT_LT(n, static_cast<ssize_t>(big.size()));
}

TEST_F(Restart, SocketRecvRestarts) {
  int sv[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
  Fd a(sv[0]), b(sv[1]);
  g_write_fd = b.get();
  ScopedHandler handler(SIGALRM, TickThenWrite, SA_RESTART);
  ScopedTicks ticks;
  char c;
  EXPECT_EQ(1, recv(a.get(), &c, 1, 0));
  EXPECT_GE(g_ticks, 3);
}

TEST_F(Restart, SocketRecvWithTimeoutDoesNot) {
  int sv[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
  Fd a(sv[0]), b(sv[1]);
  timeval tv = {20, 0};
  ASSERT_OK(setsockopt(a.get(), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
  ScopedHandler handler(SIGALRM, Tick, SA_RESTART);
  ScopedTicks ticks;
  char c;
  EXPECT_FAILS(EINTR, recv(a.get(), &c, 1, 0));
}

TEST_F(Restart, PollNeverRestarts) {
  Pipe p;
  ScopedHandler handler(SIGALRM, Tick, SA_RESTART);
  ScopedTicks ticks;
  pollfd pfd = {p.r.get(), POLLIN, 0};
  EXPECT_FAILS(EINTR, poll(&pfd, 1, 20000));
}

TEST_F(Restart, SelectNeverRestarts) {
  Pipe p;
  ScopedHandler handler(SIGALRM, Tick, SA_RESTART);
  ScopedTicks ticks;
  fd_set set;
  FD_ZERO(&set);
  FD_SET(p.r.get(), &set);
  timeval tv = {20, 0};
  EXPECT_FAILS(EINTR, select(p.r.get() + 1, &set, nullptr, nullptr, &tv));
}

TEST_F(Restart, EpollWaitNeverRestarts) {
  Fd ep(epoll_create1(0));
  ScopedHandler handler(SIGALRM, Tick, SA_RESTART);
  ScopedTicks ticks;
  epoll_event ev;
  EXPECT_FAILS(EINTR, epoll_wait(ep.get(), &ev, 1, 20000));
}

TEST_F(Restart, PauseNeverRestarts) {
  ScopedHandler handler(SIGALRM, Tick, SA_RESTART);
  ScopedTicks ticks;
  EXPECT_FAILS(EINTR, pause());
}

TEST_F(Restart, NanosleepNeverRestartsAndGivesTheRest) {
  ScopedHandler handler(SIGALRM, Tick, SA_RESTART);
  ScopedTicks ticks;
  timespec req = {20, 0}, rem = {-1, -1};
  EXPECT_FAILS(EINTR, nanosleep(&req, &rem));
  EXPECT_GE(rem.tv_sec, 0);
  EXPECT_LT(rem.tv_sec, 20);
}

TEST_F(Restart, AbsoluteClockNanosleepLeavesRemainderAlone) {
  ScopedHandler handler(SIGALRM, Tick, SA_RESTART);
  ScopedTicks ticks;
  timespec req, rem = {-7, -7};
  clock_gettime(CLOCK_MONOTONIC, &req);
  req.tv_sec += 20;
  EXPECT_EQ(EINTR, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &req, &rem));
  EXPECT_EQ(-7, rem.tv_sec);
}

TEST_F(Restart, SigtimedwaitNeverRestarts) {
  ScopedHandler handler(SIGALRM, Tick, SA_RESTART);
  ScopedBlock block({SIGUSR1});
  sigset_t set = SetOf({SIGUSR1});
  ScopedTicks ticks;
  timespec t = {20, 0};
  EXPECT_FAILS(EINTR, sigtimedwait(&set, nullptr, &t));
}

TEST_F(Restart, FutexWaitWithTimeoutFailsWithoutSaRestart) {
  int word = 0;
  ScopedHandler handler(SIGALRM, Tick);
  ScopedTicks ticks;
  timespec t = {20, 0};
  EXPECT_FAILS(EINTR, syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, nullptr, 0));
}

TEST_F(Restart, FutexWaitRestarts) {
  static int word;
  word = 0;
  ScopedHandler handler(
      SIGALRM,
      [](int) {
        g_ticks = g_ticks + 1;
        if (g_ticks == 3) __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
      },
      SA_RESTART);
  ScopedTicks ticks;
  // The restarted call finds the word changed.
  EXPECT_FAILS(EAGAIN, syscall(SYS_futex, &word, FUTEX_WAIT, 0, nullptr, nullptr, 0));
  EXPECT_GE(g_ticks, 3);
}

TEST_F(Restart, FlockRestartsAndFailsByFlag) {
  TempDir dir;
  Fd a(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  Fd b(open((dir / "f").c_str(), O_RDWR));
  ASSERT_OK(flock(a.get(), LOCK_EX));
  {
    ScopedHandler handler(SIGALRM, Tick);
    ScopedTicks ticks;
    EXPECT_FAILS(EINTR, flock(b.get(), LOCK_EX));
  }
  static int held;
  held = a.get();
  g_ticks = 0;
  ScopedHandler handler(
      SIGALRM,
      [](int) {
        g_ticks = g_ticks + 1;
        if (g_ticks == 3) flock(held, LOCK_UN);
      },
      SA_RESTART);
  ScopedTicks ticks;
  EXPECT_OK(flock(b.get(), LOCK_EX));
}

TEST_F(Restart, IgnoredSignalsDoNotInterrupt) {
  Pipe p;
  ScopedHandler ignore(SIGALRM, SIG_IGN);
  Child writer([&] {
    ScopedHandler handler(SIGALRM, Tick);
    ScopedTicks ticks;
    while (g_ticks < 4) {
      pause();
      CHILD_CHECK(kill(getppid(), SIGALRM) == 0);
    }
    CHILD_CHECK(write(p.w.get(), "x", 1) == 1);
  });
  char c;
  EXPECT_EQ(1, read(p.r.get(), &c, 1));
  EXPECT_EQ(Exited(0), writer.Wait());
}

TEST_F(Restart, StopAndContinueDoNotInterruptARead) {
  Pipe data;
  Child child([&] {
    data.w.reset();
    char c;
    CHILD_CHECK(read(data.r.get(), &c, 1) == 1 && c == 'd');
  });
  for (int i = 0; i < 3; ++i) {
    child.Kill(SIGSTOP);
    ASSERT_EQ(Stopped(SIGSTOP), child.Wait(WUNTRACED));
    child.Kill(SIGCONT);
    ASSERT_EQ(0xffff, child.Wait(WCONTINUED));
  }
  ASSERT_EQ(1, write(data.w.get(), "d", 1));
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST_F(Restart, HandlerErrnoChangeIsVisible) {
  // The kernel leaves the C library's errno alone: only the handler can change it.
  ScopedHandler handler(SIGUSR1, [](int) { errno = EXDEV; });
  errno = 0;
  raise(SIGUSR1);
  EXPECT_EQ(EXDEV, errno);
}

TEST(Timers, AlarmReturnsWhatWasLeft) {
  alarm(1000);
  unsigned left = alarm(0);
  EXPECT_GT(left, 990u);
  EXPECT_LE(left, 1000u);
  EXPECT_EQ(0u, alarm(0));
}

TEST(Timers, SetitimerRealRepeats) {
  g_ticks = 0;
  ScopedHandler handler(SIGALRM, Tick);
  ScopedTicks ticks;
  while (g_ticks < 3) pause();
  itimerval now;
  ASSERT_OK(getitimer(ITIMER_REAL, &now));
  EXPECT_EQ(5000, now.it_interval.tv_usec);
}

TEST(Timers, SetitimerValidatesArguments) {
  itimerval t = {{0, 0}, {0, 1000000}};
  EXPECT_FAILS(EINVAL, setitimer(ITIMER_REAL, &t, nullptr));
  t.it_value.tv_usec = 1;
  EXPECT_FAILS(EINVAL, syscall(SYS_setitimer, 7, &t, nullptr));
  EXPECT_FAILS(EFAULT, syscall(SYS_setitimer, ITIMER_REAL, 8, nullptr));
}

TEST(Timers, ProfAndVirtualCountCpuTime) {
  for (auto [which, sig] : {std::pair{ITIMER_VIRTUAL, SIGVTALRM}, std::pair{ITIMER_PROF, SIGPROF}}) {
    g_ticks = 0;
    ScopedHandler handler(sig, Tick);
    itimerval t = {{0, 0}, {0, 10000}};
    ASSERT_OK(syscall(SYS_setitimer, which, &t, nullptr));
    volatile unsigned long spin = 0;
    timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
      for (int i = 0; i < 10000; ++i) spin = spin + i;
      clock_gettime(CLOCK_MONOTONIC, &now);
    } while (g_ticks == 0 && now.tv_sec - start.tv_sec < 20);
    EXPECT_EQ(1, g_ticks) << sig;
  }
}

TEST(Timers, CpuTimersMayHaveTheLongestInterval) {
  ScopedHandler handler(SIGUSR1, Tick);
  sigevent ev = {};
  ev.sigev_notify = SIGEV_SIGNAL;
  ev.sigev_signo = SIGUSR1;
  timer_t id;
  ASSERT_OK(timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &id));
  g_ticks = 0;
  itimerspec spec = {.it_interval = {INT64_MAX, 0}, .it_value = {0, 1'000'000}};
  ASSERT_OK(timer_settime(id, 0, &spec, nullptr));
  volatile unsigned long spin = 0;
  timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    for (int i = 0; i < 10000; ++i) spin = spin + i;
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (g_ticks == 0 && now.tv_sec - start.tv_sec < 20);
  ASSERT_OK(timer_gettime(id, &spec));
  EXPECT_GT(spec.it_value.tv_sec, 1'000'000'000);
  EXPECT_EQ(1, g_ticks);
  EXPECT_OK(timer_delete(id));
}

TEST(Timers, PosixTimerSignalsWithValue) {
  sigevent ev = {};
  ev.sigev_notify = SIGEV_SIGNAL;
  ev.sigev_signo = SIGRTMIN + 2;
  ev.sigev_value.sival_int = 31;
  ScopedBlock block({SIGRTMIN + 2});
  timer_t id;
  ASSERT_OK(timer_create(CLOCK_MONOTONIC, &ev, &id));
  itimerspec spec = {{0, 0}, {0, 1000000}};
  ASSERT_OK(timer_settime(id, 0, &spec, nullptr));
  sigset_t set = SetOf({SIGRTMIN + 2});
  siginfo_t info = {};
  timespec limit = {20, 0};
  ASSERT_EQ(SIGRTMIN + 2, sigtimedwait(&set, &info, &limit));
  EXPECT_EQ(SI_TIMER, info.si_code);
  EXPECT_EQ(31, info.si_value.sival_int);
  EXPECT_EQ(0, timer_getoverrun(id));
  ASSERT_OK(timer_gettime(id, &spec));
  EXPECT_EQ(0, spec.it_value.tv_sec + spec.it_value.tv_nsec);
  EXPECT_OK(timer_delete(id));
  EXPECT_FAILS(EINVAL, timer_gettime(id, &spec));
}

TEST(Timers, PosixTimerCountsOverruns) {
  sigevent ev = {};
  ev.sigev_notify = SIGEV_SIGNAL;
  ev.sigev_signo = SIGRTMIN + 2;
  ScopedBlock block({SIGRTMIN + 2});
  timer_t id;
  ASSERT_OK(timer_create(CLOCK_MONOTONIC, &ev, &id));
  // Due for over an hour, so far more than one period is lost before the signal is taken.
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  itimerspec spec = {{0, 1000000}, {0, 1}};
  ASSERT_OK(timer_settime(id, TIMER_ABSTIME, &spec, nullptr));
  sigset_t set = SetOf({SIGRTMIN + 2});
  siginfo_t info = {};
  timespec limit = {20, 0};
  ASSERT_EQ(SIGRTMIN + 2, sigtimedwait(&set, &info, &limit));
  EXPECT_GT(info.si_overrun, 0);
  EXPECT_OK(timer_delete(id));
}

TEST(Timers, SigevNoneOnlyCounts) {
  sigevent ev = {};
  ev.sigev_notify = SIGEV_NONE;
  timer_t id;
  ASSERT_OK(timer_create(CLOCK_REALTIME, &ev, &id));
  itimerspec spec = {{0, 0}, {1000, 0}}, got;
  ASSERT_OK(timer_settime(id, 0, &spec, nullptr));
  ASSERT_OK(timer_gettime(id, &got));
  EXPECT_GT(got.it_value.tv_sec, 900);
  EXPECT_OK(timer_delete(id));
}

}  // namespace
