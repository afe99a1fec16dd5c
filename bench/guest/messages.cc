// SPDX-License-Identifier: Apache-2.0
// Bytes from one to the other: in one thread, and to and fro between two.
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "bench/guest/harness.h"

namespace bench {
namespace {

void PipeSame(Measurement& m) {
  int ends[2];
  BENCH_CHECK(pipe(ends) == 0, "pipe");
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      char out = static_cast<char>(i), in = 0;
      BENCH_CHECK(write(ends[1], &out, 1) == 1 && read(ends[0], &in, 1) == 1 && in == out, "pipe");
    }
  });
  close(ends[0]);
  close(ends[1]);
}

// Sends back what arrives plus one, until the other side closes.
void Echo(int in, int out) {
  unsigned char byte;
  while (read(in, &byte, 1) == 1) {
    ++byte;
    if (write(out, &byte, 1) != 1) break;
  }
}

struct EchoEnds {
  int in, out;
};
void* EchoThread(void* argument) {
  auto* ends = static_cast<EchoEnds*>(argument);
  Echo(ends->in, ends->out);
  return nullptr;
}

void RoundTrips(Measurement& m, int out, int in) {
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      unsigned char sent = static_cast<unsigned char>(i), got = 0;
      BENCH_CHECK(write(out, &sent, 1) == 1 && read(in, &got, 1) == 1, "round trip");
      BENCH_CHECK(got == static_cast<unsigned char>(sent + 1), "round trip: another byte");
    }
  });
}

void PipePingPong(Measurement& m) {
  int there[2], back[2];
  BENCH_CHECK(pipe(there) == 0 && pipe(back) == 0, "pipe");
  EchoEnds ends{there[0], back[1]};
  pthread_t thread;
  BENCH_CHECK(pthread_create(&thread, nullptr, EchoThread, &ends) == 0, "pthread_create");
  RoundTrips(m, there[1], back[0]);
  close(there[1]);
  pthread_join(thread, nullptr);
  close(there[0]);
  close(back[0]);
  close(back[1]);
}

void UnixPingPong(Measurement& m) {
  int ends[2];
  BENCH_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "socketpair");
  EchoEnds echo{ends[1], ends[1]};
  pthread_t thread;
  BENCH_CHECK(pthread_create(&thread, nullptr, EchoThread, &echo) == 0, "pthread_create");
  RoundTrips(m, ends[0], ends[0]);
  close(ends[0]);
  pthread_join(thread, nullptr);
  close(ends[1]);
}

// The same between two processes.
void PipeProcesses(Measurement& m) {
  int there[2], back[2];
  BENCH_CHECK(pipe(there) == 0 && pipe(back) == 0, "pipe");
  pid_t child = fork();
  BENCH_CHECK(child >= 0, "fork");
  if (child == 0) {
    close(there[1]);
    Echo(there[0], back[1]);
    _exit(0);
  }
  RoundTrips(m, there[1], back[0]);
  close(there[1]);
  int status = -1;
  BENCH_CHECK(waitpid(child, &status, 0) == child && status == 0, "the other process");
  close(there[0]);
  close(back[0]);
  close(back[1]);
}

struct FutexPair {
  std::atomic<uint32_t> turn{0};  // 0: ours, 1: the other's, 2: end
  static long Call(std::atomic<uint32_t>& word, int operation, uint32_t value) {
    return syscall(SYS_futex, &word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
  }
  // Waits while the word is `value`.
  uint32_t Await(uint32_t value) {
    uint32_t now;
    while ((now = turn.load()) == value) Call(turn, FUTEX_WAIT, value);
    return now;
  }
  void Give(uint32_t value) {
    turn.store(value);
    Call(turn, FUTEX_WAKE, 1);
  }
};

void* FutexThread(void* argument) {
  auto* pair = static_cast<FutexPair*>(argument);
  while (pair->Await(0) == 1) pair->Give(0);
  return nullptr;
}

void FutexPingPong(Measurement& m) {
  FutexPair pair;
  pthread_t thread;
  BENCH_CHECK(pthread_create(&thread, nullptr, FutexThread, &pair) == 0, "pthread_create");
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      pair.Give(1);
      BENCH_CHECK(pair.Await(1) == 0, "futex");
    }
  });
  pair.Give(2);
  pthread_join(thread, nullptr);
}

constexpr Operation kOperations[] = {
    {"pipe_same", "write + read of 1 byte, one thread", PipeSame},
    {"pipe_pingpong", "1 byte to another thread and back by pipes", PipePingPong},
    {"pipe_processes", "1 byte to another process and back by pipes", PipeProcesses},
    {"unix_pingpong", "1 byte to another thread and back, AF_UNIX", UnixPingPong},
    {"futex_pingpong", "the turn to another thread and back by futexes", FutexPingPong},
};

}  // namespace

std::span<const Operation> MessageOperations() { return kOperations; }

}  // namespace bench
