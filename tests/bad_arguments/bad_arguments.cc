// SPDX-License-Identifier: Apache-2.0
// Makes every system call with one bad argument at a time, the others being good, and prints what each gives:
//
//   bad_arguments [--only NAME]
//
//   read(0=pipe-write) EBADF
//
// A line is a call, which argument (from 0) was bad and how, and the error, "ok" or the signal that ended the process.
// Run on the host's kernel and in a sandbox, the outputs are to be the same (compare.sh). As root: it works in new pid,
// mount, ipc, uts and net namespaces, and leaves out the calls that would change the host.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <set>
#include <string>
#include <vector>

namespace {

struct Call {
  int number;
  const char* name;
  const char* kinds;
};

// Refused calls answer the same to all arguments, by compatibility.md.
constexpr Call kCalls[] = {
#define CALL(number, name, handler, arguments) {number, #name, arguments},
#define PART(number, name, handler, arguments, note) {number, #name, arguments},
#define NONE(number, name, error, reason)
#define GONE(number, name, reason)
#include "sentry/syscalls/table_x86_64.inc"
};

// Not made: they end or replace the process by design, wait for ever, or reach beyond the namespaces.
const std::set<std::string> kLeftOut = {
    "exit",          "exit_group", "rt_sigreturn",     "pause",        "fork",          "vfork",
    "clone",         "clone3",     "reboot",           "settimeofday", "clock_settime", "vhangup",
    "sync",          "syncfs",     "restart_syscall",  "sched_yield",  "syslog",        "adjtimex",
    "clock_adjtime", "fallocate",  "process_mrelease", "migrate_pages"};

constexpr uint64_t kArena = 0x10'0000'0000;
constexpr uint64_t kPage = 4096;
constexpr uint64_t kData = kArena;                   // zeros, 16 pages
constexpr uint64_t kReadOnly = kArena + 32 * kPage;  // with holes around it
constexpr uint64_t kHole = kArena + 40 * kPage;
constexpr uint64_t kVector = kArena + 48 * kPage;    // an iovec of kData
constexpr uint64_t kEdge = kArena + 16 * kPage - 4;  // four bytes, then a hole

enum Fd { kFile = 10, kDir, kPipeRead, kPipeWrite, kSocket, kEpoll, kPath, kEvent, kWriteOnly, kReadOnlyFile, kClosed };

struct Value {
  const char* name;
  uint64_t value;
};

const Value kBadPointers[] = {{"null", 0},
                              {"low", 8},
                              {"hole", kHole},
                              {"read-only", kReadOnly},
                              {"edge", kEdge},
                              {"unaligned", kData + 1},
                              {"non-canonical", 0x8000'0000'0000},
                              {"kernel", 0xffff'8000'0000'0000},
                              {"minus-page", ~uint64_t{4095}},
                              {"ones", ~uint64_t{0}}};
const Value kBadFds[] = {{"-1", ~uint64_t{0}}, {"ones", 0xffff'ffff},      {"closed", kClosed},
                         {"9999", 9999},       {"int-min", 0x8000'0000},   {"int-max", 0x7fff'ffff},
                         {"dir", kDir},        {"pipe-read", kPipeRead},   {"pipe-write", kPipeWrite},
                         {"socket", kSocket},  {"epoll", kEpoll},          {"path", kPath},
                         {"eventfd", kEvent},  {"write-only", kWriteOnly}, {"read-only", kReadOnlyFile}};
const Value kBadSizes[] = {{"0", 0},
                           {"1", 1},
                           {"-1", ~uint64_t{0}},
                           {"int-max", 0x7fff'ffff},
                           {"2^31", 0x8000'0000},
                           {"2^47", uint64_t{1} << 47},
                           {"2^63", uint64_t{1} << 63},
                           {"ssize-max", ~uint64_t{0} >> 1}};
const Value kBadIntegers[] = {{"1", 1},
                              {"7", 7},
                              {"64", 64},
                              {"ones32", 0xffff'ffff},
                              {"ones", ~uint64_t{0}},
                              {"int-min", 0x8000'0000},
                              {"int-max", 0x7fff'ffff},
                              {"2^30", 0x4000'0000},
                              {"high-bits", 0xffff'ffff'0000'0000}};
char long_name[257], long_path[5000];
const Value kBadPaths[] = {
    {"empty", reinterpret_cast<uint64_t>("")},           {"missing", reinterpret_cast<uint64_t>("missing/x")},
    {"not-dir", reinterpret_cast<uint64_t>("a/b")},      {"slash", reinterpret_cast<uint64_t>("a/")},
    {"loop", reinterpret_cast<uint64_t>("loop")},        {"dangling", reinterpret_cast<uint64_t>("dangling")},
    {"directory", reinterpret_cast<uint64_t>("dir")},    {"dot", reinterpret_cast<uint64_t>(".")},
    {"root", reinterpret_cast<uint64_t>("/")},           {"long-name", reinterpret_cast<uint64_t>(long_name)},
    {"long-path", reinterpret_cast<uint64_t>(long_path)}};

enum class Kind { kPointer, kFd, kSize, kInteger, kPath };

Kind KindOf(const std::string& word) {
  static const std::set<std::string> pointers = {"obuf",       "buf",      "ptr",     "ostat", "pollfds", "sigaction",
                                                 "osigaction", "sigset",   "osigset", "iovec", "ofds",    "timeval",
                                                 "timespec",   "sockaddr", "argv",    "opath"};
  if (word == "fd" || word == "dirfd") return Kind::kFd;
  if (word == "path" || word == "str") return Kind::kPath;
  if (word == "size") return Kind::kSize;
  return pointers.count(word) ? Kind::kPointer : Kind::kInteger;
}

std::vector<std::string> Words(const char* kinds) {
  std::vector<std::string> words;
  while (*kinds) {
    size_t n = strcspn(kinds, ",");
    words.emplace_back(kinds, n);
    kinds += n + (kinds[n] == ',');
  }
  return words;
}

uint64_t Text(const char* text) { return reinterpret_cast<uint64_t>(text); }

constexpr uint64_t kSelf = 0x5e1f'5e1f;  // stands for the process's own id

// Arguments that are good in ways that their kinds do not tell.
const std::map<std::string, std::map<int, uint64_t>>& Good() {
  static const std::map<std::string, std::map<int, uint64_t>> good = {
      {"poll", {{1, 1}, {2, 0}}},
      {"ppoll", {{1, 1}, {2, kData + 2 * kPage}, {3, kData + 3 * kPage}, {4, 8}}},
      {"mmap", {{0, 0}, {1, kPage}, {2, PROT_READ}, {3, MAP_PRIVATE}}},
      {"mprotect", {{1, kPage}, {2, PROT_READ | PROT_WRITE}}},
      {"pkey_mprotect", {{1, kPage}, {2, PROT_READ | PROT_WRITE}, {3, ~uint64_t{0}}}},
      {"munmap", {{0, kData + 8 * kPage}, {1, kPage}}},
      {"mremap", {{0, kData + 8 * kPage}, {1, kPage}, {2, kPage}, {3, 0}}},
      {"msync", {{1, kPage}, {2, MS_ASYNC}}},
      {"mincore", {{1, kPage}, {2, kData}}},
      {"madvise", {{1, kPage}}},
      {"mlock", {{1, kPage}}},
      {"munlock", {{1, kPage}}},
      {"mlock2", {{1, kPage}}},
      {"mseal", {{0, kData + 8 * kPage}, {1, kPage}}},
      {"remap_file_pages", {{1, kPage}}},
      {"mbind", {{1, kPage}, {4, 0}}},
      {"rt_sigaction", {{0, SIGUSR1}, {3, 8}}},
      {"rt_sigprocmask", {{3, 8}}},
      {"rt_sigpending", {{1, 8}}},
      {"rt_sigtimedwait", {{3, 8}}},
      {"rt_sigsuspend", {{1, 8}}},
      {"signalfd", {{0, ~uint64_t{0}}, {2, 8}}},
      {"signalfd4", {{0, ~uint64_t{0}}, {2, 8}}},
      {"epoll_wait", {{0, kEpoll}, {2, 1}, {3, 0}}},
      {"epoll_pwait", {{0, kEpoll}, {2, 1}, {3, 0}, {5, 8}}},
      {"epoll_pwait2", {{0, kEpoll}, {2, 1}, {5, 8}}},
      {"epoll_ctl", {{0, kEpoll}, {1, EPOLL_CTL_ADD}, {2, kPipeRead}}},
      {"ioctl", {{1, 0x5401}}},
      {"readv", {{1, kVector}, {2, 1}}},
      {"writev", {{1, kVector}, {2, 1}}},
      {"preadv", {{1, kVector}, {2, 1}}},
      {"pwritev", {{1, kVector}, {2, 1}}},
      {"preadv2", {{1, kVector}, {2, 1}}},
      {"pwritev2", {{1, kVector}, {2, 1}}},
      {"vmsplice", {{0, kPipeWrite}, {1, kVector}, {2, 1}}},
      {"process_vm_readv", {{0, kSelf}, {1, kVector}, {2, 1}, {3, kVector}, {4, 1}}},
      {"process_vm_writev", {{0, kSelf}, {1, kVector}, {2, 1}, {3, kVector}, {4, 1}}},
      {"connect", {{0, kSocket}, {2, 16}}},
      {"bind", {{0, kSocket}, {2, 16}}},
      {"accept", {{0, kSocket}}},
      {"accept4", {{0, kSocket}}},
      {"listen", {{0, kSocket}}},
      {"shutdown", {{0, kSocket}}},
      {"getsockname", {{0, kSocket}, {2, kData + kPage}}},
      {"getpeername", {{0, kSocket}, {2, kData + kPage}}},
      {"sendto", {{0, kSocket}, {3, MSG_DONTWAIT}, {4, 0}}},
      {"recvfrom", {{0, kSocket}, {3, MSG_DONTWAIT}, {4, 0}, {5, 0}}},
      {"sendmsg", {{0, kSocket}, {2, MSG_DONTWAIT}}},
      {"recvmsg", {{0, kSocket}, {2, MSG_DONTWAIT}}},
      {"sendmmsg", {{0, kSocket}, {2, 1}, {3, MSG_DONTWAIT}}},
      {"recvmmsg", {{0, kSocket}, {2, 1}, {3, MSG_DONTWAIT}, {4, 0}}},
      {"setsockopt", {{0, kSocket}, {1, SOL_SOCKET}, {2, SO_KEEPALIVE}, {4, 4}}},
      {"getsockopt", {{0, kSocket}, {1, SOL_SOCKET}, {2, SO_TYPE}, {4, kData + kPage}}},
      {"socket", {{0, AF_UNIX}, {1, SOCK_STREAM}}},
      {"socketpair", {{0, AF_UNIX}, {1, SOCK_STREAM}}},
      {"kill", {{0, kSelf}}},
      {"tkill", {{0, kSelf}}},
      {"tgkill", {{0, kSelf}, {1, kSelf}}},
      {"rt_sigqueueinfo", {{0, kSelf}}},
      {"rt_tgsigqueueinfo", {{0, kSelf}, {1, kSelf}}},
      {"getdents", {{0, kDir}, {2, 512}}},
      {"getdents64", {{0, kDir}, {2, 512}}},
      {"fchdir", {{0, kDir}}},
      {"mkdir", {{0, Text("new")}, {1, 0755}}},
      {"mkdirat", {{1, Text("new")}, {2, 0755}}},
      {"rmdir", {{0, Text("empty")}}},
      {"chdir", {{0, Text("dir")}}},
      {"rename", {{1, Text("b")}}},
      {"renameat", {{3, Text("b")}}},
      {"renameat2", {{3, Text("b")}}},
      {"link", {{1, Text("b")}}},
      {"linkat", {{3, Text("b")}}},
      {"symlink", {{1, Text("b")}}},
      {"symlinkat", {{2, Text("b")}}},
      {"readlink", {{0, Text("dangling")}}},
      {"readlinkat", {{1, Text("dangling")}}},
      {"mknod", {{0, Text("new")}, {1, S_IFIFO | 0600}}},
      {"mknodat", {{1, Text("new")}, {2, S_IFIFO | 0600}}},
      {"getrlimit", {{0, 7}}},
      {"setrlimit", {{0, 7}}},
      {"prlimit64", {{0, 0}, {1, 7}, {2, 0}}},
      {"splice", {{0, kPipeRead}, {1, 0}, {3, 0}, {5, 2}}},
      {"tee", {{0, kPipeRead}, {1, kPipeWrite}, {3, 2}}},
      {"sendfile", {{0, kSocket}, {2, 0}}},
      {"copy_file_range", {{1, 0}, {3, 0}}},
      {"name_to_handle_at", {{3, kData + kPage}}},
      {"inotify_add_watch", {{2, 1}}},
      {"fanotify_mark", {{3, static_cast<uint64_t>(AT_FDCWD)}}},
      {"statx", {{3, 0x7ff}, {4, kData}}},
      {"openat2", {{3, 24}}},
      {"mount", {{0, Text("none")}, {1, Text("dir")}, {2, Text("tmpfs")}, {4, 0}}},
      {"umount2", {{0, Text("dir")}}},
      {"fsopen", {{0, Text("tmpfs")}}},
      {"memfd_create", {{0, Text("m")}}},
      {"mq_open", {{0, Text("q")}, {3, 0}}},
      {"mq_unlink", {{0, Text("q")}}},
      {"setxattr", {{1, Text("trusted.x")}}},
      {"lsetxattr", {{1, Text("trusted.x")}}},
      {"fsetxattr", {{1, Text("trusted.x")}}},
      {"getxattr", {{1, Text("trusted.x")}}},
      {"lgetxattr", {{1, Text("trusted.x")}}},
      {"fgetxattr", {{1, Text("trusted.x")}}},
      {"removexattr", {{1, Text("trusted.x")}}},
      {"lremovexattr", {{1, Text("trusted.x")}}},
      {"fremovexattr", {{1, Text("trusted.x")}}},
      {"pidfd_open", {{0, kSelf}}},
      {"kcmp", {{0, kSelf}, {1, kSelf}}},
      {"io_setup", {{0, 1}}},
      {"set_robust_list", {{1, 24}}},
      {"sched_getaffinity", {{1, 128}}},
      {"sched_setaffinity", {{1, 128}}},
      {"sched_getattr", {{2, 48}}},
      {"futex_waitv", {{1, 1}}},
      {"semop", {{2, 1}}},
      {"semtimedop", {{2, 1}}},
      {"semget", {{1, 1}, {2, 01600}}},
      {"shmget", {{1, kPage}, {2, 01600}}},
      {"msgget", {{1, 01600}}},
      {"add_key", {{0, Text("user")}, {1, Text("k")}, {4, ~uint64_t{0} - 1}}},
      {"request_key", {{0, Text("user")}, {1, Text("k")}, {2, 0}}},
      {"execve", {{0, Text("a")}, {1, kData}, {2, kData}}},
      {"getgroups", {{0, 16}}},
      {"arch_prctl", {{0, 0x1004}}},
  };
  return good;
}

// Arguments that are times to wait, in milliseconds.
const std::map<std::string, int> kTimeouts = {{"poll", 2}, {"epoll_wait", 3}, {"epoll_pwait", 3}};

const char* ErrorName(int error) {
  const char* name = strerrorname_np(error);
  return name ? name : "?";
}

struct Results {
  int count;
  int64_t values[64];
};
Results* results;

void Setup() {
  unlink("a");
  unlink("b");
  auto put = [](int fd, int at) {
    if (fd < 0 || dup2(fd, at) != at) _exit(99);
    close(fd);
  };
  int file = open("a", O_RDWR | O_CREAT, 0644);
  char text[100] = "some bytes";
  if (write(file, text, sizeof text) != sizeof text) _exit(99);
  lseek(file, 0, SEEK_SET);
  mkdir("dir", 0755);
  mkdir("empty", 0755);
  put(open("dir", O_RDONLY | O_DIRECTORY), kDir);
  put(file, kFile);
  int ends[2];
  if (pipe2(ends, O_NONBLOCK) != 0) _exit(99);
  put(ends[0], kPipeRead);
  put(ends[1], kPipeWrite);
  put(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), kSocket);
  put(epoll_create1(0), kEpoll);
  put(open("a", O_PATH), kPath);
  put(eventfd(0, EFD_NONBLOCK), kEvent);
  put(open("a", O_WRONLY), kWriteOnly);
  put(open("a", O_RDONLY), kReadOnlyFile);
  void* data = mmap(reinterpret_cast<void*>(kData), 16 * kPage, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  void* page =
      mmap(reinterpret_cast<void*>(kReadOnly), kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  auto* vector = static_cast<iovec*>(mmap(reinterpret_cast<void*>(kVector), kPage, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  if (data == MAP_FAILED || page == MAP_FAILED || vector == MAP_FAILED) _exit(99);
  *vector = {data, 16};
}

// Children of the test itself, none of a call's.
void Reap(pid_t child, int* status) {
  timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += 60;
  for (;;) {
    int fd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
    pollfd waits = {fd, POLLIN, 0};
    if (poll(&waits, 1, 60'000) == 0) {
      kill(child, SIGKILL);
      *status = -1;
      waitpid(child, nullptr, 0);
      close(fd);
      return;
    }
    close(fd);
    if (waitpid(child, status, 0) == child) return;
  }
}

void Try(const Call& call, int which, const char* prefix, const std::vector<Value>& bad, uint64_t (&good)[6]) {
  results->count = 0;
  pid_t child = fork();
  if (child == 0) {
    setsid();
    if (strstr(call.name, "mount") || strstr(call.name, "tree") || strcmp(call.name, "pivot_root") == 0)
      unshare(CLONE_NEWNS);
    Setup();
    pid_t self = getpid();
    // What a process starts with is its ancestors' affair.
    const stack_t none = {.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
    sigaltstack(&none, nullptr);
    // Ends calls that wait.
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    sigaction(SIGALRM, &action, nullptr);
    for (const Value& value : bad) {
      const itimerval timer = {{0, 100'000}, {0, 100'000}};
      setitimer(ITIMER_REAL, &timer, nullptr);
      uint64_t a[6];
      for (int i = 0; i < 6; ++i) a[i] = good[i] == kSelf ? static_cast<uint64_t>(self) : good[i];
      a[which] = value.value;
      long result = syscall(call.number, a[0], a[1], a[2], a[3], a[4], a[5]);
      results->values[results->count] = result == -1 ? errno : 0;
      ++results->count;
    }
    _exit(0);
  }
  int status = 0;
  Reap(child, &status);
  for (int i = 0; i < results->count; ++i) {
    int64_t error = results->values[i];
    printf("%s(%d=%s%s) %s\n", call.name, which, prefix, bad[i].name,
           error ? ErrorName(static_cast<int>(error)) : "ok");
  }
  if (results->count < static_cast<int>(bad.size())) {
    const char* name = bad[results->count].name;
    if (status == -1) {
      printf("%s(%d=%s%s) hangs\n", call.name, which, prefix, name);
    } else {
      printf("%s(%d=%s%s) ends by %d\n", call.name, which, prefix, name, status);
    }
  }
  fflush(stdout);
}

void TryAll(const Call& call) {
  std::vector<std::string> words = Words(call.kinds);
  uint64_t good[6] = {};
  for (size_t i = 0; i < words.size(); ++i) {
    switch (KindOf(words[i])) {
      case Kind::kPointer:
        good[i] = kData;
        break;
      case Kind::kFd:
        good[i] = words[i] == "dirfd" ? static_cast<uint64_t>(AT_FDCWD) : uint64_t{kFile};
        break;
      case Kind::kSize:
        good[i] = 64;
        break;
      case Kind::kInteger:
        break;
      case Kind::kPath:
        good[i] = Text("a");
        break;
    }
  }
  auto special = Good().find(call.name);
  if (special != Good().end())
    for (auto [index, value] : special->second) good[index] = value;
  for (size_t i = 0; i < words.size(); ++i) {
    std::vector<Value> bad;
    auto add = [&](const auto& values) { bad.insert(bad.end(), std::begin(values), std::end(values)); };
    switch (KindOf(words[i])) {
      case Kind::kPath:
        add(kBadPaths);
        [[fallthrough]];
      case Kind::kPointer:
        add(kBadPointers);
        break;
      case Kind::kFd:
        add(kBadFds);
        break;
      case Kind::kSize:
        add(kBadSizes);
        break;
      case Kind::kInteger:
        add(kBadIntegers);
        // Short waits: whether the timer comes first would be chance.
        if (auto timeout = kTimeouts.find(call.name);
            timeout != kTimeouts.end() && timeout->second == static_cast<int>(i)) {
          std::erase_if(bad, [](const Value& value) { return value.value != 0 && value.value < 1000; });
        }
        break;
    }
    Try(call, static_cast<int>(i), "", bad, good);
  }
}

[[noreturn]] void Fail(const char* what) {
  perror(what);
  exit(2);
}

}  // namespace

int main(int argc, char** argv) {
  const char* only = argc == 3 && strcmp(argv[1], "--only") == 0 ? argv[2] : nullptr;
  memset(long_name, 'n', sizeof long_name - 1);
  memset(long_path, '/', sizeof long_path - 1);
  if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET) != 0) Fail("unshare");
  pid_t init = fork();
  if (init < 0) Fail("fork");
  if (init == 0) {
    // A tmpfs on both sides: what differs is then not the file system.
    if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) Fail("mount --make-rprivate");
    // A root of its own: natively a chmod("/") would be the machine's.
    if (mount("none", "/tmp", "tmpfs", 0, "size=16m") != 0) Fail("mount of a tmpfs");
    for (const char* directory : {"/tmp/proc", "/tmp/dev", "/tmp/tmp"}) {
      if (mkdir(directory, 0777) != 0) Fail(directory);
    }
    if (mount("none", "/tmp/proc", "proc", 0, nullptr) != 0) Fail("mount of proc");
    if (mknod("/tmp/dev/null", S_IFCHR | 0666, makedev(1, 3)) != 0) Fail("mknod of /dev/null");
    if (chroot("/tmp") != 0 || chdir("/tmp") != 0) Fail("chroot");
    if (symlink("loop", "loop") != 0 || symlink("nowhere", "dangling") != 0) Fail("symlink");
    umask(022);
    // What waits for descriptor 0 does not wait for whatever the caller has there.
    if (dup2(open("/dev/null", O_RDWR), 0) != 0) Fail("/dev/null");
    results = static_cast<Results*>(
        mmap(nullptr, sizeof(Results), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    for (const Call& call : kCalls) {
      if (kLeftOut.count(call.name) || (only && strcmp(only, call.name) != 0)) continue;
      TryAll(call);
    }
    return 0;
  }
  int status;
  if (waitpid(init, &status, 0) != init) Fail("waitpid");
  if (!WIFEXITED(status)) fprintf(stderr, "bad_arguments: ended by signal %d\n", WTERMSIG(status));
  return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}
