#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Bad input that tests/oci does not have: each is refused with one line that names the field or path and a status != 0,
# and nothing is left behind. bad_input_test.sh DRIVER; native is runc, of which only refusal is asked.
set -u
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/driver.sh"
. "$it_dir/container.sh"
name=${1:?}
[[ $name == native ]] && name=runc
driver=$(it_driver "$name") || exit 125
it_use_platform "$name"
it_setup

# refused PATTERN COMMAND...
refused() {
  local pattern=$1 out code
  shift
  out=$("$@" 2>&1 >/dev/null </dev/null)
  code=$?
  ((code != 0)) || fail "accepted: $*"
  ((code != 124 && code != 137)) || fail "hangs: $*"
  [[ $driver == runc ]] && return 0
  grep -qE -- "$pattern" <<<"$out" || fail "said '$out', not '$pattern'"
  (($(wc -l <<<"$out") == 1)) || fail "said more than one line: $out"
}
run_it() { "${it_prefix[@]}" timeout --kill-after=5 30 "${it_runtime_command[@]}" run --bundle "$it_bundle_dir" "$it_id"; }
# edit PYTHON: changes `c`, the configuration.
edit() {
  python3 - "$it_bundle_dir/config.json" "$1" <<'PY' || fail "edit: $1"
import json, sys
c = json.load(open(sys.argv[1]))
exec(sys.argv[2])
json.dump(c, open(sys.argv[1], "w"))
PY
}
root=$(it_root busybox) || exit 125
scratch=$it_work/scratch
mkdir -p "$scratch"

# case PATTERN EDIT [COMMAND...]: a bundle with that edit is refused.
refuse_edit() {
  local pattern=$1 change=$2
  shift 2
  it_bundle "$driver" "$root" -- "${@:-true}" || fail bundle
  edit "$change"
  refused "$pattern" run_it
  nothing_left
}

test_fields() {
  local pattern change
  while IFS='~' read -r pattern change; do
    (refuse_edit "$pattern" "$change") || fail "$change"
  done <<'ROWS'
process~del c["process"]
process~c["process"] = []
process.args\[0\]~c["process"]["args"] = [3]
process.cwd~c["process"]["cwd"] = ""
process.env~c["process"]["env"] = "PATH=/bin"
process.rlimits\[0\]~c["process"]["rlimits"] = [{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]
process.rlimits~c["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}] * 2
process.capabilities~c["process"]["capabilities"] = 3
root~del c["root"]
root.path~del c["root"]["path"]
root.path~c["root"]["path"] = "/etc/passwd"
root.path~c["root"]["path"] = "no/such/dir"
mounts\[0\].destination~c["mounts"] = [{"type": "tmpfs"}]
mounts\[0\].destination~c["mounts"] = [{"destination": "relative", "type": "tmpfs", "source": "tmpfs"}]
mounts\[0\]~c["mounts"] = ["x"]
nosuchfs~c["mounts"].append({"destination": "/mnt", "type": "nosuchfs", "source": "x"})
linux.namespaces~c["linux"]["namespaces"].append({"type": "pid"})
/no/such/ns~c["linux"]["namespaces"] = [{"type": "pid"}, {"type": "mount"}, {"type": "network", "path": "/no/such/ns"}]
linux.resources.pids.limit~c["linux"]["resources"]["pids"] = {"limit": "many"}
hostname~c["hostname"] = 3
ROWS
}
test_programs() {
  mkdir -p "$scratch/root"
  cp -a "$root/." "$scratch/root/" || fail copy
  # The header of an aarch64 program, and of no machine at all.
  printf '\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\267\0\1\0\0\0\0\0\100\0\0\0\0\0\100\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\100\0\70\0\0\0\0\0\0\0\0\0' >"$scratch/root/bin/arm"
  printf 'garbage that is no program' >"$scratch/root/bin/garbage"
  printf '#!/no/such/interpreter\n' >"$scratch/root/bin/script"
  : >"$scratch/root/bin/empty"
  head -c 200 "$root/bin/busybox" >"$scratch/root/bin/truncated"
  chmod 755 "$scratch"/root/bin/{arm,garbage,script,empty,truncated}
  printf '#!/bin/sh\n' >"$scratch/root/bin/plain"
  chmod 644 "$scratch/root/bin/plain"
  local program
  for program in arm garbage script empty truncated plain; do
    root=$scratch/root
    (refuse_edit "/bin/$program" "pass" "/bin/$program") || fail "$program"
  done
  (refuse_edit '/etc' "pass" /etc) || fail "a directory"
  (refuse_edit 'nosuch' "pass" nosuch) || fail "a name that is not in PATH"
}
test_damaged_json() {
  local text
  it_bundle "$driver" "$root" -- true || fail bundle
  for text in '' '{' '[]' 'null' '{"ociVersion":"1.0.2",}' $'{"a":"\x01"}' "$(head -c 200000 /dev/zero | tr '\0' '[')" "$(head -c 3000 /dev/urandom | tr '\0' x)"; do
    printf %s "$text" >"$it_bundle_dir/config.json"
    refused 'config.json' run_it
  done
  rm "$it_bundle_dir/config.json"
  mkdir "$it_bundle_dir/config.json"
  refused 'config.json' run_it
  nothing_left
}
test_state_directories() {
  it_bundle "$driver" "$root" -- true || fail bundle
  : >"$scratch/file"
  it_runtime_command[2]=$scratch/file
  refused "$scratch/file" run_it
  it_runtime_command[2]=/proc/nosuch/state
  refused '--root: /proc/nosuch' run_it
}
test_killed_twice() {
  [[ $driver == runsc ]] || return 0
  it_bundle "$driver" "$root" -- true || fail bundle
  rt run --detach --bundle "$it_bundle_dir" "$it_id" </dev/null >/dev/null 2>&1 || fail run
  local i
  for ((i = 0; i < 100; i++)); do
    [[ $(state_field status) == stopped ]] && break
    it_tick
  done
  # runc's words, by which callers know this error.
  refused "$it_id|not running" rt kill "$it_id" TERM
  refused "$it_id|stopped|not running" rt start "$it_id"
  refused "$it_id|stopped|not running" rt exec "$it_id" true
  rt delete "$it_id" || fail delete
  refused "$it_id" rt delete "$it_id"
  nothing_left
}

run_tests fields programs damaged_json state_directories killed_twice
