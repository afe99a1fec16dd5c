// SPDX-License-Identifier: Apache-2.0
// mkdir … chown: permissions, errors and effects, as Linux has them.
#include <gtest/gtest.h>
#include <sys/xattr.h>

#include "sentry/vfs/special_files.h"
#include "sentry/vfs/test_util.h"

namespace sentry::vfs {
namespace {

class OperationsTest : public VfsTest {};

TEST_F(OperationsTest, MkdirRmdir) {
  EXPECT_EQ(E(Mkdir(Root(), "/a/", 0777)), 0);
  EXPECT_EQ(StatOf("/a").mode, S_IFDIR | 0755u);
  EXPECT_EQ(StatOf("/a").nlink, 2u);
  EXPECT_EQ(StatOf("/").nlink, 3u);
  EXPECT_EQ(E(Mkdir(Root(), "/a", 0777)), EEXIST);
  EXPECT_EQ(E(Mkdir(Root(), "/", 0777)), EEXIST);
  EXPECT_EQ(E(Mkdir(Root(), "/a/.", 0777)), EEXIST);
  EXPECT_EQ(E(Mkdir(Root(), "/none/b", 0777)), ENOENT);
  EXPECT_EQ(E(Mkdir(User(), "/b", 0777)), EACCES);
  MakeFile("/a/f");
  EXPECT_EQ(E(Mkdir(Root(), "/a/f/g", 0777)), ENOTDIR);
  EXPECT_EQ(E(Rmdir(Root(), "/a")), ENOTEMPTY);
  EXPECT_EQ(E(Rmdir(Root(), "/a/f")), ENOTDIR);
  EXPECT_EQ(E(Rmdir(Root(), "/a/.")), EINVAL);
  EXPECT_EQ(E(Rmdir(Root(), "/a/..")), ENOTEMPTY);
  EXPECT_EQ(E(Rmdir(Root(), "/")), EBUSY);
  EXPECT_EQ(E(Rmdir(Root(), "/none")), ENOENT);
  EXPECT_EQ(E(Unlink(Root(), "/a/f")), 0);
  Path removed = At("/a");
  EXPECT_EQ(E(Rmdir(User(), "/a")), EACCES);
  EXPECT_EQ(E(Rmdir(Root(), "/a")), 0);
  EXPECT_EQ(StatOf("/").nlink, 2u);
  EXPECT_EQ(Name(removed), "/a (deleted)");
  // Nothing can be made in a removed directory.
  cwd_ = removed;
  EXPECT_EQ(E(Mkdir(Root(), "x", 0777)), ENOENT);
  EXPECT_EQ(E(Open(Root(), "x", O_CREAT | O_RDWR, 0)), ENOENT);
  EXPECT_EQ(E(Resolve(Root(), "x", 0)), ENOENT);
  EXPECT_EQ(E(Resolve(Root(), "..", 0)), 0);
}

TEST_F(OperationsTest, Unlink) {
  MakeDir("/d");
  MakeFile("/d/f", "data");
  ASSERT_EQ(E(Symlink(Root(), "f", "/d/l")), 0);
  EXPECT_EQ(E(Unlink(Root(), "/d")), EISDIR);
  EXPECT_EQ(E(Unlink(Root(), "/d/")), EISDIR);
  EXPECT_EQ(E(Unlink(Root(), "/d/.")), EISDIR);
  EXPECT_EQ(E(Unlink(Root(), "/")), EISDIR);
  EXPECT_EQ(E(Unlink(Root(), "/d/f/")), ENOTDIR);
  EXPECT_EQ(E(Unlink(Root(), "/d/none")), ENOENT);
  EXPECT_EQ(E(Unlink(User(), "/d/f")), EACCES);
  auto file = Open(Root(), "/d/f", O_RDONLY, 0);
  ASSERT_EQ(E(file), 0);
  EXPECT_EQ(E(Unlink(Root(), "/d/f")), 0);
  EXPECT_EQ(ReadAll(**file), "data");
  EXPECT_EQ((*file)->GetStat()->nlink, 0u);
  EXPECT_EQ(E(Unlink(Root(), "/d/l")), 0);
  EXPECT_EQ(E(Rmdir(Root(), "/d")), 0);
}

TEST_F(OperationsTest, StickyDirectory) {
  MakeDir("/tmp", 01777);
  MakeFile("/tmp/roots");
  MakeFile("/tmp/mine");
  Own("/tmp/mine", 1000, 1000);
  EXPECT_EQ(E(Unlink(User(), "/tmp/roots")), EPERM);
  EXPECT_EQ(E(Rename(User(), "/tmp/roots", User(), "/tmp/x", 0)), EPERM);
  EXPECT_EQ(E(Rename(User(), "/tmp/mine", User(), "/tmp/roots", 0)), EPERM);
  EXPECT_EQ(E(Rename(User(), "/tmp/mine", User(), "/tmp/mine2", 0)), 0);
  EXPECT_EQ(E(Unlink(User(), "/tmp/mine2")), 0);
  // The directory's owner may remove anything.
  Own("/tmp", 1000, 1000);
  EXPECT_EQ(E(Unlink(User(), "/tmp/roots")), 0);
}

TEST_F(OperationsTest, SetgidDirectory) {
  MakeDir("/g", 02777);
  Own("/g", 0, 500);
  SetStatRequest again;
  again.mode = 02777;
  ASSERT_EQ(E(SetStat(Root(), At("/g"), again)), 0);
  ASSERT_EQ(E(Mkdir(User(), "/g/sub", 0755)), 0);
  EXPECT_EQ(StatOf("/g/sub").gid, 500u);
  EXPECT_TRUE(StatOf("/g/sub").mode & S_ISGID);
  ASSERT_EQ(E(Open(User(), "/g/f", O_CREAT | O_WRONLY, 02755)), 0);
  EXPECT_EQ(StatOf("/g/f").gid, 500u);
  EXPECT_EQ(StatOf("/g/f").mode & 07777, 0755u);  // not in the group
}

TEST_F(OperationsTest, LinkAndSymlink) {
  MakeDir("/d");
  MakeFile("/f", "x");
  EXPECT_EQ(E(Link(Root(), "/f", Root(), "/d/g", 0)), 0);
  EXPECT_EQ(StatOf("/f").nlink, 2u);
  EXPECT_EQ(StatOf("/f").ino, StatOf("/d/g").ino);
  EXPECT_EQ(E(Link(Root(), "/f", Root(), "/d/g", 0)), EEXIST);
  EXPECT_EQ(E(Link(Root(), "/d", Root(), "/d2", 0)), EPERM);
  EXPECT_EQ(E(Link(Root(), "/none", Root(), "/n", 0)), ENOENT);
  EXPECT_EQ(E(Link(Root(), "/f", Root(), "/n/", 0)), ENOENT);
  EXPECT_EQ(E(Link(User(), "/f", User(), "/n", 0)), EACCES);
  ASSERT_EQ(E(Symlink(Root(), "f", "/l")), 0);
  EXPECT_EQ(E(Link(Root(), "/l", Root(), "/l2", 0)), 0);
  EXPECT_EQ(*ReadLink(Root(), "/l2"), "f");
  EXPECT_EQ(E(Link(Root(), "/l", Root(), "/f3", kFollowFinal)), 0);
  EXPECT_EQ(StatOf("/f").nlink, 3u);
  EXPECT_EQ(E(Symlink(Root(), "", "/e")), ENOENT);
  EXPECT_EQ(E(Symlink(Root(), "x", "/l")), EEXIST);
  EXPECT_EQ(E(Symlink(Root(), "x", "/new/")), ENOENT);
  EXPECT_EQ(E(ReadLink(Root(), "/f")), EINVAL);
  EXPECT_EQ(StatOf("/l").size, 1u);
  EXPECT_EQ(StatOf("/l").mode, S_IFLNK | 0777u);
  ASSERT_EQ(E(mounts_->Attach(NewMount(), At("/d"))), 0);
  EXPECT_EQ(E(Link(Root(), "/f", Root(), "/d/f", 0)), EXDEV);
}

TEST_F(OperationsTest, Mknod) {
  EXPECT_EQ(E(Mknod(Root(), "/reg", 0644, 0)), 0);
  EXPECT_EQ(StatOf("/reg").mode, S_IFREG | 0644u);
  EXPECT_EQ(E(Mknod(Root(), "/dir", S_IFDIR | 0644, 0)), EPERM);
  EXPECT_EQ(E(Mknod(Root(), "/odd", S_IFLNK | 0644, 0)), EINVAL);
  EXPECT_EQ(E(Mknod(Root(), "/null", S_IFCHR | 0666, makedev(250, 3))), 0);
  EXPECT_EQ(StatOf("/null").rdev, makedev(250, 3));
  EXPECT_EQ(E(Open(Root(), "/null", O_RDONLY, 0)), ENXIO);
  MakeDir("/w", 0777);
  EXPECT_EQ(E(Mknod(User(), "/w/null", S_IFCHR | 0666, makedev(1, 3))), EPERM);
  EXPECT_EQ(E(Mknod(User(), "/w/fifo", S_IFIFO | 0666, 0)), 0);
  mount_->set_flags(kMountNoDev);
  EXPECT_EQ(E(Open(Root(), "/null", O_RDONLY, 0)), EACCES);
}

TEST_F(OperationsTest, PermissionTable) {
  struct {
    mode_t mode;
    uid_t uid;
    gid_t gid;
    int mask;
    int as_user, as_root;
  } const kCases[] = {
      {0400, 1000, 1000, kMayRead, 0, 0},
      {0400, 1000, 1000, kMayWrite, EACCES, 0},
      {0040, 1000, 1000, kMayRead, EACCES, 0},  // the owner's bits only
      {0040, 0, 100, kMayRead, 0, 0},
      {0004, 0, 100, kMayRead, EACCES, 0},
      {0004, 0, 0, kMayRead, 0, 0},
      {0644, 0, 0, kMayExec, EACCES, EACCES},
      {0100, 0, 0, kMayExec, EACCES, 0},
      {0, 0, 0, kMayRead | kMayWrite, EACCES, 0},
  };
  MakeFile("/f");
  for (const auto& c : kCases) {
    Own("/f", c.uid, c.gid);
    SetStatRequest request;
    request.mode = c.mode;
    ASSERT_EQ(E(SetStat(Root(), At("/f"), request)), 0);
    EXPECT_EQ(E(Access(User(), "/f", c.mask, 0)), c.as_user) << std::oct << c.mode;
    EXPECT_EQ(E(Access(Root(), "/f", c.mask, 0)), c.as_root) << std::oct << c.mode;
  }
  mount_->set_flags(kMountNoExec);
  SetStatRequest request;
  request.mode = 0777;
  ASSERT_EQ(E(SetStat(Root(), At("/f"), request)), 0);
  EXPECT_EQ(E(Access(Root(), "/f", kMayExec, 0)), EACCES);
  // In a child user namespace, capabilities don't reach the sandbox's root.
  auto nested = UserCreds(1000, 1000, {}, kAllCapabilities);
  nested->user_ns = MakeRef<UserNamespace>(root_creds_->user_ns, 1000, 1000, false);
  MakeDir("/private", 0700);
  EXPECT_EQ(E(Resolve(As(nested), "/private/x", 0)), EACCES);
}

TEST_F(OperationsTest, ChmodChown) {
  MakeFile("/f");
  Own("/f", 1000, 1000);
  auto chmod = [&](const RefPtr<Credentials>& creds, mode_t mode) {
    SetStatRequest request;
    request.mode = mode;
    return E(SetStat(As(creds), At("/f"), request));
  };
  auto chown = [&](const RefPtr<Credentials>& creds, int uid, int gid) {
    SetStatRequest request;
    if (uid >= 0) request.uid = uid;
    if (gid >= 0) request.gid = gid;
    return E(SetStat(As(creds), At("/f"), request));
  };
  auto other = UserCreds(2000, 2000);
  EXPECT_EQ(chmod(other, 0777), EPERM);
  EXPECT_EQ(chmod(user_creds_, 06777), 0);
  EXPECT_EQ(StatOf("/f").mode & 07777, 06777u);
  EXPECT_EQ(chown(user_creds_, 1000, -1), 0);  // no change, but set-id bits go
  EXPECT_EQ(StatOf("/f").mode & 07777, 0777u);
  EXPECT_EQ(chown(user_creds_, 2000, -1), EPERM);
  EXPECT_EQ(chown(user_creds_, -1, 100), 0);
  EXPECT_EQ(chown(user_creds_, -1, 101), EPERM);
  EXPECT_EQ(chown(other, 1000, 100), EPERM);
  EXPECT_EQ(chmod(root_creds_, 06755), 0);
  EXPECT_EQ(chown(root_creds_, 1000, 3000), 0);
  EXPECT_EQ(StatOf("/f").mode & 07777, 0755u);
  EXPECT_EQ(chmod(user_creds_, 02755), 0);  // not in group 3000: no set-group-id
  EXPECT_EQ(StatOf("/f").mode & 07777, 0755u);
  // A write by the unprivileged drops set-id bits, root's keeps them.
  EXPECT_EQ(chmod(root_creds_, 06777), 0);
  auto file = Open(Root(), "/f", O_WRONLY, 0);
  ASSERT_EQ(E(file), 0);
  WriteAll(**file, "x");
  EXPECT_EQ(StatOf("/f").mode & 07777, 06777u);
  caller_.set_creds(user_creds_);
  WriteAll(**file, "x");
  EXPECT_EQ(StatOf("/f").mode & 07777, 0777u);
}

TEST_F(OperationsTest, TruncateAndTimes) {
  MakeFile("/f", "data");
  MakeDir("/d");
  SetStatRequest truncate;
  truncate.size = 2;
  EXPECT_EQ(E(SetStat(User(), At("/f"), truncate)), EACCES);
  EXPECT_EQ(E(SetStat(Root(), At("/d"), truncate)), EISDIR);
  EXPECT_EQ(E(SetStat(Root(), At("/f"), truncate)), 0);
  EXPECT_EQ(Contents("/f"), "da");
  SetStatRequest times;
  times.atime = Timestamp{100, 5};
  times.mtime = Timestamp{200, 6};
  EXPECT_EQ(E(SetStat(User(), At("/f"), times)), EPERM);
  EXPECT_EQ(E(SetStat(User(), At("/f"), times, true)), EACCES);
  ASSERT_EQ(E(SetStat(Root(), At("/f"), times)), 0);
  EXPECT_EQ(StatOf("/f").mtime, (Timestamp{200, 6}));
  SetStatRequest open_mode;
  open_mode.mode = 0666;
  ASSERT_EQ(E(SetStat(Root(), At("/f"), open_mode)), 0);
  EXPECT_EQ(E(SetStat(User(), At("/f"), times, true)), 0);
}

TEST_F(OperationsTest, Xattrs) {
  MakeFile("/f", "", 0644);
  MakeDir("/d");
  ASSERT_EQ(E(Symlink(Root(), "f", "/l")), 0);
  Path file = At("/f"), link = At("/l");
  auto set = [&](const RefPtr<Credentials>& creds, const Path& path, std::string_view name, int flags = 0) {
    return E(SetXattr(As(creds), path, name, "v", flags));
  };
  EXPECT_EQ(set(root_creds_, file, "user.a"), 0);
  EXPECT_EQ(set(root_creds_, file, "user.a", XATTR_CREATE), EEXIST);
  EXPECT_EQ(set(root_creds_, file, "user.b", XATTR_REPLACE), ENODATA);
  EXPECT_EQ(set(root_creds_, file, "user."), EINVAL);
  EXPECT_EQ(set(root_creds_, file, ""), ERANGE);
  EXPECT_EQ(set(root_creds_, file, "user." + std::string(251, 'x')), ERANGE);
  EXPECT_EQ(set(root_creds_, file, "other.a"), EOPNOTSUPP);
  EXPECT_EQ(set(user_creds_, file, "user.c"), EACCES);
  EXPECT_EQ(*GetXattr(User(), file, "user.a"), "v");
  EXPECT_EQ(E(GetXattr(User(), file, "user.none")), ENODATA);
  EXPECT_EQ(set(root_creds_, link, "user.a"), EPERM);
  EXPECT_EQ(E(GetXattr(Root(), link, "user.a")), ENODATA);
  EXPECT_EQ(set(root_creds_, file, "trusted.t"), 0);
  EXPECT_EQ(set(user_creds_, file, "trusted.t"), EPERM);
  EXPECT_EQ(E(GetXattr(User(), file, "trusted.t")), ENODATA);
  EXPECT_EQ(set(user_creds_, file, "security.s"), EPERM);
  EXPECT_EQ(set(root_creds_, file, "security.capability"), 0);
  EXPECT_EQ(set(root_creds_, file, "system.posix_acl_access"), 0);
  EXPECT_EQ(ListXattr(Root(), file)->size(), 4u);
  EXPECT_EQ(ListXattr(User(), file)->size(), 3u);
  EXPECT_EQ(E(SetXattr(Root(), file, "user.big", std::string(65537, 'x'), 0)), E2BIG);
  EXPECT_EQ(E(RemoveXattr(Root(), file, "user.a")), 0);
  EXPECT_EQ(E(RemoveXattr(Root(), file, "user.a")), ENODATA);
}

TEST_F(OperationsTest, AnonymousPaths) {
  Path path = NewAnonymousPath("anon_inode:[x]", 0600, *root_creds_);
  EXPECT_EQ(Name(path), "anon_inode:[x]");
  EXPECT_EQ(path.inode()->GetStat()->mode, 0600u);
  EXPECT_EQ(path.inode()->type(), 0u);
}

TEST_F(OperationsTest, SeekAndFlags) {
  MakeFile("/f", "0123456789");
  auto opened = Open(Root(), "/f", O_RDWR | O_CLOEXEC | O_CREAT, 0);
  ASSERT_EQ(E(opened), 0);
  FileDescription& file = **opened;
  EXPECT_EQ(file.flags(), O_RDWR | 0100000);
  EXPECT_EQ(*file.Seek(3, SEEK_SET), 3);
  EXPECT_EQ(*file.Seek(2, SEEK_CUR), 5);
  EXPECT_EQ(*file.Seek(-1, SEEK_END), 9);
  EXPECT_EQ(E(file.Seek(-11, SEEK_END)), EINVAL);
  EXPECT_EQ(E(file.Seek(0, 99)), EINVAL);
  EXPECT_EQ(E(file.Seek(INT64_MAX, SEEK_CUR)), EOVERFLOW);
  ASSERT_EQ(E(file.SetStatusFlags(O_APPEND | O_WRONLY | O_CREAT)), 0);
  EXPECT_EQ(file.flags(), O_RDWR | O_APPEND | 0100000);
}

}  // namespace
}  // namespace sentry::vfs
