// SPDX-License-Identifier: Apache-2.0
// The client filesystem over a gofer in this process: which host descriptors it holds, and what it asks the gofer.
#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "gofer/testing/served_dir.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/test_util.h"

namespace sentry::fs {
namespace {

class GoferTest : public vfs::VfsTest {
 protected:
  void Serve(bool shared) {
    auto client = served_.Connect();
    ASSERT_TRUE(client.ok()) << client.error().Name();
    auto filesystem = NewGoferFilesystem(std::move(client).value(), {.shared = shared});
    auto mount = MakeRef<vfs::Mount>(filesystem, vfs::Dentry::NewRoot(filesystem->Root()), 0, "gofer");
    mounts_ = MakeRef<vfs::MountNamespace>(mount, root_creds_->user_ns);
    root_ = cwd_ = {mount, mount->root()};
  }
  void TearDown() override {
    root_ = cwd_ = {};
    mounts_.Reset();
    vfs::DentryCache::Get().Shrink();
  }
  vfs::FileRef Open(const std::string& path, int flags = O_RDONLY) {
    auto file = vfs::Open(Root(), path, flags, 0644);
    EXPECT_EQ(E(file), 0) << path;
    return file.ok() ? *file : vfs::FileRef();
  }
  // Descriptors of this process that are open for data on files of the served directory, by what /proc calls them. The
  // gofer's own are O_PATH.
  std::vector<std::string> Held() {
    // The server closes its copy of what it donated after it has answered, but before it answers the next request.
    EXPECT_EQ(E(vfs::Open(Root(), "/missing" + std::to_string(++requests_), O_RDONLY, 0)), ENOENT);
    std::vector<std::string> found;
    DIR* fds = opendir("/proc/self/fd");
    while (dirent* entry = readdir(fds)) {
      char target[PATH_MAX];
      int fd = atoi(entry->d_name);
      ssize_t n = readlink((std::string("/proc/self/fd/") + entry->d_name).c_str(), target, sizeof target);
      if (n <= 0 || entry->d_name[0] == '.') continue;
      std::string name(target, static_cast<size_t>(n));
      int flags = fcntl(fd, F_GETFL);
      struct stat s;
      if (!name.starts_with(served_.dir().path() + "/") || flags < 0 || (flags & O_PATH) || fstat(fd, &s) != 0 ||
          !S_ISREG(s.st_mode))
        continue;
      found.push_back(name.substr(served_.dir().path().size() + 1));
    }
    closedir(fds);
    std::sort(found.begin(), found.end());
    return found;
  }
  using Names = std::vector<std::string>;

  gofer::ServedDir served_;
  int requests_ = 0;
};

TEST_F(GoferTest, AReadersDescriptorIsKeptForTheNextOpen) {
  served_.dir().Write("f", "data");
  Serve(/*shared=*/false);
  EXPECT_EQ(Held(), Names{});
  EXPECT_EQ(ReadAll(*Open("/f")), "data");
  EXPECT_EQ(Held(), Names{"f"});
  vfs::FileRef first = Open("/f"), second = Open("/f");
  EXPECT_EQ(Held(), Names{"f"}) << "the kept one serves both";
  EXPECT_EQ(ReadAll(*second), "data");
  first.Reset();
  EXPECT_EQ(Held(), Names{"f"});
  second.Reset();
  EXPECT_EQ(Held(), Names{"f"});
  // What was written is seen through it, and a writer's descriptor goes with the writer.
  vfs::FileRef writer = Open("/f", O_WRONLY | O_TRUNC);
  EXPECT_EQ(WriteAll(*writer, "more"), 4u);
  writer.Reset();
  EXPECT_EQ(ReadAll(*Open("/f")), "more");
  EXPECT_EQ(Held(), Names{"f"});
}

TEST_F(GoferTest, NoDescriptorOutlivesTheLastName) {
  for (const char* name : {"unlinked", "replaced", "open", "by"}) served_.dir().Write(name, name);
  Serve(/*shared=*/false);
  for (const char* name : {"/unlinked", "/replaced"}) EXPECT_EQ(ReadAll(*Open(name)), name + 1);
  vfs::FileRef open = Open("/open");
  EXPECT_EQ(Held(), (Names{"open", "replaced", "unlinked"}));
  EXPECT_EQ(E(vfs::Unlink(Root(), "/unlinked")), 0);
  EXPECT_EQ(E(vfs::Unlink(Root(), "/open")), 0);
  EXPECT_EQ(E(vfs::Rename(Root(), "/by", Root(), "/replaced", 0)), 0);
  EXPECT_EQ(Held(), Names{"open (deleted)"});
  EXPECT_EQ(ReadAll(*open), "open");
  open.Reset();
  EXPECT_EQ(Held(), Names{});
}

TEST_F(GoferTest, KeptDescriptorsAreBounded) {
  constexpr int kFiles = 700;
  for (int i = 0; i < kFiles; ++i) served_.dir().Write("f" + std::to_string(i), std::to_string(i));
  Serve(/*shared=*/false);
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  for (int i = 0; i < kFiles; ++i) EXPECT_EQ(ReadAll(*Open("/f" + std::to_string(i))), std::to_string(i));
  Names held = Held();
  EXPECT_EQ(held.size(), std::min<uint64_t>(512, limit.rlim_cur / 8));
  EXPECT_TRUE(std::find(held.begin(), held.end(), "f699") != held.end());
  EXPECT_TRUE(std::find(held.begin(), held.end(), "f0") == held.end());
  EXPECT_EQ(ReadAll(*Open("/f0")), "0");
}

TEST_F(GoferTest, SharedTreesKeepNothing) {
  served_.dir().Write("f", "data");
  Serve(/*shared=*/true);
  EXPECT_EQ(ReadAll(*Open("/f")), "data");
  EXPECT_EQ(Held(), Names{});
}

TEST_F(GoferTest, DirectoriesOfAllSizes) {
  Serve(/*shared=*/false);
  for (int size : {0, 1, 3000}) {
    std::string name = "/d" + std::to_string(size);
    ASSERT_EQ(mkdir((served_.dir().path() + name).c_str(), 0755), 0);
    Names want;
    for (int i = 0; i < size; ++i) {
      std::string entry = "entry-with-a-long-name-" + std::to_string(i);
      served_.dir().Write(name.substr(1) + "/" + entry, "");
      want.push_back(entry);
    }
    std::sort(want.begin(), want.end());
    Names found;
    vfs::FileRef directory = Open(name, O_RDONLY | O_DIRECTORY);
    EXPECT_EQ(E(directory->IterateDirectory([&](const vfs::DirEntry& entry) {
                if (entry.name != "." && entry.name != "..") found.emplace_back(entry.name);
                return true;
              })),
              0);
    std::sort(found.begin(), found.end());
    EXPECT_EQ(found, want);
  }
}

}  // namespace
}  // namespace sentry::fs
