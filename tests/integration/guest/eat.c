// SPDX-License-Identifier: Apache-2.0
// Touches as many MiB as its argument says; 12 when refused.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int main(int argc, char** argv) {
  int wanted = argc > 1 ? atoi(argv[1]) : 0;
  for (int i = 0; i < wanted; ++i) {
    char* p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 12;
    // Not zeroes, which could be shared or compressed away.
    memset(p, i % 251 + 1, 1 << 20);
  }
  return 0;
}
