// SPDX-License-Identifier: Apache-2.0
// What the shared tests want to know of the systrap platform.
#include "base/log.h"
#include "platform/systrap/address_space.h"
#include "platform/systrap/context.h"
#include "platform/systrap/systrap_platform.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {

using systrap::SystrapAddressSpace;
using systrap::SystrapContext;
using systrap::SystrapPlatform;

std::unique_ptr<Platform> StartTestPlatform() {
  auto started = SystrapPlatform::Start();
  if (!started.ok()) FATAL("%s", started.status().ToString().c_str());
  (*started)->OnStubLost([] {});
  (*started)->AllowSpinning(true);
  return *std::move(started);
}

bool HasStubs() { return true; }
pid_t StubPid(AddressSpace& space) { return static_cast<SystrapAddressSpace&>(space).pid(); }
pid_t StubTid(Context& context) { return static_cast<SystrapContext&>(context).thread()->tid; }
pid_t ZygotePid() { return static_cast<SystrapPlatform&>(TestPlatform()).zygote().pid(); }
ptrace::Placement& TestPlacement() { return static_cast<SystrapPlatform&>(TestPlatform()).placement(); }
ptrace::Placement::Slot& SlotOf(Context& context) { return static_cast<SystrapContext&>(context).slot(); }

}  // namespace platform::testing
