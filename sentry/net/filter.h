// SPDX-License-Identifier: Apache-2.0
// A socket filter (SO_ATTACH_FILTER): a classic BPF program that says how much of each message an endpoint keeps.
// Immutable, thread-safe.
#ifndef SENTRY_NET_FILTER_H_
#define SENTRY_NET_FILTER_H_

#include <span>
#include <vector>

#include "sentry/bpf/bpf.h"
#include "sentry/net/packet.h"

namespace sentry::net {

struct FrameInfo;

class Filter : public RefCounted<Filter> {
 public:
  // EINVAL: not a program that Linux takes (bpf::Check).
  static Result<RefPtr<Filter>> Create(std::vector<bpf::Instruction> program);

  // What a program sees. Offset 0 is `packet.head[first]`; from `packet.head[rest_at]` on the bytes are in `rest`.
  // Behind SKF_NET_OFF offset 0 is the network header.
  struct View {
    const Packet& packet;
    size_t first, rest_at;  // first <= rest_at
    const Buffer& rest;
    // Of a whole frame: its own words in place of those of the packet.
    const FrameInfo* frame = nullptr;
  };
  // The bytes to keep, counted from `first`; 0: the message is dropped.
  uint32_t Run(const View& view) const;

 private:
  explicit Filter(std::vector<bpf::Instruction> program) : program_(std::move(program)) {}
  const std::vector<bpf::Instruction> program_;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_FILTER_H_
