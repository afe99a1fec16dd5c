// SPDX-License-Identifier: Apache-2.0
// The load averages of /proc/loadavg and sysinfo(2), and the newest process's id there.
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>

#include <array>
#include <atomic>
#include <list>
#include <string>

#include "tests/syscalls/util.h"

namespace {

using Loads = std::array<unsigned long, 3>;
constexpr unsigned long kOne = 1 << SI_LOAD_SHIFT;
// Of which the last five bits are not kept.
constexpr unsigned long kUnit = 32;

Loads Now() {
  struct sysinfo info;
  EXPECT_OK(sysinfo(&info));
  return {info.loads[0], info.loads[1], info.loads[2]};
}

// The averages after the next count, which is due every 5 s; no event tells of it.
Loads Next(const Loads& before) {
  for (int i = 0; i < 200; ++i) {
    const Loads now = Now();
    if (now != before) return now;
    pollfd none = {-1, 0, 0};
    poll(&none, 1, 50);
  }
  ADD_FAILURE() << "no count within 10 s";
  return before;
}

// Who waits for a vfork(2) child sleeps uninterruptibly. The child ends when its parent is killed.
void WaitForAVforkChild() {
  const pid_t pid = vfork();
  CHILD_CHECK(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
  }
}

bool HasState(pid_t pid, char state) {
  const std::string want = std::string(") ") + state + " ";
  for (int i = 0; i < 400; ++i) {
    if (ReadFile("/proc/" + std::to_string(pid) + "/stat").find(want) != std::string::npos) return true;
    pollfd none = {-1, 0, 0};
    poll(&none, 1, 25);
  }
  return false;
}

TEST(LoadAverage, CountsWhoRunsAndWhoSleepsUninterruptibly) {
  constexpr unsigned long kRunning = 2, kUninterruptible = 4, kActive = kRunning + kUninterruptible;
  std::list<Child> children;
  for (unsigned i = 0; i < kRunning; ++i)
    children.emplace_back([] {
      for (std::atomic<unsigned> n{0};; ++n) {
      }
    });
  for (unsigned i = 0; i < kUninterruptible; ++i) {
    children.emplace_back([] { WaitForAVforkChild(); });
    ASSERT_TRUE(HasState(children.back().pid(), 'D'));
  }
  // The first count may have been under way.
  const Loads before = Next(Now()), after = Next(before);
  // Of each average this is kept in 5 s of 1, 5 and 15 minutes, of 2048; the rest is the number of tasks.
  constexpr unsigned long kKept[] = {1884, 2014, 2037};
  for (int i = 0; i < 3; ++i) {
    const unsigned long least = (before[i] * kKept[i] + kActive * kOne * (2048 - kKept[i])) / 2048;
    EXPECT_GE(after[i] + 2 * kUnit, least) << "average " << i << " was " << before[i];
  }
}

TEST(LoadAverage, TheFileSaysWhatSysinfoSays) {
  for (int i = 0; i < 10; ++i) {
    const Loads before = Now();
    double shown[3];
    ASSERT_EQ(3, sscanf(ReadFile("/proc/loadavg").c_str(), "%lf %lf %lf", &shown[0], &shown[1], &shown[2]));
    if (Now() != before) continue;
    for (int j = 0; j < 3; ++j) EXPECT_NEAR(shown[j], static_cast<double>(before[j]) / kOne, 0.006);
    return;
  }
  FAIL() << "the averages never stood still";
}

TEST(LoadAverage, TheNewestIdIsOfTheReadersNamespace) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              auto newest = [] {
                const std::string text = ReadFile("/proc/loadavg");
                return atoi(text.c_str() + text.rfind(' '));
              };
              CHILD_CHECK(unshare(CLONE_NEWPID) == 0);
              CHILD_CHECK(RunInChild([&] {
                            CHILD_CHECK(getpid() == 1);
                            CHILD_CHECK(newest() == 1);
                            CHILD_CHECK(RunInChild([] {}) == Exited(0));
                            CHILD_CHECK(newest() == 2);  // although it is gone
                            CHILD_CHECK(RunInChild([&] { CHILD_CHECK(newest() == 3 && getpid() == 3); }) == Exited(0));
                          }) == Exited(0));
            }));
}

}  // namespace
