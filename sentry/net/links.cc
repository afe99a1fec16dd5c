// SPDX-License-Identifier: Apache-2.0
#include "sentry/net/links.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <string.h>

#include <algorithm>

#include "sentry/net/bridge.h"

namespace sentry::net {
namespace {

constexpr uint32_t kMinMtu = 68, kMaxMtu = 65535, kDefaultMtu = 1500;

// Outside the configurations of the stacks, which are changed under it.
Mutex links_mu{LockRank::kNetPorts};

const char* KindName(VirtualDevice::Kind kind) {
  switch (kind) {
    case VirtualDevice::Kind::kVeth:
      return "veth";
    case VirtualDevice::Kind::kBridge:
      return "bridge";
    case VirtualDevice::Kind::kDummy:
      return "dummy";
  }
  return "";
}

EthernetLink& LinkOf(const Interface& interface) { return static_cast<EthernetLink&>(*interface.link); }

// Of an interface that has a kind.
RefPtr<VirtualDevice> DeviceOf(const Interface& interface) {
  return RefPtr<VirtualDevice>(static_cast<VirtualDevice*>(LinkOf(interface).device().get()));
}

HardwareAddress RandomAddress(Stack& stack) {
  HardwareAddress a;
  const uint64_t random = stack.environment().Random();
  memcpy(a.data(), &random, a.size());
  a[0] = static_cast<uint8_t>((a[0] & 0xfe) | 2);  // locally administered, of one station
  return a;
}

Result<std::string> FreeName(const Config& config, const std::string& wanted) {
  const size_t at = wanted.find("%d");
  if (at == std::string::npos) {
    if (!IsInterfaceName(wanted)) return Errno(EINVAL);
    if (config.Find(wanted)) return Errno(EEXIST);
    return wanted;
  }
  for (size_t i = 0; i <= kMaxLinks; ++i) {
    const std::string name = wanted.substr(0, at) + std::to_string(i) + wanted.substr(at + 2);
    if (!IsInterfaceName(name)) return Errno(EINVAL);
    if (!config.Find(name)) return name;
  }
  return Errno(ENFILE);
}

// The interface of a device in a stack, which is down. With links_mu.
Result<uint32_t> Place(Stack& stack, const RefPtr<VirtualDevice>& device, Interface interface, uint32_t wanted_index,
                       bool must) {
  auto link = MakeRef<EthernetLink>(stack, RefPtr<FrameDevice>(device), interface.hardware_address);
  interface.link = link;
  TRY(stack.Change([&](Config& config) -> Result<void> {
    if (config.interfaces.size() >= kMaxLinks) return Errno(ENOSPC);
    interface.name = TRY(FreeName(config, interface.name));
    uint32_t next = 1;
    for (const Interface& i : config.interfaces) next = std::max(next, i.index + 1);
    const bool taken = wanted_index && config.Find(wanted_index);
    if (taken && must) return Errno(EBUSY);
    interface.index = wanted_index && !taken ? wanted_index : next;
    link->set_interface(interface.index);
    config.interfaces.push_back(interface);
    return OkResult();
  }));
  device->stack = &stack;
  device->index = interface.index;
  device->Attach(std::move(link), stack);
  return interface.index;
}

Result<Interface> Describe(Stack& stack, VirtualDevice::Kind kind, const NewLink& from) {
  Interface interface;
  interface.kind = KindName(kind);
  interface.name = from.name.empty() ? interface.kind + "%d" : from.name;
  interface.flags = IFF_BROADCAST | IFF_MULTICAST;
  if (kind == VirtualDevice::Kind::kDummy) interface.flags = IFF_BROADCAST | IFF_NOARP;
  interface.mtu = from.mtu.value_or(kDefaultMtu);
  if (interface.mtu < kMinMtu || interface.mtu > kMaxMtu) return Errno(EINVAL);
  interface.type = ARPHRD_ETHER;
  interface.tx_queue_length = from.tx_queue_length.value_or(1000);
  interface.hardware_address = from.hardware_address ? *from.hardware_address : RandomAddress(stack);
  if (interface.hardware_address[0] & 1) return Errno(EADDRNOTAVAIL);
  return interface;
}

// With links_mu.
void Take(Stack& stack, uint32_t index) {
  auto config = stack.config();
  const Interface* interface = config->Find(index);
  if (!interface) return;
  RefPtr<VirtualDevice> device = DeviceOf(*interface);
  // Ports of it leave; it leaves the one that it is a port of.
  for (const Interface& i : config->interfaces) {
    if (i.master == index && !i.kind.empty()) (void)DeviceOf(i)->SetBridge(nullptr).ok();
  }
  if (interface->master) (void)device->SetBridge(nullptr).ok();
  device->set_up(false);
  (void)stack.Change([&](Config& c) { return c.RemoveInterface(index); }).ok();
  LinkOf(*interface).Stop();
  device->stack = nullptr;
  device->index = 0;
}

// With links_mu.
Result<void> Join(Stack& stack, uint32_t index, uint32_t bridge) {
  auto config = stack.config();
  const Interface* interface = config->Find(index);
  if (!interface) return Errno(ENODEV);
  if (interface->master == bridge) return OkResult();
  if (interface->kind.empty()) return Errno(EINVAL);
  RefPtr<Bridge> master;
  if (bridge) {
    const Interface* m = config->Find(bridge);
    if (!m) return Errno(ENODEV);
    if (m->kind != "bridge") return Errno(EOPNOTSUPP);
    if (interface->kind == "bridge") return Errno(ELOOP);
    master = RefPtr<Bridge>(static_cast<Bridge*>(DeviceOf(*m).get()));
  }
  TRY(DeviceOf(*interface)->SetBridge(std::move(master)));
  return stack.Change([&](Config& c) -> Result<void> {
    if (Interface* i = c.FindMutable(index)) i->master = bridge;
    return OkResult();
  });
}

// The rest of what was asked of a new interface; it is taken away again if that fails. With links_mu.
Result<void> Finish(Stack& stack, uint32_t index, const NewLink& link) {
  Result<void> done = OkResult();
  if (link.master) done = Join(stack, index, link.master);
  if (done.ok() && link.up) done = stack.Change([&](Config& c) { return c.SetUp(index, true); });
  return done;
}

}  // namespace

bool IsInterfaceName(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ || name == "." || name == "..") return false;
  return std::ranges::none_of(name,
                              [](char c) { return c == '/' || c == ':' || c == ' ' || (c >= '\t' && c <= '\r'); });
}

Result<uint32_t> AddLink(Stack& stack, VirtualDevice::Kind kind, const NewLink& link) {
  MutexLock lock(links_mu);
  Interface interface = TRY(Describe(stack, kind, link));
  RefPtr<VirtualDevice> device;
  if (kind == VirtualDevice::Kind::kBridge) device = MakeRef<Bridge>(interface.hardware_address);
  if (kind == VirtualDevice::Kind::kDummy) device = MakeRef<DummyDevice>();
  if (!device) return Errno(EINVAL);
  const uint32_t index = TRY(Place(stack, device, std::move(interface), link.index, true));
  auto done = Finish(stack, index, link);
  if (!done.ok()) {
    Take(stack, index);
    return done.error();
  }
  return index;
}

Result<uint32_t> AddVeth(Stack& stack, const NewLink& link, Stack& peer_stack, const NewLink& peer) {
  MutexLock lock(links_mu);
  Interface first = TRY(Describe(stack, VirtualDevice::Kind::kVeth, link));
  Interface second = TRY(Describe(peer_stack, VirtualDevice::Kind::kVeth, peer));
  auto [a, b] = VethEnd::NewPair();
  // The peer first, as Linux does, which shows in names and numbers.
  const uint32_t peer_index = TRY(Place(peer_stack, b, std::move(second), peer.index, true));
  auto index = Place(stack, a, std::move(first), link.index, true);
  Result<void> done = index.ok() ? OkResult() : Result<void>(index.error());
  if (done.ok()) {
    a->peer = b.get();
    b->peer = a.get();
    done = Finish(peer_stack, peer_index, peer);
  }
  if (done.ok()) done = Finish(stack, *index, link);
  if (!done.ok()) {
    Take(peer_stack, peer_index);
    if (index.ok()) Take(stack, *index);
    return done.error();
  }
  return *index;
}

namespace {

// With links_mu.
void TakePeer(VirtualDevice& device) {
  RefPtr<VirtualDevice> peer(std::exchange(device.peer, nullptr));
  if (!peer) return;
  peer->peer = nullptr;
  // Its stack is there: a stack that goes takes its interfaces along first (RemoveAllLinks).
  if (peer->stack) Take(*peer->stack, peer->index);
}

void TakeWithPeer(Stack& stack, uint32_t index) {
  auto config = stack.config();
  const Interface* interface = config->Find(index);
  if (!interface || interface->kind.empty()) return;
  RefPtr<VirtualDevice> device = DeviceOf(*interface);
  Take(stack, index);
  TakePeer(*device);
}

}  // namespace

Result<void> RemoveLink(Stack& stack, uint32_t index) {
  MutexLock lock(links_mu);
  auto config = stack.config();
  const Interface* interface = config->Find(index);
  if (!interface) return Errno(ENODEV);
  if (interface->kind.empty()) return Errno(EOPNOTSUPP);
  TakeWithPeer(stack, index);
  return OkResult();
}

Result<uint32_t> MoveLink(Stack& from, uint32_t index, Stack& to, const std::string& name) {
  MutexLock lock(links_mu);
  auto config = from.config();
  const Interface* interface = config->Find(index);
  if (!interface) return Errno(ENODEV);
  if (&from == &to) return index;
  if (interface->kind.empty() || interface->kind == "bridge") return Errno(EINVAL);
  Interface moved = *interface;
  if (!name.empty()) moved.name = name;
  // Found out before it leaves: it would have nowhere to go back to under its old number.
  auto target = to.config();
  if (moved.name.find("%d") == std::string::npos && target->Find(moved.name)) return Errno(EEXIST);
  if (target->interfaces.size() >= kMaxLinks) return Errno(ENOSPC);
  RefPtr<VirtualDevice> device = DeviceOf(*interface);
  Take(from, index);
  moved.flags &= ~(IFF_UP | IFF_RUNNING | IFF_LOWER_UP);
  moved.addresses.clear();
  moved.master = 0;
  moved.link = nullptr;
  auto placed = Place(to, device, std::move(moved), index, false);
  // Somebody was faster with its name: it is lost, and its other end with it.
  if (!placed.ok()) TakePeer(*device);
  return placed;
}

Result<void> SetMaster(Stack& stack, uint32_t index, uint32_t bridge) {
  MutexLock lock(links_mu);
  return Join(stack, index, bridge);
}

Result<void> SetHardwareAddress(Stack& stack, uint32_t index, const HardwareAddress& address) {
  MutexLock lock(links_mu);
  auto config = stack.config();
  const Interface* interface = config->Find(index);
  if (!interface) return Errno(ENODEV);
  // What answers on a wire of the host's is the address that the host gave; a bridge has learned with its own.
  if (interface->kind.empty() || interface->kind == "bridge") return Errno(EOPNOTSUPP);
  if ((address[0] & 1) || address == HardwareAddress{}) return Errno(EADDRNOTAVAIL);
  RefPtr<VirtualDevice> device = DeviceOf(*interface);
  auto link = MakeRef<EthernetLink>(stack, RefPtr<FrameDevice>(device), address);
  link->set_interface(index);
  TRY(stack.Change([&](Config& c) -> Result<void> {
    Interface* i = c.FindMutable(index);
    if (!i) return Errno(ENODEV);
    i->hardware_address = address;
    i->link = link;
    return OkResult();
  }));
  device->Attach(std::move(link), stack);
  LinkOf(*interface).Stop();
  return OkResult();
}

PeerOf FindPeer(const Interface& interface) {
  if (interface.kind != "veth") return {};
  MutexLock lock(links_mu);
  RefPtr<VirtualDevice> device = DeviceOf(interface);
  if (!device->peer) return {};
  Stack *here = device->stack, *there = device->peer->stack;
  if (!here || !there) return {};
  if (here == there) return {device->peer->index, std::nullopt};
  return {device->peer->index, here->NumberOf(there->id(), true)};
}

void RemoveAllLinks(Stack& stack) {
  MutexLock lock(links_mu);
  auto config = stack.config();
  for (const Interface& interface : config->interfaces) {
    if (!interface.kind.empty()) TakeWithPeer(stack, interface.index);
  }
  // Sockets may keep the stack: none is made in it any more.
  stack.Freeze();
}

}  // namespace sentry::net
