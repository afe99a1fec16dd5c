// SPDX-License-Identifier: Apache-2.0
// ttrpc's framing: a 10-byte header (big-endian u32 length, u32 stream, u8 type, u8 flags) and `length` bytes, over a
// stream socket. Unary calls only: one request and one response per stream; a client's streams have odd numbers.
// Nothing here trusts the peer; nothing is thread-safe but what says so.
#ifndef SHIM_TTRPC_FRAME_H_
#define SHIM_TTRPC_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace shim::ttrpc {

inline constexpr size_t kHeaderSize = 10;
// What ttrpc's peers accept at most.
inline constexpr uint32_t kMaxPayload = 4u << 20;

enum class FrameType : uint8_t { kRequest = 1, kResponse = 2, kData = 3 };

struct Frame {
  uint32_t stream = 0;
  FrameType type = FrameType::kRequest;
  uint8_t flags = 0;
  std::string payload;
};

// The bytes of a frame. The payload must not be longer than kMaxPayload.
std::string Encode(const Frame& frame);

// Waits for the next frame. kUnavailable at the end of the stream between frames; kDataLoss when it ends in a frame;
// kResourceExhausted for one that is too long, whose bytes are then read and dropped: `frame` names its stream, and the
// connection goes on.
absl::Status Read(int fd, Frame* frame);
// All of it, or an error. Blocks while the peer does not read.
absl::Status Write(int fd, const Frame& frame);

}  // namespace shim::ttrpc

#endif  // SHIM_TTRPC_FRAME_H_
