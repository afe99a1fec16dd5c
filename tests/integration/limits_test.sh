#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A guest that forks without end, fills its tmpfs or its memory meets its limits; sandbox and host live on.
# limits_test.sh DRIVER; native is runc here.
set -u
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/driver.sh"
. "$it_dir/container.sh"
name=${1:?}
[[ $name == native ]] && name=runc
driver=$(it_driver "$name") || exit 125
it_use_platform "$name"
it_setup
it_program forkbomb
it_program eat

test_fork_bomb() {
  launch "$driver" debian --pids 100 --cgroup "/runsc-it-$$-pids" -- /bin/sh -c \
    '/suite/forkbomb; echo bomb $?; read line; /bin/echo alive; exit 5'
  local pid processes
  hear 60
  # The program forks until the first failure, counts, and must have been stopped by EAGAIN below the limit.
  [[ $heard =~ ^forked\ ([0-9]+)\ EAGAIN$ ]] || fail "the bomb said '$heard'"
  ((BASH_REMATCH[1] >= 20 && BASH_REMATCH[1] < 100)) || fail "${BASH_REMATCH[1]} processes with a limit of 100"
  hear 60
  [[ $heard == "bomb 0" ]] || fail "'$heard'"
  say go
  hear 20
  [[ $heard == alive ]] || fail "after the bomb: '$heard'"
  ended 10
  ((status == 5)) || fail "exit status $status"
  nothing_left
}

# What JVMs, Go programs and others read to know their limits.
test_own_cgroup() {
  [[ $driver == runsc ]] || return 0  # runc shows what the host has, v1 or v2
  local out
  out=$(run_in "$driver" busybox --cgroup-mount --pids 100 --memory $((128 << 20)) --cgroup "/runsc-it-$$-own" -- sh -c '
    cat /proc/self/cgroup; cd /sys/fs/cgroup; cat pids.max memory.max cpu.max
    test $(cat memory.current) -gt 0 && test $(cat pids.current) -gt 0 && echo counted
    grep -q "^1$" cgroup.procs && echo init
    mkdir a 2>/dev/null || echo "read only"')
  [[ $out == $'0::/\n100\n134217728\nmax 100000\ncounted\ninit\nread only' ]] || fail "the guest said: $out"
}

# What the tools say of a machine is what the sandbox may use of it; runc shows the host's.
test_tools_see_the_limits() {
  [[ $driver == runsc ]] || return 0
  local out first
  first=$(taskset -cp $BASHPID | sed 's/.*: //; s/[,-].*//') && taskset -cp "$first" $BASHPID >/dev/null || fail "no processor"
  out=$(run_in "$driver" debian --memory $((128 << 20)) --cgroup "/runsc-it-$$-tools" -- sh -c '
    free -b | awk "/^Mem:/ { print \$2 }"; nproc; getconf _NPROCESSORS_ONLN
    LC_ALL=C lscpu | sed -n "s/^CPU(s): *//p; s/^On-line CPU(s) list: *//p"; grep -c ^processor /proc/cpuinfo')
  [[ $out == $'134217728\n1\n1\n1\n0\n1' ]] || fail "the guest said: $out"
}

test_full_tmpfs() {
  local out
  out=$(run_in "$driver" busybox --tmpfs /mnt=size=4m -- sh -c '
    dd if=/dev/zero of=/mnt/full bs=64k count=1000 2>/tmp/err; echo "status $?"
    grep -o "No space left on device" /tmp/err
    test $(stat -c %s /mnt/full) -le 4194304 && test $(stat -c %s /mnt/full) -ge 3145728 && echo size
    rm /mnt/full; echo again >/mnt/small && cat /mnt/small
    i=0; while : >/mnt/i$i; do i=$((i + 1)); test $i -gt 500 && break; done 2>/dev/null; rm /mnt/i*
    dd if=/dev/zero of=/mnt/full bs=64k count=40 2>/dev/null && echo fits')
  local code=$?
  ((code == 0)) || fail "exit status $code: $out"
  [[ $out == $'status 1\nNo space left on device\nsize\nagain\nfits' ]] || fail "the guest said: $out"
}

test_full_memory() {
  local before
  before=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
  launch_limit=60
  launch "$driver" debian --memory $((128 << 20)) --cgroup "/runsc-it-$$-memory" -- /bin/sh -c '/suite/eat 1024; echo ate $?; exit 6'
  local line='' heard_all=''
  while IFS= read -rt 40 -u "$from" line; do heard_all+="$line;"; done
  ended 20
  # Refused (ENOMEM), or killed: the eater alone or the sandbox with it. It must not have got its 1,024 MiB.
  [[ $heard_all == *"ate 0"* ]] && fail "1024 MiB fit into a sandbox of 128: $heard_all"
  case $status in
    6) [[ $heard_all == *"ate 137;"* || $heard_all == *"ate 12;"* ]] || fail "the eater: '$heard_all'" ;;
    124) fail "hangs: '$heard_all'" ;;
    0) fail "exit status 0" ;;
  esac
  nothing_left
  # The rest of the machine has it back; another program may have taken 512 MiB meanwhile.
  local after i
  for ((i = 0; i < 100; i++)); do
    after=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
    ((after > before - (512 << 10))) && return 0
    it_tick
  done
  fail "the host had $before kB of memory before and has $after kB after"
}

test_full_overlay_limit() {
  [[ $driver == runsc ]] || return 0
  local out
  out=$(RUNSC_FLAGS="--overlay2=root:memory,size=8m ${RUNSC_FLAGS-}" run_in "$driver" busybox -- sh -c '
    dd if=/dev/zero of=/full bs=64k count=1000 2>/tmp/err; echo "status $?"; grep -o "No space left on device" /tmp/err; echo x >/tmp/y && echo alive')
  [[ $out == $'status 1\nNo space left on device\nalive' ]] || fail "the guest said: $out"
}

test_descriptor_limit() {
  local out
  out=$(run_in "$driver" debian -- python3 -c '
import errno, os
fds = []
try:
    while True: fds.append(os.open("/dev/null", os.O_RDONLY))
except OSError as e:
    print(errno.errorcode[e.errno], fds[-1])')
  [[ $out == "EMFILE 1023" ]] || fail "the guest said: $out"
}

run_tests fork_bomb own_cgroup tools_see_the_limits full_tmpfs full_memory full_overlay_limit descriptor_limit
