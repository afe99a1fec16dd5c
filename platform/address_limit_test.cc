// SPDX-License-Identifier: Apache-2.0
#include "platform/platform.h"

#include <errno.h>
#include <sys/mman.h>

#include "gtest/gtest.h"

namespace platform {
namespace {

// 0, or why a page cannot be mapped there.
int MapError(uint64_t address) {
  void* got = mmap(reinterpret_cast<void*>(address), kPageSize, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) return errno == EEXIST ? 0 : errno;
  munmap(got, kPageSize);
  return 0;
}

TEST(AddressLimitTest, EndsWhereTheHostDoes) {
  EXPECT_EQ(MapError(kHostAddressEnd - kPageSize), 0);
  // With 5-level page tables the host has more, for who asks.
  if (kHostAddressEnd != 0x7fff'ffff'f000) {
    EXPECT_EQ(MapError(kHostAddressEnd), ENOMEM);
  }
}

TEST(AddressLimitTest, LeavesRoomForTheStub) {
  EXPECT_EQ(kGuestAddressLimit % kStubSpace, 0u);
  EXPECT_LE(kGuestAddressLimit + kStubSpace - kPageSize, kHostAddressEnd);
  // No more than one such space is lost.
  EXPECT_GT(kGuestAddressLimit + 2 * kStubSpace - kPageSize, kHostAddressEnd);
}

}  // namespace
}  // namespace platform
