// SPDX-License-Identifier: Apache-2.0
// AF_NETLINK: links, addresses and routes as rtnetlink(7) has them, sock_diag(7), and what libc makes of them.
#include <ifaddrs.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netdb.h>

#include <functional>

#include "tests/syscalls/inet_util.h"

namespace {

class Netlink : public InetTest {
 protected:
  static Fd Open(int protocol = NETLINK_ROUTE) { return Fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)); }
  template <typename Body>
  static void Ask(const Fd& s, uint16_t type, uint16_t flags, const Body& body, const std::string& attributes = "") {
    std::string text(NLMSG_LENGTH(sizeof body), '\0');
    nlmsghdr h = {};
    h.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(sizeof body) + attributes.size());
    h.nlmsg_type = type;
    h.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    h.nlmsg_seq = 77;
    memcpy(text.data(), &h, sizeof h);
    memcpy(text.data() + NLMSG_HDRLEN, &body, sizeof body);
    text += attributes;
    ASSERT_EQ(send(s.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  static std::string Attribute(uint16_t type, const void* data, size_t size) {
    std::string text(RTA_SPACE(size), '\0');
    const rtattr a = {static_cast<uint16_t>(RTA_LENGTH(size)), type};
    memcpy(text.data(), &a, sizeof a);
    memcpy(text.data() + sizeof a, data, size);
    return text;
  }
  // Visits messages up to the end of a dump, or one that is none of a dump. The error of an NLMSG_ERROR.
  static int Answers(const Fd& s, const std::function<void(const nlmsghdr*)>& visit) {
    alignas(8) char b[16384];
    for (;;) {
      if (!PollFor(s.get(), POLLIN, 5000)) return -1;
      ssize_t n = recv(s.get(), b, sizeof b, 0);
      if (n < 0) return -2;
      auto left = static_cast<unsigned>(n);
      for (auto* h = reinterpret_cast<nlmsghdr*>(b); NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
        EXPECT_EQ(h->nlmsg_seq, 77u);
        if (h->nlmsg_type == NLMSG_DONE) return 0;
        if (h->nlmsg_type == NLMSG_ERROR) return -reinterpret_cast<nlmsgerr*>(NLMSG_DATA(h))->error;
        visit(h);
        if (!(h->nlmsg_flags & NLM_F_MULTI)) return 0;
      }
    }
  }
};

TEST_F(Netlink, BindAndNames) {
  Fd a = Open(), b = Open();
  sockaddr_nl n = {};
  n.nl_family = AF_NETLINK;
  ASSERT_OK(bind(a.get(), reinterpret_cast<sockaddr*>(&n), sizeof n));
  socklen_t len = sizeof n;
  ASSERT_OK(getsockname(a.get(), reinterpret_cast<sockaddr*>(&n), &len));
  EXPECT_EQ(n.nl_pid, static_cast<uint32_t>(getpid()));
  EXPECT_FAILS(EADDRINUSE, bind(b.get(), reinterpret_cast<sockaddr*>(&n), sizeof n));
  EXPECT_FAILS(EINVAL, bind(b.get(), reinterpret_cast<sockaddr*>(&n), 4));
  EXPECT_FAILS(EPROTONOSUPPORT, socket(AF_NETLINK, SOCK_RAW, 31));
  EXPECT_FAILS(ESOCKTNOSUPPORT, socket(AF_NETLINK, SOCK_STREAM, 0));
}

TEST_F(Netlink, LinkDump) {
  Fd s = Open();
  Ask(s, RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
  bool lo = false;
  EXPECT_EQ(Answers(s,
                    [&](const nlmsghdr* h) {
                      EXPECT_EQ(h->nlmsg_type, RTM_NEWLINK);
                      const auto* i = static_cast<const ifinfomsg*>(NLMSG_DATA(h));
                      if (i->ifi_index == 1) lo = (i->ifi_flags & (IFF_UP | IFF_LOOPBACK)) == (IFF_UP | IFF_LOOPBACK);
                    }),
            0);
  EXPECT_TRUE(lo);
  ifinfomsg none = {};
  none.ifi_index = 999;
  Ask(s, RTM_GETLINK, 0, none);
  EXPECT_EQ(Answers(s, [](const nlmsghdr*) {}), ENODEV);
  Ask(s, 200, 0, none);
  EXPECT_EQ(Answers(s, [](const nlmsghdr*) {}), EOPNOTSUPP);
}

TEST_F(Netlink, AddressesComeAndGo) {
  Fd s = Open();
  ifaddrmsg m = {};
  m.ifa_family = AF_INET;
  m.ifa_prefixlen = 24;
  m.ifa_index = 1;
  in_addr ip;
  inet_pton(AF_INET, "10.9.8.7", &ip);
  const std::string local = Attribute(IFA_LOCAL, &ip, sizeof ip);
  const auto listed = [&] {
    bool found = false;
    Ask(s, RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
    EXPECT_EQ(Answers(s,
                      [&](const nlmsghdr* h) {
                        const auto* a = static_cast<const ifaddrmsg*>(NLMSG_DATA(h));
                        auto left = static_cast<unsigned>(IFA_PAYLOAD(h));
                        for (auto* r = IFA_RTA(a); RTA_OK(r, left); r = RTA_NEXT(r, left)) {
                          if (r->rta_type == IFA_LOCAL && memcmp(RTA_DATA(r), &ip, 4) == 0) found = true;
                        }
                      }),
              0);
    return found;
  };
  EXPECT_FALSE(listed());
  Ask(s, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, m, local);
  EXPECT_EQ(Answers(s, [](const nlmsghdr*) {}), 0);
  EXPECT_TRUE(listed());
  Ask(s, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, m, local);
  EXPECT_EQ(Answers(s, [](const nlmsghdr*) {}), EEXIST);
  Fd u(socket(AF_INET, SOCK_DGRAM, 0));
  Addr at("10.9.8.7", 0);
  EXPECT_OK(bind(u.get(), at.sa(), at.len));
  Ask(s, RTM_DELADDR, NLM_F_ACK, m, local);
  EXPECT_EQ(Answers(s, [](const nlmsghdr*) {}), 0);
  EXPECT_FALSE(listed());
  Ask(s, RTM_DELADDR, NLM_F_ACK, m, local);
  EXPECT_EQ(Answers(s, [](const nlmsghdr*) {}), EADDRNOTAVAIL);
}

TEST_F(Netlink, RouteOfTheLoopback) {
  Fd s = Open();
  rtmsg m = {};
  m.rtm_family = AF_INET;
  m.rtm_dst_len = 32;
  in_addr ip;
  inet_pton(AF_INET, "127.0.0.1", &ip);
  Ask(s, RTM_GETROUTE, 0, m, Attribute(RTA_DST, &ip, sizeof ip));
  int type = -1;
  EXPECT_EQ(Answers(s, [&](const nlmsghdr* h) { type = static_cast<const rtmsg*>(NLMSG_DATA(h))->rtm_type; }), 0);
  EXPECT_EQ(type, RTN_LOCAL);
  inet_pton(AF_INET, "192.0.2.1", &ip);
  Ask(s, RTM_GETROUTE, 0, m, Attribute(RTA_DST, &ip, sizeof ip));
  EXPECT_EQ(Answers(s, [](const nlmsghdr*) {}), ENETUNREACH);
}

TEST_F(Netlink, ChangesNeedPrivileges) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
              Fd s = Open();
              ifinfomsg m = {};
              m.ifi_index = 1;
              m.ifi_change = IFF_UP;
              Ask(s, RTM_NEWLINK, NLM_F_ACK, m);
              CHILD_CHECK(Answers(s, [](const nlmsghdr*) {}) == EPERM);
              Ask(s, RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
              CHILD_CHECK(Answers(s, [](const nlmsghdr*) {}) == 0);
            }),
            Exited(0));
}

TEST_F(Netlink, NotificationsToGroups) {
  Fd listener = Open(), s = Open();
  sockaddr_nl n = {};
  n.nl_family = AF_NETLINK;
  n.nl_groups = RTMGRP_IPV4_IFADDR;
  ASSERT_OK(bind(listener.get(), reinterpret_cast<sockaddr*>(&n), sizeof n));
  ifaddrmsg m = {};
  m.ifa_family = AF_INET;
  m.ifa_prefixlen = 32;
  m.ifa_index = 1;
  in_addr ip;
  inet_pton(AF_INET, "10.1.1.1", &ip);
  Ask(s, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE, m, Attribute(IFA_LOCAL, &ip, sizeof ip));
  EXPECT_EQ(Answers(s, [](const nlmsghdr*) {}), 0);
  ASSERT_TRUE(PollFor(listener.get(), POLLIN, 5000));
  alignas(8) char b[4096];
  ASSERT_GT(recv(listener.get(), b, sizeof b, 0), 0);
  EXPECT_EQ(reinterpret_cast<nlmsghdr*>(b)->nlmsg_type, RTM_NEWADDR);
}

TEST_F(Netlink, SocketDiagnosis) {
  Fd l(socket(AF_INET, SOCK_STREAM, 0));
  Addr a("127.0.0.1", 0);
  ASSERT_OK(bind(l.get(), a.sa(), a.len));
  ASSERT_OK(listen(l.get(), 7));
  const int port = NameOf(l.get()).port();
  Fd s = Open(NETLINK_SOCK_DIAG);
  ASSERT_TRUE(s.ok());
  inet_diag_req_v2 r = {};
  r.sdiag_family = AF_INET;
  r.sdiag_protocol = IPPROTO_TCP;
  r.idiag_states = ~0u;
  Ask(s, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, r);
  int state = 0;
  EXPECT_EQ(Answers(s,
                    [&](const nlmsghdr* h) {
                      const auto* m = static_cast<const inet_diag_msg*>(NLMSG_DATA(h));
                      if (ntohs(m->id.idiag_sport) == port) {
                        state = m->idiag_state;
                        EXPECT_EQ(m->idiag_wqueue, 7u);
                      }
                    }),
            0);
  EXPECT_EQ(state, 10);  // TCP_LISTEN
}

TEST_F(Netlink, Libc) {
  auto* names = if_nameindex();
  ASSERT_NE(names, nullptr);
  EXPECT_STREQ(names[0].if_name, "lo");
  if_freenameindex(names);
  EXPECT_EQ(if_nametoindex("lo"), 1u);
  ifaddrs* list;
  ASSERT_OK(getifaddrs(&list));
  int seen = 0;
  for (auto* i = list; i; i = i->ifa_next) {
    if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET) seen |= 1;
    if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET6) seen |= 2;
  }
  freeifaddrs(list);
  EXPECT_EQ(seen, 3);
  addrinfo hints = {}, *info;
  hints.ai_flags = AI_NUMERICHOST;
  EXPECT_EQ(getaddrinfo("::1", "80", &hints, &info), 0);
  freeaddrinfo(info);
}

// Who has capabilities in the user namespace that owns the network namespace may configure it, and no other one.
TEST_F(Netlink, OwnersOfANamespaceConfigureIt) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(unshare(CLONE_NEWUSER) == 0);
              // The network namespace is the old one still, of another owner.
              CHILD_CHECK(SetLoopback(false) == -1 && errno == EPERM);
              CHILD_CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) == -1 && errno == EPERM);
              {
                Fd low(socket(AF_INET, SOCK_DGRAM, 0));
                Addr a("127.0.0.1", 7);
                CHILD_CHECK(bind(low.get(), a.sa(), a.len) == -1 && errno == EACCES);
                CHILD_CHECK(SetInt(low.get(), SOL_SOCKET, SO_MARK, 1) == -1 && errno == EPERM);
              }
              Fd outer(socket(AF_INET, SOCK_DGRAM, 0));
              const int old_netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
              CHILD_CHECK(unshare(CLONE_NEWNET) == 0);
              ifinfomsg lo = {};
              lo.ifi_index = 1;
              lo.ifi_flags = lo.ifi_change = IFF_UP;
              // A socket stays with the namespace it was made in.
              const Fd old(old_netlink);
              Ask(old, RTM_NEWLINK, NLM_F_ACK, lo);
              CHILD_CHECK(Answers(old, [](const nlmsghdr*) {}) == EPERM);
              CHILD_CHECK(SetInt(outer.get(), SOL_SOCKET, SO_PRIORITY, 7) == -1 && errno == EPERM);
              const Fd own = Open();
              Ask(own, RTM_NEWLINK, NLM_F_ACK, lo);
              CHILD_CHECK(Answers(own, [](const nlmsghdr*) {}) == 0);
              CHILD_CHECK(SetLoopback(false) == 0 && SetLoopback(true) == 0);
              Fd raw(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
              CHILD_CHECK(raw.get() >= 0);
              Fd low(socket(AF_INET, SOCK_DGRAM, 0));
              Addr a("127.0.0.1", 7);
              CHILD_CHECK(bind(low.get(), a.sa(), a.len) == 0);
              CHILD_CHECK(SetInt(low.get(), SOL_SOCKET, SO_MARK, 1) == 0);
              CHILD_CHECK(SetInt(low.get(), SOL_SOCKET, SO_PRIORITY, 7) == 0);
              // These count over the whole machine.
              CHILD_CHECK(SetInt(low.get(), SOL_SOCKET, SO_RCVBUFFORCE, 65536) == -1 && errno == EPERM);
              CHILD_CHECK(SetInt(low.get(), SOL_SOCKET, SO_DEBUG, 1) == -1 && errno == EACCES);
            }),
            Exited(0));
}

}  // namespace
