// SPDX-License-Identifier: Apache-2.0
// A machine for the classic BPF that seccomp(2) takes, for tests of filters.
#ifndef PLATFORM_STUB_BPF_EVALUATOR_H_
#define PLATFORM_STUB_BPF_EVALUATOR_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace platform::stub {

// The verdict; nothing for a program that is wrong.
inline std::optional<uint32_t> Evaluate(const std::vector<sock_filter>& program, const seccomp_data& data) {
  uint32_t a = 0;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const sock_filter& i = program[pc];
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (i.k % 4 != 0 || i.k + 4 > sizeof(data)) return std::nullopt;
        memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, 4);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= i.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        pc += a == i.k ? i.jt : i.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        pc += a >= i.k ? i.jt : i.jf;
        break;
      case BPF_RET | BPF_K:
        return i.k;
      default:
        return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace platform::stub

#endif  // PLATFORM_STUB_BPF_EVALUATOR_H_
