// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/dev/dev.h"

#include "sentry/vfs/test_util.h"

namespace sentry::fs {
namespace {

class DevTest : public vfs::VfsTest {
 protected:
  DevTest() {
    RegisterDevices();
    std::string failed;
    EXPECT_EQ(E(PopulateDev(mounts_, root_, &failed)), 0) << failed;
  }
  vfs::FileRef OpenDev(std::string_view name, int flags = O_RDWR) {
    auto file = vfs::Open(Root(), name, flags, 0);
    EXPECT_EQ(E(file), 0) << name;
    return file.ok() ? *file : nullptr;
  }
};

TEST_F(DevTest, NodesHaveTheirNumbers) {
  EXPECT_EQ(StatOf("null").rdev, makedev(1, 3));
  EXPECT_EQ(StatOf("null").mode, S_IFCHR | 0666u);
  EXPECT_EQ(StatOf("tty").rdev, makedev(5, 0));
  EXPECT_EQ(StatOf("shm").mode, S_IFDIR | 01777u);
  auto link = vfs::ReadLink(Root(), "ptmx");
  ASSERT_EQ(E(link), 0);
  EXPECT_EQ(*link, "pts/ptmx");
}

TEST_F(DevTest, PopulatingAgainKeepsWhatIsThere) { EXPECT_EQ(E(PopulateDev(mounts_, root_)), 0); }

TEST_F(DevTest, NullEatsAndGivesNothing) {
  auto file = OpenDev("null");
  EXPECT_EQ(ReadAll(*file), "");
  EXPECT_EQ(WriteAll(*file, "abc"), 3u);
  auto at = file->Seek(100, SEEK_SET);
  ASSERT_TRUE(at.ok());
  EXPECT_EQ(*at, 0);
}

TEST_F(DevTest, ZeroAndFull) {
  EXPECT_EQ(ReadAll(*OpenDev("zero"), 5000), std::string(5000, '\0'));
  auto full = OpenDev("full");
  EXPECT_EQ(ReadAll(*full, 1), std::string(1, '\0'));
  BufferSource source("x", 1);
  EXPECT_EQ(E(full->Write(source)), ENOSPC);
}

TEST_F(DevTest, RandomDiffersEachTime) {
  auto file = OpenDev("urandom");
  std::string a = ReadAll(*file, 32), b = ReadAll(*file, 32);
  EXPECT_EQ(a.size(), 32u);
  EXPECT_NE(a, b);
}

TEST_F(DevTest, ZeroMapsSharedMemory) {
  mm::MmapRequest request;
  request.length = 5000;
  request.is_private = false;
  request.offset = 4096;
  ASSERT_EQ(E(OpenDev("zero")->ConfigureMmap(request)), 0);
  ASSERT_TRUE(request.object);
  EXPECT_EQ(request.offset, 0u);
  EXPECT_EQ(request.object->Name(), "/dev/zero (deleted)");
  auto backing = request.object->GetBacking(4096, 4096, true);
  ASSERT_TRUE(backing.ok());
  vfs::TestMemory().DecRef({backing->offset, backing->offset + backing->length});
  EXPECT_EQ(E(OpenDev("null")->ConfigureMmap(request)), ENODEV);
}

TEST_F(DevTest, UnknownMinorIsENXIO) {
  ASSERT_EQ(E(vfs::Mknod(Root(), "odd", S_IFCHR | 0666, makedev(1, 77))), 0);
  EXPECT_EQ(E(vfs::Open(Root(), "odd", O_RDONLY, 0)), ENXIO);
}

}  // namespace
}  // namespace sentry::fs
