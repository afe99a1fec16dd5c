// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>

#include <memory>
#include <string>

#include "base/cleanup.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "gtest/gtest.h"

namespace base {
namespace {

Result<std::unique_ptr<int>> Half(int n) {
  if (n % 2) return Errno(EINVAL);
  return std::make_unique<int>(n / 2);
}

Result<int> Quarter(int n) {
  auto half = TRY(Half(n));
  auto quarter = TRY(Half(*half));
  return *quarter;
}

TEST(Result, TryMovesTheValueOrReturnsTheError) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(6).error(), Errno(EINVAL));
  EXPECT_EQ(Quarter(7).error_number(), EINVAL);
}

TEST(Errno, NamesRestartCodes) {
  EXPECT_STREQ(Errno(ENOENT).Name(), "ENOENT");
  EXPECT_STREQ(kErestartsys.Name(), "ERESTARTSYS");
  EXPECT_TRUE(kErestartnohand.IsRestart());
  EXPECT_FALSE(Errno(EINTR).IsRestart());
}

struct Counted : RefCounted<Counted> {
  explicit Counted(int* deaths) : deaths(deaths) {}
  ~Counted() { ++*deaths; }
  int* deaths;
};

TEST(RefPtr, LastReferenceDeletes) {
  int deaths = 0;
  RefPtr<Counted> a = MakeRef<Counted>(&deaths);
  {
    RefPtr<Counted> b = a;
    RefPtr<Counted> c = std::move(b);
    EXPECT_EQ(c.get(), a.get());
    EXPECT_FALSE(a->HasOneRef());
  }
  EXPECT_TRUE(a->HasOneRef());
  a.Reset();
  EXPECT_EQ(deaths, 1);
}

TEST(UniqueFd, ClosesOnce) {
  int raw;
  {
    UniqueFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    raw = fd.get();
    UniqueFd moved = std::move(fd);
    EXPECT_FALSE(fd.ok());
    EXPECT_EQ(fcntl(raw, F_GETFD), FD_CLOEXEC);
  }
  EXPECT_EQ(fcntl(raw, F_GETFD), -1);
}

TEST(Cleanup, RunsUnlessCancelled) {
  int runs = 0;
  {
    Cleanup c([&] { ++runs; });
  }
  {
    Cleanup c([&] { ++runs; });
    c.Cancel();
  }
  EXPECT_EQ(runs, 1);
}

#ifndef NDEBUG
TEST(MutexDeathTest, WrongRankAborts) {
  Mutex outer(LockRank::kMm), inner(LockRank::kTask);
  EXPECT_DEATH(
      {
        MutexLock a(inner);
        MutexLock b(outer);
      },
      "lock of rank");
}
#endif

TEST(Mutex, PairOfOneMutexLocksOnce) {
  Mutex a(LockRank::kMm), b(LockRank::kMm);
  { LockPair pair(a, a); }
  { LockPair pair(b, a); }
  MutexLock again(a);
}

}  // namespace
}  // namespace base
