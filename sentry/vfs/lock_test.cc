// SPDX-License-Identifier: Apache-2.0
// flock, POSIX and OFD locks: ranges, conflicts, blocking, deadlock, release.
#include <gtest/gtest.h>

#include <thread>

#include "sentry/vfs/locks.h"
#include "sentry/vfs/test_util.h"

namespace sentry::vfs {
namespace {

constexpr LockType kRead = LockType::kRead, kWrite = LockType::kWrite, kUnlock = LockType::kUnlock;

class LockTest : public VfsTest {
 protected:
  int Set(const void* owner, LockType type, uint64_t start, uint64_t end, LockKind kind = LockKind::kPosix,
          bool block = false) {
    return E(locks_.Set({kind, type, {start, end}, owner, 7}, block));
  }
  std::string List() {
    std::string text;
    for (const LockInfo& info : locks_.List()) {
      text += (info.type == kRead ? "r" : "w") + std::to_string(info.range.start) + "-" +
              std::to_string(info.range.end) + " ";
    }
    return text;
  }
  FileLocks locks_;
  int a_ = 0, b_ = 0, c_ = 0;
};

TEST_F(LockTest, SplitMergeReplace) {
  EXPECT_EQ(Set(&a_, kWrite, 0, 100), 0);
  EXPECT_EQ(Set(&a_, kUnlock, 40, 60), 0);
  EXPECT_EQ(List(), "w0-40 w60-100 ");
  EXPECT_EQ(Set(&a_, kWrite, 40, 60), 0);
  EXPECT_EQ(List(), "w0-100 ");
  EXPECT_EQ(Set(&a_, kRead, 50, 70), 0);
  EXPECT_EQ(List(), "w0-50 w70-100 r50-70 ");
  EXPECT_EQ(Set(&b_, kRead, 50, 70), 0);
  EXPECT_EQ(Set(&b_, kRead, 49, 70), EAGAIN);
  EXPECT_EQ(Set(&b_, kWrite, 55, 56), EAGAIN);
  auto conflict = locks_.Test({LockKind::kPosix, kWrite, {0, UINT64_MAX}, &b_, 8});
  ASSERT_TRUE(conflict);
  EXPECT_EQ(conflict->range.start, 0u);
  EXPECT_EQ(conflict->pid, 7);
  locks_.ReleaseOwner(LockKind::kPosix, &a_);
  EXPECT_EQ(List(), "r50-70 ");
  EXPECT_FALSE(locks_.Test({LockKind::kPosix, kWrite, {0, 50}, &a_, 8}));
}

TEST_F(LockTest, Kinds) {
  EXPECT_EQ(Set(&a_, kWrite, 0, UINT64_MAX, LockKind::kFlock), 0);
  EXPECT_EQ(Set(&b_, kWrite, 0, 10, LockKind::kPosix), 0);
  EXPECT_EQ(Set(&b_, kWrite, 0, 10, LockKind::kOfd), EAGAIN);  // another kind of owner, even by the same process
  EXPECT_EQ(Set(&c_, kRead, 0, UINT64_MAX, LockKind::kFlock), EAGAIN);
  EXPECT_EQ(Set(&a_, kRead, 0, UINT64_MAX, LockKind::kFlock), 0);
  EXPECT_EQ(Set(&c_, kRead, 0, UINT64_MAX, LockKind::kFlock), 0);
  // A failed conversion has lost the old lock (flock(2)).
  EXPECT_EQ(Set(&c_, kWrite, 0, UINT64_MAX, LockKind::kFlock), EAGAIN);
  EXPECT_EQ(Set(&a_, kWrite, 0, UINT64_MAX, LockKind::kFlock), 0);
  EXPECT_EQ(Set(&a_, kUnlock, 0, UINT64_MAX, LockKind::kFlock), 0);
  EXPECT_EQ(List(), "w0-10 ");
}

// Runs `body` on a thread with its own caller; waits until it sleeps or is done.
class Blocked {
 public:
  explicit Blocked(std::function<Result<void>(FakeCaller&)> body)
      : thread_([this, body = std::move(body)] {
          FakeCaller caller(Credentials::Root(0));
          caller_.store(&caller);
          result_ = body(caller).error_number();
          done_.store(true);
          // The caller must outlive the test's look at it.
          while (!release_.load()) std::this_thread::yield();
        }) {
    while (!done_.load() && !(caller_.load() && caller_.load()->blocked.load())) std::this_thread::yield();
  }
  ~Blocked() {
    release_ = true;
    if (thread_.joinable()) thread_.join();
  }
  bool done() const { return done_.load(); }
  void Interrupt() {
    caller_.load()->interrupt = true;
    caller_.load()->blocker().Wake();
  }
  int Join() {
    release_ = true;
    thread_.join();
    return result_;
  }

 private:
  std::atomic<FakeCaller*> caller_{nullptr};
  std::atomic<bool> done_{false}, release_{false};
  int result_ = -1;
  std::thread thread_;
};

TEST_F(LockTest, BlocksUntilReleased) {
  ASSERT_EQ(Set(&a_, kWrite, 0, 10), 0);
  Blocked waiter([&](FakeCaller&) { return locks_.Set({LockKind::kPosix, kWrite, {5, 6}, &b_, 1}, true); });
  EXPECT_FALSE(waiter.done());
  EXPECT_EQ(Set(&a_, kUnlock, 0, 10), 0);
  EXPECT_EQ(waiter.Join(), 0);
  EXPECT_EQ(List(), "w5-6 ");
}

TEST_F(LockTest, DowngradeWakesReaders) {
  ASSERT_EQ(Set(&a_, kWrite, 0, 10), 0);
  Blocked waiter([&](FakeCaller&) { return locks_.Set({LockKind::kPosix, kRead, {5, 6}, &b_, 1}, true); });
  EXPECT_EQ(Set(&a_, kRead, 0, 10), 0);
  EXPECT_EQ(waiter.Join(), 0);
}

TEST_F(LockTest, SignalInterrupts) {
  ASSERT_EQ(Set(&a_, kWrite, 0, 10), 0);
  Blocked waiter([&](FakeCaller&) { return locks_.Set({LockKind::kPosix, kWrite, {5, 6}, &b_, 1}, true); });
  waiter.Interrupt();
  EXPECT_EQ(waiter.Join(), base::kErestartsys.number());
  EXPECT_EQ(List(), "w0-10 ");
}

TEST_F(LockTest, Deadlock) {
  FileLocks other;
  ASSERT_EQ(Set(&a_, kWrite, 0, 1), 0);
  ASSERT_EQ(Set(&b_, kWrite, 1, 2), 0);
  ASSERT_EQ(E(other.Set({LockKind::kPosix, kWrite, {0, 1}, &c_, 1}, false)), 0);
  // b waits for a, c waits for b (in another file's locks c holds what a then wants).
  Blocked first([&](FakeCaller&) { return locks_.Set({LockKind::kPosix, kWrite, {0, 1}, &b_, 1}, true); });
  Blocked second([&](FakeCaller&) { return locks_.Set({LockKind::kPosix, kWrite, {1, 2}, &c_, 1}, true); });
  EXPECT_EQ(E(other.Set({LockKind::kPosix, kWrite, {0, 1}, &a_, 1}, true)), EDEADLK);
  // Without the cycle they go on.
  EXPECT_EQ(Set(&a_, kUnlock, 0, 1), 0);
  EXPECT_EQ(first.Join(), 0);
  locks_.ReleaseOwner(LockKind::kPosix, &b_);
  EXPECT_EQ(second.Join(), 0);
}

TEST_F(LockTest, ClosingReleases) {
  MakeFile("/f");
  auto one = Open(Root(), "/f", O_RDWR, 0), two = Open(Root(), "/f", O_RDWR, 0);
  FileLocks& locks = (*one)->inode()->locks();
  ASSERT_EQ(E(locks.Set({LockKind::kFlock, kWrite, {}, one->get(), 1}, false)), 0);
  ASSERT_EQ(E(locks.Set({LockKind::kPosix, kWrite, {}, caller_.LockOwner(), 1}, false)), 0);
  one->Reset();
  EXPECT_EQ(locks.List().size(), 1u);
  // Closing any descriptor of the file drops the process's POSIX locks.
  EXPECT_EQ(E((*two)->Flush()), 0);
  EXPECT_EQ(locks.List().size(), 0u);
}

}  // namespace
}  // namespace sentry::vfs
