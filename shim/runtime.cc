// SPDX-License-Identifier: Apache-2.0
#include "shim/runtime.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "runsc/errors.h"
#include "runsc/spec/json_reader.h"
#include "shim/reaper.h"

namespace shim {
namespace {

constexpr int kCallTimeoutMs = 600'000;

// The message of the first line of --log behind `start`, which is the error of the call that began there.
std::string ErrorIn(const std::string& log, off_t start) {
  base::UniqueFd fd(open(log.c_str(), O_RDONLY | O_CLOEXEC));
  char text[8192];
  ssize_t n = fd.ok() ? pread(fd.get(), text, sizeof text, start) : -1;
  std::string line(text, n > 0 ? n : 0), message;
  line = line.substr(0, line.find('\n'));
  if (!runsc::spec::ReadJsonObject(
           line, "",
           [&](runsc::spec::ObjectReader& r) {
             r.String("msg", &message);
             r.Ignore({"level", "time"});
           },
           nullptr)
           .ok()) {
    return "";
  }
  return message;
}

// The codes that engines tell errors apart by.
absl::Status ToStatus(const std::string& message) {
  if (absl::StrContains(message, "does not exist") && absl::StrContains(message, "container"))
    return absl::NotFoundError(message);
  if (absl::StrContains(message, "already exists")) return absl::AlreadyExistsError(message);
  if (absl::StrContains(message, "not running") || absl::StrContains(message, "already finished"))
    return absl::NotFoundError(message);
  return absl::UnknownError(message);
}

}  // namespace

Runtime::Runtime(RuntimeOptions options, const std::string& name_space, std::string bundle)
    : options_(std::move(options)), root_(options_.root + "/" + name_space), bundle_(std::move(bundle)) {}

absl::Status Runtime::Call(const RuntimeCall& call) const {
  const std::string log = bundle_ + "/log.json";
  SpawnOptions spawn{.argv = {options_.binary, "--root=" + root_, "--log=" + log, "--log-format=json"},
                     .fds = call.fds};
  spawn.argv.insert(spawn.argv.end(), options_.flags.begin(), options_.flags.end());
  spawn.argv.insert(spawn.argv.end(), call.arguments.begin(), call.arguments.end());
  spawn.directory = bundle_;
  base::UniqueFd input;
  if (!call.input.empty()) {
    input.Reset(memfd_create("input", MFD_CLOEXEC));
    if (!input.ok() ||
        write(input.get(), call.input.data(), call.input.size()) != static_cast<ssize_t>(call.input.size()) ||
        lseek(input.get(), 0, SEEK_SET) != 0) {
      return absl::ResourceExhaustedError("memfd");
    }
    spawn.fds.emplace_back(0, input.get());
  }
  struct stat st;
  const off_t start = stat(log.c_str(), &st) == 0 ? st.st_size : 0;
  auto pid = Reaper::Get().Spawn(spawn);
  if (!pid.ok()) return pid.status();
  auto wait_status = Reaper::Get().Wait(*pid, kCallTimeoutMs);
  if (!wait_status.ok()) {
    kill(*pid, SIGKILL);
    return runsc::Annotate(wait_status.status(), absl::StrCat(options_.binary, " ", call.arguments[0]));
  }
  if (*wait_status == 0) return absl::OkStatus();
  std::string message = ErrorIn(log, start);
  if (message.empty()) {
    message = WIFSIGNALED(*wait_status) ? absl::StrCat("was killed by signal ", WTERMSIG(*wait_status))
                                        : absl::StrCat("exit status ", WEXITSTATUS(*wait_status));
    message = absl::StrCat(options_.binary, " ", call.arguments[0], ": ", message);
  }
  LOG_INFO("%s: %s", call.arguments[0].c_str(), message.c_str());
  return ToStatus(message);
}

}  // namespace shim
