# SPDX-License-Identifier: Apache-2.0
# All that runs in ring 0 of the guest, position-independent, one page. Every way in leaves for the sentry by a write to a
# port that names the way, without changing a register; what is behind each such `out` is never reached.
#
# The page is mapped once for the interrupt descriptors, and once for each CPU with the CPU's own two pages behind it:
# its data (ENTRY_SAVED_RDX is in it) and the answers to system calls by number (see vcpu.h). `syscall` goes to
# kKvmEntryBegin, or, where the self-test has seen `sysretq` work, to kKvmAnswer in the CPU's own mapping.
    .set ENTRY_SAVED_RDX, 4096 + 128
    .set ENTRY_ANSWERS, 8192
    .section .rodata.kvm_entry, "a", @progbits
    .balign 4096
    .global kKvmEntryBegin, kKvmEntryEnd, kKvmIret, kKvmSysret
    .global kKvmAnswer, kKvmAnswerSaved, kKvmAnswerCommitted, kKvmAnswerDone, kKvmAnswerNot, kKvmAnswerLeave
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
    .balign 8

# The ways to ring 3, entered by the sentry with the guest's registers: a frame on the stack, or rcx and r11.
kKvmIret:
    iretq
kKvmSysret:
    sysretq

# A call that an answer is there for never leaves the guest. Whoever is interrupted between these labels is brought back
# to before the call, or behind it, by Vcpu::RollBack. Single steps (TF) go to the sentry: sysretq would trap too early.
kKvmAnswer:
    cmp $512, %rax
    jae kKvmAnswerLeave
    test $0x100, %r11d
    jnz kKvmAnswerLeave
    mov %rdx, kKvmEntryBegin + ENTRY_SAVED_RDX(%rip)
kKvmAnswerSaved:
    lea kKvmEntryBegin + ENTRY_ANSWERS(%rip), %rdx
    mov (%rdx, %rax, 8), %rdx
    test %rdx, %rdx
    jns kKvmAnswerNot
    mov %edx, %eax
kKvmAnswerCommitted:
    mov kKvmEntryBegin + ENTRY_SAVED_RDX(%rip), %rdx
kKvmAnswerDone:
    sysretq
kKvmAnswerNot:
    mov kKvmEntryBegin + ENTRY_SAVED_RDX(%rip), %rdx
kKvmAnswerLeave:
    out %al, $0x10
    ud2
kKvmEntryEnd:
    .section .note.GNU-stack, "", @progbits
