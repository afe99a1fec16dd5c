// SPDX-License-Identifier: Apache-2.0
// What opening /proc/PID/ns/* gives: a file that keeps a namespace alive and names it to setns(2).
#ifndef SENTRY_KERNEL_NS_FILE_H_
#define SENTRY_KERNEL_NS_FILE_H_

#include <string>

#include "sentry/kernel/namespaces.h"
#include "sentry/vfs/file_description.h"

namespace sentry::kernel {

class Task;

struct NamespaceHandle {
  int kind = 0;  // CLONE_NEWUTS…; the pointer of that kind is set
  RefPtr<UtsNamespace> uts;
  RefPtr<IpcNamespace> ipc;
  RefPtr<NetNamespace> net;
  RefPtr<vfs::MountNamespace> mounts;
  RefPtr<PidNamespace> pid;
  RefPtr<UserNamespace> user;

  uint64_t inode_number() const;
  std::string LinkName() const;  // "uts:[4026531838]"
};

// The task's namespace of a kind; `for_children` is /proc/PID/ns/pid_for_children. ESRCH when it has exited, EINVAL for an unknown kind.
Result<NamespaceHandle> NamespaceOfTask(const Task& task, int kind, bool for_children = false);
vfs::FileRef NewNamespaceFile(NamespaceHandle handle);
// Null when the file is another kind. Valid as long as the file.
const NamespaceHandle* NamespaceOfFile(vfs::FileDescription& file);

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_NS_FILE_H_
