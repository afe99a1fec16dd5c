// SPDX-License-Identifier: Apache-2.0
// What system.cc and sys_table.cc build their trees with.
#ifndef SENTRY_FS_PROC_SYSTEM_H_
#define SENTRY_FS_PROC_SYSTEM_H_

#include <span>

#include "sentry/fs/proc/proc_inode.h"

namespace sentry::fs {

void AddTexts(ProcFs& fs, StaticDirectory& directory, std::span<const TextEntry> entries);
RefPtr<StaticDirectory> AddDirectory(ProcFs& fs, StaticDirectory& parent, const std::string& name);
// keys.cc.
Result<std::string> KeysTable(const Context& context);
Result<std::string> KeyUsersTable(const Context& context);
// locks.cc
Result<std::string> LocksTable(const Context& context);
// sysvipc.cc: the tables, and the limits below /proc/sys/kernel.
void AddSysvIpc(ProcFs& fs, StaticDirectory& directory);
void AddSysvLimits(ProcFs& fs, StaticDirectory& directory);
void AddMqueueLimits(ProcFs& fs, StaticDirectory& directory);  // /proc/sys/fs/mqueue

}  // namespace sentry::fs

#endif  // SENTRY_FS_PROC_SYSTEM_H_
