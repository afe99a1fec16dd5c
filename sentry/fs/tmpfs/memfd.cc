// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/tmpfs/memfd.h"

#include <fcntl.h>

#include "sentry/fs/tmpfs/regular_file.h"
#include "sentry/vfs/special_files.h"

namespace sentry::tmpfs {

Result<RefPtr<vfs::Inode>> NewMemfdInode(const Credentials& creds, const MemfdOptions& options) {
  Tmpfs* kernel = KernelTmpfs();
  if (!kernel) return Errno(ENODEV);
  TRY(kernel->ChargeInode());
  const mode_t mode = options.no_exec_seal ? 0666 : 0777;
  auto file = MakeRef<TmpfsRegularFile>(*kernel, vfs::CreateAttributes{mode, creds.fsuid, creds.fsgid});
  file->AddLinks(-1);
  int seals = options.allow_sealing || options.no_exec_seal ? 0 : F_SEAL_SEAL;
  if (options.no_exec_seal) seals |= 0x20;  // F_SEAL_EXEC
  file->SetInitialSeals(seals);
  return RefPtr<vfs::Inode>(std::move(file));
}

Result<vfs::FileRef> NewMemfd(std::string_view name, const Credentials& creds, const MemfdOptions& options, int flags) {
  RefPtr<vfs::Inode> inode = TRY(NewMemfdInode(creds, options));
  vfs::Path path = vfs::NewAnonymousPath("/memfd:" + std::string(name), inode);
  vfs::FileRef file = TRY(inode->Open(path, O_RDWR | flags));
  file->PutWriteAccess();  // it can be executed while this descriptor is open (execveat(2))
  return file;
}

namespace {

class SecretFile final : public vfs::FileDescription {
 public:
  SecretFile(vfs::Path path, vfs::FileRef memory)
      : FileDescription(std::move(path), O_RDWR | O_LARGEFILE), memory_(std::move(memory)) {}
  Result<size_t> PRead(IoTarget&, int64_t) override { return Errno(EINVAL); }
  Result<size_t> PWrite(IoSource&, int64_t, int64_t*) override { return Errno(EINVAL); }
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  Result<void> Truncate(uint64_t size) override {
    if (TRY(memory_->GetStat()).size != 0) return Errno(EINVAL);
    return memory_->Truncate(size);
  }
  Result<void> ConfigureMmap(mm::MmapRequest& request) override {
    if (request.is_private) return Errno(EINVAL);
    request.locked = true;
    return memory_->ConfigureMmap(request);
  }

 private:
  const vfs::FileRef memory_;
};

}  // namespace

Result<vfs::FileRef> NewSecretMemfd(const Credentials& creds) {
  vfs::FileRef memory = TRY(NewMemfd("secretmem", creds, {}));
  return vfs::FileRef(MakeRef<SecretFile>(memory->path(), memory));
}

}  // namespace sentry::tmpfs
