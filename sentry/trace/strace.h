// SPDX-License-Identifier: Apache-2.0
// --strace: every system call of every guest as a line in the log.
#ifndef SENTRY_TRACE_STRACE_H_
#define SENTRY_TRACE_STRACE_H_

#include <cstddef>
#include <string>
#include <vector>

namespace sentry::trace {

// Starts tracing, or changes what is traced; calls that are under way may be told by the old rule. `only`: names of
// calls (empty: all); unknown ones are logged and ignored. Strings and buffers are cut after `max_string` bytes. Lines
// go to the log at the info level, which must be on to see them. Thread-safe.
void EnableStrace(std::vector<std::string> only, size_t max_string);
void DisableStrace();

}  // namespace sentry::trace

#endif  // SENTRY_TRACE_STRACE_H_
