// SPDX-License-Identifier: Apache-2.0
// Character classes as Linux's terminals have them: ISO 8859-1, whatever the locale.
#ifndef SENTRY_FS_DEVPTS_TTY_CTYPE_H_
#define SENTRY_FS_DEVPTS_TTY_CTYPE_H_

#include <cstdint>

namespace sentry::fs {

constexpr bool IsControl(uint8_t c) { return c < 0x20 || c == 0x7f; }
constexpr bool IsUpper(uint8_t c) { return (c >= 'A' && c <= 'Z') || (c >= 0xc0 && c <= 0xde && c != 0xd7); }
constexpr bool IsLower(uint8_t c) { return (c >= 'a' && c <= 'z') || (c >= 0xdf && c != 0xf7); }
constexpr bool IsAlphanumeric(uint8_t c) { return IsUpper(c) || IsLower(c) || (c >= '0' && c <= '9'); }
constexpr uint8_t ToLower(uint8_t c) { return static_cast<uint8_t>(IsUpper(c) ? c + 32 : c); }
constexpr uint8_t ToUpper(uint8_t c) { return static_cast<uint8_t>(IsLower(c) ? c - 32 : c); }

}  // namespace sentry::fs

#endif  // SENTRY_FS_DEVPTS_TTY_CTYPE_H_
