#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Pods: containers that join the sandbox of another one by the CRI's annotations. pods_test.sh RUNSC [NAME-PATTERN].
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/harness.sh"

# A root of its own for each name, with a file that says whose it is.
root_of() {
  [[ -d $WORK/root-$1 ]] || { cp -a "$WORK/rootfs" "$WORK/root-$1" && echo "$1" >"$WORK/root-$1/name"; }
}
# sandbox: the bundle of the pod's first container, "pause".
sandbox() {
  bundle sh -c 'trap \"exit 0\" TERM; while :; do sleep 1; done'
  edit 's|"hostname"|"annotations": {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "pause"}, &|'
}
# member NAME ARG...: the bundle of one that joins it, with a pid namespace of its own.
member() {
  root_of "$1"
  bundle "${@:2}"
  edit 's|"hostname"|"annotations": {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pause"}, &|'
  edit "s|$WORK/rootfs\", \"readonly\": true|$WORK/root-$1\"|"
}
shared_pids() { edit 's|{"type": "pid"}|{"type": "pid", "path": "/proc/1/ns/pid"}|'; }
detached() { rt run -d -b "$BUNDLE" "$@" </dev/null >/dev/null || fail "run $*"; }
start_pod() {
  sandbox
  detached pause
}
in_() { rt exec "$1" "${@:2}" </dev/null; }
# Everything of the pod goes; what is left of a container fails the test.
end_pod() {
  local id
  for id in "$@" pause; do
    rt delete --force "$id" || fail "delete $id"
    gone "$id"
  done
}
# until_says TEXT COMMAND...: it prints that at last.
until_says() {
  local i out
  for ((i = 0; i < 100; i++)); do
    out=$("${@:2}" 2>&1)
    [[ $out == "$1" ]] && return 0
    read -rt 0.05 <> <(:) || true
  done
  fail "${*:2}: says '$out', not '$1'"
}

test_two_containers_with_roots_of_their_own() {
  start_pod
  member a sleep 100
  detached a
  member b sleep 100
  detached b
  [[ $(in_ a cat /name) == a && $(in_ b cat /name) == b ]] || fail "roots: $(in_ a cat /name) $(in_ b cat /name)"
  ! in_ pause cat /name 2>/dev/null || fail "the first container has another's root"
  # What one writes, the other does not see.
  in_ a sh -c 'mkdir -p /tmp && echo x >/tmp/mine' || fail write
  ! in_ b ls /tmp/mine 2>/dev/null || fail "b sees a's file"
  local id
  for id in pause a b; do [[ $(status_of "$id") == running ]] || fail "$id is $(status_of "$id")"; done
  [[ $(rt list -q | sort | tr '\n' ' ') == 'a b pause ' ]] || fail "list: $(rt list -q)"
  # One sentry, three gofers.
  [[ $(pgrep -fc "^runsc-sandbox .*$STATE ") == 1 ]] || fail "sentries: $(pgrep -fa "runsc-sandbox.*$STATE")"
  [[ $(pgrep -fc "^runsc-gofer .*$STATE ") == 3 ]] || fail "gofers: $(pgrep -fa "runsc-gofer.*$STATE")"
  [[ $(pid_of a) != "$(pid_of b)" && $(pid_of a) != "$(pid_of pause)" ]] || fail "pids are shared"
  end_pod a b
}
test_network_and_uts_are_shared() {
  start_pod
  member a sh -c 'echo hello | busybox nc -l -p 4000 127.0.0.1; sleep 100'
  detached a
  member b sleep 100
  detached b
  until_says hello in_ b busybox nc 127.0.0.1 4000
  [[ $(in_ a busybox hostname) == box && $(in_ b busybox hostname) == box ]] || fail hostname
  local ns
  for ns in net ipc uts; do
    [[ $(in_ a busybox readlink /proc/self/ns/$ns) == "$(in_ b busybox readlink /proc/self/ns/$ns)" ]] || fail "$ns"
  done
  for ns in mnt pid; do
    [[ $(in_ a busybox readlink /proc/self/ns/$ns) != "$(in_ b busybox readlink /proc/self/ns/$ns)" ]] || fail "one $ns"
  done
  end_pod a b
}
test_system_v_ipc_is_shared() {
  start_pod
  local id
  for id in a b; do
    root_of $id
    mkdir -p "$WORK/root-$id/usr"
    member $id sleep 100
    # Debian's python: it has no System V calls of its own, libc has.
    edit 's|"mounts": \[|&{"destination": "/usr", "type": "bind", "source": "/usr", "options": ["ro", "rbind"]}, {"destination": "/lib64", "type": "bind", "source": "/lib64", "options": ["ro", "rbind"]}, {"destination": "/lib", "type": "bind", "source": "/lib", "options": ["ro", "rbind"]}, |'
    detached $id
  done
  local prologue='import ctypes; c = ctypes.CDLL(None); c.shmat.restype = ctypes.c_void_p; '
  in_ a /usr/bin/python3 -c "$prologue"'ctypes.memmove(c.shmat(c.shmget(77, 4096, 0o1600), None, 0), b"from a", 7)' || fail "a: shm"
  [[ $(in_ b /usr/bin/python3 -c "$prologue"'print(ctypes.string_at(c.shmat(c.shmget(77, 4096, 0), None, 0)).decode())') == 'from a' ]] || fail "b: shm"
  # Abstract AF_UNIX names go with the network namespace.
  rt exec -d a /usr/bin/python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("\0pod"); s.listen(1); s.accept()[0].send(b"unix")' </dev/null || fail "exec -d"
  until_says unix in_ b /usr/bin/python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect("\0pod"); print(s.recv(9).decode())'
  end_pod a b
}
test_pid_namespaces() {
  start_pod
  member a sleep 101
  detached a
  member b sleep 102
  shared_pids
  detached b
  # a: its own, where it is 1. b: the pod's, where the first container is 1.
  [[ $(in_ a cat /proc/1/cmdline | tr '\0' ' ') == 'sleep 101 ' ]] || fail "a's init: $(in_ a cat /proc/1/cmdline)"
  [[ $(in_ b cat /proc/1/cmdline | tr '\0' ' ') == 'sh -c '* ]] || fail "b's init: $(in_ b cat /proc/1/cmdline)"
  [[ $(in_ pause ls /proc) == *$'\n'2* ]] || fail "the pod's /proc is empty"
  in_ b sh -c 'for p in /proc/[0-9]*; do tr "\0" " " <$p/cmdline; echo; done' | grep -q 'sleep 101' || fail "b does not see a"
  ! in_ a sh -c 'for p in /proc/[0-9]*; do tr "\0" " " <$p/cmdline; echo; done' | grep -q 'sleep 102' || fail "a sees b"
  # ps is about one container, whoever shares its pid namespace.
  rt ps a | grep -q '^0 *1 *0 .*sleep$' || fail "ps a: $(rt ps a)"
  [[ $(rt ps b | grep -c sleep) == 1 ]] || fail "ps b: $(rt ps b)"
  # The end of one that shares the namespace ends its own processes only.
  rt exec -d b sleep 103 </dev/null || fail "exec -d b"
  rt kill b KILL || fail kill
  await stopped b
  until_says '' sh -c "'$RUNTIME' --root '$STATE' exec pause sh -c 'cat /proc/[0-9]*/cmdline 2>/dev/null' </dev/null | grep -a -o 'sleep.10[23]' | tr '\\0' ' '"
  [[ $(status_of a) == running && $(status_of pause) == running ]] || fail "others ended, too"
  end_pod a b
}
test_end_and_exit_status_of_one() {
  start_pod
  member a sh -c 'exit 7'
  rt run -b "$BUNDLE" a </dev/null
  [[ $? == 7 ]] || fail "run's status"
  gone a
  member a sh -c 'while [ ! -e /go ]; do sleep 0.05; done; exit 8'
  detached a
  rt wait a >"$WORK/waited" &
  local waiter=$!
  in_ a sh -c ': >/go'
  wait "$waiter"
  [[ $(cat "$WORK/waited") == *'"exitStatus":8}' ]] || fail "wait: $(cat "$WORK/waited")"
  # Without force: it has stopped.
  rt delete a || fail "delete after wait"
  gone a
  [[ $(status_of pause) == running ]] || fail "the pod ended"
  end_pod
}
test_restart_under_the_same_id() {
  start_pod
  local i
  for i in 1 2 3; do
    member a sleep 100
    detached a
    [[ $(in_ a cat /name) == a ]] || fail "try $i"
    rt kill a KILL && await stopped a && rt delete a || fail "end $i"
    gone a
  done
  end_pod
}
test_create_start_and_kill_of_a_created_one() {
  sandbox
  rt create -b "$BUNDLE" pause </dev/null >/dev/null || fail create
  local pause=$BUNDLE
  member a sleep 100
  rt create -b "$BUNDLE" --pid-file "$WORK/a.pid" a </dev/null >/dev/null || fail "create a"
  [[ $(status_of a) == created && $(cat "$WORK/a.pid") == "$(pid_of a)" ]] || fail "a is $(status_of a)"
  expect_error 'has not been started' rt start a
  rt delete --force a || fail "delete a"
  rt start pause || fail "start pause"
  rt create -b "$BUNDLE" a </dev/null >/dev/null || fail "create a again"
  rt start a || fail "start a"
  expect_error 'already running' rt start a
  member b sleep 100
  rt create -b "$BUNDLE" b </dev/null >/dev/null || fail "create b"
  rt delete b || fail "delete of a created one"
  [[ $(status_of a) == running ]] || fail "a is $(status_of a)"
  end_pod a
}
test_start_of_a_program_that_is_not_there() {
  start_pod
  member a /no/such/program
  expect_error 'no such file' rt run -b "$BUNDLE" a
  gone a
  [[ $(status_of pause) == running ]] || fail "the pod ended"
  end_pod
}
test_bad_annotations() {
  start_pod
  local text
  for text in nothing ../pause pause/.. ''; do
    member a sleep 1
    edit "s|sandbox-id\": \"pause\"|sandbox-id\": \"$text\"|"
    expect_error 'sandbox-id' rt create -b "$BUNDLE" a
    gone a
  done
  member a sleep 100
  detached a
  member b sleep 1
  edit 's|sandbox-id": "pause"|sandbox-id": "a"|'
  expect_error 'another sandbox' rt create -b "$BUNDLE" b
  member pause sleep 1
  expect_error 'already exists' rt create -b "$BUNDLE" pause
  end_pod a
}
test_the_end_of_the_first_ends_all() {
  start_pod
  member a sleep 100
  detached a
  member b sleep 100
  shared_pids
  detached b
  rt kill pause TERM || fail kill
  local id
  for id in pause a b; do await stopped $id; done
  [[ $(rt wait a) == *'"exitStatus":137}' ]] || fail "a: $(rt wait a)"
  [[ $(rt wait pause) == *'"exitStatus":0}' ]] || fail "pause: $(rt wait pause)"
  # In the order that the CRI never has.
  rt delete pause && rt delete b && rt delete a || fail delete
  for id in pause a b; do gone $id; done
}
test_loss_of_one_gofer() {
  start_pod
  member a sleep 100
  detached a
  member b sleep 100
  detached b
  kill -KILL "$(pid_of a)"
  await stopped a
  [[ $(rt wait a) == *'"exitStatus":137}' ]] || fail "a: $(rt wait a)"
  [[ $(status_of pause) == running && $(in_ b cat /name) == b ]] || fail "others were lost, too"
  rt delete a || fail "delete a"
  gone a
  member a sleep 100
  detached a
  [[ $(in_ a cat /name) == a ]] || fail "a second one"
  end_pod a b
}
test_loss_of_the_sentry() {
  start_pod
  member a sleep 100
  detached a
  kill -KILL "$(pid_of pause)"
  await stopped pause
  await stopped a
  end_pod a
}
test_the_process_that_stands_for_it_ends_with_its_status() {
  start_pod
  member a sh -c 'while [ ! -e /go ]; do sleep 0.05; done; exit 9'
  # A subreaper, as engines' monitors are: it is told of the end of the container's pid.
  RT="$RUNTIME --root $STATE" BUNDLE=$BUNDLE PIDFILE=$WORK/a.pid timeout 60 python3 - <<'PY' || fail "status by waitpid"
import ctypes, os, shlex, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
rt = shlex.split(os.environ["RT"])
null = subprocess.DEVNULL
subprocess.run([*rt, "run", "-d", "-b", os.environ["BUNDLE"], "--pid-file", os.environ["PIDFILE"], "a"], check=True, stdin=null, stdout=null)
subprocess.run([*rt, "exec", "a", "sh", "-c", ": >/go"], check=True, stdin=null)
pid, status = os.waitpid(int(open(os.environ["PIDFILE"]).read()), 0)
sys.exit(os.waitstatus_to_exitcode(status) != 9)
PY
  end_pod a
}
test_pause_of_one() {
  start_pod
  local id
  for id in a b; do
    member $id sh -c 'i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.02; done'
    detached $id
  done
  rt pause a || fail pause
  [[ $(status_of a) == paused && $(status_of b) == running ]] || fail "states $(status_of a) $(status_of b)"
  expect_error paused rt exec a true
  # It stands still while another one gets on.
  local count=$(in_ b cat /count) i
  for ((i = 0; i < 200; i++)); do
    (($(in_ b cat /count || echo 0) > count + 2)) && break
    read -rt 0.05 <> <(:) || true
  done
  ((i < 200)) || fail "b stands still, too"
  rt resume a || fail resume
  count=$(in_ a cat /count)
  for ((i = 0; i < 200; i++)); do
    (($(in_ a cat /count || echo 0) > count)) && break
    read -rt 0.05 <> <(:) || true
  done
  ((i < 200)) || fail "a stands still after its resume"
  rt pause a || fail "second pause"
  end_pod a b
}
test_limits_and_stats_of_one() {
  start_pod
  member a sh -c 'while :; do sleep 100; done'
  edit 's|"linux": {|&"resources": {"memory": {"limit": 50331648}, "pids": {"limit": 8}}, |'
  detached a
  member b sleep 100
  detached b
  # Ten sleeps do not fit into a; into b they do.
  ! in_ a sh -c 'for i in 0 1 2 3 4 5 6 7 8 9; do sleep 0.1 & done; wait' >/dev/null 2>&1 || fail "a: pids"
  in_ b sh -c 'for i in 0 1 2 3 4 5 6 7 8 9; do sleep 0.1 & done; wait' || fail "b: pids"
  # 100 MiB neither.
  in_ a busybox awk 'BEGIN { s = sprintf("%100000000s", "x"); exit length(s) != 100000000 }'
  [[ $? == 137 ]] || fail "a: memory"
  in_ b busybox awk 'BEGIN { s = sprintf("%100000000s", "x"); exit length(s) != 100000000 }' || fail "b: memory"
  [[ $(status_of a) == running && $(status_of b) == running ]] || fail "states"
  local stats=$(rt events --stats a)
  [[ $stats == *'"limit":50331648,'* ]] || fail "stats of a: $stats"
  [[ $(rt events --stats b) == *'"pids":{"current":1}'* ]] || fail "stats of b: $(rt events --stats b)"
  rt update --pids-limit 20 --memory 209715200 a || fail update
  in_ a sh -c 'for i in 0 1 2 3 4 5 6 7 8 9; do sleep 0.1 & done; wait' || fail "a: pids after the update"
  in_ a busybox awk 'BEGIN { s = sprintf("%100000000s", "x"); exit length(s) != 100000000 }' || fail "a: memory after the update"
  end_pod a b
}
test_kill_all_of_one() {
  start_pod
  member a sh -c 'sleep 300 & sleep 301 & wait'
  shared_pids
  detached a
  until_says 3 sh -c "'$RUNTIME' --root '$STATE' ps a | grep -c 'sleep\|sh'"
  rt kill --all a KILL || fail "kill --all"
  await stopped a
  [[ $(status_of pause) == running ]] || fail "the pod ended"
  end_pod a
}
test_terminal() {
  start_pod
  member a sh -c 'stty size; tty'
  edit 's|"terminal": false|"terminal": true, "consoleSize": {"width": 91, "height": 23}|'
  local out
  out=$(rt run -b "$BUNDLE" a </dev/null | tr -d '\r')
  [[ $out == *'23 91'* && $out == */dev/pts/0* ]] || fail "terminal: $out"
  end_pod
}
test_many_at_once() {
  start_pod
  local i pids=()
  for i in 1 2 3 4 5 6 7 8; do
    member a sh -c "exit $i"
    (rt run -b "$BUNDLE" "m$i" </dev/null; [[ $? == "$i" ]]) &
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i" || fail "one of many"; done
  [[ $(rt list -q) == pause ]] || fail "left: $(rt list -q)"
  end_pod
}

run_tests
