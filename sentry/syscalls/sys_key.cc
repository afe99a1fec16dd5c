// SPDX-License-Identifier: Apache-2.0
// add_key(2), request_key(2), keyctl(2).
#include <linux/keyctl.h>

#include <algorithm>

#include "sentry/kernel/keys/keys.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

using keys::Keys;
using keys::Subject;
using keys::Type;

constexpr size_t kMaxPayload = (1 << 20) - 1, kMaxUpdate = kPageSize, kMaxDescription = 4096, kMaxTypeName = 32;

Subject SubjectOf(Task& task) {
  if (!task.keyrings) task.keyrings = MakeRef<keys::TaskKeyrings>();
  return {*task.creds(), *task.keyrings};
}

// strndup_user of Linux: too long is EINVAL.
Result<std::string> CopyInText(Task& task, UserAddr address, size_t limit) {
  auto text = task.CopyInString(address, limit);
  if (!text.ok() && text.error() == Errno(ENAMETOOLONG)) return Errno(EINVAL);
  return text;
}

Result<std::string> CopyInTypeName(Task& task, UserAddr address) {
  std::string name = TRY(CopyInText(task, address, kMaxTypeName));
  if (name.empty()) return Errno(EINVAL);
  if (name[0] == '.') return Errno(EPERM);
  return name;
}

// `unknown` is the errno for types that this kernel hasn't.
Result<Type> ToType(const std::string& name, int unknown) {
  for (Type type : {Type::kUser, Type::kLogon, Type::kKeyring}) {
    if (name == keys::TypeName(type)) return type;
  }
  return Errno(unknown);
}

Result<std::string> CopyInPayload(Task& task, UserAddr address, size_t length) {
  std::string payload(length, '\0');
  if (length) TRY(task.CopyInBytes(address, payload.data(), length));
  return payload;
}

// What is longer than the buffer is not copied; its size is the result all the same.
Value CopyOutWhole(Task& task, UserAddr buffer, size_t room, const std::string& data) {
  if (!buffer.IsNull() && room >= data.size() && !data.empty())
    TRY(task.CopyOutBytes(buffer, data.data(), data.size()));
  return static_cast<int64_t>(data.size());
}

Value JoinSession(Task& task, UserAddr address) {
  std::optional<std::string> name;
  if (!address.IsNull()) {
    name = TRY(CopyInText(task, address, kMaxDescription));
    if (name->starts_with('.')) return Errno(EPERM);
  }
  return TRY(Keys::Get().JoinSession(SubjectOf(task), name));
}

Value Update(Task& task, const Arguments& args) {
  if (args.Size(3) > kMaxUpdate) return Errno(EINVAL);
  std::string payload = TRY(CopyInPayload(task, args.Addr(2), args.Size(3)));
  TRY(Keys::Get().Update(SubjectOf(task), args.Int(1), std::move(payload)));
  return 0;
}

Value Describe(Task& task, const Arguments& args) {
  std::string text = TRY(Keys::Get().Describe(SubjectOf(task), args.Int(1)));
  text += '\0';
  return CopyOutWhole(task, args.Addr(2), args.Size(3), text);
}

Value Search(Task& task, const Arguments& args) {
  const std::string type = TRY(CopyInTypeName(task, args.Addr(2)));
  const std::string description = TRY(CopyInText(task, args.Addr(3), kMaxDescription));
  if (args.Int(1) == 0) return Errno(EINVAL);
  return TRY(Keys::Get().Search(SubjectOf(task), args.Int(1), TRY(ToType(type, ENOKEY)), description, args.Int(4)));
}

// No security module labels keys: the label is empty.
Value GetSecurity(Task& task, const Arguments& args) {
  TRY(Keys::Get().CheckView(SubjectOf(task), args.Int(1)));
  return CopyOutWhole(task, args.Addr(2), args.Size(3), std::string(1, '\0'));
}

Value Capabilities(Task& task, UserAddr buffer, size_t room) {
  const uint8_t have[2] = {
      KEYCTL_CAPS0_CAPABILITIES | KEYCTL_CAPS0_PERSISTENT_KEYRINGS | KEYCTL_CAPS0_INVALIDATE | KEYCTL_CAPS0_MOVE, 0};
  if (room) TRY(task.CopyOutBytes(buffer, have, std::min(room, sizeof have)));
  for (size_t i = sizeof have; i < std::min<size_t>(room, kPageSize); ++i) TRY(task.CopyOut(buffer + i, uint8_t{0}));
  return sizeof have;
}

}  // namespace

SYSCALL_HANDLER(SysAddKey) {
  if (args.Size(3) > kMaxPayload) return Errno(EINVAL);
  const std::string type = TRY(CopyInTypeName(task, args.Addr(0)));
  std::string description;
  if (!args.Addr(1).IsNull()) description = TRY(CopyInText(task, args.Addr(1), kMaxDescription));
  if (description.starts_with('.') && type.starts_with("keyring")) return Errno(EPERM);
  std::string payload = TRY(CopyInPayload(task, args.Addr(2), args.Size(3)));
  return TRY(Keys::Get().Add(SubjectOf(task), TRY(ToType(type, ENODEV)), std::move(description), std::move(payload),
                             args.Int(4)));
}

SYSCALL_HANDLER(SysRequestKey) {
  const std::string type = TRY(CopyInTypeName(task, args.Addr(0)));
  const std::string description = TRY(CopyInText(task, args.Addr(1), kMaxDescription));
  // For the program that would make the key; there is none to call.
  if (!args.Addr(2).IsNull()) TRY(CopyInText(task, args.Addr(2), kPageSize));
  return TRY(Keys::Get().Search(SubjectOf(task), 0, TRY(ToType(type, ENOKEY)), description, args.Int(3)));
}

SYSCALL_HANDLER(SysKeyctl) {
  Keys& keys = Keys::Get();
  const int id = args.Int(1);
  Result<void> done;
  switch (args.Int(0)) {
    case KEYCTL_GET_KEYRING_ID:
      return TRY(keys.GetId(SubjectOf(task), id, args.Int(2)));
    case KEYCTL_JOIN_SESSION_KEYRING:
      return JoinSession(task, args.Addr(1));
    case KEYCTL_UPDATE:
      return Update(task, args);
    case KEYCTL_REVOKE:
      done = keys.Revoke(SubjectOf(task), id);
      break;
    case KEYCTL_CHOWN:
      done = keys.Chown(SubjectOf(task), id, args.Uint(2), args.Uint(3));
      break;
    case KEYCTL_SETPERM:
      done = keys.SetPermissions(SubjectOf(task), id, args.Uint(2));
      break;
    case KEYCTL_DESCRIBE:
      return Describe(task, args);
    case KEYCTL_CLEAR:
      done = keys.Clear(SubjectOf(task), id);
      break;
    case KEYCTL_LINK:
      done = keys.Link(SubjectOf(task), id, args.Int(2));
      break;
    case KEYCTL_UNLINK:
      done = keys.Unlink(SubjectOf(task), id, args.Int(2));
      break;
    case KEYCTL_SEARCH:
      return Search(task, args);
    case KEYCTL_READ:
      return CopyOutWhole(task, args.Addr(2), args.Size(3), TRY(keys.Read(SubjectOf(task), id)));
    case KEYCTL_INSTANTIATE:
    case KEYCTL_NEGATE:
    case KEYCTL_REJECT:
    case KEYCTL_INSTANTIATE_IOV:
      return Errno(EPERM);  // nobody was asked to make a key
    case KEYCTL_SET_REQKEY_KEYRING:
      return TRY(keys.SetRequestDestination(SubjectOf(task), id));
    case KEYCTL_SET_TIMEOUT:
      done = keys.SetTimeout(SubjectOf(task), id, args.Uint(2));
      break;
    case KEYCTL_ASSUME_AUTHORITY:
      if (id < 0) return Errno(EINVAL);
      return id == 0 ? Value(0) : Value(Errno(ENOKEY));
    case KEYCTL_GET_SECURITY:
      return GetSecurity(task, args);
    case KEYCTL_INVALIDATE:
      done = keys.Invalidate(SubjectOf(task), id);
      break;
    case KEYCTL_GET_PERSISTENT:
      return TRY(keys.GetPersistent(SubjectOf(task), args.Uint(1), args.Int(2)));
    case KEYCTL_MOVE:
      if (args.Uint(4) & ~unsigned{KEYCTL_MOVE_EXCL}) return Errno(EINVAL);
      done = keys.Move(SubjectOf(task), id, args.Int(2), args.Int(3), args.Uint(4) & KEYCTL_MOVE_EXCL);
      break;
    case KEYCTL_CAPABILITIES:
      return Capabilities(task, args.Addr(1), args.Size(2));
    default:
      return Errno(EOPNOTSUPP);
  }
  if (!done.ok()) return done.error();
  return 0;
}

}  // namespace sentry::syscalls
