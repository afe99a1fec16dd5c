// SPDX-License-Identifier: Apache-2.0
// IP, ICMP, UDP and fragments, packet by packet; and packets that nobody should send.
#include <errno.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/epoll.h>

#include "sentry/net/checksum.h"
#include "sentry/net/test_util.h"

namespace sentry::net {
namespace {

using Kind = DatagramEndpoint::Kind;

class StackTest : public testing::Test {
 protected:
  StackTest() : stack_(NewStack(clock_, 5)), link_(MakeRef<CapturingLink>()) {
    interface_ = AddLink(*stack_, link_, "10.0.0.1", 24);
  }
  RefPtr<DatagramEndpoint> Udp(const char* address, uint16_t port, bool v6 = false) {
    auto e = MakeRef<DatagramEndpoint>(*stack_, v6, Kind::kUdp, IPPROTO_UDP);
    EXPECT_TRUE(e->Bind({Ip(address), port}, {}).ok());
    return e;
  }
  // An IPv4 packet from 10.0.0.2 to 10.0.0.1, with `field` as flags and offset.
  std::string V4(uint8_t protocol, const std::string& payload, uint16_t field = 0, uint16_t id = 7) {
    std::string p(20, '\0');
    p[0] = 0x45;
    p[2] = static_cast<char>((payload.size() + 20) >> 8);
    p[3] = static_cast<char>(payload.size() + 20);
    p[4] = static_cast<char>(id >> 8);
    p[5] = static_cast<char>(id);
    p[6] = static_cast<char>(field >> 8);
    p[7] = static_cast<char>(field);
    p[8] = 64;
    p[9] = static_cast<char>(protocol);
    memcpy(p.data() + 12, Ip("10.0.0.2").v4_bytes(), 4);
    memcpy(p.data() + 16, Ip("10.0.0.1").v4_bytes(), 4);
    const uint16_t sum = ChecksumOf(p.data(), 20);
    memcpy(p.data() + 10, &sum, 2);
    return p + payload;
  }
  static std::string UdpBytes(uint16_t from, uint16_t to, const std::string& data) {
    std::string u(8, '\0');
    u[0] = static_cast<char>(from >> 8);
    u[1] = static_cast<char>(from);
    u[2] = static_cast<char>(to >> 8);
    u[3] = static_cast<char>(to);
    u[4] = static_cast<char>((data.size() + 8) >> 8);
    u[5] = static_cast<char>(data.size() + 8);
    return u + data;  // checksum 0: none
  }
  void In(const std::string& bytes) { stack_->Receive(interface_, Packet::FromBytes(bytes.data(), bytes.size())); }

  TestClock clock_;
  RefPtr<Stack> stack_;
  RefPtr<CapturingLink> link_;
  uint32_t interface_;
};

TEST_F(StackTest, UdpInAndOut) {
  auto e = Udp("10.0.0.1", 500);
  In(V4(17, UdpBytes(9, 500, "hello")));
  auto d = e->Receive(false);
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->data.ToString(), "hello");
  EXPECT_EQ(d->from, (SocketAddress{Ip("10.0.0.2"), 9}));
  EXPECT_EQ(d->ttl, 64);
  ASSERT_TRUE(e->Send(Buffer::Copy("back", 4), {.to = SocketAddress{Ip("10.0.0.2"), 9}}, {}).ok());
  ASSERT_EQ(link_->sent.size(), 1u);
  const std::string& out = link_->sent[0];
  EXPECT_EQ(ChecksumOf(out.data(), 20), 0);
  EXPECT_EQ(out.substr(28), "back");
  Checksum sum;
  sum.AddPseudoHeader(Ip("10.0.0.1"), Ip("10.0.0.2"), 17, out.size() - 20);
  sum.Add(out.data() + 20, out.size() - 20);
  EXPECT_EQ(sum.Finish(), 0);
}

TEST_F(StackTest, ClosedPortAndUnknownProtocolAreAnswered) {
  In(V4(17, UdpBytes(9, 501, "x")));
  ASSERT_EQ(link_->sent.size(), 1u);
  EXPECT_EQ(link_->sent[0][9], 1);
  EXPECT_EQ(link_->sent[0][20], 3);  // destination unreachable
  EXPECT_EQ(link_->sent[0][21], 3);  // port
  EXPECT_EQ(ChecksumOf(link_->sent[0].data() + 20, link_->sent[0].size() - 20), 0);
  link_->sent.clear();
  In(V4(99, "what"));
  ASSERT_EQ(link_->sent.size(), 1u);
  EXPECT_EQ(link_->sent[0][21], 2);  // protocol
  // A flood of them gets a bounded number of answers.
  link_->sent.clear();
  for (int i = 0; i < 10'000; ++i) In(V4(17, UdpBytes(9, 501, "x")));
  EXPECT_LE(link_->sent.size(), 60u);
}

TEST_F(StackTest, EchoIsAnswered) {
  std::string echo("\x08\x00\x00\x00\x00\x07\x00\x01", 8);
  echo += "ping data";
  const uint16_t sum = ChecksumOf(echo.data(), echo.size());
  memcpy(echo.data() + 2, &sum, 2);
  In(V4(1, echo));
  ASSERT_EQ(link_->sent.size(), 1u);
  EXPECT_EQ(link_->sent[0][20], 0);
  EXPECT_EQ(link_->sent[0].substr(28), "ping data");
  link_->sent.clear();
  echo[9] ^= 1;
  In(V4(1, echo));
  EXPECT_TRUE(link_->sent.empty()) << "a wrong checksum";
}

TEST_F(StackTest, BadHeadersAreDropped) {
  auto e = Udp("10.0.0.1", 500);
  const std::string good = V4(17, UdpBytes(9, 500, "hello"));
  std::string bad = good;
  bad[10] = static_cast<char>(bad[10] ^ 1);
  In(bad);
  In(good.substr(0, 19));
  In(good.substr(0, good.size() - 1));
  bad = good;
  bad[0] = 0x44;
  In(bad);
  bad = good;
  bad[25] = 2;  // a length below the header's
  In(bad);
  EXPECT_FALSE(e->Receive(false).ok());
  In(good + "padding of the link");
  auto d = e->Receive(false);
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->data.size(), 5u);
}

TEST_F(StackTest, LoopbackAddressesStayInside) {
  auto e = Udp("0.0.0.0", 500);
  std::string p = V4(17, UdpBytes(9, 500, "x"));
  memcpy(p.data() + 12, Ip("127.0.0.1").v4_bytes(), 4);
  memset(p.data() + 10, 0, 2);
  const uint16_t sum = ChecksumOf(p.data(), 20);
  memcpy(p.data() + 10, &sum, 2);
  In(p);
  EXPECT_FALSE(e->Receive(false).ok());
}

TEST_F(StackTest, FragmentsInAnyOrder) {
  auto e = Udp("10.0.0.1", 500);
  std::string data(100, '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i);
  const std::string udp = UdpBytes(9, 500, data);
  const auto piece = [&](size_t from, size_t to) {
    return V4(17, udp.substr(from, to - from), static_cast<uint16_t>(from / 8 | (to < udp.size() ? 0x2000 : 0)));
  };
  In(piece(64, 108));
  In(piece(0, 32));
  In(piece(0, 32));  // again
  EXPECT_FALSE(e->Receive(false).ok());
  In(piece(32, 64));
  auto d = e->Receive(false);
  ASSERT_TRUE(d.ok());
  EXPECT_TRUE(d->data.ToString() == data);
  // Overlapping ones never become a datagram.
  In(piece(0, 40));
  In(piece(32, 64));
  In(piece(64, 108));
  In(piece(0, 32));
  EXPECT_FALSE(e->Receive(false).ok());
}

TEST_F(StackTest, FragmentFloodIsBounded) {
  for (uint32_t i = 0; i < 60'000; ++i)
    In(V4(17, std::string(1400, 'f'), static_cast<uint16_t>(0x2000 | (i % 8) * 200), static_cast<uint16_t>(i / 8)));
  EXPECT_LE(Block::total(), size_t{16} << 20);
}

TEST_F(StackTest, LargeDatagramsAreFragmented) {
  auto e = Udp("10.0.0.1", 500);
  e->ip().mtu_discover = 0;
  ASSERT_TRUE(
      e->Send(Buffer::Copy(std::string(4000, 'q').data(), 4000), {.to = SocketAddress{Ip("10.0.0.2"), 9}}, {}).ok());
  EXPECT_EQ(link_->sent.size(), 3u);
  size_t total = 0;
  for (const std::string& p : link_->sent) {
    EXPECT_LE(p.size(), 1500u);
    total += p.size() - 20;
  }
  EXPECT_EQ(total, 4008u);
  e->ip().mtu_discover = 2;
  EXPECT_EQ(e->Send(Buffer::Copy(std::string(4000, 'q').data(), 4000), {.to = SocketAddress{Ip("10.0.0.2"), 9}}, {})
                .error_number(),
            EMSGSIZE);
}

TEST_F(StackTest, ErrorsReachConnectedEndpoints) {
  auto e = Udp("10.0.0.1", 500);
  ASSERT_TRUE(e->Connect({Ip("10.0.0.2"), 9}, {}).ok());
  ASSERT_TRUE(e->Send(Buffer::Copy("x", 1), {}, {}).ok());
  const std::string offending = link_->sent[0];
  std::string icmp("\x03\x03\x00\x00\x00\x00\x00\x00", 8);
  icmp += offending;
  const uint16_t sum = ChecksumOf(icmp.data(), icmp.size());
  memcpy(icmp.data() + 2, &sum, 2);
  In(V4(1, icmp));
  EXPECT_EQ(e->Poll() & EPOLLERR, uint32_t{EPOLLERR});
  EXPECT_EQ(e->TakeError(), ECONNREFUSED);
}

// A header that a guest made itself is quoted as it was.
TEST_F(StackTest, ErrorsQuoteIncludedHeaders) {
  auto raw = MakeRef<DatagramEndpoint>(*stack_, false, Kind::kRaw, IPPROTO_RAW);
  raw->ip().header_included = true;
  auto icmp = MakeRef<DatagramEndpoint>(*stack_, false, Kind::kRaw, IPPROTO_ICMP);
  std::string p = V4(17, UdpBytes(4660, 501, "quoted"));
  memcpy(p.data() + 12, Ip("127.0.0.1").v4_bytes(), 4);
  memcpy(p.data() + 16, Ip("127.0.0.1").v4_bytes(), 4);
  ASSERT_TRUE(raw->Send(Buffer::Copy(p.data(), p.size()), {.to = SocketAddress{Ip("127.0.0.1"), 0}}, {}).ok());
  auto d = icmp->Receive(false);
  ASSERT_TRUE(d.ok());
  const std::string got = d->data.ToString();
  ASSERT_EQ(got.size(), 28 + p.size());
  EXPECT_EQ(got[20], 3);
  EXPECT_EQ(got[28], 0x45);
  EXPECT_EQ(got.substr(28 + 12, 8), p.substr(12, 8));
  EXPECT_EQ(got.substr(48), p.substr(20));
}

// Anything at all, v4 and v6, with the checksums taken on trust so that the layers above see it.
TEST_F(StackTest, AnythingIsSurvived) {
  auto u4 = Udp("0.0.0.0", 500);
  auto raw = MakeRef<DatagramEndpoint>(*stack_, false, Kind::kRaw, IPPROTO_ICMP);
  auto raw6 = MakeRef<DatagramEndpoint>(*stack_, true, Kind::kRaw, IPPROTO_ICMPV6);
  (void)stack_->Change([&](Config& c) { return c.AddAddress(interface_, {.ip = Ip("2001:db8::1"), .prefix = 64}); })
      .ok();
  std::string v6(40, '\0');
  v6[0] = 0x60;
  v6[6] = 58;
  v6[7] = 64;
  memcpy(v6.data() + 8, Ip("2001:db8::2").v6_bytes(), 16);
  memcpy(v6.data() + 24, Ip("2001:db8::1").v6_bytes(), 16);
  std::mt19937 random(11);
  const uint8_t protocols[] = {0, 1, 6, 17, 43, 44, 58, 60, 99};
  for (int i = 0; i < 300'000; ++i) {
    std::string body(random() % 120, '\0');
    for (char& b : body) b = static_cast<char>(random());
    std::string p;
    const uint8_t protocol = protocols[random() % std::size(protocols)];
    if (random() % 2) {
      p = V4(protocol, body, random() % 4 ? 0 : static_cast<uint16_t>(random()));
    } else {
      v6[4] = static_cast<char>(body.size() >> 8);
      v6[5] = static_cast<char>(body.size());
      v6[6] = static_cast<char>(protocol);
      p = v6 + body;
    }
    if (random() % 3 == 0) p[random() % p.size()] = static_cast<char>(random());
    auto packet = Packet::FromBytes(p.data(), p.size());
    packet->trusted_checksums = true;
    stack_->Receive(interface_, std::move(packet));
    link_->sent.clear();
    clock_.now_ns += 1'000'000;
  }
}

}  // namespace
}  // namespace sentry::net
