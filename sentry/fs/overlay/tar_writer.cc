// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/overlay/tar_writer.h"

#include <stdio.h>
#include <string.h>

#include <algorithm>

namespace sentry::fs {
namespace {

constexpr size_t kBlock = 512;

// POSIX.1-2008, ustar interchange format.
struct Header {
  char name[100];
  char mode[8], uid[8], gid[8];
  char size[12], mtime[12];
  char checksum[8];
  char type;
  char link[100];
  char magic[6], version[2];
  char user[32], group[32];
  char major[8], minor[8];
  char prefix[155];
  char unused[12];
};
static_assert(sizeof(Header) == kBlock);

// Octal digits with a final NUL; false if the value needs more.
template <size_t kSize>
bool SetNumber(char (&field)[kSize], uint64_t value) {
  if (value >> (3 * (kSize - 1))) return false;
  snprintf(field, kSize, "%0*lo", static_cast<int>(kSize) - 1, static_cast<unsigned long>(value));
  return true;
}

template <size_t kSize>
bool SetText(char (&field)[kSize], const std::string& text) {
  memcpy(field, text.data(), std::min(text.size(), kSize));
  return text.size() <= kSize;
}

void SetChecksum(Header* h) {
  memset(h->checksum, ' ', sizeof h->checksum);
  unsigned sum = 0;
  for (size_t i = 0; i < kBlock; ++i) sum += reinterpret_cast<const unsigned char*>(h)[i];
  snprintf(h->checksum, sizeof h->checksum, "%06o", sum);
}

// "LENGTH KEY=VALUE\n", the length being the whole record's with its own digits.
void AddRecord(std::string* records, const std::string& key, const std::string& value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (std::to_string(length).size() + rest != length) length = std::to_string(length).size() + rest;
  *records += std::to_string(length) + " " + key + "=" + value + "\n";
}

void SetMagic(Header* h) {
  memcpy(h->magic, "ustar", sizeof h->magic);
  memcpy(h->version, "00", sizeof h->version);
}

char TypeOf(const TarEntry& entry) {
  if (!entry.hard_link.empty()) return '1';
  switch (entry.mode & S_IFMT) {
    case S_IFREG:
      return '0';
    case S_IFLNK:
      return '2';
    case S_IFCHR:
      return '3';
    case S_IFBLK:
      return '4';
    case S_IFDIR:
      return '5';
    case S_IFIFO:
      return '6';
    default:
      return 0;
  }
}

std::string TimeText(const vfs::Timestamp& time) {
  // The fraction counts down from a negative number of seconds.
  int64_t seconds = time.seconds;
  int64_t fraction = time.nanoseconds;
  const bool negative = seconds < 0;
  if (negative) {
    seconds = -seconds - (fraction ? 1 : 0);
    fraction = fraction ? 1'000'000'000 - fraction : 0;
  }
  char text[48];
  snprintf(text, sizeof text, "%s%ld.%09ld", negative ? "-" : "", static_cast<long>(seconds),
           static_cast<long>(fraction));
  return text;
}

}  // namespace

Result<void> TarWriter::Put(const void* data, size_t length) {
  written_ += length;
  return sink_(data, length);
}

Result<void> TarWriter::Zeroes(uint64_t length) {
  static constexpr char kZeroes[16 << 10] = {};
  while (length > 0) {
    const size_t n = std::min<uint64_t>(length, sizeof kZeroes);
    TRY(Put(kZeroes, n));
    length -= n;
  }
  return OkResult();
}

Result<void> TarWriter::Extended(const std::string& records) {
  Header h = {};
  SetText(h.name, "./PaxHeaders/entry");
  SetNumber(h.mode, 0644);
  SetNumber(h.uid, 0);
  SetNumber(h.gid, 0);
  SetNumber(h.size, records.size());
  SetNumber(h.mtime, 0);
  h.type = 'x';
  SetMagic(&h);
  SetChecksum(&h);
  TRY(Put(&h, sizeof h));
  TRY(Put(records.data(), records.size()));
  return Zeroes((kBlock - records.size() % kBlock) % kBlock);
}

Result<void> TarWriter::Add(const TarEntry& entry) {
  Header h = {};
  h.type = TypeOf(entry);
  if (!h.type) return Errno(EINVAL);
  const bool has_data = h.type == '0';
  const std::string& link = h.type == '1' ? entry.hard_link : entry.target;
  std::string records;
  if (!SetText(h.name, entry.path)) AddRecord(&records, "path", entry.path);
  if (!SetText(h.link, link)) AddRecord(&records, "linkpath", link);
  SetNumber(h.mode, entry.mode & 07777);
  if (!SetNumber(h.uid, entry.uid)) AddRecord(&records, "uid", std::to_string(entry.uid));
  if (!SetNumber(h.gid, entry.gid)) AddRecord(&records, "gid", std::to_string(entry.gid));
  if (!SetNumber(h.size, has_data ? entry.size : 0)) AddRecord(&records, "size", std::to_string(entry.size));
  const bool whole = entry.mtime.seconds >= 0 && entry.mtime.nanoseconds == 0;
  if (!SetNumber(h.mtime, static_cast<uint64_t>(std::max<int64_t>(entry.mtime.seconds, 0))) || !whole)
    AddRecord(&records, "mtime", TimeText(entry.mtime));
  SetNumber(h.major, major(entry.rdev) & 07777777);
  SetNumber(h.minor, minor(entry.rdev) & 07777777);
  for (const auto& [name, value] : entry.xattrs) AddRecord(&records, "SCHILY.xattr." + name, value);
  SetMagic(&h);
  SetChecksum(&h);
  if (!records.empty()) TRY(Extended(records));
  TRY(Put(&h, sizeof h));
  missing_ = has_data ? entry.size : 0;
  return OkResult();
}

Result<void> TarWriter::Data(const void* data, size_t length) {
  length = std::min<uint64_t>(length, missing_);
  missing_ -= length;
  return Put(data, length);
}

Result<void> TarWriter::EndData() {
  TRY(Zeroes(std::exchange(missing_, 0)));
  return Zeroes((kBlock - written_ % kBlock) % kBlock);
}

Result<void> TarWriter::Finish() {
  constexpr size_t kRecord = 20 * kBlock;
  TRY(Zeroes(2 * kBlock));
  return Zeroes((kRecord - written_ % kRecord) % kRecord);
}

}  // namespace sentry::fs
