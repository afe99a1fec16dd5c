#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# --strace shows the calls of a live sandbox as strace(1) does; --debug and --debug-log say what they promise.
# trace_test.sh DRIVER; native runs strace(1) itself, to show that guest/traced.expected is what it prints.
set -u
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/driver.sh"
. "$it_dir/container.sh"
driver=$(it_driver "${1:?}") || exit 125
it_use_platform "$1"
it_setup
it_program traced
flags=${RUNSC_FLAGS-}

# The lines between the two marks and what follows, without what differs from run to run: addresses, padding.
normalised() {
  sed -nE '/^getppid\(\)/,$p' | grep -vE '^(getppid|\+\+\+)' | sed -E 's/0x[0-9a-f]{9,}/ADDRESS/g; s/\) +=/) =/'
}

# logged WORK-DIRECTORY FLAG...: runs the program in a sandbox with a fresh log directory $1.
logged() {
  local directory=$1
  shift
  mkdir "$directory" || fail "mkdir"
  RUNSC_FLAGS="$flags --debug-log=$directory/ $*" run_in runsc debian -- /suite/traced >"$directory.out" 2>"$directory.err"
  (($? == 7)) || fail "exit status: $(cat "$directory.err")"
  [[ ! -s $directory.out && ! -s $directory.err ]] || fail "the log got into the command's output: $(cat "$directory".???)"
}
boot_log() { cat "$1"/*.boot.txt; }
calls() { boot_log "$1" | sed -nE 's/^I[0-9]{4} [0-9:.]+ sentry [0-9]+\] \[ *[0-9]+: *[0-9]+\] (.*)$/\1/p'; }

test_calls_look_as_strace_shows_them() {
  if [[ $driver == runsc ]]; then
    logged "$it_work/all" --strace
    # Times are ours alone.
    calls "$it_work/all" | sed -E 's/ <[0-9]+us>$//' | normalised >"$it_work/shown"
  else
    run_in chroot debian -- sh -c 'strace -o /tmp/shown /suite/traced; test $? = 7 && cat /tmp/shown' | normalised >"$it_work/shown"
  fi
  diff -u "$it_dir/guest/traced.expected" "$it_work/shown" >&2 || fail "lines differ"
}

test_times_are_shown() {
  [[ $driver == runsc ]] || return 0
  logged "$it_work/times" --strace
  calls "$it_work/times" | grep -qE '^nanosleep\(.*\) = 0 <[0-9]+us>$' || fail "no time: $(calls "$it_work/times" | grep nanosleep)"
}

test_only_the_calls_asked_for() {
  [[ $driver == runsc ]] || return 0
  logged "$it_work/some" --strace --strace-syscalls=lseek,write --strace-log-size=3
  local shown
  shown=$(calls "$it_work/some" | sed -E 's/ <[0-9]+us>$//')
  [[ $shown == $'write(3, "one"..., 12) = 12\nlseek(3, 4, SEEK_SET) = 4\nwrite(3, 0x8, 4) = -1 EFAULT (Bad address)' ]] ||
    fail "shown: $shown"
}

test_log_files_are_named_after_their_process() {
  [[ $driver == runsc ]] || return 0
  logged "$it_work/plain"
  local command files
  for command in run boot gofer; do
    files=("$it_work"/plain/runsc.log.*."$command".txt)
    [[ ${#files[@]} == 1 && -f ${files[0]} ]] || fail "not one log of $command: $(ls "$it_work/plain")"
  done
  [[ -z $(calls "$it_work/plain") ]] || fail "system calls without --strace"
  boot_log "$it_work/plain" | grep -q 'sentry [0-9]*\] platform' || fail "no word of the platform: $(boot_log "$it_work/plain")"
  # A pattern instead of a directory.
  RUNSC_FLAGS="$flags --debug-log=$it_work/one-%COMMAND%" run_in runsc debian -- /bin/true || fail "a pattern"
  [[ -f $it_work/one-boot && -f $it_work/one-run && -f $it_work/one-gofer ]] || fail "patterns: $(ls "$it_work")"
}

test_debug_says_more() {
  [[ $driver == runsc ]] || return 0
  logged "$it_work/quiet"
  logged "$it_work/debug" --debug
  local text what='(process 1 starts: /suite/traced|process 1 ended with wait status 0x700|the sandbox is confined:)'
  [[ $(boot_log "$it_work/debug" | grep -cE "$what") == 3 ]] || fail "debug: $(boot_log "$it_work/debug")"
  grep -q 'command run' "$it_work"/debug/*.run.txt || fail "the command's own: $(cat "$it_work"/debug/*.run.txt)"
  [[ $(boot_log "$it_work/quiet" | grep -cE "$what") == 0 ]] || fail "debug messages without --debug"
}

test_a_log_that_cannot_be_written_is_an_error() {
  [[ $driver == runsc ]] || return 0
  RUNSC_FLAGS="$flags --debug-log=/proc/no/such/file" run_in runsc debian -- /bin/true 2>"$it_work/err" && fail "it runs"
  [[ $(wc -l <"$it_work/err") == 1 && $(cat "$it_work/err") == *--debug-log*/proc/no/such/file* ]] || fail "$(cat "$it_work/err")"
}

run_tests calls_look_as_strace_shows_them times_are_shown only_the_calls_asked_for \
  log_files_are_named_after_their_process debug_says_more a_log_that_cannot_be_written_is_an_error
