// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/filter.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/random.h>

#include "sentry/net/stack.h"

namespace sentry::net {
namespace {

// Words about the packet that are not in its bytes (linux/filter.h). Those of hardware this stack doesn't have are 0.
bool LoadAncillary(const Packet& packet, const FrameInfo* frame, uint32_t index, uint32_t* value) {
  if (frame) {
    switch (index) {
      case SKF_AD_PROTOCOL:
        *value = frame->protocol;
        return true;
      case SKF_AD_PKTTYPE:
        *value = frame->type;
        return true;
      case SKF_AD_IFINDEX:
        *value = frame->interface;
        return true;
      case SKF_AD_HATYPE:
        *value = frame->hardware_type;
        return true;
    }
  }
  switch (index) {
    case SKF_AD_PROTOCOL:
      *value = packet.is_v4 ? ETH_P_IP : ETH_P_IPV6;
      return true;
    case SKF_AD_PKTTYPE:
      *value = !packet.broadcast ? PACKET_HOST : packet.destination.IsMulticast() ? PACKET_MULTICAST : PACKET_BROADCAST;
      return true;
    case SKF_AD_IFINDEX:
      *value = packet.interface;
      return true;
    case SKF_AD_RANDOM:
      return getrandom(value, sizeof *value, 0) == sizeof *value;
    case SKF_AD_MARK:
    case SKF_AD_QUEUE:
    case SKF_AD_RXHASH:
    case SKF_AD_CPU:
    case SKF_AD_VLAN_TAG:
    case SKF_AD_VLAN_TAG_PRESENT:
    case SKF_AD_VLAN_TPID:
      *value = 0;
      return true;
    default:
      return false;
  }
}

// `size` bytes from `from` on, counted in `packet.head`, whose bytes end at view.rest_at.
bool LoadBytes(const Filter::View& view, size_t from, unsigned size, uint32_t* value) {
  if (from + size > view.rest_at + view.rest.size()) return false;
  uint8_t bytes[4];
  for (unsigned i = 0; i < size; ++i) {
    if (from + i < view.rest_at)
      bytes[i] = view.packet.head[from + i];
    else
      view.rest.CopyTo(from + i - view.rest_at, &bytes[i], 1);
  }
  *value = 0;
  for (unsigned i = 0; i < size; ++i) *value = *value << 8 | bytes[i];
  return true;
}

}  // namespace

Result<RefPtr<Filter>> Filter::Create(std::vector<bpf::Instruction> program) {
  TRY(bpf::Check(program));
  return RefPtr<Filter>(new Filter(std::move(program)));
}

uint32_t Filter::Run(const View& view) const {
  const auto length = static_cast<uint32_t>(view.rest_at - view.first + view.rest.size());
  return bpf::Run(program_, length, [&](uint32_t offset, unsigned size, uint32_t* value) {
    if (offset <= INT32_MAX) return LoadBytes(view, view.first + offset, size, value);
    if (offset >= uint32_t(SKF_AD_OFF))
      return LoadAncillary(view.packet, view.frame, offset - uint32_t(SKF_AD_OFF), value);
    if (view.frame) {
      // The Ethernet header begins in front of what a cooked socket sees, the network's follows it.
      const size_t link = view.packet.begin;
      if (offset >= uint32_t(SKF_LL_OFF) && offset < uint32_t(SKF_NET_OFF)) return false;
      if (offset >= uint32_t(SKF_NET_OFF))
        return LoadBytes(view, link + 14 + size_t{offset - uint32_t(SKF_NET_OFF)}, size, value);
      return false;
    }
    // There is no link layer header in front of what an endpoint gets.
    if (offset < uint32_t(SKF_NET_OFF) || view.packet.network_begin > view.rest_at) return false;
    return LoadBytes(view, view.packet.network_begin + size_t{offset - uint32_t(SKF_NET_OFF)}, size, value);
  });
}

}  // namespace sentry::net
