// SPDX-License-Identifier: Apache-2.0
// Ancillary data over AF_UNIX (descriptors, credentials) and the multi-message calls.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <vector>

#include "tests/syscalls/util.h"

namespace {

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

// sendmsg of one byte with one control message.
template <typename T>
ssize_t SendControl(int fd, int type, const T* data, size_t count) {
  char control[CMSG_SPACE(sizeof(int) * 260)] = {};
  char c = 'm';
  iovec iov = {&c, 1};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = CMSG_SPACE(sizeof(T) * count);
  cmsghdr* h = CMSG_FIRSTHDR(&msg);
  h->cmsg_level = SOL_SOCKET;
  h->cmsg_type = type;
  h->cmsg_len = CMSG_LEN(sizeof(T) * count);
  memcpy(CMSG_DATA(h), data, sizeof(T) * count);
  return sendmsg(fd, &msg, 0);
}

struct Received {
  ssize_t n;
  int flags;
  std::vector<Fd> fds;
  bool has_cred = false;
  ucred cred = {};
};

Received Receive(int fd, size_t control_space = 1024, int flags = 0) {
  alignas(cmsghdr) char control[1024];
  char buf[16];
  iovec iov = {buf, sizeof buf};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = control_space;
  Received r;
  r.n = recvmsg(fd, &msg, flags);
  r.flags = msg.msg_flags;
  for (cmsghdr* h = CMSG_FIRSTHDR(&msg); r.n >= 0 && h; h = CMSG_NXTHDR(&msg, h)) {
    if (h->cmsg_type == SCM_RIGHTS) {
      for (size_t off = 0; off + sizeof(int) <= h->cmsg_len - CMSG_LEN(0); off += sizeof(int)) {
        int got;
        memcpy(&got, CMSG_DATA(h) + off, sizeof got);
        r.fds.emplace_back(got);
      }
    } else if (h->cmsg_type == SCM_CREDENTIALS) {
      r.has_cred = true;
      memcpy(&r.cred, CMSG_DATA(h), sizeof r.cred);
    }
  }
  return r;
}

TEST(ScmRights, PassesTheDescription) {
  for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    SocketPair p(type);
    Pipe pipe;
    int fd = pipe.w.get();
    ASSERT_EQ(1, SendControl(p.a.get(), SCM_RIGHTS, &fd, 1));
    pipe.w.reset();
    Received r = Receive(p.b.get());
    ASSERT_EQ(1u, r.fds.size());
    EXPECT_EQ(0, fcntl(r.fds[0].get(), F_GETFD));
    EXPECT_EQ(1, write(r.fds[0].get(), "p", 1));
    char c;
    EXPECT_EQ(1, read(pipe.r.get(), &c, 1));
  }
}

TEST(ScmRights, CmsgCloexec) {
  SocketPair p(SOCK_STREAM);
  int fd = p.a.get();
  ASSERT_EQ(1, SendControl(p.a.get(), SCM_RIGHTS, &fd, 1));
  Received r = Receive(p.b.get(), 1024, MSG_CMSG_CLOEXEC);
  ASSERT_EQ(1u, r.fds.size());
  EXPECT_EQ(FD_CLOEXEC, fcntl(r.fds[0].get(), F_GETFD));
}

TEST(ScmRights, TruncatedControlDropsDescriptors) {
  SocketPair p(SOCK_STREAM);
  Pipe pipe;
  int fds[3] = {pipe.w.get(), pipe.w.get(), pipe.w.get()};
  ASSERT_EQ(1, SendControl(p.a.get(), SCM_RIGHTS, fds, 3));
  pipe.w.reset();
  {
    Received r = Receive(p.b.get(), CMSG_LEN(sizeof(int)));
    EXPECT_EQ(1u, r.fds.size());
    EXPECT_TRUE(r.flags & MSG_CTRUNC);
  }
  char c;
  EXPECT_EQ(0, read(pipe.r.get(), &c, 1)) << "those that did not fit are closed";
}

TEST(ScmRights, NoControlBufferClosesThem) {
  SocketPair p(SOCK_STREAM);
  Pipe pipe;
  int fd = pipe.w.get();
  ASSERT_EQ(1, SendControl(p.a.get(), SCM_RIGHTS, &fd, 1));
  pipe.w.reset();
  char c;
  ASSERT_EQ(1, read(p.b.get(), &c, 1));
  EXPECT_EQ(0, read(pipe.r.get(), &c, 1));
}

TEST(ScmRights, UnreceivedAreClosedWithTheSocket) {
  SocketPair p(SOCK_STREAM);
  Pipe pipe;
  int fd = pipe.w.get();
  ASSERT_EQ(1, SendControl(p.a.get(), SCM_RIGHTS, &fd, 1));
  pipe.w.reset();
  p.a.reset();
  p.b.reset();
  char c;
  EXPECT_EQ(0, read(pipe.r.get(), &c, 1));
}

TEST(ScmRights, Errors) {
  SocketPair p(SOCK_STREAM);
  int bad = 9999;
  EXPECT_FAILS(EBADF, SendControl(p.a.get(), SCM_RIGHTS, &bad, 1));
  std::vector<int> many(254, p.a.get());
  EXPECT_FAILS(EINVAL, SendControl(p.a.get(), SCM_RIGHTS, many.data(), many.size()));
}

TEST(ScmRights, SeparatesStreamReads) {
  SocketPair p(SOCK_STREAM);
  int fd = p.a.get();
  ASSERT_EQ(2, send(p.a.get(), "xx", 2, 0));
  ASSERT_EQ(1, SendControl(p.a.get(), SCM_RIGHTS, &fd, 1));
  ASSERT_EQ(2, send(p.a.get(), "yy", 2, 0));
  Received r = Receive(p.b.get());
  ASSERT_EQ(3, r.n) << "a read ends with the data that descriptors came with";
  EXPECT_EQ(1u, r.fds.size());
  EXPECT_EQ(2, Receive(p.b.get()).n);
}

TEST(ScmRights, PeekDuplicates) {
  SocketPair p(SOCK_DGRAM);
  int fd = p.a.get();
  ASSERT_EQ(1, SendControl(p.a.get(), SCM_RIGHTS, &fd, 1));
  EXPECT_EQ(1u, Receive(p.b.get(), 1024, MSG_PEEK).fds.size());
  EXPECT_EQ(1u, Receive(p.b.get()).fds.size());
}

TEST(ScmCredentials, ArriveWithPasscred) {
  for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
    SocketPair p(type);
    int on = 1;
    ASSERT_OK(setsockopt(p.b.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    Child child([&] { CHILD_CHECK(send(p.a.get(), "c", 1, 0) == 1); });
    Received r = Receive(p.b.get());
    EXPECT_TRUE(r.has_cred);
    EXPECT_EQ(child.pid(), r.cred.pid);
    EXPECT_EQ(getuid(), r.cred.uid);
    EXPECT_EQ(getgid(), r.cred.gid);
    EXPECT_EQ(Exited(0), child.Wait());
  }
}

TEST(ScmCredentials, ForgeryNeedsPrivilege) {
  SocketPair p(SOCK_STREAM);
  int on = 1;
  ASSERT_OK(setsockopt(p.b.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
  ucred c = {getpid(), 1234, 5678};
  ASSERT_EQ(1, SendControl(p.a.get(), SCM_CREDENTIALS, &c, 1));
  Received r = Receive(p.b.get());
  EXPECT_EQ(1234u, r.cred.uid);
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              ucred other = {getpid(), 1234, 0};
              CHILD_CHECK(SendControl(p.a.get(), SCM_CREDENTIALS, &other, 1) == -1 && errno == EPERM);
            }));
}

TEST(ScmCredentials, PeercredNamesTheCreator) {
  SocketPair p(SOCK_STREAM);
  Child child([&] {
    ucred c;
    socklen_t len = sizeof c;
    CHILD_CHECK(getsockopt(p.a.get(), SOL_SOCKET, SO_PEERCRED, &c, &len) == 0);
    CHILD_CHECK(c.pid == getppid() && c.uid == getuid());
  });
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Mmsg, SendAndReceiveSeveral) {
  SocketPair p(SOCK_DGRAM);
  char out[3][4] = {"one", "two", "333"}, in[4][4] = {};
  iovec ov[3], iv[4];
  mmsghdr o[3] = {}, i[4] = {};
  for (int k = 0; k < 3; ++k) {
    ov[k] = {out[k], 3};
    o[k].msg_hdr.msg_iov = &ov[k];
    o[k].msg_hdr.msg_iovlen = 1;
  }
  for (int k = 0; k < 4; ++k) {
    iv[k] = {in[k], 3};
    i[k].msg_hdr.msg_iov = &iv[k];
    i[k].msg_hdr.msg_iovlen = 1;
  }
  EXPECT_EQ(3, sendmmsg(p.a.get(), o, 3, 0));
  EXPECT_EQ(3u, o[2].msg_len);
  EXPECT_EQ(3, recvmmsg(p.b.get(), i, 4, MSG_DONTWAIT, nullptr));
  EXPECT_STREQ("one", in[0]);
  EXPECT_STREQ("333", in[2]);
  EXPECT_FAILS(EAGAIN, recvmmsg(p.b.get(), i, 4, MSG_DONTWAIT, nullptr));
  ASSERT_EQ(2, sendmmsg(p.a.get(), o, 2, 0));
  EXPECT_EQ(2, recvmmsg(p.b.get(), i, 4, MSG_WAITFORONE, nullptr));
}

TEST(Msg, ScatterAndGather) {
  SocketPair p(SOCK_SEQPACKET);
  char a[] = "gath", b[] = "ered", x[3] = {}, y[7] = {};
  iovec out[] = {{a, 4}, {b, 4}}, in[] = {{x, 2}, {y, 6}};
  EXPECT_EQ(8, writev(p.a.get(), out, 2));
  EXPECT_EQ(8, readv(p.b.get(), in, 2));
  EXPECT_STREQ("ga", x);
  EXPECT_STREQ("thered", y);
}

TEST(Msg, BadPointers) {
  SocketPair p(SOCK_STREAM);
  EXPECT_FAILS(EFAULT, syscall(SYS_sendmsg, p.a.get(), 8, 0));
  EXPECT_FAILS(EFAULT, syscall(SYS_sendto, p.a.get(), 8, 4, 0, nullptr, 0));
  EXPECT_FAILS(EBADF, send(9999, "x", 1, 0));
  msghdr msg = {};
  msg.msg_iovlen = 1025;
  EXPECT_FAILS(EMSGSIZE, sendmsg(p.a.get(), &msg, 0));
}

}  // namespace
