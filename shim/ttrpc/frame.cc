// SPDX-License-Identifier: Apache-2.0
#include "shim/ttrpc/frame.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace shim::ttrpc {
namespace {

void PutBig32(char* out, uint32_t value) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(value >> (24 - 8 * i));
}

uint32_t GetBig32(const char* in) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(in[i]);
  return value;
}

// False at the end of the stream, with what came before it in `*done`.
absl::Status ReadAll(int fd, char* out, size_t length, size_t* done) {
  for (*done = 0; *done < length;) {
    ssize_t n = recv(fd, out + *done, length - *done, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::UnavailableError(absl::StrCat("ttrpc: reading: ", strerror(errno)));
    if (n == 0) return absl::OkStatus();
    *done += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace

std::string Encode(const Frame& frame) {
  std::string bytes(kHeaderSize, 0);
  PutBig32(bytes.data(), static_cast<uint32_t>(frame.payload.size()));
  PutBig32(bytes.data() + 4, frame.stream);
  bytes[8] = static_cast<char>(frame.type);
  bytes[9] = static_cast<char>(frame.flags);
  return bytes + frame.payload;
}

absl::Status Read(int fd, Frame* frame) {
  char header[kHeaderSize];
  size_t done;
  if (auto status = ReadAll(fd, header, sizeof header, &done); !status.ok()) return status;
  if (done == 0) return absl::UnavailableError("ttrpc: the peer closed the connection");
  if (done < sizeof header) return absl::DataLossError("ttrpc: the connection ended within a header");
  const uint32_t length = GetBig32(header);
  frame->stream = GetBig32(header + 4);
  frame->type = static_cast<FrameType>(header[8]);
  frame->flags = static_cast<uint8_t>(header[9]);
  frame->payload.clear();
  const bool too_long = length > kMaxPayload;
  // In pieces: the length is the peer's word.
  constexpr size_t kPiece = 64 << 10;
  char piece[4096];
  for (size_t left = length; left > 0;) {
    size_t want = std::min(left, too_long ? sizeof piece : kPiece);
    char* to = piece;
    if (!too_long) {
      frame->payload.resize(frame->payload.size() + want);
      to = frame->payload.data() + frame->payload.size() - want;
    }
    if (auto status = ReadAll(fd, to, want, &done); !status.ok()) return status;
    if (done < want) return absl::DataLossError("ttrpc: the connection ended within a message");
    left -= want;
  }
  if (too_long) {
    return absl::ResourceExhaustedError(absl::StrCat("ttrpc: a message of ", length, " bytes; at most ", kMaxPayload));
  }
  return absl::OkStatus();
}

absl::Status Write(int fd, const Frame& frame) {
  if (frame.payload.size() > kMaxPayload) {
    return absl::ResourceExhaustedError(absl::StrCat("ttrpc: a message of ", frame.payload.size(), " bytes"));
  }
  const std::string bytes = Encode(frame);
  for (size_t done = 0; done < bytes.size();) {
    ssize_t n = send(fd, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::UnavailableError(absl::StrCat("ttrpc: writing: ", strerror(errno)));
    done += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace shim::ttrpc
