#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# runsc as an ordinary user, first without subordinate ids, then with (newuidmap, of the package uidmap): rootless_test.sh RUNSC [FLAG...].
# Needs root, to become one. The machine's root directory may be closed to others: the test has a root of its own in a mount namespace.
set -u

((EUID == 0)) || { echo "tests/oci: needs root" >&2; exit 125; }
readonly USER_ID=54321
if [[ -z ${ROOTLESS_TEST_DIR-} ]]; then
  work=$(mktemp -d /tmp/rootless-test.XXXXXX) || exit 125
  trap 'rm -rf --one-file-system -- "$work"' EXIT
  ROOTLESS_TEST_DIR=$work ROOTLESS_TEST_RUNSC=$(realpath -- "$1") timeout --kill-after=5 120 \
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc bash "$(realpath -- "$0")" "$@"
  exit
fi

work=$ROOTLESS_TEST_DIR
shift
FLAGS=("$@")
root=$work/root
mkdir "$root" && mount -t tmpfs -o mode=755 root "$root" || exit 125
# An /etc to write to.
mkdir "$root/etc" && cp -a /etc/. "$root/etc" || exit 125
grep -v '^me:' /etc/passwd >"$root/etc/passwd" && echo "me:x:$USER_ID:$USER_ID::/home/me:/bin/sh" >>"$root/etc/passwd" || exit 125
rm -f "$root/etc/subuid" "$root/etc/subgid"
for name in usr dev proc sys bin sbin lib lib64; do
  if [[ -L /$name ]]; then
    cp -a "/$name" "$root/$name"
  elif [[ -d /$name ]]; then
    mkdir "$root/$name" && mount --rbind "/$name" "$root/$name" || exit 125
  fi
done
mkdir -p "$root/home" "$root/old" && mkdir -m 1777 "$root/tmp" && cp "$ROOTLESS_TEST_RUNSC" "$root/home/runsc" || exit 125
mkdir -p "$root/home/me/bundle/rootfs/bin" "$root/home/me/bundle/rootfs/tmp" && cp "$(command -v busybox)" "$root/home/me/bundle/rootfs/bin/" || exit 125
for name in sh sleep echo id touch cat chown stat; do ln -s busybox "$root/home/me/bundle/rootfs/bin/$name"; done
chown -R $USER_ID:$USER_ID "$root/home/me"
cd "$root" && pivot_root . old && cd / && umount -l /old || exit 125

# No environment: not even the user's name.
user() { setpriv --reuid $USER_ID --regid $USER_ID --clear-groups env -i PATH=/usr/bin:/bin "$@" </dev/null; }
runsc() { user timeout 30 /home/runsc --root=/home/me/state "${FLAGS[@]}" "$@"; }
failed=0
fail() {
  echo "FAILED: $*" >&2
  failed=1
}
# bundle READONLY ARG...
bundle() {
  local readonly=$1 args='' a
  for a in "${@:2}"; do args+=",\"$a\""; done
  cat >/home/me/bundle/config.json <<JSON
{"ociVersion": "1.0.2",
 "process": {"user": {"uid": 0, "gid": 0}, "args": [${args#,}], "env": ["PATH=/bin"], "cwd": "/",
  "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}},
 "root": {"path": "rootfs", "readonly": $readonly},
 "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]}}
JSON
}

[[ $(user id -u) == $USER_ID ]] || fail "the test's own user: $(user id -u)"
for flag in --rootless ''; do
  out=$(runsc $flag do sh -c 'id -u; touch /usr/mine && echo written; exit 7')
  [[ $? == 7 && $out == 0*written ]] || fail "do $flag: $out"
  [[ ! -e /usr/mine ]] || fail "do $flag wrote to the host"
  bundle false sh -c 'id -u; echo x >/mine; cat /mine; exit 8'
  out=$(runsc $flag run --bundle /home/me/bundle c)
  [[ $? == 8 && $out == $'0\nx' ]] || fail "run $flag: $out"
  [[ ! -e /home/me/bundle/rootfs/mine ]] || fail "run $flag wrote to the bundle"
done
# Without the layer above, what the container's root writes is the user's.
out=$(runsc --overlay2=none run --bundle /home/me/bundle c)
[[ $? == 8 && $(stat -c %u /home/me/bundle/rootfs/mine) == $USER_ID ]] || fail "run --overlay2=none: $out"

# The ranges of ids that the system grants the user are the container's, from 1 on.
no_ranges=$(runsc --overlay2=none do sh -c 'touch /home/me/own && chown 1:1 /home/me/own' 2>&1) && fail "an id that nobody granted: $no_ranges"
echo "me:200000:65536" >/etc/subuid && echo "$USER_ID:300000:1000" >/etc/subgid
bundle false sh -c 'echo x >/ranged && chown 7:8 /ranged && stat -c %u:%g /ranged && id -u; exit 9'
for flag in --rootless ''; do
  rm -f /home/me/bundle/rootfs/ranged
  out=$(runsc --overlay2=none $flag run --bundle /home/me/bundle c 2>&1)
  [[ $? == 9 && $out == $'7:8\n0' ]] || fail "run $flag with ranges: $out"
  [[ $(stat -c %u:%g /home/me/bundle/rootfs/ranged) == 200006:300007 ]] || fail "with ranges: $(stat -c %u:%g /home/me/bundle/rootfs/ranged)"
done
out=$(runsc --overlay2=none do sh -c 'stat -c %u:%g /home/me/bundle/rootfs/ranged; chown 3:4 /home/me/bundle/rootfs/ranged')
[[ $? == 0 && $out == 7:8 && $(stat -c %u:%g /home/me/bundle/rootfs/ranged) == 200002:300003 ]] || fail "do with ranges: $out"
# Ids that are nobody's to give stay closed, above all the host's root.
(umask 077 && echo secret >/home/secret)
! runsc do cat /home/secret 2>/dev/null || fail "do with ranges reads a file that its user may not read"
# The mappings of config.json, as podman and docker's rootless modes write them.
bundle false sh -c 'stat -c %u:%g /ranged; chown 1:1 /ranged'
maps() {
  local namespaces='"namespaces": [{"type": "user"}, '
  sed -i "s|\"namespaces\": \[|\"uidMappings\": $1, \"gidMappings\": $2, $namespaces|" /home/me/bundle/config.json
}
maps "[{\"containerID\": 0, \"hostID\": $USER_ID, \"size\": 1}, {\"containerID\": 1, \"hostID\": 200002, \"size\": 5}]" \
  "[{\"containerID\": 0, \"hostID\": $USER_ID, \"size\": 1}, {\"containerID\": 1, \"hostID\": 300003, \"size\": 5}]"
out=$(runsc --overlay2=none run --bundle /home/me/bundle c 2>&1)
[[ $? == 0 && $out == 1:1 && $(stat -c %u:%g /home/me/bundle/rootfs/ranged) == 200002:300003 ]] || fail "uidMappings: $out"
bundle false true
maps "[{\"containerID\": 0, \"hostID\": 0, \"size\": 1}]" "[{\"containerID\": 0, \"hostID\": $USER_ID, \"size\": 1}]"
out=$(runsc run --bundle /home/me/bundle c 2>&1) && fail "the host's root as an ordinary user: $out"
[[ $out == *linux.uidMappings:*newuidmap* && $(wc -l <<<"$out") == 1 ]] || fail "said: $out"

bundle true sleep 100
runsc run -d --bundle /home/me/bundle c || fail "run -d"
[[ $(runsc exec c id -u) == 0 ]] || fail "exec"
[[ $(runsc list -q) == c ]] || fail "list: $(runsc list -q)"
runsc kill c KILL || fail kill
[[ $(runsc wait c) == *'"exitStatus":137}' ]] || fail "wait"
runsc delete c || fail delete
[[ -z $(ls -A /home/me/state) ]] || fail "left: $(ls /home/me/state)"
# It gains nothing: a file of the host's root stays closed.
(umask 077 && echo secret >/home/secret)
! runsc do cat /home/secret 2>/dev/null || fail "do reads a file that its user may not read"
((failed == 0)) && echo passed
exit "$failed"
