// SPDX-License-Identifier: Apache-2.0
// Character devices of major 1.
#include <linux/random.h>
#include <string.h>

#include <algorithm>

#include "sentry/fs/dev/dev.h"
#include "sentry/fs/dev/host_entropy.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/mm/shm_object.h"
#include "sentry/vfs/special_files.h"

namespace sentry::fs {
namespace {

enum Minor : unsigned { kNull = 3, kZero = 5, kFull = 7, kRandom = 8, kUrandom = 9, kKmsg = 11 };

// Reads end early at this many bytes, so that a huge one stays interruptible.
constexpr size_t kMaxTransfer = 16 << 20;

Result<size_t> Discard(IoSource& source) {
  uint8_t buffer[4096];
  size_t done = 0;
  while (source.remaining() && done < kMaxTransfer) {
    auto n = source.Take(buffer, std::min(sizeof buffer, source.remaining()));
    if (!n.ok()) return done ? Result<size_t>(done) : n.error();
    if (*n == 0) break;
    done += *n;
  }
  return done;
}

// What all of them share: positions mean nothing, and lseek(2) answers 0 (null_lseek).
class MemDevice : public vfs::FileDescription {
 public:
  MemDevice(vfs::Path path, int flags) : FileDescription(std::move(path), flags) {}
  Result<int64_t> Seek(int64_t, int) override { return int64_t{0}; }
  Result<size_t> PRead(IoTarget& target, int64_t) override { return Read(target); }
  Result<size_t> PWrite(IoSource& source, int64_t offset, int64_t* end) override {
    *end = std::max<int64_t>(offset, 0);
    return Write(source);
  }
  Result<void> Sync(bool) override { return Errno(EINVAL); }
};

class NullDevice final : public MemDevice {
 public:
  using MemDevice::MemDevice;
  Result<size_t> Read(IoTarget&) override { return size_t{0}; }
  // The bytes aren't looked at: a bad address is no error (write_null).
  Result<size_t> Write(IoSource& source) override { return source.remaining(); }
};

class ZeroDevice final : public MemDevice {
 public:
  ZeroDevice(vfs::Path path, int flags, bool full) : MemDevice(std::move(path), flags), full_(full) {}
  Result<size_t> Read(IoTarget& target) override {
    return target.PutZeroes(std::min(target.remaining(), kMaxTransfer));
  }
  Result<size_t> Write(IoSource& source) override {
    if (full_) return Errno(ENOSPC);
    return source.remaining();
  }
  // Private mappings are anonymous memory; a shared one is shared by the mapping's heirs only.
  Result<void> ConfigureMmap(mm::MmapRequest& request) override {
    if (full_) return Errno(ENODEV);
    request.object.Reset();
    if (request.is_private) return OkResult();
    tmpfs::Tmpfs* memory = tmpfs::KernelTmpfs();
    if (!memory) return Errno(ENODEV);
    if (request.length == 0 || request.length > PageDown(UINT64_MAX)) return Errno(EINVAL);
    request.object = TRY(mm::ShmObject::Create(memory->memory(), PageUp(request.length), "/dev/zero (deleted)"));
    request.offset = 0;
    return OkResult();
  }

 private:
  const bool full_;
};

class RandomDevice final : public MemDevice {
 public:
  using MemDevice::MemDevice;
  Result<size_t> Read(IoTarget& target) override {
    uint8_t buffer[4096];
    size_t done = 0;
    while (target.remaining() && done < kMaxTransfer) {
      const size_t chunk = std::min(sizeof buffer, target.remaining());
      FillEntropy(buffer, chunk);
      auto n = target.Put(buffer, chunk);
      if (!n.ok()) {
        if (done) break;
        return n.error();
      }
      done += *n;
      if (*n < chunk) break;
    }
    explicit_bzero(buffer, sizeof buffer);
    return done;
  }
  // Entropy from a guest is accepted and not used.
  Result<size_t> Write(IoSource& source) override { return Discard(source); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override {
    Caller& caller = Caller::Current();
    switch (request) {
      case RNDGETENTCNT:
        TRY(caller.CopyOut(UserAddr(argument), int{256}));
        return 0;
      case RNDADDTOENTCNT:
      case RNDADDENTROPY:
      case RNDZAPENTCNT:
      case RNDCLEARPOOL:
      case RNDRESEEDCRNG:
        if (!caller.creds()->HasCapability(CAP_SYS_ADMIN)) return Errno(EPERM);
        return 0;
      default:
        return Errno(EINVAL);
    }
  }
};

// The kernel log of a sandbox is empty; what is written to it is dropped, as it would be from the sight of other
// containers.
class KmsgDevice final : public MemDevice {
 public:
  using MemDevice::MemDevice;
  Result<size_t> Read(IoTarget&) override { return Errno(EAGAIN); }
  Result<size_t> Write(IoSource& source) override {
    if (source.remaining() > 1024) return Errno(EINVAL);
    return Discard(source);
  }
  EventMask Poll() override { return kEventOut; }
  WaitQueue* wait_queue() override { return &never_; }

 private:
  WaitQueue never_;
};

Result<vfs::FileRef> OpenMem(const vfs::Path& path, int flags, dev_t device) {
  switch (minor(device)) {
    case kNull:
      return vfs::FileRef(MakeRef<NullDevice>(path, flags));
    case kZero:
      return vfs::FileRef(MakeRef<ZeroDevice>(path, flags, false));
    case kFull:
      return vfs::FileRef(MakeRef<ZeroDevice>(path, flags, true));
    case kRandom:
    case kUrandom:
      return vfs::FileRef(MakeRef<RandomDevice>(path, flags));
    case kKmsg: {
      Caller* caller = Caller::CurrentOrNull();
      if (caller && (flags & O_ACCMODE) != O_WRONLY && !caller->creds()->HasCapability(CAP_SYSLOG)) return Errno(EPERM);
      return vfs::FileRef(MakeRef<KmsgDevice>(path, flags));
    }
    default:
      return Errno(ENXIO);
  }
}

}  // namespace

void RegisterDevices() { vfs::RegisterDevice(S_IFCHR, 1, &OpenMem); }

}  // namespace sentry::fs
