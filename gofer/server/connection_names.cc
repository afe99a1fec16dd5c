// SPDX-License-Identifier: Apache-2.0
// Operations that make, remove and move names. Files are made as the gofer and then given to the owner the sentry
// asks for (not made with setfsuid(2)): the sentry has checked permissions already, a changed fsuid would drop the
// capabilities that the rest of the call needs, and disk quotas follow chown(2).
#include <fcntl.h>
#include <sys/stat.h>

#include <utility>

#include "gofer/server/connection.h"

namespace gofer {

using base::Errno;
using base::OkResult;
using base::RefPtr;
using base::Result;
using base::UniqueFd;

Result<void> Connection::Adopt(int fd, const MakeRequest& request, bool with_mode, Attr* attr) {
  bool changed = false;
  uint32_t uid = request.uid == attr->uid ? kKeepId : request.uid;
  uint32_t gid = request.gid == attr->gid ? kKeepId : request.gid;
  if (uid != kKeepId || gid != kKeepId) {
    TRY(fs_->Chown(fd, uid, gid));
    changed = true;
  }
  // chown(2) and the host's set-gid-directory rule change the upper bits; the lower ones may come from a default ACL.
  if (with_mode && (changed || ((attr->mode ^ request.mode) & 07000)) && ((attr->mode | request.mode) & 07000)) {
    TRY(fs_->Chmod(fd, (attr->mode & 0777) | (request.mode & 07000)));
    changed = true;
  }
  if (changed) *attr = TRY(fs_->Stat(fd));
  return OkResult();
}

Result<void> Connection::Create(Reader& in, Reply* out) {
  auto request = in.Get<MakeRequest>();
  std::string_view text = in.GetString();
  if (!in.Done()) return Errno(EINVAL);
  TRY(CheckWritable());
  std::string name = TRY(CheckedName(text));
  bool needs_write = false;
  int flags = TRY(CheckedOpenFlags(request.flags, &needs_write));
  if (request.mode & ~07777u) return Errno(EINVAL);
  NodeAndFd dir = TRY(ResolveDir(request.dir));
  TRY(nodes_.ReserveFd());
  UniqueFd file = TRY(fs_->CreateAt(dir.fd->get(), name, flags, request.mode & 01777));
  auto finish = [&]() -> Result<NodeAttr> {
    Attr attr = TRY(fs_->Stat(file.get()));
    TRY(Adopt(file.get(), request, /*with_mode=*/true, &attr));
    return nodes_.AddFile(dir.node, name, attr);
  };
  Result<NodeAttr> node = finish();
  if (!node.ok()) {
    (void)fs_->Unlink(dir.fd->get(), name, /*directory=*/false);  // the first error is the one to tell
    return node.error();
  }
  out->body.Put(*node);
  out->fds.push_back(std::move(file));
  return OkResult();
}

Result<void> Connection::Make(Op op, Reader& in, Reply* out) {
  auto request = in.Get<MakeRequest>();
  std::string_view text = in.GetString();
  std::string target(op == Op::kSymlink ? in.GetString() : std::string_view());
  if (!in.Done()) return Errno(EINVAL);
  TRY(CheckWritable());
  std::string name = TRY(CheckedName(text));
  if (op == Op::kSymlink) {
    if (target.size() >= 4096) return Errno(ENAMETOOLONG);
    if (target.empty()) return Errno(ENOENT);
    if (target.find('\0') != target.npos) return Errno(EINVAL);
  }
  uint32_t type = op == Op::kMknod ? request.mode & S_IFMT : 0;
  if (op == Op::kMknod) {
    bool whiteout = type == S_IFCHR && request.major == 0 && request.minor == 0;
    if (type != S_IFREG && type != S_IFIFO && !whiteout) return Errno(EPERM);
  }
  if (request.mode & ~(07777u | type)) return Errno(EINVAL);
  NodeAndFd dir = TRY(ResolveDir(request.dir));
  int dir_fd = dir.fd->get();
  if (op == Op::kMkdir) TRY(fs_->Mkdir(dir_fd, name, request.mode & 01777));
  if (op == Op::kSymlink) TRY(fs_->Symlink(target, dir_fd, name));
  if (op == Op::kMknod) TRY(fs_->Mknod(dir_fd, name, type | (request.mode & 01777), 0, 0));
  Result<NodeAttr> node = nodes_.Lookup(dir.node, name);
  auto finish = [&]() -> Result<void> {
    if (!node.ok()) return node.error();
    bool mine = (request.uid == kKeepId || request.uid == node->attr.uid) &&
                (request.gid == kKeepId || request.gid == node->attr.gid);
    bool with_mode = op != Op::kSymlink;
    if (mine && (!with_mode || ((node->attr.mode ^ request.mode) & 07000) == 0)) return OkResult();
    NodeAndFd made = TRY(Resolve(node->node));
    return Adopt(made.fd->get(), request, with_mode, &node->attr);
  };
  Result<void> finished = finish();
  if (!finished.ok()) {
    (void)fs_->Unlink(dir_fd, name, op == Op::kMkdir);
    if (node.ok()) nodes_.Forget(node->node);
    return finished.error();
  }
  out->body.Put(*node);
  return OkResult();
}

Result<void> Connection::Link(Reader& in, Reply* out) {
  auto request = in.Get<LinkRequest>();
  std::string_view text = in.GetString();
  if (!in.Done()) return Errno(EINVAL);
  TRY(CheckWritable());
  std::string name = TRY(CheckedName(text));
  NodeAndFd target = TRY(Resolve(request.node));
  if (target.node->is_dir()) return Errno(EPERM);
  NodeAndFd dir = TRY(ResolveDir(request.dir));
  TRY(fs_->Link(target.fd->get(), dir.fd->get(), name));
  out->body.Put(TRY(nodes_.Lookup(dir.node, name)));
  return OkResult();
}

Result<void> Connection::Remove(Reader& in, bool directory) {
  auto request = in.Get<NodeRequest>();
  std::string_view text = in.GetString();
  if (!in.Done()) return Errno(EINVAL);
  TRY(CheckWritable());
  std::string name = TRY(CheckedName(text));
  NodeAndFd dir = TRY(ResolveDir(request.node));
  if (directory) return fs_->Unlink(dir.fd->get(), name, true);
  NodeTable::Pinned known = TRY(nodes_.PinName(dir.node, name));
  TRY(fs_->Unlink(dir.fd->get(), name, false));
  nodes_.Detach(known);
  return OkResult();
}

Result<void> Connection::Rename(Reader& in) {
  auto request = in.Get<RenameRequest>();
  std::string_view old_text = in.GetString();
  std::string_view new_text = in.GetString();
  if (!in.Done()) return Errno(EINVAL);
  TRY(CheckWritable());
  std::string old_name = TRY(CheckedName(old_text));
  std::string new_name = TRY(CheckedName(new_text));
  constexpr uint32_t kKnown = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;
  if (request.flags & ~kKnown) return Errno(EINVAL);
  NodeAndFd old_dir = TRY(ResolveDir(request.old_dir));
  NodeAndFd new_dir = TRY(ResolveDir(request.new_dir));
  if (old_dir.node == new_dir.node && old_name == new_name) {
    return fs_->Rename(old_dir.fd->get(), old_name, new_dir.fd->get(), new_name, request.flags);
  }
  NodeTable::Pinned source = TRY(nodes_.PinName(old_dir.node, old_name));
  NodeTable::Pinned target = TRY(nodes_.PinName(new_dir.node, new_name));
  TRY(fs_->Rename(old_dir.fd->get(), old_name, new_dir.fd->get(), new_name, request.flags));
  nodes_.Detach(target);
  nodes_.Move(source, new_dir.node, new_name);
  if (request.flags & RENAME_EXCHANGE) nodes_.Move(target, old_dir.node, old_name);
  return OkResult();
}

}  // namespace gofer
