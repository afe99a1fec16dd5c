#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ps, top, free, uptime, pgrep, vmstat of procps agree with what runs.
. /suite/check.sh
cd /tmp || die cd
sleep 4242 & pid=$!
(exec -a busy sh -c 'while :; do :; done') & busy=$!
ps aux >out || die "ps aux"
head -n 1 out | grep -q '^USER .*PID .*%CPU .*RSS .*STAT .*COMMAND' || die "ps' head: $(head -n 1 out)"
grep -qE "^root +$pid .* sleep 4242$" out || die "sleep in ps aux: $(cat out)"
check "$$ $pid sleep S" "$(ps -o ppid=,pid=,comm=,state= -p $pid | tr -s ' ' | sed 's/^ //')" "ps -o"
check "$pid" "$(pgrep -f 'sleep 4242')" pgrep
ps -eLf >/dev/null || die "ps -eLf"
ps axjf | grep -q '\_ sleep 4242' || die "ps' tree: $(ps axjf)"
# Until it has used 0.3 s of processor time, by the kernel's own account.
for _ in $(seq 1 400); do
  ticks=$(awk '{ print $14 + $15 }' /proc/$busy/stat)
  [ "$ticks" -ge 30 ] && break
  sleep 0.05
done
[ "$ticks" -ge 30 ] || die "a busy process has used $ticks ticks"
[ "$(ps -o cputimes= -p $busy | tr -d ' ')" -ge 0 ] || die "ps' time"
check S "$(ps -o state= -p $pid)" "a sleeper's state"
check R "$(ps -o state= -p $busy)" "a busy one's state"
top -b -n1 >out || die "top"
head -n 1 out | grep -qE '^top - [0-9:]+ up .* load average: [0-9.]+, [0-9.]+, [0-9.]+' || die "top's head: $(head -n 5 out)"
grep -qE '^Tasks: +[0-9]+ total, +[1-9][0-9]* running' out || die "top's tasks: $(head -n 5 out)"
grep -qE '^MiB Mem : +[0-9.]+ total' out || die "top's memory: $(head -n 5 out)"
grep -qE "^ *$busy root " out || die "top's processes: $(cat out)"
free -k | awk '/^Mem:/ { if ($2 <= 0 || $4 > $2 || $3 > $2) exit 1; found = 1 } END { exit !found }' || die "free: $(free -k)"
uptime | grep -q 'load average' || die "uptime: $(uptime)"
vmstat >/dev/null || die vmstat
kill $pid $busy
wait $pid; check 143 $? "sleep's status"
wait $busy
ps -p $pid >/dev/null && die "ps shows a dead process"
passed
