// SPDX-License-Identifier: Apache-2.0
// Helpers shared by the system call tests.
#include "tests/syscalls/util.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <time.h>

namespace {

constexpr int kTestSeconds = 60;
constexpr int kChildSeconds = 30;
constexpr int kEventMs = 20000;

// SIGKILL by a POSIX timer: no test can block it, and neither SIGALRM nor a thread is taken from the tests.
class Watchdog : public testing::EmptyTestEventListener {
 public:
  Watchdog() {
    sigevent ev = {};
    ev.sigev_notify = SIGEV_SIGNAL;
    ev.sigev_signo = SIGKILL;
    armed_ = timer_create(CLOCK_MONOTONIC, &ev, &timer_) == 0;
  }
  void OnTestStart(const testing::TestInfo&) override { Arm(kTestSeconds); }
  void OnTestEnd(const testing::TestInfo&) override { Arm(0); }

 private:
  void Arm(int seconds) {
    if (!armed_) return;
    fflush(stdout);
    itimerspec spec = {};
    spec.it_value.tv_sec = seconds;
    timer_settime(timer_, 0, &spec, nullptr);
  }
  timer_t timer_ = {};
  bool armed_ = false;
};

[[maybe_unused]] const bool kInstalled = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new Watchdog);
  return true;
}();

int RemoveEntry(const char* path, const struct stat*, int, FTW*) { return remove(path); }

}  // namespace

Pipe::Pipe(int flags) {
  int p[2];
  if (pipe2(p, flags) == 0) {
    r.reset(p[0]);
    w.reset(p[1]);
  }
}

TempDir::TempDir() {
  // Not TEST_TMPDIR: it lies below directories that only root may search, and is too long for a socket's path.
  std::string name = "/tmp/systest.XXXXXX";
  if (mkdtemp(name.data()) == nullptr) {
    perror(name.c_str());
    abort();
  }
  chmod(name.c_str(), 0755);
  path_ = name;
}

TempDir::~TempDir() { nftw(path_.c_str(), RemoveEntry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT); }

Event::Event() : p_(O_CLOEXEC) {}

void Event::Set() {
  ssize_t n = write(p_.w.get(), "x", 1);
  (void)n;
}

bool Event::Wait() {
  char c;
  return PollFor(p_.r.get(), POLLIN, kEventMs) && read(p_.r.get(), &c, 1) == 1;
}

void BoundChild() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  alarm(kChildSeconds);
}

Child::Child(const std::function<void()>& body) {
  fflush(stdout);
  pid_ = fork();
  if (pid_ == 0) {
    BoundChild();
    body();
    _exit(0);
  }
}

Child::~Child() {
  if (reaped_ || pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

int Child::Wait(int options) {
  int status = WaitStatus(pid_, options);
  if (status != -1 && (WIFEXITED(status) || WIFSIGNALED(status))) reaped_ = true;
  return status;
}

int WaitStatus(pid_t pid, int options) {
  int status = 0;
  pid_t got;
  do {
    got = waitpid(pid, &status, options);
  } while (got < 0 && errno == EINTR);
  if (got != pid) return -1;
  return WIFSIGNALED(status) ? WTERMSIG(status) : status;
}

int RunInChild(const std::function<void()>& body) {
  Child child(body);
  return child.Wait();
}

void ChildCheckFailed(const char* file, int line, const char* what, int err) {
  dprintf(2, "%s:%d: in child: %s (errno %d: %s)\n", file, line, what, err, strerror(err));
  _exit(101);
}

testing::AssertionResult Succeeds(const char* what, long ret) {
  int err = errno;
  if (ret != -1) return testing::AssertionSuccess();
  return testing::AssertionFailure() << what << ": " << strerror(err) << " (" << err << ")";
}

testing::AssertionResult FailsWith(const char* what, int want, long ret) {
  int err = errno;
  if (ret == -1 && err == want) return testing::AssertionSuccess();
  auto result = testing::AssertionFailure() << what << " returned " << ret;
  if (ret == -1) result << " with " << strerror(err) << " (" << err << ")";
  return result << ", expected " << strerror(want) << " (" << want << ")";
}

std::string ReadFile(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string out;
  char buf[4096];
  ssize_t n;
  while (fd.ok() && (n = read(fd.get(), buf, sizeof buf)) > 0) out.append(buf, n);
  return out;
}

bool WriteFile(const std::string& path, const std::string& content, int mode) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  return fd.ok() && write(fd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size());
}

bool PollFor(int fd, short events, int ms) {
  pollfd p = {fd, events, 0};
  int n;
  do {
    n = poll(&p, 1, ms);
  } while (n < 0 && errno == EINTR);
  return n == 1;
}

ScopedHandler::ScopedHandler(int sig, void (*handler)(int), int flags) : sig_(sig) {
  struct sigaction sa = {};
  sa.sa_handler = handler;
  sa.sa_flags = flags;
  sigaction(sig, &sa, &old_);
}

ScopedHandler::ScopedHandler(int sig, void (*handler)(int, siginfo_t*, void*), int flags) : sig_(sig) {
  struct sigaction sa = {};
  sa.sa_sigaction = handler;
  sa.sa_flags = flags | SA_SIGINFO;
  sigaction(sig, &sa, &old_);
}

sigset_t SetOf(std::initializer_list<int> sigs) {
  sigset_t set;
  sigemptyset(&set);
  for (int sig : sigs) sigaddset(&set, sig);
  return set;
}

ScopedBlock::ScopedBlock(std::initializer_list<int> sigs) {
  sigset_t set = SetOf(sigs);
  sigprocmask(SIG_BLOCK, &set, &old_);
}

ScopedTicks::ScopedTicks() {
  itimerval t = {{0, 5000}, {0, 5000}};
  setitimer(ITIMER_REAL, &t, nullptr);
}

ScopedTicks::~ScopedTicks() {
  itimerval t = {};
  setitimer(ITIMER_REAL, &t, nullptr);
}
