// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/guest/harness.h"

namespace bench {
namespace {

void* AddOne(void* argument) {
  ++*static_cast<uint64_t*>(argument);
  return nullptr;
}

void ThreadCreate(Measurement& m) {
  uint64_t ran = 0;
  m.Run([&](uint64_t n) {
    const uint64_t before = ran;
    for (uint64_t i = 0; i < n; ++i) {
      pthread_t thread;
      BENCH_CHECK(pthread_create(&thread, nullptr, AddOne, &ran) == 0 && pthread_join(thread, nullptr) == 0,
                  "pthread_create");
    }
    BENCH_CHECK(ran == before + n, "a thread did not run");
  });
}

constexpr int kStatus = 3;

void Reap(pid_t child, int want) {
  int status = -1;
  BENCH_CHECK(child > 0 && waitpid(child, &status, 0) == child, "waitpid");
  BENCH_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == want, "a child ended otherwise");
}

void Fork(Measurement& m) {
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      pid_t child = fork();
      if (child == 0) _exit(kStatus);
      Reap(child, kStatus);
    }
  });
}

// This program once more, which ends at once with kStatus (main.cc).
void ExecChild(Measurement& m, pid_t (*make)()) {
  m.Run([&](uint64_t n) {
    for (uint64_t i = 0; i < n; ++i) {
      pid_t child = make();
      if (child == 0) {
        execl("/proc/self/exe", "guest", "exit", nullptr);
        _exit(127);
      }
      Reap(child, kStatus);
    }
  });
}
void ForkExec(Measurement& m) {
  ExecChild(m, [] { return fork(); });
}

constexpr Operation kOperations[] = {
    {"thread_create", "pthread_create + join", ThreadCreate},
    {"fork", "fork + exit + wait", Fork},
    {"fork_exec", "fork + exec of a static program + wait", ForkExec},
};

}  // namespace

std::span<const Operation> ProcessOperations() { return kOperations; }

}  // namespace bench
