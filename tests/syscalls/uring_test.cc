// SPDX-License-Identifier: Apache-2.0
// io_uring: set-up, the rings, waiting, links and the operations on files. Sockets, polls and timeouts are in
// uring_wait_test.cc.
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <thread>

#include "tests/syscalls/uring_util.h"

namespace {

constexpr char kMessage[] = "hello io_uring";
constexpr int kLength = sizeof kMessage - 1;

struct Uring : testing::Test {
  void SetUp() override { REQUIRE_URING(); }
};

TEST_F(Uring, SetupTellsSizesAndFeatures) {
  TestRing ring(5);
  EXPECT_EQ(ring.params.sq_entries, 8u);
  EXPECT_EQ(ring.params.cq_entries, 16u);
  EXPECT_TRUE(ring.params.features & IORING_FEAT_SINGLE_MMAP);
  EXPECT_TRUE(ring.params.features & IORING_FEAT_NODROP);
  EXPECT_TRUE(ring.params.features & IORING_FEAT_EXT_ARG);
  EXPECT_EQ(ring.Word(ring.params.sq_off.ring_mask).load(), 7u);
  EXPECT_EQ(ring.Word(ring.params.cq_off.ring_mask).load(), 15u);
  EXPECT_EQ(ring.Word(ring.params.sq_off.ring_entries).load(), 8u);
  EXPECT_EQ(ring.Word(ring.params.cq_off.ring_entries).load(), 16u);
  EXPECT_EQ(fcntl(ring.fd.get(), F_GETFD), FD_CLOEXEC);
  TestRing sized(2, 0, 100);
  EXPECT_EQ(sized.params.cq_entries, 128u);
  TestRing clamped(100000, IORING_SETUP_CLAMP);
  EXPECT_EQ(clamped.params.sq_entries, 32768u);
}

TEST_F(Uring, SetupRefusesNonsense) {
  io_uring_params p = {};
  EXPECT_FAILS(EINVAL, UringSetup(0, &p));
  EXPECT_FAILS(EINVAL, UringSetup(32769, &p));
  EXPECT_FAILS(EFAULT, UringSetup(1, nullptr));
  auto flags = [](unsigned f, unsigned cq = 0) {
    io_uring_params p = {};
    p.flags = f;
    p.cq_entries = cq;
    return UringSetup(8, &p);
  };
  EXPECT_FAILS(EINVAL, flags(1u << 31));
  EXPECT_FAILS(EINVAL, flags(IORING_SETUP_CQSIZE));
  EXPECT_FAILS(EINVAL, flags(IORING_SETUP_CQSIZE, 4));
  EXPECT_FAILS(EINVAL, flags(IORING_SETUP_SQ_AFF));
  EXPECT_FAILS(EINVAL, flags(IORING_SETUP_DEFER_TASKRUN));
  EXPECT_FAILS(EINVAL, flags(IORING_SETUP_TASKRUN_FLAG));
  p = {};
  p.resv[1] = 1;
  EXPECT_FAILS(EINVAL, UringSetup(8, &p));
}

TEST_F(Uring, SetupFlagsThatAreServed) {
  for (unsigned flags : {unsigned{IORING_SETUP_COOP_TASKRUN}, unsigned{IORING_SETUP_SINGLE_ISSUER},
                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, unsigned{IORING_SETUP_SUBMIT_ALL}}) {
    TestRing ring(4, flags);
    ring.Add(IORING_OP_NOP);
    EXPECT_EQ(ring.Run(), 0) << flags;
  }
}

TEST_F(Uring, MappingsHaveTheirPlacesAndSizes) {
  TestRing ring;
  // EINVAL or ENOMEM, by version.
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, ring.fd.get(), 0x20000000), MAP_FAILED);
  void* cq = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd.get(), IORING_OFF_CQ_RING);
  ASSERT_NE(cq, MAP_FAILED);
  EXPECT_EQ(*reinterpret_cast<unsigned*>(static_cast<char*>(cq) + ring.params.cq_off.ring_mask), 15u);
  munmap(cq, 4096);
}

TEST_F(Uring, NopsCompleteInOrder) {
  TestRing ring;
  for (int i = 0; i < 8; ++i) ring.Add(IORING_OP_NOP);
  ASSERT_EQ(ring.Submit(8), 8);
  for (uint64_t i = 1; i <= 8; ++i) {
    Cqe cqe = ring.Next();
    EXPECT_EQ(cqe.data, i);
    EXPECT_EQ(cqe.res, 0);
  }
  EXPECT_FALSE(ring.Peek());
}

TEST_F(Uring, ReadsAndWrites) {
  TempDir dir;
  Fd f(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  TestRing ring;
  ring.Add(IORING_OP_WRITE, f.get(), kMessage, kLength, 3);
  EXPECT_EQ(ring.Run(), kLength);
  char buffer[64] = {};
  ring.Add(IORING_OP_READ, f.get(), buffer, 64, 3);
  EXPECT_EQ(ring.Run(), kLength);
  EXPECT_STREQ(buffer, kMessage);
  // The file's position.
  lseek(f.get(), 9, SEEK_SET);
  memset(buffer, 0, sizeof buffer);
  ring.Add(IORING_OP_READ, f.get(), buffer, 8, -1);
  EXPECT_EQ(ring.Run(), 8);
  EXPECT_STREQ(buffer, "io_uring");
  EXPECT_EQ(lseek(f.get(), 0, SEEK_CUR), 17);

  char a[5] = {}, b[16] = {};
  iovec in[2] = {{a, 4}, {b, 15}};
  ring.Add(IORING_OP_READV, f.get(), in, 2, 3);
  EXPECT_EQ(ring.Run(), kLength);
  EXPECT_STREQ(a, "hell");
  iovec out[2] = {{const_cast<char*>("AB"), 2}, {const_cast<char*>("CD"), 2}};
  ring.Add(IORING_OP_WRITEV, f.get(), out, 2, 0);
  EXPECT_EQ(ring.Run(), 4);
  EXPECT_EQ(ReadFile(dir / "f").substr(0, 4), "ABCD");
}

TEST_F(Uring, BadRequestsCompleteWithTheirErrors) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "abc"));
  Fd f(open((dir / "f").c_str(), O_RDONLY));
  Fd d(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
  TestRing ring;
  char buffer[8];
  ring.Add(IORING_OP_READ, -1, buffer, 8);
  EXPECT_EQ(ring.Run(), -EBADF);
  ring.Add(IORING_OP_READ, f.get(), reinterpret_cast<void*>(8), 3);
  EXPECT_EQ(ring.Run(), -EFAULT);
  ring.Add(IORING_OP_WRITE, f.get(), buffer, 8);
  EXPECT_EQ(ring.Run(), -EBADF);
  ring.Add(IORING_OP_READ, d.get(), buffer, 8);
  EXPECT_EQ(ring.Run(), -EISDIR);
  ring.Add(250);
  EXPECT_EQ(ring.Run(), -EINVAL);
  ring.Add(IORING_OP_NOP).flags = 0x80;
  EXPECT_EQ(ring.Run(), -EINVAL);
  ring.Add(IORING_OP_READ, f.get(), buffer, 8).rw_flags = 0x40000000;
  EXPECT_EQ(ring.Run(), -EOPNOTSUPP);
  ring.Add(IORING_OP_READ, 0, buffer, 8).flags = IOSQE_FIXED_FILE;
  EXPECT_EQ(ring.Run(), -EBADF);
  ring.Add(IORING_OP_READ, f.get(), buffer, 8).personality = 7;
  EXPECT_EQ(ring.Run(), -EINVAL);
  ring.Add(IORING_OP_FSYNC, f.get()).addr = 1;
  EXPECT_EQ(ring.Run(), -EINVAL);
  ring.Add(IORING_OP_CLOSE, 9999);
  EXPECT_EQ(ring.Run(), -EBADF);
  ring.Add(IORING_OP_CLOSE, ring.fd.get());
  EXPECT_EQ(ring.Run(), -EBADF);
  ring.Add(IORING_OP_NOP);
  EXPECT_EQ(ring.Run(), 0);
}

TEST_F(Uring, ABadEntryEndsTheBatch) {
  for (bool all : {false, true}) {
    TestRing ring(8, all ? IORING_SETUP_SUBMIT_ALL : 0);
    ring.Add(IORING_OP_NOP);
    ring.Add(251);
    ring.Add(IORING_OP_NOP);
    EXPECT_EQ(ring.Submit(), all ? 3 : 2);
    EXPECT_EQ(ring.Next().res, 0);
    EXPECT_EQ(ring.Next().res, -EINVAL);
    EXPECT_EQ(ring.Peek().has_value(), all);
  }
}

TEST_F(Uring, BadIndicesAreDroppedAndCounted) {
  TestRing ring;
  ring.Add(IORING_OP_NOP);
  ring.Array()[0] = 1000;
  EXPECT_EQ(ring.Submit(), 0);
  EXPECT_EQ(ring.Word(ring.params.sq_off.dropped).load(), 1u);
  // Indices that the guest has no business with do no harm.
  ring.SqHead().store(12345);
  ring.CqTail().store(54321);
  ring.SqTail().store(ring.SqTail().load() + 0x7fffffff);
  (void)UringEnter(ring.fd.get(), 0xffffffff, 0, 0);
}

TEST_F(Uring, EnterRefusesNonsense) {
  TestRing ring;
  EXPECT_FAILS(EBADF, UringEnter(-1, 0, 0, 0));
  EXPECT_FAILS(EINVAL, UringEnter(ring.fd.get(), 0, 0, 1u << 31));
  Pipe p;
  EXPECT_FAILS(EOPNOTSUPP, UringEnter(p.r.get(), 0, 0, 0));
  io_uring_getevents_arg arg = {};
  EXPECT_FAILS(EINVAL, UringEnter(ring.fd.get(), 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, 7));
  EXPECT_FAILS(EFAULT,
               UringEnter(ring.fd.get(), 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, nullptr, sizeof arg));
  char byte;
  EXPECT_FAILS(EINVAL, read(ring.fd.get(), &byte, 1));
}

TEST_F(Uring, WaitTimesOut) {
  TestRing ring;
  struct {
    long long sec, nsec;
  } ts = {0, 1000000};
  io_uring_getevents_arg arg = {};
  arg.ts = reinterpret_cast<uint64_t>(&ts);
  EXPECT_FAILS(ETIME, UringEnter(ring.fd.get(), 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg));
}

void OnSignal(int) {}

TEST_F(Uring, WaitIsInterrupted) {
  TestRing ring;
  {
    ScopedHandler handler(SIGALRM, OnSignal, SA_RESTART);
    ScopedTicks ticks;
    EXPECT_FAILS(EINTR, UringEnter(ring.fd.get(), 0, 1, IORING_ENTER_GETEVENTS));
  }
  ScopedHandler handler(SIGUSR1, OnSignal);
  ScopedBlock block({SIGUSR1});
  raise(SIGUSR1);
  sigset_t none = SetOf({});
  EXPECT_FAILS(EINTR, UringEnter(ring.fd.get(), 0, 1, IORING_ENTER_GETEVENTS, &none, 8));
  EXPECT_FAILS(EINVAL, UringEnter(ring.fd.get(), 0, 1, IORING_ENTER_GETEVENTS, &none, 4));
}

TEST_F(Uring, WaiterIsWokenByAnotherThread) {
  TestRing ring;
  Pipe p;
  char byte = 0;
  ring.Add(IORING_OP_READ, p.r.get(), &byte, 1);
  ASSERT_EQ(ring.Submit(), 1);
  EXPECT_FALSE(ring.Peek());
  std::thread writer([&] { EXPECT_EQ(write(p.w.get(), "x", 1), 1); });
  EXPECT_EQ(ring.Next().res, 1);
  writer.join();
  EXPECT_EQ(byte, 'x');
}

TEST_F(Uring, RingIsPollable) {
  TestRing ring;
  EXPECT_FALSE(PollFor(ring.fd.get(), POLLIN, 0));
  Fd e(epoll_create1(0));
  epoll_event event = {.events = EPOLLIN, .data = {}};
  ASSERT_OK(epoll_ctl(e.get(), EPOLL_CTL_ADD, ring.fd.get(), &event));
  Pipe p;
  char byte;
  ring.Add(IORING_OP_READ, p.r.get(), &byte, 1);
  ASSERT_EQ(ring.Submit(), 1);
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  EXPECT_EQ(epoll_wait(e.get(), &event, 1, 10000), 1);
  EXPECT_TRUE(PollFor(ring.fd.get(), POLLIN, 10000));
  EXPECT_EQ(ring.Next().res, 1);
}

TEST_F(Uring, CompletionsOverflowAndComeLater) {
  TestRing ring(2, 0, 2);
  for (int i = 0; i < 3; ++i) {
    ring.Add(IORING_OP_NOP);
    ring.Add(IORING_OP_NOP);
    ASSERT_EQ(ring.Submit(), 2);
  }
  EXPECT_TRUE(ring.SqFlags().load() & IORING_SQ_CQ_OVERFLOW);
  for (uint64_t i = 1; i <= 6; ++i) EXPECT_EQ(ring.Next().data, i);
  (void)UringEnter(ring.fd.get(), 0, 0, IORING_ENTER_GETEVENTS);
  EXPECT_FALSE(ring.SqFlags().load() & IORING_SQ_CQ_OVERFLOW);
}

TEST_F(Uring, LinksRunInOrderAndBreak) {
  TempDir dir;
  Fd f(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  TestRing ring;
  char buffer[64] = {};
  ring.Add(IORING_OP_WRITE, f.get(), kMessage, kLength, 0).flags = IOSQE_IO_LINK;
  ring.Add(IORING_OP_READ, f.get(), buffer, kLength, 0);
  auto results = ring.RunAll(2);
  EXPECT_EQ(results[1], kLength);
  EXPECT_EQ(results[2], kLength);
  EXPECT_STREQ(buffer, kMessage);
  // A failure, and a short read, cancel what follows; a hard link goes on.
  ring.Add(IORING_OP_READ, -1, buffer, 1).flags = IOSQE_IO_LINK;
  ring.Add(IORING_OP_NOP).flags = IOSQE_IO_LINK;
  ring.Add(IORING_OP_NOP);
  results = ring.RunAll(3);
  EXPECT_EQ(results[3], -EBADF);
  EXPECT_EQ(results[4], -ECANCELED);
  EXPECT_EQ(results[5], -ECANCELED);
  ring.Add(IORING_OP_READ, f.get(), buffer, 64, 0).flags = IOSQE_IO_LINK;
  ring.Add(IORING_OP_NOP);
  results = ring.RunAll(2);
  EXPECT_EQ(results[6], kLength);
  EXPECT_EQ(results[7], -ECANCELED);
  ring.Add(IORING_OP_READ, -1, buffer, 1).flags = IOSQE_IO_HARDLINK;
  ring.Add(IORING_OP_NOP);
  results = ring.RunAll(2);
  EXPECT_EQ(results[8], -EBADF);
  EXPECT_EQ(results[9], 0);
}

TEST_F(Uring, ALinkWaitsForItsPredecessor) {
  TestRing ring;
  Pipe p, q;
  char byte;
  ring.Add(IORING_OP_READ, p.r.get(), &byte, 1).flags = IOSQE_IO_LINK;
  ring.Add(IORING_OP_WRITE, q.w.get(), "y", 1);
  ASSERT_EQ(ring.Submit(), 2);
  EXPECT_FALSE(PollFor(q.r.get(), POLLIN, 0));
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  EXPECT_EQ(ring.Next().data, 1u);
  EXPECT_EQ(ring.Next().data, 2u);
  EXPECT_TRUE(PollFor(q.r.get(), POLLIN, 10000));
}

TEST_F(Uring, DrainWaitsForAllBefore) {
  TestRing ring;
  Pipe p;
  char byte;
  ring.Add(IORING_OP_READ, p.r.get(), &byte, 1);
  ring.Add(IORING_OP_NOP).flags = IOSQE_IO_DRAIN;
  ring.Add(IORING_OP_NOP);
  ASSERT_EQ(ring.Submit(), 3);
  EXPECT_FALSE(ring.Peek());
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  EXPECT_EQ(ring.Next().data, 1u);
  EXPECT_EQ(ring.Next().data, 2u);
  EXPECT_EQ(ring.Next().data, 3u);
}

TEST_F(Uring, SuccessCanBeSkipped) {
  TestRing ring;
  ring.Add(IORING_OP_NOP).flags = IOSQE_CQE_SKIP_SUCCESS;
  ring.Add(IORING_OP_READ, -1).flags = IOSQE_CQE_SKIP_SUCCESS;
  ASSERT_EQ(ring.Submit(), 2);
  Cqe cqe = ring.Next();
  EXPECT_EQ(cqe.data, 2u);
  EXPECT_EQ(cqe.res, -EBADF);
  EXPECT_FALSE(ring.Peek());
}

TEST_F(Uring, AsyncFlagIsServed) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", kMessage));
  Fd f(open((dir / "f").c_str(), O_RDONLY));
  TestRing ring;
  char buffer[64] = {};
  ring.Add(IORING_OP_READ, f.get(), buffer, 64, 0).flags = IOSQE_ASYNC;
  EXPECT_EQ(ring.Run(), kLength);
  ring.Add(IORING_OP_FSYNC, f.get()).flags = IOSQE_ASYNC;
  EXPECT_EQ(ring.Run(), 0);
}

TEST_F(Uring, RegisteredFiles) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", kMessage));
  Fd f(open((dir / "f").c_str(), O_RDONLY));
  TestRing ring;
  int fds[3] = {f.get(), -1, f.get()};
  EXPECT_FAILS(ENXIO, UringRegister(ring.fd.get(), IORING_UNREGISTER_FILES, nullptr, 0));
  ASSERT_OK(UringRegister(ring.fd.get(), IORING_REGISTER_FILES, fds, 3));
  EXPECT_FAILS(EBUSY, UringRegister(ring.fd.get(), IORING_REGISTER_FILES, fds, 3));
  f.reset();  // the registration keeps it
  char buffer[64] = {};
  ring.Add(IORING_OP_READ, 0, buffer, 64, 0).flags = IOSQE_FIXED_FILE;
  EXPECT_EQ(ring.Run(), kLength);
  for (int bad : {1, 3, -1}) {
    ring.Add(IORING_OP_READ, bad, buffer, 64, 0).flags = IOSQE_FIXED_FILE;
    EXPECT_EQ(ring.Run(), -EBADF);
  }
  Pipe p;
  int update[1] = {p.r.get()};
  ring.Add(IORING_OP_FILES_UPDATE, -1, update, 1, 1);
  EXPECT_EQ(ring.Run(), 1);
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  ring.Add(IORING_OP_READ, 1, buffer, 1, 0).flags = IOSQE_FIXED_FILE;
  EXPECT_EQ(ring.Run(), 1);
  io_uring_files_update u = {};
  u.offset = 2;
  int minus[2] = {-1, -1};
  u.fds = reinterpret_cast<uint64_t>(minus);
  EXPECT_FAILS(EINVAL, UringRegister(ring.fd.get(), IORING_REGISTER_FILES_UPDATE, &u, 2));
  EXPECT_EQ(UringRegister(ring.fd.get(), IORING_REGISTER_FILES_UPDATE, &u, 1), 1);
  EXPECT_OK(UringRegister(ring.fd.get(), IORING_UNREGISTER_FILES, nullptr, 0));
  int bad_fd = 9999;
  EXPECT_FAILS(EBADF, UringRegister(ring.fd.get(), IORING_REGISTER_FILES, &bad_fd, 1));
  EXPECT_FAILS(EINVAL, UringRegister(ring.fd.get(), IORING_REGISTER_FILES, &bad_fd, 0));
  EXPECT_FAILS(EFAULT, UringRegister(ring.fd.get(), IORING_REGISTER_FILES, (void*)8, 1));
}

TEST_F(Uring, RegisteredBuffers) {
  TempDir dir;
  Fd f(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  TestRing ring;
  std::vector<char> memory(8192);
  iovec v = {memory.data(), memory.size()};
  ASSERT_OK(UringRegister(ring.fd.get(), IORING_REGISTER_BUFFERS, &v, 1));
  memcpy(memory.data() + 100, kMessage, kLength);
  ring.Add(IORING_OP_WRITE_FIXED, f.get(), memory.data() + 100, kLength, 0);
  EXPECT_EQ(ring.Run(), kLength);
  ring.Add(IORING_OP_READ_FIXED, f.get(), memory.data() + 4000, kLength, 0);
  EXPECT_EQ(ring.Run(), kLength);
  EXPECT_EQ(memcmp(memory.data() + 4000, kMessage, kLength), 0);
  ring.Add(IORING_OP_READ_FIXED, f.get(), memory.data() + 8190, kLength, 0);
  EXPECT_EQ(ring.Run(), -EFAULT);
  ring.Add(IORING_OP_READ_FIXED, f.get(), memory.data(), 8, 0).buf_index = 1;
  EXPECT_EQ(ring.Run(), -EFAULT);
  EXPECT_FAILS(EBUSY, UringRegister(ring.fd.get(), IORING_REGISTER_BUFFERS, &v, 1));
  EXPECT_OK(UringRegister(ring.fd.get(), IORING_UNREGISTER_BUFFERS, nullptr, 0));
  v.iov_base = reinterpret_cast<void*>(4096);
  EXPECT_FAILS(EFAULT, UringRegister(ring.fd.get(), IORING_REGISTER_BUFFERS, &v, 1));
}

TEST_F(Uring, EventfdIsSignalled) {
  TestRing ring;
  Fd e(eventfd(0, EFD_NONBLOCK));
  int fd = e.get();
  ASSERT_OK(UringRegister(ring.fd.get(), IORING_REGISTER_EVENTFD, &fd, 1));
  EXPECT_FAILS(EBUSY, UringRegister(ring.fd.get(), IORING_REGISTER_EVENTFD, &fd, 1));
  Pipe p;
  char byte;
  ring.Add(IORING_OP_READ, p.r.get(), &byte, 1);
  ASSERT_EQ(ring.Submit(), 1);
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  EXPECT_TRUE(PollFor(e.get(), POLLIN, 10000));
  EXPECT_EQ(ring.Next().res, 1);
  EXPECT_OK(UringRegister(ring.fd.get(), IORING_UNREGISTER_EVENTFD, nullptr, 0));
  EXPECT_FAILS(ENXIO, UringRegister(ring.fd.get(), IORING_UNREGISTER_EVENTFD, nullptr, 0));
  EXPECT_FAILS(EINVAL, UringRegister(ring.fd.get(), IORING_REGISTER_EVENTFD, &(fd = p.r.get()), 1));
}

TEST_F(Uring, ProbeTellsOperations) {
  TestRing ring;
  std::vector<char> memory(sizeof(io_uring_probe) + 256 * sizeof(io_uring_probe_op));
  auto* probe = reinterpret_cast<io_uring_probe*>(memory.data());
  ASSERT_OK(UringRegister(ring.fd.get(), IORING_REGISTER_PROBE, probe, 256));
  EXPECT_GE(probe->last_op, IORING_OP_SENDMSG_ZC);
  for (int op : {IORING_OP_NOP, IORING_OP_READV, IORING_OP_POLL_ADD, IORING_OP_ACCEPT, IORING_OP_OPENAT2,
                 IORING_OP_STATX, IORING_OP_TIMEOUT, IORING_OP_LINKAT, IORING_OP_MSG_RING, IORING_OP_SOCKET})
    EXPECT_TRUE(probe->ops[op].flags & IO_URING_OP_SUPPORTED) << op;
  EXPECT_FAILS(EINVAL, UringRegister(ring.fd.get(), IORING_REGISTER_PROBE, probe, 257));
}

TEST_F(Uring, RestrictionsAreEnforced) {
  TestRing ring(8, IORING_SETUP_R_DISABLED);
  EXPECT_FAILS(EBADFD, UringEnter(ring.fd.get(), 0, 0, 0));
  io_uring_restriction r[1] = {};
  r[0].opcode = IORING_RESTRICTION_SQE_OP;
  r[0].sqe_op = IORING_OP_NOP;
  ASSERT_OK(UringRegister(ring.fd.get(), IORING_REGISTER_RESTRICTIONS, r, 1));
  ASSERT_OK(UringRegister(ring.fd.get(), IORING_REGISTER_ENABLE_RINGS, nullptr, 0));
  ring.Add(IORING_OP_NOP);
  EXPECT_EQ(ring.Run(), 0);
  char byte;
  ring.Add(IORING_OP_READ, 0, &byte, 1);
  EXPECT_EQ(ring.Run(), -EACCES);
  EXPECT_FAILS(EACCES, UringRegister(ring.fd.get(), IORING_REGISTER_PROBE, &byte, 1));
}

TEST_F(Uring, RegisterRefusesNonsense) {
  TestRing ring;
  EXPECT_FAILS(EINVAL, UringRegister(ring.fd.get(), 0xffff, nullptr, 0));
  EXPECT_FAILS(EBADF, UringRegister(9999, IORING_REGISTER_PROBE, nullptr, 0));
  EXPECT_FAILS(EBADFD, UringRegister(ring.fd.get(), IORING_REGISTER_ENABLE_RINGS, nullptr, 0));
  EXPECT_FAILS(EINVAL, UringRegister(ring.fd.get(), IORING_REGISTER_BUFFERS, &ring, 0xffffffff));
}

TEST_F(Uring, SingleIssuerIsHeldTo) {
  TestRing ring(8, IORING_SETUP_SINGLE_ISSUER);
  ring.Add(IORING_OP_NOP);
  EXPECT_EQ(ring.Run(), 0);
  ring.Add(IORING_OP_NOP);
  std::thread other([&] { EXPECT_FAILS(EEXIST, ring.Submit()); });
  other.join();
}

TEST_F(Uring, SubmissionThreadServes) {
  TestRing ring(8, IORING_SETUP_SQPOLL);
  for (int i = 0; i < 3; ++i) {
    ring.Add(IORING_OP_NOP);
    ASSERT_GE(UringEnter(ring.fd.get(), 1, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP), 0);
    EXPECT_EQ(ring.Next().res, 0);
  }
}

TEST_F(Uring, PathOperations) {
  TempDir dir;
  TestRing ring;
  Fd d(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
  ring.Add(IORING_OP_MKDIRAT, d.get(), "sub", 0700);
  EXPECT_EQ(ring.Run(), 0);
  ring.Add(IORING_OP_OPENAT, d.get(), "sub/f", 0600).open_flags = O_RDWR | O_CREAT;
  Fd f(ring.Run());
  ASSERT_TRUE(f.ok());
  ring.Add(IORING_OP_FALLOCATE, f.get(), reinterpret_cast<void*>(4096), 0, 0);
  EXPECT_EQ(ring.Run(), 0);
  struct statx sx = {};
  ring.Add(IORING_OP_STATX, d.get(), "sub/f", STATX_SIZE, reinterpret_cast<uint64_t>(&sx));
  EXPECT_EQ(ring.Run(), 0);
  EXPECT_EQ(sx.stx_size, 4096u);
  ring.Add(IORING_OP_SYMLINKAT, d.get(), "target", 0, reinterpret_cast<uint64_t>("link"));
  EXPECT_EQ(ring.Run(), 0);
  char target[16] = {};
  EXPECT_EQ(readlinkat(d.get(), "link", target, 15), 6);
  ring.Add(IORING_OP_LINKAT, d.get(), "sub/f", d.get(), reinterpret_cast<uint64_t>("hard"));
  EXPECT_EQ(ring.Run(), 0);
  ring.Add(IORING_OP_RENAMEAT, d.get(), "hard", d.get(), reinterpret_cast<uint64_t>("moved"));
  EXPECT_EQ(ring.Run(), 0);
  EXPECT_OK(faccessat(d.get(), "moved", F_OK, 0));
  ring.Add(IORING_OP_UNLINKAT, d.get(), "moved");
  EXPECT_EQ(ring.Run(), 0);
  ring.Add(IORING_OP_UNLINKAT, d.get(), "moved");
  EXPECT_EQ(ring.Run(), -ENOENT);
  ring.Add(IORING_OP_UNLINKAT, d.get(), "sub").unlink_flags = AT_REMOVEDIR;
  EXPECT_EQ(ring.Run(), -ENOTEMPTY);
  ring.Add(IORING_OP_OPENAT, d.get(), nullptr);
  EXPECT_EQ(ring.Run(), -EFAULT);
  struct {
    uint64_t flags, mode, resolve;
  } how = {O_RDONLY, 0, 0};
  ring.Add(IORING_OP_OPENAT2, d.get(), "sub/f", sizeof how, reinterpret_cast<uint64_t>(&how));
  Fd g(ring.Run());
  EXPECT_TRUE(g.ok());
  ring.Add(IORING_OP_CLOSE, g.release());
  EXPECT_EQ(ring.Run(), 0);
  ring.Add(IORING_OP_FADVISE, f.get(), nullptr, 0, 0).fadvise_advice = POSIX_FADV_WILLNEED;
  EXPECT_EQ(ring.Run(), 0);
}

TEST_F(Uring, DirectDescriptors) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", kMessage));
  TestRing ring;
  int empty[2] = {-1, -1};
  ASSERT_OK(UringRegister(ring.fd.get(), IORING_REGISTER_FILES, empty, 2));
  const std::string path = dir / "f";
  char buffer[64] = {};
  io_uring_sqe& opened = ring.Add(IORING_OP_OPENAT, AT_FDCWD, path.c_str());
  opened.file_index = 1;
  opened.flags = IOSQE_IO_LINK;
  ring.Add(IORING_OP_READ, 0, buffer, kLength, 0).flags = IOSQE_FIXED_FILE;
  auto results = ring.RunAll(2);
  EXPECT_EQ(results[1], 0);
  EXPECT_EQ(results[2], kLength);
  EXPECT_STREQ(buffer, kMessage);
  ring.Add(IORING_OP_OPENAT, AT_FDCWD, path.c_str()).file_index = IORING_FILE_INDEX_ALLOC;
  EXPECT_EQ(ring.Run(), 1);
  ring.Add(IORING_OP_OPENAT, AT_FDCWD, path.c_str()).file_index = IORING_FILE_INDEX_ALLOC;
  EXPECT_EQ(ring.Run(), -ENFILE);
  ring.Add(IORING_OP_OPENAT, AT_FDCWD, path.c_str()).file_index = 3;
  EXPECT_EQ(ring.Run(), -EINVAL);
  ring.Add(IORING_OP_CLOSE, 0).file_index = 1;
  EXPECT_EQ(ring.Run(), 0);
  ring.Add(IORING_OP_CLOSE, 0).file_index = 1;
  EXPECT_EQ(ring.Run(), -EBADF);
}

TEST_F(Uring, BlockingOpenDoesNotBlockTheSubmitter) {
  TempDir dir;
  const std::string path = dir / "fifo";
  ASSERT_OK(mkfifo(path.c_str(), 0600));
  TestRing ring;
  io_uring_sqe& opening = ring.Add(IORING_OP_OPENAT, AT_FDCWD, path.c_str());
  opening.open_flags = O_RDONLY;
  opening.flags = IOSQE_ASYNC;
  ASSERT_EQ(ring.Submit(), 1);
  ring.Add(IORING_OP_NOP);
  ASSERT_EQ(ring.Submit(), 1);
  EXPECT_EQ(ring.Next().data, 2u);
  Fd w(open(path.c_str(), O_WRONLY));
  Fd r(ring.Next().res);
  EXPECT_TRUE(r.ok());
}

TEST_F(Uring, MessagesGoToAnotherRing) {
  TestRing ring, other;
  ring.Add(IORING_OP_MSG_RING, other.fd.get(), nullptr, 77, 0xabcdef);
  EXPECT_EQ(ring.Run(), 0);
  Cqe cqe = other.Next();
  EXPECT_EQ(cqe.data, 0xabcdefu);
  EXPECT_EQ(cqe.res, 77);
  Pipe p;
  ring.Add(IORING_OP_MSG_RING, p.r.get(), nullptr, 77, 1);
  EXPECT_EQ(ring.Run(), -EBADFD);
}

TEST_F(Uring, SpliceBetweenPipes) {
  TestRing ring;
  Pipe a, b;
  ASSERT_EQ(write(a.w.get(), kMessage, kLength), kLength);
  io_uring_sqe& splice = ring.Add(IORING_OP_SPLICE, b.w.get(), reinterpret_cast<void*>(-1), kLength, -1);
  splice.splice_fd_in = a.r.get();
  EXPECT_EQ(ring.Run(), kLength);
  char buffer[64] = {};
  EXPECT_EQ(read(b.r.get(), buffer, 64), kLength);
  EXPECT_STREQ(buffer, kMessage);
}

TEST_F(Uring, EndsWithTheProcessAndWithExec) {
  Pipe p;
  for (int how = 0; how < 3; ++how) {
    EXPECT_EQ(RunInChild([&] {
                TestRing* ring = new TestRing;
                char* byte = new char;
                ring->Add(IORING_OP_READ, p.r.get(), byte, 1);
                ring->Add(IORING_OP_POLL_ADD, p.r.get()).poll32_events = POLLIN;
                CHILD_CHECK(ring->Submit() == 2);
                if (how == 1) execl("/bin/true", "true", nullptr);
                if (how == 2) delete ring;
              }),
              Exited(0));
  }
  // Nobody reads any more.
  ASSERT_EQ(write(p.w.get(), "x", 1), 1);
  char byte;
  EXPECT_EQ(read(p.r.get(), &byte, 1), 1);
}

}  // namespace
