// SPDX-License-Identifier: Apache-2.0
#include "platform/safe_copy.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "gtest/gtest.h"

namespace platform {
namespace {

constexpr size_t kPage = 4096;

// Two pages, the second one not accessible.
class SafeCopyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    InstallSafeCopyHandler();
    void* p = mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(p, MAP_FAILED);
    pages_ = static_cast<uint8_t*>(p);
    memset(pages_, 7, kPage);
    ASSERT_EQ(mprotect(pages_ + kPage, kPage, PROT_NONE), 0);
  }
  void TearDown() override { munmap(pages_, 2 * kPage); }
  uint8_t* pages_ = nullptr;
};

TEST_F(SafeCopyTest, WholeCopy) {
  std::string from(3000, 'x'), to(3000, ' ');
  EXPECT_EQ(SafeCopy(to.data(), from.data(), from.size()), from.size());
  EXPECT_EQ(from, to);
  EXPECT_EQ(SafeCopy(nullptr, nullptr, 0), 0u);
}

TEST_F(SafeCopyTest, CountsBytesBeforeTheFault) {
  uint8_t buffer[200] = {};
  EXPECT_EQ(SafeCopy(buffer, pages_ + kPage - 13, 100), 13u);
  EXPECT_EQ(buffer[12], 7);
  EXPECT_EQ(buffer[13], 0);
  EXPECT_EQ(SafeCopy(pages_ + kPage - 31, buffer, 100), 31u);
  EXPECT_EQ(SafeCopy(buffer, pages_ + kPage, 100), 0u);
  EXPECT_EQ(SafeCopy(buffer, nullptr, 5), 0u);
  // Not canonical: a general-protection fault instead of a page fault.
  EXPECT_EQ(SafeCopy(buffer, reinterpret_cast<void*>(0x8000'0000'0000'0000), 5), 0u);
  EXPECT_EQ(SafeZero(pages_ + kPage - 5, 50), 5u);
  EXPECT_EQ(pages_[kPage - 1], 0);
}

TEST_F(SafeCopyTest, TruncatedFileIsAShortCopy) {
  int fd = memfd_create("t", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(fd, 2 * kPage), 0);
  auto* p = static_cast<uint8_t*>(mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  ASSERT_EQ(ftruncate(fd, kPage), 0);
  std::string to(2 * kPage, ' ');
  EXPECT_EQ(SafeCopy(to.data(), p, 2 * kPage), kPage);
  munmap(p, 2 * kPage);
  close(fd);
}

TEST_F(SafeCopyTest, Words) {
  uint32_t word = 5, value = 0, expected = 5;
  bool exchanged = false;
  EXPECT_TRUE(SafeLoad32(&word, &value));
  EXPECT_EQ(value, 5u);
  EXPECT_TRUE(SafeCompareExchange32(&word, &expected, 9, &exchanged));
  EXPECT_TRUE(exchanged);
  EXPECT_EQ(word, 9u);
  EXPECT_TRUE(SafeCompareExchange32(&word, &expected, 1, &exchanged));
  EXPECT_FALSE(exchanged);
  EXPECT_EQ(expected, 9u);
  auto* bad = reinterpret_cast<uint32_t*>(pages_ + kPage);
  EXPECT_FALSE(SafeLoad32(bad, &value));
  EXPECT_FALSE(SafeCompareExchange32(bad, &expected, 1, &exchanged));
  EXPECT_FALSE(exchanged);
}

TEST_F(SafeCopyTest, OtherFaultsStayFatal) {
  EXPECT_EXIT({ *const_cast<volatile uint8_t*>(pages_ + kPage) = 1; }, ::testing::KilledBySignal(SIGSEGV),
              "fatal signal 11");
  EXPECT_EXIT(raise(SIGBUS), ::testing::KilledBySignal(SIGBUS), "fatal signal 7");
}

}  // namespace
}  // namespace platform
