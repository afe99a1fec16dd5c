// SPDX-License-Identifier: Apache-2.0
// AF_UNIX sockets: pairs, naming, connections, data flow and options.
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <thread>

#include "tests/syscalls/util.h"

namespace {

struct Address {
  sockaddr_un un = {};
  socklen_t len;
  // A name that starts with NUL is abstract.
  explicit Address(const std::string& name) {
    un.sun_family = AF_UNIX;
    memcpy(un.sun_path, name.data(), name.size());
    len = offsetof(sockaddr_un, sun_path) + name.size() + (name[0] != '\0');
  }
  sockaddr* sa() { return reinterpret_cast<sockaddr*>(&un); }
};

struct SocketPair {
  explicit SocketPair(int type) {
    int sv[2];
    if (socketpair(AF_UNIX, type, 0, sv) == 0) {
      a.reset(sv[0]);
      b.reset(sv[1]);
    }
  }
  Fd a, b;
};

Fd Socket(int type) { return Fd(socket(AF_UNIX, type, 0)); }
std::string Abstract(const char* name) { return std::string(1, '\0') + "systest-" + name + std::to_string(getpid()); }

class UnixSocket : public testing::Test {
 protected:
  Fd Listen(const std::string& name, int type = SOCK_STREAM, int backlog = 5) {
    Fd s = Socket(type);
    Address a(name);
    EXPECT_OK(bind(s.get(), a.sa(), a.len));
    EXPECT_OK(listen(s.get(), backlog));
    return s;
  }
  static int Connect(const Fd& s, const std::string& name) {
    Address a(name);
    return connect(s.get(), a.sa(), a.len);
  }
  TempDir dir_;
  std::string path_ = dir_ / "s";
};

TEST_F(UnixSocket, CreationErrors) {
  EXPECT_FAILS(EPROTONOSUPPORT, socket(AF_UNIX, SOCK_STREAM, 99));
  EXPECT_FAILS(ESOCKTNOSUPPORT, socket(AF_UNIX, SOCK_RDM, 0));
  EXPECT_FAILS(EAFNOSUPPORT, socket(99, SOCK_STREAM, 0));
  EXPECT_FAILS(EINVAL, socket(AF_UNIX, SOCK_STREAM | 0x100000, 0));
}

TEST_F(UnixSocket, CreationFlags) {
  Fd s = Socket(SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC);
  EXPECT_EQ(FD_CLOEXEC, fcntl(s.get(), F_GETFD));
  EXPECT_TRUE(fcntl(s.get(), F_GETFL) & O_NONBLOCK);
}

TEST_F(UnixSocket, StreamPairIsAByteStream) {
  SocketPair p(SOCK_STREAM);
  ASSERT_EQ(3, send(p.a.get(), "abc", 3, 0));
  ASSERT_EQ(2, write(p.a.get(), "de", 2));
  char buf[8] = {};
  EXPECT_EQ(4, recv(p.b.get(), buf, 4, 0));
  EXPECT_EQ(1, read(p.b.get(), buf + 4, 4));
  EXPECT_STREQ("abcde", buf);
}

TEST_F(UnixSocket, MessageTypesKeepBoundaries) {
  for (int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
    SocketPair p(type);
    ASSERT_EQ(3, send(p.a.get(), "abc", 3, 0));
    ASSERT_EQ(2, send(p.a.get(), "de", 2, 0));
    char buf[8];
    EXPECT_EQ(3, recv(p.b.get(), buf, 8, 0));
    EXPECT_EQ(1, recv(p.b.get(), buf, 1, 0)) << "the rest is dropped";
    EXPECT_FAILS(EAGAIN, recv(p.b.get(), buf, 1, MSG_DONTWAIT));
  }
}

TEST_F(UnixSocket, TruncationIsReported) {
  SocketPair p(SOCK_DGRAM);
  ASSERT_EQ(5, send(p.a.get(), "abcde", 5, 0));
  ASSERT_EQ(5, send(p.a.get(), "abcde", 5, 0));
  char buf[2];
  iovec iov = {buf, 2};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  EXPECT_EQ(2, recvmsg(p.b.get(), &msg, 0));
  EXPECT_EQ(MSG_TRUNC, msg.msg_flags);
  EXPECT_EQ(5, recv(p.b.get(), buf, 2, MSG_TRUNC)) << "the real length on request";
}

TEST_F(UnixSocket, PeekLeavesTheData) {
  for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
    SocketPair p(type);
    ASSERT_EQ(3, send(p.a.get(), "abc", 3, 0));
    char buf[4] = {};
    EXPECT_EQ(2, recv(p.b.get(), buf, 2, MSG_PEEK));
    EXPECT_EQ(3, recv(p.b.get(), buf, 3, 0));
    EXPECT_STREQ("abc", buf);
  }
}

TEST_F(UnixSocket, WaitallCollectsTheWholeLength) {
  SocketPair p(SOCK_STREAM);
  std::thread t([&] {
    for (char c : std::string("abcdef")) EXPECT_EQ(1, send(p.a.get(), &c, 1, 0));
  });
  char buf[7] = {};
  EXPECT_EQ(6, recv(p.b.get(), buf, 6, MSG_WAITALL));
  EXPECT_STREQ("abcdef", buf);
  t.join();
}

TEST_F(UnixSocket, BindMakesASocketFile) {
  Fd s = Listen(path_);
  struct stat st;
  ASSERT_OK(stat(path_.c_str(), &st));
  EXPECT_TRUE(S_ISSOCK(st.st_mode));
  EXPECT_FAILS(ENXIO, open(path_.c_str(), O_RDWR));
  Fd t = Socket(SOCK_STREAM);
  Address a(path_);
  EXPECT_FAILS(EADDRINUSE, bind(t.get(), a.sa(), a.len));
  Address other(dir_ / "t");
  EXPECT_FAILS(EINVAL, bind(s.get(), other.sa(), other.len));
}

TEST_F(UnixSocket, ConnectAndAccept) {
  Fd s = Listen(path_), c = Socket(SOCK_STREAM);
  ASSERT_OK(Connect(c, path_));
  sockaddr_un peer;
  socklen_t len = sizeof peer;
  Fd t(accept4(s.get(), reinterpret_cast<sockaddr*>(&peer), &len, SOCK_CLOEXEC | SOCK_NONBLOCK));
  ASSERT_OK(t.get());
  EXPECT_EQ(sizeof(sa_family_t), len) << "the client has no name";
  EXPECT_EQ(FD_CLOEXEC, fcntl(t.get(), F_GETFD));
  EXPECT_TRUE(fcntl(t.get(), F_GETFL) & O_NONBLOCK);
  len = sizeof peer;
  ASSERT_OK(getpeername(c.get(), reinterpret_cast<sockaddr*>(&peer), &len));
  EXPECT_EQ(path_, peer.sun_path);
  ASSERT_EQ(2, send(t.get(), "hi", 2, 0));
  char buf[2];
  EXPECT_EQ(2, recv(c.get(), buf, 2, 0));
  EXPECT_FAILS(EISCONN, Connect(c, path_));
}

TEST_F(UnixSocket, ConnectErrors) {
  Fd c = Socket(SOCK_STREAM);
  EXPECT_FAILS(ENOENT, Connect(c, path_));
  ASSERT_TRUE(WriteFile(dir_ / "plain", ""));
  EXPECT_FAILS(ECONNREFUSED, Connect(c, dir_ / "plain"));
  { Fd s = Listen(path_); }
  EXPECT_FAILS(ECONNREFUSED, Connect(c, path_)) << "the file outlives its socket";
  EXPECT_FAILS(ECONNREFUSED, Connect(c, Abstract("nobody")));
  Fd d = Socket(SOCK_DGRAM);
  Address a(dir_ / "d");
  ASSERT_OK(bind(d.get(), a.sa(), a.len));
  EXPECT_FAILS(EPROTOTYPE, Connect(c, dir_ / "d"));
  Address inet("x");
  inet.un.sun_family = AF_INET;
  EXPECT_FAILS(EINVAL, connect(c.get(), inet.sa(), inet.len));
}

TEST_F(UnixSocket, UnlinkedNameCannotBeReached) {
  Fd s = Listen(path_), c = Socket(SOCK_STREAM);
  ASSERT_OK(unlink(path_.c_str()));
  EXPECT_FAILS(ENOENT, Connect(c, path_));
}

TEST_F(UnixSocket, ConnectNeedsWritePermission) {
  Fd s = Listen(path_);
  ASSERT_OK(chmod(path_.c_str(), 0600));
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              Fd c = Socket(SOCK_STREAM);
              CHILD_CHECK(Connect(c, path_) == -1 && errno == EACCES);
            }));
}

TEST_F(UnixSocket, AbstractNames) {
  std::string name = Abstract("abs");
  Fd s = Listen(name), c = Socket(SOCK_STREAM);
  ASSERT_OK(Connect(c, name));
  sockaddr_un un;
  socklen_t len = sizeof un;
  ASSERT_OK(getsockname(s.get(), reinterpret_cast<sockaddr*>(&un), &len));
  EXPECT_EQ(offsetof(sockaddr_un, sun_path) + name.size(), len);
  EXPECT_EQ(name, std::string(un.sun_path, name.size()));
  s.reset();
  Listen(name);  // free again once closed
}

TEST_F(UnixSocket, AutobindPicksAnAbstractName) {
  Fd s = Socket(SOCK_DGRAM);
  sockaddr_un un = {};
  un.sun_family = AF_UNIX;
  ASSERT_OK(bind(s.get(), reinterpret_cast<sockaddr*>(&un), sizeof(sa_family_t)));
  socklen_t len = sizeof un;
  ASSERT_OK(getsockname(s.get(), reinterpret_cast<sockaddr*>(&un), &len));
  EXPECT_EQ(sizeof(sa_family_t) + 6, len);
  EXPECT_EQ('\0', un.sun_path[0]);
}

TEST_F(UnixSocket, BacklogFull) {
  Fd s = Listen(path_, SOCK_STREAM, 0), first = Socket(SOCK_STREAM);
  ASSERT_OK(Connect(first, path_));
  Fd second = Socket(SOCK_STREAM | SOCK_NONBLOCK);
  EXPECT_FAILS(EAGAIN, Connect(second, path_));
  Fd t(accept(s.get(), nullptr, nullptr));
  EXPECT_OK(Connect(second, path_));
}

TEST_F(UnixSocket, AcceptErrors) {
  Fd s = Socket(SOCK_STREAM);
  EXPECT_FAILS(EINVAL, accept(s.get(), nullptr, nullptr));
  Fd d = Socket(SOCK_DGRAM);
  EXPECT_FAILS(EOPNOTSUPP, accept(d.get(), nullptr, nullptr));
  EXPECT_FAILS(EOPNOTSUPP, listen(d.get(), 1));
  Fd l = Listen(path_);
  ASSERT_OK(fcntl(l.get(), F_SETFL, O_NONBLOCK));
  EXPECT_FAILS(EAGAIN, accept(l.get(), nullptr, nullptr));
  EXPECT_FAILS(EINVAL, accept4(l.get(), nullptr, nullptr, 0x7));
  Pipe p;
  EXPECT_FAILS(ENOTSOCK, accept(p.r.get(), nullptr, nullptr));
}

TEST_F(UnixSocket, ShutdownDirections) {
  SocketPair p(SOCK_STREAM);
  ASSERT_EQ(1, send(p.a.get(), "x", 1, 0));
  ASSERT_OK(shutdown(p.a.get(), SHUT_WR));
  char c;
  EXPECT_EQ(1, recv(p.b.get(), &c, 1, 0));
  EXPECT_EQ(0, recv(p.b.get(), &c, 1, 0));
  EXPECT_FAILS(EPIPE, send(p.a.get(), "x", 1, MSG_NOSIGNAL));
  EXPECT_EQ(1, send(p.b.get(), "y", 1, 0));
  EXPECT_EQ(1, recv(p.a.get(), &c, 1, 0));
  EXPECT_FAILS(EINVAL, shutdown(p.a.get(), 9));
}

TEST_F(UnixSocket, PeerGone) {
  SocketPair p(SOCK_STREAM);
  ASSERT_EQ(1, send(p.a.get(), "x", 1, 0));
  p.a.reset();
  char c;
  EXPECT_EQ(1, recv(p.b.get(), &c, 1, 0)) << "queued data first";
  EXPECT_EQ(0, recv(p.b.get(), &c, 1, 0));
  EXPECT_FAILS(EPIPE, send(p.b.get(), "x", 1, MSG_NOSIGNAL));
  EXPECT_EQ(Killed(SIGPIPE), RunInChild([&] { send(p.b.get(), "x", 1, 0); }));
  SocketPair q(SOCK_STREAM);
  ASSERT_EQ(1, send(q.b.get(), "x", 1, 0));
  q.a.reset();
  EXPECT_FAILS(ECONNRESET, recv(q.b.get(), &c, 1, 0)) << "closed with unread data";
}

TEST_F(UnixSocket, PollStates) {
  SocketPair p(SOCK_STREAM);
  auto revents = [](const Fd& fd) {
    pollfd pfd = {fd.get(), POLLIN | POLLOUT | POLLRDHUP, 0};
    poll(&pfd, 1, 0);
    return pfd.revents;
  };
  EXPECT_EQ(POLLOUT, revents(p.a));
  ASSERT_EQ(1, send(p.b.get(), "x", 1, 0));
  EXPECT_EQ(POLLIN | POLLOUT, revents(p.a));
  ASSERT_OK(shutdown(p.b.get(), SHUT_WR));
  EXPECT_EQ(POLLIN | POLLOUT | POLLRDHUP, revents(p.a));
  p.b.reset();
  EXPECT_EQ(POLLIN | POLLOUT | POLLRDHUP | POLLHUP, revents(p.a));
}

TEST_F(UnixSocket, DatagramsByName) {
  Fd s = Socket(SOCK_DGRAM), c = Socket(SOCK_DGRAM);
  Address sa(path_), ca(dir_ / "c");
  ASSERT_OK(bind(s.get(), sa.sa(), sa.len));
  ASSERT_OK(bind(c.get(), ca.sa(), ca.len));
  EXPECT_FAILS(ENOTCONN, send(c.get(), "x", 1, 0));
  ASSERT_EQ(2, sendto(c.get(), "to", 2, 0, sa.sa(), sa.len));
  char buf[4];
  sockaddr_un from;
  socklen_t len = sizeof from;
  EXPECT_EQ(2, recvfrom(s.get(), buf, 4, 0, reinterpret_cast<sockaddr*>(&from), &len));
  EXPECT_EQ(dir_ / "c", from.sun_path);
  ASSERT_OK(connect(c.get(), sa.sa(), sa.len));
  EXPECT_EQ(0, send(c.get(), "", 0, 0)) << "empty messages are messages";
  EXPECT_EQ(0, recv(s.get(), buf, 4, MSG_DONTWAIT));
  s.reset();
  EXPECT_FAILS(ECONNREFUSED, send(c.get(), "x", 1, 0));
}

TEST_F(UnixSocket, NonblockingSendFillsUp) {
  SocketPair p(SOCK_STREAM | SOCK_NONBLOCK);
  std::string chunk(4096, 'x');
  size_t total = 0;
  ssize_t n;
  while ((n = send(p.a.get(), chunk.data(), chunk.size(), 0)) > 0) total += n;
  EXPECT_FAILS(EAGAIN, n);
  EXPECT_GE(total, 4096u);
  EXPECT_FALSE(PollFor(p.a.get(), POLLOUT, 0));
  int queued = 0;
  ASSERT_OK(ioctl(p.b.get(), FIONREAD, &queued));
  EXPECT_EQ(total, static_cast<size_t>(queued));
}

TEST_F(UnixSocket, Options) {
  Fd s = Listen(path_);
  auto get = [](const Fd& fd, int opt) {
    int v = -1;
    socklen_t len = sizeof v;
    return getsockopt(fd.get(), SOL_SOCKET, opt, &v, &len) == 0 ? v : -1;
  };
  EXPECT_EQ(SOCK_STREAM, get(s, SO_TYPE));
  EXPECT_EQ(AF_UNIX, get(s, SO_DOMAIN));
  EXPECT_EQ(0, get(s, SO_PROTOCOL));
  EXPECT_EQ(1, get(s, SO_ACCEPTCONN));
  EXPECT_EQ(0, get(s, SO_ERROR));
  int v = 10000;
  ASSERT_OK(setsockopt(s.get(), SOL_SOCKET, SO_SNDBUF, &v, sizeof v));
  EXPECT_EQ(20000, get(s, SO_SNDBUF)) << "doubled (socket(7))";
  EXPECT_FAILS(ENOPROTOOPT, setsockopt(s.get(), SOL_SOCKET, 9999, &v, sizeof v));
  EXPECT_FAILS(EINVAL, setsockopt(s.get(), SOL_SOCKET, SO_SNDBUF, &v, 1));
}

TEST_F(UnixSocket, ReceiveTimeout) {
  SocketPair p(SOCK_STREAM);
  timeval tv = {0, 1000};
  ASSERT_OK(setsockopt(p.a.get(), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
  char c;
  EXPECT_FAILS(EAGAIN, recv(p.a.get(), &c, 1, 0));
}

TEST_F(UnixSocket, ConnectedDgramRefusesStrangers) {
  Fd s = Socket(SOCK_DGRAM), friend_(Socket(SOCK_DGRAM)), stranger = Socket(SOCK_DGRAM);
  Address sa(path_), fa(dir_ / "f");
  ASSERT_OK(bind(s.get(), sa.sa(), sa.len));
  ASSERT_OK(bind(friend_.get(), fa.sa(), fa.len));
  ASSERT_OK(connect(s.get(), fa.sa(), fa.len));
  EXPECT_EQ(1, sendto(friend_.get(), "x", 1, 0, sa.sa(), sa.len));
  EXPECT_FAILS(EPERM, sendto(stranger.get(), "x", 1, 0, sa.sa(), sa.len));
}

}  // namespace
