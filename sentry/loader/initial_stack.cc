// SPDX-License-Identifier: Apache-2.0
#include "sentry/loader/initial_stack.h"

#include <elf.h>
#include <string.h>

#include <algorithm>

namespace sentry::loader {
namespace {

constexpr char kPlatform[] = "x86_64";

// Fills a buffer from its end downwards.
class DownwardWriter {
 public:
  DownwardWriter(uint64_t top, size_t capacity) : bytes_(capacity), at_(capacity), bottom_(top - capacity) {}
  uint64_t address() const { return bottom_ + at_; }
  uint64_t Put(const void* data, size_t size) {
    at_ -= size;
    if (size) memcpy(bytes_.data() + at_, data, size);
    return address();
  }
  uint64_t PutString(const std::string& s) { return Put(s.c_str(), s.size() + 1); }
  void AlignDown(uint64_t alignment) { at_ -= address() % alignment; }
  std::vector<uint8_t> Take() {
    bytes_.erase(bytes_.begin(), bytes_.begin() + at_);
    return std::move(bytes_);
  }

 private:
  std::vector<uint8_t> bytes_;
  size_t at_;
  uint64_t bottom_;
};

Result<uint64_t> StringBytes(const std::vector<std::string>& strings) {
  uint64_t sum = 0;
  for (const std::string& s : strings) {
    if (s.size() >= kMaxArgumentString) return Errno(E2BIG);
    sum += s.size() + 1;
  }
  return sum;
}

}  // namespace

uint64_t ArgumentSpace(uint64_t stack_limit) {
  constexpr uint64_t kMost = 6 << 20, kLeast = 128 << 10;
  return std::max(std::min(stack_limit / 4, kMost), kLeast);
}

Result<InitialStack> BuildInitialStack(const StackContents& contents, uint64_t top, uint64_t stack_limit) {
  const std::vector<std::string>& argv = *contents.argv;
  const std::vector<std::string>& envp = *contents.envp;
  uint64_t strings = TRY(StringBytes(argv)) + TRY(StringBytes(envp)) + contents.filename.size() + 1;
  uint64_t pointers = (argv.size() + envp.size()) * 8;
  if (strings + pointers > ArgumentSpace(stack_limit)) return Errno(E2BIG);

  constexpr size_t kSlack = 128;  // end marker, platform, random bytes, alignment
  size_t auxv_pairs = contents.auxv.size() + 4;
  size_t words = 1 + argv.size() + 1 + envp.size() + 1 + auxv_pairs * 2;
  DownwardWriter out(top, strings + words * 8 + kSlack);

  InitialStack stack;
  const uint64_t zero = 0;
  out.Put(&zero, 8);
  uint64_t filename = out.PutString(contents.filename);
  std::vector<uint64_t> vector(words);
  size_t env_index = 1 + argv.size() + 1;
  stack.env_end = out.address();
  for (size_t i = envp.size(); i-- > 0;) vector[env_index + i] = out.PutString(envp[i]);
  stack.env_start = stack.arg_end = out.address();
  for (size_t i = argv.size(); i-- > 0;) vector[1 + i] = out.PutString(argv[i]);
  stack.arg_start = out.address();
  vector[0] = argv.size();

  out.AlignDown(16);
  uint64_t platform = out.Put(kPlatform, sizeof kPlatform);
  uint64_t random = out.Put(contents.random, sizeof contents.random);

  auto add = [&stack](uint64_t type, uint64_t value) {
    stack.auxv.push_back(type);
    stack.auxv.push_back(value);
  };
  for (const auto& [type, value] : contents.auxv) add(type, value);
  add(AT_RANDOM, random);
  add(AT_EXECFN, filename);
  add(AT_PLATFORM, platform);
  add(AT_NULL, 0);
  std::copy(stack.auxv.begin(), stack.auxv.end(), vector.end() - stack.auxv.size());

  out.AlignDown(16);
  if (words % 2) out.Put(&zero, 8);
  stack.pointer = out.Put(vector.data(), words * 8);
  stack.bytes = out.Take();
  return stack;
}

}  // namespace sentry::loader
