// SPDX-License-Identifier: Apache-2.0
// Detached threads with small stacks, and waiting.
#ifndef SHIM_THREAD_H_
#define SHIM_THREAD_H_

#include <functional>

namespace shim {

// False when the host has no thread to give.
bool StartThread(std::function<void()> run);
// Sleeps that long: only before a failed host call is tried again.
void Pause(int milliseconds);

}  // namespace shim

#endif  // SHIM_THREAD_H_
