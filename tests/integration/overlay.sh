#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# In a mount namespace of its own: mounts a writable throw-away view of ROOT at DIR/root and runs COMMAND.
# usage: overlay.sh DIR ROOT COMMAND [ARG...]; $OVERLAY_ROOT is DIR/root for the command. Leaves empty directories.
set -eu
dir=$1 lower=$2
shift 2
mkdir -p "$dir/root"
# The upper layer vanishes with the namespace.
mount -t tmpfs -o size=2g tmpfs "$dir"
mkdir "$dir/upper" "$dir/work" "$dir/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
export OVERLAY_ROOT=$dir/root
exec "$@"
