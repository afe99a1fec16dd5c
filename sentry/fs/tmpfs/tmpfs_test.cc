// SPDX-License-Identifier: Apache-2.0
// tmpfs: limits, holes, readdir, mappings, seals, options.
#include "sentry/fs/tmpfs/tmpfs.h"

#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <string.h>

#include <set>

#include "sentry/fs/tmpfs/memfd.h"
#include "sentry/vfs/test_util.h"

namespace sentry::tmpfs {
namespace {

class TmpfsTest : public vfs::VfsTest {
 protected:
  vfs::FileRef Make(std::string_view path, int flags = O_RDWR) {
    auto file = vfs::Open(Root(), path, flags | O_CREAT, 0644);
    EXPECT_EQ(E(file), 0);
    return file.ok() ? *file : vfs::FileRef();
  }
  static size_t WriteAt(vfs::FileDescription& file, std::string_view data, int64_t offset, int* error = nullptr) {
    BufferSource source(data.data(), data.size());
    int64_t end;
    auto n = file.PWrite(source, offset, &end);
    if (error) *error = n.error_number();
    return n.ok() ? *n : 0;
  }
  // Mounts a tmpfs with these options at /m.
  RefPtr<Tmpfs> MountLimited(const TmpfsOptions& options) {
    auto limited = Tmpfs::Create(vfs::TestMemory(), options);
    MakeDir("/m");
    auto mount = MakeRef<vfs::Mount>(limited, vfs::Dentry::NewRoot(limited->Root()), 0, "tmpfs");
    EXPECT_EQ(E(mounts_->Attach(mount, At("/m"))), 0);
    return limited;
  }
  std::vector<std::string> List(vfs::FileDescription& directory, size_t limit = SIZE_MAX) {
    std::vector<std::string> names;
    EXPECT_EQ(E(directory.IterateDirectory([&](const vfs::DirEntry& entry) {
                if (names.size() >= limit) return false;
                names.emplace_back(entry.name);
                return true;
              })),
              0);
    return names;
  }
};

TEST_F(TmpfsTest, HolesAndSeek) {
  auto file = Make("/f");
  WriteAt(*file, "head", 0);
  WriteAt(*file, "tail", 10 * kPageSize);
  EXPECT_EQ(file->GetStat()->size, 10 * kPageSize + 4);
  EXPECT_EQ(file->GetStat()->blocks, 16u);
  std::string all = ReadAll(*file, 20 * kPageSize);
  EXPECT_EQ(all.size(), 10 * kPageSize + 4);
  EXPECT_EQ(all.substr(0, 6), std::string("head\0\0", 6));
  EXPECT_EQ(all.substr(10 * kPageSize), "tail");
  EXPECT_EQ(*file->Seek(0, SEEK_DATA), 0);
  EXPECT_EQ(*file->Seek(0, SEEK_HOLE), int64_t(kPageSize));
  EXPECT_EQ(*file->Seek(kPageSize, SEEK_DATA), int64_t(10 * kPageSize));
  EXPECT_EQ(*file->Seek(10 * kPageSize, SEEK_HOLE), int64_t(10 * kPageSize + 4));
  EXPECT_EQ(E(file->Seek(10 * kPageSize + 4, SEEK_DATA)), ENXIO);
  EXPECT_EQ(E(file->Seek(-1, SEEK_HOLE)), ENXIO);
}

TEST_F(TmpfsTest, Fallocate) {
  auto file = Make("/f");
  EXPECT_EQ(E(file->Allocate(0, 0, 0)), EINVAL);
  EXPECT_EQ(E(file->Allocate(0, INT64_MAX, 10)), EFBIG);
  EXPECT_EQ(E(file->Allocate(FALLOC_FL_COLLAPSE_RANGE, 0, 4096)), EOPNOTSUPP);
  EXPECT_EQ(E(file->Allocate(FALLOC_FL_PUNCH_HOLE, 0, 4096)), EOPNOTSUPP);
  EXPECT_EQ(E(file->Allocate(FALLOC_FL_KEEP_SIZE, 0, 3 * kPageSize)), 0);
  EXPECT_EQ(file->GetStat()->size, 0u);
  EXPECT_EQ(file->GetStat()->blocks, 24u);
  EXPECT_EQ(E(file->Allocate(0, 0, 3 * kPageSize)), 0);
  EXPECT_EQ(file->GetStat()->size, 3 * kPageSize);
  WriteAt(*file, std::string(3 * kPageSize, 'x'), 0);
  EXPECT_EQ(E(file->Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 2 * kPageSize)), 0);
  EXPECT_EQ(file->GetStat()->blocks, 16u);
  std::string all = ReadAll(*file, 4 * kPageSize);
  std::string want(3 * kPageSize, 'x');
  std::fill_n(want.begin() + 100, 2 * kPageSize, 0);
  EXPECT_EQ(all, want);
  EXPECT_EQ(E(file->Allocate(FALLOC_FL_ZERO_RANGE, 0, 10 * kPageSize)), 0);
  EXPECT_EQ(ReadAll(*file, 20 * kPageSize), std::string(10 * kPageSize, 0));
}

TEST_F(TmpfsTest, TruncateZeroesTheTail) {
  auto file = Make("/f");
  WriteAt(*file, std::string(5000, 'x'), 0);
  EXPECT_EQ(E(file->Truncate(10)), 0);
  EXPECT_EQ(file->GetStat()->blocks, 8u);
  EXPECT_EQ(E(file->Truncate(6000)), 0);
  EXPECT_EQ(ReadAll(*file, 8192), std::string(10, 'x') + std::string(5990, 0));
}

TEST_F(TmpfsTest, SizeLimit) {
  auto limited = MountLimited({.size = 10 * kPageSize});
  auto file = Make("/m/f");
  int error = 0;
  EXPECT_EQ(WriteAt(*file, std::string(20 * kPageSize, 'x'), 0, &error), 10 * kPageSize);
  EXPECT_EQ(WriteAt(*file, "x", 10 * kPageSize, &error), 0u);
  EXPECT_EQ(error, ENOSPC);
  EXPECT_EQ(limited->GetStatFs().blocks, 10u);
  EXPECT_EQ(limited->GetStatFs().blocks_free, 0u);
  EXPECT_EQ(E(file->Truncate(kPageSize)), 0);
  EXPECT_EQ(limited->GetStatFs().blocks_free, 9u);
  EXPECT_EQ(E(file->Allocate(0, 0, 11 * kPageSize)), ENOSPC);
  EXPECT_EQ(limited->GetStatFs().blocks_free, 9u);
  EXPECT_EQ(E(limited->Remount("size=4k")), 0);
  EXPECT_EQ(E(limited->Remount("size=2M,nr_inodes=100")), 0);
  EXPECT_EQ(limited->MountOptions(), "size=2048k,nr_inodes=100");
  EXPECT_EQ(WriteAt(*file, std::string(20 * kPageSize, 'x'), 0, &error), 20 * kPageSize);
  EXPECT_EQ(E(limited->Remount("size=4k")), EINVAL);
  // An unlinked open file still takes its room; the last close gives it back.
  ASSERT_EQ(E(vfs::Unlink(Root(), "/m/f")), 0);
  EXPECT_EQ(limited->used_pages(), 20u);
  file.Reset();
  EXPECT_EQ(limited->used_pages(), 0u);
}

TEST_F(TmpfsTest, InodeLimit) {
  auto limited = MountLimited({.nr_inodes = 3});
  Make("/m/a");
  EXPECT_EQ(E(vfs::Mkdir(Root(), "/m/b", 0755)), 0);
  EXPECT_EQ(E(vfs::Open(Root(), "/m/c", O_CREAT | O_RDWR, 0)), ENOSPC);
  EXPECT_EQ(E(vfs::Symlink(Root(), "x", "/m/c")), ENOSPC);
  EXPECT_EQ(E(vfs::Rmdir(Root(), "/m/b")), 0);
  EXPECT_EQ(E(vfs::Symlink(Root(), "x", "/m/c")), 0);
  EXPECT_EQ(limited->GetStatFs().files_free, 0u);
}

TEST_F(TmpfsTest, Options) {
  auto options = TmpfsOptions::Parse("size=64m,nr_inodes=1k,mode=0700,uid=5,gid=6,huge=always,inode64");
  ASSERT_EQ(E(options), 0);
  EXPECT_EQ(*options->size, 64u << 20);
  EXPECT_EQ(*options->nr_inodes, 1024u);
  EXPECT_EQ(options->mode, 0700u);
  EXPECT_EQ(options->uid, 5u);
  EXPECT_EQ(options->gid, 6u);
  // 50% is the default: half of the sandbox's 256 MiB.
  EXPECT_EQ(*TmpfsOptions::Parse("size=50%")->size / kPageSize, (128u << 20) / kPageSize);
  for (const char* bad : {"size=", "size=x", "size=1z", "size=99999999999999999999", "mode=9", "uid=-1", "bogus",
                          "size=20000000000000000g"}) {
    EXPECT_EQ(E(TmpfsOptions::Parse(bad)), EINVAL) << bad;
  }
}

TEST_F(TmpfsTest, ReaddirIsStable) {
  MakeDir("/d");
  std::set<std::string> stays;
  for (int i = 0; i < 1000; ++i) {
    Make("/d/" + std::to_string(i));
    if (i % 2) stays.insert(std::to_string(i));
  }
  auto directory = vfs::Open(Root(), "/d", O_RDONLY | O_DIRECTORY, 0);
  ASSERT_EQ(E(directory), 0);
  std::vector<std::string> seen = List(**directory, 300);
  EXPECT_EQ(seen[0], ".");
  EXPECT_EQ(seen[1], "..");
  // Names come and go between the calls; those that stay appear once.
  for (int i = 0; i < 1000; i += 2) ASSERT_EQ(E(vfs::Unlink(Root(), "/d/" + std::to_string(i))), 0);
  for (int i = 0; i < 100; ++i) Make("/d/new" + std::to_string(i));
  for (;;) {
    auto more = List(**directory, 70);
    if (more.empty()) break;
    seen.insert(seen.end(), more.begin(), more.end());
  }
  std::multiset<std::string> counted(seen.begin(), seen.end());
  for (const std::string& name : stays) EXPECT_EQ(counted.count(name), 1u) << name;
  EXPECT_EQ(*(*directory)->Seek(0, SEEK_SET), 0);
  EXPECT_EQ(List(**directory).size(), 602u);
}

TEST_F(TmpfsTest, ManyEntries) {
  constexpr int kCount = 100'000;
  MountLimited({.size = 0, .nr_inodes = 0});
  RefPtr<vfs::Inode> directory = At("/m").inode();
  for (int i = 0; i < kCount; ++i) ASSERT_EQ(E(directory->Create("file" + std::to_string(i), {0644, 0, 0})), 0);
  for (int i = 0; i < kCount; i += 7) ASSERT_EQ(E(directory->Lookup("file" + std::to_string(i))), 0);
  auto opened = vfs::Open(Root(), "/m", O_RDONLY, 0);
  EXPECT_EQ(List(**opened).size(), kCount + 2u);
}

TEST_F(TmpfsTest, MappingSeesTheFile) {
  auto file = Make("/f");
  WriteAt(*file, std::string(3 * kPageSize, 'x'), 0);
  mm::MmapRequest request;
  request.is_private = false;
  request.protection = {true, true, false};
  ASSERT_EQ(E(file->ConfigureMmap(request)), 0);
  mm::MappedObject& object = *request.object;
  EXPECT_EQ(object.Name(), "/f");
  EXPECT_EQ(object.InodeNumber(), file->GetStat()->ino);
  auto backing = object.GetBacking(kPageSize, 100 * kPageSize, true);
  ASSERT_EQ(E(backing), 0);
  EXPECT_TRUE(backing->in_memory_file);
  EXPECT_EQ(backing->length, 2 * kPageSize);
  uint8_t* page = vfs::TestMemory().Pointer(backing->offset);
  EXPECT_EQ(page[0], 'x');
  page[0] = 'y';
  EXPECT_EQ(ReadAll(*file, 3 * kPageSize)[kPageSize], 'y');
  EXPECT_EQ(E(object.GetBacking(3 * kPageSize, kPageSize, false)), EFAULT);
  // Truncation takes the page from the file, not from the one who holds a reference.
  ASSERT_EQ(E(file->Truncate(0)), 0);
  EXPECT_EQ(page[0], 'y');
  EXPECT_EQ(E(object.GetBacking(0, kPageSize, true)), EFAULT);
  vfs::TestMemory().DecRef({backing->offset, backing->offset + backing->length});
  // A hole gets a page when touched.
  ASSERT_EQ(E(file->Truncate(1 << 20)), 0);
  auto hole = object.GetBacking(kPageSize, kPageSize, false);
  ASSERT_EQ(E(hole), 0);
  EXPECT_EQ(file->GetStat()->blocks, 8u);
  vfs::TestMemory().DecRef({hole->offset, hole->offset + hole->length});
}

TEST_F(TmpfsTest, ReadOnlySharedMappingStaysReadOnly) {
  Make("/f");
  auto file = vfs::Open(Root(), "/f", O_RDONLY, 0);
  mm::MmapRequest request;
  request.is_private = false;
  request.protection = {true, false, false};
  ASSERT_EQ(E((*file)->ConfigureMmap(request)), 0);
  EXPECT_FALSE(request.max_protection.write);
}

TEST_F(TmpfsTest, MemfdSeals) {
  auto sealable = NewMemfd("x", *root_creds_, {.allow_sealing = true});
  ASSERT_EQ(E(sealable), 0);
  vfs::FileDescription& file = **sealable;
  EXPECT_EQ(Name(file.path()), "/memfd:x (deleted)");
  EXPECT_EQ(file.GetStat()->nlink, 0u);
  WriteAt(file, "data", 0);
  EXPECT_EQ(*file.inode()->GetSeals(), 0);
  {
    mm::MmapRequest request;
    request.is_private = false;
    request.protection = {true, true, false};
    ASSERT_EQ(E(file.ConfigureMmap(request)), 0);
    EXPECT_EQ(E(file.inode()->AddSeals(F_SEAL_WRITE)), EBUSY);
  }
  EXPECT_EQ(E(file.inode()->AddSeals(0x1000)), EINVAL);
  EXPECT_EQ(E(file.inode()->AddSeals(F_SEAL_GROW | F_SEAL_SHRINK)), 0);
  EXPECT_EQ(E(file.Truncate(0)), EPERM);
  EXPECT_EQ(E(file.Truncate(100)), EPERM);
  int error = 0;
  EXPECT_EQ(WriteAt(file, "more!", 0, &error), 0u);
  EXPECT_EQ(error, EPERM);
  EXPECT_EQ(WriteAt(file, "DATA", 0), 4u);
  EXPECT_EQ(E(file.inode()->AddSeals(F_SEAL_WRITE | F_SEAL_SEAL)), 0);
  EXPECT_EQ(WriteAt(file, "d", 0, &error), 0u);
  EXPECT_EQ(error, EPERM);
  EXPECT_EQ(E(file.Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4)), EPERM);
  mm::MmapRequest request;
  request.is_private = false;
  request.protection = {true, true, false};
  EXPECT_EQ(E(file.ConfigureMmap(request)), EPERM);
  request.protection.write = false;
  EXPECT_EQ(E(file.ConfigureMmap(request)), 0);
  EXPECT_FALSE(request.max_protection.write);
  EXPECT_EQ(E(file.inode()->AddSeals(0)), EPERM);
  EXPECT_EQ(*file.inode()->GetSeals(), F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL);
  auto plain = NewMemfd("y", *root_creds_, {});
  EXPECT_EQ(E((*plain)->inode()->AddSeals(F_SEAL_WRITE)), EPERM);
  EXPECT_EQ(E(At("/").inode()->GetSeals()), EINVAL);
}

TEST_F(TmpfsTest, XattrsAreCharged) {
  auto limited = MountLimited({.size = 2 * kPageSize});
  Make("/m/f");
  vfs::Path path = At("/m/f");
  EXPECT_EQ(E(vfs::SetXattr(Root(), path, "user.a", std::string(8000, 'x'), 0)), 0);
  EXPECT_EQ(E(vfs::SetXattr(Root(), path, "user.b", std::string(8000, 'x'), 0)), ENOSPC);
  EXPECT_EQ(E(vfs::RemoveXattr(Root(), path, "user.a")), 0);
  EXPECT_EQ(limited->used_pages(), 0u);
}

}  // namespace
}  // namespace sentry::tmpfs
