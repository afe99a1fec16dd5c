// SPDX-License-Identifier: Apache-2.0
#include "gofer/testing/exercise.h"

#include <fcntl.h>
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <set>
#include <string>
#include <thread>

#include "gtest/gtest.h"

namespace gofer {
namespace {

using std::string_view;

std::string ReadAll(int fd) {
  char buffer[256];
  ssize_t n = pread(fd, buffer, sizeof buffer, 0);
  return n < 0 ? "error" : std::string(buffer, n);
}

void Files(Client& c, NodeId root) {
  auto made = c.Create(root, "file", O_RDWR, 04640, getuid(), getgid());
  ASSERT_TRUE(made.ok()) << made.error().Name();
  EXPECT_EQ(made->node.attr.mode, S_IFREG | 04640u);
  EXPECT_EQ(pwrite(made->fd.get(), "hello", 5, 0), 5);
  EXPECT_NE(fcntl(made->fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(c.Create(root, "file", O_RDWR, 0600, kKeepId, kKeepId).error_number(), EEXIST);

  auto attr = c.GetAttr(made->node.node);
  ASSERT_TRUE(attr.ok());
  EXPECT_EQ(attr->size, 5u);
  EXPECT_EQ(attr->nlink, 1u);
  EXPECT_EQ(attr->ino, made->node.attr.ino);

  auto opened = c.Open(made->node.node, O_RDONLY);
  ASSERT_TRUE(opened.ok()) << opened.error().Name();
  EXPECT_EQ(ReadAll(opened->fd.get()), "hello");
  EXPECT_EQ(pwrite(opened->fd.get(), "x", 1, 0), -1);
  EXPECT_EQ(c.Open(made->node.node, O_CREAT).error_number(), EINVAL);
  EXPECT_TRUE(c.Open(made->node.node, O_WRONLY | O_TRUNC).ok());
  EXPECT_EQ(c.GetAttr(made->node.node)->size, 0u);

  AttrChange change{.fields = kSetMode | kSetSize | kSetAtime | kSetMtimeNow, .mode = 0600, .size = 3};
  change.atime = {.sec = 1000, .nsec = 5};
  auto changed = c.SetAttr(made->node.node, change);
  ASSERT_TRUE(changed.ok()) << changed.error().Name();
  EXPECT_EQ(changed->mode, S_IFREG | 0600u);
  EXPECT_EQ(changed->size, 3u);
  EXPECT_EQ(changed->atime.sec, 1000);
  EXPECT_EQ(changed->atime.nsec, 5u);
  if (getuid() == 0) {
    auto owned = c.SetAttr(made->node.node, {.fields = kSetUid | kSetGid, .uid = 7, .gid = 8});
    ASSERT_TRUE(owned.ok()) << owned.error().Name();
    EXPECT_EQ(owned->uid, 7u);
    EXPECT_EQ(owned->gid, 8u);
  }
  EXPECT_EQ(c.SetAttr(made->node.node, {.fields = 1u << 20}).error_number(), EINVAL);

  auto linked = c.Link(made->node.node, root, "hard");
  ASSERT_TRUE(linked.ok()) << linked.error().Name();
  EXPECT_EQ(linked->attr.nlink, 2u);
  EXPECT_EQ(linked->attr.ino, made->node.attr.ino);
  EXPECT_EQ(c.Link(root, root, "dirlink").error_number(), EPERM);

  EXPECT_TRUE(c.Unlink(root, "hard").ok());
  EXPECT_TRUE(c.Unlink(root, "file").ok());
  EXPECT_EQ(c.Unlink(root, "file").error_number(), ENOENT);
  auto deleted = c.GetAttr(made->node.node);
  ASSERT_TRUE(deleted.ok()) << deleted.error().Name();
  EXPECT_EQ(deleted->nlink, 0u);
  EXPECT_TRUE(c.Open(made->node.node, O_RDWR).ok());
  c.Forget(made->node.node);
  c.Forget(linked->node);
}

void Names(Client& c, NodeId root) {
  auto dir = c.Mkdir(root, "dir", 0750, getuid(), getgid());
  ASSERT_TRUE(dir.ok()) << dir.error().Name();
  EXPECT_EQ(dir->attr.mode, S_IFDIR | 0750u);
  EXPECT_EQ(c.Open(dir->node, O_RDONLY).error_number(), EISDIR);
  auto sub = c.Mkdir(dir->node, "sub", 01777, kKeepId, kKeepId);
  ASSERT_TRUE(sub.ok());
  EXPECT_EQ(sub->attr.mode, S_IFDIR | 01777u);
  auto link = c.Symlink(dir->node, "link", "../somewhere/else", getuid(), getgid());
  ASSERT_TRUE(link.ok()) << link.error().Name();
  EXPECT_EQ(c.ReadLink(link->node).value_or("error"), "../somewhere/else");
  EXPECT_EQ(c.Open(link->node, O_RDONLY).error_number(), ELOOP);
  EXPECT_EQ(c.ReadLink(dir->node).error_number(), EINVAL);
  if (getuid() == 0) {
    auto owned = c.Symlink(root, "owned", "x", 3, 4);
    ASSERT_TRUE(owned.ok()) << owned.error().Name();
    EXPECT_EQ(owned->attr.uid, 3u);
    EXPECT_TRUE(c.Link(owned->node, root, "owned2").ok());
    EXPECT_TRUE(c.Unlink(root, "owned").ok());
    EXPECT_TRUE(c.Unlink(root, "owned2").ok());
    auto set_gid = c.Mkdir(root, "setgid", 02755, 5, 6);
    ASSERT_TRUE(set_gid.ok());
    EXPECT_EQ(set_gid->attr.mode, S_IFDIR | 02755u);
    EXPECT_EQ(set_gid->attr.gid, 6u);
    auto inside = c.Create(set_gid->node, "f", O_RDWR, 0644, 9, kKeepId);
    ASSERT_TRUE(inside.ok());
    EXPECT_EQ(inside->node.attr.gid, 6u);
    EXPECT_EQ(inside->node.attr.uid, 9u);
    EXPECT_TRUE(c.Unlink(set_gid->node, "f").ok());
    EXPECT_TRUE(c.Rmdir(root, "setgid").ok());
  }

  string_view path[] = {"dir", "sub", "none", "more"};
  auto walk = c.Walk(root, path);
  ASSERT_TRUE(walk.ok());
  ASSERT_EQ(walk->found.size(), 2u);
  EXPECT_EQ(walk->stop_errno, ENOENT);
  EXPECT_EQ(walk->found[1].attr.ino, sub->attr.ino);
  string_view through[] = {"dir", "link", "x"};
  walk = c.Walk(root, through);
  ASSERT_TRUE(walk.ok());
  EXPECT_EQ(walk->found.size(), 2u);
  EXPECT_EQ(walk->stop_errno, ENOTDIR);
  EXPECT_EQ(c.Lookup(root, "..").error_number(), EINVAL);
  EXPECT_EQ(c.Lookup(root, "a/b").error_number(), EINVAL);
  EXPECT_EQ(c.Lookup(root, "").error_number(), EINVAL);
  EXPECT_EQ(c.Lookup(root, std::string(256, 'x')).error_number(), ENAMETOOLONG);

  auto fifo = c.Mknod(root, "fifo", S_IFIFO | 0600, 0, 0, kKeepId, kKeepId);
  ASSERT_TRUE(fifo.ok()) << fifo.error().Name();
  EXPECT_EQ(c.Open(fifo->node, O_RDONLY).error_number(), ENXIO);
  EXPECT_TRUE(c.Mknod(root, "regular", S_IFREG | 0600, 0, 0, kKeepId, kKeepId).ok());
  EXPECT_EQ(c.Mknod(root, "disk", S_IFBLK | 0600, 8, 0, kKeepId, kKeepId).error_number(), EPERM);
  EXPECT_EQ(c.Mknod(root, "null", S_IFCHR | 0600, 1, 3, kKeepId, kKeepId).error_number(), EPERM);
  auto whiteout = c.Mknod(root, "white", S_IFCHR, 0, 0, kKeepId, kKeepId);
  ASSERT_TRUE(whiteout.ok()) << whiteout.error().Name();
  EXPECT_EQ(c.Open(whiteout->node, O_RDONLY).error_number(), EPERM);

  EXPECT_TRUE(c.Rename(root, "regular", dir->node, "moved", RENAME_NOREPLACE).ok());
  EXPECT_EQ(c.Rename(root, "fifo", dir->node, "moved", RENAME_NOREPLACE).error_number(), EEXIST);
  EXPECT_TRUE(c.Rename(root, "fifo", dir->node, "moved", RENAME_EXCHANGE).ok());
  EXPECT_EQ(c.GetAttr(fifo->node)->mode & S_IFMT, unsigned{S_IFIFO});
  EXPECT_EQ(c.Rename(root, "fifo", root, "x", 0x80).error_number(), EINVAL);
  EXPECT_EQ(c.Rmdir(root, "dir").error_number(), ENOTEMPTY);
  for (const char* name : {"link", "moved"}) EXPECT_TRUE(c.Unlink(dir->node, name).ok()) << name;
  for (const char* name : {"fifo", "white"}) EXPECT_TRUE(c.Unlink(root, name).ok()) << name;
  EXPECT_TRUE(c.Rmdir(dir->node, "sub").ok());
  EXPECT_TRUE(c.Rmdir(root, "dir").ok());
}

void Directories(Client& c, NodeId root) {
  auto dir = c.Mkdir(root, "many", 0700, kKeepId, kKeepId);
  ASSERT_TRUE(dir.ok());
  std::set<std::string> made;
  for (int i = 0; i < 1200; ++i) {
    std::string name = "entry-" + std::to_string(i) + std::string(100, 'n');
    auto node = c.Mknod(dir->node, name, S_IFREG | 0600, 0, 0, kKeepId, kKeepId);
    ASSERT_TRUE(node.ok()) << node.error().Name();
    c.Forget(node->node);
    made.insert(name);
  }
  // Too many for one message, then few.
  auto whole = c.ReadWholeDir(dir->node);
  ASSERT_TRUE(whole.ok()) << whole.error().Name();
  std::set<std::string> listed;
  for (const DirEntry& e : *whole) EXPECT_TRUE(listed.insert(e.name).second) << e.name << " twice";
  EXPECT_EQ(listed, made);
  auto handle = c.OpenDir(dir->node);
  ASSERT_TRUE(handle.ok()) << handle.error().Name();
  auto first = c.ReadDir(*handle, 0);
  ASSERT_TRUE(first.ok());
  ASSERT_FALSE(first->entries.empty());
  EXPECT_FALSE(first->end);
  // What is removed behind the reader must not make it miss or repeat others.
  std::set<std::string> seen;
  for (const DirEntry& e : first->entries) seen.insert(e.name);
  EXPECT_TRUE(c.Unlink(dir->node, first->entries[0].name).ok());
  EXPECT_TRUE(c.Unlink(dir->node, first->entries.back().name).ok());
  uint64_t cookie = first->entries.back().cookie;
  for (bool end = false; !end;) {
    auto page = c.ReadDir(*handle, cookie);
    ASSERT_TRUE(page.ok()) << page.error().Name();
    end = page->end;
    for (const DirEntry& e : page->entries) {
      EXPECT_TRUE(seen.insert(e.name).second) << e.name << " twice";
      EXPECT_TRUE(e.type == DT_REG || e.type == DT_UNKNOWN);
      cookie = e.cookie;
    }
  }
  EXPECT_EQ(seen, made);
  c.CloseDir(*handle);
  EXPECT_EQ(c.ReadDir(*handle, 0).error_number(), ENOENT);
  for (const std::string& name : made) {
    if (name != "entry-7" + std::string(100, 'n')) (void)c.Unlink(dir->node, name);
  }
  whole = c.ReadWholeDir(dir->node);
  ASSERT_TRUE(whole.ok());
  ASSERT_EQ(whole->size(), 1u);
  EXPECT_EQ((*whole)[0].name, "entry-7" + std::string(100, 'n'));
  EXPECT_TRUE(c.Unlink(dir->node, (*whole)[0].name).ok());
  EXPECT_EQ(c.ReadWholeDir(dir->node + 1000).error_number(), ENOENT);
  EXPECT_TRUE(c.ReadWholeDir(dir->node)->empty());
  EXPECT_TRUE(c.Rmdir(root, "many").ok());
}

void Rest(Client& c, NodeId root) {
  auto statfs = c.StatFs(root);
  ASSERT_TRUE(statfs.ok());
  EXPECT_GT(statfs->bsize, 0u);
  EXPECT_TRUE(c.SyncFs(root).ok());
  auto file = c.Create(root, "x", O_RDWR, 0600, kKeepId, kKeepId);
  ASSERT_TRUE(file.ok());
  NodeId node = file->node.node;
  EXPECT_EQ(c.SetXattr(node, "security.evil", "1", 0).error_number(), EPERM);
  auto set = c.SetXattr(node, "user.colour", "green", XATTR_CREATE);
  if (set.error_number() != EOPNOTSUPP) {  // a tmpfs before Linux 6.6
    EXPECT_TRUE(set.ok()) << set.error().Name();
    EXPECT_EQ(c.SetXattr(node, "user.colour", "red", XATTR_CREATE).error_number(), EEXIST);
    EXPECT_EQ(c.GetXattr(node, "user.colour").value_or("error"), "green");
    EXPECT_NE(c.ListXattr(node).value_or("").find(std::string("user.colour") + '\0'), std::string::npos);
    EXPECT_TRUE(c.RemoveXattr(node, "user.colour").ok());
  }
  EXPECT_NE(c.GetXattr(node, "user.colour").error_number(), 0);
  c.Forget(node);
  c.FlushForgets();
  EXPECT_EQ(c.GetAttr(node).error_number(), ENOENT);
  EXPECT_TRUE(c.Unlink(root, "x").ok());
}

}  // namespace

void ExerciseEverything(Client& client) {
  NodeId root = client.mount().root.node;
  Files(client, root);
  Names(client, root);
  Directories(client, root);
  Rest(client, root);
  EXPECT_TRUE(client.ReadWholeDir(root)->empty());
  EXPECT_TRUE(client.connected());
}

void ExerciseChannels(Client& client) {
  NodeId root = client.mount().root.node;
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&client, root, t] {
      for (int i = 0; i < 100; ++i) {
        std::string name = "t" + std::to_string(t);
        auto made = client.Create(root, name, O_RDWR, 0600, kKeepId, kKeepId);
        ASSERT_TRUE(made.ok()) << made.error().Name();
        ASSERT_TRUE(client.Rename(root, name, root, name + "-new", 0).ok());
        auto found = client.Lookup(root, name + "-new");
        ASSERT_TRUE(found.ok()) << found.error().Name();
        EXPECT_EQ(found->attr.ino, made->node.attr.ino);
        EXPECT_TRUE(client.Open(made->node.node, O_RDONLY).ok());
        ASSERT_TRUE(client.Unlink(root, name + "-new").ok());
        client.Forget(found->node);
        client.Forget(made->node.node);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace gofer
