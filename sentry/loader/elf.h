// SPDX-License-Identifier: Apache-2.0
// ELF64 for x86-64: headers of a hostile file, checked once into an ElfFile whose numbers can be trusted. elf(5),
// and fs/binfmt_elf.c for which error means what.
#ifndef SENTRY_LOADER_ELF_H_
#define SENTRY_LOADER_ELF_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sentry/common.h"

namespace sentry::loader {

inline constexpr size_t kElfHeaderSize = 64;
inline constexpr size_t kProgramHeaderSize = 56;

struct Segment {         // PT_LOAD
  uint64_t address = 0;  // p_vaddr, relative to the load bias
  uint64_t offset = 0, file_size = 0, memory_size = 0;
  bool read = false, write = false, exec = false;
};

struct ElfFile {
  bool is_position_independent = false;  // ET_DYN
  uint64_t entry = 0;
  uint64_t program_headers_address = 0;  // where they are in memory, relative to the bias; 0 when in no segment
  uint16_t program_header_count = 0;
  std::vector<Segment> segments;                          // in file order; at least one
  uint64_t interpreter_offset = 0, interpreter_size = 0;  // PT_INTERP with its NUL; size 0: none
  bool executable_stack = false;
  uint64_t start = 0, end = 0;     // page-aligned extent of all segments
  uint64_t alignment = kPageSize;  // the largest p_align, a power of two
};

// The program header table's place: what to read before ParseElf. ENOEXEC when the header is not of a program for this
// machine.
struct HeaderTable {
  uint64_t offset = 0;
  size_t size = 0;
};
Result<HeaderTable> FindProgramHeaders(std::span<const uint8_t> header);
// ENOEXEC: malformed table; EINVAL: segments that cannot be mapped.
Result<ElfFile> ParseElf(std::span<const uint8_t> header, std::span<const uint8_t> program_headers);

}  // namespace sentry::loader

#endif  // SENTRY_LOADER_ELF_H_
