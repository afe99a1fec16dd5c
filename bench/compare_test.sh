#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bench/compare works: what it prints and writes, what it says of runtimes that fail, and that an interrupt leaves nothing behind.
set -u

top=$PWD
work=$(mktemp -d) || exit 1
trap 'rm -rf -- "$work"' EXIT
compare=("$top/bench/compare" --runsc "$top/runsc/runsc" --guest "$top/bench/guest/guest" --smoke --rounds 1)
failures=0
fail() {
  echo "FAILED: $*" >&2
  failures=$((failures + 1))
}

# Every metric of every runtime has a positive time, in the table and in the CSV.
"${compare[@]}" --output "$work/all" --only native,runsc-ptrace,runsc-systrap >"$work/out" 2>"$work/err" ||
  fail "all workloads: status $?: $(tail -n 20 "$work/out" "$work/err")"
/usr/bin/python3 - "$work/all" <<'PYTHON' || fail "the results of all workloads"
import collections, csv, os, sys
directory = sys.argv[1]
found = collections.defaultdict(set)
with open(directory + "/results.csv", newline="") as file:
    for row in csv.DictReader(file):
        assert not row["error"], row
        assert row["metric"] == "idle_wakeups" or 0 < float(row["best"]) <= float(row["median"]), row
        found[row["metric"]].add(row["runtime"])
runtimes = {"native", "runsc-ptrace", "runsc-systrap"}
assert all(names == runtimes for names in found.values()), found
for metric in "getpid_inline stat_miss pipe_pingpong fork_exec start_true memory_sleep idle_wakeups python_5 build_c find_usr sqlite forks_300".split():
    assert metric in found, metric
table = open(directory + "/table.txt").read()
assert all(metric + " (" in table for metric in found) and "FAILED" not in table, table
try:
    import matplotlib
    assert open(directory + "/ratios.png", "rb").read(8) == b"\x89PNG\r\n\x1a\n"
except ImportError:
    pass
PYTHON

# A runtime that fails, and one whose program does nothing, are failures and not fast.
printf '#!/bin/sh\nexit 0\n' >"$work/lazy"
chmod +x "$work/lazy"
"${compare[@]}" --output "$work/bad" --only native,false,lazy --runtime false=/bin/false --runtime lazy="$work/lazy" getpid_libc start_true forks_300 \
  >"$work/out" 2>"$work/err"
(($? == 1)) || fail "failing runtimes: another status than 1"
grep -q '^FAILED on false: getpid_libc' "$work/out" || fail "false is not named: $(cat "$work/out")"
grep -q '^FAILED on lazy: .*forks_300' "$work/out" || fail "lazy is not named: $(cat "$work/out")"
grep -qE '^  native +[0-9]' "$work/out" || fail "no results of the runtime that works"

# Errors of the command line are one line.
for wrong in "--runtime x" "--runtime x=/nowhere" "--only nobody" "no_such_workload" "--rounds 0"; do
  # shellcheck disable=SC2086  # words on purpose
  "${compare[@]}" --output "$work/wrong" $wrong >"$work/out" 2>&1 && fail "$wrong: accepted"
  [[ $(grep -c . "$work/out") == 1 ]] || fail "$wrong: $(cat "$work/out")"
done

# Ctrl-C while sandboxes run: nothing is left. Their command lines name the directory of this run.
mkfifo "$work/progress"
"${compare[@]}" --output "$work/cut" --only runsc-ptrace,native --rounds 1000 memory_sleep >"$work/out" 2>"$work/progress" &
running=$!
stage=
exec 3<"$work/progress"
while read -rt 60 line <&3; do
  [[ $line == *"memory_sleep on runsc-ptrace"* ]] || continue
  for ((i = 0; i < 400 && ${#stage} == 0; i++)); do
    stage=$(tr '\0' '\n' < <(cat /proc/[0-9]*/cmdline 2>/dev/null) | grep -o "^--root=/var/tmp/runsc-bench\.[A-Za-z0-9_]*" | head -n 1)
    stage=${stage#--root=}
    [[ -d $stage && $(cat /proc/[0-9]*/comm 2>/dev/null) == *runsc-sandbox* ]] || stage=
    read -rt 0.05 <> <(:) || true
  done
  break
done
[[ -n $stage ]] || fail "no sandbox was seen to run"
kill -INT "$running"
cat <&3 >"$work/rest" &
wait "$running"
status=$?
((status == 130)) || fail "interrupted: status $status: $(cat "$work/rest")"
if [[ -n $stage ]]; then
  [[ ! -e $stage ]] || fail "$stage is left: $(ls "$stage")"
  echo "$stage" >"$work/pattern"
  grep -lsF -f "$work/pattern" /proc/[0-9]*/cmdline && fail "processes of $stage are left"
  grep -qsF "$stage" /proc/self/mountinfo && fail "mounts of $stage are left"
  compgen -G "/sys/fs/cgroup/*/${stage##*/}" && fail "cgroups of $stage are left"
fi

((failures == 0)) && echo "compare: all passed"
exit $((failures != 0))
