// SPDX-License-Identifier: Apache-2.0
// A guest that makes random system calls with half-valid arguments. It never judges a result: what it looks for is a
// sentry that dies (of an assertion, a sanitizer's finding) or hangs. It runs only in a sandbox; on a host it would do
// harm.
//
//   random_calls --in-sandbox yes [--seconds N] [--seed S] [--only INDEX] [--calls name,name] [--rests yes]
//
// Process INDEX of a run makes its calls from (seed, INDEX) alone, in pid, mount, ipc and uts namespaces and a root of
// its own;
// --only repeats one. Threads of one process race, so a repetition is exact only for those with one thread.
// Between them the program does ordinary work, which must go on. Exit status 0: nothing hung, and all calls were made.
// --rests: after the first processes and at the end, when none is left, it says so and waits for a byte from stdin, for
// somebody outside to see that nothing of them is left (leak_test.sh).
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace {

struct Call {
  int number;
  const char* name;
  const char* arguments;
};

constexpr Call kCalls[] = {
#define CALL(number, name, handler, arguments) {number, #name, arguments},
#define PART(number, name, handler, arguments, note) {number, #name, arguments},
#define NONE(number, name, error, reason) {number, #name, "hex,hex,hex,ptr,ptr,hex"},
#define GONE(number, name, reason) {number, #name, "hex,hex,hex,ptr,ptr,hex"},
#include "sentry/syscalls/table_x86_64.inc"
};
constexpr size_t kCallCount = sizeof kCalls / sizeof kCalls[0];

constexpr int kMaxNumber = 1024;
constexpr int kWorkers = 2;                  // processes at a time
constexpr int kMaxThreads = 3;               // beside the first, in one of them
constexpr uint64_t kFirstProcesses = 20;     // with them everything has been used once
constexpr int kCallsPerThread = 400;         // then it ends
constexpr int64_t kLifeNs = 2'000'000'000;   // or after this, by SIGKILL
constexpr int64_t kHangNs = 60'000'000'000;  // nothing ordinary may take longer
constexpr size_t kArena = 64 * 4096;

// What all processes count in.
struct Shared {
  uint64_t made[kMaxNumber];
  uint64_t processes;
  uint64_t killed;
  uint64_t stillborn;  // had no root made for them
};
Shared* shared;

int64_t Now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000ll + t.tv_nsec;
}

[[noreturn]] void Fail(const std::string& what) {
  fprintf(stderr, "random_calls: %s: %s\n", what.c_str(), strerror(errno));
  exit(1);
}

// SplitMix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t Below(uint64_t n) { return Next() % n; }
  bool OneIn(uint64_t n) { return Below(n) == 0; }

 private:
  uint64_t state_;
};

// Paths that lead somewhere, nearly somewhere, and nowhere.
const char* const kPaths[] = {
    "a",
    "b",
    "dir",
    "dir/c",
    "dir/link",
    "loop",
    "/",
    ".",
    "..",
    "/proc/self",
    "/proc/self/mem",
    "/proc/self/maps",
    "/proc/self/fd",
    "/proc/self/fd/5",
    "/proc/1",
    "/dev/null",
    "/dev/zero",
    "/dev/ptmx",
    "/dev/tty",
    "/dev/pts/0",
    "/proc/self/task",
    "/tmp",
    "/proc/stat",
    "/proc/self/ns/net",
    "/proc/self/ns/mnt",
    "/proc/self/ns/user",
    "/sys",
    "/proc/sys/kernel/hostname",
    "fifo",
    "socket",
    "mnt",
    "mnt/x",
    "",
    "dir/../dir/./c",
    "/proc/self/exe",
    "/proc/self/uid_map",
    "/proc/self/oom_score_adj",
    "/proc/self/attr/current",
    "/etc/passwd",
    "dir/",
    "a/b",
    "//",
    "/dev/shm/x",
    "tmpfs",
    "proc",
    "overlay",
    "cgroup2",
    "lowerdir=dir,upperdir=mnt,workdir=b",
    "size=1m",
    "user",
    "keyring",
    "security.x",
    "user.x",
    "system.posix_acl_access",
    "/q",
};

// Requests of ioctl(2), commands, options and flags of many calls, and edges of integers.
const uint64_t kIntegers[] = {
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    18,
    19,
    20,
    21,
    22,
    23,
    24,
    25,
    26,
    27,
    28,
    29,
    30,
    31,
    32,
    33,
    34,
    35,
    36,
    37,
    38,
    39,
    40,
    41,
    42,
    43,
    44,
    45,
    46,
    47,
    48,
    49,
    50,
    62,
    63,
    64,
    65,
    100,
    127,
    128,
    255,
    256,
    511,
    512,
    1000,
    1023,
    1024,
    1025,
    1026,
    1027,
    1028,
    1029,
    1030,
    1031,
    1032,
    1033,
    1034,
    1035,
    1036,
    1037,
    1038,
    4095,
    4096,
    4097,
    8192,
    65535,
    65536,
    0x100000,
    0x5401,
    0x5402,
    0x5403,
    0x5404,
    0x5405,
    0x5409,
    0x540a,
    0x540b,
    0x540e,
    0x540f,
    0x5410,
    0x5411,
    0x5412,
    0x5413,
    0x5414,
    0x541b,
    0x5420,
    0x5421,
    0x5422,
    0x5423,
    0x5424,
    0x5425,
    0x5427,
    0x5428,
    0x5429,
    0x5437,
    0x5440,
    0x5450,
    0x5451,
    0x5452,
    0x5460,
    0x80045430,
    0x40045431,
    0x80045432,
    0x80045438,
    0x80045439,
    0x80045440,
    0x5441,
    0x8910,
    0x8912,
    0x8913,
    0x8927,
    0x80086601,
    0x40086602,
    0xc020660b,
    0x40049409,
    0x4020940d,
    0xb701,
    0xb702,
    0xb703,
    0xb704,
    0x7fffffff,
    0x80000000,
    0xffffffff,
    0x7fffffffffffffff,
    0x8000000000000000,
    0xffffffffffffffff,
    0xfffffffffffff000,
    0xffffffffffffff9c,
    0x4000,
    0x8000,
    0x10000,
    0x20000,
    0x40000,
    0x80000,
    0x80800,
    0x800,
    0x200000,
    0x400000,
    0x1000000,
    0x2000000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
    0x59616d61,
    0x53564d41,
    0xca11,
    0x4200,
    0x4201,
    0x4202,
    0x4204,
    0x4205,
    0x4206,
    0x4207,
    0x4208,
    0x4209,
    0x420a,
    0x420d,
    0x420e,
};

template <typename T, size_t n>
T Pick(Random& random, const T (&from)[n]) {
  return from[random.Below(n)];
}

bool ForkLike(int number) {
  return number == SYS_clone || number == SYS_fork || number == SYS_vfork || number == SYS_clone3;
}

// The call, in registers only: what clone(2) makes may have no stack, or ours. A new process or thread ends at once.
uint64_t Raw(int number, const uint64_t (&a)[6]) {
  register uint64_t r10 asm("r10") = a[3];
  register uint64_t r8 asm("r8") = a[4];
  register uint64_t r9 asm("r9") = a[5];
  register uint64_t ends asm("r12") = ForkLike(number);
  uint64_t result = static_cast<uint64_t>(number);
  asm volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "test %%r12, %%r12\n\t"
      "jz 1f\n"
      "0: mov $60, %%eax\n\t"
      "xor %%edi, %%edi\n\t"
      "syscall\n\t"
      "jmp 0b\n"
      "1:"
      : "+a"(result)
      : "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9), "r"(ends)
      : "rcx", "r11", "memory", "cc");
  return result;
}

class Caller {
 public:
  Caller(uint64_t seed, char* arena, const std::vector<size_t>& calls) : random_(seed), arena_(arena), calls_(calls) {}

  void Run(int count) {
    for (int i = 0; i < count; ++i) One();
  }

 private:
  void One() {
    const Call& call = kCalls[calls_[random_.Below(calls_.size())]];
    // They end a life early, or for ever: rarely.
    bool rare = call.number == SYS_exit || call.number == SYS_exit_group || call.number == SYS_rt_sigreturn ||
                call.number == SYS_reboot || call.number == SYS_pause || call.number == SYS_rt_sigsuspend;
    if (rare && !random_.OneIn(20)) return;
    used_ = random_.Below(kArena / 4) & ~7ull;
    uint64_t arguments[6];
    const char* kind = call.arguments;
    for (uint64_t& argument : arguments) {
      size_t n = strcspn(kind, ",");
      argument = n == 0 || random_.OneIn(8) ? Anything() : OfKind({kind, n});
      kind += n;
      if (*kind == ',') ++kind;
    }
    if (call.number == SYS_mmap && random_.OneIn(2)) arguments[3] |= MAP_ANONYMOUS;
    __atomic_add_fetch(&shared->made[call.number], 1, __ATOMIC_RELAXED);
    uint64_t result = Raw(call.number, arguments);
    if (result && result < -4095ull) results_[next_result_++ % 16] = result;
  }

  uint64_t Anything() {
    switch (random_.Below(8)) {
      case 0:
        return Pointer();
      case 1:
        return Fd();
      case 2:
        return Size();
      case 3:
        return random_.Next();
      case 4:
        return results_[random_.Below(16)];
      case 5:
        return 1ull << random_.Below(64);
      default:
        return Pick(random_, kIntegers);
    }
  }

  uint64_t Integer() {
    switch (random_.Below(6)) {
      case 0:
        return random_.Below(8);
      case 1:
        return results_[random_.Below(16)];
      case 2:
        return 1ull << random_.Below(32);
      case 3:
        return (1ull << random_.Below(32)) | (1ull << random_.Below(32));
      default:
        return Pick(random_, kIntegers);
    }
  }

  uint64_t Fd() {
    switch (random_.Below(12)) {
      case 0:
        return ~0ull;
      case 1:
        return results_[random_.Below(16)];
      case 2:
        return Integer();
      case 3:
        return static_cast<uint64_t>(AT_FDCWD);
      default:
        return 3 + random_.Below(40);
    }
  }

  uint64_t Size() {
    static const uint64_t kSizes[] = {
        0,          1,     4,           8,       12,         16,         24,         32,         40,
        48,         56,    64,          72,      80,         88,         96,         104,        112,
        120,        128,   144,         168,     256,        512,        1,          4095,       4096,
        4097,       65536, 1 << 20,     1 << 30, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 40, 0x7ffffffff000,
        1ull << 63, ~0ull, ~0ull - 4095};
    return random_.OneIn(3) ? random_.Below(9000) : Pick(random_, kSizes);
  }

  char* Fresh(size_t bytes) {
    if (used_ + bytes + 64 > kArena) used_ = 0;
    char* at = arena_ + used_;
    used_ += (bytes + 7) & ~7ull;
    return at;
  }

  uint64_t Address(char* p) { return reinterpret_cast<uint64_t>(p); }

  // Sixteen words, each of something that some structure could hold.
  uint64_t Structure() {
    auto* words = reinterpret_cast<uint64_t*>(Fresh(128));
    bool small = random_.OneIn(2);
    for (int i = 0; i < 16; ++i) {
      uint64_t value;
      switch (random_.Below(small ? 4 : 9)) {
        case 0:
          value = 0;
          break;
        case 1:
          value = random_.Below(64);
          break;
        case 2:
          value = Pick(random_, kIntegers);
          break;
        case 3:
          value = Fd();
          break;
        case 4:
          value = Address(arena_) + (random_.Below(kArena) & ~7ull);
          break;
        case 5:
          value = Size();
          break;
        case 6:
          value = random_.Below(64) | random_.Below(64) << 32;
          break;
        case 7:
          value = random_.Next();
          break;
        default:
          value = static_cast<uint32_t>(Fd()) | random_.Below(16) << 32;
          break;
      }
      words[i] = value;
    }
    return Address(reinterpret_cast<char*>(words));
  }

  uint64_t Pointer() {
    switch (random_.Below(24)) {
      case 0:
        return 0;
      case 1:
        return ~0ull;
      case 2:
        return random_.Below(65536);
      case 3:
        return 0xffff800000000000 + random_.Below(1 << 20);
      case 4:
        return 0x7ffffffff000 - random_.Below(8192);
      case 5:
        return 0x0000800000000000 + random_.Below(4096);
      case 6:
        return Address(arena_) + kArena - random_.Below(64);  // runs into what is not mapped
      case 7:
        return Address(arena_) + kArena + random_.Below(4096);  // not mapped
      case 8:
        return Address(arena_) - 4096 + random_.Below(4096);  // read-only
      case 9:
        return reinterpret_cast<uint64_t>(&kCalls) + random_.Below(4096);
      case 10:
        return results_[random_.Below(16)] + random_.Below(64);
      case 11:
        return (Address(arena_) & ~4095ull) + (random_.Below(kArena / 4096) << 12);
      case 12:
        return Address(arena_) + random_.Below(kArena);
      default:
        return Structure();
    }
  }

  uint64_t Path() {
    if (random_.OneIn(12)) return Pointer();
    const char* text = Pick(random_, kPaths);
    size_t n = strlen(text);
    char* at = Fresh(n + 1);
    memcpy(at, text, n + 1);
    if (random_.OneIn(20)) at[random_.Below(n + 1)] = static_cast<char>(random_.Next());
    return Address(at);
  }

  uint64_t Time() {
    auto* words = reinterpret_cast<int64_t*>(Fresh(32));
    for (int i = 0; i < 4; i += 2) {
      words[i] = random_.OneIn(8) ? static_cast<int64_t>(Pick(random_, kIntegers)) : 0;
      words[i + 1] =
          random_.OneIn(8) ? static_cast<int64_t>(random_.Next()) : static_cast<int64_t>(random_.Below(2'000'000));
    }
    return Address(reinterpret_cast<char*>(words));
  }

  uint64_t SocketAddress() {
    char* at = Fresh(128);
    for (int i = 0; i < 128; ++i) at[i] = static_cast<char>(random_.OneIn(3) ? random_.Next() : 0);
    static const uint16_t kFamilies[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_UNSPEC, AF_PACKET, 255};
    uint16_t family = Pick(random_, kFamilies);
    memcpy(at, &family, 2);
    if (family == AF_UNIX) strcpy(at + 2, random_.OneIn(2) ? "socket" : "dir/s");
    if (family == AF_INET) memcpy(at + 2, "\x30\x39\x7f\0\0\1", 6);
    return Address(at);
  }

  uint64_t Vector(bool poll) {
    auto* words = reinterpret_cast<uint64_t*>(Fresh(16 * 8));
    for (int i = 0; i < 16; ++i) {
      if (poll) {
        words[i] = static_cast<uint32_t>(Fd()) | random_.Below(0x4000) << 32;
      } else {
        words[i] = i % 2 ? random_.Below(random_.OneIn(16) ? ~0ull : 5000) : Pointer();
      }
    }
    return Address(reinterpret_cast<char*>(words));
  }

  uint64_t OfKind(std::string_view kind) {
    if (kind == "fd" || kind == "dirfd") return Fd();
    if (kind == "path" || kind == "str") return Path();
    if (kind == "size") return Size();
    if (kind == "timespec" || kind == "timeval") return Time();
    if (kind == "sockaddr") return SocketAddress();
    if (kind == "iovec") return Vector(false);
    if (kind == "pollfds") return Vector(true);
    if (kind == "signal") return random_.Below(66);
    if (kind == "clock") return random_.OneIn(4) ? Integer() : random_.Below(12);
    if (kind == "prot") return random_.Below(8);
    if (kind == "mmap_flags")
      return (1 + random_.Below(3)) | (random_.OneIn(2) ? MAP_ANONYMOUS : 0) | (random_.OneIn(8) ? Integer() : 0);
    if (kind == "clone_flags")
      return random_.OneIn(4) ? random_.Next() : (1ull << random_.Below(34)) | (1ull << random_.Below(34));
    if (kind == "int" || kind == "uint" || kind == "hex" || kind == "oct" || kind.ends_with("flags") ||
        kind == "mode" || kind == "access" || kind.starts_with("sock_") || kind == "whence" || kind == "sighow" ||
        kind == "ioctl" || kind == "futex_op" || kind == "fcntl")
      return Integer();
    return Pointer();
  }

  Random random_;
  char* const arena_;
  const std::vector<size_t>& calls_;
  size_t used_ = 0;
  uint64_t results_[16] = {};
  unsigned next_result_ = 0;
};

// Descriptors of every sort, from 3 up.
void OpenThings() {
  for (const char* path : {"a", "b", "dir/c"}) open(path, O_RDWR | O_CREAT, 0644);
  for (const char* path : {"/dev/null", "/dev/zero", "/dev/ptmx", "fifo"}) open(path, O_RDWR | O_NONBLOCK | O_NOCTTY);
  for (const char* path : {"dir", "/", "/proc/self", "/proc/self/ns/mnt"}) open(path, O_RDONLY);
  open("a", O_PATH);
  int pair[2];
  for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, pair);
  if (pipe2(pair, O_NONBLOCK) == 0) fcntl(pair[1], F_SETPIPE_SZ, 4096);
  socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
  socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 0);
  for (int type : {SOCK_RAW, SOCK_DGRAM}) socket(AF_PACKET, type | SOCK_NONBLOCK, htons(0x0003));
  int epoll = epoll_create1(0);
  epoll_event event = {.events = EPOLLIN, .data = {.u64 = 1}};
  epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &event);
  eventfd(3, EFD_NONBLOCK);
  timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  int inotify = inotify_init1(IN_NONBLOCK);
  inotify_add_watch(inotify, ".", IN_ALL_EVENTS);
  sigset_t signals;
  sigfillset(&signals);
  signalfd(-1, &signals, SFD_NONBLOCK);
  memfd_create("fuzz", MFD_ALLOW_SEALING);
  syscall(SYS_pidfd_open, getpid(), 0);
  char ring[120] = {};
  syscall(SYS_io_uring_setup, 8, ring);
  syscall(SYS_fsopen, "tmpfs", 0);
}

void Ignore(int) {}

struct ThreadStart {
  uint64_t seed;
  char* arena;
  const std::vector<size_t>* calls;
};

void* ThreadMain(void* argument) {
  auto* start = static_cast<ThreadStart*>(argument);
  Caller(start->seed, start->arena, *start->calls).Run(kCallsPerThread);
  return nullptr;
}

// A small root of its own, with a /dev and a /proc of its own: what a life does to files ends with it.
void PrivateRoot() {
  auto must = [](long result, const char* what) {
    if (result >= 0) return;
    __atomic_add_fetch(&shared->stillborn, 1, __ATOMIC_RELAXED);
    Fail(std::string("the root of a process: ") + what);
  };
  must(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "mount / as private");
  must(mount("fuzz", "/tmp", "tmpfs", 0, "size=8m"), "mount of the root");
  must(chdir("/tmp"), "chdir");
  for (const char* directory : {"proc", "dev", "dev/pts", "dev/shm", "sys", "tmp", "etc", "old", "home"})
    must(mkdir(directory, 0755), directory);
  must(chmod("tmp", 01777), "chmod");
  const struct {
    const char* path;
    unsigned major, minor;
  } devices[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/tty", 5, 0}};
  for (const auto& device : devices) {
    must(mknod(device.path, S_IFCHR | 0666, makedev(device.major, device.minor)), device.path);
    must(chmod(device.path, 0666), device.path);
  }
  must(mount("devpts", "dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620"), "mount of devpts");
  must(symlink("pts/ptmx", "dev/ptmx"), "dev/ptmx");
  must(mount("proc", "proc", "proc", 0, nullptr), "mount of proc");
  must(mount("sysfs", "sys", "sysfs", 0, nullptr), "mount of sysfs");
  int passwd = open("etc/passwd", O_WRONLY | O_CREAT, 0644);
  must(write(passwd, "root:x:0:0:root:/root:/bin/sh\n", 30), "write to etc/passwd");
  close(passwd);
  must(syscall(SYS_pivot_root, ".", "old"), "pivot_root");
  must(umount2("/old", MNT_DETACH), "umount of the old root");
  must(chmod("/home", 0777), "chmod");
  must(chdir("/home"), "chdir");
}

// The life of process `index`, in its namespaces.
[[noreturn]] void Life(uint64_t seed, uint64_t index, const std::vector<size_t>& allowed) {
  Random random(seed * 1'000'003 + index);
  PrivateRoot();
  setsid();
  mkdir("dir", 0777);
  mkdir("mnt", 0777);
  mkfifo("fifo", 0666);
  if (symlink("c", "dir/link") != 0 || symlink("loop", "loop") != 0) Fail("symlink");
  int null = open("/dev/null", O_RDWR);
  if (null < 0) Fail("/dev/null");
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  close(null);
  const rlimit files = {256, 256}, space = {768 << 20, 768 << 20}, size = {32 << 20, 32 << 20}, processes = {200, 200};
  setrlimit(RLIMIT_NOFILE, &files);
  setrlimit(RLIMIT_FSIZE, &size);
  setrlimit(RLIMIT_NPROC, &processes);
  OpenThings();
  char* arena =
      static_cast<char*>(mmap(nullptr, kArena + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (arena == MAP_FAILED) _exit(1);
  mprotect(arena, 4096, PROT_READ);
  arena += 4096;
  munmap(arena + kArena, 4096);
  setrlimit(RLIMIT_AS, &space);
  // No call blocks for long: the signal interrupts it. One that can't be interrupted ends with the process.
  struct sigaction action = {};
  action.sa_handler = Ignore;
  sigaction(SIGALRM, &action, nullptr);
  const itimerval tick = {{0, 20'000}, {0, 20'000}};
  setitimer(ITIMER_REAL, &tick, nullptr);
  if (random.OneIn(4)) {
    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) _exit(1);
  }
  // Every other process keeps to a few calls, which then meet one another's traces.
  std::vector<size_t> some;
  if (random.OneIn(2)) {
    for (int i = 0; i < 14; ++i) some.push_back(allowed[random.Below(allowed.size())]);
  }
  const std::vector<size_t>& calls = some.empty() ? allowed : some;
  pthread_t thread;
  std::vector<ThreadStart> starts(random.OneIn(2) ? random.Below(kMaxThreads + 1) : 0);
  for (ThreadStart& start : starts) {
    start = {random.Next(), arena, &calls};
    pthread_create(&thread, nullptr, ThreadMain, &start);
  }
  Caller(random.Next(), arena, calls).Run(kCallsPerThread);
  _exit(0);
}

// Waits for a child until `deadline`; false if it lives on.
bool Reaped(pid_t child, int pidfd, int64_t deadline) {
  for (;;) {
    int status = 0;
    pid_t got = waitpid(child, &status, WNOHANG);
    // One that asked to be traced stops for us.
    if (got == child && !WIFSTOPPED(status) && !WIFCONTINUED(status)) return true;
    if (got < 0 && errno == ECHILD) return true;
    int64_t left = deadline - Now();
    if (left <= 0) return false;
    pollfd p = {.fd = pidfd, .events = POLLIN};
    poll(&p, 1, static_cast<int>(left / 1'000'000) + 1);
  }
}

struct Worker {
  pid_t pid = -1;
  int pidfd = -1;
  uint64_t index = 0;
  int64_t born = 0;
};

// Ends a worker; fails the run if it can't be ended.
void End(Worker& worker) {
  if (worker.pid < 0) return;
  if (!Reaped(worker.pid, worker.pidfd, worker.born + kLifeNs)) {
    kill(worker.pid, SIGKILL);
    ++shared->killed;
    if (!Reaped(worker.pid, worker.pidfd, Now() + kHangNs)) {
      errno = ETIMEDOUT;
      Fail("process " + std::to_string(worker.index) + " does not end after SIGKILL");
    }
  }
  close(worker.pidfd);
  worker.pid = -1;
  if (__atomic_load_n(&shared->stillborn, __ATOMIC_RELAXED) != 0) exit(1);  // it said why
}

// Ends the process with a line that names the step, unless it went well.
void Step(const char* what, bool fine) {
  if (fine) return;
  fprintf(stderr, "random_calls: ordinary work: %s: %s\n", what, strerror(errno));
  _exit(1);
}

// Ordinary work still works, in bounded time.
void OrdinaryWork() {
  pid_t child = fork();
  if (child == 0) {
    alarm(static_cast<unsigned>(kHangNs / 1'000'000'000));
    int ends[2];
    char text[8] = {};
    Step("pipe", pipe(ends) == 0);
    Step("write to a pipe", write(ends[1], "work", 4) == 4);
    Step("read of a pipe", read(ends[0], text, 4) == 4 && !memcmp(text, "work", 4));
    int fd = open("/tmp/work", O_RDWR | O_CREAT | O_TRUNC, 0600);
    Step("open of a file", fd >= 0);
    Step("write to a file", write(fd, "more", 4) == 4);
    Step("read of a file", pread(fd, text, 4, 0) == 4 && !memcmp(text, "more", 4));
    void* memory = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Step("mmap", memory != MAP_FAILED);
    memset(memory, 1, 1 << 20);
    pid_t grandchild = fork();
    if (grandchild == 0) _exit(7);
    Step("fork", grandchild > 0);
    int status = 0;
    Step("waitpid", waitpid(grandchild, &status, 0) == grandchild);
    errno = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) Step(("status " + std::to_string(status)).c_str(), false);
    _exit(0);
  }
  int status = 0;
  if (child < 0) Fail("fork for ordinary work");
  if (waitpid(child, &status, 0) != child) Fail("waitpid for ordinary work");
  errno = 0;
  if (status != 0) Fail("ordinary work fails with status " + std::to_string(status));
}

// Every page of the own memory is there, whoever looked at it or not.
void TouchOwnMemory() {
  FILE* maps = fopen("/proc/self/maps", "re");
  unsigned long start, end;
  char mode[8];
  while (maps && fscanf(maps, "%lx-%lx %7s%*[^\n]", &start, &end, mode) == 3) {
    for (unsigned long page = start; mode[1] == 'w' && page < end; page += 4096)
      (void)*reinterpret_cast<volatile char*>(page);
  }
  if (maps) fclose(maps);
}

// Whatever the sentry keeps of ended processes for the next ones, up to a bound (systrap's stubs), it has as many of
// afterwards: more processes than that live at once, and end.
void FillPools() {
  constexpr int kProcesses = 24;
  int gate[2];
  if (pipe(gate) != 0) Fail("pipe");
  pid_t children[kProcesses];
  for (pid_t& child : children) {
    child = fork();
    if (child < 0) Fail("fork");
    if (child == 0) {
      close(gate[1]);
      char end;
      _exit(read(gate[0], &end, 1) == 0 ? 0 : 1);
    }
  }
  close(gate[0]);
  close(gate[1]);
  for (pid_t child : children) {
    int status = 0;
    if (waitpid(child, &status, 0) != child || status != 0) Fail("a process that only waits");
  }
}

void Rest() {
  FillPools();
  OrdinaryWork();
  TouchOwnMemory();
  printf("random_calls: at rest\n");
  fflush(stdout);
  char go;
  if (read(STDIN_FILENO, &go, 1) != 1) Fail("stdin");
}

}  // namespace

int main(int argc, char** argv) {
  int64_t seconds = 10;
  uint64_t seed = static_cast<uint64_t>(time(nullptr));
  int64_t only = -1;
  bool in_sandbox = false, rests = false;
  std::string names;
  for (int i = 1; i + 1 < argc; i += 2) {
    std::string option = argv[i];
    if (option == "--seconds") seconds = atoll(argv[i + 1]);
    if (option == "--seed") seed = strtoull(argv[i + 1], nullptr, 0);
    if (option == "--in-sandbox") in_sandbox = !strcmp(argv[i + 1], "yes");
    if (option == "--rests") rests = !strcmp(argv[i + 1], "yes");
    if (option == "--only") only = atoll(argv[i + 1]);
    if (option == "--calls") names = std::string(",") + argv[i + 1] + ",";
  }
  std::vector<size_t> allowed;
  for (size_t i = 0; i < kCallCount; ++i) {
    if (names.empty() || names.find("," + std::string(kCalls[i].name) + ",") != std::string::npos) allowed.push_back(i);
  }
  if (allowed.empty()) {
    errno = EINVAL;
    Fail("--calls names no system call");
  }
  if (!in_sandbox) {
    errno = EPERM;
    Fail("it would do harm on a host: run it in a sandbox only, with --in-sandbox yes (see tests/fuzz/README.md)");
  }
  printf("random_calls: seed %llu, %lld s\n", static_cast<unsigned long long>(seed), static_cast<long long>(seconds));
  fflush(stdout);
  // Far from everything else, where hardly a stray pointer leads.
  shared = static_cast<Shared*>(mmap(reinterpret_cast<void*>(0x123456780000), sizeof(Shared), PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
  if (shared == MAP_FAILED) Fail("mmap");

  // A process that changes its program's attributes has the overlay copy it, for good.
  if (rests && chmod("/proc/self/exe", 0755) != 0) Fail("chmod");

  Worker workers[kWorkers];
  int64_t deadline = Now() + seconds * 1'000'000'000;
  uint64_t index = only >= 0 ? static_cast<uint64_t>(only) : 0;
  int64_t next_work = 0;
  while (Now() < deadline) {
    for (Worker& worker : workers) {
      End(worker);
      worker.index = only >= 0 ? static_cast<uint64_t>(only) : index++;
      worker.born = Now();
      pid_t pid =
          static_cast<pid_t>(syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | SIGCHLD,
                                     nullptr, nullptr, nullptr, nullptr));
      if (pid == 0) Life(seed, worker.index, allowed);
      if (pid < 0) Fail("clone");
      worker.pid = pid;
      worker.pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
      ++shared->processes;
    }
    if (rests && shared->processes == kFirstProcesses) {
      for (Worker& worker : workers) End(worker);
      Rest();
    }
    if (Now() > next_work) {
      OrdinaryWork();
      next_work = Now() + 1'000'000'000;
    }
  }
  for (Worker& worker : workers) End(worker);
  if (rests) Rest();

  uint64_t made = 0, missed = 0;
  std::string never;
  for (size_t i : allowed) {
    made += shared->made[kCalls[i].number];
    if (shared->made[kCalls[i].number] == 0) {
      ++missed;
      never += std::string(" ") + kCalls[i].name;
    }
  }
  printf("random_calls: %llu calls of %zu kinds in %llu processes, %llu of them killed; never made:%s\n",
         static_cast<unsigned long long>(made), allowed.size() - missed,
         static_cast<unsigned long long>(shared->processes), static_cast<unsigned long long>(shared->killed),
         never.empty() ? " none" : never.c_str());
  // A run of useful length makes them all.
  return seconds >= 20 && only < 0 && missed > 5 ? 1 : 0;
}
