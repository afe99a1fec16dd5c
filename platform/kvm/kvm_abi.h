// SPDX-License-Identifier: Apache-2.0
// <linux/kvm.h> for C++: its structures that end in a flexible array are larger there than in C, so the numbers of the
// ioctls that carry them come out wrong. These are the numbers of C.
#ifndef PLATFORM_KVM_KVM_ABI_H_
#define PLATFORM_KVM_KVM_ABI_H_

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace platform::kvm {

inline constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, uint64_t);
inline constexpr unsigned long kSetCpuid = _IOW(KVMIO, 0x90, uint64_t);
inline constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, uint64_t);
inline constexpr unsigned long kGetXsave = _IOR(KVMIO, 0xa4, char[4096]);
inline constexpr unsigned long kSetXsave = _IOW(KVMIO, 0xa5, char[4096]);

// Of a sandbox's virtual machine.
inline constexpr uint32_t kMaxVcpus = 256;

inline constexpr int kMaxCpuidEntries = 256;
struct CpuidTable {
  uint32_t count = kMaxCpuidEntries;
  uint32_t padding = 0;
  kvm_cpuid_entry2 entries[kMaxCpuidEntries] = {};
};

inline constexpr int kMaxMsrs = 8;
struct MsrTable {
  uint32_t count = 0;
  uint32_t padding = 0;
  kvm_msr_entry entries[kMaxMsrs] = {};
};

struct alignas(64) XsaveArea {
  uint8_t bytes[4096] = {};
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_KVM_ABI_H_
