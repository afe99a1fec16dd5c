// SPDX-License-Identifier: Apache-2.0
// Prints docs/compatibility.md: for tools/update-docs.
#include <cstdio>

#include "sentry/syscalls/compatibility.h"

int main() {
  std::string text = sentry::syscalls::CompatibilityMarkdown();
  return fwrite(text.data(), 1, text.size(), stdout) == text.size() && fflush(stdout) == 0 ? 0 : 1;
}
