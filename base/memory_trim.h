// SPDX-License-Identifier: Apache-2.0
#ifndef BASE_MEMORY_TRIM_H_
#define BASE_MEMORY_TRIM_H_

namespace base {

// Gives back what start-up needed and a waiting process does not: free heap, and the pages of the program's code and
// constants, which are still in the page cache and are mapped again as they are used (some microseconds each 64 KiB).
// Thread-safe.
void TrimMemory();

}  // namespace base

#endif  // BASE_MEMORY_TRIM_H_
