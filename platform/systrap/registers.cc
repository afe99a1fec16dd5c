// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/registers.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include <algorithm>

#include "platform/stub/stub_page.h"

namespace platform::systrap {
namespace {

constexpr uint16_t kUserCode = 0x33;
constexpr uint16_t kUserCode32 = 0x23;
constexpr uint16_t kUserData = 0x2b;

constexpr uint64_t kPageFault = 14;
constexpr uint64_t kErrorWrite = 2;
constexpr uint64_t kErrorFetch = 16;

// arch/x86/entry/vsyscall: three entries, 1 KiB apart.
constexpr uint64_t kVsyscallPage = 0xffff'ffff'ff60'0000;
constexpr uint64_t kVsyscallStride = 0x400;
constexpr uint64_t kVsyscallNumbers[] = {SYS_gettimeofday, SYS_time, SYS_getcpu};

constexpr size_t kLegacyFpuSize = 512;
constexpr size_t kSoftwareReserved = 464;
constexpr size_t kXsaveHeaderEnd = 576;
constexpr size_t kMxcsrOffset = 24;
constexpr uint64_t kX87AndSse = 3;

bool IsCanonical(uint64_t address) {
  return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}

}  // namespace

bool LoadableRegisters(const Registers& registers, uint64_t fs_base, uint64_t gs_base) {
  if (registers.cs != kUserCode && registers.cs != kUserCode32) return false;
  if (registers.ss != kUserData) return false;
  if (!IsCanonical(registers.rip)) return false;
  // A guest may have given itself any canonical value; what the sentry sets follows arch_prctl(2).
  return (registers.fs_base == fs_base || registers.fs_base < kHostAddressEnd) &&
         (registers.gs_base == gs_base || registers.gs_base < kHostAddressEnd);
}

void ToContext(const Registers& from, SignalContext* to) {
  *to = {};
  to->r8 = from.r8;
  to->r9 = from.r9;
  to->r10 = from.r10;
  to->r11 = from.r11;
  to->r12 = from.r12;
  to->r13 = from.r13;
  to->r14 = from.r14;
  to->r15 = from.r15;
  to->rdi = from.rdi;
  to->rsi = from.rsi;
  to->rbp = from.rbp;
  to->rbx = from.rbx;
  to->rdx = from.rdx;
  to->rax = from.rax;
  to->rcx = from.rcx;
  to->rsp = from.rsp;
  to->rip = from.rip;
  to->eflags = from.eflags;
  to->cs = static_cast<uint16_t>(from.cs);
  to->ss = static_cast<uint16_t>(from.ss);
}

void FromContext(const SignalContext& from, Registers* to) {
  to->r8 = from.r8;
  to->r9 = from.r9;
  to->r10 = from.r10;
  to->r11 = from.r11;
  to->r12 = from.r12;
  to->r13 = from.r13;
  to->r14 = from.r14;
  to->r15 = from.r15;
  to->rdi = from.rdi;
  to->rsi = from.rsi;
  to->rbp = from.rbp;
  to->rbx = from.rbx;
  to->rdx = from.rdx;
  to->rax = from.rax;
  to->rcx = from.rcx;
  to->rsp = from.rsp;
  to->rip = from.rip;
  to->eflags = from.eflags;
  to->cs = from.cs;
  to->ss = from.ss;
  to->orig_rax = ~uint64_t{0};
}

Access FaultAccess(const SignalContext& context) {
  if (context.trap != kPageFault) return Access::kUnknown;
  if ((context.error & kErrorFetch) != 0) return Access::kExec;
  return (context.error & kErrorWrite) != 0 ? Access::kWrite : Access::kRead;
}

bool IsVsyscall(uint64_t address) {
  return address >= kVsyscallPage && address < kVsyscallPage + 3 * kVsyscallStride && address % kVsyscallStride == 0;
}

uint64_t VsyscallNumber(uint64_t address) { return kVsyscallNumbers[(address - kVsyscallPage) / kVsyscallStride]; }

void CleanFpu(std::span<uint8_t> image, uint64_t xfeatures) {
  if (image.size() < kLegacyFpuSize) return;
  memset(image.data() + kSoftwareReserved, 0, kLegacyFpuSize - kSoftwareReserved);
  memcpy(image.data() + kSoftwareReserved, &xfeatures, sizeof xfeatures);
}

base::Result<void> CheckFpu(std::span<const uint8_t> image, uint64_t xfeatures, uint32_t mxcsr_mask,
                            std::span<uint8_t> full) {
  if (image.size() < kLegacyFpuSize || image.size() > full.size()) return base::Errno(EINVAL);
  std::fill(full.begin(), full.end(), 0);
  memcpy(full.data(), image.data(), image.size());
  uint32_t mxcsr;
  memcpy(&mxcsr, full.data() + kMxcsrOffset, sizeof mxcsr);
  if ((mxcsr & ~mxcsr_mask) != 0) return base::Errno(EINVAL);
  // What the image lacks is in its initial state.
  if (image.size() < kXsaveHeaderEnd) {
    std::fill(full.begin() + kLegacyFpuSize, full.end(), 0);
    memcpy(full.data() + kLegacyFpuSize, &kX87AndSse, sizeof kX87AndSse);
    return base::OkResult();
  }
  uint64_t header[8];
  memcpy(header, full.data() + kLegacyFpuSize, sizeof header);
  if ((header[0] & ~xfeatures) != 0) return base::Errno(EINVAL);
  for (size_t i = 1; i < 8; ++i) {
    if (header[i] != 0) return base::Errno(EINVAL);
  }
  return base::OkResult();
}

}  // namespace platform::systrap
