// SPDX-License-Identifier: Apache-2.0
// UDP-Lite (udplite(7), RFC 3828): datagrams whose checksum may cover only their beginning.
#include <netinet/udp.h>

#include <string>

#include "tests/syscalls/inet_util.h"

namespace {

constexpr int kSolUdplite = IPPROTO_UDPLITE, kSendCoverage = 10, kReceiveCoverage = 11;  // linux/udp.h
constexpr int kHeader = 8;

class Udplite : public InetTest, public testing::WithParamInterface<const char*> {
 protected:
  static bool v6() { return GetParam()[0] == ':'; }
  static Fd New(int protocol = IPPROTO_UDPLITE) { return Fd(socket(v6() ? AF_INET6 : AF_INET, SOCK_DGRAM, protocol)); }
  // A bound receiver and a sender connected to it.
  void Connect() {
    Addr any(GetParam(), 0);
    ASSERT_OK(bind(to_.get(), any.sa(), any.len));
    at_ = NameOf(to_.get());
    ASSERT_OK(connect(from_.get(), at_.sa(), at_.len));
  }
  static std::string Receive(const Fd& fd) {
    if (!PollFor(fd.get(), POLLIN, 5000)) return "(nothing)";
    char b[3000];
    const ssize_t n = recv(fd.get(), b, sizeof b, MSG_DONTWAIT);
    return n < 0 ? strerrorname_np(errno) : std::string(b, static_cast<size_t>(n));
  }
  static int Send(const Fd& fd, const std::string& text) {
    return send(fd.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()) ? 0 : errno;
  }
  Fd to_ = New(), from_ = New();
  Addr at_;
};

INSTANTIATE_TEST_SUITE_P(Families, Udplite, testing::Values("127.0.0.1", "::1"),
                         [](const auto& info) { return info.param[0] == ':' ? "V6" : "V4"; });

TEST_P(Udplite, MessagesKeepTheirBoundaries) {
  ASSERT_TRUE(to_.ok());
  ASSERT_NO_FATAL_FAILURE(Connect());
  EXPECT_EQ(IPPROTO_UDPLITE, GetInt(to_.get(), SOL_SOCKET, SO_PROTOCOL));
  EXPECT_EQ(SOCK_DGRAM, GetInt(to_.get(), SOL_SOCKET, SO_TYPE));
  const std::string big(2000, 'b');
  for (const std::string& text : {std::string("one"), std::string(), big}) ASSERT_EQ(0, Send(from_, text));
  EXPECT_EQ("one", Receive(to_));
  EXPECT_EQ("", Receive(to_));
  EXPECT_EQ(big, Receive(to_));
  ASSERT_EQ(0, Send(from_, "x"));
  char c;
  Addr sender;
  ASSERT_EQ(1, recvfrom(to_.get(), &c, 1, 0, sender.sa(), &sender.len));
  EXPECT_EQ(NameOf(from_.get()).port(), sender.port());
}

TEST_P(Udplite, PortsAreNotThoseOfUdp) {
  ASSERT_NO_FATAL_FAILURE(Connect());
  Fd udp = New(IPPROTO_UDP), udp_sender = New(IPPROTO_UDP), other = New();
  EXPECT_OK(bind(udp.get(), at_.sa(), at_.len));
  EXPECT_FAILS(EADDRINUSE, bind(other.get(), at_.sa(), at_.len));
  ASSERT_OK(connect(udp_sender.get(), at_.sa(), at_.len));
  ASSERT_EQ(0, Send(from_, "lite"));
  ASSERT_EQ(0, Send(udp_sender, "full"));
  EXPECT_EQ("lite", Receive(to_));
  EXPECT_EQ("full", Receive(udp));
  EXPECT_FALSE(PollFor(to_.get(), POLLIN, 0) || PollFor(udp.get(), POLLIN, 0));
}

TEST_P(Udplite, NobodyThereIsTold) {
  ASSERT_NO_FATAL_FAILURE(Connect());
  to_.reset();
  ASSERT_EQ(0, Send(from_, "x"));
  EXPECT_TRUE(PollFor(from_.get(), POLLERR, 5000));
  EXPECT_EQ(ECONNREFUSED, Send(from_, "y"));
}

TEST_P(Udplite, CoverageIsReadBackAsItIsTaken) {
  for (int option : {kSendCoverage, kReceiveCoverage}) {
    EXPECT_EQ(0, GetInt(from_.get(), kSolUdplite, option));
    for (auto [set, got] : {std::pair{20, 20}, {8, 8}, {3, 8}, {0, 0}, {70000, 65535}}) {
      EXPECT_OK(SetInt(from_.get(), kSolUdplite, option, set));
      EXPECT_EQ(got, GetInt(from_.get(), kSolUdplite, option)) << set;
    }
  }
  Fd udp = New(IPPROTO_UDP);
  EXPECT_FAILS(ENOPROTOOPT, SetInt(udp.get(), SOL_UDP, kSendCoverage, 20));
  EXPECT_OK(SetInt(from_.get(), SOL_UDP, kSendCoverage, 20)) << "the level is not looked at";
  EXPECT_EQ(20, GetInt(from_.get(), kSolUdplite, kSendCoverage));
  EXPECT_FAILS(ENOPROTOOPT, SetInt(from_.get(), kSolUdplite, 77, 1));
}

TEST_P(Udplite, AReceiverDropsWhatIsCoveredTooLittle) {
  ASSERT_NO_FATAL_FAILURE(Connect());
  ASSERT_OK(SetInt(from_.get(), kSolUdplite, kSendCoverage, kHeader + 4));
  ASSERT_EQ(0, Send(from_, "partly covered"));
  EXPECT_EQ("partly covered", Receive(to_)) << "who asks for nothing gets it";
  ASSERT_OK(SetInt(to_.get(), kSolUdplite, kReceiveCoverage, kHeader + 5));
  ASSERT_EQ(0, Send(from_, "too little"));
  ASSERT_OK(SetInt(from_.get(), kSolUdplite, kSendCoverage, kHeader + 5));
  ASSERT_EQ(0, Send(from_, "just enough"));
  ASSERT_OK(SetInt(from_.get(), kSolUdplite, kSendCoverage, 0));
  ASSERT_EQ(0, Send(from_, "all"));
  ASSERT_OK(SetInt(from_.get(), kSolUdplite, kSendCoverage, 1000));
  ASSERT_EQ(0, Send(from_, "all of it and more"));
  EXPECT_EQ("just enough", Receive(to_));
  EXPECT_EQ("all", Receive(to_));
  EXPECT_EQ("all of it and more", Receive(to_));
  ASSERT_OK(SetInt(to_.get(), kSolUdplite, kReceiveCoverage, 0)) << "only what is covered whole";
  ASSERT_OK(SetInt(from_.get(), kSolUdplite, kSendCoverage, kHeader + 5));
  ASSERT_EQ(0, Send(from_, "not whole"));
  ASSERT_OK(SetInt(from_.get(), kSolUdplite, kSendCoverage, 0));
  ASSERT_EQ(0, Send(from_, "whole"));
  EXPECT_EQ("whole", Receive(to_));
}

// The field that is UDP's length has the coverage; 0 covers everything. And a checksum is always there.
TEST_P(Udplite, OnTheWire) {
  Fd raw(socket(v6() ? AF_INET6 : AF_INET, SOCK_RAW, IPPROTO_UDPLITE));
  if (!raw.ok() && errno == EPERM) GTEST_SKIP() << "no CAP_NET_RAW";
  ASSERT_NO_FATAL_FAILURE(Connect());
  auto header = [&] {
    std::string packet = Receive(raw);
    if (!v6() && packet.size() > 20) packet.erase(0, (packet[0] & 15) * 4u);
    return packet.size() >= kHeader ? packet : std::string(kHeader, '\xee');
  };
  auto field = [](const std::string& h, int at) {
    return static_cast<uint8_t>(h[at]) << 8 | static_cast<uint8_t>(h[at + 1]);
  };
  ASSERT_EQ(0, Send(from_, "abcd"));
  std::string h = header();
  EXPECT_EQ(NameOf(from_.get()).port(), field(h, 0));
  EXPECT_EQ(at_.port(), field(h, 2));
  EXPECT_EQ(kHeader + 4, field(h, 4));
  EXPECT_NE(0, field(h, 6));
  EXPECT_EQ("abcd", h.substr(kHeader));
  ASSERT_OK(SetInt(from_.get(), kSolUdplite, kSendCoverage, kHeader + 1));
  ASSERT_EQ(0, Send(from_, "abcd"));
  h = header();
  EXPECT_EQ(kHeader + 1, field(h, 4));
  const int partial = field(h, 6);
  ASSERT_EQ(0, Send(from_, "aXYZ"));
  EXPECT_EQ(partial, field(header(), 6)) << "the rest is not covered";
  ASSERT_EQ(0, Send(from_, "bXYZ"));
  EXPECT_NE(partial, field(header(), 6));
  ASSERT_OK(SetInt(from_.get(), kSolUdplite, kSendCoverage, 0));
  ASSERT_EQ(0, Send(from_, "abcd"));
  EXPECT_EQ(0, field(header(), 4));
}

// A checksum that is wrong where it covers, and one that is only wrong where it does not.
TEST_P(Udplite, WrongChecksums) {
  if (v6()) GTEST_SKIP() << "the header of IPv4 only";
  Fd raw(socket(AF_INET, SOCK_RAW, IPPROTO_UDPLITE));
  if (!raw.ok() && errno == EPERM) GTEST_SKIP() << "no CAP_NET_RAW";
  ASSERT_NO_FATAL_FAILURE(Connect());
  auto inject = [&](uint16_t coverage, size_t covered, const std::string& text, char flip_at) {
    std::string p(kHeader, '\0');
    auto put = [&](size_t at, uint16_t v) { p[at] = static_cast<char>(v >> 8), p[at + 1] = static_cast<char>(v); };
    put(0, 5555);
    put(2, static_cast<uint16_t>(at_.port()));
    put(4, coverage);
    p += text;
    // 127.0.0.1 twice, the protocol, the length.
    uint32_t sum = 2 * (0x7f00 + 1) + IPPROTO_UDPLITE + static_cast<uint32_t>(p.size());
    for (size_t i = 0; i < covered; ++i) sum += static_cast<uint32_t>(static_cast<uint8_t>(p[i])) << (i % 2 ? 0 : 8);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    put(6, static_cast<uint16_t>(~sum));
    if (flip_at) p[static_cast<size_t>(flip_at)] ^= 1;
    Addr to("127.0.0.1", 0);
    ASSERT_EQ(static_cast<ssize_t>(p.size()), sendto(raw.get(), p.data(), p.size(), 0, to.sa(), to.len));
  };
  inject(0, kHeader + 4, "good", 0);
  inject(0, kHeader + 4, "torn", kHeader + 1);
  inject(kHeader + 2, kHeader + 2, "head", kHeader + 3);
  inject(kHeader + 2, kHeader + 2, "lost", kHeader + 1);
  inject(7, kHeader + 4, "less than a header", 0);
  inject(100, kHeader + 4, "more than there is", 0);
  inject(kHeader + 4, kHeader + 4, "last", 0);
  EXPECT_EQ("good", Receive(to_));
  EXPECT_EQ("heae", Receive(to_)) << "torn where nobody looks";
  EXPECT_EQ("last", Receive(to_));
}

}  // namespace
