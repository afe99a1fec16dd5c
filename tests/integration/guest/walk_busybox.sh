#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# As walk.sh, with busybox's programs.
. /suite/check.sh
ls -lR / >/tmp/ls 2>/tmp/ls.err
grep -v ' /proc/' /tmp/ls.err | grep -q . && die "ls -lR /: $(grep -v ' /proc/' /tmp/ls.err | head -n 3)"
[ "$(wc -l </tmp/ls)" -gt 300 ] || die "ls -lR / printed $(wc -l </tmp/ls) lines"
for top in bin etc home root usr var; do
  find /$top | sort | xargs -n 40 stat -c '%n %F %a %u %g'
done
for top in bin etc; do find /$top ! -type d | sort | xargs stat -c '%n %s %Y %h'; done
md5sum /bin/busybox
tar c -C / bin etc | tar x -C /tmp
describe() { (cd "$1" && find bin etc | sort | xargs stat -c '%F %a %u %g %s %N' | sed 's/^directory\(.*\) [0-9]* /directory\1 /'); }
check "$(describe /)" "$(describe /tmp)" "the copy by tar"
cmp /bin/busybox /tmp/bin/busybox || die "tar: the contents"
passed
