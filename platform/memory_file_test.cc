// SPDX-License-Identifier: Apache-2.0
#include "platform/memory_file.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "platform/safe_copy.h"

namespace platform {
namespace {

constexpr uint64_t kPage = 4096;

class MemoryFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto file = MemoryFile::Create();
    ASSERT_TRUE(file.ok()) << file.error_number();
    file_ = *std::move(file);
  }
  FileRange Get(uint64_t pages) {
    auto range = file_->Allocate(pages * kPage);
    EXPECT_TRUE(range.ok());
    return range.value_or({});
  }
  std::unique_ptr<MemoryFile> file_;
};

TEST_F(MemoryFileTest, BadLengths) {
  EXPECT_EQ(file_->Allocate(0).error_number(), EINVAL);
  EXPECT_EQ(file_->Allocate(100).error_number(), EINVAL);
  EXPECT_EQ(file_->Allocate(kPage, 3).error_number(), EINVAL);
  EXPECT_EQ(file_->Allocate(MemoryFile::kMaxSize + kPage).error_number(), ENOMEM);
  EXPECT_EQ(file_->Allocate(~uint64_t{4095}).error_number(), ENOMEM);
}

TEST_F(MemoryFileTest, FreedRangesAreZeroAndGoBackToTheHost) {
  FileRange a = Get(64);
  memset(file_->Pointer(a.start), 1, a.length());
  EXPECT_EQ(file_->UsedBytes(), 64 * kPage);
  file_->DecRef(a);
  EXPECT_EQ(file_->UsedBytes(), 0u);
  FileRange b = Get(64);
  EXPECT_EQ(b.start, a.start);
  EXPECT_EQ(*file_->Pointer(b.start), 0);
}

// A wait that ended too early would find less allocated than it asked for; one that never ends is the test's time-out.
TEST_F(MemoryFileTest, AwaitAllocatedCountsWhatIsReserved) {
  std::atomic<uint64_t> limit = 10 * kPage - 1;
  FileRange a = Get(10);
  file_->AwaitAllocated(limit);
  file_->DecRef({a.start, a.start + 4 * kPage});
  limit = 10 * kPage;
  std::atomic<bool> beyond = false;
  std::thread waiter([&] {
    file_->AwaitAllocated(limit);
    EXPECT_TRUE(beyond);
  });
  FileRange b = Get(2);
  file_->IncRef(b);
  file_->DecRef(b);  // a reference is left: nothing changes
  FileRange c = Get(2);
  beyond = true;
  FileRange d = Get(1);
  waiter.join();
  // Eleven pages; a lower limit is met at once.
  limit = 20 * kPage;
  beyond = false;
  std::thread second([&] {
    file_->AwaitAllocated(limit);
    EXPECT_TRUE(beyond);
  });
  beyond = true;
  limit = 5 * kPage;
  file_->LimitChanged();
  second.join();
  file_->DecRef({a.start + 4 * kPage, a.end});
  for (FileRange r : {b, c, d}) file_->DecRef(r);
}

TEST_F(MemoryFileTest, ReferencesArePerPage) {
  FileRange a = Get(4);
  EXPECT_TRUE(file_->IsUnique(a));
  FileRange middle = {a.start + kPage, a.start + 3 * kPage};
  file_->IncRef(middle);
  EXPECT_FALSE(file_->IsUnique(a));
  EXPECT_FALSE(file_->IsUnique(middle));
  EXPECT_TRUE(file_->IsUnique({a.start, a.start + kPage}));
  EXPECT_TRUE(file_->IsUnique({a.start + 3 * kPage, a.end}));
  memset(file_->Pointer(a.start), 1, a.length());
  file_->DecRef(a);
  EXPECT_EQ(file_->UsedBytes(), 2 * kPage);
  EXPECT_TRUE(file_->IsUnique(middle));
  EXPECT_FALSE(file_->IsUnique(a));
  file_->DecRef(middle);
  EXPECT_EQ(file_->UsedBytes(), 0u);
  EXPECT_EQ(Get(4).start, a.start);
}

TEST_F(MemoryFileTest, Alignment) {
  Get(1);
  auto big = file_->Allocate(2 << 20, 2 << 20);
  ASSERT_TRUE(big.ok());
  EXPECT_EQ(big->start % (2 << 20), 0u);
  // The gap before it is used.
  EXPECT_LT(Get(1).start, big->start);
}

TEST_F(MemoryFileTest, DecommitKeepsReferences) {
  FileRange a = Get(2);
  memset(file_->Pointer(a.start), 1, a.length());
  file_->Decommit({a.start, a.start + kPage});
  EXPECT_EQ(file_->UsedBytes(), kPage);
  EXPECT_EQ(*file_->Pointer(a.start), 0);
  EXPECT_TRUE(file_->IsUnique(a));
}

TEST_F(MemoryFileTest, CopySkipsHoles) {
  FileRange a = Get(512), b = Get(512);
  *file_->Pointer(a.start + 5 * kPage) = 55;
  *file_->Pointer(a.start + 300 * kPage + 17) = 77;
  ASSERT_TRUE(file_->Copy(a.start, b.start, a.length()));
  EXPECT_EQ(file_->UsedBytes(), 4 * kPage);
  EXPECT_EQ(*file_->Pointer(b.start + 5 * kPage), 55);
  EXPECT_EQ(*file_->Pointer(b.start + 300 * kPage + 17), 77);
}

TEST_F(MemoryFileTest, DataIsCountedWithinARunThatGoesOn) {
  FileRange a = Get(1024), b = Get(64);
  for (uint64_t page = 0; page < 1024; page++) *file_->Pointer(a.start + page * kPage) = 1;
  file_->Decommit({a.start + 10 * kPage, a.start + 12 * kPage});
  EXPECT_EQ(file_->DataBytes(a), 1022 * kPage);
  EXPECT_EQ(file_->DataBytes({a.start + 8 * kPage, a.start + 16 * kPage}), 6 * kPage);
  EXPECT_EQ(file_->DataBytes({a.start + 10 * kPage, a.start + 12 * kPage}), 0);
  uint8_t pages[4] = {9, 9, 9, 9};
  file_->ResidentPages({a.start + 9 * kPage, a.start + 13 * kPage}, pages);
  EXPECT_EQ(pages[0] & 1, 1);
  EXPECT_EQ(pages[1] & 1, 0);
  EXPECT_EQ(pages[2] & 1, 0);
  EXPECT_EQ(pages[3] & 1, 1);
  // The hole stays one, on both sides.
  ASSERT_TRUE(file_->Copy(a.start + 4 * kPage, b.start, 16 * kPage));
  EXPECT_EQ(file_->DataBytes(b), 14 * kPage);
  EXPECT_EQ(file_->DataBytes(a), 1022 * kPage);
}

TEST_F(MemoryFileTest, ReturnsTheSameTotalUnderRandomUse) {
  std::mt19937 random(1);
  std::vector<FileRange> held;
  for (int i = 0; i < 20'000; ++i) {
    switch (random() % 4) {
      case 0:
      case 1:
        if (held.size() < 200) held.push_back(Get(1 + random() % 32));
        break;
      case 2:
        if (!held.empty()) {  // share a part
          FileRange r = held[random() % held.size()];
          uint64_t pages = r.length() / kPage, from = random() % pages;
          FileRange part = {r.start + from * kPage, r.start + (from + 1 + random() % (pages - from)) * kPage};
          file_->IncRef(part);
          held.push_back(part);
        }
        break;
      default:
        if (!held.empty()) {
          size_t n = random() % held.size();
          file_->DecRef(held[n]);
          held.erase(held.begin() + static_cast<long>(n));
        }
    }
  }
  for (FileRange r : held) file_->DecRef(r);
  // All is one free range again.
  uint64_t end = 0;
  for (FileRange r = Get(1); r.start >= end; r = Get(1)) {
    EXPECT_EQ(r.start, end);
    end = r.end;
    if (end > 64 * kPage) break;
  }
}

TEST_F(MemoryFileTest, ManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        FileRange r = Get(3);
        for (uint64_t at = r.start; at < r.end; at += kPage) {
          ASSERT_EQ(*file_->Pointer(at), 0);
          *file_->Pointer(at) = static_cast<uint8_t>(t + 1);
        }
        file_->DecRef(r);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(file_->UsedBytes(), 0u);
}

}  // namespace
}  // namespace platform
