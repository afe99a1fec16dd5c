// SPDX-License-Identifier: Apache-2.0
// StubThread: a guest thread of a stub process, seen from the sentry: its mailbox and its signal frames. Nothing read
// from them is trusted.
#ifndef PLATFORM_SYSTRAP_STUB_THREAD_H_
#define PLATFORM_SYSTRAP_STUB_THREAD_H_

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <span>

#include "platform/systrap/stub_memory.h"

namespace platform::systrap {

class StubThread {
 public:
  // `memory` is the sentry's view of the area that the stub has at `address`. `fpu_size` is that of XSAVE images.
  StubThread(uint8_t* memory, uint64_t address, size_t fpu_size)
      : memory_(memory), address_(address), fpu_size_(fpu_size) {}

  // Where PrepareFrame, and patched calls, put a frame: offsets in the area.
  static uint64_t FrameContext(size_t fpu_size) { return FrameFpu(fpu_size) - 1024; }
  static uint64_t FrameFpu(size_t fpu_size);

  pid_t tid = 0;
  uint64_t address() const { return address_; }
  Mailbox& mailbox() { return *reinterpret_cast<Mailbox*>(memory_); }
  Answers& answers() { return *reinterpret_cast<Answers*>(memory_ + AREA_ANSWERS); }

  // Forgets all that was ever in the area.
  void Clear();
  // Before the thread is made: puts a frame of zeroes into the area, to be filled in as if a signal had made it.
  void PrepareFrame();
  // After an event: finds the frame that the stub says it has. False: it can't be.
  bool FindFrame();
  // Copies, once, what FindFrame found. `info` costs another cache line.
  SignalContext ReadContext() const;
  siginfo_t ReadInfo() const;
  void WriteContext(const SignalContext& context);
  // The flags that a patched call has saved.
  uint64_t ReadGateFlags() const;
  // Of the frame.
  std::span<uint8_t> fpu() { return {memory_ + fpu_offset_, fpu_size_}; }

 private:
  uint8_t* const memory_;
  const uint64_t address_;
  const size_t fpu_size_;
  uint64_t context_offset_ = 0;
  uint64_t fpu_offset_ = 0;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_STUB_THREAD_H_
