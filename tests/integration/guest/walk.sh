#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The tree as ls and find see it, for a comparison with the native run. Without what a fresh mount or an overlay may
# show in its own way: sizes, link counts and times of directories that were mounted over.
. /suite/check.sh
ls -lR / >/tmp/ls 2>/tmp/ls.err
# Entries of /proc vanish while ls looks.
grep -v "'/proc/" /tmp/ls.err | grep -q . && die "ls -lR /: $(grep -v "'/proc/" /tmp/ls.err | head -n 3)"
[ "$(wc -l </tmp/ls)" -gt 5000 ] || die "ls -lR / printed $(wc -l </tmp/ls) lines"
find / -xdev >/tmp/find || die "find / -xdev: $?"
[ "$(sort -u /tmp/find | wc -l)" = "$(wc -l </tmp/find)" ] || die "find shows a name twice: $(sort /tmp/find | uniq -d | head -n 3)"
echo "--- files"
find / -xdev ! -type d -printf '%p %y %m %U %G %s %n %T@ %l\n' | LC_ALL=C sort
echo "--- directories"
find / -xdev -type d -printf '%p %m %U %G\n' | LC_ALL=C sort
echo "--- contents"
find /usr/bin /etc /var/lib -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 cksum
echo "--- ls"
ls -lR --time-style=full-iso /etc | grep -v '^total'
passed
