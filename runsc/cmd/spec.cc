// SPDX-License-Identifier: Apache-2.0
// runsc spec
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"
#include "runsc/spec/parse.h"

namespace runsc {

absl::StatusOr<int> RunSpec(CommandContext& context) {
  const std::string& cwd = context.flags.Get("cwd");
  if (cwd.empty() || cwd[0] != '/') {
    return absl::InvalidArgumentError(absl::StrCat("--cwd: must be an absolute path, is \"", cwd, "\""));
  }
  std::string path = context.flags.Get("bundle") + "/config.json";
  base::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd.ok()) {
    std::string what = errno == EEXIST ? "exists: remove it first" : ErrnoText(errno);
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
  }
  std::vector<std::string> args = context.args().empty() ? std::vector<std::string>{"sh"} : context.args();
  std::string text = spec::DefaultSpecJson(args, cwd, context.flags.GetBool("rootless"));
  if (write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    absl::Status status = absl::InternalError(absl::StrCat(path, ": ", ErrnoText(errno)));
    unlink(path.c_str());
    return status;
  }
  return 0;
}

}  // namespace runsc
