// SPDX-License-Identifier: Apache-2.0
// The linked vdso_guest.c, as bytes.
#ifndef SENTRY_ARCH_VDSO_VDSO_IMAGE_H_
#define SENTRY_ARCH_VDSO_VDSO_IMAGE_H_

#include <cstddef>
#include <cstdint>

namespace sentry::arch {
extern const uint8_t kVdsoImage[];
extern const size_t kVdsoImageSize;
}  // namespace sentry::arch

#endif  // SENTRY_ARCH_VDSO_VDSO_IMAGE_H_
