// SPDX-License-Identifier: Apache-2.0
// UDP, raw and echo sockets over the loopback: messages, addresses, errors, control messages, multicast.
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/filter.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <sys/time.h>

#include "tests/syscalls/inet_util.h"

namespace {

class Datagram : public InetTest, public testing::WithParamInterface<const char*> {
 protected:
  int family() const { return Addr(GetParam(), 0).family(); }
  Fd Socket(int flags = 0) { return Fd(socket(family(), SOCK_DGRAM | flags, 0)); }
  Fd Bound(int flags = 0) {
    Fd s = Socket(flags);
    Addr a(GetParam(), 0);
    EXPECT_OK(bind(s.get(), a.sa(), a.len));
    return s;
  }
  static ssize_t SendTo(const Fd& s, const Fd& to, const std::string& text, int flags = 0) {
    Addr a = NameOf(to.get());
    return sendto(s.get(), text.data(), text.size(), flags, a.sa(), a.len);
  }
  static std::string Receive(const Fd& s, int flags = MSG_DONTWAIT) {
    char b[4096];
    ssize_t n = recv(s.get(), b, sizeof b, flags);
    return n < 0 ? std::string("error ") + std::to_string(errno) : std::string(b, static_cast<size_t>(n));
  }
};

INSTANTIATE_TEST_SUITE_P(Families, Datagram, testing::Values("127.0.0.1", "::1"),
                         [](const auto& info) { return info.index ? "v6" : "v4"; });

TEST_P(Datagram, MessagesKeepTheirBounds) {
  Fd a = Bound(), b = Bound();
  EXPECT_EQ(SendTo(a, b, "first"), 5);
  EXPECT_EQ(SendTo(a, b, ""), 0);
  EXPECT_EQ(SendTo(a, b, "third one"), 9);
  int n = 0;
  EXPECT_OK(ioctl(b.get(), FIONREAD, &n));
  EXPECT_EQ(n, 5);
  char buffer[4];
  Addr from;
  EXPECT_EQ(recvfrom(b.get(), buffer, 2, MSG_TRUNC | MSG_PEEK, from.sa(), &from.len), 5);
  EXPECT_EQ(from.port(), NameOf(a.get()).port());
  EXPECT_EQ(from.text(), GetParam());
  EXPECT_EQ(Receive(b), "first");
  EXPECT_EQ(Receive(b), "");
  iovec iov = {buffer, sizeof buffer};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  EXPECT_EQ(recvmsg(b.get(), &m, 0), 4);
  EXPECT_EQ(m.msg_flags, MSG_TRUNC);
  EXPECT_FAILS(EAGAIN, recv(b.get(), buffer, 1, MSG_DONTWAIT));
}

TEST_P(Datagram, ConnectedSocketsFilter) {
  Fd a = Bound(), b = Bound(), c = Bound();
  Addr name = NameOf(b.get());
  ASSERT_OK(connect(a.get(), name.sa(), name.len));
  EXPECT_EQ(PeerOf(a.get()).port(), name.port());
  EXPECT_EQ(SendTo(c, a, "stranger"), 8);
  EXPECT_EQ(SendTo(b, a, "peer"), 4);
  EXPECT_EQ(Receive(a), "peer");
  EXPECT_EQ(Receive(a), "error 11");
  EXPECT_EQ(send(a.get(), "x", 1, 0), 1);
  EXPECT_EQ(Receive(b), "x");
  EXPECT_EQ(SendTo(a, c, "elsewhere"), 9);  // a name still wins
  EXPECT_EQ(Receive(c), "elsewhere");
  sockaddr none = {};
  none.sa_family = AF_UNSPEC;
  ASSERT_OK(connect(a.get(), &none, sizeof none));
  EXPECT_FAILS(EDESTADDRREQ, send(a.get(), "x", 1, 0));
  Addr p;
  EXPECT_FAILS(ENOTCONN, getpeername(a.get(), p.sa(), &p.len));
  EXPECT_EQ(SendTo(c, a, "now"), 3);
  EXPECT_EQ(Receive(a), "now");
}

TEST_P(Datagram, RefusedIsToldToConnectedOnly) {
  Fd gone = Bound();
  Addr a = NameOf(gone.get());
  gone.reset();
  Fd s = Socket();
  EXPECT_EQ(sendto(s.get(), "x", 1, 0, a.sa(), a.len), 1);
  EXPECT_EQ(Receive(s), "error 11");
  ASSERT_OK(connect(s.get(), a.sa(), a.len));
  EXPECT_EQ(send(s.get(), "x", 1, 0), 1);
  EXPECT_TRUE(PollFor(s.get(), POLLERR, 5000));
  EXPECT_EQ(Receive(s), "error 111");
  EXPECT_EQ(send(s.get(), "x", 1, 0), 1);
  EXPECT_TRUE(PollFor(s.get(), POLLERR, 5000));
  EXPECT_EQ(GetInt(s.get(), SOL_SOCKET, SO_ERROR), ECONNREFUSED);
  EXPECT_EQ(GetInt(s.get(), SOL_SOCKET, SO_ERROR), 0);
}

TEST_P(Datagram, ErrorQueue) {
  Fd gone = Bound();
  Addr a = NameOf(gone.get());
  gone.reset();
  Fd s = Socket();
  const bool v4 = family() == AF_INET;
  ASSERT_OK(SetInt(s.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVERR : IPV6_RECVERR, 1));
  EXPECT_EQ(sendto(s.get(), "lost", 4, 0, a.sa(), a.len), 4);
  ASSERT_TRUE(PollFor(s.get(), POLLERR, 5000));
  char data[16], control[512];
  iovec iov = {data, sizeof data};
  msghdr m = {};
  Addr to;
  m.msg_name = to.sa();
  m.msg_namelen = to.len;
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  ASSERT_EQ(recvmsg(s.get(), &m, MSG_ERRQUEUE), 4);
  EXPECT_EQ(memcmp(data, "lost", 4), 0);
  EXPECT_EQ(m.msg_flags & MSG_ERRQUEUE, MSG_ERRQUEUE);
  EXPECT_EQ(to.port(), a.port());
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  ASSERT_NE(c, nullptr);
  EXPECT_EQ(c->cmsg_type, v4 ? IP_RECVERR : IPV6_RECVERR);
  sock_extended_err e;
  memcpy(&e, CMSG_DATA(c), sizeof e);
  EXPECT_EQ(e.ee_errno, uint32_t{ECONNREFUSED});
  EXPECT_EQ(e.ee_origin, v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6);
  EXPECT_FAILS(EAGAIN, recvmsg(s.get(), &m, MSG_ERRQUEUE));
}

TEST_P(Datagram, SizesAndAddresses) {
  Fd a = Bound(), b = Bound();
  EXPECT_OK(SetInt(b.get(), SOL_SOCKET, SO_RCVBUF, 200'000));
  const size_t most = family() == AF_INET ? 65507 : 65487;
  EXPECT_OK(SetInt(a.get(), SOL_SOCKET, SO_SNDBUF, 200'000));
  EXPECT_EQ(SendTo(a, b, std::string(most, 'x')), static_cast<ssize_t>(most));
  std::string got(70'000, '\0');
  EXPECT_EQ(recv(b.get(), got.data(), got.size(), 0), static_cast<ssize_t>(most));
  EXPECT_FAILS(EMSGSIZE, SendTo(a, b, std::string(65536, 'x')));
  Addr zero(GetParam(), 0);
  EXPECT_FAILS(EINVAL, sendto(a.get(), "x", 1, 0, zero.sa(), zero.len));
  EXPECT_FAILS(EINVAL, sendto(a.get(), "x", 1, 0, zero.sa(), 4));
  Addr far(family() == AF_INET ? "192.0.2.1" : "2001:db8::1", 9);
  Fd n = Socket();
  EXPECT_FAILS(ENETUNREACH, sendto(n.get(), "x", 1, 0, far.sa(), far.len));
  EXPECT_FAILS(EOPNOTSUPP, listen(a.get(), 1));
  EXPECT_FAILS(EOPNOTSUPP, accept(a.get(), nullptr, nullptr));
  EXPECT_FAILS(ENOTCONN, shutdown(n.get(), SHUT_RD));
}

TEST_P(Datagram, QueueIsBounded) {
  Fd a = Bound(), b = Bound();
  ASSERT_OK(SetInt(b.get(), SOL_SOCKET, SO_RCVBUF, 4096));
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(SendTo(a, b, std::string(500, 'x')), 500);
  int got = 0;
  while (Receive(b).size() == 500) ++got;
  EXPECT_GT(got, 1);
  EXPECT_LT(got, 100);
}

TEST_P(Datagram, ControlMessages) {
  const bool v4 = family() == AF_INET;
  Fd a = Bound(), b = Socket();
  Addr any(v4 ? "0.0.0.0" : "::", 0);
  ASSERT_OK(bind(b.get(), any.sa(), any.len));
  if (v4) {
    EXPECT_OK(SetInt(b.get(), IPPROTO_IP, IP_PKTINFO, 1));
    EXPECT_OK(SetInt(b.get(), IPPROTO_IP, IP_RECVTTL, 1));
    EXPECT_OK(SetInt(b.get(), IPPROTO_IP, IP_RECVTOS, 1));
    EXPECT_OK(SetInt(a.get(), IPPROTO_IP, IP_TTL, 33));
    EXPECT_OK(SetInt(a.get(), IPPROTO_IP, IP_TOS, 0x20));
  } else {
    EXPECT_OK(SetInt(b.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, 1));
    EXPECT_OK(SetInt(b.get(), IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1));
    EXPECT_OK(SetInt(b.get(), IPPROTO_IPV6, IPV6_RECVTCLASS, 1));
    EXPECT_OK(SetInt(a.get(), IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33));
    EXPECT_OK(SetInt(a.get(), IPPROTO_IPV6, IPV6_TCLASS, 0x20));
  }
  Addr to(GetParam(), NameOf(b.get()).port());
  EXPECT_EQ(sendto(a.get(), "x", 1, 0, to.sa(), to.len), 1);
  char data[4], control[512];
  iovec iov = {data, sizeof data};
  msghdr m = {};
  m.msg_iov = &iov;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  ASSERT_EQ(recvmsg(b.get(), &m, 0), 1);
  int seen = 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    if (v4 && c->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      EXPECT_EQ(info.ipi_ifindex, 1);
      EXPECT_EQ(ntohl(info.ipi_addr.s_addr), INADDR_LOOPBACK);
      seen |= 1;
    } else if (!v4 && c->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      memcpy(&info, CMSG_DATA(c), sizeof info);
      EXPECT_EQ(info.ipi6_ifindex, 1u);
      EXPECT_TRUE(IN6_IS_ADDR_LOOPBACK(&info.ipi6_addr));
      seen |= 1;
    } else if (c->cmsg_type == (v4 ? IP_TTL : IPV6_HOPLIMIT)) {
      EXPECT_EQ(*reinterpret_cast<int*>(CMSG_DATA(c)), 33);
      seen |= 2;
    } else if (c->cmsg_type == (v4 ? IP_TOS : IPV6_TCLASS)) {
      EXPECT_EQ(*CMSG_DATA(c), 0x20);
      seen |= 4;
    }
  }
  EXPECT_EQ(seen, 7);
  // A buffer that is too small is told.
  EXPECT_EQ(sendto(a.get(), "x", 1, 0, to.sa(), to.len), 1);
  m.msg_controllen = 8;
  ASSERT_EQ(recvmsg(b.get(), &m, 0), 1);
  EXPECT_EQ(m.msg_flags & MSG_CTRUNC, MSG_CTRUNC);
}

TEST_P(Datagram, ManyAtOnce) {
  Fd a = Bound(), b = Bound();
  Addr to = NameOf(b.get());
  mmsghdr out[3] = {}, in[5] = {};
  iovec iov[3], room[5];
  char text[3][2] = {{'a', '1'}, {'b', '2'}, {'c', '3'}}, got[5][8];
  for (int i = 0; i < 3; ++i) {
    iov[i] = {text[i], 2};
    out[i].msg_hdr.msg_iov = &iov[i];
    out[i].msg_hdr.msg_iovlen = 1;
    out[i].msg_hdr.msg_name = to.sa();
    out[i].msg_hdr.msg_namelen = to.len;
  }
  EXPECT_EQ(sendmmsg(a.get(), out, 3, 0), 3);
  EXPECT_EQ(out[2].msg_len, 2u);
  for (int i = 0; i < 5; ++i) {
    room[i] = {got[i], 8};
    in[i].msg_hdr.msg_iov = &room[i];
    in[i].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(recvmmsg(b.get(), in, 5, MSG_WAITFORONE, nullptr), 3);
  EXPECT_EQ(in[1].msg_len, 2u);
  EXPECT_EQ(memcmp(got[2], "c3", 2), 0);
}

TEST_P(Datagram, ShutdownAndTimeout) {
  Fd a = Bound(), b = Bound();
  const timeval tv = {0, 30'000};
  ASSERT_OK(setsockopt(a.get(), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
  char x;
  EXPECT_FAILS(EAGAIN, recv(a.get(), &x, 1, 0));
  Addr name = NameOf(b.get());
  ASSERT_OK(connect(a.get(), name.sa(), name.len));
  ASSERT_OK(shutdown(a.get(), SHUT_RD));
  EXPECT_EQ(recv(a.get(), &x, 1, 0), 0);
  ASSERT_OK(shutdown(a.get(), SHUT_WR));
  EXPECT_FAILS(EPIPE, send(a.get(), "x", 1, MSG_NOSIGNAL));
}

TEST_P(Datagram, CorkJoins) {
  Fd a = Bound(), b = Bound();
  EXPECT_EQ(SendTo(a, b, "one ", MSG_MORE), 4);
  EXPECT_EQ(Receive(b), "error 11");
  EXPECT_EQ(SendTo(a, b, "message"), 7);
  EXPECT_EQ(Receive(b), "one message");
}

TEST_P(Datagram, PortsInUseAndReusePort) {
  Fd a = Bound();
  Addr name = NameOf(a.get());
  Fd b = Socket();
  EXPECT_FAILS(EADDRINUSE, bind(b.get(), name.sa(), name.len));
  EXPECT_FAILS(EINVAL, bind(a.get(), name.sa(), name.len));
  Fd x[2];
  Addr at(GetParam(), 0);
  for (Fd& s : x) {
    s = Socket();
    EXPECT_OK(SetInt(s.get(), SOL_SOCKET, SO_REUSEPORT, 1));
    ASSERT_OK(bind(s.get(), at.sa(), at.len));
    at = NameOf(s.get());
  }
  for (int i = 0; i < 64; ++i) {
    Fd from = Bound();
    EXPECT_EQ(SendTo(from, x[0], "x"), 1);
  }
  for (Fd& s : x) EXPECT_EQ(Receive(s), "x");
}

using Other = InetTest;

TEST_F(Other, MulticastOnTheLoopback) {
  Fd r(socket(AF_INET, SOCK_DGRAM, 0)), s(socket(AF_INET, SOCK_DGRAM, 0));
  Addr any("0.0.0.0", 0);
  ASSERT_OK(bind(r.get(), any.sa(), any.len));
  ip_mreqn join = {};
  inet_pton(AF_INET, "239.1.2.3", &join.imr_multiaddr);
  join.imr_ifindex = 1;
  ASSERT_OK(setsockopt(r.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join));
  EXPECT_FAILS(EADDRINUSE, setsockopt(r.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join));
  ASSERT_OK(setsockopt(s.get(), IPPROTO_IP, IP_MULTICAST_IF, &join, sizeof join));
  Addr to("239.1.2.3", NameOf(r.get()).port());
  EXPECT_EQ(sendto(s.get(), "all", 3, 0, to.sa(), to.len), 3);
  char b[8];
  EXPECT_EQ(recv(r.get(), b, sizeof b, MSG_DONTWAIT), 3);
  ASSERT_OK(setsockopt(r.get(), IPPROTO_IP, IP_DROP_MEMBERSHIP, &join, sizeof join));
  EXPECT_FAILS(EADDRNOTAVAIL, setsockopt(r.get(), IPPROTO_IP, IP_DROP_MEMBERSHIP, &join, sizeof join));
}

TEST_F(Other, BroadcastNeedsTheOption) {
  Fd s(socket(AF_INET, SOCK_DGRAM, 0));
  Addr to("127.255.255.255", 9);
  EXPECT_FAILS(EACCES, sendto(s.get(), "x", 1, 0, to.sa(), to.len));
  EXPECT_OK(SetInt(s.get(), SOL_SOCKET, SO_BROADCAST, 1));
  EXPECT_EQ(sendto(s.get(), "x", 1, 0, to.sa(), to.len), 1);
}

TEST_F(Other, RawIcmpEcho) {
  Fd s(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
  ASSERT_TRUE(s.ok());
  icmphdr echo = {};
  echo.type = ICMP_ECHO;
  echo.un.echo.id = htons(7);
  echo.un.echo.sequence = htons(1);
  uint32_t sum = 0;
  for (size_t i = 0; i < sizeof echo / 2; ++i) sum += reinterpret_cast<uint16_t*>(&echo)[i];
  echo.checksum = static_cast<uint16_t>(~(sum + (sum >> 16)));
  Addr to("127.0.0.1", 0);
  ASSERT_EQ(sendto(s.get(), &echo, sizeof echo, 0, to.sa(), to.len), ssize_t{sizeof echo});
  // Both the request and its answer come, each with its IP header.
  bool answered = false;
  for (int i = 0; i < 2 && PollFor(s.get(), POLLIN, 5000); ++i) {
    char b[256];
    ssize_t n = recv(s.get(), b, sizeof b, 0);
    ASSERT_EQ(n, 28);
    const auto* ip = reinterpret_cast<iphdr*>(b);
    EXPECT_EQ(ip->version, 4);
    EXPECT_EQ(ntohs(ip->tot_len), 28);
    if (reinterpret_cast<icmphdr*>(b + 20)->type == ICMP_ECHOREPLY) answered = true;
  }
  EXPECT_TRUE(answered);
}

TEST_F(Other, RawHeaderIncludedMayLie) {
  Fd r(socket(AF_INET, SOCK_DGRAM, 0)), s(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
  Addr at("127.0.0.1", 0);
  ASSERT_OK(bind(r.get(), at.sa(), at.len));
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(GetInt(s.get(), IPPROTO_IP, IP_HDRINCL), 1);
  struct {
    iphdr ip;
    udphdr udp;
    char text[4];
  } __attribute__((packed)) p = {};
  p.ip.version = 4;
  p.ip.ihl = 5;
  p.ip.ttl = 9;
  p.ip.protocol = IPPROTO_UDP;
  p.ip.saddr = htonl(0x7f000009);
  p.ip.daddr = htonl(INADDR_LOOPBACK);
  p.udp.source = htons(1234);
  p.udp.dest = htons(static_cast<uint16_t>(NameOf(r.get()).port()));
  p.udp.len = htons(12);
  memcpy(p.text, "fake", 4);
  ASSERT_EQ(sendto(s.get(), &p, sizeof p, 0, at.sa(), at.len), ssize_t{sizeof p});
  char b[8];
  Addr from;
  ASSERT_TRUE(PollFor(r.get(), POLLIN, 5000));
  EXPECT_EQ(recvfrom(r.get(), b, sizeof b, 0, from.sa(), &from.len), 4);
  EXPECT_EQ(from.text(), "127.0.0.9");
  EXPECT_EQ(from.port(), 1234);
  EXPECT_FAILS(EINVAL, sendto(s.get(), &p, 10, 0, at.sa(), at.len));
}

// Its number is a protocol's, too: it gets the packets that say so, and no others.
TEST_F(Other, RawOfProtocolRawReceivesItsOwn) {
  Fd r(socket(AF_INET, SOCK_RAW, IPPROTO_RAW)), s(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
  ASSERT_TRUE(r.ok() && s.ok());
  struct {
    iphdr ip;
    char text[4];
  } __attribute__((packed)) p = {}, got = {};
  p.ip.version = 4;
  p.ip.ihl = 5;
  p.ip.ttl = 9;
  p.ip.saddr = p.ip.daddr = htonl(INADDR_LOOPBACK);
  memcpy(p.text, "mine", 4);
  Addr at("127.0.0.1", 0);
  for (int protocol : {253, int{IPPROTO_RAW}}) {
    p.ip.protocol = static_cast<uint8_t>(protocol);
    ASSERT_EQ(sendto(s.get(), &p, sizeof p, 0, at.sa(), at.len), ssize_t{sizeof p});
  }
  ASSERT_TRUE(PollFor(r.get(), POLLIN, 5000));
  EXPECT_EQ(recv(r.get(), &got, sizeof got, 0), ssize_t{sizeof got});
  EXPECT_EQ(got.ip.protocol, IPPROTO_RAW);
  EXPECT_EQ(std::string(got.text, 4), "mine");
  EXPECT_FALSE(PollFor(r.get(), POLLIN, 0));
}

TEST_F(Other, PacketsToAnyOfNet127) {
  Fd r(socket(AF_INET, SOCK_DGRAM, 0)), s(socket(AF_INET, SOCK_DGRAM, 0));
  Addr at("127.1.2.3", 0);
  ASSERT_OK(bind(r.get(), at.sa(), at.len));
  Addr to = NameOf(r.get());
  EXPECT_EQ(sendto(s.get(), "x", 1, 0, to.sa(), to.len), 1);
  char b;
  Addr from;
  EXPECT_EQ(recvfrom(r.get(), &b, 1, 0, from.sa(), &from.len), 1);
  EXPECT_EQ(from.text(), "127.0.0.1");
}

TEST_F(Other, InterfaceIoctls) {
  Fd s(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq r = {};
  strcpy(r.ifr_name, "lo");
  EXPECT_OK(ioctl(s.get(), SIOCGIFINDEX, &r));
  EXPECT_EQ(r.ifr_ifindex, 1);
  EXPECT_OK(ioctl(s.get(), SIOCGIFMTU, &r));
  EXPECT_EQ(r.ifr_mtu, 65536);
  EXPECT_OK(ioctl(s.get(), SIOCGIFFLAGS, &r));
  EXPECT_EQ(r.ifr_flags, IFF_UP | IFF_LOOPBACK | IFF_RUNNING);
  EXPECT_OK(ioctl(s.get(), SIOCGIFADDR, &r));
  EXPECT_EQ(reinterpret_cast<sockaddr_in*>(&r.ifr_addr)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
  EXPECT_OK(ioctl(s.get(), SIOCGIFNETMASK, &r));
  EXPECT_EQ(reinterpret_cast<sockaddr_in*>(&r.ifr_addr)->sin_addr.s_addr, htonl(0xff000000));
  r.ifr_ifindex = 1;
  EXPECT_OK(ioctl(s.get(), SIOCGIFNAME, &r));
  EXPECT_STREQ(r.ifr_name, "lo");
  strcpy(r.ifr_name, "none0");
  EXPECT_FAILS(ENODEV, ioctl(s.get(), SIOCGIFINDEX, &r));
  ifreq list[4];
  ifconf c = {};
  c.ifc_len = sizeof list;
  c.ifc_req = list;
  EXPECT_OK(ioctl(s.get(), SIOCGIFCONF, &c));
  EXPECT_EQ(c.ifc_len, int{sizeof(ifreq)});
  EXPECT_STREQ(list[0].ifr_name, "lo");
  EXPECT_FAILS(ENOTTY, ioctl(s.get(), 0x12345, &r));
}

// --- Socket filters

sock_filter Op(int code, uint32_t k, uint8_t jt = 0, uint8_t jf = 0) {
  return {static_cast<uint16_t>(code), jt, jf, k};
}
int Attach(const Fd& s, std::vector<sock_filter> program) {
  const sock_fprog f = {static_cast<unsigned short>(program.size()), program.data()};
  return setsockopt(s.get(), SOL_SOCKET, SO_ATTACH_FILTER, &f, sizeof f);
}

// The program sees the UDP header, so the first byte of the message is at 8.
TEST_P(Datagram, FilterChoosesMessages) {
  Fd a = Bound(), b = Bound();
  ASSERT_OK(Attach(b, {Op(BPF_LD | BPF_B | BPF_ABS, 8), Op(BPF_JMP | BPF_JEQ | BPF_K, 'y', 0, 1),
                       Op(BPF_RET | BPF_K, ~0u), Op(BPF_RET | BPF_K, 0)}));
  EXPECT_EQ(SendTo(a, b, "no"), 2);
  EXPECT_EQ(SendTo(a, b, ""), 0);  // too short for the load: dropped
  EXPECT_EQ(SendTo(a, b, "yes"), 3);
  EXPECT_EQ(Receive(b), "yes");
  EXPECT_EQ(Receive(b), "error " + std::to_string(EAGAIN));
  EXPECT_OK(SetInt(b.get(), SOL_SOCKET, SO_DETACH_FILTER, 0));
  EXPECT_FAILS(ENOENT, SetInt(b.get(), SOL_SOCKET, SO_DETACH_FILTER, 0));
  EXPECT_EQ(SendTo(a, b, "no"), 2);
  EXPECT_EQ(Receive(b), "no");
}

TEST_P(Datagram, FilterCutsMessages) {
  Fd a = Bound(), b = Bound();
  ASSERT_OK(Attach(b, {Op(BPF_RET | BPF_K, 8 + 3)}));
  EXPECT_EQ(SendTo(a, b, "abcdef"), 6);
  EXPECT_EQ(Receive(b), "abc");
  // The header always stays.
  ASSERT_OK(Attach(b, {Op(BPF_RET | BPF_K, 1)}));
  EXPECT_EQ(SendTo(a, b, "abcdef"), 6);
  EXPECT_EQ(Receive(b), "");
  // The length is with the header.
  ASSERT_OK(Attach(b, {Op(BPF_LD | BPF_W | BPF_LEN, 0), Op(BPF_ALU | BPF_SUB | BPF_K, 2), Op(BPF_RET | BPF_A, 0)}));
  EXPECT_EQ(SendTo(a, b, std::string(3000, 'x') + "yz"), 3002);
  EXPECT_EQ(Receive(b), std::string(3000, 'x'));
}

// Words that are not of the message: the IP header, the interface, the protocol, the packet type.
TEST_P(Datagram, FilterSeesHeadersAndAncillaryWords) {
  const bool v4 = family() == AF_INET;
  struct Case {
    int code;
    uint32_t at, want;
  };
  for (const Case& c : std::initializer_list<Case>{
           {BPF_B, uint32_t(SKF_NET_OFF) + (v4 ? 9u : 6u), IPPROTO_UDP},
           {BPF_B, uint32_t(SKF_NET_OFF) + (v4 ? 20u : 40u) + 8, 'm'},
           {BPF_H, 4, 8 + 7},
           {BPF_W, uint32_t(SKF_AD_OFF) + SKF_AD_IFINDEX, 1},
           {BPF_W, uint32_t(SKF_AD_OFF) + SKF_AD_PROTOCOL, v4 ? 0x0800u : 0x86ddu},
           {BPF_W, uint32_t(SKF_AD_OFF) + SKF_AD_PKTTYPE, 0},
       }) {
    SCOPED_TRACE(c.at);
    Fd a = Bound(), b = Bound();
    ASSERT_OK(Attach(b, {Op(BPF_LD | c.code | BPF_ABS, c.at), Op(BPF_JMP | BPF_JEQ | BPF_K, c.want, 0, 1),
                         Op(BPF_RET | BPF_K, ~0u), Op(BPF_RET | BPF_K, 0)}));
    EXPECT_EQ(SendTo(a, b, "message"), 7);
    EXPECT_EQ(Receive(b), "message");
  }
}

TEST_P(Datagram, FilterErrorsAndLock) {
  Fd s = Bound();
  EXPECT_FAILS(EINVAL, Attach(s, {}));
  EXPECT_FAILS(EINVAL, Attach(s, {Op(BPF_LD | BPF_IMM, 1)}));  // no return
  EXPECT_FAILS(EINVAL, Attach(s, {Op(BPF_JMP | BPF_JA, 7), Op(BPF_RET | BPF_K, 0)}));
  EXPECT_FAILS(EINVAL, Attach(s, {Op(BPF_LD | BPF_W | BPF_ABS, uint32_t(SKF_AD_OFF) + 1), Op(BPF_RET | BPF_K, 0)}));
  sock_fprog f = {1, reinterpret_cast<sock_filter*>(8)};
  EXPECT_FAILS(EFAULT, setsockopt(s.get(), SOL_SOCKET, SO_ATTACH_FILTER, &f, sizeof f));
  f.filter = nullptr;
  EXPECT_FAILS(EINVAL, setsockopt(s.get(), SOL_SOCKET, SO_ATTACH_FILTER, &f, sizeof f));
  EXPECT_FAILS(EINVAL, setsockopt(s.get(), SOL_SOCKET, SO_ATTACH_FILTER, &f, sizeof f - 1));
  EXPECT_FAILS(ENOENT, SetInt(s.get(), SOL_SOCKET, SO_DETACH_FILTER, 0));
  // A refused program leaves the old one.
  Fd a = Bound();
  ASSERT_OK(Attach(s, {Op(BPF_RET | BPF_K, 8 + 1)}));
  EXPECT_FAILS(EINVAL, Attach(s, {Op(BPF_LD | BPF_IMM, 1)}));
  EXPECT_OK(SetInt(s.get(), SOL_SOCKET, SO_LOCK_FILTER, 1));
  EXPECT_FAILS(EPERM, SetInt(s.get(), SOL_SOCKET, SO_LOCK_FILTER, 0));
  EXPECT_FAILS(EPERM, SetInt(s.get(), SOL_SOCKET, SO_DETACH_FILTER, 0));
  EXPECT_FAILS(EPERM, Attach(s, {Op(BPF_RET | BPF_K, ~0u)}));
  EXPECT_EQ(SendTo(a, s, "ab"), 2);
  EXPECT_EQ(Receive(s), "a");
}

// A raw socket's program sees the IPv4 header, and no IPv6 header.
TEST_P(Datagram, FilterOfRawSocket) {
  const bool v4 = family() == AF_INET;
  const uint32_t header = v4 ? 20 : 0;
  Fd raw(socket(family(), SOCK_RAW, IPPROTO_UDP));
  ASSERT_OK(raw.get());
  ASSERT_OK(Attach(raw, {Op(BPF_LD | BPF_B | BPF_ABS, header + 8), Op(BPF_JMP | BPF_JEQ | BPF_K, 'y', 0, 1),
                         Op(BPF_RET | BPF_K, header + 8 + 2), Op(BPF_RET | BPF_K, 0)}));
  Fd a = Bound(), b = Bound();
  EXPECT_EQ(SendTo(a, b, "no"), 2);
  EXPECT_EQ(SendTo(a, b, "yes"), 3);
  const std::string got = Receive(raw);
  ASSERT_EQ(got.size(), header + 8 + 2);
  EXPECT_EQ(got.substr(header + 8), "ye");
  EXPECT_EQ(Receive(raw), "error " + std::to_string(EAGAIN));
}

}  // namespace
