// SPDX-License-Identifier: Apache-2.0
// The `process` object, of config.json and of `exec --process`.
#include <linux/capability.h>
#include <sys/resource.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "runsc/spec/parse.h"
#include "runsc/spec/parse_internal.h"

namespace runsc::spec {
namespace {

// Indexed by number (<linux/capability.h>).
constexpr const char* kCapabilities[kCapabilityCount] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};
static_assert(CAP_CHECKPOINT_RESTORE == kCapabilityCount - 1 && CAP_SYS_RESOURCE == 24 && CAP_SETFCAP == 31);

struct RlimitName {
  const char* name;
  int resource;
};
constexpr RlimitName kRlimits[] = {
    {"RLIMIT_AS", RLIMIT_AS},           {"RLIMIT_CORE", RLIMIT_CORE},         {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},       {"RLIMIT_FSIZE", RLIMIT_FSIZE},       {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK}, {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},   {"RLIMIT_NPROC", RLIMIT_NPROC},       {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},   {"RLIMIT_RTTIME", RLIMIT_RTTIME},     {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
};

void ReadCapabilitySet(ObjectReader& reader, const char* name, uint64_t* set) {
  std::vector<std::string> names;
  reader.Strings(name, &names);
  for (size_t i = 0; i < names.size(); ++i) {
    int number = CapabilityNumber(names[i]);
    // config.md: a warning, no failure. A newer kernel's is none that a program could use here.
    if (number < 0) {
      reader.Warn(absl::StrCat(name, "[", i, "]"), "unknown capability \"" + names[i] + "\", ignored");
      continue;
    }
    *set |= uint64_t{1} << number;
  }
}

void ReadCapabilities(ObjectReader& reader, Process* process) {
  reader.Object("capabilities", [&](ObjectReader& r) {
    Capabilities& c = process->capabilities.emplace();
    ReadCapabilitySet(r, "bounding", &c.bounding);
    ReadCapabilitySet(r, "effective", &c.effective);
    ReadCapabilitySet(r, "inheritable", &c.inheritable);
    ReadCapabilitySet(r, "permitted", &c.permitted);
    ReadCapabilitySet(r, "ambient", &c.ambient);
    if (r.ok() && (c.effective & ~c.permitted)) {
      r.Fail("effective", "holds a capability that process.capabilities.permitted does not");
    }
  });
}

void ReadUser(ObjectReader& r, User* user) {
  r.Uint32("uid", &user->uid);
  r.Uint32("gid", &user->gid);
  std::optional<int64_t> umask;
  r.OptionalInteger("umask", &umask, 0, 0777);
  if (umask) user->umask = static_cast<uint32_t>(*umask);
  r.Uint32s("additionalGids", &user->additional_gids);
  // 2^32-1 is "no change" in every Linux call.
  if (user->uid == UINT32_MAX) r.Fail("uid", "4294967295 is not a valid id");
  if (user->gid == UINT32_MAX) r.Fail("gid", "4294967295 is not a valid id");
  r.WarnUnsupported("username", "only Windows containers have it");
}

void ReadRlimits(ObjectReader& reader, Process* process) {
  std::set<int> seen;
  reader.Objects("rlimits", [&](ObjectReader& r, size_t) {
    std::string type;
    Rlimit limit;
    r.String("type", &type, Need::kRequired);
    r.Unsigned("soft", &limit.soft, Need::kRequired);
    r.Unsigned("hard", &limit.hard, Need::kRequired);
    if (!r.ok()) return;
    limit.resource = RlimitNumber(type);
    if (limit.resource < 0) return r.Fail("type", "unknown resource limit \"" + type + "\"");
    if (!seen.insert(limit.resource).second) return r.Fail("type", "\"" + type + "\" is listed twice");
    if (limit.soft > limit.hard) return r.Fail("soft", "must not be above hard");
    process->rlimits.push_back(limit);
  });
}

}  // namespace

int CapabilityNumber(const std::string& name) {
  for (int i = 0; i < kCapabilityCount; ++i) {
    if (name == kCapabilities[i]) return i;
  }
  return -1;
}

const char* CapabilityName(int number) {
  return number >= 0 && number < kCapabilityCount ? kCapabilities[number] : nullptr;
}

int RlimitNumber(const std::string& name) {
  for (const RlimitName& limit : kRlimits) {
    if (name == limit.name) return limit.resource;
  }
  return -1;
}

void ReadProcess(ObjectReader& r, Process* process) {
  r.Bool("terminal", &process->terminal);
  r.Object("consoleSize", [&](ObjectReader& size) {
    int64_t rows = 0, columns = 0;
    size.Integer("height", &rows, 0, UINT16_MAX, Need::kRequired);
    size.Integer("width", &columns, 0, UINT16_MAX, Need::kRequired);
    // 0 x 0 is how Docker says "unknown".
    if (rows > 0 && columns > 0) {
      process->console_size = {.rows = static_cast<uint16_t>(rows), .columns = static_cast<uint16_t>(columns)};
    }
  });
  r.Object("user", [&](ObjectReader& user) { ReadUser(user, &process->user); });
  r.Strings("args", &process->args, Need::kRequired);
  r.Strings("env", &process->env);
  ReadAbsolutePath(r, "cwd", &process->cwd, Need::kRequired);
  ReadCapabilities(r, process);
  ReadRlimits(r, process);
  r.Bool("noNewPrivileges", &process->no_new_privileges);
  std::optional<int64_t> oom;
  r.OptionalInteger("oomScoreAdj", &oom, -1000, 1000);
  if (oom) process->oom_score_adj = static_cast<int>(*oom);
  r.Ignore({"commandLine"});
  r.WarnUnsupported("apparmorProfile", "the guest kernel has no AppArmor");
  r.WarnUnsupported("selinuxLabel", "the guest kernel has no SELinux");
  r.WarnUnsupported("scheduler", "guests have one scheduling class");
  r.WarnUnsupported("ioPriority", "I/O is not scheduled by priority");
  if (!r.ok()) return;
  if (process->args.empty()) r.Fail("args", "must not be empty");
  if (!process->args.empty() && process->args[0].empty()) r.Fail("args[0]", "must not be empty");
  for (size_t i = 0; i < process->env.size(); ++i) {
    // Linux takes any string; without a '=' it is most likely a mistake, and runc refuses it as well.
    size_t equals = process->env[i].find('=');
    if (equals == std::string::npos || equals == 0) {
      r.Fail(absl::StrCat("env[", i, "]"), "must look like NAME=value, is \"" + process->env[i] + "\"");
    }
  }
}

}  // namespace runsc::spec
