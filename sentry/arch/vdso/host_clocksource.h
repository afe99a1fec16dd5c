// SPDX-License-Identifier: Apache-2.0
#ifndef SENTRY_ARCH_VDSO_HOST_CLOCKSOURCE_H_
#define SENTRY_ARCH_VDSO_HOST_CLOCKSOURCE_H_

namespace sentry::arch {

// True if the host kernel itself keeps time by the TSC (or by the KVM clock, which is made of it). False when sysfs
// cannot be read.
bool HostClockIsTsc();

}  // namespace sentry::arch

#endif  // SENTRY_ARCH_VDSO_HOST_CLOCKSOURCE_H_
