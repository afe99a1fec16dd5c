#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a test binary in a fresh sandbox whose root is the host's: run_in_sandbox.sh RUNSC PLATFORM BINARY [ARG...]
# The exit status is the binary's; 124 when it ran out of time, 125 when this script couldn't start it.
# Environment: RUNSC_TEST_FLAGS holds more global flags of runsc, separated by spaces (RUNSC_TEST_FLAGS=--strace);
# RUNSC_TEST_BINARY, another runsc in place of the first argument (tools/dev/sanitize).
set -u

if (($# < 3)); then
  echo "usage: run_in_sandbox.sh RUNSC PLATFORM BINARY [ARG...]" >&2
  exit 125
fi
runsc=$(realpath -e -- "${RUNSC_TEST_BINARY:-$1}") || exit 125
platform=$2
binary=$(realpath -e -- "$3") || exit 125
shift 3

if [[ $platform == kvm && ! (-r /dev/kvm && -w /dev/kvm) ]]; then
  echo "SKIPPED: /dev/kvm is not there, or not to be opened by this user"
  [[ -n ${TEST_SHARD_STATUS_FILE-} ]] && touch "$TEST_SHARD_STATUS_FILE"
  exit 0
fi

# Short and under /tmp: a unix socket's path (control.sock is below --root) holds at most 107 bytes.
state=$(mktemp -d /tmp/runsc-test.XXXXXX) || exit 125
mkdir "$state/root" "$state/tmp" && echo "$state/root" >"$state/pattern" || exit 125

sandbox=
stop_sandbox() {
  # The runtime leads a process group of its own; what left that group (sentry, gofer) names the state directory.
  [[ -n $sandbox ]] && kill -KILL -- "-$sandbox" 2>/dev/null
  local process
  for process in $(grep -alsF -f "$state/pattern" /proc/[0-9]*/cmdline); do
    process=${process#/proc/}
    [[ ${process%/cmdline} != "$$" ]] && kill -KILL "${process%/cmdline}" 2>/dev/null
  done
}
cleanup() {
  stop_sandbox
  rm -rf --one-file-system -- "$state"
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP

# Bazel waits for TEST_TIMEOUT seconds, then kills: end before it, with the log of what hung.
limit=${TEST_TIMEOUT:-300}
((limit > 20)) && limit=$((limit - 10))

# gtest takes sharding and filters from the environment (TEST_TOTAL_SHARDS, TESTBRIDGE_TEST_ONLY). Files written in
# the sandbox stay in it: its XML report would be lost, and the marker that it heeds sharding is left by this script.
[[ -n ${TEST_SHARD_STATUS_FILE-} ]] && touch "$TEST_SHARD_STATUS_FILE"
unset TEST_SHARD_STATUS_FILE GTEST_SHARD_STATUS_FILE XML_OUTPUT_FILE GTEST_OUTPUT
export TEST_TMPDIR=$state/tmp GTEST_TMP_DIR=$state/tmp TMPDIR=$state/tmp HOME=/root USER=${USER:-root}

read -ra extra <<<"${RUNSC_TEST_FLAGS-}"
command=("$runsc" --root "$state/root" --platform="$platform" "${extra[@]}" do -- "$binary" "$@")

setsid timeout --kill-after=5 "$limit" "${command[@]}" </dev/null &
sandbox=$!
wait "$sandbox"
status=$?
if ((status == 124 || status == 137)); then
  echo "run_in_sandbox.sh: status $status: no end within $limit s, or killed: ${command[*]}" >&2
fi
exit "$status"
