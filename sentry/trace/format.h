// SPDX-License-Identifier: Apache-2.0
// A system call as text, as strace(1) shows it. Guest memory is read through the caller, in bounded pieces; what can't
// be read is shown as a pointer. Thread-safe: no state.
#ifndef SENTRY_TRACE_FORMAT_H_
#define SENTRY_TRACE_FORMAT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "sentry/kernel/core/caller.h"

namespace sentry::trace {

struct CallView {
  const char* name = "";
  const char* kinds = "";  // argument kinds, separated by commas
  uint64_t raw[6] = {};
  const Result<int64_t>* result = nullptr;  // null: not known yet, so that what the call fills in is a pointer
};

// "openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC)"; strings are cut after `max_string` bytes.
std::string FormatCall(const CallView& call, Caller& memory, size_t max_string);
// Of a call that has its result: "3", "-1 ENOENT (No such file or directory)", "? ERESTARTSYS": restarted calls show
// their internal code.
std::string FormatResult(const CallView& call);
// Whether FormatCall has a way to show it.
bool IsKnownKind(std::string_view kind);
// "a\n\303" in quotes; "..." after it when `cut`.
void AppendQuoted(std::string& out, std::string_view bytes, bool cut);

}  // namespace sentry::trace

#endif  // SENTRY_TRACE_FORMAT_H_
