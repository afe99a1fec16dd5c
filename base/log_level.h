// SPDX-License-Identifier: Apache-2.0
// Changes what a process logs while it runs; apart from log.h, which nearly all include.
#ifndef BASE_LOG_LEVEL_H_
#define BASE_LOG_LEVEL_H_

#include "base/log.h"

namespace base {

// Thread-safe.
void SetLogLevel(LogLevel minimum);

}  // namespace base

#endif  // BASE_LOG_LEVEL_H_
