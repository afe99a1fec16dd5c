// SPDX-License-Identifier: Apache-2.0
// Vm: the virtual machine and what all its CPUs share. Host calls: open, ioctl. Thread-safe after Create.
#ifndef PLATFORM_KVM_VM_H_
#define PLATFORM_KVM_VM_H_

#include <cstdint>

#include "absl/status/status.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "platform/kvm/kvm_abi.h"

namespace platform::kvm {

class Vm {
 public:
  // `device` is /dev/kvm, or nothing: then it is opened.
  absl::Status Create(base::UniqueFd device);
  int fd() const { return vm_.get(); }
  uint32_t max_slots() const { return max_slots_; }
  uint32_t max_vcpus() const { return max_vcpus_; }
  uint32_t run_size() const { return run_size_; }
  uint64_t guest_physical_limit() const { return guest_physical_limit_; }
  uint64_t xcr0() const { return xcr0_; }
  uint64_t cr4() const { return cr4_; }
  CpuidTable& cpuid() { return cpuid_; }

  // `length` 0 removes the slot.
  base::Result<void> SetSlot(uint32_t slot, uint32_t flags, uint64_t gpa, uint8_t* host, uint64_t length);

 private:
  absl::Status ReadCpuid();

  base::UniqueFd device_;
  base::UniqueFd vm_;
  uint32_t max_slots_ = 0;
  uint32_t max_vcpus_ = 0;
  uint32_t run_size_ = 0;
  uint64_t guest_physical_limit_ = 0;
  uint64_t xcr0_ = 3;
  uint64_t cr4_ = 0;
  CpuidTable cpuid_;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_VM_H_
