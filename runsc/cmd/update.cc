// SPDX-License-Identifier: Apache-2.0
// runsc update: new limits for a container, from --resources or one flag each.
#include <errno.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"
#include "runsc/spec/json_reader.h"
#include "runsc/spec/parse.h"

namespace runsc {
namespace {

using enum FlagType;

constexpr FlagDef kUpdateFlags[] = {
    {"resources", "r", kString, "", "file with a linux.resources object; - is stdin; the other flags are ignored"},
    {"memory", "", kString, "", "bytes; -1 = no limit"},
    {"memory-swap", "", kString, "", "bytes of memory and swap together; -1 = no limit"},
    {"memory-reservation", "", kString, "", "bytes"},
    {"cpu-period", "", kString, "", "microseconds"},
    {"cpu-quota", "", kString, "", "microseconds of each period; -1 = no limit"},
    {"cpu-share", "", kString, "", "relative weight"},
    {"cpuset-cpus", "", kString, "", "list of CPUs"},
    {"cpuset-mems", "", kString, "", "list of memory nodes"},
    {"pids-limit", "", kString, "", "number of tasks; -1 = no limit"},
    {"blkio-weight", "", kString, "", "", "block I/O is not limited"},
    {"kernel-memory", "", kString, "", "", "the guest kernel's memory is part of the sandbox's"},
    {"kernel-memory-tcp", "", kString, "", "", "the guest kernel's memory is part of the sandbox's"},
    {"cpu-rt-period", "", kString, "", "", "real-time scheduling is not limited"},
    {"cpu-rt-runtime", "", kString, "", "", "real-time scheduling is not limited"},
    {"l3-cache-schema", "", kString, "", "", "the sandbox joins no RDT groups"},
    {"mem-bw-schema", "", kString, "", "", "the sandbox joins no RDT groups"},
};

// As much as a resources object may have.
constexpr size_t kMaxInput = 1 << 20;

absl::StatusOr<std::string> ReadStdin() {
  std::string text;
  char buffer[4096];
  while (true) {
    ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::InvalidArgumentError(absl::StrCat("--resources: stdin: ", ErrnoText(errno)));
    if (n == 0) return text;
    text.append(buffer, n);
    if (text.size() > kMaxInput) return absl::InvalidArgumentError("--resources: stdin: too long");
  }
}

absl::Status ReadNumber(const ParsedFlags& flags, const char* name, int64_t lowest, std::optional<int64_t>* out) {
  if (!flags.Has(name)) return absl::OkStatus();
  int64_t value;
  if (!absl::SimpleAtoi(flags.Get(name), &value) || value < lowest) {
    return absl::InvalidArgumentError(absl::StrCat("--", name, ": must be a number, is \"", flags.Get(name), "\""));
  }
  *out = value;
  return absl::OkStatus();
}

absl::StatusOr<spec::Resources> FromFlags(const ParsedFlags& flags) {
  spec::Resources resources;
  std::optional<int64_t> shares, period;
  RETURN_IF_ERROR(ReadNumber(flags, "memory", -1, &resources.memory_limit));
  RETURN_IF_ERROR(ReadNumber(flags, "memory-swap", -1, &resources.memory_swap));
  RETURN_IF_ERROR(ReadNumber(flags, "memory-reservation", -1, &resources.memory_reservation));
  RETURN_IF_ERROR(ReadNumber(flags, "cpu-quota", -1, &resources.cpu_quota));
  RETURN_IF_ERROR(ReadNumber(flags, "pids-limit", -1, &resources.pids_limit));
  RETURN_IF_ERROR(ReadNumber(flags, "cpu-share", 1, &shares));
  RETURN_IF_ERROR(ReadNumber(flags, "cpu-period", 1, &period));
  if (shares) resources.cpu_shares = *shares;
  if (period) resources.cpu_period = *period;
  resources.cpuset_cpus = flags.Get("cpuset-cpus");
  resources.cpuset_mems = flags.Get("cpuset-mems");
  return resources;
}

absl::StatusOr<spec::Resources> ReadResourcesFlag(const std::string& path) {
  std::string text;
  if (path == "-") {
    text = VALUE_OR_RETURN(ReadStdin());
  } else {
    RETURN_IF_ERROR(spec::ReadSmallFile(path, &text));
  }
  auto resources = spec::ParseResources(text);
  if (!resources.ok()) return Annotate(resources.status(), "--resources");
  return resources;
}

}  // namespace

std::span<const FlagDef> UpdateFlags() { return kUpdateFlags; }

absl::StatusOr<int> RunUpdate(CommandContext& context) {
  const ParsedFlags& flags = context.flags;
  spec::Resources resources =
      VALUE_OR_RETURN(flags.Has("resources") ? ReadResourcesFlag(flags.Get("resources")) : FromFlags(flags));
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  RETURN_IF_ERROR(container.Update(resources));
  return 0;
}

}  // namespace runsc
