// SPDX-License-Identifier: Apache-2.0
// Joins the master side of a terminal inside the sandbox to a host descriptor (the other end of which is the user's).
#ifndef SENTRY_BOOT_TERMINAL_PUMP_H_
#define SENTRY_BOOT_TERMINAL_PUMP_H_

#include <memory>

#include "base/unique_fd.h"
#include "sentry/vfs/file_description.h"

namespace sentry {

// For the main thread, before it makes others.
void BlockResizes();

// Copies both ways on two threads of its own until either side ends, and follows the host's window size. `master` never
// blocks.
class TerminalPump {
 public:
  static std::shared_ptr<TerminalPump> Start(base::UniqueFd host, vfs::FileRef master);
  // Waits until what the guest wrote has gone out, at most `timeout_ns`; then hangs up.
  void Drain(int64_t timeout_ns);

 private:
  struct State;
  explicit TerminalPump(std::shared_ptr<State> state) : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace sentry

#endif  // SENTRY_BOOT_TERMINAL_PUMP_H_
