// SPDX-License-Identifier: Apache-2.0
// userfaultfd(2): a handler thread resolves faults of the others, taken by the guest and by the kernel for it.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <atomic>
#include <thread>

#include "tests/syscalls/util.h"

namespace {

constexpr size_t kPage = 4096;

int Userfaultfd(int flags) { return static_cast<int>(syscall(SYS_userfaultfd, flags)); }

// Opens one with these features; skips the test's rest by returning a closed one when the kernel has none at all.
Fd Open(uint64_t features = 0, int flags = O_NONBLOCK | O_CLOEXEC) {
  Fd fd(Userfaultfd(flags));
  uffdio_api api = {.api = UFFD_API, .features = features};
  EXPECT_TRUE(fd.ok() && ioctl(fd.get(), UFFDIO_API, &api) == 0) << strerror(errno);
  return fd;
}

class Memory {
 public:
  explicit Memory(size_t pages, int flags = MAP_PRIVATE | MAP_ANONYMOUS)
      : size_(pages * kPage), start_(static_cast<char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, flags, -1, 0))) {}
  ~Memory() { munmap(start_, size_); }
  char* at(size_t page = 0) const { return start_ + page * kPage; }
  uint64_t address(size_t page = 0) const { return reinterpret_cast<uint64_t>(at(page)); }
  size_t size() const { return size_; }

 private:
  size_t size_;
  char* start_;
};

int Register(int fd, uint64_t start, uint64_t length, uint64_t mode, uint64_t* ioctls = nullptr) {
  uffdio_register r = {.range = {start, length}, .mode = mode};
  int result = ioctl(fd, UFFDIO_REGISTER, &r);
  if (ioctls) *ioctls = r.ioctls;
  return result;
}

int Copy(int fd, uint64_t to, const void* from, uint64_t length, uint64_t mode = 0, int64_t* copied = nullptr) {
  uffdio_copy c = {.dst = to, .src = reinterpret_cast<uint64_t>(from), .len = length, .mode = mode};
  int result = ioctl(fd, UFFDIO_COPY, &c);
  if (copied) *copied = c.copy;
  return result;
}

int Protect(int fd, uint64_t start, uint64_t length, uint64_t mode) {
  uffdio_writeprotect p = {.range = {start, length}, .mode = mode};
  return ioctl(fd, UFFDIO_WRITEPROTECT, &p);
}

bool NextMessage(int fd, uffd_msg* message) {
  for (;;) {
    if (read(fd, message, sizeof *message) == sizeof *message) return true;
    if (errno != EAGAIN || !PollFor(fd, POLLIN, 20'000)) return false;
  }
}

// Fills each missing page with a letter of its own, 'a' for the first page of `memory`, until `Stop`.
class Handler {
 public:
  Handler(int fd, const Memory& memory) : fd_(fd), memory_(memory), thread_([this] { Run(); }) {}
  ~Handler() { Stop(); }
  void Stop() {
    if (!thread_.joinable()) return;
    stop_.w.reset();
    thread_.join();
  }
  int faults() const { return faults_; }
  uint64_t last_flags() const { return last_flags_; }

 private:
  void Run() {
    for (;;) {
      pollfd fds[2] = {{fd_, POLLIN, 0}, {stop_.r.get(), POLLIN, 0}};
      poll(fds, 2, -1);
      if (fds[1].revents) return;
      uffd_msg message;
      if (read(fd_, &message, sizeof message) != sizeof message) continue;
      EXPECT_EQ(message.event, UFFD_EVENT_PAGEFAULT);
      ++faults_;
      last_flags_ = message.arg.pagefault.flags;
      const uint64_t page = message.arg.pagefault.address & ~(kPage - 1);
      char data[kPage];
      memset(data, static_cast<int>('a' + (page - memory_.address()) / kPage), sizeof data);
      EXPECT_TRUE(Copy(fd_, page, data, kPage) == 0 || errno == EEXIST);
    }
  }
  const int fd_;
  const Memory& memory_;
  Pipe stop_;
  std::atomic<int> faults_{0};
  std::atomic<uint64_t> last_flags_{0};
  std::thread thread_;
};

TEST(Userfaultfd, Api) {
  EXPECT_FAILS(EINVAL, Userfaultfd(~(O_CLOEXEC | O_NONBLOCK)));
  Fd fd(Userfaultfd(O_NONBLOCK));
  ASSERT_TRUE(fd.ok());
  char buffer[64];
  EXPECT_FAILS(EINVAL, read(fd.get(), buffer, sizeof buffer));
  uffdio_range range = {0x10000, kPage};
  EXPECT_FAILS(EINVAL, ioctl(fd.get(), UFFDIO_WAKE, &range));
  pollfd p = {fd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLERR);
  uffdio_api api = {.api = 0xAB};
  EXPECT_FAILS(EINVAL, ioctl(fd.get(), UFFDIO_API, &api));
  EXPECT_EQ(api.api, 0u);
  api = {.api = UFFD_API, .features = uint64_t{1} << 63};
  EXPECT_FAILS(EINVAL, ioctl(fd.get(), UFFDIO_API, &api));
  EXPECT_FAILS(EFAULT, ioctl(fd.get(), UFFDIO_API, nullptr));
  api = {.api = UFFD_API};
  ASSERT_OK(ioctl(fd.get(), UFFDIO_API, &api));
  EXPECT_EQ(api.ioctls, UFFD_API_IOCTLS);
  const uint64_t features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                            UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_SIGBUS |
                            UFFD_FEATURE_THREAD_ID;
  EXPECT_EQ(api.features & features, features);
  api = {.api = UFFD_API};
  EXPECT_FAILS(EINVAL, ioctl(fd.get(), UFFDIO_API, &api));
  EXPECT_FAILS(EINVAL, read(fd.get(), buffer, 31));
  EXPECT_FAILS(EAGAIN, read(fd.get(), buffer, sizeof buffer));
  p.revents = 0;
  EXPECT_EQ(poll(&p, 1, 0), 0);
  EXPECT_NE(ReadFile("/proc/self/fdinfo/" + std::to_string(fd.get())).find("pending:\t0\ntotal:\t0\nAPI:\taa:"),
            std::string::npos);
}

TEST(Userfaultfd, Registering) {
  Fd fd = Open();
  Memory m(4);
  uint64_t ioctls;
  EXPECT_FAILS(EINVAL, Register(fd.get(), m.address(), kPage, 0));
  EXPECT_FAILS(EINVAL, Register(fd.get(), m.address() + 1, kPage, UFFDIO_REGISTER_MODE_MISSING));
  EXPECT_FAILS(EINVAL, Register(fd.get(), m.address(), 0, UFFDIO_REGISTER_MODE_MISSING));
  EXPECT_FAILS(EINVAL, Register(fd.get(), m.address(), kPage, 1 << 7));
  EXPECT_FAILS(EINVAL, Register(fd.get(), m.address(), kPage, UFFDIO_REGISTER_MODE_MINOR));
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING, &ioctls));
  EXPECT_EQ(ioctls & 0x1f, (1u << _UFFDIO_WAKE | 1u << _UFFDIO_COPY | 1u << _UFFDIO_ZEROPAGE) & 0x1f);
  Fd other = Open();
  EXPECT_FAILS(EBUSY, Register(other.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  char page[kPage] = "x";
  int64_t copied;
  Memory unregistered(1);
  EXPECT_FAILS(ENOENT, Copy(fd.get(), unregistered.address(), page, kPage, 0, &copied));
  EXPECT_EQ(copied, -ENOENT);
  EXPECT_FAILS(EINVAL, Copy(fd.get(), m.address(), page, 100));
  EXPECT_FAILS(EFAULT, Copy(fd.get(), m.address(), nullptr, kPage));
  ASSERT_OK(Copy(fd.get(), m.address(), page, kPage, 0, &copied));
  EXPECT_EQ(copied, static_cast<int64_t>(kPage));
  EXPECT_EQ(m.at()[0], 'x');
  EXPECT_FAILS(EEXIST, Copy(fd.get(), m.address(), page, kPage));
  uffdio_zeropage zero = {.range = {m.address(1), kPage}};
  ASSERT_OK(ioctl(fd.get(), UFFDIO_ZEROPAGE, &zero));
  EXPECT_EQ(zero.zeropage, static_cast<int64_t>(kPage));
  EXPECT_EQ(m.at(1)[0], 0);
  // What ends in the middle says how far it came.
  char two[2 * kPage] = {};
  EXPECT_FAILS(EEXIST, Copy(fd.get(), m.address(1), two, sizeof two, 0, &copied));
  munmap(m.at(3), kPage);
  EXPECT_FAILS(ENOENT, Copy(fd.get(), m.address(2), two, sizeof two, 0, &copied));
  uffdio_range range = {m.address(), m.size()};
  EXPECT_OK(ioctl(fd.get(), UFFDIO_UNREGISTER, &range));
  EXPECT_EQ(m.at(2)[0], 0);
}

TEST(Userfaultfd, MissingPagesWaitForTheHandler) {
  Fd fd = Open();
  Memory m(8);
  m.at(5)[0] = 'T';  // touched before: not missing
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  Handler handler(fd.get(), m);
  EXPECT_EQ(m.at(0)[10], 'a');
  EXPECT_EQ(handler.last_flags() & UFFD_PAGEFAULT_FLAG_WRITE, 0u);
  m.at(1)[10] = '!';
  EXPECT_EQ(m.at(1)[11], 'b');
  EXPECT_EQ(handler.faults(), 2);
  EXPECT_EQ(m.at(5)[0], 'T');
  EXPECT_EQ(handler.faults(), 2);
  // What was given back is missing again.
  ASSERT_OK(madvise(m.at(1), kPage, MADV_DONTNEED));
  EXPECT_EQ(m.at(1)[10], 'b');
  EXPECT_EQ(handler.faults(), 3);
}

TEST(Userfaultfd, ManyThreads) {
  Fd fd = Open();
  Memory m(16);
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  Handler handler(fd.get(), m);
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (size_t page = 0; page < 16; ++page) right += m.at(page)[7] == static_cast<char>('a' + page);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 64);
  EXPECT_GE(handler.faults(), 16);
}

TEST(Userfaultfd, TheKernelsOwnAccessesWaitToo) {
  Fd fd = Open();
  Memory m(16);
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  Handler handler(fd.get(), m);
  TempDir dir;
  Fd file(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  // write(2) from, and read(2) to, missing pages: files, pipes, sockets.
  ASSERT_EQ(write(file.get(), m.at(0), 2 * kPage), static_cast<ssize_t>(2 * kPage));
  char c[2] = {};
  ASSERT_EQ(pread(file.get(), c, 2, kPage - 1), 2);
  EXPECT_EQ(std::string(c, 2), "ab");
  ASSERT_EQ(pread(file.get(), m.at(2) + kPage - 2, 4, 0), 4);
  EXPECT_EQ(std::string(m.at(2) + kPage - 4, 8), "ccaaaadd");
  Pipe pipe;
  ASSERT_EQ(write(pipe.w.get(), m.at(4), 3), 3);
  ASSERT_EQ(read(pipe.r.get(), m.at(5), 3), 3);
  EXPECT_EQ(std::string(m.at(5), 5), "eeeff");
  int sockets[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
  Fd left(sockets[0]), right(sockets[1]);
  iovec vector = {m.at(6), 2 * kPage};
  msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
  ASSERT_EQ(sendmsg(left.get(), &message, 0), static_cast<ssize_t>(2 * kPage));
  ASSERT_EQ(recv(right.get(), m.at(8), kPage, MSG_WAITALL), static_cast<ssize_t>(kPage));
  EXPECT_EQ(m.at(8)[0], 'g');
  // Arguments and results of other calls.
  char* path = m.at(10);
  EXPECT_FAILS(ENAMETOOLONG, access(path, F_OK));  // "kkkk…" without an end
  ASSERT_OK(getrlimit(RLIMIT_NOFILE, reinterpret_cast<rlimit*>(m.at(11))));
  EXPECT_EQ(m.at(11)[kPage - 1], 'l');
  EXPECT_EQ(handler.faults(), 11);
}

TEST(Userfaultfd, WriteProtection) {
  Fd fd = Open(UFFD_FEATURE_PAGEFAULT_FLAG_WP);
  Memory m(4);
  memset(m.at(), 'o', m.size());
  uint64_t ioctls;
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_WP, &ioctls));
  EXPECT_TRUE(ioctls & 1u << _UFFDIO_WRITEPROTECT);
  EXPECT_FAILS(EINVAL, Protect(fd.get(), m.address(), kPage, 8));
  EXPECT_FAILS(EINVAL,
               Protect(fd.get(), m.address(), kPage, UFFDIO_WRITEPROTECT_MODE_WP | UFFDIO_WRITEPROTECT_MODE_DONTWAKE));
  ASSERT_OK(Protect(fd.get(), m.address(1), 2 * kPage, UFFDIO_WRITEPROTECT_MODE_WP));
  m.at(0)[0] = '0';  // not protected
  EXPECT_EQ(m.at(1)[0], 'o');
  std::atomic<bool> written{false};
  std::thread writer([&] {
    m.at(1)[5] = 'w';
    written = true;
  });
  uffd_msg message;
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  EXPECT_EQ(message.event, UFFD_EVENT_PAGEFAULT);
  EXPECT_EQ(message.arg.pagefault.flags, UFFD_PAGEFAULT_FLAG_WP | UFFD_PAGEFAULT_FLAG_WRITE);
  EXPECT_EQ(message.arg.pagefault.address & ~(kPage - 1), m.address(1));
  EXPECT_FALSE(written);
  EXPECT_EQ(m.at(1)[5], 'o');
  ASSERT_OK(Protect(fd.get(), m.address(1), kPage, 0));
  writer.join();
  EXPECT_EQ(m.at(1)[5], 'w');
  // A write by the kernel.
  Pipe pipe;
  ASSERT_EQ(write(pipe.w.get(), "k", 1), 1);
  std::thread reader([&] { EXPECT_EQ(read(pipe.r.get(), m.at(2), 1), 1); });
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  EXPECT_TRUE(message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP);
  ASSERT_OK(Protect(fd.get(), m.address(2), kPage, 0));
  reader.join();
  EXPECT_EQ(m.at(2)[0], 'k');
  // Unregistering takes the protection away.
  ASSERT_OK(Protect(fd.get(), m.address(), m.size(), UFFDIO_WRITEPROTECT_MODE_WP));
  uffdio_range range = {m.address(), m.size()};
  ASSERT_OK(ioctl(fd.get(), UFFDIO_UNREGISTER, &range));
  m.at(3)[0] = 'n';
  EXPECT_EQ(m.at(3)[0], 'n');
  EXPECT_FAILS(ENOENT, Protect(fd.get(), m.address(), kPage, UFFDIO_WRITEPROTECT_MODE_WP));
}

TEST(Userfaultfd, ClosingLetsAllGo) {
  Fd fd = Open();
  Memory m(2);
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  std::atomic<char> seen{'?'};
  std::thread reader([&] { seen = m.at()[0]; });
  uffd_msg message;
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  fd.reset();
  reader.join();
  EXPECT_EQ(seen, 0);
  EXPECT_EQ(m.at(1)[0], 0);
}

TEST(Userfaultfd, WakeWithoutAPageFaultsAgain) {
  Fd fd = Open();
  Memory m(1);
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  std::thread reader([&] { EXPECT_EQ(m.at()[0], 'p'); });
  uffd_msg message;
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  uffdio_range range = {m.address(), m.size()};
  ASSERT_OK(ioctl(fd.get(), UFFDIO_WAKE, &range));
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  char page[kPage] = "p";
  ASSERT_OK(Copy(fd.get(), m.address(), page, kPage, UFFDIO_COPY_MODE_DONTWAKE));
  ASSERT_OK(ioctl(fd.get(), UFFDIO_WAKE, &range));
  reader.join();
}

TEST(Userfaultfd, Sigbus) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              Fd fd = Open(UFFD_FEATURE_SIGBUS);
              Memory m(2);
              CHILD_CHECK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING) == 0);
              Pipe pipe;
              CHILD_CHECK(write(pipe.w.get(), m.at(1), 1) == -1 && errno == EFAULT);
              signal(SIGBUS, [](int) { _exit(0); });
              m.at()[0] = 1;
              _exit(1);
            }));
}

TEST(Userfaultfd, UserModeOnly) {
  Fd fd(Userfaultfd(UFFD_USER_MODE_ONLY | O_NONBLOCK));
  ASSERT_TRUE(fd.ok());
  uffdio_api api = {.api = UFFD_API};
  ASSERT_OK(ioctl(fd.get(), UFFDIO_API, &api));
  Memory m(2);
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  Pipe pipe;
  EXPECT_FAILS(EFAULT, write(pipe.w.get(), m.at(1), 1));
  Handler handler(fd.get(), m);
  EXPECT_EQ(m.at(0)[0], 'a');
}

TEST(Userfaultfd, Privilege) {
  EXPECT_EQ(ReadFile("/proc/sys/vm/unprivileged_userfaultfd"), "0\n");
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(Userfaultfd(0) == -1 && errno == EPERM);
              CHILD_CHECK(Userfaultfd(UFFD_USER_MODE_ONLY) >= 0);
            }));
}

TEST(Userfaultfd, AChildInheritsNothing) {
  Fd fd = Open();
  Memory m(2);
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  EXPECT_EQ(Exited(0), RunInChild([&] { CHILD_CHECK(m.at(0)[0] == 0); }));
}

TEST(Userfaultfd, EventFork) {
  Fd fd = Open(UFFD_FEATURE_EVENT_FORK);
  Memory m(2);
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  std::thread forker([&] { EXPECT_EQ(Exited(0), RunInChild([&] { CHILD_CHECK(m.at(1)[0] == 'b'); })); });
  uffd_msg message;
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  ASSERT_EQ(message.event, UFFD_EVENT_FORK);
  Fd child(static_cast<int>(message.arg.fork.ufd));
  ASSERT_TRUE(NextMessage(child.get(), &message));
  EXPECT_EQ(message.event, UFFD_EVENT_PAGEFAULT);
  char page[kPage];
  memset(page, 'b', sizeof page);
  ASSERT_OK(Copy(child.get(), m.address(1), page, kPage));
  forker.join();
}

TEST(Userfaultfd, EventsOfTheAddressSpace) {
  Fd fd = Open(UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP);
  Memory m(4);
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  uffd_msg message;
  std::thread remover([&] { EXPECT_OK(madvise(m.at(1), kPage, MADV_DONTNEED)); });
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  EXPECT_EQ(message.event, UFFD_EVENT_REMOVE);
  EXPECT_EQ(message.arg.remove.start, m.address(1));
  EXPECT_EQ(message.arg.remove.end, m.address(2));
  remover.join();
  std::thread unmapper([&] { EXPECT_OK(munmap(m.at(3), kPage)); });
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  EXPECT_EQ(message.event, UFFD_EVENT_UNMAP);
  EXPECT_EQ(message.arg.remove.start, m.address(3));
  EXPECT_EQ(message.arg.remove.end, m.address(4));
  unmapper.join();
  Memory to(1);
  std::thread mover([&] {
    EXPECT_EQ(mremap(m.at(2), kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, to.at()), to.at());
    EXPECT_EQ(to.at()[0], 'm');  // still missing, still ours
  });
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  EXPECT_EQ(message.event, UFFD_EVENT_REMAP);
  EXPECT_EQ(message.arg.remap.from, m.address(2));
  EXPECT_EQ(message.arg.remap.to, to.address());
  EXPECT_EQ(message.arg.remap.len, kPage);
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  EXPECT_EQ(message.event, UFFD_EVENT_UNMAP);
  EXPECT_EQ(message.arg.remove.start, m.address(2));
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  EXPECT_EQ(message.event, UFFD_EVENT_PAGEFAULT);
  char page[kPage] = "m";
  ASSERT_OK(Copy(fd.get(), to.address(), page, kPage));
  mover.join();
  fd.reset();  // unmapping the rest would wait for somebody to read of it
}

TEST(Userfaultfd, ThreadIdAndExactAddress) {
  Fd fd = Open(UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EXACT_ADDRESS);
  Memory m(1);
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  std::atomic<pid_t> tid{0};
  std::thread reader([&] {
    tid = static_cast<pid_t>(syscall(SYS_gettid));
    EXPECT_EQ(m.at()[123], 0);
  });
  uffd_msg message;
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  EXPECT_EQ(message.arg.pagefault.feat.ptid, static_cast<uint32_t>(tid.load()));
  EXPECT_EQ(message.arg.pagefault.address, m.address() + 123);
  uffdio_zeropage zero = {.range = {m.address(), kPage}};
  ASSERT_OK(ioctl(fd.get(), UFFDIO_ZEROPAGE, &zero));
  reader.join();
}

// A signal is handled while the access waits, and does not lose it.
void CountTick(int) {}
TEST(Userfaultfd, SignalsDuringTheWait) {
  Fd fd = Open();
  Memory m(1);
  ASSERT_OK(Register(fd.get(), m.address(), m.size(), UFFDIO_REGISTER_MODE_MISSING));
  ScopedHandler ignore(SIGUSR1, CountTick);
  std::atomic<pthread_t> self{};
  std::thread reader([&] {
    self = pthread_self();
    EXPECT_EQ(m.at()[0], 's');
  });
  uffd_msg message;
  ASSERT_TRUE(NextMessage(fd.get(), &message));
  pthread_kill(self, SIGUSR1);
  // Taken back by the signal and queued anew, or not: Linux may do either.
  char page[kPage] = "s";
  ASSERT_OK(Copy(fd.get(), m.address(), page, kPage));
  reader.join();
}

}  // namespace
