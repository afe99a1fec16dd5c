// SPDX-License-Identifier: Apache-2.0
// Shared helpers of the system call tests: owned descriptors, temporary directories, bounded children and events.
// Every test also runs under a watchdog (util.cc) that ends the process when one test takes over a minute, so a
// blocking call in a test is bounded even when the kernel under test loses a wake-up.
#ifndef TESTS_SYSCALLS_UTIL_H_
#define TESTS_SYSCALLS_UTIL_H_

#include <errno.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <utility>

// An owned descriptor, closed at the end of its scope.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& o) noexcept : fd_(o.release()) {}
  Fd& operator=(Fd&& o) noexcept {
    reset(o.release());
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

// A pipe whose two ends close with it. `flags` as for pipe2(2).
struct Pipe {
  explicit Pipe(int flags = 0);
  Fd r, w;
};

// A fresh directory below /tmp, mode 0755 so that tests which drop privileges reach it, removed with all it holds.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// One-shot, one-way notification that works between threads and across fork.
class Event {
 public:
  Event();
  void Set();
  // False when nobody called Set within 20 s, or when every holder of the write end is gone.
  bool Wait();
  // Drops this process's write end, so that a dead peer is noticed at once.
  void CloseWriter() { p_.w.reset(); }

 private:
  Pipe p_;
};

// A forked child that runs `body` and exits with 0 when it returns. It dies with its parent or after 30 s, and is
// killed and reaped by the destructor unless Wait has already reaped it.
class Child {
 public:
  explicit Child(const std::function<void()>& body);
  ~Child();
  Child(const Child&) = delete;
  pid_t pid() const { return pid_; }
  // Next status by wait4(pid, options), without the core-dump bit; -1 with errno set on failure.
  int Wait(int options = 0);
  int Kill(int sig) { return kill(pid_, sig); }

 private:
  pid_t pid_;
  bool reaped_ = false;
};

// Bounds a raw fork()ed child as Child does. Call first thing in the child.
void BoundChild();

// Runs `body` in a child; returns its wait status, to be compared to Exited(n) or Killed(sig).
int RunInChild(const std::function<void()>& body);
constexpr int Exited(int code) { return code << 8; }
constexpr int Killed(int sig) { return sig; }
constexpr int Stopped(int sig) { return (sig << 8) | 0x7f; }

// wait4 on `pid` without the core-dump bit.
int WaitStatus(pid_t pid, int options = 0);

// Inside a child, where gtest's assertions would be lost: reports the place and exits with 101.
void ChildCheckFailed(const char* file, int line, const char* what, int err);
#define CHILD_CHECK(cond)                                            \
  do {                                                               \
    if (!(cond)) ChildCheckFailed(__FILE__, __LINE__, #cond, errno); \
  } while (0)

testing::AssertionResult Succeeds(const char* what, long ret);
testing::AssertionResult FailsWith(const char* what, int want, long ret);
// `call` returns -1 on failure and sets errno.
#define EXPECT_OK(call) EXPECT_TRUE(Succeeds(#call, (long)(call)))
#define ASSERT_OK(call) ASSERT_TRUE(Succeeds(#call, (long)(call)))
#define EXPECT_FAILS(err, call) EXPECT_TRUE(FailsWith(#call, err, (long)(call)))
#define ASSERT_FAILS(err, call) ASSERT_TRUE(FailsWith(#call, err, (long)(call)))

// Whole content of a file, or "" when it can't be opened.
std::string ReadFile(const std::string& path);
bool WriteFile(const std::string& path, const std::string& content, int mode = 0644);

// True when `fd` becomes ready for `events` (poll(2)) within `ms`.
bool PollFor(int fd, short events, int ms);

// Installs `handler` for `sig` until the end of the scope. SA_SIGINFO is added when a three-argument handler is given.
class ScopedHandler {
 public:
  ScopedHandler(int sig, void (*handler)(int), int flags = 0);
  ScopedHandler(int sig, void (*handler)(int, siginfo_t*, void*), int flags = 0);
  ~ScopedHandler() { sigaction(sig_, &old_, nullptr); }
  ScopedHandler(const ScopedHandler&) = delete;

 private:
  int sig_;
  struct sigaction old_;
};

// Blocks `sig` in the calling thread until the end of the scope.
class ScopedBlock {
 public:
  explicit ScopedBlock(std::initializer_list<int> sigs);
  ~ScopedBlock() { sigprocmask(SIG_SETMASK, &old_, nullptr); }
  ScopedBlock(const ScopedBlock&) = delete;

 private:
  sigset_t old_;
};

// Raises SIGALRM every 5 ms in this process until the end of the scope, so that a blocking call is interrupted
// however late it starts to block. Install the handler first.
class ScopedTicks {
 public:
  ScopedTicks();
  ~ScopedTicks();
};

sigset_t SetOf(std::initializer_list<int> sigs);

#endif  // TESTS_SYSCALLS_UTIL_H_
