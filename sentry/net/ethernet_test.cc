// SPDX-License-Identifier: Apache-2.0
// ARP and Neighbor Discovery between two stacks over a wire that the test moves frames on, and against hand-made
// frames.
#include "sentry/net/ethernet.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include "sentry/net/test_util.h"

namespace sentry::net {
namespace {

constexpr HardwareAddress kA = {2, 0, 0, 0, 0, 1}, kB = {2, 0, 0, 0, 0, 2}, kC = {2, 0, 0, 0, 0, 3};

class Wire final : public FrameDevice {
 public:
  bool Send(std::span<const uint8_t> header, const Packet& packet) override {
    frames.push_back(std::string(header.begin(), header.end()) + packet.ToString());
    return true;
  }
  std::deque<std::string> frames;
};

struct Host {
  Host(TestClock& clock, uint64_t seed, const HardwareAddress& hardware, const char* v4, const char* v6)
      : stack(NewStack(clock, seed)), wire(MakeRef<Wire>()), link(MakeRef<EthernetLink>(*stack, wire, hardware)) {
    index = AddLink(*stack, link, v4, 24);
    link->set_interface(index);
    (void)stack->Change([&](Config& c) { return c.AddAddress(index, {.ip = Ip(v6), .prefix = 64}); }).ok();
  }
  void Take(const std::string& frame) {
    DeferScope scope;
    link->ReceiveFrame(Packet::FromBytes(frame.data(), frame.size()));
  }
  Neighbour::State StateOf(const char* ip) {
    for (const Neighbour& n : link->Neighbours()) {
      if (n.ip == Ip(ip)) return n.state;
    }
    ADD_FAILURE() << "no neighbour " << ip;
    return Neighbour::State::kFailed;
  }
  RefPtr<Stack> stack;
  RefPtr<Wire> wire;
  RefPtr<EthernetLink> link;
  uint32_t index;
};

class Ethernet : public testing::Test {
 protected:
  // Until the wire is silent; false if it never is.
  bool Exchange() {
    for (int i = 0; i < 1000; ++i) {
      if (a.wire->frames.empty() && b.wire->frames.empty()) return true;
      for (auto [from, to] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
        if (from->wire->frames.empty()) continue;
        const std::string frame = from->wire->frames.front();
        from->wire->frames.pop_front();
        to->Take(frame);
      }
    }
    return false;
  }
  void Advance(int64_t ms) {
    clock.now_ns += ms * kNsPerMs;
    a.stack->RunTimers();
    b.stack->RunTimers();
  }
  RefPtr<DatagramEndpoint> Bound(Host& host, const char* ip, uint16_t port) {
    auto e = MakeRef<DatagramEndpoint>(*host.stack, !Ip(ip).IsV4(), DatagramEndpoint::Kind::kUdp, IPPROTO_UDP);
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
  // A frame by hand: an ARP message from `hardware` at `source`, to all.
  static std::string Arp(uint16_t operation, const HardwareAddress& hardware, const char* source, const char* target) {
    std::string f(14 + 28, '\0');
    std::fill_n(f.begin(), 6, '\xff');
    std::copy(hardware.begin(), hardware.end(), f.begin() + 6);
    const char fixed[] = {8, 6, 0, 1, 8, 0, 6, 4, 0, static_cast<char>(operation)};
    std::copy(std::begin(fixed), std::end(fixed), f.begin() + 12);
    std::copy(hardware.begin(), hardware.end(), f.begin() + 22);
    f.replace(28, 4, reinterpret_cast<const char*>(Ip(source).v4_bytes()), 4);
    f.replace(38, 4, reinterpret_cast<const char*>(Ip(target).v4_bytes()), 4);
    return f;
  }

  TestClock clock;
  Host a{clock, 1, kA, "10.0.0.1", "fd00::1"}, b{clock, 2, kB, "10.0.0.2", "fd00::2"};
};

using State = Neighbour::State;

TEST_F(Ethernet, NeighboursFindEachOtherAndKeepTheOrder) {
  for (auto [from, to] : {std::pair{"10.0.0.1", "10.0.0.2"}, std::pair{"fd00::1", "fd00::2"}}) {
    auto here = Bound(a, from, 9), there = Bound(b, to, 9);
    for (const char* text : {"one", "two", "three"}) EXPECT_TRUE(Say(*here, to, text));
    EXPECT_EQ(1u, a.wire->frames.size()) << "one question for all who wait";
    EXPECT_EQ(State::kIncomplete, a.StateOf(to));
    ASSERT_TRUE(Exchange());
    EXPECT_EQ(State::kReachable, a.StateOf(to));
    for (const char* text : {"one", "two", "three"}) EXPECT_EQ(text, Heard(*there)) << to;
    // The one who was asked learned who asked.
    EXPECT_EQ(State::kStale, b.StateOf(from));
    EXPECT_TRUE(Say(*there, from, "back"));
    ASSERT_TRUE(Exchange());
    EXPECT_EQ("back", Heard(*here)) << to;
  }
}

TEST_F(Ethernet, AQuestionIsAskedThreeTimesThenTheSenderIsTold) {
  auto here = Bound(a, "10.0.0.1", 9);
  // As on Linux, only who wants errors hears of one that may pass.
  here->ip().receive_errors = true;
  ASSERT_TRUE(here->Connect({.ip = Ip("10.0.0.77"), .port = 9}, {}).ok());
  ASSERT_TRUE(here->Send(Buffer::Copy("x", 1), {}, {}).ok());
  for (int i = 0; i < 5; ++i) Advance(1001);
  EXPECT_EQ(3u, a.wire->frames.size());
  EXPECT_EQ(State::kFailed, a.StateOf("10.0.0.77"));
  EXPECT_EQ(Errno(EHOSTUNREACH), here->Receive(false).error());
  // It is asked again later.
  a.wire->frames.clear();
  Advance(1001);
  ASSERT_TRUE(here->Send(Buffer::Copy("x", 1), {}, {}).ok());
  EXPECT_EQ(1u, a.wire->frames.size());
}

TEST_F(Ethernet, AnOldNeighbourIsProbedWhileItIsUsed) {
  auto here = Bound(a, "10.0.0.1", 9), there = Bound(b, "10.0.0.2", 9);
  Say(*here, "10.0.0.2", "1");
  ASSERT_TRUE(Exchange());
  Advance(31'000);
  EXPECT_EQ(State::kStale, a.StateOf("10.0.0.2"));
  Say(*here, "10.0.0.2", "2");
  EXPECT_EQ(State::kDelay, a.StateOf("10.0.0.2"));
  ASSERT_TRUE(Exchange());
  Advance(5'001);
  ASSERT_EQ(1u, a.wire->frames.size());
  EXPECT_EQ(std::string(kB.begin(), kB.end()), a.wire->frames.front().substr(0, 6)) << "the probe is for it alone";
  ASSERT_TRUE(Exchange());
  EXPECT_EQ(State::kReachable, a.StateOf("10.0.0.2"));
  EXPECT_EQ("1", Heard(*there));
  EXPECT_EQ("2", Heard(*there));
}

TEST_F(Ethernet, WhoDidNotAskLearnsOnlyOfThoseItKnows) {
  a.Take(Arp(2, kC, "10.0.0.3", "10.0.0.3"));  // gratuitous
  EXPECT_TRUE(a.link->Neighbours().empty());
  a.Take(Arp(1, kC, "10.0.0.3", "10.0.0.1"));  // a question to us
  EXPECT_EQ(State::kStale, a.StateOf("10.0.0.3"));
  ASSERT_EQ(1u, a.wire->frames.size());
  EXPECT_EQ(std::string(kC.begin(), kC.end()), a.wire->frames.front().substr(0, 6));
  a.Take(Arp(2, kB, "10.0.0.3", "10.0.0.3"));  // it moved
  EXPECT_EQ(kB, a.link->Neighbours().front().hardware);
  // Nobody takes our own address over, or the loopback's.
  a.wire->frames.clear();
  a.Take(Arp(2, kC, "10.0.0.1", "10.0.0.1"));
  a.Take(Arp(1, kC, "127.0.0.1", "10.0.0.1"));
  a.Take(Arp(1, kC, "10.0.0.9", "127.0.0.1"));
  EXPECT_EQ(1u, a.link->Neighbours().size());
  EXPECT_TRUE(a.wire->frames.empty());
}

TEST_F(Ethernet, TheTableIsBounded) {
  for (int i = 0; i < 3000; ++i) {
    const std::string source = "10.0." + std::to_string(1 + i / 250) + "." + std::to_string(1 + i % 250);
    a.Take(Arp(1, kC, source.c_str(), "10.0.0.1"));
  }
  EXPECT_LE(a.link->Neighbours().size(), 1024u);
  EXPECT_TRUE(a.link->AddPermanent(Ip("10.0.0.2"), kB) || a.link->Neighbours().size() == 1024u);
}

TEST_F(Ethernet, FramesForOthersAndBrokenOnesAreDropped) {
  auto here = Bound(a, "10.0.0.1", 9), there = Bound(b, "10.0.0.2", 9);
  Say(*there, "10.0.0.1", "x");
  ASSERT_TRUE(Exchange());
  EXPECT_EQ("x", Heard(*here));
  Say(*there, "10.0.0.1", "y");
  std::string frame = b.wire->frames.front();
  for (size_t length = 0; length < frame.size(); ++length) a.Take(frame.substr(0, length));
  std::string other = frame;
  std::copy(kC.begin(), kC.end(), other.begin());
  a.Take(other);
  std::string type = frame;
  type[12] = '\x86';
  type[13] = '\xdd';
  a.Take(type);
  EXPECT_EQ("", Heard(*here));
  a.Take(frame);
  EXPECT_EQ("y", Heard(*here));
}

TEST_F(Ethernet, MutatedFramesHarmNobody) {
  auto here = Bound(a, "10.0.0.1", 9), there = Bound(b, "10.0.0.2", 9), here6 = Bound(a, "fd00::1", 10),
       there6 = Bound(b, "fd00::2", 10);
  Say(*there, "10.0.0.1", "x");
  Say(*there6, "fd00::1", "x");
  std::vector<std::string> seen(b.wire->frames.begin(), b.wire->frames.end());
  seen.push_back(Arp(1, kC, "10.0.0.3", "10.0.0.1"));
  seen.push_back(Arp(2, kC, "10.0.0.3", "10.0.0.1"));
  std::mt19937_64 random(7);
  for (int i = 0; i < 100'000; ++i) {
    std::string frame = seen[random() % seen.size()];
    for (uint64_t n = 1 + random() % 4; n > 0; --n) frame[random() % frame.size()] = static_cast<char>(random());
    if (random() % 4 == 0) frame.resize(random() % (frame.size() + 1));
    a.Take(frame);
    if (i % 1000 == 0) {
      Advance(500);
      a.wire->frames.clear();
    }
  }
  // Still alive: a fresh exchange works.
  a.wire->frames.clear();
  b.wire->frames.clear();
  Advance(60'000);
  a.wire->frames.clear();
  while (!Heard(*here).empty()) {
  }
  Say(*there, "10.0.0.1", "after");
  ASSERT_TRUE(Exchange());
  EXPECT_EQ("after", Heard(*here));
}

}  // namespace
}  // namespace sentry::net
