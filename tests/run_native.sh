#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a test binary on the host's kernel, for a bounded time: run_native.sh BINARY [ARG...]
# The exit status is the binary's, 124 when it ran out of time.
set -u
limit=${TEST_TIMEOUT:-300}
((limit > 20)) && limit=$((limit - 10))
exec timeout --kill-after=5 "$limit" "$@" </dev/null
