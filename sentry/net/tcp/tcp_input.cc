// SPDX-License-Identifier: Apache-2.0
// Segments in (RFC 9293, 3.10.7; RFC 5961; RFC 7323).
#include <errno.h>

#include <algorithm>

#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {
namespace {

// Answers to what is out of place, per connection.
constexpr int64_t kChallengeIntervalNs = 500 * kNsPerMs;
// How long a timestamp is remembered (RFC 7323, 5.5).
constexpr int64_t kTimestampValidNs = int64_t{24} * 24 * 3600 * base::kNsPerSecond;

}  // namespace

void TcpEndpoint::OnSegment(PacketPtr packet, const TcpHeader& header) {
  RefPtr<TcpEndpoint> self(this);
  Section section(mu_);
  switch (state_) {
    case TcpState::kClosed:
      if (!header.Has(kTcpRst)) stack().tcp().SendReset(*packet, header);
      return;
    case TcpState::kListen:
      ListenSegment(std::move(packet), header);
      return;
    case TcpState::kSynSent:
      SynSentSegment(*packet, header);
      ArmTimers();
      return;
    default:
      break;
  }
  ++segments_in_;
  const auto length = static_cast<uint32_t>(packet->size() - header.header_size);
  const bool fin = header.Has(kTcpFin);
  if (state_ == TcpState::kSynReceived && header.Has(kTcpSyn) && !header.Has(kTcpRst) && header.seq == irs_) {
    // The SYN again: our answer was lost. With an ACK it is the end of a simultaneous open.
    if (!header.Has(kTcpAck)) {
      SendSyn(kTcpSyn | kTcpAck);
      return;
    }
  } else if (!Validate(*packet, header, length)) {
    return;
  }
  if (!header.Has(kTcpAck)) return;
  if (state_ == TcpState::kSynReceived) {
    if (!After(header.ack, una_) || After(header.ack, next_)) {
      stack().tcp().SendReset(*packet, header);
      return;
    }
    if (!CompleteHandshake(header, length)) return;
  }
  if (!OnAck(header, length)) return;
  if (state_ == TcpState::kClosed) return;
  if (has_timestamps_ && header.has_timestamp && !After(header.seq, receive_wup_) &&
      !Before(header.timestamp, timestamp_recent_)) {
    timestamp_recent_ = header.timestamp;
    timestamp_recent_ns_ = stack().NowNs();
  }
  if (header.Has(kTcpUrg) && header.urgent && CanReceive()) {
    const uint32_t end = header.seq + header.urgent;
    const uint32_t at = end - 1 - header.seq;
    packet->Consume(header.header_size);
    if (!urgent_in_ || After(end, *urgent_in_ + 1)) {
      urgent_in_ = end - 1;
      has_urgent_byte_ = false;
    }
    if (at < length && !options_.oob_inline) {
      Buffer all = packet->TakePayload();
      Buffer byte = all.Share(at, 1);
      byte.CopyTo(0, &urgent_byte_, 1);
      has_urgent_byte_ = true;
      Events(0x2 | 0x1);  // EPOLLPRI
      ReceiveData(std::move(all), header.seq, fin);
    } else {
      if (at < length) has_urgent_byte_ = true;
      Events(0x2);
      if (length || fin) ReceiveData(packet->TakePayload(), header.seq, fin);
    }
  } else if (length || fin) {
    packet->Consume(header.header_size);
    pushed_ |= header.Has(kTcpPsh);
    if (CanReceive()) {
      // Nobody will read it any more: the peer must know (RFC 9293, 3.10.4).
      if (orphan_ && length && After(header.seq + length, receive_next_)) {
        Count(stack().statistics().tcp.abort_on_data);
        SendReset();
        EnterClosed();
        return;
      }
      ReceiveData(packet->TakePayload(), header.seq, fin);
    }
  }
  if (state_ == TcpState::kClosed) return;
  Push();
  ArmTimers();
}

void TcpEndpoint::ChallengeAck() {
  const int64_t now = stack().NowNs();
  if (last_challenge_ns_ && now - last_challenge_ns_ < kChallengeIntervalNs) return;
  last_challenge_ns_ = now;
  Count(stack().statistics().tcp.challenge_acks);
  SendAck();
}

bool TcpEndpoint::Validate(const Packet& packet, const TcpHeader& header, uint32_t length) {
  const int64_t now = stack().NowNs();
  const bool data = length > 0 || header.Has(kTcpSyn | kTcpFin);
  const auto answer = [&] {
    // Pure ACKs out of place could otherwise bounce between two hosts for ever.
    if (data)
      SendAck();
    else
      ChallengeAck();
    ArmTimers();
  };
  // PAWS (RFC 7323, 5.3).
  if (has_timestamps_ && header.has_timestamp && !header.Has(kTcpRst) && Before(header.timestamp, timestamp_recent_) &&
      now - timestamp_recent_ns_ < kTimestampValidNs) {
    Count(stack().statistics().tcp.paws_rejected);
    // Only what was received before may be reported: a report of anything else would be taken for its receipt.
    if (length && Before(header.seq, receive_next_)) {
      const uint32_t data_end = header.seq + length;
      duplicate_ = SackBlock{header.seq, After(data_end, receive_next_) ? receive_next_ : data_end};
    }
    answer();
    return false;
  }
  const uint32_t window = receive_wup_ + receive_window_ - receive_next_;
  const uint32_t end = header.seq + length + (header.Has(kTcpFin) ? 1 : 0) + (header.Has(kTcpSyn) ? 1 : 0);
  const uint32_t right = receive_next_ + (static_cast<int32_t>(window) > 0 ? window : 0);
  if (Before(end, receive_wup_) || After(header.seq, right)) {
    if (header.Has(kTcpRst)) return false;
    if (header.Has(kTcpSyn)) {
      ChallengeAck();
      return false;
    }
    if (length && !After(end, receive_next_)) duplicate_ = SackBlock{header.seq, end};
    answer();
    return false;
  }
  if (header.Has(kTcpRst)) {
    // RFC 5961, 3.2: only the very next number ends the connection.
    if (header.seq != receive_next_) {
      ChallengeAck();
      return false;
    }
    TcpStatistics& stats = stack().statistics().tcp;
    int error = ECONNRESET;
    if (state_ == TcpState::kCloseWait) error = EPIPE;
    if (state_ == TcpState::kSynReceived) {
      error = ECONNREFUSED;
      Count(stats.attempt_fails);
    } else if (state_ == TcpState::kEstablished || state_ == TcpState::kCloseWait) {
      Count(stats.established_resets);
    }
    Fail(error);
    return false;
  }
  if (header.Has(kTcpSyn)) {
    ChallengeAck();
    return false;
  }
  return true;
}

void TcpEndpoint::SynOptions(const TcpHeader& header) {
  const Settings& settings = stack().settings();
  constexpr uint32_t kMinMss = 88;
  mss_ = std::max<uint32_t>(header.has_mss && header.mss ? header.mss : 536, kMinMss);
  has_timestamps_ = header.has_timestamp && settings.tcp_timestamps;
  if (has_timestamps_) {
    timestamp_recent_ = header.timestamp;
    timestamp_recent_ns_ = stack().NowNs();
  }
  has_sack_ = header.sack_permitted && settings.tcp_sack;
  has_scaling_ = header.has_window_scale && settings.tcp_window_scaling;
  send_scale_ = has_scaling_ ? header.window_scale : 0;
  // Ours was chosen with the first SYN, if that was ours.
  if (!has_scaling_)
    receive_scale_ = 0;
  else if (state_ == TcpState::kClosed)
    receive_scale_ = 1;  // a child: SendSyn chooses
}

void TcpEndpoint::SynSentSegment(Packet& packet, const TcpHeader& header) {
  const bool ack = header.Has(kTcpAck);
  if (ack && (!After(header.ack, iss_) || After(header.ack, next_))) {
    if (!header.Has(kTcpRst)) stack().tcp().SendReset(packet, header);
    return;
  }
  if (header.Has(kTcpRst)) {
    if (!ack) return;
    Count(stack().statistics().tcp.attempt_fails);
    Fail(ECONNREFUSED);
    return;
  }
  if (!header.Has(kTcpSyn)) return;
  ++segments_in_;
  irs_ = header.seq;
  receive_next_ = receive_wup_ = copied_ = header.seq + 1;
  // The window that our SYN offered counts from here.
  receive_window_ = std::min<uint32_t>(receive_window_, 65535);
  SynOptions(header);
  window_ = header.window;
  max_window_ = window_;
  window_seq_ = header.seq;
  window_ack_ = header.ack;
  if (!ack) {
    // Simultaneous open.
    SetState(TcpState::kSynReceived);
    next_ = iss_;
    SendSyn(kTcpSyn | kTcpAck);
    return;
  }
  const int64_t now = stack().NowNs();
  if (!sent_.empty() && !sent_.front().ever_resent) SampleRtt(now - sent_.front().sent_ns);
  sent_.clear();
  una_ = header.ack;
  Established();
  SendAck();
  Push();
}

}  // namespace sentry::net
