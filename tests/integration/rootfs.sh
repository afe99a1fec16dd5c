#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes the root file systems that the integration tests run in, and prints the directory:
#   rootfs.sh busybox|debian|programs|languages|all          all: what `tools/test` needs, which is the first three
# "programs" adds to "debian" what tests/programs runs, "languages" adds to that the big language run times.
#
# They are kept below $RUNSC_TEST_CACHE (default ~/.cache/runsc-rootfs), one directory per recipe: a changed package list
# makes a new one. A root is built aside and renamed, under a lock, so that a name that exists is complete. Needs root.
# Environment: RUNSC_TEST_MIRROR, the Debian mirror (default: the first of the host's apt sources).
# Exit status 0, or 1 with one line that says what is missing: a test that needs the root then fails, it isn't skipped.
set -u

SUITE=bookworm
# gdb-minimal: debootstrap does not resolve the virtual packages that gdb depends on.
PACKAGES="bash coreutils findutils diffutils tar git gcc libc6-dev make perl python3 openssl strace gdb-minimal procps"
PROGRAMS="bzip2 libpython3.11-testsuite stress-ng sqlite3 postgresql-15 vim-tiny tmux htop debootstrap tzdata netbase"
# What the root keeps packed below /usr/src: the packages of a minimal Debian with these, and the sources of a C project.
MIRRORED="python3 procps make git"
SOURCE=zlib
LANGUAGES="nodejs ruby golang-go default-jdk-headless"
# Raised when the recipe below changes.
RECIPE=1
# Seconds: the download of about 100 MB, and 250 packages unpacked on 2 slow cores.
LIMIT=780

fail() {
  echo "rootfs.sh: $*" >&2
  exit 1
}

cache=${RUNSC_TEST_CACHE:-${HOME:-/root}/.cache/runsc-rootfs}

# The first Debian mirror of the host's apt configuration: one-line and deb822 files.
mirror() {
  local found
  if [[ -n ${RUNSC_TEST_MIRROR-} ]]; then
    echo "$RUNSC_TEST_MIRROR"
    return
  fi
  found=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -nE 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p; s/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]].*/\2/p' |
    grep -E '/debian/?$' | head -n 1)
  echo "${found:-http://deb.debian.org/debian}"
}

recipe_hash() { printf '%s\n' "$@" | sha256sum | cut -c 1-12; }

# Mount points.
finish() {
  local dir=$1
  mkdir -p "$dir"/{proc,dev,sys,tmp,run,root,suite} && chmod 1777 "$dir/tmp"
}

make_busybox() {
  local dir=$1 busybox name
  busybox=$(command -v busybox) || fail "busybox: not installed: apt-get install busybox-static"
  mkdir -p "$dir"/{bin,etc,usr,var,home} || return 1
  cp -- "$busybox" "$dir/bin/busybox" || return 1
  # Not a dynamic one: the root has no libraries.
  chroot "$dir" /bin/busybox true || fail "busybox: $busybox isn't static: apt-get install busybox-static"
  for name in $("$busybox" --list); do
    [[ $name == busybox ]] || ln -sf busybox "$dir/bin/$name" || return 1
  done
  ln -s bin "$dir/sbin" && ln -s ../bin "$dir/usr/bin" || return 1
  echo 'root:x:0:0:root:/root:/bin/sh' >"$dir/etc/passwd"
  echo 'root:x:0:' >"$dir/etc/group"
  finish "$dir"
}

make_programs() {
  local base
  base=$("$0" debian) || return 1
  # shellcheck disable=SC2086  # a list
  make_extended "$1" "$base" $PROGRAMS || return 1
  make_mirror "$1/usr/src/mirror"
}

# What of Debian tests install by themselves, without a network: a mirror in the file system.
make_mirror() {
  local dir=$1 url names list=$1/dists/$SUITE/main/binary-amd64 log=$cache/mirror.log
  url=$(mirror)
  mkdir -p "$dir/pool" "$list" "$cache/print" || return 1
  names=$(debootstrap --print-debs --variant=minbase --include="${MIRRORED// /,}" "$SUITE" "$cache/print" "$url" 2>"$log") ||
    fail "debootstrap --print-debs failed; its output is in $log"
  rm -rf -- "$cache/print"
  (
    # apt with lists of its own: the host may be another release.
    apt=$(mktemp -d) && trap 'rm -rf "$apt"' EXIT && mkdir -p "$apt"/{lists/partial,cache/archives/partial,etc} && touch "$apt/status"
    echo "deb $url $SUITE main" >"$apt/sources"
    echo "deb-src $url $SUITE main" >>"$apt/sources"
    options=(-q -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
      -o "Dir::Etc::sourcelist=$apt/sources" -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root -o APT::Architecture=amd64)
    # shellcheck disable=SC2086  # lists
    apt-get "${options[@]}" update && cd "$dir/pool" && apt-get "${options[@]}" download $names &&
      cd "$dir/.." && apt-get "${options[@]}" source --download-only $SOURCE
  ) >>"$log" 2>&1 || fail "downloading packages for $dir failed; the output is in $log"
  (
    cd "$dir" || exit 1
    for file in pool/*.deb; do
      dpkg-deb -f "$file" || exit 1
      printf 'Filename: %s\nSize: %s\nSHA256: %s\n\n' "$file" "$(stat -c %s "$file")" "$(sha256sum "$file" | cut -d ' ' -f 1)"
    done >"$list/Packages"
    printf 'Origin: Debian\nSuite: stable\nCodename: %s\nArchitectures: amd64\nComponents: main\nSHA256:\n %s %s %s\n' "$SUITE" \
      "$(sha256sum "$list/Packages" | cut -d ' ' -f 1)" "$(stat -c %s "$list/Packages")" main/binary-amd64/Packages >"dists/$SUITE/Release"
  ) || fail "cannot write the index of $dir"
}

make_languages() {
  local base
  base=$("$0" programs) || return 1
  # shellcheck disable=SC2086  # a list
  make_extended "$1" "$base" $LANGUAGES
}

make_debian() {
  local dir=$1 url log
  url=$(mirror)
  log=$cache/debootstrap.log
  command -v debootstrap >/dev/null || fail "debootstrap: not installed: apt-get install debootstrap"
  # Fail within seconds when there is no network, not after debootstrap's retries.
  /usr/lib/apt/apt-helper -o Acquire::http::Timeout=15 -o Acquire::Retries=1 download-file \
    "$url/dists/$SUITE/InRelease" "$dir.release" >"$log" 2>&1 ||
    fail "the mirror $url isn't reachable (see $log); set RUNSC_TEST_MIRROR to another"
  rm -f -- "$dir.release"
  mkdir -p "$cache/debs"
  echo "rootfs.sh: making a Debian root below $cache (a few minutes, once)" >&2
  # A mount namespace of its own, as debootstrap leaves /proc mounted when it is killed.
  timeout --kill-after=10 "$LIMIT" unshare --mount --propagation private \
    debootstrap --variant=minbase --cache-dir="$cache/debs" --include="${PACKAGES// /,}" "$SUITE" "$dir" "$url" \
    >>"$log" 2>&1 </dev/null || fail "debootstrap from $url failed with status $?; its output is in $log"
  rm -rf -- "$dir"/var/cache/apt/* "$dir"/var/lib/apt/lists/* "$dir"/usr/share/{doc,locale,man,info}/* "$dir"/dev/*
  # Tests compare trees; these would differ by the machine that made the root.
  rm -f -- "$dir"/etc/resolv.conf "$dir"/etc/hostname "$dir"/var/log/*.log
  mkdir -p "$dir"/var/cache/apt/archives/partial "$dir"/var/lib/apt/lists/partial
  finish "$dir"
}

# A copy of the root $2 with packages added: make_extended DIR BASE PACKAGE...
make_extended() {
  local dir=$1 base=$2 log
  shift 2
  log=$cache/$(basename -- "$dir").log
  cp -a --reflink=auto -- "$base" "$dir" || return 1
  # Packages start no services here, and the host's resolver serves the download.
  printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d" && chmod 755 "$dir/usr/sbin/policy-rc.d"
  echo "deb $(mirror) $SUITE main" >"$dir/etc/apt/sources.list"
  cp -L /etc/resolv.conf "$dir/etc/resolv.conf"
  # shellcheck disable=SC2016  # the inner shell expands them
  timeout --kill-after=10 "$LIMIT" unshare --mount --propagation private --pid --fork --kill-child bash -c '
    dir=$1; shift
    mount -t proc proc "$dir/proc" && mount -t tmpfs tmpfs "$dir/dev" && mount -t tmpfs tmpfs "$dir/tmp" || exit 1
    for device in null zero random urandom; do touch "$dir/dev/$device"; mount --bind "/dev/$device" "$dir/dev/$device"; done
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    chroot "$dir" apt-get update -q &&
      chroot "$dir" apt-get install -y -q --no-install-recommends -o Dpkg::Options::=--force-unsafe-io "$@"' \
    bash "$dir" "$@" >"$log" 2>&1 </dev/null || fail "installing $* failed with status $?; its output is in $log"
  rm -rf -- "$dir"/var/cache/apt/* "$dir"/var/lib/apt/lists/* "$dir"/usr/share/{doc,locale,man,info}/*
  rm -f -- "$dir"/etc/resolv.conf "$dir"/usr/sbin/policy-rc.d
  mkdir -p "$dir"/var/cache/apt/archives/partial "$dir"/var/lib/apt/lists/partial
}

make_root() {
  local name=$1 dir hash
  case $name in
    busybox) hash=$(recipe_hash "$RECIPE" "$(sha256sum "$(command -v busybox)" 2>/dev/null)") ;;
    debian) hash=$(recipe_hash "$RECIPE" "$SUITE" "$PACKAGES") ;;
    programs) hash=$(recipe_hash "$RECIPE" "$SUITE" "$PACKAGES" "$PROGRAMS" "$MIRRORED" "$SOURCE") ;;
    languages) hash=$(recipe_hash "$RECIPE" "$SUITE" "$PACKAGES" "$PROGRAMS" "$MIRRORED" "$SOURCE" "$LANGUAGES") ;;
    *) fail "unknown root '$name': say busybox, debian, programs, languages or all" ;;
  esac
  dir=$cache/$name-$hash
  if [[ ! -d $dir ]]; then
    ((EUID == 0)) || fail "making $dir needs root"
    mkdir -p "$cache" || fail "cannot create $cache"
    exec 8>"$cache/$name.lock"
    flock --wait $((LIMIT + 60)) 8 || fail "another process has held $cache/$name.lock for too long"
    if [[ ! -d $dir ]]; then
      # What a killed run left, and roots of older recipes that no checkout has used for two weeks.
      rm -rf --one-file-system -- "$dir.new"
      find "$cache" -maxdepth 1 -name "$name-*" -mtime +14 -exec rm -rf --one-file-system -- {} +
      "make_$name" "$dir.new" || fail "cannot make $dir.new"
      mv -- "$dir.new" "$dir" || fail "cannot rename $dir.new"
    fi
    exec 8>&-
  fi
  touch -c -- "$dir" 2>/dev/null
  echo "$dir"
}

(($# == 1)) || fail "usage: rootfs.sh busybox|debian|programs|languages|all"
if [[ $1 == all ]]; then
  make_root busybox
  make_root debian
  make_root programs
else
  make_root "$1"
fi
