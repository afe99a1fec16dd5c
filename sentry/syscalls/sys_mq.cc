// SPDX-License-Identifier: Apache-2.0
// POSIX message queues: mq_open(2), mq_unlink(2), mq_timedsend(2), mq_timedreceive(2), mq_notify(2), mq_getsetattr(2).
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include <functional>
#include <string>

#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/socket/netlink/netlink_socket.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

// struct mq_attr of the kernel.
struct MqAttr {
  int64_t flags, maxmsg, msgsize, curmsgs, reserved[4];
};

// An absolute CLOCK_REALTIME time; NULL: never.
Result<int64_t> Deadline(Task& task, UserAddr address) {
  if (address.IsNull()) return kNoDeadline;
  const int64_t at = TRY(CopyInTimespecNs(task, address));
  return DeadlineAfter(at - base::RealtimeNs());
}

// The queue of a descriptor open for `write` or reading.
Result<vfs::FileRef> QueueFile(Task& task, int fd, bool write) {
  vfs::FileRef file = TRY(GetFile(task, fd));
  TRY(fs::QueueOf(*file));
  if (!(write ? file->IsWritable() : file->IsReadable())) return Errno(EBADF);
  return file;
}

}  // namespace

SYSCALL_HANDLER(SysMqOpen) {
  std::optional<fs::MqAttributes> attributes;
  if (!args.Addr(3).IsNull()) {
    const MqAttr attr = TRY(task.CopyIn<MqAttr>(args.Addr(3)));
    attributes = fs::MqAttributes{attr.maxmsg, attr.msgsize};
  }
  const std::string name = TRY(CopyInPath(task, args.Addr(0)));
  vfs::FileRef file = TRY(fs::MqOpen(task, name, args.Int(1), args.Mode(2), attributes));
  return InstallFile(task, std::move(file), /*close_on_exec=*/true);
}

SYSCALL_HANDLER(SysMqUnlink) {
  TRY(fs::MqUnlink(task, TRY(CopyInPath(task, args.Addr(0)))));
  return 0;
}

SYSCALL_HANDLER(SysMqTimedsend) {
  const int64_t deadline = TRY(Deadline(task, args.Addr(4)));
  const size_t length = args.Size(2);
  if (args.Uint(3) >= fs::kMqPriorities) return Errno(EINVAL);
  vfs::FileRef file = TRY(QueueFile(task, args.Int(0), true));
  fs::Queue* queue = TRY(fs::QueueOf(*file));
  if (length > static_cast<size_t>(fs::AttributesOf(*queue).message_size)) return Errno(EMSGSIZE);
  std::string text(length, '\0');
  if (length) TRY(task.CopyInBytes(args.Addr(1), text.data(), length));
  TRY(fs::MqSend(task, *queue, std::move(text), args.Uint(3), file->IsNonBlocking(), deadline));
  return 0;
}

SYSCALL_HANDLER(SysMqTimedreceive) {
  const int64_t deadline = TRY(Deadline(task, args.Addr(4)));
  vfs::FileRef file = TRY(QueueFile(task, args.Int(0), false));
  fs::Queue* queue = TRY(fs::QueueOf(*file));
  fs::MqMessage message = TRY(fs::MqReceive(task, *queue, args.Size(2), file->IsNonBlocking(), deadline));
  if (!args.Addr(3).IsNull()) TRY(task.CopyOut(args.Addr(3), message.priority));
  if (!message.text.empty()) TRY(task.CopyOutBytes(args.Addr(1), message.text.data(), message.text.size()));
  return static_cast<int64_t>(message.text.size());
}

namespace {

// SIGEV_THREAD: the signal number is a netlink socket, to which a cookie is sent; its last byte says why.
Result<std::function<void(fs::MqEnd)>> CookieTo(Task& task, const sigevent& event) {
  constexpr size_t kLength = 32;
  std::string cookie(kLength, '\0');
  TRY(task.CopyInBytes(UserAddr(reinterpret_cast<uint64_t>(event.sigev_value.sival_ptr)), cookie.data(), kLength));
  vfs::FileRef file = TRY(GetFile(task, event.sigev_signo));
  socket::Socket* socket = file->AsSocket();
  if (!socket) return Errno(ENOTSOCK);
  if (socket->domain() != AF_NETLINK) return Errno(EINVAL);
  return std::function<void(fs::MqEnd)>([file = std::move(file), cookie](fs::MqEnd why) {
    std::string datagram = cookie;
    datagram.back() = static_cast<char>(why);
    static_cast<socket::NetlinkSocket&>(*file->AsSocket()).Queue(std::move(datagram));
  });
}

}  // namespace

SYSCALL_HANDLER(SysMqNotify) {
  sigevent event = {};
  std::function<void(fs::MqEnd)> tell;
  const bool registers = !args.Addr(1).IsNull();
  if (registers) {
    TRY(task.CopyInBytes(args.Addr(1), &event, sizeof event));
    const int kind = event.sigev_notify;
    if (kind != SIGEV_NONE && kind != SIGEV_SIGNAL && kind != SIGEV_THREAD) return Errno(EINVAL);
    if (kind == SIGEV_SIGNAL && static_cast<unsigned>(event.sigev_signo) > kernel::kSignalMax) return Errno(EINVAL);
    if (kind == SIGEV_THREAD) tell = TRY(CookieTo(task, event));
  }
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  fs::Queue* queue = TRY(fs::QueueOf(*file));
  TRY(fs::MqNotify(task, *queue, registers ? &event : nullptr, std::move(tell)));
  return 0;
}

SYSCALL_HANDLER(SysMqGetsetattr) {
  std::optional<int> flags;
  if (!args.Addr(1).IsNull()) {
    const MqAttr attr = TRY(task.CopyIn<MqAttr>(args.Addr(1)));
    if (attr.flags & ~int64_t{O_NONBLOCK}) return Errno(EINVAL);
    flags = static_cast<int>(attr.flags);
  }
  vfs::FileRef file = TRY(GetFile(task, args.Int(0)));
  fs::Queue* queue = TRY(fs::QueueOf(*file));
  const fs::MqAttributes now = fs::AttributesOf(*queue);
  const MqAttr old = {.flags = file->flags() & O_NONBLOCK,
                      .maxmsg = now.max_messages,
                      .msgsize = now.message_size,
                      .curmsgs = now.messages};
  if (flags) TRY(file->SetStatusFlags((file->flags() & ~O_NONBLOCK) | *flags));
  if (!args.Addr(2).IsNull()) TRY(task.CopyOut(args.Addr(2), old));
  return 0;
}

}  // namespace sentry::syscalls
