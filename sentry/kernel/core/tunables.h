// SPDX-License-Identifier: Apache-2.0
// Settings below /proc/sys that a subsystem looks at, and counters that it shows there. One per sandbox; fs/proc reads
// and writes them (within [min, max], else EINVAL), their subsystem reads them where it needs them.
#ifndef SENTRY_KERNEL_CORE_TUNABLES_H_
#define SENTRY_KERNEL_CORE_TUNABLES_H_

#include <atomic>
#include <cstdint>

namespace sentry {

struct Tunable {
  std::atomic<int64_t> value;
  const int64_t min, max;
  int64_t Get() const { return value.load(std::memory_order_relaxed); }
  operator int64_t() const { return Get(); }  // NOLINT
};

namespace tunables {
inline constinit Tunable aio_max_nr{65536, 0, INT64_MAX};
inline constinit Tunable aio_nr{0, 0, INT64_MAX};  // requests that the contexts of all processes may hold
inline constinit Tunable fanotify_max_queued_events{16384, 0, INT32_MAX};
inline constinit Tunable fanotify_max_user_groups{128, 0, INT32_MAX};
inline constinit Tunable fanotify_max_user_marks{65536, 0, INT32_MAX};
inline constinit Tunable inotify_max_queued_events{16384, 0, INT32_MAX};
inline constinit Tunable inotify_max_user_instances{128, 0, INT32_MAX};
inline constinit Tunable inotify_max_user_watches{65536, 0, INT32_MAX};
inline constinit Tunable ip_unprivileged_port_start{1024, 0, 65536};  // of all network namespaces
inline constinit Tunable lease_break_time{45, 0, INT32_MAX};          // seconds
inline constinit Tunable leases_enable{1, 0, INT32_MAX};
inline constinit Tunable nr_open{1 << 20, 64, 1 << 24};           // the highest RLIMIT_NOFILE
inline constinit Tunable pipe_max_size{1 << 20, 4096, 64 << 20};  // bytes that an unprivileged pipe may hold
inline constinit Tunable unprivileged_userfaultfd{0, 0, 1};
}  // namespace tunables

}  // namespace sentry

#endif  // SENTRY_KERNEL_CORE_TUNABLES_H_
