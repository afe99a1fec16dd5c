// SPDX-License-Identifier: Apache-2.0
// Virtual cables, bridges and forwarding between stacks of one process.
#include "sentry/net/links.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include "sentry/net/bridge.h"
#include "sentry/net/checksum.h"
#include "sentry/net/test_util.h"

namespace sentry::net {
namespace {

using Kind = VirtualDevice::Kind;

class Links : public testing::Test {
 protected:
  ~Links() override {
    for (const auto& stack : stacks) RemoveAllLinks(*stack);
  }
  Stack& Add() {
    stacks.push_back(NewStack(clock, stacks.size() + 1));
    return *stacks.back();
  }
  static uint32_t IndexOf(Stack& stack, const char* name) {
    const Interface* i = stack.config()->Find(std::string_view(name));
    return i ? i->index : 0;
  }
  static void Address(Stack& stack, uint32_t index, const char* ip, int prefix) {
    EXPECT_TRUE(stack.Change([&](Config& c) { return c.AddAddress(index, {.ip = Ip(ip), .prefix = prefix}); }).ok());
  }
  // A cable between two stacks, whose ends are up.
  std::pair<uint32_t, uint32_t> Cable(Stack& a, const char* name, Stack& b, const char* peer, uint32_t mtu = 1500) {
    auto index = AddVeth(a, {.name = name, .mtu = mtu, .up = true}, b, {.name = peer, .mtu = mtu, .up = true});
    EXPECT_TRUE(index.ok());
    return {index.ok() ? *index : 0, IndexOf(b, peer)};
  }
  static void Route(Stack& stack, const char* to, int prefix, const char* via, uint32_t index) {
    sentry::net::Route r;
    r.destination = Ip(to);
    r.prefix = prefix;
    r.has_gateway = true;
    r.gateway = Ip(via);
    r.interface = index;
    EXPECT_TRUE(stack.Change([&](Config& c) { return c.AddRoute(r, false, false); }).ok());
  }
  static RefPtr<DatagramEndpoint> Bound(Stack& stack, const char* ip, uint16_t port) {
    auto e = MakeRef<DatagramEndpoint>(stack, !Ip(ip).IsV4(), DatagramEndpoint::Kind::kUdp, IPPROTO_UDP);
    EXPECT_TRUE(e->Bind({.ip = Ip(ip), .port = port}, {}).ok());
    return e;
  }
  static bool Say(DatagramEndpoint& from, const char* ip, std::string_view text) {
    return from.Send(Buffer::Copy(text.data(), text.size()), {.to = SocketAddress{Ip(ip), 9}}, {}).ok();
  }
  static std::string Heard(DatagramEndpoint& at) {
    auto d = at.Receive(false);
    return d.ok() ? d->data.ToString() : "";
  }
  static uint64_t Received(Stack& stack, const char* name) {
    return stack.config()->Find(std::string_view(name))->link->statistics().rx_packets;
  }

  TestClock clock;
  std::vector<RefPtr<Stack>> stacks;
};

TEST_F(Links, ACableCarriesBothWays) {
  Stack &a = Add(), &b = Add();
  const auto [at_a, at_b] = Cable(a, "left", b, "right");
  Address(a, at_a, "10.0.0.1", 24);
  Address(b, at_b, "10.0.0.2", 24);
  Address(a, at_a, "fd00::1", 64);
  Address(b, at_b, "fd00::2", 64);
  for (const auto& [here, there] : {std::pair{"10.0.0.1", "10.0.0.2"}, std::pair{"fd00::1", "fd00::2"}}) {
    auto one = Bound(a, here, 9), two = Bound(b, there, 9);
    EXPECT_TRUE(Say(*one, there, "there"));
    EXPECT_EQ("there", Heard(*two));
    EXPECT_TRUE(Say(*two, here, "back"));
    EXPECT_EQ("back", Heard(*one));
    // A datagram in pieces.
    const std::string large(5000, 'x');
    EXPECT_TRUE(Say(*one, there, large));
    EXPECT_EQ(large, Heard(*two));
  }
  EXPECT_EQ(at_b, FindPeer(*a.config()->Find(at_a)).index);
  EXPECT_EQ(0, FindPeer(*a.config()->Find(at_a)).namespace_number.value_or(-7));
}

TEST_F(Links, NothingComesThroughAnEndThatIsDown) {
  Stack &a = Add(), &b = Add();
  const auto [at_a, at_b] = Cable(a, "left", b, "right");
  Address(a, at_a, "10.0.0.1", 24);
  Address(b, at_b, "10.0.0.2", 24);
  auto one = Bound(a, "10.0.0.1", 9), two = Bound(b, "10.0.0.2", 9);
  Say(*one, "10.0.0.2", "first");
  EXPECT_EQ("first", Heard(*two));
  EXPECT_TRUE(b.Change([&, i = at_b](Config& c) { return c.SetUp(i, false); }).ok());
  Say(*one, "10.0.0.2", "lost");
  EXPECT_EQ("", Heard(*two));
  EXPECT_TRUE(b.Change([&, i = at_b](Config& c) { return c.SetUp(i, true); }).ok());
  Say(*one, "10.0.0.2", "heard");
  EXPECT_EQ("heard", Heard(*two));
}

TEST_F(Links, NamesNumbersAndErrors) {
  Stack &a = Add(), &b = Add();
  auto veth = AddVeth(a, {}, a, {});
  ASSERT_TRUE(veth.ok());
  EXPECT_EQ("veth1", a.config()->Find(*veth)->name) << "the peer comes first";
  EXPECT_FALSE(FindPeer(*a.config()->Find(*veth)).namespace_number.has_value());
  EXPECT_EQ(Errno(EEXIST), AddLink(a, Kind::kBridge, {.name = "veth0"}).error());
  EXPECT_EQ(Errno(EBUSY), AddLink(a, Kind::kBridge, {.index = *veth}).error());
  for (const char* bad : {"a/b", "a b", "..", "a:b", "0123456789abcdef"})
    EXPECT_EQ(Errno(EINVAL), AddLink(a, Kind::kDummy, {.name = bad}).error()) << bad;
  EXPECT_EQ(Errno(EINVAL), AddLink(a, Kind::kDummy, {.mtu = 10}).error());
  EXPECT_EQ(Errno(EADDRNOTAVAIL), AddLink(a, Kind::kDummy, {.hardware_address = HardwareAddress{1}}).error());
  // A pair of which one end can't be made leaves no other end.
  EXPECT_EQ(Errno(EEXIST), AddVeth(b, {.name = "lo"}, a, {.name = "fine"}).error());
  EXPECT_EQ(0u, IndexOf(a, "fine"));
  EXPECT_EQ(Errno(EOPNOTSUPP), RemoveLink(a, 1).error()) << "lo";
  EXPECT_EQ(Errno(ENODEV), RemoveLink(a, 999).error());
  EXPECT_TRUE(RemoveLink(a, *veth).ok());
  EXPECT_EQ(1u, a.config()->interfaces.size()) << "both ends are gone";
}

TEST_F(Links, AnEndMovesAndKeepsItsCable) {
  Stack &a = Add(), &b = Add();
  auto index = AddVeth(a, {.name = "stays", .up = true}, a, {.name = "goes", .up = true});
  ASSERT_TRUE(index.ok());
  Address(a, *index, "10.0.0.1", 24);
  Address(a, IndexOf(a, "goes"), "10.9.9.9", 24);
  auto moved = MoveLink(a, IndexOf(a, "goes"), b, "eth0");
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ(0u, IndexOf(a, "goes"));
  const Interface eth0 = *b.config()->Find(*moved);
  EXPECT_EQ("eth0", eth0.name);
  EXPECT_FALSE(eth0.IsUp());
  EXPECT_TRUE(eth0.addresses.empty());
  EXPECT_EQ(*moved, FindPeer(*a.config()->Find(*index)).index);
  EXPECT_TRUE(b.Change([&](Config& c) { return c.SetUp(*moved, true); }).ok());
  Address(b, *moved, "10.0.0.2", 24);
  auto one = Bound(a, "10.0.0.1", 9), two = Bound(b, "10.0.0.2", 9);
  EXPECT_TRUE(Say(*one, "10.0.0.2", "moved"));
  EXPECT_EQ("moved", Heard(*two));
  EXPECT_EQ(Errno(EINVAL), MoveLink(a, 1, b, "").error()) << "lo";
  // The namespace that it went to ends: the other end goes, too.
  RemoveAllLinks(b);
  EXPECT_EQ(0u, IndexOf(a, "stays"));
  EXPECT_EQ(Errno(EPERM), AddLink(b, Kind::kDummy, {}).error()) << "nothing is made in what has ended";
}

TEST_F(Links, ABridgeLearnsAndFloods) {
  Stack& hub = Add();
  auto bridge = AddLink(hub, Kind::kBridge, {.name = "br0", .up = true});
  ASSERT_TRUE(bridge.ok());
  Address(hub, *bridge, "10.0.0.254", 24);
  std::vector<RefPtr<DatagramEndpoint>> peers;
  for (int i = 1; i <= 3; ++i) {
    Stack& leaf = Add();
    const std::string name = "p" + std::to_string(i), ip = "10.0.0." + std::to_string(i);
    const auto [port, end] = Cable(hub, name.c_str(), leaf, "eth0");
    EXPECT_TRUE(SetMaster(hub, port, *bridge).ok());
    Address(leaf, end, ip.c_str(), 24);
    peers.push_back(Bound(leaf, ip.c_str(), 9));
  }
  EXPECT_TRUE(Say(*peers[0], "10.0.0.2", "one to two"));
  EXPECT_EQ("one to two", Heard(*peers[1]));
  // The question went to all; what followed only where it belongs.
  const uint64_t third = Received(*stacks[3], "eth0");
  EXPECT_EQ(1u, third);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(Say(*peers[0], "10.0.0.2", "again"));
  EXPECT_EQ(third, Received(*stacks[3], "eth0"));
  // The bridge's own address.
  auto own = Bound(hub, "10.0.0.254", 9);
  EXPECT_TRUE(Say(*peers[2], "10.0.0.254", "to the hub"));
  EXPECT_EQ("to the hub", Heard(*own));
  EXPECT_TRUE(Say(*own, "10.0.0.3", "from the hub"));
  EXPECT_EQ("from the hub", Heard(*peers[2]));
  // A port that leaves is reached no more.
  EXPECT_TRUE(SetMaster(hub, IndexOf(hub, "p2"), 0).ok());
  while (!Heard(*peers[1]).empty()) {
  }
  Say(*peers[0], "10.0.0.2", "gone");
  EXPECT_EQ("", Heard(*peers[1]));
  EXPECT_EQ(Errno(ELOOP), SetMaster(hub, *bridge, *AddLink(hub, Kind::kBridge, {})).error());
  EXPECT_EQ(Errno(EINVAL), SetMaster(hub, 1, *bridge).error());
  EXPECT_TRUE(RemoveLink(hub, *bridge).ok());
  EXPECT_EQ(0u, hub.config()->Find(std::string_view("p1"))->master);
}

// Two bridges joined by two cables: without a spanning tree a broadcast would go round for ever.
TEST_F(Links, ACircleOfBridgesEnds) {
  Stack &a = Add(), &b = Add(), &leaf = Add();
  auto bridge_a = AddLink(a, Kind::kBridge, {.name = "br0", .up = true});
  auto bridge_b = AddLink(b, Kind::kBridge, {.name = "br0", .up = true});
  ASSERT_TRUE(bridge_a.ok() && bridge_b.ok());
  for (const char* name : {"c1", "c2", "c3"}) {
    const auto [one, two] = Cable(a, name, b, name);
    EXPECT_TRUE(SetMaster(a, one, *bridge_a).ok());
    EXPECT_TRUE(SetMaster(b, two, *bridge_b).ok());
  }
  const auto [port, end] = Cable(a, "leaf", leaf, "eth0");
  EXPECT_TRUE(SetMaster(a, port, *bridge_a).ok());
  Address(leaf, end, "10.0.0.1", 24);
  auto one = Bound(leaf, "10.0.0.1", 9);
  one->ip().broadcast = true;
  EXPECT_TRUE(Say(*one, "10.0.0.255", "storm"));
  SUCCEED() << "it came back";
}

TEST_F(Links, TheTableOfABridgeIsBounded) {
  auto bridge = MakeRef<Bridge>(HardwareAddress{2, 9});
  Stack& a = Add();
  auto link = MakeRef<EthernetLink>(a, RefPtr<FrameDevice>(bridge), HardwareAddress{2, 9});
  bridge->Attach(link, a);
  bridge->set_up(true);
  auto port = MakeRef<DummyDevice>();
  bridge->AddPort(RefPtr<FrameDevice>(port));
  DeferScope scope;
  for (int i = 0; i < 10'000; ++i) {
    std::string frame(60, '\0');
    const uint8_t head[] = {2, 9, 0, 0, 0, 0, 2, 7, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i), 0, 1, 8, 0};
    memcpy(frame.data(), head, sizeof head);
    bridge->ReceiveAt(port.get(), Packet::FromBytes(frame.data(), frame.size()));
  }
  EXPECT_EQ(4096u, bridge->learned());
  bridge->RemovePort(*port);
  EXPECT_EQ(0u, bridge->learned());
  link->Stop();
}

class Forwarding : public Links {
 protected:
  // left (10.1.0.2) — router (.1) — right (10.2.0.2), IPv6 likewise.
  Forwarding() : left(Add()), router(Add()), right(Add()) {
    const auto [l, rl] = Cable(left, "eth0", router, "l");
    const auto [r, rr] = Cable(right, "eth0", router, "r", 1400);
    Address(left, l, "10.1.0.2", 24);
    Address(router, rl, "10.1.0.1", 24);
    Address(router, rr, "10.2.0.1", 24);
    Address(right, r, "10.2.0.2", 24);
    Address(left, l, "fd01::2", 64);
    Address(router, rl, "fd01::1", 64);
    Address(router, rr, "fd02::1", 64);
    Address(right, r, "fd02::2", 64);
    Route(left, "0.0.0.0", 0, "10.1.0.1", l);
    Route(left, "::", 0, "fd01::1", l);
    Route(right, "0.0.0.0", 0, "10.2.0.1", r);
    Route(right, "::", 0, "fd02::1", r);
  }
  Stack &left, &router, &right;
};

TEST_F(Forwarding, OnlyWhenItIsOn) {
  auto v4 = Bound(left, "10.1.0.2", 9), v6 = Bound(left, "fd01::2", 9);
  auto there4 = Bound(right, "10.2.0.2", 9), there6 = Bound(right, "fd02::2", 9);
  Say(*v4, "10.2.0.2", "x");
  Say(*v6, "fd02::2", "x");
  EXPECT_EQ("", Heard(*there4));
  EXPECT_EQ("", Heard(*there6));
  router.settings().forwarding = true;
  Say(*v4, "10.2.0.2", "4");
  Say(*v6, "fd02::2", "6");
  EXPECT_EQ("4", Heard(*there4));
  EXPECT_EQ("", Heard(*there6));
  router.settings().forwarding6 = true;
  Say(*v6, "fd02::2", "6");
  EXPECT_EQ("6", Heard(*there6));
  Say(*there6, "fd01::2", "back");
  EXPECT_EQ("back", Heard(*v6));
  EXPECT_EQ(1u, router.statistics().ip4.forwarded.load());
}

TEST_F(Forwarding, TimeToLiveAndNoRoute) {
  router.settings().forwarding = router.settings().forwarding6 = true;
  for (const char* ip : {"10.2.0.2", "fd02::2"}) {
    const bool v4 = Ip(ip).IsV4();
    auto here = Bound(left, v4 ? "10.1.0.2" : "fd01::2", 9), there = Bound(right, ip, 9);
    (v4 ? here->ip().receive_errors : here->ip().receive_errors6) = true;
    (v4 ? here->ip().ttl : here->ip().hop_limit) = 1;
    Say(*here, ip, "short");
    EXPECT_EQ("", Heard(*there)) << ip;
    EXPECT_EQ(Errno(EHOSTUNREACH), here->Receive(false).error()) << ip;
    (v4 ? here->ip().ttl : here->ip().hop_limit) = 2;
    Say(*here, ip, "enough");
    EXPECT_EQ("enough", Heard(*there)) << ip;
    // The router knows no way.
    Say(*here, v4 ? "10.77.0.1" : "fd77::1", "x");
    EXPECT_EQ(Errno(ENETUNREACH), here->Receive(false).error()) << ip;
  }
}

TEST_F(Forwarding, LargerThanTheNextLink) {
  router.settings().forwarding = router.settings().forwarding6 = true;
  auto here = Bound(left, "10.1.0.2", 9), there = Bound(right, "10.2.0.2", 9);
  here->ip().mtu_discover = IP_PMTUDISC_DONT;
  std::string text(1450, 'y');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  EXPECT_TRUE(Say(*here, "10.2.0.2", text));
  EXPECT_EQ(text, Heard(*there));
  EXPECT_EQ(2u, router.statistics().ip4.fragment_creates.load());
  // Pieces of a larger one are cut again.
  std::string more(6000, 'z');
  for (size_t i = 0; i < more.size(); ++i) more[i] = static_cast<char>(i * 11);
  EXPECT_TRUE(Say(*here, "10.2.0.2", more));
  EXPECT_EQ(more, Heard(*there));
  // Not to be cut: the sender is told how large it may be.
  here->ip().mtu_discover = IP_PMTUDISC_DO;
  here->ip().receive_errors = true;
  Say(*here, "10.2.0.2", text);
  EXPECT_EQ("", Heard(*there));
  EXPECT_EQ(Errno(EMSGSIZE), here->Receive(false).error());
}

// What a device of the host's joined goes on in segments, each with checksums of its own.
TEST_F(Forwarding, JoinedSegmentsAreTakenApart) {
  router.settings().forwarding = true;
  auto wire = MakeRef<CapturingLink>();
  const uint32_t out = net::AddLink(router, wire, "10.3.0.1", 24);
  (void)out;
  std::string bytes(40 + 2500, '\0');
  const uint8_t ip[20] = {0x45, 0, 0x09, 0xec, 0, 5, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 2, 10, 3, 0, 9};
  const uint8_t tcp[20] = {0, 1, 0, 2, 0, 0, 0, 100, 0, 0, 0, 0, 0x50, 0x19 /* FIN PSH ACK */};
  memcpy(bytes.data(), ip, 20);
  memcpy(bytes.data() + 20, tcp, 20);
  for (size_t i = 40; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 13);
  PacketPtr packet = Packet::FromBytes(bytes.data(), bytes.size());
  const uint16_t sum = ChecksumOf(packet->Front(20), 20);
  memcpy(packet->head + packet->begin + 10, &sum, 2);
  packet->trusted_checksums = packet->partial_checksum = true;
  packet->segment_size = 1000;
  router.Receive(IndexOf(router, "l"), std::move(packet));
  ASSERT_EQ(3u, wire->sent.size());
  std::string joined;
  for (size_t i = 0; i < 3; ++i) {
    const std::string& s = wire->sent[i];
    const auto* h = reinterpret_cast<const uint8_t*>(s.data());
    EXPECT_EQ(s.size(), static_cast<size_t>(h[2] << 8 | h[3]));
    EXPECT_EQ(0, ChecksumOf(h, 20));
    EXPECT_EQ(5 + i, static_cast<size_t>(h[5]));
    EXPECT_EQ(63, h[8]);
    EXPECT_EQ(100 + i * 1000, static_cast<size_t>(h[26] << 8 | h[27]));
    EXPECT_EQ(i == 2 ? 0x19 : 0x10, h[33]);
    Checksum check;
    check.AddPseudoHeader(Ip("10.1.0.2"), Ip("10.3.0.9"), IPPROTO_TCP, s.size() - 20);
    check.Add(h + 20, s.size() - 20);
    EXPECT_EQ(0, check.Finish());
    joined += s.substr(40);
  }
  EXPECT_EQ(bytes.substr(40), joined);
}

}  // namespace
}  // namespace sentry::net
