// SPDX-License-Identifier: Apache-2.0
#include "runsc/sandbox/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "runsc/boot_args.h"
#include "runsc/errors.h"
#include "runsc/sandbox/id_maps.h"

namespace runsc {
namespace {

// Sources are moved here first, so that they can't be overwritten while the fixed numbers are filled.
constexpr int kStagingFd = 512;

[[noreturn]] void ChildFails(const std::string& what) {
  std::string text = absl::StrCat(what, ": ", ErrnoText(errno));
  ReportFailure(base::UniqueFd(kReportFd), text);
  _exit(1);
}

void ResetSignals() {
  struct sigaction action = {};
  for (int signal = 1; signal < _NSIG; ++signal) {
    action.sa_handler = signal == SIGPIPE || signal == SIGHUP ? SIG_IGN : SIG_DFL;
    sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

// True if nothing was left to say by a parent that died.
bool ParentIsAlive(int sync_fd) {
  pollfd p{.fd = sync_fd, .events = POLLIN};
  poll(&p, 1, 0);
  return !(p.revents & POLLHUP);
}

// Into a network namespace. Not from a new user namespace, which has no rights over it: then the parent goes there first,
// and must be able to come back.
bool EntersByItself(const LaunchOptions& options) {
  return options.netns_fd >= 0 && !(options.namespaces & CLONE_NEWUSER);
}

// Runs in the clone of a single-threaded process: anything may be called.
[[noreturn]] void ChildMain(const LaunchOptions& options, int sync_fd, int exe_fd) {
  char go;
  ssize_t n;
  do {
    n = read(sync_fd, &go, 1);
  } while (n < 0 && errno == EINTR);
  // The parent died, or gave up: it knows why.
  if (n != 1) _exit(1);
  // Said once there is something to say it by.
  const int network_error = EntersByItself(options) && setns(options.netns_fd, CLONE_NEWNET) != 0 ? errno : 0;
  if ((options.namespaces & CLONE_NEWUSER) && (setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0)) _exit(1);
  if (options.die_with_parent) {
    // After the change of ids, which resets it.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!ParentIsAlive(sync_fd)) _exit(1);
  }
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }

  // Fill the fixed numbers. The report pipe goes first, so that the rest can fail with words.
  std::vector<std::pair<int, int>> moved;
  for (const auto& [number, source] : options.fds) {
    if (source < 0) continue;
    int staged = fcntl(source, F_DUPFD, kStagingFd);
    if (staged < 0) _exit(1);
    moved.emplace_back(number, staged);
  }
  int exe = fcntl(exe_fd, F_DUPFD_CLOEXEC, kStagingFd);
  int null = open("/dev/null", O_RDWR);
  null = null < 0 ? -1 : fcntl(null, F_DUPFD_CLOEXEC, kStagingFd);
  close_range(0, kStagingFd - 1, 0);
  for (const auto& [number, staged] : moved) dup2(staged, number);
  errno = network_error;
  if (network_error) ChildFails("linux.namespaces (network): cannot enter it");
  if (exe < 0) ChildFails("/proc/self/exe");
  if (null < 0) ChildFails("/dev/null");
  for (int number = 0; number <= 2; ++number) {
    if (fcntl(number, F_GETFD) < 0) dup2(null, number);
  }
  close_range(kStagingFd, ~0u, CLOSE_RANGE_CLOEXEC);

  if (setsid() < 0) ChildFails("setsid");
  if (options.controlling_terminal >= 0 && ioctl(options.controlling_terminal, TIOCSCTTY, 0) != 0) {
    ChildFails("console: TIOCSCTTY");
  }
  if ((options.namespaces & CLONE_NEWNS) && mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    ChildFails("making the mounts private");
  }
  if (chdir("/") != 0) ChildFails("chdir(\"/\")");
  umask(0);
  ResetSignals();
  std::vector<char*> argv;
  for (const std::string& argument : options.argv) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  // glog asks for the user's name where USER is unset, which opens files.
  char user[] = "USER=root";
  char* environment[] = {user, nullptr};
  syscall(SYS_execveat, exe, "", argv.data(), environment, AT_EMPTY_PATH);
  ChildFails("exec of /proc/self/exe");
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  base::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.ok() || write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return absl::InternalError(absl::StrCat(path, ": ", ErrnoText(errno)));
  }
  return absl::OkStatus();
}

using IdMap = std::vector<spec::IdMapping>;

std::string MapText(const IdMap& map, uint32_t self) {
  if (map.empty()) return absl::StrCat("0 ", self, " 1\n");
  std::string lines;
  for (const spec::IdMapping& m : map) absl::StrAppend(&lines, m.container_id, " ", m.host_id, " ", m.size, "\n");
  return lines;
}

// What an ordinary user may write itself.
bool MapsOnly(const IdMap& map, uint32_t self) {
  return map.empty() || (map.size() == 1 && map[0].host_id == self && map[0].size == 1);
}

absl::Status WriteIdMap(pid_t pid, bool is_group, const LaunchOptions& options) {
  const std::string proc = absl::StrCat("/proc/", pid);
  const IdMap& map = is_group ? options.gid_map : options.uid_map;
  const uint32_t self = is_group ? getegid() : geteuid();
  const bool is_root = geteuid() == 0;
  IdMap own;
  const IdMap* written = &map;
  if (!is_root && !MapsOnly(map, self)) {
    absl::Status status = SetMapByHelper(is_group ? "newgidmap" : "newuidmap", pid, map);
    if (status.ok() || !options.maps_are_optional) return status;
    LOG_WARNING("one %s for all: %s", is_group ? "group" : "user", std::string(status.message()).c_str());
    written = &own;
  }
  // Without CAP_SETGID the map of groups may be written only when setgroups(2) is off (user_namespaces(7)).
  if (is_group && !is_root) RETURN_IF_ERROR(WriteFile(proc + "/setgroups", "deny"));
  return WriteFile(proc + (is_group ? "/gid_map" : "/uid_map"), MapText(*written, self));
}

absl::Status WriteIdMaps(pid_t pid, const LaunchOptions& options) {
  RETURN_IF_ERROR(Annotate(WriteIdMap(pid, /*is_group=*/false, options), "linux.uidMappings"));
  return Annotate(WriteIdMap(pid, /*is_group=*/true, options), "linux.gidMappings");
}

}  // namespace

absl::StatusOr<LaunchedProcess> Launch(const LaunchOptions& options) {
  base::UniqueFd exe(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  if (!exe.ok()) return absl::InternalError(absl::StrCat("/proc/self/exe: ", ErrnoText(errno), ": is /proc mounted?"));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::InternalError(absl::StrCat("pipe: ", ErrnoText(errno)));
  base::UniqueFd sync_read(ends[0]), sync_write(ends[1]);

  // The child inherits our network namespace: be in the wanted one while it is made.
  base::UniqueFd own_netns;
  if (options.netns_fd >= 0 && !EntersByItself(options)) {
    own_netns.Reset(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!own_netns.ok() || setns(options.netns_fd, CLONE_NEWNET) != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("linux.namespaces (network): cannot enter it: ", ErrnoText(errno)));
    }
  }
  pid_t pid = static_cast<pid_t>(syscall(SYS_clone, options.namespaces | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  int error = errno;
  if (pid == 0) {
    sync_write.Reset();
    ChildMain(options, sync_read.get(), exe.get());
  }
  if (own_netns.ok() && setns(own_netns.get(), CLONE_NEWNET) != 0 && pid > 0) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return absl::InternalError(absl::StrCat("setns back to the own network namespace: ", ErrnoText(errno)));
  }
  if (pid < 0) {
    std::string hint;
    if (error == EPERM) hint = ": making namespaces needs root, or --rootless with user namespaces allowed";
    if (error == ENOSPC) hint = ": too many namespaces (see /proc/sys/user/max_*_namespaces)";
    return absl::PermissionDeniedError(absl::StrCat("clone: ", ErrnoText(error), hint));
  }
  LaunchedProcess child{.pid = pid, .pidfd = base::UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)))};
  absl::Status status;
  if (!child.pidfd.ok()) status = absl::InternalError(absl::StrCat("pidfd_open: ", ErrnoText(errno)));
  if (child.pidfd.ok()) fcntl(child.pidfd.get(), F_SETFD, FD_CLOEXEC);
  if (status.ok() && (options.namespaces & CLONE_NEWUSER)) status = WriteIdMaps(pid, options);
  if (status.ok() && options.before_exec) status = options.before_exec(pid);
  if (status.ok() && write(sync_write.get(), "g", 1) != 1) {
    status = absl::InternalError("the new process died before it could start");
  }
  if (!status.ok()) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return status;
  }
  child.life_line = std::move(sync_write);
  return child;
}

absl::Status ReadReport(int fd, std::string* buffer) {
  while (buffer->find('\n') == std::string::npos) {
    char chunk[512];
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::InternalError(absl::StrCat("report pipe: ", ErrnoText(errno)));
    if (n == 0) return absl::UnavailableError("ended without a word");
    buffer->append(chunk, n);
    if (buffer->size() > 8192) return absl::DataLossError("sent a report that is too long");
  }
  std::string line = buffer->substr(0, buffer->find('\n'));
  if (line == "R") return absl::OkStatus();
  return absl::FailedPreconditionError(line.empty() ? line : line.substr(1));
}

}  // namespace runsc
