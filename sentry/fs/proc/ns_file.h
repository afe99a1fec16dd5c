// SPDX-License-Identifier: Apache-2.0
// Files of /proc/PID/ns (namespaces(7)): what setns(2) and the NS_GET_* ioctls take.
#ifndef SENTRY_FS_PROC_NS_FILE_H_
#define SENTRY_FS_PROC_NS_FILE_H_

#include "sentry/kernel/task.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {

// A namespace of one kind; exactly one pointer is set.
struct NamespaceRef {
  int clone_flag = 0;  // CLONE_NEWUTS, ...
  RefPtr<kernel::UtsNamespace> uts;
  RefPtr<kernel::IpcNamespace> ipc;
  RefPtr<kernel::NetNamespace> net;
  RefPtr<vfs::MountNamespace> mounts;
  RefPtr<kernel::PidNamespace> pid;
  RefPtr<UserNamespace> user;
  RefPtr<kernel::CgroupNamespace> cgroup;
  RefPtr<kernel::TimeNamespace> time;

  // The user namespace that capabilities over it are asked of; of a user namespace, its parent (null: none).
  RefPtr<UserNamespace> Owner() const;
};

// The namespace behind an open file of /proc/PID/ns; EINVAL for other files (setns(2)).
Result<NamespaceRef> NamespaceOf(vfs::FileDescription& file);

}  // namespace sentry::fs

#endif  // SENTRY_FS_PROC_NS_FILE_H_
