// SPDX-License-Identifier: Apache-2.0
// Files without a name for memfd_create(2), backed by a tmpfs instance of the kernel's own, without limits. Also for
// shared memory that needs a file description.
#ifndef SENTRY_FS_TMPFS_MEMFD_H_
#define SENTRY_FS_TMPFS_MEMFD_H_

#include <string_view>

#include "platform/memory_file.h"
#include "sentry/vfs/file_description.h"

namespace sentry::tmpfs {

struct MemfdOptions {
  bool allow_sealing = false;  // MFD_ALLOW_SEALING, or implied by MFD_NOEXEC_SEAL
  bool no_exec_seal = false;   // MFD_NOEXEC_SEAL: mode 0666 and F_SEAL_EXEC
};

// An empty regular file, mode 0777. ConfigureTmpfs must have been called. ENODEV.
Result<RefPtr<vfs::Inode>> NewMemfdInode(const Credentials& creds, const MemfdOptions& options);
// The same, open for reading and writing at the place "/memfd:NAME". `flags` may have O_LARGEFILE and status flags.
Result<vfs::FileRef> NewMemfd(std::string_view name, const Credentials& creds, const MemfdOptions& options,
                              int flags = 0);
// memfd_secret(2): for shared mappings only, which count as locked; no reads or writes; sized once.
Result<vfs::FileRef> NewSecretMemfd(const Credentials& creds);

}  // namespace sentry::tmpfs

#endif  // SENTRY_FS_TMPFS_MEMFD_H_
