// SPDX-License-Identifier: Apache-2.0
#include "runsc/cmd/entry_points.h"
#include "sentry/boot/boot.h"

namespace runsc {

int BootEntryPoint(BootArgs args) { return sentry::BootMain(std::move(args)); }

}  // namespace runsc
