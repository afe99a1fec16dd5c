// SPDX-License-Identifier: Apache-2.0
// The seccomp filters of stub processes. Each thread has all that its makers had before it, and the strictest verdict
// counts: base (all), service (a stub's service thread and what it clones), guest (guest threads). All are position
// dependent: no call is allowed but from the stub's code page.
#ifndef PLATFORM_SYSTRAP_FILTERS_H_
#define PLATFORM_SYSTRAP_FILTERS_H_

#include <linux/filter.h>

#include <cstdint>
#include <vector>

namespace platform::systrap {

// Flags of the service thread's clone of a guest thread.
extern const uint64_t kCloneThreadFlags;

// `page`: the stub's code; `socket`: the zygote's end of its socket.
std::vector<sock_filter> BuildBaseFilter(uint64_t page, int socket);
// Turns SYS_NOTIFY into a notification.
std::vector<sock_filter> BuildServiceFilter();
// Sleep and wake, each from its one place and with fixed arguments; rseq(2) from its.
std::vector<sock_filter> BuildGuestFilter(uint64_t page);

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_FILTERS_H_
