// SPDX-License-Identifier: Apache-2.0
// Directory streams: a host directory fd each, kept open so that the host's own cookies stay good.
#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "gofer/server/connection.h"

namespace gofer {

using base::Errno;
using base::OkResult;
using base::Result;
using base::UniqueFd;

namespace {

constexpr size_t kMaxStreams = 4096;
constexpr size_t kDirentBuffer = 32768;
// The largest dirent64: 19 bytes of head, a name of 255, NUL, alignment.
constexpr size_t kLargestDirent = 280;

struct DirentHead {  // getdents64(2)
  uint64_t ino;
  uint64_t offset;
  uint16_t length;
  uint8_t type;
};
constexpr size_t kDirentNameAt = 19;

// As many entries of an open directory as fit, from its file position on. `position` follows the last of them.
Result<void> PutEntries(const HostFs& fs, int fd, uint64_t* position, Connection::Reply* out) {
  ReadDirReply head{};
  out->body.Put(head);
  alignas(8) uint8_t buffer[kDirentBuffer];
  // An entry takes at most sizeof(DirEntryHead) + name here and never less than 24 bytes on the host.
  while (head.end == 0 && out->body.room() >= 2 * kLargestDirent) {
    size_t room = std::min(kDirentBuffer, out->body.room() / 2);
    Result<size_t> got = fs.ReadDirents(fd, {buffer, room});
    if (!got.ok()) {
      if (head.count > 0) break;  // the next call meets the error again
      return got.error();
    }
    if (*got == 0) head.end = 1;
    for (size_t at = 0; at + kDirentNameAt < *got;) {
      DirentHead entry;
      memcpy(&entry, buffer + at, kDirentNameAt);
      if (entry.length <= kDirentNameAt || at + entry.length > *got) return Errno(EIO);
      const char* name = reinterpret_cast<const char*>(buffer + at + kDirentNameAt);
      size_t length = strnlen(name, entry.length - kDirentNameAt);
      at += entry.length;
      *position = entry.offset;
      if (std::string_view(name, length) == "." || std::string_view(name, length) == "..") continue;
      out->body.Put(DirEntryHead{
          .ino = entry.ino, .cookie = entry.offset, .name_length = static_cast<uint16_t>(length), .type = entry.type});
      out->body.PutRaw(name, length);
      ++head.count;
    }
  }
  memcpy(out->body.mutable_written().data(), &head, sizeof head);
  return OkResult();
}

}  // namespace

struct Connection::DirStream {
  DirStream(base::RefPtr<NodeFd> f) : fd(std::move(f)) {}
  base::Mutex mu{base::LockRank::kFile};  // held across the host's reading of the directory
  base::RefPtr<NodeFd> fd;
  uint64_t position ABSL_GUARDED_BY(mu) = 0;
};

Result<void> Connection::OpenDir(Reader& in, Reply* out) {
  auto request = in.Get<NodeRequest>();
  if (!in.Done()) return Errno(EINVAL);
  NodeAndFd dir = TRY(ResolveDir(request.node));
  TRY(nodes_.ReserveFd());
  UniqueFd fd = TRY(fs_->Reopen(dir.fd->get(), O_RDONLY | O_DIRECTORY));
  auto stream = std::make_shared<DirStream>(base::MakeRef<NodeFd>(std::move(fd), nodes_.fd_count()));
  base::MutexLock lock(mu_);
  if (streams_.size() >= kMaxStreams) return Errno(ENFILE);
  uint64_t handle = next_stream_++;
  streams_.emplace(handle, std::move(stream));
  out->body.Put(NodeRequest{handle});
  return OkResult();
}

Result<void> Connection::ReadDir(Reader& in, Reply* out) {
  auto request = in.Get<ReadDirRequest>();
  if (!in.Done()) return Errno(EINVAL);
  std::shared_ptr<DirStream> stream;
  {
    base::MutexLock lock(mu_);
    auto it = streams_.find(request.handle);
    if (it == streams_.end()) return Errno(ENOENT);
    stream = it->second;
  }
  base::MutexLock lock(stream->mu);
  if (request.cookie != stream->position || request.cookie == 0) {
    TRY(fs_->Seek(stream->fd->get(), request.cookie));
    stream->position = request.cookie;
  }
  return PutEntries(*fs_, stream->fd->get(), &stream->position, out);
}

Result<void> Connection::ListDir(Reader& in, Reply* out) {
  auto request = in.Get<NodeRequest>();
  if (!in.Done()) return Errno(EINVAL);
  NodeAndFd dir = TRY(ResolveDir(request.node));
  UniqueFd fd = TRY(fs_->Reopen(dir.fd->get(), O_RDONLY | O_DIRECTORY));
  uint64_t position = 0;
  return PutEntries(*fs_, fd.get(), &position, out);
}

Result<void> Connection::CloseDir(Reader& in) {
  auto request = in.Get<NodeRequest>();
  if (!in.Done()) return Errno(EINVAL);
  std::shared_ptr<DirStream> dropped;
  base::MutexLock lock(mu_);
  auto it = streams_.find(request.node);
  if (it == streams_.end()) return Errno(ENOENT);
  dropped = std::move(it->second);
  streams_.erase(it);
  return OkResult();
}

}  // namespace gofer
