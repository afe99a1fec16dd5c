// SPDX-License-Identifier: Apache-2.0
// As much of D-Bus (D-Bus Specification 0.38) as asking systemd needs: method calls over an AF_UNIX stream, answers and
// signals. The peer is a service of the host, but what it sends is checked all the same. One thread.
#ifndef RUNSC_CGROUP_DBUS_H_
#define RUNSC_CGROUP_DBUS_H_

#include <cstdint>
#include <deque>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace runsc::dbus {

// Appends values in the wire's form, little-endian; alignment counts from the start, which is a multiple of 8 in a
// message.
class Writer {
 public:
  void Byte(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
  void U32(uint32_t value) { Number(value, 4); }
  void U64(uint64_t value) { Number(value, 8); }
  void Bool(bool value) { U32(value); }
  void String(absl::string_view text);  // also an object path
  void Signature(absl::string_view text);
  void Align(size_t to) { bytes_.resize((bytes_.size() + to - 1) / to * to); }
  // An array whose elements align to `alignment`: what is written between the two calls.
  size_t BeginArray(size_t alignment);
  void EndArray(size_t begin, size_t alignment);
  const std::string& bytes() const { return bytes_; }

 private:
  void Number(uint64_t value, size_t size);
  std::string bytes_;
};

// Takes values apart. Past the end, or with anything malformed, ok() is false from then on and values are empty.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : bytes_(bytes) {}
  uint8_t Byte();
  uint32_t U32();
  std::string String();
  std::string Signature();
  void Align(size_t to);
  size_t position() const { return at_; }
  bool ok() const { return ok_; }

 private:
  absl::string_view Take(size_t length);
  absl::string_view bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

struct Message {
  enum Type : uint8_t { kCall = 1, kReturn = 2, kError = 3, kSignal = 4 };
  Type type = kCall;
  uint32_t serial = 0, reply_serial = 0;
  std::string path, interface, member, error_name, destination, signature, body;
};

class Connection {
 public:
  // `address`: "unix:path=…" (or unix:abstract=); several are tried in order when ";" is between them. `is_bus`: a bus,
  // to say hello to, not a service itself. Each step may take `timeout_ms`.
  static absl::StatusOr<Connection> Open(const std::string& address, bool is_bus, int timeout_ms);
  // The answer. An error of the service is kAborted with its name and words; kDeadlineExceeded; kUnavailable when it
  // hangs up. Signals that come meanwhile are kept for NextSignal.
  absl::StatusOr<Message> Call(const Message& call);
  absl::StatusOr<Message> NextSignal();

 private:
  Connection(base::UniqueFd socket, int timeout_ms) : socket_(std::move(socket)), timeout_ms_(timeout_ms) {}
  absl::Status Authenticate();
  absl::Status Send(absl::string_view bytes);
  // Into input_ until it has that many bytes.
  absl::Status Fill(size_t length, int64_t deadline_ns);
  absl::StatusOr<Message> Receive(int64_t deadline_ns);

  base::UniqueFd socket_;
  int timeout_ms_;
  uint32_t next_serial_ = 1;
  std::string input_;
  std::deque<Message> signals_;
};

}  // namespace runsc::dbus

#endif  // RUNSC_CGROUP_DBUS_H_
