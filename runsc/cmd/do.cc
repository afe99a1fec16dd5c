// SPDX-License-Identifier: Apache-2.0
// runsc do: a command on the host's own files, all writes going to the sandbox's memory.
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "runsc/attach.h"
#include "runsc/cmd/command.h"
#include "runsc/errors.h"
#include "runsc/global_flags.h"
#include "runsc/json_writer.h"
#include "runsc/spec/parse.h"

extern char** environ;

namespace runsc {
namespace {

using enum FlagType;

constexpr FlagDef kDoFlags[] = {
    {"root", "", kString, "/", "directory to use as the root"},
    {"rootfs", "", kString, "", "the same"},
    {"cwd", "", kString, "", "working directory (default: the current one)"},
    {"env", "e", kList, "", "NAME=value to add"},
    {"user", "u", kString, "", "UID[:GID] (default: the caller's)"},
    {"force-overlay", "", kBool, "true", "keep writes in memory; =false lets them reach the host's files"},
    {"quiet", "q", kBool, "false", "", "do prints nothing of its own"},
    {"ip", "", kString, "", "", "the sandbox's addresses come from its network namespace"},
};

std::string RandomId() {
  uint64_t random = 0;
  if (getrandom(&random, sizeof random, 0) != sizeof random) random = static_cast<uint64_t>(getpid()) << 32;
  char text[40];
  snprintf(text, sizeof text, "do-%d-%08x", getpid(), static_cast<unsigned>(random));
  return text;
}

struct LimitName {
  const char* name;
  int resource;
};
// What a shell user expects to find inside as outside.
constexpr LimitName kPassedLimits[] = {
    {"RLIMIT_NOFILE", RLIMIT_NOFILE}, {"RLIMIT_STACK", RLIMIT_STACK}, {"RLIMIT_CORE", RLIMIT_CORE}};

void WriteLimits(JsonWriter& w) {
  w.BeginArray("rlimits");
  for (const LimitName& limit : kPassedLimits) {
    rlimit value;
    if (getrlimit(static_cast<__rlimit_resource_t>(limit.resource), &value) != 0) continue;
    w.BeginObject();
    w.String("type", limit.name);
    w.Value("soft", absl::StrCat(static_cast<uint64_t>(value.rlim_cur)));
    w.Value("hard", absl::StrCat(static_cast<uint64_t>(value.rlim_max)));
    w.EndObject();
  }
  w.EndArray();
}

void WriteCapabilities(JsonWriter& w) {
  std::vector<std::string> all;
  for (int i = 0; i < spec::kCapabilityCount; ++i) all.push_back(spec::CapabilityName(i));
  w.BeginObject("capabilities");
  for (const char* set : {"bounding", "effective", "permitted"}) w.Strings(set, all);
  w.EndObject();
}

void WriteMount(JsonWriter& w, const char* destination, const char* type, const std::vector<std::string>& options) {
  w.BeginObject();
  w.String("destination", destination);
  w.String("type", type);
  w.String("source", type);
  w.Strings("options", options);
  w.EndObject();
}

struct DoProcess {
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd;
  uint32_t uid = 0, gid = 0;
  std::vector<uint32_t> groups;
  bool terminal = false;
};

std::string DoSpecJson(const DoProcess& process, const std::string& root) {
  JsonWriter w("");
  w.BeginObject();
  w.String("ociVersion", "1.0.2");
  w.BeginObject("process");
  w.Bool("terminal", process.terminal);
  w.BeginObject("user");
  w.Number("uid", process.uid);
  w.Number("gid", process.gid);
  w.BeginArray("additionalGids");
  for (uint32_t group : process.groups) w.Number("", group);
  w.EndArray();
  w.EndObject();
  w.String("cwd", process.cwd);
  // Root in the sandbox may do everything there.
  if (process.uid == 0) WriteCapabilities(w);
  WriteLimits(w);
  w.Strings("args", process.args);
  w.Strings("env", process.env);
  w.EndObject();
  w.BeginObject("root");
  w.String("path", root);
  w.EndObject();
  char host[65] = {};
  gethostname(host, sizeof host - 1);
  w.String("hostname", host);
  w.BeginArray("mounts");
  WriteMount(w, "/proc", "proc", {});
  WriteMount(w, "/dev", "tmpfs", {"nosuid", "mode=755"});
  WriteMount(w, "/dev/pts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"});
  WriteMount(w, "/dev/shm", "tmpfs", {"nosuid", "nodev", "mode=1777"});
  WriteMount(w, "/dev/mqueue", "mqueue", {"nosuid", "nodev", "noexec"});
  WriteMount(w, "/sys", "sysfs", {"nosuid", "nodev", "noexec", "ro"});
  WriteMount(w, "/sys/fs/cgroup", "cgroup", {"nosuid", "nodev", "noexec"});
  w.EndArray();
  w.BeginObject("linux");
  w.BeginArray("namespaces");
  w.BeginObject();
  w.String("type", "cgroup");
  w.EndObject();
  w.EndArray();
  w.EndObject();
  w.EndObject();
  return w.text();
}

}  // namespace

std::span<const FlagDef> DoFlags() { return kDoFlags; }

absl::StatusOr<int> RunDo(CommandContext& context) {
  BlockForwardedSignals();
  const ParsedFlags& flags = context.flags;
  DoProcess process;
  process.args = context.args();
  process.uid = geteuid();
  process.gid = getegid();
  if (flags.Has("user")) {
    unsigned uid = 0, gid = 0;
    char rest;
    int n = sscanf(flags.Get("user").c_str(), "%u:%u%c", &uid, &gid, &rest);
    if (n != 1 && n != 2) return absl::InvalidArgumentError("--user: must look like UID or UID:GID");
    process.uid = uid;
    if (n == 2) process.gid = gid;
  } else if (geteuid() == 0) {
    int count = getgroups(0, nullptr);
    std::vector<gid_t> groups(count > 0 ? count : 0);
    if (count > 0 && getgroups(count, groups.data()) == count) process.groups.assign(groups.begin(), groups.end());
  } else {
    // The user namespace shows our ids as 0.
    process.uid = process.gid = 0;
  }
  for (char** variable = environ; *variable; ++variable) {
    std::string text = *variable;
    size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) continue;
    // config.json is JSON, which cannot carry other bytes.
    if (IsUtf8(text)) {
      process.env.push_back(std::move(text));
    } else {
      LOG_WARNING("do: the environment variable %s is not UTF-8 and is left out", text.substr(0, equals).c_str());
    }
  }
  for (const std::string& variable : flags.GetAll("env")) process.env.push_back(variable);
  for (const std::string& argument : process.args) {
    if (!IsUtf8(argument)) {
      return absl::InvalidArgumentError(absl::StrCat("do: the argument ", JsonString(argument), " is not UTF-8"));
    }
  }
  process.cwd = VALUE_OR_RETURN(AbsolutePath(flags.Get("cwd")));
  process.terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
  std::string root = VALUE_OR_RETURN(AbsolutePath(flags.Has("rootfs") ? flags.Get("rootfs") : flags.Get("root")));

  CreateOptions options{.config = &context.config,
                        .global_arguments = context.global.AsArguments(),
                        .id = RandomId(),
                        .bundle = "/",
                        .is_do = true,
                        .cli_start_ns = context.start_ns};
  if (flags.GetBool("force-overlay") && !context.config.overlay_explicit) {
    RETURN_IF_ERROR(ParseOverlay2("root:memory", &context.config));
    options.global_arguments.push_back("--overlay2=root:memory");
  } else if (!flags.GetBool("force-overlay") && !context.config.overlay_explicit) {
    RETURN_IF_ERROR(ParseOverlay2("none", &context.config));
    options.global_arguments.push_back("--overlay2=none");
  }
  options.spec_text = DoSpecJson(process, root);
  auto spec = spec::ParseSpec(options.spec_text, "/", nullptr);
  if (!spec.ok()) return Annotate(spec.status(), "do");
  options.spec = *std::move(spec);
  return RunAttached(context, std::move(options), control::SignalScope::kForegroundGroup);
}

}  // namespace runsc
