// SPDX-License-Identifier: Apache-2.0
// System calls that touch no file system and wait for nobody.
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/guest/harness.h"

namespace bench {
namespace {

// In line as compilers of other languages and hand-written code have it: not in the C library.
inline long InlineGetpid() {
  long result = SYS_getpid;
  asm volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
  return result;
}

void GetpidInline(Measurement& m) {
  const long pid = getpid();
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) BENCH_CHECK(InlineGetpid() == pid, "getpid");
  });
}

void GetpidLibc(Measurement& m) {
  const pid_t pid = getpid();
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) BENCH_CHECK(getpid() == pid, "getpid");
  });
}

// Nothing between guest and kernel may know the answer: what a call that must reach the kernel costs.
void Getpgid(Measurement& m) {
  const pid_t group = getpgid(0);
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) BENCH_CHECK(getpgid(0) == group, "getpgid");
  });
}

void ClockGettime(Measurement& m) {
  m.Run([&](uint64_t n) {
    timespec last = {}, now;
    for (uint64_t i = 0; i < n; ++i) {
      BENCH_CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0, "clock_gettime");
      BENCH_CHECK(now.tv_sec > last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec >= last.tv_nsec),
                  "clock_gettime went back");
      last = now;
    }
  });
}

void ReadZero(Measurement& m, size_t size) {
  int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  BENCH_CHECK(fd >= 0, "/dev/zero");
  std::string buffer(size, 'x');
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) BENCH_CHECK(read(fd, buffer.data(), size) == static_cast<ssize_t>(size), "read");
  });
  BENCH_CHECK(buffer == std::string(size, '\0'), "read left something");
  close(fd);
}
void ReadZero1(Measurement& m) { ReadZero(m, 1); }
void ReadZero64K(Measurement& m) { ReadZero(m, 64 << 10); }

void WriteNull(Measurement& m) {
  int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
  BENCH_CHECK(fd >= 0, "/dev/null");
  char byte = 1;
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) BENCH_CHECK(write(fd, &byte, 1) == 1, "write");
  });
  close(fd);
}

volatile sig_atomic_t signals_seen;
void CountSignal(int) { signals_seen = signals_seen + 1; }

void SignalSelf(Measurement& m) {
  struct sigaction action = {};
  action.sa_handler = CountSignal;
  BENCH_CHECK(sigaction(SIGUSR1, &action, nullptr) == 0, "sigaction");
  const pid_t pid = getpid(), tid = static_cast<pid_t>(syscall(SYS_gettid));
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      const sig_atomic_t before = signals_seen;
      BENCH_CHECK(syscall(SYS_tgkill, pid, tid, SIGUSR1) == 0, "tgkill");
      BENCH_CHECK(signals_seen == before + 1, "the handler did not run");
    }
  });
}

void FutexWake(Measurement& m) {
  uint32_t word = 0;
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i)
      BENCH_CHECK(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0) == 0, "futex");
  });
}

void EpollReady(Measurement& m) {
  int epoll = epoll_create1(EPOLL_CLOEXEC), event = eventfd(1, EFD_CLOEXEC);
  BENCH_CHECK(epoll >= 0 && event >= 0, "epoll_create1");
  epoll_event want = {.events = EPOLLIN, .data = {.u64 = 42}}, got;
  BENCH_CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &want) == 0, "epoll_ctl");
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      got = {};
      BENCH_CHECK(epoll_wait(epoll, &got, 1, -1) == 1 && got.data.u64 == 42, "epoll_wait");
    }
  });
  close(event);
  close(epoll);
}

constexpr Operation kOperations[] = {
    {"getpid_inline", "getpid, the instruction in the program", GetpidInline},
    {"getpid_libc", "getpid of the C library", GetpidLibc},
    {"getpgid", "getpgid(0): must reach the kernel", Getpgid},
    {"clock_gettime", "clock_gettime(CLOCK_MONOTONIC)", ClockGettime},
    {"read_zero", "read 1 byte of /dev/zero", ReadZero1},
    {"read_zero_64k", "read 64 KiB of /dev/zero", ReadZero64K},
    {"write_null", "write 1 byte to /dev/null", WriteNull},
    {"signal_self", "tgkill to oneself, handled", SignalSelf},
    {"futex_wake", "FUTEX_WAKE without a waiter", FutexWake},
    {"epoll_ready", "epoll_wait on a ready eventfd", EpollReady},
};

}  // namespace

std::span<const Operation> CallOperations() { return kOperations; }

}  // namespace bench
