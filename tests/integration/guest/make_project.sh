#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A real C project (the sources are in the root's /usr/src): configure, make -j4, its own tests, make install.
. /suite/check.sh
mkdir -p /root/build && cd /root/build && tar -xf /usr/src/zlib_*.orig.tar.* --strip-components=1 || die "unpacking"
./configure --prefix=/root/installed >/tmp/log 2>&1 || die "configure: $(tail -n 5 /tmp/log)"
make -j4 >/tmp/log 2>&1 || die "make -j4: $(tail -n 5 /tmp/log)"
make test >/tmp/log 2>&1 || die "make test: $(tail -n 5 /tmp/log)"
check 2 "$(grep -cE 'zlib( shared)? test OK' /tmp/log)" "zlib's own tests"
make -q || die "make finds something to do after it has made everything"
make install >/tmp/log 2>&1 || die "make install: $(tail -n 5 /tmp/log)"
printf '#include <stdio.h>\n#include <zlib.h>\nint main(void) { puts(zlibVersion()); return 0; }\n' >use.c
gcc -I/root/installed/include use.c -L/root/installed/lib -lz -o use || die "gcc"
check "$(sed -n 's/^#define ZLIB_VERSION "\(.*\)"/\1/p' zlib.h)" "$(LD_LIBRARY_PATH=/root/installed/lib ./use)" "the installed library"
passed
