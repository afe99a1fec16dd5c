#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Commands beside the life cycle, and the config.json that engines write: commands_test.sh RUNTIME [NAME-PATTERN].
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/harness.sh"

is_sandbox() { [[ $(basename "$RUNTIME") == runsc ]]; }
is_native() { [[ $(basename "$RUNTIME") == runsc_native ]]; }
started() {
  bundle "$@"
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail "run $*"
}

test_pause_and_resume() {
  # The stand-in has no kernel that could stop its processes; runc wants a freezer.
  ! is_native || return 0
  bundle sleep 100
  edit "s|\"linux\": {|\"linux\": {\"cgroupsPath\": \"/oci-test-$$\", |"
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  expect_error 'not paused' rt resume c
  rt pause c || fail pause
  [[ $(status_of c) == paused ]] || fail "state $(status_of c)"
  expect_error 'paused' rt exec c true
  expect_error 'not running|paused' rt pause c
  rt resume c || fail resume
  [[ $(status_of c) == running ]] || fail "state $(status_of c)"
  [[ $(rt exec c echo alive </dev/null) == alive ]] || fail "exec after resume"
  rt pause c || fail "second pause"
  rt delete --force c || fail "delete of a paused container"
  gone c
}
test_update() {
  local name=/oci-test-$$ expected
  bundle sleep 100
  edit "s|\"linux\": {|\"linux\": {\"cgroupsPath\": \"$name\", \"resources\": {\"memory\": {\"limit\": 134217728}, \"pids\": {\"limit\": 50}}, |"
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  local memory=/sys/fs/cgroup/memory$name/memory.limit_in_bytes
  [[ $(cat "$memory") == 134217728 ]] || fail "limit at first: $(cat "$memory")"
  rt update --memory 67108864 --pids-limit 30 c || fail update
  [[ $(cat "$memory") == 67108864 ]] || fail "after --memory: $(cat "$memory")"
  expected=30
  ! is_runsc || expected=$((30 * 4 + 64))
  [[ $(cat "/sys/fs/cgroup/pids$name/pids.max") == "$expected" ]] || fail "pids.max"
  rt update --resources - c <<<'{"memory": {"limit": 100663296}, "cpu": {"shares": 300}}' || fail "update from stdin"
  [[ $(cat "$memory") == 100663296 && $(cat "/sys/fs/cgroup/cpu$name/cpu.shares") == 300 ]] || fail "after stdin"
  expect_error 'memory|invalid' rt update --memory lots c
  if is_sandbox; then
    rt update --pids-limit 5 c || fail "a low limit"
    # A shell that may not fork ends.
    ! rt exec c sh -c 'for i in 1 2 3 4 5 6; do sleep 1 & done; wait' </dev/null >/dev/null 2>&1 || fail "more than 5 processes"
    rt update --pids-limit -1 c || fail "no limit"
    rt exec c sh -c 'for i in 1 2 3 4 5 6; do sleep 0.1 & done; wait' </dev/null || fail "6 processes without a limit"
  fi
  rt delete -f c || fail delete
  expect_error 'does not exist' rt update --memory 1000000 nothing
}
test_kill_all() {
  started sh -c 'sleep 300 & sleep 301 & wait'
  local i
  for ((i = 0; i < 100; i++)); do
    [[ $(rt exec c ps </dev/null 2>/dev/null | grep -c 'sleep 30') == 2 ]] && break
    read -rt 0.05 <> <(:) || true
  done
  rt kill --all c KILL || fail "kill --all"
  await stopped c
  rt delete c || fail delete
}
test_kill_with_no_signal_terminates() {
  started sh -c 'trap \"exit 4\" TERM; while :; do sleep 0.1; done'
  # Until its trap is set, the first process is spared: ask until it ends.
  local i
  for ((i = 0; i < 100; i++)); do
    rt kill c 2>/dev/null
    [[ $(status_of c) != stopped ]] || break
    read -rt 0.05 <> <(:) || true
  done
  await stopped c
  ! is_runsc || [[ $(rt wait c) == *'"exitStatus":4}' ]] || fail "$(rt wait c)"
  rt delete c || fail delete
}
test_delete_running_needs_force() {
  started sleep 100
  expect_error 'not stopped' rt delete c
  [[ $(status_of c) == running ]] || fail "it is $(status_of c)"
  rt delete --force c || fail force
  gone c
}
test_list() {
  [[ $(rt list -q) == "" ]] || fail "not empty: $(rt list -q)"
  [[ $(rt list -f json) == null ]] || fail "json of nothing: $(rt list -f json)"
  started sleep 100
  rt list --format json | python3 -c 'import json, sys
(c,) = json.load(sys.stdin)
assert c["id"] == "c" and c["status"] == "running" and c["pid"] > 0 and c["bundle"] and c["created"], c' || fail json
  [[ $(rt list --quiet) == c ]] || fail quiet
  rt list | head -n 1 | grep -qE '^ID +PID +STATUS +BUNDLE +CREATED +OWNER' || fail "table: $(rt list)"
  rt delete -f c || fail delete
}
test_exec_flags() {
  ! is_native || return 0
  bundle sleep 100
  # runc 1.1's --cap wants some to add to.
  edit 's|"cwd": "/"|"cwd": "/", "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}|'
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  local out
  out=$(rt exec --additional-gids 7 --additional-gids 8 --user 5:6 c busybox id -G </dev/null)
  [[ $(tr ' ' '\n' <<<"$out" | sort | tr '\n' ' ') == "6 7 8 " ]] || fail "groups '$out'"
  out=$(rt exec --cap CAP_NET_ADMIN c busybox grep CapEff /proc/self/status </dev/null)
  ((0x${out##*[[:space:]]} & 0x1000)) || fail "capabilities '$out'"
  out=$(rt exec c busybox grep CapEff /proc/self/status </dev/null)
  ((!(0x${out##*[[:space:]]} & 0x1000))) || fail "capabilities without: '$out'"
  [[ $(rt exec --no-new-privs c busybox grep NoNewPrivs /proc/self/status </dev/null) == *1 ]] || fail no-new-privs
  [[ $(rt exec -e A=1 -e B=2 c sh -c 'echo $A$B' </dev/null) == 12 ]] || fail env
  rt delete -f c || fail delete
}
# A terminal of exec by socket follows its window: what containerd's shim does for docker exec -it.
test_exec_terminal_by_console_socket() {
  ! is_native || return 0
  bundle sleep 100
  edit 's|"mounts": \[|"mounts": [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}, {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},|'
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  python3 - "$WORK/exec.sock" "$RUNTIME" --root "$STATE" ${FLAGS[@]+"${FLAGS[@]}"} exec -t -d --console-socket "$WORK/exec.sock" \
    --pid-file "$WORK/exec.pid" c sh -c 'until test "$(stty size)" = "41 103"; do sleep 0.05; done; echo so''me' <<'PY' || fail "exec's terminal"
import fcntl, os, select, socket, struct, subprocess, sys, termios, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1)
listener.settimeout(20)
# Read to its end: a helper that stays must not hold on to it.
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
conn, _ = listener.accept()
_, (master,), _, _ = socket.recv_fds(conn, 4096, 4)
out, _ = child.communicate(timeout=20)
assert child.returncode == 0, out
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 41, 103, 0, 0))
text, end = b"", time.monotonic() + 20
while b"some" not in text:
    assert time.monotonic() < end, text
    if select.select([master], [], [], 0.2)[0]:
        text += os.read(master, 4096)
PY
  rt delete -f c || fail delete
}
# What engines do with a health check that takes too long: they kill the pid of exec's pid file.
test_killed_exec_is_gone_inside() {
  ! is_native || return 0
  started sleep 100
  rt exec -d --pid-file "$WORK/killed.pid" c sleep 4321 </dev/null >/dev/null 2>&1 || fail exec
  rt exec c busybox ps </dev/null | grep -q 'sleep 4321' || fail "it does not run"
  kill -KILL "$(cat "$WORK/killed.pid")" || fail "no process of that pid"
  local i
  for ((i = 0; i < 100; i++)); do
    rt exec c busybox ps </dev/null | grep -q 'sleep 4321' || break
    read -rt 0.05 <> <(:) || true
  done
  ((i < 100)) || fail "it runs on"
  rt delete -f c || fail delete
}
test_events_stats() {
  ! is_native || return 0
  bundle sleep 100
  edit "s|\"linux\": {|\"linux\": {\"cgroupsPath\": \"/oci-test-$$\", |"
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  rt events --stats c | python3 -c 'import json, sys
e = json.load(sys.stdin)
assert e["type"] == "stats" and e["id"] == "c" and e["data"]["memory"]["usage"]["usage"] > 0, e
assert e["data"]["pids"]["current"] >= 1 and e["data"]["cpu"]["usage"]["total"] > 0, e' || fail stats
  rt delete -f c || fail delete
}
test_features() {
  rt features | python3 -c 'import json, sys
f = json.load(sys.stdin)
assert f["ociVersionMin"] <= f["ociVersionMax"] and "createRuntime" in f["hooks"] and "rbind" in f["mountOptions"], f
assert "CAP_KILL" in f["linux"]["capabilities"] and f["linux"]["cgroup"]["v1"] and f["linux"]["seccomp"]["enabled"], f' || fail features
}
test_log_in_json() {
  "$RUNTIME" --root "$STATE" ${FLAGS[@]+"${FLAGS[@]}"} --log "$WORK/log" --log-format json state nothing >/dev/null 2>&1 && fail "state of nothing"
  python3 - "$WORK/log" <<'PY' || fail "log: $(cat "$WORK/log")"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
assert [line["level"] for line in lines] == ["error"], lines
assert "does not exist" in lines[0]["msg"] and lines[0]["time"], lines
PY
  rm -f "$WORK/log"
  "$RUNTIME" --root "$STATE" ${FLAGS[@]+"${FLAGS[@]}"} --log "$WORK/log" state nothing >/dev/null 2>&1 && fail "state of nothing"
  grep -qE '^time="[^"]*" level=error msg=".*does not exist' "$WORK/log" || fail "text: $(cat "$WORK/log")"
}
# A hook that hangs is ended, and what its failure means depends on the stage.
test_hook_timeout_undoes_create() {
  bundle sleep 100
  edit 's|"hostname"|"hooks": {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "77777"], "timeout": 1}]}, "hostname"|'
  # runc 1.1 waits for the hook itself, whose time-out is as long.
  expect_error 'hook' rt create -b "$BUNDLE" c
  gone c
  ! grep -qlsz '^77777$' /proc/[0-9]*/cmdline || fail "the hook is left"
}
test_failing_late_hooks_are_only_told() {
  # runc 1.1 takes a failing poststart for an error.
  is_runsc || return 0
  bundle sleep 100
  edit 's|"hostname"|"hooks": {"poststart": [{"path": "/bin/false"}], "poststop": [{"path": "/bin/false"}]}, "hostname"|'
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>"$WORK/err" || fail "run: $(cat "$WORK/err")"
  [[ $(status_of c) == running ]] || fail "state $(status_of c)"
  rt delete -f c 2>"$WORK/err" || fail "delete: $(cat "$WORK/err")"
  grep -q 'hooks.poststop\[0\]: /bin/false: exit status 1' "$WORK/err" || fail "said '$(cat "$WORK/err")'"
  gone c
}
test_hooks_get_arguments_and_environment() {
  bundle true
  printf '#!/bin/sh\n{ cat; echo; echo "$0 $* $KEY $HOME"; } >%q\n' "$WORK/hook.out" >"$WORK/hook.sh"
  chmod +x "$WORK/hook.sh"
  edit "s|\"hostname\"|\"annotations\": {\"key\": \"value\"}, \"hooks\": {\"createRuntime\": [{\"path\": \"$WORK/hook.sh\", \"args\": [\"name\", \"one\"], \"env\": [\"KEY=here\", \"PATH=/bin:/usr/bin\"]}]}, \"hostname\"|"
  rt create -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail create
  # The kernel hands a script its path, not argv[0]; no environment but the hook's own.
  [[ $(tail -n 1 "$WORK/hook.out") == "$WORK/hook.sh one here " ]] || fail "'$(tail -n 1 "$WORK/hook.out")'"
  head -n 1 "$WORK/hook.out" | python3 -c 'import json, sys
s = json.load(sys.stdin)
assert s["id"] == "c" and s["status"] in ("creating", "created") and s["pid"] > 0 and s["annotations"] == {"key": "value"}, s
assert s["ociVersion"] and s["bundle"], s' || fail "state $(head -n 1 "$WORK/hook.out")"
  rt delete -f c || fail delete
}
# They run in the container, with its files, before its program.
start_hook() {
  edit "s#\"mounts\": \[#&{\"destination\": \"/tmp\", \"type\": \"tmpfs\", \"source\": \"tmpfs\"}, #"
  edit "s#\"hostname\"#\"annotations\": {\"key\": \"value\"}, \"hooks\": {\"startContainer\": [$1]}, \"hostname\"#"
}
test_start_container_hooks() {
  ! is_native || return 0
  bundle sh -c 'cat /tmp/state; echo; cat /tmp/said; echo $$'
  start_hook '{"path": "/bin/sh", "args": ["sh", "-c", "cat >/tmp/state; echo $KEY $HOME; hostname >/tmp/said; echo $KEY $NAME >>/tmp/said"], "env": ["KEY=here", "PATH=/bin"]}, {"path": "/bin/sh", "args": ["sh", "-c", "echo second >>/tmp/said"], "env": ["PATH=/bin"]}'
  ln -sf busybox "$WORK/rootfs/bin/hostname"
  rt run -b "$BUNDLE" c </dev/null >"$WORK/out" || fail "run: $(cat "$WORK/out")"
  # The container's program is still the first process.
  [[ $(tail -n 4 "$WORK/out" | tr '\n' '|') == 'box|here |second|1|' || $(tail -n 4 "$WORK/out" | tr '\n' '|') == 'box|here|second|1|' ]] || fail "$(cat "$WORK/out")"
  head -n 1 "$WORK/out" | python3 -c 'import json, sys
s = json.load(sys.stdin)
assert s["id"] == "c" and s["status"] == "created" and s["pid"] == 1 and s["annotations"] == {"key": "value"}, s
assert s["ociVersion"] and s["bundle"], s' || fail "state $(head -n 1 "$WORK/out")"
}
test_failing_start_container_hook_ends_the_start() {
  ! is_native || return 0
  bundle sh -c 'echo ran'
  start_hook '{"path": "/bin/sh", "args": ["sh", "-c", "echo why not; exit 3"], "env": ["PATH=/bin"]}'
  rt run -b "$BUNDLE" c </dev/null >"$WORK/out" 2>"$WORK/err" && fail "succeeded"
  ! grep -q ran "$WORK/out" || fail "the program ran"
  ! is_runsc || grep -qF 'hooks.startContainer[0]: /bin/sh: exit status 3: why not' "$WORK/err" || fail "said $(cat "$WORK/err")"
  rt delete --force c 2>/dev/null
  gone c
  # runc 1.1 starts, and does not wait.
  is_runsc || return 0
  bundle sh -c 'echo ran'
  start_hook '{"path": "/bin/sleep", "args": ["sleep", "77778"], "timeout": 1}'
  rt create -b "$BUNDLE" c </dev/null >"$WORK/out" 2>&1 || fail create
  rt start c 2>"$WORK/err" && fail "start succeeded"
  await stopped c
  grep -qF 'did not end within 1 s' "$WORK/err" || fail "said $(cat "$WORK/err")"
  ! grep -q ran "$WORK/out" || fail "the program ran"
  rt delete c || fail delete
  bundle true
  start_hook '{"path": "/no/such/hook"}'
  expect_error 'hooks.startContainer\[0\]: /no/such/hook: no such file' rt run -b "$BUNDLE" c
}
test_oom_score_of_an_exec() {
  # runc 1.1 leaves it out.
  is_sandbox || return 0
  started sleep 100
  echo '{"args": ["cat", "/proc/self/oom_score_adj"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "oomScoreAdj": 444}' >"$WORK/process.json"
  [[ $(rt exec --process "$WORK/process.json" c </dev/null) == 444 ]] || fail "$(rt exec --process "$WORK/process.json" c </dev/null)"
  rt delete --force c || fail delete
}
test_preserved_descriptors() {
  ! is_native || return 0
  echo three >"$WORK/three"
  bundle sh -c 'cat <&3; echo back >&4; echo 2>/dev/null >&5 || echo none'
  local out
  out=$(rt run --preserve-fds 2 -b "$BUNDLE" c </dev/null 3<"$WORK/three" 4>"$WORK/four" 5>"$WORK/five") || fail run
  [[ $out == $'three\nnone' && $(cat "$WORK/four") == back && ! -s $WORK/five ]] || fail "run: $out, $(cat "$WORK/four")"
  started sleep 100
  out=$(rt exec --preserve-fds 1 c sh -c 'cat <&3' </dev/null 3<"$WORK/three") || fail exec
  [[ $out == three ]] || fail "exec: $out"
  # runc 1.1 does not look.
  ! is_runsc || expect_error 'preserve-fds.*descriptor 4' rt exec --preserve-fds 2 c true 3<"$WORK/three" 4<&-
  rt delete --force c || fail delete
}
test_masked_and_readonly_paths() {
  ! is_native || return 0
  bundle sh -c 'cat /proc/cpuinfo | busybox wc -c; ls /proc/tty | busybox wc -l; echo x 2>&1 >/proc/sys/kernel/domainname'
  edit 's|"linux": {|"linux": {"maskedPaths": ["/proc/cpuinfo", "/proc/tty", "/no/such"], "readonlyPaths": ["/proc/sys"], |'
  edit 's|"mounts": \[|"mounts": [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},|'
  local out
  out=$(rt run -b "$BUNDLE" c </dev/null 2>&1)
  [[ $(head -n 2 <<<"$out" | tr '\n' ' ') == "0 0 " ]] || fail "masked: $out"
  grep -q 'Read-only file system' <<<"$out" || fail "readonly: $out"
}
test_sysctl() {
  ! is_native || return 0
  bundle cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_default_ttl
  edit 's|"linux": {|"linux": {"sysctl": {"kernel.msgmax": "4321", "net.ipv4.ip_default_ttl": "71"}, |'
  [[ $(rt run -b "$BUNDLE" c </dev/null | tr '\n' ' ') == "4321 71 " ]] || fail "said $(rt run -b "$BUNDLE" c </dev/null)"
}
test_process_fields() {
  ! is_native || return 0
  bundle sh -c 'ulimit -n; ulimit -Hn; umask; busybox grep -E NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj'
  edit 's|"cwd": "/"|"cwd": "/", "noNewPrivileges": true, "oomScoreAdj": 300, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 55, "hard": 66}]|'
  edit 's|"uid": 0, "gid": 0|"uid": 0, "gid": 0, "umask": 63|'
  [[ $(rt run -b "$BUNDLE" c </dev/null | tr '\n\t' '  ') == "55 66 0077 NoNewPrivs: 1 300 " ]] || fail "$(rt run -b "$BUNDLE" c </dev/null)"
}
test_annotations_may_set_flags_when_allowed() {
  is_runsc || return 0
  bundle true
  edit 's|"hostname"|"annotations": {"dev.gvisor.flag.strace": "true"}, "hostname"|'
  expect_error 'allow-flag-override' rt run -b "$BUNDLE" c
  mkdir "$WORK/logs"
  if is_sandbox; then
    rt --allow-flag-override --debug-log "$WORK/logs/" run -b "$BUNDLE" c </dev/null || fail run
    grep -qs 'exit_group(' "$WORK"/logs/* || fail "no system calls in the log"
  fi
  edit 's|dev.gvisor.flag.strace|dev.gvisor.flag.root|'
  expect_error 'cannot be chosen' rt --allow-flag-override run -b "$BUNDLE" c
  edit 's|dev.gvisor.flag.root|dev.gvisor.flag.nosuch|'
  expect_error 'nosuch' rt --allow-flag-override run -b "$BUNDLE" c
  gone c
}
test_checkpoint_is_not_there_yet() {
  is_runsc || return 0
  expect_error 'does not exist' rt checkpoint nothing
  started sleep 100
  expect_error 'yet' rt checkpoint --image-path "$WORK/image" c
  expect_error 'yet' rt restore -b "$BUNDLE" --image-path "$WORK/image" other
  [[ $(status_of c) == running ]] || fail "state $(status_of c)"
  rt delete -f c || fail delete
}
test_debug() {
  is_runsc || return 0
  started sleep 100
  rt debug --stacks --ps c >"$WORK/debug" || fail debug
  grep -qE '^sentry [0-9]+: [0-9]+ threads$' "$WORK/debug" && grep -q '^gofer ' "$WORK/debug" || fail "stacks: $(cat "$WORK/debug")"
  is_native || grep -q sleep "$WORK/debug" || fail "ps: $(cat "$WORK/debug")"
  rt debug --signal 9 c || fail signal
  await stopped c
  rt delete -f c || fail delete
}
test_install_into_docker() {
  is_runsc || return 0
  local file=$WORK/etc/daemon.json
  rt install --config_file "$file" -- --platform=ptrace --debug || fail "into nothing"
  python3 -c 'import json, os, sys
c = json.load(open(sys.argv[1]))
assert c == {"runtimes": {"runsc": {"path": os.path.realpath(sys.argv[2]), "runtimeArgs": ["--platform=ptrace", "--debug"]}}}, c' "$file" "$RUNTIME" ||
    fail "$(cat "$file")"
  printf '{"log-level": "warn", "runtimes": {"crun": {"path": "/usr/bin/crun"}}, "default-runtime": "box", "dns": ["1.1.1.1"]}' >"$file"
  chmod 640 "$file"
  rt install --config_file "$file" --runtime box || fail "beside others"
  expect_error 'already' rt install --config_file "$file" --runtime box --clobber=false
  python3 -c 'import json, sys
c = json.load(open(sys.argv[1]))
assert list(c) == ["log-level", "runtimes", "default-runtime", "dns"] and set(c["runtimes"]) == {"crun", "box"}, c' "$file" || fail "$(cat "$file")"
  [[ $(stat -c %a "$file") == 640 ]] || fail "mode $(stat -c %a "$file")"
  rt uninstall --config_file "$file" --runtime box || fail uninstall
  python3 -c 'import json, sys
assert json.load(open(sys.argv[1])) == {"log-level": "warn", "runtimes": {"crun": {"path": "/usr/bin/crun"}}, "dns": ["1.1.1.1"]}' "$file" || fail "$(cat "$file")"
  expect_error 'no runtime' rt uninstall --config_file "$file" --runtime box
  echo '{"a": ' >"$file"
  expect_error 'not a JSON object' rt install --config_file "$file"
  [[ $(cat "$file") == '{"a": ' ]] || fail "a damaged file was changed"
}
test_many_at_a_time_leave_nothing() {
  # runc's creates trip over each other here.
  is_runsc || return 0
  bundle sh -c 'exit 3'
  edit "s|\"linux\": {|\"linux\": {\"cgroupsPath\": \"/oci-many-$$\", |"
  local i pids=() code left
  for ((i = 0; i < 100; i++)); do
    cp -r "$BUNDLE" "$WORK/many$i"
    sed -i "s|/oci-many-$$|/oci-many-$$/box$i|" "$WORK/many$i/config.json"
    timeout --kill-after=5 240 "$RUNTIME" --root "$STATE" ${FLAGS[@]+"${FLAGS[@]}"} run -b "$WORK/many$i" "c$i" </dev/null >/dev/null 2>"$WORK/many$i/err" &
    pids+=($!)
  done
  for ((i = 0; i < 100; i++)); do
    wait "${pids[i]}"
    code=$?
    ((code == 3)) || fail "container $i: status $code: $(cat "$WORK/many$i/err")"
    gone "c$i"
  done
  [[ -z $(rt list -q) && -z $(ls -A "$STATE") ]] || fail "left: $(ls "$STATE")"
  left=$(ls -d /sys/fs/cgroup/*/oci-many-$$/box* /sys/fs/cgroup/oci-many-$$/box* 2>/dev/null)
  for i in /sys/fs/cgroup/*/oci-many-$$ /sys/fs/cgroup/oci-many-$$; do [[ ! -d $i ]] || rmdir "$i"; done
  [[ -z $left ]] || fail "cgroups are left: $left"
  ! grep -q "$STATE" /proc/net/unix || fail "sockets are left: $(grep "$STATE" /proc/net/unix)"
  ! grep -q "$WORK" /proc/mounts || fail "mounts are left: $(grep "$WORK" /proc/mounts)"
}
# Whatever is killed, and when: delete --force clears it, and nothing claims to run that doesn't.
test_killed_create_is_cleared() {
  is_runsc || return 0
  bundle sleep 100
  local i tenth=0
  for ((i = 0; i < 12; i++)); do
    "$RUNTIME" --root "$STATE" ${FLAGS[@]+"${FLAGS[@]}"} create -b "$BUNDLE" c </dev/null >/dev/null 2>&1 &
    local creator=$!
    # Somewhere within the 50 ms that it takes.
    read -rt "0.00$((i * 4 % 10))$((tenth++ % 10))" <> <(:) || true
    kill -KILL $creator 2>/dev/null
    wait $creator 2>/dev/null
    rt delete --force c || fail "delete --force after $i"
    gone c
    no_processes_left
  done
}
test_killed_helper_processes_are_seen() {
  is_sandbox || return 0
  local who
  for who in sandboxPid goferPid; do
    started sleep 100
    kill -KILL "$(sed -n "s/.*\"$who\": \([0-9]*\),/\1/p" "$STATE/c/state.json")"
    await stopped c
    expect_error 'stopped|not running' rt exec c true
    rt delete --force c || fail "delete after the loss of $who"
    gone c
  done
}

run_tests
