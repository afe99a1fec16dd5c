// SPDX-License-Identifier: Apache-2.0
#include "runsc/container/store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "gtest/gtest.h"

namespace runsc {
namespace {

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* tmp = getenv("TEST_TMPDIR");
    root_ = std::string(tmp ? tmp : "/tmp") + "/store.XXXXXX";
    ASSERT_NE(mkdtemp(root_.data()), nullptr);
    root_ += "/a/b";
    store_ = std::make_unique<ContainerStore>(root_);
  }
  std::string root_;
  std::unique_ptr<ContainerStore> store_;
};

TEST(Id, Validation) {
  for (std::string good :
       {std::string("a"), std::string("A-b_c.d+e"), std::string("0"), std::string("..."), std::string(240, 'x')}) {
    EXPECT_TRUE(ValidateId(good).ok()) << good;
  }
  for (std::string bad : {"", ".", "..", "a/b", "a b", "a\nb", "\xc3\xa9", "../x"}) {
    EXPECT_FALSE(ValidateId(bad).ok()) << bad;
  }
  EXPECT_FALSE(ValidateId(std::string(241, 'x')).ok());
  EXPECT_EQ(ValidateId("a\nb").message(), "invalid container ID format: \"a\\nb\": use letters, digits and _ + . -");
}

TEST_F(StoreTest, RecordRoundTrip) {
  ContainerRecord record{.id = "c",
                         .bundle = "/b \"q\"",
                         .rootfs = "/b/rootfs",
                         .oci_version = "1.0.2",
                         .status = Status::kRunning,
                         .sandbox_pid = 12,
                         .sandbox_start_ticks = 99,
                         .gofer_pid = 13,
                         .gofer_start_ticks = 100,
                         .created_ns = 1'700'000'000'000'000'001,
                         .owner_uid = 4294967294u,
                         .terminal = true,
                         .annotations = {{"k", "v\n"}},
                         .cgroup_paths = {"/sys/fs/cgroup/x"}};
  auto lock = store_->Create("c");
  ASSERT_TRUE(lock.ok()) << lock.status();
  ASSERT_TRUE(store_->Save(record).ok());
  auto loaded = store_->Load("c");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(RecordToJson(*loaded), RecordToJson(record));
  EXPECT_EQ(loaded->created_ns, record.created_ns);
  EXPECT_EQ(loaded->annotations, record.annotations);
  EXPECT_EQ(loaded->status, Status::kRunning);
}

TEST_F(StoreTest, OneOwnerPerId) {
  std::atomic<int> won{0}, exists{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      auto lock = store_->Create("c");
      if (lock.ok()) {
        ++won;
      } else if (absl::IsAlreadyExists(lock.status())) {
        ++exists;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(exists, 7);
}

TEST_F(StoreTest, MissingAndIncomplete) {
  EXPECT_EQ(store_->List()->size(), 0u);
  EXPECT_EQ(store_->Load("c").status().message(), "container does not exist: \"c\"");
  EXPECT_EQ(store_->Lock("c").status().message(), "container does not exist: \"c\"");
  ASSERT_TRUE(store_->Create("c").ok());
  EXPECT_TRUE(absl::IsDataLoss(store_->Load("c").status()));
  std::ofstream(store_->DirectoryOf("c") + "/state.json") << "{\"id\":3}";
  EXPECT_EQ(store_->Load("c").status().message(), store_->DirectoryOf("c") + "/state.json: id: must be a string, is 3");
  EXPECT_EQ(*store_->List(), std::vector<std::string>{"c"});
  ASSERT_TRUE(store_->Remove("c").ok());
  ASSERT_TRUE(store_->Remove("c").ok());
  EXPECT_EQ(store_->List()->size(), 0u);
}

TEST_F(StoreTest, TheLockWaitsForItsHolderAndSeesRemoval) {
  auto held = store_->Create("c");
  ASSERT_TRUE(held.ok());
  absl::Status status;
  std::thread waiter([&] { status = store_->Lock("c").status(); });
  ASSERT_TRUE(store_->Remove("c").ok());
  held->Reset();
  waiter.join();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

TEST_F(StoreTest, ExitStatus) {
  ASSERT_TRUE(store_->Create("c").ok());
  EXPECT_FALSE(store_->ExitStatus("c").has_value());
  std::string path = store_->DirectoryOf("c") + "/exit_status";
  std::ofstream(path) << "";
  EXPECT_FALSE(store_->ExitStatus("c").has_value());
  std::ofstream(path) << "256\n";
  EXPECT_EQ(store_->ExitStatus("c"), 256);
}

TEST_F(StoreTest, AForeignFileIsNotDeleted) {
  ASSERT_TRUE(store_->Create("c").ok());
  std::ofstream(store_->DirectoryOf("c") + "/mine") << "x";
  EXPECT_FALSE(store_->Remove("c").ok());
  struct stat st;
  EXPECT_EQ(stat((store_->DirectoryOf("c") + "/mine").c_str(), &st), 0);
}

}  // namespace
}  // namespace runsc
