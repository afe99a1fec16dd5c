#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make_deb.sh OUT RUNSC SHIM COPYRIGHT SHIM-PAGE DOCUMENT.SH: packs the Debian package OUT.
set -euo pipefail
umask 022

out=$1 runsc=$2 shim=$3 copyright=$4 shim_page=$5 document=$6
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
version=$("$runsc" version | sed -n 's/^runsc version //p')
# The same input gives the same package.
export SOURCE_DATE_EPOCH=1700000000

chmod 755 "$tree"
mkdir -p "$tree"/DEBIAN "$tree"/usr/bin "$tree"/usr/share/{man/man8,bash-completion/completions,doc/runsc}
strip --strip-unneeded -o "$tree/usr/bin/runsc" "$runsc"
strip --strip-unneeded -o "$tree/usr/bin/containerd-shim-runsc-v1" "$shim"
chmod 755 "$tree"/usr/bin/*
"$document" man "$runsc" | gzip -9n >"$tree/usr/share/man/man8/runsc.8.gz"
sed "s/@VERSION@/$version/" "$shim_page" | gzip -9n >"$tree/usr/share/man/man8/containerd-shim-runsc-v1.8.gz"
"$document" completion "$runsc" >"$tree/usr/share/bash-completion/completions/runsc"
install -m 644 "$copyright" "$tree/usr/share/doc/runsc/copyright"
gzip -9n >"$tree/usr/share/doc/runsc/changelog.gz" <<CHANGES
runsc ($version) unstable; urgency=medium

  * See the project's git history.

 -- The runsc authors <runsc@localhost>  $(date -Ru -d "@$SOURCE_DATE_EPOCH")
CHANGES
cat >"$tree/DEBIAN/control" <<CONTROL
Package: runsc
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: The runsc authors <runsc@localhost>
Installed-Size: $(du -sk --apparent-size "$tree/usr" | cut -f1)
Section: admin
Priority: optional
Suggests: docker.io | containerd | podman
Description: container runtime with a kernel of its own in user space
 runsc is an OCI runtime that runs each container on its own kernel: a process
 that serves the system calls, faults and signals of the programs inside. The
 host's kernel sees only a small, fixed, filtered set of calls.
 .
 This package has the runtime and its shim for containerd.
CONTROL
(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
find "$tree" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zgzip --build "$tree" "$out" >/dev/null
