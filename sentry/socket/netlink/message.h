// SPDX-License-Identifier: Apache-2.0
// Netlink messages and attributes (netlink(7)): a builder, and a reader of what a guest wrote.
#ifndef SENTRY_SOCKET_NETLINK_MESSAGE_H_
#define SENTRY_SOCKET_NETLINK_MESSAGE_H_

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "sentry/common.h"

namespace sentry::socket {

class MessageBuilder {
 public:
  template <typename T>
  MessageBuilder(uint16_t type, uint16_t flags, uint32_t sequence, uint32_t port, const T& body) {
    nlmsghdr header = {
        .nlmsg_len = 0, .nlmsg_type = type, .nlmsg_flags = flags, .nlmsg_seq = sequence, .nlmsg_pid = port};
    Raw(&header, sizeof header);
    Raw(&body, sizeof body);
  }
  void Put(uint16_t type, const void* data, size_t size) {
    const rtattr attribute = {.rta_len = static_cast<uint16_t>(RTA_LENGTH(size)), .rta_type = type};
    Raw(&attribute, sizeof attribute);
    Raw(data, size);
  }
  template <typename T>
  void Put(uint16_t type, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    Put(type, &value, sizeof value);
  }
  void PutString(uint16_t type, const std::string& text) { Put(type, text.c_str(), text.size() + 1); }
  size_t BeginNested(uint16_t type) {
    const size_t at = text_.size();
    Put(type, nullptr, 0);
    return at;
  }
  void EndNested(size_t at) {
    const auto length = static_cast<uint16_t>(text_.size() - at);
    memcpy(text_.data() + at, &length, sizeof length);
  }
  std::string Finish() {
    const auto length = static_cast<uint32_t>(text_.size());
    memcpy(text_.data(), &length, sizeof length);
    return std::move(text_);
  }

 private:
  void Raw(const void* data, size_t size) {
    if (size) text_.append(static_cast<const char*>(data), size);
    text_.resize(NLMSG_ALIGN(text_.size()), '\0');
  }
  std::string text_;
};

// One request: its header, and what follows.
struct NetlinkRequest {
  nlmsghdr header;
  std::string_view body;

  template <typename T>
  Result<T> Body() const {
    T value = {};
    if (body.size() < sizeof value) return Errno(EINVAL);
    memcpy(&value, body.data(), sizeof value);
    return value;
  }
  bool IsDump() const { return (header.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP; }
};

// Attributes by type, of at most `kMax`; the last of a type counts. Malformed ends are ignored.
template <size_t kMax>
class Attributes {
 public:
  explicit Attributes(std::string_view bytes) {
    while (bytes.size() >= sizeof(rtattr)) {
      rtattr a;
      memcpy(&a, bytes.data(), sizeof a);
      if (a.rta_len < sizeof a || a.rta_len > bytes.size()) return;
      const size_t type = a.rta_type & NLA_TYPE_MASK;
      if (type <= kMax) {
        values_[type] = bytes.substr(sizeof a, a.rta_len - sizeof a);
        present_[type] = true;
      }
      bytes.remove_prefix(std::min<size_t>(RTA_ALIGN(a.rta_len), bytes.size()));
    }
  }
  bool Has(size_t type) const { return present_[type]; }
  std::string_view operator[](size_t type) const { return values_[type]; }
  template <typename T>
  Result<T> Get(size_t type) const {
    T value;
    if (!present_[type] || values_[type].size() < sizeof value) return Errno(EINVAL);
    memcpy(&value, values_[type].data(), sizeof value);
    return value;
  }
  std::string String(size_t type) const {
    const std::string_view v = values_[type];
    return std::string(v.substr(0, v.find('\0')));
  }

 private:
  std::array<std::string_view, kMax + 1> values_ = {};
  std::array<bool, kMax + 1> present_ = {};
};

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_NETLINK_MESSAGE_H_
