// SPDX-License-Identifier: Apache-2.0
// Names of numbers and bits for strace, as constexpr tables.
#ifndef SENTRY_TRACE_FLAG_TABLES_H_
#define SENTRY_TRACE_FLAG_TABLES_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace sentry::trace {

struct NamedValue {
  uint64_t value;
  const char* name;
};

enum class Naming : uint8_t { kValue, kBits };

// A kind of argument: one of the values, or a set of bits over a field of values (`field`, e.g. O_ACCMODE; 0: none).
struct NameTable {
  const char* kind;  // as in table_x86_64.inc
  Naming naming;
  std::span<const NamedValue> names;
  uint64_t field = 0;
  std::span<const NamedValue> field_names = {};
  int width = 32;  // bits of the argument that count
};

// All kinds that are only names.
std::span<const NameTable> NameTables();
// Null: no such kind.
const NameTable* FindNameTable(const char* kind, size_t length);

// "O_RDONLY|O_CLOEXEC", "SIGKILL", "0x40|PROT_READ": what has no name is a number.
void AppendNames(std::string& out, const NameTable& table, uint64_t value);

}  // namespace sentry::trace

#endif  // SENTRY_TRACE_FLAG_TABLES_H_
