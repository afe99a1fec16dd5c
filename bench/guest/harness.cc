// SPDX-License-Identifier: Apache-2.0
#include "bench/guest/harness.h"

#include <algorithm>

namespace bench {

double Measurement::Time(uint64_t n, const std::function<void(uint64_t)>& prepare,
                         const std::function<void(uint64_t)>& batch) {
  if (prepare) prepare(n);
  const int64_t start = NowNs();
  batch(n);
  const int64_t took = NowNs() - start;
  iterations_ += n;
  return static_cast<double>(took);
}

void Measurement::Run(const std::function<void(uint64_t)>& batch) { Run(nullptr, batch, UINT64_MAX); }

void Measurement::Run(const std::function<void(uint64_t)>& prepare, const std::function<void(uint64_t)>& batch,
                      uint64_t most) {
  if (budget_.iterations != 0) {
    uint64_t n = std::min(budget_.iterations, most);
    samples_.push_back(Time(n, prepare, batch) / static_cast<double>(n));
    return;
  }
  const int64_t end = NowNs() + budget_.total_ns;
  uint64_t n = 1;
  // Grows the batch to its least time; those were the warm-up, too.
  for (;;) {
    double took = Time(n, prepare, batch);
    if (took >= static_cast<double>(budget_.batch_ns) || n >= most || NowNs() >= end) {
      samples_.push_back(took / static_cast<double>(n));
      break;
    }
    double grow = static_cast<double>(budget_.batch_ns) / std::max(took, 1.0) * 1.2;
    n = std::min<uint64_t>(most, static_cast<uint64_t>(static_cast<double>(n) * std::clamp(grow, 1.5, 20.0)) + 1);
  }
  while (NowNs() < end) samples_.push_back(Time(n, prepare, batch) / static_cast<double>(n));
}

}  // namespace bench
