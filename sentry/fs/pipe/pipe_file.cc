// SPDX-License-Identifier: Apache-2.0
// File descriptions over a Pipe: anonymous ends and opened FIFOs.
#include <fcntl.h>
#include <sys/ioctl.h>

#include "sentry/fs/pipe/pipe.h"
#include "sentry/vfs/special_files.h"

namespace sentry::fs {
namespace {

class PipeFile final : public vfs::FileDescription {
 public:
  PipeFile(vfs::Path path, int flags, RefPtr<Pipe> pipe)
      : FileDescription(std::move(path), flags), pipe_(std::move(pipe)) {
    pipe_->AddEnd(IsReadable(), IsWritable());
  }
  ~PipeFile() override { pipe_->RemoveEnd(IsReadable(), IsWritable()); }

  Pipe& pipe() { return *pipe_; }

  Result<size_t> Read(IoTarget& target) override { return pipe_->Read(target); }
  Result<size_t> Write(IoSource& source) override { return pipe_->Write(source, flags() & O_DIRECT); }
  bool ContinuesPartialWrites() const override { return true; }
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  EventMask Poll() override { return pipe_->Poll(IsReadable(), IsWritable()); }
  WaitQueue* wait_queue() override { return &pipe_->queue(); }
  bool WakesOneWaiter() const override { return true; }
  Result<void> Sync(bool) override { return Errno(EINVAL); }

  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override {
    if (request != FIONREAD) return Errno(ENOTTY);
    TRY(Caller::Current().CopyOut(UserAddr(argument), static_cast<int>(pipe_->Available())));
    return 0;
  }
  Result<int64_t> Fcntl(int command, uint64_t argument) override {
    if (command == F_GETPIPE_SZ) return static_cast<int64_t>(pipe_->capacity());
    if (command == F_SETPIPE_SZ) return static_cast<int64_t>(TRY(pipe_->SetCapacity(static_cast<unsigned>(argument))));
    return Errno(EINVAL);
  }

 private:
  RefPtr<Pipe> pipe_;
};

RefPtr<Pipe> PipeOfInode(vfs::Inode& inode) {
  static Mutex* mu = new Mutex(LockRank::kNamespace);
  MutexLock lock(*mu);
  RefPtr<vfs::SpecialObject> special = inode.special();
  if (special) return RefPtr<Pipe>(static_cast<Pipe*>(special.get()));
  auto pipe = MakeRef<Pipe>();
  inode.set_special(pipe);
  return pipe;
}

Result<vfs::FileRef> OpenFifo(const vfs::Path& path, int flags) {
  RefPtr<Pipe> pipe = PipeOfInode(*path.inode());
  int access = flags & O_ACCMODE;
  // A pipe without a name, reopened through /proc/PID/fd, waits for nobody (fs/pipe.c: fifo_open).
  const bool named = static_cast<bool>(path.dentry->parent());
  if (named && access == O_WRONLY && (flags & O_NONBLOCK) && !pipe->HasReaders()) return Errno(ENXIO);
  // The end counts from here on, so that the peer's open can see it while this one waits.
  vfs::FileRef file(new PipeFile(path, flags, pipe));
  if (named && access != O_RDWR && !(flags & O_NONBLOCK)) {
    // A FIFO's open is not restarted half-way: the end is dropped with `file` on a signal.
    TRY(pipe->WaitForPeer(Caller::Current(), access == O_RDONLY));
  }
  return file;
}

}  // namespace

Result<std::pair<vfs::FileRef, vfs::FileRef>> NewPipe(const Credentials& creds, int flags) {
  auto pipe = MakeRef<Pipe>();
  vfs::Path path = vfs::NewAnonymousPath("pipe:", S_IFIFO | 0600, creds);
  path.inode()->set_special(pipe);
  int status = flags & (O_NONBLOCK | O_DIRECT);
  vfs::FileRef reader(new PipeFile(path, O_RDONLY | status, pipe));
  vfs::FileRef writer(new PipeFile(path, O_WRONLY | status, pipe));
  return std::pair(std::move(reader), std::move(writer));
}

Pipe* PipeOf(vfs::FileDescription& file) {
  if (file.inode()->type() != S_IFIFO) return nullptr;
  RefPtr<vfs::SpecialObject> special = file.inode()->special();
  return static_cast<Pipe*>(special.get());  // the file keeps the inode, which keeps it
}

void RegisterFifos() { vfs::RegisterFifoOpener(&OpenFifo); }

}  // namespace sentry::fs
