#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Job control in a container whose terminal is a pty on the host: through the runtime's console.
# job_control_console_test.sh DRIVER; native is runc here.
set -u
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/driver.sh"
name=${1:?}
[[ $name == native ]] && name=runc
driver=$(it_driver "$name") || exit 125
it_use_platform "$name"
export RUNSC_FLAGS=${RUNSC_FLAGS-}
timeout --kill-after=5 120 python3 "$it_dir/guest/jobs.py" \
  "$it_dir/driver.sh" "$driver" debian --terminal --limit 100 -- bash --norc --noprofile -i </dev/null
