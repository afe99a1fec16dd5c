#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# dpkg -i of a hundred of Debian's packages (the root keeps them in /usr/src/mirror), in one transaction, and their verification.
. /suite/check.sh
mapfile -t packages < <(ls /usr/src/mirror/pool/*.deb | head -n 100)
check 100 "${#packages[@]}" "packages in /usr/src/mirror"
before=$(dpkg-query -W | wc -l)
dpkg -i --force-overwrite "${packages[@]}" >/tmp/log 2>&1 || die "dpkg -i: $(grep -m 5 -i error /tmp/log; tail -n 5 /tmp/log)"
check 100 "$(grep -c '^Setting up' /tmp/log)" "configured packages"
check "$before" "$(dpkg-query -W | wc -l)" "installed packages"
dpkg --audit | grep -q . && die "dpkg --audit: $(dpkg --audit | head -n 5)"
# The root leaves out documentation and translations; nothing else may be missing or changed.
left=$(dpkg --verify $(for i in "${packages[@]}"; do dpkg-deb -f "$i" Package; done) | grep -vE ' /(usr/share/(doc|man|locale|info)|etc)/' | head -n 5)
check "" "$left" "dpkg --verify"
passed
