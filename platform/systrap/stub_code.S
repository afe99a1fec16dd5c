// SPDX-License-Identifier: Apache-2.0
// All code of a stub process that is not the guest's: one page, position independent, copied to a fixed address and
// mapped r-x. Three kinds of threads run it. The zygote and the service threads have no stack and, while guests exist,
// read nothing but read-only memory: guest code can't steer them. Guest threads come here by signals, on an alternate
// stack that siblings can write to; whatever they are made to do, their filter lets them only sleep and wake.
#include "platform/clock_params.h"
#include "platform/systrap/stub_layout.h"

#define SYS_read 0
#define SYS_write 1
#define SYS_mmap 9
#define SYS_mprotect 10
#define SYS_munmap 11
#define SYS_rt_sigprocmask 14
#define SYS_clone 56
#define SYS_getppid 110
#define SYS_sigaltstack 131
#define SYS_prctl 157
#define SYS_futex 202
#define SYS_exit_group 231
#define SYS_seccomp 317
#define SYS_rseq 334

    .section .rodata
    .balign 16
    .globl kSystrapBegin
    .globl kSystrapZygote
    .globl kSystrapHandler
    .globl kSystrapGuestWake
    .globl kSystrapGuestWait
    .globl kSystrapGuestRseq
    .globl kSystrapGuestPark
    .globl kSystrapGuestProbe
    .globl kSystrapGuestProbeEnd
    .globl kSystrapReturn
    .globl kSystrapAnswerReturn
    .globl kSystrapGate
    .globl kSystrapGateStack
    .globl kSystrapGateFlags
    .globl kSystrapGateAnswered
    .globl kSystrapGateLeave
    .globl kSystrapGateCall
    .globl kSystrapEnd

kSystrapBegin:

// The zygote. %r12 = the stub's pages, %r13 = the scratch page, %r14 = socket, %r15 = its own pid, %rbx = end of the
// address space. First everything of the sentry's image goes: its stack, its code, the vDSO.
kSystrapZygote:
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
    mov $SYS_mmap, %eax             // inherited by all children
    mov (STUB_DATA + DATA_CLOCK)(%r12), %rdi
    mov %rdi, %rbp
    mov $0x1000, %esi
    mov $1, %edx                    // PROT_READ
    mov $0x11, %r10d                // MAP_SHARED | MAP_FIXED
    mov (STUB_DATA + DATA_FILE)(%r12), %r8d
    mov (STUB_DATA + DATA_CLOCK_OFFSET)(%r12), %r9
    syscall
    cmp %rbp, %rax
    jne .Ldie

// 8 bytes ask for a child: where in the shared file its control page is. The answer is its pid or a negative errno. More
// are host calls to make (struct Order), which go back with their results.
.Lserve:
    mov $SYS_read, %eax
    mov %r14d, %edi
    mov %r13, %rsi
    mov $0x1000, %edx
    syscall
    cmp $-4, %rax                   // EINTR
    je .Lserve
    cmp $8, %rax
    je .Lfork
    mov %rax, %rbp
    and $(ORDER_SIZE - 1), %eax
    jnz .Ldie
    mov %r13, %rbx
    add %rbx, %rbp
1:  cmp %rbp, %rbx
    jae 2f
    mov (%rbx), %rax
    mov 8(%rbx), %rdi
    mov 16(%rbx), %rsi
    mov 24(%rbx), %rdx
    mov 32(%rbx), %r10
    mov 40(%rbx), %r8
    mov 48(%rbx), %r9
    syscall
    mov %rax, ORDER_RESULT(%rbx)
    add $ORDER_SIZE, %rbx
    jmp 1b
2:  sub %r13, %rbp
.Lreport:
    mov $SYS_write, %eax
    mov %r14d, %edi
    mov %r13, %rsi
    mov %rbp, %rdx
    syscall
    cmp $-4, %rax
    je .Lreport
    cmp %rbp, %rax
    je .Lserve
    jmp .Ldie
.Lfork:
    mov (%r13), %rbx
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

// A new stub process. Its first thread becomes the service thread. There is no guest code yet, so that the control page
// can be written to until it is made read-only.
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
    mov (STUB_DATA + DATA_CONTROL)(%r12), %rbp
    mov $SYS_mmap, %eax
    mov %rbp, %rdi
    mov $0x1000, %esi
    mov $3, %edx                    // PROT_READ | PROT_WRITE
    mov $0x11, %r10d                // MAP_SHARED | MAP_FIXED
    mov (STUB_DATA + DATA_FILE)(%r12), %r8d
    mov %rbx, %r9
    syscall
    cmp %rbp, %rax
    jne .Ldie
    mov $SYS_seccomp, %eax
    mov $1, %edi                    // SECCOMP_SET_MODE_FILTER
    mov $8, %esi                    // SECCOMP_FILTER_FLAG_NEW_LISTENER
    lea (STUB_DATA + DATA_SERVICE_FILTER)(%r12), %rdx
    syscall
    mov %eax, CONTROL_LISTENER(%rbp)
    movl $1, CONTROL_READY(%rbp)
    mov $SYS_futex, %eax
    lea CONTROL_READY(%rbp), %rdi
    mov $1, %esi                    // FUTEX_WAKE
    mov $1, %edx
    xor %r10d, %r10d
    syscall
    cmpl $0, CONTROL_LISTENER(%rbp)
    jl .Ldie
    mov $SYS_mprotect, %eax
    mov %rbp, %rdi
    mov $0x1000, %esi
    mov $1, %edx                    // PROT_READ
    syscall
    test %rax, %rax
    jnz .Ldie
    xor %r13d, %r13d
    xor %r14d, %r14d

// The service thread: says what came of the last orders (%r14 the last result, %r13 how many succeeded), in registers,
// and sleeps until the sentry has written others. %rbp = control page.
.Lorders:
    mov $SYS_NOTIFY, %eax
    mov %r14, %rdi
    mov %r13, %rsi
    syscall
    mov CONTROL_COUNT(%rbp), %r15d
    xor %r13d, %r13d
    xor %r14d, %r14d
    lea CONTROL_ORDERS(%rbp), %rbx
.Lorder:
    cmp %r15d, %r13d
    jae .Lorders
    mov (%rbx), %rax
    mov 8(%rbx), %rdi
    mov 16(%rbx), %rsi
    mov 24(%rbx), %rdx
    mov 32(%rbx), %r10
    mov 40(%rbx), %r8
    mov 48(%rbx), %r9
    cmp $SYS_clone, %rax
    je .Lclone
    cmp $ORDER_COPY, %rax
    je .Lcopy
    syscall
.Ldone:
    mov %rax, %r14
    cmp $-4095, %rax
    jae .Lorders
    inc %r13d
    add $ORDER_SIZE, %rbx
    jmp .Lorder
.Lcopy:
    mov %rdx, %rcx
    rep movsb
    xor %eax, %eax
    jmp .Ldone
.Lclone:
    syscall
    test %rax, %rax
    jnz .Ldone

// A new guest thread: opens itself to signals, takes its stack for them, and gives up all calls but two.
    mov $SYS_rt_sigprocmask, %eax
    mov $2, %edi                    // SIG_SETMASK
    lea (STUB_DATA + DATA_NO_SIGNALS)(%r12), %rsi
    xor %edx, %edx
    mov $8, %r10d
    syscall
    test %rax, %rax
    jnz .Ldie
    mov $SYS_sigaltstack, %eax
    lea CONTROL_STACK(%rbp), %rdi
    xor %esi, %esi
    syscall
    test %rax, %rax
    jnz .Ldie
    mov CONTROL_AREA(%rbp), %rbx
    mov $SYS_seccomp, %eax
    mov $1, %edi
    xor %esi, %esi
    lea (STUB_DATA + DATA_GUEST_FILTER)(%r12), %rdx
    syscall
    test %rax, %rax
    jnz .Ldie
    mov MAILBOX_CONTEXT(%rbx), %r12
    lea -FRAME_TO_SC(%r12), %rsp
    jmp .Lpost

// The guest's vector registers are those of the frame %r12, but for the CPU.
.macro LOAD_VECTORS
    lea kSystrapBegin(%rip), %rcx
    mov (STUB_DATA + DATA_XFEATURES)(%rcx), %eax
    mov (STUB_DATA + DATA_XFEATURES + 4)(%rcx), %edx
    mov SC_FPSTATE(%r12), %rdi
    xrstor64 (%rdi)
.endm

// Loads the general registers and leaves for where they say: `iretq` takes what no other instruction can without the
// guest's stack. %r12 = struct sigcontext, with the frame's room below it.
.macro LEAVE
    lea -FRAME_TO_SC(%r12), %rsp
    pushq $2                        // NT would make iretq fault
    popfq
    movzwl SC_SS(%r12), %eax
    push %rax
    push SC_RSP(%r12)
    push SC_EFLAGS(%r12)
    movzwl SC_CS(%r12), %eax
    push %rax
    push SC_RIP(%r12)
    mov SC_R8(%r12), %r8
    mov SC_R9(%r12), %r9
    mov SC_R10(%r12), %r10
    mov SC_R11(%r12), %r11
    mov SC_R13(%r12), %r13
    mov SC_R14(%r12), %r14
    mov SC_R15(%r12), %r15
    mov SC_RDI(%r12), %rdi
    mov SC_RSI(%r12), %rsi
    mov SC_RBP(%r12), %rbp
    mov SC_RBX(%r12), %rbx
    mov SC_RDX(%r12), %rdx
    mov SC_RAX(%r12), %rax
    mov SC_RCX(%r12), %rcx
    mov SC_R12(%r12), %r12
    iretq
.endm

// A patched call comes here from its gate, %rcx = where it returns to, with all other registers, the number in %rax among them,
// as at `syscall`, and the thread's area in %gs: the gate has looked. %rcx and %r11 are free; nothing may touch the guest's
// stack, and the flags only once they are saved. A signal in here up to kSystrapGateCall is an event, of which the sentry makes
// one at the site.
    .balign 64
kSystrapGate:
    mov %rsp, %gs:MAILBOX_GUEST_RSP
    rdgsbase %r11
    lea GATE_STACK(%r11), %rsp
kSystrapGateStack:
    pushfq
kSystrapGateFlags:
    cmp $ANSWERED_CALLS, %rax
    jae kSystrapGateCall
    mov AREA_ANSWERS(%r11, %rax, 8), %r11
    test %r11, %r11
    jle kSystrapGateCall
    lea -1(%r11), %rax
kSystrapGateAnswered:
    mov (%rsp), %r11
    popfq
    mov (MAILBOX_GUEST_RSP - GATE_STACK)(%rsp), %rsp
kSystrapGateLeave:
    jmp *%rcx

// The call is the sentry's: a frame for it, as a signal would have made one. A kick is dropped, for there is an event to
// come, but not the vector registers.
kSystrapGateCall:
    rdgsbase %r11
    push %rax
    lea kSystrapBegin(%rip), %rax
    mov (STUB_DATA + DATA_GATE_CONTEXT)(%rax), %eax
    add %r11, %rax
    mov %r12, SC_R12(%rax)
    mov %rax, %r12
    mov %rbx, SC_RBX(%r12)
    mov %r11, %rbx
    pop %rax
    mov %rax, SC_RAX(%r12)
    mov %rcx, SC_RCX(%r12)
    mov %rcx, SC_RIP(%r12)
    mov (%rsp), %rax
    mov %rax, SC_EFLAGS(%r12)
    mov %rax, SC_R11(%r12)
    lea -FRAME_TO_SC(%r12), %rsp
    mov %r8, SC_R8(%r12)
    mov %r9, SC_R9(%r12)
    mov %r10, SC_R10(%r12)
    mov %r13, SC_R13(%r12)
    mov %r14, SC_R14(%r12)
    mov %r15, SC_R15(%r12)
    mov %rdi, SC_RDI(%r12)
    mov %rsi, SC_RSI(%r12)
    mov %rbp, SC_RBP(%r12)
    mov %rdx, SC_RDX(%r12)
    mov MAILBOX_GUEST_RSP(%rbx), %rax
    mov %rax, SC_RSP(%r12)
    movabs $0x002b000000000033, %rax
    mov %rax, SC_CS(%r12)           // cs, gs, fs, ss
    lea kSystrapBegin(%rip), %rcx
    mov (STUB_DATA + DATA_GATE_FPU)(%rcx), %rdi
    add %rbx, %rdi
    mov %rdi, SC_FPSTATE(%r12)
    movl $SIGNAL_GATE_CALL, MAILBOX_SIGNAL(%rbx)
    jmp .Lsave
.Lgate_end:

// LEAVE for a guest that returns from a call, rip in rcx as `syscall` has it, as all but the first hand-over is: iretq takes ten
// times as long. `label` is where all is done but the jump.
.macro LEAVE_CALL label
    mov SC_RIP(%r12), %rax
    cmp SC_RCX(%r12), %rax
    jne .Lslow\@
    testl $TRAP_FLAG, SC_EFLAGS(%r12)
    jnz .Lslow\@
    cmpw $USER_CODE, SC_CS(%r12)
    jne .Lslow\@
    lea -FRAME_TO_SC(%r12), %rsp
    push SC_EFLAGS(%r12)
    mov SC_R8(%r12), %r8
    mov SC_R9(%r12), %r9
    mov SC_R10(%r12), %r10
    mov SC_R11(%r12), %r11
    mov SC_R13(%r12), %r13
    mov SC_R14(%r12), %r14
    mov SC_R15(%r12), %r15
    mov SC_RDI(%r12), %rdi
    mov SC_RSI(%r12), %rsi
    mov SC_RBP(%r12), %rbp
    mov SC_RBX(%r12), %rbx
    mov SC_RDX(%r12), %rdx
    mov SC_RAX(%r12), %rax
    mov SC_RCX(%r12), %rcx
    mov SC_R12(%r12), %r12
    popfq
    mov (FRAME_TO_SC + SC_RSP)(%rsp), %rsp
\label:
    jmp *%rcx
.Lslow\@:
    LEAVE
.endm

// Every signal of a guest thread: %edi = signal, %rsi = siginfo, %rdx = ucontext, %rsp = the frame. No vector register
// is touched: the kernel has put them into their initial state, and the guest's are in the frame. Here and up to
// .Lposted a kick that interrupts us is dropped, as what we post will do as well; .Lcall, which may not, looks for it.
    .balign 64
kSystrapHandler:
    mov %rsp, %rbx
    and $-AREA_SIZE, %rbx           // the mailbox
    lea UC_MCONTEXT(%rdx), %r12
    lea kSystrapBegin(%rip), %rcx
    mov SC_RIP(%r12), %rax
    sub %rcx, %rax
    cmp $0x1000, %rax
    jb .Lin_stub
    mov %edi, MAILBOX_SIGNAL(%rbx)
    cmp $SIGNAL_SYSTEM_CALL, %edi
    je .Lcall
.Lsave:
    mov %r12, MAILBOX_CONTEXT(%rbx)
    rdfsbase %rax
    mov %rax, MAILBOX_FS_BASE(%rbx)
    rdgsbase %rax
    mov %rax, MAILBOX_GS_BASE(%rbx)
.Lpost:
    mov $STATE_EVENT, %eax
    xchg %eax, MAILBOX_STATE(%rbx)
.Lposted:
    test $STATE_SLEEP, %eax
    jz .Lwait
    mov $SYS_futex, %eax
    mov %rbx, %rdi
    mov $1, %esi                    // FUTEX_WAKE
    mov $1, %edx
    xor %r10d, %r10d
    syscall
kSystrapGuestWake:

.Lwait:
    testl $FLAG_SPIN, MAILBOX_FLAGS(%rbx)
    jz 2f
    lea kSystrapBegin(%rip), %rcx
    mov (STUB_DATA + DATA_SPINS)(%rcx), %ecx
1:  mov MAILBOX_STATE(%rbx), %eax
    cmp $STATE_EVENT, %eax
    jne 3f
    pause
    dec %ecx
    jnz 1b
    jmp 2f
3:  cmp $(STATE_EVENT | STATE_SLEEP), %eax
    jne .Lresume
2:  mov $STATE_EVENT, %eax
    mov $(STATE_EVENT | STATE_SLEEP), %edx
    lock cmpxchg %edx, MAILBOX_STATE(%rbx)
    je .Lsleep
    cmp %edx, %eax
    jne .Lresume
.Lsleep:
    mov $SYS_futex, %eax
    mov %rbx, %rdi
    xor %esi, %esi                  // FUTEX_WAIT
    xor %r10d, %r10d
    syscall
kSystrapGuestWait:
    jmp .Lwait

// The sentry has put new registers into the frame. A kick from here on, seen by .Lin_stub, makes an event of the
// registers as they are there.
.Lresume:
    mov MAILBOX_CONTEXT(%rbx), %r12
    mov MAILBOX_FLAGS(%rbx), %eax
    test $~(FLAG_SPIN | FLAG_KEEP_VECTORS), %eax
    jz 1f
    test $FLAG_KICKED, %eax
    jnz .Lkicked
    test $FLAG_RSEQ, %eax
    jnz .Lrseq
    test $FLAG_SAVE_VECTORS, %eax
    jnz .Lsave_vectors
    test $FLAG_PARK, %eax
    jnz .Lpark
    test $FLAG_SET_BASES, %eax
    jz 1f
    mov MAILBOX_FS_BASE(%rbx), %rax
    wrfsbase %rax
    mov MAILBOX_GS_BASE(%rbx), %rax
    wrgsbase %rax
    mov MAILBOX_FLAGS(%rbx), %eax
1:  test $FLAG_KEEP_VECTORS, %eax
    jnz 2f
    LOAD_VECTORS
2:  LEAVE_CALL kSystrapReturn

// Nothing between a patched call and the return from it touches the vector registers: few calls need to know them.
.Lsave_vectors:
    mov SC_FPSTATE(%r12), %rdi
    lea kSystrapBegin(%rip), %rcx
    mov (STUB_DATA + DATA_XFEATURES)(%rcx), %eax
    mov (STUB_DATA + DATA_XFEATURES + 4)(%rcx), %edx
    .irp offset, 512, 520, 528, 536, 544, 552, 560, 568
    movq $0, \offset(%rdi)          // xrstor wants the header's unused parts so
    .endr
    xsave64 (%rdi)
    movq $0, MAILBOX_RESULT(%rbx)
    movl $0, MAILBOX_SIGNAL(%rbx)
    jmp .Lpost

// This process is to get another guest. What this thread is and does must be known for certain before, whatever the last
// guest did to it: the sentry sees by the notification that the kernel holds this very thread here, the only one left, with
// its area in %rdi. Once it is let go, that is all it goes by. Nothing of the last guest's is in memory any more.
.Lpark:
    mov $SYS_NOTIFY, %eax
    mov %rbx, %rdi
    syscall
kSystrapGuestPark:
    test %rax, %rax                 // a kick
    jnz .Lpark
    mov %rdi, %rbx
    mov MAILBOX_CONTEXT(%rbx), %r12
    lea -FRAME_TO_SC(%r12), %rsp
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    // Fails if the last guest has registered an area of its own.
    mov $SYS_rseq, %eax
    lea MAILBOX_RSEQ_PROBE(%rbx), %rdi
    mov $RSEQ_PROBE_LENGTH, %esi
    xor %edx, %edx
    mov $RSEQ_PROBE_SIGNATURE, %r10d
    syscall
kSystrapGuestProbe:
    test %rax, %rax
    jnz 1f
    mov $SYS_rseq, %eax
    mov $1, %edx                    // RSEQ_FLAG_UNREGISTER
    syscall
kSystrapGuestProbeEnd:
1:  mov %rax, MAILBOX_RESULT(%rbx)
    movl $0, MAILBOX_SIGNAL(%rbx)
    jmp .Lpost

// From here to .Lanswered nothing is changed but memory that the call itself is to write; see .Lgive_up.
.Lunanswered:
// Clocks, as the guest's vDSO computes them. %rax = which; %r14 = whether it is of the real time.
.Lclock:
    mov SC_RDI(%r12), %r8
    mov SC_RSI(%r12), %r9
    mov $1, %r14d
    cmp $ANSWER_TIME, %rax
    je 1f
    cmp $ANSWER_CLOCK_GETTIME, %rax
    jne 2f
    cmp $1, %r8                     // CLOCK_REALTIME, CLOCK_MONOTONIC
    ja .Lsave
    xor %r8d, %r14d
    jmp 1f
2:  test %r8, %r8                   // gettimeofday: no time, or a zone
    jz .Lsave
    test %r9, %r9
    jnz .Lsave
1:  mov %rax, %r15
    lea kSystrapBegin(%rip), %r13
    mov (STUB_DATA + DATA_CLOCK)(%r13), %r13
    mov CLOCK_SEQUENCE(%r13), %esi
    test $1, %esi
    jnz .Lsave
    cmpl $0, CLOCK_USABLE(%r13)
    je .Lsave
    mov CLOCK_TSC_BASE(%r13), %r10
    mov CLOCK_MAX_DELTA(%r13), %r11
    mov CLOCK_MULTIPLIER(%r13), %rdi
    mov CLOCK_MONOTONIC_NS(%r13), %rbp
    test %r14d, %r14d
    jz 3f
    add CLOCK_REALTIME_OFFSET_NS(%r13), %rbp
3:  lfence
    rdtsc
    lfence
    cmp CLOCK_SEQUENCE(%r13), %esi
    jne .Lsave
    shl $32, %rdx
    or %rdx, %rax
    sub %r10, %rax
    jae 4f
    xor %eax, %eax                  // another CPU's counter, a few ticks behind
4:  cmp %r11, %rax
    ja .Lsave
    mul %rdi
    shrd $32, %rdx, %rax
    add %rbp, %rax
    xor %edx, %edx
    mov $1000000000, %ecx
    div %rcx                        // %rax seconds, %rdx nanoseconds
    cmp $ANSWER_TIME, %r15
    je 6f
    cmp $ANSWER_CLOCK_GETTIME, %r15
    je 5f
    mov %rax, (%r8)
    mov %edx, %eax
    xor %edx, %edx
    mov $1000, %ecx
    div %ecx
    mov %rax, 8(%r8)
    xor %eax, %eax
    jmp .Lresult
5:  mov %rax, (%r9)
    mov %rdx, 8(%r9)
    xor %eax, %eax
    jmp .Lresult
6:  test %r8, %r8
    jz .Lresult
    mov %rax, (%r8)
    jmp .Lresult

// A system call of the guest, %r12 = its frame. What the answers have no word for, or did not come from `syscall`, is an
// event.
.Lcall:
    testl $FLAG_KICKED, MAILBOX_FLAGS(%rbx)
    jnz .Lsave
    mov SC_RAX(%r12), %rax
    cmp $ANSWERED_CALLS, %rax
    jae .Lsave
    mov AREA_ANSWERS(%rbx, %rax, 8), %rax
    test %rax, %rax
    jz .Lsave
    mov SC_RIP(%r12), %rcx
    cmp SC_RCX(%r12), %rcx
    jne .Lsave
    mov SC_EFLAGS(%r12), %rcx
    cmp SC_R11(%r12), %rcx
    jne .Lsave
    test $TRAP_FLAG, %ecx
    jnz .Lsave
    test %rax, %rax
    js .Lclock
    decl MAILBOX_ANSWERS_LEFT(%rbx)
    jz .Lsave
    dec %rax
.Lresult:
    mov %r12, MAILBOX_CONTEXT(%rbx)
    mov %rax, SC_RAX(%r12)
.Lanswered:
    LOAD_VECTORS
    LEAVE_CALL kSystrapAnswerReturn

// A signal in our own code; %rax = the offset in this page. Kicks, and what somebody outside sends, may come at any time.
// From here to the page's end a kick is dropped: there is an event to come, or a return to where the kick is noticed.
.Lin_stub:
    cmp $(kSystrapGate - kSystrapBegin), %rax
    jb 1f
    cmp $(kSystrapGateCall - kSystrapBegin), %rax
    jb .Lin_gate
    cmp $(.Lgate_end - kSystrapBegin), %rax
    jae 1f
    cmpl $0, 8(%rsi)
    jg 1f
    orl $FLAG_KICKED, MAILBOX_FLAGS(%rbx)
    jmp .Lreturn
.Lin_gate:
    or $SIGNAL_IN_GATE, %edi
    mov %edi, MAILBOX_SIGNAL(%rbx)
    jmp .Lsave
1:  cmp $(kSystrapReturn - kSystrapBegin), %rax
    je .Lin_gate
    cmp $(kSystrapAnswerReturn - kSystrapBegin), %rax
    je .Lin_gate
    cmp $(.Lunanswered - kSystrapBegin), %rax
    jb 1f
    cmp $(.Lanswered - kSystrapBegin), %rax
    jb .Lgive_up
1:  cmp $KICK_SIGNAL, %edi
    je 1f
    cmpl $0, 8(%rsi)                // si_code: sent by somebody
    jle 1f
    or $SIGNAL_IN_STUB, %edi
    mov %edi, MAILBOX_SIGNAL(%rbx)
    jmp .Lsave
1:  testl $STATE_EVENT, MAILBOX_STATE(%rbx)
    jnz .Lreturn                    // the sentry's turn: it has its event
    cmp $(kSystrapHandler - kSystrapBegin), %rax
    jb .Lkicked_in_stub
    cmp $(.Lposted - kSystrapBegin), %rax
    jb .Ldrop                       // about to post, or to answer
    cmp $(.Lin_stub - kSystrapBegin), %rax
    jae .Ldrop
    cmp $(.Lanswered - kSystrapBegin), %rax
    jb .Lkicked_in_stub
    // The answered call's frame is complete: an event of it.
    movl $KICK_SIGNAL, MAILBOX_SIGNAL(%rbx)
    mov MAILBOX_CONTEXT(%rbx), %r12
    lea -FRAME_TO_SC(%r12), %rsp
    jmp .Lsave
.Ldrop:
    orl $FLAG_KICKED, MAILBOX_FLAGS(%rbx)
.Lreturn:
    LOAD_VECTORS                    // the interrupted code may have the guest's
    LEAVE

// Instead of going on to the guest: an event of the registers that the sentry gave. The vector registers may be where the
// guest's are.
.Lkicked_in_stub:
    LOAD_VECTORS
.Lkicked:
    movl $(KICK_SIGNAL | SIGNAL_NOT_RESUMED), MAILBOX_SIGNAL(%rbx)
    mov MAILBOX_CONTEXT(%rbx), %r12
    lea -FRAME_TO_SC(%r12), %rsp
    testl $FLAG_SET_BASES, MAILBOX_FLAGS(%rbx)
    jz .Lpost
    mov MAILBOX_FS_BASE(%rbx), %rax
    wrfsbase %rax
    mov MAILBOX_GS_BASE(%rbx), %rax
    wrgsbase %rax
    jmp .Lpost

// The call has not been answered: a kick or a fault (a bad pointer, a page that the sentry has to map) leaves it to the
// sentry, whatever was done of it. %r12 in the interrupted registers = the call's frame.
.Lgive_up:
    mov SC_R12(%r12), %r12
    lea -FRAME_TO_SC(%r12), %rsp
    movl $SIGNAL_SYSTEM_CALL, MAILBOX_SIGNAL(%rbx)
    jmp .Lsave

// The area is the guest's: the host's kernel keeps it for this thread.
.Lrseq:
    mov $SYS_rseq, %eax
    mov MAILBOX_RSEQ_ADDRESS(%rbx), %rdi
    mov MAILBOX_RSEQ_LENGTH(%rbx), %esi
    mov MAILBOX_RSEQ_OPTIONS(%rbx), %edx
    mov MAILBOX_RSEQ_SIGNATURE(%rbx), %r10d
    syscall
kSystrapGuestRseq:
    mov %rax, MAILBOX_RESULT(%rbx)
    movl $0, MAILBOX_SIGNAL(%rbx)
    jmp .Lpost

kSystrapEnd:
    .byte 0xcc

    .section .note.GNU-stack, "", @progbits
