// SPDX-License-Identifier: Apache-2.0
// Pipes and FIFOs.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <thread>

#include "tests/syscalls/util.h"

namespace {

size_t FillPipe(int fd, size_t chunk) {
  std::string data(chunk, 'f');
  size_t total = 0;
  ssize_t n;
  while ((n = write(fd, data.data(), chunk)) > 0) total += n;
  return total;
}

short Revents(int fd, short events) {
  pollfd p = {fd, events, 0};
  return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

TEST(Pipe, DefaultCapacity) {
  Pipe p(O_NONBLOCK);
  EXPECT_EQ(65536, fcntl(p.w.get(), F_GETPIPE_SZ));
  EXPECT_EQ(65536u, FillPipe(p.w.get(), 4096));
  EXPECT_EQ(EAGAIN, errno);
  int n = 0;
  ASSERT_OK(ioctl(p.r.get(), FIONREAD, &n));
  EXPECT_EQ(65536, n);
}

TEST(Pipe, SetCapacity) {
  Pipe p(O_NONBLOCK);
  EXPECT_EQ(131072, fcntl(p.w.get(), F_SETPIPE_SZ, 131072));
  EXPECT_EQ(131072u, FillPipe(p.w.get(), 4096));
  EXPECT_FAILS(EBUSY, fcntl(p.w.get(), F_SETPIPE_SZ, 4096));
  Pipe q;
  EXPECT_EQ(4096, fcntl(q.w.get(), F_SETPIPE_SZ, 1));
  EXPECT_EQ(8192, fcntl(q.w.get(), F_SETPIPE_SZ, 5000));
}

TEST(Pipe, FlagsAreSet) {
  Pipe p(O_CLOEXEC | O_NONBLOCK);
  EXPECT_EQ(FD_CLOEXEC, fcntl(p.r.get(), F_GETFD));
  EXPECT_EQ(O_RDONLY | O_NONBLOCK, fcntl(p.r.get(), F_GETFL) & (O_ACCMODE | O_NONBLOCK));
  EXPECT_EQ(O_WRONLY | O_NONBLOCK, fcntl(p.w.get(), F_GETFL) & (O_ACCMODE | O_NONBLOCK));
  int fds[2];
  EXPECT_FAILS(EINVAL, pipe2(fds, O_TRUNC));
}

TEST(Pipe, ReadSemantics) {
  Pipe p(O_NONBLOCK);
  char buf[10];
  EXPECT_FAILS(EAGAIN, read(p.r.get(), buf, 1));
  ASSERT_EQ(3, write(p.w.get(), "abc", 3));
  EXPECT_EQ(0, read(p.r.get(), buf, 0));
  EXPECT_EQ(3, read(p.r.get(), buf, 10));
  EXPECT_FAILS(EBADF, read(p.w.get(), buf, 1));
  EXPECT_FAILS(EBADF, write(p.r.get(), buf, 1));
  p.w.reset();
  EXPECT_EQ(0, read(p.r.get(), buf, 1));
}

TEST(Pipe, WriteWithoutReader) {
  Pipe p;
  p.r.reset();
  ScopedHandler ignore(SIGPIPE, SIG_IGN);
  EXPECT_FAILS(EPIPE, write(p.w.get(), "x", 1));
  EXPECT_EQ(Killed(SIGPIPE), RunInChild([&] {
              signal(SIGPIPE, SIG_DFL);
              ssize_t n = write(p.w.get(), "x", 1);
              (void)n;
            }));
}

TEST(Pipe, BlockedWriterGetsEPIPE) {
  Pipe p(O_NONBLOCK);
  FillPipe(p.w.get(), 4096);
  ASSERT_OK(fcntl(p.w.get(), F_SETFL, 0));
  Child writer([&] {
    p.r.reset();
    signal(SIGPIPE, SIG_IGN);
    CHILD_CHECK(write(p.w.get(), "x", 1) == -1 && errno == EPIPE);
  });
  p.r.reset();
  EXPECT_EQ(Exited(0), writer.Wait());
}

TEST(Pipe, WritesUpToPipeBufAreAtomic) {
  Pipe p(O_NONBLOCK);
  FillPipe(p.w.get(), 4096);
  char buf[4096];
  ASSERT_EQ(100, read(p.r.get(), buf, 100));
  // Less than PIPE_BUF is free: nothing of a small write is taken.
  EXPECT_FAILS(EAGAIN, write(p.w.get(), buf, 4096));
}

TEST(Pipe, ConcurrentSmallWritesDoNotInterleave) {
  Pipe p;
  constexpr int kWriters = 4, kRecords = 200, kSize = 512;
  std::vector<std::thread> writers;
  for (int i = 0; i < kWriters; ++i)
    writers.emplace_back([&, i] {
      std::string record(kSize, static_cast<char>('a' + i));
      for (int j = 0; j < kRecords; ++j) {
        if (write(p.w.get(), record.data(), kSize) != kSize) return;
      }
    });
  int good = 0;
  for (int j = 0; j < kWriters * kRecords; ++j) {
    char buf[kSize];
    size_t have = 0;
    ssize_t n;
    while (have < kSize && (n = read(p.r.get(), buf + have, kSize - have)) > 0) have += n;
    good += std::string(buf, have) == std::string(kSize, buf[0]);
  }
  for (auto& t : writers) t.join();
  EXPECT_EQ(kWriters * kRecords, good);
}

TEST(Pipe, LargeTransferArrivesInOrder) {
  Pipe p;
  constexpr size_t kTotal = 4 << 20;
  Child writer([&] {
    p.r.reset();
    std::string data(kTotal, 0);
    for (size_t i = 0; i < kTotal; ++i) data[i] = static_cast<char>(i * 31 >> 3);
    CHILD_CHECK(write(p.w.get(), data.data(), kTotal) == static_cast<ssize_t>(kTotal));
  });
  p.w.reset();
  size_t at = 0;
  char buf[10000];
  ssize_t n;
  bool same = true;
  while ((n = read(p.r.get(), buf, sizeof buf)) > 0)
    for (ssize_t i = 0; i < n; ++i, ++at) same &= buf[i] == static_cast<char>(at * 31 >> 3);
  EXPECT_TRUE(same);
  EXPECT_EQ(kTotal, at);
  EXPECT_EQ(Exited(0), writer.Wait());
}

TEST(Pipe, PollStates) {
  Pipe p(O_NONBLOCK);
  EXPECT_EQ(0, Revents(p.r.get(), POLLIN));
  EXPECT_EQ(POLLOUT, Revents(p.w.get(), POLLOUT));
  ASSERT_EQ(1, write(p.w.get(), "x", 1));
  EXPECT_EQ(POLLIN, Revents(p.r.get(), POLLIN));
  FillPipe(p.w.get(), 4096);
  EXPECT_EQ(0, Revents(p.w.get(), POLLOUT));
  p.w.reset();
  EXPECT_EQ(POLLIN | POLLHUP, Revents(p.r.get(), POLLIN));
  Pipe q;
  q.r.reset();
  EXPECT_EQ(POLLOUT | POLLERR, Revents(q.w.get(), POLLOUT));
}

TEST(Pipe, PacketMode) {
  Pipe p(O_DIRECT);
  ASSERT_EQ(3, write(p.w.get(), "one", 3));
  ASSERT_EQ(3, write(p.w.get(), "two", 3));
  char buf[10];
  EXPECT_EQ(3, read(p.r.get(), buf, 10));
  EXPECT_EQ(2, read(p.r.get(), buf, 2)) << "the rest of the packet is dropped";
}

TEST(Pipe, ReopenThroughProc) {
  Pipe p;
  Fd again(open(("/proc/self/fd/" + std::to_string(p.r.get())).c_str(), O_WRONLY | O_NONBLOCK));
  ASSERT_TRUE(again.ok());
  ASSERT_EQ(1, write(again.get(), "r", 1));
  char c;
  EXPECT_EQ(1, read(p.r.get(), &c, 1));
  struct stat st;
  ASSERT_OK(fstat(p.r.get(), &st));
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
}

// What bash's <(command) relies on: /dev/fd/N is opened when the writer may have come and gone.
TEST(Pipe, ReopenForReadingWaitsForNoWriter) {
  Pipe p;
  ASSERT_EQ(2, write(p.w.get(), "ab", 2));
  p.w.reset();
  Fd again(open(("/proc/self/fd/" + std::to_string(p.r.get())).c_str(), O_RDONLY));
  ASSERT_TRUE(again.ok());
  char buf[4];
  EXPECT_EQ(2, read(again.get(), buf, sizeof buf));
  EXPECT_EQ(0, read(again.get(), buf, sizeof buf));
}

TEST(Pipe, ReopenForWritingWithoutReaders) {
  Pipe p;
  std::string path = "/proc/self/fd/" + std::to_string(p.w.get());
  p.r.reset();
  Fd again(open(path.c_str(), O_WRONLY | O_NONBLOCK));
  EXPECT_TRUE(again.ok());
}

class FifoTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(mkfifo(path_.c_str(), 0600)); }
  TempDir dir_;
  std::string path_ = dir_ / "fifo";
};

TEST_F(FifoTest, NonblockingOpen) {
  EXPECT_FAILS(ENXIO, open(path_.c_str(), O_WRONLY | O_NONBLOCK));
  Fd r(open(path_.c_str(), O_RDONLY | O_NONBLOCK));
  ASSERT_TRUE(r.ok());
  char c;
  EXPECT_EQ(0, read(r.get(), &c, 1)) << "no writer: end of file";
  Fd w(open(path_.c_str(), O_WRONLY | O_NONBLOCK));
  ASSERT_TRUE(w.ok());
  EXPECT_FAILS(EAGAIN, read(r.get(), &c, 1));
}

TEST_F(FifoTest, OpenBlocksForThePeer) {
  Child writer([&] {
    Fd w(open(path_.c_str(), O_WRONLY));
    CHILD_CHECK(w.ok() && write(w.get(), "hi", 2) == 2);
  });
  Fd r(open(path_.c_str(), O_RDONLY));
  char buf[3] = {};
  EXPECT_EQ(2, read(r.get(), buf, 2));
  EXPECT_STREQ("hi", buf);
  EXPECT_EQ(Exited(0), writer.Wait());
  EXPECT_EQ(0, read(r.get(), buf, 2));
}

TEST_F(FifoTest, BlockingOpenIsInterruptible) {
  ScopedHandler handler(SIGALRM, [](int) {});
  ScopedTicks ticks;
  EXPECT_FAILS(EINTR, open(path_.c_str(), O_RDONLY));
}

TEST_F(FifoTest, ReadWriteOpenNeverBlocks) {
  Fd fd(open(path_.c_str(), O_RDWR));
  ASSERT_TRUE(fd.ok());
  ASSERT_EQ(1, write(fd.get(), "x", 1));
  char c;
  EXPECT_EQ(1, read(fd.get(), &c, 1));
}

TEST_F(FifoTest, DataIsGoneOnceAllCloseIt) {
  Fd fd(open(path_.c_str(), O_RDWR));
  ASSERT_EQ(1, write(fd.get(), "x", 1));
  fd.reset();
  Fd again(open(path_.c_str(), O_RDWR | O_NONBLOCK));
  char c;
  EXPECT_FAILS(EAGAIN, read(again.get(), &c, 1));
}

// One byte wakes one reader: the others sleep on, which their counts of voluntary switches show.
TEST(PipeReaders, AreWokenOneByOne) {
  constexpr int kReaders = 8, kBytes = 64;
  Pipe p;
  std::atomic<int> taken{0};
  std::atomic<pid_t> tids[kReaders] = {};
  std::vector<std::thread> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.emplace_back([&, i] {
      tids[i] = gettid();
      char c;
      while (read(p.r.get(), &c, 1) == 1) ++taken;
    });
  }
  auto switches = [&](int i) {
    const std::string status = ReadFile("/proc/self/task/" + std::to_string(tids[i]) + "/status");
    return atoll(status.c_str() + status.find("\nvoluntary_ctxt_switches:") + strlen("\nvoluntary_ctxt_switches:"));
  };
  auto asleep = [&](int i) {
    const std::string stat = ReadFile("/proc/self/task/" + std::to_string(tids[i]) + "/stat");
    return stat.find(") S ") != std::string::npos;
  };
  auto all_asleep = [&] {
    for (int i = 0; i < kReaders; ++i) {
      while (tids[i] == 0 || !asleep(i)) sched_yield();
    }
  };
  all_asleep();
  long long before = 0, after = 0;
  for (int i = 0; i < kReaders; ++i) before += switches(i);
  for (int n = 1; n <= kBytes; ++n) {
    ASSERT_EQ(write(p.w.get(), "x", 1), 1);
    while (taken != n) sched_yield();
    all_asleep();
  }
  for (int i = 0; i < kReaders; ++i) after += switches(i);
  // One each, and what other waits (a lock of the C library) may add; waking all would be eight times as many.
  EXPECT_LT(after - before, 3 * kBytes);
  // What one leaves is for the next: several bytes by one write go to several readers.
  ASSERT_EQ(write(p.w.get(), "abcdefgh", 8), 8);
  while (taken != kBytes + 8) sched_yield();
  // The end wakes all.
  p.w.reset();
  for (std::thread& reader : readers) reader.join();
}

TEST(PipeReaders, AnInterruptedOneLosesNoWakeUp) {
  Pipe p;
  ScopedHandler handler(SIGUSR1, [](int) {});
  std::atomic<int> taken{0};
  constexpr int kBytes = 500;
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      for (;;) {
        char c;
        ssize_t n = read(p.r.get(), &c, 1);
        if (n == 1) ++taken;
        if (n == 0) return;
      }
    });
  }
  std::atomic<bool> stop{false};
  std::thread disturber([&] {
    for (int i = 0; !stop; ++i) {
      pthread_kill(readers[i % 4].native_handle(), SIGUSR1);
      sched_yield();
    }
  });
  for (int n = 1; n <= kBytes; ++n) {
    ASSERT_EQ(write(p.w.get(), "x", 1), 1);
    while (taken != n) sched_yield();
  }
  stop = true;
  disturber.join();
  p.w.reset();
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
