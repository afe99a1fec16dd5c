#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Containers that use their host's network (--network=host, and no network namespace in config.json, as Docker's
# --network host has it): host_test.sh DRIVER INET_STREAM_TEST INET_DATAGRAM_TEST. Native is runc.
# The "host" is a network namespace of the test's own, with a veth pair to another one.
set -u
if [[ -z ${HOST_TEST_INSIDE-} ]]; then
  HOST_TEST_INSIDE=1 exec unshare --net "$(realpath -- "${BASH_SOURCE[0]}")" "$@"
fi
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/../integration/driver.sh"
. "$it_dir/container.sh"
name=${1:?}
stream_test=$(realpath -e -- "${2:?}") datagram_test=$(realpath -e -- "${3:?}") || exit 125
[[ $name == native ]] && name=runc
driver=$(it_driver "$name") || exit 125
it_use_platform "$name"
[[ $driver == runsc ]] && RUNSC_FLAGS="--network=host $RUNSC_FLAGS"
it_setup
# The programs under test are shown with the guest's scripts.
cp -- "$stream_test" "$datagram_test" "$it_work/suite/" || exit 125

net=rh$$
here=10.79.0.1 there=10.79.0.254
trap 'ip netns delete "$net" 2>/dev/null; it_cleanup' EXIT
ip link set lo up && ip netns add "$net" && ip link add eth0 type veth peer name v1 netns "$net" && ip link set eth0 up &&
  ip addr add "$here/24" dev eth0 && ip -n "$net" link set v1 up && ip -n "$net" link set lo up &&
  ip -n "$net" addr add "$there/24" dev v1 || { echo "cannot make the network" >&2; exit 125; }
at_peer() { timeout --kill-after=5 60 ip netns exec "$net" "$@"; }

# inside SCRIPT: its output in $output.
inside() {
  run_in "$driver" / --host-network --tmpfs /srv=mode=755 -- bash -c "cd /srv && { $1; }" >"$it_work/output" 2>&1
  local status=$?
  output=$(cat "$it_work/output")
  ((status == 0)) || fail "status $status: $output"
}
await_port() { # [PREFIX...] ADDRESS PORT
  local i
  for ((i = 0; i < 400; i++)); do
    at_peer bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null && return 0
    kill -0 "$runner" 2>/dev/null || fail "the server has ended: $(head -c 2000 "$it_bundle_dir/err")"
    it_tick
  done
  fail "nobody answers at $1:$2"
}

# Every call on sockets as on Linux. Left out, all of them missing from what passes sockets on (sentry/socket/host):
# other namespaces' and /proc's view, raw sockets, socket filters.
run_calls() { # PROGRAM EXCLUDED
  run_in "$driver" / --host-network --limit 200 --env INET_TEST_HERE=1 -- "/suite/$1" --gtest_brief=1 "--gtest_filter=-$2" \
    >"$it_work/output" 2>&1 || fail "$1: $(grep -vE '^(Running main|\[=)' "$it_work/output" | head -n 60)"
  grep -qE '\[  PASSED  \] [1-9][0-9]* tests' "$it_work/output" || fail "$1 ran nothing: $(tail -n 5 "$it_work/output")"
}
test_stream_calls() { run_calls "${stream_test##*/}" '*NewNamespaceIsUnreachable:*ProcNetTcp:*UnprivilegedPortsStart*:*KindsOfSockets'; }
test_datagram_calls() { run_calls "${datagram_test##*/}" '*Raw*:*Filter*:*InterfaceIoctls'; }

# A server inside, reached over the loopback and over the wire; then the other way.
test_server_inside() {
  launch "$driver" / --host-network -- python3 /suite/net_peer.py serve 0.0.0.0
  hear 60
  [[ $heard == ready ]] || fail "the server says '$heard'"
  local out
  out=$(timeout 100 python3 "$it_dir/guest/net_peer.py" talk 127.0.0.1 2>&1)
  [[ $out == PASSED ]] || fail "over the loopback: $out"
  out=$(at_peer python3 "$it_dir/guest/net_peer.py" talk "$here" 2>&1)
  [[ $out == PASSED ]] || fail "over the wire: $out"
  exec {to}>&-
  ended 20
  ((status == 0)) || fail "the server ends with $status: $(cat "$it_bundle_dir/err")"
  nothing_left
}
test_client_inside() {
  mkfifo "$it_work/server.in" "$it_work/server.out"
  timeout 100 ip netns exec "$net" python3 "$it_dir/guest/net_peer.py" serve "$there" <"$it_work/server.in" >"$it_work/server.out" &
  local server=$! in out line
  exec {in}>"$it_work/server.in" {out}<"$it_work/server.out"
  IFS= read -rt 30 -u "$out" line
  [[ $line == ready ]] || fail "the server says '$line'"
  run_in "$driver" / --host-network -- python3 /suite/net_peer.py talk "$there" >"$it_work/out" 2>&1
  [[ $(cat "$it_work/out") == PASSED ]] || fail "$(cat "$it_work/out")"
  exec {in}>&- {out}<&-
  wait "$server" || fail "the server outside fails"
}

# A privileged port, and a file both ways.
test_http() {
  head -c 5000000 /dev/urandom >"$it_work/big"
  local sum
  sum=$(sha256sum <"$it_work/big" | cut -d ' ' -f 1)
  launch "$driver" / --host-network --tmpfs /srv=mode=755 -- python3 -m http.server --directory / 80
  await_port "$here" 80
  [[ $(at_peer curl -sS --max-time 50 "http://$here/suite/net_peer.py" | sha256sum) == "$(sha256sum <"$it_dir/guest/net_peer.py")" ]] ||
    fail "the file arrives changed"
  rt kill "$it_id" KILL
  exec {to}>&-
  ended 20
  nothing_left
  ip netns exec "$net" python3 -m http.server --directory "$it_work" 8000 >/dev/null 2>&1 &
  local server=$!
  runner=$server
  await_port "$there" 8000
  inside "curl -sS --max-time 50 http://$there:8000/big | sha256sum"
  kill "$server"
  [[ $output == "$sum"* ]] || fail "downloaded: $output"
}

# The host's interfaces are seen.
test_interfaces() {
  ip route add default via "$there" || fail "no default route"
  inside "ip -br addr show eth0; ip route; ip -br link show lo; cat /proc/net/dev"
  [[ $output == *"$here/24"*"default via $there dev eth0"*"eth0:"* ]] || fail "$output"
  ip route delete default
}
# They are not a sandbox's to change: runc's container may, having CAP_NET_ADMIN.
test_unchangeable() {
  [[ $driver == runsc ]] || return 0
  inside "ip addr add 10.79.0.77/24 dev eth0 2>&1; ip link set eth0 down 2>&1; true"
  [[ $(grep -c 'Operation not permitted' <<<"$output") == 2 ]] || fail "$output"
  ip addr show eth0 | grep -q "UP" || fail "eth0 is down"
}
# What config.json says comes first: a namespace of its own has nothing of the host's.
test_own_namespace() {
  run_in "$driver" / -- bash -c "! (exec 3<>/dev/tcp/$there/8000) 2>/dev/null; ip -br link" >"$it_work/output" 2>&1 || fail "$(cat "$it_work/output")"
  ! grep -q eth0 "$it_work/output" || fail "the host's interfaces are there: $(cat "$it_work/output")"
}
# A namespace that a guest makes has the sandbox's own stack.
test_guests_namespace() {
  inside "unshare --net sh -c 'ip link set lo up; ip -br link; ping -c 1 -W 5 127.0.0.1'"
  [[ $output == *"0% packet loss"* && $output != *eth0* ]] || fail "$output"
}

run_tests stream_calls datagram_calls server_inside client_inside http interfaces unchangeable own_namespace guests_namespace
