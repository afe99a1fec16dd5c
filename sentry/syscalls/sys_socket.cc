// SPDX-License-Identifier: Apache-2.0
// Sockets: creation, names, connections and options. Data is in sys_socket_message.cc.
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>

#include "sentry/fs/proc/ns_file.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task_set.h"
#include "sentry/socket/environment.h"
#include "sentry/socket/inet/inet_socket.h"
#include "sentry/socket/inet/stacks.h"
#include "sentry/socket/netlink/netlink_socket.h"
#include "sentry/socket/unix/unix_socket.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/ring_memory.h"
#include "sentry/syscalls/socket_util.h"

namespace sentry::syscalls {
namespace {

constexpr int kTypeMask = 0xf;  // SOCK_TYPE_MASK
constexpr int kTypes = 11;      // SOCK_MAX
constexpr int kMaxOption = 65536;

static_assert(SOCK_NONBLOCK == O_NONBLOCK && SOCK_CLOEXEC == O_CLOEXEC);

pid_t PidSeenByCaller(pid_t root_pid) {
  Task& task = Task::Current();
  const auto& root = task.kernel().root_pid_ns();
  if (&task.pid_ns() == root.get()) return root_pid;
  RefPtr<kernel::ThreadGroup> group = task.kernel().tasks().FindThreadGroup(*root, root_pid);
  return group ? group->TgidIn(task.pid_ns()) : 0;
}

vfs::WalkContext Walk() {
  Task& task = Task::Current();
  return {.root = task.fs().root(),
          .start = task.fs().cwd(),
          .creds = *task.creds(),
          .mounts = task.namespaces().mounts,
          .umask = task.fs().umask()};
}

Result<socket::NetNamespaceHandle> Hold(const RefPtr<kernel::NetNamespace>& net) {
  if (!net) return Errno(EINVAL);
  return socket::NetNamespaceHandle{
      .id = net->inode_number(),
      .is_first = net->is_first(),
      .owner = net->owner(),
      .hold = std::make_shared<const RefPtr<kernel::NetNamespace>>(net),
  };
}

Result<socket::NetNamespaceHandle> NetNamespaceOfPid(pid_t pid) {
  Task& task = Task::Current();
  RefPtr<Task> found = task.kernel().tasks().FindTask(task.pid_ns(), pid);
  RefPtr<kernel::Namespaces> namespaces = found ? found->namespaces_ref() : nullptr;
  if (!namespaces) return Errno(ESRCH);
  return Hold(namespaces->net);
}

Result<socket::NetNamespaceHandle> NetNamespaceOfFd(int fd) {
  return Hold(TRY(fs::NamespaceOf(*TRY(GetFile(Task::Current(), fd)))).net);
}

class Pages final : public socket::SharedPages {
 public:
  explicit Pages(RefPtr<RingMemory> memory) : memory_(std::move(memory)) {}
  uint64_t length() const override { return memory_->length(); }
  uint32_t Load(uint64_t offset) const override { return memory_->Load(offset); }
  void Store(uint64_t offset, uint32_t value) override { memory_->Store(offset, value); }
  void Read(uint64_t offset, void* to, size_t length) const override { memory_->Read(offset, to, length); }
  void Write(uint64_t offset, const void* from, size_t length) override { memory_->Write(offset, from, length); }
  RefPtr<mm::MappedObject> object() const override { return memory_; }

 private:
  const RefPtr<RingMemory> memory_;
};

Result<RefPtr<socket::SharedPages>> NewSharedPages(uint64_t length) {
  RefPtr<socket::SharedPages> pages = MakeRef<Pages>(TRY(RingMemory::Create(length, "socket:[packet]")));
  return pages;
}

// At start, before any guest runs.
[[maybe_unused]] const bool kRegistered = [] {
  socket::SetEnvironment({.caller_pid = [] { return Task::Current().group().tgid(); },
                          .pid_seen_by_caller = &PidSeenByCaller,
                          .net_namespace = [] { return Task::Current().namespaces().net->inode_number(); },
                          .in_first_net_namespace = [] { return Task::Current().namespaces().net->is_first(); },
                          .net_owner = [] { return Task::Current().namespaces().net->owner(); },
                          .net_namespace_of_pid = &NetNamespaceOfPid,
                          .net_namespace_of_fd = &NetNamespaceOfFd,
                          .new_shared_pages = &NewSharedPages,
                          .walk = &Walk});
  kernel::NetNamespace::SetEndHook(&socket::ForgetStack);
  socket::RegisterUnixSockets();
  socket::RegisterInetSockets();
  socket::RegisterNetlinkSockets();
  return true;
}();

struct Wanted {
  const socket::Domain* domain;
  int type, flags;
};

Result<Wanted> CheckKind(int family, int type) {
  int flags = type & ~kTypeMask;
  if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) return Errno(EINVAL);
  type &= kTypeMask;
  if (family < 0 || family >= AF_MAX) return Errno(EAFNOSUPPORT);
  if (type >= kTypes) return Errno(EINVAL);
  const socket::Domain* domain = socket::FindDomain(family);
  if (!domain) return Errno(EAFNOSUPPORT);
  return Wanted{domain, type, flags};
}

Value DoAccept(Task& task, const Arguments& args, int flags) {
  if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) return Errno(EINVAL);
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  vfs::FileRef accepted =
      TRY(BlockOnSocket(task, *socket, kEventIn, socket->IsNonBlocking(), socket->receive_timeout_ns(),
                        [&](socket::WaitOn*) { return socket->Accept(flags & SOCK_NONBLOCK); }));
  if (!args.Addr(1).IsNull()) {
    auto peer = accepted->AsSocket()->GetPeer();
    if (!peer.ok()) return Errno(ECONNABORTED);
    TRY(CopyOutAddress(task, *peer, args.Addr(1), args.Addr(2)));
  }
  return InstallFile(task, std::move(accepted), flags & SOCK_CLOEXEC);
}

// How many bytes of a SOL_SOCKET option Linux reads.
size_t OptionSize(int name) {
  switch (name) {
    case SO_LINGER:
      return sizeof(linger);
    case SO_RCVTIMEO:
    case SO_SNDTIMEO:
    case SO_BINDTODEVICE:
    case SO_ATTACH_FILTER:
      return 16;
    default:
      return sizeof(int);
  }
}

}  // namespace

Result<SocketRef> GetSocket(Task& task, int fd) {
  SocketRef socket{TRY(GetFile(task, fd))};
  if (!socket.file->AsSocket()) return Errno(ENOTSOCK);
  return socket;
}

Result<std::string> CopyInAddress(Task& task, UserAddr address, int length) {
  if (length < 0 || length > static_cast<int>(sizeof(sockaddr_storage))) return Errno(EINVAL);
  std::string bytes(length, '\0');
  if (length) TRY(task.CopyInBytes(address, bytes.data(), bytes.size()));
  return bytes;
}

Result<void> CopyOutAddress(Task& task, const std::string& bytes, UserAddr address, UserAddr length) {
  int room = TRY(task.CopyIn<int>(length));
  if (room < 0) return Errno(EINVAL);
  size_t n = std::min(bytes.size(), static_cast<size_t>(room));
  if (n) TRY(task.CopyOutBytes(address, bytes.data(), n));
  return task.CopyOut(length, static_cast<int>(bytes.size()));
}

SYSCALL_HANDLER(SysSocket) {
  Wanted wanted = TRY(CheckKind(args.Int(0), args.Int(1)));
  vfs::FileRef file = TRY(wanted.domain->create(wanted.type, args.Int(2), wanted.flags & SOCK_NONBLOCK));
  return InstallFile(task, std::move(file), wanted.flags & SOCK_CLOEXEC);
}

SYSCALL_HANDLER(SysSocketpair) {
  Wanted wanted = TRY(CheckKind(args.Int(0), args.Int(1)));
  if (!wanted.domain->create_pair) return Errno(EOPNOTSUPP);
  auto [a, b] = TRY(wanted.domain->create_pair(wanted.type, args.Int(2), wanted.flags & SOCK_NONBLOCK));
  const bool cloexec = wanted.flags & SOCK_CLOEXEC;
  int fds[2];
  fds[0] = static_cast<int>(TRY(InstallFile(task, std::move(a), cloexec)));
  auto second = InstallFile(task, std::move(b), cloexec);
  if (!second.ok()) {
    (void)task.fds().Close(fds[0]).ok();
    return second.error();
  }
  fds[1] = static_cast<int>(*second);
  auto copied = task.CopyOutBytes(args.Addr(3), fds, sizeof fds);
  if (!copied.ok()) {
    for (int fd : fds) (void)task.fds().Close(fd).ok();
    return copied.error();
  }
  return 0;
}

SYSCALL_HANDLER(SysBind) {
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  TRY(socket->Bind(TRY(CopyInAddress(task, args.Addr(1), args.Int(2)))));
  return 0;
}

SYSCALL_HANDLER(SysListen) {
  TRY(TRY(GetSocket(task, args.Int(0)))->Listen(args.Int(1)));
  return 0;
}

SYSCALL_HANDLER(SysAccept) { return DoAccept(task, args, 0); }
SYSCALL_HANDLER(SysAccept4) { return DoAccept(task, args, args.Int(3)); }

SYSCALL_HANDLER(SysConnect) {
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  const std::string address = TRY(CopyInAddress(task, args.Addr(1), args.Int(2)));
  const bool nonblocking = socket->IsNonBlocking();
  bool timed = socket->send_timeout_ns() != kNoDeadline;
  auto result = BlockOnSocket(task, *socket, kEventOut, nonblocking, socket->send_timeout_ns(),
                              [&](socket::WaitOn* wait_on) { return socket->Connect(address, nonblocking, wait_on); });
  if (!result.ok())
    return result.error() == Errno(EAGAIN) && timed && !nonblocking ? socket->ConnectTimeoutError() : result.error();
  return 0;
}

SYSCALL_HANDLER(SysShutdown) {
  TRY(TRY(GetSocket(task, args.Int(0)))->Shutdown(args.Int(1)));
  return 0;
}

SYSCALL_HANDLER(SysGetsockname) {
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  TRY(CopyOutAddress(task, TRY(socket->GetName()), args.Addr(1), args.Addr(2)));
  return 0;
}

SYSCALL_HANDLER(SysGetpeername) {
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  TRY(CopyOutAddress(task, TRY(socket->GetPeer()), args.Addr(1), args.Addr(2)));
  return 0;
}

SYSCALL_HANDLER(SysSetsockopt) {
  int level = args.Int(1), name = args.Int(2), length = args.Int(4);
  if (length < 0) return Errno(EINVAL);
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  size_t size = static_cast<size_t>(length);
  if (level == SOL_SOCKET) size = std::min(size, OptionSize(name));
  if (size > kMaxOption) return Errno(EINVAL);
  std::string value(size, '\0');
  if (size) TRY(task.CopyInBytes(args.Addr(3), value.data(), size));
  TRY(socket->SetOption(level, name, value));
  return 0;
}

SYSCALL_HANDLER(SysGetsockopt) {
  int level = args.Int(1), name = args.Int(2);
  SocketRef socket = TRY(GetSocket(task, args.Int(0)));
  int room = TRY(task.CopyIn<int>(args.Addr(4)));
  if (room < 0) return Errno(EINVAL);
  std::string input(socket->domain() == AF_PACKET && level == SOL_PACKET
                        ? std::min<size_t>(static_cast<size_t>(room), sizeof(int))
                        : 0,
                    '\0');
  if (!input.empty()) TRY(task.CopyInBytes(args.Addr(3), input.data(), input.size()));
  std::string value = TRY(socket->QueryOption(level, name, input));
  if (level == SOL_SOCKET && static_cast<size_t>(room) < value.size()) {
    if (name == SO_COOKIE || name == SO_PEERNAME) return Errno(EINVAL);
    if (name == SO_PEERGROUPS) {
      TRY(task.CopyOut(args.Addr(4), static_cast<int>(value.size())));
      return Errno(ERANGE);
    }
  }
  size_t n = std::min(value.size(), static_cast<size_t>(room));
  if (n) TRY(task.CopyOutBytes(args.Addr(3), value.data(), n));
  TRY(task.CopyOut(args.Addr(4), static_cast<int>(n)));
  return 0;
}

}  // namespace sentry::syscalls
