// SPDX-License-Identifier: Apache-2.0
// runsc port-forward: connections to a local port, or one over an AF_UNIX socket, go on to a port inside. Each has a
// socket pair whose other end is the sentry's, so the sandbox never holds a socket of the host's network.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

using enum FlagType;

constexpr FlagDef kPortForwardFlags[] = {
    {"stream", "", kString, "", "connect to this AF_UNIX socket and forward that one connection"},
};
// The sentry takes no more at a time.
constexpr int kMaxConnections = 256;

struct Ports {
  uint16_t local = 0, remote = 0;
};

absl::StatusOr<Ports> ParsePorts(const std::string& text, bool is_stream) {
  const absl::Status wrong = absl::InvalidArgumentError(absl::StrCat(
      "port-forward: \"", text, "\": must be ", is_stream ? "PORT" : "[LOCAL:]PORT", ", numbers up to 65535"));
  const size_t colon = text.find(':');
  unsigned local = 0, remote = 0;
  if (!absl::SimpleAtoi(text.substr(colon == std::string::npos ? 0 : colon + 1), &remote)) return wrong;
  if (colon == std::string::npos) {
    local = remote;
  } else if (is_stream || !absl::SimpleAtoi(text.substr(0, colon), &local)) {
    return wrong;
  }
  if (remote < 1 || remote > UINT16_MAX || local > UINT16_MAX) return wrong;
  return Ports{static_cast<uint16_t>(local), static_cast<uint16_t>(remote)};
}

// One direction, to its end.
void Copy(int from, int to) {
  auto buffer = std::make_unique<char[]>(64 << 10);
  for (;;) {
    ssize_t n = read(from, buffer.get(), 64 << 10);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    for (ssize_t done = 0; done < n;) {
      ssize_t written = send(to, buffer.get() + done, static_cast<size_t>(n - done), MSG_NOSIGNAL);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        // Nobody takes it: whoever sends it learns by that.
        shutdown(from, SHUT_RD);
        return;
      }
      done += written;
    }
  }
  shutdown(to, SHUT_WR);
}

// Until both directions have ended.
absl::Status Forward(const Container& container, uint16_t port, base::UniqueFd outside) {
  auto client = VALUE_OR_RETURN(container.Connect());
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return absl::InternalError(absl::StrCat("socketpair: ", ErrnoText(errno)));
  base::UniqueFd inside(ends[0]), theirs(ends[1]);
  RETURN_IF_ERROR(client.ForwardPort(port, theirs.get()));
  theirs.Reset();
  std::thread out([&] { Copy(inside.get(), outside.get()); });
  Copy(outside.get(), inside.get());
  out.join();
  return absl::OkStatus();
}

absl::StatusOr<int> ForwardStream(const Container& container, uint16_t port, const std::string& path) {
  sockaddr_un address = {.sun_family = AF_UNIX};
  if (path.size() >= sizeof address.sun_path) return absl::InvalidArgumentError("--stream: the path is too long");
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  base::UniqueFd outside(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!outside.ok() || connect(outside.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return absl::UnavailableError(absl::StrCat("--stream: ", path, ": ", ErrnoText(errno)));
  RETURN_IF_ERROR(Forward(container, port, std::move(outside)));
  return 0;
}

absl::StatusOr<base::UniqueFd> Listen(uint16_t* port) {
  sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  base::UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  socklen_t length = sizeof address;
  if (!listener.ok() || setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
      bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener.get(), SOMAXCONN) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
    return absl::UnavailableError(absl::StrCat("port-forward: listening on 127.0.0.1:", *port, ": ", ErrnoText(errno)));
  *port = ntohs(address.sin_port);
  return listener;
}

}  // namespace

std::span<const FlagDef> PortForwardFlags() { return kPortForwardFlags; }

absl::StatusOr<int> RunPortForward(CommandContext& context) {
  const std::string& stream = context.flags.Get("stream");
  Ports ports = VALUE_OR_RETURN(ParsePorts(context.args()[1], !stream.empty()));
  Container container = VALUE_OR_RETURN(Container::Open(context.config, context.args()[0]));
  if (container.record().status != Status::kRunning) return absl::FailedPreconditionError("container not running");
  signal(SIGPIPE, SIG_IGN);
  if (!stream.empty()) return ForwardStream(container, ports.remote, stream);
  base::UniqueFd listener = VALUE_OR_RETURN(Listen(&ports.local));
  PrintOut(absl::StrCat("Forwarding from 127.0.0.1:", ports.local, " to port ", ports.remote, " of ",
                        container.record().id, "\n"));
  // Ends with the sandbox, or by a signal; the threads go with the process.
  base::UniqueFd ended(static_cast<int>(syscall(SYS_pidfd_open, container.record().sandbox_pid, 0)));
  static std::atomic<int> connections{0};
  for (;;) {
    pollfd fds[2] = {{.fd = listener.get(), .events = POLLIN}, {.fd = ended.get(), .events = POLLIN}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return absl::InternalError(absl::StrCat("poll: ", ErrnoText(errno)));
    if (fds[1].revents) return absl::UnavailableError("port-forward: the container has ended");
    if (!fds[0].revents) continue;
    base::UniqueFd outside(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!outside.ok()) continue;
    if (connections.fetch_add(1) >= kMaxConnections) {
      connections.fetch_sub(1);
      LOG_WARNING("port-forward: over %d connections: one refused", kMaxConnections);
      continue;
    }
    std::thread([&container, port = ports.remote, outside = std::move(outside)]() mutable {
      absl::Status status = Forward(container, port, std::move(outside));
      if (!status.ok()) LOG_WARNING("port-forward: %s", std::string(status.message()).c_str());
      connections.fetch_sub(1);
    }).detach();
  }
}

}  // namespace runsc
