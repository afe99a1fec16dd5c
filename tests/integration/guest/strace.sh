#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# strace on a small program: calls, children, injection, a signal, the exit status; attach and detach.
. /suite/check.sh
cd /tmp || die cd
strace -f -o trace /suite/tracee >out; check 7 $? "the status under strace"
check "child last 15 child 4" "$(tr '\n' ' ' <out | sed 's/ $//')" "the program's output"
grep -q 'execve("/suite/tracee", \["/suite/tracee"\]' trace || die "no execve: $(head -n 3 trace)"
grep -q 'write(1, "child\\n", 6) *= 6' trace || die "no write of the child"
grep -qE 'wait4.*WEXITSTATUS\(s\) == 4' trace || die "no wait4"
grep -q 'exit_group(7)' trace || die "no exit_group"
check 2 "$(cut -d ' ' -f 1 trace | sort -u | wc -l | tr -d ' ')" "traced processes"
grep -q -- '--- SIGCHLD' trace || die "no SIGCHLD"
grep -q 'exited with 4' trace || die "no end of the child"
strace -o trace /suite/tracee crash >out 2>/dev/null; check 139 $? "the status of a crash"
grep -q 'si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL' trace || die "no siginfo: $(tail -n 3 trace)"
strace -o trace -e inject=write:error=ENOSPC /bin/echo x 2>/dev/null; check 1 $? "an injected error"
strace -c -o trace ls / >/dev/null || die "strace -c"
grep -qE '^ *100\.00 .* total' trace || die "strace -c: $(cat trace)"
sleep 100 & pid=$!
strace -p $pid -o trace 2>err & tracer=$!
# The tracer says when it has attached.
for _ in $(seq 1 200); do grep -q attached err && break; sleep 0.05; done
grep -q attached err || die "strace -p: $(cat err)"
check $tracer "$(sed -n 's/^TracerPid:[[:space:]]*//p' /proc/$pid/status)" TracerPid
kill -INT $tracer; wait $tracer
kill -0 $pid || die "the tracee died with its tracer"
check 0 "$(sed -n 's/^TracerPid:[[:space:]]*//p' /proc/$pid/status)" "TracerPid after detach"
kill $pid; wait $pid; check 143 $? "the former tracee"
passed
