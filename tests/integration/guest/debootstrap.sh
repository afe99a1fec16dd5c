#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# debootstrap of a minimal Debian from the packages in /usr/src/mirror, and a command in the new root.
. /suite/check.sh
debootstrap --variant=minbase --no-check-gpg bookworm /root/new file:///usr/src/mirror >/tmp/log 2>&1 ||
  die "debootstrap: $(tail -n 8 /tmp/log; tail -n 8 /root/new/debootstrap/debootstrap.log)"
check bookworm "$(chroot /root/new sh -c '. /etc/os-release; echo $VERSION_CODENAME')" "the release of the new root"
check "" "$(chroot /root/new dpkg --audit)" "dpkg --audit in the new root"
[ "$(chroot /root/new dpkg-query -W | wc -l)" -gt 60 ] || die "packages in the new root"
passed
