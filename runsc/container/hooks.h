// SPDX-License-Identifier: Apache-2.0
// OCI hooks: programs of the host, run with the container's state as JSON on stdin.
#ifndef RUNSC_CONTAINER_HOOKS_H_
#define RUNSC_CONTAINER_HOOKS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runsc/spec/spec.h"

namespace runsc {

// Where hooks run; -1: where we are.
struct HookNamespaces {
  int user = -1, mount = -1;
};

// Runs them in order, stops at the first failure; `name` is the field ("prestart"). A hook gets its own environment and
// the bundle as working directory; without a timeout of its own it may take 5 minutes.
absl::Status RunHooks(const char* name, const std::vector<spec::Hook>& hooks, const std::string& state_json,
                      const std::string& directory, const HookNamespaces& namespaces = {});

// All of them, whatever fails on the way, which is warned of: the stages when the container runs already, or is gone.
void RunLateHooks(const char* name, const std::vector<spec::Hook>& hooks, const std::string& state_json,
                  const std::string& directory);

// How long they may take, all together.
int MillisecondsOf(const std::vector<spec::Hook>& hooks);

}  // namespace runsc

#endif  // RUNSC_CONTAINER_HOOKS_H_
