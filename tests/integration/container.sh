# SPDX-License-Identifier: Apache-2.0
# For tests that look at a container from outside; sourced after driver.sh. A container runs in the background, its
# stdin and stdout are the descriptors $to and $from.

# Ends the test, and its container. A subshell that made no container passes on an id that it inherited: harmless.
fail() {
  echo "  FAILED: $*" >&2
  [[ -z ${it_id-} ]] || timeout --kill-after=5 20 "${it_runtime_command[@]}" delete --force "$it_id" >/dev/null 2>&1
  exit 1
}

# Of a runtime command; bounded.
rt() { timeout --kill-after=5 30 "${it_runtime_command[@]}" "$@"; }
state_field() { rt state "$it_id" 2>/dev/null | sed -nE "s/^ *\"$1\": \"?([^\",]*)\"?,?$/\1/p"; }

# launch DRIVER ROOT OPTION... -- COMMAND...: runs it in the foreground of a background job; sets $runner, $to, $from.
launch() {
  local driver=$1 root
  root=$(it_root "$2") || fail "no root $2"
  shift 2
  it_bundle "$driver" "$root" "$@" || fail "no bundle"
  mkfifo "$it_bundle_dir/in" "$it_bundle_dir/out" || fail mkfifo
  timeout --kill-after=5 "${launch_limit:-200}" "${it_prefix[@]}" "${it_runtime_command[@]}" run --bundle "$it_bundle_dir" "$it_id" \
    <"$it_bundle_dir/in" >"$it_bundle_dir/out" 2>"$it_bundle_dir/err" &
  runner=$!
  exec {to}>"$it_bundle_dir/in" {from}<"$it_bundle_dir/out"
}
# hear SECONDS: one line from the container, in $heard.
hear() {
  heard=
  IFS= read -rt "$1" -u "$from" heard || fail "no line from the container in $1 s; stderr: $(head -c 2000 "$it_bundle_dir/err")"
}
say() { echo "$*" >&"$to"; }

# ended SECONDS: waits for the run's end, so long at most; its status in $status.
ended() {
  local i
  for ((i = 0; i < $1 * 20; i++)); do
    kill -0 "$runner" 2>/dev/null || { wait "$runner"; status=$?; exec {to}>&- {from}<&-; return 0; }
    it_tick
  done
  rt delete --force "$it_id" >/dev/null 2>&1
  fail "the container has not ended within $1 s"
}
# The container is gone, with all that it had.
nothing_left() {
  local left
  left=$(it_left_behind)
  [[ -z $left ]] || fail "left behind: $left"
  [[ -z ${namespace-} ]] && return 0
  # A zombie is its parent's to reap: of a detached sandbox that is the host's init.
  left=$(for left in $(processes_in "$namespace"); do
    grep -qs '^State:.Z' "/proc/$left/status" || ps -o pid=,stat=,args= -p "$left"
  done)
  [[ -z $left ]] || fail "processes are left: $left"
}

# The pid namespace of process $1, and the processes in it: of runc the container's, of runsc the sentry and its stubs.
namespace_of() { readlink "/proc/$1/ns/pid"; }
# Sets $namespace to that of process $1, and holds it: the kernel gives the number of a namespace that is gone to the next one made.
hold_namespace_of() {
  exec {namespace_fd}<"/proc/$1/ns/pid" || fail "no process $1"
  namespace=$(readlink "/proc/self/fd/$namespace_fd")
}
processes_in() { find /proc/[0-9]*/ns/pid -maxdepth 0 -lname "${1//[\[\]]/?}" 2>/dev/null | cut -d / -f 3; }

# run_tests NAME...: each is a function test_NAME, run in a subshell. TEST_ONLY: a pattern of names.
run_tests() {
  local name passed=0 failed=0
  for name; do
    [[ $name == *${TEST_ONLY-}* ]] || continue
    if (trap - EXIT; "test_$name"); then
      passed=$((passed + 1))
    else
      echo "FAILED $name ($driver)"
      failed=$((failed + 1))
    fi
  done
  echo "$passed passed, $failed failed"
  ((failed == 0 && passed > 0))
}
