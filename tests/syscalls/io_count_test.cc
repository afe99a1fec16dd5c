// SPDX-License-Identifier: Apache-2.0
// /proc/PID/io: which calls count there, and what.
#include <fcntl.h>
#include <sched.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <ostream>
#include <string>
#include <thread>

#include "tests/syscalls/util.h"

namespace {

struct Counts {
  long long read_bytes = 0, read_calls = 0, written_bytes = 0, write_calls = 0;
  bool operator==(const Counts&) const = default;
  Counts operator-(const Counts& o) const {
    return {read_bytes - o.read_bytes, read_calls - o.read_calls, written_bytes - o.written_bytes,
            write_calls - o.write_calls};
  }
};

std::ostream& operator<<(std::ostream& out, const Counts& c) {
  return out << "read " << c.read_bytes << " in " << c.read_calls << ", written " << c.written_bytes << " in "
             << c.write_calls;
}

constexpr Counts kNothing;
Counts Reads(long long bytes) { return {.read_bytes = bytes, .read_calls = 1}; }
Counts Writes(long long bytes) { return {.written_bytes = bytes, .write_calls = 1}; }
Counts Moves(long long bytes) { return {bytes, 1, bytes, 1}; }

// Of this thread, read by another one, so that the reading is not counted.
Counts Now() {
  const std::string path = "/proc/self/task/" + std::to_string(gettid()) + "/io";
  std::string text;
  std::thread([&] { text = ReadFile(path); }).join();
  Counts counts;
  EXPECT_EQ(4, sscanf(text.c_str(), "rchar: %lld wchar: %lld syscr: %lld syscw: %lld", &counts.read_bytes,
                      &counts.written_bytes, &counts.read_calls, &counts.write_calls))
      << text;
  return counts;
}

template <typename F>
Counts Of(F call) {
  const Counts before = Now();
  call();
  return Now() - before;
}

class IoCount : public testing::Test {
 protected:
  IoCount() {
    int pair[2];
    EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
    a_ = Fd(pair[0]);
    b_ = Fd(pair[1]);
    EXPECT_TRUE(WriteFile(dir_ / "f", std::string(1000, 'x')));
    file_ = Fd(open((dir_ / "f").c_str(), O_RDWR));
    copy_ = Fd(open((dir_ / "copy").c_str(), O_RDWR | O_CREAT, 0600));
  }
  TempDir dir_;
  Fd a_, b_, file_, copy_;
  Pipe pipe_;
  char buffer_[2000] = {};
  iovec whole_ = {buffer_, sizeof buffer_};
  iovec two_[2] = {{buffer_, 10}, {buffer_ + 10, 20}};
};

TEST_F(IoCount, EveryFormOfReadAndWrite) {
  EXPECT_EQ(Reads(1000), Of([&] { EXPECT_EQ(1000, read(file_.get(), buffer_, 2000)); }));
  EXPECT_EQ(Reads(0), Of([&] { EXPECT_EQ(0, read(file_.get(), buffer_, 2000)); })) << "the end";
  EXPECT_EQ(Reads(7), Of([&] { EXPECT_EQ(7, pread(file_.get(), buffer_, 7, 3)); }));
  EXPECT_EQ(Reads(30), Of([&] { EXPECT_EQ(30, preadv(file_.get(), two_, 2, 0)); }));
  EXPECT_EQ(Reads(30), Of([&] { EXPECT_EQ(30, preadv2(file_.get(), two_, 2, 0, 0)); }));
  EXPECT_EQ(0, lseek(file_.get(), 0, SEEK_SET));
  EXPECT_EQ(Reads(30), Of([&] { EXPECT_EQ(30, readv(file_.get(), two_, 2)); }));
  EXPECT_EQ(Writes(5), Of([&] { EXPECT_EQ(5, write(copy_.get(), buffer_, 5)); }));
  EXPECT_EQ(Writes(6), Of([&] { EXPECT_EQ(6, pwrite(copy_.get(), buffer_, 6, 0)); }));
  EXPECT_EQ(Writes(30), Of([&] { EXPECT_EQ(30, writev(copy_.get(), two_, 2)); }));
  EXPECT_EQ(Writes(30), Of([&] { EXPECT_EQ(30, pwritev(copy_.get(), two_, 2, 0)); }));
  EXPECT_EQ(Writes(30), Of([&] { EXPECT_EQ(30, pwritev2(copy_.get(), two_, 2, 0, RWF_SYNC)); }));
}

TEST_F(IoCount, CallsThatFailInTheFileCountWithoutBytes) {
  EXPECT_EQ(Reads(0), Of([&] { EXPECT_FAILS(EAGAIN, read(a_.get(), buffer_, 10)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_FAILS(EBADF, read(9999, buffer_, 10)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_FAILS(EBADF, write(pipe_.r.get(), buffer_, 10)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_FAILS(EINVAL, pread(file_.get(), buffer_, 10, -1)); }));
}

TEST_F(IoCount, SocketsCountWithReadAndWriteOnly) {
  EXPECT_EQ(Writes(40), Of([&] { EXPECT_EQ(40, write(a_.get(), buffer_, 40)); }));
  EXPECT_EQ(Reads(15), Of([&] { EXPECT_EQ(15, read(b_.get(), buffer_, 15)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(5, recv(b_.get(), buffer_, 5, 0)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(50, send(a_.get(), buffer_, 50, 0)); }));
  msghdr message = {};
  message.msg_iov = &whole_;
  message.msg_iovlen = 1;
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(70, recvmsg(b_.get(), &message, 0)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(2000, sendmsg(a_.get(), &message, 0)); }));
  mmsghdr many = {};
  many.msg_hdr = message;
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(1, recvmmsg(b_.get(), &many, 1, 0, nullptr)); }));
}

TEST_F(IoCount, SendfileIsAReadAndAWrite) {
  off_t offset = 0;
  EXPECT_EQ(Moves(600), Of([&] { EXPECT_EQ(600, sendfile(a_.get(), file_.get(), &offset, 600)); }));
  EXPECT_EQ(Moves(400), Of([&] { EXPECT_EQ(400, sendfile(copy_.get(), file_.get(), &offset, 1000)); }));
  EXPECT_EQ(Moves(0), Of([&] { EXPECT_EQ(0, sendfile(a_.get(), file_.get(), &offset, 1000)); })) << "the end";
}

TEST_F(IoCount, CopyFileRangeIsAReadAndAWrite) {
  off_t from = 0, to = 10;
  EXPECT_EQ(Moves(300), Of([&] { EXPECT_EQ(300, copy_file_range(file_.get(), &from, copy_.get(), &to, 300, 0)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(0, copy_file_range(file_.get(), &from, copy_.get(), &to, 0, 0)); }));
}

TEST_F(IoCount, SpliceAndItsKinDoNot) {
  Pipe other;
  off_t offset = 0;
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(100, splice(file_.get(), &offset, pipe_.w.get(), nullptr, 100, 0)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(100, tee(pipe_.r.get(), other.w.get(), 100, 0)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(100, splice(pipe_.r.get(), nullptr, a_.get(), nullptr, 100, 0)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(30, vmsplice(other.w.get(), two_, 2, 0)); }));
  EXPECT_EQ(kNothing, Of([&] { EXPECT_EQ(130, vmsplice(other.r.get(), &whole_, 1, 0)); }));
}

TEST_F(IoCount, OfAnotherProcessByItsNumberAndOnlyForItsOwner) {
  Event wrote, done;
  Child child([&] {
    CHILD_CHECK(write(copy_.get(), "12345", 5) == 5);
    wrote.Set();
    CHILD_CHECK(done.Wait());
  });
  ASSERT_TRUE(wrote.Wait());
  const std::string path = "/proc/" + std::to_string(child.pid()) + "/io";
  // 5 here, 1 to tell; that one counts when the call is over, which is after it was told.
  auto counted = [&] { return ReadFile(path).find("\nwchar: 6\nsyscr: ") != std::string::npos; };
  const time_t until = time(nullptr) + 20;
  while (!counted() && time(nullptr) < until) sched_yield();
  EXPECT_TRUE(counted()) << ReadFile(path);
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
              Fd fd(open(path.c_str(), O_RDONLY));
              char c;
              CHILD_CHECK(!fd.ok() || (read(fd.get(), &c, 1) == -1 && errno == EACCES));
            }));
  done.Set();
  EXPECT_EQ(Exited(0), child.Wait());
}

}  // namespace
