// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/proc/text_file.h"

#include <algorithm>

#include "sentry/fs/proc/proc_inode.h"

namespace sentry::fs {
namespace {
constexpr size_t kMaxWrite = kPageSize;
}

Result<RefPtr<TextFile::Text>> TextFile::Snapshot(int64_t offset) {
  if (offset != 0) {
    MutexLock lock(mu_);
    if (text_) return text_;
  }
  auto text = MakeRef<Text>();
  text->data = TRY(static_cast<TextInode&>(*inode()).Generate());
  RefPtr<Text> old = text;
  {
    MutexLock lock(mu_);
    std::swap(text_, old);
  }
  return text;
}

Result<size_t> TextFile::Copy(const Text& text, IoTarget& target, int64_t offset) {
  if (offset < 0) return Errno(EINVAL);
  const uint64_t at = static_cast<uint64_t>(offset);
  if (at >= text.data.size()) return size_t{0};
  const size_t n = std::min(target.remaining(), text.data.size() - at);
  if (n == 0) return size_t{0};
  return target.Put(text.data.data() + at, n);
}

Result<size_t> TextFile::Read(IoTarget& target) {
  RefPtr<Text> text = TRY(Snapshot(position()));
  MutexLock lock(position_mu());
  const int64_t at = position();
  size_t n = TRY(Copy(*text, target, at));
  set_position(at + static_cast<int64_t>(n));
  return n;
}

Result<size_t> TextFile::PRead(IoTarget& target, int64_t offset) {
  return Copy(*TRY(Snapshot(offset)), target, offset);
}

Result<size_t> TextFile::Write(IoSource& source) {
  std::string data(std::min(source.remaining(), kMaxWrite), '\0');
  if (!data.empty()) data.resize(TRY(source.Take(data.data(), data.size())));
  size_t n = TRY(static_cast<TextInode&>(*inode()).Store(data, opener_, position() == 0));
  MutexLock lock(position_mu());
  set_position(position() + static_cast<int64_t>(n));
  return n;
}

Result<size_t> TextFile::PWrite(IoSource& source, int64_t offset, int64_t* end) {
  std::string data(std::min(source.remaining(), kMaxWrite), '\0');
  if (!data.empty()) data.resize(TRY(source.Take(data.data(), data.size())));
  size_t n = TRY(static_cast<TextInode&>(*inode()).Store(data, opener_, offset == 0));
  *end = std::max<int64_t>(offset, 0) + static_cast<int64_t>(n);
  return n;
}

}  // namespace sentry::fs
