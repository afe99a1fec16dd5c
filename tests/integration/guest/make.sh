#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make -j4 of a generated C project of 40 files with headers and a library; then nothing to do; then one changed file.
. /suite/check.sh
mkdir -p /tmp/project && cd /tmp/project || die cd
for i in $(seq 1 40); do
  printf 'int f%d(void);\n' "$i" >"f$i.h"
  printf '#include "f%d.h"\n#include <stdio.h>\nint f%d(void) { return %d; }\n' "$i" "$i" "$i" >"f$i.c"
done
{
  for i in $(seq 1 40); do echo "#include \"f$i.h\""; done
  echo '#include <stdio.h>'
  echo 'int main(void) { int s = 0;'
  for i in $(seq 1 40); do echo "  s += f$i();"; done
  echo '  printf("%d\n", s); return 0; }'
} >main.c
cat >Makefile <<'MAKE'
OBJECTS := $(patsubst %,f%.o,$(shell seq 1 40))
CFLAGS := -O1 -Wall
program: main.o libf.a
	$(CC) -o $@ main.o -L. -lf
libf.a: $(OBJECTS)
	ar rcs $@ $^
%.o: %.c
	$(CC) $(CFLAGS) -c -o $@ $<
main.o: $(wildcard f*.h)
clean:
	rm -f *.o *.a program
MAKE
make -j4 >log 2>&1 || die "make -j4: $(tail -n 5 log)"
check 820 "$(./program)" "the program's sum"
check 41 "$(ls ./*.o | wc -l | tr -d ' ')" "objects"
make -q program || die "make finds something to do after it has made everything: timestamps"
touch -d '+2 seconds' f7.c
check "f7.c" "$(make -n program | grep -o 'f[0-9]*\.c' | sort -u | tr '\n' ' ' | sed 's/ $//')" "what a changed file makes"
make clean >/dev/null && make -j4 -k BROKEN=1 CFLAGS=-DX=\" >log 2>&1 && die "make does not report failing jobs"
passed
