// SPDX-License-Identifier: Apache-2.0
// The overlay over a tmpfs as its lower tree.
#include "sentry/fs/overlay/overlay.h"

#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/inotify.h>

#include <algorithm>

#include "sentry/mm/memory_manager.h"
#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/test_util.h"

namespace sentry::fs {
namespace {

// The fixture's tmpfs, filled by Fill(), becomes the lower tree of what is mounted at the root.
class OverlayTest : public vfs::VfsTest {
 protected:
  void SetUp() override {
    MakeDir("/d");
    MakeFile("/d/f", "lower");
    MakeFile("/g", "twice");
    ASSERT_EQ(E(vfs::Link(Root(), "/g", Root(), "/h", 0)), 0);
    upper_ = tmpfs::Tmpfs::Create(vfs::TestMemory(), {.mode = 0755});
    auto overlay = NewOverlay(filesystem_, upper_);
    ASSERT_EQ(E(overlay), 0);
    overlay_ = *overlay;
    lower_root_ = root_;
    auto mount = MakeRef<vfs::Mount>(overlay_, vfs::Dentry::NewRoot(overlay_->Root()), 0, "overlay");
    mounts_ = MakeRef<vfs::MountNamespace>(mount, root_creds_->user_ns);
    root_ = cwd_ = {mount, mount->root()};
  }
  vfs::FileRef Open(std::string_view path, int flags) {
    auto file = vfs::Open(Root(), path, flags, 0644);
    EXPECT_EQ(E(file), 0) << path;
    return file.ok() ? *file : vfs::FileRef();
  }
  std::string Lower(std::string_view path) {
    vfs::WalkContext context{lower_root_, lower_root_, *root_creds_, mounts_, 022};
    auto file = vfs::Open(context, path, O_RDONLY, 0);
    return file.ok() ? ReadAll(**file) : "error " + std::to_string(E(file));
  }
  std::vector<std::string> List(std::string_view path) {
    std::vector<std::string> names;
    vfs::FileRef directory = Open(path, O_RDONLY | O_DIRECTORY);
    EXPECT_EQ(E(directory->IterateDirectory([&](const vfs::DirEntry& entry) {
                if (entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
                return true;
              })),
              0);
    std::sort(names.begin(), names.end());
    return names;
  }
  RefPtr<mm::MappedObject> Map(vfs::FileDescription& file, bool is_private) {
    mm::MmapRequest request;
    request.length = kPageSize;
    request.protection = {true, false, false};
    request.is_private = is_private;
    EXPECT_EQ(E(file.ConfigureMmap(request)), 0);
    return request.object;
  }
  // The first bytes that a fault in the mapping would see.
  std::string Peek(mm::MappedObject& object, size_t length) {
    auto backing = object.GetBacking(0, kPageSize, false);
    if (!backing.ok()) return "error " + std::to_string(E(backing));
    std::string data(reinterpret_cast<const char*>(vfs::TestMemory().Pointer(backing->offset)), length);
    vfs::TestMemory().DecRef({backing->offset, backing->offset + backing->length});
    return data;
  }

  RefPtr<tmpfs::Tmpfs> upper_;
  RefPtr<vfs::Filesystem> overlay_;
  vfs::Path lower_root_;
};

TEST_F(OverlayTest, WritesStayAbove) {
  auto file = Open("/d/f", O_RDWR);
  EXPECT_EQ(WriteAll(*file, "UP"), 2u);
  EXPECT_EQ(Contents("/d/f"), "UPwer");
  EXPECT_EQ(Lower("/d/f"), "lower");
}

TEST_F(OverlayTest, ReadersFollowTheCopyUp) {
  auto reader = Open("/d/f", O_RDONLY);
  std::string two(2, 0);
  BufferTarget target(two.data(), two.size());
  ASSERT_TRUE(reader->Read(target).ok());
  auto writer = Open("/d/f", O_RDWR | O_APPEND);
  EXPECT_EQ(WriteAll(*writer, "+more"), 5u);
  EXPECT_EQ(ReadAll(*reader), "lower+more");
  EXPECT_EQ(reader->position(), 2);
  EXPECT_EQ(*reader->Seek(0, SEEK_END), 10);
  EXPECT_EQ(*reader->Seek(0, SEEK_HOLE), 10);
  EXPECT_EQ(reader->GetStat()->ino, writer->GetStat()->ino);
}

TEST_F(OverlayTest, MappingsFollowTheCopyUp) {
  auto reader = Open("/d/f", O_RDONLY);
  RefPtr<mm::MappedObject> before = Map(*reader, false);
  EXPECT_EQ(Peek(*before, 5), "lower");
  auto writer = Open("/d/f", O_RDWR);
  RefPtr<mm::MappedObject> after = Map(*writer, false);
  EXPECT_EQ(WriteAll(*writer, "UPPER"), 5u);
  EXPECT_EQ(Peek(*before, 5), "UPPER");
  EXPECT_EQ(Peek(*after, 5), "UPPER");
  EXPECT_EQ(before->Identity(), after->Identity());
  EXPECT_EQ(&before->reverse_map(), &after->reverse_map());
  EXPECT_EQ(before->InodeNumber(), writer->GetStat()->ino);
  EXPECT_EQ(before->Device(), writer->GetStat()->dev);
  ASSERT_EQ(E(writer->Truncate(0)), 0);
  EXPECT_EQ(Peek(*before, 5), "error " + std::to_string(EFAULT));
}

TEST_F(OverlayTest, OneSetOfEventsForEachOpen) {
  std::vector<std::string> log;
  RefPtr<vfs::Inode> inode = At("/d/f").inode();
  auto watch = MakeRef<vfs::RecordingWatch>(&log, "f");
  inode->inotify_watches().Add(watch);
  Open("/d/f", O_RDONLY).Reset();
  ASSERT_EQ(log.size(), 2u);
  log.clear();
  Open("/d/f", O_RDWR).Reset();  // copies up
  EXPECT_EQ(log.size(), 2u);
  inode->inotify_watches().Remove(watch.get());
}

TEST_F(OverlayTest, HardLinksStayOneFile) {
  EXPECT_EQ(WriteAll(*Open("/g", O_WRONLY), "T"), 1u);
  EXPECT_EQ(Contents("/h"), "Twice");
  EXPECT_EQ(StatOf("/g").ino, StatOf("/h").ino);
  EXPECT_EQ(StatOf("/h").nlink, 2u);
  ASSERT_EQ(E(vfs::Unlink(Root(), "/g")), 0);
  EXPECT_EQ(StatOf("/h").nlink, 1u);
  EXPECT_EQ(Contents("/h"), "Twice");
}

TEST_F(OverlayTest, WhiteoutsHideAndNamesComeBack) {
  ASSERT_EQ(E(vfs::Unlink(Root(), "/d/f")), 0);
  EXPECT_EQ(E(vfs::Stat(Root(), "/d/f", 0)), ENOENT);
  EXPECT_TRUE(List("/d").empty());
  ASSERT_EQ(E(vfs::Rmdir(Root(), "/d")), 0);
  MakeDir("/d");
  EXPECT_TRUE(List("/d").empty()) << "a new directory doesn't show the old one's names";
  MakeFile("/d/f", "new");
  EXPECT_EQ(Contents("/d/f"), "new");
  EXPECT_EQ(Lower("/d/f"), "lower");
}

TEST_F(OverlayTest, LowerDirectoriesAreRenamed) {
  EXPECT_EQ(E(vfs::Rmdir(Root(), "/d")), ENOTEMPTY);
  ASSERT_EQ(E(vfs::Rename(Root(), "/d", Root(), "/e", 0)), 0);
  EXPECT_EQ(Contents("/e/f"), "lower");
  EXPECT_EQ(List("/"), (std::vector<std::string>{"e", "g", "h"}));
  ASSERT_EQ(E(vfs::Rename(Root(), "/e/f", Root(), "/g", RENAME_EXCHANGE)), 0);
  EXPECT_EQ(Contents("/g"), "lower");
  EXPECT_EQ(Contents("/e/f"), "twice");
}

TEST_F(OverlayTest, UnmountFreesTheUpperLayer) {
  std::string path;
  for (int i = 0; i < 200; ++i) MakeDir(path += "/n");
  MakeFile(path + "/big", std::string(4096, 'x'));
  EXPECT_EQ(WriteAll(*Open("/d/f", O_WRONLY), "x"), 1u);
  EXPECT_GT(upper_->used_pages(), 0u);
  root_ = cwd_ = lower_root_;
  mounts_ = MakeRef<vfs::MountNamespace>(mount_, root_creds_->user_ns);
  EXPECT_EQ(Contents("/d/f"), "lower");  // an operation reaps what the unmount left
  vfs::DentryCache::Get().Shrink();
  EXPECT_EQ(upper_->used_pages(), 0u);
}

}  // namespace
}  // namespace sentry::fs
