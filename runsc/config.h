// SPDX-License-Identifier: Apache-2.0
// The global flags of runsc, parsed. Names and defaults are gVisor's runsc's, so that existing set-ups keep working.
#ifndef RUNSC_CONFIG_H_
#define RUNSC_CONFIG_H_

#include <cstdint>
#include <string>

namespace runsc {

enum class NetworkMode : uint8_t { kSandbox, kHost, kNone };
enum class FileAccess : uint8_t { kExclusive, kShared };
enum class HostUds : uint8_t { kNone, kOpen, kCreate, kAll };

struct Config {
  std::string root;  // never empty after ParseGlobalFlags
  std::string platform = "auto";
  NetworkMode network = NetworkMode::kSandbox;
  // --overlay2: "none" or {root|all}:{self|memory|dir=PATH}[,size=N]
  std::string overlay2 = "root:self";
  bool overlay_root = true;
  bool overlay_all = false;
  std::string overlay_medium = "self";  // self, memory, or an absolute directory
  uint64_t overlay_size = 0;            // bytes; 0 = no limit of its own
  bool overlay_explicit = false;        // given on the command line
  FileAccess file_access = FileAccess::kExclusive;
  FileAccess file_access_mounts = FileAccess::kShared;
  bool directfs = true;
  bool patch_calls = true;  // not --systrap-disable-syscall-patching
  HostUds host_uds = HostUds::kNone;
  bool debug = false;
  std::string debug_log;  // file, directory with a trailing /, or a pattern
  bool also_log_to_stderr = false;
  std::string log;  // CLI errors for the caller (containerd), --log-format
  bool log_json = false;
  bool strace = false;
  std::string strace_syscalls;  // comma-separated; empty = all
  int strace_log_size = 1024;
  bool rootless = false;
  bool ignore_cgroups = false;
  bool systemd_cgroup = false;
  bool host_settings_check = true;
};

}  // namespace runsc

#endif  // RUNSC_CONFIG_H_
