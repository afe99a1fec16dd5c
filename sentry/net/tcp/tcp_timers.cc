// SPDX-License-Identifier: Apache-2.0
// Time-outs of a TCP endpoint (RFC 6298, RFC 8985 7, RFC 1122 4.2.3.6).
#include <errno.h>

#include <algorithm>

#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {
namespace {

constexpr int64_t kMaxRtoNs = 120 * base::kNsPerSecond;
constexpr int64_t kMinTlpNs = 10 * kNsPerMs, kTlpAckDelayNs = 200 * kNsPerMs;

}  // namespace

int64_t TcpEndpoint::RtoNs() const {
  const uint32_t shift = std::min(std::max(backoff_, probes_), 20u);
  return std::min(rto_ns_ << shift, kMaxRtoNs);
}

int64_t TcpEndpoint::KeepIdleNs() const {
  const TcpEndpoint& self = *this;
  const int seconds = options_.keep_idle ? options_.keep_idle : self.stack().settings().tcp_keepalive_time.load();
  return seconds * base::kNsPerSecond;
}
int64_t TcpEndpoint::KeepIntervalNs() const {
  const int seconds =
      options_.keep_interval ? options_.keep_interval : stack().settings().tcp_keepalive_interval.load();
  return seconds * base::kNsPerSecond;
}
int TcpEndpoint::KeepCount() const {
  return options_.keep_count ? options_.keep_count : stack().settings().tcp_keepalive_probes.load();
}

void TcpEndpoint::ArmTimers() {
  if (state_ == TcpState::kClosed || state_ == TcpState::kListen) return;
  const int64_t next = std::min({rto_at_, probe_at_, ack_at_, tlp_at_, reorder_at_, keep_at_, end_at_, cork_at_});
  if (next >= armed_at_) return;
  armed_at_ = next;
  stack().timers().Arm(*this, next);
}

void TcpEndpoint::ArmRto(int64_t now_ns) {
  if (sent_.empty()) {
    rto_at_ = kNoDeadline;
    return;
  }
  rto_at_ = std::max(now_ns, sent_.front().sent_ns) + RtoNs();
  if (options_.user_timeout_ms && retransmit_start_ns_)
    rto_at_ = std::clamp(retransmit_start_ns_ + options_.user_timeout_ms * kNsPerMs, now_ns + kNsPerMs, rto_at_);
}

void TcpEndpoint::ArmAfterSend(int64_t now_ns) {
  if (sent_.empty()) {
    rto_at_ = tlp_at_ = kNoDeadline;
    return;
  }
  if (rto_at_ == kNoDeadline) ArmRto(now_ns);
  tlp_at_ = kNoDeadline;
  if (!has_sack_ || recovery_ == Recovery::kRecovery || recovery_ == Recovery::kLoss || sacked_count_ || tlp_out_)
    return;
  if (state_ == TcpState::kSynReceived || srtt_ns_ == 0) return;
  int64_t timeout = 2 * srtt_ns_;
  timeout = std::max(timeout, kMinTlpNs);
  if (sent_.size() == 1) timeout += kTlpAckDelayNs;
  if (now_ns + timeout < rto_at_) tlp_at_ = now_ns + timeout;
}

void TcpEndpoint::OnTimer(int64_t) {
  Section section(mu_);
  armed_at_ = kNoDeadline;
  if (state_ == TcpState::kClosed || state_ == TcpState::kListen) return;
  const int64_t now = stack().NowNs();
  const auto due = [&](int64_t& at) {
    if (at > now) return false;
    at = kNoDeadline;
    return true;
  };
  if (due(end_at_)) {
    EnterClosed();
    return;
  }
  if (due(ack_at_) && ack_pending_) {
    // The guess that data would go back was wrong.
    interactive_ = false;
    SendAck();
  }
  if (due(reorder_at_)) {
    DetectLosses(now);
    if (lost_count_ > resent_count_ && recovery_ != Recovery::kRecovery && recovery_ != Recovery::kLoss)
      EnterRecovery();
    if (recovery_ == Recovery::kRecovery && lost_count_ > resent_count_)
      congestion_.set_cwnd(std::max(congestion_.cwnd(), InFlight() + 1));
    Push();
  }
  if (due(tlp_at_)) OnTailLossProbe(now);
  if (due(cork_at_)) {
    more_ = false;
    Push(true);
  }
  if (due(rto_at_)) OnRto(now);
  if (state_ != TcpState::kClosed && due(probe_at_)) OnProbeTimer(now);
  if (state_ != TcpState::kClosed && due(keep_at_)) OnKeepAlive(now);
  ArmTimers();
}

void TcpEndpoint::OnRto(int64_t now_ns) {
  if (sent_.empty()) return;
  const Settings& settings = stack().settings();
  TcpStatistics& stats = stack().statistics().tcp;
  Count(stats.timeouts);
  if (retransmit_start_ns_ == 0) retransmit_start_ns_ = sent_.front().sent_ns;
  uint32_t limit = static_cast<uint32_t>(settings.tcp_retries2);
  if (state_ == TcpState::kSynSent)
    limit = static_cast<uint32_t>(options_.syn_count ? options_.syn_count : settings.tcp_syn_retries.load());
  else if (state_ == TcpState::kSynReceived)
    limit = static_cast<uint32_t>(settings.tcp_synack_retries);
  else if (orphan_)
    limit = static_cast<uint32_t>(settings.tcp_orphan_retries);
  const bool late = options_.user_timeout_ms && now_ns - retransmit_start_ns_ >= options_.user_timeout_ms * kNsPerMs;
  if (late || backoff_ >= limit) {
    Count(stats.abort_on_timeout);
    if (state_ == TcpState::kSynSent) Count(stats.attempt_fails);
    Fail(soft_error_ ? std::exchange(soft_error_, 0) : ETIMEDOUT);
    return;
  }
  ++backoff_;
  if (state_ == TcpState::kSynSent || state_ == TcpState::kSynReceived) {
    rto_at_ = now_ns + RtoNs();
    SendSyn(state_ == TcpState::kSynSent ? kTcpSyn : kTcpSyn | kTcpAck);
    return;
  }
  EnterLoss();
  rto_at_ = now_ns + RtoNs();
  if (options_.user_timeout_ms)
    rto_at_ = std::clamp(retransmit_start_ns_ + options_.user_timeout_ms * kNsPerMs, now_ns + kNsPerMs, rto_at_);
  // At least one, whatever the window says now.
  Push();
  if (!sent_.empty() && !sent_.front().resent && sent_.front().lost) Resend(sent_.front());
}

void TcpEndpoint::OnProbeTimer(int64_t now_ns) {
  if (!sent_.empty() || (unsent_.empty() && !(fin_queued_ && !fin_sent_))) return;
  const auto limit =
      static_cast<uint32_t>(orphan_ ? stack().settings().tcp_orphan_retries : stack().settings().tcp_retries2);
  const int64_t silent = now_ns - std::max(last_ack_receive_ns_, last_data_receive_ns_);
  const bool late = options_.user_timeout_ms && probes_ && silent >= options_.user_timeout_ms * kNsPerMs;
  if (late || probes_ > limit) {
    Count(stack().statistics().tcp.abort_on_timeout);
    Fail(soft_error_ ? std::exchange(soft_error_, 0) : ETIMEDOUT);
    return;
  }
  // A window that is only silly is used after all.
  Push(true);
  if (!sent_.empty()) return;
  ++probes_;
  SendProbe(false);
  probe_at_ = now_ns + RtoNs();
}

void TcpEndpoint::OnTailLossProbe(int64_t now_ns) {
  if (sent_.empty() || tlp_out_ || recovery_ == Recovery::kRecovery || recovery_ == Recovery::kLoss) return;
  Count(stack().statistics().tcp.loss_probes);
  tlp_out_ = true;
  tlp_end_ = next_;
  const uint32_t right = una_ + window_;
  const uint32_t usable = After(right, next_) ? right - next_ : 0;
  const auto length = static_cast<uint32_t>(std::min<size_t>(unsent_.size(), EffectiveMss()));
  if (length && length <= usable && !NagleHolds(length)) {
    SendNew(length, kTcpPsh);
    tlp_end_ = next_;
  } else {
    Resend(sent_.back());
  }
  rto_at_ = now_ns + RtoNs();
}

void TcpEndpoint::OnKeepAlive(int64_t now_ns) {
  if (!options_.keep_alive || state_ == TcpState::kSynSent || state_ == TcpState::kSynReceived) return;
  if (!sent_.empty() || !unsent_.empty()) {
    keep_at_ = now_ns + KeepIdleNs();
    return;
  }
  const int64_t heard = std::max(last_ack_receive_ns_, last_data_receive_ns_);
  if (now_ns - heard < KeepIdleNs() && keep_probes_ == 0) {
    keep_at_ = heard + KeepIdleNs();
    return;
  }
  const bool late = options_.user_timeout_ms ? keep_probes_ > 0 && now_ns - heard >= options_.user_timeout_ms * kNsPerMs
                                             : keep_probes_ >= KeepCount();
  if (late) {
    Count(stack().statistics().tcp.abort_on_timeout);
    SendReset();
    Fail(ETIMEDOUT);
    return;
  }
  ++keep_probes_;
  SendProbe(true);
  keep_at_ = now_ns + KeepIntervalNs();
}

}  // namespace sentry::net
