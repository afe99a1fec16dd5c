// SPDX-License-Identifier: Apache-2.0
// PACKET_RX_RING (packet(7), Documentation/networking/packet_mmap.rst): frames in memory that the guest maps.
// TPACKET_V2, a frame per slot; TPACKET_V3, blocks of frames that are handed over when they are full or their time is
// up. The guest may write anything into it at any time: of what is in it only the status words are read, which say
// whose a slot is.
#ifndef SENTRY_SOCKET_PACKET_RX_RING_H_
#define SENTRY_SOCKET_PACKET_RX_RING_H_

#include <linux/if_packet.h>

#include "sentry/socket/environment.h"
#include "sentry/socket/packet/endpoint.h"

namespace sentry::socket {

// Thread safety: under the endpoint's lock.
class RxRing final : public FrameRing {
 public:
  // `reserve`: bytes left free in front of each frame. EINVAL, ENOMEM (also: larger than kMaxSize).
  static constexpr uint64_t kMaxSize = 64 << 20;
  static Result<RefPtr<RxRing>> Create(int version, const tpacket_req3& request, uint32_t reserve, bool cooked);

  bool Put(const CapturedFrame& frame, int64_t now_ns, bool* ready, int64_t* retire_ns) override;
  bool Retire(int64_t now_ns, int64_t* retire_ns) override;
  bool HasFrames() const override;
  const RefPtr<SharedPages>& memory() const { return memory_; }

 private:
  RxRing(int version, const tpacket_req3& request, uint32_t reserve, bool cooked, RefPtr<SharedPages> memory);
  // Where a frame's parts lie in a slot.
  struct Layout {
    uint32_t mac, net, kept;
  };
  Layout LayOut(const CapturedFrame& frame, uint32_t room) const;
  // The bytes and the address; the header is the caller's.
  void PutFrame(uint64_t at, const CapturedFrame& frame, const Layout& layout, size_t header);
  bool PutV2(const CapturedFrame& frame);
  bool PutV3(const CapturedFrame& frame, int64_t now_ns, bool* ready, int64_t* retire_ns);
  uint64_t SlotAt(uint32_t index) const;
  uint64_t BlockAt(uint32_t index) const { return uint64_t{index} * request_.tp_block_size; }
  bool OpenBlock(int64_t now_ns);
  void CloseBlock(uint32_t why);

  const int version_;
  const tpacket_req3 request_;
  const uint32_t reserve_, slots_per_block_, first_in_block_;
  const bool cooked_;
  const RefPtr<SharedPages> memory_;
  std::vector<uint8_t> bytes_;  // of the frame that is put
  uint32_t next_ = 0;           // slot, or block
  // Of the open block.
  bool open_ = false;
  uint32_t count_ = 0, used_ = 0, last_ = 0;
  uint64_t sequence_ = 0;
  int64_t opened_ns_ = 0, last_realtime_ns_ = 0;
};

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_PACKET_RX_RING_H_
