// SPDX-License-Identifier: Apache-2.0
// The sandbox's out-of-memory killer.
#ifndef SENTRY_BOOT_MEMORY_WATCH_H_
#define SENTRY_BOOT_MEMORY_WATCH_H_

#include <cstdint>

namespace sentry {

// Starts a thread that compares the guests' memory with `limit` bytes and kills (SIGKILL) the process that uses most
// when it is exceeded, so that the sandbox lives on and the host never runs short. Guests fault pages in without the
// sentry, so it has to look: often when little is left, seldom otherwise.
void StartMemoryWatch(uint64_t limit);

}  // namespace sentry

#endif  // SENTRY_BOOT_MEMORY_WATCH_H_
