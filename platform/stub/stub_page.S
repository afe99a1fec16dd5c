// SPDX-License-Identifier: Apache-2.0
// The stub page: all code of a stub process that is not the guest's. Copied to a fixed address, mapped r-x, position
// independent, without stack and without memory of its own. Offsets are read from stub_page.h.
#define SYS_read 0
#define SYS_write 1
#define SYS_munmap 11
#define SYS_pause 34
#define SYS_getppid 110
#define SYS_prctl 157
#define SYS_clone 56
#define SYS_exit_group 231

    .section .rodata
    .balign 16
    .globl kStubPageBegin
    .globl kStubPageZygote
    .globl kStubPagePause
    .globl kStubPageCall
    .globl kStubPageCallEnd
    .globl kStubPageClone
    .globl kStubPageCloneEnd
    .globl kStubPageEnd

kStubPageBegin:

// The zygote. %r12 = the stub page, %r13 = the scratch page behind it, %r14 = socket, %r15 = its own pid,
// %rbx = end of the address space. First everything of the sentry's image goes: its stack, its code, the vDSO.
kStubPageZygote:
    mov $SYS_munmap, %eax
    xor %edi, %edi
    mov %r12, %rsi
    syscall
    test %rax, %rax
    jnz .Ldie
    mov $SYS_munmap, %eax
    lea 0x1000(%r13), %rdi
    mov %rbx, %rsi
    sub %rdi, %rsi
    syscall
    test %rax, %rax
    jnz .Ldie

// One byte asks for a child; the answer is its pid or a negative errno, 4 bytes.
.Lserve:
    mov $SYS_read, %eax
    mov %r14d, %edi
    mov %r13, %rsi
    mov $1, %edx
    syscall
    cmp $-4, %rax                   // EINTR
    je .Lserve
    cmp $1, %rax
    jne .Ldie
    mov $SYS_clone, %eax
    mov $0x411, %edi                // CLONE_FILES | SIGCHLD
    xor %esi, %esi
    xor %edx, %edx
    xor %r10d, %r10d
    xor %r8d, %r8d
    syscall
    test %eax, %eax
    jz .Lchild
    mov %eax, (%r13)
.Lanswer:
    mov $SYS_write, %eax
    mov %r14d, %edi
    mov %r13, %rsi
    mov $4, %edx
    syscall
    cmp $-4, %rax
    je .Lanswer
    cmp $4, %rax
    je .Lserve
.Ldie:
    mov $SYS_exit_group, %eax
    mov $1, %edi
    syscall
    jmp .Ldie

// A new stub process: dies with the zygote; its address space holds this page only (the scratch page isn't inherited).
.Lchild:
    mov $SYS_prctl, %eax
    mov $1, %edi                    // PR_SET_PDEATHSIG
    mov $9, %esi                    // SIGKILL
    xor %edx, %edx
    xor %r10d, %r10d
    xor %r8d, %r8d
    syscall
    test %rax, %rax
    jnz .Ldie
    mov $SYS_getppid, %eax
    syscall
    cmp %r15d, %eax
    jne .Ldie

// Where every stub thread waits until it is traced.
kStubPagePause:
    mov $SYS_pause, %eax
    syscall
    jmp kStubPagePause

// The sentry sets a traced thread here with a host call in its registers.
kStubPageCall:
    syscall
kStubPageCallEnd:
    int3

// The same for clone: the new thread goes to wait.
kStubPageClone:
    syscall
    test %rax, %rax
    jz kStubPagePause
    int3
kStubPageCloneEnd:
    ud2
kStubPageEnd:
    .byte 0xcc

    .section .note.GNU-stack, "", @progbits
