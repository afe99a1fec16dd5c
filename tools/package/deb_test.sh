#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# deb_test.sh DEB: what is in the package, and that it installs, works and goes again.
set -u

deb=$(realpath -- "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() {
  echo "FAILED: $*" >&2
  failed=1
}
field() { dpkg-deb --field "$deb" "$1"; }

[[ $(field Package) == runsc && $(field Architecture) == "$(dpkg --print-architecture)" ]] || fail "control: $(field Package)"
[[ $(field Version) =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "Version: $(field Version)"
[[ -n $(field Maintainer) && -n $(field Description) && -n $(field Section) ]] || fail "a field is missing"
# One line of synopsis, no article, no full stop, 80 characters at most; text lines of 80.
synopsis=$(field Description | head -n 1)
[[ ${#synopsis} -le 80 && $synopsis != *. && $synopsis != [Aa]' '* ]] || fail "synopsis: $synopsis"
! field Description | grep -q '.\{81\}' || fail "a long line in the description"
# Static: it needs no other package.
[[ -z $(field Depends) ]] || fail "Depends: $(field Depends)"

want='-rw-r--r-- ./usr/share/bash-completion/completions/runsc
-rw-r--r-- ./usr/share/doc/runsc/changelog.gz
-rw-r--r-- ./usr/share/doc/runsc/copyright
-rw-r--r-- ./usr/share/man/man8/containerd-shim-runsc-v1.8.gz
-rw-r--r-- ./usr/share/man/man8/runsc.8.gz
-rwxr-xr-x ./usr/bin/containerd-shim-runsc-v1
-rwxr-xr-x ./usr/bin/runsc'
have=$(dpkg-deb --contents "$deb" | awk '$1 !~ /^d/ { print $1, $6 }' | LC_ALL=C sort)
[[ $have == "$want" ]] || fail "files: $have"
[[ $(dpkg-deb --contents "$deb" | awk '{ print $2 }' | sort -u) == root/root ]] || fail "owners"
[[ $(dpkg-deb --contents "$deb" | awk '/^d/ { print $1 }' | sort -u) == drwxr-xr-x ]] || fail "modes of directories"

dpkg-deb --raw-extract "$deb" "$work/raw" || fail extract
(cd "$work/raw" && md5sum --quiet --strict -c DEBIAN/md5sums) || fail "md5sums"
[[ $(wc -l <"$work/raw/DEBIAN/md5sums") == 7 ]] || fail "a file is not in md5sums"
[[ $("$work/raw/usr/bin/runsc" version) == "runsc version $(field Version)"* ]] || fail "runsc version"
"$work/raw/usr/bin/containerd-shim-runsc-v1" -v | grep -q containerd-shim-runsc-v1 || fail "the shim"
for binary in "$work"/raw/usr/bin/*; do
  # No interpreter, no symbol table.
  ! readelf -lW "$binary" | grep -q INTERP || fail "$binary is not static"
  ! readelf -SW "$binary" | grep -q '\.symtab' || fail "$binary is not stripped"
done

# The manual page names each command and global flag, and is well-formed as far as roff macros go.
page=$(zcat "$work/raw/usr/share/man/man8/runsc.8.gz")
for name in run create start state kill delete list exec ps wait pause resume update checkpoint restore debug tar port-forward events spec do features; do
  grep -qx ".SS runsc $name" <<<"$page" || fail "runsc(8): $name"
done
grep -qx 'make a container; its process waits for start' <<<"$page" || fail "runsc(8): what create does"
grep -qF '.B \-\-platform VALUE' <<<"$page" || fail "runsc(8): --platform"
grep -qF '.B \-\-console\-socket VALUE' <<<"$page" || fail "runsc(8): --console-socket"
for file in "$work"/raw/usr/share/man/man8/*.gz; do
  [[ $(zcat "$file" | head -n 1) == .TH* ]] || fail "$file: no .TH"
  strange=$(zcat "$file" | grep "^[.']" | grep -v '^\.\(TH\|SH\|SS\|TP\|B\|I\|BR\|RI\)\b')
  [[ -z $strange ]] || fail "$file: $strange"
done

# complete WORD...: what bash offers for the last word.
complete_() (
  . "$work/raw/usr/share/bash-completion/completions/runsc"
  compopt() { :; }
  runsc() { [[ $* != 'list -q' ]] || echo my-container; }
  COMP_WORDS=(runsc "$@")
  COMP_CWORD=$#
  _runsc
  echo "${COMPREPLY[*]}"
)
[[ $(complete_ cre) == create ]] || fail "completion of cre: $(complete_ cre)"
[[ $(complete_ chec) == checkpoint ]] || fail "completion of chec: $(complete_ chec)"
[[ $(complete_ --platf) == --platform ]] || fail "completion of --platf: $(complete_ --platf)"
[[ $(complete_ --debug create --bun) == --bundle ]] || fail "completion of --bun: $(complete_ --debug create --bun)"
[[ $(complete_ kill my) == my-container ]] || fail "completion of an id: $(complete_ kill my)"

# Into an empty root, and out of it.
if ((EUID == 0)); then
  mkdir -p "$work/root/var/lib/dpkg/"{info,updates,triggers}
  : >"$work/root/var/lib/dpkg/status"
  dpkg --root="$work/root" --install "$deb" >"$work/log" 2>&1 || fail "install: $(cat "$work/log")"
  [[ -x $work/root/usr/bin/runsc ]] || fail "not installed"
  [[ -z $(dpkg --root="$work/root" --verify runsc 2>&1) ]] || fail "verify: $(dpkg --root="$work/root" --verify runsc 2>&1)"
  dpkg --root="$work/root" --purge runsc >"$work/log" 2>&1 || fail "purge: $(cat "$work/log")"
  [[ ! -e $work/root/usr ]] || fail "left: $(find "$work/root/usr")"
fi
((failed == 0)) && echo passed
exit "$failed"
