#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What runtime.md, config.md and config-linux.md of the runtime specification say a runtime MUST do, as far as it can be tested, sentence
# by sentence: conformance_test.sh RUNTIME [NAME-PATTERN]. Where runc 1.1 differs from the text, the row says so.
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/harness.sh"

is_native() { [[ $(basename "$RUNTIME") == runsc_native ]]; }
# change PYTHON: alters the bundle's config, which it knows as c.
change() {
  python3 -c 'import json, sys
path = sys.argv[1] + "/config.json"
c = json.load(open(path))
exec(sys.argv[2])
json.dump(c, open(path, "w"))' "$BUNDLE" "$1" || fail "change $1"
}
# What a container of the bundle prints, once.
output() { rt run -b "$BUNDLE" c </dev/null 2>&1; }
prints() {
  local out
  out=$(output)
  [[ $out == "$1" ]] || fail "printed '$out', not '$1'"
}
create() { rt create -b "$BUNDLE" "${1:-c}" </dev/null >/dev/null 2>&1 || fail "create"; }
# A field of the container's state, as JSON.
state() { rt state c | python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin).get(sys.argv[1])))' "$1"; }

# --- runtime.md

# "The state of a container MUST include" ociVersion, id, status, pid (created and running on Linux), bundle; annotations MAY be.
test_state_has_its_fields() {
  bundle sleep 100
  change 'c["annotations"] = {"com.example.key": "value"}'
  create
  local status
  for status in created running stopped; do
    [[ $status != running ]] || rt start c || fail start
    [[ $status != stopped ]] || { rt kill c KILL && await stopped c; } || fail kill
    [[ $(state status) == "\"$status\"" && $(state id) == '"c"' && $(state bundle) == "\"$BUNDLE\"" ]] || fail "$status: $(rt state c)"
    [[ $(state ociVersion) =~ ^\"[0-9]+\.[0-9]+\.[0-9]+ ]] || fail "ociVersion $(state ociVersion)"
    [[ $(state annotations) == '{"com.example.key": "value"}' ]] || fail "annotations $(state annotations)"
    [[ $status == stopped ]] || [[ -d /proc/$(state pid) ]] || fail "pid $(state pid)"
  done
  rt delete c || fail delete
}
# "This operation MUST generate an error if it is not provided the ID of a container", or one that does not exist.
test_operations_need_an_id() {
  local operation
  for operation in state start kill delete; do
    expect_error . rt $operation
    expect_error 'does not exist' rt $operation nothing
  done
  expect_error . rt create
}
# Create: "MUST generate an error if it is not provided a path to the bundle" that is one, and for an id that is not unique, "changes to the
# existing container MUST NOT be made"; "the container MUST be in the created state" with the program not run.
test_create() {
  # The stand-in mounts nothing.
  ! is_native || return 0
  bundle sh -c 'echo ran >/tmp/ran; sleep 100'
  change 'c["mounts"].append({"destination": "/tmp", "type": "bind", "source": "'"$WORK"'", "options": ["bind", "rw"]})'
  create
  expect_error 'already exists' rt create -b "$BUNDLE" c
  [[ $(state status) == '"created"' && ! -e $WORK/ran ]] || fail "after a second create: $(rt state c), $(ls "$WORK")"
  # "Any changes made to config.json after this step will not have an effect on the container."
  change 'c["process"]["args"] = ["false"]'
  rm "$WORK/ran" 2>/dev/null
  rt start c || fail start
  local i
  for ((i = 0; i < 200; i++)); do
    [[ -e $WORK/ran ]] && break
    read -rt 0.05 <> <(:) || true
  done
  [[ -e $WORK/ran ]] || fail "the program of create's config.json did not run"
  rm "$WORK/ran"
  # Start: "MUST generate an error if the container is not created", "and MUST have no effect on it".
  expect_error . rt start c
  [[ $(state status) == '"running"' ]] || fail "after a second start: $(state status)"
  # Delete: "MUST generate an error if the container is not stopped", and no effect.
  expect_error . rt delete c
  [[ $(state status) == '"running"' ]] || fail "after delete: $(state status)"
  rt kill c KILL || fail kill
  await stopped c
  expect_error . rt start c
  # Kill: "MUST generate an error if the container is neither created nor running".
  expect_error . rt kill c TERM
  rt delete c || fail delete
  # "Once a container is deleted its ID MAY be used by a subsequent container."
  create
  rt kill c KILL || fail "kill of a created one"
  await stopped c
  rt delete c || fail "second delete"
}
# Kill "MUST send the specified signal to the container process".
test_kill_sends_the_signal() {
  ! is_native || return 0
  bundle sh -c 'for s in HUP USR1 USR2 WINCH; do trap \"echo $s >>/tmp/signals\" $s; done; echo ready >>/tmp/signals; while :; do sleep 0.02; done'
  change 'c["mounts"].append({"destination": "/tmp", "type": "bind", "source": "'"$WORK"'", "options": ["bind", "rw"]})'
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  local signal i
  for signal in ready HUP USR1 USR2 WINCH; do
    [[ $signal == ready ]] || rt kill c $signal || fail "kill $signal"
    for ((i = 0; i < 200; i++)); do
      grep -qsx $signal "$WORK/signals" && break
      read -rt 0.05 <> <(:) || true
    done
    ((i < 200)) || fail "$signal did not arrive: $(cat "$WORK/signals")"
  done
  rm "$WORK/signals"
  rt delete -f c || fail delete
}
# The life cycle's steps 3 to 13: hooks in their order, each stage "in the order listed", with the state on stdin; "creating" while created.
test_hooks_run_in_order() {
  bundle sleep 100
  local stage hooks=''
  for stage in prestart createRuntime createContainer poststart poststop; do
    local list='' n
    for n in 1 2; do
      printf '#!/bin/sh\necho "%s %s $(cat)" >>%q\n' "$stage" "$n" "$WORK/order" >"$WORK/$stage.$n.sh"
      chmod +x "$WORK/$stage.$n.sh"
      list+=",{\"path\": \"$WORK/$stage.$n.sh\", \"env\": [\"PATH=/usr/bin:/bin\"]}"
    done
    hooks+=",\"$stage\": [${list#,}]"
  done
  change "c['hooks'] = __import__('json').loads('{${hooks#,}}')"
  : >"$WORK/order"
  create
  # runc 1.1 runs poststart in create; see lifecycle_test.
  [[ $(grep -v poststart "$WORK/order" | cut -d ' ' -f 1,2 | tr '\n' ',') == 'prestart 1,prestart 2,createRuntime 1,createRuntime 2,createContainer 1,createContainer 2,' ]] || fail "create: $(cat "$WORK/order")"
  rt start c || fail start
  rt delete -f c || fail delete
  [[ $(cut -d ' ' -f 1,2 "$WORK/order" | tail -n 4 | tr '\n' ',') == 'poststart 1,poststart 2,poststop 1,poststop 2,' ]] || fail "all: $(cat "$WORK/order")"
  python3 - "$WORK/order" "$BUNDLE" <<'PY' || fail "states: $(cat "$WORK/order")"
import json, sys
for line in open(sys.argv[1]):
    stage, n, text = line.split(" ", 2)
    s = json.loads(text)
    assert s["id"] == "c" and s["bundle"] == sys.argv[2] and s["ociVersion"], line
    # runc 1.1 says created (poststart) and stopped, too.
    wanted = {"poststart": ("running", "created"), "poststop": ("stopped",)}.get(stage, ("creating", "created"))
    assert s["status"] in wanted, line
    assert stage == "poststop" or s["pid"] > 0, line
PY
}
# createContainer hooks run "in the container namespace": mounts that they make are the container's, and not the host's.
test_create_container_hooks_change_the_mounts() {
  ! is_native || return 0
  bundle sh -c 'cat /tmp/said; busybox wc -l </tmp/said'
  printf '#!/bin/sh\nmount -t tmpfs -o size=1m hooked %q/rootfs/tmp && readlink /proc/self/ns/mnt >%q/rootfs/tmp/said\n' "$WORK" "$WORK" >"$WORK/hook.sh"
  printf '#!/bin/sh\nreadlink /proc/self/ns/mnt >%q\n' "$WORK/runtime" >"$WORK/first.sh"
  chmod +x "$WORK/hook.sh" "$WORK/first.sh"
  change 'e = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]; c["hooks"] = {"createContainer": [{"path": "'"$WORK"'/hook.sh", "env": e}], "createRuntime": [{"path": "'"$WORK"'/first.sh", "env": e}]}'
  local out
  out=$(output)
  # A namespace of its own, but for createRuntime's, which is the runtime's.
  [[ $out == mnt:*$'\n1' && $(head -n 1 <<<"$out") != "$(readlink /proc/self/ns/mnt)" ]] || fail "inside: $out"
  [[ $(cat "$WORK/runtime") == "$(readlink /proc/self/ns/mnt)" ]] || fail "createRuntime ran in $(cat "$WORK/runtime")"
  [[ ! -e $WORK/rootfs/tmp/said ]] && ! grep -q "^hooked $WORK" /proc/mounts || fail "the host has the mount"
  # Their failure is create's.
  printf '#!/bin/sh\necho why not >&2; exit 3\n' >"$WORK/hook.sh"
  expect_error 'hook' rt create -b "$BUNDLE" c
  ! is_runsc || expect_error 'hooks.createContainer\[0\]: .*/hook.sh: exit status 3: why not' rt create -b "$BUNDLE" c
  gone c
  printf '#!/bin/sh\nexec sleep 77779\n' >"$WORK/hook.sh"
  change 'c["hooks"]["createContainer"][0]["timeout"] = 1'
  expect_error 'hook' rt create -b "$BUNDLE" c
  gone c
  ! grep -qlsz '^77779$' /proc/[0-9]*/cmdline || fail "the hook is left"
}
# Of each stage: "if any hook fails, the runtime MUST generate an error, stop the container" (before start), but after it "log a warning".
test_a_failing_hook_of_each_stage() {
  local stage
  for stage in prestart createRuntime createContainer; do
    bundle sleep 100
    change "c['hooks'] = {'$stage': [{'path': '/bin/false'}]}"
    expect_error 'hook' rt create -b "$BUNDLE" c
    gone c
    # A time-out is a failure.
    change "c['hooks'] = {'$stage': [{'path': '/bin/sleep', 'args': ['sleep', '77780'], 'timeout': 1}]}"
    expect_error 'hook' rt create -b "$BUNDLE" c
    gone c
    ! grep -qlsz '^77780$' /proc/[0-9]*/cmdline || fail "the hook of $stage is left"
  done
  bundle sleep 100
  change 'c["hooks"] = {"poststop": [{"path": "/bin/false"}, {"path": "/bin/touch", "args": ["touch", "'"$WORK"'/stopped"]}]}'
  create
  # "But the remaining hooks and lifecycle continue as if the hook had succeeded." runc 1.1 leaves the remaining ones out.
  rt delete -f c 2>/dev/null || fail "delete with a failing poststop hook"
  gone c
  ! is_runsc || [[ -e $WORK/stopped ]] || fail "the poststop hook after the failing one did not run"
}

# --- config.md

# "Implementations that are reading/processing this configuration file MUST NOT generate an error if they encounter an unknown property."
test_unknown_properties_are_ignored() {
  bundle echo fine
  change 'c["x"] = 1; c["process"]["y"] = {"a": []}; c["linux"]["z"] = "z"; c["root"]["w"] = None'
  [[ $(rt run -b "$BUNDLE" c </dev/null 2>/dev/null) == fine ]] || fail "$(output)"
}
# root.readonly: "If true then the root filesystem MUST be read-only inside the container".
test_root_readonly() {
  ! is_native || return 0
  bundle sh -c '>/x && echo written'
  [[ $(output) == *'Read-only file system'* ]] || fail "$(output)"
  cp -a "$WORK/rootfs" "$WORK/own"
  change 'c["root"] = {"path": "'"$WORK"'/own", "readonly": False}'
  prints written
}
# mounts: "The runtime MUST mount entries in the listed order."
test_mounts_are_made_in_order() {
  ! is_native || return 0
  mkdir -p "$WORK/a/in" "$WORK/b" && touch "$WORK/a/is_a" "$WORK/b/is_b"
  bundle sh -c 'ls /tmp /tmp/in | busybox xargs'
  change 'c["mounts"] += [{"destination": "/tmp", "type": "bind", "source": "'"$WORK"'/a", "options": ["rbind"]}, {"destination": "/tmp/in", "type": "bind", "source": "'"$WORK"'/b", "options": ["rbind"]}]'
  prints '/tmp: in is_a /tmp/in: is_b'
  change 'c["mounts"][-1], c["mounts"][-2] = c["mounts"][-2], c["mounts"][-1]'
  prints '/tmp: in is_a /tmp/in:'
}
# "Runtimes MUST support" the options of mount(8) that are listed.
test_mount_options() {
  ! is_native || return 0
  mkdir -p "$WORK/v/deep" && cp "$BUSYBOX" "$WORK/v/true"
  local row options wanted
  while IFS='~' read -r options wanted; do
    bundle sh -c "busybox grep ' /tmp ' /proc/mounts | busybox cut -d ' ' -f 4; (>/tmp/w) 2>/dev/null && echo writes; /tmp/true 2>/dev/null && echo runs; :"
    change 'c["mounts"].append({"destination": "/tmp", "type": "bind", "source": "'"$WORK"'/v", "options": '"$options"'})'
    local out=$(output | tr '\n' ' ')
    for row in ${wanted//,/ }; do
      if [[ $row == -* ]]; then [[ $out != *"${row#-}"* ]] || fail "$options: $out has ${row#-}"; else [[ $out == *"$row"* ]] || fail "$options: $out has no $row"; fi
    done
  done <<'ROWS'
["rbind"]~rw,writes,runs,-nosuid,-noexec
["bind", "ro"]~ro,runs,-writes
["rbind", "noexec"]~noexec,writes,-runs
["rbind", "nosuid", "nodev"]~nosuid,nodev,writes
["rbind", "ro", "rw"]~rw,writes
["rbind", "noatime"]~noatime,writes
ROWS
  bundle sh -c 'busybox df -k /tmp | busybox tail -n 1 | (read -r name size rest; echo $size); busybox stat -c %a /tmp'
  change 'c["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=3072k", "mode=1750"]})'
  # runc 1.1 sets the mode of the directory below.
  if is_runsc; then prints $'3072\n1750'; else [[ $(output | head -n 1) == 3072 ]] || fail "size: $(output)"; fi
}
# process: env with execvp's semantics, cwd absolute, args "at least one entry", terminal, user, umask, groups, all of capabilities.
test_process() {
  ! is_native || return 0
  bundle only-by-path
  cp -a "$WORK/rootfs" "$WORK/bins" && mkdir "$WORK/bins/other" && printf '#!/bin/sh\necho found $X, $(pwd), $(umask), $(busybox id -u), $(busybox id -g), $(busybox id -G)\n' >"$WORK/bins/other/only-by-path"
  chmod +x "$WORK/bins/other/only-by-path"
  change 'c["root"]["path"] = "'"$WORK"'/bins"; p = c["process"]; p["env"] = ["PATH=/other:/bin", "X=y z"]; p["cwd"] = "/tmp"; p["user"] = {"uid": 3, "gid": 4, "additionalGids": [5, 6], "umask": 0o27}'
  prints 'found y z, /tmp, 0027, 3, 4, 4 5 6'
  change 'c["process"]["cwd"] = "tmp"'
  expect_error '[Cc]wd.*absolute|must be an absolute' rt run -b "$BUNDLE" c
}
# capabilities: the five sets are those of the process. "Any value which cannot be mapped to a relevant kernel interface, or cannot be
# granted otherwise, MUST be logged as a warning"; "Runtimes SHOULD NOT fail".
test_capabilities() {
  ! is_native || return 0
  bundle busybox grep Cap /proc/self/status
  change 'c["process"]["capabilities"] = {"bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_FOWNER"], "permitted": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "inheritable": ["CAP_CHOWN"], "ambient": []}; c["process"]["user"]["uid"] = 7'
  # An exec by an ordinary user leaves what is ambient: nothing.
  prints $'CapInh:\t0000000000000001\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000029\nCapAmb:\t0000000000000000'
  change 'c["process"]["capabilities"]["ambient"] = ["CAP_CHOWN"]'
  prints $'CapInh:\t0000000000000001\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000001\nCapBnd:\t0000000000000029\nCapAmb:\t0000000000000001'
  # And root's makes the permitted ones of the bounding set.
  change 'c["process"]["capabilities"]["ambient"] = []; c["process"]["user"]["uid"] = 0'
  prints $'CapInh:\t0000000000000001\nCapPrm:\t0000000000000029\nCapEff:\t0000000000000029\nCapBnd:\t0000000000000029\nCapAmb:\t0000000000000000'
  change 'c["process"]["capabilities"]["bounding"].append("CAP_NO_SUCH")'
  [[ $(output) == *CapBnd* ]] || fail "an unknown capability: $(output)"
}
# rlimits: "The runtime MUST generate an error for any values which cannot be mapped to a relevant kernel interface", and for "duplicated
# entries with same type".
test_rlimits() {
  ! is_native || return 0
  bundle sh -c 'ulimit -n; ulimit -Hn; ulimit -c; ulimit -s'
  change 'c["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_STACK", "soft": 1048576, "hard": 2097152}]'
  prints $'100\n200\n0\n1024'
  change 'c["process"]["rlimits"].append({"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1})'
  expect_error 'RLIMIT_NOSUCH' rt run -b "$BUNDLE" c
  # runc 1.1 takes the last.
  change 'c["process"]["rlimits"][-1]["type"] = "RLIMIT_CORE"'
  ! is_runsc || expect_error 'rlimits\[3\]' rt run -b "$BUNDLE" c
}
# hostname; annotations: "Keys MUST be strings. Keys MUST NOT be an empty string", values strings.
test_hostname_and_annotations() {
  bundle cat /proc/sys/kernel/hostname
  is_native || prints box
  bundle true
  change 'c["annotations"] = {"a": 1}'
  expect_error 'annotations|cannot unmarshal' rt run -b "$BUNDLE" c
  change 'c["annotations"] = {"": "x"}'
  # runc 1.1 takes it.
  ! is_runsc || expect_error 'annotations' rt run -b "$BUNDLE" c
}
# ociVersion "MUST be in SemVer v2.0.0 format".
test_versions() {
  bundle true
  local version
  for version in '"1.0"' '"one"' '""' 3; do
    change "c['ociVersion'] = $version"
    ! is_runsc || expect_error 'ociVersion' rt run -b "$BUNDLE" c
  done
  change 'c["ociVersion"] = "1.2.0"'
  rt run -b "$BUNDLE" c </dev/null || fail 1.2.0
  change 'del c["ociVersion"]'
  ! is_runsc || expect_error 'ociVersion: missing' rt run -b "$BUNDLE" c
}
# hooks: "path ... MUST be an absolute path", "timeout ... MUST be greater than zero".
test_hooks_are_checked() {
  bundle true
  is_runsc || return 0
  change 'c["hooks"] = {"prestart": [{"path": "bin/true"}]}'
  expect_error 'hooks.prestart\[0\].path: must be an absolute' rt run -b "$BUNDLE" c
  change 'c["hooks"] = {"prestart": [{"path": "/bin/true", "timeout": 0}]}'
  expect_error 'hooks.prestart\[0\].timeout' rt run -b "$BUNDLE" c
}

# --- config-linux.md

# "The following filesystems SHOULD be made available", default devices "the runtime MUST also supply", and symbolic links.
test_default_devices_and_links() {
  ! is_native || return 0
  bundle sh -c 'for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; test -c /dev/ptmx -o -L /dev/ptmx || echo no ptmx; for l in fd stdin stdout stderr; do echo $(busybox readlink /dev/$l); done; echo x >/dev/null && busybox head -c 3 /dev/zero | busybox wc -c; echo y >/dev/full || echo full; busybox head -c 9 /dev/urandom | busybox wc -c'
  change 'c["mounts"] += [{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}, {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]}]'
  [[ $(rt run -b "$BUNDLE" c </dev/null 2>/dev/null | tr '\n' ' ') == '/proc/self/fd /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 3 full 9 ' ]] || fail "$(output)"
}
# devices: "Devices are listed and MUST be available in the container", with mode and owner.
test_devices() {
  ! is_native || return 0
  bundle sh -c 'busybox stat -c %t:%T.%a.%u:%g.%F /dev/mine /dev/pipe; busybox head -c 2 /dev/mine | busybox od -An -tx1'
  change 'c["mounts"].append({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}); c["linux"]["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o644, "uid": 3, "gid": 4}, {"path": "/dev/pipe", "type": "p", "fileMode": 0o622}]; c["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}'
  prints $'1:5.644.3:4.character special file\n0:0.622.0:0.fifo\n 00 00'
}
# namespaces: "If a namespaces field contains duplicated namespaces with same type, the runtime MUST generate an error"; "The runtime MUST
# generate an error if path is not associated with a namespace of type type"; paths are absolute.
test_namespaces() {
  bundle true
  change 'c["linux"]["namespaces"].append({"type": "pid"})'
  expect_error 'namespaces|duplicate' rt run -b "$BUNDLE" c
  change 'c["linux"]["namespaces"][-1] = {"type": "cgroup", "path": "proc/self/ns/cgroup"}'
  ! is_runsc || expect_error 'path: must be an absolute' rt run -b "$BUNDLE" c
  change 'c["linux"]["namespaces"] = [n for n in c["linux"]["namespaces"] if n["type"] not in ("cgroup", "network")] + [{"type": "network", "path": "/proc/self/ns/mnt"}]'
  expect_error . rt run -b "$BUNDLE" c
  ! is_runsc || expect_error 'network' rt run -b "$BUNDLE" c
  change 'c["linux"]["namespaces"][-1]["path"] = "/no/such/ns"'
  expect_error '/no/such/ns' rt run -b "$BUNDLE" c
}
# A network namespace with a path is the one that the container is in.
test_network_namespace_by_path() {
  ! is_native || return 0
  unshare --net --fork sleep 1000 &
  local holder=$! i
  for ((i = 0; i < 200; i++)); do
    [[ $(readlink /proc/$holder/ns/net) != "$(readlink /proc/self/ns/net)" ]] && break
    read -rt 0.02 <> <(:) || true
  done
  nsenter -t $holder -n sh -c 'ip link set lo up; ip link add v0 type veth peer name v1; ip addr add 10.9.8.7/24 dev v0; ip link set v0 up; ip link set v1 up' || fail "veth"
  bundle busybox ip -o -4 addr show v0
  change 'c["linux"]["namespaces"] = [n for n in c["linux"]["namespaces"] if n["type"] != "network"] + [{"type": "network", "path": "/proc/'$holder'/ns/net"}]'
  local out=$(output)
  pkill -P $holder
  kill $holder 2>/dev/null
  wait $holder 2>/dev/null
  [[ $out == *10.9.8.7/24* ]] || fail "$out"
}
# "sysctl", "maskedPaths: The values MUST be absolute paths", "readonlyPaths", rootfsPropagation, unknown values.
test_linux_values_are_checked() {
  bundle true
  is_runsc || return 0
  local row
  while IFS='~' read -r row; do
    bundle true
    change "${row%% => *}"
    expect_error "${row##* => }" rt run -b "$BUNDLE" c
  done <<'ROWS'
c["linux"]["maskedPaths"] = ["proc/keys"] => maskedPaths\[0\]: must be an absolute
c["linux"]["readonlyPaths"] = ["proc/sys"] => readonlyPaths\[0\]: must be an absolute
c["linux"]["rootfsPropagation"] = "sideways" => rootfsPropagation
c["linux"]["sysctl"] = {"kernel.x": 3} => sysctl
c["linux"]["resources"] = {"memory": {"limit": "big"}} => memory.limit
c["linux"]["devices"] = [{"type": "c", "path": "/dev/z"}] => devices\[0\].major
c["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_MAYBE"} => seccomp.defaultAction
c["mounts"].append({"destination": "relative", "type": "tmpfs"}) => destination
c["process"]["user"]["uid"] = -1 => process.user.uid
c["process"]["oomScoreAdj"] = 1001 => process.oomScoreAdj
ROWS
}
# What is named as unsupported, but does not keep a container from running.
test_unsupported_is_told() {
  is_runsc || return 0
  mkdir -p "$WORK/logs"
  bundle true
  change 'c["linux"]["intelRdt"] = {"closID": "x"}; c["process"]["apparmorProfile"] = "p"; c["process"]["selinuxLabel"] = "l"'
  rt --debug-log "$WORK/logs/" run -b "$BUNDLE" c </dev/null 2>"$WORK/err" || fail "run: $(cat "$WORK/err")"
  local field
  for field in linux.intelRdt process.apparmorProfile process.selinuxLabel; do
    cat "$WORK/logs/"* | grep -q "$field: not supported" || fail "$field is not named: $(cat "$WORK/logs/"*)"
  done
}
# A user namespace with mappings: ids inside are the container's, files outside those of the map.
test_user_namespace_mappings() {
  ! is_native || return 0
  cp -a "$WORK/rootfs" "$WORK/mapped" && mkdir -m 777 "$WORK/mapped/w" && chown -R 100000:200000 "$WORK/mapped"
  chmod 711 "$WORK"
  bundle sh -c 'busybox id -u; >/w/f; busybox chown 5:6 /w/f; busybox stat -c %u:%g /w/f'
  change 'c["root"] = {"path": "'"$WORK"'/mapped"}; c["mounts"].append({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}); c["linux"]["namespaces"].append({"type": "user"}); c["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 1000}]; c["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 1000}]; k = ["CAP_CHOWN"]; c["process"]["capabilities"] = {"bounding": k, "permitted": k, "effective": k}'
  ! is_runsc || FLAGS+=(--overlay2=none)
  prints $'0\n5:6'
  [[ $(stat -c %u:%g "$WORK/mapped/w/f") == 100005:200006 ]] || fail "outside: $(stat -c %u:%g "$WORK/mapped/w/f")"
  chmod 700 "$WORK"
}

run_tests
