#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first process of the virtual machine: loads KVM, moves to a tmpfs (the initial root cannot be pivoted from), runs
# /payload/run with its output on the second serial port, and tells its exit status through port 0xe9.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root
if [ "$1" != moved ]; then
  /bin/busybox mount -t proc proc /proc
  for module in irqbypass kvm ccp kvm-amd; do /bin/busybox insmod /modules/$module.ko || echo "insmod $module failed"; done
  /bin/busybox umount /proc
  /bin/busybox mount -t tmpfs -o mode=755,size=900m root /m
  /bin/busybox cp -a /payload /m/
  /bin/busybox cp -a /payload/rootfs/. /m/
  /bin/busybox mkdir -p /m/bin /m/dev /m/proc /m/sys /m/tmp /m/root /m/run /m/etc
  /bin/busybox cp /bin/busybox /m/bin/ && /bin/busybox cp /init /m/init
  exec /bin/busybox switch_root /m /bin/busybox sh /init moved
fi
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
chmod 1777 /tmp
ip link set lo up
stty raw -echo < /dev/ttyS1
/bin/bash /payload/run > /dev/ttyS1 2>&1 < /dev/null
status=$?
sleep 1 # the serial port has a queue
printf '%s\n' "$status" | dd of=/dev/port bs=1 count=1 seek=$((0xe9)) 2>/dev/null
printf '\0' | dd of=/dev/port bs=1 count=1 seek=$((0xf4)) 2>/dev/null
