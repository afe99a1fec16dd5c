// SPDX-License-Identifier: Apache-2.0
// Numbers as the files take them.
#include "sentry/fs/cgroup/cgroup_fs.h"

namespace sentry::fs {

Result<int64_t> ParseCgroupNumber(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  int radix = 10;
  if (text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == 'x') {
    radix = 16;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text[0] == '0') {
    radix = 8;
    text.remove_prefix(1);
  }
  if (text.empty()) return Errno(EINVAL);
  unsigned __int128 value = 0;
  for (char c : text) {
    const int digit = c >= '0' && c <= '9'                     ? c - '0'
                      : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                               : 99;
    if (digit >= radix) return Errno(EINVAL);
    value = value * static_cast<unsigned>(radix) + static_cast<unsigned>(digit);
    if (value > static_cast<unsigned __int128>(INT64_MAX)) return Errno(ERANGE);
  }
  const auto number = static_cast<int64_t>(value);
  return negative ? -number : number;
}

Result<int64_t> ParseCgroupLimit(std::string_view text) {
  if (text == "max") return kernel::kCgroupNoLimit;
  return ParseCgroupNumber(text);
}

Result<int64_t> ParseCgroupBytes(std::string_view text, std::string_view max_word) {
  if (text == max_word) return kernel::kCgroupNoLimit;
  int shift = 0;
  if (!text.empty()) {
    constexpr std::string_view kSuffixes = "KMGT";
    const size_t at = kSuffixes.find(static_cast<char>(text.back() & ~0x20));
    if (at != std::string_view::npos && text.back() > '9') {
      shift = 10 * static_cast<int>(at + 1);
      text.remove_suffix(1);
    }
  }
  auto number = ParseCgroupNumber(text);
  if (!number.ok() && number.error() == Errno(ERANGE)) return kernel::kCgroupNoLimit;
  const int64_t value = TRY(std::move(number));
  if (value < 0) return Errno(EINVAL);
  const __int128 bytes = static_cast<__int128>(value) << shift;
  // At most what page_counter holds: LONG_MAX pages.
  if (bytes >= INT64_MAX - static_cast<int64_t>(kPageSize)) return kernel::kCgroupNoLimit;
  return static_cast<int64_t>(PageDown(static_cast<uint64_t>(bytes)));
}

std::string ShowCgroupLimit(int64_t value) {
  return value == kernel::kCgroupNoLimit ? "max\n" : std::to_string(value) + "\n";
}

}  // namespace sentry::fs
