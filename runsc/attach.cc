// SPDX-License-Identifier: Apache-2.0
#include "runsc/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "runsc/console.h"
#include "runsc/container/store.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

// SIGTSTP, SIGTTIN and SIGTTOU keep stopping this process: the shell's job control is about it.
constexpr int kForwarded[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT};
constexpr char kEndOfTransmission = 4;
constexpr size_t kChunk = 16 << 10;

sigset_t ForwardedSet() {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : kForwarded) sigaddset(&set, signal);
  sigaddset(&set, SIGWINCH);
  return set;
}

// Copies between our stdin/stdout and the master of the process's terminal.
class TerminalCopy {
 public:
  explicit TerminalCopy(int master) : master_(master), raw_(STDIN_FILENO) {
    fcntl(master_, F_SETFL, fcntl(master_, F_GETFL) | O_NONBLOCK);
  }

  void AddTo(pollfd* stdin_poll, pollfd* master_poll) const {
    bool room = !input_ended_ && to_master_.size() < kChunk;
    *stdin_poll = {.fd = room ? STDIN_FILENO : -1, .events = POLLIN};
    short events = static_cast<short>(POLLIN | (to_master_.empty() ? 0 : POLLOUT));
    *master_poll = {.fd = output_ended_ ? -1 : master_, .events = events};
  }

  void Handle(const pollfd& stdin_poll, const pollfd& master_poll) {
    if (stdin_poll.revents) ReadInput();
    if (master_poll.revents & (POLLIN | POLLHUP | POLLERR)) ReadOutput();
    Flush();
  }

  // What the process wrote last, after it has ended.
  void Drain() {
    int64_t deadline = base::MonotonicNs() + base::kNsPerSecond;
    while (!output_ended_) {
      int64_t left = (deadline - base::MonotonicNs()) / 1'000'000;
      pollfd p{.fd = master_, .events = POLLIN};
      // The sentry closes its end once all is written; silence beyond this is a lost close.
      if (left <= 0 || poll(&p, 1, static_cast<int>(left)) <= 0) return;
      ReadOutput();
    }
  }

 private:
  void ReadInput() {
    char buffer[kChunk];
    ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n > 0) {
      to_master_.append(buffer, n);
    } else {
      input_ended_ = true;
      // A pipe that ended is the end of input for the program behind the terminal.
      to_master_.push_back(kEndOfTransmission);
    }
  }
  void ReadOutput() {
    char buffer[kChunk];
    ssize_t n = read(master_, buffer, sizeof buffer);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    // EIO: the other side is closed.
    if (n <= 0) {
      output_ended_ = true;
      return;
    }
    for (ssize_t done = 0; done < n;) {
      ssize_t written = write(STDOUT_FILENO, buffer + done, n - done);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0 && errno == EAGAIN) {
        pollfd p{.fd = STDOUT_FILENO, .events = POLLOUT};
        poll(&p, 1, -1);
        continue;
      }
      if (written < 0) return;
      done += written;
    }
  }
  void Flush() {
    while (!to_master_.empty()) {
      ssize_t n = write(master_, to_master_.data(), to_master_.size());
      if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) to_master_.clear();
        return;
      }
      to_master_.erase(0, n);
    }
  }

  int master_;
  RawTerminal raw_;
  std::string to_master_;
  bool input_ended_ = false;
  bool output_ended_ = false;
};

class Loop {
 public:
  Loop(const AttachOptions& options, control::Client& waiter, int pidfd, bool forward)
      : options_(options), waiter_(waiter), pidfd_(pidfd) {
    if (forward) {
      BlockForwardedSignals();
      sigset_t set = ForwardedSet();
      signals_.Reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    }
    if (options_.console.ok()) copy_.emplace(options_.console.get());
  }

  absl::StatusOr<int> Run() {
    while (true) {
      pollfd fds[5] = {{.fd = waiter_.fd(), .events = POLLIN},
                       {.fd = pidfd_, .events = POLLIN},
                       {.fd = signals_.get(), .events = POLLIN},
                       {.fd = -1},
                       {.fd = -1}};
      if (copy_) copy_->AddTo(&fds[3], &fds[4]);
      if (poll(fds, 5, -1) < 0 && errno != EINTR) {
        return absl::InternalError(absl::StrCat("poll: ", ErrnoText(errno)));
      }
      if (copy_) copy_->Handle(fds[3], fds[4]);
      if (fds[2].revents) ForwardSignals();
      if (fds[0].revents || fds[1].revents) break;
    }
    absl::StatusOr<int> status = waiter_.FinishWait();
    if (copy_) copy_->Drain();
    if (status.ok() || !(absl::IsUnavailable(status.status()) || absl::IsDataLoss(status.status()))) return status;
    return StatusOfDead();
  }

 private:
  void ForwardSignals() {
    signalfd_siginfo info;
    while (read(signals_.get(), &info, sizeof info) == sizeof info) {
      int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGWINCH) {
        Resize();
        continue;
      }
      auto client = control::Client::Connect(options_.state_directory, options_.container_id);
      absl::Status status = client.status();
      if (client.ok()) status = client->Signal(options_.pid, signal, options_.scope);
      if (!status.ok()) LOG_INFO("signal %d not forwarded: %s", signal, std::string(status.message()).c_str());
    }
  }

  void Resize() {
    spec::ConsoleSize size;
    if (!GetWindowSize(copy_ ? STDIN_FILENO : options_.window.get(), &size)) return;
    if (copy_) SetWindowSize(options_.console.get(), size).IgnoreError();
    auto client = control::Client::Connect(options_.state_directory, options_.container_id);
    if (client.ok()) client->ResizeTerminal(options_.pid, size.rows, size.columns).IgnoreError();
  }

  // The sandbox has ended, or is about to, and did not answer.
  absl::StatusOr<int> StatusOfDead() {
    pollfd p{.fd = pidfd_, .events = POLLIN};
    int n;
    do {
      n = poll(&p, 1, 1000);
    } while (n < 0 && errno == EINTR);
    if (options_.pid == 0) {
      if (auto status = ContainerStore(options_.state_directory.substr(0, options_.state_directory.rfind('/')))
                            .ExitStatus(options_.container_id)) {
        return *status;
      }
    }
    siginfo_t info = {};
    std::string how = "ended";
    if (waitid(P_PID, options_.sandbox_pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid != 0) {
      how = info.si_code == CLD_EXITED ? absl::StrCat("exited with status ", info.si_status)
                                       : absl::StrCat("was killed by signal ", info.si_status);
    }
    return absl::AbortedError(absl::StrCat("the sandbox ", how, " and took the container with it"));
  }

  const AttachOptions& options_;
  control::Client& waiter_;
  int pidfd_;
  base::UniqueFd signals_;
  std::optional<TerminalCopy> copy_;
};

}  // namespace

void BlockForwardedSignals() {
  sigset_t set = ForwardedSet();
  sigprocmask(SIG_BLOCK, &set, nullptr);
}

void UnblockForwardedSignals() {
  sigset_t set = ForwardedSet();
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

Attachment::Attachment(AttachOptions options, control::Client waiter, base::UniqueFd pidfd)
    : options_(std::move(options)), waiter_(std::move(waiter)), pidfd_(std::move(pidfd)) {}

absl::StatusOr<Attachment> Attachment::Begin(AttachOptions options) {
  auto waiter = VALUE_OR_RETURN(control::Client::Connect(options.state_directory, options.container_id));
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, options.sandbox_pid, 0)));
  if (!pidfd.ok()) return absl::AbortedError("the sandbox has ended");
  fcntl(pidfd.get(), F_SETFD, FD_CLOEXEC);
  RETURN_IF_ERROR(waiter.BeginWait(options.pid));
  return Attachment(std::move(options), std::move(waiter), std::move(pidfd));
}

absl::StatusOr<int> Attachment::Run() { return Loop(options_, waiter_, pidfd_.get(), /*forward=*/true).Run(); }
absl::StatusOr<int> Attachment::RunWithoutSignals() { return Loop(options_, waiter_, pidfd_.get(), false).Run(); }

}  // namespace runsc
