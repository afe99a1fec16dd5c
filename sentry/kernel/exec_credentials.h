// SPDX-License-Identifier: Apache-2.0
// How execve(2) transforms credentials: set-user-id, set-group-id and capabilities (capabilities(7)).
#ifndef SENTRY_KERNEL_EXEC_CREDENTIALS_H_
#define SENTRY_KERNEL_EXEC_CREDENTIALS_H_

#include <optional>
#include <string_view>

#include "sentry/kernel/core/credentials.h"
#include "sentry/vfs/file_description.h"

namespace sentry::kernel {

struct FileCapabilities {
  CapabilitySet permitted = 0, inheritable = 0;
  bool effective = false;
  uid_t root_uid = 0;  // revision 3: of the user namespace it is meant for
};
// The value of the security.capability attribute; EINVAL when malformed or of an unknown revision.
Result<FileCapabilities> ParseFileCapabilities(std::string_view value);

// What of the file counts.
struct ExecFile {
  std::optional<uid_t> set_uid;
  std::optional<gid_t> set_gid;
  std::optional<FileCapabilities> capabilities;
};
// Reads mode bits and attribute. Nothing counts on nosuid mounts, on filesystems of user namespaces that `creds` is not
// below, or when `ignore_privilege` (no_new_privs, or traced); set-id bits only for owners that its namespace maps.
Result<ExecFile> InspectExecFile(const Credentials& creds, const vfs::FileDescription& file, bool ignore_privilege);

struct ExecCredentials {
  RefPtr<const Credentials> creds;
  bool secure = false;  // AT_SECURE
  bool changed_ids = false;
};
// EPERM: the file's capabilities cannot all be had (bounding set) and its effective bit is set.
Result<ExecCredentials> TransformCredentials(const Credentials& old, const ExecFile& file);

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_EXEC_CREDENTIALS_H_
