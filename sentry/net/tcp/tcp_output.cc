// SPDX-License-Identifier: Apache-2.0
// Segments out: what may be sent now (windows, Nagle, silly windows), and their headers.
#include <errno.h>
#include <netinet/in.h>

#include <algorithm>

#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {
namespace {

constexpr int64_t kCorkNs = 200 * kNsPerMs;
// Segments that a flow sends in one go before others get the thread.
constexpr int kBurst = 128;

}  // namespace

uint32_t TcpEndpoint::TimestampNow() const {
  return static_cast<uint32_t>(const_cast<TcpEndpoint*>(this)->stack().NowNs() / kNsPerMs) + timestamp_offset_;
}

uint32_t TcpEndpoint::EffectiveMss() const {
  const uint32_t mtu = mtu_limit_ && mtu_limit_ < path_.mtu ? mtu_limit_ : path_.mtu;
  const uint32_t headers = (tuple_.remote.IsV4() ? 20 : 40) + kTcpHeader;
  uint32_t mss = mtu > headers + 64 ? mtu - headers : 64;
  mss = std::min(mss, mss_);
  if (options_.max_segment) mss = std::min(mss, static_cast<uint32_t>(options_.max_segment));
  if (has_timestamps_) mss -= kTimestampOption;
  return std::max(mss, 48u);
}

TcpHeader TcpEndpoint::BaseHeader(uint32_t seq, uint8_t flags) {
  TcpHeader h;
  h.source_port = tuple_.local_port;
  h.destination_port = tuple_.remote_port;
  h.seq = seq;
  h.flags = flags;
  if (flags & kTcpAck) h.ack = receive_next_;
  if (has_timestamps_) {
    h.has_timestamp = true;
    h.timestamp = TimestampNow();
    h.timestamp_echo = timestamp_recent_;
  }
  return h;
}

uint16_t TcpEndpoint::WindowField() {
  receive_window_ = SelectWindow();
  receive_wup_ = receive_next_;
  return static_cast<uint16_t>(receive_window_ >> receive_scale_);
}

void TcpEndpoint::Emit(uint32_t seq, uint8_t flags, Buffer data) {
  if (!Route().ok()) return;
  TcpHeader h = BaseHeader(seq, flags);
  if (flags & kTcpAck) {
    h.window = WindowField();
    if (has_sack_ && (duplicate_ || !out_of_order_.empty())) {
      const int max = has_timestamps_ ? 3 : 4;
      // On data only where it fits.
      if (data.size() + 4 + 8 * static_cast<size_t>(max) <= EffectiveMss()) h.sack_count = FillSacks(h.sacks, max);
    }
    if (ack_pending_ && !data.empty()) interactive_ = true;
    ack_pending_ = pushed_ = false;
    ack_at_ = kNoDeadline;
    if (quick_acks_ > 0) --quick_acks_;
  }
  if (urgent_out_ && After(*urgent_out_, seq) && *urgent_out_ - seq <= 65535) {
    h.flags |= kTcpUrg;
    h.urgent = static_cast<uint16_t>(*urgent_out_ - seq);
  }
  ++segments_out_;
  TcpStatistics& stats = stack().statistics().tcp;
  Count(stats.out_segments);
  auto packet = std::make_unique<Packet>();
  packet->source = tuple_.local;
  packet->destination = tuple_.remote;
  packet->trusted_checksums = path_.local;
  packet->payload = std::move(data);
  h.Push(*packet);
  if (!path_.local) SetTcpChecksum(*packet);
  OutputOptions options;
  options.protocol = IPPROTO_TCP;
  options.ttl = TtlFor(tuple_.remote);
  options.traffic_class = TrafficClassFor(tuple_.remote);
  options.dont_fragment = ip().mtu_discover != 0;
  (void)stack().Send(std::move(packet), path_, options).ok();
}

void TcpEndpoint::SendAck() {
  if (!IsSynchronized()) return;
  ack_pending_ = pushed_ = false;
  Emit(next_, kTcpAck, Buffer());
}

void TcpEndpoint::SendReset() {
  Count(stack().statistics().tcp.out_resets);
  if (!Route().ok()) return;
  TcpHeader h = BaseHeader(next_, kTcpRst | kTcpAck);
  stack().tcp().SendControl(tuple_, h, path_.local ? 0 : path_.interface);
}

// A first SYN or SYN-ACK, or it again.
void TcpEndpoint::SendSyn(uint8_t flags) {
  const Settings& settings = stack().settings();
  const bool again = next_ != iss_;
  if (!again) {
    const size_t space = options_.receive_buffer
                             ? static_cast<size_t>(receive_buffer_) / 2
                             : std::max<size_t>(static_cast<size_t>(settings.tcp_receive_max), 212992);
    const bool wanted = (flags & kTcpAck) ? has_scaling_ : settings.tcp_window_scaling != 0;
    receive_scale_ = 0;
    if (wanted) {
      while (receive_scale_ < 14 && (space >> receive_scale_) > 65535) ++receive_scale_;
    }
    Sent syn;
    syn.seq = iss_;
    syn.length = 1;
    syn.flags = flags;
    sent_.clear();
    sent_.push_back(std::move(syn));
    next_ = iss_ + 1;
  } else if (!sent_.empty()) {
    sent_.front().ever_resent = true;
    sent_.front().flags = flags;
  }
  if (!sent_.empty()) sent_.front().sent_ns = stack().NowNs();
  if (!Route().ok()) return;
  TcpHeader h = BaseHeader(iss_, flags);
  const uint32_t headers = tuple_.remote.IsV4() ? 40 : 60;
  h.has_mss = true;
  h.mss = static_cast<uint16_t>(std::min<uint32_t>(path_.mtu - headers, 65535));
  if (options_.max_segment) h.mss = static_cast<uint16_t>(std::min<int>(h.mss, options_.max_segment));
  const bool answer = flags & kTcpAck;
  h.sack_permitted = answer ? has_sack_ : settings.tcp_sack != 0;
  h.has_timestamp = answer ? has_timestamps_ : settings.tcp_timestamps != 0;
  h.timestamp = TimestampNow();
  h.timestamp_echo = answer ? timestamp_recent_ : 0;
  h.has_window_scale = answer ? has_scaling_ : settings.tcp_window_scaling != 0;
  h.window_scale = receive_scale_;
  size_t window = std::min<size_t>(ReceiveSpace(), 65535);
  if (options_.window_clamp) window = std::min<size_t>(window, static_cast<size_t>(options_.window_clamp));
  h.window = static_cast<uint16_t>(window);
  receive_window_ = h.window;
  receive_wup_ = receive_next_;
  auto packet = std::make_unique<Packet>();
  packet->source = tuple_.local;
  packet->destination = tuple_.remote;
  packet->trusted_checksums = path_.local;
  h.Push(*packet);
  if (!path_.local) SetTcpChecksum(*packet);
  OutputOptions options;
  options.protocol = IPPROTO_TCP;
  options.ttl = TtlFor(tuple_.remote);
  options.traffic_class = TrafficClassFor(tuple_.remote);
  options.dont_fragment = true;
  ++segments_out_;
  Count(stack().statistics().tcp.out_segments);
  if (again) Count(stack().statistics().tcp.retransmitted_segments);
  if (rto_at_ == kNoDeadline) rto_at_ = stack().NowNs() + RtoNs();
  (void)stack().Send(std::move(packet), path_, options).ok();
}

// Keep-alive and window probes: a number that was acknowledged already asks for an ACK.
void TcpEndpoint::SendProbe(bool keep_alive) {
  if (keep_alive) Count(stack().statistics().tcp.keep_alives);
  Emit(una_ - 1, kTcpAck, Buffer());
}

bool TcpEndpoint::NagleHolds(uint32_t length) const {
  if (length >= EffectiveMss()) return false;
  if (options_.cork || more_) return true;
  if (options_.no_delay || sent_.empty()) return false;
  // Minshall: one small segment in flight, not one of any size.
  return has_small_sent_ && After(small_sent_end_, una_);
}

bool TcpEndpoint::SendNew(uint32_t length, uint8_t flags) {
  Sent s;
  s.seq = next_;
  s.data = unsent_.TakeFront(length);
  s.flags = static_cast<uint8_t>(flags | kTcpAck);
  s.length = length + (flags & kTcpFin ? 1 : 0);
  if (length && length < EffectiveMss()) {
    small_sent_end_ = s.end();
    has_small_sent_ = true;
  }
  next_ = s.end();
  sent_bytes_ += length;
  bytes_sent_ += length;
  if (length) ++data_segments_out_;
  const int64_t now = stack().NowNs();
  s.sent_ns = now;
  last_send_ns_ = now;
  if (recovery_ == Recovery::kRecovery) ++prr_out_;
  Buffer shared = s.data.Share(0, length);
  const uint32_t seq = s.seq;
  const uint8_t all = s.flags;
  sent_.push_back(std::move(s));
  Emit(seq, all, std::move(shared));
  return true;
}

bool TcpEndpoint::Resend(Sent& s) {
  s.ever_resent = true;
  s.sent_ns = stack().NowNs();
  last_send_ns_ = s.sent_ns;
  if (s.lost && !s.resent) {
    s.resent = true;
    ++resent_count_;
  }
  if (recovery_ == Recovery::kRecovery) ++prr_out_;
  ++total_retransmits_;
  bytes_retransmitted_ += s.data.size();
  bytes_sent_ += s.data.size();
  Count(stack().statistics().tcp.retransmitted_segments);
  if (retransmit_start_ns_ == 0) retransmit_start_ns_ = s.sent_ns;
  Emit(s.seq, s.flags, s.data.Share(0, s.data.size()));
  return true;
}

void TcpEndpoint::Retransmissions() {
  if (lost_count_ <= resent_count_) return;
  for (size_t i = 0; i < sent_.size() && lost_count_ > resent_count_; ++i) {
    if (!sent_[i].lost || sent_[i].resent) continue;
    if (InFlight() >= congestion_.cwnd()) return;
    // The path became narrower: in pieces.
    const uint32_t mss = EffectiveMss();
    if (sent_[i].data.size() > mss) {
      Sent rest;
      Sent& s = sent_[i];
      rest.data = s.data.Share(mss, s.data.size() - mss);
      s.data.TrimTo(mss);
      rest.seq = s.seq + mss;
      rest.length = s.length - mss;
      rest.flags = s.flags;
      rest.lost = true;
      rest.ever_resent = s.ever_resent;
      rest.sent_ns = s.sent_ns;
      s.length = mss;
      s.flags &= static_cast<uint8_t>(~(kTcpFin | kTcpPsh));
      ++lost_count_;
      sent_.insert(i + 1, std::move(rest));
    }
    Resend(sent_[i]);
  }
}

void TcpEndpoint::Push(bool force) {
  if (state_ != TcpState::kEstablished && state_ != TcpState::kCloseWait && state_ != TcpState::kFinWait1 &&
      state_ != TcpState::kLastAck && state_ != TcpState::kClosing) {
    return;
  }
  const int64_t now = stack().NowNs();
  const bool idle = sent_.empty();
  if (idle && last_send_ns_ && now - last_send_ns_ > rto_ns_ && (!unsent_.empty()))
    congestion_.OnIdle(now - last_send_ns_, rto_ns_);
  Retransmissions();
  cwnd_limited_ = false;
  bool sent = false;
  for (int burst = 0; burst < kBurst; ++burst) {
    const bool fin = fin_queued_ && !fin_sent_;
    if (unsent_.empty() && !fin) break;
    if (InFlight() >= congestion_.cwnd()) {
      cwnd_limited_ = true;
      break;
    }
    const uint32_t mss = EffectiveMss();
    const auto available = static_cast<uint32_t>(std::min<size_t>(unsent_.size(), mss));
    const uint32_t right = una_ + window_;
    const uint32_t usable = After(right, next_) ? right - next_ : 0;
    uint32_t length = std::min(available, usable);
    if (available && length == 0) break;
    const bool last = length == unsent_.size();
    if (length < available && length < mss && !last) {
      // A silly window: wait for a better one (RFC 9293, 3.8.6.2.1).
      if (length < max_window_ / 2 && (length < mss) && !force) break;
    }
    const bool with_fin = fin && last;
    if (!force && !with_fin && last && NagleHolds(length)) {
      if ((options_.cork || more_) && cork_at_ == kNoDeadline) cork_at_ = now + kCorkNs;
      break;
    }
    uint8_t flags = 0;
    if (with_fin) {
      flags |= kTcpFin;
      fin_sent_ = true;
    }
    if (last || (length && static_cast<uint64_t>(length) * 2 >= max_window_)) flags |= kTcpPsh;
    if (!SendNew(length, flags)) break;
    sent = true;
  }
  if (unsent_.empty()) {
    cork_at_ = kNoDeadline;
  }
  if (sent) {
    ArmAfterSend(now);
  } else if (sent_.empty() && (!unsent_.empty() || (fin_queued_ && !fin_sent_)) && probe_at_ == kNoDeadline &&
             cork_at_ == kNoDeadline) {
    // Closed or silly window with nothing in flight that would open it.
    probe_at_ = now + RtoNs();
  }
  if (!sent_.empty()) {
    probe_at_ = kNoDeadline;
    if (rto_at_ == kNoDeadline) ArmRto(now);
  }
}

}  // namespace sentry::net
