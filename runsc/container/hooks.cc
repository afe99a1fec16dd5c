// SPDX-License-Identifier: Apache-2.0
#include "runsc/container/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

constexpr int kDefaultTimeoutSeconds = 300;

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& s : strings) pointers.push_back(const_cast<char*>(s.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void HookChild(const spec::Hook& hook, int input, int output, const std::string& directory,
                            const HookNamespaces& namespaces) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  setpgid(0, 0);
  if ((namespaces.user >= 0 && setns(namespaces.user, CLONE_NEWUSER) != 0) ||
      (namespaces.mount >= 0 && setns(namespaces.mount, CLONE_NEWNS) != 0)) {
    dprintf(output, "setns: %s", ErrnoText(errno).c_str());
    _exit(126);
  }
  dup2(input, 0);
  dup2(output, 1);
  dup2(output, 2);
  if (chdir(directory.c_str()) != 0 && chdir("/") != 0) _exit(126);
  std::vector<char*> argv = Pointers(hook.args);
  char* fallback[] = {const_cast<char*>(hook.path.c_str()), nullptr};
  std::vector<char*> environment = Pointers(hook.env);
  execve(hook.path.c_str(), hook.args.empty() ? fallback : argv.data(), environment.data());
  dprintf(output, "exec: %s", ErrnoText(errno).c_str());
  _exit(127);
}

// What the hook said, one line.
std::string OutputOf(int fd) {
  char text[600];
  ssize_t n = pread(fd, text, sizeof text, 0);
  std::string line(text, n > 0 ? n : 0);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  for (char& c : line) c = c == '\n' ? ' ' : c;
  return line.empty() ? line : ": " + line;
}

absl::Status RunHook(const std::string& field, const spec::Hook& hook, const std::string& state_json,
                     const std::string& directory, const HookNamespaces& namespaces) {
  base::UniqueFd input(memfd_create("state", MFD_CLOEXEC)), output(memfd_create("output", MFD_CLOEXEC));
  if (!input.ok() || !output.ok() ||
      write(input.get(), state_json.data(), state_json.size()) != static_cast<ssize_t>(state_json.size()) ||
      lseek(input.get(), 0, SEEK_SET) != 0) {
    return absl::InternalError(absl::StrCat(field, ": memfd: ", ErrnoText(errno)));
  }
  pid_t pid = fork();
  if (pid < 0) return absl::InternalError(absl::StrCat(field, ": fork: ", ErrnoText(errno)));
  if (pid == 0) HookChild(hook, input.get(), output.get(), directory, namespaces);
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  int seconds = hook.timeout_seconds.value_or(kDefaultTimeoutSeconds);
  pollfd p{.fd = pidfd.get(), .events = POLLIN};
  int n;
  do {
    n = poll(&p, 1, seconds * 1000);
  } while (n < 0 && errno == EINTR);
  if (n <= 0) {
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (n <= 0) {
    return absl::DeadlineExceededError(absl::StrCat(field, ": ", hook.path, ": did not end within ", seconds, " s"));
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  std::string how = WIFSIGNALED(status) ? absl::StrCat("killed by signal ", WTERMSIG(status))
                                        : absl::StrCat("exit status ", WEXITSTATUS(status));
  return absl::AbortedError(absl::StrCat(field, ": ", hook.path, ": ", how, OutputOf(output.get())));
}

}  // namespace

int MillisecondsOf(const std::vector<spec::Hook>& hooks) {
  int64_t total = 0;
  for (const spec::Hook& hook : hooks) total += int64_t{1000} * hook.timeout_seconds.value_or(kDefaultTimeoutSeconds);
  return static_cast<int>(std::min<int64_t>(total, 1'000'000'000));
}

void RunLateHooks(const char* name, const std::vector<spec::Hook>& hooks, const std::string& state_json,
                  const std::string& directory) {
  for (size_t i = 0; i < hooks.size(); ++i) {
    absl::Status status = RunHook(absl::StrCat("hooks.", name, "[", i, "]"), hooks[i], state_json, directory, {});
    if (!status.ok()) LOG_WARNING("%s", std::string(status.message()).c_str());
  }
}

absl::Status RunHooks(const char* name, const std::vector<spec::Hook>& hooks, const std::string& state_json,
                      const std::string& directory, const HookNamespaces& namespaces) {
  for (size_t i = 0; i < hooks.size(); ++i) {
    RETURN_IF_ERROR(RunHook(absl::StrCat("hooks.", name, "[", i, "]"), hooks[i], state_json, directory, namespaces));
  }
  return absl::OkStatus();
}

}  // namespace runsc
