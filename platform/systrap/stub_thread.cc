// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/stub_thread.h"

#include <string.h>

namespace platform::systrap {
namespace {

constexpr uint64_t kFpuAlignment = 64;
// Nothing that a stub says may lead to the answers behind it.
constexpr uint64_t kStackEnd = AREA_ANSWERS;

// Reads what another process may be writing: the compiler must not read it twice.
template <typename T>
T ReadOnce(const uint8_t* from) {
  T value;
  memcpy(&value, from, sizeof value);
  asm volatile("" : : "r"(&value) : "memory");
  return value;
}

}  // namespace

void StubThread::Clear() { memset(memory_, 0, kAreaSize); }

uint64_t StubThread::FrameFpu(size_t fpu_size) { return (kStackEnd - fpu_size - kFpuAlignment) & ~(kFpuAlignment - 1); }

void StubThread::PrepareFrame() {
  fpu_offset_ = FrameFpu(fpu_size_);
  context_offset_ = FrameContext(fpu_size_);
  SignalContext context = {};
  WriteContext(context);
  mailbox().context = address_ + context_offset_;
  mailbox().self = address_;
}

bool StubThread::FindFrame() {
  uint64_t offset = ReadOnce<uint64_t>(memory_ + MAILBOX_CONTEXT) - address_;
  // Behind the mailbox's page, with the frame's start before it and the siginfo behind.
  if (offset % 8 != 0 || offset < kPageSize + FRAME_TO_SC || offset > kStackEnd - SC_TO_INFO - sizeof(siginfo_t)) {
    return false;
  }
  uint64_t fpu = ReadOnce<uint64_t>(memory_ + offset + SC_FPSTATE) - address_;
  if (fpu % kFpuAlignment != 0 || fpu < kPageSize || fpu > kStackEnd - fpu_size_) return false;
  context_offset_ = offset;
  fpu_offset_ = fpu;
  return true;
}

SignalContext StubThread::ReadContext() const { return ReadOnce<SignalContext>(memory_ + context_offset_); }

siginfo_t StubThread::ReadInfo() const { return ReadOnce<siginfo_t>(memory_ + context_offset_ + SC_TO_INFO); }

uint64_t StubThread::ReadGateFlags() const { return ReadOnce<uint64_t>(memory_ + GATE_STACK - sizeof(uint64_t)); }

void StubThread::WriteContext(const SignalContext& context) {
  uint8_t* to = memory_ + context_offset_;
  memcpy(to, &context, offsetof(SignalContext, error));
  uint64_t fpu = address_ + fpu_offset_;
  memcpy(to + SC_FPSTATE, &fpu, sizeof fpu);
}

}  // namespace platform::systrap
