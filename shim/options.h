// SPDX-License-Identifier: Apache-2.0
// How the shim runs runsc: from the options of a Create call, or from the file that they, or convention, name.
#ifndef SHIM_OPTIONS_H_
#define SHIM_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "shim/proto/types.pb.h"

namespace shim {

inline constexpr char kDefaultConfigPath[] = "/etc/containerd/runsc.toml";
inline constexpr char kDefaultRoot[] = "/run/containerd/runsc";

struct RuntimeOptions {
  std::string binary;               // path, or a name for PATH
  std::string root = kDefaultRoot;  // a directory per namespace below it
  std::vector<std::string> flags;   // more global flags, "--name=value"
};

// containerd.runc.v1.Options (binary_name, root, systemd_cgroup), runtimeoptions.v1.Options (config_path, config_body),
// or none: then kDefaultConfigPath, if it is there. The binary is "runsc" beside the shim, else the one of PATH.
absl::StatusOr<RuntimeOptions> ParseOptions(const pb::Any& options);

// The text of a configuration file, a subset of TOML: `binary_name` and `root`, and a table [runsc_config] whose keys
// are global flags. Errors name the line.
absl::Status ParseConfig(const std::string& text, RuntimeOptions* out);

}  // namespace shim

#endif  // SHIM_OPTIONS_H_
