// SPDX-License-Identifier: Apache-2.0
// Chooses the platform for --platform.
#ifndef PLATFORM_SELECT_H_
#define PLATFORM_SELECT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"
#include "platform/platform.h"

namespace platform {

// What the platform needs opened while the host's files can be reached: /dev/kvm, or nothing. For "auto" nothing, too,
// where it isn't there.
absl::StatusOr<base::UniqueFd> OpenDevice(absl::string_view name);

// `name` is a platform's name, or "auto": the best one whose self-test passes, with the reason in the log. The caller's
// obligations are those of stub::Zygote::Start. `device` is OpenDevice's. InvalidArgument for an unknown name,
// Unavailable if it can't run here.
absl::StatusOr<std::unique_ptr<Platform>> MakePlatform(absl::string_view name, base::UniqueFd device = {});

}  // namespace platform

#endif  // PLATFORM_SELECT_H_
