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

}  // namespace sentry::tmpfs
