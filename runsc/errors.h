// SPDX-License-Identifier: Apache-2.0
// Error texts as users and callers (Docker greps them) know them from Go runtimes: errno texts in lower case.
#ifndef RUNSC_ERRORS_H_
#define RUNSC_ERRORS_H_

#include <ctype.h>
#include <string.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

// Returns the status from the enclosing function unless it is OK.
#define RETURN_IF_ERROR(expression)                                         \
  do {                                                                      \
    if (absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

// The value of a StatusOr, or returns its status from the enclosing function.
#define VALUE_OR_RETURN(expression)                   \
  ({                                                  \
    auto status_or_ = (expression);                   \
    if (!status_or_.ok()) return status_or_.status(); \
    *std::move(status_or_);                           \
  })

namespace runsc {

// "no such file or directory"
inline std::string ErrnoText(int error) {
  std::string text = strerror(error);
  if (text.size() > 1 && islower(static_cast<unsigned char>(text[1]))) text[0] = tolower(text[0]);
  return text;
}

// `status` with "context: " before its message, the code kept.
inline absl::Status Annotate(const absl::Status& status, const std::string& context) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(context, ": ", status.message()));
}

}  // namespace runsc

#endif  // RUNSC_ERRORS_H_
