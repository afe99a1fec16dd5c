#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Network programs between a container and its host, in both directions, over a veth pair in namespaces of the test's own:
#   programs_test.sh DRIVER [FAMILY...]        DRIVER: native (runc), or a platform of runsc
# The containers see the machine's own root file system, so both sides run the same programs (`tools/deps network`).
set -u
. "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/../integration/driver.sh"
. "$it_dir/container.sh"
name=${1:?}
shift
[[ $name == native ]] && name=runc
driver=$(it_driver "$name") || exit 125
it_use_platform "$name"
it_setup

net=rp$$
here=10.78.0.254 there=10.78.0.1
at_host() { timeout --kill-after=5 "${limit:-60}" ip netns exec "$net-h" "$@"; }
clean_network() {
  ip netns delete "$net-h" 2>/dev/null
  ip netns delete "$net-c" 2>/dev/null
  return 0
}
trap 'clean_network; it_cleanup' EXIT
make_network() {
  clean_network
  ip netns add "$net-h" && ip netns add "$net-c" && ip -n "$net-h" link set lo up && ip -n "$net-c" link set lo up &&
    ip -n "$net-h" link add v1 type veth peer name eth0 netns "$net-c" && ip -n "$net-h" link set v1 up &&
    ip -n "$net-c" link set eth0 up && ip -n "$net-h" addr add "$here/24" dev v1 && ip -n "$net-c" addr add "$there/24" dev eth0 &&
    ip -n "$net-c" route add default via "$here" || fail "cannot make the network"
}

# serve COMMAND: a container that runs a server in the foreground, which ends with the container.
serve() {
  make_network
  launch "$driver" / --netns "/run/netns/$net-c" --tmpfs /srv=mode=755 -- bash -c "cd /srv && { $1; }"
}
# Until a TCP port answers; the server is no program that says when it is ready.
await_port() {
  local i
  for ((i = 0; i < 400; i++)); do
    at_host bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null && return 0
    kill -0 "$runner" 2>/dev/null || fail "the server has ended: $(head -c 2000 "$it_bundle_dir/err" "$it_bundle_dir/out.log" 2>/dev/null)"
    it_tick
  done
  fail "nobody answers at $1:$2"
}
stop_serving() {
  rt kill "$it_id" KILL
  exec {to}>&-
  ended 20
  nothing_left
}
# in_container SCRIPT: runs it with the network of the test; its output in $output.
in_container() {
  run_in "$driver" / --limit "${limit:-60}" --netns "/run/netns/$net-c" --tmpfs /srv=mode=755 -- bash -c "cd /srv && { $1; }" >"$it_work/output" 2>&1
  local status=$?
  output=$(cat "$it_work/output")
  ((status == 0)) || fail "status $status: $output"
}
# host_serves PORT COMMAND...: a server at the host's end, stopped by host_stops.
host_serves() {
  local port=$1 i
  shift
  ip netns exec "$net-h" "$@" >"$it_work/server.log" 2>&1 &
  server=$!
  for ((i = 0; i < 400; i++)); do
    at_host bash -c "exec 3<>/dev/tcp/$here/$port" 2>/dev/null && return 0
    kill -0 "$server" 2>/dev/null || fail "the server on the host has ended: $(tail -n 5 "$it_work/server.log")"
    it_tick
  done
  fail "nobody answers at $here:$port"
}
host_stops() {
  kill "$server"
  wait "$server" 2>/dev/null
  return 0
}

big() { # a file of 20 MB that no run of zeroes makes small
  [[ -s $it_work/big ]] || openssl enc -aes-128-ctr -pass pass:x -nosalt -pbkdf2 -in /dev/zero 2>/dev/null | head -c 20000000 >"$it_work/big"
  sum=$(sha256sum <"$it_work/big" | cut -d ' ' -f 1)
}

test_http() {
  big
  serve "openssl enc -aes-128-ctr -pass pass:x -nosalt -pbkdf2 -in /dev/zero 2>/dev/null | head -c 20000000 >big; exec python3 -m http.server 8000"
  await_port "$there" 8000
  [[ $(at_host curl -sS --max-time 50 "http://$there:8000/big" | sha256sum | cut -d ' ' -f 1) == "$sum" ]] || fail "the file arrives changed"
  # Ranges, many at a time, and connections that are kept.
  at_host curl -sS --max-time 50 --parallel --parallel-max 10 -o "$it_work/part#1" "http://$there:8000/big?[1-10]" 2>"$it_work/err" ||
    fail "10 at a time: $(cat "$it_work/err")"
  [[ $(cat "$it_work"/part* | sha256sum) == "$(for i in 1 2 3 4 5 6 7 8 9 10; do cat "$it_work/big"; done | sha256sum)" ]] ||
    fail "10 at a time: changed"
  rm -f "$it_work"/part*
  stop_serving
  make_network
  host_serves 8000 python3 -m http.server --directory "$it_work" 8000
  in_container "curl -sS --max-time 50 http://$here:8000/big | sha256sum"
  [[ $output == "$sum"* ]] || fail "downloaded: $output"
  host_stops
}

test_redis() {
  serve "exec redis-server --save '' --protected-mode no --dir /srv"
  await_port "$there" 6379
  at_host redis-cli -h "$there" set key value >/dev/null && [[ $(at_host redis-cli -h "$there" get key) == value ]] || fail "a key"
  local out
  out=$(at_host redis-benchmark -h "$there" -q -n 20000 -c 50 -t ping,set,get,lpush,mset) || fail "$out"
  [[ $(grep -c 'requests per second' <<<"$out") -ge 5 ]] || fail "$out"
  out=$(at_host redis-benchmark -h "$there" -q -n 100000 -c 20 -P 16 -t set,get) || fail "$out"
  stop_serving
  make_network
  host_serves 6379 redis-server --save '' --protected-mode no --dir "$it_work"
  in_container "redis-benchmark -h $here -q -n 20000 -c 50 -t set,get"
  grep -q 'GET:.*requests per second' <<<"$output" || fail "$output"
  host_stops
  in_container "redis-server --save '' --dir /srv --daemonize yes >/dev/null; until redis-cli ping >/dev/null 2>&1; do :; done
    redis-benchmark -q -n 20000 -c 50 -t set,get; redis-cli shutdown nosave"
  grep -q 'GET:.*requests per second' <<<"$output" || fail "over the loopback: $output"
}

nginx_config='daemon off; worker_processes 2; pid /srv/pid; error_log stderr; events { worker_connections 1024; }
http { access_log off; client_body_temp_path /srv/a; proxy_temp_path /srv/b; fastcgi_temp_path /srv/c; uwsgi_temp_path /srv/d; scgi_temp_path /srv/e;
sendfile on; keepalive_requests 1000000; server { listen 80; root /srv; location /up { proxy_pass http://127.0.0.1:80/; } } }'
wrk_is_happy() { # OUTPUT
  grep -q '^Requests/sec' <<<"$1" && ! grep -qE 'Socket errors|Non-2xx' <<<"$1"
}
test_nginx() {
  serve "mkdir www; head -c 3000 /dev/urandom >index.html; echo '$nginx_config' >nginx.conf; exec nginx -p /srv -c /srv/nginx.conf -g 'user root;'"
  await_port "$there" 80
  local out
  out=$(at_host wrk -t 2 -c 100 -d 3 "http://$there/index.html" 2>&1)
  wrk_is_happy "$out" || fail "$out"
  # A proxy, whose other side is the loopback.
  out=$(at_host wrk -t 2 -c 20 -d 2 "http://$there/up" 2>&1)
  wrk_is_happy "$out" || fail "through the proxy: $out"
  stop_serving
}

test_iperf3() {
  serve "exec iperf3 -s"
  # Its port is a connection of its own: iperf3 is ready when a short test works.
  await_port "$there" 5201
  local out how
  for how in "" -R --bidir "-P 8" "-u -b 100M -l 1400" "-u -b 100M -l 1400 -R" "-w 64K" "-M 500"; do
    # A server that reads the end of one test and a new client in one select(2) turns the client away as busy.
    for _ in {1..50}; do
      # shellcheck disable=SC2086
      out=$(at_host iperf3 -c "$there" -t 2 -J $how)
      [[ $out == *"server is busy"* ]] || break
    done
    python3 -c '
import json, sys
result = json.load(sys.stdin)
if "error" in result: sys.exit(result["error"])
end = result["end"]
sys.exit((end.get("sum_received") or end["sum"])["bytes"] < 1000000)' <<<"$out" || fail "iperf3 $how fails or moved less than 1 MB"
  done
  stop_serving
  make_network
  host_serves 5201 iperf3 -s
  for how in "" -R "-P 8" "-u -b 100M -l 1400"; do in_container "iperf3 -c $here -t 2 $how"; done
  host_stops
}

test_ssh() {
  big
  rm -rf "$it_work/ssh"
  mkdir -m 700 "$it_work/ssh"
  ssh-keygen -q -t ed25519 -N '' -f "$it_work/ssh/key" && ssh-keygen -q -t ed25519 -N '' -f "$it_work/ssh/host" || fail ssh-keygen
  serve "umask 077; mkdir -p /run/sshd /srv/home; echo '$(cat "$it_work/ssh/key.pub")' >keys; echo '$(cat "$it_work/ssh/host")' >host
    exec /usr/sbin/sshd -D -e -f /dev/null -p 2222 -h /srv/host -o AuthorizedKeysFile=/srv/keys -o StrictModes=no -o UsePAM=no -o PidFile=none"
  await_port "$there" 2222
  local options=(-F none -i "$it_work/ssh/key" -o UserKnownHostsFile="$it_work/ssh/known" -o StrictHostKeyChecking=accept-new -o BatchMode=yes)
  [[ $(at_host ssh "${options[@]}" -p 2222 "root@$there" 'echo in $0; exit 7' 2>"$it_work/ssh/err") == "in "* ]] || fail "$(cat "$it_work/ssh/err")"
  at_host ssh "${options[@]}" -p 2222 "root@$there" 'exit 7' 2>/dev/null
  (($? == 7)) || fail "the exit status"
  # A terminal on the other side.
  [[ $(at_host ssh "${options[@]}" -tt -p 2222 "root@$there" 'tty' 2>/dev/null </dev/null) == /dev/pts/* ]] || fail "no terminal"
  at_host scp "${options[@]}" -O -q -P 2222 "$it_work/big" "root@$there:/srv/big" || fail scp
  [[ $(at_host ssh "${options[@]}" -p 2222 "root@$there" 'sha256sum </srv/big' 2>/dev/null) == "$sum"* ]] || fail "scp: the file arrives changed"
  stop_serving
}

test_tools() {
  make_network
  in_container "ping -c 2 -i 0.2 -W 10 $here; ping -c 2 -i 0.2 -s 4000 -W 10 $here; ping -c 1 -W 10 127.0.0.1"
  [[ $(grep -c ' 0% packet loss' <<<"$output") == 3 ]] || fail "ping: $output"
  in_container "traceroute -n -w 2 -q 1 -m 3 $here"
  grep -qE "^ 1  $here " <<<"$output" || fail "traceroute: $output"
  in_container "ip -br addr; ip route; ip neigh; ip -s link show eth0"
  grep -qE "^eth0(@[a-z0-9]+)? +UP +$there/24" <<<"$output" && grep -q "^default via $here dev eth0" <<<"$output" || fail "ip: $output"
  in_container "ping -c 1 -W 10 $here >/dev/null; ip neigh show $here; cat /proc/net/arp"
  [[ $(grep -cE "$here .*[0-9a-f]{2}(:[0-9a-f]{2}){5}" <<<"$output") == 2 ]] || fail "neighbours: $output"
  in_container "socat TCP-LISTEN:4000,reuseaddr,fork EXEC:cat & socat UDP-LISTEN:4001,fork TCP:127.0.0.1:4000 &
    until ss -Hltn sport = :4000 | grep -q LISTEN && ss -Huan sport = :4001 | grep -q 4001; do :; done
    echo through | socat -t 5 - UDP:127.0.0.1:4001; ss -tan; kill %1 %2"
  grep -q '^through' <<<"$output" && grep -q 'LISTEN.*:4000' <<<"$output" || fail "socat: $output"
}

# dig against a name server at the host's end, over UDP and TCP, and a name that getaddrinfo looks up by resolv.conf.
test_names() {
  make_network
  host_serves 53 python3 "$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/name_server.py" "$here"
  in_container "dig +short +time=10 @$here one.test A; dig +short +tcp +time=10 @$here one.test AAAA
    echo nameserver $here >/srv/resolv.conf && mount --bind /srv/resolv.conf /etc/resolv.conf
    python3 -c 'import socket; print(sorted({a[4][0] for a in socket.getaddrinfo(\"one.test\", 80)}))'"
  [[ $output == *"192.0.2.1"*"2001:db8::1"*"['192.0.2.1', '2001:db8::1']"* ]] || fail "$output"
  host_stops
}

families=("$@")
((${#families[@]})) || families=(http redis nginx iperf3 ssh tools names)
run_tests "${families[@]}"
