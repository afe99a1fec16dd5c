// SPDX-License-Identifier: Apache-2.0
// The instructions that may fault on shared memory, with the table the signal handler looks them up in: {first address,
// address after, where to go on}. Integer registers only. At a fault inside `rep` the counter in %rcx is exact.
    .text

    .globl PlatformSafeCopy
    .type PlatformSafeCopy, @function
// %rdi to, %rsi from, %rdx length -> bytes not copied
PlatformSafeCopy:
    mov %rdx, %rcx
.Lcopy:
    rep movsb
.Lcopy_end:
    mov %rcx, %rax
    ret
    .size PlatformSafeCopy, . - PlatformSafeCopy

    .globl PlatformSafeZero
    .type PlatformSafeZero, @function
// %rdi to, %rsi length -> bytes not zeroed
PlatformSafeZero:
    mov %rsi, %rcx
    xor %eax, %eax
.Lzero:
    rep stosb
.Lzero_end:
    mov %rcx, %rax
    ret
    .size PlatformSafeZero, . - PlatformSafeZero

    .globl PlatformSafeLoad32
    .type PlatformSafeLoad32, @function
// %rdi from, %rsi where to put the value -> 1, or 0 on a fault
PlatformSafeLoad32:
.Lload:
    mov (%rdi), %ecx
.Lload_end:
    mov %ecx, (%rsi)
    mov $1, %eax
    ret
    .size PlatformSafeLoad32, . - PlatformSafeLoad32

    .globl PlatformSafeCompareExchange32
    .type PlatformSafeCompareExchange32, @function
// %rdi word, %rsi expected (in/out), %edx desired -> 1 exchanged, 2 not exchanged, 0 fault
PlatformSafeCompareExchange32:
    mov (%rsi), %eax
.Lcas:
    lock cmpxchg %edx, (%rdi)
.Lcas_end:
    jne 1f
    mov $1, %eax
    ret
1:  mov %eax, (%rsi)
    mov $2, %eax
    ret
.Lfailed:
    xor %eax, %eax
    ret
    .size PlatformSafeCompareExchange32, . - PlatformSafeCompareExchange32

    .section .data.rel.ro.local, "aw"
    .balign 8
    .globl kPlatformSafeCopyTable
    .globl kPlatformSafeCopyTableEnd
kPlatformSafeCopyTable:
    .quad .Lcopy, .Lcopy_end, .Lcopy_end
    .quad .Lzero, .Lzero_end, .Lzero_end
    .quad .Lload, .Lload_end, .Lfailed
    .quad .Lcas, .Lcas_end, .Lfailed
kPlatformSafeCopyTableEnd:

    .section .note.GNU-stack, "", @progbits
