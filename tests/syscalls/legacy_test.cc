// SPDX-License-Identifier: Apache-2.0
// Calls with little to say: ustat(2), sysfs(2), quotactl(2), modify_ldt(2), lsm_*(2); and the futex2 calls
// futex_wake(2), futex_wait(2), futex_requeue(2).
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/quota.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/syscalls/util.h"

namespace {

constexpr long kQuotactlFd = 443, kFutexWake = 454, kFutexWait = 455, kFutexRequeue = 456, kLsmGet = 459, kLsmSet = 460,
               kLsmList = 461;
constexpr unsigned kU32 = 2, kPrivate = FUTEX_PRIVATE_FLAG;

bool Lacks(long call) { return syscall(call, ~0ul, ~0ul, ~0ul, ~0ul) == -1 && errno == ENOSYS; }

TEST(Ustat, OfAMount) {
  struct stat st;
  ASSERT_OK(stat("/proc", &st));
  char room[64];
  memset(room, 0x55, sizeof room);
  ASSERT_OK(syscall(SYS_ustat, static_cast<unsigned>(st.st_dev), room));
  EXPECT_EQ(room[20], 0);  // f_fname
  EXPECT_FAILS(EFAULT, syscall(SYS_ustat, static_cast<unsigned>(st.st_dev), 8));
  EXPECT_FAILS(EINVAL, syscall(SYS_ustat, 0, room));
  EXPECT_FAILS(EINVAL, syscall(SYS_ustat, ~0u, room));
}

TEST(Sysfs, NamesFilesystems) {
  long count = syscall(SYS_sysfs, 3);
  ASSERT_GT(count, 0);
  long index = syscall(SYS_sysfs, 1, "proc");
  ASSERT_GE(index, 0);
  ASSERT_LT(index, count);
  char name[64];
  ASSERT_OK(syscall(SYS_sysfs, 2, index, name));
  EXPECT_STREQ(name, "proc");
  EXPECT_FAILS(EINVAL, syscall(SYS_sysfs, 1, "nosuchfs"));
  EXPECT_FAILS(EINVAL, syscall(SYS_sysfs, 2, count, name));
  EXPECT_FAILS(EFAULT, syscall(SYS_sysfs, 1, 8));
  EXPECT_FAILS(EFAULT, syscall(SYS_sysfs, 2, 0, 8));
  EXPECT_FAILS(EINVAL, syscall(SYS_sysfs, 0));
  EXPECT_FAILS(EINVAL, syscall(SYS_sysfs, 4));
}

TEST(Quotactl, WithoutQuotas) {
  if (syscall(SYS_quotactl, QCMD(Q_SYNC, USRQUOTA), nullptr, 0, nullptr) == -1 && errno == ENOSYS)
    GTEST_SKIP() << "CONFIG_QUOTA is off";
  char quota[128] = {};  // room for struct dqblk
  EXPECT_FAILS(EINVAL, syscall(SYS_quotactl, QCMD(Q_GETQUOTA, 3), "/dev/null", 0, quota));
  EXPECT_FAILS(ENODEV, syscall(SYS_quotactl, QCMD(Q_GETQUOTA, USRQUOTA), nullptr, 0, quota));
  EXPECT_FAILS(ENOTBLK, syscall(SYS_quotactl, QCMD(Q_GETQUOTA, USRQUOTA), "/dev/null", 0, quota));
  EXPECT_FAILS(ENOTBLK, syscall(SYS_quotactl, QCMD(Q_GETQUOTA, USRQUOTA), "/", 0, quota));
  EXPECT_FAILS(ENOENT, syscall(SYS_quotactl, QCMD(Q_GETQUOTA, USRQUOTA), "/no/such", 0, quota));
  EXPECT_FAILS(EFAULT, syscall(SYS_quotactl, QCMD(Q_GETQUOTA, USRQUOTA), 8, 0, quota));
  Fd proc(open("/proc", O_RDONLY));
  EXPECT_FAILS(EBADF, syscall(kQuotactlFd, -1, QCMD(Q_GETQUOTA, USRQUOTA), 0, quota));
  EXPECT_FAILS(EINVAL, syscall(kQuotactlFd, proc.get(), QCMD(Q_GETQUOTA, 3), 0, quota));
  EXPECT_FAILS(ENOSYS, syscall(kQuotactlFd, proc.get(), QCMD(Q_GETQUOTA, USRQUOTA), 0, quota));
}

TEST(ModifyLdt, EmptyTable) {
  char room[256];
  long n = syscall(SYS_modify_ldt, 0, room, sizeof room);
  if (n == -1 && errno == ENOSYS) GTEST_SKIP() << "CONFIG_MODIFY_LDT_SYSCALL is off";
  EXPECT_EQ(n, 0);
  memset(room, 1, sizeof room);
  EXPECT_EQ(syscall(SYS_modify_ldt, 2, room, sizeof room), 128);
  EXPECT_EQ(room[0], 0);
  EXPECT_EQ(room[127], 0);
  EXPECT_EQ(room[128], 1);
  EXPECT_EQ(syscall(SYS_modify_ldt, 2, room, 7), 7);
  // Errors are 32 bits wide, and no errors to the C library.
  EXPECT_EQ(syscall(SYS_modify_ldt, 2, 8, 7), uint32_t(-EFAULT));
  EXPECT_EQ(syscall(SYS_modify_ldt, 99, room, sizeof room), uint32_t(-ENOSYS));
}

TEST(Lsm, Attributes) {
  if (Lacks(kLsmList)) GTEST_SKIP() << "Linux before 6.8, or without CONFIG_SECURITY";
  uint64_t ids[32] = {};
  uint32_t size = sizeof ids;
  long count = syscall(kLsmList, ids, &size, 0);
  ASSERT_GE(count, 1);
  EXPECT_NE(std::find(ids, ids + count, 100u), ids + count);  // LSM_ID_CAPABILITY
  EXPECT_EQ(size, count * 8u);
  size = 0;
  EXPECT_FAILS(E2BIG, syscall(kLsmList, ids, &size, 0));
  EXPECT_EQ(size, count * 8u);
  EXPECT_FAILS(EINVAL, syscall(kLsmList, ids, &size, 1));
  EXPECT_FAILS(EFAULT, syscall(kLsmList, ids, 8, 0));
  EXPECT_FAILS(EFAULT, syscall(kLsmList, 8, &size, 0));
  char room[256];
  size = sizeof room;
  EXPECT_FAILS(EINVAL, syscall(kLsmGet, 0, room, &size, 0));
  EXPECT_FAILS(EINVAL, syscall(kLsmGet, 100, room, nullptr, 0));
  EXPECT_FAILS(EFAULT, syscall(kLsmGet, 100, room, 8, 0));
  EXPECT_FAILS(EINVAL, syscall(kLsmGet, 100, room, &size, 0x100));
  EXPECT_FAILS(EINVAL, syscall(kLsmSet, 100, room, 8, 0));
  EXPECT_FAILS(EINVAL, syscall(kLsmSet, 100, room, sizeof room, 1));
  EXPECT_FAILS(E2BIG, syscall(kLsmSet, 100, room, 5000, 0));
  EXPECT_FAILS(EFAULT, syscall(kLsmSet, 100, 8, sizeof room, 0));
}

TEST(Futex2, BadArguments) {
  if (Lacks(kFutexWake)) GTEST_SKIP() << "Linux before 6.7";
  uint32_t word = 0;
  EXPECT_FAILS(EINVAL, syscall(kFutexWake, &word, ~0u, 1, 0));  // 8 bits
  EXPECT_FAILS(EINVAL, syscall(kFutexWake, &word, ~0u, 1, kU32 | 0x100));
  EXPECT_FAILS(EINVAL, syscall(kFutexWake, &word, 1ul << 32, 1, kU32));
  EXPECT_FAILS(EINVAL, syscall(kFutexWake, &word, 0, 1, kU32));
  EXPECT_FAILS(EINVAL, syscall(kFutexWake, reinterpret_cast<char*>(&word) + 1, ~0u, 1, kU32));
  EXPECT_OK(syscall(kFutexWake, &word, ~0u, 0, kU32));
  EXPECT_FAILS(EINVAL, syscall(kFutexWait, &word, 1ul << 32, ~0u, kU32, nullptr, 0));
  EXPECT_FAILS(EINVAL, syscall(kFutexWait, &word, 0, 0, kU32, nullptr, 0));
  EXPECT_FAILS(EAGAIN, syscall(kFutexWait, &word, 1, ~0u, kU32 | kPrivate, nullptr, 0));
  EXPECT_FAILS(EFAULT, syscall(kFutexWait, 8, 1, ~0u, kU32 | kPrivate, nullptr, 0));
  timespec past = {1, 0}, bad = {0, -1};
  EXPECT_FAILS(ETIMEDOUT, syscall(kFutexWait, &word, 0, ~0u, kU32, &past, CLOCK_MONOTONIC));
  EXPECT_FAILS(ETIMEDOUT, syscall(kFutexWait, &word, 0, ~0u, kU32, &past, CLOCK_REALTIME));
  EXPECT_FAILS(EINVAL, syscall(kFutexWait, &word, 0, ~0u, kU32, &past, CLOCK_BOOTTIME));
  EXPECT_FAILS(EINVAL, syscall(kFutexWait, &word, 0, ~0u, kU32, &bad, CLOCK_MONOTONIC));
  EXPECT_FAILS(EFAULT, syscall(kFutexWait, &word, 0, ~0u, kU32, 8, CLOCK_MONOTONIC));
  EXPECT_FAILS(EINVAL, syscall(kFutexRequeue, nullptr, 0, 1, 1));
  EXPECT_FAILS(EFAULT, syscall(kFutexRequeue, 8, 0, 1, 1));
}

struct Waitv {
  uint64_t value, address;
  uint32_t flags, reserved;
};

TEST(Futex2, WakeByMaskAndRequeue) {
  if (Lacks(kFutexWake)) GTEST_SKIP() << "Linux before 6.7";
  alignas(4) static std::atomic<uint32_t> from{0}, to{0};
  std::atomic<bool> woken{false};
  std::thread waiter([&] {
    long r;
    do {
      r = syscall(kFutexWait, &from, 0, 2u, kU32 | kPrivate, nullptr, 0);
    } while (r == -1 && errno == EINTR);
    woken = r == 0;
  });
  Waitv pair[2] = {{0, reinterpret_cast<uint64_t>(&from), kU32 | kPrivate, 0},
                   {0, reinterpret_cast<uint64_t>(&to), kU32 | kPrivate, 0}};
  pair[0].value = 1;
  EXPECT_FAILS(EAGAIN, syscall(kFutexRequeue, pair, 0, 0, 1));
  EXPECT_FAILS(EINVAL, syscall(kFutexRequeue, pair, 1, 0, 1));
  EXPECT_FAILS(EINVAL, syscall(kFutexRequeue, pair, 0, -1, 1));
  pair[0].value = 0;
  // Until it sleeps.
  long moved = 0;
  for (int i = 0; i < 20000 && moved == 0; ++i) {
    moved = syscall(kFutexRequeue, pair, 0, 0, 1);
    if (moved == 0) usleep(500);
  }
  EXPECT_EQ(moved, 1);
  EXPECT_EQ(syscall(kFutexWake, &from, ~0u, 1, kU32 | kPrivate), 0);
  EXPECT_EQ(syscall(kFutexWake, &to, 1u, 1, kU32 | kPrivate), 0);  // not its mask
  EXPECT_EQ(syscall(kFutexWake, &to, 2u, 1, kU32 | kPrivate), 1);
  waiter.join();
  EXPECT_TRUE(woken);
}

TEST(Futex2, BetweenProcesses) {
  if (Lacks(kFutexWake)) GTEST_SKIP() << "Linux before 6.7";
  auto* word = static_cast<uint32_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  Child child([&] {
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == 0) syscall(kFutexWait, word, 0, ~0u, kU32, nullptr, 0);
  });
  long woken = 0;
  for (int i = 0; i < 20000 && woken == 0; ++i) {
    woken = syscall(kFutexWake, word, ~0u, 1, kU32);
    if (woken == 0) usleep(500);
  }
  EXPECT_EQ(woken, 1);
  __atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
  syscall(kFutexWake, word, ~0u, 1, kU32);
  EXPECT_EQ(child.Wait(), Exited(0));
  munmap(word, 4096);
}

}  // namespace
