#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# gcc compiles, links and runs a program, dynamic and static, and one that uses threads, libm and dlopen.
. /suite/check.sh
cd /tmp || die cd
cat >hello.c <<'C'
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
static void* work(void* p) { *(double*)p = cos(0.0); return p; }
int main(int argc, char** argv) {
  pthread_t t;
  double d = 0;
  pthread_create(&t, NULL, work, &d);
  pthread_join(t, NULL);
  printf("hello %d %s %.1f\n", argc, argv[argc - 1], d);
#ifdef DYNAMIC
  void* lib = dlopen("libm.so.6", RTLD_NOW);
  double (*s)(double) = lib ? (double (*)(double))dlsym(lib, "sqrt") : NULL;
  printf("%.1f\n", s ? s(16.0) : -1);
#endif
  return 3;
}
C
gcc -O2 -Wall -DDYNAMIC -o dynamic hello.c -lm || die "gcc"
check "hello 2 x 1.0 4.0" "$(./dynamic x | tr '\n' ' ' | sed 's/ $//')" "the dynamic program"
gcc -O1 -static -o static hello.c -lm || die "gcc -static"
./static a b >out; check 3 $? "its exit status"
check "hello 3 b 1.0" "$(cat out)" "the static program"
echo 'int main(void) { return 0' | gcc -x c - -o broken 2>err && die "gcc accepts a broken program"
grep -q error err || die "gcc's message: $(cat err)"
echo '#error no' | gcc -E - 2>/dev/null >/dev/null && die "cpp accepts #error"
passed
