// SPDX-License-Identifier: Apache-2.0
// tee between pipes. (splice and sendfile of files are in open_test.cc.)
#include <fcntl.h>
#include <sys/ioctl.h>

#include <thread>

#include "tests/syscalls/util.h"

namespace {

std::string Drain(const Pipe& p, size_t most = 1 << 20) {
  std::string data(most, 0);
  ssize_t n = read(p.r.get(), data.data(), most);
  return data.substr(0, n > 0 ? n : 0);
}

int Pending(const Pipe& p) {
  int n = -1;
  return ioctl(p.r.get(), FIONREAD, &n) == 0 ? n : -1;
}

TEST(Tee, CopiesWithoutConsuming) {
  Pipe a, b;
  ASSERT_EQ(5, write(a.w.get(), "hello", 5));
  ASSERT_EQ(6, write(a.w.get(), " world", 6));
  EXPECT_EQ(11, tee(a.r.get(), b.w.get(), 100, 0));
  EXPECT_EQ(11, Pending(a));
  EXPECT_EQ("hello world", Drain(b));
  EXPECT_EQ("hello world", Drain(a));
}

TEST(Tee, StartsAtTheHeadEachTime) {
  Pipe a, b;
  ASSERT_EQ(6, write(a.w.get(), "abcdef", 6));
  EXPECT_EQ(4, tee(a.r.get(), b.w.get(), 4, 0));
  EXPECT_EQ(2, tee(a.r.get(), b.w.get(), 2, 0));
  EXPECT_EQ("abcdab", Drain(b));
  char c;
  ASSERT_EQ(1, read(a.r.get(), &c, 1));
  EXPECT_EQ(3, tee(a.r.get(), b.w.get(), 3, 0));
  EXPECT_EQ("bcd", Drain(b));
  EXPECT_EQ("bcdef", Drain(a));
}

// Pages are shared, not their contents: what is written later to one pipe does not show in the other.
TEST(Tee, CopiesDoNotChangeEachOther) {
  Pipe a, b;
  ASSERT_EQ(3, write(a.w.get(), "one", 3));
  ASSERT_EQ(3, tee(a.r.get(), b.w.get(), 3, 0));
  ASSERT_EQ(3, write(a.w.get(), "AAA", 3));
  ASSERT_EQ(3, write(b.w.get(), "BBB", 3));
  EXPECT_EQ("oneAAA", Drain(a));
  EXPECT_EQ("oneBBB", Drain(b));
}

TEST(Tee, FillsWhatFits) {
  Pipe a(O_NONBLOCK), b(O_NONBLOCK);
  std::string page(4096, 'p');
  for (int i = 0; i < 8; ++i) ASSERT_EQ(4096, write(a.w.get(), page.data(), page.size()));
  ASSERT_EQ(8192, fcntl(b.w.get(), F_SETPIPE_SZ, 8192));
  EXPECT_EQ(8192, tee(a.r.get(), b.w.get(), 8 * 4096, 0));
  EXPECT_FAILS(EAGAIN, tee(a.r.get(), b.w.get(), 4096, SPLICE_F_NONBLOCK));
  EXPECT_EQ(std::string(8192, 'p'), Drain(b));
  EXPECT_EQ(8 * 4096, Pending(a));
}

TEST(Tee, EmptyPipe) {
  Pipe a, b;
  EXPECT_FAILS(EAGAIN, tee(a.r.get(), b.w.get(), 1, SPLICE_F_NONBLOCK));
  a.w.reset();
  EXPECT_EQ(0, tee(a.r.get(), b.w.get(), 1, 0)) << "end of file";
}

TEST(Tee, WaitsForData) {
  Pipe a, b;
  Child writer([&] { CHILD_CHECK(write(a.w.get(), "late", 4) == 4); });
  EXPECT_EQ(4, tee(a.r.get(), b.w.get(), 100, 0));
  EXPECT_EQ("late", Drain(b));
  EXPECT_EQ(Exited(0), writer.Wait());
}

TEST(Tee, WaitsForRoom) {
  Pipe a, b;
  ASSERT_EQ(4096, fcntl(b.w.get(), F_SETPIPE_SZ, 4096));
  std::string page(4096, 'x');
  ASSERT_EQ(4096, write(b.w.get(), page.data(), page.size()));
  ASSERT_EQ(3, write(a.w.get(), "new", 3));
  std::thread reader([&] { EXPECT_EQ(page, Drain(b, 4096)); });
  EXPECT_EQ(3, tee(a.r.get(), b.w.get(), 100, 0));
  reader.join();
  EXPECT_EQ("new", Drain(b));
}

TEST(Tee, IsInterruptible) {
  ScopedHandler handler(SIGALRM, [](int) {});
  Pipe a, b;
  ScopedTicks ticks;
  EXPECT_FAILS(EINTR, tee(a.r.get(), b.w.get(), 1, 0));
}

TEST(Tee, NoReaderIsEPIPE) {
  EXPECT_EQ(Killed(SIGPIPE), RunInChild([] {
              Pipe a, b;
              CHILD_CHECK(write(a.w.get(), "x", 1) == 1);
              b.r.reset();
              tee(a.r.get(), b.w.get(), 1, 0);
            }));
  ScopedBlock block({SIGPIPE});
  Pipe a, b;
  ASSERT_EQ(1, write(a.w.get(), "x", 1));
  b.r.reset();
  EXPECT_FAILS(EPIPE, tee(a.r.get(), b.w.get(), 1, 0));
  timespec none = {};
  sigset_t set = SetOf({SIGPIPE});
  EXPECT_EQ(SIGPIPE, sigtimedwait(&set, nullptr, &none));
}

TEST(Tee, Errors) {
  Pipe a, b;
  TempDir dir;
  Fd file(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(1, write(a.w.get(), "x", 1));
  EXPECT_EQ(0, tee(a.r.get(), b.w.get(), 0, 0));
  EXPECT_EQ(0, tee(-1, -1, 0, 0)) << "nothing to do comes first";
  EXPECT_FAILS(EINVAL, tee(a.r.get(), b.w.get(), 1, 0x10));
  EXPECT_FAILS(EINVAL, tee(-1, -1, 0, ~0u));
  EXPECT_FAILS(EBADF, tee(-1, b.w.get(), 1, 0));
  EXPECT_FAILS(EBADF, tee(a.r.get(), -1, 1, 0));
  EXPECT_FAILS(EBADF, tee(a.w.get(), b.w.get(), 1, 0));
  EXPECT_FAILS(EBADF, tee(a.r.get(), b.r.get(), 1, 0));
  EXPECT_FAILS(EINVAL, tee(a.r.get(), a.w.get(), 1, 0)) << "the same pipe";
  EXPECT_FAILS(EINVAL, tee(file.get(), b.w.get(), 1, 0));
  EXPECT_FAILS(EINVAL, tee(a.r.get(), file.get(), 1, 0));
  Fd path(open("/", O_PATH));
  EXPECT_FAILS(EBADF, tee(path.get(), b.w.get(), 1, 0));
}

}  // namespace
