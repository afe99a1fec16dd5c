// SPDX-License-Identifier: Apache-2.0
// What leaves a container by the control server: its changes as an archive, connections to its ports.
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runsc/errors.h"
#include "sentry/boot/container.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/socket/inet/port_forward.h"
#include "sentry/socket/inet/stacks.h"

namespace sentry {
namespace {

using runsc::control::ContainerState;

// Collects what is small, and sends it.
class SocketSink {
 public:
  explicit SocketSink(base::UniqueFd socket) : socket_(std::move(socket)) {}
  Result<void> Put(const void* data, size_t length) {
    pending_.append(static_cast<const char*>(data), length);
    return pending_.size() < kBuffered ? OkResult() : Flush();
  }
  Result<void> Flush() {
    for (size_t done = 0; done < pending_.size();) {
      iovec part = {pending_.data() + done, pending_.size() - done};
      msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
      const ssize_t n = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        failed_ = true;
        // SO_SNDTIMEO.
        return Errno(n < 0 && errno != EAGAIN ? errno : ETIMEDOUT);
      }
      done += static_cast<size_t>(n);
    }
    pending_.clear();
    return OkResult();
  }
  bool failed() const { return failed_; }

 private:
  static constexpr size_t kBuffered = 64 << 10;
  base::UniqueFd socket_;
  std::string pending_;
  bool failed_ = false;
};

}  // namespace

absl::Status Container::ExportUpper(bool oci_whiteouts, base::UniqueFd out) {
  if (State().state == ContainerState::kStopped) return absl::FailedPreconditionError("container not running");
  if (!tree_.overlay) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the root has no upper layer (--overlay2=none): what the container wrote is in ", spec_.root_path));
  }
  SocketSink sink(std::move(out));
  std::string at;
  auto done = fs::WriteUpperTar(
      *tree_.overlay, oci_whiteouts ? fs::WhiteoutForm::kOci : fs::WhiteoutForm::kOverlay,
      [&](const void* data, size_t length) { return sink.Put(data, length); }, &at);
  if (done.ok()) done = sink.Flush();
  if (done.ok()) return absl::OkStatus();
  const std::string why = runsc::ErrnoText(done.error().number());
  if (sink.failed()) return absl::UnavailableError(absl::StrCat("nobody reads the archive: ", why));
  return absl::InternalError(absl::StrCat("reading /", at, ": ", why));
}

absl::Status Container::ForwardPort(uint16_t port, base::UniqueFd connection) {
  const ContainerState state = State().state;
  if (state == ContainerState::kCreated || state == ContainerState::kStopped)
    return absl::FailedPreconditionError("container not running");
  // All containers of a sandbox are in its first network namespace.
  const RefPtr<kernel::NetNamespace> first = kernel::Kernel::Get().NewNamespaces(nullptr)->net;
  auto done =
      socket::ForwardPort(socket::StackOf(first->inode_number(), first->is_first()), port, std::move(connection));
  if (done.ok()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("port ", port, ": ", runsc::ErrnoText(done.error().number())));
}

}  // namespace sentry
