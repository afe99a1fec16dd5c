// SPDX-License-Identifier: Apache-2.0
// hooks.startContainer: programs of the container, as the container's user in its namespaces, before its own program
// runs (runtime-spec, POSIX-platform hooks).
#include <signal.h>
#include <sys/wait.h>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "runsc/errors.h"
#include "runsc/json_writer.h"
#include "sentry/boot/container.h"
#include "sentry/fs/tmpfs/memfd.h"
#include "sentry/kernel/core/io.h"

namespace sentry {
namespace {

constexpr int kDefaultTimeoutSeconds = 300;
constexpr int64_t kKillTimeoutNs = 5 * base::kNsPerSecond;
constexpr uint64_t kNoLimit = 1 << 20;
constexpr size_t kMaxOutput = 600;

// What the hook said, one line.
std::string OutputOf(vfs::FileDescription& file) {
  char text[kMaxOutput];
  BufferTarget target(text, sizeof text);
  auto n = file.PRead(target, 0);
  std::string line(text, n.ok() ? *n : 0);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  for (char& c : line) c = c == '\n' ? ' ' : c;
  return line.empty() ? line : ": " + line;
}

}  // namespace

absl::Status Container::RunStartHook(const runsc::spec::Hook& hook, const RefPtr<kernel::ThreadGroup>& init) {
  runsc::JsonWriter state("");
  state.BeginObject();
  state.String("ociVersion", spec_.oci_version);
  state.String("id", id_);
  state.String("status", "created");
  state.Number("pid", init->TgidIn(*options_.pid_ns));
  state.String("bundle", options_.bundle);
  if (!spec_.annotations.empty()) state.StringMap("annotations", spec_.annotations);
  state.EndObject();

  runsc::spec::Process process = spec_.process;
  process.args = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  process.env = hook.env;
  kernel::ProcessRequest request = VALUE_OR_RETURN(RequestFor(process, init));
  request.filename = hook.path;
  auto input = tmpfs::NewMemfd("state", *request.creds, {}), output = tmpfs::NewMemfd("output", *request.creds, {});
  if (!input.ok() || !output.ok()) return absl::ResourceExhaustedError("no memory for its input and output");
  BufferSource source(state.text().data(), state.text().size());
  int64_t end = 0;
  auto written = (*input)->PWrite(source, 0, &end);
  if (!written.ok() || *written != state.text().size()) return absl::ResourceExhaustedError("no memory for its input");
  for (int fd = 0; fd < 3; ++fd) (void)request.fds->Set(fd, fd == 0 ? *input : *output, false, kNoLimit).ok();
  auto started = kernel::Kernel::Get().StartProcess(request);
  if (!started.ok()) return absl::FailedPreconditionError(runsc::ErrnoText(started.error().number()));
  const int seconds = hook.timeout_seconds.value_or(kDefaultTimeoutSeconds);
  auto ended = (*started)->WaitForExit(base::MonotonicNs() + seconds * base::kNsPerSecond);
  if (!ended) {
    (void)(*started)->SendSignal(kernel::KernelSignal(SIGKILL)).ok();
    (void)(*started)->WaitForExit(base::MonotonicNs() + kKillTimeoutNs);
    return absl::DeadlineExceededError(absl::StrCat("did not end within ", seconds, " s"));
  }
  const int status = ended->ToWaitStatus();
  if (status == 0) return absl::OkStatus();
  std::string how = WIFSIGNALED(status) ? absl::StrCat("killed by signal ", WTERMSIG(status))
                                        : absl::StrCat("exit status ", WEXITSTATUS(status));
  return absl::AbortedError(absl::StrCat(how, OutputOf(**output)));
}

absl::Status Container::RunStartHooks(const RefPtr<kernel::ThreadGroup>& init) {
  const std::vector<runsc::spec::Hook>& hooks = spec_.hooks.start_container;
  for (size_t i = 0; i < hooks.size(); ++i) {
    RETURN_IF_ERROR(
        runsc::Annotate(RunStartHook(hooks[i], init), absl::StrCat("hooks.startContainer[", i, "]: ", hooks[i].path)));
  }
  return absl::OkStatus();
}

}  // namespace sentry
