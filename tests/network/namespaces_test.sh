#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# namespaces.sh on the host's kernel, or in a sandbox: namespaces_test.sh DRIVER [SCRIPT]
set -u
here=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")
. "$here/../integration/driver.sh"
name=${1:?}
driver=$(it_driver "$name") || exit 125
it_use_platform "$name"
it_setup
script=${2:-namespaces.sh}
cp -- "$(dirname -- "${BASH_SOURCE[0]}")/$script" "$it_work/suite/" || exit 125
if [[ $name == native ]]; then
  timeout --kill-after=5 250 unshare --net --mount --propagation private env -i "${it_env[@]}" bash "$it_work/suite/$script"
else
  run_in "$driver" / --limit 250 -- bash "/suite/$script"
fi >"$it_work/out" 2>&1
status=$?
[[ $status == 0 && $(tail -n 1 "$it_work/out") == PASSED ]] || { echo "status $status: $(tail -n 30 "$it_work/out")" >&2; exit 1; }
echo "1 passed, 0 failed"
