// SPDX-License-Identifier: Apache-2.0
// Which inotify events the operations send, and in which order.
#include <gtest/gtest.h>

#include "sentry/vfs/test_util.h"

namespace sentry::vfs {
namespace {

class InotifyTest : public VfsTest {
 protected:
  InotifyTest() {
    MakeDir("/d");
    MakeFile("/d/f", "x");
    Watch("/d", "D");
    Watch("/d/f", "F");
  }
  // The filesystem may outlive the test, and tells its end.
  ~InotifyTest() override {
    for (size_t i = 0; i < watches_.size(); ++i) inodes_[i]->inotify_watches().Remove(watches_[i].get());
  }
  void Watch(std::string_view path, std::string label) {
    watches_.push_back(MakeRef<RecordingWatch>(&log_, std::move(label)));
    inodes_.push_back(At(path).inode());
    inodes_.back()->inotify_watches().Add(watches_.back());
  }
  std::vector<std::string> Take() { return std::exchange(log_, {}); }
  using Log = std::vector<std::string>;
  Log log_;
  std::vector<RefPtr<RecordingWatch>> watches_;
  std::vector<RefPtr<Inode>> inodes_;
};

TEST_F(InotifyTest, OpenWriteClose) {
  {
    auto file = Open(Root(), "/d/f", O_RDWR | O_TRUNC, 0);
    EXPECT_EQ(Take(), (Log{"D/f: modify", "F/: modify", "D/f: open", "F/: open"}));
    (*file)->NotifyModify();
    (*file)->NotifyAccess();
    EXPECT_EQ(Take(), (Log{"D/f: modify", "F/: modify", "D/f: access", "F/: access"}));
  }
  EXPECT_EQ(Take(), (Log{"D/f: closewrite", "F/: closewrite"}));
  { auto file = Open(Root(), "/d", O_RDONLY | O_DIRECTORY, 0); }
  EXPECT_EQ(Take(), (Log{"D/: open dir", "D/: close dir"}));
}

TEST_F(InotifyTest, CreateAndDelete) {
  { auto file = Open(Root(), "/d/n", O_CREAT | O_WRONLY, 0644); }
  EXPECT_EQ(Take(), (Log{"D/n: create", "D/n: open", "D/n: closewrite"}));
  ASSERT_EQ(E(Mkdir(Root(), "/d/sub", 0755)), 0);
  EXPECT_EQ(Take(), (Log{"D/sub: create dir"}));
  ASSERT_EQ(E(Rmdir(Root(), "/d/sub")), 0);
  EXPECT_EQ(Take(), (Log{"D/sub: delete dir"}));
  ASSERT_EQ(E(Link(Root(), "/d/f", Root(), "/d/g", 0)), 0);
  EXPECT_EQ(Take(), (Log{"F/: attrib", "D/g: create"}));
  ASSERT_EQ(E(Unlink(Root(), "/d/g")), 0);
  EXPECT_EQ(Take(), (Log{"F/: attrib", "D/g: delete"}));
  ASSERT_EQ(E(Unlink(Root(), "/d/f")), 0);
  EXPECT_EQ(Take(), (Log{"F/: attrib", "F/: deleteself", "D/f: delete"}));
}

TEST_F(InotifyTest, DeleteSelfWaitsForTheLastClose) {
  auto file = Open(Root(), "/d/f", O_RDONLY, 0);
  Take();
  ASSERT_EQ(E(Unlink(Root(), "/d/f")), 0);
  EXPECT_EQ(Take(), (Log{"F/: attrib", "D/f: delete"}));
  file->Reset();
  Log log = Take();
  ASSERT_FALSE(log.empty());
  EXPECT_EQ(log.back(), "F/: deleteself");
}

TEST_F(InotifyTest, Rename) {
  ASSERT_EQ(E(Rename(Root(), "/d/f", Root(), "/d/g", 0)), 0);
  EXPECT_EQ(Take(), (Log{"D/f: from", "D/g: to", "F/: moveself"}));
  EXPECT_NE(watches_[0]->last_cookie, 0u);
  MakeFile("/d/h");
  Take();
  ASSERT_EQ(E(Rename(Root(), "/d/h", Root(), "/d/g", 0)), 0);
  EXPECT_EQ(Take(), (Log{"D/h: from", "D/g: to", "F/: attrib", "F/: deleteself"}));
}

TEST_F(InotifyTest, Attributes) {
  SetStatRequest request;
  request.mode = 0600;
  ASSERT_EQ(E(SetStat(Root(), At("/d/f"), request)), 0);
  EXPECT_EQ(Take(), (Log{"D/f: attrib", "F/: attrib"}));
  ASSERT_EQ(E(SetXattr(Root(), At("/d/f"), "user.a", "b", 0)), 0);
  EXPECT_EQ(Take(), (Log{"D/f: attrib", "F/: attrib"}));
  // A removed watch hears nothing.
  At("/d").inode()->inotify_watches().Remove(watches_[0].get());
  ASSERT_EQ(E(Unlink(Root(), "/d/f")), 0);
  EXPECT_EQ(Take(), (Log{"F/: attrib", "F/: deleteself"}));
}

}  // namespace
}  // namespace sentry::vfs
