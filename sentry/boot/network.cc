// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/network.h"

#include <linux/if_arp.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runsc/errors.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/net/packet_device.h"
#include "sentry/socket/inet/resolver_relay.h"
#include "sentry/socket/inet/stacks.h"

namespace sentry {
namespace {

using net::IpAddress;

// 4 or 16 bytes, as the control protocol has checked.
IpAddress AddressOf(const std::string& bytes) {
  return bytes.size() == 4 ? IpAddress::V4Bytes(bytes.data()) : IpAddress::V6Bytes(bytes.data());
}

net::Interface InterfaceOf(const runsc::control::NetworkInterface& from) {
  net::Interface interface;
  interface.index = from.index;
  interface.name = from.name;
  interface.flags = (from.flags & (IFF_BROADCAST | IFF_MULTICAST | IFF_NOARP)) | IFF_UP | IFF_RUNNING | IFF_LOWER_UP;
  interface.mtu = from.mtu;
  interface.type = ARPHRD_ETHER;
  interface.tx_queue_length = from.tx_queue_length;
  interface.hardware_address = from.hardware_address;
  return interface;
}

net::Route RouteOf(const runsc::control::NetworkRoute& from) {
  net::Route route;
  route.destination = AddressOf(from.destination);
  route.prefix = static_cast<int>(from.prefix);
  route.interface = from.interface;
  route.metric = from.metric;
  route.scope = static_cast<uint8_t>(from.scope);
  route.type = static_cast<uint8_t>(from.type);
  route.protocol = static_cast<uint8_t>(from.protocol);
  route.mtu = from.mtu;
  if ((route.has_gateway = !from.gateway.empty())) route.gateway = AddressOf(from.gateway);
  if ((route.has_source = !from.source.empty())) route.source = AddressOf(from.source);
  return route;
}

absl::Status Failed(const std::string& what, Errno error) {
  return absl::InternalError(absl::StrCat("network: ", what, ": ", runsc::ErrnoText(error.number())));
}

}  // namespace

absl::Status SetUpNetwork(runsc::control::NetworkConfig config) {
  const RefPtr<kernel::NetNamespace> first = kernel::Kernel::Get().NewNamespaces(nullptr)->net;
  RefPtr<net::Stack> stack = socket::StackOf(first->inode_number(), first->is_first());
  struct Device {
    RefPtr<net::PacketDevice> device;
    RefPtr<net::EthernetLink> link;
  };
  std::vector<Device> devices;
  std::string failed_at;
  auto changed = stack->Change([&](net::Config& stack_config) -> Result<void> {
    for (auto& from : config.interfaces) {
      failed_at = from.name;
      if (stack_config.Find(from.index) || stack_config.Find(from.name)) return Errno(EEXIST);
      Device d;
      d.device = MakeRef<net::PacketDevice>(std::move(from.socket));
      d.link = MakeRef<net::EthernetLink>(*stack, d.device, from.hardware_address);
      d.link->set_interface(from.index);
      net::Interface interface = InterfaceOf(from);
      interface.link = d.link;
      stack_config.interfaces.push_back(std::move(interface));
      devices.push_back(std::move(d));
      for (const auto& a : from.addresses) {
        net::InterfaceAddress address = {.ip = AddressOf(a.ip),
                                         .prefix = static_cast<int>(a.prefix),
                                         .scope = static_cast<uint8_t>(a.scope),
                                         .flags = a.flags,
                                         .label = a.label};
        if (!a.broadcast.empty()) address.broadcast = AddressOf(a.broadcast);
        TRY(stack_config.AddAddress(from.index, address));
      }
    }
    for (const auto& from : config.routes) {
      const net::Route route = RouteOf(from);
      failed_at = absl::StrCat("route to ", route.destination.ToString(), "/", route.prefix);
      // What the addresses imply is there.
      auto added = stack_config.AddRoute(route, false, false);
      if (!added.ok() && added.error() != Errno(EEXIST)) return added.error();
    }
    return OkResult();
  });
  if (!changed.ok()) return Failed(failed_at, changed.error());
  for (const auto& n : config.permanent) {
    for (const Device& d : devices) {
      const net::Interface* interface = stack->config()->Find(n.interface);
      if (interface && interface->link.get() == d.link.get()) d.link->AddPermanent(AddressOf(n.ip), n.hardware_address);
    }
  }
  if (config.resolver.ok()) socket::StartResolverRelay(stack, std::move(config.resolver));
  for (Device& d : devices) net::PacketDevice::Start(std::move(d.device), std::move(d.link), stack);
  return absl::OkStatus();
}

}  // namespace sentry
