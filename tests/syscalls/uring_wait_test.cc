// SPDX-License-Identifier: Apache-2.0
// io_uring: operations that wait. Sockets, polls, timeouts, cancellation and buffer groups.
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/uio.h>

#include <thread>

#include "tests/syscalls/uring_util.h"

namespace {

struct KernelTime {
  long long sec, nsec;
};
constexpr KernelTime kShort = {0, 2000000}, kLong = {1000, 0};

struct UringWait : testing::Test {
  void SetUp() override { REQUIRE_URING(); }
};

struct Pair {
  explicit Pair(int type = SOCK_STREAM) {
    int fds[2];
    EXPECT_OK(socketpair(AF_UNIX, type, 0, fds));
    a.reset(fds[0]);
    b.reset(fds[1]);
  }
  Fd a, b;
};

struct Listener {
  Listener() {
    fd.reset(socket(AF_UNIX, SOCK_STREAM, 0));
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, (dir / "s").c_str());
    EXPECT_OK(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address));
    EXPECT_OK(listen(fd.get(), 8));
  }
  Fd Connect() {
    Fd c(socket(AF_UNIX, SOCK_STREAM, 0));
    EXPECT_OK(connect(c.get(), reinterpret_cast<sockaddr*>(&address), sizeof address));
    return c;
  }
  TempDir dir;
  sockaddr_un address = {};
  Fd fd;
};

TEST_F(UringWait, SendAndReceive) {
  TestRing ring;
  Pair pair;
  char buffer[16] = {};
  ring.Add(IORING_OP_RECV, pair.b.get(), buffer, 16);
  ASSERT_EQ(ring.Submit(), 1);
  EXPECT_FALSE(ring.Peek());
  ring.Add(IORING_OP_SEND, pair.a.get(), "hello", 5);
  auto results = ring.RunAll(2);
  EXPECT_EQ(results[1], 5);
  EXPECT_EQ(results[2], 5);
  EXPECT_STREQ(buffer, "hello");
}

TEST_F(UringWait, NonblockingSocketsWaitAllTheSame) {
  TestRing ring;
  Pair pair;
  fcntl(pair.b.get(), F_SETFL, O_NONBLOCK);
  char buffer[16] = {};
  ring.Add(IORING_OP_RECV, pair.b.get(), buffer, 16);
  ASSERT_EQ(ring.Submit(), 1);
  EXPECT_FALSE(ring.Peek());
  ASSERT_EQ(send(pair.a.get(), "x", 1, 0), 1);
  EXPECT_EQ(ring.Next().res, 1);
  ring.Add(IORING_OP_RECV, pair.b.get(), buffer, 16).msg_flags = MSG_DONTWAIT;
  EXPECT_EQ(ring.Run(), -EAGAIN);
  ring.Add(IORING_OP_READ, pair.b.get(), buffer, 16).rw_flags = RWF_NOWAIT;
  EXPECT_EQ(ring.Run(), -EAGAIN);
  ring.Add(IORING_OP_READ, pair.b.get(), buffer, 16);
  ASSERT_EQ(ring.Submit(), 1);
  EXPECT_FALSE(ring.Peek());
  ASSERT_EQ(send(pair.a.get(), "y", 1, 0), 1);
  EXPECT_EQ(ring.Next().res, 1);
}

TEST_F(UringWait, MessagesWithControl) {
  TestRing ring;
  Pair pair(SOCK_DGRAM);
  char text[] = "message", buffer[32] = {};
  iovec out = {text, 7}, in = {buffer, 31};
  msghdr send_header = {}, receive_header = {};
  send_header.msg_iov = &out;
  send_header.msg_iovlen = 1;
  receive_header.msg_iov = &in;
  receive_header.msg_iovlen = 1;
  ring.Add(IORING_OP_RECVMSG, pair.b.get(), &receive_header, 1);
  ASSERT_EQ(ring.Submit(), 1);
  ring.Add(IORING_OP_SENDMSG, pair.a.get(), &send_header, 1);
  auto results = ring.RunAll(2);
  EXPECT_EQ(results[1], 7);
  EXPECT_EQ(results[2], 7);
  EXPECT_STREQ(buffer, "message");
}

TEST_F(UringWait, BrokenPipeGivesNoSignal) {
  TestRing ring;
  Pair pair;
  pair.b.reset();
  ring.Add(IORING_OP_SEND, pair.a.get(), "x", 1);
  EXPECT_EQ(ring.Run(), -EPIPE);
  Pipe p;
  ring.Add(IORING_OP_SEND, p.w.get(), "x", 1);
  EXPECT_EQ(ring.Run(), -ENOTSOCK);
}

TEST_F(UringWait, AFullPipeIsWrittenLater) {
  TestRing ring;
  Pipe p(O_NONBLOCK);
  std::vector<char> page(4096);
  while (write(p.w.get(), page.data(), page.size()) > 0) {
  }
  fcntl(p.w.get(), F_SETFL, 0);
  ring.Add(IORING_OP_WRITE, p.w.get(), "x", 1);
  ASSERT_EQ(ring.Submit(), 1);
  EXPECT_FALSE(ring.Peek());
  std::vector<char> all(1 << 20);
  EXPECT_GT(read(p.r.get(), all.data(), all.size()), 0);
  EXPECT_EQ(ring.Next().res, 1);
}

TEST_F(UringWait, AcceptAndConnect) {
  TestRing ring;
  Listener listener;
  sockaddr_un peer = {};
  socklen_t length = sizeof peer;
  ring.Add(IORING_OP_ACCEPT, listener.fd.get(), &peer, 0, reinterpret_cast<uint64_t>(&length)).accept_flags =
      SOCK_CLOEXEC;
  ASSERT_EQ(ring.Submit(), 1);
  EXPECT_FALSE(ring.Peek());
  Fd c(socket(AF_UNIX, SOCK_STREAM, 0));
  ring.Add(IORING_OP_CONNECT, c.get(), &listener.address, 0, sizeof listener.address);
  auto results = ring.RunAll(2);
  Fd accepted(results[1]);
  EXPECT_TRUE(accepted.ok());
  EXPECT_EQ(fcntl(accepted.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(results[2], 0);
  EXPECT_EQ(write(c.get(), "x", 1), 1);
  char byte;
  EXPECT_EQ(read(accepted.get(), &byte, 1), 1);
  unlink(listener.address.sun_path);
  Fd d(socket(AF_UNIX, SOCK_STREAM, 0));
  ring.Add(IORING_OP_CONNECT, d.get(), &listener.address, 0, sizeof listener.address);
  EXPECT_EQ(ring.Run(), -ENOENT);
  ring.Add(IORING_OP_ACCEPT, d.get());
  EXPECT_EQ(ring.Run(), -EINVAL);
}

TEST_F(UringWait, MultishotAccept) {
  TestRing ring;
  Listener listener;
  ring.Add(IORING_OP_ACCEPT, listener.fd.get()).ioprio = IORING_ACCEPT_MULTISHOT;
  ASSERT_EQ(ring.Submit(), 1);
  for (int i = 0; i < 3; ++i) {
    Fd c = listener.Connect();
    Cqe cqe = ring.Next();
    EXPECT_EQ(cqe.data, 1u);
    EXPECT_TRUE(cqe.flags & IORING_CQE_F_MORE);
    EXPECT_GE(cqe.res, 0);
    close(cqe.res);
  }
  ring.Add(IORING_OP_ASYNC_CANCEL, -1, reinterpret_cast<void*>(1));
  auto results = ring.RunAll(2);
  EXPECT_EQ(results[1], -ECANCELED);
  EXPECT_EQ(results[2], 0);
}

TEST_F(UringWait, SocketAndShutdown) {
  TestRing ring;
  ring.Add(IORING_OP_SOCKET, AF_UNIX, nullptr, 0, SOCK_STREAM);
  Fd s(ring.Run());
  EXPECT_TRUE(s.ok());
  Pair pair;
  ring.Add(IORING_OP_SHUTDOWN, pair.a.get(), nullptr, SHUT_WR);
  EXPECT_EQ(ring.Run(), 0);
  char byte;
  EXPECT_EQ(recv(pair.b.get(), &byte, 1, 0), 0);
  ring.Add(IORING_OP_SHUTDOWN, pair.a.get(), nullptr, 99);
  EXPECT_EQ(ring.Run(), -EINVAL);
}

TEST_F(UringWait, PollOnce) {
  TestRing ring;
  Pipe p;
  ring.Add(IORING_OP_POLL_ADD, p.r.get()).poll32_events = POLLIN;
  ASSERT_EQ(ring.Submit(), 1);
  EXPECT_FALSE(ring.Peek());
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  Cqe cqe = ring.Next();
  EXPECT_EQ(cqe.res, POLLIN);
  EXPECT_FALSE(cqe.flags & IORING_CQE_F_MORE);
  ring.Add(IORING_OP_POLL_ADD, p.r.get()).poll32_events = POLLIN;
  EXPECT_EQ(ring.Run(), POLLIN);
  ring.Add(IORING_OP_POLL_ADD, p.r.get()).poll32_events = POLLPRI;
  ASSERT_EQ(ring.Submit(), 1);
  p.w.reset();
  EXPECT_EQ(ring.Next().res, POLLHUP);
}

TEST_F(UringWait, PollMany) {
  TestRing ring;
  Fd e(eventfd(0, EFD_NONBLOCK));
  ring.Add(IORING_OP_POLL_ADD, e.get(), nullptr, IORING_POLL_ADD_MULTI).poll32_events = POLLIN;
  ASSERT_EQ(ring.Submit(), 1);
  uint64_t one = 1;
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(write(e.get(), &one, 8), 8);
    Cqe cqe = ring.Next();
    EXPECT_EQ(cqe.res, POLLIN);
    EXPECT_TRUE(cqe.flags & IORING_CQE_F_MORE);
    ASSERT_EQ(read(e.get(), &one, 8), 8);
    one = 1;
  }
  ring.Add(IORING_OP_POLL_REMOVE, -1, reinterpret_cast<void*>(1));
  auto results = ring.RunAll(2);
  EXPECT_EQ(results[1], -ECANCELED);
  EXPECT_EQ(results[2], 0);
  ring.Add(IORING_OP_POLL_REMOVE, -1, reinterpret_cast<void*>(1));
  EXPECT_EQ(ring.Run(), -ENOENT);
}

TEST_F(UringWait, PollUpdate) {
  TestRing ring;
  Pipe p;
  ring.Add(IORING_OP_POLL_ADD, p.w.get()).poll32_events = POLLPRI;
  ASSERT_EQ(ring.Submit(), 1);
  io_uring_sqe& update = ring.Add(IORING_OP_POLL_REMOVE, -1, reinterpret_cast<void*>(1),
                                  IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA, 42);
  update.poll32_events = POLLOUT;
  auto results = ring.RunAll(2);
  EXPECT_EQ(results[2], 0);
  EXPECT_EQ(results[42], POLLOUT);
}

TEST_F(UringWait, TimeoutExpires) {
  TestRing ring;
  ring.Add(IORING_OP_TIMEOUT, -1, &kShort, 1);
  EXPECT_EQ(ring.Run(), -ETIME);
  ring.Add(IORING_OP_TIMEOUT, -1, &kLong, 2);
  EXPECT_EQ(ring.Run(), -EINVAL);
  ring.Add(IORING_OP_TIMEOUT, -1, reinterpret_cast<void*>(8), 1);
  EXPECT_EQ(ring.Run(), -EFAULT);
  KernelTime past = {1, 0};
  ring.Add(IORING_OP_TIMEOUT, -1, &past, 1).timeout_flags = IORING_TIMEOUT_ABS;
  EXPECT_EQ(ring.Run(), -ETIME);
  ring.Add(IORING_OP_TIMEOUT, -1, &past, 1).timeout_flags = IORING_TIMEOUT_ABS | IORING_TIMEOUT_REALTIME;
  EXPECT_EQ(ring.Run(), -ETIME);
  KernelTime bad = {-1, 0};
  ring.Add(IORING_OP_TIMEOUT, -1, &bad, 1);
  EXPECT_EQ(ring.Run(), -EINVAL);
}

TEST_F(UringWait, TimeoutCountsCompletions) {
  TestRing ring;
  ring.Add(IORING_OP_TIMEOUT, -1, &kLong, 1, 2);
  ring.Add(IORING_OP_NOP);
  ASSERT_EQ(ring.Submit(), 2);
  EXPECT_EQ(ring.Next().data, 2u);
  EXPECT_FALSE(ring.Peek());
  ring.Add(IORING_OP_NOP);
  auto results = ring.RunAll(2);
  EXPECT_EQ(results[1], 0);
  EXPECT_EQ(results[3], 0);
}

TEST_F(UringWait, TimeoutIsRemovedAndUpdated) {
  TestRing ring;
  ring.Add(IORING_OP_TIMEOUT, -1, &kLong, 1);
  ASSERT_EQ(ring.Submit(), 1);
  ring.Add(IORING_OP_TIMEOUT_REMOVE, -1, reinterpret_cast<void*>(1));
  auto results = ring.RunAll(2);
  EXPECT_EQ(results[1], -ECANCELED);
  EXPECT_EQ(results[2], 0);
  ring.Add(IORING_OP_TIMEOUT_REMOVE, -1, reinterpret_cast<void*>(1));
  EXPECT_EQ(ring.Run(), -ENOENT);
  ring.Add(IORING_OP_TIMEOUT, -1, &kLong, 1);  // 4
  ASSERT_EQ(ring.Submit(), 1);
  ring.Add(IORING_OP_TIMEOUT_REMOVE, -1, reinterpret_cast<void*>(4), 0, reinterpret_cast<uint64_t>(&kShort))
      .timeout_flags = IORING_TIMEOUT_UPDATE;
  results = ring.RunAll(2);
  EXPECT_EQ(results[5], 0);
  EXPECT_EQ(results[4], -ETIME);
}

TEST_F(UringWait, LinkedTimeoutBoundsARequest) {
  TestRing ring;
  Pipe p;
  char byte;
  ring.Add(IORING_OP_READ, p.r.get(), &byte, 1).flags = IOSQE_IO_LINK;
  ring.Add(IORING_OP_LINK_TIMEOUT, -1, &kShort, 1);
  auto results = ring.RunAll(2);
  // A read that was interrupted, or one that never started.
  EXPECT_TRUE(results[1] == -ECANCELED || results[1] == -EINTR) << results[1];
  EXPECT_TRUE(results[2] == -ETIME || results[2] == -EALREADY) << results[2];
  // In time.
  ring.Add(IORING_OP_READ, p.r.get(), &byte, 1).flags = IOSQE_IO_LINK;
  ring.Add(IORING_OP_LINK_TIMEOUT, -1, &kLong, 1);
  ASSERT_EQ(ring.Submit(), 2);
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  results = ring.RunAll(2);
  EXPECT_EQ(results[3], 1);
  EXPECT_EQ(results[4], -ECANCELED);
  // At once.
  ring.Add(IORING_OP_NOP).flags = IOSQE_IO_LINK;
  ring.Add(IORING_OP_LINK_TIMEOUT, -1, &kLong, 1);
  results = ring.RunAll(2);
  EXPECT_EQ(results[5], 0);
  EXPECT_EQ(results[6], -ECANCELED);
  // Alone.
  ring.Add(IORING_OP_LINK_TIMEOUT, -1, &kLong, 1);
  EXPECT_EQ(ring.Run(), -EINVAL);
}

TEST_F(UringWait, CancelByDataByFileAndAll) {
  TestRing ring;
  Pipe p;
  char byte;
  ring.Add(IORING_OP_ASYNC_CANCEL, -1, reinterpret_cast<void*>(77));
  EXPECT_EQ(ring.Run(), -ENOENT);
  ring.Add(IORING_OP_READ, p.r.get(), &byte, 1);
  ASSERT_EQ(ring.Submit(), 1);
  ring.Add(IORING_OP_ASYNC_CANCEL, -1, reinterpret_cast<void*>(2));
  auto results = ring.RunAll(2);
  EXPECT_EQ(results[2], -ECANCELED);
  EXPECT_EQ(results[3], 0);
  ring.Add(IORING_OP_POLL_ADD, p.r.get()).poll32_events = POLLIN;
  ring.Add(IORING_OP_POLL_ADD, p.r.get()).poll32_events = POLLIN;
  ASSERT_EQ(ring.Submit(), 2);
  ring.Add(IORING_OP_ASYNC_CANCEL, p.r.get()).cancel_flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL;
  results = ring.RunAll(3);
  EXPECT_EQ(results[4], -ECANCELED);
  EXPECT_EQ(results[5], -ECANCELED);
  EXPECT_EQ(results[6], 2);
  ring.Add(IORING_OP_ASYNC_CANCEL, -1).cancel_flags = 1u << 31;
  EXPECT_EQ(ring.Run(), -EINVAL);
  // The pipe is untouched.
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  EXPECT_EQ(read(p.r.get(), &byte, 1), 1);
}

TEST_F(UringWait, RequestOutlivesItsDescriptor) {
  TestRing ring;
  Pipe p;
  char byte;
  ring.Add(IORING_OP_READ, p.r.get(), &byte, 1);
  ASSERT_EQ(ring.Submit(), 1);
  p.r.reset();
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  EXPECT_EQ(ring.Next().res, 1);
}

TEST_F(UringWait, ProvidedBuffers) {
  TestRing ring;
  Pair pair;
  std::vector<char> memory(4 * 64);
  io_uring_sqe& provide = ring.Add(IORING_OP_PROVIDE_BUFFERS, 4, memory.data(), 64, 10);
  provide.buf_group = 3;
  EXPECT_GE(ring.Run(), 0);
  for (int i = 0; i < 2; ++i) {
    io_uring_sqe& receive = ring.Add(IORING_OP_RECV, pair.b.get(), nullptr, 64);
    receive.flags = IOSQE_BUFFER_SELECT;
    receive.buf_group = 3;
    ASSERT_EQ(ring.Submit(), 1);
    ASSERT_EQ(send(pair.a.get(), "data", 4, 0), 4);
    Cqe cqe = ring.Next();
    EXPECT_EQ(cqe.res, 4);
    ASSERT_TRUE(cqe.flags & IORING_CQE_F_BUFFER);
    unsigned id = cqe.flags >> IORING_CQE_BUFFER_SHIFT;
    ASSERT_GE(id, 10u);
    ASSERT_LT(id, 14u);
    EXPECT_EQ(memcmp(memory.data() + (id - 10) * 64, "data", 4), 0);
  }
  ring.Add(IORING_OP_REMOVE_BUFFERS, 100).buf_group = 3;
  EXPECT_EQ(ring.Run(), 2);
  ASSERT_EQ(send(pair.a.get(), "data", 4, 0), 4);
  io_uring_sqe& receive = ring.Add(IORING_OP_RECV, pair.b.get(), nullptr, 64);
  receive.flags = IOSQE_BUFFER_SELECT;
  receive.buf_group = 3;
  EXPECT_EQ(ring.Run(), -ENOBUFS);
  ring.Add(IORING_OP_NOP).flags = IOSQE_BUFFER_SELECT;
  EXPECT_EQ(ring.Run(), -EOPNOTSUPP);
}

TEST_F(UringWait, BufferRing) {
  TestRing ring;
  Pair pair;
  auto* bufs =
      static_cast<io_uring_buf*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(static_cast<void*>(bufs), MAP_FAILED);
  io_uring_buf_reg reg = {};
  reg.ring_addr = reinterpret_cast<uint64_t>(bufs);
  reg.ring_entries = 4;
  reg.bgid = 5;
  if (UringRegister(ring.fd.get(), IORING_REGISTER_PBUF_RING, &reg, 1) != 0) GTEST_SKIP() << "before Linux 5.19";
  char memory[4][64];
  for (uint16_t i = 0; i < 4; ++i) {
    bufs[i].addr = reinterpret_cast<uint64_t>(memory[i]);
    bufs[i].len = 64;
    bufs[i].bid = i;
  }
  reinterpret_cast<std::atomic<uint16_t>*>(&bufs[0].resv)->store(4);
  io_uring_sqe& receive = ring.Add(IORING_OP_RECV, pair.b.get());
  receive.flags = IOSQE_BUFFER_SELECT;
  receive.buf_group = 5;
  receive.ioprio = IORING_RECV_MULTISHOT;
  ASSERT_EQ(ring.Submit(), 1);
  for (unsigned i = 0; i < 4; ++i) {
    ASSERT_EQ(send(pair.a.get(), &i, 1, 0), 1);
    Cqe cqe = ring.Next();
    EXPECT_EQ(cqe.res, 1);
    EXPECT_TRUE(cqe.flags & IORING_CQE_F_MORE);
    ASSERT_EQ(cqe.flags >> IORING_CQE_BUFFER_SHIFT, i);
    EXPECT_EQ(memory[i][0], static_cast<char>(i));
  }
  // Out of buffers: it ends.
  ASSERT_EQ(send(pair.a.get(), "x", 1, 0), 1);
  Cqe cqe = ring.Next();
  EXPECT_EQ(cqe.res, -ENOBUFS);
  EXPECT_FALSE(cqe.flags & IORING_CQE_F_MORE);
  EXPECT_OK(UringRegister(ring.fd.get(), IORING_UNREGISTER_PBUF_RING, &reg, 1));
  EXPECT_LT(UringRegister(ring.fd.get(), IORING_UNREGISTER_PBUF_RING, &reg, 1), 0);
}

TEST_F(UringWait, ManyRequestsAtOnce) {
  constexpr int kPairs = 64;
  TestRing ring(256);
  std::vector<Pair> pairs(kPairs);
  char bytes[kPairs];
  for (int i = 0; i < kPairs; ++i) ring.Add(IORING_OP_RECV, pairs[i].b.get(), &bytes[i], 1);
  ASSERT_EQ(ring.Submit(), kPairs);
  std::thread sender([&] {
    for (int i = 0; i < kPairs; ++i) EXPECT_EQ(send(pairs[i].a.get(), "x", 1, 0), 1);
  });
  for (int i = 0; i < kPairs; ++i) EXPECT_EQ(ring.Next().res, 1);
  sender.join();
}

TEST_F(UringWait, ClosingTheRingCancels) {
  Pair pair;
  char byte;
  {
    TestRing ring;
    ring.Add(IORING_OP_RECV, pair.b.get(), &byte, 1);
    ring.Add(IORING_OP_TIMEOUT, -1, &kLong, 1);
    ASSERT_EQ(ring.Submit(), 2);
  }
  pair.b.reset();
  // With the request gone nobody has the other end: it is noticed, sooner or later.
  EXPECT_TRUE(PollFor(pair.a.get(), POLLHUP, 20000));
}

}  // namespace
