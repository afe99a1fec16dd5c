// SPDX-License-Identifier: Apache-2.0
// Prints where the addresses end that a process can map.
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

static int mappable(uint64_t address) {
  void* got = mmap((void*)address, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) return errno == EEXIST;
  munmap(got, 4096);
  return 1;
}

int main(void) {
  uint64_t low = 1ul << 32, end = 1ul << 47;
  while (end - low > 4096) {
    uint64_t middle = low + (end - low) / 2 / 4096 * 4096;
    if (mappable(middle))
      low = middle;
    else
      end = middle;
  }
  printf("%lx\n", (unsigned long)end);
  return 0;
}
