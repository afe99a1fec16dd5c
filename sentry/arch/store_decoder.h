// SPDX-License-Identifier: Apache-2.0
// Whether an x86-64 instruction stores to its memory operand. For faults of platforms that can't see the page fault's
// error code: a signal handler finds the answer in its frame (REG_ERR bit 1), nothing else depends on it.
#ifndef SENTRY_ARCH_STORE_DECODER_H_
#define SENTRY_ARCH_STORE_DECODER_H_

#include <cstdint>
#include <span>

namespace sentry::arch {

inline constexpr size_t kMaxInstruction = 15;

// `code` starts at the instruction and may be cut short. Read-modify-write counts as a store; what is not known (most
// of the vector scatter and state-saving instructions) as a load. Of a string move, which has two operands, the store
// is assumed.
bool StoresToMemory(std::span<const uint8_t> code);

}  // namespace sentry::arch

#endif  // SENTRY_ARCH_STORE_DECODER_H_
