// SPDX-License-Identifier: Apache-2.0
// Acknowledgements in: what has arrived, what is lost, and how fast to go on (RFC 5681, RFC 6675, RFC 6937, RFC 8985,
// RFC 3522).
#include <errno.h>
#include <sys/epoll.h>

#include <algorithm>

#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {
namespace {

constexpr uint32_t kDuplicateThreshold = 3;
constexpr int64_t kMinRtoNs = 200 * kNsPerMs, kMaxRtoNs = 120 * base::kNsPerSecond;

}  // namespace

uint32_t TcpEndpoint::InFlight() const {
  const auto all = static_cast<uint32_t>(sent_.size());
  const uint32_t out = sacked_count_ + lost_count_;
  return all + resent_count_ > out ? all + resent_count_ - out : 0;
}

void TcpEndpoint::SampleRtt(int64_t rtt_ns) {
  rtt_ns = std::max<int64_t>(rtt_ns, 1);
  min_rtt_ns_ = std::min(min_rtt_ns_, rtt_ns);
  if (srtt_ns_ == 0) {
    srtt_ns_ = rtt_ns;
    rttvar_ns_ = rtt_ns / 2;
  } else {
    rttvar_ns_ += (std::abs(rtt_ns - srtt_ns_) - rttvar_ns_) / 4;
    srtt_ns_ += (rtt_ns - srtt_ns_) / 8;
  }
  rto_ns_ = std::clamp(srtt_ns_ + std::max(4 * rttvar_ns_, kMinRtoNs), kMinRtoNs, kMaxRtoNs);
}

void TcpEndpoint::UpdateWindow(const TcpHeader& header) {
  const uint32_t window = uint32_t{header.window} << send_scale_;
  if (After(header.ack, una_) || After(header.seq, window_seq_) || (header.seq == window_seq_ && window > window_)) {
    window_ = window;
    max_window_ = std::max(max_window_, window);
    window_seq_ = header.seq;
    window_ack_ = header.ack;
  }
}

void TcpEndpoint::RackUpdate(const Sent& sent, int64_t now_ns) {
  const int64_t rtt = now_ns - sent.sent_ns;
  // An answer sooner than any round trip was to the original, not to the resent one.
  if (sent.ever_resent && rtt < min_rtt_ns_) return;
  rack_rtt_ns_ = rtt;
  if (sent.sent_ns > rack_sent_ns_ || (sent.sent_ns == rack_sent_ns_ && After(sent.end(), rack_end_))) {
    rack_sent_ns_ = sent.sent_ns;
    rack_end_ = sent.end();
  }
}

void TcpEndpoint::RemoveAcked(uint32_t ack, int64_t now_ns, AckResult* result) {
  while (!sent_.empty() && After(ack, sent_.front().seq)) {
    Sent& s = sent_.front();
    if (Before(ack, s.end())) {
      // In part: the rest stays.
      const uint32_t n = ack - s.seq;
      const size_t trimmed = std::min<size_t>(n, s.data.size());
      s.data.TrimFront(trimmed);
      sent_bytes_ -= trimmed;
      s.seq = ack;
      s.length -= n;
      break;
    }
    if (s.sacked) {
      --sacked_count_;
    } else {
      ++result->delivered;
      if (!s.ever_resent && result->rtt_ns < 0) result->rtt_ns = now_ns - s.sent_ns;
      // It came before later ones that the peer has reported: reordering, not loss.
      if (!s.ever_resent && has_sacked_ && Before(s.seq, highest_sacked_)) reordering_seen_ = true;
      RackUpdate(s, now_ns);
    }
    if (s.lost) --lost_count_;
    if (s.resent) --resent_count_;
    ++result->acked;
    sent_bytes_ -= s.data.size();
    sent_.pop_front();
  }
  if (has_sacked_ && !Before(ack, highest_sacked_)) has_sacked_ = false;
}

void TcpEndpoint::Sack(const TcpHeader& header, int64_t now_ns, AckResult* result) {
  if (!has_sack_ || sent_.empty()) return;
  for (int i = 0; i < header.sack_count; ++i) {
    const SackBlock& block = header.sacks[i];
    // Below the acknowledgement it reports a duplicate (RFC 2883); else it must be of what was sent.
    if (!Before(block.start, block.end) || !After(block.end, header.ack) || Before(block.start, una_) ||
        After(block.end, next_)) {
      continue;
    }
    size_t low = 0, high = sent_.size();
    while (low < high) {
      const size_t middle = (low + high) / 2;
      if (Before(sent_[middle].seq, block.start))
        low = middle + 1;
      else
        high = middle;
    }
    for (; low < sent_.size() && !After(sent_[low].end(), block.end); ++low) {
      Sent& s = sent_[low];
      if (s.sacked) continue;
      s.sacked = true;
      ++sacked_count_;
      ++result->delivered;
      if (s.lost) --lost_count_;
      if (s.resent) --resent_count_;
      if (!s.ever_resent && has_sacked_ && Before(s.seq, highest_sacked_)) reordering_seen_ = true;
      if (!s.ever_resent && result->rtt_ns < 0) result->rtt_ns = now_ns - s.sent_ns;
      s.lost = s.resent = false;
      RackUpdate(s, now_ns);
    }
    if (!has_sacked_ || After(block.end, highest_sacked_)) highest_sacked_ = block.end;
    has_sacked_ = true;
  }
}

void TcpEndpoint::MarkLost(Sent& s) {
  if (s.sacked) return;
  if (s.resent) {
    s.resent = false;
    --resent_count_;
    Count(stack().statistics().tcp.lost_retransmits);
  }
  if (!s.lost) {
    s.lost = true;
    ++lost_count_;
  }
}

// RACK (RFC 8985, 6.2): what was sent well before something that has arrived is lost.
void TcpEndpoint::DetectLosses(int64_t now_ns) {
  reorder_at_ = kNoDeadline;
  if (!has_sacked_ && recovery_ != Recovery::kRecovery && recovery_ != Recovery::kLoss) return;
  int64_t window = 0;
  if (reordering_seen_ || (recovery_ == Recovery::kOpen && sacked_count_ < kDuplicateThreshold)) {
    window = min_rtt_ns_ == INT64_MAX ? kNsPerMs : std::max<int64_t>(min_rtt_ns_ / 4, 1);
    if (srtt_ns_) window = std::min(window, srtt_ns_);
  }
  if (rack_sent_ns_ == 0) return;
  for (size_t i = 0; i < sent_.size(); ++i) {
    Sent& s = sent_[i];
    if (s.sacked || (s.lost && !s.resent)) continue;
    const bool earlier = s.sent_ns < rack_sent_ns_ || (s.sent_ns == rack_sent_ns_ && Before(s.end(), rack_end_));
    if (!earlier) {
      // Beyond what was reported nothing is earlier, unless it was resent.
      if (!has_sacked_ || After(s.seq, highest_sacked_)) break;
      continue;
    }
    const int64_t at = s.sent_ns + rack_rtt_ns_ + window;
    if (at <= now_ns)
      MarkLost(s);
    else
      reorder_at_ = std::min(reorder_at_, at);
  }
}

void TcpEndpoint::EnterRecovery() {
  TcpStatistics& stats = stack().statistics().tcp;
  Count(has_sack_ ? stats.sack_recoveries : stats.reno_recoveries);
  prr_flight_ = std::max(InFlight() + lost_count_, 1u);
  congestion_.OnLoss();
  prr_delivered_ = prr_out_ = 0;
  recovery_point_ = next_;
  recovery_ = Recovery::kRecovery;
  may_undo_ = has_timestamps_;
  undo_timestamp_ = TimestampNow();
}

void TcpEndpoint::EnterLoss() {
  if (recovery_ != Recovery::kLoss) {
    if (recovery_ == Recovery::kRecovery) congestion_.OnRecovered();
    congestion_.OnTimeout();
    may_undo_ = has_timestamps_;
    undo_timestamp_ = TimestampNow();
  } else {
    congestion_.set_cwnd(1);
  }
  recovery_ = Recovery::kLoss;
  recovery_point_ = next_;
  duplicate_acks_ = 0;
  reordering_seen_ = false;
  tlp_out_ = false;
  // The peer may have dropped what it reported (RFC 2018, 8): then all goes again.
  const bool reneged = !sent_.empty() && sent_.front().sacked;
  for (size_t i = 0; i < sent_.size(); ++i) {
    if (reneged) sent_[i].sacked = false;
    MarkLost(sent_[i]);
  }
  if (reneged) {
    sacked_count_ = 0;
    has_sacked_ = false;
  }
}

// Eifel (RFC 3522): the answer is to a segment older than what was resent.
bool TcpEndpoint::MayUndo(const TcpHeader& header) const {
  return may_undo_ && header.has_timestamp && Before(header.timestamp_echo, undo_timestamp_);
}

void TcpEndpoint::UndoRecovery() {
  congestion_.Undo();
  for (size_t i = 0; i < sent_.size(); ++i) {
    Sent& s = sent_[i];
    if (s.lost) --lost_count_;
    if (s.resent) --resent_count_;
    s.lost = s.resent = false;
  }
  recovery_ = Recovery::kOpen;
  reordering_seen_ = true;
  may_undo_ = false;
  duplicate_acks_ = 0;
}

bool TcpEndpoint::OnAck(const TcpHeader& header, uint32_t data_length) {
  const int64_t now = stack().NowNs();
  if (Before(header.ack, una_)) {
    // RFC 5961, 5.2: older than any that could still be on its way.
    if (Before(header.ack, una_ - std::max(max_window_, 1u))) {
      ChallengeAck();
      return false;
    }
    return true;
  }
  if (After(header.ack, next_)) {
    ChallengeAck();
    return false;
  }
  last_ack_receive_ns_ = now;
  keep_probes_ = 0;
  if (keep_at_ != kNoDeadline && options_.keep_alive) keep_at_ = now + KeepIdleNs();
  const uint32_t window_before = window_;
  UpdateWindow(header);
  AckResult result;
  if (After(header.ack, una_)) {
    result.advanced = true;
    bytes_acked_ += header.ack - una_;
    una_ = header.ack;
    RemoveAcked(header.ack, now, &result);
  }
  if (header.sack_count) Sack(header, now, &result);
  const bool duplicate = !result.advanced && data_length == 0 && !sent_.empty() && !header.Has(kTcpFin) &&
                         (header.sack_count ? result.delivered > 0 : window_ == window_before);
  if (result.rtt_ns >= 0) SampleRtt(result.rtt_ns);
  delivered_ += result.delivered;
  if (!sent_.empty() || result.acked) AfterAck(header, result, duplicate, now);
  if (result.advanced) {
    backoff_ = 0;
    probes_ = 0;
    retransmit_start_ns_ = 0;
    rto_at_ = kNoDeadline;
    ArmAfterSend(now);
    if (fin_sent_ && una_ == next_) OnFinAcked();
    if (state_ == TcpState::kClosed) return false;
    ExpandSendBuffer();
    const size_t queued = unsent_.size() + sent_bytes_;
    const bool low = !options_.not_sent_low_water || unsent_.size() < options_.not_sent_low_water;
    if (no_space_ && low && queued + queued / 2 <= static_cast<size_t>(send_buffer_)) {
      no_space_ = false;
      Events(EPOLLOUT | EPOLLWRNORM);
    }
  } else if (window_ > window_before) {
    probes_ = 0;
  }
  return true;
}

void TcpEndpoint::AfterAck(const TcpHeader& header, const AckResult& result, bool duplicate, int64_t now_ns) {
  if (tlp_out_ && !Before(una_, tlp_end_)) tlp_out_ = false;
  if (result.advanced)
    duplicate_acks_ = 0;
  else if (duplicate)
    ++duplicate_acks_;
  if (result.advanced && (recovery_ == Recovery::kRecovery || recovery_ == Recovery::kLoss) && MayUndo(header))
    UndoRecovery();

  if (has_sack_) {
    DetectLosses(now_ns);
  } else if (recovery_ != Recovery::kLoss && !sent_.empty()) {
    // NewReno (RFC 6582): three duplicates, then each partial acknowledgement shows the next hole.
    const bool partial = recovery_ == Recovery::kRecovery && result.advanced && Before(una_, recovery_point_);
    if ((duplicate_acks_ >= kDuplicateThreshold && recovery_ != Recovery::kRecovery) || partial)
      MarkLost(sent_.front());
  }

  if ((recovery_ == Recovery::kRecovery || recovery_ == Recovery::kLoss) && !Before(una_, recovery_point_)) {
    if (recovery_ == Recovery::kRecovery) congestion_.set_cwnd(congestion_.ssthresh());
    congestion_.OnRecovered();
    recovery_ = Recovery::kOpen;
    may_undo_ = false;
  }
  if (recovery_ != Recovery::kRecovery && recovery_ != Recovery::kLoss) {
    if (lost_count_) {
      EnterRecovery();
      Count(stack().statistics().tcp.fast_retransmits);
    } else {
      recovery_ = sacked_count_ || duplicate_acks_ ? Recovery::kDisorder : Recovery::kOpen;
    }
  }
  if (recovery_ == Recovery::kRecovery) {
    // Proportional rate reduction.
    prr_delivered_ += result.delivered + (!has_sack_ && duplicate ? 1 : 0);
    const uint32_t pipe = InFlight(), threshold = congestion_.ssthresh();
    uint32_t count;
    if (pipe > threshold) {
      const uint64_t due = (uint64_t{prr_delivered_} * threshold + prr_flight_ - 1) / prr_flight_;
      count = due > prr_out_ ? static_cast<uint32_t>(due - prr_out_) : 0;
    } else {
      const uint32_t limit = std::max(prr_delivered_ > prr_out_ ? prr_delivered_ - prr_out_ : 0, result.delivered) + 1;
      count = std::min(threshold - pipe, limit);
    }
    if (prr_out_ == 0) count = std::max(count, 1u);
    congestion_.set_cwnd(pipe + count);
  } else if (result.advanced && result.acked) {
    // Only a window that was used may grow (RFC 7661).
    if (cwnd_limited_ || congestion_.cwnd() < 2 * (InFlight() + result.acked))
      congestion_.OnAck(result.delivered ? result.delivered : result.acked, now_ns, srtt_ns_);
  }
}

void TcpEndpoint::OnFinAcked() {
  switch (state_) {
    case TcpState::kFinWait1:
      SetState(TcpState::kFinWait2);
      send_shutdown_ = true;
      if (orphan_) {
        if (options_.linger2 < 0) {
          SendReset();
          EnterClosed();
          return;
        }
        const int seconds = options_.linger2 ? options_.linger2 : stack().settings().tcp_fin_timeout.load();
        end_at_ = stack().NowNs() + seconds * base::kNsPerSecond;
      }
      Events(EPOLLOUT | EPOLLWRNORM);
      break;
    case TcpState::kClosing:
      EnterTimeWait();
      break;
    case TcpState::kLastAck:
      receive_shutdown_ = send_shutdown_ = true;
      EnterClosed();
      Events(EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM | EPOLLHUP | EPOLLRDHUP);
      break;
    default:
      break;
  }
}

}  // namespace sentry::net
