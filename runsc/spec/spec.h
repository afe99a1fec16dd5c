// SPDX-License-Identifier: Apache-2.0
// The OCI runtime configuration (config.json, runtime-spec 1.1) as plain structs. A Spec that came out of ParseSpec
// (spec/parse.h) is valid as a whole: enumerations are known, paths that must be absolute are, ranges hold.
#ifndef RUNSC_SPEC_SPEC_H_
#define RUNSC_SPEC_SPEC_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace runsc::spec {

struct User {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::optional<uint32_t> umask;  // 022 when absent
  std::vector<uint32_t> additional_gids;
};

// Bit n = capability n of <linux/capability.h>.
struct Capabilities {
  uint64_t bounding = 0;
  uint64_t effective = 0;
  uint64_t inheritable = 0;
  uint64_t permitted = 0;
  uint64_t ambient = 0;
};

struct Rlimit {
  int resource = 0;  // RLIMIT_*
  uint64_t soft = 0;
  uint64_t hard = 0;  // UINT64_MAX = RLIM_INFINITY
};

struct ConsoleSize {
  uint16_t rows = 0;
  uint16_t columns = 0;
};

struct Process {
  bool terminal = false;
  std::optional<ConsoleSize> console_size;
  User user;
  std::vector<std::string> args;  // not empty
  std::vector<std::string> env;   // NAME=value
  std::string cwd;                // absolute
  // Absent: no capabilities for a non-root user or exec; the whole section is optional in config.json.
  std::optional<Capabilities> capabilities;
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::optional<int> oom_score_adj;
};

struct Root {
  std::string path;  // as in the file; Spec::root_path is resolved against the bundle
  bool readonly = false;
};

enum class Propagation : uint8_t { kNone, kPrivate, kShared, kSlave, kUnbindable };

struct Mount {
  std::string destination;  // absolute, lexically clean
  std::string type;         // "bind" for every bind mount, however it was written
  std::string source;       // bind: absolute (relative ones are resolved against the bundle)
  uint64_t flags = 0;       // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, MS_BIND, MS_REC, ...
  Propagation propagation = Propagation::kNone;
  bool propagation_recursive = false;
  bool copy_up = false;           // tmpcopyup: a tmpfs starts with the content of the directory that it hides
  std::vector<std::string> data;  // file system options: "mode=755", "size=65536k", ...
  bool IsBind() const { return type == "bind"; }
};

struct Hook {
  std::string path;  // absolute
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::optional<int> timeout_seconds;
};

struct Hooks {
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart, poststop;
};

enum class NamespaceType : uint8_t { kPid, kNetwork, kMount, kIpc, kUts, kUser, kCgroup, kTime };

struct Namespace {
  NamespaceType type = NamespaceType::kPid;
  std::string path;  // absolute; empty = a new one
};

struct IdMapping {
  uint32_t container_id = 0;
  uint32_t host_id = 0;
  uint32_t size = 0;
};

struct Device {
  std::string path;  // absolute
  char type = 'c';   // c, b, p (u is read as c)
  int64_t major = 0;
  int64_t minor = 0;
  mode_t mode = 0666;
  uint32_t uid = 0;
  uint32_t gid = 0;
};

// Limits as cgroups take them; absent = not asked for. -1 = no limit where the spec says so.
struct Resources {
  std::optional<int64_t> memory_limit;
  std::optional<int64_t> memory_reservation;
  std::optional<int64_t> memory_swap;
  std::optional<int64_t> pids_limit;
  std::optional<uint64_t> cpu_shares;
  std::optional<int64_t> cpu_quota;
  std::optional<uint64_t> cpu_period;
  std::string cpuset_cpus;
  std::string cpuset_mems;
  std::map<std::string, std::string> unified;  // cgroup v2 file -> content
  bool AnyLimit() const {
    return memory_limit || memory_reservation || memory_swap || pids_limit || cpu_shares || cpu_quota || cpu_period ||
           !cpuset_cpus.empty() || !cpuset_mems.empty() || !unified.empty();
  }
};

enum class SeccompOperator : uint8_t {
  kNotEqual,
  kLess,
  kLessOrEqual,
  kEqual,
  kGreaterOrEqual,
  kGreater,
  kMaskedEqual,  // (argument & value) == value_two
};

struct SeccompArgument {
  uint32_t index = 0;  // 0..5
  uint64_t value = 0, value_two = 0;
  SeccompOperator op = SeccompOperator::kEqual;
};

struct SeccompRule {
  std::vector<std::string> names;
  uint32_t verdict = 0;  // SECCOMP_RET_* with its data
  std::vector<SeccompArgument> arguments;
};

// linux.seccomp.
struct Seccomp {
  uint32_t default_verdict = 0;
  uint32_t flags = 0;  // SECCOMP_FILTER_FLAG_*
  bool x32 = false;    // SCMP_ARCH_X32 is listed
  std::vector<SeccompRule> rules;
};

struct Linux {
  std::vector<Namespace> namespaces;
  std::vector<IdMapping> uid_mappings;
  std::vector<IdMapping> gid_mappings;
  std::vector<Device> devices;
  std::map<std::string, std::string> sysctl;
  Resources resources;
  std::string cgroups_path;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  Propagation rootfs_propagation = Propagation::kNone;
  std::optional<Seccomp> seccomp;
  const Namespace* Find(NamespaceType type) const;
};

struct Spec {
  std::string oci_version;
  Process process;
  Root root;
  std::string hostname;
  std::string domainname;
  std::vector<Mount> mounts;
  Hooks hooks;
  std::map<std::string, std::string> annotations;
  Linux linux;
  // The root directory, absolute: root.path resolved against the bundle.
  std::string root_path;
};

// The CRI's annotations of a pod (io.kubernetes.cri.*, and CRI-O's).
enum class PodRole : uint8_t {
  kNone,       // a container by itself
  kSandbox,    // the pod's first container, whose sandbox the others join
  kContainer,  // joins the sandbox of pod.sandbox_id
};
struct Pod {
  PodRole role = PodRole::kNone;
  std::string sandbox_id;  // kContainer; may be empty or anything: to be validated
};
Pod PodOf(const std::map<std::string, std::string>& annotations);

// Which trees the gofer serves, in the order of its attach indices: 0 is the root, then each bind mount of
// Spec::mounts in order. Computed alike by the CLI, the gofer and the sentry.
struct GoferMount {
  std::string source;       // host path, absolute
  std::string destination;  // in the container; "/" for the root
  bool readonly = false;    // the gofer refuses every change
  int mount_index = -1;     // in Spec::mounts; -1 = the root
};
std::vector<GoferMount> GoferMounts(const Spec& spec);

}  // namespace runsc::spec

#endif  // RUNSC_SPEC_SPEC_H_
