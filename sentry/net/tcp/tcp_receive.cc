// SPDX-License-Identifier: Apache-2.0
// Data in: order, windows, acknowledgements (RFC 9293 3.8.6, RFC 5681 4.2, RFC 2018).
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include <algorithm>

#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {
namespace {

constexpr int64_t kAckDelayNs = 40 * kNsPerMs;
// A piece of data that joins others in a block of our own, and such a block.
constexpr size_t kSmallPiece = 1024, kTailBlock = 8192;
constexpr size_t kPieceOverhead = 64;

}  // namespace

size_t TcpEndpoint::ReceiveSpace() const {
  // Half of the buffer is for what blocks cost beside their data (tcp_adv_win_scale = 1).
  const size_t full = static_cast<size_t>(receive_buffer_) / 2;
  const size_t used = received_.size() + out_of_order_bytes_;
  return full > used ? full - used : 0;
}

uint32_t TcpEndpoint::SelectWindow() {
  const size_t full = static_cast<size_t>(receive_buffer_) / 2;
  size_t space = ReceiveSpace();
  if (space < full / 16 || space < std::min<size_t>(receive_mss_, full)) space = 0;
  if (options_.window_clamp) space = std::min<size_t>(space, static_cast<size_t>(options_.window_clamp));
  space = std::min<size_t>(space, size_t{65535} << receive_scale_);
  const uint32_t unit = 1u << receive_scale_;
  uint32_t window = static_cast<uint32_t>(space) & ~(unit - 1);
  // The right edge never moves back (RFC 9293, 3.8.6).
  const auto current = static_cast<int32_t>(receive_wup_ + receive_window_ - receive_next_);
  if (current > 0 && window < static_cast<uint32_t>(current))
    window = (static_cast<uint32_t>(current) + unit - 1) & ~(unit - 1);
  return window;
}

void TcpEndpoint::QueueInOrder(Buffer data) {
  const size_t length = data.size();
  receive_next_ += static_cast<uint32_t>(length);
  bytes_received_ += length;
  if (receive_shutdown_) {
    copied_ += static_cast<uint32_t>(length);  // nobody reads: as if read
    return;
  }
  if (length > kSmallPiece || received_.empty()) {
    received_.Append(std::move(data));
    return;
  }
  // Many small pieces would keep as many of the sender's blocks alive.
  if (!tail_ || received_.TailBlock() != tail_ || received_.TailRoom() < length) {
    tail_ = Block::New(kTailBlock);
    if (!tail_) {
      received_.Append(std::move(data));
      return;
    }
  }
  data.CopyTo(0, tail_->data() + tail_->used(), length);
  received_.AppendWritten(tail_, length);
}

void TcpEndpoint::ReceiveData(Buffer data, uint32_t seq, bool fin) {
  TcpStatistics& stats = stack().statistics().tcp;
  const size_t length = data.size();
  uint32_t end = seq + static_cast<uint32_t>(length);
  if (length) ++data_segments_in_;
  MeasureReceiveMss(length);
  // What was there already.
  if (Before(seq, receive_next_)) {
    const uint32_t old = receive_next_ - seq;
    if (old > length || (old == length && !(fin && !fin_received_))) {
      Count(stats.duplicate_sacks);
      if (length) duplicate_ = SackBlock{seq, end};
      quick_acks_ = std::max(quick_acks_, 2);
      SendAck();
      return;
    }
    data.TrimFront(old);
    seq = receive_next_;
  }
  // What is beyond the window.
  const uint32_t right = receive_wup_ + receive_window_;
  if (After(end, right)) {
    fin = false;
    if (!After(right, seq)) {
      // A probe of a closed window.
      Count(stats.zero_window_drops);
      SendAck();
      return;
    }
    data.TrimTo(right - seq);
    end = right;
  }
  if (seq != receive_next_) {
    QueueOutOfOrder(std::move(data), seq, fin);
    SendAck();
    return;
  }
  const size_t received = data.size();
  if (received) QueueInOrder(std::move(data));
  last_data_receive_ns_ = stack().NowNs();
  const bool had_gap = !out_of_order_.empty();
  if (had_gap) DrainOutOfOrder();
  if (fin && !fin_received_) {
    OnFin();
    return;
  }
  if (state_ == TcpState::kClosed || fin_received_) return;
  if (received) {
    if (received_.size() >= static_cast<size_t>(std::max(options_.receive_low_water, 1)))
      Events((EPOLLIN | EPOLLRDNORM));
    if (had_gap)
      SendAck();
    else
      ScheduleAck(received);
  }
}

void TcpEndpoint::QueueOutOfOrder(Buffer data, uint32_t seq, bool fin) {
  TcpStatistics& stats = stack().statistics().tcp;
  uint32_t end = seq + static_cast<uint32_t>(data.size());
  if (data.empty() && !fin) return;
  const size_t charge = data.truesize() + kPieceOverhead;
  if (out_of_order_charge_ + charge > static_cast<size_t>(receive_buffer_)) return Count(stats.out_of_order_dropped);
  last_out_of_order_ = seq;
  // The first piece that ends after `seq`: all before it are disjoint.
  auto it = std::lower_bound(out_of_order_.begin(), out_of_order_.end(), seq,
                             [](const OutOfOrder& piece, uint32_t s) { return Before(piece.end, s); });
  // Cut off what is there already; later pieces that this one covers go.
  if (it != out_of_order_.end() && !After(it->seq, seq)) {
    if (!After(end, it->end) && !(fin && !it->fin && end == it->end)) {
      duplicate_ = SackBlock{seq, end};
      return;
    }
    if (After(it->end, seq)) {
      duplicate_ = SackBlock{seq, it->end};
      data.TrimFront(it->end - seq);
      seq = it->end;
    }
    // Adjacent now: it grows.
    const size_t grown = data.size();
    it->data.Append(std::move(data));
    it->end = end;
    it->fin |= fin;
    out_of_order_bytes_ += grown;
    out_of_order_charge_ += charge;
  } else {
    out_of_order_bytes_ += data.size();
    out_of_order_charge_ += charge;
    it = out_of_order_.insert(it, OutOfOrder{seq, end, std::move(data), fin});
  }
  Count(stats.out_of_order_queued);
  // Joins with what follows.
  while (std::next(it) != out_of_order_.end() && !After(std::next(it)->seq, it->end)) {
    OutOfOrder& following = *std::next(it);
    const uint32_t overlap = it->end - following.seq;
    if (overlap) duplicate_ = SackBlock{following.seq, After(it->end, following.end) ? following.end : it->end};
    if (After(following.end, it->end)) {
      following.data.TrimFront(overlap);
      it->data.Append(std::move(following.data));
      it->end = following.end;
    }
    out_of_order_bytes_ -= std::min<size_t>(overlap, following.end - following.seq);
    it->fin |= following.fin;
    out_of_order_.erase(std::next(it));
  }
}

void TcpEndpoint::DrainOutOfOrder() {
  while (!out_of_order_.empty() && !After(out_of_order_.front().seq, receive_next_)) {
    OutOfOrder piece = std::move(out_of_order_.front());
    out_of_order_.erase(out_of_order_.begin());
    out_of_order_bytes_ -= std::min(out_of_order_bytes_, piece.data.size());
    if (After(piece.end, receive_next_)) {
      piece.data.TrimFront(receive_next_ - piece.seq);
      QueueInOrder(std::move(piece.data));
    }
    if (piece.fin && receive_next_ == piece.end) {
      out_of_order_.clear();
      OnFin();
    }
  }
  if (out_of_order_.empty()) out_of_order_bytes_ = out_of_order_charge_ = 0;
}

void TcpEndpoint::OnFin() {
  fin_received_ = true;
  ++receive_next_;
  receive_shutdown_ = true;
  out_of_order_.clear();
  out_of_order_bytes_ = out_of_order_charge_ = 0;
  switch (state_) {
    case TcpState::kEstablished:
      SetState(TcpState::kCloseWait);
      SendAck();
      break;
    case TcpState::kFinWait1:
      SetState(TcpState::kClosing);
      SendAck();
      break;
    case TcpState::kFinWait2:
      SendAck();
      EnterTimeWait();
      return;
    default:
      return;
  }
  Events((EPOLLIN | EPOLLRDNORM) | EPOLLRDHUP | EPOLLOUT | EPOLLWRNORM | (send_shutdown_ ? EPOLLHUP : 0u));
}

// The peer's segment size, for what "two full segments" means.
void TcpEndpoint::MeasureReceiveMss(size_t length) {
  if (length >= receive_mss_ || length >= 536)
    receive_mss_ =
        static_cast<uint32_t>(std::min<size_t>(std::max<size_t>(length, 536), EffectiveMss() + kTimestampOption));
}

void TcpEndpoint::ScheduleAck(size_t received) {
  ack_pending_ = true;
  const uint32_t unacknowledged = receive_next_ - receive_wup_;
  const bool two_segments = unacknowledged > receive_mss_ && SelectWindow() >= receive_window_ - unacknowledged;
  if (two_segments || (quick_acks_ > 0 && !interactive_)) {
    SendAck();
    return;
  }
  if (ack_at_ == kNoDeadline) {
    ack_at_ = stack().NowNs() + kAckDelayNs;
    Count(stack().statistics().tcp.delayed_acks);
  }
}

int TcpEndpoint::FillSacks(SackBlock* blocks, int max) {
  int count = 0;
  if (duplicate_) {
    blocks[count++] = *duplicate_;  // RFC 2883
    duplicate_.reset();
  }
  if (out_of_order_.empty()) return count;
  // The block of the latest segment first, then the others from the highest down.
  auto latest = std::lower_bound(out_of_order_.begin(), out_of_order_.end(), last_out_of_order_,
                                 [](const OutOfOrder& piece, uint32_t s) { return !After(piece.end, s); });
  if (latest == out_of_order_.end()) --latest;
  const auto index = latest - out_of_order_.begin();
  if (count < max) blocks[count++] = {latest->seq, latest->end};
  for (ptrdiff_t i = static_cast<ptrdiff_t>(out_of_order_.size()) - 1; i >= 0 && count < max; --i) {
    if (i != index)
      blocks[count++] = {out_of_order_[static_cast<size_t>(i)].seq, out_of_order_[static_cast<size_t>(i)].end};
  }
  return count;
}

void TcpEndpoint::Consume(size_t n) {
  Buffer freed;
  Section section(mu_);
  freed = received_.TakeFront(n);
  const size_t taken = freed.size();
  copied_ += static_cast<uint32_t>(taken);
  if (received_.empty()) tail_ = nullptr;
  if (urgent_in_ && After(copied_, *urgent_in_)) {
    urgent_in_.reset();
    has_urgent_byte_ = false;
  }
  if (state_ == TcpState::kClosed || taken == 0 || receive_shutdown_) return;
  TuneReceiveBuffer();
  bool now =
      ack_pending_ && (receive_next_ - receive_wup_ > receive_mss_ || (pushed_ && !interactive_ && received_.empty()));
  if (!now) {
    const auto offered = static_cast<int32_t>(receive_wup_ + receive_window_ - receive_next_);
    const uint32_t current = offered > 0 ? static_cast<uint32_t>(offered) : 0;
    const uint32_t window = SelectWindow();
    now = window && window >= 2 * current;
  }
  if (now) {
    SendAck();
    ArmTimers();
  }
}

// Dynamic right-sizing: twice what the application takes in a round trip.
void TcpEndpoint::TuneReceiveBuffer() {
  if (options_.receive_buffer) return;
  const int64_t now = stack().NowNs();
  const int64_t round_trip = std::max<int64_t>(srtt_ns_, 50'000);
  if (now - tune_ns_ < round_trip) return;
  const size_t copied = copied_ - tune_seq_;
  if (copied > tune_space_) {
    const size_t wanted = 2 * (2 * copied + 16 * static_cast<size_t>(EffectiveMss()));
    const auto limit = static_cast<size_t>(stack().settings().tcp_receive_max);
    receive_buffer_ = static_cast<int>(std::clamp<size_t>(
        wanted, static_cast<size_t>(receive_buffer_), std::max<size_t>(limit, static_cast<size_t>(receive_buffer_))));
    tune_space_ = copied;
  }
  tune_seq_ = copied_;
  tune_ns_ = now;
}

// --- Urgent data (RFC 6093 discourages it; telnet and ftp have it).

Result<uint8_t> TcpEndpoint::TakeUrgent(bool peek) {
  MutexLock lock(mu_);
  if (options_.oob_inline || !urgent_in_) return Errno(EINVAL);
  if (state_ == TcpState::kClosed && !ever_connected_) return Errno(ENOTCONN);
  if (!has_urgent_byte_) return Errno(EAGAIN);
  if (!peek) has_urgent_byte_ = false;
  return urgent_byte_;
}

bool TcpEndpoint::AtMark() const {
  MutexLock lock(mu_);
  return urgent_in_ && *urgent_in_ == copied_;
}

}  // namespace sentry::net
