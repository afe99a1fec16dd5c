// SPDX-License-Identifier: Apache-2.0
// Extended attributes: only the namespaces that a container may have an effect in are written.
#include <algorithm>
#include <string>

#include "gofer/server/connection.h"

namespace gofer {

using base::Errno;
using base::OkResult;
using base::Result;

namespace {

constexpr size_t kMaxHostXattr = 65536;  // XATTR_SIZE_MAX, XATTR_LIST_MAX

Result<std::string> CheckedXattrName(std::string_view name, bool write) {
  if (name.empty() || name.size() > kMaxNameLength) return Errno(ERANGE);
  if (name.find('\0') != name.npos) return Errno(EINVAL);
  bool writable = name.starts_with("user.") || name == "security.capability" || name == "system.posix_acl_access" ||
                  name == "system.posix_acl_default";
  if (write && !writable) return Errno(EPERM);
  return std::string(name);
}

}  // namespace

Result<void> Connection::GetXattr(Reader& in, Reply* out) {
  auto request = in.Get<NodeRequest>();
  std::string_view text = in.GetString();
  if (!in.Done()) return Errno(EINVAL);
  std::string name = TRY(CheckedXattrName(text, /*write=*/false));
  NodeAndFd target = TRY(Resolve(request.node));
  size_t size = TRY(fs_->GetXattr(target.fd->get(), name, {out->body.tail(), out->body.room()}));
  if (size > kMaxXattrSize) return Errno(E2BIG);
  out->body.Advance(size);
  return OkResult();
}

Result<void> Connection::SetXattr(Reader& in) {
  auto request = in.Get<SetXattrRequest>();
  std::string_view text = in.GetString();
  std::string_view value = in.GetString();
  if (!in.Done() || request.flags > 2) return Errno(EINVAL);
  TRY(CheckWritable());
  std::string name = TRY(CheckedXattrName(text, /*write=*/true));
  NodeAndFd target = TRY(Resolve(request.node));
  return fs_->SetXattr(target.fd->get(), name, value, static_cast<int>(request.flags));
}

Result<void> Connection::ListXattr(Reader& in, Reply* out) {
  auto request = in.Get<NodeRequest>();
  if (!in.Done()) return Errno(EINVAL);
  NodeAndFd target = TRY(Resolve(request.node));
  static_assert(kMaxHostXattr <= kMaxPayload);
  out->body.Advance(TRY(fs_->ListXattr(target.fd->get(), {out->body.tail(), out->body.room()})));
  return OkResult();
}

Result<void> Connection::RemoveXattr(Reader& in) {
  auto request = in.Get<NodeRequest>();
  std::string_view text = in.GetString();
  if (!in.Done()) return Errno(EINVAL);
  TRY(CheckWritable());
  std::string name = TRY(CheckedXattrName(text, /*write=*/true));
  NodeAndFd target = TRY(Resolve(request.node));
  return fs_->RemoveXattr(target.fd->get(), name);
}

}  // namespace gofer
