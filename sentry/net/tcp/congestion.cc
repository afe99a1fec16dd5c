// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/tcp/congestion.h"

#include <math.h>

#include <algorithm>

#include "base/clock.h"

namespace sentry::net {
namespace {

constexpr double kBeta = 0.7, kC = 0.4;

}  // namespace

uint32_t Congestion::CubicTarget(int64_t now_ns, int64_t srtt_ns) {
  if (epoch_ns_ == 0) {
    epoch_ns_ = now_ns;
    w_est_ = cwnd_;
    if (cwnd_ < w_max_) {
      k_ = cbrt((w_max_ - cwnd_) / kC);
      origin_ = w_max_;
    } else {
      k_ = 0;
      origin_ = cwnd_;
    }
  }
  const double t = static_cast<double>(now_ns - epoch_ns_ + srtt_ns) / base::kNsPerSecond;
  const double target = origin_ + kC * (t - k_) * (t - k_) * (t - k_);
  return static_cast<uint32_t>(std::clamp<double>(target, cwnd_, cwnd_ * 1.5));
}

void Congestion::OnAck(uint32_t acked, int64_t now_ns, int64_t srtt_ns) {
  if (InSlowStart()) {
    const uint32_t grow = std::min(acked, ssthresh_ - cwnd_);
    cwnd_ = std::min(cwnd_ + grow, limit_);
    acked -= grow;
    if (acked == 0) return;
  }
  uint32_t per_step = cwnd_;  // segments for one more
  if (!reno_) {
    const uint32_t target = CubicTarget(now_ns, srtt_ns);
    per_step = target > cwnd_ ? cwnd_ / (target - cwnd_) : 100 * cwnd_;
    // The Reno-friendly region (RFC 9438, 4.3).
    constexpr double kAlpha = 3 * (1 - kBeta) / (1 + kBeta);
    w_est_ += kAlpha * acked / cwnd_;
    if (w_est_ > cwnd_) per_step = std::min(per_step, static_cast<uint32_t>(cwnd_ / (w_est_ - cwnd_)));
    per_step = std::max(per_step, 2u);
  }
  count_ += acked;
  while (count_ >= per_step) {
    count_ -= per_step;
    cwnd_ = std::min(cwnd_ + 1, limit_);
  }
}

void Congestion::OnLoss() {
  prior_cwnd_ = cwnd_;
  prior_ssthresh_ = ssthresh_;
  if (reno_) {
    ssthresh_ = std::max(cwnd_ / 2, 2u);
    return;
  }
  // Fast convergence: give room when the maximum shrinks.
  w_max_ = cwnd_ < w_max_ ? cwnd_ * (1 + kBeta) / 2 : cwnd_;
  epoch_ns_ = 0;
  ssthresh_ = std::max(static_cast<uint32_t>(cwnd_ * kBeta), 2u);
}

void Congestion::OnIdle(int64_t idle_ns, int64_t rto_ns) {
  const uint32_t restart = std::min(cwnd_, kInitialWindow);
  ssthresh_ = std::max(ssthresh_, cwnd_ * 3 / 4);
  while ((idle_ns -= rto_ns) > 0 && cwnd_ > restart) cwnd_ /= 2;
  cwnd_ = std::max(cwnd_, restart);
  epoch_ns_ = 0;
}

}  // namespace sentry::net
