# SPDX-License-Identifier: Apache-2.0
# For the scripts of this directory, which source it and end with `run_tests`: SCRIPT RUNTIME [NAME-PATTERN]. Needs root and
# busybox-static. RUNTIME_FLAGS: more global flags. What only one family of runtimes does asks `is_runsc`.
# Each test_* function is one test: a subshell with a bundle of its own, failed by `fail` or a leftover of the container.
set -u

RUNTIME=${1:-${RUNTIME:-runc}}
# Another runsc in place of ours (tools/dev/sanitize).
[[ -n ${RUNSC_TEST_BINARY-} && $RUNTIME == */runsc ]] && RUNTIME=$RUNSC_TEST_BINARY
PATTERN=${2:-}
RUNTIME=$(command -v -- "$RUNTIME") || { echo "no runtime '${1:-}'" >&2; exit 125; }
RUNTIME=$(realpath -- "$RUNTIME")
read -ra FLAGS <<<"${RUNTIME_FLAGS-}"
((EUID == 0)) || { echo "tests/oci: needs root" >&2; exit 125; }
BUSYBOX=$(command -v busybox) || { echo "tests/oci: needs the package busybox-static" >&2; exit 125; }

WORK=$(mktemp -d /tmp/oci-test.XXXXXX) || exit 125
STATE=$WORK/state
trap 'rm -rf --one-file-system -- "$WORK"' EXIT

is_runsc() { [[ $(basename "$RUNTIME") == runsc* ]]; }
fail() { echo "  FAILED: $*" >&2; exit 1; }
rt() { timeout --kill-after=5 40 "$RUNTIME" --root "$STATE" "${FLAGS[@]}" "$@"; }

# The root file system is shared by all bundles.
make_root() {
  local name
  mkdir -p "$WORK/rootfs"/{bin,proc,dev,sys,tmp,etc} || return 1
  cp "$BUSYBOX" "$WORK/rootfs/bin/busybox" || return 1
  for name in sh echo sleep cat true false ls kill stty tty env id pwd test mount; do
    ln -sf busybox "$WORK/rootfs/bin/$name"
  done
}

# bundle ARG...: a bundle whose process is ARG..., in $BUNDLE; `edit SED` changes its config.json afterwards.
BUNDLE=
bundle() {
  BUNDLE=$(mktemp -d "$WORK/bundle.XXXXXX")
  local args='' a
  for a in "$@"; do args+=",\"$a\""; done
  cat >"$BUNDLE/config.json" <<JSON
{"ociVersion": "1.0.2",
 "process": {"terminal": false, "user": {"uid": 0, "gid": 0}, "args": [${args#,}],
  "env": ["PATH=/bin", "NAME=value"], "cwd": "/"},
 "root": {"path": "$WORK/rootfs", "readonly": true},
 "hostname": "box",
 "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
 "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]}}
JSON
}
edit() { sed -i "$1" "$BUNDLE/config.json"; }

status_of() { rt state "$1" 2>/dev/null | sed -n 's/^ *"status": "\(.*\)",\{0,1\}$/\1/p'; }
pid_of() { rt state "$1" 2>/dev/null | sed -n 's/^ *"pid": \([0-9]*\),\{0,1\}$/\1/p'; }

# await STATUS ID: until it has that status, 10 s at most.
await() {
  local i
  for ((i = 0; i < 200; i++)); do
    [[ $(status_of "$2") == "$1" ]] && return 0
    read -rt 0.05 <> <(:) || true
  done
  fail "container $2 is '$(status_of "$2")', not '$1'"
}

# expect_error PATTERN COMMAND...: fails with one line on stderr that matches.
expect_error() {
  local pattern=$1 out code
  shift
  out=$("$@" 2>&1 >/dev/null)
  code=$?
  ((code != 0)) || fail "$*: succeeded"
  ((code != 124 && code != 137)) || fail "$*: hung"
  grep -qE -- "$pattern" <<<"$out" || fail "$*: said '$out', not '$pattern'"
  ! is_runsc || (($(wc -l <<<"$out") == 1)) || fail "$*: said more than one line: $out"
}
gone() { [[ ! -e $STATE/$1 ]] || fail "state of $1 is left"; }

# Processes of the runtime name the state directory; a dead one that nobody reaped has no command line.
no_processes_left() {
  local i left
  for ((i = 0; i < 100; i++)); do
    left=$(grep -alsF -f "$WORK/pattern" /proc/[0-9]*/cmdline)
    [[ -z $left ]] && return 0
    read -rt 0.05 <> <(:) || true
  done
  fail "processes are left: $left"
}

run_tests() {
  echo "$STATE" >"$WORK/pattern"
  make_root || { echo "cannot make a root file system" >&2; exit 125; }
  passed=0 failed=0
  for name in $(declare -F | sed -n 's/^declare -f \(test_.*\)$/\1/p'); do
    [[ -z $PATTERN || $name == *$PATTERN* ]] || continue
    if ("$name" && no_processes_left); then
      passed=$((passed + 1))
    else
      echo "FAILED $name" >&2
      failed=$((failed + 1))
      # A container that is left would disturb the next test.
      ls "$STATE" 2>/dev/null | while read -r id; do rt delete --force "$id" </dev/null >/dev/null 2>&1; done
    fi
  done
  echo "$passed passed, $failed failed ($RUNTIME)"
  ((failed == 0 && passed > 0))
}
