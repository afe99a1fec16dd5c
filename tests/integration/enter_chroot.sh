#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a runtime sets up, done by hand for the native runs: enter_chroot.sh SUITE COMMAND [ARG...], as the first process
# of new mount, pid, ipc, uts and net namespaces, below overlay.sh.
set -eu
suite=$1 root=$OVERLAY_ROOT
shift
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755,size=64m tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/dev/shm"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
while read -r name minor; do
  mknod -m 666 "$root/dev/$name" c $minor
done <<'NODES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
NODES
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for i in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${i%:*}" "$root/dev/${i#*:}"; done
mkdir -p "$root/suite"
mount --bind "$suite" "$root/suite"
mount -o remount,bind,ro "$root/suite"
hostname box
ip link set lo up
unset OVERLAY_ROOT
# The limits of bundle.py.
exec prlimit --nofile=1024:4096 chroot "$root" "$@"
