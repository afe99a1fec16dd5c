// SPDX-License-Identifier: Apache-2.0
// A stand-in for the sentry and the gofer that runs containers natively in a chroot: no sandbox at all. With it the
// whole front end (states, control protocol, terminals, signals, exit statuses) is tested without a kernel of ours.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/mutex.h"
#include "runsc/cmd/entry_points.h"
#include "runsc/control/server.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& s : strings) pointers.push_back(const_cast<char*>(s.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void RunProcess(const spec::Process& process, const std::string& root,
                             const std::vector<base::UniqueFd>& fds, int error_pipe) {
  auto fail = [&](const std::string& what) {
    std::string text = absl::StrCat(what, ": ", ErrnoText(errno));
    [[maybe_unused]] ssize_t n = write(error_pipe, text.data(), text.size());
    _exit(1);
  };
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  signal(SIGHUP, SIG_DFL);
  setsid();
  for (int i = 0; i < 3; ++i) {
    int source = fds[process.terminal ? 0 : i].get();
    if (source >= 0) dup2(source, i);
  }
  if (process.terminal) {
    // The pty is raw for the sentry's own line discipline; here the host's does the work.
    termios mode;
    ioctl(0, TIOCSCTTY, 1);
    tcgetattr(0, &mode);
    mode.c_lflag |= ICANON | ISIG | ECHO;
    mode.c_iflag |= ICRNL;
    mode.c_oflag |= OPOST | ONLCR;
    mode.c_cc[VEOF] = 4;
    mode.c_cc[VINTR] = 3;
    tcsetattr(0, TCSANOW, &mode);
  }
  if (chroot(root.c_str()) != 0) fail("chroot");
  if (chdir(process.cwd.c_str()) != 0) fail("process.cwd: " + process.cwd);
  // Not allowed in the user namespace of an ordinary user.
  setgroups(0, nullptr);
  if (setgid(process.user.gid) != 0 || setuid(process.user.uid) != 0) fail("setuid");
  std::vector<char*> argv = Pointers(process.args), environment = Pointers(process.env);
  for (const std::string& variable : process.env) {
    if (variable.rfind("PATH=", 0) == 0) setenv("PATH", variable.c_str() + 5, 1);
  }
  execvpe(argv[0], argv.data(), environment.data());
  fail("exec: \"" + process.args[0] + "\"");
  _exit(1);
}

class NativeSandbox : public control::ControlHandler {
 public:
  explicit NativeSandbox(const BootArgs& args) : args_(args) {}

  absl::Status Start(const std::string&) override {
    base::MutexLock lock(mu_);
    if (init_ != 0 || init_done_) return absl::FailedPreconditionError("started before");
    auto pid = Spawn(args_.spec.process, args_.stdio);
    if (!pid.ok()) {
      init_done_ = true;
      init_status_ = 1 << 8;
      changed_.NotifyAll();
      return pid.status();
    }
    init_ = *pid;
    changed_.NotifyAll();
    return absl::OkStatus();
  }

  absl::StatusOr<int32_t> Exec(control::ExecRequest request) override {
    base::MutexLock lock(mu_);
    if (init_ == 0) return absl::FailedPreconditionError("container not running");
    auto pid = Spawn(request.process, request.fds);
    changed_.NotifyAll();
    return pid;
  }

  void Wait(const std::string&, int32_t pid, control::WaitDone done) override {
    absl::StatusOr<int32_t> status = absl::NotFoundError(absl::StrCat("no process ", pid));
    {
      base::MutexLock lock(mu_);
      if (pid == 0 && init_done_) {
        status = init_status_;
      } else if (auto ended = statuses_.find(pid); pid != 0 && ended != statuses_.end()) {
        status = ended->second;
      } else if (pid == 0 || running_.contains(pid)) {
        waiters_.emplace(pid, std::move(done));
        return;
      }
    }
    done(status);
  }

  absl::Status Signal(const std::string&, int32_t pid, int signal, control::SignalScope scope) override {
    base::MutexLock lock(mu_);
    if (init_ == 0) {
      if (signal != SIGKILL && signal != SIGTERM) return absl::OkStatus();
      init_done_ = true;
      init_status_ = signal;
      changed_.NotifyAll();
      return absl::OkStatus();
    }
    if (scope == control::SignalScope::kAll) {
      kill(-1, signal);
      return absl::OkStatus();
    }
    pid_t target = pid == 0 ? init_ : pid;
    if (!running_.contains(target)) return absl::NotFoundError("no such process");
    kill(scope == control::SignalScope::kProcess ? target : -target, signal);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<control::ProcessInfo>> Processes(const std::string&) override {
    base::MutexLock lock(mu_);
    std::vector<control::ProcessInfo> list;
    for (const auto& [pid, command] : running_)
      list.push_back({.pid = pid, .ppid = 1, .threads = 1, .command = command});
    return list;
  }
  absl::StatusOr<control::ContainerInfo> State(const std::string&) override {
    base::MutexLock lock(mu_);
    using enum control::ContainerState;
    return control::ContainerInfo{.state = init_done_ ? kStopped
                                           : init_    ? kRunning
                                                      : kCreated,
                                  .init_wait_status = init_status_};
  }
  absl::Status ResizeTerminal(const std::string&, int32_t, uint16_t, uint16_t) override { return absl::OkStatus(); }
  absl::Status Pause(const std::string&) override {
    kill(-1, SIGSTOP);
    return absl::OkStatus();
  }
  absl::Status Resume(const std::string&) override {
    kill(-1, SIGCONT);
    return absl::OkStatus();
  }
  absl::Status Update(const std::string&, const control::ResourceUpdate&) override { return absl::OkStatus(); }
  void WaitOom(const std::string&, uint64_t, control::CountDone) override {}
  absl::StatusOr<control::Stats> GetStats(const std::string&) override { return control::Stats{.pids = 1}; }
  void Shutdown() override { Signal("", 0, SIGKILL, control::SignalScope::kAll).IgnoreError(); }

  // Reaps until init has ended; its status.
  int RunUntilInitEnds() {
    while (true) {
      {
        base::MutexLock lock(mu_);
        while (running_.empty() && !init_done_) changed_.Wait(mu_);
        if (init_done_) break;
      }
      int status;
      pid_t pid = waitpid(-1, &status, 0);
      if (pid > 0) Reap(pid, status);
    }
    kill(-1, SIGKILL);
    while (waitpid(-1, nullptr, 0) > 0) {
    }
    int status;
    {
      base::MutexLock lock(mu_);
      status = init_status_;
    }
    Finish(0, status);
    return status;
  }

 private:
  void Reap(pid_t pid, int status) {
    {
      base::MutexLock lock(mu_);
      running_.erase(pid);
      statuses_[pid] = status;
      if (pid == init_) {
        init_done_ = true;
        init_status_ = status;
      }
    }
    Finish(pid, status);
  }
  void Finish(int32_t pid, int status) {
    std::vector<control::WaitDone> done;
    {
      base::MutexLock lock(mu_);
      auto [from, to] = waiters_.equal_range(pid);
      for (auto it = from; it != to; ++it) done.push_back(std::move(it->second));
      waiters_.erase(from, to);
    }
    for (auto& d : done) d(status);
  }
  absl::StatusOr<pid_t> Spawn(const spec::Process& process, const std::vector<base::UniqueFd>& fds)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError("pipe");
    base::UniqueFd r(ends[0]), w(ends[1]);
    pid_t pid = fork();
    if (pid < 0) return absl::InternalError("fork");
    if (pid == 0) RunProcess(process, args_.spec.root_path, fds, w.get());
    w.Reset();
    char text[512];
    ssize_t n = read(r.get(), text, sizeof text);
    if (n > 0) {
      waitpid(pid, nullptr, 0);
      return absl::InvalidArgumentError(std::string(text, n));
    }
    running_[pid] = process.args[0];
    return pid;
  }

  const BootArgs& args_;
  base::Mutex mu_{base::LockRank::kContainer};
  base::CondVar changed_;
  pid_t init_ ABSL_GUARDED_BY(mu_) = 0;
  bool init_done_ ABSL_GUARDED_BY(mu_) = false;
  int init_status_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<pid_t, std::string> running_ ABSL_GUARDED_BY(mu_);
  std::map<pid_t, int> statuses_ ABSL_GUARDED_BY(mu_);
  std::multimap<int32_t, control::WaitDone> waiters_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

int BootEntryPoint(BootArgs args) {
  NativeSandbox sandbox(args);
  auto server = control::ControlServer::Create(std::move(args.control_fd), &sandbox);
  if (!server.ok() || args.gofer_fds.empty() || !args.gofer_fds[0].ok()) {
    ReportFailure(std::move(args.report_fd), "native sandbox: bad descriptors");
    return 1;
  }
  // A bundle can ask for a failing boot.
  if (auto it = args.spec.annotations.find("test.fail-boot"); it != args.spec.annotations.end()) {
    if (it->second == "crash") abort();
    ReportFailure(std::move(args.report_fd), it->second);
    return 1;
  }
  std::thread serve([&] { (*server)->Serve(); });
  ReportReady(std::move(args.report_fd));
  int status = sandbox.RunUntilInitEnds();
  RecordExitStatus(args.exit_status_fd.get(), status);
  (*server)->Stop();
  serve.join();
  return ExitCodeOf(status);
}

int GoferEntryPoint(GoferArgs args) {
  if (args.spec.annotations.contains("test.fail-gofer")) {
    ReportFailure(std::move(args.report_fd), "gofer: " + args.spec.annotations.at("test.fail-gofer"));
    return 1;
  }
  if (!PassHookGate(std::move(args.hook_gate_fd))) return 1;
  pollfd p{.fd = args.gofer_fds.at(0).get(), .events = 0};
  while (poll(&p, 1, -1) < 0 && errno == EINTR) {
  }
  return 0;
}

}  // namespace runsc
