// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/packet/rx_ring.h"

#include <string.h>

#include <algorithm>

#include "sentry/socket/environment.h"
#include "sentry/socket/packet/address.h"

namespace sentry::socket {
namespace {

constexpr uint32_t kEthernetHeader = PacketEndpoint::kEthernetHeader;
constexpr uint32_t kLeastMac = 16;  // room that Linux leaves for a link's header
constexpr uint32_t kAlignment = 8;  // of blocks' parts (V3_ALIGNMENT)

uint32_t Align(uint32_t n, uint32_t to) { return (n + to - 1) / to * to; }

constexpr uint32_t HeaderSize(int version) { return version == TPACKET_V2 ? TPACKET2_HDRLEN : TPACKET3_HDRLEN; }
constexpr uint32_t kBlockHeader = sizeof(tpacket_block_desc);
static_assert(kBlockHeader % kAlignment == 0);
constexpr uint64_t kBlockStatus = offsetof(tpacket_block_desc, hdr.bh1.block_status);

uint32_t StatusOf(const CapturedFrame& frame, bool cut) {
  return TP_STATUS_USER | (frame.checksum_missing ? TP_STATUS_CSUMNOTREADY : 0) | (cut ? TP_STATUS_COPY : 0);
}

uint32_t Seconds(int64_t ns) { return static_cast<uint32_t>(ns / base::kNsPerSecond); }
uint32_t Nanoseconds(int64_t ns) { return static_cast<uint32_t>(ns % base::kNsPerSecond); }

}  // namespace

Result<RefPtr<RxRing>> RxRing::Create(int version, const tpacket_req3& r, uint32_t reserve, bool cooked) {
  if (version != TPACKET_V2 && version != TPACKET_V3) return Errno(EINVAL);
  if (r.tp_block_size == 0 || r.tp_block_size % kPageSize != 0 || r.tp_block_nr == 0) return Errno(EINVAL);
  if (reserve > INT32_MAX / 2 || r.tp_frame_size < HeaderSize(version) + reserve || r.tp_frame_size % TPACKET_ALIGNMENT)
    return Errno(EINVAL);
  if (r.tp_frame_size > r.tp_block_size) return Errno(EINVAL);
  if (uint64_t{r.tp_block_size / r.tp_frame_size} * r.tp_block_nr != r.tp_frame_nr) return Errno(EINVAL);
  if (version == TPACKET_V3) {
    if (r.tp_sizeof_priv >= r.tp_block_size) return Errno(EINVAL);
    const uint64_t first = uint64_t{kBlockHeader} + Align(r.tp_sizeof_priv, kAlignment);
    if (first + HeaderSize(version) + kLeastMac + reserve + TPACKET_ALIGNMENT > r.tp_block_size) return Errno(EINVAL);
  }
  const uint64_t size = uint64_t{r.tp_block_size} * r.tp_block_nr;
  if (size > kMaxSize) return Errno(ENOMEM);
  const auto new_pages = GetEnvironment().new_shared_pages;
  if (!new_pages) return Errno(ENOMEM);
  auto memory = TRY(new_pages(size));
  return RefPtr<RxRing>(new RxRing(version, r, reserve, cooked, std::move(memory)));
}

RxRing::RxRing(int version, const tpacket_req3& request, uint32_t reserve, bool cooked, RefPtr<SharedPages> memory)
    : version_(version),
      request_(request),
      reserve_(reserve),
      slots_per_block_(request.tp_block_size / request.tp_frame_size),
      first_in_block_(kBlockHeader + Align(request.tp_sizeof_priv, kAlignment)),
      cooked_(cooked),
      memory_(std::move(memory)) {}

uint64_t RxRing::SlotAt(uint32_t index) const {
  return BlockAt(index / slots_per_block_) + uint64_t{index % slots_per_block_} * request_.tp_frame_size;
}

RxRing::Layout RxRing::LayOut(const CapturedFrame& frame, uint32_t room) const {
  Layout layout;
  if (cooked_) {
    layout.net = layout.mac = TPACKET_ALIGN(HeaderSize(version_)) + kLeastMac + reserve_;
  } else {
    layout.net = TPACKET_ALIGN(HeaderSize(version_) + kLeastMac) + reserve_;
    layout.mac = layout.net - kEthernetHeader;
  }
  layout.kept = std::min(frame.kept, layout.mac < room ? room - layout.mac : 0);
  return layout;
}

void RxRing::PutFrame(uint64_t at, const CapturedFrame& frame, const Layout& layout, size_t header) {
  const sockaddr_ll address = PacketAddressOf(frame);
  memory_->Write(at + TPACKET_ALIGN(header), &address, sizeof address);
  const size_t skipped = cooked_ ? kEthernetHeader : 0;
  bytes_.resize(skipped + layout.kept);
  frame.packet->CopyTo(bytes_.data(), bytes_.size());
  memory_->Write(at + layout.mac, bytes_.data() + skipped, layout.kept);
}

bool RxRing::Put(const CapturedFrame& frame, int64_t now_ns, bool* ready, int64_t* retire_ns) {
  return version_ == TPACKET_V2 ? PutV2(frame) : PutV3(frame, now_ns, ready, retire_ns);
}

bool RxRing::PutV2(const CapturedFrame& frame) {
  const uint64_t at = SlotAt(next_);
  if (memory_->Load(at) != TP_STATUS_KERNEL) return false;
  const Layout layout = LayOut(frame, request_.tp_frame_size);
  tpacket2_hdr header = {};
  header.tp_len = static_cast<uint32_t>(frame.packet->size()) - (cooked_ ? kEthernetHeader : 0);
  header.tp_snaplen = layout.kept;
  header.tp_mac = static_cast<uint16_t>(layout.mac);
  header.tp_net = static_cast<uint16_t>(layout.net);
  header.tp_sec = Seconds(frame.realtime_ns);
  header.tp_nsec = Nanoseconds(frame.realtime_ns);
  PutFrame(at, frame, layout, sizeof header);
  memory_->Write(at + sizeof header.tp_status, &header.tp_len, sizeof header - sizeof header.tp_status);
  memory_->Store(at, StatusOf(frame, false));
  next_ = (next_ + 1) % request_.tp_frame_nr;
  return true;
}

bool RxRing::OpenBlock(int64_t now_ns) {
  if (memory_->Load(BlockAt(next_) + kBlockStatus) != TP_STATUS_KERNEL) return false;
  open_ = true;
  count_ = last_ = 0;
  used_ = first_in_block_;
  opened_ns_ = now_ns;
  ++sequence_;
  return true;
}

void RxRing::CloseBlock(uint32_t why) {
  const uint64_t at = BlockAt(next_);
  // The last one's link leads nowhere.
  const uint32_t end = 0;
  memory_->Write(at + last_ + offsetof(tpacket3_hdr, tp_next_offset), &end, sizeof end);
  tpacket_block_desc block = {};
  block.version = TPACKET_V3;
  block.offset_to_priv = kBlockHeader;
  block.hdr.bh1.num_pkts = count_;
  block.hdr.bh1.offset_to_first_pkt = first_in_block_;
  block.hdr.bh1.blk_len = used_;
  block.hdr.bh1.seq_num = sequence_;
  tpacket3_hdr first = {};
  memory_->Read(at + first_in_block_, &first, sizeof first);
  block.hdr.bh1.ts_first_pkt.ts_sec = first.tp_sec;
  block.hdr.bh1.ts_first_pkt.ts_nsec = first.tp_nsec;
  block.hdr.bh1.ts_last_pkt.ts_sec = Seconds(last_realtime_ns_);
  block.hdr.bh1.ts_last_pkt.ts_nsec = Nanoseconds(last_realtime_ns_);
  memory_->Write(at, &block, kBlockStatus);
  constexpr uint64_t kRest = kBlockStatus + sizeof(uint32_t);
  memory_->Write(at + kRest, reinterpret_cast<const uint8_t*>(&block) + kRest, sizeof block - kRest);
  memory_->Store(at + kBlockStatus, TP_STATUS_USER | why);
  open_ = false;
  next_ = (next_ + 1) % request_.tp_block_nr;
}

bool RxRing::PutV3(const CapturedFrame& frame, int64_t now_ns, bool* ready, int64_t* retire_ns) {
  *ready = false;
  if (!open_ && !OpenBlock(now_ns)) return false;
  Layout layout = LayOut(frame, request_.tp_block_size - first_in_block_);
  uint32_t size = Align(layout.mac + layout.kept, kAlignment);
  if (size > request_.tp_block_size - used_) {
    if (count_) {
      CloseBlock(0);
      *ready = true;
      if (!OpenBlock(now_ns)) return false;
    }
    // One that does not even fit alone is cut.
    layout = LayOut(frame, request_.tp_block_size - used_ - kAlignment);
    size = Align(layout.mac + layout.kept, kAlignment);
  }
  const uint64_t at = BlockAt(next_) + used_;
  tpacket3_hdr header = {};
  header.tp_next_offset = size;
  header.tp_sec = Seconds(frame.realtime_ns);
  header.tp_nsec = Nanoseconds(frame.realtime_ns);
  header.tp_snaplen = layout.kept;
  header.tp_len = static_cast<uint32_t>(frame.packet->size()) - (cooked_ ? kEthernetHeader : 0);
  header.tp_status = StatusOf(frame, false);
  header.tp_mac = static_cast<uint16_t>(layout.mac);
  header.tp_net = static_cast<uint16_t>(layout.net);
  PutFrame(at, frame, layout, sizeof header);
  memory_->Write(at, &header, sizeof header);
  last_ = used_;
  used_ += size;
  last_realtime_ns_ = frame.realtime_ns;
  if (count_++ == 0) {
    // Linux guesses from the link's speed when no time is given.
    constexpr uint32_t kDefaultMs = 8;
    opened_ns_ = now_ns;
    *retire_ns = now_ns + int64_t{request_.tp_retire_blk_tov ? request_.tp_retire_blk_tov : kDefaultMs} * net::kNsPerMs;
  }
  return true;
}

bool RxRing::Retire(int64_t now_ns, int64_t* retire_ns) {
  if (version_ != TPACKET_V3 || !open_ || count_ == 0) return false;
  const int64_t time = int64_t{request_.tp_retire_blk_tov ? request_.tp_retire_blk_tov : 8} * net::kNsPerMs;
  if (now_ns < opened_ns_ + time) {
    *retire_ns = opened_ns_ + time;
    return false;
  }
  CloseBlock(TP_STATUS_BLK_TMO);
  return true;
}

bool RxRing::HasFrames() const {
  if (version_ == TPACKET_V2) {
    const uint32_t before = (next_ + request_.tp_frame_nr - 1) % request_.tp_frame_nr;
    return memory_->Load(SlotAt(before)) != TP_STATUS_KERNEL;
  }
  const uint32_t before = (next_ + request_.tp_block_nr - 1) % request_.tp_block_nr;
  return memory_->Load(BlockAt(before) + kBlockStatus) != TP_STATUS_KERNEL;
}

}  // namespace sentry::socket
