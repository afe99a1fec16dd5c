// SPDX-License-Identifier: Apache-2.0
// TCP over the loopback: connections, data, ends, errors, options.
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <thread>

#include "tests/syscalls/inet_util.h"

namespace {

class Stream : public InetTest, public testing::WithParamInterface<const char*> {
 protected:
  Fd Socket(int flags = 0) { return Fd(socket(Addr(GetParam(), 0).family(), SOCK_STREAM | flags, 0)); }
  Fd Listen(int backlog = 5) {
    Fd s = Socket();
    Addr a(GetParam(), 0);
    EXPECT_OK(bind(s.get(), a.sa(), a.len));
    EXPECT_OK(listen(s.get(), backlog));
    return s;
  }
  int Connect(const Fd& s, const Fd& listener) {
    Addr a = NameOf(listener.get());
    return connect(s.get(), a.sa(), a.len);
  }
  struct Pair {
    Fd client, server;
  };
  Pair Connected() {
    Fd l = Listen();
    Pair p;
    p.client = Socket();
    EXPECT_OK(Connect(p.client, l));
    p.server = Fd(accept(l.get(), nullptr, nullptr));
    EXPECT_TRUE(p.server.ok());
    return p;
  }
  static void SetTimeout(const Fd& s, int option, int ms) {
    const timeval tv = {ms / 1000, ms % 1000 * 1000};
    EXPECT_OK(setsockopt(s.get(), SOL_SOCKET, option, &tv, sizeof tv));
  }
  // Ends when the peer has seen all that was sent: on the loopback, when our send queue is empty.
  static short Events(const Fd& s, short wanted = POLLIN | POLLOUT | POLLPRI | POLLRDHUP) {
    pollfd p = {s.get(), wanted, 0};
    EXPECT_GE(poll(&p, 1, 0), 0);
    return p.revents;
  }
};

INSTANTIATE_TEST_SUITE_P(Families, Stream, testing::Values("127.0.0.1", "::1"),
                         [](const auto& info) { return info.index ? "v6" : "v4"; });

TEST_P(Stream, NamesAndData) {
  Fd l = Listen();
  Addr name = NameOf(l.get());
  EXPECT_EQ(name.text(), GetParam());
  EXPECT_NE(name.port(), 0);
  Fd c = Socket();
  ASSERT_OK(Connect(c, l));
  Addr peer;
  Fd s(accept4(l.get(), peer.sa(), &peer.len, SOCK_CLOEXEC | SOCK_NONBLOCK));
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(fcntl(s.get(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  EXPECT_EQ(fcntl(s.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(peer.port(), NameOf(c.get()).port());
  EXPECT_EQ(peer.text(), GetParam());
  EXPECT_EQ(PeerOf(c.get()).port(), name.port());
  EXPECT_EQ(NameOf(s.get()).port(), name.port());
  char b[16];
  EXPECT_FAILS(EAGAIN, read(s.get(), b, sizeof b));
  EXPECT_EQ(write(c.get(), "hello", 5), 5);
  ASSERT_TRUE(PollFor(s.get(), POLLIN, 5000));
  int n = 0;
  EXPECT_OK(ioctl(s.get(), FIONREAD, &n));
  EXPECT_EQ(n, 5);
  EXPECT_EQ(recv(s.get(), b, 2, MSG_PEEK), 2);
  EXPECT_EQ(read(s.get(), b, sizeof b), 5);
  EXPECT_EQ(memcmp(b, "hello", 5), 0);
  EXPECT_EQ(GetInt(l.get(), SOL_SOCKET, SO_ACCEPTCONN), 1);
  EXPECT_EQ(GetInt(c.get(), SOL_SOCKET, SO_ACCEPTCONN), 0);
  EXPECT_EQ(GetInt(c.get(), SOL_SOCKET, SO_TYPE), SOCK_STREAM);
  EXPECT_EQ(GetInt(c.get(), SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
  EXPECT_EQ(GetInt(c.get(), SOL_SOCKET, SO_DOMAIN), name.family());
}

TEST_P(Stream, StatesBeforeConnection) {
  Fd s = Socket();
  char b[4];
  EXPECT_EQ(Events(s), POLLOUT | POLLHUP);
  EXPECT_FAILS(ENOTCONN, read(s.get(), b, sizeof b));
  EXPECT_FAILS(EPIPE, send(s.get(), b, 1, MSG_NOSIGNAL));
  EXPECT_FAILS(ENOTCONN, shutdown(s.get(), SHUT_RD));
  Addr a;
  EXPECT_FAILS(ENOTCONN, getpeername(s.get(), a.sa(), &a.len));
  EXPECT_FAILS(EINVAL, accept(s.get(), nullptr, nullptr));
  EXPECT_EQ(NameOf(s.get()).port(), 0);
  Fd l = Listen();
  EXPECT_EQ(Events(l), 0);
  EXPECT_FAILS(ENOTCONN, read(l.get(), b, sizeof b));
  EXPECT_FAILS(EISCONN, Connect(l, l));
  EXPECT_FAILS(EINVAL, bind(l.get(), Addr(GetParam(), 0).sa(), Addr(GetParam(), 0).len));
  Fd c = Socket();
  ASSERT_OK(Connect(c, l));
  EXPECT_FAILS(EISCONN, Connect(c, l));
  EXPECT_EQ(Events(l), POLLIN);
  EXPECT_EQ(Events(c), POLLOUT);
}

TEST_P(Stream, RefusedConnections) {
  Fd l = Listen();
  Addr gone = NameOf(l.get());
  l.reset();
  Fd c = Socket();
  EXPECT_FAILS(ECONNREFUSED, connect(c.get(), gone.sa(), gone.len));
  Fd n = Socket(SOCK_NONBLOCK);
  EXPECT_FAILS(EINPROGRESS, connect(n.get(), gone.sa(), gone.len));
  ASSERT_TRUE(PollFor(n.get(), POLLOUT, 5000));
  EXPECT_EQ(Events(n) & (POLLERR | POLLHUP | POLLOUT), POLLERR | POLLHUP | POLLOUT);
  EXPECT_EQ(GetInt(n.get(), SOL_SOCKET, SO_ERROR), ECONNREFUSED);
  EXPECT_EQ(GetInt(n.get(), SOL_SOCKET, SO_ERROR), 0);
}

TEST_P(Stream, NonblockingConnect) {
  Fd l = Listen();
  Fd c = Socket(SOCK_NONBLOCK);
  EXPECT_FAILS(EINPROGRESS, Connect(c, l));
  ASSERT_TRUE(PollFor(c.get(), POLLOUT, 5000));
  EXPECT_EQ(GetInt(c.get(), SOL_SOCKET, SO_ERROR), 0);
  EXPECT_OK(Connect(c, l));  // tells the success once
  EXPECT_FAILS(EISCONN, Connect(c, l));
}

TEST_P(Stream, AddressErrors) {
  Fd s = Socket();
  Addr a(GetParam(), 0);
  EXPECT_FAILS(EINVAL, bind(s.get(), a.sa(), 2));
  EXPECT_FAILS(EINVAL, connect(s.get(), a.sa(), 1));
  Addr other(a.family() == AF_INET ? "::1" : "127.0.0.1", 80);
  EXPECT_FAILS(a.family() == AF_INET6 ? EINVAL : EAFNOSUPPORT, bind(s.get(), other.sa(), other.len));
  Addr foreign(a.family() == AF_INET ? "192.0.2.1" : "2001:db8::1", 0);
  EXPECT_FAILS(EADDRNOTAVAIL, bind(s.get(), foreign.sa(), foreign.len));
  foreign = Addr(a.family() == AF_INET ? "192.0.2.1" : "2001:db8::1", 80);
  EXPECT_FAILS(ENETUNREACH, connect(s.get(), foreign.sa(), foreign.len));
  EXPECT_FAILS(EFAULT, bind(s.get(), reinterpret_cast<sockaddr*>(8), sizeof(sockaddr_in6)));
}

TEST_P(Stream, PortsInUse) {
  Fd l = Listen();
  Addr a = NameOf(l.get());
  Fd s = Socket();
  EXPECT_FAILS(EADDRINUSE, bind(s.get(), a.sa(), a.len));
  EXPECT_OK(SetInt(s.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  EXPECT_FAILS(EADDRINUSE, bind(s.get(), a.sa(), a.len));
  // Neither listens: SO_REUSEADDR of both is enough; then only one may listen.
  Fd x = Socket(), y = Socket();
  EXPECT_OK(SetInt(x.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  EXPECT_OK(SetInt(y.get(), SOL_SOCKET, SO_REUSEADDR, 1));
  Addr any(GetParam(), 0);
  EXPECT_OK(bind(x.get(), any.sa(), any.len));
  a = NameOf(x.get());
  EXPECT_OK(bind(y.get(), a.sa(), a.len));
  EXPECT_OK(listen(x.get(), 1));
  EXPECT_FAILS(EADDRINUSE, listen(y.get(), 1));
}

TEST_P(Stream, ReusePortSharesConnections) {
  Fd l[2];
  Addr a(GetParam(), 0);
  for (Fd& s : l) {
    s = Socket();
    EXPECT_OK(SetInt(s.get(), SOL_SOCKET, SO_REUSEPORT, 1));
    EXPECT_OK(bind(s.get(), a.sa(), a.len));
    EXPECT_OK(listen(s.get(), 100));
    a = NameOf(s.get());
  }
  std::vector<Fd> clients;
  for (int i = 0; i < 64; ++i) {
    clients.push_back(Socket());
    ASSERT_OK(connect(clients.back().get(), a.sa(), a.len));
  }
  for (Fd& s : l) EXPECT_EQ(Events(s), POLLIN);
}

TEST_P(Stream, RebindAfterClose) {
  Addr a(GetParam(), 0);
  for (int round = 0; round < 3; ++round) {
    Fd l = Socket();
    EXPECT_OK(SetInt(l.get(), SOL_SOCKET, SO_REUSEADDR, 1));
    ASSERT_OK(bind(l.get(), a.sa(), a.len));
    ASSERT_OK(listen(l.get(), 1));
    a = NameOf(l.get());
    Fd c = Socket();
    ASSERT_OK(Connect(c, l));
    Fd s(accept(l.get(), nullptr, nullptr));
    s.reset();  // the server's side waits in TIME-WAIT
    char b;
    EXPECT_EQ(read(c.get(), &b, 1), 0);
  }
}

TEST_P(Stream, ShutdownAndEof) {
  auto [c, s] = Connected();
  EXPECT_FAILS(EINVAL, shutdown(c.get(), 3));
  ASSERT_OK(shutdown(c.get(), SHUT_WR));
  char b[8];
  EXPECT_EQ(read(s.get(), b, sizeof b), 0);
  EXPECT_EQ(Events(s), POLLIN | POLLOUT | POLLRDHUP);
  EXPECT_FAILS(EPIPE, send(c.get(), "x", 1, MSG_NOSIGNAL));
  EXPECT_EQ(write(s.get(), "back", 4), 4);
  EXPECT_EQ(read(c.get(), b, sizeof b), 4);
  ASSERT_OK(shutdown(s.get(), SHUT_WR));
  EXPECT_EQ(read(c.get(), b, sizeof b), 0);
  ASSERT_TRUE(PollFor(c.get(), POLLHUP, 5000));
  EXPECT_EQ(Events(c) & (POLLIN | POLLHUP | POLLRDHUP), POLLIN | POLLHUP | POLLRDHUP);
}

TEST_P(Stream, SigpipeAndReset) {
  auto [c, s] = Connected();
  // Unread data at the close makes it a reset.
  EXPECT_EQ(write(c.get(), "unread", 6), 6);
  ASSERT_TRUE(PollFor(s.get(), POLLIN, 5000));
  s.reset();
  ASSERT_TRUE(PollFor(c.get(), POLLERR | POLLHUP, 5000));
  EXPECT_EQ(Events(c) & (POLLERR | POLLHUP | POLLIN), POLLERR | POLLHUP | POLLIN);
  char b;
  EXPECT_FAILS(ECONNRESET, read(c.get(), &b, 1));
  EXPECT_EQ(read(c.get(), &b, 1), 0);
  EXPECT_EQ(RunInChild([&] {
              signal(SIGPIPE, SIG_DFL);
              [[maybe_unused]] auto n = write(c.get(), "x", 1);
            }),
            Killed(SIGPIPE));
  EXPECT_FAILS(EPIPE, send(c.get(), "x", 1, MSG_NOSIGNAL));
}

TEST_P(Stream, LingerZeroResets) {
  auto [c, s] = Connected();
  const linger now = {1, 0};
  ASSERT_OK(setsockopt(s.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now));
  s.reset();
  ASSERT_TRUE(PollFor(c.get(), POLLERR, 5000));
  char b;
  EXPECT_FAILS(ECONNRESET, read(c.get(), &b, 1));
}

TEST_P(Stream, BulkBothWays) {
  auto pair = Connected();
  constexpr size_t kSize = 8 << 20;
  const auto pump = [](int fd, unsigned seed) {
    std::string block(50'000, '\0');
    size_t done = 0;
    while (done < kSize) {
      const size_t n = std::min(block.size(), kSize - done);
      for (size_t i = 0; i < n; ++i) block[i] = static_cast<char>((done + i) * 31 + ((done + i) >> 11) + seed);
      ssize_t w = write(fd, block.data(), n);
      if (w <= 0) return false;
      done += static_cast<size_t>(w);
    }
    return shutdown(fd, SHUT_WR) == 0;
  };
  const auto drain = [](int fd, unsigned seed) {
    std::string block(70'000, '\0');
    size_t done = 0;
    for (;;) {
      ssize_t n = read(fd, block.data(), block.size());
      if (n < 0) return false;
      if (n == 0) return done == kSize;
      for (ssize_t i = 0; i < n; ++i, ++done) {
        if (block[static_cast<size_t>(i)] != static_cast<char>(done * 31 + (done >> 11) + seed)) return false;
      }
    }
  };
  bool ok[4] = {};
  std::thread t[] = {std::thread([&] { ok[0] = pump(pair.client.get(), 1); }),
                     std::thread([&] { ok[1] = drain(pair.server.get(), 1); }),
                     std::thread([&] { ok[2] = pump(pair.server.get(), 2); }),
                     std::thread([&] { ok[3] = drain(pair.client.get(), 2); })};
  for (auto& thread : t) thread.join();
  for (bool b : ok) EXPECT_TRUE(b);
}

TEST_P(Stream, FullBuffersAndEdges) {
  auto [c, s] = Connected();
  ASSERT_OK(fcntl(c.get(), F_SETFL, O_NONBLOCK));
  Fd e(epoll_create1(0));
  epoll_event ev = {EPOLLOUT | EPOLLIN | EPOLLET | EPOLLRDHUP, {}};
  ASSERT_OK(epoll_ctl(e.get(), EPOLL_CTL_ADD, c.get(), &ev));
  EXPECT_EQ(epoll_wait(e.get(), &ev, 1, 0), 1);
  EXPECT_EQ(ev.events, EPOLLOUT);
  EXPECT_EQ(epoll_wait(e.get(), &ev, 1, 0), 0);
  const std::string block(100'000, 'x');
  size_t sent = 0;
  for (;;) {
    ssize_t n = write(c.get(), block.data(), block.size());
    if (n < 0) break;
    sent += static_cast<size_t>(n);
    ASSERT_LT(sent, size_t{64} << 20);
  }
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_EQ(Events(c), 0);
  while (epoll_wait(e.get(), &ev, 1, 0) == 1) {
  }
  int queued = 0;
  EXPECT_OK(ioctl(c.get(), SIOCOUTQ, &queued));
  EXPECT_GT(queued, 0);
  std::string got(1 << 20, '\0');
  size_t taken = 0;
  while (taken < sent) {
    ssize_t n = read(s.get(), got.data(), got.size());
    ASSERT_GT(n, 0);
    taken += static_cast<size_t>(n);
  }
  ASSERT_EQ(epoll_wait(e.get(), &ev, 1, 5000), 1);
  EXPECT_EQ(ev.events, EPOLLOUT);
  // Data is an edge each time it comes.
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(write(s.get(), "e", 1), 1);
    ASSERT_EQ(epoll_wait(e.get(), &ev, 1, 5000), 1);
    EXPECT_EQ(ev.events & EPOLLIN, EPOLLIN);
    EXPECT_EQ(epoll_wait(e.get(), &ev, 1, 0), 0);
  }
  s.reset();
  ASSERT_EQ(epoll_wait(e.get(), &ev, 1, 5000), 1);
  EXPECT_EQ(ev.events & (EPOLLIN | EPOLLRDHUP), uint32_t{EPOLLIN | EPOLLRDHUP});
}

TEST_P(Stream, TimeoutsAndFlags) {
  auto [c, s] = Connected();
  char b[8];
  SetTimeout(c, SO_RCVTIMEO, 30);
  EXPECT_FAILS(EAGAIN, read(c.get(), b, sizeof b));
  EXPECT_FAILS(EAGAIN, recv(c.get(), b, sizeof b, MSG_DONTWAIT));
  EXPECT_EQ(send(s.get(), "ab", 2, MSG_MORE), 2);
  EXPECT_EQ(send(s.get(), "cd", 2, 0), 2);
  SetTimeout(c, SO_RCVTIMEO, 10'000);
  EXPECT_EQ(recv(c.get(), b, 4, MSG_WAITALL), 4);
  EXPECT_EQ(memcmp(b, "abcd", 4), 0);
  EXPECT_EQ(write(s.get(), "12345678", 8), 8);
  EXPECT_EQ(recv(c.get(), nullptr, 3, MSG_TRUNC | MSG_WAITALL), 3);  // discarded
  EXPECT_EQ(read(c.get(), b, sizeof b), 5);
  EXPECT_EQ(memcmp(b, "45678", 5), 0);
  EXPECT_FAILS(EAGAIN, recv(c.get(), b, 1, MSG_ERRQUEUE));
  SetTimeout(c, SO_SNDTIMEO, 30);
  const std::string block(1 << 20, 'x');
  ssize_t n;
  int rounds = 0;
  while ((n = write(c.get(), block.data(), block.size())) > 0) ASSERT_LT(++rounds, 64);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_P(Stream, AcceptBlocksAndTimesOut) {
  Fd l = Listen();
  SetTimeout(l, SO_RCVTIMEO, 30);
  EXPECT_FAILS(EAGAIN, accept(l.get(), nullptr, nullptr));
  SetTimeout(l, SO_RCVTIMEO, 0);
  Fd c = Socket();
  std::thread t([&] { EXPECT_OK(Connect(c, l)); });
  Fd s(accept(l.get(), nullptr, nullptr));
  EXPECT_TRUE(s.ok());
  t.join();
}

TEST_P(Stream, ClosedListenerResetsItsQueue) {
  Fd l = Listen();
  Fd c = Socket();
  ASSERT_OK(Connect(c, l));
  l.reset();
  ASSERT_TRUE(PollFor(c.get(), POLLERR | POLLHUP, 5000));
  char b;
  EXPECT_FAILS(ECONNRESET, read(c.get(), &b, 1));
}

TEST_P(Stream, ConnectToUnspecDissolves) {
  auto [c, s] = Connected();
  sockaddr none = {};
  none.sa_family = AF_UNSPEC;
  ASSERT_OK(connect(c.get(), &none, sizeof none));
  char b;
  EXPECT_FAILS(ECONNRESET, read(s.get(), &b, 1));
  Fd l = Listen();
  EXPECT_OK(Connect(c, l));
}

TEST_P(Stream, UrgentData) {
  auto [c, s] = Connected();
  EXPECT_EQ(send(c.get(), "ab", 2, 0), 2);
  EXPECT_EQ(send(c.get(), "!", 1, MSG_OOB), 1);
  EXPECT_EQ(send(c.get(), "cd", 2, 0), 2);
  ASSERT_TRUE(PollFor(s.get(), POLLPRI, 5000));
  char b[8];
  EXPECT_EQ(recv(s.get(), b, sizeof b, MSG_OOB), 1);
  EXPECT_EQ(b[0], '!');
  EXPECT_EQ(recv(s.get(), b, sizeof b, 0), 2);  // stops at the mark
  int at = 0;
  EXPECT_OK(ioctl(s.get(), SIOCATMARK, &at));
  EXPECT_EQ(at, 1);
  EXPECT_EQ(recv(s.get(), b, 2, MSG_WAITALL), 2);
  EXPECT_EQ(memcmp(b, "cd", 2), 0);
  EXPECT_FAILS(EINVAL, recv(s.get(), b, 1, MSG_OOB));
}

TEST_P(Stream, Options) {
  Fd s = Socket();
  const int fd = s.get();
  EXPECT_EQ(GetInt(fd, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_OK(SetInt(fd, IPPROTO_TCP, TCP_NODELAY, 5));
  EXPECT_EQ(GetInt(fd, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(GetInt(fd, IPPROTO_TCP, TCP_KEEPIDLE), 7200);
  EXPECT_EQ(GetInt(fd, IPPROTO_TCP, TCP_KEEPINTVL), 75);
  EXPECT_EQ(GetInt(fd, IPPROTO_TCP, TCP_KEEPCNT), 9);
  EXPECT_OK(SetInt(fd, IPPROTO_TCP, TCP_KEEPIDLE, 11));
  EXPECT_EQ(GetInt(fd, IPPROTO_TCP, TCP_KEEPIDLE), 11);
  EXPECT_FAILS(EINVAL, SetInt(fd, IPPROTO_TCP, TCP_KEEPIDLE, 0));
  EXPECT_FAILS(EINVAL, SetInt(fd, IPPROTO_TCP, TCP_KEEPIDLE, 32768));
  EXPECT_FAILS(EINVAL, SetInt(fd, IPPROTO_TCP, TCP_KEEPCNT, 128));
  EXPECT_FAILS(EINVAL, SetInt(fd, IPPROTO_TCP, TCP_SYNCNT, 0));
  EXPECT_FAILS(EINVAL, SetInt(fd, IPPROTO_TCP, TCP_MAXSEG, 10));
  EXPECT_OK(SetInt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 1000));
  EXPECT_EQ(GetInt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 1000);
  EXPECT_OK(SetInt(fd, IPPROTO_TCP, TCP_CORK, 1));
  EXPECT_OK(SetInt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0));
  EXPECT_OK(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
  char name[16] = {};
  socklen_t len = sizeof name;
  EXPECT_OK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len));
  EXPECT_STREQ(name, "reno");
  EXPECT_FAILS(ENOENT, setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nothing", 7));
  EXPECT_FAILS(ENOPROTOOPT, SetInt(fd, IPPROTO_TCP, 9999, 1));
  EXPECT_FAILS(EINVAL, setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, name, 1));
  EXPECT_EQ(GetInt(fd, SOL_SOCKET, SO_RCVBUF), 131072);
  EXPECT_EQ(GetInt(fd, SOL_SOCKET, SO_SNDBUF), 16384);
  EXPECT_OK(SetInt(fd, SOL_SOCKET, SO_RCVBUF, 8192));
  EXPECT_EQ(GetInt(fd, SOL_SOCKET, SO_RCVBUF), 16384);
  EXPECT_OK(SetInt(fd, SOL_SOCKET, SO_KEEPALIVE, 1));
  EXPECT_EQ(GetInt(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_OK(SetInt(fd, IPPROTO_IP, IP_TOS, 0x10));
  EXPECT_EQ(GetInt(fd, IPPROTO_IP, IP_TOS), 0x10);
  EXPECT_EQ(GetInt(fd, IPPROTO_IP, IP_TTL), 64);
  EXPECT_FAILS(EINVAL, SetInt(fd, IPPROTO_IP, IP_TTL, 256));
  EXPECT_FAILS(ENODEV, setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "none0", 6));
  EXPECT_OK(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
  auto pair = Connected();
  tcp_info info = {};
  len = sizeof info;
  EXPECT_OK(getsockopt(pair.client.get(), IPPROTO_TCP, TCP_INFO, &info, &len));
  EXPECT_EQ(info.tcpi_state, TCP_ESTABLISHED);
  EXPECT_NE(info.tcpi_options & TCPI_OPT_SACK, 0);
  EXPECT_NE(info.tcpi_options & TCPI_OPT_TIMESTAMPS, 0);
  EXPECT_GT(info.tcpi_snd_mss, 30000u);
  len = 4;
  EXPECT_OK(getsockopt(pair.client.get(), IPPROTO_TCP, TCP_INFO, &info, &len));
  EXPECT_EQ(len, 4u);
}

TEST_P(Stream, ManyConnections) {
  Fd l = Listen(128);
  std::vector<Pair> pairs;
  for (int i = 0; i < 300; ++i) {
    Pair p;
    p.client = Socket();
    ASSERT_OK(Connect(p.client, l));
    p.server = Fd(accept(l.get(), nullptr, nullptr));
    ASSERT_TRUE(p.server.ok());
    pairs.push_back(std::move(p));
  }
  for (size_t i = 0; i < pairs.size(); ++i) EXPECT_EQ(write(pairs[i].client.get(), &i, sizeof i), ssize_t{sizeof i});
  for (size_t i = 0; i < pairs.size(); ++i) {
    size_t got = 0;
    EXPECT_EQ(read(pairs[i].server.get(), &got, sizeof got), ssize_t{sizeof got});
    EXPECT_EQ(got, i);
  }
}

using Dual = InetTest;

TEST_F(Dual, V6SocketTakesBoth) {
  Fd l(socket(AF_INET6, SOCK_STREAM, 0));
  Addr any("::", 0);
  ASSERT_OK(bind(l.get(), any.sa(), any.len));
  ASSERT_OK(listen(l.get(), 5));
  EXPECT_FAILS(EINVAL, SetInt(l.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1));
  const int port = NameOf(l.get()).port();
  Fd c(socket(AF_INET, SOCK_STREAM, 0));
  Addr to("127.0.0.1", port);
  ASSERT_OK(connect(c.get(), to.sa(), to.len));
  Addr peer;
  Fd s(accept(l.get(), peer.sa(), &peer.len));
  EXPECT_EQ(peer.text(), "::ffff:127.0.0.1");
  EXPECT_EQ(NameOf(s.get()).text(), "::ffff:127.0.0.1");
  Fd mapped(socket(AF_INET6, SOCK_STREAM, 0));
  Addr m("::ffff:127.0.0.1", port);
  EXPECT_OK(connect(mapped.get(), m.sa(), m.len));
  Fd v4(socket(AF_INET, SOCK_STREAM, 0));
  Addr same("0.0.0.0", port);
  EXPECT_FAILS(EADDRINUSE, bind(v4.get(), same.sa(), same.len));
}

TEST_F(Dual, V6OnlySharesThePort) {
  Fd l(socket(AF_INET6, SOCK_STREAM, 0));
  EXPECT_OK(SetInt(l.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1));
  Addr any("::", 0);
  ASSERT_OK(bind(l.get(), any.sa(), any.len));
  ASSERT_OK(listen(l.get(), 5));
  const int port = NameOf(l.get()).port();
  Fd c(socket(AF_INET, SOCK_STREAM, 0));
  Addr to("127.0.0.1", port);
  EXPECT_FAILS(ECONNREFUSED, connect(c.get(), to.sa(), to.len));
  Fd v4(socket(AF_INET, SOCK_STREAM, 0));
  Addr same("0.0.0.0", port);
  EXPECT_OK(bind(v4.get(), same.sa(), same.len));
  Fd mapped(socket(AF_INET6, SOCK_STREAM, 0));
  EXPECT_OK(SetInt(mapped.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1));
  Addr m("::ffff:127.0.0.1", port);
  EXPECT_FAILS(ENETUNREACH, connect(mapped.get(), m.sa(), m.len));
}

TEST_F(Dual, KindsOfSockets) {
  EXPECT_FAILS(EPROTONOSUPPORT, socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
  EXPECT_FAILS(EPROTONOSUPPORT, socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
  EXPECT_FAILS(ESOCKTNOSUPPORT, socket(AF_INET, SOCK_RDM, 0));
  EXPECT_FAILS(EINVAL, socket(AF_INET, SOCK_STREAM, -1));
  EXPECT_FAILS(EPROTONOSUPPORT, socket(AF_INET, SOCK_RAW, 0));
  int sv[2];
  EXPECT_FAILS(EOPNOTSUPP, socketpair(AF_INET, SOCK_STREAM, 0, sv));
}

TEST_F(Dual, PrivilegedPorts) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
              Fd s(socket(AF_INET, SOCK_STREAM, 0));
              Addr a("127.0.0.1", 81);
              CHILD_CHECK(bind(s.get(), a.sa(), a.len) == -1 && errno == EACCES);
              CHILD_CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) == -1 && errno == EPERM);
            }),
            Exited(0));
}

TEST_F(Dual, UnprivilegedPortsStartWhereTheSettingSays) {
  const char* setting = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
  const std::string before = ReadFile(setting);
  ASSERT_FALSE(before.empty());
  ASSERT_TRUE(WriteFile(setting, "0"));
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
              Fd s(socket(AF_INET, SOCK_STREAM, 0));
              Addr a("127.0.0.1", 82);
              CHILD_CHECK(bind(s.get(), a.sa(), a.len) == 0);
            }),
            Exited(0));
  EXPECT_TRUE(WriteFile(setting, before));
  EXPECT_EQ(ReadFile(setting), before);
}

// In a namespace of its own the loopback is down until it is set up.
TEST_F(Dual, NewNamespaceIsUnreachable) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(unshare(CLONE_NEWNET) == 0);
              Fd s(socket(AF_INET, SOCK_STREAM, 0));
              Addr a("127.0.0.1", 80);
              CHILD_CHECK(connect(s.get(), a.sa(), a.len) == -1 && errno == ENETUNREACH);
              CHILD_CHECK(SetLoopback(true) == 0);
              CHILD_CHECK(connect(s.get(), a.sa(), a.len) == -1 && errno == ECONNREFUSED);
            }),
            Exited(0));
}

TEST_F(Dual, ProcNetTcp) {
  Fd l(socket(AF_INET, SOCK_STREAM, 0));
  Addr a("127.0.0.1", 0);
  ASSERT_OK(bind(l.get(), a.sa(), a.len));
  ASSERT_OK(listen(l.get(), 5));
  char want[64];
  snprintf(want, sizeof want, ": 0100007F:%04X 00000000:0000 0A ", NameOf(l.get()).port());
  EXPECT_NE(ReadFile("/proc/thread-self/net/tcp").find(want), std::string::npos);
  EXPECT_NE(ReadFile("/proc/thread-self/net/dev").find("    lo:"), std::string::npos);
  EXPECT_NE(ReadFile("/proc/thread-self/net/if_inet6").find("00000000000000000000000000000001 01 80 10 80       lo"),
            std::string::npos);
}

}  // namespace
