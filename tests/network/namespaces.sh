#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Network namespaces of a guest's own, joined by veth pairs and bridges, with routers between them. Runs as root in namespaces
# of its own (natively: unshare --net --mount); closes with PASSED.
set -eu
fail() {
  echo "FAILED: $*"
  exit 1
}
export LC_ALL=C
mkdir -p /run/netns
mount -t tmpfs none /run/netns
mount --make-shared /run/netns
mkdir -p /tmp/ns-test
trap 'set +e; jobs -p | xargs -r kill 2>/dev/null; for n in a b c r; do ip netns delete "$n" 2>/dev/null; done; true' EXIT
at() { timeout 60 ip netns exec "$@"; }
answers() { # NAMESPACE ADDRESS [OPTION...]
  local out
  out=$(at "$1" ping -c 2 -i 0.2 -W 10 "${@:3}" "$2" 2>&1) || fail "ping $2 from $1: $out"
}
silent() { ! at "$1" ping -c 1 -W 1 "$2" >/dev/null 2>&1 || fail "$2 answers $1"; }
ip link set lo up

echo "a cable between two namespaces"
for n in a b; do ip netns add $n && ip -n $n link set lo up; done
ip link add eth0 netns a type veth peer name eth0 netns b
for n in a b; do ip -n $n link set eth0 up; done
ip -n a addr add 10.1.0.1/24 dev eth0
ip -n b addr add 10.1.0.2/24 dev eth0
ip -n a addr add fd01::1/64 dev eth0 nodad
ip -n b addr add fd01::2/64 dev eth0 nodad
answers a 10.1.0.2
answers b 10.1.0.1 -s 4000
answers a fd01::2
answers b fd01::1 -s 4000
[[ $(ip -n a -o link show eth0) == *"eth0@if"*"link-netns"* ]] || fail "$(ip -n a -o link show eth0)"
[[ -z $(ip -o link show type veth) ]] || fail "an end in the wrong namespace: $(ip -o link)"
# The other end's link-local address, which it made of its hardware address.
local_b=$(ip -n b -o -6 addr show dev eth0 scope link | sed -E 's/.*inet6 (fe80[^/]*).*/\1/')
[[ $local_b == fe80* ]] || fail "no link-local address: $(ip -n b addr)"
answers a "$local_b%eth0"
ip -n b link set eth0 down
silent a 10.1.0.2
ip -n b link set eth0 up
answers a 10.1.0.2
ip -n a neigh show 10.1.0.2 | grep -qE '10.1.0.2 dev eth0 lladdr' || fail "no neighbour: $(ip -n a neigh)"
ip netns delete b
for _ in {1..200}; do
  [[ -z $(ip -n a -o link show type veth) ]] && break
  sleep 0.05
done
[[ -z $(ip -n a -o link show type veth) ]] || fail "the end stays without the other: $(ip -n a link)"
ip netns delete a

echo "a bridge of three"
ip link add br0 type bridge
ip link set br0 up
ip addr add 10.2.0.254/24 dev br0
i=0
for n in a b c; do
  i=$((i + 1))
  ip netns add $n
  ip link add p$i type veth peer name eth0 netns $n
  ip link set p$i master br0 up
  ip -n $n link set eth0 up
  ip -n $n addr add 10.2.0.$i/24 dev eth0
done
[[ $(ip -o link show master br0 | wc -l) == 3 ]] || fail "$(ip link)"
[[ $(ip -o link show type bridge) == *br0* ]] || fail "$(ip link)"
answers a 10.2.0.2
answers b 10.2.0.3
answers c 10.2.0.254
at a ping -c 1 -W 5 -b 10.2.0.255 >/dev/null 2>&1 || true
ip link set p2 nomaster
silent a 10.2.0.2
ip link set p2 master br0
answers a 10.2.0.2
ip link delete br0
[[ $(ip -o link show p1) != *master* ]] || fail "the port of a bridge that is gone: $(ip link show p1)"
silent a 10.2.0.2
for n in a b c; do ip netns delete $n; done

echo "a router between two"
for n in a r b; do ip netns add $n && ip -n $n link set lo up; done
ip link add eth0 netns a type veth peer name left netns r
ip link add eth0 netns b type veth peer name right netns r
for one in "a eth0 1.2 1::2" "r left 1.1 1::1" "r right 2.1 2::1" "b eth0 2.2 2::2"; do
  read -r n dev v4 v6 <<<"$one"
  ip -n "$n" link set "$dev" up
  ip -n "$n" addr add "10.3.$v4/24" dev "$dev"
  ip -n "$n" addr add "fd03:$v6/64" dev "$dev" nodad
done
ip -n a route add default via 10.3.1.1
ip -n b route add default via 10.3.2.1
ip -n a -6 route add default via fd03:1::1
ip -n b -6 route add default via fd03:2::1
[[ $(at r cat /proc/sys/net/ipv4/ip_forward) == 0 ]] || fail "a new namespace forwards"
silent a 10.3.2.2
at r sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
[[ $(at r cat /proc/sys/net/ipv4/conf/all/forwarding)$(at a cat /proc/sys/net/ipv4/ip_forward) == 10 ]] || fail "the setting is not the namespace's"
answers a 10.3.2.2
answers b fd03:1::2
answers a 10.3.2.2 -s 5000
out=$(at a traceroute -n -w 5 -q 1 -m 4 10.3.2.2)
[[ $out == *" 1  10.3.1.1 "*" 2  10.3.2.2 "* ]] || fail "traceroute: $out"
out=$(at a ping -c 1 -W 5 10.77.0.1 2>&1) && fail "10.77.0.1 answers"
[[ $out == *"10.3.1.1"*"Unreachable"* ]] || fail "no word from the router: $out"
# A way that gets narrower: TCP learns of it.
ip -n r link set right mtu 1300
ip -n b link set eth0 mtu 1300
head -c 3000000 /dev/urandom >/tmp/ns-test/big
at b python3 -m http.server --directory /tmp/ns-test 8000 >/dev/null 2>&1 &
for _ in {1..400}; do
  at a bash -c 'exec 3<>/dev/tcp/10.3.2.2/8000' 2>/dev/null && break
  sleep 0.05
done
[[ $(at a curl -sS --max-time 50 http://10.3.2.2:8000/big | sha256sum) == "$(sha256sum </tmp/ns-test/big)" ]] || fail "the file arrives changed"
# The other direction, whose sender has the wide link.
[[ $(at a curl -sS --max-time 50 -o /dev/null -w '%{http_code}' -T /tmp/ns-test/big http://10.3.2.2:8000/x) == 501 ]] || fail "an upload is not refused"

echo "an interface goes to a process"
unshare --net sleep 100 &
sleeper=$!
for _ in {1..200}; do
  [[ $(readlink /proc/$sleeper/ns/net) != "$(readlink /proc/self/ns/net)" ]] && break
  sleep 0.05
done
ip link add here type veth peer name there
[[ $(ip -o link show here) == *"here@there"* ]] || fail "$(ip -o link show here)"
ip link set there netns $sleeper name eth7
[[ -z $(ip -o link show | grep there:) ]] || fail "it is here still"
nsenter --net=/proc/$sleeper/ns/net ip link set eth7 up
nsenter --net=/proc/$sleeper/ns/net ip addr add 10.4.0.2/24 dev eth7
ip link set here up
ip addr add 10.4.0.1/24 dev here
ping -c 1 -W 10 10.4.0.2 >/dev/null || fail "no answer from where it went"
kill $sleeper

echo "names, addresses, and what is not allowed"
ip link add d0 address 02:11:22:33:44:55 mtu 1234 type veth peer name d1
[[ $(ip -o link show d0) == *"mtu 1234"*"02:11:22:33:44:55"* ]] || fail "$(ip -o link show d0)"
ip link set d0 address 02:aa:bb:cc:dd:ee
[[ $(ip -o link show d0) == *"02:aa:bb:cc:dd:ee"* ]] || fail "$(ip -o link show d0)"
ip link set d0 name renamed
! ip link add renamed type bridge 2>/tmp/ns-test/err || fail "the name is taken"
grep -q 'File exists' /tmp/ns-test/err || fail "$(cat /tmp/ns-test/err)"
! ip link delete lo 2>/tmp/ns-test/err || fail "lo is gone"
grep -q 'Operation not supported' /tmp/ns-test/err || fail "$(cat /tmp/ns-test/err)"
! setpriv --bounding-set -net_admin --inh-caps -net_admin ip link add no type bridge 2>/tmp/ns-test/err || fail "without CAP_NET_ADMIN"
grep -q 'Operation not permitted' /tmp/ns-test/err || fail "$(cat /tmp/ns-test/err)"
ip link delete renamed
echo PASSED
