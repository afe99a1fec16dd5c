#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the tools that look at a system read is there and true: each is run and asked for something known. Natively and in
# a sandbox; the root is the host's. One that is not installed is left out, by name.
set -u
failures=0
fail() {
  echo "system_tools.sh: $*" >&2
  ((++failures))
}
# tool NAME COMMAND...: its output in $out, status 0 and nothing on stderr.
tool() {
  local errors
  command -v "$1" >/dev/null || { echo "$1 is not installed"; return 1; }
  errors=$({ out=$("$@" 3>&-); } 2>&1 >/dev/null) || true
  out=$("$@" 2>/dev/null) || { fail "$*: status $?: $errors"; return 1; }
  [[ -z $errors ]] || fail "$*: $errors"
}
wants() { grep -qE -- "$2" <<<"$out" || fail "$1: no line like '$2' in: $out"; }

work=$(mktemp -d) || exit 1
shared=$(mktemp /dev/shm/system-tools.XXXXXX) || exit 1
trap 'rm -rf -- "$work" "$shared"' EXIT
cpus=$(nproc)
tool lscpu && wants lscpu "^CPU\(s\): +$(getconf _NPROCESSORS_ONLN)$" && wants lscpu '^Model name: ' && wants lscpu '^NUMA node0 CPU\(s\): '
tool nproc && wants nproc "^$cpus$"
tool free -k && wants free "^Mem: +$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) "
# Files of tmpfs are memory. Others may free some meanwhile.
if tool free -k; then
  before=$(awk '/^Mem:/ { print $5 }' <<<"$out")
  head -c 40M /dev/zero >"$shared"
  tool free -k && after=$(awk '/^Mem:/ { print $5 }' <<<"$out") && ((after >= before + 38 * 1024)) ||
    fail "free: 40 MiB in /dev/shm, and shared was $before and is ${after-}"
  : >"$shared"
fi
tool ps -o pid=,comm= -p $$ && wants ps "^ *$$ "
tool df -P / && wants df ' /$'
tool mount && wants mount '^proc on /proc type proc '
tool findmnt -n /proc && wants findmnt '^/proc +proc +proc '
tool uptime && wants uptime 'load average: [0-9.]+, [0-9.]+, [0-9.]+'
tool vmstat && wants vmstat '^procs'
tool id && wants id "^uid=$EUID"
if command -v lsof >/dev/null; then
  exec 7</etc/passwd
  tool lsof -w -p $$ && wants lsof "^[^ ]+ +$$ .* 7r +REG .* /etc/passwd$"
  exec 7<&-
  # Of another process: by name, and one that is deleted.
  mkfifo "$work/gate" && echo text >"$work/file" && echo text >"$work/gone"
  cat <"$work/gate" 8<"$work/file" 9<"$work/gone" &
  exec 6>"$work/gate"  # both are open now
  rm "$work/gone"
  tool lsof -w -t "$work/file" && wants lsof "^$!$"
  tool lsof -w -p $! && wants lsof "^cat +$! .* 8r +REG .* 5 +[0-9]+ $work/file$" && wants lsof " 9r +REG .* $work/gone \(deleted\)$"
  exec 6>&-
  wait
fi
# What a file system holds, and how it is mounted.
mounted() {
  mkdir "$work/tmpfs" && mount -t tmpfs -o size=8m,mode=700,nosuid none "$work/tmpfs" && head -c 2M /dev/zero >"$work/tmpfs/f" || exit 1
  tool df -k "$work/tmpfs" && wants df " 8192 +2048 +6144 +25% $work/tmpfs$"
  tool mount && wants mount "^none on $work/tmpfs type tmpfs \(rw,nosuid,relatime,size=8192k,mode=700(,inode64)?\)$"
  mkdir "$work/bound" && mount --bind "$work/tmpfs" "$work/bound" && mount -o remount,bind,ro "$work/bound" || exit 1
  tool findmnt -n -o OPTIONS "$work/bound" && wants findmnt '^ro,'
  tool df -k "$work/bound" && wants df " 8192 +2048 +6144 +25% $work/bound$"
  umount "$work/bound" "$work/tmpfs"
  exit $((failures > 0))
}
if ((EUID == 0)); then
  export -f mounted fail tool wants
  work=$work failures=0 unshare --mount --propagation private bash -c mounted || fail "of what is mounted"
fi
if command -v ss >/dev/null && command -v python3 >/dev/null; then
  coproc LISTEN { exec python3 -c 'import socket, sys
a = socket.socket(); a.bind(("127.0.0.1", 0)); a.listen(7)
c = socket.create_connection(a.getsockname()); d, _ = a.accept(); c.send(b"12345")
b = socket.socket(socket.AF_UNIX); b.bind("\0system-tools-" + str(a.getsockname()[1])); b.listen(9)
print(a.getsockname()[1], flush=True); sys.stdin.read()'; }
  read -r port <&"${LISTEN[0]}"
  tool ss -Htlnp && wants ss "^LISTEN +0 +7 +127\.0\.0\.1:$port +0\.0\.0\.0:\* +users:\(\(\"python3\",pid=$LISTEN_PID,fd=3\)\)"
  tool ss -Htn state established && wants ss "^5 +0 +127\.0\.0\.1:$port +127\.0\.0\.1:" && wants ss "^0 +0 +127\.0\.0\.1:[0-9]+ +127\.0\.0\.1:$port"
  tool ss -Hxlp && wants ss "^u_str +LISTEN +0 +9 +@system-tools-$port .*\(\(\"python3\",pid=$LISTEN_PID,fd=[0-9]+\)\)"
  eval "exec ${LISTEN[1]}>&-"
  wait
fi
if command -v systemd-detect-virt >/dev/null && [[ ${1-} == sandbox ]]; then
  out=$(systemd-detect-virt --container)
  wants systemd-detect-virt '^[a-z-]+$'
  [[ $out != none ]] || fail "systemd-detect-virt: no container"
fi
((failures == 0)) && echo PASSED
