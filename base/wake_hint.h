// SPDX-License-Identifier: Apache-2.0
// Where wake-ups between guest threads come from, for whoever places threads on CPUs. Numbers are the platform's, plus
// 1; 0: not known.
#ifndef BASE_WAKE_HINT_H_
#define BASE_WAKE_HINT_H_

#include <cstdint>

namespace base {

// Of the calling thread's guest.
inline thread_local uint32_t wake_hint = 0;
// Of the thread that ended the calling thread's last sleep, as it was then.
inline thread_local uint32_t waker_hint = 0;

}  // namespace base

#endif  // BASE_WAKE_HINT_H_
