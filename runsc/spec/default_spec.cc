// SPDX-License-Identifier: Apache-2.0
// The config.json that `runsc spec` writes: the same sections and values as runc's.
#include "runsc/json_writer.h"
#include "runsc/spec/parse.h"

namespace runsc::spec {
namespace {

struct DefaultMount {
  const char* destination;
  const char* type;
  std::vector<std::string> options;
};

void WriteMounts(JsonWriter& w, bool rootless) {
  std::vector<DefaultMount> mounts = {
      {"/proc", "proc", {}},
      {"/dev", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
      {"/dev/pts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
      {"/dev/shm", "tmpfs", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
      {"/dev/mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
      {"/sys", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
      {"/sys/fs/cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}},
  };
  // A user namespace of one id has no group 5.
  if (!rootless) mounts[2].options.push_back("gid=5");
  w.BeginArray("mounts");
  for (const DefaultMount& mount : mounts) {
    w.BeginObject();
    w.String("destination", mount.destination);
    w.String("type", mount.type);
    w.String("source",
             mount.type == std::string("tmpfs") && mount.destination != std::string("/dev") ? "shm" : mount.type);
    if (!mount.options.empty()) w.Strings("options", mount.options);
    w.EndObject();
  }
  w.EndArray();
}

}  // namespace

std::string DefaultSpecJson(const std::vector<std::string>& args, const std::string& cwd, bool rootless) {
  JsonWriter w("\t");
  w.BeginObject();
  w.String("ociVersion", "1.0.2");
  w.BeginObject("process");
  w.Bool("terminal", true);
  w.BeginObject("user");
  w.Number("uid", 0);
  w.Number("gid", 0);
  w.EndObject();
  w.Strings("args", args);
  w.Strings("env", {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"});
  w.String("cwd", cwd);
  w.BeginObject("capabilities");
  for (const char* set : {"bounding", "effective", "permitted", "ambient"}) {
    w.Strings(set, {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"});
  }
  w.EndObject();
  w.BeginArray("rlimits");
  w.BeginObject();
  w.String("type", "RLIMIT_NOFILE");
  w.Number("hard", 1024);
  w.Number("soft", 1024);
  w.EndObject();
  w.EndArray();
  w.Bool("noNewPrivileges", true);
  w.EndObject();
  w.BeginObject("root");
  w.String("path", "rootfs");
  w.Bool("readonly", true);
  w.EndObject();
  w.String("hostname", "runsc");
  WriteMounts(w, rootless);
  w.BeginObject("linux");
  w.BeginArray("namespaces");
  for (const char* type : {"pid", "network", "ipc", "uts", "mount", "cgroup"}) {
    w.BeginObject();
    w.String("type", type);
    w.EndObject();
  }
  w.EndArray();
  w.Strings("maskedPaths",
            {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
             "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"});
  w.Strings("readonlyPaths", {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"});
  w.EndObject();
  w.EndObject();
  return w.text() + "\n";
}

}  // namespace runsc::spec
