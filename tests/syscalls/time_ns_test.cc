// SPDX-License-Identifier: Apache-2.0
// time_namespaces(7): offsets of CLOCK_MONOTONIC and CLOCK_BOOTTIME, wherever a time of theirs goes in or comes out.
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/timerfd.h>
#include <time.h>

#include <sstream>

#include "tests/syscalls/util.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

namespace {

constexpr int64_t kSecond = 1'000'000'000;
// Far from each other and from what a test takes.
constexpr int64_t kMonotonic = 864000, kBoottime = 8640000;

int64_t Ns(const timespec& ts) { return ts.tv_sec * kSecond + ts.tv_nsec; }
timespec Spec(int64_t ns) { return {.tv_sec = ns / kSecond, .tv_nsec = ns % kSecond}; }

// By the vDSO where libc has it.
int64_t Now(clockid_t clock) {
  timespec ts = {};
  CHILD_CHECK(clock_gettime(clock, &ts) == 0);
  return Ns(ts);
}

int64_t NowByCall(clockid_t clock) {
  timespec ts = {};
  CHILD_CHECK(syscall(SYS_clock_gettime, clock, &ts) == 0);
  return Ns(ts);
}

int WriteOffsets(const std::string& text, const std::string& pid = "self") {
  Fd fd(open(("/proc/" + pid + "/timens_offsets").c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.ok()) return errno;
  return write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : errno;
}

std::string Link(const std::string& name) {
  char text[64] = {};
  CHILD_CHECK(readlink(("/proc/self/ns/" + name).c_str(), text, sizeof text - 1) > 0);
  return text;
}

// Runs `body` in a child whose parent has made it a time namespace with the two offsets.
int RunShifted(const std::function<void(int64_t monotonic, int64_t boottime)>& body) {
  return RunInChild([&] {
    CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
    CHILD_CHECK(WriteOffsets("monotonic " + std::to_string(kMonotonic) + " 5\nboottime " + std::to_string(kBoottime) +
                             " 0\n") == 0);
    const int64_t monotonic = NowByCall(CLOCK_MONOTONIC), boottime = NowByCall(CLOCK_BOOTTIME);
    CHILD_CHECK(RunInChild([&] { body(monotonic, boottime); }) == Exited(0));
  });
}

// `now` is `base` plus the offset, and what the test took since (a minute at most).
bool IsShifted(int64_t now, int64_t base, int64_t offset_s) {
  return now - base >= offset_s * kSecond && now - base < (offset_s + 60) * kSecond;
}

TEST(TimeNs, ClocksAreShifted) {
  struct {
    clockid_t clock;
    int64_t offset_s, before;
  } clocks[] = {{CLOCK_MONOTONIC, kMonotonic, 0},
                {CLOCK_MONOTONIC_RAW, kMonotonic, 0},
                {CLOCK_MONOTONIC_COARSE, kMonotonic, 0},
                {CLOCK_BOOTTIME, kBoottime, 0}};
  for (auto& each : clocks) each.before = NowByCall(each.clock);
  EXPECT_EQ(RunShifted([&](int64_t, int64_t) {
              // For a while: what answers may change as it warms up.
              const int64_t start = NowByCall(CLOCK_MONOTONIC);
              while (NowByCall(CLOCK_MONOTONIC) < start + kSecond / 2) {
                for (const auto& each : clocks) {
                  CHILD_CHECK(IsShifted(Now(each.clock), each.before, each.offset_s));
                  CHILD_CHECK(IsShifted(NowByCall(each.clock), each.before, each.offset_s));
                }
              }
              // The two ways to read agree.
              const int64_t a = Now(CLOCK_MONOTONIC), b = NowByCall(CLOCK_MONOTONIC), c = Now(CLOCK_MONOTONIC);
              CHILD_CHECK(a <= b && b <= c);
            }),
            Exited(0));
}

TEST(TimeNs, RealtimeIsNot) {
  timespec ts;
  ASSERT_OK(clock_gettime(CLOCK_REALTIME, &ts));
  const int64_t before = Ns(ts);
  EXPECT_EQ(RunShifted([=](int64_t, int64_t) {
              CHILD_CHECK(IsShifted(Now(CLOCK_REALTIME), before, 0));
              CHILD_CHECK(IsShifted(NowByCall(CLOCK_REALTIME), before, 0));
            }),
            Exited(0));
}

TEST(TimeNs, TheCallerOfUnshareStays) {
  EXPECT_EQ(RunInChild([] {
              const std::string own = Link("time");
              CHILD_CHECK(Link("time_for_children") == own);
              CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
              CHILD_CHECK(Link("time") == own && Link("time_for_children") != own);
              const int64_t before = NowByCall(CLOCK_MONOTONIC);
              CHILD_CHECK(WriteOffsets("1 100000 0") == 0);  // by number
              CHILD_CHECK(IsShifted(NowByCall(CLOCK_MONOTONIC), before, 0));
              CHILD_CHECK(IsShifted(Now(CLOCK_MONOTONIC), before, 0));
              const std::string children = Link("time_for_children");
              CHILD_CHECK(RunInChild([&] {
                            CHILD_CHECK(Link("time") == children && Link("time_for_children") == children);
                          }) == Exited(0));
            }),
            Exited(0));
}

TEST(TimeNs, OffsetsFile) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(ReadFile("/proc/self/timens_offsets") ==
                          "monotonic           0         0\nboottime            0         0\n");
              CHILD_CHECK(WriteOffsets("monotonic 1 0") == EACCES);  // the first namespace's are fixed
              CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
              CHILD_CHECK(WriteOffsets("monotonic 1") == EINVAL);
              CHILD_CHECK(WriteOffsets("realtime 1 0") == EINVAL);
              CHILD_CHECK(WriteOffsets("monotonic 1 1000000000") == EINVAL);
              CHILD_CHECK(WriteOffsets("boottime -100000000000 0") == ERANGE);  // before its beginning
              CHILD_CHECK(WriteOffsets("boottime 9223372036854775807 0") == ERANGE);
              CHILD_CHECK(WriteOffsets("monotonic 7 8\nboottime -1 500000000\n") == 0);
              CHILD_CHECK(ReadFile("/proc/self/timens_offsets") ==
                          "monotonic           7         8\nboottime           -1 500000000\n");
              CHILD_CHECK(RunInChild([] {
                            CHILD_CHECK(ReadFile("/proc/self/timens_offsets") ==
                                        "monotonic           7         8\nboottime           -1 500000000\n");
                          }) == Exited(0));
              CHILD_CHECK(WriteOffsets("monotonic 9 0") == EACCES);  // a task has entered
            }),
            Exited(0));
}

TEST(TimeNs, OffsetsAreInherited) {
  EXPECT_EQ(RunShifted([](int64_t, int64_t) {
              const int64_t here = NowByCall(CLOCK_MONOTONIC);
              CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
              CHILD_CHECK(RunInChild([&] { CHILD_CHECK(IsShifted(Now(CLOCK_MONOTONIC), here, 0)); }) == Exited(0));
            }),
            Exited(0));
}

TEST(TimeNs, ExecEnters) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
              CHILD_CHECK(WriteOffsets("boottime 4000000000 0") == 0);
              // The first number of /proc/uptime, without a fork before it.
              execl("/bin/sh", "sh", "-c", "read up rest < /proc/uptime; test ${up%.*} -gt 4000000000", nullptr);
            }),
            Exited(0));
}

TEST(TimeNs, AbsoluteSleep) {
  EXPECT_EQ(RunShifted([](int64_t, int64_t) {
              for (clockid_t clock : {CLOCK_MONOTONIC, CLOCK_BOOTTIME}) {
                const int64_t start = NowByCall(clock);
                timespec until = Spec(start + 20'000'000);
                CHILD_CHECK(clock_nanosleep(clock, TIMER_ABSTIME, &until, nullptr) == 0);
                CHILD_CHECK(NowByCall(clock) >= start + 20'000'000);
                // Long ago here, in the future for the host: at once.
                until = Spec(start - 3600 * kSecond);
                CHILD_CHECK(clock_nanosleep(clock, TIMER_ABSTIME, &until, nullptr) == 0);
              }
            }),
            Exited(0));
}

TEST(TimeNs, Timerfd) {
  EXPECT_EQ(RunShifted([](int64_t, int64_t) {
              for (clockid_t clock : {CLOCK_MONOTONIC, CLOCK_BOOTTIME}) {
                Fd fd(timerfd_create(clock, TFD_CLOEXEC | TFD_NONBLOCK));
                CHILD_CHECK(fd.ok());
                const int64_t start = NowByCall(clock);
                itimerspec setting = {.it_interval = {}, .it_value = Spec(start + 20'000'000)};
                CHILD_CHECK(timerfd_settime(fd.get(), TFD_TIMER_ABSTIME, &setting, nullptr) == 0);
                CHILD_CHECK(PollFor(fd.get(), POLLIN, 20000));
                CHILD_CHECK(NowByCall(clock) >= start + 20'000'000);
                // An hour to go.
                setting.it_value = Spec(NowByCall(clock) + 3600 * kSecond);
                CHILD_CHECK(timerfd_settime(fd.get(), TFD_TIMER_ABSTIME, &setting, nullptr) == 0);
                CHILD_CHECK(!PollFor(fd.get(), POLLIN, 0));
                CHILD_CHECK(timerfd_gettime(fd.get(), &setting) == 0);
                CHILD_CHECK(setting.it_value.tv_sec <= 3600 && setting.it_value.tv_sec > 3500);
              }
            }),
            Exited(0));
}

TEST(TimeNs, PosixTimer) {
  EXPECT_EQ(RunShifted([](int64_t, int64_t) {
              const sigset_t set = SetOf({SIGUSR1});
              sigprocmask(SIG_BLOCK, &set, nullptr);
              for (clockid_t clock : {CLOCK_MONOTONIC, CLOCK_BOOTTIME}) {
                sigevent event = {};
                event.sigev_notify = SIGEV_SIGNAL;
                event.sigev_signo = SIGUSR1;
                timer_t timer;
                CHILD_CHECK(timer_create(clock, &event, &timer) == 0);
                const int64_t start = NowByCall(clock);
                itimerspec setting = {.it_interval = {}, .it_value = Spec(start + 20'000'000)};
                CHILD_CHECK(timer_settime(timer, TIMER_ABSTIME, &setting, nullptr) == 0);
                siginfo_t info;
                timespec patience = {.tv_sec = 20, .tv_nsec = 0};
                CHILD_CHECK(sigtimedwait(&set, &info, &patience) == SIGUSR1);
                CHILD_CHECK(NowByCall(clock) >= start + 20'000'000);
                setting.it_value = Spec(NowByCall(clock) + 3600 * kSecond);
                CHILD_CHECK(timer_settime(timer, TIMER_ABSTIME, &setting, nullptr) == 0);
                CHILD_CHECK(timer_gettime(timer, &setting) == 0);
                CHILD_CHECK(setting.it_value.tv_sec <= 3600 && setting.it_value.tv_sec > 3500);
                CHILD_CHECK(timer_delete(timer) == 0);
              }
            }),
            Exited(0));
}

TEST(TimeNs, FutexDeadline) {
  EXPECT_EQ(
      RunShifted([](int64_t, int64_t) {
        uint32_t word = 0;
        const int64_t start = NowByCall(CLOCK_MONOTONIC);
        timespec until = Spec(start + 20'000'000);
        CHILD_CHECK(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, &until, nullptr, ~0u) == -1 &&
                    errno == ETIMEDOUT);
        CHILD_CHECK(NowByCall(CLOCK_MONOTONIC) >= start + 20'000'000);
      }),
      Exited(0));
}

TEST(TimeNs, UptimeAndStartTimes) {
  EXPECT_EQ(RunShifted([](int64_t, int64_t boottime) {
              boottime -= kSecond;  // the files round
              double uptime = 0;
              std::istringstream(ReadFile("/proc/uptime")) >> uptime;
              CHILD_CHECK(IsShifted(static_cast<int64_t>(uptime) * kSecond, boottime, kBoottime));
              struct sysinfo info;
              CHILD_CHECK(sysinfo(&info) == 0);
              CHILD_CHECK(IsShifted(info.uptime * kSecond, boottime, kBoottime));
              // Field 22: when this process began, in ticks of 10 ms.
              const std::string stat = ReadFile("/proc/self/stat");
              std::istringstream fields(stat.substr(stat.rfind(')') + 2));
              std::string skipped;
              for (int i = 3; i < 22; ++i) fields >> skipped;
              int64_t start = 0;
              fields >> start;
              CHILD_CHECK(IsShifted(start * 10'000'000, boottime, kBoottime));
            }),
            Exited(0));
}

TEST(TimeNs, SetnsShiftsAtOnce) {
  EXPECT_EQ(RunInChild([] {
              const int64_t before = NowByCall(CLOCK_MONOTONIC);
              Event ready, done;
              pid_t pid;
              {
                CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
                CHILD_CHECK(WriteOffsets("monotonic 864000 0") == 0);
              }
              Child child([&] {
                ready.Set();
                CHILD_CHECK(done.Wait());
              });
              pid = child.pid();
              CHILD_CHECK(ready.Wait());
              // For a while: what answers may change as it warms up.
              int64_t now;
              do {
                now = Now(CLOCK_MONOTONIC);
                CHILD_CHECK(IsShifted(now, before, 0));
              } while (now < before + kSecond / 2);
              Fd ns(open(("/proc/" + std::to_string(pid) + "/ns/time").c_str(), O_RDONLY | O_CLOEXEC));
              CHILD_CHECK(setns(ns.get(), CLONE_NEWTIME) == 0);
              CHILD_CHECK(IsShifted(Now(CLOCK_MONOTONIC), before, kMonotonic));
              CHILD_CHECK(IsShifted(NowByCall(CLOCK_MONOTONIC), before, kMonotonic));
              CHILD_CHECK(Link("time") == Link("time_for_children"));
              done.Set();
              CHILD_CHECK(child.Wait() == Exited(0));
            }),
            Exited(0));
}

TEST(TimeNs, Clone3MakesOne) {
  EXPECT_EQ(RunInChild([] {
              const std::string own = Link("time");
              clone_args args = {};
              args.flags = CLONE_NEWTIME;
              args.exit_signal = SIGCHLD;
              const long pid = syscall(SYS_clone3, &args, sizeof args);
              CHILD_CHECK(pid >= 0);
              if (pid == 0) {
                BoundChild();
                CHILD_CHECK(Link("time") != own && Link("time_for_children") == Link("time"));
                CHILD_CHECK(WriteOffsets("monotonic 1 0") == EACCES);
                _exit(0);
              }
              CHILD_CHECK(WaitStatus(static_cast<pid_t>(pid)) == Exited(0));
              CHILD_CHECK(Link("time") == own && Link("time_for_children") == own);
            }),
            Exited(0));
}

TEST(TimeNs, Privilege) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(unshare(CLONE_NEWTIME) == 0);
              CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
              CHILD_CHECK(unshare(CLONE_NEWTIME) == -1 && errno == EPERM);
              CHILD_CHECK(WriteOffsets("monotonic 1 0") == EACCES || WriteOffsets("monotonic 1 0") == EPERM);
            }),
            Exited(0));
}

}  // namespace
