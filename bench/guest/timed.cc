// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/guest/harness.h"

namespace bench {
namespace {

[[gnu::noinline]] pid_t Start(const char* root, char** command) {
  pid_t child = vfork();
  if (child == 0) {
    if (root && (chroot(root) != 0 || chdir("/") != 0)) _exit(126);
    execvp(command[0], command);
    _exit(127);
  }
  return child;
}

}  // namespace

// From a small process, by vfork; the clock starts before the fork and stops when the child was reaped.
int TimeCommand(int argc, char** argv) {
  const char* root = nullptr;
  int at = 0;
  if (at + 1 < argc && strcmp(argv[at], "--root") == 0) {
    root = argv[at + 1];
    at += 2;
  }
  if (at < argc && strcmp(argv[at], "--") == 0) ++at;
  if (at >= argc) {
    fprintf(stderr, "usage: guest time [--root DIR] -- COMMAND [ARG...]\n");
    return 2;
  }
  const int64_t start = NowNs();
  const pid_t child = Start(root, argv + at);
  BENCH_CHECK(child >= 0, "vfork");
  int status = -1;
  rusage usage = {};
  BENCH_CHECK(wait4(child, &status, 0, &usage) == child, "wait4");
  const int64_t took = NowNs() - start;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fprintf(stderr, "guest time: %s: wait status %#x\n", argv[at], static_cast<unsigned>(status));
    return 1;
  }
  // The command's own output came before it, on the same stream.
  printf("\n@time\t%lld\n", static_cast<long long>(took));
  return 0;
}

}  // namespace bench
