// SPDX-License-Identifier: Apache-2.0
#include "runsc/cgroup/dbus.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "runsc/errors.h"

namespace runsc::dbus {
namespace {

// Far more than an answer of systemd's has; the specification allows 128 MiB.
constexpr uint32_t kMaxMessage = 1 << 20;
constexpr size_t kMaxSignals = 1024;
constexpr size_t kFixedHeader = 16;
enum Field : uint8_t {
  kPath = 1,
  kInterface = 2,
  kMember = 3,
  kErrorName = 4,
  kReplySerial = 5,
  kDestination = 6,
  kSender = 7,
  kSignature = 8,
};

std::string HeaderOf(const Message& m, uint32_t serial) {
  Writer w;
  w.Byte('l');
  w.Byte(m.type);
  w.Byte(0);
  w.Byte(1);
  w.U32(static_cast<uint32_t>(m.body.size()));
  w.U32(serial);
  const size_t fields = w.BeginArray(8);
  auto text = [&](Field field, const char* type, const std::string& value) {
    if (value.empty()) return;
    w.Align(8);
    w.Byte(field);
    w.Signature(type);
    *type == 'g' ? w.Signature(value) : w.String(value);
  };
  text(kPath, "o", m.path);
  text(kInterface, "s", m.interface);
  text(kMember, "s", m.member);
  text(kDestination, "s", m.destination);
  text(kSignature, "g", m.signature);
  w.EndArray(fields, 8);
  w.Align(8);
  return w.bytes();
}

// The array of fields, as much of it as concerns us; false: malformed.
bool ParseFields(absl::string_view bytes, Message* m) {
  Reader r(bytes);
  while (r.ok() && r.position() < bytes.size()) {
    r.Align(8);
    const uint8_t field = r.Byte();
    const std::string type = r.Signature();
    if (type == "s" || type == "o") {
      std::string value = r.String();
      if (field == kPath)
        m->path = std::move(value);
      else if (field == kInterface)
        m->interface = std::move(value);
      else if (field == kMember)
        m->member = std::move(value);
      else if (field == kErrorName)
        m->error_name = std::move(value);
    } else if (type == "u") {
      const uint32_t value = r.U32();
      if (field == kReplySerial) m->reply_serial = value;
    } else if (type == "g") {
      std::string value = r.Signature();
      if (field == kSignature) m->signature = std::move(value);
    } else {
      return false;
    }
  }
  return r.ok();
}

absl::StatusOr<base::UniqueFd> Connect(absl::string_view address) {
  sockaddr_un to = {.sun_family = AF_UNIX};
  std::string path;
  bool is_abstract = false;
  if (!absl::StartsWith(address, "unix:"))
    return absl::InvalidArgumentError(absl::StrCat("D-Bus address \"", address, "\": only unix: is understood"));
  for (absl::string_view pair : absl::StrSplit(address.substr(5), ',')) {
    is_abstract = absl::StartsWith(pair, "abstract=");
    if (is_abstract || absl::StartsWith(pair, "path=")) {
      path = std::string(pair.substr(pair.find('=') + 1));
      break;
    }
  }
  if (path.empty() || path.size() + 1 >= sizeof to.sun_path)
    return absl::InvalidArgumentError(absl::StrCat("D-Bus address \"", address, "\": no usable path"));
  memcpy(to.sun_path + is_abstract, path.data(), path.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.ok() || connect(fd.get(), reinterpret_cast<sockaddr*>(&to), length) != 0)
    return absl::UnavailableError(absl::StrCat(path, ": ", ErrnoText(errno)));
  return fd;
}

}  // namespace

void Writer::Number(uint64_t value, size_t size) {
  Align(size);
  for (size_t i = 0; i < size; ++i) Byte(static_cast<uint8_t>(value >> (8 * i)));
}

void Writer::String(absl::string_view text) {
  U32(static_cast<uint32_t>(text.size()));
  bytes_.append(text.data(), text.size());
  Byte(0);
}

void Writer::Signature(absl::string_view text) {
  Byte(static_cast<uint8_t>(text.size()));
  bytes_.append(text.data(), text.size());
  Byte(0);
}

size_t Writer::BeginArray(size_t alignment) {
  U32(0);
  const size_t length_at = bytes_.size() - 4;
  Align(alignment);
  return length_at;
}

void Writer::EndArray(size_t begin, size_t alignment) {
  // The padding before the first element does not count.
  const size_t first = (begin + 4 + alignment - 1) / alignment * alignment;
  const auto length = static_cast<uint32_t>(bytes_.size() - first);
  for (int i = 0; i < 4; ++i) bytes_[begin + i] = static_cast<char>(length >> (8 * i));
}

absl::string_view Reader::Take(size_t length) {
  if (!ok_ || length > bytes_.size() - at_) {
    ok_ = false;
    return {};
  }
  at_ += length;
  return bytes_.substr(at_ - length, length);
}

void Reader::Align(size_t to) { Take((to - at_ % to) % to); }

uint8_t Reader::Byte() {
  absl::string_view b = Take(1);
  return b.empty() ? 0 : static_cast<uint8_t>(b[0]);
}

uint32_t Reader::U32() {
  Align(4);
  uint32_t value = 0;
  absl::string_view b = Take(4);
  for (size_t i = 0; i < b.size(); ++i) value |= uint32_t{static_cast<uint8_t>(b[i])} << (8 * i);
  return value;
}

std::string Reader::String() {
  const uint32_t length = U32();
  std::string text(Take(length));
  Byte();
  return text;
}

std::string Reader::Signature() {
  const uint8_t length = Byte();
  std::string text(Take(length));
  Byte();
  return text;
}

absl::StatusOr<Connection> Connection::Open(const std::string& address, bool is_bus, int timeout_ms) {
  absl::Status last = absl::InvalidArgumentError("D-Bus: no address");
  for (absl::string_view one : absl::StrSplit(address, ';', absl::SkipEmpty())) {
    auto socket = Connect(one);
    last = socket.status();
    if (!socket.ok()) continue;
    Connection connection(*std::move(socket), timeout_ms);
    last = connection.Authenticate();
    if (last.ok() && is_bus) {
      last = connection
                 .Call({.path = "/org/freedesktop/DBus",
                        .interface = "org.freedesktop.DBus",
                        .member = "Hello",
                        .destination = "org.freedesktop.DBus"})
                 .status();
    }
    if (last.ok()) return connection;
  }
  return last;
}

absl::Status Connection::Authenticate() {
  // The kernel tells the peer who we are; the number is for form.
  const std::string uid = absl::BytesToHexString(absl::StrCat(geteuid()));
  RETURN_IF_ERROR(Send(absl::StrCat(absl::string_view("\0", 1), "AUTH EXTERNAL ", uid, "\r\n")));
  const int64_t deadline = base::MonotonicNs() + int64_t{timeout_ms_} * 1'000'000;
  while (input_.find("\r\n") == std::string::npos) {
    if (input_.size() > 1024) return absl::DataLossError("D-Bus: a long answer to AUTH");
    RETURN_IF_ERROR(Fill(input_.size() + 1, deadline));
  }
  const std::string line = input_.substr(0, input_.find("\r\n"));
  input_.erase(0, line.size() + 2);
  if (!absl::StartsWith(line, "OK ")) return absl::PermissionDeniedError(absl::StrCat("D-Bus: AUTH: ", line));
  return Send("BEGIN\r\n");
}

absl::Status Connection::Send(absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::UnavailableError(absl::StrCat("D-Bus: ", ErrnoText(errno)));
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status Connection::Fill(size_t length, int64_t deadline_ns) {
  while (input_.size() < length) {
    const int64_t left_ms = (deadline_ns - base::MonotonicNs()) / 1'000'000;
    pollfd p{.fd = socket_.get(), .events = POLLIN};
    if (left_ms <= 0 || poll(&p, 1, static_cast<int>(left_ms)) == 0)
      return absl::DeadlineExceededError(absl::StrCat("D-Bus: no answer within ", timeout_ms_ / 1000, " s"));
    char buffer[4096];
    const ssize_t n = recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return absl::UnavailableError(absl::StrCat("D-Bus: ", n < 0 ? ErrnoText(errno) : "the peer hung up"));
    input_.append(buffer, static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::StatusOr<Message> Connection::Receive(int64_t deadline_ns) {
  RETURN_IF_ERROR(Fill(kFixedHeader, deadline_ns));
  Reader r(input_);
  const uint8_t order = r.Byte();
  Message m;
  m.type = static_cast<Message::Type>(r.Byte());
  r.Byte();
  r.Byte();
  const uint32_t body = r.U32();
  m.serial = r.U32();
  const uint32_t fields = r.U32();
  if (order != 'l' || body > kMaxMessage || fields > kMaxMessage)
    return absl::DataLossError("D-Bus: malformed message");
  const size_t body_at = (kFixedHeader + fields + 7) / 8 * 8;
  RETURN_IF_ERROR(Fill(body_at + body, deadline_ns));
  const bool parsed = ParseFields(absl::string_view(input_).substr(kFixedHeader, fields), &m);
  m.body = input_.substr(body_at, body);
  input_.erase(0, body_at + body);
  if (!parsed) return absl::DataLossError("D-Bus: malformed message");
  return m;
}

absl::StatusOr<Message> Connection::Call(const Message& call) {
  const uint32_t serial = next_serial_++;
  RETURN_IF_ERROR(Send(HeaderOf(call, serial) + call.body));
  const int64_t deadline = base::MonotonicNs() + int64_t{timeout_ms_} * 1'000'000;
  for (;;) {
    Message m = VALUE_OR_RETURN(Receive(deadline));
    if (m.type == Message::kSignal && signals_.size() < kMaxSignals) signals_.push_back(std::move(m));
    if (m.reply_serial != serial) continue;
    if (m.type == Message::kReturn) return m;
    if (m.type != Message::kError) continue;
    const std::string words = absl::StartsWith(m.signature, "s") ? Reader(m.body).String() : "";
    return absl::AbortedError(absl::StrCat(m.error_name, words.empty() ? "" : ": ", words));
  }
}

absl::StatusOr<Message> Connection::NextSignal() {
  if (!signals_.empty()) {
    Message m = std::move(signals_.front());
    signals_.pop_front();
    return m;
  }
  const int64_t deadline = base::MonotonicNs() + int64_t{timeout_ms_} * 1'000'000;
  for (;;) {
    Message m = VALUE_OR_RETURN(Receive(deadline));
    if (m.type == Message::kSignal) return m;
  }
}

}  // namespace runsc::dbus
