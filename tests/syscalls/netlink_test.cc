// SPDX-License-Identifier: Apache-2.0
// AF_NETLINK: links, addresses and routes as rtnetlink(7) has them, sock_diag(7), and what libc makes of them.
#include <ifaddrs.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netdb.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <functional>
#include <string>
#include <vector>

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

class UnixDiagnosis : public Netlink {
 protected:
  struct Seen {
    int state = 0, type = 0, shutdown = -1;
    uint32_t peer = 0, receive = 0, send = 0;
    std::string name;
    std::vector<uint32_t> pending;
  };
  static uint32_t Inode(const Fd& fd) {
    struct stat st;
    EXPECT_OK(fstat(fd.get(), &st));
    return static_cast<uint32_t>(st.st_ino);
  }
  static unix_diag_req Request(uint32_t states) {
    unix_diag_req r = {};
    r.sdiag_family = AF_UNIX;
    r.udiag_states = states;
    r.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN;
    r.udiag_cookie[0] = r.udiag_cookie[1] = ~0u;
    return r;
  }
  static Seen Read(const nlmsghdr* h) {
    const auto* m = static_cast<const unix_diag_msg*>(NLMSG_DATA(h));
    Seen seen;
    seen.state = m->udiag_state;
    seen.type = m->udiag_type;
    auto left = static_cast<int>(NLMSG_PAYLOAD(h, sizeof *m));
    for (auto* a = reinterpret_cast<const rtattr*>(m + 1); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
      const auto* data = static_cast<const char*>(RTA_DATA(a));
      const size_t size = RTA_PAYLOAD(a);
      unix_diag_rqlen lengths;
      switch (a->rta_type) {
        case UNIX_DIAG_NAME:
          seen.name.assign(data, size);
          break;
        case UNIX_DIAG_PEER:
          memcpy(&seen.peer, data, sizeof seen.peer);
          break;
        case UNIX_DIAG_ICONS:
          seen.pending.resize(size / 4);
          memcpy(seen.pending.data(), data, size);
          break;
        case UNIX_DIAG_RQLEN:
          memcpy(&lengths, data, sizeof lengths);
          seen.receive = lengths.udiag_rqueue;
          seen.send = lengths.udiag_wqueue;
          break;
        case UNIX_DIAG_SHUTDOWN:
          seen.shutdown = *data;
          break;
        default:
          break;
      }
    }
    return seen;
  }
  // By a dump of everything in these states; false: it is not there.
  static bool Find(const Fd& fd, uint32_t states, Seen* seen) {
    Fd s = Open(NETLINK_SOCK_DIAG);
    Ask(s, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, Request(states));
    bool found = false;
    EXPECT_EQ(0, Answers(s, [&](const nlmsghdr* h) {
                if (static_cast<const unix_diag_msg*>(NLMSG_DATA(h))->udiag_ino != Inode(fd)) return;
                found = true;
                *seen = Read(h);
              }));
    return found;
  }
  // 0 or the errno.
  static int Ask1(uint32_t inode, Seen* seen, uint32_t cookie = ~0u) {
    Fd s = Open(NETLINK_SOCK_DIAG);
    unix_diag_req r = Request(~0u);
    r.udiag_ino = inode;
    r.udiag_cookie[0] = cookie;
    Ask(s, SOCK_DIAG_BY_FAMILY, 0, r);
    return Answers(s, [&](const nlmsghdr* h) { *seen = Read(h); });
  }
  static constexpr int kEstablished = 1, kClosed = 7, kListening = 10;
};

TEST_F(UnixDiagnosis, PairsListenersAndWhoWaits) {
  int pair[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  Fd a(pair[0]), b(pair[1]);
  ASSERT_EQ(5, write(a.get(), "12345", 5));
  ASSERT_OK(shutdown(a.get(), SHUT_WR));
  Seen seen;
  ASSERT_TRUE(Find(b, ~0u, &seen));
  EXPECT_EQ(kEstablished, seen.state);
  EXPECT_EQ(SOCK_STREAM, seen.type);
  EXPECT_EQ(Inode(a), seen.peer);
  EXPECT_EQ(5u, seen.receive);
  EXPECT_EQ(1, seen.shutdown) << "nothing more to receive";
  EXPECT_EQ("", seen.name);
  ASSERT_TRUE(Find(a, 1 << kEstablished, &seen));
  EXPECT_EQ(Inode(b), seen.peer);
  EXPECT_FALSE(Find(a, 1 << kListening, &seen));

  Fd listener(socket(AF_UNIX, SOCK_STREAM, 0)), client(socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string name = std::string(1, '\0') + "diagnosis-" + std::to_string(getpid());
  memcpy(address.sun_path, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  ASSERT_OK(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), length));
  ASSERT_TRUE(Find(listener, 1 << kClosed, &seen));
  EXPECT_EQ(name, seen.name);
  ASSERT_OK(listen(listener.get(), 9));
  ASSERT_OK(connect(client.get(), reinterpret_cast<sockaddr*>(&address), length));
  ASSERT_TRUE(Find(listener, 1 << kListening, &seen));
  EXPECT_EQ(1u, seen.receive) << "who waits";
  EXPECT_EQ(9u, seen.send) << "how many may";
  EXPECT_EQ(std::vector<uint32_t>{Inode(client)}, seen.pending);
  Fd accepted(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(Find(accepted, 1 << kEstablished, &seen));
  EXPECT_EQ(Inode(client), seen.peer);
  EXPECT_EQ(name, seen.name);
}

TEST_F(UnixDiagnosis, OneByItsInode) {
  Fd fd(socket(AF_UNIX, SOCK_DGRAM, 0));
  Seen seen;
  ASSERT_EQ(0, Ask1(Inode(fd), &seen));
  EXPECT_EQ(kClosed, seen.state);
  EXPECT_EQ(SOCK_DGRAM, seen.type);
  EXPECT_EQ(ESTALE, Ask1(Inode(fd), &seen, 12345));
  const uint32_t gone = Inode(fd);
  fd.reset();
  EXPECT_EQ(ENOENT, Ask1(gone, &seen));
  EXPECT_EQ(EINVAL, Ask1(0, &seen));
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
