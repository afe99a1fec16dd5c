#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What looks into a container from outside: tar, port-forward, debug. inspect_test.sh RUNSC [NAME-PATTERN].
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/harness.sh"

started() {
  bundle "$@"
  rt run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail "run $*"
}
# A root of its own, with files to change.
changed_root() {
  LOWER=$WORK/lower
  rm -rf "$LOWER"
  cp -a "$WORK/rootfs" "$LOWER"
  mkdir -p "$LOWER"/{etc,dir/in,old/sub,deep/er/still,emptied}
  echo keep >"$LOWER/etc/keep"
  echo gone >"$LOWER/etc/gone"
  echo a >"$LOWER/dir/in/a"
  echo x >"$LOWER/old/sub/x"
  echo one >"$LOWER/deep/er/still/file"
  echo two >"$LOWER/deep/er/still/other"
  echo e >"$LOWER/emptied/e"
  echo twice >"$LOWER/etc/twice"
  ln "$LOWER/etc/twice" "$LOWER/deep/twice"
  local name
  for name in touch rm mv ln mkdir chmod chown mkfifo find sort dd; do ln -sf busybox "$LOWER/bin/$name"; done
}
readonly CHANGES='set -e; echo new >/etc/new; chmod 600 /etc/keep; rm /etc/gone; rm -r /dir; mkdir /dir; echo c >/dir/c; mv /old /moved; mkdir /old;
  ln /etc/new /etc/link; ln -s new /etc/sym; mkfifo /etc/fifo; echo more >>/deep/er/still/file; rm /emptied/e; chown 5:6 /etc/twice; mkdir -p /n/e/w;
  echo long >/n/$(printf %0150d 7); touch -d @86400 /n/e/w; dd if=/dev/zero of=/n/big bs=1000 count=1234 2>/dev/null; touch /ready; exec sleep 1000'
start_changed() {
  changed_root
  bundle sh -c "${CHANGES//$'\n'/ }"
  edit "s|\"path\": \"$WORK/rootfs\", \"readonly\": true|\"path\": \"$LOWER\"|"
  edit 's|"cwd": "/"|"cwd": "/", "capabilities": {"bounding": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}|'
  rt run -d -b "$BUNDLE" c </dev/null >"$WORK/out" 2>&1 || fail "run: $(cat "$WORK/out")"
  local i
  for ((i = 0; i < 200; i++)); do
    rt exec c test -e /ready </dev/null 2>/dev/null && return 0
    read -rt 0.05 <> <(:) || true
  done
  fail "the changes were not made: $(cat "$WORK/out")"
}

test_tar_has_what_changed() {
  start_changed
  rt tar rootfs-upper --file "$WORK/upper.tar" c || fail tar
  python3 - "$WORK/upper.tar" <<'PY' || fail "the archive: $(tar tvf "$WORK/upper.tar" 2>&1)"
import sys, tarfile
t = tarfile.open(sys.argv[1])
members = {m.name: m for m in t.getmembers()}
read = lambda name: t.extractfile(members[name]).read()
assert len(members) == len(t.getmembers()), "a name twice"
assert read("etc/new") == b"new\n" and read("dir/c") == b"c\n" and read("moved/sub/x") == b"x\n", members
assert read("deep/er/still/file") == b"one\nmore\n" and read("etc/keep") == b"keep\n" and members["etc/keep"].mode == 0o600
assert read("n/" + "7".zfill(150)) == b"long\n" and read("n/big") == bytes(1234000)
for name in "etc/gone", "emptied/e":
    assert members[name].ischr() and (members[name].devmajor, members[name].devminor) == (0, 0), name
assert members["dir"].pax_headers["SCHILY.xattr.trusted.overlay.opaque"] == "y", members["dir"].pax_headers
assert members["old"].pax_headers["SCHILY.xattr.trusted.overlay.opaque"] == "y", members["old"].pax_headers
assert "SCHILY.xattr.trusted.overlay.opaque" not in members["n"].pax_headers
assert {members["etc/new"].islnk(), members["etc/link"].islnk()} == {True, False}, "a hard link"
assert members["etc/sym"].issym() and members["etc/sym"].linkname == "new" and members["etc/fifo"].isfifo()
assert (members["etc/twice"].uid, members["etc/twice"].gid) == (5, 6)
assert members["deep/twice"].islnk() or members["etc/twice"].islnk(), "both names of a changed file"
assert members["n/e/w"].mtime == 86400, members["n/e/w"].mtime
# The way to what changed, and nothing else.
assert members["deep"].isdir() and members["deep/er"].isdir(), members
for name in "bin", "bin/busybox", "deep/er/still/other", "dir/in", "dir/in/a", "old/sub":
    assert name not in members, name
PY
  rt tar rootfs-upper --whiteouts=oci c >"$WORK/layer.tar" || fail "tar to standard output"
  local names
  names=$(tar tf "$WORK/layer.tar") || fail "tar(1) cannot read it"
  local name
  for name in etc/.wh.gone emptied/.wh.e dir/.wh..wh..opq old/.wh..wh..opq; do grep -qxF "$name" <<<"$names" || fail "no $name in $names"; done
  ! grep -qxF etc/gone <<<"$names" || fail "etc/gone is in it"
  rt delete -f c || fail delete
}
# What the kernel's overlayfs makes of the archive over the same lower tree is what the container sees.
test_tar_over_the_lower_tree_is_what_the_container_sees() {
  start_changed
  rt tar rootfs-upper --file "$WORK/upper.tar" c || fail tar
  mkdir -p "$WORK/mnt" && mount -t tmpfs tmpfs "$WORK/mnt" || fail "tmpfs"
  trap 'umount "$WORK/mnt/merged" 2>/dev/null; umount "$WORK/mnt"' EXIT
  mkdir "$WORK/mnt"/{upper,work,merged}
  tar --xattrs --xattrs-include='*' --numeric-owner -xpf "$WORK/upper.tar" -C "$WORK/mnt/upper" || fail "tar(1)"
  mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$WORK/mnt/upper,workdir=$WORK/mnt/work" "$WORK/mnt/merged" || fail "overlay"
  local look='cd /; find . -xdev | sort | while read -r f; do stat -c "%n %A %u:%g %t:%T" "$f"; test -f "$f" && md5sum "$f"; test -L "$f" && readlink "$f"; done; :'
  rt exec c busybox sh -c "$look" </dev/null >"$WORK/inside" 2>&1 || fail "the container: $(tail -n 3 "$WORK/inside")"
  chroot "$WORK/mnt/merged" /bin/busybox sh -c "$look" >"$WORK/outside" 2>&1 || fail "the overlay: $(tail -n 3 "$WORK/outside")"
  (($(wc -l <"$WORK/inside") > 40)) || fail "looked at nothing: $(cat "$WORK/inside")"
  # Mounts inside.
  diff <(grep -v '^./proc \|^./sys ' "$WORK/inside") <(grep -v '^./proc \|^./sys ' "$WORK/outside") >"$WORK/diff" || fail "they differ: $(head -n 20 "$WORK/diff")"
  rt delete -f c || fail delete
}
test_tar_says_why_not() {
  expect_error 'does not exist' rt tar rootfs-upper nothing
  started sleep 100
  expect_error 'rootfs-upper' rt tar everything c
  expect_error 'whiteouts: must be' rt tar rootfs-upper --whiteouts=both c
  expect_error '/no/such' rt tar rootfs-upper --file /no/such/file c
  # A reader that goes away.
  rt tar rootfs-upper c | true
  [[ $(rt exec c echo alive </dev/null) == alive ]] || fail "the sandbox was hurt"
  rt delete -f c || fail delete
  bundle sleep 100
  rt --overlay2=none run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail "run --overlay2=none"
  expect_error 'no upper layer .* is in .*/rootfs' rt tar rootfs-upper --file "$WORK/none.tar" c
  [[ ! -e $WORK/none.tar ]] || fail "an archive of nothing"
  rt delete -f c || fail delete
}

# forward OUTPUT ARG...: port-forward in the background; $FORWARD is its pid, $PORT its local port.
forward() {
  : >"$1"
  "$RUNTIME" --root "$STATE" ${FLAGS[@]+"${FLAGS[@]}"} port-forward "${@:2}" >"$1" 2>"$1.err" </dev/null &
  FORWARD=$!
  local i
  for ((i = 0; i < 200; i++)); do
    PORT=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$1")
    [[ -z $PORT ]] || return 0
    read -rt 0.05 <> <(:) || true
  done
  fail "port-forward says: $(cat "$1" "$1.err")"
}
test_port_forward() {
  started sh -c 'busybox nc -ll -p 7000 -e cat'
  forward "$WORK/forward" c 0:7000
  python3 - "$PORT" <<'PY' || fail "through the forwarded port; $(cat "$WORK/forward.err")"
import os, socket, sys, threading, time
end = time.monotonic() + 20
def exchange(data):
    """What comes back of it; the other end sees the end of it."""
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20) as s:
        def send():
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        thread = threading.Thread(target=send)
        thread.start()
        back = b""
        while chunk := s.recv(65536):
            back += chunk
        thread.join()
        return back
# The server has a moment to come up.
def ready():
    try:
        return exchange(b"x") == b"x"
    except OSError:
        return False
while not ready():
    assert time.monotonic() < end, "no echo"
data = os.urandom(3_000_000)
assert exchange(data) == data, "3 MB do not come back as they were"
many = [threading.Thread(target=lambda: results.append(exchange(b"y" * 100_000) == b"y" * 100_000)) for _ in range(6)]
results = []
for thread in many: thread.start()
for thread in many: thread.join()
assert results == [True] * 6, results
PY
  # Where nobody listens the connection ends, and the command lives on.
  forward "$WORK/refused" c 0:7001
  local refused=$FORWARD
  python3 -c 'import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20) as s:
    try: assert s.recv(10) == b""
    except ConnectionResetError: pass' "$PORT" || fail "a port that is closed"
  grep -q 'port 7001: Connection refused\|port 7001: connection refused' "$WORK/refused.err" || fail "said: $(cat "$WORK/refused.err")"
  kill -0 "$refused" || fail "the command ended"
  rt delete -f c || fail delete
  wait "$refused" && fail "it does not tell of the container's end"
  grep -q 'has ended' "$WORK/refused.err" || fail "said: $(cat "$WORK/refused.err")"
  wait
}
# An end of the command is the end of its connections.
test_port_forward_is_killed() {
  started sh -c 'sleep 1000 | busybox nc -l -p 7000 >/dev/null; exec sleep 1000'
  forward "$WORK/forward" c 0:7000
  python3 - "$PORT" "$FORWARD" <<'PY' || fail "it goes on"
import os, signal, socket, sys, time
end = time.monotonic() + 20
while True:
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
    s.settimeout(0.3)
    try:
        if s.recv(1) == b"":
            assert time.monotonic() < end
            continue
    except TimeoutError:
        break
os.kill(int(sys.argv[2]), signal.SIGKILL)
s.settimeout(20)
try:
    assert s.recv(1) == b""
except ConnectionResetError:
    pass
PY
  wait "$FORWARD" 2>/dev/null
  local i
  for ((i = 0; i < 200; i++)); do
    rt exec c busybox ps </dev/null >"$WORK/ps" || fail "exec ps"
    grep -q '[0-9] busybox nc -l' "$WORK/ps" || break
    read -rt 0.05 <> <(:) || true
  done
  ((i < 200)) || fail "the guest's connection is left"
  rt delete -f c || fail delete
}
test_port_forward_of_a_stream() {
  started sh -c 'busybox nc -ll -p 7000 -e cat'
  python3 - "$WORK/stream" "$RUNTIME" --root "$STATE" ${FLAGS[@]+"${FLAGS[@]}"} port-forward --stream "$WORK/stream" c 7000 <<'PY' || fail stream
import socket, subprocess, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(9)
listener.settimeout(20)
end = time.monotonic() + 20
while True:
    child = subprocess.Popen(sys.argv[2:], stderr=subprocess.PIPE)
    s, _ = listener.accept()
    s.settimeout(20)
    try:
        s.sendall(b"over a socket")
        s.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    back = b""
    while chunk := s.recv(100):
        back += chunk
    status = child.wait(20)
    if back == b"over a socket" and status == 0:
        break
    # The server was not up yet.
    assert time.monotonic() < end and b"efused" in child.stderr.read(), (back, status)
PY
  rt delete -f c || fail delete
}
test_port_forward_says_why_not() {
  expect_error 'does not exist' rt port-forward nothing 80
  started sleep 100
  local ports
  for ports in 0 x 65536 1:2:3 70000:80 80: ''; do expect_error 'port-forward' rt port-forward c "$ports"; done
  expect_error '/no/such' rt port-forward --stream /no/such/socket c 80
  rt delete -f c || fail delete
}

test_debug_changes_what_is_logged() {
  mkdir -p "$WORK/logs"
  bundle sleep 100
  rt --debug-log "$WORK/logs/" run -d -b "$BUNDLE" c </dev/null >/dev/null 2>&1 || fail run
  lines() { cat "$WORK/logs/"*boot* | grep -c "$1"; }
  rt exec c echo before </dev/null >/dev/null || fail exec
  (($(lines 'write(1') == 0)) || fail "calls are logged already"
  rt debug --strace=write c || fail "debug --strace"
  rt exec c echo during </dev/null >/dev/null || fail exec
  (($(lines 'write(1, .*during') == 1 && $(lines 'exit_group(') == 0)) || fail "not write alone: $(cat "$WORK/logs/"*boot*)"
  rt debug --strace=all c || fail "debug --strace=all"
  rt exec c echo all </dev/null >/dev/null || fail exec
  (($(lines 'exit_group(') > 0)) || fail "not all calls"
  rt debug --strace=off c || fail "debug --strace=off"
  rt exec c echo after </dev/null >/dev/null || fail exec
  (($(lines 'write(1, .*after') == 0)) || fail "calls are still logged"
  (($(lines 'process .* starts') == 0)) || fail "debug messages without --debug"
  rt debug --log-level=debug c || fail "debug --log-level"
  rt exec c echo again </dev/null >/dev/null || fail exec
  (($(lines 'process .* starts') == 1)) || fail "no debug messages"
  expect_error 'log-level: must be' rt debug --log-level=loud c
  rt delete -f c || fail delete
  started sleep 100
  expect_error 'without --debug-log' rt debug --strace=all c
  rt delete -f c || fail delete
}

run_tests
