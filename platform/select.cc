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

using Started = absl::StatusOr<std::unique_ptr<Platform>>;

struct Choice {
  const char* name;
  Started (*start)(base::UniqueFd device, bool is_auto);
};

// What a call of the cheapest hand-over of systrap that does not spin costs, in calls of the host's kernel
// (docs/performance.md: 2.5 to 4 us where a call takes 0.1): a kvm that is slower is no gain.
constexpr double kSystrapCalls = 25;

bool HasVirtualization() {
  uint32_t a, b, c, d;
  const bool vmx = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & 1u << 5) != 0;
  const bool svm = __get_cpuid(0x8000'0001, &a, &b, &c, &d) != 0 && (c & 1u << 2) != 0;
  return vmx || svm;
}

Started StartKvm(base::UniqueFd device, bool is_auto) {
  if (is_auto && !HasVirtualization()) {
    return absl::UnavailableError(
        "the CPU has no VT-x or AMD-V: /dev/kvm, if any, is emulated and slower than systrap");
  }
  if (is_auto && !device) return absl::UnavailableError("/dev/kvm is not there or not for this user");
  auto platform = kvm::KvmPlatform::Start(std::move(device));
  if (!platform.ok()) return platform.status();
  const kvm::KvmPlatform& kvm = **platform;
  if (is_auto && !kvm.abilities().answers) {
    return absl::UnavailableError("ring 0 of the host's KVM can't return to ring 3 by itself: slower than systrap");
  }
  if (is_auto && kvm.RoundTripInHostCalls() > kSystrapCalls) {
    return absl::UnavailableError("a guest's call takes as long as " +
                                  std::to_string(static_cast<int>(kvm.RoundTripInHostCalls())) +
                                  " calls of the host's kernel: slower than systrap");
  }
  return std::unique_ptr<Platform>(*std::move(platform));
}

Started StartSystrap(base::UniqueFd, bool) {
  auto platform = systrap::SystrapPlatform::Start();
  if (!platform.ok()) return platform.status();
  return std::unique_ptr<Platform>(*std::move(platform));
}

Started StartPtrace(base::UniqueFd, bool) {
  auto platform = ptrace::PtracePlatform::Start();
  if (!platform.ok()) return platform.status();
  return std::unique_ptr<Platform>(*std::move(platform));
}

// Best first: the order in which "auto" tries them.
constexpr Choice kChoices[] = {{"kvm", StartKvm}, {"systrap", StartSystrap}, {"ptrace", StartPtrace}};

}  // namespace

absl::StatusOr<base::UniqueFd> OpenDevice(absl::string_view name) {
  if (name != "kvm" && (name != "auto" || !HasVirtualization())) return base::UniqueFd();
  base::UniqueFd device(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (device || name == "auto") return device;
  return absl::UnavailableError(std::string("/dev/kvm can't be opened: ") + base::Errno::Last().Name() +
                                "; load kvm_intel or kvm_amd and let this user write it, or use --platform=systrap");
}

absl::StatusOr<std::unique_ptr<Platform>> MakePlatform(absl::string_view name, base::UniqueFd device) {
  const bool is_auto = name == "auto";
  std::string known;
  std::string failures;
  for (const Choice& choice : kChoices) {
    known += std::string(", ") + choice.name;
    if (!is_auto && name != choice.name) continue;
    auto platform = choice.start(std::move(device), is_auto);
    if (platform.ok()) {
      LOG_INFO("platform %s: self-test passed", choice.name);
      return platform;
    }
    if (!is_auto) return platform.status();
    const std::string why(platform.status().message());
    if (absl::string_view(choice.name) == "kvm") {
      LOG_INFO("platform kvm is not taken: %s", why.c_str());
    } else {
      LOG_WARNING("platform %s can't be used: %s", choice.name, why.c_str());
    }
    failures += (failures.empty() ? "" : "; ") + why;
  }
  if (is_auto) return absl::UnavailableError("--platform=auto: no platform works on this host: " + failures);
  return absl::InvalidArgumentError("--platform=" + std::string(name) + ": unknown platform; known are auto" + known);
}

}  // namespace platform
