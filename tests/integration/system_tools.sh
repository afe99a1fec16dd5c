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

cpus=$(nproc)
tool lscpu && wants lscpu "^CPU\(s\): +$(getconf _NPROCESSORS_ONLN)$" && wants lscpu '^Model name: ' && wants lscpu '^NUMA node0 CPU\(s\): '
tool nproc && wants nproc "^$cpus$"
tool free -k && wants free "^Mem: +$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) "
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
fi
if command -v ss >/dev/null && command -v python3 >/dev/null; then
  coproc LISTEN { exec python3 -c 'import socket, sys
a = socket.socket(); a.bind(("127.0.0.1", 0)); a.listen()
b = socket.socket(socket.AF_UNIX); b.bind("\0system-tools-" + str(a.getsockname()[1])); b.listen()
print(a.getsockname()[1], flush=True); sys.stdin.read()'; }
  read -r port <&"${LISTEN[0]}"
  tool ss -Htln && wants ss "LISTEN .*127\.0\.0\.1:$port "
  tool ss -Hxl && wants ss "@system-tools-$port"
  eval "exec ${LISTEN[1]}>&-"
  wait
fi
if command -v systemd-detect-virt >/dev/null && [[ ${1-} == sandbox ]]; then
  out=$(systemd-detect-virt --container)
  wants systemd-detect-virt '^[a-z-]+$'
  [[ $out != none ]] || fail "systemd-detect-virt: no container"
fi
((failures == 0)) && echo PASSED
