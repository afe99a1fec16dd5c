// SPDX-License-Identifier: Apache-2.0
#include "base/memory_trim.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace base {
namespace {

// Constants over many pages, none of which TrimMemory itself uses.
struct Constants {
  uint32_t words[64 << 10];
  constexpr Constants() : words() {
    for (uint32_t i = 0; i < 64 << 10; ++i) words[i] = i * 2654435761u;
  }
};
constinit const Constants constants;

// Pages of `constants` that this process has mapped: bit 63 of /proc/self/pagemap.
size_t MappedPages(FILE* pagemap) {
  const uint64_t page = static_cast<uint64_t>(getpagesize());
  const uint64_t first = reinterpret_cast<uint64_t>(&constants) / page + 1;
  std::vector<uint64_t> entries(sizeof constants / page - 1);
  EXPECT_EQ(fseek(pagemap, static_cast<long>(first * 8), SEEK_SET), 0);
  EXPECT_EQ(fread(entries.data(), 8, entries.size(), pagemap), entries.size());
  size_t mapped = 0;
  for (uint64_t entry : entries) mapped += entry >> 63;
  return mapped;
}

uint32_t Sum() {
  uint32_t sum = 0;
  for (const uint32_t& word : constants.words) sum += *const_cast<const volatile uint32_t*>(&word);
  return sum;
}

TEST(MemoryTrim, ConstantsAreUnmappedAndReadAgain) {
  FILE* pagemap = fopen("/proc/self/pagemap", "re");
  ASSERT_NE(pagemap, nullptr);
  setvbuf(pagemap, nullptr, _IONBF, 0);
  const uint32_t sum = Sum();
  const size_t pages = sizeof constants / static_cast<size_t>(getpagesize()) - 1;
  EXPECT_EQ(MappedPages(pagemap), pages);
  TrimMemory();
  EXPECT_LT(MappedPages(pagemap), pages / 2);
  EXPECT_EQ(Sum(), sum);
  fclose(pagemap);
}

// Data that was written stays, wherever the linker put it.
int written = 1;
const int* const relocated[] = {&written};

TEST(MemoryTrim, WrittenDataStays) {
  written = 42;
  std::vector<int> heap(100'000, 7);
  TrimMemory();
  EXPECT_EQ(*relocated[0], 42);
  EXPECT_EQ(heap[99'999], 7);
}

}  // namespace
}  // namespace base
