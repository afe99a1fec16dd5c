// SPDX-License-Identifier: Apache-2.0
// What the shared tests want to know of the ptrace platform.
#include "base/log.h"
#include "platform/ptrace/address_space.h"
#include "platform/ptrace/context.h"
#include "platform/ptrace/ptrace_platform.h"
#include "platform/testing/test_guest.h"

namespace platform::testing {

using ptrace::PtraceAddressSpace;
using ptrace::PtraceContext;
using ptrace::PtracePlatform;

std::unique_ptr<Platform> StartTestPlatform() {
  auto started = PtracePlatform::Start();
  if (!started.ok()) FATAL("%s", started.status().ToString().c_str());
  return *std::move(started);
}

bool HasStubs() { return true; }
pid_t StubPid(AddressSpace& space) { return static_cast<PtraceAddressSpace&>(space).pid(); }
pid_t StubTid(Context& context) { return static_cast<PtraceContext&>(context).tracee().tid(); }
pid_t ZygotePid() { return static_cast<PtracePlatform&>(TestPlatform()).zygote().pid(); }
ptrace::Placement& TestPlacement() { return static_cast<PtracePlatform&>(TestPlatform()).placement(); }
ptrace::Placement::Slot& SlotOf(Context& context) { return static_cast<PtraceContext&>(context).slot(); }

}  // namespace platform::testing
