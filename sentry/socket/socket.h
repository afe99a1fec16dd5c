// SPDX-License-Identifier: Apache-2.0
// Socket: a file description with the socket calls, and the registry of address families. Like every file operation
// these never block for a guest event: they answer EAGAIN, and the system call layer waits, with SO_RCVTIMEO and
// SO_SNDTIMEO. Thread-safe.
#ifndef SENTRY_SOCKET_SOCKET_H_
#define SENTRY_SOCKET_SOCKET_H_

#include <linux/filter.h>
#include <sys/socket.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sentry/vfs/file_description.h"

namespace sentry::socket {

// A process as credentials name it; `pid` is of the sandbox's root pid namespace.
struct Identity {
  pid_t pid = 0;
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
  friend bool operator==(const Identity&, const Identity&) = default;
};

// A wait queue that outlives the socket it belongs to.
struct EventSource : public RefCounted<EventSource> {
  WaitQueue queue;
};
using WaitOn = RefPtr<EventSource>;

// A control message that the system call layer doesn't interpret (IP_PKTINFO, SO_TIMESTAMP…).
struct ControlMessage {
  int level = 0, type = 0;
  std::string data;
};

struct SendRequest {
  explicit SendRequest(IoSource& source, int send_flags = 0) : data(source), flags(send_flags) {}
  IoSource& data;
  int flags;                        // MSG_*
  std::string address;              // the guest's sockaddr; empty: none was given
  std::vector<vfs::FileRef> files;  // SCM_RIGHTS; taken when the data is queued
  std::optional<Identity> creds;    // SCM_CREDENTIALS, permission checked
  std::vector<ControlMessage> control;
  // Set with EAGAIN when the wait is for something else than the own wait_queue().
  WaitOn wait_on;
};

struct ReceiveRequest {
  explicit ReceiveRequest(IoTarget& target, int receive_flags = 0) : data(target), flags(receive_flags) {}
  IoTarget& data;
  int flags;                 // MSG_*
  bool nonblocking = false;  // whether EAGAIN goes to the guest
  // Results.
  std::string address;  // of the sender; empty: it has none
  std::vector<vfs::FileRef> files;
  std::optional<Identity> creds;  // SO_PASSCRED is on
  std::vector<ControlMessage> control;
  int message_flags = 0;     // MSG_TRUNC, MSG_CTRUNC, MSG_EOR
  bool at_boundary = false;  // MSG_WAITALL ends here: what follows belongs to another message
};

class Socket : public vfs::FileDescription {
 public:
  int domain() const { return domain_; }
  int type() const { return type_; }
  int protocol() const { return protocol_; }

  // Addresses are the bytes of a sockaddr, at least the family, at most sizeof(sockaddr_storage).
  virtual Result<void> Bind(std::string_view address) { return Errno(EOPNOTSUPP); }
  // EAGAIN: try again after `wait_on` (null: the own queue). A connection that proceeds on its own answers EINPROGRESS
  // if `nonblocking`.
  virtual Result<void> Connect(std::string_view address, bool nonblocking, WaitOn* wait_on) {
    return Errno(EOPNOTSUPP);
  }
  // What connect(2) fails with when SO_SNDTIMEO ends it.
  virtual Errno ConnectTimeoutError() const { return Errno(EAGAIN); }
  virtual Result<void> Listen(int backlog) { return Errno(EOPNOTSUPP); }
  // The new file's flags are `flags` (O_NONBLOCK).
  virtual Result<vfs::FileRef> Accept(int flags) { return Errno(EOPNOTSUPP); }
  virtual Result<void> Shutdown(int how) { return Errno(EOPNOTSUPP); }
  virtual Result<std::string> GetName() = 0;
  virtual Result<std::string> GetPeer() = 0;
  // The count queued (a stream may take less: the caller goes on). EPIPE raises SIGPIPE in the caller if
  // RaisesSigpipe().
  virtual Result<size_t> Send(SendRequest& request) = 0;
  // The count received, or the whole length of the message with MSG_TRUNC; 0 at the end.
  virtual Result<size_t> Receive(ReceiveRequest& request) = 0;
  // Whether the caller has a capability over the network namespace that the socket is of.
  bool HasNetCapability(int capability) const;
  virtual bool RaisesSigpipe() const { return type_ == SOCK_STREAM; }

  // setsockopt(2), getsockopt(2): SOL_SOCKET here, the rest in the families. The caller of GetOption clips to the
  // guest's length.
  virtual Result<void> SetOption(int level, int name, std::string_view value);
  virtual Result<std::string> GetOption(int level, int name);
  // The few options whose answer depends on what the guest's buffer holds (`input`, as much of it as was to be read).
  virtual Result<std::string> QueryOption(int level, int name, std::string_view input) {
    return GetOption(level, name);
  }

  // A fresh place for a socket's file, owned by the caller.
  static vfs::Path NewPath();
  Socket* AsSocket() final { return this; }
  Result<size_t> Read(IoTarget& target) override;
  Result<size_t> Write(IoSource& source) override;
  bool ContinuesPartialWrites() const override { return type_ == SOCK_STREAM; }
  Result<int64_t> Seek(int64_t, int) override { return Errno(ESPIPE); }
  Result<void> Sync(bool) override { return Errno(EINVAL); }
  std::string LinkName() const override;
  int64_t IoDeadline(bool is_write) override;
  // Relative; kNoDeadline: none.
  int64_t receive_timeout_ns() const { return options_.receive_timeout_ns.load(std::memory_order_relaxed); }
  int64_t send_timeout_ns() const { return options_.send_timeout_ns.load(std::memory_order_relaxed); }

 protected:
  // `flags`: O_NONBLOCK.
  Socket(vfs::Path path, int flags, int domain, int type, int protocol);
  // Read-back values of options whose effect, if any, is the family's.
  struct Options {
    std::atomic<int> send_buffer{212992}, receive_buffer{212992};  // net.core.[rw]mem_default
    std::atomic<int> reuse_address{0}, reuse_port{0}, keep_alive{0}, broadcast{0}, oob_inline{0}, dont_route{0},
        debug{0};
    std::atomic<int> timestamp{0}, timestamp_ns{0}, no_check{0}, priority{0}, mark{0}, receive_low_water{1},
        pass_creds{0}, pass_security{0};
    std::atomic<int> receive_queue_overflow{0}, busy_poll{0}, peek_offset{-1}, wifi_status{0}, zero_copy{0},
        incoming_cpu{-1}, lock_filter{0};
    std::atomic<int> linger_on{0}, linger_seconds{0};
    std::atomic<int64_t> receive_timeout_ns{kNoDeadline}, send_timeout_ns{kNoDeadline};
  };
  Options& options() { return options_; }
  // After an option that this class keeps was set.
  virtual void OnOptionSet(int name) {}
  // SO_ATTACH_FILTER, a program of any content: EINVAL, EOPNOTSUPP. SO_DETACH_FILTER: ENOENT.
  virtual Result<void> AttachFilter(std::vector<sock_filter> program) { return Errno(EOPNOTSUPP); }
  virtual Result<void> DetachFilter() { return Errno(ENOENT); }
  // Before anybody else has this socket: it is of the namespace of `listener`, which accepted it.
  void JoinNamespaceOf(const Socket& listener) { net_owner_ = listener.net_owner_; }
  // SO_ERROR: the pending error, cleared.
  virtual int TakeError() { return 0; }
  virtual bool IsListening() { return false; }

 private:
  struct IntOption;
  static const IntOption kIntOptions[];
  static const IntOption* FindIntOption(int name);

  Result<void> SetFilter(std::string_view value);

  const int domain_, type_, protocol_;
  RefPtr<UserNamespace> net_owner_;  // null: the root one
  Options options_;
};

// An address family. `create` and `create_pair` get the type without flags; `flags` is O_NONBLOCK or 0. They answer
// EPROTONOSUPPORT, ESOCKTNOSUPPORT, EPERM.
struct Domain {
  Result<vfs::FileRef> (*create)(int type, int protocol, int flags) = nullptr;
  Result<std::pair<vfs::FileRef, vfs::FileRef>> (*create_pair)(int type, int protocol,
                                                               int flags) = nullptr;  // null: EOPNOTSUPP
};
// At start.
void RegisterDomain(int family, const Domain& domain);
// Null: EAFNOSUPPORT.
const Domain* FindDomain(int family);

// netdevice(7) ioctls, which any socket answers about its namespace's interfaces; ENOTTY: none of them. The family that
// knows them sets the handler at start.
using DeviceIoctl = Result<int64_t> (*)(unsigned request, uint64_t argument);
void SetDeviceIoctl(DeviceIoctl handler);
Result<int64_t> CallDeviceIoctl(unsigned request, uint64_t argument);

// An int option's value; EINVAL when it is too short.
Result<int> OptionInt(std::string_view value);
std::string OptionBytes(const void* data, size_t length);
inline std::string OptionBytes(int value) { return OptionBytes(&value, sizeof value); }

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_SOCKET_H_
