#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tcpdump on interfaces of a guest's own. Runs as root in namespaces of its own (natively: unshare --net --mount); closes with
# PASSED. Text and pcap files are judged by tcpdump itself, and by a reader of our own.
set -eu
fail() {
  echo "FAILED: $*"
  exit 1
}
export LC_ALL=C
mkdir -p /run/netns /tmp/capture
mount -t tmpfs none /run/netns
mount --make-shared /run/netns
cd /tmp/capture
rm -f ./*
trap 'set +e; jobs -p | xargs -r kill 2>/dev/null; ip netns delete a 2>/dev/null; ip netns delete b 2>/dev/null; true' EXIT
at() { timeout 60 ip netns exec "$@"; }
# capture NAME TCPDUMP-ARGUMENT...: starts it, until it listens.
capture() {
  local name=$1
  shift
  timeout 60 "${prefix[@]}" tcpdump -Z root -nn "$@" >"$name.out" 2>"$name.err" &
  dump=$!
  for _ in {1..400}; do
    grep -qs "listening on" "$name.err" && return 0
    kill -0 $dump 2>/dev/null || fail "tcpdump $*: $(cat "$name.err")"
    sleep 0.05
  done
  fail "tcpdump $* does not listen: $(cat "$name.err")"
}
finished() { # NAME: it counted enough frames and ended.
  wait $dump || fail "$1: tcpdump ends with $?: $(cat "$1.err")"
}
prefix=()
ip link set lo up
say() { python3 -c '
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(int(sys.argv[1])): s.sendto(b"datagram %d" % i, ("127.0.0.1", int(sys.argv[2])))' "$@"; }

echo "to a file, and back"
capture file -i lo -U -w lo.pcap -c 5 'udp and dst port 5000'
say 3 5001
say 5 5000
finished file
[[ $(tcpdump -nn -r lo.pcap 2>/dev/null | grep -c 'IP 127.0.0.1.*> 127.0.0.1.5000: UDP, length 10') == 5 ]] || fail "$(tcpdump -nn -r lo.pcap 2>&1)"
python3 - <<'PY' || fail "the file"
import struct
data = open("lo.pcap", "rb").read()
magic, major, minor, _, _, snap, link = struct.unpack("<IHHiIII", data[:24])
assert (magic, major, minor, link) == (0xa1b2c3d4, 2, 4, 1), (magic, major, minor, link)
at, seen, last = 24, [], 0
while at < len(data):
    seconds, micro, kept, length = struct.unpack("<IIII", data[at:at + 16])
    assert kept == length == 14 + 20 + 8 + 10 and seconds + micro / 1e6 >= last
    last = seconds + micro / 1e6
    seen.append(data[at + 16 + 42:at + 16 + kept])
    at += 16 + kept
assert seen == [b"datagram %d" % i for i in range(5)], seen
PY

echo "line by line, as they come"
capture lines -i lo -l --immediate-mode -c 2 'udp port 5000'
say 2 5000
finished lines
[[ $(grep -c 'UDP, length 10' lines.out) == 2 ]] || fail "$(cat lines.out lines.err)"
grep -q '^0 packets dropped by kernel' lines.err || fail "$(cat lines.err)"

echo "all interfaces, without their headers"
capture any -i any -c 2 'udp port 5000'
say 2 5000
finished any
grep -q 'LINUX_SLL2' any.err && grep -q '^[0-9:.]* lo .*127.0.0.1.5000: UDP' any.out || fail "$(cat any.out any.err)"

echo "a cable: questions, answers and pings, both ways"
for n in a b; do ip netns add $n && ip -n $n link set lo up; done
ip link add eth0 netns a type veth peer name eth0 netns b
for n in a b; do ip -n $n link set eth0 up; done
ip -n a addr add 10.1.0.1/24 dev eth0
ip -n b addr add 10.1.0.2/24 dev eth0
prefix=(ip netns exec b)
capture cable -i eth0 -e -c 4 'arp or icmp'
at a ping -c 1 -W 10 10.1.0.2 >/dev/null || fail "no answer"
finished cable
for line in 'ff:ff:ff:ff:ff:ff, ethertype ARP.*Request who-has 10.1.0.2 .*tell 10.1.0.1' 'ethertype ARP.*Reply 10.1.0.2 is-at' 'ICMP echo request' 'ICMP echo reply'; do
  grep -qE "$line" cable.out || fail "no $line: $(cat cable.out)"
done
capture tcp -i eth0 -c 3 'tcp port 8000 and (tcp[tcpflags] & (tcp-syn|tcp-rst) != 0 or len > 1000)'
at b python3 -c '
import socket
s = socket.create_server(("10.1.0.2", 8000))
c = s.accept()[0]
c.recv(1); c.sendall(bytes(5000))' &
server=$!
at a python3 -c '
import socket, time
for i in range(400):
    try:
        s = socket.create_connection(("10.1.0.2", 8000)); break
    except ConnectionRefusedError: time.sleep(0.05)
s.sendall(b"x")
n = 0
while d := s.recv(10000): n += len(d)
assert n == 5000'
wait $server
finished tcp
grep -q 'Flags \[S\]' tcp.out || fail "$(cat tcp.out)"

echo "who has no right"
! setpriv --bounding-set -net_raw --inh-caps -net_raw tcpdump -Z root -i lo -c 1 2>err || fail "without CAP_NET_RAW"
grep -qi 'permission' err || fail "$(cat err)"
echo PASSED
