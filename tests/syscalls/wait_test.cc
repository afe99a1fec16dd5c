// SPDX-License-Identifier: Apache-2.0
// wait4, waitid, exit statuses, SIGCHLD, zombies.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <set>

#include "tests/syscalls/util.h"

namespace {

[[noreturn]] void PauseForever() {
  for (;;) pause();
}

TEST(Wait, ExitCodeIsTheLowByte) {
  EXPECT_EQ(Exited(0), RunInChild([] { _exit(0); }));
  EXPECT_EQ(Exited(255), RunInChild([] { _exit(-1); }));
  EXPECT_EQ(Exited(0x34), RunInChild([] { _exit(0x1234); }));
}

TEST(Wait, SignalDeathIsReported) {
  for (int sig : {SIGKILL, SIGTERM, SIGUSR1, SIGRTMIN, SIGRTMAX}) {
    Child child([] { PauseForever(); });
    ASSERT_OK(child.Kill(sig));
    EXPECT_EQ(Killed(sig), child.Wait());
  }
}

TEST(Wait, NohangReturnsZeroWhileRunning) {
  Child child([] { PauseForever(); });
  int status = 77;
  EXPECT_EQ(0, waitpid(child.pid(), &status, WNOHANG));
  EXPECT_EQ(77, status);
}

TEST(Wait, NoChildrenIsECHILD) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(wait(nullptr) == -1 && errno == ECHILD);
              CHILD_CHECK(waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD);
              CHILD_CHECK(waitpid(getppid(), nullptr, 0) == -1 && errno == ECHILD);
            }));
}

TEST(Wait, InvalidOptions) {
  EXPECT_FAILS(EINVAL, waitpid(-1, nullptr, 0x10));
  siginfo_t info;
  EXPECT_FAILS(EINVAL, waitid(P_ALL, 0, &info, 0));
  EXPECT_FAILS(EINVAL, waitid(static_cast<idtype_t>(77), 0, &info, WEXITED));
  EXPECT_FAILS(EINVAL, waitid(P_PID, 0, &info, WEXITED));
}

TEST(Wait, BadStatusPointer) {
  Child child([] {});
  EXPECT_FAILS(EFAULT, syscall(SYS_wait4, child.pid(), 8, 0, nullptr));
}

TEST(Wait, AnyChildIsReapedOnce) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              std::set<pid_t> pids;
              for (int i = 0; i < 5; ++i) {
                pid_t pid = fork();
                if (pid == 0) _exit(i);
                CHILD_CHECK(pids.insert(pid).second);
              }
              for (int i = 0; i < 5; ++i) CHILD_CHECK(pids.erase(wait(nullptr)) == 1);
              CHILD_CHECK(wait(nullptr) == -1 && errno == ECHILD);
            }));
}

TEST(Wait, SelectsByProcessGroup) {
  Event go;
  Child a([&] {
    setpgid(0, 0);
    CHILD_CHECK(go.Wait());
  });
  setpgid(a.pid(), a.pid());
  EXPECT_FAILS(ECHILD, waitpid(0, nullptr, WNOHANG));
  EXPECT_EQ(0, waitpid(-a.pid(), nullptr, WNOHANG));
  go.Set();
  int status;
  EXPECT_EQ(a.pid(), waitpid(-a.pid(), &status, 0));
  EXPECT_EQ(Exited(0), status);
}

TEST(Wait, StopAndContinueAreReported) {
  Child child([] { PauseForever(); });
  ASSERT_OK(child.Kill(SIGSTOP));
  EXPECT_EQ(Stopped(SIGSTOP), child.Wait(WUNTRACED));
  EXPECT_EQ(0, waitpid(child.pid(), nullptr, WNOHANG | WUNTRACED)) << "a stop is reported once";
  ASSERT_OK(child.Kill(SIGCONT));
  EXPECT_EQ(0xffff, child.Wait(WCONTINUED));
  ASSERT_OK(child.Kill(SIGKILL));
  EXPECT_EQ(Killed(SIGKILL), child.Wait());
}

TEST(Wait, StoppedChildCanBeKilled) {
  Child child([] { raise(SIGSTOP); });
  EXPECT_EQ(Stopped(SIGSTOP), child.Wait(WUNTRACED));
  ASSERT_OK(child.Kill(SIGKILL));
  EXPECT_EQ(Killed(SIGKILL), child.Wait());
}

TEST(Wait, ResourceUsageOfTheChild) {
  Child child([] {
    volatile unsigned long x = 0;
    rusage ru;
    do {
      for (int i = 0; i < 100000; ++i) x = x + i;
      getrusage(RUSAGE_SELF, &ru);
    } while (ru.ru_utime.tv_sec == 0 && ru.ru_utime.tv_usec < 20000);
  });
  rusage ru = {};
  int status;
  ASSERT_EQ(child.pid(), wait4(child.pid(), &status, 0, &ru));
  EXPECT_EQ(Exited(0), status);
  EXPECT_GT(ru.ru_utime.tv_sec * 1000000 + ru.ru_utime.tv_usec, 0);
  EXPECT_GT(ru.ru_maxrss, 0);
}

TEST(Waitid, FillsSiginfoForExit) {
  Child child([] { _exit(33); });
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PID, child.pid(), &info, WEXITED));
  EXPECT_EQ(SIGCHLD, info.si_signo);
  EXPECT_EQ(CLD_EXITED, info.si_code);
  EXPECT_EQ(child.pid(), info.si_pid);
  EXPECT_EQ(getuid(), info.si_uid);
  EXPECT_EQ(33, info.si_status);
}

TEST(Waitid, FillsSiginfoForSignals) {
  Child child([] { PauseForever(); });
  siginfo_t info = {};
  child.Kill(SIGSTOP);
  ASSERT_OK(waitid(P_PID, child.pid(), &info, WSTOPPED));
  EXPECT_EQ(CLD_STOPPED, info.si_code);
  EXPECT_EQ(SIGSTOP, info.si_status);
  child.Kill(SIGCONT);
  ASSERT_OK(waitid(P_PID, child.pid(), &info, WCONTINUED));
  EXPECT_EQ(CLD_CONTINUED, info.si_code);
  EXPECT_EQ(SIGCONT, info.si_status);
  child.Kill(SIGTERM);
  ASSERT_OK(waitid(P_PID, child.pid(), &info, WEXITED));
  EXPECT_EQ(CLD_KILLED, info.si_code);
  EXPECT_EQ(SIGTERM, info.si_status);
}

TEST(Waitid, NowaitLeavesTheZombie) {
  Child child([] { _exit(5); });
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PID, child.pid(), &info, WEXITED | WNOWAIT));
  EXPECT_EQ(5, info.si_status);
  EXPECT_EQ(Exited(5), child.Wait());
}

TEST(Waitid, NohangClearsSiginfo) {
  Child child([] { PauseForever(); });
  siginfo_t info;
  memset(&info, 0xff, sizeof info);
  ASSERT_OK(waitid(P_PID, child.pid(), &info, WEXITED | WNOHANG));
  EXPECT_EQ(0, info.si_pid);
  EXPECT_EQ(0, info.si_signo);
}

TEST(Zombie, KeepsItsPidUntilReaped) {
  Child child([] { _exit(1); });
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PID, child.pid(), &info, WEXITED | WNOWAIT));
  EXPECT_OK(kill(child.pid(), 0));
  EXPECT_OK(kill(child.pid(), SIGKILL)) << "signals to a zombie succeed and do nothing";
  std::string stat = ReadFile("/proc/" + std::to_string(child.pid()) + "/stat");
  EXPECT_NE(std::string::npos, stat.find(") Z ")) << stat;
  EXPECT_EQ(Exited(1), child.Wait());
  EXPECT_FAILS(ESRCH, kill(child.pid(), 0));
}

siginfo_t g_info;
volatile sig_atomic_t g_count;
void OnChild(int, siginfo_t* info, void*) {
  g_info = *info;
  g_count = g_count + 1;
}

TEST(Sigchld, CarriesTheExitStatus) {
  ScopedHandler handler(SIGCHLD, OnChild);
  g_count = 0;
  ScopedBlock block({SIGCHLD});
  Child child([] { _exit(21); });
  sigset_t old;
  sigprocmask(SIG_BLOCK, nullptr, &old);
  sigdelset(&old, SIGCHLD);
  while (g_count == 0) sigsuspend(&old);
  EXPECT_EQ(CLD_EXITED, g_info.si_code);
  EXPECT_EQ(child.pid(), g_info.si_pid);
  EXPECT_EQ(21, g_info.si_status);
  EXPECT_EQ(Exited(21), child.Wait());
}

TEST(Sigchld, StopNotifiesUnlessNocldstop) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              sigset_t set = SetOf({SIGCHLD});
              sigprocmask(SIG_BLOCK, &set, nullptr);
              timespec limit = {20, 0}, zero = {};
              siginfo_t info;
              {
                ScopedHandler handler(SIGCHLD, OnChild);
                Child child([] { PauseForever(); });
                child.Kill(SIGSTOP);
                CHILD_CHECK(sigtimedwait(&set, &info, &limit) == SIGCHLD);
                CHILD_CHECK(info.si_code == CLD_STOPPED && info.si_status == SIGSTOP);
              }
              while (sigtimedwait(&set, &info, &zero) == SIGCHLD) {
              }
              ScopedHandler handler(SIGCHLD, OnChild, SA_NOCLDSTOP);
              Child child([] { PauseForever(); });
              child.Kill(SIGSTOP);
              CHILD_CHECK(child.Wait(WUNTRACED) == Stopped(SIGSTOP));
              CHILD_CHECK(sigtimedwait(&set, &info, &zero) == -1 && errno == EAGAIN);
            }));
}

TEST(Sigchld, IgnoredMeansNoZombies) {
  for (bool nocldwait : {false, true}) {
    EXPECT_EQ(Exited(0), RunInChild([&] {
                struct sigaction sa = {};
                sa.sa_handler = nocldwait ? SIG_DFL : SIG_IGN;
                sa.sa_flags = nocldwait ? SA_NOCLDWAIT : 0;
                CHILD_CHECK(sigaction(SIGCHLD, &sa, nullptr) == 0);
                pid_t pid = fork();
                if (pid == 0) _exit(0);
                // Blocks until the child is gone, then finds nothing to reap.
                CHILD_CHECK(waitpid(pid, nullptr, 0) == -1 && errno == ECHILD);
                CHILD_CHECK(kill(pid, 0) == -1 && errno == ESRCH);
              }))
        << nocldwait;
  }
}

TEST(Wait, InterruptedByASignalHandler) {
  ScopedHandler handler(SIGALRM, [](int) {});
  Child child([] { PauseForever(); });
  ScopedTicks ticks;
  EXPECT_FAILS(EINTR, waitpid(child.pid(), nullptr, 0));
}

TEST(Exit, ClosesDescriptorsBeforeReaping) {
  Pipe p;
  Child child([&] { p.r.reset(); });
  p.w.reset();
  char c;
  EXPECT_EQ(0, read(p.r.get(), &c, 1));
  EXPECT_EQ(Exited(0), child.Wait());
}

}  // namespace
