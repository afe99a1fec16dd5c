#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 of the command at each of its steps, and of a sandbox's processes in each state: killed_test.sh RUNSC [NAME-PATTERN]. Steps are system
# calls that leave a trace: strace kills the command at the Nth of each kind, for each N. Whatever was killed, nothing claims to run that does not, and
# delete --force clears all.
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/harness.sh"

command -v strace >/dev/null || { echo "tests/oci: needs the package strace" >&2; exit 125; }
readonly GROUP=/oci-killed-$$
readonly STEPS=mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,symlink,symlinkat,clone,clone3,vfork,sendmsg,sendto,bind,kill,pidfd_send_signal,write,pwrite64,ftruncate

# strace_it OPTION... -- COMMAND...: the runtime's command under strace.
strace_it() {
  local options=()
  while [[ $1 != -- ]]; do options+=("$1") && shift; done
  shift
  timeout --kill-after=5 60 strace -qq -e "trace=$STEPS" "${options[@]}" "$RUNTIME" --root "$STATE" ${FLAGS[@]+"${FLAGS[@]}"} "$@" </dev/null >/dev/null 2>"$WORK/err" &
  # So that the shell does not tell of each.
  wait $! 2>/dev/null
}
is_consistent() {
  local status
  status=$(status_of c)
  case $status in
    running) rt exec c true </dev/null >/dev/null 2>&1 || { await stopped c; } ;;
    paused) rt resume c && rt exec c true </dev/null >/dev/null 2>&1 || fail "$1: paused, but does not go on" ;;
    created) rt start c 2>"$WORK/start" || [[ $(status_of c) == stopped ]] || fail "$1: created, but does not start: $(cat "$WORK/start")" ;;
  esac
}
is_cleared() {
  rt delete --force c 2>"$WORK/delete" || fail "$1: delete --force: $(cat "$WORK/delete")"
  gone c
  no_processes_left
  local left
  left=$(ls -d /sys/fs/cgroup/*$GROUP /sys/fs/cgroup$GROUP 2>/dev/null)
  [[ -z $left ]] || fail "$1: cgroups are left: $left"
}
killed_bundle() {
  bundle sleep 100
  edit "s|\"linux\": {|\"linux\": {\"cgroupsPath\": \"$GROUP\", |"
}
# each COMMAND...: the command on a container in the state that `prepare` makes, killed at each of its steps.
each() {
  killed_bundle
  local argv=("${@/#BUNDLE/$BUNDLE}") call count n steps=0
  prepare || fail "before $1"
  strace_it -o "$WORK/trace" -- "${argv[@]}" || fail "$*: $(cat "$WORK/err")"
  is_cleared "$*"
  while read -r count call; do
    for ((n = 1; n <= count; n++)); do
      steps=$((steps + 1))
      prepare || fail "before $call $n of $1"
      strace_it -o /dev/null -e "inject=$call:signal=KILL:when=$n" -- "${argv[@]}"
      # One run may have a step less than another.
      (($? == 137)) || ((n > 1)) || fail "$call $n of $*: was not killed: $(cat "$WORK/err")"
      is_consistent "$call $n of $*"
      is_cleared "$call $n of $*"
    done
  done < <(sed -n 's/^\([a-z0-9_]*\)(.*/\1/p' "$WORK/trace" | sort | uniq -c)
  ((steps > 0)) || fail "$*: $steps steps: $(cat "$WORK/trace")"
  echo "  $1: $steps steps"
}
running() { rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1; }

test_create() {
  prepare() { :; }
  each create -b BUNDLE c
}
test_start() {
  prepare() { rt create -b "$BUNDLE" c </dev/null >/dev/null 2>&1; }
  each start c
}
test_kill() {
  prepare() { running; }
  each kill c KILL
}
test_pause() {
  prepare() { running; }
  each pause c
}
test_resume() {
  prepare() { running && rt pause c; }
  each resume c
}
test_exec() {
  prepare() { running; }
  each exec -d --pid-file "$WORK/exec.pid" c sleep 77
}
test_update() {
  prepare() { running; }
  each update --pids-limit 30 c
}
test_delete() {
  prepare() { running && rt kill c KILL && await stopped c; }
  each delete c
}
test_delete_force() {
  prepare() { running; }
  each delete --force c
}

# The sandbox's processes, in each state of the container.
test_processes_in_each_state() {
  local who state
  killed_bundle
  for who in sandboxPid goferPid; do
    for state in created running paused executing; do
      rt create -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail create
      [[ $state == created ]] || rt start c || fail start
      [[ $state != paused ]] || rt pause c || fail pause
      [[ $state != executing ]] || rt exec -d c sleep 78 </dev/null >/dev/null 2>&1 || fail exec
      kill -KILL "$(sed -n "s/.*\"$who\": \([0-9]*\),/\1/p" "$STATE/c/state.json")" || fail "no $who"
      await stopped c
      expect_error . rt exec c true
      expect_error . rt start c
      is_cleared "$who, $state"
    done
  done
}

run_tests
