// SPDX-License-Identifier: Apache-2.0
// The rename matrix, and renames against concurrent removals.
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <stdio.h>

#include <thread>

#include "sentry/vfs/test_util.h"

namespace sentry::vfs {
namespace {

class RenameTest : public VfsTest {
 protected:
  int Ren(std::string_view from, std::string_view to, unsigned flags = 0) {
    return E(Rename(Root(), from, Root(), to, flags));
  }
};

TEST_F(RenameTest, Matrix) {
  // What the target is: nothing, a file, an empty directory, a full directory; what moves: a file or a directory.
  struct {
    const char* to;
    int file_result, directory_result;
  } const kCases[] = {
      {"/to/none", 0, 0}, {"/to/file", 0, ENOTDIR}, {"/to/empty", EISDIR, 0}, {"/to/full", EISDIR, ENOTEMPTY}};
  for (const char* parent : {"/", "/from/"}) {
    for (const auto& c : kCases) {
      for (bool directory : {false, true}) {
        MakeDir("/to");
        MakeDir("/from");
        MakeFile("/to/file", "old");
        MakeDir("/to/empty");
        MakeDir("/to/full");
        MakeFile("/to/full/x");
        std::string source = std::string(parent) + "src";
        if (directory) {
          MakeDir(source);
          MakeFile(source + "/inside", "in");
        } else {
          MakeFile(source, "new");
        }
        const int want = directory ? c.directory_result : c.file_result;
        EXPECT_EQ(Ren(source, c.to), want) << source << " " << c.to;
        if (want == 0) {
          EXPECT_EQ(Contents(directory ? std::string(c.to) + "/inside" : c.to), directory ? "in" : "new");
          EXPECT_EQ(E(Resolve(Root(), source, 0)), ENOENT);
        } else {
          EXPECT_EQ(E(Resolve(Root(), source, 0)), 0);
        }
        // Start afresh.
        mount_ = NewMount();
        mounts_ = MakeRef<MountNamespace>(mount_, root_creds_->user_ns);
        root_ = cwd_ = {mount_, mount_->root()};
      }
    }
  }
}

TEST_F(RenameTest, Errors) {
  MakeDir("/a");
  MakeDir("/a/b");
  MakeFile("/f", "f");
  EXPECT_EQ(Ren("/none", "/x"), ENOENT);
  EXPECT_EQ(Ren("/a", "/a/b/c"), EINVAL);
  EXPECT_EQ(Ren("/a", "/a/c"), EINVAL);
  EXPECT_EQ(Ren("/a/b", "/a"), ENOTEMPTY);
  EXPECT_EQ(Ren("/a/.", "/x"), EBUSY);
  EXPECT_EQ(Ren("/", "/x"), EBUSY);
  EXPECT_EQ(Ren("/a", "/.."), EBUSY);
  EXPECT_EQ(Ren("/a", "/..", RENAME_NOREPLACE), EEXIST);
  EXPECT_EQ(Ren("/f/", "/g"), ENOTDIR);
  EXPECT_EQ(Ren("/f", "/g/"), ENOTDIR);
  EXPECT_EQ(Ren("/a", "/x/"), 0);
  EXPECT_EQ(Ren("/x", "/a"), 0);
  EXPECT_EQ(Ren("/a", "/a"), 0);
  EXPECT_EQ(Ren("/f", "/g", 8), EINVAL);
  EXPECT_EQ(Ren("/f", "/g", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
  EXPECT_EQ(Ren("/f", "/a", RENAME_NOREPLACE), EEXIST);
  EXPECT_EQ(Ren("/f", "/g", RENAME_EXCHANGE), ENOENT);
  EXPECT_EQ(Ren("/a", "/a/b", RENAME_EXCHANGE), EINVAL);
  EXPECT_EQ(Ren("/a/b", "/a", RENAME_EXCHANGE), EINVAL);
  ASSERT_EQ(E(Link(Root(), "/f", Root(), "/g", 0)), 0);
  EXPECT_EQ(Ren("/f", "/g"), 0);
  EXPECT_EQ(StatOf("/f").nlink, 2u);
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/a/b"))), 0);
  EXPECT_EQ(Ren("/a/b", "/c"), EBUSY);
  EXPECT_EQ(Ren("/f", "/a/b/f"), EXDEV);
  EXPECT_EQ(E(Rmdir(Root(), "/a/b")), EBUSY);
}

TEST_F(RenameTest, ExchangeAndWhiteout) {
  MakeDir("/d");
  MakeDir("/d/sub");
  MakeFile("/f", "f");
  EXPECT_EQ(Ren("/f", "/d/sub", RENAME_EXCHANGE), 0);
  EXPECT_EQ(Contents("/d/sub"), "f");
  EXPECT_TRUE(S_ISDIR(StatOf("/f").mode));
  EXPECT_EQ(StatOf("/d").nlink, 2u);
  EXPECT_EQ(StatOf("/").nlink, 4u);
  EXPECT_EQ(Name(At("/f")), "/f");
  EXPECT_EQ(StatOf("/f/..").ino, StatOf("/").ino);
  EXPECT_EQ(Ren("/d/sub", "/g", RENAME_WHITEOUT), 0);
  EXPECT_TRUE(S_ISCHR(StatOf("/d/sub").mode));
  EXPECT_EQ(StatOf("/d/sub").rdev, 0u);
  EXPECT_EQ(Contents("/g"), "f");
}

TEST_F(RenameTest, MovingADirectoryNeedsWriteOnIt) {
  MakeDir("/a", 0777);
  MakeDir("/b", 0777);
  MakeDir("/a/roots", 0755);
  EXPECT_EQ(E(Rename(User(), "/a/roots", User(), "/b/x", 0)), EACCES);
  EXPECT_EQ(E(Rename(User(), "/a/roots", User(), "/a/x", 0)), 0);
}

TEST_F(RenameTest, OpenFilesFollow) {
  MakeDir("/a");
  MakeDir("/b");
  MakeFile("/a/f", "f");
  MakeFile("/b/g", "g");
  auto moved = Open(Root(), "/a/f", O_RDONLY, 0);
  auto replaced = Open(Root(), "/b/g", O_RDONLY, 0);
  ASSERT_EQ(Ren("/a/f", "/b/g"), 0);
  EXPECT_EQ(Name((*moved)->path()), "/b/g");
  EXPECT_EQ(Name((*replaced)->path()), "/b/g (deleted)");
  EXPECT_EQ(ReadAll(**replaced), "g");
}

// Would deadlock or corrupt if the lock order were wrong; checks that nothing is lost.
TEST_F(RenameTest, Concurrent) {
  MakeDir("/a");
  MakeDir("/a/b");
  MakeDir("/a/b/c");
  MakeFile("/a/token", "t");
  std::atomic<bool> stop{false};
  auto run = [&](auto body) {
    return std::thread([&, body] {
      while (!stop.load()) body();
    });
  };
  WalkContext context = Root();
  std::thread threads[] = {
      run([&] {
        (void)Rename(context, "/a/token", context, "/a/b/c/token", 0),
            (void)Rename(context, "/a/b/c/token", context, "/a/token", 0);
      }),
      run([&] {
        (void)Rename(context, "/a/b/c", context, "/a/d", 0), (void)Rename(context, "/a/d", context, "/a/b/c", 0);
      }),
      run([&] { (void)Mkdir(context, "/a/b/t", 0755), (void)Rmdir(context, "/a/b/t"), (void)Rmdir(context, "/a/b"); }),
  };
  for (int i = 0; i < 2000; ++i) (void)Resolve(context, "/a/b/c/../../b/c/token", 0);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  int found = 0;
  for (const char* path : {"/a/token", "/a/b/c/token", "/a/d/token"}) found += Contents(path) == "t";
  EXPECT_EQ(found, 1);
}

}  // namespace
}  // namespace sentry::vfs
