// SPDX-License-Identifier: Apache-2.0
// Classic BPF: checking and running programs of struct sock_filter (linux/filter.h;
// Documentation/networking/filter.rst). Seccomp filters and socket filters share it: they differ in what a load reads
// (`Load` below) and in what more they refuse. Programs are hostile: Run may be given only what Check has passed, and
// then always ends, since jumps go forward only. No state, no locks.
#ifndef SENTRY_BPF_BPF_H_
#define SENTRY_BPF_BPF_H_

#include <linux/filter.h>

#include <cstdint>
#include <span>

#include "sentry/common.h"

namespace sentry::bpf {

using Instruction = sock_filter;
inline constexpr size_t kMaxInstructions = BPF_MAXINSNS;

// EINVAL for a program that Linux's classic checker refuses: no instructions or too many, an unknown operation, a jump
// out of the program, no return at the end, a division or shift by a bad constant, scratch memory that is out of range
// or read before it was written on some path, a load of an ancillary word that does not exist.
Result<void> Check(std::span<const Instruction> program);

// The data of a load: `size` 1, 2 or 4 bytes at `offset`. False: there are none, and the program gives 0.
//   bool Load(uint32_t offset, unsigned size, uint32_t* value);

// What a checked program returns. `length`: of the data (BPF_LEN). `ancillary` is part of `load`: offsets from
// SKF_AD_OFF on.
template <typename Load>
uint32_t Run(std::span<const Instruction> program, uint32_t length, Load&& load);

// A conditional jump's test of the accumulator. Precondition: BPF_CLASS(code) == BPF_JMP, not BPF_JA.
constexpr bool JumpTaken(uint16_t code, uint32_t a, uint32_t operand) {
  switch (BPF_OP(code)) {
    case BPF_JEQ:
      return a == operand;
    case BPF_JGT:
      return a > operand;
    case BPF_JGE:
      return a >= operand;
    default:
      return (a & operand) != 0;
  }
}

// An arithmetic operation. Dividing by zero is the caller's to exclude.
constexpr uint32_t Alu(uint16_t code, uint32_t a, uint32_t operand) {
  switch (BPF_OP(code)) {
    case BPF_ADD:
      return a + operand;
    case BPF_SUB:
      return a - operand;
    case BPF_MUL:
      return a * operand;
    case BPF_DIV:
      return a / operand;
    case BPF_MOD:
      return a % operand;
    case BPF_AND:
      return a & operand;
    case BPF_OR:
      return a | operand;
    case BPF_XOR:
      return a ^ operand;
    case BPF_LSH:
      return a << (operand & 31);
    case BPF_RSH:
      return a >> (operand & 31);
    default:
      return -a;  // BPF_NEG
  }
}

template <typename Load>
uint32_t Run(std::span<const Instruction> program, uint32_t length, Load&& load) {
  uint32_t a = 0, x = 0;
  uint32_t memory[BPF_MEMWORDS] = {};
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const Instruction& in = program[pc];
    const uint32_t operand = BPF_SRC(in.code) == BPF_X ? x : in.k;
    switch (BPF_CLASS(in.code)) {
      case BPF_LD:
      case BPF_LDX: {
        uint32_t value = 0;
        const unsigned size = BPF_SIZE(in.code) == BPF_W ? 4 : BPF_SIZE(in.code) == BPF_H ? 2 : 1;
        switch (BPF_MODE(in.code)) {
          case BPF_IMM:
            value = in.k;
            break;
          case BPF_ABS:
            if (!load(in.k, size, &value)) return 0;
            break;
          case BPF_IND:
            // A wrapped sum must not reach the ancillary words.
            if (in.k + uint64_t{x} >= uint32_t(SKF_AD_OFF) || !load(in.k + x, size, &value)) return 0;
            break;
          case BPF_MEM:
            value = memory[in.k];
            break;
          case BPF_LEN:
            value = length;
            break;
          default:  // BPF_MSH: the length of an IPv4 header
            if (!load(in.k, 1, &value)) return 0;
            value = (value & 0xf) * 4;
        }
        (BPF_CLASS(in.code) == BPF_LD ? a : x) = value;
        break;
      }
      case BPF_ST:
        memory[in.k] = a;
        break;
      case BPF_STX:
        memory[in.k] = x;
        break;
      case BPF_ALU:
        if ((BPF_OP(in.code) == BPF_DIV || BPF_OP(in.code) == BPF_MOD) && operand == 0) return 0;
        a = Alu(in.code, a, operand);
        break;
      case BPF_JMP:
        if (BPF_OP(in.code) == BPF_JA) {
          pc += in.k;
        } else {
          pc += JumpTaken(in.code, a, operand) ? in.jt : in.jf;
        }
        break;
      case BPF_RET:
        return BPF_RVAL(in.code) == BPF_A ? a : in.k;
      default:  // BPF_MISC
        (BPF_MISCOP(in.code) == BPF_TAX ? x : a) = BPF_MISCOP(in.code) == BPF_TAX ? a : x;
    }
  }
  return 0;
}

}  // namespace sentry::bpf

#endif  // SENTRY_BPF_BPF_H_
