#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One guest script under one driver: run_guest.sh DRIVER ROOT [OPTION...] -- COMMAND [ARG...]
# DRIVER: native (a chroot on the host's kernel), runc, or a platform of runsc. The script must end with status 0 and the
# line PASSED on stdout, so that a sandbox that runs nothing fails too.
# OPTION: --same     its output must be that of the native run
#         --program NAME   /suite/NAME, compiled from guest/NAME.c; and those of driver.sh's run_in
set -u
# shellcheck source=driver.sh
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/driver.sh"
driver=$(it_driver "${1:?}") || exit 125
it_use_platform "$1"
root=${2:?}
shift 2
same=no options=()
it_setup
while (($#)) && [[ $1 != -- ]]; do
  case $1 in
    --same) same=yes ;;
    --program)
      it_program "$2"
      shift
      ;;
    *) options+=("$1") ;;
  esac
  shift
done

out=$it_work/out
run_in "$driver" "$root" "${options[@]}" "$@" >"$out" </dev/null
status=$?
if ((status != 0)) || [[ $(tail -n 1 "$out") != PASSED ]]; then
  tail -n 20 "$out"
  echo "run_guest.sh: FAILED with status $status under $driver: ${*:2}" >&2
  exit 1
fi
if [[ $same == yes && $driver != chroot ]]; then
  run_in chroot "$root" "${options[@]}" "$@" >"$out.native" </dev/null || { echo "the native run fails" >&2; exit 1; }
  if ! diff "$out.native" "$out" >"$out.diff"; then
    head -n 30 "$out.diff"
    echo "run_guest.sh: FAILED: $(grep -c '^[<>]' "$out.diff") lines differ from the native run (<)" >&2
    exit 1
  fi
fi
echo PASSED
