// SPDX-License-Identifier: Apache-2.0
// What of procfs works without tasks: parsing, text files and their snapshots, static directories, settings.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>

#include "sentry/fs/proc/proc_fs.h"
#include "sentry/fs/proc/proc_inode.h"
#include "sentry/fs/proc/system.h"
#include "sentry/fs/proc/text_file.h"
#include "sentry/kernel/core/io.h"
#include "sentry/vfs/special_files.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {
namespace {

TEST(ProcParse, Ids) {
  int id = -1;
  EXPECT_TRUE(ParseId("0", &id));
  EXPECT_EQ(0, id);
  EXPECT_TRUE(ParseId("2147483647", &id));
  EXPECT_EQ(INT32_MAX, id);
  for (const char* bad :
       {"", "00", "01", "-1", "+1", " 1", "1 ", "2147483648", "9999999999", "99999999999", "1x", "self"})
    EXPECT_FALSE(ParseId(bad, &id)) << bad;
}

TEST(ProcParse, Numbers) {
  EXPECT_EQ(12, ParseNumber("12").value_or(-1));
  EXPECT_EQ(12, ParseNumber(" \t12\n").value_or(-1));
  EXPECT_EQ(-1000, ParseNumber("-1000\n").value_or(-1));
  EXPECT_EQ(7, ParseNumber(std::string_view("7\n\0", 3)).value_or(-1));
  EXPECT_EQ(999999999999999999, ParseNumber("999999999999999999").value_or(-1));
  for (const char* bad : {"", " ", "-", "--1", "1 2", "0x10", "1e3", "one", "1000000000000000000"}) {
    auto parsed = ParseNumber(bad);
    ASSERT_FALSE(parsed.ok()) << bad;
    EXPECT_EQ(Errno(EINVAL), parsed.error());
  }
}

TEST(ProcParse, AppendsTextOfAnyLength) {
  std::string text = "a";
  Append(text, "%d", 1);
  const std::string longer(2000, 'x');
  Append(text, "%s|", longer.c_str());
  EXPECT_EQ("a1" + longer + "|", text);
}

TEST(ProcOptions, AreChecked) {
  auto parsed = ProcOptions::Parse("hidepid=2,gid=100,subset=pid");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(2, parsed->hide_pid);
  EXPECT_EQ(100u, parsed->gid);
  EXPECT_TRUE(parsed->pids_only);
  EXPECT_EQ(2, ProcOptions::Parse("hidepid=invisible")->hide_pid);
  EXPECT_TRUE(ProcOptions::Parse("").ok());
  for (const char* bad :
       {"hidepid=3", "hidepid=", "hidepid=x", "gid=", "gid=-1", "subset=all", "nonsense", "nonsense=1"})
    EXPECT_FALSE(ProcOptions::Parse(bad).ok()) << bad;
}

class ProcTest : public ::testing::Test {
 protected:
  RefPtr<ProcFs> fs_ = MakeRef<ProcFs>(nullptr, ProcOptions{});

  static vfs::FileRef Open(const RefPtr<vfs::Inode>& inode, int flags) {
    auto opened = inode->Open(vfs::NewAnonymousPath("file", inode), flags);
    EXPECT_TRUE(opened.ok());
    return opened.ok() ? *opened : nullptr;
  }
  static std::string Read(vfs::FileDescription& file, size_t size) {
    std::string text(size, '\0');
    BufferTarget target(text.data(), text.size());
    auto n = file.Read(target);
    return n.ok() ? text.substr(0, *n) : std::string("(") + n.error().Name() + ")";
  }
  static std::string ReadAt(vfs::FileDescription& file, int64_t offset, size_t size) {
    std::string text(size, '\0');
    BufferTarget target(text.data(), text.size());
    auto n = file.PRead(target, offset);
    return n.ok() ? text.substr(0, *n) : std::string("(") + n.error().Name() + ")";
  }
  static Result<size_t> Write(vfs::FileDescription& file, std::string_view text) {
    BufferSource source(text.data(), text.size());
    return file.Write(source);
  }
};

// The root caches no names, so a cached name below one of its directories could never be found again, nor dropped.
TEST_F(ProcTest, NamesBelowTheRootAreNotKept) {
  const RefPtr<Credentials> creds = Credentials::Root(kAllCapabilities);
  auto mount = MakeRef<vfs::Mount>(fs_, vfs::Dentry::NewRoot(fs_->Root()), 0, "proc");
  auto mounts = MakeRef<vfs::MountNamespace>(mount, creds->user_ns);
  const vfs::Path root{mount, mount->root()};
  const vfs::WalkContext context = {root, root, *creds, mounts, 022};
  RefPtr<vfs::Inode> inode;
  {
    auto found = vfs::Resolve(context, "/sys/kernel/hostname", 0);
    ASSERT_TRUE(found.ok()) << found.error().Name();
    inode = found->inode();
  }
  const size_t references = inode->RefCountForDebug();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(vfs::Resolve(context, "/sys/kernel/hostname", 0).ok());
  EXPECT_EQ(inode->RefCountForDebug(), references);
  EXPECT_EQ(references, 2u);  // this one's and the directory's
}

int generation = 0;

constexpr TextEntry kCounting = {"counting", 0444, [](const Context&) -> Result<std::string> {
                                   return "picture " + std::to_string(generation++) + "\n";
                                 }};

// As seq_file: a file that is read in pieces is one picture; from its start it is a new one.
TEST_F(ProcTest, ATextIsOnePictureUntilItsStartIsReadAgain) {
  generation = 0;
  auto inode = MakeRef<TextInode>(*fs_, fs_->NextInode(), kCounting);
  vfs::FileRef file = Open(inode, O_RDONLY), other = Open(inode, O_RDONLY);
  EXPECT_EQ("picture", Read(*file, 7));
  EXPECT_EQ("picture 1\n", Read(*other, 100));
  EXPECT_EQ(" 0\n", Read(*file, 100));
  EXPECT_EQ("", Read(*file, 100)) << "the end";
  EXPECT_EQ("0\n", ReadAt(*file, 8, 100));
  EXPECT_EQ("picture 2\n", ReadAt(*file, 0, 100));
  EXPECT_EQ("2\n", ReadAt(*file, 8, 100));
  EXPECT_EQ("", ReadAt(*file, 10, 100));
  EXPECT_EQ("", ReadAt(*file, INT64_MAX, 100));
  EXPECT_EQ("(EINVAL)", ReadAt(*file, -1, 100));
}

std::string stored;

constexpr TextEntry kStoring = {"storing", 0644, [](const Context&) -> Result<std::string> { return stored; },
                                [](const Context&, std::string_view data) -> Result<size_t> {
                                  if (data == "bad") return Errno(ERANGE);
                                  stored = data;
                                  return data.size();
                                }};

TEST_F(ProcTest, AWriteIsHandedOverWhole) {
  auto inode = MakeRef<TextInode>(*fs_, fs_->NextInode(), kStoring);
  vfs::FileRef file = Open(inode, O_RDWR);
  EXPECT_EQ(5u, Write(*file, "hello").value_or(0));
  EXPECT_EQ("hello", stored);
  EXPECT_EQ(5, file->position());
  auto refused = Write(*file, "bad");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(Errno(ERANGE), refused.error());
  EXPECT_EQ("hello", stored);
  // One page at most, whatever a guest hands in.
  EXPECT_EQ(4096u, Write(*file, std::string(1 << 20, 'x')).value_or(0));
  EXPECT_EQ(4096u, stored.size());
}

TEST_F(ProcTest, AFileWithoutWriterRefuses) {
  auto inode = MakeRef<TextInode>(*fs_, fs_->NextInode(), kCounting);
  EXPECT_FALSE(inode->Store("x").ok());
}

TEST_F(ProcTest, StaticDirectoriesFindWhatTheyList) {
  auto directory = MakeRef<StaticDirectory>(*fs_, fs_->NextInode());
  constexpr TextEntry kEntries[] = {{"one", 0444}, {"two", 0400}};
  AddTexts(*fs_, *directory, kEntries);
  AddDirectory(*fs_, *directory, "below");
  auto list = directory->List();
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(3u, list->size());
  int64_t last = ProcDirectory::kFirstCookie - 1;
  for (const auto& entry : *list) {
    auto found = directory->Lookup(entry.name);
    ASSERT_TRUE(found.ok()) << entry.name;
    EXPECT_EQ(entry.ino, static_cast<ProcInode&>(**found).ino());
    EXPECT_EQ(entry.name == "below" ? DT_DIR : DT_REG, entry.type);
    EXPECT_GT(entry.cookie, last) << "cookies rise";
    last = entry.cookie;
  }
  EXPECT_EQ(Errno(ENOENT), directory->Lookup("three").error());
  directory->Clear();
  EXPECT_EQ(Errno(ENOENT), directory->Lookup("one").error());
}

class SysctlTest : public ProcTest {
 protected:
  void SetUp() override { AddSysctls(*fs_, *root_); }
  void TearDown() override { root_->Clear(); }
  RefPtr<vfs::Inode> Find(std::string_view path) {
    RefPtr<vfs::Inode> at = root_;
    while (!path.empty()) {
      const size_t slash = path.find('/');
      auto next = at->Lookup(path.substr(0, slash));
      if (!next.ok()) return nullptr;
      at = *next;
      path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    }
    return at;
  }
  RefPtr<StaticDirectory> root_ = MakeRef<StaticDirectory>(*fs_, fs_->NextInode());
};

TEST_F(SysctlTest, SettingsKeepWhatWasWritten) {
  RefPtr<vfs::Inode> swappiness = Find("sys/vm/swappiness");
  ASSERT_TRUE(swappiness);
  vfs::FileRef file = Open(swappiness, O_RDWR);
  EXPECT_EQ("60\n", ReadAt(*file, 0, 100));
  EXPECT_EQ(3u, Write(*file, "10\n").value_or(0));
  EXPECT_EQ("10\n", ReadAt(*file, 0, 100));
  EXPECT_EQ(2u, Write(*file, "20").value_or(0));
  EXPECT_EQ("20\n", ReadAt(*file, 0, 100)) << "a line in any case";
  for (const char* bad : {"ten", "", "\n", "1 2", "1;2"}) {
    auto written = Write(*file, bad);
    EXPECT_FALSE(written.ok()) << bad;
  }
  EXPECT_FALSE(Write(*file, std::string(1000, '1')).ok());
  EXPECT_EQ("20\n", ReadAt(*file, 0, 100));
  EXPECT_TRUE(Write(*file, "60").ok());  // the store is the process's: as other tests find it
}

TEST_F(SysctlTest, ConstantsCannotBeWritten) {
  RefPtr<vfs::Inode> last_cap = Find("sys/kernel/cap_last_cap");
  ASSERT_TRUE(last_cap);
  EXPECT_EQ(S_IFREG | 0444u, last_cap->GetStat()->mode);
  EXPECT_FALSE(static_cast<TextInode&>(*last_cap).Store("1").ok());
}

TEST_F(SysctlTest, UuidsAreRandomButTheBootId) {
  const auto read = [&](const char* path) { return static_cast<TextInode&>(*Find(path)).Generate().value_or(""); };
  const std::string uuid = read("sys/kernel/random/uuid"), boot = read("sys/kernel/random/boot_id");
  ASSERT_EQ(37u, uuid.size());
  EXPECT_EQ('4', uuid[14]) << "version 4: " << uuid;
  EXPECT_NE(uuid, read("sys/kernel/random/uuid"));
  EXPECT_EQ(boot, read("sys/kernel/random/boot_id"));
}

}  // namespace
}  // namespace sentry::fs
