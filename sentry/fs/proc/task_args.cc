// SPDX-License-Identifier: Apache-2.0
// cmdline, environ and auxv: read from the process's own memory, wherever prctl(PR_SET_MM) says it is.
#include <string.h>

#include <algorithm>

#include "sentry/fs/proc/task_dir.h"

namespace sentry::fs {
namespace {

// Above what execve(2) accepts; the guest may claim more.
constexpr uint64_t kMaxArguments = 8 << 20;

// What can be read of [start, end).
std::string ReadRange(mm::MemoryManager& mm, uint64_t start, uint64_t end) {
  if (end <= start) return "";
  const uint64_t length = std::min(end - start, kMaxArguments);
  std::string text;
  while (text.size() < length) {
    const size_t at = text.size(), chunk = std::min<uint64_t>(length - at, 64 << 10);
    text.resize(at + chunk);
    auto n = mm.CopyIn(UserAddr(start + at), text.data() + at, chunk, true);
    text.resize(at + (n.ok() ? *n : 0));
    if (!n.ok() || *n < chunk) break;
  }
  return text;
}

}  // namespace

// A program that overwrote its last NUL (setproctitle) goes on into its environment, up to the next NUL.
Result<std::string> TaskCmdline(const Context& context) {
  RefPtr<mm::MemoryManager> mm = context.mm();
  if (!mm) return std::string();
  const mm::ImageInfo image = mm->image();
  std::string text = ReadRange(*mm, image.arg_start, image.arg_end);
  const bool whole = text.size() == image.arg_end - image.arg_start;
  if (text.empty() || text.back() == '\0' || !whole) return text;
  if (image.env_start == image.arg_end) text += ReadRange(*mm, image.env_start, image.env_end);
  if (size_t nul = text.find('\0'); nul != std::string::npos) text.resize(nul + 1);
  return text;
}

Result<std::string> TaskEnviron(const Context& context) {
  RefPtr<mm::MemoryManager> mm = context.mm();
  if (!mm) return std::string();
  const mm::ImageInfo image = mm->image();
  return ReadRange(*mm, image.env_start, image.env_end);
}

Result<std::string> TaskAuxv(const Context& context) {
  RefPtr<mm::MemoryManager> mm = context.mm();
  if (!mm) return std::string();
  const mm::ImageInfo image = mm->image();
  return std::string(reinterpret_cast<const char*>(image.auxv.data()), image.auxv.size() * sizeof(uint64_t));
}

}  // namespace sentry::fs
