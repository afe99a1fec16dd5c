// SPDX-License-Identifier: Apache-2.0
// The real thing in a forked child: namespaces, pivot_root, capabilities and the seccomp filter on.
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>

#include "gofer/filter.h"
#include "gofer/protocol/client.h"
#include "gofer/protocol/host_transport.h"
#include "gofer/sandbox.h"
#include "gofer/server/server.h"
#include "gofer/testing/exercise.h"
#include "gofer/testing/served_dir.h"
#include "gtest/gtest.h"

namespace gofer {
namespace {

// Exit status, or -signal.
int Wait(pid_t child) {
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int InChild(const std::function<int()>& body) {
  pid_t child = fork();
  if (child == 0) _exit(body());
  return Wait(child);
}

bool CanConfine() {
  return InChild([] { return unshare(CLONE_NEWNS | CLONE_NEWNET) == 0 ? 0 : 1; }) == 0;
}

#define SKIP_WITHOUT_PRIVILEGES() \
  if (!CanConfine()) GTEST_SKIP() << "needs CAP_SYS_ADMIN to make namespaces"

bool WriteFile(const char* path, const char* text) {
  base::UniqueFd fd(open(path, O_WRONLY | O_CLOEXEC));
  return write(fd.get(), text, strlen(text)) == static_cast<ssize_t>(strlen(text));
}

// As a rootless runsc: root over one id only.
bool EnterUserNamespace() {
  uid_t uid = geteuid();
  gid_t gid = getegid();
  return unshare(CLONE_NEWUSER) == 0 && WriteFile("/proc/self/setgroups", "deny") &&
         WriteFile("/proc/self/uid_map", ("0 " + std::to_string(uid) + " 1").c_str()) &&
         WriteFile("/proc/self/gid_map", ("0 " + std::to_string(gid) + " 1").c_str());
}

// A forked child inherits the arenas of the test's threads; runsc starts its gofer afresh.
[[maybe_unused]] const int kOneArena = mallopt(M_ARENA_MAX, 1);

// A gofer as runsc starts it.
struct ConfinedGofer {
  explicit ConfinedGofer(const std::string& root, Connection::Settings settings = {.max_fds = 0},
                         bool user_namespace = false) {
    auto ends = MakeSocketPair();
    socket = std::move(ends->second);
    pid = fork();
    if (pid == 0) {
      socket.Reset();
      if (user_namespace && !EnterUserNamespace()) _exit(4);
      GoferConfig config{.confine = true, .debug_filter = true};
      config.trees.push_back({.socket = std::move(ends->first), .root_path = root, .settings = settings});
      absl::Status status = RunGofer(std::move(config));
      if (!status.ok()) fprintf(stderr, "%s\n", std::string(status.message()).c_str());
      _exit(status.ok() ? 0 : 3);
    }
  }
  base::UniqueFd socket;
  pid_t pid;
};

TEST(Confinement, AllOperationsWorkUnderTheFilter) {
  SKIP_WITHOUT_PRIVILEGES();
  TempDir dir;
  ConfinedGofer gofer(dir.path());
  auto client = Client::Connect(std::move(gofer.socket), {});
  ASSERT_TRUE(client.ok()) << client.error().Name();
  ExerciseEverything(**client);
  ExerciseChannels(**client);
  EXPECT_TRUE((*client)->connected());
  client->reset();
  EXPECT_EQ(Wait(gofer.pid), 0);
}

TEST(Confinement, WorksInAUserNamespaceOfOneId) {
  if (InChild([] { return EnterUserNamespace() ? 0 : 1; }) != 0) GTEST_SKIP() << "no user namespaces here";
  TempDir dir;
  dir.Write("file", "text");
  ConfinedGofer gofer(dir.path(), {.max_fds = 0}, /*user_namespace=*/true);
  auto client = Client::Connect(std::move(gofer.socket), {});
  ASSERT_TRUE(client.ok()) << client.error().Name();
  Client& c = **client;
  NodeId root = c.mount().root.node;
  auto file = c.Lookup(root, "file");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->attr.uid, 0u);
  EXPECT_TRUE(c.Open(file->node, O_RDWR).ok());
  EXPECT_TRUE(c.SetAttr(file->node, {.fields = kSetMode, .mode = 0600}).ok());
  EXPECT_TRUE(c.Link(file->node, root, "link").ok());
  // An id that is not mapped: the file must not be left behind with another owner.
  EXPECT_EQ(c.Create(root, "other", O_RDWR, 0600, 1234, 0).error_number(), EINVAL);
  EXPECT_EQ(c.Lookup(root, "other").error_number(), ENOENT);
  EXPECT_TRUE(c.Create(root, "mine", O_RDWR, 0600, 0, 0).ok());
  client->reset();
  EXPECT_EQ(Wait(gofer.pid), 0);
}

TEST(Confinement, OnlyTheServedTreeIsVisible) {
  SKIP_WITHOUT_PRIVILEGES();
  TempDir dir;
  ASSERT_EQ(mkdir(dir.Path("tree").c_str(), 0755), 0);
  dir.Write("tree/inside", "in");
  dir.Write("outside", "out");
  int result = InChild([&] {
    auto roots = ConfineGofer({{.path = dir.Path("tree"), .read_only = true}});
    if (!roots.ok()) return 10;
    int root = (*roots)[0].get();
    base::UniqueFd inside(openat(root, "inside", O_RDONLY));
    if (!inside.ok()) return 11;
    if (openat(root, "inside", O_RDWR) >= 0 || errno != EROFS) return 12;
    for (const char* path : {"/etc", "/proc", "/usr", "/dev/null", "/tmp", "../outside"}) {
      if (access(path, F_OK) == 0) return 13;
    }
    if (openat(root, "../../outside", O_RDONLY) >= 0) return 14;
    // ".." ends at the small root, which holds nothing but "0" and can't be written.
    base::UniqueFd up(openat(root, "../../..", O_RDONLY | O_DIRECTORY));
    struct stat there, top;
    if (fstat(up.get(), &there) < 0 || stat("/", &top) < 0 || there.st_ino != top.st_ino) return 15;
    if (mkdir("/new", 0700) == 0) return 16;
    if (syscall(SYS_mount, "none", "/", "tmpfs", 0, nullptr) == 0 || errno != EPERM) return 17;
    if (unshare(CLONE_NEWNS) == 0 || chroot("/") == 0) return 18;
    int net = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (net >= 0) close(net);
    if (umask(022) != 0) return 19;
    return 0;
  });
  EXPECT_EQ(result, 0);
}

TEST(Confinement, DevicesDoNotOpen) {
  SKIP_WITHOUT_PRIVILEGES();
  TempDir dir;
  if (mknod(dir.Path("null").c_str(), S_IFCHR | 0666, (1 << 8) | 3) < 0) GTEST_SKIP() << "no CAP_MKNOD";
  int result = InChild([&] {
    auto roots = ConfineGofer({{.path = dir.path()}});
    if (!roots.ok()) return 10;
    return openat((*roots)[0].get(), "null", O_RDONLY) < 0 && errno == EACCES ? 0 : 1;
  });
  EXPECT_EQ(result, 0);
}

TEST(Confinement, FilterKillsWhatIsNotListed) {
  auto with_filter = [](bool debug, const std::function<void()>& forbidden) {
    return InChild([&] {
      base::UniqueFd proc(open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (debug) close(STDERR_FILENO);
      if (!InstallGoferFilter({.proc_fd = proc.get(), .debug = debug}).ok()) return 10;
      forbidden();
      return 0;
    });
  };
  EXPECT_EQ(with_filter(false, [] {}), 0);
  EXPECT_EQ(with_filter(false, [] { socket(AF_INET, SOCK_STREAM, 0); }), -SIGSYS);
  EXPECT_EQ(with_filter(false, [] { execl("/bin/true", "true", nullptr); }), -SIGSYS);
  EXPECT_EQ(with_filter(false, [] { open("/etc/passwd", O_RDONLY | O_CLOEXEC); }), -SIGSYS);
  EXPECT_EQ(with_filter(false, [] { syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }), -SIGSYS);
  EXPECT_EQ(with_filter(false, [] { syscall(SYS_mmap, 0, 4096, 4, 0x22, -1, 0); }), -SIGSYS);
  EXPECT_EQ(with_filter(false, [] { unshare(CLONE_NEWUSER); }), -SIGSYS);
  EXPECT_EQ(with_filter(true, [] { syscall(SYS_ptrace, 0, 0, 0, 0); }), 128 + SIGSYS);
}

TEST(Confinement, GoferEndsWhenTheSentryDies) {
  SKIP_WITHOUT_PRIVILEGES();
  TempDir dir;
  ConfinedGofer gofer(dir.path());
  pid_t sentry = fork();
  if (sentry == 0) {
    auto client = Client::Connect(std::move(gofer.socket), {});
    raise(client.ok() ? SIGKILL : SIGTERM);
  }
  gofer.socket.Reset();
  EXPECT_EQ(Wait(sentry), -SIGKILL);
  EXPECT_EQ(Wait(gofer.pid), 0);
}

TEST(Confinement, AllowedCallsHaveNoSurprises) {
  auto names = AllowedGoferCalls();
  EXPECT_GT(names.size(), 40u);
  for (const char* never : {"execve", "execveat", "socket", "connect", "bind", "ptrace", "mount", "chroot", "setns",
                            "bpf", "ioctl", "open_by_handle_at", "fork", "vfork", "kill"}) {
    EXPECT_EQ(std::find(names.begin(), names.end(), never), names.end()) << never;
  }
}

}  // namespace
}  // namespace gofer
