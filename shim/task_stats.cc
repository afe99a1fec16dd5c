// SPDX-License-Identifier: Apache-2.0
// Numbers of a container: what its cgroup counts on the host, and what the sandbox counts where there is no cgroup.
#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runsc/container/store.h"
#include "runsc/control/client.h"
#include "runsc/errors.h"
#include "runsc/spec/spec.h"
#include "shim/proto/metrics.pb.h"
#include "shim/task.h"

namespace shim {
namespace {

std::string ReadFile(const std::string& path) {
  base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[16384];
  ssize_t n = fd.ok() ? read(fd.get(), text, sizeof text) : -1;
  return n > 0 ? std::string(text, n) : "";
}

// The number in a file that holds one; "max" is none.
bool ReadNumber(const std::string& path, uint64_t* out) { return absl::SimpleAtoi(ReadFile(path), out); }

// The number behind `key` in a file of "key number" lines.
bool ReadKey(const std::string& path, absl::string_view key, uint64_t* out) {
  const std::string text = ReadFile(path);
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    if (words.size() == 2 && words[0] == key) return absl::SimpleAtoi(words[1], out);
  }
  return false;
}

struct Numbers {
  uint64_t cpu_ns = 0;
  uint64_t memory = 0, memory_limit = 0, memory_max = 0, inactive_file = 0, cache = 0;
};

// Of one cgroup directory, v1 or v2: whatever files are there.
void ReadCgroup(const std::string& path, Numbers* n) {
  uint64_t value;
  if (ReadNumber(path + "/cpuacct.usage", &value)) n->cpu_ns = value;
  if (ReadKey(path + "/cpu.stat", "usage_usec", &value)) n->cpu_ns = value * 1000;
  if (ReadNumber(path + "/memory.usage_in_bytes", &value) || ReadNumber(path + "/memory.current", &value))
    n->memory = value;
  if (ReadNumber(path + "/memory.limit_in_bytes", &value) || ReadNumber(path + "/memory.max", &value))
    n->memory_limit = value;
  if (ReadNumber(path + "/memory.max_usage_in_bytes", &value) || ReadNumber(path + "/memory.peak", &value))
    n->memory_max = value;
  if (ReadKey(path + "/memory.stat", "total_inactive_file", &value) ||
      ReadKey(path + "/memory.stat", "inactive_file", &value))
    n->inactive_file = value;
  if (ReadKey(path + "/memory.stat", "total_cache", &value)) n->cache = value;
}

}  // namespace

absl::StatusOr<std::string> Task::Stats() {
  auto record = VALUE_OR_RETURN(runsc::ContainerStore(runtime_.root()).Load(id_));
  auto client = VALUE_OR_RETURN(runsc::control::Client::Connect(runtime_.StateDirectory(id_), id_));
  auto inside = VALUE_OR_RETURN(client.GetStats());
  Numbers numbers;
  // A pod's cgroup on the host is that of all its containers.
  if (runsc::spec::PodOf(record.annotations).role == runsc::spec::PodRole::kNone) {
    for (const std::string& path : record.cgroup_paths) ReadCgroup(path, &numbers);
  }
  pb::Metrics metrics;
  // Guests' tasks, not the sandbox's.
  metrics.mutable_pids()->set_current(inside.pids);
  auto* usage = metrics.mutable_cpu()->mutable_usage();
  usage->set_total(numbers.cpu_ns != 0 ? numbers.cpu_ns : inside.cpu_ns);
  usage->set_user(usage->total());
  metrics.mutable_cpu()->mutable_throttling();
  auto* memory = metrics.mutable_memory();
  memory->set_cache(numbers.cache);
  memory->set_total_cache(numbers.cache);
  memory->set_total_inactive_file(numbers.inactive_file);
  memory->mutable_usage()->set_usage(numbers.memory != 0 ? numbers.memory : inside.memory_bytes);
  memory->mutable_usage()->set_max(numbers.memory_max);
  memory->mutable_usage()->set_limit(numbers.memory_limit != 0 ? numbers.memory_limit : inside.memory_limit_bytes);
  memory->set_rss(inside.memory_bytes);
  memory->set_total_rss(inside.memory_bytes);
  return metrics.SerializeAsString();
}

}  // namespace shim
