// SPDX-License-Identifier: Apache-2.0
// Resource limits (getrlimit(2)) and usage sums.
#include <algorithm>

#include "sentry/kernel/core/tunables.h"
#include "sentry/kernel/thread_group.h"

namespace sentry::kernel {
namespace {

constexpr uint64_t kInfinity = RLIM64_INFINITY;

struct Default {
  int resource;
  uint64_t soft, hard;
};

constexpr Default kDefaults[] = {
    {RLIMIT_STACK, 8 << 20, kInfinity},
    {RLIMIT_CORE, 0, kInfinity},
    {RLIMIT_NOFILE, 1024, 1 << 20},
    {RLIMIT_MEMLOCK, 8 << 20, 8 << 20},
    {RLIMIT_SIGPENDING, 31000, 31000},
    {RLIMIT_MSGQUEUE, 819200, 819200},
    {RLIMIT_NICE, 0, 0},
    {RLIMIT_RTPRIO, 0, 0},
};

}  // namespace

Limits::Limits() {
  for (int i = 0; i < RLIM_NLIMITS; ++i) {
    soft_[i].store(kInfinity, std::memory_order_relaxed);
    hard_[i].store(kInfinity, std::memory_order_relaxed);
  }
  for (const Default& d : kDefaults) {
    soft_[d.resource].store(d.soft, std::memory_order_relaxed);
    hard_[d.resource].store(d.hard, std::memory_order_relaxed);
  }
}

rlimit64 Limits::Get(int resource) const {
  if (resource < 0 || resource >= RLIM_NLIMITS) return {};
  return {.rlim_cur = soft_[resource].load(std::memory_order_relaxed),
          .rlim_max = hard_[resource].load(std::memory_order_relaxed)};
}

Result<void> Limits::Set(int resource, const rlimit64& limit, bool may_raise_hard) {
  if (resource < 0 || resource >= RLIM_NLIMITS || limit.rlim_cur > limit.rlim_max) return Errno(EINVAL);
  if (resource == RLIMIT_NOFILE && limit.rlim_max > static_cast<uint64_t>(tunables::nr_open.Get())) return Errno(EPERM);
  if (limit.rlim_max > hard_[resource].load(std::memory_order_relaxed) && !may_raise_hard) return Errno(EPERM);
  hard_[resource].store(limit.rlim_max, std::memory_order_relaxed);
  soft_[resource].store(limit.rlim_cur, std::memory_order_relaxed);
  return OkResult();
}

void Limits::CopyFrom(const Limits& other) {
  for (int i = 0; i < RLIM_NLIMITS; ++i) {
    hard_[i].store(other.hard_[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
    soft_[i].store(other.soft_[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
}

CpuUsage& CpuUsage::operator+=(const CpuUsage& other) {
  user_ns += other.user_ns;
  system_ns += other.system_ns;
  minor_faults += other.minor_faults;
  major_faults += other.major_faults;
  voluntary_switches += other.voluntary_switches;
  involuntary_switches += other.involuntary_switches;
  max_rss_kb = std::max(max_rss_kb, other.max_rss_kb);
  read_chars += other.read_chars;
  written_chars += other.written_chars;
  read_calls += other.read_calls;
  write_calls += other.write_calls;
  return *this;
}

}  // namespace sentry::kernel
