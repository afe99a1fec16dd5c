// SPDX-License-Identifier: Apache-2.0
// What the stub's code and the sentry agree on: addresses, offsets, states. Read by stub_code.S and by C++.
#ifndef PLATFORM_SYSTRAP_STUB_LAYOUT_H_
#define PLATFORM_SYSTRAP_STUB_LAYOUT_H_

// The pages of a stub, from StubLayout::page up.
#define STUB_DATA 0x1000     // read-only constants and filters: struct StubData
#define STUB_SCRATCH 0x2000  // the zygote's only writable memory; its children don't have it

// struct StubData
#define DATA_XFEATURES 0
#define DATA_NO_SIGNALS 8
#define DATA_SERVICE_FILTER 16
#define DATA_GUEST_FILTER 32
#define DATA_FILE 48
#define DATA_CONTROL 56
#define DATA_CLOCK 64         // the address of struct ClockParams, shared with the sentry, read-only
#define DATA_CLOCK_OFFSET 72  // in the file
#define DATA_SPINS 80         // how often to look for the sentry's answer before sleeping on it, if told to spin
#define DATA_GATE_CONTEXT 88  // offset in an area of the struct sigcontext that a patched call makes there
#define DATA_GATE_FPU 96      // and of its XSAVE image
#define DATA_PROGRAMS 104

// struct Control: one page per stub process, read-only in it.
#define CONTROL_READY 0
#define CONTROL_LISTENER 4
#define CONTROL_COUNT 8
#define CONTROL_AREA 16
#define CONTROL_STACK 24
#define CONTROL_ORDERS 64
#define ORDER_SIZE 64
#define ORDER_RESULT 56
#define MAX_ORDERS 63
// No host call: copies %rdx bytes from %rsi to %rdi.
#define ORDER_COPY 0x10000

// One guest thread's memory, shared with the sentry: the mailbox's page, then the alternate signal stack; the last
// page, its answers, is read-only in the stub.
#define AREA_SIZE 0x8000
#define AREA_ANSWERS 0x7000

// The stack of a patched call, in the alternate signal stack.
#define GATE_STACK (AREA_ANSWERS - 64)

// One 8-byte word per call. 0: the sentry answers; > 0: the result, plus 1; < 0: how the stub computes it.
#define ANSWERED_CALLS 512
#define ANSWER_CLOCK_GETTIME -1
#define ANSWER_GETTIMEOFDAY -2
#define ANSWER_TIME -3

// struct Mailbox
#define MAILBOX_STATE 0
#define MAILBOX_SIGNAL 4
#define MAILBOX_CONTEXT 8
#define MAILBOX_FS_BASE 16
#define MAILBOX_GS_BASE 24
#define MAILBOX_FLAGS 32
#define MAILBOX_RSEQ_LENGTH 36
#define MAILBOX_RSEQ_ADDRESS 40
#define MAILBOX_RSEQ_OPTIONS 48
#define MAILBOX_RSEQ_SIGNATURE 52
#define MAILBOX_RESULT 56
#define MAILBOX_SELF 64           // the address of the mailbox in the stub
#define MAILBOX_GUEST_RSP 72      // of a patched call
#define MAILBOX_ANSWERS_LEFT 80   // the last of so many answered calls is an event: they are counted
#define MAILBOX_RSEQ_PROBE 0x800  // behind the struct: an area that nobody uses
#define RSEQ_PROBE_LENGTH 32
#define RSEQ_PROBE_SIGNATURE 0x53053053

// Mailbox::state. Whose turn it is, and whether the other side sleeps on the word.
#define STATE_GUEST 1
#define STATE_EVENT 2
#define STATE_SLEEP 0x80
// Mailbox::flags
#define FLAG_SET_BASES 1
#define FLAG_RSEQ 2           // rseq(2) first, and back to the sentry with the result
#define FLAG_KICKED 4         // by the stub: a kick was dropped
#define FLAG_SPIN 16          // spin for a while after the next event: the sentry runs on another CPU
#define FLAG_KEEP_VECTORS 32  // the vector registers are the guest's as they are: no need to load the frame's
#define FLAG_SAVE_VECTORS 64  // the vector registers into the frame first, and back to the sentry
#define FLAG_PARK 8           // a notification first, then back to the sentry with what a probe of rseq(2) gave
// Mailbox::signal of a signal in the stub's own code.
#define SIGNAL_IN_STUB 0x100
// Of any signal in the code of patched calls that has not left the guest's registers behind yet.
#define SIGNAL_IN_GATE 0x200
// With KICK_SIGNAL: it came before the guest could be resumed.
#define SIGNAL_NOT_RESUMED 0x800
#define KICK_SIGNAL 23  // SIGURG

// struct sigcontext_64 of the kernel, and its place in struct rt_sigframe.
#define SC_R8 0
#define SC_R9 8
#define SC_R10 16
#define SC_R11 24
#define SC_R12 32
#define SC_R13 40
#define SC_R14 48
#define SC_R15 56
#define SC_RDI 64
#define SC_RSI 72
#define SC_RBP 80
#define SC_RBX 88
#define SC_RDX 96
#define SC_RAX 104
#define SC_RCX 112
#define SC_RSP 120
#define SC_RIP 128
#define SC_EFLAGS 136
#define SC_CS 144
#define SC_SS 150
#define SC_FPSTATE 184
#define SC_SIZE 256
#define UC_MCONTEXT 40
#define FRAME_TO_SC 48          // from the frame's start, the handler's first rsp
#define SC_TO_INFO 264          // from there to the siginfo
#define SIGNAL_SYSTEM_CALL 31   // SIGSYS
#define SIGNAL_GATE_CALL 0x400  // a patched call: no signal
#define TRAP_FLAG 0x100
#define USER_CODE 0x33  // the 64-bit code segment

// The service filter turns this call into a notification, whose sender and arguments no guest can forge. Service
// threads make it, and guest threads that are parked. Without that filter it is harmless.
#define SYS_NOTIFY 111  // getpgrp

#endif  // PLATFORM_SYSTRAP_STUB_LAYOUT_H_
