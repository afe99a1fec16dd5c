// SPDX-License-Identifier: Apache-2.0
#include "platform/select.h"

#include <cpuid.h>
#include <fcntl.h>

#include <string>
#include <utility>

#include "base/log.h"
#include "platform/kvm/kvm_platform.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/systrap/systrap_platform.h"

namespace platform {
namespace {

struct Choice {
  const char* name;
  absl::StatusOr<std::unique_ptr<Platform>> (*start)(base::UniqueFd device);
  // Why "auto" leaves it alone; null if it does not.
  const char* (*not_automatic)() = [] { return static_cast<const char*>(nullptr); };
};

const char* WhyNotKvm() {
  uint32_t a, b, c, d;
  const bool vmx = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & 1u << 5) != 0;
  const bool svm = __get_cpuid(0x8000'0001, &a, &b, &c, &d) != 0 && (c & 1u << 2) != 0;
  if (!vmx && !svm) return "the CPU has no VT-x or AMD-V, so /dev/kvm, if any, is emulated and slower than systrap";
  return "it has not been measured against systrap on hardware; --platform=kvm chooses it";
}

// Best first: the order in which "auto" tries them.
constexpr Choice kChoices[] = {
    {"systrap",
     [](base::UniqueFd) -> absl::StatusOr<std::unique_ptr<Platform>> {
       auto platform = systrap::SystrapPlatform::Start();
       if (!platform.ok()) return platform.status();
       return std::unique_ptr<Platform>(*std::move(platform));
     }},
    {"ptrace",
     [](base::UniqueFd) -> absl::StatusOr<std::unique_ptr<Platform>> {
       auto platform = ptrace::PtracePlatform::Start();
       if (!platform.ok()) return platform.status();
       return std::unique_ptr<Platform>(*std::move(platform));
     }},
    {"kvm",
     [](base::UniqueFd device) -> absl::StatusOr<std::unique_ptr<Platform>> {
       auto platform = kvm::KvmPlatform::Start(std::move(device));
       if (!platform.ok()) return platform.status();
       return std::unique_ptr<Platform>(*std::move(platform));
     },
     WhyNotKvm},
};

}  // namespace

absl::StatusOr<base::UniqueFd> OpenDevice(absl::string_view name) {
  if (name != "kvm") return base::UniqueFd();
  base::UniqueFd device(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (device) return device;
  return absl::UnavailableError(std::string("/dev/kvm can't be opened: ") + base::Errno::Last().Name() +
                                "; load kvm_intel or kvm_amd and let this user write it, or use --platform=systrap");
}

absl::StatusOr<std::unique_ptr<Platform>> MakePlatform(absl::string_view name, base::UniqueFd device) {
  if (name == "auto") {
    for (const Choice& choice : kChoices) {
      if (const char* why = choice.not_automatic()) LOG_INFO("platform %s is not considered: %s", choice.name, why);
    }
  }
  std::string known;
  std::string failures;
  for (const Choice& choice : kChoices) {
    known += std::string(", ") + choice.name;
    if (name != "auto" && name != choice.name) continue;
    if (name == "auto" && choice.not_automatic() != nullptr) continue;
    auto platform = choice.start(std::move(device));
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
