// SPDX-License-Identifier: Apache-2.0
// runsc features: the runtime-spec's features document.
#include "runsc/cmd/command.h"
#include "runsc/json_writer.h"
#include "runsc/spec/mount_options.h"
#include "runsc/spec/parse.h"

namespace runsc {

absl::StatusOr<int> RunFeatures(CommandContext& context) {
  JsonWriter w;
  w.BeginObject();
  w.String("ociVersionMin", "1.0.0");
  w.String("ociVersionMax", kSpecVersion);
  w.Strings("hooks", {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"});
  w.Strings("mountOptions", spec::KnownMountOptions());
  w.BeginObject("linux");
  w.Strings("namespaces", {"pid", "network", "mount", "ipc", "uts", "user"});
  std::vector<std::string> capabilities;
  for (int i = 0; i < spec::kCapabilityCount; ++i) capabilities.push_back(spec::CapabilityName(i));
  w.Strings("capabilities", capabilities);
  w.BeginObject("cgroup");
  w.Bool("v1", true);
  w.Bool("v2", true);
  w.Bool("systemd", true);
  w.Bool("systemdUser", true);
  w.EndObject();
  w.BeginObject("seccomp");
  w.Bool("enabled", true);
  w.Strings("actions", {"SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRAP",
                        "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG"});
  w.Strings("operators", {"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
                          "SCMP_CMP_MASKED_EQ"});
  w.Strings("archs", {"SCMP_ARCH_X86_64"});
  w.EndObject();
  for (const char* absent : {"apparmor", "selinux", "intelRdt"}) {
    w.BeginObject(absent);
    w.Bool("enabled", false);
    w.EndObject();
  }
  w.EndObject();
  w.EndObject();
  PrintOut(w.text() + "\n");
  return 0;
}

}  // namespace runsc
