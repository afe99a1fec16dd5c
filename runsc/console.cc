// SPDX-License-Identifier: Apache-2.0
#include "runsc/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

absl::Status PtyError(const char* what) {
  return absl::InternalError(
      absl::StrCat("process.terminal: ", what, ": ", ErrnoText(errno), ": is devpts mounted at /dev/pts?"));
}

}  // namespace

absl::StatusOr<Pty> OpenPty() {
  Pty pty;
  pty.master.Reset(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pty.master.ok()) return PtyError("/dev/ptmx");
  if (unlockpt(pty.master.get()) != 0) return PtyError("unlockpt");
  // Through the master, not by path: works with any mount namespace.
  pty.slave.Reset(ioctl(pty.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!pty.slave.ok()) return PtyError("TIOCGPTPEER");
  char name[64];
  if (ptsname_r(pty.master.get(), name, sizeof name) == 0) pty.slave_name = name;
  termios mode;
  if (tcgetattr(pty.slave.get(), &mode) != 0) return PtyError("tcgetattr");
  cfmakeraw(&mode);
  if (tcsetattr(pty.slave.get(), TCSANOW, &mode) != 0) return PtyError("tcsetattr");
  return pty;
}

absl::Status SendConsole(const std::string& path, const Pty& pty) {
  sockaddr_un address = {.sun_family = AF_UNIX};
  if (path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat("--console-socket: ", path, ": longer than 107 bytes"));
  }
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.ok() || connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("--console-socket: ", path, ": ", ErrnoText(errno)));
  }
  std::string name = pty.slave_name.empty() ? "/dev/ptmx" : pty.slave_name;
  iovec iov{.iov_base = name.data(), .iov_len = name.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{.msg_iov = &iov, .msg_iovlen = 1};
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  int master = pty.master.get();
  memcpy(CMSG_DATA(c), &master, sizeof master);
  if (sendmsg(fd.get(), &message, MSG_NOSIGNAL) < 0) {
    return absl::InternalError(absl::StrCat("--console-socket: ", path, ": ", ErrnoText(errno)));
  }
  return absl::OkStatus();
}

absl::Status SetWindowSize(int fd, spec::ConsoleSize size) {
  winsize window = {.ws_row = size.rows, .ws_col = size.columns};
  if (ioctl(fd, TIOCSWINSZ, &window) != 0) {
    return absl::InternalError(absl::StrCat("TIOCSWINSZ: ", ErrnoText(errno)));
  }
  return absl::OkStatus();
}

bool GetWindowSize(int fd, spec::ConsoleSize* size) {
  winsize window;
  if (ioctl(fd, TIOCGWINSZ, &window) != 0) return false;
  *size = {.rows = window.ws_row, .columns = window.ws_col};
  return true;
}

RawTerminal::RawTerminal(int fd) : fd_(fd) {
  if (tcgetattr(fd_, &saved_) != 0) return;
  termios raw = saved_;
  cfmakeraw(&raw);
  // What is still being written must come out as the cooked mode shows it.
  active_ = tcsetattr(fd_, TCSADRAIN, &raw) == 0;
}

RawTerminal::~RawTerminal() {
  if (active_) tcsetattr(fd_, TCSADRAIN, &saved_);
}

}  // namespace runsc
