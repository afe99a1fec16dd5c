// SPDX-License-Identifier: Apache-2.0
#include "runsc/cmd/parse_signal.h"

#include <ctype.h>
#include <signal.h>
#include <string.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace runsc {

absl::StatusOr<int> ParseSignal(const std::string& text) {
  auto unknown = [&] { return absl::InvalidArgumentError(absl::StrCat("unknown signal \"", text, "\"")); };
  int number;
  if (absl::SimpleAtoi(text, &number)) {
    if (number < 0 || number > 64) return unknown();
    return number;
  }
  std::string name;
  for (char c : text) name += static_cast<char>(toupper(static_cast<unsigned char>(c)));
  if (name.rfind("SIG", 0) == 0) name = name.substr(3);
  for (int signal = 1; signal < 32; ++signal) {
    const char* abbreviation = sigabbrev_np(signal);
    if (abbreviation && name == abbreviation) return signal;
  }
  if (name == "IOT") return SIGABRT;
  if (name == "POLL") return SIGIO;
  if (name == "CLD") return SIGCHLD;
  // The kernel's numbers: 32 and 33 are glibc's own, RTMIN is 34 in the guest as here.
  std::string offset = name.size() > 5 ? name.substr(5) : "0";
  int base = name.rfind("RTMIN", 0) == 0 ? SIGRTMIN : name.rfind("RTMAX", 0) == 0 ? SIGRTMAX : 0;
  if (base != 0 && absl::SimpleAtoi(offset, &number) && base + number >= SIGRTMIN && base + number <= SIGRTMAX) {
    return base + number;
  }
  return unknown();
}

}  // namespace runsc
