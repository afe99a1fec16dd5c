// SPDX-License-Identifier: Apache-2.0
// Registers and vector state in the formats of the contract and of signal frames.
#ifndef PLATFORM_SYSTRAP_REGISTERS_H_
#define PLATFORM_SYSTRAP_REGISTERS_H_

#include <cstdint>
#include <span>

#include "base/result.h"
#include "platform/platform.h"
#include "platform/systrap/stub_memory.h"

namespace platform::systrap {

// Whether the stub's iretq and wrfsbase take them; `fs_base` and `gs_base` are what the thread has.
bool LoadableRegisters(const Registers& registers, uint64_t fs_base, uint64_t gs_base);
// All that a SignalContext holds.
void ToContext(const Registers& from, SignalContext* to);
void FromContext(const SignalContext& from, Registers* to);
// Of a page fault, by the CPU's error code.
Access FaultAccess(const SignalContext& context);

bool IsVsyscall(uint64_t address);
uint64_t VsyscallNumber(uint64_t address);

// The XSAVE image of a signal frame as ptrace(2) shows it: without what the kernel notes for itself.
void CleanFpu(std::span<uint8_t> image, uint64_t xfeatures);
// Makes `full` of an image of 512 bytes to full.size(), such that xrstor takes it; EINVAL if it would fault.
base::Result<void> CheckFpu(std::span<const uint8_t> image, uint64_t xfeatures, uint32_t mxcsr_mask,
                            std::span<uint8_t> full);

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_REGISTERS_H_
