// SPDX-License-Identifier: Apache-2.0
#include "sentry/arch/vdso/vdso_image.h"

namespace sentry::arch {

const uint8_t kVdsoImage[] = {
#include "sentry/arch/vdso/vdso_image.inc"
};
const size_t kVdsoImageSize = sizeof kVdsoImage;

}  // namespace sentry::arch
