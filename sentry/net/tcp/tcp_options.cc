// SPDX-License-Identifier: Apache-2.0
// Options and reports of a TCP endpoint.
#include <string.h>

#include <algorithm>

#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {

TcpOptions TcpEndpoint::options() const {
  MutexLock lock(mu_);
  return options_;
}

void TcpEndpoint::ChangeOptions(const std::function<void(TcpOptions&)>& change) {
  Section section(mu_);
  const TcpOptions before = options_;
  change(options_);
  if (options_.send_buffer) send_buffer_ = options_.send_buffer;
  if (options_.receive_buffer) receive_buffer_ = options_.receive_buffer;
  congestion_.set_reno(options_.reno);
  if (state_ == TcpState::kClosed || state_ == TcpState::kListen) return;
  if (options_.keep_alive != before.keep_alive || options_.keep_idle != before.keep_idle) {
    keep_at_ = options_.keep_alive ? std::max(last_ack_receive_ns_, last_data_receive_ns_) + KeepIdleNs() : kNoDeadline;
    keep_probes_ = 0;
  }
  // Uncorked, or Nagle is off now: what was held back goes.
  if ((before.cork && !options_.cork) || (!before.no_delay && options_.no_delay)) {
    more_ = false;
    Push(true);
  }
  ArmTimers();
}

bool TcpEndpoint::quick_ack() const {
  MutexLock lock(mu_);
  return !interactive_;
}

void TcpEndpoint::set_quick_ack(bool on) {
  Section section(mu_);
  interactive_ = !on;
  if (on && ack_pending_ && IsSynchronized()) SendAck();
  if (on) quick_acks_ = std::max(quick_acks_, 1);
}

int TcpEndpoint::SendBuffer() const {
  MutexLock lock(mu_);
  return send_buffer_;
}

int TcpEndpoint::ReceiveBuffer() const {
  MutexLock lock(mu_);
  return receive_buffer_;
}

int TcpEndpoint::Mss() const {
  MutexLock lock(mu_);
  if (state_ == TcpState::kClosed || state_ == TcpState::kListen)
    return options_.max_segment ? options_.max_segment : 536;
  return static_cast<int>(EffectiveMss());
}

tcp_info TcpEndpoint::Info() const {
  tcp_info info;
  memset(&info, 0, sizeof info);
  MutexLock lock(mu_);
  const int64_t now = const_cast<TcpEndpoint*>(this)->stack().NowNs();
  const auto micro = [](int64_t ns) { return static_cast<uint32_t>(ns / 1000); };
  const auto ago_ms = [&](int64_t ns) { return ns ? static_cast<uint32_t>((now - ns) / kNsPerMs) : 0; };
  info.tcpi_state = static_cast<uint8_t>(state_);
  if (state_ == TcpState::kListen) {
    info.tcpi_unacked = static_cast<uint32_t>(listen_->ready());
    info.tcpi_sacked = static_cast<uint32_t>(listen_->backlog());
    info.tcpi_rto = 1'000'000;
    return info;
  }
  info.tcpi_ca_state = recovery_ == Recovery::kOpen       ? 0
                       : recovery_ == Recovery::kDisorder ? 1
                       : recovery_ == Recovery::kRecovery ? 3
                                                          : 4;
  info.tcpi_retransmits = static_cast<uint8_t>(std::min(backoff_, 255u));
  info.tcpi_probes = static_cast<uint8_t>(std::min(probes_, 255u));
  info.tcpi_backoff = static_cast<uint8_t>(std::min(backoff_, 255u));
  if (has_timestamps_) info.tcpi_options |= TCPI_OPT_TIMESTAMPS;
  if (has_sack_) info.tcpi_options |= TCPI_OPT_SACK;
  if (has_scaling_) {
    info.tcpi_options |= TCPI_OPT_WSCALE;
    info.tcpi_snd_wscale = send_scale_;
    info.tcpi_rcv_wscale = receive_scale_;
  }
  info.tcpi_rto = micro(rto_ns_);
  info.tcpi_ato = micro(ato_ns_);
  info.tcpi_snd_mss = EffectiveMss();
  info.tcpi_rcv_mss = receive_mss_;
  info.tcpi_unacked = static_cast<uint32_t>(sent_.size());
  info.tcpi_sacked = sacked_count_;
  info.tcpi_lost = lost_count_;
  info.tcpi_retrans = resent_count_;
  info.tcpi_last_data_sent = ago_ms(last_send_ns_);
  info.tcpi_last_data_recv = ago_ms(last_data_receive_ns_);
  info.tcpi_last_ack_recv = ago_ms(last_ack_receive_ns_);
  info.tcpi_pmtu = mtu_limit_ ? mtu_limit_ : path_.mtu;
  info.tcpi_rcv_ssthresh = receive_window_;
  info.tcpi_rtt = micro(srtt_ns_);
  info.tcpi_rttvar = micro(rttvar_ns_);
  info.tcpi_snd_ssthresh = congestion_.ssthresh();
  info.tcpi_snd_cwnd = congestion_.cwnd();
  info.tcpi_advmss = path_.mtu - (tuple_.remote.IsV4() ? 40 : 60);
  info.tcpi_reordering = 3;
  info.tcpi_rcv_space = static_cast<uint32_t>(tune_space_);
  info.tcpi_total_retrans = total_retransmits_;
  info.tcpi_bytes_acked = bytes_acked_;
  info.tcpi_bytes_received = bytes_received_;
  info.tcpi_segs_out = segments_out_;
  info.tcpi_segs_in = segments_in_;
  info.tcpi_notsent_bytes = static_cast<uint32_t>(unsent_.size());
  info.tcpi_min_rtt = min_rtt_ns_ == INT64_MAX ? 0 : micro(min_rtt_ns_);
  info.tcpi_data_segs_in = data_segments_in_;
  info.tcpi_data_segs_out = data_segments_out_;
  info.tcpi_delivered = static_cast<uint32_t>(delivered_);
  info.tcpi_bytes_sent = bytes_sent_;
  info.tcpi_bytes_retrans = bytes_retransmitted_;
  return info;
}

TcpEndpoint::Snapshot TcpEndpoint::TakeSnapshot() const {
  MutexLock lock(mu_);
  Snapshot s = {};
  s.state = state_;
  s.local = {user_.address, user_.port ? user_.port : tuple_.local_port, scope_};
  if (state_ != TcpState::kListen && state_ != TcpState::kClosed)
    s.remote = {tuple_.remote, tuple_.remote_port, scope_};
  else
    s.remote = {IpAddress::Any(user_.address.IsV4()), 0};
  s.uid = options_.uid;
  s.orphan = orphan_;
  s.rto_ms = static_cast<uint32_t>(rto_ns_ / kNsPerMs);
  s.ato_ms = static_cast<uint32_t>(ato_ns_ / kNsPerMs);
  s.cwnd = congestion_.cwnd();
  s.ssthresh = congestion_.ssthresh() == Congestion::kInfinite ? -1 : static_cast<int>(congestion_.ssthresh());
  if (state_ == TcpState::kListen) {
    s.receive_queue = listen_->ready();
    s.send_queue = static_cast<size_t>(listen_->backlog());
    return s;
  }
  s.receive_queue = received_.size();
  s.send_queue = unsent_.size() + sent_bytes_;
  s.retransmits = backoff_;
  const int64_t now = const_cast<TcpEndpoint*>(this)->stack().NowNs();
  if (rto_at_ != kNoDeadline) {
    s.timer = 1;
    s.timer_ns = std::max<int64_t>(rto_at_ - now, 0);
  } else if (probe_at_ != kNoDeadline) {
    s.timer = 4;
    s.timer_ns = std::max<int64_t>(probe_at_ - now, 0);
  } else if (keep_at_ != kNoDeadline) {
    s.timer = 2;
    s.timer_ns = std::max<int64_t>(keep_at_ - now, 0);
  }
  return s;
}

}  // namespace sentry::net
