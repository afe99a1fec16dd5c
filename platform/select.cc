// SPDX-License-Identifier: Apache-2.0
#include "platform/select.h"

#include <string>
#include <utility>

#include "base/log.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/systrap/systrap_platform.h"

namespace platform {
namespace {

struct Choice {
  const char* name;
  absl::StatusOr<std::unique_ptr<Platform>> (*start)();
};

// Best first: the order in which "auto" tries them.
constexpr Choice kChoices[] = {
    {"systrap",
     []() -> absl::StatusOr<std::unique_ptr<Platform>> {
       auto platform = systrap::SystrapPlatform::Start();
       if (!platform.ok()) return platform.status();
       return std::unique_ptr<Platform>(*std::move(platform));
     }},
    {"ptrace",
     []() -> absl::StatusOr<std::unique_ptr<Platform>> {
       auto platform = ptrace::PtracePlatform::Start();
       if (!platform.ok()) return platform.status();
       return std::unique_ptr<Platform>(*std::move(platform));
     }},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Platform>> MakePlatform(absl::string_view name) {
  std::string known;
  std::string failures;
  for (const Choice& choice : kChoices) {
    known += std::string(", ") + choice.name;
    if (name != "auto" && name != choice.name) continue;
    auto platform = choice.start();
    if (platform.ok()) {
      LOG_INFO("platform %s: self-test passed", choice.name);
      return platform;
    }
    if (name != "auto") return platform.status();
    LOG_WARNING("platform %s can't be used: %s", choice.name, platform.status().ToString().c_str());
    failures += (failures.empty() ? "" : "; ") + std::string(platform.status().message());
  }
  if (name == "auto") return absl::UnavailableError("--platform=auto: no platform works on this host: " + failures);
  return absl::InvalidArgumentError("--platform=" + std::string(name) + ": unknown platform; known are auto" + known);
}

}  // namespace platform
