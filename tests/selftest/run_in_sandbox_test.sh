#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run_in_sandbox.sh passes status and output on, bounds the time, and leaves nothing behind.
set -u
run=$PWD/tests/run_in_sandbox.sh
fake=$PWD/tests/selftest/fake_runsc.sh
failures=0
expect() {
  if [[ $2 != "$3" ]]; then
    echo "$1: expected '$2', got '$3'"
    failures=$((failures + 1))
  fi
}
in_sandbox() { "$run" "$fake" fake "$@"; }

expect output "a b" "$(in_sandbox /bin/echo "a b")"
in_sandbox /bin/sh -c 'exit 42'
expect status 42 $?
TEST_TIMEOUT=1 in_sandbox /bin/sleep 100 2>/dev/null
expect "status out of time" 124 $?
"$run" /nonexistent fake /bin/true 2>/dev/null
expect "status without runtime" 125 $?

marker=$(mktemp -u)
TEST_SHARD_STATUS_FILE=$marker in_sandbox /bin/true
expect "shard marker" 0 "$([[ -e $marker ]] && echo 0)"
rm -f "$marker"

# The state directory and the processes that name it are gone.
state=$(in_sandbox /bin/sh -c 'dirname "$TEST_TMPDIR"')
expect "state directory" "" "$(ls -d "$state" 2>/dev/null)"
# Killing is asynchronous: up to 5 s for the last of them to go. The pattern is in a file, not in grep's own arguments.
pattern=$(mktemp)
echo "$state/root" >"$pattern"
for ((i = 0; i < 500; i++)); do
  left=$(grep -alsF -f "$pattern" /proc/[0-9]*/cmdline)
  [[ -z $left ]] && break
  sleep 0.01
done
rm -f "$pattern"
expect "left-over processes" "" "$left"
exit $((failures != 0))
