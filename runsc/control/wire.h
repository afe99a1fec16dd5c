// SPDX-License-Identifier: Apache-2.0
// Framing of the control protocol over an AF_UNIX stream socket: u32 length, payload, descriptors by SCM_RIGHTS on the
// first byte of the frame. Both ends treat the other as able to send anything.
#ifndef RUNSC_CONTROL_WIRE_H_
#define RUNSC_CONTROL_WIRE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/unique_fd.h"

namespace runsc::control {

// A frame's payload; enough for an exec with Linux's largest argument area (6 MiB) and its environment.
inline constexpr uint32_t kMaxFrame = 16u << 20;
inline constexpr size_t kMaxFrameFds = 253;  // what one message carries (unix(7), SCM_RIGHTS)

struct Frame {
  std::string payload;
  std::vector<base::UniqueFd> fds;
};

// Blocks until sent, at most `timeout_ms` without progress (-1 = for ever). Needs no lock by itself: callers serialise
// the frames of one socket. kUnavailable when the peer is gone.
absl::Status SendFrame(int socket, const std::string& payload, const std::vector<int>& fds, int timeout_ms);

// Reads one frame. The first byte may take for ever when `timeout_ms` is -1; the rest of a frame must come within 10 s.
// kUnavailable = the peer closed between frames; kDeadlineExceeded; kDataLoss = the framing is broken.
// `cancel_fd` (or -1): readable = give up with kCancelled.
absl::Status ReceiveFrame(int socket, Frame* frame, int timeout_ms, int cancel_fd = -1);

}  // namespace runsc::control

#endif  // RUNSC_CONTROL_WIRE_H_
