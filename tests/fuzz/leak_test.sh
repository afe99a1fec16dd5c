#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Random calls leave nothing behind: leak_test.sh RUNSC PLATFORM RANDOM_CALLS [ARG...]
#
# When no guest process is left but the first, the sentry has as many threads, open files and host processes, and as much
# guest memory, as it had at the start, and the gofer as many open files. Looked at from the host, so that nothing in the
# sandbox has to be believed. RUNSC_TEST_BINARY: as in run_in_sandbox.sh.
set -u
runsc=$(realpath -e -- "${RUNSC_TEST_BINARY:-$1}") || exit 1
platform=$2
binary=$(realpath -e -- "$3") || exit 1
shift 3

state=$(mktemp -d /tmp/runsc-test.XXXXXX) || exit 1
mkdir "$state/root" && mkfifo "$state/in" "$state/out" || exit 1
runtime=
cleanup() {
  local process
  for process in $runtime ${sentry-} ${gofer-}; do kill -KILL "$process" 2>/dev/null; done
  rm -rf --one-file-system -- "$state"
}
trap cleanup EXIT
fail() {
  echo "leak_test.sh: $*" >&2
  exit 1
}

"$runsc" --root "$state/root" --platform="$platform" do -- "$binary" --in-sandbox yes --rests yes "$@" \
  <"$state/in" >"$state/out" &
runtime=$!
exec 3>"$state/in" 4<"$state/out"

# part NAME: the process id of a part of the sandbox.
part() {
  local process words
  for process in /proc/[0-9]*; do
    mapfile -d '' -t words <"$process/cmdline" || continue
    [[ ${words[0]-} == "runsc-$1" && ${words[1]-} == "--root=$state/root" ]] && echo "${process#/proc/}" && return
  done 2>/dev/null
  fail "no runsc-$1 of $state/root"
}

# The sentry's own, and what it keeps in its pid namespace (the zygote and the stubs).
census() {
  local process count=0 namespace memory=none file
  namespace=$(readlink "/proc/$sentry/ns/pid_for_children") || fail "the sentry is gone"
  for process in /proc/[0-9]*; do
    [[ $(readlink "$process/ns/pid") == "$namespace" ]] && ((++count))
  done 2>/dev/null
  for file in "/proc/$sentry/fd/"*; do
    [[ $(readlink "$file") == *memfd:guest-memory* ]] && memory=$(stat -Lc %b "$file")
  done
  echo "threads $(ls "/proc/$sentry/task" | wc -l)" "files $(ls "/proc/$sentry/fd" | wc -l)" \
    "processes $count" "memory $memory" "gofer-files $(ls "/proc/$gofer/fd" | wc -l)"
}

# at_rest: waits until random_calls says so.
at_rest() {
  local line
  while IFS= read -r -u 4 line; do
    [[ $line == "random_calls: at rest" ]] && return
    echo "$line"
  done
  fail "random_calls ended early"
}

at_rest
sentry=$(part sandbox) gofer=$(part gofer) || exit 1
# What the last process left is taken away by threads of the sentry: settled when two looks agree.
before=$(census)
until sleep 0.5 && again=$(census) && [[ $again == "$before" ]]; do before=$again; done
echo "before: $before"
echo >&3

at_rest
for ((look = 0; look < 60; ++look)); do
  after=$(census)
  [[ $after == "$before" ]] && break
  sleep 0.5
done
echo "after:  $after"
if [[ $after != "$before" ]]; then
  ls -l "/proc/$sentry/fd" >&2
  cat "/proc/$sentry/task/"*/comm >&2
  fail "something is left"
fi
echo >&3
cat <&4
wait "$runtime"
