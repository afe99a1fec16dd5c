#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What every system call gives for each bad argument, on the host's kernel and in a sandbox, must be the same:
#   compare.sh RUN_IN_SANDBOX RUNSC PLATFORM BAD_ARGUMENTS EXCEPTIONS
# EXCEPTIONS: lines of an extended regular expression of "call(argument=how)", a tab, and the reason.
set -u
run_in_sandbox=$1 runsc=$2 platform=$3 program=$4 exceptions=$5
work=$(mktemp -d /tmp/bad-arguments.XXXXXX) || exit 2
trap 'rm -rf -- "$work"' EXIT

timeout 200 "$program" >"$work/native" || { echo "compare.sh: the native run failed" >&2; exit 2; }
"$run_in_sandbox" "$runsc" "$platform" "$program" >"$work/sandbox" || { echo "compare.sh: the run in the sandbox failed" >&2; exit 1; }
lines=$(wc -l <"$work/native")
((lines > 9000)) || { echo "compare.sh: only $lines lines: the program ended early" >&2; exit 2; }
grep -v -e '^#' -e '^$' "$exceptions" | cut -f1 >"$work/patterns"

# A call that the host's kernel is built without (ENOSYS for all) says nothing.
awk '{ call = $1; sub(/\(.*/, "", call); all[call]++; if ($2 == "ENOSYS") none[call]++ }
     END { for (c in none) if (none[c] * 10 >= all[c] * 9) print c }' "$work/native" >"$work/absent"

awk -v absent="$work/absent" '
  BEGIN { while ((getline line < absent) > 0) skip[line] = 1 }
  { where = $0; sub(/\).*/, ")", where); what = substr($0, length(where) + 2); call = where; sub(/\(.*/, "", call) }
  call in skip { next }
  FNR == NR { native[where] = what; next }
  { seen[where] = 1 }
  !(where in native) { print where "\tnot made natively\t" what; next }
  native[where] != what { print where "\t" native[where] "\t" what }
  END { for (w in native) if (!(w in seen)) print w "\t" native[w] "\tnot made" }
' "$work/native" "$work/sandbox" | grep -vE -f "$work/patterns" | sort >"$work/differences"

if [[ -s $work/differences ]]; then
  echo "compare.sh: $(wc -l <"$work/differences") of $lines answers differ (call, the host's kernel, the sandbox):" >&2
  cat "$work/differences" >&2
  exit 1
fi
echo "$lines answers, as on the host's kernel but for the exceptions."
