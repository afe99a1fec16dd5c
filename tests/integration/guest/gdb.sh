#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# gdb on a small program: breakpoints, single steps, registers, memory, a watchpoint, a crash, a changed value, attach.
. /suite/check.sh
cd /tmp || die cd
gdb -q -batch -nx -ex 'break Step' -ex run -ex 'print/d $rdi' -ex 'print counter' -ex 'set var counter = 100' \
  -ex 'delete 1' -ex finish -ex 'stepi' -ex 'info registers rip' -ex continue /suite/tracee >log 2>&1 </dev/null
grep -q 'Breakpoint 1, ' log || die "no stop at the breakpoint: $(tail -n 8 log)"
grep -q '^\$1 = 1$' log || die "the argument: $(cat log)"
grep -q 'Value returned is .* = 101' log || die "finish: $(cat log)"
grep -q '^last 115 child 4$' log || die "the changed value: $(cat log)"
grep -q 'exited with code 07' log || die "the end: $(tail -n 3 log)"
gdb -q -batch -nx -ex 'run crash' -ex bt -ex 'print $_siginfo._sifields._sigfault.si_addr' /suite/tracee >log 2>&1 </dev/null
grep -q 'SIGSEGV' log || die "the crash: $(cat log)"
grep -qE '#0 .* in main' log || die "the back trace: $(cat log)"
gdb -q -batch -nx -ex 'break main' -ex run -ex 'watch counter' -ex continue -ex continue -ex 'print counter' -ex 'kill' \
  /suite/tracee >log 2>&1 </dev/null
grep -q '^Hardware watchpoint 2: counter$' log || die "no hardware watchpoint: $(cat log)"
grep -q '^\$1 = 3$' log || die "the watchpoint: $(cat log)"
sleep 100 & pid=$!
gdb -q -batch -nx -p $pid -ex 'info registers rip' -ex detach >log 2>&1 </dev/null
grep -qE '^rip +0x' log || die "attach: $(cat log)"
kill $pid; wait $pid; check 143 $? "the former inferior"
passed
