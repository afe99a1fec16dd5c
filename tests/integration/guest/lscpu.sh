#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What lscpu says of the processor and its caches, for comparison with the host; how processors share caches is the
# sandbox's own affair.
set -u
. /suite/check.sh
export LC_ALL=C
lscpu >/tmp/lscpu || die "lscpu: status $?"
grep -E '^(Architecture|CPU op-mode|Address sizes|Byte Order|CPU\(s\)|Vendor ID|Model name|CPU family|Model|Stepping|Flags|Hypervisor vendor|Virtualization type|NUMA node\(s\)):' /tmp/lscpu |
  sed -E 's/: +/: /'
check "$(getconf _NPROCESSORS_ONLN)" "$(sed -n 's/^CPU(s): *//p' /tmp/lscpu)" "the number of processors"
lscpu -C=NAME,ONE-SIZE,TYPE,LEVEL,SETS,WAYS,PHY-LINE,COHERENCY-SIZE
passed
