#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The OCI life cycle against any runtime binary: lifecycle_test.sh RUNTIME [NAME-PATTERN].
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/harness.sh"

test_run_prints_and_exits() {
  bundle sh -c 'echo out; echo err >&2; exit 7'
  local out code
  out=$(rt run -b "$BUNDLE" c 2>"$WORK/err" </dev/null)
  code=$?
  ((code == 7)) || fail "exit status $code: $(cat "$WORK/err")"
  [[ $out == out ]] || fail "stdout '$out'"
  grep -qx err "$WORK/err" || fail "stderr '$(cat "$WORK/err")'"
  gone c
}
test_run_reads_stdin() {
  bundle cat
  [[ $(echo hello | rt run -b "$BUNDLE" c) == hello ]] || fail "stdin did not arrive"
  gone c
}
test_run_reports_death_by_signal() {
  bundle sh -c 'sh -c \"kill -9 \\$\\$\"; echo $?'
  [[ $(rt run -b "$BUNDLE" c </dev/null) == 137 ]] || fail "inner status"
  bundle sleep 100
  rt run -b "$BUNDLE" c </dev/null &
  local runner=$!
  await running c
  rt kill c KILL || fail kill
  wait $runner
  local code=$?
  ((code == 137)) || fail "exit status $code"
  gone c
}
test_run_forwards_signals() {
  bundle sh -c 'trap \"exit 21\" TERM; echo ready; while :; do sleep 1; done'
  exec 9< <(
    timeout 40 "$RUNTIME" --root "$STATE" "${FLAGS[@]}" run -b "$BUNDLE" c </dev/null &
    trap "kill -TERM $!" TERM
    # The first wait is ended by the trap.
    wait $!
    wait $!
    echo "status $?"
  )
  local runner=$! line code
  read -rt 20 line <&9 && [[ $line == ready ]] || fail "not ready"
  # timeout passes SIGTERM on.
  kill -TERM "$runner"
  read -rt 20 line <&9 && [[ $line == "status 21" ]] || fail "'$line'"
  gone c
}
test_environment_cwd_user() {
  bundle sh -c 'pwd; id -u; id -g; echo $NAME'
  edit 's|"cwd": "/"|"cwd": "/tmp"|; s|"uid": 0, "gid": 0|"uid": 12, "gid": 34|'
  local out
  out=$(rt run -b "$BUNDLE" c </dev/null | tr '\n' ' ')
  [[ $out == "/tmp 12 34 value " ]] || fail "'$out'"
}
test_create_start_state_delete() {
  bundle sleep 100
  rt create -b "$BUNDLE" --pid-file "$WORK/pid" c </dev/null >/dev/null 2>&1 || fail create
  [[ $(status_of c) == created ]] || fail "state $(status_of c)"
  local pid
  pid=$(cat "$WORK/pid")
  [[ $pid == "$(pid_of c)" && -d /proc/$pid ]] || fail "pid file '$pid', state '$(pid_of c)'"
  rt start c || fail start
  [[ $(status_of c) == running ]] || fail "state $(status_of c)"
  [[ $(rt list -q) == c ]] || fail "list -q"
  rt list | grep -qE "^c +$pid +running" || fail "list: $(rt list)"
  rt list -f json | grep -q '"status":"running"' || fail "list json"
  expect_error 'not stopped' rt delete c
  rt kill c KILL || fail kill
  await stopped c
  expect_error 'not running' rt kill c KILL
  expect_error 'stopped' rt exec c true
  expect_error 'stopped' rt start c
  rt delete c || fail delete
  gone c
  [[ ! -d /proc/$pid ]] || grep -q 'State:.Z' "/proc/$pid/status" || fail "process $pid is left"
}
test_detached_survives_the_cli() {
  bundle sleep 100
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  [[ $(status_of c) == running ]] || fail "state $(status_of c)"
  rt delete --force c || fail delete
  gone c
}
test_detached_ends_by_itself() {
  bundle true
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  await stopped c
  rt delete c || fail delete
}
test_delete_created() {
  bundle sleep 100
  rt create -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail create
  rt delete --force c || fail delete
  gone c
}
test_delete_force_of_nothing() { rt delete --force nothing || fail "exit status $?"; }
test_start_twice() {
  bundle sleep 100
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  expect_error 'already running|running container' rt start c
  rt delete -f c || fail delete
}
test_two_with_one_id() {
  bundle sleep 100
  rt create -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail create
  expect_error 'container with given ID already exists' rt create -b "$BUNDLE" c
  [[ $(status_of c) == created ]] || fail "the first one is $(status_of c)"
  rt delete -f c || fail delete
}
test_exec() {
  bundle sleep 100
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  local out code
  out=$(rt exec c sh -c 'echo in; exit 3' </dev/null)
  code=$?
  [[ $out == in && $code == 3 ]] || fail "'$out' $code"
  [[ $(rt exec --cwd /tmp -e X=1 --user 5:6 c sh -c 'pwd; echo $X $NAME; id -u; id -g' </dev/null | tr '\n' ' ') == "/tmp 1 value 5 6 " ]] || fail flags
  [[ $(echo piped | rt exec c cat) == piped ]] || fail stdin
  code=$(rt exec c sh -c 'kill -9 $$' </dev/null; echo $?)
  ((code == 137)) || fail "signal: $code"
  expect_error 'nope' rt exec c /nope </dev/null
  cat >"$BUNDLE/process.json" <<<'{"args":["sh","-c","exit 9"],"cwd":"/","env":["PATH=/bin"],"user":{"uid":0,"gid":0}}'
  rt exec -p "$BUNDLE/process.json" c </dev/null
  code=$?
  ((code == 9)) || fail "process file: $code"
  rt delete -f c || fail delete
}
test_exec_detached() {
  bundle sleep 100
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  rt exec -d --pid-file "$WORK/execpid" c sleep 100 </dev/null >/dev/null 2>&1 || fail exec
  local pid
  pid=$(cat "$WORK/execpid")
  [[ -d /proc/$pid ]] || fail "no process $pid"
  rt kill c KILL
  await stopped c
  rt delete -f c || fail delete
  local i
  for ((i = 0; i < 100; i++)); do
    [[ -d /proc/$pid ]] && ! grep -q 'State:.Z' "/proc/$pid/status" 2>/dev/null || return 0
    read -rt 0.05 <> <(:) || true
  done
  fail "process $pid of exec is left"
}
test_ps() {
  bundle sleep 100
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  rt ps c | grep -q sleep || fail "ps: $(rt ps c)"
  rt ps --format json c | grep -qE '^\[[0-9, ]+\]$' || fail "ps json"
  rt delete -f c || fail delete
}
test_kill_by_name_and_number() {
  bundle sh -c 'trap \"exit 5\" USR1; while :; do sleep 1; done'
  local signal
  for signal in USR1 SIGUSR1 10; do
    rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
    # The trap may not be set yet: without it SIGUSR1 would be ignored by pid 1, so ask until it ends.
    local i
    for ((i = 0; i < 100; i++)); do
      rt kill c $signal 2>/dev/null
      [[ $(status_of c) == stopped ]] && break
      read -rt 0.05 <> <(:) || true
    done
    await stopped c
    rt delete c || fail delete
  done
  expect_error 'unknown signal|does not exist' rt kill c NOSUCH
}
test_terminal_by_console_socket() {
  bundle sh -c 'test -t 0 && echo /tty; stty size; exit 4'
  edit 's|"terminal": false|"terminal": true, "consoleSize": {"height": 31, "width": 77}|'
  edit 's|"mounts": \[|"mounts": [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}, {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},|'
  python3 - "$WORK/tty.sock" "$WORK/tty.out" "$RUNTIME" "$STATE" "$BUNDLE" ${FLAGS[@]+"${FLAGS[@]}"} <<'PY' || fail "console socket"
import array, os, select, socket, subprocess, sys, time
path, out, runtime, state, bundle = sys.argv[1:6]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(1)
listener.settimeout(20)
create = subprocess.Popen([runtime, "--root", state, *sys.argv[6:], "create", "--console-socket", path, "-b", bundle, "c"])
conn, _ = listener.accept()
message, fds, _, _ = socket.recv_fds(conn, 4096, 4)
assert len(fds) == 1 and message, (fds, message)
assert create.wait(20) == 0
assert subprocess.call([runtime, "--root", state, *sys.argv[6:], "start", "c"], timeout=20) == 0
text, end = b"", time.monotonic() + 15
while time.monotonic() < end:
    if not select.select([fds[0]], [], [], 0.2)[0]:
        continue
    try:
        data = os.read(fds[0], 4096)
    except OSError:
        break
    if not data:
        break
    text += data
assert b"31 77" in text and b"/" in text, text
PY
  await stopped c
  rt delete c || fail delete
}
test_terminal_in_the_foreground() {
  bundle sh
  edit 's|"terminal": false|"terminal": true|'
  edit 's|"mounts": \[|"mounts": [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}, {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},|'
  python3 - "$RUNTIME" --root "$STATE" ${FLAGS[@]+"${FLAGS[@]}"} run -b "$BUNDLE" c <<'PY' || fail "foreground terminal"
import fcntl, os, pty, select, struct, subprocess, sys, termios, time
master, slave = pty.openpty()
def resize(rows, columns):
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
def control():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
resize(41, 103)
before = termios.tcgetattr(slave)
child = subprocess.Popen(sys.argv[1:], stdin=slave, stdout=slave, stderr=slave, preexec_fn=control)
text = b""
def until(wanted, again=b""):
    global text
    end = time.monotonic() + 20
    # Runtimes differ in how many carriage returns a line gets.
    while wanted not in text.replace(b"\r", b""):
        assert time.monotonic() < end, (wanted, text)
        if select.select([master], [], [], 0.5)[0]:
            text += os.read(master, 4096)
        else:
            os.write(master, again)
# The quotes keep the echo of the command line from looking like its output.
# The size is set, and SIGWINCH handled, at the runtime's own pace: ask until it is seen.
os.write(master, b"while test \"$(stty size 2>&1)\" != '41 103'; do sleep 0.05; done; echo do''ne1\n")
until(b"done1")
resize(50, 120)
os.write(master, b"while test \"$(stty size)\" != '50 120'; do sleep 0.05; done; echo do''ne2\n")
until(b"done2")
# ^C reaches the foreground process, not the runtime.
os.write(master, b"cat\n")
# The terminal's echo and cat's answer: cat is in the foreground.
until(b"start\nstart\n", again=b"start\n")
os.write(master, b"\x03")
until(b"done3", again=b"echo do''ne3\n")
os.write(master, b"exit 5\n")
assert child.wait(20) == 5
assert termios.tcgetattr(slave) == before, "the terminal was not restored"
PY
  gone c
}
test_terminal_needs_a_socket_when_detached() {
  bundle true
  edit 's|"terminal": false|"terminal": true|'
  expect_error 'console' rt create -b "$BUNDLE" c
  gone c
}
test_hooks() {
  bundle sleep 100
  local stage hooks=''
  for stage in prestart createRuntime poststart poststop; do
    printf '#!/bin/sh\ncat >%q; echo >>%q\n' "$WORK/hook.$stage" "$WORK/hook.$stage" >"$WORK/$stage.sh"
    chmod +x "$WORK/$stage.sh"
    hooks+=",\"$stage\": [{\"path\": \"$WORK/$stage.sh\", \"env\": [\"PATH=/bin:/usr/bin\"]}]"
  done
  edit "s|\"hostname\"|\"hooks\": {${hooks#,}}, \"hostname\"|"
  rt create -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail create
  [[ -s $WORK/hook.prestart && -s $WORK/hook.createRuntime ]] || fail "hooks of create"
  # runc 1.1 runs it in create already.
  ! is_runsc || [[ ! -e $WORK/hook.poststart ]] || fail "poststart ran in create"
  grep -q '"id":"c"' "$WORK/hook.createRuntime" || fail "state: $(cat "$WORK/hook.createRuntime")"
  rt start c || fail start
  [[ -s $WORK/hook.poststart && ! -e $WORK/hook.poststop ]] || fail "hooks of start"
  rt delete -f c || fail delete
  [[ -s $WORK/hook.poststop ]] || fail "hooks of delete"
}
test_failing_hook_undoes_create() {
  bundle sleep 100
  edit 's|"hostname"|"hooks": {"prestart": [{"path": "/bin/false"}]}, "hostname"|'
  expect_error 'hook' rt create -b "$BUNDLE" c
  gone c
}
test_cgroup_limit_and_removal() {
  bundle sleep 100
  local name=/oci-test-$$
  edit "s|\"linux\": {|\"linux\": {\"cgroupsPath\": \"$name\", \"resources\": {\"pids\": {\"limit\": 77}}, |"
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  # A sandbox needs several host tasks for each of the guest's; the guest's own count is the sentry's (tests/integration).
  local directory expected=77
  ! is_runsc || expected=$((77 * 4 + 64))
  directory=$(ls -d /sys/fs/cgroup/pids$name /sys/fs/cgroup$name 2>/dev/null | head -n 1)
  [[ -n $directory && $(cat "$directory/pids.max") == "$expected" ]] || fail "pids.max in '$directory'"
  grep -qx "$(pid_of c)" "$directory/cgroup.procs" || fail "not in the cgroup"
  rt delete -f c || fail delete
  [[ ! -e $directory ]] || fail "$directory is left"
}
test_wait_prints_the_status() {
  is_runsc || return 0
  bundle sh -c 'exit 6'
  rt create -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail create
  rt wait c >"$WORK/wait" &
  local waiter=$!
  rt start c || fail start
  wait $waiter || fail wait
  [[ $(cat "$WORK/wait") == '{"id":"c","exitStatus":6}' ]] || fail "$(cat "$WORK/wait")"
  await stopped c
  [[ $(rt wait c) == '{"id":"c","exitStatus":6}' ]] || fail "after its end: $(rt wait c)"
  rt delete c || fail delete
}
test_killed_sandbox_ends_the_run() {
  bundle sleep 100
  rt run -b "$BUNDLE" c </dev/null 2>"$WORK/err" &
  local runner=$!
  await running c
  kill -KILL "$(pid_of c)"
  wait $runner
  local code=$?
  ((code != 0 && code != 124)) || fail "exit status $code"
  gone c
}
test_killed_gofer_ends_the_run() {
  is_runsc && [[ $(basename "$RUNTIME") == runsc ]] || return 0
  bundle sleep 100
  rt run -b "$BUNDLE" c </dev/null 2>"$WORK/err" &
  local runner=$!
  await running c
  kill -KILL "$(sed -n 's/.*"goferPid": \([0-9]*\),/\1/p' "$STATE/c/state.json")"
  wait $runner
  local code=$?
  ((code != 0 && code != 124)) || fail "exit status $code"
  gone c
}

test_failing_boot_is_told_in_one_line() {
  [[ $(basename "$RUNTIME") == runsc_native ]] || return 0
  bundle true
  edit 's|"hostname"|"annotations": {"test.fail-boot": "the boot said no"}, "hostname"|'
  expect_error '^runsc: the boot said no$' rt run -b "$BUNDLE" c
  gone c
  edit 's|the boot said no|crash|'
  expect_error 'the sandbox was killed by signal' rt run -b "$BUNDLE" c
  gone c
}

# The bad input of issue 2. $1: what runc says where it says something else.
# linux.seccomp: verdicts with and without conditions, for init and for what exec adds. The native front end has no sentry.
test_seccomp_profile() {
  [[ $(basename "$RUNTIME") != runsc_native ]] || return 0
  local out
  seccomp_bundle() {
    bundle "$@"
    edit '$ s/}}$/,"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["mkdir","mkdirat","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":71},{"names":["chown","lchown"],"action":"SCMP_ACT_ERRNO","errnoRet":5,"args":[{"index":1,"value":1,"op":"SCMP_CMP_EQ"}]}]}}}/'
  }
  seccomp_bundle sh -c 'busybox grep ^Seccomp: /proc/self/status; busybox mkdir /tmp/x; busybox chown 1 /bin; busybox chown 2 /bin'
  out=$(rt run -b "$BUNDLE" c </dev/null 2>&1)
  grep -qE "^Seccomp:[[:space:]]2$" <<<"$out" || fail "no filter: $out"
  grep -q "Protocol error" <<<"$out" || fail "mkdir was made: $out"
  grep -qE "(I/O|Input/output) error" <<<"$out" || fail "the condition did not hold: $out"
  grep -q "Read-only file system" <<<"$out" || fail "the condition held for another value: $out"
  seccomp_bundle sleep 100
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  out=$(rt exec c sh -c 'busybox mkdir /tmp/y' </dev/null 2>&1)
  grep -q "Protocol error" <<<"$out" || fail "exec is not filtered: $out"
  rt delete -f c || fail delete
}
test_bad_config() {
  bundle true
  local row old new ours theirs
  while IFS='~' read -r old new ours theirs; do
    bundle true
    edit "s|$old|$new|"
    if is_runsc; then expect_error "$ours" rt run -b "$BUNDLE" c; else expect_error "$theirs" rt run -b "$BUNDLE" c; fi
    gone c
  done <<'ROWS'
"args": \["true"\],~~process.args: missing~args must not be empty
"args": \["true"\]~"args": []~process.args: must not be empty~args must not be empty
"args": \["true"\]~"args": "true"~process.args: must be an array~cannot unmarshal
"cwd": "/"~"cwd": "work"~process.cwd: must be an absolute path~[Cc]wd.*absolute
"uid": 0~"uid": "root"~process.user.uid: must be an integer~cannot unmarshal
"root": {~"root": 3, "x": {~root: must be an object~cannot unmarshal
"path": "[^"]*"~"path": "/no/such/root"~root.path: /no/such/root: no such file~/no/such/root
"type": "pid"~"type": "nest"~linux.namespaces\[0\].type~nest
"ociVersion"~ociVersion~config.json: line 1, column 2: not valid JSON~invalid character
ROWS
}
test_bad_bundles_and_ids() {
  bundle true
  expect_error 'no/such' rt run -b /no/such c
  expect_error 'container ID|container id' rt run -b "$BUNDLE" 'a/b'
  expect_error 'container ID|container id|not exist' rt run -b "$BUNDLE" ..
  expect_error 'does not exist' rt state nothing
  expect_error 'does not exist' rt kill nothing
  expect_error 'does not exist' rt delete nothing
  expect_error 'does not exist' rt exec nothing true
  mkdir "$BUNDLE/empty"
  expect_error 'config.json' rt run -b "$BUNDLE/empty" c
  gone c
}
test_duplicate_mounts() {
  is_runsc || return 0
  bundle true
  edit 's|"mounts": \[|"mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},|'
  expect_error 'mounts\[1\]: the same mount' rt run -b "$BUNDLE" c
  gone c
}
test_missing_bind_source() {
  bundle true
  edit 's|"mounts": \[|"mounts": [{"destination": "/tmp", "type": "bind", "source": "/no/such/dir", "options": ["bind"]},|'
  expect_error '/no/such/dir' rt run -b "$BUNDLE" c
  gone c
}
test_missing_program() {
  bundle /bin/nope
  expect_error 'nope' rt run -b "$BUNDLE" c
  gone c
}
test_bad_flags() {
  expect_error 'nosuchflag' rt run --nosuchflag c
  expect_error 'nosuchflag' "$RUNTIME" --nosuchflag list
  is_runsc || return 0
  expect_error 'unknown command "nosuch"' rt nosuch
  expect_error 'platform' "$RUNTIME" --platform=nosuch list
}
test_spec_is_usable() {
  BUNDLE=$(mktemp -d "$WORK/bundle.XXXXXX")
  cp -a "$WORK/rootfs" "$BUNDLE/rootfs"
  rt spec -b "$BUNDLE" || fail spec
  expect_error 'config.json' rt spec -b "$BUNDLE"
  sed -i 's|"terminal": true|"terminal": false|; s|^\t\t\t"sh"$|\t\t\t"echo", "hi"|' "$BUNDLE/config.json"
  [[ $(cd "$BUNDLE" && rt run c </dev/null) == hi ]] || fail "the bundle does not run"
}
test_concurrent_creates_have_one_winner() {
  # runc's creates trip over each other's cgroup and state: none may win.
  is_runsc || return 0
  bundle sleep 100
  local i won=0 pids=()
  for i in 1 2 3 4; do
    rt create -b "$BUNDLE" c </dev/null >/dev/null 2>&1 &
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i" && won=$((won + 1)); done
  ((won == 1)) || fail "$won creates succeeded"
  [[ $(status_of c) == created ]] || fail "state $(status_of c)"
  rt delete -f c || fail delete
}

run_tests
