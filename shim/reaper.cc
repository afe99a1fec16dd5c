// SPDX-License-Identifier: Apache-2.0
#include "shim/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "shim/thread.h"

extern char** environ;

namespace shim {
namespace {

// Sources are moved here first, so that they can't be overwritten while the wanted numbers are filled.
constexpr int kStagingFd = 512;
constexpr int kRunning = -1;

// In the clone of a process with threads: async-signal-safe calls only.
[[noreturn]] void Child(const SpawnOptions& options, char* const* argv, char* const* environment, int report) {
  auto fail = [&] {
    int error = errno;
    [[maybe_unused]] ssize_t n = write(report, &error, sizeof error);
    _exit(127);
  };
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  int staged_null = null < 0 ? -1 : fcntl(null, F_DUPFD_CLOEXEC, kStagingFd);
  report = fcntl(report, F_DUPFD_CLOEXEC, kStagingFd);
  if (staged_null < 0 || report < 0) _exit(127);
  constexpr size_t kMaxFds = 16;
  int staged[kMaxFds];
  if (options.fds.size() > kMaxFds) _exit(127);
  for (size_t i = 0; i < options.fds.size(); ++i) {
    staged[i] = options.fds[i].second < 0 ? staged_null : fcntl(options.fds[i].second, F_DUPFD_CLOEXEC, kStagingFd);
    if (staged[i] < 0) fail();
  }
  syscall(SYS_close_range, 0, kStagingFd - 1, CLOSE_RANGE_CLOEXEC);
  for (int fd = 0; fd <= 2; ++fd) dup2(staged_null, fd);
  for (size_t i = 0; i < options.fds.size(); ++i) dup2(staged[i], options.fds[i].first);
  if (!options.directory.empty() && chdir(options.directory.c_str()) != 0) fail();
  execvpe(argv[0], argv, environment);
  fail();
  _exit(127);
}

// In a thread of its own: it takes locks that the caller may hold.
void Tell(std::function<void(int)> done, int wait_status) {
  if (!StartThread([done = std::move(done), wait_status] { done(wait_status); })) FATAL("no thread to tell of an exit");
}

}  // namespace

Reaper& Reaper::Get() {
  static Reaper* reaper = new Reaper();
  return *reaper;
}

absl::Status Reaper::Start() {
  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) {
    return absl::InternalError(absl::StrCat("prctl(PR_SET_CHILD_SUBREAPER): ", strerror(errno)));
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  int signals = signalfd(-1, &set, SFD_CLOEXEC);
  if (signals < 0) return absl::InternalError(absl::StrCat("signalfd: ", strerror(errno)));
  if (!StartThread([signals] { Get().Run(signals); })) return absl::ResourceExhaustedError("no thread to reap with");
  return absl::OkStatus();
}

void Reaper::Run(int signals) {
  while (true) {
    int wait_status;
    // WNOWAIT first, so that a pid is not free for another process before its end is recorded.
    siginfo_t info = {};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
      base::MutexLock lock(mu_);
      if (waitpid(info.si_pid, &wait_status, WNOHANG) == info.si_pid) Record(info.si_pid, wait_status);
      continue;
    }
    signalfd_siginfo signal;
    if (read(signals, &signal, sizeof signal) < 0 && errno != EINTR) FATAL("signalfd: %s", strerror(errno));
  }
}

void Reaper::Record(pid_t pid, int wait_status) {
  LOG_DEBUG("process %d ended with wait status %#x", pid, static_cast<unsigned>(wait_status));
  if (auto spawned = ended_.find(pid); spawned != ended_.end()) {
    spawned->second = wait_status;
    changed_.NotifyAll();
  } else if (auto watched = watched_.find(pid); watched != watched_.end()) {
    Tell(std::move(watched->second), wait_status);
    watched_.erase(watched);
  } else {
    unclaimed_.emplace_back(pid, wait_status);
    if (unclaimed_.size() > kMaxUnclaimed) unclaimed_.pop_front();
  }
}

absl::StatusOr<pid_t> Reaper::Spawn(const SpawnOptions& options) {
  std::vector<char*> argv, environment;
  for (const std::string& argument : options.argv) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  for (char** variable = environ; *variable; ++variable) environment.push_back(*variable);
  for (const std::string& variable : options.extra_env) environment.push_back(const_cast<char*>(variable.c_str()));
  environment.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ResourceExhaustedError(absl::StrCat("pipe: ", strerror(errno)));
  base::UniqueFd read_end(ends[0]), write_end(ends[1]);
  pid_t pid;
  {
    base::MutexLock lock(mu_);
    pid = fork();
    if (pid == 0) Child(options, argv.data(), environment.data(), write_end.get());
    if (pid > 0) ended_[pid] = kRunning;
  }
  if (pid < 0) return absl::ResourceExhaustedError(absl::StrCat("fork: ", strerror(errno)));
  write_end.Reset();
  int error = 0;
  ssize_t n;
  do {
    n = read(read_end.get(), &error, sizeof error);
  } while (n < 0 && errno == EINTR);
  if (n == sizeof error) {
    Wait(pid, 10'000).IgnoreError();
    return absl::UnavailableError(absl::StrCat("cannot run ", options.argv[0], ": ", strerror(error)));
  }
  return pid;
}

absl::StatusOr<int> Reaper::Wait(pid_t pid, int timeout_ms) {
  const int64_t deadline = base::MonotonicNs() + int64_t{timeout_ms} * 1'000'000;
  base::MutexLock lock(mu_);
  while (true) {
    auto it = ended_.find(pid);
    if (it == ended_.end()) return absl::NotFoundError(absl::StrCat("process ", pid, " is not a child"));
    if (it->second != kRunning) {
      int wait_status = it->second;
      ended_.erase(it);
      return wait_status;
    }
    if (!changed_.WaitUntil(mu_, deadline)) {
      return absl::DeadlineExceededError(absl::StrCat("process ", pid, " did not end in time"));
    }
  }
}

void Reaper::OnExit(pid_t pid, std::function<void(int)> done) {
  std::optional<int> ended;
  {
    base::MutexLock lock(mu_);
    for (auto it = unclaimed_.begin(); it != unclaimed_.end(); ++it) {
      if (it->first != pid) continue;
      ended = it->second;
      unclaimed_.erase(it);
      break;
    }
    if (!ended) watched_[pid] = done;
  }
  if (ended) Tell(std::move(done), *ended);
}

}  // namespace shim
