// SPDX-License-Identifier: Apache-2.0
#include "base/memory_trim.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

namespace base {
namespace {

// Segments that were never writable hold what the file holds. Relocated ones, read-only by now or not, are in writable
// segments.
int DropSegments(dl_phdr_info* info, size_t, void*) {
  const uint64_t page = static_cast<uint64_t>(getpagesize());
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W)) continue;
    const uint64_t start = (info->dlpi_addr + segment.p_vaddr) & ~(page - 1);
    const uint64_t end =
        (info->dlpi_addr + segment.p_vaddr + segment.p_memsz) & ~(page - 1);  // the last page may be shared
    if (end > start) madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
  }
  return 1;  // the first is the program itself
}

}  // namespace

void TrimMemory() {
  malloc_trim(0);
  dl_iterate_phdr(DropSegments, nullptr);
}

}  // namespace base
