# SPDX-License-Identifier: Apache-2.0
# All that runs in ring 0 of the guest, position-independent: every way in leaves for the sentry at once, by a write to a
# port that names the way. No register is changed. The sentry continues in ring 3 by setting the registers. What is
# behind each `out` is never reached.
    .section .rodata.kvm_entry, "a", @progbits
    .balign 4096
    .global kKvmEntryBegin, kKvmEntryEnd
kKvmEntryBegin:
# 0: where `syscall` goes.
    out %al, $0x10
    ud2
    .balign 8
# 8 * (1 + vector): the 32 exceptions, then int 0x80.
    .set vector, 0
    .rept 32
    out %al, $(0x20 + vector)
    ud2
    .balign 8
    .set vector, vector + 1
    .endr
    out %al, $0x80
    ud2
kKvmEntryEnd:
    .section .note.GNU-stack, "", @progbits
