// SPDX-License-Identifier: Apache-2.0
#include "platform/kvm/vm.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/auxv.h>

#include <algorithm>
#include <string>

namespace platform::kvm {
namespace {

constexpr int kApiVersion = 12;
constexpr unsigned long kHwcapFsgsbase = 2;
constexpr uint64_t kCr4Always = 1 << 5 | 1 << 9 | 1 << 10 | 1 << 16;  // PAE, OSFXSR, OSXMMEXCPT, FSGSBASE
constexpr uint64_t kCr4OsXsave = 1 << 18, kCr4Smep = 1 << 20, kCr4Umip = 1 << 11;
constexpr uint32_t kXsaveBit = 1u << 26, kOsXsaveBit = 1u << 27, kFsgsbaseBit = 1, kSmepBit = 1u << 7,
                   kUmipBit = 1u << 2;
constexpr uint32_t kVmxBit = 1u << 5, kX2apicBit = 1u << 21, kDeadlineBit = 1u << 24, kSvmBit = 1u << 2,
                   kPkuBit = 1u << 3;
constexpr uint64_t kVectorComponents = 0xe7;  // x87, SSE, AVX, AVX-512: what a 4 KiB image holds

absl::Status Failed(const std::string& what, int error = 0) {
  std::string message = "kvm platform: " + what;
  if (error != 0) message += std::string(": ") + base::Errno(error).Name();
  return absl::UnavailableError(message);
}

}  // namespace

absl::Status Vm::Create(base::UniqueFd device) {
  device_ = std::move(device);
  if (!device_) device_.Reset(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!device_) {
    return Failed("/dev/kvm can't be opened (is KVM there, and may this user write it?)", errno);
  }
  const int kvm = device_.get();
  if (ioctl(kvm, KVM_GET_API_VERSION, 0) != kApiVersion) return Failed("/dev/kvm speaks another version than 12");
  struct {
    long capability;
    const char* name;
    int bits;
  } needed[] = {
      {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", 1},
      {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", 1},
      {KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS", KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS},
      {KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM", 1},
      {KVM_CAP_XSAVE, "KVM_CAP_XSAVE", 1},
      {KVM_CAP_XCRS, "KVM_CAP_XCRS", 1},
      {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS", 1},
  };
  for (const auto& need : needed) {
    if ((ioctl(kvm, KVM_CHECK_EXTENSION, need.capability) & need.bits) != need.bits) {
      return Failed(std::string("the host's KVM lacks ") + need.name + "; use --platform=systrap");
    }
  }
  max_slots_ = static_cast<uint32_t>(std::max(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS), 0));
  max_vcpus_ = static_cast<uint32_t>(std::max(ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS), 1));
  run_size_ = static_cast<uint32_t>(std::max(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), 0));
  if (run_size_ < sizeof(kvm_run)) return Failed("KVM_GET_VCPU_MMAP_SIZE is too small");
  absl::Status status = ReadCpuid();
  if (!status.ok()) return status;
  do {
    vm_.Reset(ioctl(kvm, KVM_CREATE_VM, 0));
  } while (!vm_ && errno == EINTR);
  if (!vm_) return Failed("KVM_CREATE_VM", errno);
  return absl::OkStatus();
}

absl::Status Vm::ReadCpuid() {
  if (ioctl(device_.get(), kGetSupportedCpuid, &cpuid_) != 0) return Failed("KVM_GET_SUPPORTED_CPUID", errno);
  uint32_t bits = 36;
  uint32_t a, b, c, d;
  const bool xsave = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & kOsXsaveBit) != 0;
  // Some software implementations have it and don't say so.
  if ((getauxval(AT_HWCAP2) & kHwcapFsgsbase) == 0) {
    return Failed("needs a CPU and a kernel with FSGSBASE (Linux 5.9); use --platform=ptrace");
  }
  cr4_ = kCr4Always;
  auto* end = cpuid_.entries + std::min<uint32_t>(cpuid_.count, kMaxCpuidEntries);
  // No paravirtual interfaces, and nothing that needs more of a machine than there is.
  end = std::remove_if(cpuid_.entries, end, [](const kvm_cpuid_entry2& entry) {
    return entry.function >= 0x4000'0000 && entry.function < 0x5000'0000;
  });
  cpuid_.count = static_cast<uint32_t>(end - cpuid_.entries);
  for (auto* entry = cpuid_.entries; entry != end; ++entry) {
    switch (entry->function) {
      case 1:
        if (xsave) entry->ecx |= kXsaveBit;
        entry->ecx &= ~(kVmxBit | kX2apicBit | kDeadlineBit);
        break;
      case 7:
        if (entry->index != 0) break;
        entry->ebx |= kFsgsbaseBit;
        if ((entry->ebx & kSmepBit) != 0) cr4_ |= kCr4Smep;
        if ((entry->ecx & kUmipBit) != 0) cr4_ |= kCr4Umip;
        entry->ecx &= ~kPkuBit;
        break;
      case 0x8000'0001:
        entry->ecx &= ~kSvmBit;
        break;
      case 0x8000'0008:
        bits = std::clamp(entry->eax & 0xff, 36u, 52u);
        break;
    }
  }
  guest_physical_limit_ = uint64_t{1} << bits;
  if (xsave) {
    cr4_ |= kCr4OsXsave;
    uint32_t low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    xcr0_ = (static_cast<uint64_t>(high) << 32 | low) & kVectorComponents;
  }
  return absl::OkStatus();
}

base::Result<void> Vm::SetSlot(uint32_t slot, uint32_t flags, uint64_t gpa, uint8_t* host, uint64_t length) {
  kvm_userspace_memory_region region = {.slot = slot,
                                        .flags = flags,
                                        .guest_phys_addr = gpa,
                                        .memory_size = length,
                                        .userspace_addr = reinterpret_cast<uint64_t>(host)};
  while (ioctl(fd(), KVM_SET_USER_MEMORY_REGION, &region) != 0) {
    if (errno != EINTR) return base::Errno::Last();
  }
  return base::OkResult();
}

}  // namespace platform::kvm
