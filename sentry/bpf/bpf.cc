// SPDX-License-Identifier: Apache-2.0
#include "sentry/bpf/bpf.h"

#include <vector>

namespace sentry::bpf {
namespace {

// Operations that exist, whole codes: a bit set that is not part of the operation makes another code.
bool IsKnown(uint16_t code) {
  switch (code) {
    case BPF_ALU | BPF_NEG:
    case BPF_LD | BPF_W | BPF_ABS:
    case BPF_LD | BPF_H | BPF_ABS:
    case BPF_LD | BPF_B | BPF_ABS:
    case BPF_LD | BPF_W | BPF_IND:
    case BPF_LD | BPF_H | BPF_IND:
    case BPF_LD | BPF_B | BPF_IND:
    case BPF_LD | BPF_W | BPF_LEN:
    case BPF_LD | BPF_IMM:
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_W | BPF_LEN:
    case BPF_LDX | BPF_B | BPF_MSH:
    case BPF_LDX | BPF_IMM:
    case BPF_LDX | BPF_MEM:
    case BPF_ST:
    case BPF_STX:
    case BPF_MISC | BPF_TAX:
    case BPF_MISC | BPF_TXA:
    case BPF_RET | BPF_K:
    case BPF_RET | BPF_A:
    case BPF_JMP | BPF_JA:
      return true;
    default:
      break;
  }
  if ((code & ~(BPF_CLASS(0xffff) | BPF_OP(0xffff) | BPF_SRC(0xffff))) != 0) return false;
  const unsigned operation = BPF_OP(code);
  if (BPF_CLASS(code) == BPF_ALU) return operation <= BPF_XOR && operation != BPF_NEG;
  if (BPF_CLASS(code) == BPF_JMP) return operation >= BPF_JEQ && operation <= BPF_JSET;
  return false;
}

// linux/filter.h has a hole-free list of words of four bytes.
bool IsAncillary(uint32_t offset) {
  const uint32_t index = offset - uint32_t(SKF_AD_OFF);
  return index < SKF_AD_MAX && index % 4 == 0;
}

Result<void> CheckOperands(std::span<const Instruction> program, size_t pc) {
  const Instruction& in = program[pc];
  const size_t left = program.size() - pc - 1;
  if (!IsKnown(in.code)) return Errno(EINVAL);
  bool ok = true;
  switch (in.code) {
    case BPF_ALU | BPF_DIV | BPF_K:
    case BPF_ALU | BPF_MOD | BPF_K:
      ok = in.k != 0;
      break;
    case BPF_ALU | BPF_LSH | BPF_K:
    case BPF_ALU | BPF_RSH | BPF_K:
      ok = in.k < 32;
      break;
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM:
    case BPF_ST:
    case BPF_STX:
      ok = in.k < BPF_MEMWORDS;
      break;
    case BPF_JMP | BPF_JA:
      ok = in.k < left;
      break;
    case BPF_LD | BPF_W | BPF_ABS:
    case BPF_LD | BPF_H | BPF_ABS:
    case BPF_LD | BPF_B | BPF_ABS:
      ok = in.k < uint32_t(SKF_AD_OFF) || IsAncillary(in.k);
      break;
    default:
      if (BPF_CLASS(in.code) == BPF_JMP) ok = in.jt < left && in.jf < left;
  }
  if (!ok) return Errno(EINVAL);
  return OkResult();
}

// Scratch memory must have been written on every path to a read of it: the set of words that were is carried along,
// and at a jump's target it is what all ways there have in common.
Result<void> CheckScratch(std::span<const Instruction> program) {
  std::vector<uint16_t> common(program.size(), 0xffff);
  uint16_t written = 0;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const Instruction& in = program[pc];
    written &= common[pc];
    switch (in.code) {
      case BPF_ST:
      case BPF_STX:
        written |= static_cast<uint16_t>(1u << in.k);
        break;
      case BPF_LD | BPF_MEM:
      case BPF_LDX | BPF_MEM:
        if (!(written & (1u << in.k))) return Errno(EINVAL);
        break;
      case BPF_JMP | BPF_JA:
        common[pc + 1 + in.k] &= written;
        written = 0xffff;
        break;
      default:
        if (BPF_CLASS(in.code) != BPF_JMP) break;
        common[pc + 1 + in.jt] &= written;
        common[pc + 1 + in.jf] &= written;
        written = 0xffff;
    }
  }
  return OkResult();
}

}  // namespace

Result<void> Check(std::span<const Instruction> program) {
  if (program.empty() || program.size() > kMaxInstructions) return Errno(EINVAL);
  for (size_t pc = 0; pc < program.size(); ++pc) TRY(CheckOperands(program, pc));
  if (BPF_CLASS(program.back().code) != BPF_RET) return Errno(EINVAL);
  return CheckScratch(program);
}

}  // namespace sentry::bpf
