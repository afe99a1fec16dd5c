// SPDX-License-Identifier: Apache-2.0
// A TCP socket: RFC 9293 with window scaling and timestamps (RFC 7323), SACK (RFC 2018, RFC 6675), RACK-TLP (RFC 8985),
// PRR (RFC 6937), NewReno and CUBIC, delayed ACKs, Nagle, keep-alive (RFC 1122). Thread-safe: mu_ guards all of it.
//
// By file: tcp_state.cc (what the socket calls ask), tcp_options.cc, tcp_listen.cc, tcp_input.cc, tcp_receive.cc (data
// in), tcp_ack.cc (acknowledgements, losses), tcp_output.cc, tcp_timers.cc.
#ifndef SENTRY_NET_TCP_TCP_ENDPOINT_H_
#define SENTRY_NET_TCP_TCP_ENDPOINT_H_

#include <linux/tcp.h>

#include <optional>
#include <vector>

#include "sentry/net/config.h"
#include "sentry/net/ring.h"
#include "sentry/net/stack.h"
#include "sentry/net/tcp/congestion.h"
#include "sentry/net/tcp/listen_queue.h"
#include "sentry/net/tcp/tcp_table.h"

namespace sentry::net {

// The numbers of tcp_info and /proc/net/tcp.
enum class TcpState : uint8_t {
  kEstablished = 1,
  kSynSent,
  kSynReceived,
  kFinWait1,
  kFinWait2,
  kTimeWait,
  kClosed,
  kCloseWait,
  kLastAck,
  kListen,
  kClosing,
};

// tcp(7) and socket(7) options, in their own units; copied to accepted connections.
struct TcpOptions {
  bool no_delay = false, cork = false, keep_alive = false, quick_ack = true, oob_inline = false;
  int keep_idle = 0, keep_interval = 0, keep_count = 0;  // 0: the stack's
  int user_timeout_ms = 0, syn_count = 0, linger2 = 0, defer_accept = 0, max_segment = 0, window_clamp = 0;
  int send_buffer = 0, receive_buffer = 0;  // 0: auto-tuned
  uint32_t not_sent_low_water = 0;          // 0: off
  int receive_low_water = 1;
  bool reno = false;
  bool reuse_address = false, reuse_port = false;
  uid_t uid = 0;
};

class TcpEndpoint final : public TcpHandler {
 public:
  TcpEndpoint(Stack& stack, bool v6);
  ~TcpEndpoint() override;
  TcpEndpoint* AsConnection() override { return this; }

  // --- What socket calls ask; errors as tcp(7) and the calls' pages have them.
  Result<void> Bind(const SocketAddress& address);
  // Starts a connection, or looks what became of it. EINPROGRESS: just started; EALREADY: not done yet.
  Result<void> Connect(const SocketAddress& remote);
  // connect(2) with AF_UNSPEC: the socket is as new.
  Result<void> Disconnect();
  Result<void> Listen(int backlog);
  // EAGAIN, EINVAL (not listening).
  Result<RefPtr<TcpEndpoint>> Accept();
  Result<void> Shutdown(int how);
  // The file is gone: FIN, or RST (`abort`, or data unread). The endpoint lives on in the stack until it is done.
  void Close(bool abort);
  SocketAddress local() const;
  std::optional<SocketAddress> remote() const;
  TcpState state() const;
  uint32_t Poll() const;
  int TakeError();
  void set_observer(RefPtr<Observer> observer) override;

  // --- Data. One writer and one reader at a time: the caller serialises them.
  // How much may be appended now. EAGAIN (then OUT is told), EPIPE, a pending error.
  Result<size_t> ReserveSend(size_t wanted, bool* at_end);
  // Queues data within what was reserved, and sends what may be sent. `more`: MSG_MORE. `urgent`: MSG_OOB.
  Result<void> Append(Buffer data, bool more, bool urgent);
  // Shares up to `max` bytes from `offset` on. Empty at the end of the stream; EAGAIN, ENOTCONN, a pending error.
  Result<Buffer> Peek(size_t offset, size_t max, bool* at_mark);
  // The application took `n` bytes.
  void Consume(size_t n);
  // MSG_OOB: EINVAL, EAGAIN.
  Result<uint8_t> TakeUrgent(bool peek);
  bool AtMark() const;
  size_t ReceiveQueued() const;  // FIONREAD
  size_t SendQueued() const;     // SIOCOUTQ
  size_t NotSent() const;        // SIOCOUTQNSD
  size_t ReadyConnections() const;

  // --- Options
  TcpOptions options() const;
  // `change` runs under the lock; then what it allows is sent.
  void ChangeOptions(const std::function<void(TcpOptions&)>& change);
  int SendBuffer() const;
  int ReceiveBuffer() const;
  int Mss() const;
  bool quick_ack() const;
  void set_quick_ack(bool on);
  tcp_info Info() const;
  void UpdatePort();

  // --- From the stack
  void OnSegment(PacketPtr packet, const TcpHeader& header) override;
  void OnTimer(int64_t now_ns) override;
  void OnIcmpError(const IcmpError& error, const SocketAddress& local, const SocketAddress& remote) override;
  // The listener is gone.
  void AbortChild();

  // For /proc/net/tcp and sock_diag.
  struct Snapshot {
    TcpState state;
    SocketAddress local, remote;
    size_t send_queue, receive_queue;
    int timer;         // 0 none, 1 retransmit, 2 keep-alive, 4 probe
    int64_t timer_ns;  // until it fires
    uint32_t retransmits;
    uid_t uid;
    uint32_t rto_ms, ato_ms, cwnd;
    int ssthresh;
    bool orphan;
  };
  Snapshot TakeSnapshot() const;

 private:
  friend class ListenQueue;
  struct Sent {                    // a segment that was sent at least once and isn't acknowledged
    uint32_t seq = 0, length = 0;  // with SYN and FIN
    Buffer data;
    uint8_t flags = 0;  // SYN, FIN, PSH
    bool sacked = false, lost = false, resent = false, ever_resent = false;
    int64_t sent_ns = 0;
    uint32_t end() const { return seq + length; }
  };
  struct AckResult {
    uint32_t acked = 0, delivered = 0;  // segments
    bool advanced = false;
    int64_t rtt_ns = -1;
  };
  struct OutOfOrder {
    uint32_t seq = 0, end = 0;
    Buffer data;
    bool fin = false;
  };
  enum class Recovery : uint8_t { kOpen, kDisorder, kRecovery, kLoss };

  // Everything below is guarded by mu_.
  // tcp_state.cc
  void SetState(TcpState state);
  void Fail(int error);  // aborts with a pending error, without a segment
  void EnterClosed();
  void EnterTimeWait();
  void Events(uint32_t events);
  uint32_t PollLocked() const;
  Result<void> StartConnect(const SocketAddress& remote);
  Result<void> Route();
  void InitBuffers();
  bool IsSynchronized() const;
  bool CanReceive() const;
  void SendReset();
  void MarkOrphan();
  PortTable& ports() const { return stack().tcp().ports(); }
  // tcp_listen.cc
  void ListenSegment(PacketPtr packet, const TcpHeader& header);
  void MakeChild(const Packet& packet, const TcpHeader& header);
  // tcp_input.cc
  void SynSentSegment(Packet& packet, const TcpHeader& header);
  bool Validate(const Packet& packet, const TcpHeader& header, uint32_t length);
  bool CompleteHandshake(const TcpHeader& header, uint32_t data_length);
  void SynOptions(const TcpHeader& header);
  void ChallengeAck();
  void Established();
  // tcp_receive.cc
  void ReceiveData(Buffer data, uint32_t seq, bool fin);
  void QueueInOrder(Buffer data);
  void QueueOutOfOrder(Buffer data, uint32_t seq, bool fin);
  void DrainOutOfOrder();
  void OnFin();
  void ScheduleAck(size_t received);
  void TuneReceiveBuffer();
  void MeasureReceiveMss(size_t length);
  size_t ReceiveSpace() const;
  uint32_t SelectWindow();
  int FillSacks(SackBlock* blocks, int max);
  // tcp_ack.cc
  bool OnAck(const TcpHeader& header, uint32_t data_length);
  void Sack(const TcpHeader& header, int64_t now_ns, AckResult* result);
  void RackUpdate(const Sent& sent, int64_t now_ns);
  void DetectLosses(int64_t now_ns);
  void MarkLost(Sent& sent);
  void EnterRecovery();
  void EnterLoss();
  void RemoveAcked(uint32_t ack, int64_t now_ns, AckResult* result);
  void UpdateWindow(const TcpHeader& header);
  bool MayUndo(const TcpHeader& header) const;
  void UndoRecovery();
  void AfterAck(const TcpHeader& header, const AckResult& result, bool duplicate, int64_t now_ns);
  void OnFinAcked();
  void SampleRtt(int64_t rtt_ns);
  uint32_t InFlight() const;
  void ExpandSendBuffer();
  // tcp_output.cc
  void Push(bool force = false);
  bool SendNew(uint32_t length, uint8_t flags);
  bool Resend(Sent& sent);
  void Transmit(Sent& sent);
  void Emit(uint32_t seq, uint8_t flags, Buffer data);
  void SendAck();
  void SendSyn(uint8_t flags);
  void SendProbe(bool keep_alive);
  uint32_t EffectiveMss() const;
  bool NagleHolds(uint32_t length) const;
  uint16_t WindowField();
  TcpHeader BaseHeader(uint32_t seq, uint8_t flags);
  void Retransmissions();
  // tcp_timers.cc
  void ArmTimers();
  void ArmRto(int64_t now_ns);
  void ArmAfterSend(int64_t now_ns);
  void OnRto(int64_t now_ns);
  void OnProbeTimer(int64_t now_ns);
  void OnTailLossProbe(int64_t now_ns);
  void OnKeepAlive(int64_t now_ns);
  int64_t RtoNs() const;
  int64_t KeepIdleNs() const;
  int64_t KeepIntervalNs() const;
  int KeepCount() const;
  uint32_t TimestampNow() const;

  mutable Mutex mu_{LockRank::kSocket};
  RefPtr<Observer> observer_;
  TcpOptions options_;
  TcpState state_ = TcpState::kClosed;
  PortUser user_;
  FourTuple tuple_;
  bool in_table_ = false, orphan_ = false, connecting_ = false, ever_connected_ = false;
  bool bound_by_user_ = false;
  uint32_t scope_ = 0;
  int error_ = 0, soft_error_ = 0;
  bool send_shutdown_ = false, receive_shutdown_ = false;
  Path path_;
  uint64_t path_generation_ = 0;
  RefPtr<ListenQueue> listen_;  // a listener's own, or of a child in its handshake the listener's
  int64_t deferred_accept_ = 0;

  // Sending.
  uint32_t iss_ = 0, una_ = 0, next_ = 0;
  uint32_t window_ = 0, window_seq_ = 0, window_ack_ = 0, max_window_ = 0;
  uint8_t send_scale_ = 0, receive_scale_ = 0;
  bool has_timestamps_ = false, has_sack_ = false, has_scaling_ = false;
  uint32_t mss_ = 536;      // what the peer takes, before options
  uint32_t mtu_limit_ = 0;  // from ICMP; 0: none
  Buffer unsent_;
  bool fin_queued_ = false, fin_sent_ = false, more_ = false;
  bool no_space_ = false;  // somebody waits for room
  Ring<Sent> sent_;
  size_t sent_bytes_ = 0;
  int send_buffer_ = 0;
  int64_t last_send_ns_ = 0, last_data_receive_ns_ = 0, last_ack_receive_ns_ = 0;
  std::optional<uint32_t> urgent_out_;
  uint32_t small_sent_end_ = 0;
  bool has_small_sent_ = false;

  // Losses.
  Recovery recovery_ = Recovery::kOpen;
  Congestion congestion_;
  uint32_t sacked_count_ = 0, lost_count_ = 0, resent_count_ = 0;
  uint32_t duplicate_acks_ = 0, recovery_point_ = 0;
  uint32_t prr_delivered_ = 0, prr_out_ = 0, prr_flight_ = 0;
  uint32_t highest_sacked_ = 0;
  bool has_sacked_ = false, reordering_seen_ = false;
  int64_t rack_sent_ns_ = 0, rack_rtt_ns_ = 0;
  uint32_t rack_end_ = 0;
  int64_t srtt_ns_ = 0, rttvar_ns_ = 0, min_rtt_ns_ = INT64_MAX, rto_ns_ = 1'000'000'000;
  uint32_t backoff_ = 0, probes_ = 0, total_retransmits_ = 0;
  int64_t retransmit_start_ns_ = 0;
  uint32_t undo_timestamp_ = 0;
  bool may_undo_ = false;
  uint32_t tlp_end_ = 0;
  bool tlp_out_ = false, cwnd_limited_ = false;
  uint64_t delivered_ = 0, bytes_acked_ = 0, bytes_sent_ = 0, bytes_retransmitted_ = 0, bytes_received_ = 0;
  uint32_t segments_out_ = 0, segments_in_ = 0, data_segments_out_ = 0, data_segments_in_ = 0;

  // Receiving.
  uint32_t irs_ = 0, receive_next_ = 0, receive_wup_ = 0, receive_window_ = 0;
  uint32_t copied_ = 0;  // sequence number that the application has read up to
  Buffer received_;
  RefPtr<Block> tail_;                    // a block of this side's own, that small pieces are copied to
  std::vector<OutOfOrder> out_of_order_;  // by sequence number
  size_t out_of_order_bytes_ = 0, out_of_order_charge_ = 0;
  uint32_t last_out_of_order_ = 0;
  std::optional<SackBlock> duplicate_;
  bool fin_received_ = false;
  int receive_buffer_ = 0;
  uint32_t receive_mss_ = 536;
  uint32_t timestamp_recent_ = 0, timestamp_offset_ = 0;
  int64_t timestamp_recent_ns_ = 0;
  int quick_acks_ = 0;
  bool ack_pending_ = false, interactive_ = false;
  int64_t ato_ns_ = 40'000'000;
  uint32_t tune_seq_ = 0;
  size_t tune_space_ = 0;
  int64_t tune_ns_ = 0;
  int64_t last_challenge_ns_ = 0;
  std::optional<uint32_t> urgent_in_;  // where urgent data ends
  bool has_urgent_byte_ = false;
  uint8_t urgent_byte_ = 0;

  // Deadlines; kNoDeadline: off.
  int64_t rto_at_ = kNoDeadline, probe_at_ = kNoDeadline, ack_at_ = kNoDeadline, tlp_at_ = kNoDeadline,
          reorder_at_ = kNoDeadline, keep_at_ = kNoDeadline, end_at_ = kNoDeadline, cork_at_ = kNoDeadline;
  int keep_probes_ = 0;
  int64_t armed_at_ = kNoDeadline;  // what the timer queue has, at the latest
  bool pushed_ = false;             // data with PSH waits for its ACK
};

}  // namespace sentry::net

#endif  // SENTRY_NET_TCP_TCP_ENDPOINT_H_
