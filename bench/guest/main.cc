// SPDX-License-Identifier: Apache-2.0
// The program that bench/compare runs natively and in each runtime.
//   guest list                                      names and meanings of the operations, tab-separated
//   guest run [--ms N] [--iterations N] [--dir DIR] OPERATION...
//                                                   one line each: @op NAME BATCHES ITERATIONS BEST MEDIAN MEAN (ns,
//                                                   tab-separated)
//   guest time [--root DIR] -- COMMAND ARG...       @time NANOSECONDS from before the fork to after the wait; fails as
//   the command does guest exit                                      ends with status 3
// Exit status 0 only when every operation did its work.
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "bench/guest/harness.h"

namespace bench {
namespace {

std::vector<Operation> AllOperations() {
  std::vector<Operation> all;
  for (auto part : {CallOperations(), FileOperations(), MemoryOperations(), MessageOperations(), ProcessOperations()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

void Print(const char* name, Measurement& m) {
  std::vector<double>& samples = m.samples();
  std::sort(samples.begin(), samples.end());
  double mean = std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
  printf("@op\t%s\t%zu\t%llu\t%.1f\t%.1f\t%.1f\n", name, samples.size(),
         static_cast<unsigned long long>(m.iterations()), samples.front(), samples[samples.size() / 2], mean);
  fflush(stdout);
}

int RunOperations(int argc, char** argv) {
  Budget budget;
  std::string directory = "/tmp";
  int at = 0;
  for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
    std::string flag = argv[at];
    if (flag == "--ms") {
      budget.total_ns = atoll(argv[at + 1]) * 1'000'000;
    } else if (flag == "--iterations") {
      budget.iterations = strtoull(argv[at + 1], nullptr, 10);
    } else if (flag == "--dir") {
      directory = argv[at + 1];
    } else {
      fprintf(stderr, "guest: unknown flag %s\n", argv[at]);
      return 2;
    }
  }
  std::vector<Operation> all = AllOperations();
  for (; at < argc; ++at) {
    auto found =
        std::find_if(all.begin(), all.end(), [&](const Operation& o) { return strcmp(o.name, argv[at]) == 0; });
    if (found == all.end()) {
      fprintf(stderr, "guest: no operation %s: see guest list\n", argv[at]);
      return 2;
    }
    Measurement m(budget, directory);
    found->run(m);
    Print(found->name, m);
  }
  return 0;
}

int Main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "exit") _exit(3);
  if (command == "time") return TimeCommand(argc - 2, argv + 2);
  if (command == "run") return RunOperations(argc - 2, argv + 2);
  if (command == "list") {
    for (const Operation& o : AllOperations()) printf("%s\t%s\n", o.name, o.what);
    return 0;
  }
  fprintf(stderr, "usage: guest list|run|time|exit (see bench/guest/main.cc)\n");
  return 2;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::Main(argc, argv); }
