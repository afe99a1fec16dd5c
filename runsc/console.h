// SPDX-License-Identifier: Apache-2.0
// Terminals: the host pty whose slave the sandbox gets (in raw mode: the line discipline is the guest's own), the
// --console-socket of runc, and the CLI's own terminal in raw mode.
#ifndef RUNSC_CONSOLE_H_
#define RUNSC_CONSOLE_H_

#include <sys/ioctl.h>
#include <termios.h>

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "runsc/spec/spec.h"

namespace runsc {

struct Pty {
  base::UniqueFd master, slave;
  std::string slave_name;
};

// A new host pty in raw mode.
absl::StatusOr<Pty> OpenPty();

// Sends the master to whoever listens at `path` (runc's protocol: one message with the name and the descriptor).
absl::Status SendConsole(const std::string& path, const Pty& pty);

absl::Status SetWindowSize(int fd, spec::ConsoleSize size);
// False if `fd` is not a terminal.
bool GetWindowSize(int fd, spec::ConsoleSize* size);

// A terminal in raw mode until the end of the scope.
class RawTerminal {
 public:
  explicit RawTerminal(int fd);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  int fd_;
  bool active_ = false;
  termios saved_;
};

}  // namespace runsc

#endif  // RUNSC_CONSOLE_H_
