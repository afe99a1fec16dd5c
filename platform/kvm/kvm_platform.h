// SPDX-License-Identifier: Apache-2.0
// KvmPlatform: guests run in ring 3 of one virtual machine.
#ifndef PLATFORM_KVM_KVM_PLATFORM_H_
#define PLATFORM_KVM_KVM_PLATFORM_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "platform/kvm/page_tables.h"
#include "platform/kvm/segments.h"
#include "platform/kvm/vcpu_pool.h"
#include "platform/kvm/vm.h"
#include "platform/platform.h"

namespace platform::kvm {

class KvmAddressSpace;
class KvmContext;

class KvmPlatform final : public Platform {
 public:
  // `device` is /dev/kvm opened for writing, or nothing: then it is opened here. Proves with guest code that the host
  // lets it work. Unavailable with the reason otherwise. All AddressSpaces and Contexts must be gone before it is.
  static absl::StatusOr<std::unique_ptr<KvmPlatform>> Start(base::UniqueFd device = {});
  ~KvmPlatform() override = default;

  const char* Name() const override { return "kvm"; }
  base::Result<base::RefPtr<AddressSpace>> NewAddressSpace() override;
  std::unique_ptr<Context> NewContext() override;
  size_t FpuStateSize() const override { return fpu_size_; }

  Arena& arena() { return arena_; }
  Segments& segments() { return segments_; }
  VcpuPool& pool() { return pool_; }
  uint64_t kernel_entry() const { return kernel_->kernel_entry(); }
  // KVM derives its tables from the guest's by looking at them at faults: it must be told of changes.
  bool shadow() const { return shadow_; }
  bool has_debug() const { return has_debug_; }
  int vm_fd() const { return vm_.fd(); }
  uint64_t xcr0() const { return vm_.xcr0(); }
  uint32_t mxcsr_mask() const { return mxcsr_mask_; }
  // Every CPU that runs in the space leaves it for a moment, and takes notice of its generation when it returns.
  void KickOut(const AddressSpace* space);
  // Of a thread that runs guests: kicks reach it.
  void PrepareThread();
  // KVM_RUNs so far, of all CPUs; of these, entered by ring 0's own iretq or sysretq.
  uint64_t Exits();
  uint64_t Ring0Entries();
  const Abilities& abilities() const { return abilities_; }
  // What a system call costs from guest to sentry and back, measured at the start, in calls of the host's kernel.
  double RoundTripInHostCalls() const { return round_trip_; }

 private:
  KvmPlatform() : segments_(vm_) {}
  absl::Status MakeKernel();
  absl::Status SelfTest();
  // Finds out which ways to ring 3 work. `space` has the self-test's program mapped; `start` runs it.
  void TryRing0(KvmContext& context, const Registers& start);
  void SetAbilities(const Abilities& abilities, bool probing);
  void MeasureRoundTrip(KvmContext& context, const Registers& start);
  void Zap();

  Vm vm_;
  Arena arena_;
  Segments segments_;
  std::unique_ptr<PageTables> kernel_;
  VcpuPool pool_;
  size_t fpu_size_ = 0;
  uint32_t mxcsr_mask_ = 0xffff;
  Abilities abilities_;
  double round_trip_ = 0;
  bool shadow_ = true;
  bool has_debug_ = true;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_KVM_PLATFORM_H_
