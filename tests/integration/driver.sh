#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command in a root file system under one of four drivers, always bounded, and leaves nothing behind.
#
#   driver.sh DRIVER ROOT [OPTION...] -- COMMAND [ARG...]      as a program; sourced, the same by `run_in`
#     DRIVER   native   the host itself (ROOT is ignored)       chroot  new namespaces and a throw-away overlay of ROOT
#              runc, runsc   a container from the config.json that bundle.py writes, ROOT below an overlay
#     ROOT     busybox, debian (made by rootfs.sh), or a directory
#     OPTION   --limit SECONDS (default 60: then status 124), --terminal, and those of bundle.py
# The command sees the guest programs (guest/, and those of guest/*.c compiled) in /suite, read-only.
# Environment: RUNSC (default bazel-bin/runsc/runsc), RUNSC_FLAGS ("--platform=ptrace --debug-log=/tmp/d/ --debug").
# Status: the command's; 125 when the driver couldn't start it, 126 when a container left something behind.

it_dir=$(cd -- "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")" && pwd)
it_work=
# The command line and state files of our processes name this directory; short for unix socket paths (107 bytes).
it_setup() {
  [[ -n $it_work ]] && return 0
  ((EUID == 0)) || { echo "driver.sh: needs root" >&2; exit 125; }
  it_work=$(mktemp -d /tmp/rit.XXXXXX) || exit 125
  mkdir -p "$it_work"/{state,suite,bundles,overlay} || exit 125
  cp -r -- "$it_dir/guest/." "$it_work/suite/" || exit 125
  chmod -R a+rX "$it_work/suite" && chmod 755 "$it_work" || exit 125
  trap it_cleanup EXIT
  trap 'exit 143' TERM INT HUP
}

# The /proc/PID/cmdline of processes that name $1. The pattern comes from a pipe: in grep's command line it would match.
it_naming() { grep -alsF -f <(echo "$1") /proc/[0-9]*/cmdline; }

# Processes that name the work directory, besides this shell's own family. A zombie's command line is empty.
it_processes() {
  local file pid
  for file in $(it_naming "$it_work"); do
    pid=${file#/proc/}
    pid=${pid%/cmdline}
    # The shells of the test name it only in "$@" of functions, never in their command line.
    [[ $pid == "$$" || $pid == "$BASHPID" ]] || echo "$pid"
  done
}

it_cleanup() {
  local pid round id command
  # Containers of an interrupted run; of runc they name the work directory in no command line.
  for id in "$it_work"/state/*; do
    [[ -d $id && -f $it_work/bundles/${id##*/}/runtime ]] || continue
    mapfile -t command <"$it_work/bundles/${id##*/}/runtime"
    timeout --kill-after=5 20 "${command[@]}" delete --force "${id##*/}" >/dev/null 2>&1
  done
  for round in 1 2 3; do
    for pid in $(it_processes); do kill -KILL "$pid" 2>/dev/null; done
    [[ -z $(it_processes) ]] && break
    it_tick
  done
  grep -qF -- " $it_work" /proc/self/mounts && umount -R "$it_work"/overlay/* 2>/dev/null
  rm -rf --one-file-system -- "$it_work"
}

# 50 ms, for polls of what no event tells.
it_tick() { read -rt 0.05 <> <(:) || true; }

# The driver of a test's first argument: native, runc, or a platform.
it_driver() {
  case $1 in
    native) echo chroot ;;
    runc | chroot) echo "$1" ;;
    ptrace | systrap | kvm | auto) echo runsc ;;
    *)
      echo "driver.sh: unknown driver '$1': say native, runc or a platform of runsc" >&2
      return 1
      ;;
  esac
}
it_use_platform() { [[ $(it_driver "$1") != runsc ]] || RUNSC_FLAGS="--platform=$1 ${RUNSC_FLAGS-}"; }

# A program of guest/NAME.c, compiled statically into /suite on first use.
it_program() {
  it_setup
  local out=$it_work/suite/$1
  [[ -x $out ]] || gcc -O1 -g -Wall -Werror -static -pthread -o "$out" "$it_dir/guest/$1.c" ||
    { echo "driver.sh: cannot compile guest/$1.c: gcc and libc6-dev are needed" >&2; exit 125; }
}

it_root() {
  case $1 in
    busybox | debian | programs | languages) "$it_dir/rootfs.sh" "$1" ;;
    *) realpath -e -- "$1" ;;
  esac
}

it_runtime() {
  local found
  case $1 in
    runc) found=$(command -v runc) || { echo "driver.sh: runc is not installed" >&2; return 1; } ;;
    *)
      # Below Bazel the current directory is the tree of runfiles.
      found=${RUNSC:-$PWD/runsc/runsc}
      [[ -f $found ]] || found=$it_dir/../../bazel-bin/runsc/runsc
      found=$(realpath -e -- "$found") || return 1
      ;;
  esac
  echo "$found"
}

# What every driver's command starts with; nothing of the caller's.
it_env=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=xterm LC_ALL=C.UTF-8
  DEBIAN_FRONTEND=noninteractive)

it_count=0
# it_bundle DRIVER ROOT OPTION... -- COMMAND...: makes a bundle; sets it_id, it_runtime_command (with global flags),
# it_bundle_dir and it_prefix (a command that must come before: runc's overlay lives in its own mount namespace).
it_bundle() {
  local driver=$1 root=$2 runtime variable
  shift 2
  it_count=$((it_count + 1))
  it_id=rit-$$-$BASHPID-$it_count
  it_bundle_dir=$it_work/bundles/$it_id
  mkdir -p "$it_bundle_dir" || return 125
  runtime=$(it_runtime "$driver") || return 125
  local env=()
  for variable in "${it_env[@]}"; do env+=(--env "$variable"); done
  it_prefix=()
  if [[ $driver == runc ]]; then
    it_prefix=(unshare --mount --propagation private "$it_dir/overlay.sh" "$it_work/overlay/$it_id" "$root")
    root=$it_work/overlay/$it_id/root
    mkdir -p "$root" || return 125
    it_runtime_command=("$runtime" --root "$it_work/state")
  else
    read -ra flags <<<"${RUNSC_FLAGS-}"
    # In memory, so that a killed sandbox leaves no file in the shared root.
    it_runtime_command=("$runtime" --root "$it_work/state" --overlay2=root:memory "${flags[@]}")
  fi
  printf '%s\n' "${it_runtime_command[@]}" >"$it_bundle_dir/runtime"
  python3 "$it_dir/bundle.py" "$it_bundle_dir" --root "$root" --suite "$it_work/suite" "${env[@]}" "$@" || return 125
}

# Whatever names the container: processes, state, mounts. Empty when nothing is left, after 5 s at most.
it_left_behind() {
  local i left
  for ((i = 0; i < 100; i++)); do
    left=$(it_naming "$it_id")
    [[ -e $it_work/state/$it_id ]] && left+=" $it_work/state/$it_id"
    grep -qF -- "$it_id" /proc/self/mounts && left+=" a mount"
    [[ -n $(find /sys/fs/cgroup -maxdepth 3 -name "*$it_id*" 2>/dev/null | head -n 1) ]] && left+=" a cgroup"
    [[ -z $left ]] && return 0
    it_tick
  done
  echo "$left" | tr '\n' ' '
}

# run_in DRIVER ROOT [OPTION...] -- COMMAND [ARG...]
run_in() {
  local driver=$1 root=$2 limit=60 options=() foreground=() status left
  shift 2
  while (($#)) && [[ $1 != -- ]]; do
    case $1 in
      --limit)
        limit=$2
        shift
        ;;
      --terminal)
        foreground=(--foreground)
        options+=("$1")
        ;;
      *) options+=("$1") ;;
    esac
    shift
  done
  (($#)) || { echo "run_in: no --" >&2; return 125; }
  shift
  it_setup
  [[ $driver == native ]] || root=$(it_root "$root") || return 125
  local bounded=(timeout "${foreground[@]}" --kill-after=5 "$limit")
  case $driver in
    native) "${bounded[@]}" env -i "${it_env[@]}" "$@" ;;
    chroot)
      it_count=$((it_count + 1))
      # The namespaces end with their first process, which ends with unshare.
      "${bounded[@]}" unshare --mount --propagation private --pid --fork --kill-child --ipc --uts --net \
        "$it_dir/overlay.sh" "$it_work/overlay/$it_count" "$root" "$it_dir/enter_chroot.sh" "$it_work/suite" \
        env -i "${it_env[@]}" "$@"
      ;;
    runc | runsc)
      it_bundle "$driver" "$root" "${options[@]}" -- "$@" || return 125
      "${bounded[@]}" "${it_prefix[@]}" "${it_runtime_command[@]}" run --bundle "$it_bundle_dir" "$it_id"
      status=$?
      if ((status == 124 || status == 137)); then
        echo "run_in: status $status: killed, or no end within $limit s: $*" >&2
        timeout --kill-after=5 20 "${it_runtime_command[@]}" delete --force "$it_id" >/dev/null 2>&1
      fi
      left=$(it_left_behind)
      if [[ -n $left ]]; then
        echo "run_in: the container left behind: $left" >&2
        return 126
      fi
      return "$status"
      ;;
    *)
      echo "run_in: unknown driver '$driver': say native, chroot, runc or runsc" >&2
      return 125
      ;;
  esac
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set -u
  (($# >= 4)) || { sed -n '3,11s/^# \{0,1\}//p' "$0" >&2; exit 125; }
  run_in "$@"
  exit $?
fi
