// SPDX-License-Identifier: Apache-2.0
#include "gofer/server/connection.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

namespace gofer {

using base::Errno;
using base::OkResult;
using base::RefPtr;
using base::Result;
using base::UniqueFd;

Result<std::string> CheckedName(std::string_view name) {
  if (name.empty() || name == "." || name == "..") return Errno(EINVAL);
  if (name.size() > kMaxNameLength) return Errno(ENAMETOOLONG);
  if (name.find('/') != name.npos || name.find('\0') != name.npos) return Errno(EINVAL);
  return std::string(name);
}

Result<int> CheckedOpenFlags(uint32_t flags, bool* needs_write) {
  constexpr uint32_t kHostLargeFile = 0100000;  // the kernel's; glibc's O_LARGEFILE is 0 on 64-bit machines
  constexpr uint32_t kAllowed =
      O_ACCMODE | O_TRUNC | O_APPEND | O_NOATIME | O_DIRECT | O_SYNC | O_DSYNC | O_NONBLOCK | kHostLargeFile;
  uint32_t access = flags & O_ACCMODE;
  if ((flags & ~kAllowed) || access == O_ACCMODE) return Errno(EINVAL);
  *needs_write = access != O_RDONLY || (flags & O_TRUNC);
  return static_cast<int>(flags);
}

Connection::Connection(const HostFs* fs, UniqueFd root, const Settings& settings)
    : fs_(fs),
      settings_(settings),
      root_(std::move(root)),
      nodes_(fs, settings.max_nodes, settings.max_fds, settings.submounts) {}

Result<void> Connection::Handle(Op op, Reader& in, Reply* out) {
  if (op != Op::kMount) {
    base::MutexLock lock(mu_);
    if (!mounted_) return Errno(ENOTCONN);
  }
  switch (op) {
    case Op::kMount:
      return Mount(in, out);
    case Op::kWalk:
      return Walk(in, out);
    case Op::kGetAttr:
      return GetAttr(in, out);
    case Op::kSetAttr:
      return SetAttr(in, out);
    case Op::kOpen:
      return Open(in, out);
    case Op::kCreate:
      return Create(in, out);
    case Op::kMkdir:
    case Op::kSymlink:
    case Op::kMknod:
      return Make(op, in, out);
    case Op::kLink:
      return Link(in, out);
    case Op::kUnlink:
      return Remove(in, /*directory=*/false);
    case Op::kRmdir:
      return Remove(in, /*directory=*/true);
    case Op::kRename:
      return Rename(in);
    case Op::kReadLink:
      return ReadLink(in, out);
    case Op::kOpenDir:
      return OpenDir(in, out);
    case Op::kReadDir:
      return ReadDir(in, out);
    case Op::kCloseDir:
      return CloseDir(in);
    case Op::kListDir:
      return ListDir(in, out);
    case Op::kStatFs:
      return StatFs(in, out);
    case Op::kGetXattr:
      return GetXattr(in, out);
    case Op::kSetXattr:
      return SetXattr(in);
    case Op::kListXattr:
      return ListXattr(in, out);
    case Op::kRemoveXattr:
      return RemoveXattr(in);
    case Op::kSyncFs:
      return SyncFs(in, out);
    case Op::kForget:
      return Forget(in, out);
    case Op::kOpenChannel:
    case Op::kEnd:
      break;
  }
  return Errno(ENOSYS);
}

Result<Connection::NodeAndFd> Connection::Resolve(NodeId id) {
  RefPtr<Node> node = TRY(nodes_.Get(id));
  RefPtr<NodeFd> fd = TRY(nodes_.Fd(node));
  return NodeAndFd{std::move(node), std::move(fd)};
}

Result<Connection::NodeAndFd> Connection::ResolveDir(NodeId id) {
  RefPtr<Node> node = TRY(nodes_.Get(id));
  if (!node->is_dir()) return Errno(ENOTDIR);
  RefPtr<NodeFd> fd = TRY(nodes_.Fd(node));
  return NodeAndFd{std::move(node), std::move(fd)};
}

Result<void> Connection::CheckWritable() const {
  if (settings_.read_only) return Errno(EROFS);
  return OkResult();
}

Result<void> Connection::Mount(Reader& in, Reply* out) {
  auto request = in.Get<MountRequest>();
  if (!in.Done()) return Errno(EINVAL);
  if (request.version != kProtocolVersion) return Errno(EPROTO);
  UniqueFd root;
  {
    base::MutexLock lock(mu_);
    if (mounted_ || !root_.ok()) return Errno(EBUSY);
    root = std::move(root_);
  }
  if (settings_.donate_root) {
    out->fds.push_back(TRY(fs_->Duplicate(root.get())));
  }
  gofer::StatFs statfs = TRY(fs_->StatFsOf(root.get()));
  MountReply reply{};
  reply.root = TRY(nodes_.AddRoot(std::move(root)));
  if (settings_.read_only) reply.flags |= kMountReadOnly;
  if (settings_.submounts) reply.flags |= kMountSubmounts;
  reply.name_max = static_cast<uint32_t>(std::min<uint64_t>(statfs.namelen, kMaxNameLength));
  reply.max_nodes = settings_.max_nodes;
  reply.max_fds = settings_.max_fds;
  out->body.Put(reply);
  base::MutexLock lock(mu_);
  mounted_ = true;
  return OkResult();
}

Result<void> Connection::Walk(Reader& in, Reply* out) {
  auto request = in.Get<WalkRequest>();
  if (request.count == 0 || request.count > kMaxWalkNames) return Errno(EINVAL);
  std::vector<std::string_view> names(request.count);
  for (std::string_view& name : names) name = in.GetString();
  if (!in.Done()) return Errno(EINVAL);
  RefPtr<Node> dir = TRY(nodes_.Get(request.dir));
  WalkReply head{};
  std::vector<NodeAttr> found;
  for (std::string_view text : names) {
    auto step = [&]() -> Result<NodeAttr> { return nodes_.Lookup(dir, TRY(CheckedName(text))); };
    Result<NodeAttr> next = step();
    Result<RefPtr<Node>> node = next.ok() ? nodes_.Get(next->node) : Result<RefPtr<Node>>(next.error());
    if (!node.ok()) {
      head.stop_errno = static_cast<uint32_t>(node.error().number());
      break;
    }
    found.push_back(*next);
    dir = *node;
  }
  // So that the client makes room and tries again.
  if (head.stop_errno == ENFILE) {
    for (const NodeAttr& node : found) nodes_.Forget(node.node);
    return Errno(ENFILE);
  }
  head.found = static_cast<uint32_t>(found.size());
  out->body.Put(head);
  out->body.PutRaw(found.data(), found.size() * sizeof(NodeAttr));
  return OkResult();
}

Result<void> Connection::GetAttr(Reader& in, Reply* out) {
  auto request = in.Get<NodeRequest>();
  if (!in.Done()) return Errno(EINVAL);
  NodeAndFd target = TRY(Resolve(request.node));
  out->body.Put(TRY(fs_->Stat(target.fd->get())));
  return OkResult();
}

Result<void> Connection::SetAttr(Reader& in, Reply* out) {
  auto request = in.Get<SetAttrRequest>();
  if (!in.Done()) return Errno(EINVAL);
  TRY(CheckWritable());
  const AttrChange& c = request.change;
  constexpr uint32_t kAll = 2 * kSetMtimeNow - 1;
  auto both = [&](uint32_t a, uint32_t b) { return (c.fields & a) && (c.fields & b); };
  if ((c.fields & ~kAll) || both(kSetAtime, kSetAtimeNow) || both(kSetMtime, kSetMtimeNow)) return Errno(EINVAL);
  if ((c.fields & kSetMode) && (c.mode & ~07777u)) return Errno(EINVAL);
  if ((c.fields & kSetSize) && c.size > static_cast<uint64_t>(INT64_MAX)) return Errno(EINVAL);
  if ((c.fields & kSetAtime) && c.atime.nsec >= 1'000'000'000) return Errno(EINVAL);
  if ((c.fields & kSetMtime) && c.mtime.nsec >= 1'000'000'000) return Errno(EINVAL);
  NodeAndFd target = TRY(Resolve(request.node));
  int fd = target.fd->get();
  if (c.fields & kSetSize) {
    if (target.node->is_dir()) return Errno(EISDIR);
    if (target.node->type() != S_IFREG) return Errno(EINVAL);
  }
  if (c.fields & (kSetUid | kSetGid)) {
    TRY(fs_->Chown(fd, (c.fields & kSetUid) ? c.uid : kKeepId, (c.fields & kSetGid) ? c.gid : kKeepId));
  }
  if (c.fields & kSetMode) TRY(fs_->Chmod(fd, c.mode));
  if (c.fields & kSetSize) TRY(fs_->Truncate(fd, c.size));
  if (c.fields & (kSetAtime | kSetMtime | kSetAtimeNow | kSetMtimeNow)) {
    auto pick = [&](uint32_t set, uint32_t now, const TimeStamp& t) {
      if (c.fields & set) return timespec{.tv_sec = t.sec, .tv_nsec = t.nsec};
      return timespec{.tv_sec = 0, .tv_nsec = (c.fields & now) ? UTIME_NOW : UTIME_OMIT};
    };
    timespec times[2] = {pick(kSetAtime, kSetAtimeNow, c.atime), pick(kSetMtime, kSetMtimeNow, c.mtime)};
    TRY(fs_->SetTimes(fd, times));
  }
  out->body.Put(TRY(fs_->Stat(fd)));
  return OkResult();
}

Result<void> Connection::Open(Reader& in, Reply* out) {
  auto request = in.Get<OpenRequest>();
  if (!in.Done()) return Errno(EINVAL);
  bool needs_write = false;
  int flags = TRY(CheckedOpenFlags(request.flags, &needs_write));
  if (needs_write) TRY(CheckWritable());
  NodeAndFd target = TRY(Resolve(request.node));
  switch (target.node->type()) {
    case S_IFREG:
      break;
    case S_IFDIR:
      return Errno(EISDIR);
    case S_IFLNK:
      return Errno(ELOOP);
    case S_IFCHR:
    case S_IFBLK:
      if (!settings_.allow_devices) return Errno(EPERM);
      flags |= O_NONBLOCK;  // opening must not wait for a carrier or a medium
      break;
    default:
      // FIFOs are the sentry's own pipes; host sockets would reach out of the sandbox.
      return Errno(ENXIO);
  }
  TRY(nodes_.ReserveFd());
  out->fds.push_back(TRY(fs_->Reopen(target.fd->get(), flags)));
  return OkResult();
}

Result<void> Connection::ReadLink(Reader& in, Reply* out) {
  auto request = in.Get<NodeRequest>();
  if (!in.Done()) return Errno(EINVAL);
  NodeAndFd target = TRY(Resolve(request.node));
  if (target.node->type() != S_IFLNK) return Errno(EINVAL);
  out->body.Advance(TRY(fs_->ReadLink(target.fd->get(), {out->body.tail(), std::min<size_t>(out->body.room(), 4096)})));
  return OkResult();
}

Result<void> Connection::StatFs(Reader& in, Reply* out) {
  auto request = in.Get<NodeRequest>();
  if (!in.Done()) return Errno(EINVAL);
  NodeAndFd target = TRY(Resolve(request.node));
  out->body.Put(TRY(fs_->StatFsOf(target.fd->get())));
  return OkResult();
}

Result<void> Connection::SyncFs(Reader& in, Reply* out) {
  auto request = in.Get<NodeRequest>();
  if (!in.Done()) return Errno(EINVAL);
  NodeAndFd target = TRY(Resolve(request.node));
  // Others can't be opened without side effects; they are on the filesystem of the directory that holds them.
  if (target.node->type() != S_IFREG && !target.node->is_dir()) return Errno(EINVAL);
  return fs_->SyncFs(target.fd->get());
}

Result<void> Connection::Forget(Reader& in, Reply* out) {
  auto request = in.Get<ForgetRequest>();
  if (request.count > kMaxForgets) return Errno(EINVAL);
  std::vector<NodeId> ids(request.count);
  for (NodeId& id : ids) id = in.Get<NodeId>();
  if (!in.Done()) return Errno(EINVAL);
  for (NodeId id : ids) nodes_.Forget(id);
  return OkResult();
}

}  // namespace gofer
