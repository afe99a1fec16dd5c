// SPDX-License-Identifier: Apache-2.0
// Copies that survive a fault on memory the sentry shares with hostile or truncatable files. InstallSafeCopyHandler()
// once per process, before the first copy; other SIGSEGV/SIGBUS stay fatal, with their address in the log. Thread-safe.
#ifndef PLATFORM_SAFE_COPY_H_
#define PLATFORM_SAFE_COPY_H_

#include <cstddef>
#include <cstdint>

namespace platform {

void InstallSafeCopyHandler();
// Bytes copied before a fault; `length` when there was none.
size_t SafeCopy(void* to, const void* from, size_t length);
size_t SafeZero(void* to, size_t length);
// Atomic 32-bit operations for futex words; false on a fault.
bool SafeLoad32(const uint32_t* from, uint32_t* value);
bool SafeCompareExchange32(uint32_t* at, uint32_t* expected, uint32_t desired, bool* exchanged);

}  // namespace platform

#endif  // PLATFORM_SAFE_COPY_H_
