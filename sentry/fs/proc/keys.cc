// SPDX-License-Identifier: Apache-2.0
// /proc/keys, /proc/key-users (keyrings(7)).
#include "sentry/fs/proc/system.h"
#include "sentry/kernel/keys/keys.h"
#include "sentry/kernel/task.h"

namespace sentry::fs {
namespace {

std::string TimeLeft(const keys::Keys::Row& row) {
  if (row.seconds_left < 0 && !row.expired) return "perm";
  if (row.expired) return "expd";
  static constexpr struct {
    int64_t below, unit;
    char name;
  } kUnits[] = {
      {60, 1, 's'}, {3600, 60, 'm'}, {86400, 3600, 'h'}, {7 * 86400, 86400, 'd'}, {INT64_MAX, 7 * 86400, 'w'}};
  for (const auto& unit : kUnits) {
    if (row.seconds_left < unit.below) return std::to_string(row.seconds_left / unit.unit) + unit.name;
  }
  return "perm";
}

}  // namespace

Result<std::string> KeysTable(const Context&) {
  kernel::Task* task = kernel::Task::CurrentOrNull();
  std::string text;
  if (!task) return text;
  RefPtr<keys::TaskKeyrings> rings = task->keyrings ? task->keyrings : MakeRef<keys::TaskKeyrings>();
  for (const keys::Keys::Row& row : keys::Keys::Get().List({*task->creds(), *rings})) {
    Append(text, "%08x I%c-Q--%c %5d %4s %08x %5d %5d %-9.9s ", static_cast<unsigned>(row.serial),
           row.revoked ? 'R' : '-', row.invalidated ? 'i' : '-', row.uses, TimeLeft(row).c_str(), row.permissions,
           static_cast<int>(row.uid), static_cast<int>(row.gid), row.type);
    text += row.summary + "\n";
  }
  return text;
}

Result<std::string> KeyUsersTable(const Context&) {
  std::string text;
  using keys::Key;
  for (const Key::UserTotals& user : Key::Users()) {
    Append(text, "%5u: %5d %d/%d %d/%d %d/%d\n", user.uid, user.keys, user.keys, user.keys, user.keys,
           user.uid == 0 ? Key::kRootKeys : Key::kUserKeys, user.bytes,
           user.uid == 0 ? Key::kRootBytes : Key::kUserBytes);
  }
  return text;
}

}  // namespace sentry::fs
