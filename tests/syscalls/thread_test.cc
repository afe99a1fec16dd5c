// SPDX-License-Identifier: Apache-2.0
// Threads: creation, synchronisation through the C library, thread and group exit, exec from a thread, TLS.
#include <asm/prctl.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

namespace {

int CountTasks() {
  DIR* d = opendir("/proc/self/task");
  int n = 0;
  while (dirent* e = readdir(d)) n += e->d_name[0] != '.';
  closedir(d);
  return n;
}

TEST(Thread, TwoHundredCreateAndJoin) {
  std::atomic<int> ran{0};
  for (int i = 0; i < 200; ++i) std::thread([&] { ++ran; }).join();
  EXPECT_EQ(200, ran);
}

TEST(Thread, TwoHundredAtOnce) {
  std::atomic<int> ran{0};
  std::mutex mu;
  std::condition_variable cv;
  bool go = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 200; ++i)
    threads.emplace_back([&] {
      std::unique_lock lock(mu);
      cv.wait(lock, [&] { return go; });
      ++ran;
    });
  EXPECT_GE(CountTasks(), 201);
  {
    std::lock_guard lock(mu);
    go = true;
  }
  cv.notify_all();
  for (auto& t : threads) t.join();
  EXPECT_EQ(200, ran);
}

TEST(Thread, IdsShareThePidAndDifferInTid) {
  pid_t main_tid = gettid();
  EXPECT_EQ(getpid(), main_tid);
  std::set<pid_t> tids{main_tid};
  for (int i = 0; i < 3; ++i)
    std::thread([&] {
      EXPECT_EQ(main_tid, getpid());
      tids.insert(gettid());
    }).join();
  EXPECT_GE(tids.size(), 2u);
}

TEST(Thread, MutexUnderContention) {
  std::mutex mu;
  long counter = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      for (int j = 0; j < 20000; ++j) {
        std::lock_guard lock(mu);
        ++counter;
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(160000, counter);
}

TEST(Thread, ConditionVariablePingPong) {
  std::mutex mu;
  std::condition_variable cv;
  int turn = 0;
  constexpr int kRounds = 2000;
  auto player = [&](int me) {
    for (int i = 0; i < kRounds; ++i) {
      std::unique_lock lock(mu);
      cv.wait(lock, [&] { return turn % 2 == me; });
      ++turn;
      cv.notify_one();
    }
  };
  std::thread a(player, 0), b(player, 1);
  a.join();
  b.join();
  EXPECT_EQ(2 * kRounds, turn);
}

TEST(Thread, BarrierAndReadWriteLock) {
  pthread_barrier_t barrier;
  ASSERT_EQ(0, pthread_barrier_init(&barrier, nullptr, 4));
  pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
  int value = 0;
  std::atomic<int> serial{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int j = 0; j < 100; ++j) {
        pthread_rwlock_wrlock(&rw);
        ++value;
        pthread_rwlock_unlock(&rw);
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) ++serial;
        pthread_rwlock_rdlock(&rw);
        EXPECT_GE(value, 4 * (j + 1));
        pthread_rwlock_unlock(&rw);
        pthread_barrier_wait(&barrier);
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(100, serial);
  pthread_barrier_destroy(&barrier);
}

TEST(Thread, TimedMutexLockTimesOut) {
  pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
  ASSERT_EQ(0, pthread_mutex_lock(&mu));
  std::thread([&] {
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    EXPECT_EQ(ETIMEDOUT, pthread_mutex_timedlock(&mu, &t));
  }).join();
  pthread_mutex_unlock(&mu);
}

TEST(Thread, RobustMutexOfADeadProcess) {
  auto* mu =
      static_cast<pthread_mutex_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  ASSERT_EQ(0, pthread_mutex_init(mu, &attr));
  EXPECT_EQ(Killed(SIGKILL), RunInChild([&] {
              pthread_mutex_lock(mu);
              raise(SIGKILL);
            }));
  EXPECT_EQ(EOWNERDEAD, pthread_mutex_lock(mu));
  EXPECT_EQ(0, pthread_mutex_consistent(mu));
  EXPECT_EQ(0, pthread_mutex_unlock(mu));
  munmap(mu, 4096);
}

thread_local int g_tls = 17;

TEST(Thread, LocalStorageIsPerThread) {
  g_tls = 1;
  std::thread([] {
    EXPECT_EQ(17, g_tls);
    g_tls = 2;
  }).join();
  EXPECT_EQ(1, g_tls);
  uintptr_t fs = 0, other = 0;
  ASSERT_OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
  std::thread([&] { syscall(SYS_arch_prctl, ARCH_GET_FS, &other); }).join();
  EXPECT_NE(fs, other);
}

TEST(Thread, CancellationOfABlockedRead) {
  Pipe p;
  pthread_t t;
  ASSERT_EQ(0, pthread_create(
                   &t, nullptr,
                   [](void* arg) -> void* {
                     char c;
                     ssize_t n = read(static_cast<Pipe*>(arg)->r.get(), &c, 1);
                     return reinterpret_cast<void*>(n);
                   },
                   &p));
  ASSERT_EQ(0, pthread_cancel(t));
  void* result = nullptr;
  ASSERT_EQ(0, pthread_join(t, &result));
  EXPECT_EQ(PTHREAD_CANCELED, result);
}

TEST(ThreadExit, GroupExitEndsAllThreads) {
  EXPECT_EQ(Exited(12), RunInChild([] {
              for (int i = 0; i < 10; ++i)
                std::thread([] {
                  for (;;) pause();
                }).detach();
              std::thread([] { _exit(12); }).detach();
              for (;;) pause();
            }));
}

TEST(ThreadExit, LeaderExitLeavesTheGroupRunning) {
  Event leader_gone;
  Child child([&] {
    static Event* event;
    event = &leader_gone;
    std::thread([] {
      if (!event->Wait()) _exit(1);
      // The leader, though gone, still names the group.
      _exit(getpid() != gettid() && kill(getpid(), 0) == 0 ? 23 : 2);
    }).detach();
    syscall(SYS_exit, 5);
  });
  // Not waitable while a thread of the group lives.
  EXPECT_EQ(0, waitpid(child.pid(), nullptr, WNOHANG));
  leader_gone.Set();
  EXPECT_EQ(Exited(23), child.Wait());
}

TEST(ThreadExit, LeaderLeavingLastGivesItsStatus) {
  EXPECT_EQ(Exited(5), RunInChild([] {
              std::thread([] { syscall(SYS_exit, 9); }).join();
              syscall(SYS_exit, 5);
            }));
}

TEST(ThreadExit, ThreadLeavingLastGivesItsStatus) {
  EXPECT_EQ(Exited(9), RunInChild([] {
              static uint32_t leader_alive = 1;
              syscall(SYS_set_tid_address, &leader_alive);
              std::thread([] {
                while (__atomic_load_n(&leader_alive, __ATOMIC_SEQ_CST)) {
                  syscall(SYS_futex, &leader_alive, FUTEX_WAIT, 1, nullptr, nullptr, 0);
                }
                syscall(SYS_exit, 9);
              }).detach();
              syscall(SYS_exit, 5);
            }));
}

TEST(ThreadExit, FatalSignalToOneThreadKillsAll) {
  EXPECT_EQ(Killed(SIGTERM), RunInChild([] {
              std::thread([] { syscall(SYS_tgkill, getpid(), gettid(), SIGTERM); }).detach();
              for (;;) pause();
            }));
}

TEST(ThreadExec, FromANonLeaderTakesOverThePid) {
  Pipe p(O_CLOEXEC);
  Child child([&] {
    dup2(p.w.get(), 1);
    for (int i = 0; i < 5; ++i)
      std::thread([] {
        for (;;) pause();
      }).detach();
    std::thread([] {
      execl("/bin/sh", "sh", "-c", "echo $$; set -- /proc/$$/task/*; echo $#", nullptr);
      _exit(127);
    }).detach();
    for (;;) pause();
  });
  p.w.reset();
  std::string out;
  char buf[64];
  ssize_t n;
  while ((n = read(p.r.get(), buf, sizeof buf)) > 0) out.append(buf, n);
  EXPECT_EQ(Exited(0), child.Wait());
  EXPECT_EQ(std::to_string(child.pid()) + "\n1\n", out);
}

TEST(ThreadExec, FailureLeavesTheOtherThreads) {
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) sched_yield();
  });
  std::thread([] {
    char* argv[] = {nullptr};
    EXPECT_FAILS(ENOENT, execve("/nonexistent", argv, argv));
  }).join();
  EXPECT_GE(CountTasks(), 2);
  stop = true;
  other.join();
}

TEST(ThreadFork, OnlyTheCallerIsCopied) {
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) sched_yield();
  });
  EXPECT_EQ(Exited(0), RunInChild([] { CHILD_CHECK(CountTasks() == 1); }));
  std::thread([] { EXPECT_EQ(Exited(0), RunInChild([] { CHILD_CHECK(getpid() == gettid()); })); }).join();
  stop = true;
  other.join();
}

TEST(ThreadFork, AnyThreadMayReapTheChild) {
  pid_t pid = -1;
  std::thread([&] {
    pid = fork();
    if (pid == 0) _exit(4);
  }).join();
  ASSERT_GT(pid, 0);
  EXPECT_EQ(Exited(4), WaitStatus(pid));
}

TEST(ThreadFork, WnothreadSeesOnlyOwnChildren) {
  Event go;
  Child child([&] { CHILD_CHECK(go.Wait()); });
  std::thread([&] { EXPECT_FAILS(ECHILD, waitpid(child.pid(), nullptr, __WNOTHREAD | WNOHANG)); }).join();
  go.Set();
  EXPECT_EQ(Exited(0), child.Wait(__WNOTHREAD));
}

TEST(SetTidAddress, ReturnsTheTid) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              int word = 0;
              CHILD_CHECK(syscall(SYS_set_tid_address, &word) == getpid());
              syscall(SYS_exit_group, 0);
            }));
}

TEST(Membarrier, QueryAndGlobal) {
  long supported = syscall(SYS_membarrier, 0, 0, 0);
  ASSERT_OK(supported);
  if (supported & 8) {
    EXPECT_OK(syscall(SYS_membarrier, 16, 0, 0));
    EXPECT_OK(syscall(SYS_membarrier, 8, 0, 0));
  }
  EXPECT_FAILS(EINVAL, syscall(SYS_membarrier, 1 << 30, 0, 0));
}

}  // namespace
