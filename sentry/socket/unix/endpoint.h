// SPDX-License-Identifier: Apache-2.0
// UnixEndpoint: an AF_UNIX socket without its file (Linux's struct unix_sock): name, peer, queue. It outlives the file
// while messages that it sent, or a peer, still know it; Release is the end of its file. A connection in a backlog has
// no file yet.
//
// Locks: mu_ (kSocket), two by LockPair; under it the names' and InFlight's leaf locks. Messages are destroyed, and
// waiters of other endpoints notified, without it. Thread-safe.
#ifndef SENTRY_SOCKET_UNIX_ENDPOINT_H_
#define SENTRY_SOCKET_UNIX_ENDPOINT_H_

#include <deque>

#include "sentry/socket/unix/message.h"

namespace sentry::socket {

class UnixSocket;

// Who was at the other end when a connection was made: SO_PEERCRED, SO_PEERGROUPS.
struct PeerCredentials {
  bool known = false;
  Identity id;
  std::vector<gid_t> groups;
  static PeerCredentials OfCaller();
};

// What sock_diag(7) tells of a socket.
struct UnixDiagnosis {
  int type = 0;
  uint8_t state = 0, shutdown = 0;  // TCP's states; SHUT_* + 1
  uint64_t inode = 0, peer_inode = 0;
  std::string name;                          // sun_path as bound
  size_t receive_queue = 0, send_queue = 0;  // bytes; of a listener: connections, and its backlog
  std::vector<uint64_t> pending;             // inodes of those who wait for an accept(2)
};

class UnixEndpoint final : public Message::Payer {
 public:
  static constexpr size_t kMaxDatagrams = 10;  // net.unix.max_dgram_qlen
  static constexpr int kMaxBacklog = 4096;     // net.core.somaxconn

  // `type`: SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
  explicit UnixEndpoint(int type, uint64_t net_namespace);
  // What accept(2) gives for a connection from `peer`; the caller holds both their locks.
  UnixEndpoint(const UnixEndpoint& listener, UnixEndpoint& peer, PeerCredentials credentials);
  ~UnixEndpoint() override;
  // socketpair(2).
  static void Pair(UnixEndpoint& a, UnixEndpoint& b);

  int type() const { return type_; }
  bool IsConnectionBased() const { return type_ != SOCK_DGRAM; }
  WaitQueue& queue() { return queue_; }

  // As in Socket.
  Result<void> Bind(std::string_view address);
  Result<void> Connect(std::string_view address, WaitOn* wait_on);
  Result<void> Listen(int backlog);
  // The connection, which gets a file now.
  Result<RefPtr<UnixEndpoint>> Accept();
  Result<void> Shutdown(int how);
  std::string Name() const;
  Result<std::string> PeerName() const;
  Result<size_t> Send(SendRequest& request);
  Result<size_t> Receive(ReceiveRequest& request);
  EventMask Poll();
  // The file is gone.
  void Release();

  int TakeError();
  bool IsListening() const;
  PeerCredentials peer_credentials() const;
  // SIOCINQ: EINVAL when listening. SIOCOUTQ.
  Result<int> QueuedBytes() const;
  size_t SentBytes() const { return charged_.load(std::memory_order_relaxed); }
  void set_send_buffer(size_t bytes);
  void set_pass_creds(bool on) { pass_creds_.store(on, std::memory_order_relaxed); }
  void set_peek_offset(int offset) { peek_offset_.store(offset, std::memory_order_relaxed); }
  int peek_offset() const { return peek_offset_.load(std::memory_order_relaxed); }
  void set_async(bool on) { async_.store(on, std::memory_order_relaxed); }
  void set_file(UnixSocket* file) { file_.store(file, std::memory_order_release); }

  // A line of /proc/net/unix.
  std::string ProcLine() const;
  UnixDiagnosis Diagnose() const;
  uint64_t net_namespace() const { return net_namespace_; }

  // For InFlight. The count of references to the file, which must exist.
  size_t FileReferences() const;
  // Takes the messages that carry files out of the queue.
  void TakeFiles(std::vector<vfs::FileRef>* files);

  void Refund(size_t charge) override;

 private:
  friend class UnixNames;
  enum class State : uint8_t { kUnconnected, kListening, kConnected };
  static constexpr int kReceive = 1, kSend = 2, kBoth = 3;  // of shutdown_

  // Passes "there is room at the peer" on to the own waiters (connected datagram sockets).
  class Relay final : public WaitEntry {
   public:
    explicit Relay(UnixEndpoint& endpoint) : endpoint_(endpoint) {}
    ~Relay() override {
      if (queue()) queue()->Remove(*this);
    }
    void OnEvent(EventMask) override { endpoint_.queue_.Notify(kEventOut); }

   private:
    UnixEndpoint& endpoint_;
  };

  void Notify(EventMask events);
  Result<void> Autobind();
  Result<void> BindAbstract(std::string bytes);
  Result<void> BindPath(const std::string& path);
  Result<void> ConnectDatagram(std::string_view address);
  Result<void> ConnectStream(std::string_view address, WaitOn* wait_on);
  void SetDatagramPeer(RefPtr<UnixEndpoint> peer);
  // The connection's peer ended. Queued data the other end never read, or a connection never accepted, is an error.
  void OnPeerReleased(bool reset);
  bool IsFullLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool IsWritable() const {
    return charged_.load(std::memory_order_relaxed) * 4 <= send_buffer_.load(std::memory_order_relaxed);
  }
  bool HasSendRoom() const {
    return charged_.load(std::memory_order_relaxed) < send_buffer_.load(std::memory_order_relaxed);
  }
  uint64_t InodeLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);  // 0: no file yet, or no more
  int TakeErrorLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return std::exchange(error_, 0); }

  // endpoint_io.cc
  Result<size_t> SendStream(SendRequest& request);
  Result<size_t> SendMessage(SendRequest& request);
  Result<size_t> ReceiveStream(ReceiveRequest& request);
  Result<size_t> ReceiveMessage(ReceiveRequest& request);
  Identity CredsFor(const UnixEndpoint& receiver, const SendRequest& request) const;
  void Charge(Message& message);
  void TakePassengers(Message& message, bool peek, ReceiveRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const int type_;
  const uint64_t net_namespace_;
  WaitQueue queue_;
  // Room in the queue or backlog: senders that aren't connected, and connect(2), wait here.
  const RefPtr<EventSource> room_ = MakeRef<EventSource>();
  std::atomic<size_t> charged_{0}, send_buffer_{212992};
  std::atomic<bool> pass_creds_{false}, async_{false};
  std::atomic<int> peek_offset_{-1};
  std::atomic<UnixSocket*> file_{nullptr};  // borrowed

  mutable Mutex mu_{LockRank::kSocket};
  State state_ ABSL_GUARDED_BY(mu_) = State::kUnconnected;
  int shutdown_ ABSL_GUARDED_BY(mu_) = 0;
  int error_ ABSL_GUARDED_BY(mu_) = 0;
  bool dead_ ABSL_GUARDED_BY(mu_) = false;
  bool binding_ ABSL_GUARDED_BY(mu_) = false;
  size_t backlog_ ABSL_GUARDED_BY(mu_) = kMaxDatagrams;
  RefPtr<UnixEndpoint> peer_ ABSL_GUARDED_BY(mu_);
  RefPtr<const UnixAddress> address_ ABSL_GUARDED_BY(mu_);
  vfs::Path path_ ABSL_GUARDED_BY(mu_);  // keeps the inode of the name
  PeerCredentials peer_credentials_ ABSL_GUARDED_BY(mu_);
  MessageList messages_ ABSL_GUARDED_BY(mu_);
  std::deque<RefPtr<UnixEndpoint>> connections_ ABSL_GUARDED_BY(mu_);  // backlog of a listener
  RefPtr<EventSource> relay_source_ ABSL_GUARDED_BY(mu_);  // keeps the queue that relay_ is in; declared before it
  Relay relay_ ABSL_GUARDED_BY(mu_){*this};
};

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_UNIX_ENDPOINT_H_
