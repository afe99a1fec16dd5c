// SPDX-License-Identifier: Apache-2.0
// Random bytes from the host.
#ifndef SENTRY_FS_DEV_HOST_ENTROPY_H_
#define SENTRY_FS_DEV_HOST_ENTROPY_H_

#include <cstddef>

namespace sentry::fs {

// Fills all of it; getrandom(2), never blocks once the host has booted.
void FillEntropy(void* to, size_t length);

}  // namespace sentry::fs

#endif  // SENTRY_FS_DEV_HOST_ENTROPY_H_
