// SPDX-License-Identifier: Apache-2.0
#include "sentry/loader/elf.h"

#include <elf.h>
#include <string.h>

#include <algorithm>
#include <bit>

#include "platform/platform.h"

namespace sentry::loader {
namespace {

constexpr size_t kMaxTableSize = 65536;   // as ELF_MIN_ALIGN-independent limit of load_elf_phdrs
constexpr size_t kMaxInterpreter = 4096;  // PATH_MAX

bool IsSane(const Elf64_Phdr& p) {
  uint64_t limit = platform::kGuestAddressLimit;
  return p.p_filesz <= p.p_memsz && p.p_memsz <= limit && p.p_vaddr <= limit - p.p_memsz &&
         p.p_offset <= INT64_MAX - p.p_filesz - kPageSize && p.p_vaddr % kPageSize == p.p_offset % kPageSize;
}

}  // namespace

Result<HeaderTable> FindProgramHeaders(std::span<const uint8_t> header) {
  if (header.size() < sizeof(Elf64_Ehdr)) return Errno(ENOEXEC);
  Elf64_Ehdr h;
  memcpy(&h, header.data(), sizeof h);
  if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 ||
      h.e_ident[EI_DATA] != ELFDATA2LSB) {
    return Errno(ENOEXEC);
  }
  if ((h.e_type != ET_EXEC && h.e_type != ET_DYN) || h.e_machine != EM_X86_64) return Errno(ENOEXEC);
  if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phnum == 0) return Errno(ENOEXEC);
  size_t size = size_t{h.e_phnum} * sizeof(Elf64_Phdr);
  if (size > kMaxTableSize || h.e_phoff > INT64_MAX - size) return Errno(ENOEXEC);
  return HeaderTable{.offset = h.e_phoff, .size = size};
}

Result<ElfFile> ParseElf(std::span<const uint8_t> header, std::span<const uint8_t> program_headers) {
  HeaderTable table = TRY(FindProgramHeaders(header));
  if (program_headers.size() != table.size) return Errno(ENOEXEC);
  Elf64_Ehdr h;
  memcpy(&h, header.data(), sizeof h);

  ElfFile elf;
  elf.is_position_independent = h.e_type == ET_DYN;
  elf.entry = h.e_entry;
  elf.program_header_count = h.e_phnum;
  elf.start = UINT64_MAX;
  for (uint16_t i = 0; i < h.e_phnum; ++i) {
    Elf64_Phdr p;
    memcpy(&p, program_headers.data() + i * sizeof p, sizeof p);
    switch (p.p_type) {
      case PT_INTERP:
        if (elf.interpreter_size != 0) break;  // the first one counts
        if (p.p_filesz < 2 || p.p_filesz > kMaxInterpreter || p.p_offset > INT64_MAX - p.p_filesz)
          return Errno(ENOEXEC);
        elf.interpreter_offset = p.p_offset;
        elf.interpreter_size = p.p_filesz;
        break;
      case PT_GNU_STACK:
        elf.executable_stack = p.p_flags & PF_X;
        break;
      case PT_LOAD: {
        if (!IsSane(p)) return Errno(EINVAL);
        if (h.e_phoff >= p.p_offset && h.e_phoff < p.p_offset + p.p_filesz) {
          elf.program_headers_address = h.e_phoff - p.p_offset + p.p_vaddr;
        }
        if (std::has_single_bit(p.p_align)) elf.alignment = std::max<uint64_t>(elf.alignment, p.p_align);
        if (p.p_memsz == 0) break;
        elf.segments.push_back({.address = p.p_vaddr,
                                .offset = p.p_offset,
                                .file_size = p.p_filesz,
                                .memory_size = p.p_memsz,
                                .read = (p.p_flags & PF_R) != 0,
                                .write = (p.p_flags & PF_W) != 0,
                                .exec = (p.p_flags & PF_X) != 0});
        elf.start = std::min(elf.start, PageDown(p.p_vaddr));
        elf.end = std::max(elf.end, PageUp(p.p_vaddr + p.p_memsz));
        break;
      }
      default:
        break;
    }
  }
  if (elf.segments.empty()) return Errno(EINVAL);
  // An alignment the address space has no room for is as good as none.
  elf.alignment = std::min<uint64_t>(elf.alignment, uint64_t{1} << 30);
  return elf;
}

}  // namespace sentry::loader
