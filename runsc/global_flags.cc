// SPDX-License-Identifier: Apache-2.0
#include "runsc/global_flags.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/clock.h"
#include "runsc/errors.h"

namespace runsc {
namespace {

using enum FlagType;

constexpr char kNoSuchPart[] = "this runtime has nothing to switch there";

constexpr FlagDef kGlobalFlags[] = {
    {"root", "", kString, "",
     "directory of the containers' states (default: /var/run/runsc; $XDG_RUNTIME_DIR/runsc if not root)"},
    {"platform", "", kString, "auto", "how guest code is run: auto, ptrace, systrap or kvm"},
    {"systrap-disable-syscall-patching", "", kBool, "false",
     "leave guests' code as it is: every system call is a trap"},
    {"network", "", kString, "sandbox", "sandbox (own TCP/IP stack), host, or none"},
    {"overlay2", "", kString, "root:self", "where writes go: none, or {root|all}:{self|memory|dir=PATH}[,size=N]"},
    {"file-access", "", kString, "exclusive", "root file system: exclusive (cached) or shared with the host"},
    {"file-access-mounts", "", kString, "shared", "bind mounts: exclusive or shared"},
    {"directfs", "", kBool, "true", "open files directly below the gofer's donated directories"},
    {"host-uds", "", kString, "none", "AF_UNIX sockets of the host's files: none, open, create or all"},
    {"debug", "", kBool, "false", "log debug messages to --debug-log"},
    {"debug-log", "", kString, "", "file, directory (with a trailing /) or pattern (%TIMESTAMP%, %COMMAND%, %ID%)"},
    {"alsologtostderr", "", kBool, "false", "send debug messages to stderr too"},
    {"log", "", kString, "", "file for errors of this command"},
    {"log-format", "", kString, "text", "of --log: text or json"},
    {"strace", "", kBool, "false", "log system calls to --debug-log"},
    {"strace-syscalls", "", kString, "", "only these, separated by commas"},
    {"strace-log-size", "", kInteger, "1024", "bytes of a buffer that --strace shows"},
    {"rootless", "", kBool, "false", "run as an ordinary user, in a user namespace"},
    {"ignore-cgroups", "", kBool, "false", "make and join no cgroups"},
    {"systemd-cgroup", "", kBool, "false", "linux.cgroupsPath looks like slice:prefix:name"},
    {"allow-flag-override", "", kBool, "false", "let annotations dev.gvisor.flag.NAME of a container set these flags"},
    // Accepted so that existing runtime arguments keep working.
    {"net-raw", "", kBool, "false", "", "raw sockets follow CAP_NET_RAW of the process"},
    {"oci-seccomp", "", kBool, "false", "", "linux.seccomp is always applied"},
    {"fsgofer-host-uds", "", kBool, "false", "", "use --host-uds"},
    {"host-fifo", "", kString, "none", "", kNoSuchPart},
    {"panic-log", "", kString, "", "", "fatal messages go to --debug-log and stderr"},
    {"watchdog-action", "", kString, "log", "", kNoSuchPart},
    {"debug-log-format", "", kString, "text", "", "debug logs are text"},
    {"log-packets", "", kBool, "false", "", kNoSuchPart},
    {"gso", "", kBool, "true", "", kNoSuchPart},
    {"num-network-channels", "", kInteger, "1", "", kNoSuchPart},
    {"cpu-num-from-quota", "", kBool, "false", "", kNoSuchPart},
    {"profile", "", kBool, "false", "", kNoSuchPart},
};

absl::Status BadChoice(const char* flag, const std::string& value, const char* choices) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": must be ", choices, ", is \"", value, "\""));
}

// "64", "64k", "2G" -> bytes.
bool ParseSize(std::string text, uint64_t* bytes) {
  uint64_t unit = 1;
  constexpr std::string_view kUnits = "kmgt";
  if (!text.empty()) {
    size_t at = kUnits.find(static_cast<char>(tolower(text.back())));
    if (at != std::string_view::npos) {
      unit = uint64_t{1} << (10 * (at + 1));
      text.pop_back();
    }
  }
  uint64_t number = 0;
  if (text.empty() || text[0] == '-' || !absl::SimpleAtoi(text, &number)) return false;
  return !__builtin_mul_overflow(number, unit, bytes);
}

absl::Status ParseFileAccess(const char* flag, const std::string& value, FileAccess* out) {
  if (value != "exclusive" && value != "shared") return BadChoice(flag, value, "exclusive or shared");
  *out = value == "exclusive" ? FileAccess::kExclusive : FileAccess::kShared;
  return absl::OkStatus();
}

// Root of a user namespace that an ordinary user made (rootless engines): what XDG_RUNTIME_DIR names is its own, /var/run
// is not.
bool IsUsersOwnRoot(const char* runtime) {
  if (geteuid() != 0 || !runtime || !*runtime) return false;
  base::UniqueFd map(open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC));
  char text[128] = {};
  unsigned inside, outside, count;
  if (!map.ok() || read(map.get(), text, sizeof text - 1) <= 0) return false;
  if (sscanf(text, "%u %u %u", &inside, &outside, &count) != 3 || outside == 0) return false;
  struct stat st;
  return stat(runtime, &st) == 0 && st.st_uid == 0 && access("/var/run", W_OK) != 0;
}

absl::Status SetRoot(const std::string& given, Config* config) {
  config->root = given;
  if (given.empty()) {
    const char* runtime = getenv("XDG_RUNTIME_DIR");
    if (geteuid() == 0 && !IsUsersOwnRoot(runtime)) {
      config->root = "/var/run/runsc";
    } else if (runtime && *runtime) {
      config->root = absl::StrCat(runtime, "/runsc");
    } else {
      return absl::InvalidArgumentError("--root: must be given: XDG_RUNTIME_DIR is not set and you are not root");
    }
  }
  if (config->root[0] == '/') return absl::OkStatus();
  char* cwd = getcwd(nullptr, 0);
  if (!cwd) return absl::InvalidArgumentError(absl::StrCat("--root: current directory: ", ErrnoText(errno)));
  config->root = absl::StrCat(cwd, "/", config->root);
  free(cwd);
  return absl::OkStatus();
}

}  // namespace

std::span<const FlagDef> GlobalFlags() { return kGlobalFlags; }

absl::Status ParseOverlay2(const std::string& text, Config* config) {
  config->overlay2 = text;
  config->overlay_root = config->overlay_all = false;
  config->overlay_size = 0;
  if (text == "none") return absl::OkStatus();
  constexpr char kChoices[] = "none or {root|all}:{self|memory|dir=PATH}[,size=N]";
  size_t colon = text.find(':');
  if (colon == std::string::npos) return BadChoice("overlay2", text, kChoices);
  std::string where = text.substr(0, colon);
  if (where != "root" && where != "all") return BadChoice("overlay2", text, kChoices);
  std::string medium = text.substr(colon + 1);
  if (size_t comma = medium.rfind(",size="); comma != std::string::npos) {
    std::string size = medium.substr(comma + 6);
    if (!ParseSize(size, &config->overlay_size)) {
      return absl::InvalidArgumentError(absl::StrCat("--overlay2: size must be a number of bytes, is \"", size, "\""));
    }
    medium.resize(comma);
  }
  if (medium.rfind("dir=", 0) == 0) {
    medium = medium.substr(4);
    if (medium.empty() || medium[0] != '/') {
      return absl::InvalidArgumentError(absl::StrCat("--overlay2: dir must be an absolute path, is \"", medium, "\""));
    }
  } else if (medium != "self" && medium != "memory") {
    return BadChoice("overlay2", text, kChoices);
  }
  config->overlay_root = true;
  config->overlay_all = where == "all";
  config->overlay_medium = medium;
  return absl::OkStatus();
}

absl::StatusOr<Config> ParseGlobalFlags(const ParsedFlags& flags) {
  Config config;
  RETURN_IF_ERROR(SetRoot(flags.Get("root"), &config));
  config.platform = flags.Get("platform");
  bool known = false;
  for (const char* name : {"auto", "ptrace", "systrap", "kvm"}) known |= config.platform == name;
  if (!known) return BadChoice("platform", config.platform, "auto, ptrace, systrap or kvm");
  const std::string& network = flags.Get("network");
  if (network == "host") {
    config.network = NetworkMode::kHost;
  } else if (network == "none") {
    config.network = NetworkMode::kNone;
  } else if (network != "sandbox") {
    return BadChoice("network", network, "sandbox, host or none");
  }
  RETURN_IF_ERROR(ParseOverlay2(flags.Get("overlay2"), &config));
  config.overlay_explicit = flags.Has("overlay2");
  RETURN_IF_ERROR(ParseFileAccess("file-access", flags.Get("file-access"), &config.file_access));
  RETURN_IF_ERROR(ParseFileAccess("file-access-mounts", flags.Get("file-access-mounts"), &config.file_access_mounts));
  config.directfs = flags.GetBool("directfs");
  config.patch_calls = !flags.GetBool("systrap-disable-syscall-patching");
  const std::string& uds = flags.Get("host-uds");
  if (uds == "open") {
    config.host_uds = HostUds::kOpen;
  } else if (uds == "create") {
    config.host_uds = HostUds::kCreate;
  } else if (uds == "all") {
    config.host_uds = HostUds::kAll;
  } else if (uds != "none") {
    return BadChoice("host-uds", uds, "none, open, create or all");
  }
  config.debug = flags.GetBool("debug");
  config.debug_log = flags.Get("debug-log");
  config.also_log_to_stderr = flags.GetBool("alsologtostderr");
  config.log = flags.Get("log");
  const std::string& format = flags.Get("log-format");
  if (format != "text" && format != "json") return BadChoice("log-format", format, "text or json");
  config.log_json = format == "json";
  config.strace = flags.GetBool("strace");
  config.strace_syscalls = flags.Get("strace-syscalls");
  config.strace_log_size = static_cast<int>(flags.GetInteger("strace-log-size"));
  if (config.strace_log_size < 0 || config.strace_log_size > 1 << 20) {
    return absl::InvalidArgumentError("--strace-log-size: must be in 0..1048576");
  }
  config.rootless = flags.GetBool("rootless");
  config.ignore_cgroups = flags.GetBool("ignore-cgroups");
  config.systemd_cgroup = flags.GetBool("systemd-cgroup");
  return config;
}

std::string ExpandLogPath(const std::string& pattern, const std::string& timestamp, const std::string& command,
                          const std::string& id) {
  std::string path = pattern;
  if (!path.empty() && path.back() == '/') path += "runsc.log.%TIMESTAMP%.%COMMAND%.txt";
  return absl::StrReplaceAll(path, {{"%TIMESTAMP%", timestamp}, {"%COMMAND%", command}, {"%ID%", id}});
}

absl::StatusOr<base::UniqueFd> OpenDebugLog(const Config& config, const std::string& command, const std::string& id) {
  if (config.debug_log.empty()) return base::UniqueFd();
  int64_t now = base::RealtimeNs();
  time_t seconds = now / base::kNsPerSecond;
  tm local;
  localtime_r(&seconds, &local);
  char date[32];
  strftime(date, sizeof date, "%Y%m%d-%H%M%S", &local);
  char fraction[16];
  snprintf(fraction, sizeof fraction, ".%06d", static_cast<int>(now % base::kNsPerSecond / 1000));
  std::string path = ExpandLogPath(config.debug_log, absl::StrCat(date, fraction), command, id);
  // The directory is made as needed, its parents too.
  for (size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    mkdir(path.substr(0, slash).c_str(), 0775);
  }
  base::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0664));
  if (!fd.ok()) return absl::InvalidArgumentError(absl::StrCat("--debug-log: ", path, ": ", ErrnoText(errno)));
  return fd;
}

}  // namespace runsc
