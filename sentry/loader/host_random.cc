// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <sys/random.h>

#include "base/log.h"
#include "sentry/loader/loader.h"

namespace sentry::loader {

void FillRandom(void* to, size_t size) {
  auto* at = static_cast<uint8_t*>(to);
  while (size > 0) {
    ssize_t n = getrandom(at, size, 0);
    if (n < 0 && errno == EINTR) continue;
    CHECK_THAT(n > 0);
    at += n;
    size -= n;
  }
}

}  // namespace sentry::loader
