// SPDX-License-Identifier: Apache-2.0
// Reading and writing of message bodies. Both remember the first overrun, so a caller checks once, at the end.
#ifndef GOFER_PROTOCOL_CODEC_H_
#define GOFER_PROTOCOL_CODEC_H_

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace gofer {

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> data) : data_(data) {}

  // All zero after an overrun.
  template <typename T>
  T Get() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value{};
    if (Has(sizeof(T))) {
      memcpy(static_cast<void*>(&value), data_.data(), sizeof(T));
      data_ = data_.subspan(sizeof(T));
    }
    return value;
  }
  // Points into the message; not NUL-terminated.
  std::string_view GetBytes(size_t size) {
    if (!Has(size)) return {};
    std::string_view bytes(reinterpret_cast<const char*>(data_.data()), size);
    data_ = data_.subspan(size);
    return bytes;
  }
  std::string_view GetString() { return GetBytes(Get<uint16_t>()); }
  std::string_view GetRest() { return GetBytes(data_.size()); }

  bool ok() const { return ok_; }
  // Everything was there and nothing is left over.
  bool Done() const { return ok_ && data_.empty(); }

 private:
  bool Has(size_t size) {
    if (size > data_.size()) {
      ok_ = false;
      data_ = {};
    }
    return ok_;
  }

  std::span<const uint8_t> data_;
  bool ok_ = true;
};

class Writer {
 public:
  explicit Writer(std::span<uint8_t> buffer) : buffer_(buffer) {}

  template <typename T>
  void Put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    PutRaw(&value, sizeof(T));
  }
  void PutRaw(const void* data, size_t size) {
    if (!ok_ || size > room()) {
      ok_ = false;
      return;
    }
    if (size) memcpy(buffer_.data() + used_, data, size);
    used_ += size;
  }
  void PutString(std::string_view text) {
    if (text.size() > UINT16_MAX) {
      ok_ = false;
      return;
    }
    Put(static_cast<uint16_t>(text.size()));
    PutRaw(text.data(), text.size());
  }
  // For output made in place: at most room() bytes at tail(), then Advance.
  uint8_t* tail() { return buffer_.data() + used_; }
  size_t room() const { return buffer_.size() - used_; }
  void Advance(size_t size) { used_ += size; }
  void Clear() {
    used_ = 0;
    ok_ = true;
  }

  bool ok() const { return ok_; }
  std::span<const uint8_t> written() const { return buffer_.first(used_); }
  std::span<uint8_t> mutable_written() { return buffer_.first(used_); }

 private:
  std::span<uint8_t> buffer_;
  size_t used_ = 0;
  bool ok_ = true;
};

}  // namespace gofer

#endif  // GOFER_PROTOCOL_CODEC_H_
