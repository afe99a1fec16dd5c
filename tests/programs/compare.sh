#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# compare.sh PLATFORM FAMILY CASES: a Bazel test's view of run.py, with results of its own. Differences known and explained
# (docs/programs.md) are not among its cases.
set -u
here=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")
results=$(mktemp -d /tmp/programs.XXXXXX) || exit 125
trap 'rm -rf -- "$results"' EXIT
RUNSC=$(realpath -e -- "${RUNSC:-$PWD/runsc/runsc}") || exit 125
export RUNSC
python3 "$here/run.py" --driver "native,$1" --family "$2" --case "$3" --results "$results" --check
