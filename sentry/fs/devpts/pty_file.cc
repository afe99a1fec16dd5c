// SPDX-License-Identifier: Apache-2.0
// Open files of masters and slaves.
#include <sys/resource.h>

#include <map>

#include "sentry/fs/devpts/devpts_fs.h"
#include "sentry/kernel/task.h"

namespace sentry::fs {
namespace {

// Without run-time type information: the map of all of them says which file is a terminal.
struct Registry {
  Mutex mu{LockRank::kLeaf};
  std::map<const vfs::FileDescription*, Tty*> files ABSL_GUARDED_BY(mu);
  static Registry& Get() {
    static Registry& registry = *new Registry();
    return registry;
  }
};

class PtyFile : public vfs::FileDescription {
 public:
  PtyFile(vfs::Path path, int flags, RefPtr<Tty> tty) : FileDescription(std::move(path), flags), tty_(std::move(tty)) {
    Registry& registry = Registry::Get();
    MutexLock lock(registry.mu);
    registry.files[this] = tty_.get();
  }
  ~PtyFile() override {
    Registry& registry = Registry::Get();
    MutexLock lock(registry.mu);
    registry.files.erase(this);
  }
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  bool ContinuesPartialWrites() const override { return true; }
  Result<void> Sync(bool) override { return Errno(EINVAL); }

 protected:
  const RefPtr<Tty> tty_;
};

class SlaveFile final : public PtyFile {
 public:
  using PtyFile::PtyFile;
  ~SlaveFile() override { tty_->CloseSlave(); }
  Result<size_t> Read(IoTarget& target) override { return tty_->SlaveRead(target, IsNonBlocking()); }
  Result<size_t> Write(IoSource& source) override { return tty_->SlaveWrite(source); }
  EventMask Poll() override { return tty_->SlavePoll(); }
  WaitQueue* wait_queue() override { return &tty_->slave_queue(); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override {
    if (tty_->IsHungUp()) return Errno(request == TIOCSPGRP ? ENOTTY : EIO);
    return tty_->Ioctl(request, argument, false, *this);
  }
};

class MasterFile final : public PtyFile {
 public:
  MasterFile(vfs::Path path, vfs::Path root, int flags, RefPtr<Tty> tty)
      : PtyFile(std::move(path), flags, std::move(tty)), root_(std::move(root)) {}
  ~MasterFile() override {
    tty_->HangUp();
    static_cast<Devpts&>(root_.inode()->filesystem()).RemoveTty(tty_->index());
  }
  Result<size_t> Read(IoTarget& target) override { return tty_->MasterRead(target); }
  Result<size_t> Write(IoSource& source) override { return tty_->MasterWrite(source); }
  EventMask Poll() override { return tty_->MasterPoll(); }
  WaitQueue* wait_queue() override { return &tty_->master_queue(); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override;

 private:
  Result<int64_t> OpenPeer(int flags);
  const vfs::Path root_;
};

Result<int64_t> MasterFile::Ioctl(unsigned request, uint64_t argument) {
  Caller& caller = Caller::Current();
  const UserAddr at(argument);
  auto put_int = [&](int value) -> Result<int64_t> {
    TRY(caller.CopyOut(at, value));
    return 0;
  };
  switch (request) {
    case TIOCGPTN:
      return put_int(static_cast<int>(tty_->index()));
    case TIOCSPTLCK:
      tty_->SetLocked(TRY(caller.CopyIn<int>(at)) != 0);
      return 0;
    case TIOCGPTLCK:
      return put_int(tty_->IsLocked());
    case TIOCPKT:
      tty_->SetPacketMode(TRY(caller.CopyIn<int>(at)) != 0);
      return 0;
    case TIOCGPKT:
      return put_int(tty_->packet_mode());
    case TIOCGPTPEER:
      return OpenPeer(static_cast<int>(argument));
    case TIOCSIG: {
      const int signal = static_cast<int>(argument);
      if (signal != SIGINT && signal != SIGQUIT && signal != SIGTSTP) return Errno(EINVAL);
      tty_->SignalForeground(signal);
      return 0;
    }
    default:
      return tty_->Ioctl(request, argument, true, *this);
  }
}

// The slave in the instance of this master, whatever is mounted where (ioctl_tty(2)).
Result<int64_t> MasterFile::OpenPeer(int flags) {
  kernel::Task& task = kernel::Task::Current();
  vfs::WalkContext context{root_, root_, *task.creds(), nullptr, 0};
  vfs::Path slave = TRY(vfs::Resolve(context, std::to_string(tty_->index()), 0));
  vfs::FileRef file = TRY(OpenSlaveFile(slave, flags & (O_ACCMODE | O_NOCTTY | O_NONBLOCK), tty_, true));
  return int64_t{TRY(task.fds().Add(std::move(file), flags & O_CLOEXEC, task.SoftLimit(RLIMIT_NOFILE)))};
}

}  // namespace

Result<vfs::FileRef> OpenSlaveFile(const vfs::Path& path, int flags, const RefPtr<Tty>& tty, bool check_lock) {
  TRY(tty->OpenSlave(check_lock));
  vfs::FileRef file = MakeRef<SlaveFile>(path, flags, tty);
  if (!(flags & O_NOCTTY) && file->IsReadable()) tty->OfferAsControlling();
  return file;
}

vfs::FileRef NewMasterFile(const vfs::Path& path, const vfs::Path& root, int flags, RefPtr<Tty> tty) {
  return MakeRef<MasterFile>(path, root, flags, std::move(tty));
}

RefPtr<Tty> TtyOf(vfs::FileDescription& file) {
  Registry& registry = Registry::Get();
  MutexLock lock(registry.mu);
  auto it = registry.files.find(&file);
  return it == registry.files.end() ? nullptr : RefPtr<Tty>(it->second);
}

}  // namespace sentry::fs
