// SPDX-License-Identifier: Apache-2.0
// Sockets: sending and receiving, with control messages (cmsg(3), unix(7)).
#include <limits.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task_set.h"
#include "sentry/socket/environment.h"
#include "sentry/syscalls/access_ok.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/socket_util.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kMaxControl = 20480;  // net.core.optmem_max
constexpr size_t kMaxFiles = 253;      // SCM_MAX_FD
constexpr unsigned kMaxMessages = IOV_MAX;
constexpr size_t kControlHeader = CMSG_LEN(0);
static_assert(sizeof(msghdr) == 56 && sizeof(mmsghdr) == 64);

UserAddr AddrOf(const void* pointer) { return UserAddr(reinterpret_cast<uint64_t>(pointer)); }

// --- Sending

Result<void> AddRights(Task& task, const char* data, size_t length, socket::SendRequest& request) {
  size_t count = length / sizeof(int);
  if (count > kMaxFiles || request.files.size() + count > kMaxFiles) return Errno(EINVAL);
  for (size_t i = 0; i < count; ++i) {
    int fd;
    memcpy(&fd, data + i * sizeof fd, sizeof fd);
    request.files.push_back(TRY(GetAnyFile(task, fd)));
  }
  return OkResult();
}

// A process may call itself what it is; more needs privileges (unix(7)).
Result<socket::Identity> CheckCredentials(Task& task, ucred claimed) {
  const Credentials& creds = *task.creds();
  claimed.uid = creds.ToKernel(IdKind::kUser, claimed.uid);
  claimed.gid = creds.ToKernel(IdKind::kGroup, claimed.gid);
  if (claimed.uid == kInvalidId || claimed.gid == kInvalidId) return Errno(EINVAL);
  const auto is_one_of = [](auto id, auto a, auto b, auto c) { return id == a || id == b || id == c; };
  if (claimed.pid != task.CallerTgid() && !creds.HasCapabilityIn(task.pid_ns().owner(), CAP_SYS_ADMIN))
    return Errno(EPERM);
  if (!is_one_of(claimed.uid, creds.ruid, creds.euid, creds.suid) && !creds.HasOwnCapability(CAP_SETUID))
    return Errno(EPERM);
  if (!is_one_of(claimed.gid, creds.rgid, creds.egid, creds.sgid) && !creds.HasOwnCapability(CAP_SETGID))
    return Errno(EPERM);
  RefPtr<kernel::ThreadGroup> group = task.kernel().tasks().FindThreadGroup(task.pid_ns(), claimed.pid);
  if (!group) return Errno(ESRCH);
  return socket::Identity{group->tgid(), claimed.uid, claimed.gid};
}

Result<void> CopyInControl(Task& task, const socket::Socket& socket, const msghdr& header,
                           socket::SendRequest& request) {
  if (header.msg_controllen == 0) return OkResult();
  if (header.msg_controllen > kMaxControl) return Errno(ENOBUFS);
  std::string control(header.msg_controllen, '\0');
  TRY(task.CopyInBytes(AddrOf(header.msg_control), control.data(), control.size()));
  size_t at = 0;
  while (control.size() - at >= sizeof(cmsghdr)) {
    cmsghdr h;
    memcpy(&h, control.data() + at, sizeof h);
    if (h.cmsg_len < sizeof h || h.cmsg_len > control.size() - at) return Errno(EINVAL);
    const char* data = control.data() + at + kControlHeader;
    const size_t length = h.cmsg_len - kControlHeader;
    if (h.cmsg_level != SOL_SOCKET) {
      request.control.push_back({h.cmsg_level, h.cmsg_type, std::string(data, length)});
    } else if (h.cmsg_type == SCM_RIGHTS && socket.domain() == AF_UNIX) {
      TRY(AddRights(task, data, length, request));
    } else if (h.cmsg_type == SCM_CREDENTIALS && length == sizeof(ucred)) {
      ucred claimed;
      memcpy(&claimed, data, sizeof claimed);
      request.creds = TRY(CheckCredentials(task, claimed));
    } else {
      return Errno(EINVAL);
    }
    size_t step = CMSG_ALIGN(h.cmsg_len);
    if (step > control.size() - at) break;
    at += step;
  }
  return OkResult();
}

Value DoSend(Task& task, socket::Socket& socket, socket::SendRequest& request) {
  const bool nonblocking = (request.flags & MSG_DONTWAIT) || socket.IsNonBlocking();
  size_t total = 0;
  for (;;) {
    auto n =
        BlockOnSocket(task, socket, kEventOut, nonblocking, socket.send_timeout_ns(), [&](socket::WaitOn* wait_on) {
          auto sent = socket.Send(request);
          *wait_on = std::exchange(request.wait_on, nullptr);
          return sent;
        });
    if (!n.ok()) {
      if (total) return static_cast<int64_t>(total);
      if (n.error() == Errno(EPIPE) && socket.RaisesSigpipe() && !(request.flags & MSG_NOSIGNAL))
        task.RaiseSelf(SIGPIPE);
      return n.error();
    }
    total += *n;
    if (!socket.ContinuesPartialWrites() || nonblocking || *n == 0 || !request.data.remaining())
      return static_cast<int64_t>(total);
  }
}

// A msghdr with its name length checked and clipped (copy_msghdr_from_user).
Result<msghdr> CopyInHeader(Task& task, UserAddr address) {
  msghdr header = TRY(task.CopyIn<msghdr>(address));
  if (!header.msg_name) header.msg_namelen = 0;
  if (static_cast<int>(header.msg_namelen) < 0) return Errno(EINVAL);
  header.msg_namelen = std::min<socklen_t>(header.msg_namelen, sizeof(sockaddr_storage));
  if (header.msg_iovlen > IOV_MAX) return Errno(EMSGSIZE);
  if (header.msg_controllen > INT_MAX) return Errno(ENOBUFS);
  return header;
}

Value SendMessage(Task& task, socket::Socket& socket, UserAddr address, int flags) {
  msghdr header = TRY(CopyInHeader(task, address));
  mm::UserSource source(task.mm(), TRY(CopyInIovec(task, AddrOf(header.msg_iov), header.msg_iovlen)));
  socket::SendRequest request(source, flags);
  if (header.msg_namelen) request.address = TRY(CopyInAddress(task, AddrOf(header.msg_name), header.msg_namelen));
  TRY(CopyInControl(task, socket, header, request));
  return DoSend(task, socket, request);
}

// --- Receiving

// Writes control messages to a guest's buffer; what doesn't fit is cut and MSG_CTRUNC says so (net/core/scm.c).
class ControlWriter {
 public:
  ControlWriter(Task& task, UserAddr start, size_t room)
      : task_(task), start_(start), room_(start.IsNull() ? 0 : room) {}

  void Put(int level, int type, const void* data, size_t length) {
    const size_t left = room_ - used_;
    if (left < sizeof(cmsghdr)) {
      truncated_ = true;
      return;
    }
    size_t whole = CMSG_LEN(length);
    if (left < whole) {
      truncated_ = true;
      whole = left;
    }
    cmsghdr header = {.cmsg_len = whole, .cmsg_level = level, .cmsg_type = type};
    if (!task_.CopyOut(start_ + used_, header).ok()) return;
    if (!task_.CopyOutBytes(start_ + used_ + kControlHeader, data, whole - kControlHeader).ok()) return;
    used_ += std::min(CMSG_SPACE(length), left);
  }

  void PutRights(std::vector<vfs::FileRef>& files, bool close_on_exec) {
    const size_t left = room_ - used_;
    const size_t fit = left > kControlHeader ? (left - kControlHeader) / sizeof(int) : 0;
    const size_t wanted = files.size();
    size_t done = 0;
    for (; done < std::min(fit, wanted); ++done) {
      auto fd = InstallFile(task_, std::move(files[done]), close_on_exec);
      if (!fd.ok()) break;
      int number = static_cast<int>(*fd);
      if (task_.CopyOut(start_ + used_ + kControlHeader + done * sizeof number, number).ok()) continue;
      (void)task_.fds().Close(number).ok();
      break;
    }
    files.clear();
    if (done < wanted) truncated_ = true;
    if (done == 0) return;
    cmsghdr header = {.cmsg_len = CMSG_LEN(done * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    if (task_.CopyOut(start_ + used_, header).ok()) used_ += std::min(CMSG_SPACE(done * sizeof(int)), left);
  }

  size_t used() const { return used_; }
  bool truncated() const { return truncated_; }

 private:
  Task& task_;
  const UserAddr start_;
  const size_t room_;
  size_t used_ = 0;
  bool truncated_ = false;
};

Value DoReceive(Task& task, socket::Socket& socket, socket::ReceiveRequest& request) {
  // The error queue and urgent data are never waited for.
  request.nonblocking = (request.flags & (MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB)) || socket.IsNonBlocking();
  const bool wait_for_all =
      (request.flags & MSG_WAITALL) && !(request.flags & MSG_PEEK) && socket.type() == SOCK_STREAM;
  size_t total = 0;
  for (;;) {
    auto n = BlockOnSocket(task, socket, kEventIn | EPOLLRDHUP, request.nonblocking, socket.receive_timeout_ns(),
                           [&](socket::WaitOn*) { return socket.Receive(request); });
    if (!n.ok()) return total ? Value(static_cast<int64_t>(total)) : Value(n.error());
    total += *n;
    if (!wait_for_all || *n == 0 || request.at_boundary || !request.data.remaining())
      return static_cast<int64_t>(total);
  }
}

Value ReceiveMessage(Task& task, socket::Socket& socket, UserAddr address, int flags) {
  msghdr header = TRY(CopyInHeader(task, address));
  mm::UserTarget target(task.mm(), TRY(CopyInIovec(task, AddrOf(header.msg_iov), header.msg_iovlen)));
  socket::ReceiveRequest request(target, flags);
  int64_t n = TRY(DoReceive(task, socket, request));

  ControlWriter control(task, AddrOf(header.msg_control), header.msg_controllen);
  if (request.creds) {
    ucred seen = {socket::GetEnvironment().pid_seen_by_caller(request.creds->pid),
                  task.creds()->ShownUid(request.creds->uid), task.creds()->ShownGid(request.creds->gid)};
    control.Put(SOL_SOCKET, SCM_CREDENTIALS, &seen, sizeof seen);
  }
  for (const socket::ControlMessage& m : request.control) control.Put(m.level, m.type, m.data.data(), m.data.size());
  if (!request.files.empty()) control.PutRights(request.files, flags & MSG_CMSG_CLOEXEC);

  if (header.msg_name) {
    size_t length = std::min<size_t>(request.address.size(), header.msg_namelen);
    if (length) TRY(task.CopyOutBytes(AddrOf(header.msg_name), request.address.data(), length));
    TRY(task.CopyOut(address + offsetof(msghdr, msg_namelen), static_cast<int>(request.address.size())));
  }
  int out = request.message_flags | (flags & MSG_CMSG_CLOEXEC) | (control.truncated() ? MSG_CTRUNC : 0);
  TRY(task.CopyOut(address + offsetof(msghdr, msg_flags), out));
  TRY(task.CopyOut(address + offsetof(msghdr, msg_controllen), control.used()));
  return n;
}

}  // namespace

SYSCALL_HANDLER(SysSendto) {
  TRY(CheckRange(args.Addr(1), std::min(args.Size(2), kMaxRwCount)));
  mm::UserSource source(task.mm(), args.Addr(1), std::min(args.Size(2), kMaxRwCount));
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  socket::SendRequest request(source, args.Int(3));
  if (!args.Addr(4).IsNull()) request.address = TRY(CopyInAddress(task, args.Addr(4), args.Int(5)));
  return DoSend(task, *socket, request);
}

SYSCALL_HANDLER(SysRecvfrom) {
  TRY(CheckRange(args.Addr(1), std::min(args.Size(2), kMaxRwCount)));
  mm::UserTarget target(task.mm(), args.Addr(1), std::min(args.Size(2), kMaxRwCount));
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  socket::ReceiveRequest request(target, args.Int(3));
  int64_t n = TRY(DoReceive(task, *socket, request));
  if (!args.Addr(4).IsNull()) TRY(CopyOutAddress(task, request.address, args.Addr(4), args.Addr(5)));
  return n;
}

SYSCALL_HANDLER(SysSendmsg) {
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  return SendMessage(task, *socket, args.Addr(1), args.Int(2));
}

SYSCALL_HANDLER(SysRecvmsg) {
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  return ReceiveMessage(task, *socket, args.Addr(1), args.Int(2));
}

SYSCALL_HANDLER(SysSendmmsg) {
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  unsigned count = std::min(args.Uint(2), kMaxMessages);
  for (unsigned i = 0; i < count; ++i) {
    UserAddr address = args.Addr(1) + i * sizeof(mmsghdr);
    auto n = SendMessage(task, *socket, address, args.Int(3));
    if (n.ok()) {
      auto told = task.CopyOut(address + offsetof(mmsghdr, msg_len), static_cast<unsigned>(*n));
      if (told.ok()) continue;
      n = told.error();
    }
    return i ? Value(i) : Value(n.error());
  }
  return count;
}

SYSCALL_HANDLER(SysRecvmmsg) {
  int64_t deadline = TRY(CopyInTimeoutDeadline(task, args.Addr(4)));
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  unsigned count = std::min(args.Uint(2), kMaxMessages), done = 0;
  int flags = args.Int(3);
  const bool for_one = flags & MSG_WAITFORONE;
  flags &= ~MSG_WAITFORONE;
  Errno error(0);
  while (done < count) {
    UserAddr address = args.Addr(1) + done * sizeof(mmsghdr);
    auto n = ReceiveMessage(task, *socket, address, flags);
    if (n.ok()) {
      auto told = task.CopyOut(address + offsetof(mmsghdr, msg_len), static_cast<unsigned>(*n));
      if (!told.ok()) n = told.error();
    }
    if (!n.ok()) {
      error = n.error();
      break;
    }
    ++done;
    if (for_one) flags |= MSG_DONTWAIT;
    // The time-out is looked at after each message only (recvmmsg(2), BUGS).
    if (deadline != kNoDeadline && base::MonotonicNs() >= deadline) break;
  }
  if (!args.Addr(4).IsNull() && deadline != kNoDeadline && done) {
    TRY(task.CopyOut(args.Addr(4), base::ToTimespec(std::max<int64_t>(deadline - base::MonotonicNs(), 0))));
  }
  if (done || count == 0) return done;
  return error;
}

}  // namespace sentry::syscalls
