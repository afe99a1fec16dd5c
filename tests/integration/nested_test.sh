#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# This runsc, whole, inside a sandbox: `runsc do runsc do …`, of either platform in either. nested_test.sh DRIVER; native
# is the inner command on the host's kernel, to show that only the outer sandbox is tried.
set -u
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/driver.sh"
. "$it_dir/container.sh"
driver=$(it_driver "${1:?}") || exit 125
it_use_platform "$1"
it_setup
runsc=$(it_runtime runsc) || exit 125
it_program address_end
read -ra flags <<<"${RUNSC_FLAGS-}"
# A directory and a runsc that a user without privileges reaches.
it_shared=$it_work/shared
mkdir -m 1777 "$it_shared" && cp "$runsc" "$it_shared/runsc" || exit 125
runsc=$it_shared/runsc

outer=()
[[ $driver != runsc ]] || outer=("$runsc" --root "$it_work/state" "${flags[@]}" do --)
# inner PLATFORM COMMAND...: in a sandbox, which is in the sandbox of the driver. What the inner runsc writes stays in that.
inner() {
  local platform=$1
  shift
  timeout --kill-after=5 150 "${outer[@]}" "$runsc" --root "$it_work/inner" --platform="$platform" do -- "$@"
}
each() { for platform in ptrace systrap; do "$@"; done; }

output_and_status() {
  local out status
  out=$(inner "$platform" echo hello) || fail "$platform: exit status $?: $out"
  [[ $out == hello ]] || fail "$platform said: $out"
  inner "$platform" sh -c 'exit 7'
  status=$?
  ((status == 7)) || fail "$platform: exit status $status, not 7"
}
test_output_and_status() { each output_and_status; }

# Processes, pipes, signals, files and memory go through two sentries.
a_script() {
  local out status
  out=$(inner "$platform" sh -c '
    echo "pid $$"
    seq 1 2000 | sort -rn | head -n 1
    trap "echo trapped" USR1; kill -USR1 $$
    sleep 100 & kill $!; wait $! 2>/dev/null; echo "child $?"
    echo written >/tmp/file; cat /tmp/file; rm /tmp/file
    head -c 3000000 /dev/zero | wc -c')
  status=$?
  ((status == 0)) || fail "$platform: exit status $status: $out"
  [[ $out == $'pid 1\n2000\ntrapped\nchild 143\nwritten\n3000000' ]] || fail "$platform said: $out"
}
test_a_script() { each a_script; }

# It is a sandbox of its own: what is done in it is not seen around it, and its guests' addresses end below its stubs.
test_walls() {
  [[ $driver == runsc ]] || return 0
  local out
  out=$(timeout --kill-after=5 150 "${outer[@]}" sh -c '
    "$1" --root /tmp/inner --platform=ptrace do -- sh -c "echo inside >/tmp/wall; cat /tmp/wall"
    test -e /tmp/wall && echo "seen outside"
    echo outer lives' sh "$runsc") || fail "exit status $?: $out"
  [[ $out == $'inside\nouter lives' ]] || fail "said: $out"
  inner ptrace "$it_work/suite/address_end" >"$it_work/end" || fail "exit status $?"
  [[ $(cat "$it_work/end") == 7fffc0000000 ]] || fail "addresses end at $(cat "$it_work/end")"
  "${outer[@]}" "$it_work/suite/address_end" >"$it_work/end" || fail "exit status $?"
  [[ $(cat "$it_work/end") == 7fffe0000000 ]] || fail "around it at $(cat "$it_work/end")"
}

# A user without privileges who makes a sandbox with a user namespace.
test_rootless() {
  local out
  out=$(timeout --kill-after=5 150 "${outer[@]}" env --chdir=/ setpriv --reuid=65534 --regid=65534 --clear-groups \
    "$runsc" --root "$it_shared/inner" --rootless --platform=ptrace do -- sh -c 'id -u; echo hello') || fail "exit status $?: $out"
  [[ $out == $'0\nhello' ]] || fail "said: $out"
}

# A bundle with a root of its own, a volume and an overlay, made and run by the driver inside.
test_a_container() {
  local out root
  root=$(it_root busybox) || fail "no root"
  out=$(timeout --kill-after=5 150 "${outer[@]}" env RUNSC="$runsc" RUNSC_FLAGS=--platform=ptrace "$it_dir/driver.sh" \
    runsc "$root" -- sh -c 'touch /of-its-own && ls /suite/shell.sh && hostname && exit 5')
  local status=$?
  ((status == 5)) || fail "exit status $status: $out"
  [[ $out == /suite/shell.sh$'\n'* ]] || fail "said: $out"
}

test_three_levels() {
  local out
  out=$(inner ptrace "$runsc" --root "$it_work/third" --platform=ptrace do -- echo hello) || fail "exit status $?: $out"
  [[ $out == hello ]] || fail "said: $out"
}

run_tests output_and_status a_script walls rootless a_container three_levels
