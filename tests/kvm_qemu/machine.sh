#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes, once, what a virtual machine with an emulated AMD-V needs: machine.sh prints the directory that holds `vmlinux`
# and `base.cpio` (busybox, KVM's modules, /init) of Debian's kernel, below ~/.cache/runsc-qemu. Nothing is installed.
# Exit status 77, with the reason on stderr, where it cannot be made.
set -u
here=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")

skip() {
  echo "$*" >&2
  exit 77
}

for program in qemu-system-x86_64 cpio xz objcopy dpkg-deb apt-get apt-cache busybox; do
  command -v "$program" >/dev/null ||
    skip "$program is not installed (apt-get install qemu-system-x86 cpio xz-utils binutils busybox-static)"
done
cache=${HOME:-/root}/.cache/runsc-qemu
mkdir -p "$cache" || skip "cannot make $cache"
exec 9>"$cache/lock" && flock 9
version=$(sha256sum "$here/machine.sh" "$here/init.sh" | sha256sum | cut -c 1-12)
machine=$cache/$version
[[ -e $machine/done ]] && echo "$machine" && exit 0

work=$(mktemp -d "$cache/work.XXXXXX") || skip "cannot make a directory in $cache"
trap 'rm -rf -- "$work"' EXIT
package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1)
[[ -n $package ]] || skip "apt knows no linux-image-amd64 (apt-get update)"
(cd "$work" && apt-get download -q "$package" >apt.log 2>&1) || skip "apt-get download $package: $(tail -n 1 "$work/apt.log")"
mkdir "$work/deb" "$work/base" && dpkg-deb -x "$work"/linux-image*.deb "$work/deb" || skip "$package does not unpack"

# The kernel as it is inside the bzImage: that saves unpacking it under emulation at each boot.
at=$(grep -abo $'\xfd7zXZ' "$work"/deb/boot/vmlinuz-* | head -n 1 | cut -d : -f 1)
[[ -n $at ]] && tail -c "+$((at + 1))" "$work"/deb/boot/vmlinuz-* | xz -dcq >"$work/vmlinux" 2>/dev/null
[[ $(head -c 4 "$work/vmlinux") == $'\x7fELF' ]] || skip "no xz-compressed vmlinux in $package"

cd "$work/base" && mkdir -p bin dev proc sys tmp modules m || exit 1
cp -- "$(command -v busybox)" bin/busybox && ln -s busybox bin/sh
for module in irqbypass kvm ccp kvm-amd; do
  file=$(find "$work/deb" -name "$module.ko" | head -n 1)
  [[ -n $file ]] && objcopy -g --remove-section=.BTF "$file" "modules/$module.ko" || skip "no module $module in $package"
done
cp -- "$here/init.sh" init && chmod 755 init
find . | cpio -o -H newc -R 0:0 --quiet >"$work/base.cpio" || skip "cpio failed"
mkdir -p "$machine" && mv -- "$work/vmlinux" "$work/base.cpio" "$machine/" && touch "$machine/done" && echo "$machine"
