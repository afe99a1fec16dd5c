// SPDX-License-Identifier: Apache-2.0
// Mounts, namespaces and pivot_root.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include "sentry/vfs/test_util.h"

namespace sentry::vfs {
namespace {

class MountTest : public VfsTest {
 protected:
  MountTest() {
    MakeDir("/a");
    MakeDir("/b");
    MakeFile("/f", "f");
  }
};

TEST_F(MountTest, AttachCrossDetach) {
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/a"))), 0);
  MakeFile("/a/in", "in");
  EXPECT_EQ(Name(At("/a/in")), "/a/in");
  EXPECT_EQ(Name(At("/a/..")), "/");
  EXPECT_NE(StatOf("/a").dev, StatOf("/").dev);
  EXPECT_EQ(mounts_->List().size(), 2u);
  // Stacked.
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/a"))), 0);
  EXPECT_EQ(E(Resolve(Root(), "/a/in", 0)), ENOENT);
  EXPECT_EQ(Name(At("/a/..")), "/");
  ASSERT_EQ(E(mounts_->Detach(At("/a"), 0)), 0);
  EXPECT_EQ(Contents("/a/in"), "in");
  {
    auto file = Open(Root(), "/a/in", O_RDONLY, 0);
    EXPECT_EQ(E(mounts_->Detach(At("/a"), 0)), EBUSY);
    EXPECT_EQ(E(mounts_->Detach(At("/a"), MNT_DETACH)), 0);
    EXPECT_EQ(ReadAll(**file), "in");
  }
  EXPECT_EQ(E(mounts_->Detach(At("/a"), 0)), EINVAL);
  EXPECT_EQ(E(mounts_->Detach(At("/"), 0)), EBUSY);
  EXPECT_EQ(E(mounts_->Attach(NewMount(), At("/f"))), ENOTDIR);
  EXPECT_EQ(E(Rmdir(Root(), "/a")), 0);
}

TEST_F(MountTest, Expire) {
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/a"))), 0);
  EXPECT_EQ(E(mounts_->Detach(At("/a"), MNT_EXPIRE | MNT_DETACH)), EINVAL);
  EXPECT_EQ(E(mounts_->Detach(At("/a"), MNT_EXPIRE)), EAGAIN);
  EXPECT_EQ(E(mounts_->Detach(At("/a"), MNT_EXPIRE)), 0);
}

TEST_F(MountTest, UnmountFreesMemory) {
  auto filesystem = tmpfs::Tmpfs::Create(TestMemory(), {});
  ASSERT_EQ(E(mounts_->Attach(MakeRef<Mount>(filesystem, Dentry::NewRoot(filesystem->Root()), 0, "x"), At("/a"))), 0);
  MakeDir("/a/deep");
  MakeFile("/a/deep/file", std::string(100000, 'x'));
  EXPECT_GT(filesystem->used_pages(), 20u);
  ASSERT_EQ(E(mounts_->Detach(At("/a"), 0)), 0);
  // The caller's own path was the last user: the next walk frees the tree.
  At("/a");
  EXPECT_EQ(filesystem->used_pages(), 0u);
  EXPECT_TRUE(filesystem->HasOneRef());
}

TEST_F(MountTest, BindAndMove) {
  MakeDir("/a/sub");
  MakeFile("/a/sub/x", "x");
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/a/sub"))), 0);
  MakeFile("/a/sub/m", "m");
  ASSERT_EQ(E(mounts_->Bind(At("/a"), At("/b"), false)), 0);
  EXPECT_EQ(Contents("/b/sub/x"), "x");  // the mount below stays behind
  ASSERT_EQ(E(mounts_->Detach(At("/b"), 0)), 0);
  ASSERT_EQ(E(mounts_->Bind(At("/a"), At("/b"), true)), 0);
  EXPECT_EQ(Contents("/b/sub/m"), "m");
  EXPECT_EQ(E(mounts_->Detach(At("/b"), 0)), EBUSY);
  EXPECT_EQ(E(mounts_->Move(At("/b"), At("/b/sub"))), ELOOP);
  MakeDir("/c");
  ASSERT_EQ(E(mounts_->Move(At("/b"), At("/c"))), 0);
  EXPECT_EQ(Contents("/c/sub/m"), "m");
  EXPECT_EQ(Name(At("/c/sub/m")), "/c/sub/m");
  EXPECT_EQ(E(mounts_->Move(At("/a"), At("/b"))), EINVAL);
  EXPECT_EQ(E(mounts_->Move(At("/"), At("/b"))), EINVAL);
  // A file over a file.
  MakeFile("/g", "g");
  ASSERT_EQ(E(mounts_->Bind(At("/f"), At("/g"), false)), 0);
  EXPECT_EQ(Contents("/g"), "f");
  EXPECT_EQ(E(Unlink(Root(), "/g")), EBUSY);
  EXPECT_EQ(E(mounts_->Bind(At("/f"), At("/b"), false)), ENOTDIR);
  // Flags are the mount's own.
  ASSERT_EQ(E(At("/c").mount->Remount(kMountReadOnly)), 0);
  EXPECT_EQ(E(Mkdir(Root(), "/c/new", 0755)), EROFS);
  EXPECT_EQ(E(Mkdir(Root(), "/a/new", 0755)), 0);
  EXPECT_EQ(E(mounts_->Detach(At("/c"), MNT_DETACH)), 0);
  EXPECT_EQ(mounts_->List().size(), 3u);
}

TEST_F(MountTest, Propagation) {
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/a"))), 0);
  EXPECT_EQ(E(mounts_->SetPropagation(At("/"), MS_SHARED, true)), 0);
  for (const auto& info : mounts_->List()) EXPECT_NE(info.peer_group, 0);
  EXPECT_EQ(E(mounts_->SetPropagation(At("/"), MS_SHARED | MS_PRIVATE, true)), EINVAL);
  EXPECT_EQ(E(mounts_->SetPropagation(At("/b"), MS_PRIVATE, false)), EINVAL);
  EXPECT_EQ(E(mounts_->SetPropagation(At("/"), MS_PRIVATE, true)), 0);
  EXPECT_EQ(E(mounts_->SetPropagation(At("/a"), MS_UNBINDABLE, false)), 0);
  EXPECT_EQ(E(mounts_->Bind(At("/a"), At("/b"), false)), EINVAL);
}

TEST_F(MountTest, CloneIsIndependent) {
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/a"))), 0);
  MakeFile("/a/in", "in");
  std::vector<std::pair<RefPtr<Mount>, RefPtr<Mount>>> pairs;
  auto clone = mounts_->Clone(root_creds_->user_ns, UserCharge(), &pairs);
  ASSERT_EQ(E(clone), 0);
  EXPECT_EQ(pairs.size(), 2u);
  RefPtr<MountNamespace> old = mounts_;
  Path old_root = root_;
  mounts_ = *clone;
  root_ = cwd_ = {mounts_->root(), mounts_->root()->root()};
  EXPECT_EQ(Contents("/a/in"), "in");
  pairs.clear();
  ASSERT_EQ(E(mounts_->Detach(At("/a"), 0)), 0);
  EXPECT_EQ(E(Resolve(Root(), "/a/in", 0)), ENOENT);
  EXPECT_EQ(E(old->Attach(NewMount(), At("/b"))), EINVAL);
  mounts_ = old;
  root_ = cwd_ = old_root;
  EXPECT_EQ(Contents("/a/in"), "in");
}

TEST_F(MountTest, PivotRoot) {
  EXPECT_EQ(E(mounts_->PivotRoot(root_, At("/a"), At("/a"))), EBUSY);
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/a"))), 0);
  MakeDir("/a/old");
  MakeFile("/a/new", "new");
  EXPECT_EQ(E(mounts_->PivotRoot(root_, At("/a"), At("/b"))), EBUSY);
  EXPECT_EQ(E(mounts_->PivotRoot(root_, At("/a/old"), At("/a/old"))), EINVAL);
  EXPECT_EQ(E(mounts_->PivotRoot(root_, At("/a/new"), At("/a/old"))), ENOTDIR);
  Path fresh = At("/a");
  ASSERT_EQ(E(mounts_->PivotRoot(root_, fresh, At("/a/old"))), 0);
  root_ = cwd_ = fresh;
  EXPECT_EQ(Contents("/new"), "new");
  EXPECT_EQ(Contents("/old/f"), "f");
  EXPECT_EQ(Name(At("/old/b")), "/old/b");
  EXPECT_TRUE(mounts_->root() == fresh.mount);
  ASSERT_EQ(E(mounts_->Detach(At("/old"), MNT_DETACH)), 0);
  EXPECT_EQ(E(Resolve(Root(), "/old/f", 0)), ENOENT);
}

TEST_F(MountTest, PivotRootOntoItself) {
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/a"))), 0);
  MakeFile("/a/new", "new");
  Path fresh = At("/a");
  ASSERT_EQ(E(mounts_->PivotRoot(root_, fresh, fresh)), 0);
  cwd_ = root_ = fresh;
  // umount2(".", MNT_DETACH) takes the old root off the new one.
  ASSERT_EQ(E(mounts_->Detach(cwd_, MNT_DETACH)), 0);
  EXPECT_EQ(Contents("/new"), "new");
  EXPECT_EQ(mounts_->List().size(), 1u);
}

}  // namespace
}  // namespace sentry::vfs
