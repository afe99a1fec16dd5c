// SPDX-License-Identifier: Apache-2.0
// Futexes with an owner: LOCK_PI and its kin, requeueing onto them, deadlocks, owners that die. And what of futex(2)
// and futex_waitv(2) futex_test leaves.
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <thread>

#include "tests/syscalls/util.h"

namespace {

using Word = std::atomic<uint32_t>;

long Futex(Word* w, int op, uint32_t val, const timespec* timeout = nullptr, Word* w2 = nullptr, uint32_t val3 = 0) {
  return syscall(SYS_futex, w, op | FUTEX_PRIVATE_FLAG, val, timeout, w2, val3);
}
long RequeuePi(Word* w, uint32_t wake, uintptr_t move, Word* w2, uint32_t expected) {
  return syscall(SYS_futex, w, FUTEX_CMP_REQUEUE_PI | FUTEX_PRIVATE_FLAG, wake, move, w2, expected);
}
timespec In(clockid_t clock, long ms) {
  timespec t;
  clock_gettime(clock, &t);
  t.tv_nsec += ms % 1000 * 1000000;
  t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
  t.tv_nsec %= 1000000000;
  return t;
}
uint32_t Owner(const Word& w) { return w & FUTEX_TID_MASK; }
uint32_t Self() { return static_cast<uint32_t>(gettid()); }
bool AwaitWaiters(const Word& w) {
  while (!(w & FUTEX_WAITERS)) sched_yield();
  return true;
}
// The thread has gone to sleep, by /proc.
void AwaitSleep(pid_t tid) {
  for (;;) {
    std::string stat = ReadFile("/proc/self/task/" + std::to_string(tid) + "/stat");
    size_t at = stat.rfind(") ");
    if (at != std::string::npos && (stat[at + 2] == 'S' || stat[at + 2] == 'D')) return;
    sched_yield();
  }
}

TEST(FutexPi, BadArguments) {
  Word w{0}, w2{0};
  EXPECT_FAILS(EFAULT, Futex(reinterpret_cast<Word*>(8), FUTEX_LOCK_PI, 0));
  EXPECT_FAILS(EINVAL, Futex(reinterpret_cast<Word*>(reinterpret_cast<char*>(&w) + 1), FUTEX_LOCK_PI, 0));
  timespec bad = {0, 1000000000};
  EXPECT_FAILS(EINVAL, Futex(&w, FUTEX_LOCK_PI, 0, &bad));
  EXPECT_FAILS(EPERM, Futex(&w, FUTEX_UNLOCK_PI, 0));
  w = 0x3ffffff0;
  EXPECT_FAILS(ESRCH, Futex(&w, FUTEX_LOCK_PI, 0));
  EXPECT_FAILS(EPERM, Futex(&w, FUTEX_UNLOCK_PI, 0));
  EXPECT_FAILS(EINVAL, Futex(&w, FUTEX_WAIT_REQUEUE_PI, 0, nullptr, &w)) << "onto itself";
  EXPECT_FAILS(EAGAIN, Futex(&w, FUTEX_WAIT_REQUEUE_PI, 0, nullptr, &w2));
  EXPECT_FAILS(EINVAL, RequeuePi(&w, 1, 1, &w, w));
  EXPECT_FAILS(EINVAL, RequeuePi(&w, 2, 1, &w2, w)) << "more than one to wake";
  EXPECT_FAILS(EINVAL, RequeuePi(&w, 0, 1, &w2, w));
  EXPECT_FAILS(EAGAIN, RequeuePi(&w, 1, 1, &w2, w + 1));
  w2 = 0;
  EXPECT_EQ(0, RequeuePi(&w, 1, 1, &w2, w));
  EXPECT_FAILS(ENOSYS, Futex(&w, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, 0));
  EXPECT_FAILS(ENOSYS, Futex(&w, 99, 0));
}

TEST(FutexPi, TimeoutsLeaveTheLock) {
  Word w{0};
  ASSERT_OK(Futex(&w, FUTEX_LOCK_PI, 0));
  std::thread([&] {
    timespec t = In(CLOCK_REALTIME, 20);
    EXPECT_FAILS(ETIMEDOUT, Futex(&w, FUTEX_LOCK_PI, 0, &t));
    t = In(CLOCK_MONOTONIC, 20);
    EXPECT_FAILS(ETIMEDOUT, Futex(&w, FUTEX_LOCK_PI2, 0, &t));
    t = In(CLOCK_REALTIME, 20);
    EXPECT_FAILS(ETIMEDOUT, Futex(&w, FUTEX_LOCK_PI2 | FUTEX_CLOCK_REALTIME, 0, &t));
  }).join();
  EXPECT_EQ(Self(), Owner(w));
  EXPECT_OK(Futex(&w, FUTEX_UNLOCK_PI, 0));
  EXPECT_EQ(0u, w.load());
}

TEST(FutexPi, DeadlockOverAChainIsSeen) {
  Word a{0}, b{0};
  ASSERT_OK(Futex(&a, FUTEX_LOCK_PI, 0));
  std::thread other([&] {
    ASSERT_OK(Futex(&b, FUTEX_LOCK_PI, 0));
    ASSERT_OK(Futex(&a, FUTEX_LOCK_PI, 0));
    EXPECT_OK(Futex(&a, FUTEX_UNLOCK_PI, 0));
    EXPECT_OK(Futex(&b, FUTEX_UNLOCK_PI, 0));
  });
  AwaitWaiters(a);
  // The waiter marks the word before it sleeps.
  AwaitSleep(static_cast<pid_t>(Owner(b)));
  EXPECT_FAILS(EDEADLK, Futex(&b, FUTEX_LOCK_PI, 0));
  EXPECT_OK(Futex(&a, FUTEX_UNLOCK_PI, 0));
  other.join();
}

TEST(FutexPi, WakeAndRequeueRefuseItsWaiters) {
  Word w{0}, w2{0};
  ASSERT_OK(Futex(&w, FUTEX_LOCK_PI, 0));
  std::thread waiter([&] {
    EXPECT_OK(Futex(&w, FUTEX_LOCK_PI, 0));
    EXPECT_OK(Futex(&w, FUTEX_UNLOCK_PI, 0));
  });
  AwaitWaiters(w);
  // Queued a moment after it has marked the word.
  while (Futex(&w, FUTEX_WAKE, 1) == 0) sched_yield();
  EXPECT_FAILS(EINVAL, Futex(&w, FUTEX_WAKE, 1));
  EXPECT_FAILS(EINVAL, syscall(SYS_futex, &w, FUTEX_REQUEUE | FUTEX_PRIVATE_FLAG, 1, 1, &w2, 0));
  EXPECT_OK(Futex(&w, FUTEX_UNLOCK_PI, 0));
  waiter.join();
}

TEST(FutexPi, DeadOwnersLockIsHandedOver) {
  Word w{0};
  std::atomic<bool> locked{false}, go{false};
  std::thread owner([&] {
    ASSERT_OK(Futex(&w, FUTEX_LOCK_PI, 0));
    locked = true;
    while (!go) sched_yield();
    syscall(SYS_exit, 0);
  });
  owner.detach();
  while (!locked) sched_yield();
  std::thread waiter([&] {
    EXPECT_OK(Futex(&w, FUTEX_LOCK_PI, 0));
    EXPECT_EQ(Self(), Owner(w));
    EXPECT_TRUE(w & FUTEX_OWNER_DIED);
    EXPECT_OK(Futex(&w, FUTEX_UNLOCK_PI, 0));
  });
  AwaitWaiters(w);
  go = true;
  waiter.join();
}

TEST(FutexPi, RobustListMarksThePiBit) {
  struct Node {
    robust_list list;
    Word word;
  };
  auto* node = static_cast<Node*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  Child child([&] {
    static robust_list_head head;
    head.list.next = reinterpret_cast<robust_list*>(reinterpret_cast<uintptr_t>(&node->list) | 1);
    head.futex_offset = offsetof(Node, word);
    node->list.next = &head.list;
    CHILD_CHECK(syscall(SYS_set_robust_list, &head, sizeof head) == 0);
    CHILD_CHECK(syscall(SYS_futex, &node->word, FUTEX_LOCK_PI, 0, nullptr, nullptr, 0) == 0);
  });
  ASSERT_EQ(Exited(0), child.Wait());
  EXPECT_EQ(static_cast<uint32_t>(FUTEX_OWNER_DIED), node->word & (FUTEX_OWNER_DIED | FUTEX_TID_MASK));
  EXPECT_OK(syscall(SYS_futex, &node->word, FUTEX_LOCK_PI, 0, nullptr, nullptr, 0));
  EXPECT_EQ(Self() | FUTEX_OWNER_DIED, node->word.load());
  munmap(node, 4096);
}

TEST(FutexPi, RobustPthreadMutex) {
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_t mutex;
  ASSERT_EQ(0, pthread_mutex_init(&mutex, &attr));
  std::thread([&] { pthread_mutex_lock(&mutex); }).join();
  EXPECT_EQ(EOWNERDEAD, pthread_mutex_lock(&mutex));
  EXPECT_EQ(0, pthread_mutex_consistent(&mutex));
  EXPECT_EQ(0, pthread_mutex_unlock(&mutex));
  EXPECT_EQ(0, pthread_mutex_lock(&mutex));
  EXPECT_EQ(0, pthread_mutex_unlock(&mutex));
}

TEST(FutexPi, RequeueGivesTheLockOrAPlace) {
  constexpr int kWaiters = 3;
  Word condition{7}, lock{0};
  std::atomic<int> tids[kWaiters] = {}, got{0};
  std::vector<std::thread> waiters;
  for (int i = 0; i < kWaiters; ++i) {
    waiters.emplace_back([&, i] {
      tids[i] = gettid();
      EXPECT_OK(Futex(&condition, FUTEX_WAIT_REQUEUE_PI, 7, nullptr, &lock));
      EXPECT_EQ(Self(), Owner(lock));
      ++got;
      EXPECT_OK(Futex(&lock, FUTEX_UNLOCK_PI, 0));
    });
    while (!tids[i]) sched_yield();
    AwaitSleep(tids[i]);
  }
  EXPECT_FAILS(EINVAL, Futex(&condition, FUTEX_WAKE, 1)) << "only a requeue wakes them";
  // The lock is free: the first gets it, the others queue for it.
  EXPECT_EQ(kWaiters, RequeuePi(&condition, 1, 100, &lock, 7));
  for (std::thread& each : waiters) each.join();
  EXPECT_EQ(kWaiters, got);
  EXPECT_EQ(0u, Owner(lock));
}

TEST(FutexPi, RequeueOntoAHeldLock) {
  Word condition{7}, lock{0}, other{0};
  std::atomic<int> tid{0};
  ASSERT_OK(Futex(&lock, FUTEX_LOCK_PI, 0));
  std::thread waiter([&] {
    tid = gettid();
    EXPECT_OK(Futex(&condition, FUTEX_WAIT_REQUEUE_PI, 7, nullptr, &lock));
    EXPECT_EQ(Self(), Owner(lock));
    EXPECT_OK(Futex(&lock, FUTEX_UNLOCK_PI, 0));
  });
  while (!tid) sched_yield();
  AwaitSleep(tid);
  EXPECT_FAILS(EINVAL, RequeuePi(&condition, 1, 0, &other, 7)) << "it waits for another lock";
  EXPECT_EQ(1, RequeuePi(&condition, 1, 0, &lock, 7));
  EXPECT_TRUE(lock & FUTEX_WAITERS);
  EXPECT_OK(Futex(&lock, FUTEX_UNLOCK_PI, 0));
  waiter.join();
}

TEST(FutexPi, RequeueWaitersTimeOut) {
  Word condition{7}, lock{0};
  timespec t = In(CLOCK_MONOTONIC, 20);
  EXPECT_FAILS(ETIMEDOUT, Futex(&condition, FUTEX_WAIT_REQUEUE_PI, 7, &t, &lock));
  ASSERT_OK(Futex(&lock, FUTEX_LOCK_PI, 0));
  std::atomic<int> tid{0};
  std::thread waiter([&] {
    timespec limit = In(CLOCK_MONOTONIC, 300);
    tid = gettid();
    EXPECT_FAILS(ETIMEDOUT, Futex(&condition, FUTEX_WAIT_REQUEUE_PI, 7, &limit, &lock));
  });
  while (!tid) sched_yield();
  AwaitSleep(tid);
  long moved = RequeuePi(&condition, 1, 0, &lock, 7);
  EXPECT_TRUE(moved == 1 || moved == 0) << moved;
  waiter.join();
  EXPECT_OK(Futex(&lock, FUTEX_UNLOCK_PI, 0));
}

TEST(FutexPi, PlainWaitersCannotBeRequeued) {
  Word condition{7}, lock{0};
  std::atomic<int> tid{0};
  std::thread waiter([&] {
    tid = gettid();
    EXPECT_OK(Futex(&condition, FUTEX_WAIT, 7));
  });
  while (!tid) sched_yield();
  AwaitSleep(tid);
  EXPECT_FAILS(EINVAL, RequeuePi(&condition, 1, 1, &lock, 7));
  while (Futex(&condition, FUTEX_WAKE, 1) == 0) sched_yield();
  waiter.join();
}

struct Waitv {
  uint64_t value, address;
  uint32_t flags, reserved;
};
long Waitv(void* list, unsigned n, unsigned flags, timespec* timeout, int clock) {
  return syscall(449, list, n, flags, timeout, clock);
}

TEST(FutexWaitv, BadArguments) {
  Word w{1};
  struct Waitv one = {2, reinterpret_cast<uint64_t>(&w), 2 | FUTEX_PRIVATE_FLAG, 0};
  if (Waitv(&one, 1, 0, nullptr, 0) == -1 && errno == ENOSYS) GTEST_SKIP() << "a kernel before 5.16";
  EXPECT_FAILS(EAGAIN, Waitv(&one, 1, 0, nullptr, 0));
  EXPECT_FAILS(EINVAL, Waitv(&one, 1, 1, nullptr, 0));
  EXPECT_FAILS(EINVAL, Waitv(&one, 0, 0, nullptr, 0));
  EXPECT_FAILS(EINVAL, Waitv(&one, 129, 0, nullptr, 0));
  EXPECT_FAILS(EINVAL, Waitv(nullptr, 1, 0, nullptr, 0));
  EXPECT_FAILS(EFAULT, Waitv(reinterpret_cast<void*>(8), 1, 0, nullptr, 0));
  timespec t = In(CLOCK_MONOTONIC, 20);
  EXPECT_FAILS(EINVAL, Waitv(&one, 1, 0, &t, CLOCK_BOOTTIME));
  EXPECT_FAILS(EFAULT, Waitv(&one, 1, 0, reinterpret_cast<timespec*>(8), CLOCK_MONOTONIC));
  struct Waitv bad = one;
  bad.flags = 0;
  EXPECT_FAILS(EINVAL, Waitv(&bad, 1, 0, nullptr, 0));
  bad = one, bad.reserved = 1;
  EXPECT_FAILS(EINVAL, Waitv(&bad, 1, 0, nullptr, 0));
  bad = one, bad.address += 1;
  EXPECT_FAILS(EINVAL, Waitv(&bad, 1, 0, nullptr, 0));
  bad = one, bad.address = 8;
  EXPECT_FAILS(EFAULT, Waitv(&bad, 1, 0, nullptr, 0));
  one.value = 1;
  EXPECT_FAILS(ETIMEDOUT, Waitv(&one, 1, 0, &t, CLOCK_MONOTONIC));
  t = In(CLOCK_REALTIME, 20);
  EXPECT_FAILS(ETIMEDOUT, Waitv(&one, 1, 0, &t, CLOCK_REALTIME));
}

TEST(FutexWakeOp, EveryOperationAndComparison) {
  Word w{0}, w2{0};
  auto apply = [&](int op, int argument, uint32_t before) {
    w2 = before;
    EXPECT_EQ(0, syscall(SYS_futex, &w, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, 1, &w2,
                         FUTEX_OP(op, argument, FUTEX_OP_CMP_EQ, 0)));
    return w2.load();
  };
  EXPECT_EQ(5u, apply(FUTEX_OP_SET, 5, 9));
  EXPECT_EQ(8u, apply(FUTEX_OP_ADD, -1, 9));
  EXPECT_EQ(13u, apply(FUTEX_OP_OR, 5, 9));
  EXPECT_EQ(8u, apply(FUTEX_OP_ANDN, 5, 9));
  EXPECT_EQ(12u, apply(FUTEX_OP_XOR, 5, 9));
  EXPECT_EQ(0x10000u | 1, apply(FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 16, 1));
  for (int op : {5, 7}) {
    EXPECT_FAILS(ENOSYS, syscall(SYS_futex, &w, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, 1, &w2,
                                 FUTEX_OP(op, 0, FUTEX_OP_CMP_EQ, 0)));
  }
}

}  // namespace
