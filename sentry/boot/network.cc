// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/network.h"

#include <linux/if_arp.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runsc/errors.h"
#include "runsc/sandbox/rtnetlink.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/net/packet_device.h"
#include "sentry/socket/host/host_socket.h"
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

net::InterfaceAddress AddressOf(const runsc::control::NetworkAddress& from) {
  net::InterfaceAddress address = {.ip = AddressOf(from.ip),
                                   .prefix = static_cast<int>(from.prefix),
                                   .scope = static_cast<uint8_t>(from.scope),
                                   .flags = from.flags,
                                   .label = from.label};
  if (!from.broadcast.empty()) address.broadcast = AddressOf(from.broadcast);
  return address;
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

RefPtr<net::Stack> FirstStack() {
  const RefPtr<kernel::NetNamespace> first = kernel::Kernel::Get().NewNamespaces(nullptr)->net;
  return socket::StackOf(first->inode_number(), first->is_first());
}

// Of an interface that is only shown: packets go through the host's sockets.
class OutsideLink final : public net::Link {
 public:
  void Transmit(net::PacketPtr, const IpAddress&) override { net::Count(statistics_.tx_dropped); }
};

absl::Status Failed(const std::string& what, Errno error) {
  return absl::InternalError(absl::StrCat("network: ", what, ": ", runsc::ErrnoText(error.number())));
}

}  // namespace

absl::Status SetUpNetwork(runsc::control::NetworkConfig config) {
  RefPtr<net::Stack> stack = FirstStack();
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
        TRY(stack_config.AddAddress(from.index, AddressOf(a)));
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

absl::StatusOr<runsc::control::NetworkConfig> ReadHostNetwork() {
  runsc::Rtnetlink rtnetlink;
  RETURN_IF_ERROR(rtnetlink.Open());
  runsc::control::NetworkConfig config;
  RETURN_IF_ERROR(runsc::ReadNetwork(rtnetlink, runsc::Interfaces::kAll, &config));
  return config;
}

absl::Status UseHostNetwork(const runsc::control::NetworkConfig& config) {
  RefPtr<net::Stack> stack = FirstStack();
  std::string failed_at;
  auto changed = stack->Change([&](net::Config& stack_config) -> Result<void> {
    for (const auto& from : config.interfaces) {
      // The own loopback stands for the host's.
      if (from.flags & IFF_LOOPBACK) continue;
      failed_at = from.name;
      net::Interface interface = InterfaceOf(from);
      interface.flags = from.flags;
      interface.type = from.type;
      interface.link = MakeRef<OutsideLink>();
      stack_config.interfaces.push_back(std::move(interface));
      for (const auto& a : from.addresses) {
        if (a.ip.size() == 4 || a.ip.size() == 16) TRY(stack_config.AddAddress(from.index, AddressOf(a)));
      }
    }
    for (const auto& from : config.routes) {
      auto added = stack_config.AddRoute(RouteOf(from), false, false);
      if (!added.ok() && added.error() != Errno(EEXIST)) return added.error();
    }
    return OkResult();
  });
  if (!changed.ok()) return Failed(failed_at, changed.error());
  stack->Freeze();
  socket::UseHostSockets();
  return absl::OkStatus();
}

}  // namespace sentry
