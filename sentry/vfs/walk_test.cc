// SPDX-License-Identifier: Apache-2.0
// Path resolution, open(2), and the errors of each, as Linux gives them.
#include <gtest/gtest.h>

#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/test_util.h"

namespace sentry::vfs {
namespace {

class WalkTest : public VfsTest {
 protected:
  WalkTest() {
    MakeDir("/d");
    MakeDir("/d/e");
    MakeFile("/d/f", "hello");
    MakeDir("/locked", 0700);
    MakeFile("/locked/x");
    Link("/link", "d/f");
    Link("/abs", "/d/e");
    Link("/loop", "loop");
    Link("/dangling", "/nowhere");
    Link("/dirlink", "d/");
  }
  void Link(std::string_view path, std::string_view target) { ASSERT_EQ(E(Symlink(Root(), target, path)), 0); }
  int Walk(std::string_view path, uint32_t flags = kFollowFinal) { return E(Resolve(User(), path, flags)); }
};

TEST_F(WalkTest, Errors) {
  EXPECT_EQ(Walk("/d/f"), 0);
  EXPECT_EQ(Walk(""), ENOENT);
  EXPECT_EQ(Walk("", kEmptyPath), 0);
  EXPECT_EQ(Walk("/"), 0);
  EXPECT_EQ(Walk("///"), 0);
  EXPECT_EQ(Walk("/none"), ENOENT);
  EXPECT_EQ(Walk("/none/x"), ENOENT);
  EXPECT_EQ(Walk("/d/f/x"), ENOTDIR);
  EXPECT_EQ(Walk("/d/f/"), ENOTDIR);
  EXPECT_EQ(Walk("/d/f/."), ENOTDIR);
  EXPECT_EQ(Walk("/d/f/.."), ENOTDIR);
  EXPECT_EQ(Walk("/d/e/"), 0);
  EXPECT_EQ(Walk("/d/f", kDirectory), ENOTDIR);
  EXPECT_EQ(Walk("/locked/x"), EACCES);
  EXPECT_EQ(Walk("/locked/none"), EACCES);
  EXPECT_EQ(Walk("/locked/.."), EACCES);
  EXPECT_EQ(Walk("/locked"), 0);
  EXPECT_EQ(Walk("/loop"), ELOOP);
  EXPECT_EQ(Walk("/loop", 0), 0);
  EXPECT_EQ(Walk("/loop/", 0), ELOOP);
  EXPECT_EQ(Walk("/dangling"), ENOENT);
  EXPECT_EQ(Walk("/link/"), ENOTDIR);
  EXPECT_EQ(Walk("/link"), 0);
  EXPECT_EQ(Walk("/" + std::string(255, 'a')), ENOENT);
  EXPECT_EQ(Walk("/" + std::string(256, 'a')), ENAMETOOLONG);
  EXPECT_EQ(Walk("/none/" + std::string(256, 'a')), ENOENT);
  EXPECT_EQ(Walk("/d/" + std::string(4096, '/')), ENAMETOOLONG);
  // A name too long in a directory that can't be searched: permission first.
  EXPECT_EQ(Walk("/locked/" + std::string(256, 'a')), EACCES);
}

TEST_F(WalkTest, DotDotAndRoot) {
  EXPECT_EQ(Name(At("/d/e/../../..")), "/");
  EXPECT_EQ(Name(At("/abs/../f")), "/d/f");
  root_ = cwd_ = At("/d");
  EXPECT_EQ(Walk("/../../f"), 0);
  EXPECT_EQ(Walk("../f"), 0);
  EXPECT_EQ(Walk("/d/f"), ENOENT);
  // Outside of the root, ".." goes on up.
  Path root = root_;
  root_ = {mount_, mount_->root()};
  cwd_ = root_;
  Path outside = At("/locked");
  root_ = root;
  cwd_ = outside;
  EXPECT_EQ(E(Resolve(Root(), "../d/f", 0)), 0);
  EXPECT_EQ(PathName(*mounts_, outside, root_), "(unreachable)/locked");
}

TEST_F(WalkTest, LinkLimit) {
  Link("/l0", "d");
  for (int i = 1; i <= 41; ++i) Link("/l" + std::to_string(i), "l" + std::to_string(i - 1));
  EXPECT_EQ(Walk("/l39"), 0);
  EXPECT_EQ(Walk("/l40"), ELOOP);
  // Forty in one path count together.
  std::string path;
  for (int i = 0; i < 41; ++i) path += "/l0/..";
  EXPECT_EQ(Walk(path), ELOOP);
}

TEST_F(WalkTest, Openat2) {
  cwd_ = At("/d");
  EXPECT_EQ(Walk("f", kBeneath), 0);
  EXPECT_EQ(Walk("e/../f", kBeneath), 0);
  EXPECT_EQ(Walk("../d/f", kBeneath), EXDEV);
  EXPECT_EQ(Walk("/d/f", kBeneath), EXDEV);
  EXPECT_EQ(Walk("/f", kInRoot), 0);
  EXPECT_EQ(Walk("../../f", kInRoot), 0);
  Link("/d/up", "../d/f");
  Link("/d/top", "/f");
  EXPECT_EQ(Walk("up", kBeneath | kFollowFinal), EXDEV);
  EXPECT_EQ(Walk("top", kBeneath | kFollowFinal), EXDEV);
  EXPECT_EQ(Walk("top", kInRoot | kFollowFinal), 0);
  EXPECT_EQ(Walk("top", kNoSymlinks | kFollowFinal), ELOOP);
  EXPECT_EQ(Walk("top", kNoSymlinks), 0);
  EXPECT_EQ(E(Open(User(), "top", O_RDONLY | O_NOFOLLOW, 0, kNoSymlinks)), ELOOP);
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/d/e"))), 0);
  EXPECT_EQ(Walk("e", kNoXdev), EXDEV);
  EXPECT_EQ(Walk("e/..", kNoXdev), EXDEV);
  EXPECT_EQ(Walk("f", kNoXdev), 0);
  EXPECT_EQ(Walk("never-looked-up", kCached), EAGAIN);
  EXPECT_EQ(Walk("f", kCached), 0);
}

TEST_F(WalkTest, OpenErrors) {
  auto open = [&](std::string_view path, int flags) { return E(Open(User(), path, flags, 0644)); };
  EXPECT_EQ(open("/d/f", O_RDONLY), 0);
  EXPECT_EQ(open("/d/f", O_WRONLY), EACCES);
  EXPECT_EQ(open("/d/f", O_RDONLY | O_TRUNC), EACCES);
  EXPECT_EQ(open("/d", O_WRONLY), EISDIR);
  EXPECT_EQ(open("/d", O_RDONLY | O_CREAT), EISDIR);
  EXPECT_EQ(open("/", O_RDONLY | O_CREAT), EISDIR);
  EXPECT_EQ(open("/", O_RDONLY | O_CREAT | O_EXCL), EEXIST);
  EXPECT_EQ(open("/d/.", O_RDONLY | O_CREAT), EISDIR);
  EXPECT_EQ(open("/d/new/", O_RDONLY | O_CREAT), EISDIR);
  EXPECT_EQ(open("/d", O_RDONLY | O_CREAT | O_DIRECTORY), EINVAL);
  EXPECT_EQ(open("/d/f", O_RDONLY | O_DIRECTORY), ENOTDIR);
  EXPECT_EQ(open("/d/new", O_RDWR | O_CREAT), EACCES);
  EXPECT_EQ(open("/none/new", O_RDWR | O_CREAT), ENOENT);
  EXPECT_EQ(open("/d/f", O_RDONLY | O_CREAT | O_EXCL), EEXIST);
  EXPECT_EQ(open("/link", O_RDONLY | O_NOFOLLOW), ELOOP);
  EXPECT_EQ(open("/link", O_RDONLY | O_NOFOLLOW | O_CREAT), ELOOP);
  EXPECT_EQ(open("/link", O_PATH | O_NOFOLLOW), 0);
  EXPECT_EQ(open("/dirlink", O_RDONLY | O_NOFOLLOW | O_DIRECTORY), ENOTDIR);
  EXPECT_EQ(open("/dangling", O_RDONLY | O_CREAT | O_EXCL), EEXIST);
  EXPECT_EQ(open("/d/f", O_RDONLY | O_NOATIME), EPERM);
  EXPECT_EQ(open("/locked", O_RDONLY), EACCES);
  EXPECT_EQ(open("/locked", O_PATH), 0);
  ASSERT_EQ(E(MknodSocket(Root(), "/s", 0777)), 0);
  EXPECT_EQ(E(MknodSocket(Root(), "/s", 0777)), EADDRINUSE);
  EXPECT_EQ(open("/s", O_RDONLY), ENXIO);
  EXPECT_EQ(open("/s", O_RDWR), EACCES);
}

TEST_F(WalkTest, CreateThroughLink) {
  Link("/to", "d/made");
  auto file = Open(Root(), "/to", O_RDWR | O_CREAT, 0666);
  ASSERT_EQ(E(file), 0);
  EXPECT_EQ(Name((*file)->path()), "/d/made");
  EXPECT_EQ(StatOf("/d/made").mode, S_IFREG | 0644u);
  // The creator may write even what the mode forbids.
  EXPECT_EQ(E(Open(Root(), "/d/ro", O_RDWR | O_CREAT, 0)), 0);
}

TEST_F(WalkTest, TruncAppendTmpfile) {
  auto file = Open(Root(), "/d/f", O_WRONLY | O_APPEND, 0);
  ASSERT_EQ(E(file), 0);
  EXPECT_EQ(WriteAll(**file, " world"), 6u);
  EXPECT_EQ((*file)->position(), 11);
  EXPECT_EQ(Contents("/d/f"), "hello world");
  ASSERT_EQ(E(Open(Root(), "/d/f", O_RDONLY | O_TRUNC, 0)), 0);
  EXPECT_EQ(StatOf("/d/f").size, 0u);

  EXPECT_EQ(E(Open(Root(), "/d", O_TMPFILE | O_RDONLY, 0600)), EINVAL);
  auto unnamed = Open(Root(), "/d", O_TMPFILE | O_RDWR, 0600);
  ASSERT_EQ(E(unnamed), 0);
  EXPECT_EQ((*unnamed)->GetStat()->nlink, 0u);
  WriteAll(**unnamed, "tmp");
  EXPECT_TRUE(Name((*unnamed)->path()).ends_with(" (deleted)"));
  WalkContext at = Root();
  at.start = (*unnamed)->path();
  EXPECT_EQ(E(vfs::Link(at, "", Root(), "/d/named", kEmptyPath)), 0);
  EXPECT_EQ(Contents("/d/named"), "tmp");
  auto exclusive = Open(Root(), "/d", O_TMPFILE | O_RDWR | O_EXCL, 0600);
  ASSERT_EQ(E(exclusive), 0);
  at.start = (*exclusive)->path();
  EXPECT_EQ(E(vfs::Link(at, "", Root(), "/d/named2", kEmptyPath)), ENOENT);
}

TEST_F(WalkTest, ReadOnlyAndTextBusy) {
  RefPtr<Inode> inode = At("/d/f").inode();
  ASSERT_EQ(E(inode->DenyWriteAccess()), 0);
  EXPECT_EQ(E(Open(Root(), "/d/f", O_RDWR, 0)), ETXTBSY);
  EXPECT_EQ(E(Open(Root(), "/d/f", O_RDONLY | O_TRUNC, 0)), ETXTBSY);
  inode->AllowWriteAccess();
  {
    auto file = Open(Root(), "/d/f", O_RDWR, 0);
    ASSERT_EQ(E(file), 0);
    EXPECT_EQ(E(inode->DenyWriteAccess()), ETXTBSY);
    EXPECT_EQ(E(mount_->Remount(kMountReadOnly)), EBUSY);
    EXPECT_FALSE(mount_->IsReadOnly());
  }
  ASSERT_EQ(E(inode->DenyWriteAccess()), 0);
  inode->AllowWriteAccess();
  ASSERT_EQ(E(mount_->Remount(kMountReadOnly)), 0);
  EXPECT_EQ(E(Open(Root(), "/d/f", O_RDWR, 0)), EROFS);
  EXPECT_EQ(E(Open(Root(), "/d/f", O_RDONLY, 0)), 0);
  EXPECT_EQ(E(Open(Root(), "/d/new", O_RDONLY | O_CREAT, 0)), EROFS);
  EXPECT_EQ(E(Open(Root(), "/d/f", O_RDONLY | O_CREAT, 0)), 0);
  EXPECT_EQ(E(Mkdir(Root(), "/d/new", 0)), EROFS);
  EXPECT_EQ(E(Mkdir(Root(), "/d/e", 0)), EEXIST);
  EXPECT_EQ(E(Unlink(Root(), "/d/f")), EROFS);
  EXPECT_EQ(E(Unlink(Root(), "/d/none")), EROFS);
  EXPECT_EQ(E(Rmdir(Root(), "/d/e")), EROFS);
  EXPECT_EQ(E(Rename(Root(), "/d/f", Root(), "/d/g", 0)), EROFS);
  EXPECT_EQ(E(Access(Root(), "/d/f", kMayWrite, 0)), EROFS);
  EXPECT_EQ(E(Access(User(), "/d/f", kMayWrite, 0)), EACCES);
  EXPECT_EQ(E(SetStat(Root(), At("/d/f"), {.mode = 0})), EROFS);
}

TEST_F(WalkTest, CacheStaysBounded) {
  DentryCache& cache = DentryCache::Get();
  cache.set_limit(cache.size() + 64);
  for (int i = 0; i < 5000; ++i) Walk("/d/none" + std::to_string(i));
  EXPECT_LE(cache.size(), 5000u / 10);
  Path held = At("/d/f");
  for (int i = 0; i < 5000; ++i) Walk("/d/other" + std::to_string(i));
  // What is in use keeps its identity.
  EXPECT_TRUE(At("/d/f") == held);
  cache.set_limit(DentryCache::kDefaultLimit);
}

TEST_F(WalkTest, DeepRemovedChainUnwinds) {
  constexpr int kDepth = 20000;
  std::vector<Path> up{At("/d/e")};
  for (int i = 0; i < kDepth; ++i) {
    cwd_ = up.back();
    ASSERT_EQ(E(Mkdir(Root(), "x", 0755)), 0);
    up.push_back(At("x"));
  }
  Path deepest = up.back();
  while (up.size() > 1) {
    up.pop_back();
    cwd_ = up.back();
    ASSERT_EQ(E(Rmdir(Root(), "x")), 0);
  }
  EXPECT_TRUE(deepest.dentry->IsUnhashed());
  cwd_ = root_;
  up.clear();
  deepest = Path();
  EXPECT_EQ(Walk("/d/e/x"), ENOENT);
}

}  // namespace
}  // namespace sentry::vfs
