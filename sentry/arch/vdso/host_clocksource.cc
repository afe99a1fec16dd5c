// SPDX-License-Identifier: Apache-2.0
// Reads sysfs once, before confinement.
#include "sentry/arch/vdso/host_clocksource.h"

#include <fcntl.h>

#include <string_view>

#include "base/unique_fd.h"

namespace sentry::arch {

bool HostClockIsTsc() {
  base::UniqueFd fd(open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC));
  if (!fd) return false;
  char text[32];
  ssize_t n = read(fd.get(), text, sizeof text);
  if (n <= 0) return false;
  std::string_view name(text, n);
  return name == "tsc\n" || name == "kvm-clock\n";
}

}  // namespace sentry::arch
