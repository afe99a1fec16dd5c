// SPDX-License-Identifier: Apache-2.0
// The tree of sysfs as told by SetProcHostInfo: its contents, that names and inode numbers are one, that nothing
// writes.
#include "sentry/fs/sys/sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/core/io.h"
#include "sentry/vfs/file_description.h"
#include "sentry/vfs/special_files.h"

namespace sentry::fs {
namespace {

class SysTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { SetProcHostInfo({.cpuinfo = "", .cpus = 3, .total_memory = uint64_t{6} << 30}); }
  void SetUp() override {
    auto made = NewSysfs({.creds = *creds_});
    ASSERT_TRUE(made.ok());
    fs_ = *made;
  }
  void TearDown() override {
    if (fs_) fs_->OnLastUnmount();
  }

  RefPtr<vfs::Inode> Find(std::string_view path) {
    RefPtr<vfs::Inode> at = fs_->Root();
    while (!path.empty()) {
      const size_t slash = path.find('/');
      auto next = at->Lookup(path.substr(0, slash));
      if (!next.ok()) return nullptr;
      at = *next;
      path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    }
    return at;
  }
  vfs::FileRef Open(std::string_view path) {
    RefPtr<vfs::Inode> inode = Find(path);
    if (!inode) return nullptr;
    auto opened = inode->Open(vfs::NewAnonymousPath(std::string(path), inode), O_RDONLY);
    return opened.ok() ? *opened : nullptr;
  }
  std::string Read(std::string_view path, int64_t offset = 0, size_t size = 4096) {
    vfs::FileRef file = Open(path);
    if (!file) return "(none)";
    std::string text(size, '\0');
    BufferTarget target(text.data(), text.size());
    auto n = file->PRead(target, offset);
    if (!n.ok()) return std::string("(") + n.error().Name() + ")";
    return text.substr(0, *n);
  }
  std::map<std::string, uint64_t> List(std::string_view path) {
    std::map<std::string, uint64_t> names;
    vfs::FileRef file = Open(path);
    EXPECT_TRUE(file);
    if (!file) return names;
    auto listed = file->IterateDirectory([&](const vfs::DirEntry& entry) {
      EXPECT_TRUE(names.emplace(std::string(entry.name), entry.ino).second) << entry.name;
      return true;
    });
    EXPECT_TRUE(listed.ok());
    return names;
  }

  RefPtr<Credentials> creds_ = Credentials::Root(0);
  RefPtr<vfs::Filesystem> fs_;
};

TEST_F(SysTest, ProcessorsAreThoseOfTheGuest) {
  EXPECT_EQ("0-2\n", Read("devices/system/cpu/online"));
  EXPECT_EQ("0-2\n", Read("devices/system/cpu/possible"));
  EXPECT_EQ("\n", Read("devices/system/cpu/offline"));
  EXPECT_EQ("2\n", Read("devices/system/cpu/cpu2/topology/core_id"));
  EXPECT_EQ("4\n", Read("devices/system/cpu/cpu2/topology/thread_siblings"));
  EXPECT_EQ("7\n", Read("devices/system/cpu/cpu2/topology/package_cpus"));
  EXPECT_EQ("0-2\n", Read("devices/system/cpu/cpu0/topology/core_siblings_list"));
  EXPECT_FALSE(Find("devices/system/cpu/cpu3"));
  EXPECT_FALSE(Find("devices/system/cpu/cpu0/online")) << "the first one cannot be switched off";
  EXPECT_EQ("1\n", Read("devices/system/cpu/cpu1/online"));
  EXPECT_EQ("0-2\n", Read("devices/system/node/node0/cpulist"));
  EXPECT_EQ("7\n", Read("devices/system/node/node0/cpumap"));
}

// The machine that runs this test says what its processors have, if it has sysfs.
TEST_F(SysTest, CachesAreTheMachines) {
  for (int index = 0; index < 4; ++index) {
    const std::string directory = "devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    if (access(("/sys/" + directory + "size").c_str(), R_OK) != 0) continue;
    for (const char* name : {"level", "type", "size", "coherency_line_size", "physical_line_partition",
                             "ways_of_associativity", "number_of_sets"}) {
      std::ifstream file("/sys/" + directory + name);
      const std::string host((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
      EXPECT_EQ(host, Read(directory + name)) << directory << name;
    }
  }
  if (!Find("devices/system/cpu/cpu1/cache/index0")) GTEST_SKIP() << "the processor does not tell";
  EXPECT_EQ("1\n", Read("devices/system/cpu/cpu1/cache/index0/shared_cpu_list"));
  EXPECT_EQ("2\n", Read("devices/system/cpu/cpu1/cache/index0/shared_cpu_map"));
  if (Read("devices/system/cpu/cpu1/cache/index3/level") == "3\n") {
    EXPECT_EQ("0-2\n", Read("devices/system/cpu/cpu1/cache/index3/shared_cpu_list"));
  }
}

TEST_F(SysTest, MemoryIsTheSandboxes) {
  EXPECT_NE(std::string::npos, Read("devices/system/node/node0/meminfo").find(" 6291456 kB\n"));
}

TEST_F(SysTest, LinksLeadSomewhere) {
  for (const auto& [link, from, target] : {std::tuple{"class/net/lo", "class/net/", "devices/virtual/net/lo"},
                                           {"bus/cpu/devices/cpu1", "bus/cpu/devices/", "devices/system/cpu/cpu1"}}) {
    RefPtr<vfs::Inode> inode = Find(link);
    ASSERT_TRUE(inode) << link;
    auto text = inode->ReadLink();
    ASSERT_TRUE(text.ok());
    // As many steps up as the link is deep.
    std::string rest = *text;
    size_t up = 0;
    while (rest.starts_with("../")) {
      rest = rest.substr(3);
      ++up;
    }
    EXPECT_EQ(static_cast<size_t>(std::count(from, from + strlen(from), '/')), up) << *text;
    EXPECT_EQ(target, rest);
    EXPECT_TRUE(Find(rest));
  }
}

TEST_F(SysTest, ReadsInPieces) {
  EXPECT_EQ("0-", Read("devices/system/cpu/online", 0, 2));
  EXPECT_EQ("2\n", Read("devices/system/cpu/online", 2, 100));
  EXPECT_EQ("", Read("devices/system/cpu/online", 4, 100));
  EXPECT_EQ("", Read("devices/system/cpu/online", INT64_MAX, 100));
  EXPECT_EQ("", Read("devices/system/cpu/online", 0, 0));
  EXPECT_EQ("(EINVAL)", Read("devices/system/cpu/online", -1, 100));
  EXPECT_EQ("(EISDIR)", Read("devices", 0, 100));
}

TEST_F(SysTest, FilesAreReadOnly) {
  auto stat = Find("devices/system/cpu/online")->GetStat();
  ASSERT_TRUE(stat.ok());
  EXPECT_EQ(S_IFREG | 0444u, stat->mode);
  vfs::FileRef file = Open("devices/system/cpu/online");
  ASSERT_TRUE(file);
  BufferSource source("x", 1);
  int64_t end = 0;
  auto written = file->PWrite(source, 0, &end);
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(Errno(EIO), written.error());
}

// What a directory lists is what a lookup finds, everywhere, and no inode number is given twice.
TEST_F(SysTest, ListsWhatLookupFinds) {
  std::set<uint64_t> seen;
  size_t files = 0;
  const std::function<void(const std::string&)> visit = [&](const std::string& path) {
    auto names = List(path);
    EXPECT_TRUE(names.contains(".") && names.contains("..")) << path;
    EXPECT_TRUE(seen.insert(names["."]).second) << path;
    for (const auto& [name, ino] : names) {
      if (name == "." || name == "..") continue;
      const std::string below = path.empty() ? name : path + "/" + name;
      RefPtr<vfs::Inode> inode = Find(below);
      ASSERT_TRUE(inode) << below;
      auto stat = inode->GetStat();
      ASSERT_TRUE(stat.ok()) << below;
      EXPECT_EQ(ino, stat->ino) << below;
      if (inode->IsDirectory()) {
        visit(below);
      } else {
        EXPECT_TRUE(seen.insert(ino).second) << below;
        ++files;
      }
    }
  };
  visit("");
  EXPECT_GT(files, 40u);
}

TEST_F(SysTest, ADirectoryIsListedOnAfterAStop) {
  vfs::FileRef file = Open("");
  ASSERT_TRUE(file);
  std::vector<std::string> names;
  for (size_t before = 1; names.size() != before;) {
    before = names.size();
    size_t room = 2;
    ASSERT_TRUE(file->IterateDirectory([&](const vfs::DirEntry& entry) {
                      if (room-- == 0) return false;
                      names.emplace_back(entry.name);
                      return true;
                    })
                    .ok());
  }
  EXPECT_EQ(List("").size(), names.size());
}

TEST_F(SysTest, TakesNoOptions) {
  auto made = NewSysfs({.options = "size=1", .creds = *creds_});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(Errno(EINVAL), made.error());
}

TEST_F(SysTest, IsBuiltAgainAfterTheLastUnmount) {
  const auto before = List("").size();
  fs_->OnLastUnmount();
  EXPECT_EQ(before, List("").size());
  EXPECT_EQ("0-2\n", Read("devices/system/cpu/online"));
}

}  // namespace
}  // namespace sentry::fs
