// SPDX-License-Identifier: Apache-2.0
// Passive opens: a SYN at a listener makes a child, which finds its way to accept(2) by itself.
#include <algorithm>

#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {
namespace {

// Handshakes a listener has at once, at least.
constexpr size_t kMinPending = 128;

}  // namespace

void TcpEndpoint::ListenSegment(PacketPtr packet, const TcpHeader& header) {
  if (header.Has(kTcpRst)) return;
  if (header.Has(kTcpAck)) {
    stack().tcp().SendReset(*packet, header);
    return;
  }
  if (!header.Has(kTcpSyn) || header.Has(kTcpFin)) return;
  MakeChild(*packet, header);
}

void TcpEndpoint::MakeChild(const Packet& packet, const TcpHeader& header) {
  TcpStatistics& stats = stack().statistics().tcp;
  if (listen_->IsFull()) {
    Count(stats.listen_overflows);
    return Count(stats.listen_drops);
  }
  auto child = MakeRef<TcpEndpoint>(stack(), is_v6());
  // The child is in nobody's hands yet: its lock is taken only because the answer to its SYN may come to another thread
  // before this one is done.
  child->mu_.LockNested();
  TcpEndpoint& c = *child;
  c.options_ = options_;
  c.congestion_.set_reno(options_.reno);
  c.ip().InheritFrom(ip());
  if (options_.send_buffer) c.send_buffer_ = options_.send_buffer;
  if (options_.receive_buffer) c.receive_buffer_ = options_.receive_buffer;
  c.tuple_ = {packet.destination, packet.source, header.destination_port, header.source_port};
  if (packet.source.IsLinkLocalV6()) c.scope_ = packet.interface;
  c.iss_ = static_cast<uint32_t>(stack().environment().Random());
  c.timestamp_offset_ = static_cast<uint32_t>(stack().environment().Random());
  c.una_ = c.next_ = c.iss_;
  c.irs_ = header.seq;
  c.receive_next_ = c.receive_wup_ = c.copied_ = header.seq + 1;
  c.SynOptions(header);
  c.window_ = c.max_window_ = header.window;
  c.window_seq_ = header.seq;
  c.user_.address = c.tuple_.local;
  c.user_.reuse_address = options_.reuse_address;
  c.user_.reuse_port = options_.reuse_port;
  c.user_.uid = options_.uid;
  bool ok = c.Route().ok() && listen_->AddPending(c, std::max<size_t>(kMinPending, listen_->backlog()));
  if (ok && !(ok = stack().tcp().Insert(c.tuple_, c, nullptr))) listen_->RemovePending(c);
  if (ok) {
    c.listen_ = listen_;
    c.in_table_ = true;
    ports().Join(c.user_, c.tuple_.local_port);
    c.SetState(TcpState::kSynReceived);
    c.SendSyn(kTcpSyn | kTcpAck);
    c.ArmTimers();
  } else {
    Count(stats.listen_drops);
  }
  child->mu_.Unlock();
}

bool TcpEndpoint::CompleteHandshake(const TcpHeader& header, uint32_t data_length) {
  TcpStatistics& stats = stack().statistics().tcp;
  if (listen_) {
    // TCP_DEFER_ACCEPT: the bare ACK is not looked at; the first data completes the handshake.
    if (options_.defer_accept && data_length == 0 && !header.Has(kTcpFin) && backoff_ == 0) return false;
    // A full queue: the peer's data or our SYN-ACK tries again.
    if (!listen_->Complete(*this)) {
      Count(stats.listen_overflows);
      return false;
    }
    listen_ = nullptr;
    Count(stats.passive_opens);
  }
  window_ = uint32_t{header.window} << send_scale_;
  window_seq_ = header.seq;
  window_ack_ = header.ack;
  max_window_ = std::max(max_window_, window_);
  Established();
  return true;
}

void TcpEndpoint::Established() {
  const int64_t now = stack().NowNs();
  if (send_shutdown_)
    SetState(TcpState::kFinWait1);
  else
    SetState(TcpState::kEstablished);
  ever_connected_ = true;
  backoff_ = 0;
  rto_at_ = kNoDeadline;
  last_ack_receive_ns_ = last_data_receive_ns_ = now;
  if (options_.keep_alive) keep_at_ = now + KeepIdleNs();
  InitBuffers();
  Events(0x2001 | 0x1 | 0x4 | 0x8 | 0x10 | 0x40 | 0x100);  // EPOLLRDHUP IN OUT ERR HUP RDNORM WRNORM
}

// tcp_init_buffer_space: room for the initial window of this path's segments.
void TcpEndpoint::InitBuffers() {
  tune_space_ = std::min<size_t>(receive_window_, Congestion::kInitialWindow * EffectiveMss());
  tune_seq_ = receive_next_;
  tune_ns_ = stack().NowNs();
  receive_mss_ = std::min<uint32_t>(receive_mss_, EffectiveMss());
  quick_acks_ = static_cast<int>(std::clamp<uint32_t>(receive_window_ / (2 * std::max(receive_mss_, 1u)), 2, 16));
  ExpandSendBuffer();
}

void TcpEndpoint::ExpandSendBuffer() {
  if (options_.send_buffer) return;
  const uint64_t segments = std::max(congestion_.cwnd(), Congestion::kInitialWindow);
  const uint64_t wanted = 2 * segments * (EffectiveMss() + 320);
  const auto limit = static_cast<uint64_t>(stack().settings().tcp_send_max);
  send_buffer_ = std::max(send_buffer_, static_cast<int>(std::min(wanted, limit)));
}

}  // namespace sentry::net
