// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/fd_table.h"

#include "sentry/vfs/locks.h"
#include "sentry/vfs/special_files.h"
#include "sentry/vfs/test_util.h"

namespace sentry::kernel {
namespace {

constexpr uint64_t kLimit = 64;

class CountingFile final : public vfs::FileDescription {
 public:
  CountingFile(const Credentials& creds, int flags, int* flushes, int* alive)
      : FileDescription(vfs::NewAnonymousPath("test", S_IFREG | 0600, creds), flags), flushes_(flushes), alive_(alive) {
    ++*alive_;
  }
  ~CountingFile() override { --*alive_; }
  Result<void> Flush() override {
    ++*flushes_;
    return Errno(EIO);
  }

 private:
  int* flushes_;
  int* alive_;
};

class FdTableTest : public vfs::VfsTest {
 protected:
  vfs::FileRef New(int flags = O_RDWR) { return MakeRef<CountingFile>(*root_creds_, flags, &flushes_, &alive_); }
  int Add(int minimum = 0, uint64_t limit = kLimit) {
    auto fd = table_->Add(New(), false, limit, minimum);
    return fd.ok() ? *fd : -fd.error_number();
  }
  int flushes_ = 0, alive_ = 0;
  RefPtr<FdTable> table_ = MakeRef<FdTable>();
};

TEST_F(FdTableTest, GivesTheLowestFree) {
  EXPECT_EQ(Add(), 0);
  EXPECT_EQ(Add(), 1);
  EXPECT_EQ(Add(10), 10);
  EXPECT_EQ(Add(), 2);
  EXPECT_EQ(Add(1), 3);
  EXPECT_EQ(E(table_->Close(1)), EIO);
  EXPECT_EQ(E(table_->Close(1)), EBADF);
  EXPECT_EQ(Add(), 1);
  EXPECT_EQ(Add(), 4);
  EXPECT_EQ(table_->List(), (std::vector<int>{0, 1, 2, 3, 4, 10}));
}

TEST_F(FdTableTest, ObeysLimits) {
  EXPECT_EQ(Add(kLimit), -EINVAL);
  EXPECT_EQ(Add(-1), -EINVAL);
  EXPECT_EQ(Add(0, 0), -EMFILE);
  EXPECT_EQ(Add(kLimit - 1), static_cast<int>(kLimit) - 1);
  EXPECT_EQ(Add(kLimit - 1), -EMFILE);
  for (uint64_t i = 0; i < kLimit - 1; ++i) EXPECT_EQ(Add(), static_cast<int>(i));
  EXPECT_EQ(Add(), -EMFILE);
  EXPECT_EQ(E(table_->Set(kLimit, New(), false, kLimit)), EBADF);
  EXPECT_EQ(E(table_->Set(-1, New(), false, kLimit)), EBADF);
  // A huge soft limit doesn't make a huge table.
  EXPECT_EQ(E(table_->Set(INT_MAX, New(), false, UINT64_MAX)), EBADF);
}

TEST_F(FdTableTest, ReplacingAndClosingFlush) {
  EXPECT_EQ(Add(), 0);
  EXPECT_EQ(E(table_->Set(0, New(), true, kLimit)), 0);
  EXPECT_EQ(flushes_, 1);
  EXPECT_EQ(alive_, 1);
  EXPECT_TRUE(*table_->GetCloseOnExec(0));
  EXPECT_EQ(Add(), 1);
  table_->CloseOnExec();
  EXPECT_EQ(table_->List(), std::vector<int>{1});
  RefPtr<FdTable> copy = table_->Clone();
  EXPECT_EQ(Add(), 0);
  EXPECT_EQ(copy->List(), std::vector<int>{1});
  table_->CloseRange(0, UINT_MAX, /*only_set_cloexec=*/true);
  EXPECT_TRUE(*table_->GetCloseOnExec(1));
  EXPECT_FALSE(*copy->GetCloseOnExec(1));
  table_->CloseRange(1, UINT_MAX, false);
  EXPECT_EQ(table_->List(), std::vector<int>{0});
  table_.Reset();
  copy.Reset();
  EXPECT_EQ(alive_, 0);
}

TEST_F(FdTableTest, PathDescriptorsAreNotOpen) {
  auto fd = table_->Add(New(O_PATH), false, kLimit);
  ASSERT_EQ(E(fd), 0);
  EXPECT_EQ(E(table_->Get(*fd)), 0);
  EXPECT_EQ(E(table_->GetOpen(*fd)), EBADF);
  EXPECT_EQ(E(table_->Close(*fd)), 0);
  EXPECT_EQ(flushes_, 0);
}

TEST_F(FdTableTest, ClosingAnyDescriptorDropsTheRecordLocks) {
  MakeFile("/f");
  auto file = vfs::Open(Root(), "/f", O_RDWR, 0);
  ASSERT_EQ(E(file), 0);
  EXPECT_EQ(*table_->Add(*file, false, kLimit), 0);
  EXPECT_EQ(*table_->Add(*file, false, kLimit), 1);
  vfs::FileLocks& locks = (*file)->inode()->locks();
  vfs::LockRequest request{
      .kind = vfs::LockKind::kPosix, .type = vfs::LockType::kWrite, .range = {}, .owner = table_.get(), .pid = 1};
  ASSERT_EQ(E(locks.Set(request, false)), 0);
  EXPECT_EQ(E(table_->Close(1)), 0);
  EXPECT_TRUE(locks.List().empty());
}

}  // namespace
}  // namespace sentry::kernel
