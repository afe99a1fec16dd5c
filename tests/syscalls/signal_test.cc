// SPDX-License-Identifier: Apache-2.0
// Signal delivery: dispositions, masks, queueing, siginfo contents, alternate stacks, synchronous waiting.
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

namespace {

volatile sig_atomic_t g_count;
siginfo_t g_info;
void Count(int) { g_count = g_count + 1; }
void Record(int, siginfo_t* info, void*) {
  g_info = *info;
  g_count = g_count + 1;
}

bool Pending(int sig) {
  sigset_t set;
  sigpending(&set);
  return sigismember(&set, sig);
}

TEST(Sigaction, ReturnsThePreviousAction) {
  ScopedHandler handler(SIGUSR1, Record, SA_RESTART | SA_NODEFER);
  struct sigaction old;
  ASSERT_OK(sigaction(SIGUSR1, nullptr, &old));
  EXPECT_EQ(&Record, old.sa_sigaction);
  EXPECT_EQ(SA_SIGINFO | SA_RESTART | SA_NODEFER, old.sa_flags & ~0x04000000 /* SA_RESTORER */);
}

TEST(Sigaction, KillAndStopAreFixed) {
  struct sigaction sa = {};
  sa.sa_handler = SIG_IGN;
  EXPECT_FAILS(EINVAL, sigaction(SIGKILL, &sa, nullptr));
  EXPECT_FAILS(EINVAL, sigaction(SIGSTOP, &sa, nullptr));
  EXPECT_OK(sigaction(SIGKILL, nullptr, &sa));
}

TEST(Sigaction, RawCallChecksItsArguments) {
  EXPECT_FAILS(EINVAL, syscall(SYS_rt_sigaction, 0, nullptr, nullptr, 8));
  EXPECT_FAILS(EINVAL, syscall(SYS_rt_sigaction, 65, nullptr, nullptr, 8));
  EXPECT_FAILS(EINVAL, syscall(SYS_rt_sigaction, SIGUSR1, nullptr, nullptr, 4));
  EXPECT_FAILS(EFAULT, syscall(SYS_rt_sigaction, SIGUSR1, 8, nullptr, 8));
}

TEST(Sigaction, ResethandRunsOnce) {
  EXPECT_EQ(Killed(SIGUSR1), RunInChild([] {
              ScopedHandler handler(SIGUSR1, Count, SA_RESETHAND);
              raise(SIGUSR1);
              CHILD_CHECK(g_count == 1);
              raise(SIGUSR1);
            }));
}

TEST(Sigaction, SignalIsBlockedInItsHandler) {
  static volatile bool pending, masked;
  ScopedHandler handler(SIGUSR1, [](int sig) {
    if (g_count > 0) return;
    g_count = 1;
    raise(sig);
    pending = Pending(sig);
    sigset_t set;
    sigprocmask(SIG_BLOCK, nullptr, &set);
    masked = sigismember(&set, sig);
  });
  g_count = 0;
  raise(SIGUSR1);
  EXPECT_TRUE(pending);
  EXPECT_TRUE(masked);
  EXPECT_FALSE(Pending(SIGUSR1));
}

TEST(Sigaction, NodeferNests) {
  static volatile int depth, deepest;
  depth = 0;
  deepest = 0;
  ScopedHandler handler(
      SIGUSR1,
      [](int sig) {
        depth = depth + 1;
        if (depth > deepest) deepest = depth;
        if (depth < 4) raise(sig);
        depth = depth - 1;
      },
      SA_NODEFER);
  raise(SIGUSR1);
  EXPECT_EQ(4, deepest);
}

TEST(Sigaction, SaMaskAppliesDuringTheHandlerOnly) {
  static volatile bool blocked;
  struct sigaction sa = {}, old;
  sa.sa_mask = SetOf({SIGUSR2});
  sa.sa_handler = [](int) {
    sigset_t set;
    sigprocmask(SIG_BLOCK, nullptr, &set);
    blocked = sigismember(&set, SIGUSR2);
  };
  ASSERT_OK(sigaction(SIGUSR1, &sa, &old));
  raise(SIGUSR1);
  sigaction(SIGUSR1, &old, nullptr);
  EXPECT_TRUE(blocked);
  sigset_t set;
  sigprocmask(SIG_BLOCK, nullptr, &set);
  EXPECT_FALSE(sigismember(&set, SIGUSR2));
}

TEST(Mask, BlockedSignalIsDeliveredOnUnblock) {
  ScopedHandler handler(SIGUSR1, Count);
  g_count = 0;
  sigset_t set = SetOf({SIGUSR1});
  ASSERT_OK(sigprocmask(SIG_BLOCK, &set, nullptr));
  raise(SIGUSR1);
  raise(SIGUSR1);
  EXPECT_EQ(0, g_count);
  EXPECT_TRUE(Pending(SIGUSR1));
  ASSERT_OK(sigprocmask(SIG_UNBLOCK, &set, nullptr));
  EXPECT_EQ(1, g_count) << "standard signals don't queue";
}

TEST(Mask, KillAndStopCannotBeBlocked) {
  ScopedBlock block({SIGKILL, SIGSTOP, SIGUSR1});
  sigset_t set;
  ASSERT_OK(sigprocmask(SIG_BLOCK, nullptr, &set));
  EXPECT_FALSE(sigismember(&set, SIGKILL));
  EXPECT_FALSE(sigismember(&set, SIGSTOP));
  EXPECT_TRUE(sigismember(&set, SIGUSR1));
}

TEST(Mask, InvalidHowAndSize) {
  sigset_t set = SetOf({});
  EXPECT_FAILS(EINVAL, syscall(SYS_rt_sigprocmask, 77, &set, nullptr, 8));
  EXPECT_FAILS(EINVAL, syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, nullptr, 16));
}

TEST(Mask, IgnoringDiscardsWhatIsPending) {
  ScopedBlock block({SIGUSR1});
  raise(SIGUSR1);
  ASSERT_TRUE(Pending(SIGUSR1));
  ScopedHandler ignore(SIGUSR1, SIG_IGN);
  EXPECT_FALSE(Pending(SIGUSR1));
}

TEST(Mask, ContDiscardsPendingStop) {
  ScopedBlock block({SIGTSTP});
  raise(SIGTSTP);
  ASSERT_TRUE(Pending(SIGTSTP));
  raise(SIGCONT);
  EXPECT_FALSE(Pending(SIGTSTP));
}

TEST(Mask, IsPerThread) {
  ScopedBlock block({SIGUSR1});
  sigset_t inherited, after;
  std::thread([&] {
    pthread_sigmask(SIG_BLOCK, nullptr, &inherited);
    sigset_t none = SetOf({});
    pthread_sigmask(SIG_SETMASK, &none, nullptr);
  }).join();
  pthread_sigmask(SIG_BLOCK, nullptr, &after);
  EXPECT_TRUE(sigismember(&inherited, SIGUSR1));
  EXPECT_TRUE(sigismember(&after, SIGUSR1));
}

TEST(Siginfo, FromKill) {
  ScopedHandler handler(SIGUSR1, Record);
  ASSERT_OK(kill(getpid(), SIGUSR1));
  EXPECT_EQ(SIGUSR1, g_info.si_signo);
  EXPECT_EQ(SI_USER, g_info.si_code);
  EXPECT_EQ(getpid(), g_info.si_pid);
  EXPECT_EQ(getuid(), g_info.si_uid);
}

TEST(Siginfo, FromTgkill) {
  ScopedHandler handler(SIGUSR1, Record);
  ASSERT_OK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
  EXPECT_EQ(SI_TKILL, g_info.si_code);
  EXPECT_EQ(getpid(), g_info.si_pid);
}

TEST(Siginfo, FromSigqueue) {
  ScopedHandler handler(SIGRTMIN, Record);
  sigval v;
  v.sival_ptr = reinterpret_cast<void*>(0x123456789abcul);
  ASSERT_OK(sigqueue(getpid(), SIGRTMIN, v));
  EXPECT_EQ(SI_QUEUE, g_info.si_code);
  EXPECT_EQ(v.sival_ptr, g_info.si_value.sival_ptr);
}

TEST(Siginfo, ForgedKernelCodesToOthersAreRefused) {
  Child child([] {
    for (;;) pause();
  });
  siginfo_t info = {};
  info.si_code = SI_USER;
  EXPECT_FAILS(EPERM, syscall(SYS_rt_sigqueueinfo, child.pid(), SIGUSR1, &info));
  info.si_code = SI_TKILL;
  EXPECT_FAILS(EPERM, syscall(SYS_rt_sigqueueinfo, child.pid(), SIGUSR1, &info));
}

TEST(Realtime, QueuesInOrderLowestFirst) {
  sigset_t set = SetOf({SIGRTMIN, SIGRTMIN + 1});
  ScopedBlock block({SIGRTMIN, SIGRTMIN + 1});
  for (int i = 0; i < 3; ++i) {
    sigval v;
    v.sival_int = i;
    ASSERT_OK(sigqueue(getpid(), SIGRTMIN + 1, v));
    v.sival_int = 10 + i;
    ASSERT_OK(sigqueue(getpid(), SIGRTMIN, v));
  }
  std::vector<int> got;
  siginfo_t info;
  timespec zero = {};
  while (sigtimedwait(&set, &info, &zero) > 0) got.push_back(info.si_value.sival_int);
  EXPECT_EQ((std::vector<int>{10, 11, 12, 0, 1, 2}), got);
}

TEST(Realtime, QueueIsBoundedByRlimitSigpending) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(setresuid(54322, 54322, 54322) == 0);
              rlimit rl = {4, 4};
              CHILD_CHECK(setrlimit(RLIMIT_SIGPENDING, &rl) == 0);
              ScopedBlock block({SIGRTMIN});
              int sent = 0;
              while (sent < 100 && sigqueue(getpid(), SIGRTMIN, sigval{}) == 0) ++sent;
              CHILD_CHECK(errno == EAGAIN && sent == 4);
              _exit(0);  // with the queued signals still blocked
            }));
}

TEST(Sigtimedwait, TimesOutWithEAGAIN) {
  sigset_t set = SetOf({SIGUSR1});
  ScopedBlock block({SIGUSR1});
  timespec t = {0, 1000000};
  EXPECT_FAILS(EAGAIN, sigtimedwait(&set, nullptr, &t));
  t.tv_nsec = -1;
  EXPECT_FAILS(EINVAL, sigtimedwait(&set, nullptr, &t));
}

TEST(Sigtimedwait, WakesForASignalFromAnotherProcess) {
  sigset_t set = SetOf({SIGUSR1});
  ScopedBlock block({SIGUSR1});
  pid_t me = getpid();
  Child child([&] { CHILD_CHECK(kill(me, SIGUSR1) == 0); });
  siginfo_t info = {};
  timespec limit = {20, 0};
  ASSERT_EQ(SIGUSR1, sigtimedwait(&set, &info, &limit));
  EXPECT_EQ(child.pid(), info.si_pid);
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Sigsuspend, RunsTheHandlerAndRestoresTheMask) {
  ScopedHandler handler(SIGUSR1, Count);
  ScopedBlock block({SIGUSR1});
  g_count = 0;
  raise(SIGUSR1);
  sigset_t none = SetOf({}), now;
  EXPECT_FAILS(EINTR, sigsuspend(&none));
  EXPECT_EQ(1, g_count);
  sigprocmask(SIG_BLOCK, nullptr, &now);
  EXPECT_TRUE(sigismember(&now, SIGUSR1));
}

TEST(Signalfd, ReadsQueuedSignals) {
  ScopedBlock block({SIGUSR1, SIGRTMIN});
  sigset_t set = SetOf({SIGUSR1, SIGRTMIN});
  Fd fd(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  ASSERT_TRUE(fd.ok());
  signalfd_siginfo info[3];
  EXPECT_FAILS(EAGAIN, read(fd.get(), info, sizeof info));
  EXPECT_FALSE(PollFor(fd.get(), 1, 0));
  sigval v;
  v.sival_int = 99;
  sigqueue(getpid(), SIGRTMIN, v);
  kill(getpid(), SIGUSR1);
  EXPECT_TRUE(PollFor(fd.get(), 1, 0));
  ASSERT_EQ(static_cast<ssize_t>(2 * sizeof info[0]), read(fd.get(), info, sizeof info));
  EXPECT_EQ(static_cast<uint32_t>(SIGUSR1), info[0].ssi_signo);
  EXPECT_EQ(static_cast<uint32_t>(getpid()), info[0].ssi_pid);
  EXPECT_EQ(99, info[1].ssi_int);
  EXPECT_FAILS(EINVAL, read(fd.get(), info, 10));
}

TEST(Kill, Errors) {
  EXPECT_FAILS(EINVAL, kill(getpid(), 65));
  EXPECT_FAILS(EINVAL, kill(getpid(), -1));
  EXPECT_FAILS(ESRCH, kill(0x3ffffff0, 0));
  EXPECT_FAILS(EINVAL, syscall(SYS_tgkill, -1, gettid(), 0));
  EXPECT_FAILS(EINVAL, syscall(SYS_tgkill, getpid(), 0, 0));
  Child other([] {
    for (;;) pause();
  });
  EXPECT_FAILS(ESRCH, syscall(SYS_tgkill, other.pid(), gettid(), 0));
  EXPECT_OK(kill(getpid(), 0));
}

TEST(Kill, UnprivilegedToAnotherUserIsEPERM) {
  Child target([] {
    for (;;) pause();
  });
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(kill(target.pid(), 0) == -1 && errno == EPERM);
              CHILD_CHECK(syscall(SYS_tgkill, target.pid(), target.pid(), SIGUSR1) == -1 && errno == EPERM);
              // SIGCONT is allowed within a session.
              CHILD_CHECK(kill(target.pid(), SIGCONT) == 0);
            }));
}

TEST(Kill, ReachesTheWholeProcessGroup) {
  Event ready1, ready2;
  auto body = [](Event& e) {
    signal(SIGUSR1, SIG_DFL);
    e.Set();
    for (;;) pause();
  };
  Child a([&] {
    setpgid(0, 0);
    body(ready1);
  });
  setpgid(a.pid(), a.pid());
  Child b([&] { body(ready2); });
  ASSERT_OK(setpgid(b.pid(), a.pid()));
  ASSERT_TRUE(ready1.Wait() && ready2.Wait());
  ASSERT_OK(kill(-a.pid(), SIGUSR1));
  EXPECT_EQ(Killed(SIGUSR1), a.Wait());
  EXPECT_EQ(Killed(SIGUSR1), b.Wait());
}

TEST(Kill, TgkillRunsInTheNamedThread) {
  static volatile pid_t ran;
  ran = 0;
  ScopedHandler handler(SIGUSR1, [](int) { ran = gettid(); });
  pid_t tid = 0;
  std::thread([&] {
    tid = gettid();
    syscall(SYS_tgkill, getpid(), tid, SIGUSR1);
  }).join();
  EXPECT_EQ(tid, ran);
}

TEST(Default, ActionsTerminateOrIgnore) {
  for (int sig : {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGVTALRM, SIGIO, SIGSYS, SIGXCPU}) {
    EXPECT_EQ(Killed(sig), RunInChild([&] { raise(sig); })) << sig;
  }
  for (int sig : {SIGCHLD, SIGURG, SIGWINCH, SIGCONT}) {
    EXPECT_EQ(Exited(0), RunInChild([&] { raise(sig); })) << sig;
  }
}

TEST(Default, StopSignalsStop) {
  // Not orphaned: this process shares the session and is the parent of the child's group.
  for (int sig : {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU}) {
    Child child([&] {
      setpgid(0, 0);
      raise(sig);
    });
    EXPECT_EQ(Stopped(sig), child.Wait(WUNTRACED));
    child.Kill(SIGCONT);
    EXPECT_EQ(Exited(0), child.Wait());
  }
}

TEST(Altstack, HandlerRunsOnIt) {
  static std::vector<char> stack(64 << 10);
  static volatile uintptr_t sp;
  stack_t ss = {}, old;
  ss.ss_sp = stack.data();
  ss.ss_size = stack.size();
  ASSERT_OK(sigaltstack(&ss, &old));
  static volatile int flags, change_errno;
  ScopedHandler handler(
      SIGUSR1,
      [](int) {
        int local = 0;
        sp = reinterpret_cast<uintptr_t>(&local);
        stack_t now;
        sigaltstack(nullptr, &now);
        flags = now.ss_flags;
        stack_t off = {};
        off.ss_flags = SS_DISABLE;
        change_errno = sigaltstack(&off, nullptr) == -1 ? errno : 0;
      },
      SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT_GE(sp, reinterpret_cast<uintptr_t>(stack.data()));
  EXPECT_LT(sp, reinterpret_cast<uintptr_t>(stack.data() + stack.size()));
  EXPECT_EQ(SS_ONSTACK, flags);
  EXPECT_EQ(EPERM, change_errno);
  ss.ss_flags = SS_DISABLE;
  EXPECT_OK(sigaltstack(&ss, nullptr));
}

TEST(Altstack, TooSmallIsENOMEM) {
  char small[100];
  stack_t ss = {};
  ss.ss_sp = small;
  ss.ss_size = sizeof small;
  EXPECT_FAILS(ENOMEM, sigaltstack(&ss, nullptr));
  ss.ss_flags = 0x77;
  EXPECT_FAILS(EINVAL, sigaltstack(&ss, nullptr));
}

}  // namespace
