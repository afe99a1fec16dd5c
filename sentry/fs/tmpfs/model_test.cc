// SPDX-License-Identifier: Apache-2.0
// Random operations on one file against a plain string as the model, with the accounting checked at each step.
#include <gtest/gtest.h>
#include <linux/falloc.h>

#include <algorithm>
#include <random>

#include "sentry/vfs/test_util.h"

namespace sentry::tmpfs {
namespace {

class ModelSeeds : public vfs::VfsTest, public ::testing::WithParamInterface<unsigned> {};

void RunModel(vfs::FileDescription& file, Tmpfs& filesystem, unsigned seed) {
  std::mt19937 random(seed);
  auto upto = [&](uint64_t limit) { return std::uniform_int_distribution<uint64_t>(0, limit)(random); };
  constexpr uint64_t kMaxSize = 600'000;
  std::string model;
  for (int step = 0; step < 3000; ++step) {
    const uint64_t offset = upto(1) ? upto(kMaxSize) : upto(kMaxSize / kPageSize) * kPageSize;
    const uint64_t length = upto(3) ? upto(9000) : upto(200'000);
    const uint64_t end = offset + length;
    switch (upto(7)) {
      case 0:
      case 1: {  // write, or append
        const bool append = upto(3) == 0 && model.size() < kMaxSize;
        const uint64_t at = append ? model.size() : offset;
        std::string data(length, static_cast<char>('a' + step % 26));
        BufferSource source(data.data(), data.size());
        int64_t after = -7;
        auto n = file.PWrite(source, append ? -1 : static_cast<int64_t>(at), &after);
        ASSERT_TRUE(n.ok()) << step;
        ASSERT_EQ(*n, length);
        ASSERT_EQ(after, static_cast<int64_t>(at + length));
        if (length == 0) break;
        if (model.size() < at + length) model.resize(at + length, 0);
        std::copy(data.begin(), data.end(), model.begin() + at);
        break;
      }
      case 2: {
        ASSERT_TRUE(file.Truncate(offset).ok());
        model.resize(offset, 0);
        break;
      }
      case 3: {
        if (length == 0) break;
        ASSERT_TRUE(file.Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length).ok());
        if (offset < model.size())
          std::fill(model.begin() + offset, model.begin() + std::min<uint64_t>(end, model.size()), 0);
        break;
      }
      case 4: {
        if (length == 0) break;
        const bool zero = upto(1), keep = upto(1);
        ASSERT_TRUE(
            file.Allocate((zero ? FALLOC_FL_ZERO_RANGE : 0) | (keep ? FALLOC_FL_KEEP_SIZE : 0), offset, length).ok());
        if (zero && offset < model.size())
          std::fill(model.begin() + offset, model.begin() + std::min<uint64_t>(end, model.size()), 0);
        if (!keep && end > model.size()) model.resize(end, 0);
        break;
      }
      case 5: {  // SEEK_DATA gives only places whose predecessors read as zero
        auto data = file.Seek(static_cast<int64_t>(offset), SEEK_DATA);
        if (offset >= model.size()) {
          ASSERT_EQ(data.error_number(), ENXIO);
          break;
        }
        const uint64_t until = data.ok() ? *data : model.size();
        ASSERT_TRUE(std::all_of(model.begin() + offset, model.begin() + until, [](char c) { return c == 0; }));
        break;
      }
      default: {
        std::string got(length, '?');
        BufferTarget target(got.data(), got.size());
        auto n = file.PRead(target, static_cast<int64_t>(offset));
        ASSERT_TRUE(n.ok());
        const uint64_t want = offset >= model.size() ? 0 : std::min<uint64_t>(length, model.size() - offset);
        ASSERT_EQ(*n, want);
        got.resize(*n);
        ASSERT_TRUE(want == 0 || got == model.substr(offset, want)) << "step " << step;
      }
    }
    auto stat = file.GetStat();
    ASSERT_EQ(stat->size, model.size());
    ASSERT_EQ(stat->blocks * 512, filesystem.used_pages() * kPageSize);
  }
  std::string all(model.size(), '?');
  BufferTarget target(all.data(), all.size());
  ASSERT_TRUE(file.PRead(target, 0).ok());
  ASSERT_TRUE(all == model);
}

TEST_P(ModelSeeds, File) {
  auto file = vfs::Open(Root(), "/f", O_CREAT | O_RDWR, 0644);
  ASSERT_TRUE(file.ok());
  RunModel(**file, *filesystem_, GetParam());
  ASSERT_TRUE(vfs::Unlink(Root(), "/f").ok());
  file->Reset();
  EXPECT_EQ(filesystem_->used_pages(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, ModelSeeds, ::testing::Range(1u, 9u));

}  // namespace
}  // namespace sentry::tmpfs
