// SPDX-License-Identifier: Apache-2.0
// Congestion control: NewReno (RFC 5681, RFC 6582) and CUBIC (RFC 9438), in segments. Of one connection, under its
// lock.
#ifndef SENTRY_NET_TCP_CONGESTION_H_
#define SENTRY_NET_TCP_CONGESTION_H_

#include <cstdint>

namespace sentry::net {

class Congestion {
 public:
  static constexpr uint32_t kInitialWindow = 10;  // RFC 6928
  static constexpr uint32_t kInfinite = 0x7fffffff;

  bool is_reno() const { return reno_; }
  void set_reno(bool reno) { reno_ = reno; }
  uint32_t cwnd() const { return cwnd_; }
  uint32_t ssthresh() const { return ssthresh_; }
  void set_cwnd(uint32_t cwnd) { cwnd_ = cwnd < 1 ? 1 : cwnd > kMaxWindow ? kMaxWindow : cwnd; }
  void set_limit(uint32_t limit) { limit_ = limit; }
  bool InSlowStart() const { return cwnd_ < ssthresh_; }
  // `acked` segments left the network in order while the window was in use.
  void OnAck(uint32_t acked, int64_t now_ns, int64_t srtt_ns);
  // A loss: a new threshold. The caller reduces the window over the recovery.
  void OnLoss();
  // After a time-out.
  void OnTimeout() {
    OnLoss();
    cwnd_ = 1;
    count_ = 0;
  }
  void OnRecovered() {
    if (cwnd_ > ssthresh_) cwnd_ = ssthresh_;
    count_ = 0;
  }
  // What was taken for a loss was none: back to before.
  void Undo() {
    if (prior_cwnd_ > cwnd_) cwnd_ = prior_cwnd_;
    if (prior_ssthresh_ > ssthresh_) ssthresh_ = prior_ssthresh_;
  }
  // After idling for longer than the retransmission time-out (RFC 2861).
  void OnIdle(int64_t idle_ns, int64_t rto_ns);

 private:
  static constexpr uint32_t kMaxWindow = 1 << 20;
  uint32_t CubicTarget(int64_t now_ns, int64_t srtt_ns);

  bool reno_ = false;
  uint32_t cwnd_ = kInitialWindow, ssthresh_ = kInfinite, limit_ = kMaxWindow;
  uint32_t count_ = 0;  // segments acknowledged towards the next growth
  uint32_t prior_cwnd_ = 0, prior_ssthresh_ = 0;
  // CUBIC.
  double w_max_ = 0, w_est_ = 0, k_ = 0, origin_ = 0;
  int64_t epoch_ns_ = 0;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_TCP_CONGESTION_H_
