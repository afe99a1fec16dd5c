#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Stands in for runsc so that run_in_sandbox.sh can be tested alone: checks its command line, then runs the program.
[[ $1 == --root && -d $2 && $3 == --platform=fake && $4 == do && $5 == -- ]] || exit 99
root=$2
shift 5
[[ -d $TEST_TMPDIR && -w $TEST_TMPDIR && -z ${XML_OUTPUT_FILE-} ]] || exit 98
# A process that left the group, as a sentry does.
setsid bash -c 'exec -a "$0" sleep 1000' "$root" </dev/null >/dev/null 2>&1 &
"$@"
