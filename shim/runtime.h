// SPDX-License-Identifier: Apache-2.0
// Calls of the runsc command line for one container, and what they say when they fail. Thread-safe.
#ifndef SHIM_RUNTIME_H_
#define SHIM_RUNTIME_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "shim/options.h"

namespace shim {

struct RuntimeCall {
  std::vector<std::string> arguments;    // the subcommand and what follows
  std::vector<std::pair<int, int>> fds;  // {number in the child, ours}
  std::string input;                     // for its stdin, if not empty
};

class Runtime {
 public:
  // `bundle` takes the log that errors are read from.
  Runtime(RuntimeOptions options, const std::string& name_space, std::string bundle);

  // Where the container's state is.
  std::string StateDirectory(const std::string& id) const { return root_ + "/" + id; }
  const std::string& root() const { return root_; }

  // Waits for it, ten minutes at most: hooks run meanwhile. The error is runsc's own last line.
  absl::Status Call(const RuntimeCall& call) const;

 private:
  const RuntimeOptions options_;
  const std::string root_;
  const std::string bundle_;
};

}  // namespace shim

#endif  // SHIM_RUNTIME_H_
