// SPDX-License-Identifier: Apache-2.0
// Prints every CPUID leaf that is the same on all processors of a machine, XCR0, what the auxiliary vector says of the
// CPU, and the first processor of /proc/cpuinfo, whose flags must be CPUID's. The output is compared with the host's.
#define _GNU_SOURCE
#include <cpuid.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

static unsigned leaves;

static void print_leaf(unsigned leaf, unsigned sub, unsigned r[4]) {
  // Which processor this is.
  if (leaf == 1) r[1] &= 0x00ffffff;
  if (leaf == 0xb || leaf == 0x1f) r[3] = 0;
  if (leaf == 0x8000001e) r[0] = r[1] = r[2] = 0;
  printf("%08x %x: %08x %08x %08x %08x\n", leaf, sub, r[0], r[1], r[2], r[3]);
  ++leaves;
}

// The leaves whose sub-leaves say when they end; others have one.
static unsigned sub_leaves(unsigned leaf) {
  switch (leaf) {
    case 4: case 0x8000001d: return 8;
    case 7: case 0x10: case 0x12: case 0x14: case 0x17: case 0x18: return 4;
    case 0xb: case 0x1f: return 3;
    case 0xd: return 20;
    default: return 1;
  }
}

static void print_range(unsigned first) {
  unsigned r[4], leaf, sub, last;
  __cpuid(first, last, r[1], r[2], r[3]);
  if (last < first || last > first + 0xff) last = first;
  for (leaf = first; leaf <= last; ++leaf) {
    for (sub = 0; sub < sub_leaves(leaf); ++sub) {
      __cpuid_count(leaf, sub, r[0], r[1], r[2], r[3]);
      print_leaf(leaf, sub, r);
    }
  }
}

static char info[1 << 16];
static char flags[1 << 14];

static int has_flag(const char* name) {
  char want[64];
  snprintf(want, sizeof want, " %s ", name);
  return strstr(flags, want) != NULL;
}

struct bit {
  const char* flag;
  unsigned leaf, sub, word, number;
};
// What a kernel shows as the CPU has it; r: eax, ebx, ecx, edx.
static const struct bit bits[] = {
    {"fpu", 1, 0, 3, 0},      {"tsc", 1, 0, 3, 4},       {"cx8", 1, 0, 3, 8},        {"cmov", 1, 0, 3, 15},
    {"mmx", 1, 0, 3, 23},     {"fxsr", 1, 0, 3, 24},     {"sse", 1, 0, 3, 25},       {"sse2", 1, 0, 3, 26},
    {"pni", 1, 0, 2, 0},      {"pclmulqdq", 1, 0, 2, 1}, {"ssse3", 1, 0, 2, 9},      {"fma", 1, 0, 2, 12},
    {"cx16", 1, 0, 2, 13},    {"sse4_1", 1, 0, 2, 19},   {"sse4_2", 1, 0, 2, 20},    {"movbe", 1, 0, 2, 22},
    {"popcnt", 1, 0, 2, 23},  {"aes", 1, 0, 2, 25},      {"xsave", 1, 0, 2, 26},     {"avx", 1, 0, 2, 28},
    {"f16c", 1, 0, 2, 29},    {"rdrand", 1, 0, 2, 30},   {"bmi1", 7, 0, 1, 3},       {"avx2", 7, 0, 1, 5},
    {"bmi2", 7, 0, 1, 8},     {"erms", 7, 0, 1, 9},      {"avx512f", 7, 0, 1, 16},   {"avx512dq", 7, 0, 1, 17},
    {"rdseed", 7, 0, 1, 18},  {"adx", 7, 0, 1, 19},      {"clflushopt", 7, 0, 1, 23}, {"clwb", 7, 0, 1, 24},
    {"sha_ni", 7, 0, 1, 29},  {"avx512bw", 7, 0, 1, 30}, {"avx512vl", 7, 0, 1, 31},  {"gfni", 7, 0, 2, 8},
    {"vaes", 7, 0, 2, 9},     {"vpclmulqdq", 7, 0, 2, 10}, {"rdpid", 7, 0, 2, 22},   {"fsrm", 7, 0, 3, 4},
    {"xsaveopt", 13, 1, 0, 0}, {"lahf_lm", 0x80000001, 0, 2, 0}, {"abm", 0x80000001, 0, 2, 5},
    {"nx", 0x80000001, 0, 3, 20}, {"rdtscp", 0x80000001, 0, 3, 27}, {"lm", 0x80000001, 0, 3, 29},
};

int main(void) {
  // Hybrid machines have different ones: the first of those that this process may use.
  cpu_set_t set, one;
  CPU_ZERO(&one);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &set)) {
      CPU_SET(i, &one);
      break;
    }
  if (sched_setaffinity(0, sizeof one, &one) != 0) return 2;

  print_range(0);
  unsigned r[4];
  __cpuid(1, r[0], r[1], r[2], r[3]);
  if (r[2] >> 31) print_range(0x40000000);
  print_range(0x80000000);
  if (r[2] & bit_OSXSAVE) {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    printf("XCR0 %x %x\n", low, high);
  }
  // The C library gives AT_HWCAP another meaning.
  FILE* file = fopen("/proc/self/auxv", "r");
  unsigned long pair[2];
  while (file && fread(pair, sizeof pair, 1, file) == 1)
    if (pair[0] == AT_HWCAP || pair[0] == AT_HWCAP2 || pair[0] == AT_MINSIGSTKSZ) printf("%lu: %lx\n", pair[0], pair[1]);
  printf("%s\n", (const char*)getauxval(AT_PLATFORM));
  if (file) fclose(file);

  file = fopen("/proc/cpuinfo", "r");
  if (!file || fread(info, 1, sizeof info - 1, file) == 0) return 3;
  fclose(file);
  char* end = strstr(info, "\n\n");
  if (!end) return 4;
  end[1] = '\0';
  for (char* line = strtok(info, "\n"); line; line = strtok(NULL, "\n")) {
    // What changes, and what says which processor it is.
    if (strncmp(line, "cpu MHz", 7) && strncmp(line, "bogomips", 8) && !strstr(line, "apicid") &&
        strncmp(line, "core id", 7) && strncmp(line, "processor", 9) && strncmp(line, "physical id", 11))
      puts(line);
    if (strncmp(line, "flags\t\t:", 8) == 0) snprintf(flags, sizeof flags, "%s ", line + 8);
  }
  if (!flags[0]) return 5;
  for (size_t i = 0; i < sizeof bits / sizeof *bits; ++i) {
    const struct bit* b = &bits[i];
    __cpuid_count(b->leaf, b->sub, r[0], r[1], r[2], r[3]);
    if ((int)(r[b->word] >> b->number & 1) != has_flag(b->flag)) {
      fprintf(stderr, "%s: CPUID says %u, /proc/cpuinfo %d\n", b->flag, r[b->word] >> b->number & 1, has_flag(b->flag));
      return 6;
    }
  }
  if (leaves < 20) return 7;
  puts("PASSED");
  return 0;
}
