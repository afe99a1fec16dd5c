// SPDX-License-Identifier: Apache-2.0
// The structures that sentry and stub share. What a stub can write to (Mailbox, the frames behind it) is hostile: read
// once, through volatile or atomics, and checked.
#ifndef PLATFORM_SYSTRAP_STUB_MEMORY_H_
#define PLATFORM_SYSTRAP_STUB_MEMORY_H_

#include <linux/filter.h>
#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "platform/platform.h"
#include "platform/stub/stub_page.h"
#include "platform/systrap/stub_layout.h"

namespace platform::systrap {

extern "C" {
extern const uint8_t kSystrapBegin[], kSystrapZygote[], kSystrapHandler[], kSystrapGuestWake[], kSystrapGuestWait[],
    kSystrapGuestRseq[], kSystrapGuestPark[], kSystrapGuestProbe[], kSystrapGuestProbeEnd[], kSystrapEnd[];
// Patched calls: where what they do changes the registers that tell about the guest.
extern const uint8_t kSystrapGate[], kSystrapGateStack[], kSystrapGateFlags[], kSystrapGateAnswered[],
    kSystrapGateLeave[], kSystrapGateCall[];
// All registers are the guest's but rip, which is to become rcx.
extern const uint8_t kSystrapReturn[], kSystrapAnswerReturn[];
}
inline uint64_t StubOffset(const uint8_t* label) { return static_cast<uint64_t>(label - kSystrapBegin); }

// Where things are in every stub: above the guest's addresses and the stub's pages.
inline const uint64_t kControlAddress = stub::kStubPagesEnd;
inline const uint64_t kClockAddress = kControlAddress + kPageSize;
// Where a page of text is copied, and where the originals of patched pages are.
inline const uint64_t kCopyAddress = kControlAddress + (uint64_t{16} << 20);
inline const uint64_t kShadowAddress = kControlAddress + (uint64_t{32} << 20);
inline constexpr uint64_t kControlSpace = uint64_t{64} << 20;
inline const uint64_t kAreaAddress = kControlAddress + kControlSpace;
inline constexpr uint64_t kAreaSize = AREA_SIZE;
// Guest threads per stub process.
inline constexpr uint32_t kMaxAreas =
    static_cast<uint32_t>((kStubSpace - kPageSize - stub::kStubPagesSpace - kControlSpace) / kAreaSize);

// The read-only page behind the stub's code.
struct StubData {
  uint64_t xfeatures;   // RFBM for xrstor: what the kernel saves in signal frames
  uint64_t no_signals;  // an empty mask
  sock_fprog service_filter;
  sock_fprog guest_filter;
  int32_t file;
  uint64_t control;
  uint64_t clock;
  uint64_t clock_offset;
  uint64_t spins;
  uint64_t gate_context;
  uint64_t gate_fpu;
  sock_filter programs[];
};
static_assert(offsetof(StubData, xfeatures) == DATA_XFEATURES && offsetof(StubData, no_signals) == DATA_NO_SIGNALS &&
              offsetof(StubData, service_filter) == DATA_SERVICE_FILTER &&
              offsetof(StubData, guest_filter) == DATA_GUEST_FILTER && offsetof(StubData, file) == DATA_FILE &&
              offsetof(StubData, control) == DATA_CONTROL && offsetof(StubData, clock) == DATA_CLOCK &&
              offsetof(StubData, clock_offset) == DATA_CLOCK_OFFSET && offsetof(StubData, spins) == DATA_SPINS &&
              offsetof(StubData, gate_context) == DATA_GATE_CONTEXT && offsetof(StubData, gate_fpu) == DATA_GATE_FPU &&
              offsetof(StubData, programs) == DATA_PROGRAMS);

// One host call for the service thread or the zygote.
struct Order {
  uint64_t number;
  uint64_t arguments[6];
  uint64_t result;  // from the zygote only
};
static_assert(sizeof(Order) == ORDER_SIZE && offsetof(Order, result) == ORDER_RESULT);

// One per stub process, mapped read-only there.
struct Control {
  std::atomic<uint32_t> ready;
  int32_t listener;  // of the service thread's notifications, or a negative errno
  uint32_t count;
  uint32_t unused;
  uint64_t area;  // of the guest thread that is being made
  stack_t stack;  // its signal stack
  uint64_t pad[2];
  Order orders[MAX_ORDERS];
};
static_assert(offsetof(Control, ready) == CONTROL_READY && offsetof(Control, listener) == CONTROL_LISTENER &&
              offsetof(Control, count) == CONTROL_COUNT && offsetof(Control, area) == CONTROL_AREA &&
              offsetof(Control, stack) == CONTROL_STACK && offsetof(Control, orders) == CONTROL_ORDERS &&
              sizeof(Control) == kPageSize);

// One per guest thread, at the start of its area. Hostile.
struct alignas(64) Mailbox {
  std::atomic<uint32_t> state;  // a futex word, shared by the two processes
  uint32_t signal;
  uint64_t context;  // address in the stub of the interrupted thread's SignalContext
  uint64_t fs_base;
  uint64_t gs_base;
  uint32_t flags;
  uint32_t rseq_length;
  uint64_t rseq_address;
  uint32_t rseq_options;
  uint32_t rseq_signature;
  uint64_t result;
  uint64_t self;
  uint64_t guest_rsp;
  uint32_t answers_left;
};
static_assert(offsetof(Mailbox, state) == MAILBOX_STATE && offsetof(Mailbox, signal) == MAILBOX_SIGNAL &&
              offsetof(Mailbox, context) == MAILBOX_CONTEXT && offsetof(Mailbox, fs_base) == MAILBOX_FS_BASE &&
              offsetof(Mailbox, gs_base) == MAILBOX_GS_BASE && offsetof(Mailbox, flags) == MAILBOX_FLAGS &&
              offsetof(Mailbox, rseq_length) == MAILBOX_RSEQ_LENGTH &&
              offsetof(Mailbox, rseq_address) == MAILBOX_RSEQ_ADDRESS &&
              offsetof(Mailbox, rseq_options) == MAILBOX_RSEQ_OPTIONS &&
              offsetof(Mailbox, rseq_signature) == MAILBOX_RSEQ_SIGNATURE &&
              offsetof(Mailbox, result) == MAILBOX_RESULT && offsetof(Mailbox, self) == MAILBOX_SELF &&
              offsetof(Mailbox, guest_rsp) == MAILBOX_GUEST_RSP &&
              offsetof(Mailbox, answers_left) == MAILBOX_ANSWERS_LEFT);

// What the stub answers by itself, at AREA_ANSWERS: read-only in the stub, so not hostile.
using Answers = std::atomic<int64_t>[ANSWERED_CALLS];
static_assert(AREA_ANSWERS == AREA_SIZE - kPageSize && sizeof(Answers) == kPageSize);

// The kernel's struct sigcontext_64.
struct SignalContext {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
  uint16_t cs, gs, fs, ss;
  uint64_t error, trap, old_mask, cr2, fpstate, reserved[8];
};
static_assert(sizeof(SignalContext) == SC_SIZE && offsetof(SignalContext, rip) == SC_RIP &&
              offsetof(SignalContext, ss) == SC_SS && offsetof(SignalContext, fpstate) == SC_FPSTATE);

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_STUB_MEMORY_H_
