// SPDX-License-Identifier: Apache-2.0
// futex(2) operations, robust lists and clear_child_tid. A waker that has to meet a waiter repeats its wake until it
// is counted, so no test depends on who comes first.
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

namespace {

using Word = std::atomic<uint32_t>;

long Futex(Word* w, int op, uint32_t val, const timespec* timeout = nullptr, Word* w2 = nullptr, uint32_t val3 = 0) {
  return syscall(SYS_futex, w, op, val, timeout, w2, val3);
}
// The timeout argument is a count for the requeue family.
long Requeue(Word* w, int op, uint32_t wake, uintptr_t move, Word* w2, uint32_t val3 = 0) {
  return syscall(SYS_futex, w, op, wake, move, w2, val3);
}

constexpr timespec kLimit = {20, 0};

timespec In(clockid_t clock, long seconds) {
  timespec t;
  clock_gettime(clock, &t);
  t.tv_sec += seconds;
  return t;
}

// Wakes until `want` waiters in all were woken; false when that takes over 20 s.
bool WakeAll(Word* w, int op, int want, uint32_t bits = 0) {
  timespec end = In(CLOCK_MONOTONIC, 20), now;
  do {
    want -= Futex(w, op, want, nullptr, nullptr, bits);
    if (want == 0) return true;
    sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec < end.tv_sec);
  return false;
}

Word* SharedWord() {
  return static_cast<Word*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

TEST(Futex, WaitReturnsEAGAINOnAnotherValue) {
  Word w{1};
  EXPECT_FAILS(EAGAIN, Futex(&w, FUTEX_WAIT_PRIVATE, 0, &kLimit));
}

TEST(Futex, WakeWithoutWaitersIsZero) {
  Word w{0};
  EXPECT_EQ(0, Futex(&w, FUTEX_WAKE_PRIVATE, 1));
}

TEST(Futex, RelativeTimeout) {
  Word w{0};
  timespec t = {0, 1000000};
  EXPECT_FAILS(ETIMEDOUT, Futex(&w, FUTEX_WAIT_PRIVATE, 0, &t));
  t = {0, 0};
  EXPECT_FAILS(ETIMEDOUT, Futex(&w, FUTEX_WAIT, 0, &t));
}

TEST(Futex, BitsetTimeoutIsAbsolute) {
  Word w{0};
  timespec past = {1, 0};
  EXPECT_FAILS(ETIMEDOUT, Futex(&w, FUTEX_WAIT_BITSET_PRIVATE, 0, &past, nullptr, FUTEX_BITSET_MATCH_ANY));
  EXPECT_FAILS(ETIMEDOUT, Futex(&w, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &past, nullptr, 1));
}

TEST(Futex, InvalidArguments) {
  Word w{0};
  auto* odd = reinterpret_cast<Word*>(reinterpret_cast<uintptr_t>(&w) + 1);
  EXPECT_FAILS(EINVAL, Futex(odd, FUTEX_WAIT, 0, &kLimit));
  EXPECT_FAILS(ENOSYS, Futex(&w, 100, 0));
  timespec bad = {0, 1000000000};
  EXPECT_FAILS(EINVAL, Futex(&w, FUTEX_WAIT, 0, &bad));
  EXPECT_FAILS(EINVAL, Futex(&w, FUTEX_WAIT_BITSET, 0, nullptr, nullptr, 0));
  EXPECT_FAILS(EINVAL, Futex(&w, FUTEX_WAKE_BITSET, 1, nullptr, nullptr, 0));
  EXPECT_FAILS(EFAULT, Futex(reinterpret_cast<Word*>(8), FUTEX_WAIT, 0, &kLimit));
  EXPECT_FAILS(EFAULT, Futex(reinterpret_cast<Word*>(8), FUTEX_WAKE, 1));
}

TEST(Futex, WakeReleasesAWaiter) {
  for (int flag : {0, FUTEX_PRIVATE_FLAG}) {
    Word w{0};
    long ret = -1;
    std::thread t([&] { ret = Futex(&w, FUTEX_WAIT | flag, 0, &kLimit); });
    EXPECT_TRUE(WakeAll(&w, FUTEX_WAKE | flag, 1));
    t.join();
    EXPECT_EQ(0, ret);
  }
}

TEST(Futex, WakeIsLimitedByItsCount) {
  Word w{0}, released{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      if (Futex(&w, FUTEX_WAIT_PRIVATE, 0, &kLimit) == 0) ++released;
    });
  EXPECT_TRUE(WakeAll(&w, FUTEX_WAKE_PRIVATE, 1));
  EXPECT_TRUE(WakeAll(&w, FUTEX_WAKE_PRIVATE, 3));
  for (auto& t : threads) t.join();
  EXPECT_EQ(4u, released);
}

TEST(Futex, BitsetSelectsWaiters) {
  Word w{0};
  Word first{0}, second{0};
  std::thread a([&] { first = Futex(&w, FUTEX_WAIT_BITSET_PRIVATE, 0, nullptr, nullptr, 1) == 0; });
  std::thread b([&] { second = Futex(&w, FUTEX_WAIT_BITSET_PRIVATE, 0, nullptr, nullptr, 2) == 0; });
  EXPECT_EQ(0, Futex(&w, FUTEX_WAKE_BITSET_PRIVATE, 9, nullptr, nullptr, 4));
  EXPECT_TRUE(WakeAll(&w, FUTEX_WAKE_BITSET_PRIVATE, 1, 2));
  b.join();
  EXPECT_EQ(1u, second);
  EXPECT_EQ(0u, first);
  EXPECT_TRUE(WakeAll(&w, FUTEX_WAKE_BITSET_PRIVATE, 1, 1));
  a.join();
  EXPECT_EQ(1u, first);
}

TEST(Futex, PrivateAndSharedKeysOfAnonymousMemoryDiffer) {
  Word w{0};
  std::thread t([&] { Futex(&w, FUTEX_WAIT_PRIVATE, 0, &kLimit); });
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(0, Futex(&w, FUTEX_WAKE, 1));
    sched_yield();
  }
  EXPECT_TRUE(WakeAll(&w, FUTEX_WAKE_PRIVATE, 1));
  t.join();
}

TEST(Futex, RequeueMovesWaiters) {
  Word a{0}, b{0};
  long ret = -1;
  std::thread t([&] { ret = Futex(&a, FUTEX_WAIT_PRIVATE, 0, &kLimit); });
  timespec end = In(CLOCK_MONOTONIC, 20), now;
  long moved;
  do {
    moved = Requeue(&a, FUTEX_REQUEUE_PRIVATE, 0, 1, &b);
    sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (moved == 0 && now.tv_sec < end.tv_sec);
  EXPECT_EQ(1, moved);
  EXPECT_EQ(0, Futex(&a, FUTEX_WAKE_PRIVATE, 1));
  EXPECT_EQ(1, Futex(&b, FUTEX_WAKE_PRIVATE, 1));
  t.join();
  EXPECT_EQ(0, ret);
}

TEST(Futex, CmpRequeueChecksTheValue) {
  Word a{5}, b{0};
  EXPECT_FAILS(EAGAIN, Requeue(&a, FUTEX_CMP_REQUEUE_PRIVATE, 1, 1, &b, 4));
  EXPECT_EQ(0, Requeue(&a, FUTEX_CMP_REQUEUE_PRIVATE, 1, 1, &b, 5));
}

TEST(Futex, WakeOpChangesTheSecondWord) {
  Word a{0}, b{10};
  EXPECT_EQ(0, Requeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &b, FUTEX_OP(FUTEX_OP_ADD, 7, FUTEX_OP_CMP_EQ, 10)));
  EXPECT_EQ(17u, b);
  EXPECT_EQ(0, Requeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &b, FUTEX_OP(FUTEX_OP_SET, 3, FUTEX_OP_CMP_GT, 99)));
  EXPECT_EQ(3u, b);
  EXPECT_EQ(0, Requeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &b, FUTEX_OP(FUTEX_OP_OR, 12, FUTEX_OP_CMP_EQ, 0)));
  EXPECT_EQ(15u, b);
  EXPECT_EQ(0, Requeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &b, FUTEX_OP(FUTEX_OP_ANDN, 3, FUTEX_OP_CMP_EQ, 0)));
  EXPECT_EQ(12u, b);
  EXPECT_EQ(0, Requeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &b, FUTEX_OP(FUTEX_OP_XOR, 4, FUTEX_OP_CMP_EQ, 0)));
  EXPECT_EQ(8u, b);
  // The shift form takes the bit number as its operand.
  EXPECT_EQ(0, Requeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &b,
                       FUTEX_OP(FUTEX_OP_SET | FUTEX_OP_OPARG_SHIFT, 6, FUTEX_OP_CMP_EQ, 0)));
  EXPECT_EQ(64u, b);
}

TEST(Futex, WakeOpWakesTheSecondOnlyWhenTheComparisonHolds) {
  Word a{0}, b{0};
  std::thread t([&] { Futex(&b, FUTEX_WAIT_PRIVATE, 0, &kLimit); });
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(0, Requeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &b, FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_NE, 0)));
  }
  timespec end = In(CLOCK_MONOTONIC, 20), now;
  long woken;
  do {
    woken = Requeue(&a, FUTEX_WAKE_OP_PRIVATE, 1, 1, &b, FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0));
    sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (woken == 0 && now.tv_sec < end.tv_sec);
  EXPECT_EQ(1, woken);
  t.join();
}

TEST(Futex, SharedAcrossProcessesInAnonymousMemory) {
  Word* w = SharedWord();
  Child child([&] { CHILD_CHECK(Futex(w, FUTEX_WAIT, 0, &kLimit) == 0); });
  EXPECT_TRUE(WakeAll(w, FUTEX_WAKE, 1));
  EXPECT_EQ(Exited(0), child.Wait());
  munmap(w, 4096);
}

TEST(Futex, SharedAcrossMappingsOfOneFile) {
  Fd fd(memfd_create("futex", MFD_CLOEXEC));
  ASSERT_OK(ftruncate(fd.get(), 4096));
  auto map = [&] { return static_cast<Word*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0)); };
  Word *a = map(), *b = map();
  ASSERT_NE(a, b);
  std::thread t([&] { Futex(a + 3, FUTEX_WAIT, 0, &kLimit); });
  EXPECT_TRUE(WakeAll(b + 3, FUTEX_WAKE, 1));
  t.join();
  munmap(a, 4096);
  munmap(b, 4096);
}

TEST(Futex, PrivateMemoryIsApartAfterFork) {
  Word* w = static_cast<Word*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  *w = 0;
  Child child([&] {
    timespec t = {0, 50000000};
    CHILD_CHECK(Futex(w, FUTEX_WAIT, 0, &t) == -1 && errno == ETIMEDOUT);
  });
  siginfo_t info = {};
  do {
    EXPECT_EQ(0, Futex(w, FUTEX_WAKE, 10));
    sched_yield();
    info.si_pid = 0;
    ASSERT_OK(waitid(P_PID, child.pid(), &info, WEXITED | WNOHANG | WNOWAIT));
  } while (info.si_pid == 0);
  EXPECT_EQ(Exited(0), child.Wait());
  munmap(w, 4096);
}

TEST(Futex, PriorityInheritanceLock) {
  Word w{0};
  ASSERT_OK(Futex(&w, FUTEX_LOCK_PI_PRIVATE, 0));
  EXPECT_EQ(static_cast<uint32_t>(gettid()), w & FUTEX_TID_MASK);
  EXPECT_FAILS(EDEADLK, Futex(&w, FUTEX_LOCK_PI_PRIVATE, 0));
  std::thread([&] { EXPECT_FAILS(EAGAIN, Futex(&w, FUTEX_TRYLOCK_PI_PRIVATE, 0)); }).join();
  std::thread waiter([&] {
    EXPECT_OK(Futex(&w, FUTEX_LOCK_PI_PRIVATE, 0));
    EXPECT_EQ(static_cast<uint32_t>(gettid()), w & FUTEX_TID_MASK);
    EXPECT_OK(Futex(&w, FUTEX_UNLOCK_PI_PRIVATE, 0));
  });
  while (!(w & FUTEX_WAITERS)) sched_yield();
  EXPECT_OK(Futex(&w, FUTEX_UNLOCK_PI_PRIVATE, 0));
  waiter.join();
  EXPECT_EQ(0u, w & FUTEX_TID_MASK);
  EXPECT_FAILS(EPERM, Futex(&w, FUTEX_UNLOCK_PI_PRIVATE, 0));
}

TEST(ClearChildTid, IsZeroedAndWokenAtExit) {
  // Only done when the memory has another user, hence CLONE_VM.
  static char stack[64 << 10] __attribute__((aligned(16)));
  static Word tid{1};
  tid = 1;
  pid_t pid = clone([](void*) { return 0; }, stack + sizeof stack, CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, nullptr,
                    nullptr, nullptr, &tid);
  ASSERT_GT(pid, 0);
  // The wake is on the shared key.
  while (tid == 1) Futex(&tid, FUTEX_WAIT, 1);
  EXPECT_EQ(0u, tid);
  EXPECT_EQ(Exited(0), WaitStatus(pid));
}

TEST(RobustList, OwnerDeathIsMarkedAndWakes) {
  struct Node {
    robust_list list;
    Word word;
  };
  auto* node = reinterpret_cast<Node*>(SharedWord());
  Child child([&] {
    static robust_list_head head;
    head.list.next = &node->list;
    head.futex_offset = offsetof(Node, word);
    head.list_op_pending = nullptr;
    node->list.next = &head.list;
    node->word = gettid() | FUTEX_WAITERS;
    CHILD_CHECK(syscall(SYS_set_robust_list, &head, sizeof head) == 0);
  });
  ASSERT_EQ(Exited(0), child.Wait());
  EXPECT_EQ(static_cast<uint32_t>(FUTEX_OWNER_DIED), node->word & (FUTEX_OWNER_DIED | FUTEX_TID_MASK));
  munmap(node, 4096);
}

TEST(RobustList, GetReturnsWhatWasSet) {
  robust_list_head *head = nullptr, *again = nullptr;
  size_t len = 0;
  ASSERT_OK(syscall(SYS_get_robust_list, 0, &head, &len));
  EXPECT_EQ(sizeof(robust_list_head), len);
  ASSERT_OK(syscall(SYS_get_robust_list, gettid(), &again, &len));
  EXPECT_EQ(head, again);
  EXPECT_FAILS(EINVAL, syscall(SYS_set_robust_list, head, 1));
}

}  // namespace
