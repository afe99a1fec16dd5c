// SPDX-License-Identifier: Apache-2.0
// Encoding and decoding of each call. The server is trusted less than it could be: a reply that does not parse ends
// the connection.
#include "gofer/protocol/client.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "base/mutex.h"
#include "gofer/protocol/channel_pool.h"
#include "gofer/protocol/messages.h"

namespace gofer {

using base::Errno;
using base::MutexLock;
using base::OkResult;
using base::Result;
using base::UniqueFd;

namespace {

constexpr size_t kForgetBatch = 64;

Result<void> CheckName(std::string_view name) {
  if (name.size() > kMaxNameLength) return Errno(ENAMETOOLONG);
  return OkResult();  // the rest is the server's to check
}

}  // namespace

struct Client::Impl {
  Impl(UniqueFd socket, Options options)
      : pool(std::move(socket), std::clamp(options.max_channels, 1, kMaxChannels), std::move(options.on_disconnect)) {}

  Result<void> SendForgets(ChannelPool::Lease& lease, std::vector<NodeId> ids);
  std::vector<NodeId> TakeForgets() {
    MutexLock lock(forget_mu);
    return std::exchange(forgets, {});
  }
  // Encodes with `fill(Writer&)`, calls, and decodes with `take(Packet&, Reader&) → Result<T>`. `take` says EBADMSG
  // for a reply of the wrong shape.
  template <typename Fill, typename Take>
  auto Call(Op op, Fill fill, Take take) -> decltype(take(std::declval<Packet&>(), std::declval<Reader&>()));
  Result<void> CallForNothing(Op op, const auto& request, std::initializer_list<std::string_view> strings);
  template <typename Reply>
  Result<Reply> CallFor(Op op, const auto& request, std::initializer_list<std::string_view> strings);
  Result<std::string> CallForBytes(Op op, const auto& request, std::initializer_list<std::string_view> strings);

  ChannelPool pool;
  base::Mutex forget_mu{base::LockRank::kLeaf};
  std::vector<NodeId> forgets ABSL_GUARDED_BY(forget_mu);
};

template <typename Fill, typename Take>
auto Client::Impl::Call(Op op, Fill fill, Take take)
    -> decltype(take(std::declval<Packet&>(), std::declval<Reader&>())) {
  for (bool again = false;; again = true) {
    std::vector<NodeId> queued;
    {
      Result<ChannelPool::Lease> lease = pool.Acquire();
      if (!lease.ok()) return lease.error();
      fill(lease->request);
      if (!lease->request.ok()) return Errno(E2BIG);
      Result<Packet> reply = lease->Call(op);
      if (reply.ok()) {
        Reader reader(reply->payload);
        auto result = take(*reply, reader);
        if (result.ok() || result.error() != Errno(EBADMSG)) return result;
        pool.Disconnect();
        return Errno(EIO);
      }
      if (reply.error() != Errno(ENFILE) || again) return reply.error();
      queued = TakeForgets();
      if (queued.empty()) return reply.error();
      lease->request.Clear();
      Result<void> sent = SendForgets(*lease, std::move(queued));
      if (!sent.ok()) return sent.error();
    }
  }
}

Result<void> Client::Impl::CallForNothing(Op op, const auto& request, std::initializer_list<std::string_view> strings) {
  return Call(
      op,
      [&](Writer& w) {
        w.Put(request);
        for (std::string_view s : strings) w.PutString(s);
      },
      [](Packet& packet, Reader& r) -> Result<void> {
        if (!r.Done() || !packet.fds.empty()) return Errno(EBADMSG);
        return OkResult();
      });
}

template <typename Reply>
Result<Reply> Client::Impl::CallFor(Op op, const auto& request, std::initializer_list<std::string_view> strings) {
  return Call(
      op,
      [&](Writer& w) {
        w.Put(request);
        for (std::string_view s : strings) w.PutString(s);
      },
      [](Packet& packet, Reader& r) -> Result<Reply> {
        Reply reply = r.Get<Reply>();
        if (!r.Done() || !packet.fds.empty()) return Errno(EBADMSG);
        return reply;
      });
}

Result<std::string> Client::Impl::CallForBytes(Op op, const auto& request,
                                               std::initializer_list<std::string_view> strings) {
  return Call(
      op,
      [&](Writer& w) {
        w.Put(request);
        for (std::string_view s : strings) w.PutString(s);
      },
      [](Packet& packet, Reader& r) -> Result<std::string> {
        if (!packet.fds.empty()) return Errno(EBADMSG);
        return std::string(r.GetRest());
      });
}

Result<void> Client::Impl::SendForgets(ChannelPool::Lease& lease, std::vector<NodeId> ids) {
  for (size_t at = 0; at < ids.size(); at += kMaxForgets) {
    size_t count = std::min(kMaxForgets, ids.size() - at);
    lease.request.Clear();
    lease.request.Put(ForgetRequest{.count = static_cast<uint32_t>(count)});
    lease.request.PutRaw(ids.data() + at, count * sizeof(NodeId));
    Result<Packet> reply = lease.Call(Op::kForget);
    if (!reply.ok()) return reply.error();
  }
  return OkResult();
}

Client::Client() = default;
Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::Connect(UniqueFd socket, Options options) {
  TRY(CheckSocket(socket.get()));
  std::unique_ptr<Client> client(new Client);
  client->impl_ = std::make_unique<Impl>(std::move(socket), std::move(options));
  MountInfo* info = &client->mount_;
  TRY(client->impl_->Call(
      Op::kMount, [](Writer& w) { w.Put(MountRequest{.version = kProtocolVersion}); },
      [info](Packet& packet, Reader& r) -> Result<void> {
        auto reply = r.Get<MountReply>();
        if (!r.Done() || packet.fds.size() > 1) return Errno(EBADMSG);
        info->root = reply.root;
        info->read_only = reply.flags & kMountReadOnly;
        info->submounts = reply.flags & kMountSubmounts;
        info->name_max = reply.name_max;
        info->max_nodes = reply.max_nodes;
        info->max_fds = reply.max_fds;
        if (!packet.fds.empty()) info->root_fd = std::move(packet.fds[0]);
        return OkResult();
      }));
  return client;
}

int Client::socket_fd() const { return impl_->pool.primary_fd(); }
void Client::Disconnect() { impl_->pool.Disconnect(); }
bool Client::connected() const { return impl_->pool.connected(); }

Result<WalkResult> Client::Walk(NodeId dir, std::span<const std::string_view> names) {
  if (names.empty() || names.size() > kMaxWalkNames) return Errno(EINVAL);
  // A name too long for the wire is a miss at its place, as the names before it may exist.
  size_t count = 0;
  while (count < names.size() && CheckName(names[count]).ok()) ++count;
  WalkResult result;
  if (count > 0) {
    result = TRY(impl_->Call(
        Op::kWalk,
        [&](Writer& w) {
          w.Put(WalkRequest{.dir = dir, .count = static_cast<uint32_t>(count)});
          for (std::string_view name : names.first(count)) w.PutString(name);
        },
        [&](Packet& packet, Reader& r) -> Result<WalkResult> {
          auto head = r.Get<WalkReply>();
          if (head.found > count || head.stop_errno >= 512 || !packet.fds.empty()) return Errno(EBADMSG);
          if ((head.found < count) != (head.stop_errno != 0)) return Errno(EBADMSG);
          WalkResult walk{.stop_errno = static_cast<int>(head.stop_errno)};
          walk.found.reserve(head.found);
          for (uint32_t i = 0; i < head.found; ++i) walk.found.push_back(r.Get<NodeAttr>());
          if (!r.Done()) return Errno(EBADMSG);
          return walk;
        }));
  }
  if (result.stop_errno == 0 && count < names.size()) result.stop_errno = ENAMETOOLONG;
  return result;
}

Result<NodeAttr> Client::Lookup(NodeId dir, std::string_view name) {
  WalkResult walk = TRY(Walk(dir, {&name, 1}));
  if (walk.stop_errno != 0) return Errno(walk.stop_errno);
  return walk.found[0];
}

Result<Attr> Client::GetAttr(NodeId node) { return impl_->CallFor<Attr>(Op::kGetAttr, NodeRequest{node}, {}); }

Result<Attr> Client::SetAttr(NodeId node, const AttrChange& change) {
  return impl_->CallFor<Attr>(Op::kSetAttr, SetAttrRequest{node, change}, {});
}

Result<OpenFile> Client::Open(NodeId node, int flags) {
  return impl_->Call(
      Op::kOpen, [&](Writer& w) { w.Put(OpenRequest{.node = node, .flags = static_cast<uint32_t>(flags)}); },
      [](Packet& packet, Reader& r) -> Result<OpenFile> {
        if (!r.Done() || packet.fds.size() != 1) return Errno(EBADMSG);
        return OpenFile{std::move(packet.fds[0])};
      });
}

Result<CreatedFile> Client::Create(NodeId dir, std::string_view name, int flags, uint32_t mode, uint32_t uid,
                                   uint32_t gid) {
  TRY(CheckName(name));
  return impl_->Call(
      Op::kCreate,
      [&](Writer& w) {
        w.Put(MakeRequest{.dir = dir, .flags = static_cast<uint32_t>(flags), .mode = mode, .uid = uid, .gid = gid});
        w.PutString(name);
      },
      [](Packet& packet, Reader& r) -> Result<CreatedFile> {
        auto node = r.Get<NodeAttr>();
        if (!r.Done() || packet.fds.size() != 1) return Errno(EBADMSG);
        return CreatedFile{node, std::move(packet.fds[0])};
      });
}

Result<NodeAttr> Client::Mkdir(NodeId dir, std::string_view name, uint32_t mode, uint32_t uid, uint32_t gid) {
  TRY(CheckName(name));
  return impl_->CallFor<NodeAttr>(Op::kMkdir, MakeRequest{.dir = dir, .mode = mode, .uid = uid, .gid = gid}, {name});
}

Result<NodeAttr> Client::Symlink(NodeId dir, std::string_view name, std::string_view target, uint32_t uid,
                                 uint32_t gid) {
  TRY(CheckName(name));
  if (target.size() >= 4096) return Errno(ENAMETOOLONG);
  return impl_->CallFor<NodeAttr>(Op::kSymlink, MakeRequest{.dir = dir, .uid = uid, .gid = gid}, {name, target});
}

Result<NodeAttr> Client::Mknod(NodeId dir, std::string_view name, uint32_t mode, uint32_t major, uint32_t minor,
                               uint32_t uid, uint32_t gid) {
  TRY(CheckName(name));
  MakeRequest request{.dir = dir, .mode = mode, .uid = uid, .gid = gid, .major = major, .minor = minor};
  return impl_->CallFor<NodeAttr>(Op::kMknod, request, {name});
}

Result<NodeAttr> Client::Link(NodeId node, NodeId dir, std::string_view name) {
  TRY(CheckName(name));
  return impl_->CallFor<NodeAttr>(Op::kLink, LinkRequest{.node = node, .dir = dir}, {name});
}

Result<void> Client::Unlink(NodeId dir, std::string_view name) {
  TRY(CheckName(name));
  return impl_->CallForNothing(Op::kUnlink, NodeRequest{dir}, {name});
}

Result<void> Client::Rmdir(NodeId dir, std::string_view name) {
  TRY(CheckName(name));
  return impl_->CallForNothing(Op::kRmdir, NodeRequest{dir}, {name});
}

Result<void> Client::Rename(NodeId old_dir, std::string_view old_name, NodeId new_dir, std::string_view new_name,
                            uint32_t flags) {
  TRY(CheckName(old_name));
  TRY(CheckName(new_name));
  RenameRequest request{.old_dir = old_dir, .new_dir = new_dir, .flags = flags};
  return impl_->CallForNothing(Op::kRename, request, {old_name, new_name});
}

Result<std::string> Client::ReadLink(NodeId node) { return impl_->CallForBytes(Op::kReadLink, NodeRequest{node}, {}); }

Result<DirHandle> Client::OpenDir(NodeId dir) {
  return TRY(impl_->CallFor<NodeRequest>(Op::kOpenDir, NodeRequest{dir}, {})).node;
}

namespace {

Result<DirPage> ParseDirPage(Packet& packet, Reader& r) {
  auto head = r.Get<ReadDirReply>();
  DirPage page{.end = head.end != 0};
  for (uint32_t i = 0; i < head.count && r.ok(); ++i) {
    auto entry = r.Get<DirEntryHead>();
    std::string_view name = r.GetBytes(entry.name_length);
    page.entries.push_back({entry.ino, entry.cookie, entry.type, std::string(name)});
  }
  if (!r.Done() || !packet.fds.empty()) return Errno(EBADMSG);
  return page;
}

}  // namespace

Result<DirPage> Client::ReadDir(DirHandle handle, uint64_t cookie) {
  return impl_->Call(
      Op::kReadDir, [&](Writer& w) { w.Put(ReadDirRequest{.handle = handle, .cookie = cookie}); }, ParseDirPage);
}

void Client::CloseDir(DirHandle handle) {
  // Only a dead connection can fail here, and that has closed the stream.
  (void)impl_->CallForNothing(Op::kCloseDir, NodeRequest{handle}, {});
}

Result<std::vector<DirEntry>> Client::ReadWholeDir(NodeId dir) {
  DirPage first = TRY(impl_->Call(
      Op::kListDir, [&](Writer& w) { w.Put(NodeRequest{dir}); }, ParseDirPage));
  if (first.end) return std::move(first.entries);
  DirHandle handle = TRY(OpenDir(dir));
  std::vector<DirEntry> all;
  uint64_t cookie = 0;
  for (;;) {
    Result<DirPage> page = ReadDir(handle, cookie);
    if (!page.ok()) {
      CloseDir(handle);
      return page.error();
    }
    if (!page->entries.empty()) cookie = page->entries.back().cookie;
    bool end = page->end || page->entries.empty();
    for (DirEntry& entry : page->entries) all.push_back(std::move(entry));
    if (end) break;
  }
  CloseDir(handle);
  return all;
}

Result<gofer::StatFs> Client::StatFs(NodeId node) {
  return impl_->CallFor<gofer::StatFs>(Op::kStatFs, NodeRequest{node}, {});
}

Result<std::string> Client::GetXattr(NodeId node, std::string_view name) {
  if (name.size() > kMaxNameLength) return Errno(ERANGE);
  return impl_->CallForBytes(Op::kGetXattr, NodeRequest{node}, {name});
}

Result<void> Client::SetXattr(NodeId node, std::string_view name, std::string_view value, int flags) {
  if (name.size() > kMaxNameLength) return Errno(ERANGE);
  if (value.size() > kMaxXattrSize) return Errno(E2BIG);
  SetXattrRequest request{.node = node, .flags = static_cast<uint32_t>(flags)};
  return impl_->CallForNothing(Op::kSetXattr, request, {name, value});
}

Result<std::string> Client::ListXattr(NodeId node) {
  return impl_->CallForBytes(Op::kListXattr, NodeRequest{node}, {});
}

Result<void> Client::RemoveXattr(NodeId node, std::string_view name) {
  if (name.size() > kMaxNameLength) return Errno(ERANGE);
  return impl_->CallForNothing(Op::kRemoveXattr, NodeRequest{node}, {name});
}

Result<void> Client::SyncFs(NodeId node) { return impl_->CallForNothing(Op::kSyncFs, NodeRequest{node}, {}); }

void Client::Forget(NodeId node) {
  if (node == kNoNode || node == mount_.root.node || !connected()) return;
  {
    MutexLock lock(impl_->forget_mu);
    impl_->forgets.push_back(node);
    if (impl_->forgets.size() < kForgetBatch) return;
  }
  FlushForgets();
}

void Client::FlushForgets() {
  std::vector<NodeId> ids = impl_->TakeForgets();
  if (ids.empty()) return;
  Result<ChannelPool::Lease> lease = impl_->pool.Acquire();
  // A dead connection has forgotten everything.
  if (lease.ok()) (void)impl_->SendForgets(*lease, std::move(ids));
}

}  // namespace gofer
