// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/futex.h"

#include <linux/futex.h>

#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace sentry::kernel {
namespace {

class FakeMemory final : public FutexMemory {
 public:
  Result<uint32_t> Load(UserAddr a) override {
    if (on_load) std::exchange(on_load, nullptr)();
    return At(a) ? Result<uint32_t>(At(a)->load()) : Errno(EFAULT);
  }
  Result<uint32_t> CompareExchange(UserAddr a, uint32_t expected, uint32_t desired) override {
    if (!At(a)) return Errno(EFAULT);
    At(a)->compare_exchange_strong(expected, desired);
    return expected;
  }
  Result<mm::FutexKey> Key(UserAddr a, bool) override {
    if (a.value() % 4) return Errno(EINVAL);
    if (!At(a)) return Errno(EFAULT);
    return mm::FutexKey{this, a.value()};
  }
  std::atomic<uint32_t>* At(UserAddr a) { return a.value() / 4 < 64 ? &words[a.value() / 4] : nullptr; }
  std::atomic<uint32_t> words[64] = {};
  std::function<void()> on_load;
};

// A caller that can only block; `waiting` tells the test that it is about to.
class FakeCaller final : public Caller {
 public:
  const RefPtr<const Credentials>& creds() const override { return creds_; }
  Blocker& blocker() override { return blocker_; }
  Result<void> Block(int64_t deadline_ns) override {
    waiting.Wake();
    if (interrupt) return base::kErestartsys;
    if (!blocker_.Wait(deadline_ns)) return Errno(ETIMEDOUT);
    return interrupt ? Result<void>(base::kErestartsys) : OkResult();
  }
  Result<void> BlockKillable(int64_t deadline_ns) override { return Block(deadline_ns); }
  Result<void> CopyInBytes(UserAddr, void*, size_t) override { return Errno(EFAULT); }
  Result<void> CopyOutBytes(UserAddr, const void*, size_t) override { return Errno(EFAULT); }
  Result<std::string> CopyInString(UserAddr, size_t) override { return Errno(EFAULT); }
  uint64_t SoftLimit(int) const override { return 0; }
  pid_t CallerTgid() const override { return 1; }
  pid_t CallerTid() const override { return 1; }
  const void* LockOwner() const override { return this; }
  void RaiseSelf(int) override {}
  mode_t umask() const override { return 0; }
  ~FakeCaller() override = default;

  Blocker waiting;
  std::atomic<bool> interrupt{false};

 private:
  Blocker blocker_;
  RefPtr<const Credentials> creds_;
};

constexpr UserAddr kA{16}, kB{32};
int64_t Patience() { return base::MonotonicNs() + 30 * base::kNsPerSecond; }

struct FutexTest : testing::Test {
  // Starts a thread that waits, and returns once it is about to sleep.
  void StartWaiter(UserAddr address, uint32_t bitset = ~0u) {
    callers.push_back(std::make_unique<FakeCaller>());
    FakeCaller& caller = *callers.back();
    threads.emplace_back([this, &caller, address, bitset] {
      Result<void> r =
          table.Wait(caller, memory, {.address = address, .value = memory.At(address)->load()}, bitset, Patience());
      EXPECT_TRUE(r.ok()) << r.error_number();
    });
    ASSERT_TRUE(caller.waiting.Wait(Patience()));
  }
  ~FutexTest() override {
    for (auto& thread : threads) thread.join();
  }
  FutexTable table;
  FakeMemory memory;
  std::vector<std::unique_ptr<FakeCaller>> callers;
  std::vector<std::thread> threads;
};

TEST_F(FutexTest, ValueMismatchAndBadAddresses) {
  FakeCaller caller;
  EXPECT_EQ(table.Wait(caller, memory, {.address = kA, .value = 1}, ~0u, Patience()).error_number(), EAGAIN);
  EXPECT_EQ(table.Wait(caller, memory, {.address = UserAddr(17)}, ~0u, Patience()).error_number(), EINVAL);
  EXPECT_EQ(table.Wake(memory, UserAddr(4096), false, 1).error_number(), EFAULT);
}

TEST_F(FutexTest, TimeoutAndInterrupt) {
  FakeCaller caller;
  EXPECT_EQ(table.Wait(caller, memory, {.address = kA}, ~0u, base::MonotonicNs()).error_number(), ETIMEDOUT);
  caller.interrupt = true;
  EXPECT_EQ(table.Wait(caller, memory, {.address = kA}, ~0u, Patience()).error(), base::kErestartsys);
  EXPECT_EQ(table.Wake(memory, kA, false, 100).value(), 0);  // neither left itself behind
}

TEST_F(FutexTest, WakeCountsAndBitsets) {
  StartWaiter(kA, 1);
  StartWaiter(kA, 2);
  StartWaiter(kB);
  EXPECT_EQ(table.Wake(memory, kA, false, 10, 4).value(), 0);
  EXPECT_EQ(table.Wake(memory, kA, false, 10, 2).value(), 1);
  EXPECT_EQ(table.Wake(memory, kA, false, 10).value(), 1);
  EXPECT_EQ(table.Wake(memory, kB, false, 1).value(), 1);
}

TEST_F(FutexTest, WakeBetweenQueueingAndTheLoadIsNotLost) {
  FakeCaller caller;
  memory.on_load = [&] {
    memory.At(kA)->store(1);
    EXPECT_EQ(table.Wake(memory, kA, false, 1).value(), 1);
  };
  EXPECT_TRUE(table.Wait(caller, memory, {.address = kA, .value = 0}, ~0u, Patience()).ok());
}

TEST_F(FutexTest, RequeueMovesWaiters) {
  for (int i = 0; i < 3; ++i) StartWaiter(kA);
  EXPECT_EQ(table.Requeue(memory, kA, kB, false, 1, 10, 5).error_number(), EAGAIN);
  EXPECT_EQ(table.Requeue(memory, kA, kB, false, 1, 10, 0).value(), 3);
  EXPECT_EQ(table.Wake(memory, kA, false, 10).value(), 0);
  EXPECT_EQ(table.Wake(memory, kB, false, 10).value(), 2);
}

TEST_F(FutexTest, WakeOp) {
  StartWaiter(kA);
  StartWaiter(kB);
  memory.At(kB)->store(7);
  // *kB += 5; wake kB when the old value was 7.
  uint32_t op = FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 7);
  EXPECT_EQ(table.WakeOp(memory, kA, kB, false, 1, 1, op).value(), 2);
  EXPECT_EQ(memory.At(kB)->load(), 12u);
  op = FUTEX_OP(FUTEX_OP_ANDN, 4, FUTEX_OP_CMP_LT, -1);
  EXPECT_EQ(table.WakeOp(memory, kA, kB, false, 1, 1, op).value(), 0);
  EXPECT_EQ(memory.At(kB)->load(), 8u);
  EXPECT_EQ(table.WakeOp(memory, kA, kB, false, 1, 1, 0x7000'0000).error_number(), ENOSYS);
}

TEST_F(FutexTest, WaitManyTellsWhich) {
  callers.push_back(std::make_unique<FakeCaller>());
  threads.emplace_back([&] {
    FutexTable::WaitOn on[] = {{.address = kA}, {.address = kB}};
    EXPECT_EQ(table.WaitMany(*callers[0], memory, on, Patience()).value(), 1);
  });
  ASSERT_TRUE(callers[0]->waiting.Wait(Patience()));
  EXPECT_EQ(table.Wake(memory, kB, false, 1).value(), 1);
}

TEST_F(FutexTest, PiHandsOver) {
  auto request = [&](uint32_t tid) {
    return FutexTable::PiRequest{
        .address = kA, .self_tid = tid, .self = tid, .resolve = [](uint32_t t) { return t < 100 ? t : 0; }};
  };
  FakeCaller self;
  ASSERT_TRUE(table.LockPi(self, memory, request(1), false, Patience()).ok());
  EXPECT_EQ(memory.At(kA)->load(), 1u);
  EXPECT_EQ(table.LockPi(self, memory, request(1), false, Patience()).error_number(), EDEADLK);
  EXPECT_EQ(table.LockPi(self, memory, request(2), true, Patience()).error_number(), EAGAIN);
  EXPECT_EQ(table.UnlockPi(memory, request(2)).error_number(), EPERM);
  callers.push_back(std::make_unique<FakeCaller>());
  threads.emplace_back([&] { EXPECT_TRUE(table.LockPi(*callers[0], memory, request(2), false, Patience()).ok()); });
  ASSERT_TRUE(callers[0]->waiting.Wait(Patience()));
  EXPECT_EQ(memory.At(kA)->load(), 1u | FutexTable::kWaiters);
  ASSERT_TRUE(table.UnlockPi(memory, request(1)).ok());
  EXPECT_EQ(memory.At(kA)->load(), 2u);
  threads[0].join();
  threads.clear();
  callers.push_back(std::make_unique<FakeCaller>());
  threads.emplace_back([&] { EXPECT_TRUE(table.LockPi(*callers[1], memory, request(3), false, Patience()).ok()); });
  ASSERT_TRUE(callers[1]->waiting.Wait(Patience()));
  table.OwnerExited(2);
  EXPECT_EQ(memory.At(kA)->load(), 3u | FutexTable::kOwnerDied);
  memory.At(kA)->store(500);
  EXPECT_EQ(table.LockPi(self, memory, request(1), false, Patience()).error_number(), ESRCH);
}

}  // namespace
}  // namespace sentry::kernel
