// SPDX-License-Identifier: Apache-2.0
#include "shim/console_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace shim {
namespace {

constexpr char kName[] = "console.sock";
constexpr int kTimeoutMs = 10'000;

}  // namespace

std::string ConsoleSocket::ChildPath() { return absl::StrCat("/proc/self/fd/", kChildFd, "/", kName); }

ConsoleSocket::~ConsoleSocket() {
  if (directory_.ok()) unlinkat(directory_.get(), kName, 0);
}

absl::StatusOr<ConsoleSocket> ConsoleSocket::Listen(const std::string& directory) {
  ConsoleSocket console;
  console.directory_.Reset(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!console.directory_.ok()) return absl::NotFoundError(absl::StrCat(directory, ": ", strerror(errno)));
  unlinkat(console.directory_.get(), kName, 0);
  sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", console.directory_.get(), kName);
  console.listener_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!console.listener_.ok()) return absl::ResourceExhaustedError(absl::StrCat("socket: ", strerror(errno)));
  fchmod(console.listener_.get(), 0600);
  if (bind(console.listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(console.listener_.get(), 1) != 0) {
    return absl::InternalError(absl::StrCat(directory, "/", kName, ": ", strerror(errno)));
  }
  return console;
}

absl::StatusOr<base::UniqueFd> ConsoleSocket::Accept() {
  pollfd p{.fd = listener_.get(), .events = POLLIN};
  if (poll(&p, 1, kTimeoutMs) <= 0) return absl::DeadlineExceededError("the runtime sent no terminal");
  base::UniqueFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  char text[4096];
  iovec data{.iov_base = text, .iov_len = sizeof text};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (!socket.ok() || recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC) < 0) {
    return absl::UnavailableError(absl::StrCat("console socket: ", strerror(errno)));
  }
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof(int))) {
    return absl::DataLossError("console socket: no descriptor came");
  }
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return base::UniqueFd(fd);
}

}  // namespace shim
