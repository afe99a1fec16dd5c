// SPDX-License-Identifier: Apache-2.0
// What the shared tests want to know of the kvm platform.
#include <stdio.h>
#include <stdlib.h>

#include "platform/kvm/kvm_platform.h"
#include "platform/safe_copy.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {

std::unique_ptr<Platform> StartTestPlatform() {
  InstallSafeCopyHandler();
  auto started = kvm::KvmPlatform::Start();
  if (!started.ok()) {
    printf("SKIPPED: %s\n", started.status().ToString().c_str());
    exit(0);
  }
  return *std::move(started);
}

bool HasStubs() { return false; }
pid_t StubPid(AddressSpace&) { abort(); }
pid_t StubTid(Context&) { abort(); }
pid_t ZygotePid() { abort(); }
ptrace::Placement& TestPlacement() { abort(); }
ptrace::Placement::Slot& SlotOf(Context&) { abort(); }

}  // namespace platform::testing
