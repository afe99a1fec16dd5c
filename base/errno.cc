// SPDX-License-Identifier: Apache-2.0
#include "base/errno.h"

#include <string.h>

namespace base {

const char* Errno::Name() const {
  switch (number_) {
    case 0:
      return "OK";
    case 512:
      return "ERESTARTSYS";
    case 513:
      return "ERESTARTNOINTR";
    case 514:
      return "ERESTARTNOHAND";
    case 516:
      return "ERESTART_RESTARTBLOCK";
  }
  const char* name = strerrorname_np(number_);
  return name ? name : "EUNKNOWN";
}

}  // namespace base
