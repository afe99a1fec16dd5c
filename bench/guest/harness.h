// SPDX-License-Identifier: Apache-2.0
// Measures one operation: runs it in batches and keeps the time of each. Not thread-safe.
#ifndef BENCH_GUEST_HARNESS_H_
#define BENCH_GUEST_HARNESS_H_

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace bench {

// Ends the program with status 1 and one line that names the operation, unless `ok`: a measured program that did not do
// its work counts as failed, not as fast.
#define BENCH_CHECK(ok, what)                                                        \
  do {                                                                               \
    if (!(ok)) {                                                                     \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, what, strerror(errno)); \
      _exit(1);                                                                      \
    }                                                                                \
  } while (false)

inline int64_t NowNs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * int64_t{1'000'000'000} + t.tv_nsec;
}

struct Budget {
  int64_t total_ns = 300'000'000;  // for all batches of one operation
  int64_t batch_ns = 1'000'000;    // the least time of a batch: the clock's own cost must not show
  uint64_t iterations = 0;         // not 0: one batch of so many instead
};

class Measurement {
 public:
  Measurement(const Budget& budget, std::string directory) : budget_(budget), directory_(std::move(directory)) {}

  // A directory of the root file system, and one on a tmpfs, for files of the operation. The operation cleans up.
  const std::string& directory() const { return directory_; }

  // `batch(n)` does the operation n times. Called again and again until the budget is used up.
  void Run(const std::function<void(uint64_t)>& batch);
  // The same with what is not counted done before each batch: one that uses things up.
  void Run(const std::function<void(uint64_t)>& prepare, const std::function<void(uint64_t)>& batch, uint64_t most);

  // Nanoseconds per operation, one value a batch.
  std::vector<double>& samples() { return samples_; }
  uint64_t iterations() const { return iterations_; }

 private:
  double Time(uint64_t n, const std::function<void(uint64_t)>& prepare, const std::function<void(uint64_t)>& batch);

  const Budget budget_;
  const std::string directory_;
  std::vector<double> samples_;
  uint64_t iterations_ = 0;
};

struct Operation {
  const char* name;
  const char* what;
  void (*run)(Measurement&);
};

std::span<const Operation> CallOperations();
std::span<const Operation> FileOperations();
std::span<const Operation> MemoryOperations();
std::span<const Operation> MessageOperations();
std::span<const Operation> ProcessOperations();

// guest time [--root DIR] -- COMMAND ARG...: runs a command and prints how long it took; see main.cc.
int TimeCommand(int argc, char** argv);

}  // namespace bench

#endif  // BENCH_GUEST_HARNESS_H_
