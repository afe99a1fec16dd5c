// SPDX-License-Identifier: Apache-2.0
// The stack that a program finds at its entry: argc, argv, envp, auxv and the strings they point to (System V ABI
// x86-64, 3.4.1). Pure: gives the bytes for an address.
#ifndef SENTRY_LOADER_INITIAL_STACK_H_
#define SENTRY_LOADER_INITIAL_STACK_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sentry/common.h"

namespace sentry::loader {

// Longest argument or environment string with its NUL (MAX_ARG_STRLEN).
inline constexpr size_t kMaxArgumentString = 32 * 4096;
// What all strings and their pointers may take at a soft stack limit: a quarter of it, at most 6 MiB, at least 128 KiB
// (execve(2)).
uint64_t ArgumentSpace(uint64_t stack_limit);

struct StackContents {
  const std::vector<std::string>* argv = nullptr;
  const std::vector<std::string>* envp = nullptr;
  std::string filename;     // AT_EXECFN
  uint8_t random[16] = {};  // AT_RANDOM
  // Without AT_RANDOM, AT_EXECFN, AT_PLATFORM and AT_NULL, which are added.
  std::vector<std::pair<uint64_t, uint64_t>> auxv;
};

struct InitialStack {
  std::vector<uint8_t> bytes;  // to be stored at `pointer`; ends at the top
  uint64_t pointer = 0;        // rsp at entry, 16-byte aligned
  uint64_t arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
  std::vector<uint64_t> auxv;  // pairs, AT_NULL included
};

// `top` is the first address above, page-aligned. E2BIG when it would take more than ArgumentSpace(stack_limit) or a
// string is too long.
Result<InitialStack> BuildInitialStack(const StackContents& contents, uint64_t top, uint64_t stack_limit);

}  // namespace sentry::loader

#endif  // SENTRY_LOADER_INITIAL_STACK_H_
