// SPDX-License-Identifier: Apache-2.0
// A caller, a MemoryFile and a mounted tmpfs for tests of the vfs and of filesystems.
#ifndef SENTRY_VFS_TEST_UTIL_H_
#define SENTRY_VFS_TEST_UTIL_H_

#include <gtest/gtest.h>
#include <string.h>
#include <sys/stat.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "platform/memory_file.h"
#include "platform/safe_copy.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/core/caller.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/vfs.h"

namespace sentry::vfs {

inline platform::MemoryFile& TestMemory() {
  static platform::MemoryFile& memory = *[] {
    platform::InstallSafeCopyHandler();
    auto made = platform::MemoryFile::Create();
    CHECK_THAT(made.ok());
    tmpfs::ConfigureTmpfs(**made, uint64_t{256} << 20);
    return std::move(made).value().release();
  }();
  return memory;
}

// The calling thread's task. `interrupt` makes Block answer kErestartsys.
class FakeCaller : public Caller {
 public:
  explicit FakeCaller(RefPtr<const Credentials> creds) : creds_(std::move(creds)) { SetCurrent(this); }
  virtual ~FakeCaller() { SetCurrent(nullptr); }
  const RefPtr<const Credentials>& creds() const override { return creds_; }
  void set_creds(RefPtr<const Credentials> creds) { creds_ = std::move(creds); }
  Blocker& blocker() override { return blocker_; }
  Result<void> Block(int64_t deadline_ns) override {
    blocked.store(true);
    if (interrupt.load()) return base::kErestartsys;
    if (!blocker_.Wait(deadline_ns)) return Errno(ETIMEDOUT);
    return interrupt.load() ? Result<void>(base::kErestartsys) : OkResult();
  }
  Result<void> BlockKillable(int64_t deadline_ns) override { return Block(deadline_ns); }
  Result<void> CopyInBytes(UserAddr from, void* to, size_t length) override { return Errno(EFAULT); }
  Result<void> CopyOutBytes(UserAddr to, const void* from, size_t length) override { return Errno(EFAULT); }
  Result<std::string> CopyInString(UserAddr from, size_t limit) override { return Errno(EFAULT); }
  uint64_t SoftLimit(int resource) const override { return UINT64_MAX; }
  pid_t CallerTgid() const override { return 1; }
  pid_t CallerTid() const override { return 1; }
  const void* LockOwner() const override { return this; }
  void RaiseSelf(int signal) override {}
  mode_t umask() const override { return 022; }
  std::atomic<bool> interrupt{false}, blocked{false};

 private:
  RefPtr<const Credentials> creds_;
  Blocker blocker_;
};

inline RefPtr<Credentials> UserCreds(uid_t uid, gid_t gid, std::vector<gid_t> groups = {},
                                     CapabilitySet capabilities = 0) {
  RefPtr<Credentials> creds = Credentials::Root(capabilities);
  creds->ruid = creds->euid = creds->suid = creds->fsuid = uid;
  creds->rgid = creds->egid = creds->sgid = creds->fsgid = gid;
  creds->groups = std::move(groups);
  return creds;
}

class VfsTest : public ::testing::Test {
 protected:
  VfsTest()
      : root_creds_(Credentials::Root(kAllCapabilities)),
        user_creds_(UserCreds(1000, 1000, {100})),
        caller_(root_creds_) {
    filesystem_ = tmpfs::Tmpfs::Create(TestMemory(), {.mode = 0755});
    mount_ = MakeRef<Mount>(filesystem_, Dentry::NewRoot(filesystem_->Root()), 0, "tmpfs");
    mounts_ = MakeRef<MountNamespace>(mount_, root_creds_->user_ns);
    root_ = {mount_, mount_->root()};
    cwd_ = root_;
  }
  WalkContext As(const RefPtr<Credentials>& creds) { return {root_, cwd_, *creds, mounts_, 022}; }
  WalkContext Root() { return As(root_creds_); }
  WalkContext User() { return As(user_creds_); }

  // 0 or the error number.
  template <typename T>
  static int E(const Result<T>& result) {
    return result.error_number();
  }
  Path At(std::string_view path) {
    auto place = Resolve(Root(), path, 0);
    EXPECT_EQ(E(place), 0) << path;
    return place.ok() ? *place : Path();
  }
  void MakeDir(std::string_view path, mode_t mode = 0755) {
    ASSERT_EQ(E(Mkdir(Root(), path, mode)), 0) << path;
    SetStatRequest request;
    request.mode = mode;
    ASSERT_EQ(E(SetStat(Root(), At(path), request)), 0);
  }
  void MakeFile(std::string_view path, std::string_view data = "", mode_t mode = 0644) {
    auto file = Open(Root(), path, O_CREAT | O_RDWR | O_TRUNC, mode);
    ASSERT_EQ(E(file), 0) << path;
    SetStatRequest request;
    request.mode = mode;
    ASSERT_EQ(E((*file)->inode()->SetStat(request)), 0);
    ASSERT_EQ(WriteAll(**file, data), data.size());
  }
  void Own(std::string_view path, uid_t uid, gid_t gid) {
    SetStatRequest request;
    request.uid = uid;
    request.gid = gid;
    ASSERT_EQ(E(SetStat(Root(), At(path), request)), 0);
  }
  static size_t WriteAll(FileDescription& file, std::string_view data) {
    BufferSource source(data.data(), data.size());
    auto n = file.Write(source);
    return n.ok() ? *n : 0;
  }
  static std::string ReadAll(FileDescription& file, size_t limit = 4096) {
    std::string data(limit, 0);
    BufferTarget target(data.data(), data.size());
    auto n = file.PRead(target, 0);
    data.resize(n.ok() ? *n : 0);
    return data;
  }
  std::string Contents(std::string_view path) {
    auto file = Open(Root(), path, O_RDONLY, 0);
    return file.ok() ? ReadAll(**file) : "error " + std::to_string(E(file));
  }
  std::string Name(const Path& path) { return PathName(*mounts_, path, root_); }
  InodeStat StatOf(std::string_view path) {
    auto stat = Stat(Root(), path, 0);
    EXPECT_EQ(E(stat), 0) << path;
    return stat.value_or(InodeStat());
  }
  RefPtr<Mount> NewMount(uint32_t flags = 0) {
    auto filesystem = tmpfs::Tmpfs::Create(TestMemory(), {.mode = 0755});
    return MakeRef<Mount>(filesystem, Dentry::NewRoot(filesystem->Root()), flags, "none");
  }

  RefPtr<Credentials> root_creds_, user_creds_;
  FakeCaller caller_;
  RefPtr<tmpfs::Tmpfs> filesystem_;
  RefPtr<Mount> mount_;
  RefPtr<MountNamespace> mounts_;
  Path root_, cwd_;
};

// Collects "name:mask" of events.
class RecordingWatch final : public InotifyWatch {
 public:
  explicit RecordingWatch(std::vector<std::string>* log, std::string label) : log_(log), label_(std::move(label)) {}
  void OnEvent(uint32_t mask, uint32_t cookie, std::string_view name) override;
  uint32_t last_cookie = 0;

 private:
  std::vector<std::string>* log_;
  std::string label_;
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_TEST_UTIL_H_
