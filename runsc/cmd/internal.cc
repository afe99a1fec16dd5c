// SPDX-License-Identifier: Apache-2.0
// runsc boot and runsc gofer: take over the descriptors of boot_args.h and hand them to the sentry and the gofer.
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "runsc/boot_args.h"
#include "runsc/cmd/command.h"
#include "runsc/cmd/entry_points.h"
#include "runsc/errors.h"
#include "runsc/spec/parse.h"

namespace runsc {
namespace {

using enum FlagType;

constexpr FlagDef kInternalFlags[] = {
    {"id", "", kString, "", "container"},
    {"bundle", "", kString, "", "its bundle"},
    {"gofer-fds", "", kInteger, "0", "served trees"},
    {"preserved-fds", "", kInteger, "0", "descriptors passed on beside the standard streams"},
    {"terminal", "", kBool, "false", "the container has a terminal"},
    {"die-with-parent", "", kBool, "false", "PDEATHSIG is set"},
    {"do", "", kBool, "false", "runsc do"},
    {"cli-start-ns", "", kInteger, "0", "when the CLI started"},
};

// Takes `number` over if it is open. From here on it is closed at exec.
base::UniqueFd Adopt(int number) {
  if (fcntl(number, F_SETFD, FD_CLOEXEC) != 0) return base::UniqueFd();
  return base::UniqueFd(number);
}

absl::StatusOr<std::string> ReadSpecFd() {
  base::UniqueFd fd = Adopt(kSpecFd);
  if (!fd.ok()) return absl::FailedPreconditionError("internal command: it is started by run, create and do");
  std::string text;
  char buffer[16384];
  while (true) {
    ssize_t n = pread(fd.get(), buffer, sizeof buffer, text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::InternalError(absl::StrCat("reading the spec: ", ErrnoText(errno)));
    if (n == 0) return text;
    text.append(buffer, n);
  }
}

int StartLogging(const char* process, const Config& config) {
  int log_fd = fcntl(kLogFd, F_SETFD, FD_CLOEXEC) == 0 ? kLogFd : -1;
  if (log_fd < 0 && config.also_log_to_stderr) log_fd = STDERR_FILENO;
  base::LogLevel level = log_fd < 0     ? base::LogLevel::kWarning
                         : config.debug ? base::LogLevel::kDebug
                                        : base::LogLevel::kInfo;
  base::InitLogging(process, log_fd, level);
  return log_fd;
}

absl::StatusOr<spec::Spec> LoadDonatedSpec(const CommandContext& context, std::vector<base::UniqueFd>* gofer_fds) {
  std::string text = VALUE_OR_RETURN(ReadSpecFd());
  auto spec = VALUE_OR_RETURN(spec::ParseSpec(text, context.flags.Get("bundle"), nullptr));
  size_t trees = spec::GoferMounts(spec).size();
  if (static_cast<int64_t>(trees) != context.flags.GetInteger("gofer-fds")) {
    return absl::InternalError("the number of donated gofer sockets does not fit the spec");
  }
  for (size_t i = 0; i < trees; ++i) gofer_fds->push_back(Adopt(kFirstGoferFd + static_cast<int>(i)));
  return spec;
}

UpperLayer UpperOf(const Config& config) {
  if (!config.overlay_root) return UpperLayer::kNone;
  return config.overlay_medium[0] == '/' ? UpperLayer::kFile : UpperLayer::kMemory;
}

}  // namespace

std::span<const FlagDef> InternalFlags() { return kInternalFlags; }

absl::StatusOr<int> RunBoot(CommandContext& context) {
  BootArgs args;
  args.container_id = context.flags.Get("id");
  prctl(PR_SET_NAME, "runsc-sandbox");
  args.report_fd = Adopt(kReportFd);
  args.log_fd = StartLogging("sentry", context.config);
  auto spec = LoadDonatedSpec(context, &args.gofer_fds);
  if (!spec.ok()) {
    if (args.report_fd.ok()) ReportFailure(std::move(args.report_fd), std::string(spec.status().message()));
    return spec.status();
  }
  args.bundle = context.flags.Get("bundle");
  args.config = context.config;
  args.spec = *std::move(spec);
  args.control_fd = Adopt(kControlFd);
  args.exit_status_fd = Adopt(kExitStatusFd);
  args.terminal = context.flags.GetBool("terminal");
  for (int i = 0; i < (args.terminal ? 1 : 3); ++i) args.stdio.push_back(Adopt(kStdioFd + i));
  const int preserved = static_cast<int>(context.flags.GetInteger("preserved-fds"));
  const int first_preserved = kFirstGoferFd + static_cast<int>(args.gofer_fds.size());
  for (int i = 0; i < preserved; ++i) args.stdio.push_back(Adopt(first_preserved + i));
  args.upper = UpperOf(context.config);
  args.upper_on_all_mounts = context.config.overlay_all;
  args.upper_dir_fd = Adopt(kUpperDirFd);
  args.die_with_parent = context.flags.GetBool("die-with-parent");
  args.is_do = context.flags.GetBool("do");
  args.cli_start_ns = context.flags.GetInteger("cli-start-ns");
  return BootEntryPoint(std::move(args));
}

absl::StatusOr<int> RunGoferCommand(CommandContext& context) {
  GoferArgs args;
  args.container_id = context.flags.Get("id");
  prctl(PR_SET_NAME, "runsc-gofer");
  args.report_fd = Adopt(kReportFd);
  args.log_fd = StartLogging("gofer", context.config);
  auto spec = LoadDonatedSpec(context, &args.gofer_fds);
  if (!spec.ok()) {
    if (args.report_fd.ok()) ReportFailure(std::move(args.report_fd), std::string(spec.status().message()));
    return spec.status();
  }
  args.config = context.config;
  args.spec = *std::move(spec);
  args.mounts = spec::GoferMounts(args.spec);
  args.hook_gate_fd = Adopt(kHookGateFd);
  args.exit_status_fd = Adopt(kExitStatusFd);
  return GoferEntryPoint(std::move(args));
}

}  // namespace runsc
