// SPDX-License-Identifier: Apache-2.0
// The page of code and data that serves clock reads without a system call (vdso(7)). An interface: an implementation
// owns its pages.
#ifndef SENTRY_ARCH_VDSO_H_
#define SENTRY_ARCH_VDSO_H_

#include "platform/clock_params.h"
#include "sentry/common.h"

namespace sentry::mm {
class MappedObject;
class MemoryManager;
}  // namespace sentry::mm

namespace sentry::arch {

class Vdso {
 public:
  virtual ~Vdso() = default;
  // Maps it into a new address space: the address of its ELF header (AT_SYSINFO_EHDR). `offsets`: of a time namespace,
  // by NewOffsets; null: none.
  virtual Result<uint64_t> MapInto(mm::MemoryManager& mm, RefPtr<mm::MappedObject> offsets) = 0;
  // A page with what is added to CLOCK_MONOTONIC. ENOMEM.
  virtual Result<RefPtr<mm::MappedObject>> NewOffsets(int64_t monotonic_ns) = 0;
  // The address space enters a time namespace. Nothing happens where the guest has unmapped the old page.
  virtual Result<void> SetOffsets(mm::MemoryManager& mm, RefPtr<mm::MappedObject> offsets) = 0;
  // Brings the clock parameters up to date when that is due; else returns at once. From any thread that passes through
  // the run loop: with no guest running nobody needs to.
  virtual void UpdateParams() {}
  // Keeps the clock parameters at `copy` (zeroes so far), too. Before the first guest.
  virtual void Mirror(platform::ClockParams* copy) {}
};

}  // namespace sentry::arch

#endif  // SENTRY_ARCH_VDSO_H_
