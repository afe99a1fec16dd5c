#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Containers whose interfaces are ends of veth pairs on a bridge: network_test.sh DRIVER; native is runc here.
# Everything happens in network namespaces that the test makes: one for the "host" with the bridge, one per container.
set -u
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/driver.sh"
. "$it_dir/container.sh"
name=${1:?}
[[ $name == native ]] && name=runc
driver=$(it_driver "$name") || exit 125
it_use_platform "$name"
it_setup

# An interface's name has 15 characters.
net=rn$$
at_host() { ip netns exec "$net-h" "$@"; }
clean_network() {
  local one
  for one in h 1 2; do ip netns delete "$net-$one" 2>/dev/null; done
  return 0
}
trap 'clean_network; it_cleanup' EXIT

make_network() {
  local i
  clean_network
  ip netns add "$net-h" && at_host ip link set lo up && at_host ip link add br0 type bridge && at_host ip link set br0 up &&
    at_host ip addr add 10.77.0.254/24 dev br0 && at_host ip -6 addr add fd77::fe/64 dev br0 nodad || return 1
  for i in 1 2; do
    ip netns add "$net-$i" && at_host ip link add "v$i" type veth peer name eth0 netns "$net-$i" &&
      at_host ip link set "v$i" master br0 up && ip -n "$net-$i" link set lo up && ip -n "$net-$i" link set eth0 up &&
      ip -n "$net-$i" addr add "10.77.0.$i/24" broadcast 10.77.0.255 dev eth0 &&
      ip -n "$net-$i" -6 addr add "fd77::$i/64" dev eth0 nodad &&
      ip -n "$net-$i" route add default via 10.77.0.254 || return 1
  done
}

# serving I ADDRESS: a container in namespace I that serves.
serving() {
  launch "$driver" debian --netns "/run/netns/$net-$1" -- python3 /suite/net_peer.py serve "$2"
  hear 60
  [[ $heard == ready ]] || fail "the server says '$heard'"
}
done_serving() {
  exec {to}>&-
  ended 20
  ((status == 0)) || fail "the server ends with $status: $(cat "$it_bundle_dir/err")"
  nothing_left
}
peer() { timeout --kill-after=5 100 "$@"; }

# From the host's side to a container, IPv4 and IPv6.
test_host_to_container() {
  make_network || fail "cannot make the network"
  serving 1 0.0.0.0
  out=$(peer ip netns exec "$net-h" python3 "$it_dir/guest/net_peer.py" talk 10.77.0.1 2>&1)
  [[ $out == PASSED ]] || fail "over IPv4: $out"
  # The stack answers echoes, also large ones that come in fragments.
  at_host python3 - 10.77.0.1 <<'PY' || fail "no answer to an ICMP echo"
import os, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(10)
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
for size in (0, 56, 4000):
    body = os.urandom(size)
    head = struct.pack("!BBHHH", 8, 0, 0, 77, size)
    head = struct.pack("!BBHHH", 8, 0, checksum(head + body), 77, size)
    s.sendto(head + body, (sys.argv[1], 0))
    while True:
        answer = s.recv(65536)[20:]
        if answer[0] == 0 and answer[4:8] == struct.pack("!HH", 77, size):
            assert answer[8:] == body
            break
PY
  done_serving
  make_network || fail "cannot make the network anew"
  serving 1 ::
  out=$(peer ip netns exec "$net-h" python3 "$it_dir/guest/net_peer.py" talk fd77::1 2>&1)
  [[ $out == PASSED ]] || fail "over IPv6: $out"
  done_serving
}

test_container_to_host() {
  make_network || fail "cannot make the network"
  mkfifo "$it_work/server.in" "$it_work/server.out"
  timeout 100 ip netns exec "$net-h" python3 "$it_dir/guest/net_peer.py" serve 10.77.0.254 <"$it_work/server.in" >"$it_work/server.out" &
  local server=$! in out line
  exec {in}>"$it_work/server.in" {out}<"$it_work/server.out"
  IFS= read -rt 30 -u "$out" line
  [[ $line == ready ]] || fail "the server says '$line'"
  run_in "$driver" debian --netns "/run/netns/$net-1" -- python3 /suite/net_peer.py talk 10.77.0.254 >"$it_work/out" 2>&1
  [[ $(cat "$it_work/out") == PASSED ]] || fail "to the host: $(cat "$it_work/out")"
  exec {in}>&- {out}<&-
  wait "$server" || fail "the server on the host fails"
}

test_container_to_container() {
  make_network || fail "cannot make the network"
  serving 1 0.0.0.0
  local first=("$it_bundle_dir" "$it_id" "$runner" "$to" "$from")
  run_in "$driver" debian --netns "/run/netns/$net-2" -- python3 /suite/net_peer.py talk 10.77.0.1 >"$it_work/out" 2>&1
  [[ $(cat "$it_work/out") == PASSED ]] || fail "$(cat "$it_work/out")"
  it_bundle_dir=${first[0]} it_id=${first[1]} runner=${first[2]} to=${first[3]} from=${first[4]}
  done_serving
}

test_nobody_there() {
  make_network || fail "cannot make the network"
  run_in "$driver" debian --netns "/run/netns/$net-1" -- python3 /suite/net_peer.py unreachable 10.77.0.99 >"$it_work/out" 2>&1
  [[ $(cat "$it_work/out") == PASSED ]] || fail "$(cat "$it_work/out")"
}

# What the container sees of its interface, and that the host's stack answers for it no more.
test_configuration() {
  make_network || fail "cannot make the network"
  local out i
  launch "$driver" debian --netns "/run/netns/$net-1" -- sh -c 'cat /proc/net/dev; cat /proc/net/route /proc/net/if_inet6; echo; echo end; cat'
  out=
  for ((i = 0; i < 40; i++)); do
    hear 30
    [[ $heard == end ]] && break
    out+=$heard$'\n'
  done
  grep -q '^ *eth0:' <<<"$out" || fail "no eth0: $out"
  grep -qE $'^eth0\t00000000\tFE004D0A\t0003' <<<"$out" || fail "no default route: $out"
  grep -qE $'^eth0\t00004D0A\t00000000\t0001.*00FFFFFF' <<<"$out" || fail "no route of the subnet: $out"
  grep -q '^fd770000000000000000000000000001 .*eth0$' <<<"$out" || fail "no IPv6 address: $out"
  if [[ $driver == runsc ]]; then
    out=$(ip -n "$net-1" addr show eth0)
    ! grep -qE '10\.77\.|fd77' <<<"$out" || fail "the host's stack has the address still: $out"
  fi
  exec {to}>&-
  ended 20
  nothing_left
  # A namespace with a name is somebody's: it is as it was.
  out=$(ip -n "$net-1" addr show eth0; ip -n "$net-1" route; ip -n "$net-1" -6 route)
  for one in '10\.77\.0\.1/24 brd 10\.77\.0\.255' 'fd77::1/64' 'default via 10\.77\.0\.254' 'fd77::/64 dev eth0'; do
    grep -qE "$one" <<<"$out" || fail "the namespace has lost $one: $out"
  done
}

for one in ip python3; do command -v "$one" >/dev/null || { echo "network_test.sh: no $one on this machine" >&2; exit 125; }; done
run_tests host_to_container container_to_host container_to_container nobody_there configuration
