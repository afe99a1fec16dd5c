// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/dev/host_entropy.h"

#include <errno.h>
#include <stdint.h>
#include <sys/random.h>

#include "base/log.h"

namespace sentry::fs {

void FillEntropy(void* to, size_t length) {
  auto* at = static_cast<uint8_t*>(to);
  while (length > 0) {
    ssize_t n = getrandom(at, length, 0);
    if (n < 0 && errno == EINTR) continue;
    CHECK_THAT(n > 0);
    at += n;
    length -= static_cast<size_t>(n);
  }
}

}  // namespace sentry::fs
