// SPDX-License-Identifier: Apache-2.0
// Options of the sanitizers' runtimes. They stand here and not in the environment because the sentry and the gofer are
// started with an empty one, and because a confined process can start no symbolizer: reports name offsets in the
// binary, which tools/dev/sanitize turns into lines.
#include "base/sanitizer.h"

#if defined(__SANITIZE_ADDRESS__)
extern "C" __attribute__((used, visibility("default"))) const char* __asan_default_options() {
  // The handlers of faults are our own (platform/safe_copy.h). Leaks are not looked for: LeakSanitizer stops threads by
  // ptrace.
  return "detect_leaks=0:abort_on_error=1:allow_user_segv_handler=1:symbolize=0:handle_abort=0:check_initialization_"
         "order=0";
}
#endif

extern "C" __attribute__((used, visibility("default"))) const char* __ubsan_default_options() {
  return "print_stacktrace=1:symbolize=0:abort_on_error=1";
}
