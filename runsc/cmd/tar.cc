// SPDX-License-Identifier: Apache-2.0
// runsc tar rootfs-upper: what a container changed below its root, as an archive. The sentry writes it to one end of a
// socket pair; this process alone has the file.
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

using enum FlagType;

constexpr FlagDef kTarFlags[] = {
    {"file", "", kString, "", "file to write the archive to (default: standard output)"},
    {"whiteouts", "", kString, "overlay",
     "form of removed names: overlay (devices 0:0, as overlayfs has them) or oci (.wh.NAME, as image layers)"},
};
constexpr int kStallSeconds = 30;

absl::Status WriteAll(int fd, const std::string& name, const char* data, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t n = write(fd, data + done, length - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::InternalError(absl::StrCat(name, ": ", ErrnoText(errno)));
    done += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

absl::Status Copy(int from, int to, const std::string& name) {
  std::string buffer(256 << 10, '\0');
  for (;;) {
    ssize_t n = read(from, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::InternalError(absl::StrCat("the sandbox's archive: ", ErrnoText(errno)));
    if (n == 0) return absl::OkStatus();
    RETURN_IF_ERROR(WriteAll(to, name, buffer.data(), static_cast<size_t>(n)));
  }
}

}  // namespace

std::span<const FlagDef> TarFlags() { return kTarFlags; }

absl::StatusOr<int> RunTar(CommandContext& context) {
  if (context.args()[0] != "rootfs-upper") {
    return absl::InvalidArgumentError(
        absl::StrCat("tar: the only thing to archive is rootfs-upper, not \"", context.args()[0], "\""));
  }
  const std::string& form = context.flags.Get("whiteouts");
  if (form != "overlay" && form != "oci")
    return absl::InvalidArgumentError(absl::StrCat("--whiteouts: must be overlay or oci, is \"", form, "\""));
  const std::string& path = context.flags.Get("file");
  if (path.empty() && isatty(STDOUT_FILENO))
    return absl::InvalidArgumentError("tar: standard output is a terminal: use --file=FILE");
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[1]));
  if (container.record().status == Status::kStopped) return absl::FailedPreconditionError("container not running");
  auto client = VALUE_OR_RETURN(container.Connect());
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return absl::InternalError(absl::StrCat("socketpair: ", ErrnoText(errno)));
  base::UniqueFd ours(ends[0]), theirs(ends[1]);
  const timeval stall{.tv_sec = kStallSeconds};
  setsockopt(theirs.get(), SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof stall);
  base::UniqueFd file;
  if (!path.empty()) {
    file.Reset(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file.ok()) return absl::InvalidArgumentError(absl::StrCat("--file: ", path, ": ", ErrnoText(errno)));
  }
  RETURN_IF_ERROR(client.BeginExport(form == "oci", theirs.get()));
  theirs.Reset();
  absl::Status copied =
      Copy(ours.get(), file.ok() ? file.get() : STDOUT_FILENO, path.empty() ? "standard output" : "--file: " + path);
  ours.Reset();
  absl::Status exported = client.FinishExport();
  // An archive that is not whole is none.
  if (!path.empty() && (!copied.ok() || !exported.ok())) unlink(path.c_str());
  RETURN_IF_ERROR(copied);
  RETURN_IF_ERROR(Annotate(exported, "tar"));
  return 0;
}

}  // namespace runsc
