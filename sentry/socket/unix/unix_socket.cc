// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/unix/unix_socket.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sentry/socket/environment.h"
#include "sentry/socket/unix/in_flight.h"
#include "sentry/socket/unix/names.h"

namespace sentry::socket {
namespace {

uint64_t InodeNumber(const vfs::Path& path) {
  auto stat = path.inode()->GetStat();
  return stat.ok() ? stat->ino : 0;
}

// The type an endpoint has; SOCK_RAW is another name of SOCK_DGRAM.
Result<int> CheckType(int type, int protocol) {
  if (protocol && protocol != AF_UNIX) return Errno(EPROTONOSUPPORT);
  if (type == SOCK_RAW) type = SOCK_DGRAM;
  if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET) return Errno(ESOCKTNOSUPPORT);
  return type;
}

RefPtr<UnixSocket> NewSocket(int type, int flags) {
  return RefPtr<UnixSocket>(
      new UnixSocket(Socket::NewPath(), flags, MakeRef<UnixEndpoint>(type, GetEnvironment().net_namespace())));
}

Result<vfs::FileRef> Create(int type, int protocol, int flags) {
  type = TRY(CheckType(type, protocol));
  return vfs::FileRef(NewSocket(type, flags));
}

Result<std::pair<vfs::FileRef, vfs::FileRef>> CreatePair(int type, int protocol, int flags) {
  type = TRY(CheckType(type, protocol));
  RefPtr<UnixSocket> a = NewSocket(type, flags), b = NewSocket(type, flags);
  UnixEndpoint::Pair(a->endpoint(), b->endpoint());
  return std::pair(vfs::FileRef(std::move(a)), vfs::FileRef(std::move(b)));
}

}  // namespace

UnixSocket::UnixSocket(vfs::Path path, int flags, RefPtr<UnixEndpoint> endpoint)
    : Socket(path, flags, AF_UNIX, endpoint->type(), 0),
      endpoint_(std::move(endpoint)),
      inode_number_(InodeNumber(path)) {
  endpoint_->set_file(this);
  UnixNames::Get().AddOpen(*endpoint_);
}

UnixSocket::~UnixSocket() {
  UnixNames::Get().RemoveOpen(*endpoint_);
  endpoint_->Release();
  InFlight::Get().CollectAfterClose();
}

Result<void> UnixSocket::Connect(std::string_view address, bool, WaitOn* wait_on) {
  return endpoint_->Connect(address, wait_on);
}

Result<vfs::FileRef> UnixSocket::Accept(int flags) {
  RefPtr<UnixEndpoint> accepted = TRY(endpoint_->Accept());
  return vfs::FileRef(new UnixSocket(Socket::NewPath(), flags, std::move(accepted)));
}

Result<size_t> UnixSocket::Receive(ReceiveRequest& request) { return endpoint_->Receive(request); }

Result<size_t> UnixSocket::Read(IoTarget& target) {
  if (target.remaining() == 0) return size_t{0};
  ReceiveRequest request(target);
  request.nonblocking = IsNonBlocking();
  auto n = Receive(request);
  // read(2) has no place for descriptors.
  if (!request.files.empty()) DropFiles(std::move(request.files));
  return n;
}

Result<void> UnixSocket::SetOption(int level, int name, std::string_view value) {
  if (level == SOL_SOCKET && name == SO_PEEK_OFF) {
    endpoint_->set_peek_offset(TRY(OptionInt(value)));
    return OkResult();
  }
  return Socket::SetOption(level, name, value);
}

Result<std::string> UnixSocket::GetOption(int level, int name) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  switch (name) {
    case SO_PEEK_OFF:
      return OptionBytes(endpoint_->peek_offset());
    case SO_PEERCRED: {
      PeerCredentials peer = endpoint_->peer_credentials();
      const Credentials& creds = *Caller::Current().creds();
      // Without a peer there is no id either: -1, as it is.
      ucred value = {0, kInvalidId, kInvalidId};
      if (peer.known) {
        value = {GetEnvironment().pid_seen_by_caller(peer.id.pid), creds.ShownUid(peer.id.uid),
                 creds.ShownGid(peer.id.gid)};
      }
      return OptionBytes(&value, sizeof value);
    }
    case SO_PEERGROUPS: {
      PeerCredentials peer = endpoint_->peer_credentials();
      if (!peer.known) return Errno(ENODATA);
      for (gid_t& gid : peer.groups) gid = Caller::Current().creds()->ShownGid(gid);
      return OptionBytes(peer.groups.data(), peer.groups.size() * sizeof(gid_t));
    }
    case SO_PEERNAME:
      return GetPeer();
  }
  return Socket::GetOption(level, name);
}

void UnixSocket::OnOptionSet(int name) {
  if (name == SO_PASSCRED) endpoint_->set_pass_creds(options().pass_creds);
  if (name == SO_SNDBUF || name == SO_SNDBUFFORCE) endpoint_->set_send_buffer(options().send_buffer);
}

Result<int64_t> UnixSocket::Ioctl(unsigned request, uint64_t argument) {
  int value;
  switch (request) {
    case SIOCINQ:  // FIONREAD
      value = TRY(endpoint_->QueuedBytes());
      break;
    case SIOCOUTQ:  // TIOCOUTQ
      value = static_cast<int>(endpoint_->SentBytes());
      break;
    default:
      return CallDeviceIoctl(request, argument);
  }
  TRY(Caller::Current().CopyOut(UserAddr(argument), value));
  return 0;
}

Result<void> UnixSocket::OnSetFlags(int flags) {
  endpoint_->set_async(flags & O_ASYNC);
  return OkResult();
}

void RegisterUnixSockets() { RegisterDomain(AF_UNIX, {.create = &Create, .create_pair = &CreatePair}); }

std::string ProcNetUnix() {
  std::string text = "Num       RefCount Protocol Flags    Type St Inode Path\n";
  for (const RefPtr<UnixEndpoint>& endpoint : UnixNames::Get().List(GetEnvironment().net_namespace()))
    text += endpoint->ProcLine();
  return text;
}

std::vector<UnixDiagnosis> DiagnoseUnixSockets() {
  std::vector<UnixDiagnosis> all;
  for (const RefPtr<UnixEndpoint>& endpoint : UnixNames::Get().List(GetEnvironment().net_namespace()))
    all.push_back(endpoint->Diagnose());
  return all;
}

}  // namespace sentry::socket
