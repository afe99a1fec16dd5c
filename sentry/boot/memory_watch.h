// SPDX-License-Identifier: Apache-2.0
// The sandbox's out-of-memory killer.
#ifndef SENTRY_BOOT_MEMORY_WATCH_H_
#define SENTRY_BOOT_MEMORY_WATCH_H_

#include <cstdint>
#include <functional>
#include <string>

namespace sentry {

// Starts a thread that compares the guests' memory with the limit and kills (SIGKILL) the process that uses most
// when it is exceeded, so that the sandbox lives on and the host never runs short. Guests fault pages in without the
// sentry, so it has to look, often when little is left, seldom otherwise; it sleeps while guests have not even reserved
// as much as the limit.
void StartMemoryWatch();
// Bytes; until the first call there is no limit. Thread-safe.
void SetMemoryWatchLimit(uint64_t limit);
// Called from the watch's thread after each kill. Once, before the watch is started.
void OnOomKill(std::function<void(const std::string& container_id)> callback);

}  // namespace sentry

#endif  // SENTRY_BOOT_MEMORY_WATCH_H_
