// SPDX-License-Identifier: Apache-2.0
// Vcpu: a CPU of the VM, used by one thread at a time. It enters ring 3 with given registers and says how the guest
// left it. Host calls: ioctl, tgkill.
#ifndef PLATFORM_KVM_VCPU_H_
#define PLATFORM_KVM_VCPU_H_

#include <sys/syscall.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"
#include "platform/kvm/kvm_abi.h"
#include "platform/kvm/vm.h"
#include "platform/platform.h"

namespace platform::kvm {

class KvmContext;

// Where the ring-0 part is in the upper half of every address space.
inline constexpr uint64_t kEntryText = 0xffff'8000'0000'0000;
inline constexpr uint64_t kGdt = kEntryText + kPageSize;
inline constexpr uint64_t kIdt = kGdt + kPageSize;
// Of each CPU: the text again, its data (task state, stacks), its answers, a hole. entry.S knows the order.
inline constexpr uint64_t kVcpuPages = kEntryText + 0x1'0000;
inline constexpr uint64_t kVcpuStride = 4 * kPageSize;
inline constexpr uint64_t kVcpuData = kPageSize;
inline constexpr uint64_t kVcpuAnswers = 2 * kPageSize;

// System calls that ring 0 may answer, each with a constant.
inline constexpr uint32_t kAnswerable[] = {SYS_getpid,  SYS_gettid, SYS_getppid, SYS_getuid,
                                           SYS_geteuid, SYS_getgid, SYS_getegid};
inline constexpr size_t kAnswers = sizeof kAnswerable / sizeof *kAnswerable;
inline constexpr uint64_t kAnswerValid = uint64_t{1} << 63;  // else the call leaves for the sentry
using Answers = std::array<uint64_t, kAnswers>;

// What the host lets ring 0 do, by the self-test.
struct Abilities {
  bool iret = false;     // enter ring 3 by iretq
  bool sysret = false;   // ... and by sysretq
  bool answers = false;  // answer system calls
};

inline constexpr uint32_t kSyscallTrap = 256;
inline constexpr uint32_t kInt80 = 0x80;
inline constexpr uint16_t kUserCode = 0x33, kUserCode32 = 0x23, kUserData = 0x2b, kKernelCode = 0x10;

inline constexpr int kKickSignal = 23;  // SIGURG, as on the other platforms

struct Exit {
  enum class Kind : uint8_t {
    kTrap,       // `vector`: an exception, kInt80 or kSyscallTrap; registers are those of ring 3
    kKicked,     // by Kick, or a signal of the thread
    kHostFault,  // the host has no memory behind what the guest touched
    kBroken,     // the CPU can't go on; logged
  };
  Kind kind;
  uint32_t vector = 0;
  uint64_t error = 0;    // the exception's error code
  uint64_t address = 0;  // of a page fault
};

class Vcpu {
 public:
  // `page`, `answers`: the sentry's view of this CPU's own two pages, which follow the text at `text` in the guest.
  static base::Result<std::unique_ptr<Vcpu>> Create(Vm& vm, uint32_t index, uint8_t* page, uint8_t* answers,
                                                    uint64_t text, uint64_t root);
  ~Vcpu();

  // By the user, around Run: from Begin to End the CPU counts as running, and Kick makes Run return soon.
  void Begin(const AddressSpace* space);
  void End();
  Exit Run(Registers& registers, uint64_t root);

  // Between runs. `probing`: failures are expected and not logged.
  base::Result<void> SetAbilities(const Abilities& abilities, bool probing);
  // From any thread; the CPU's next call sees it.
  void SetAnswer(size_t index, uint64_t entry);

  // From any thread.
  void Kick();
  bool RunningIn(const AddressSpace* space) const { return (epoch_.load() & 1) != 0 && space_.load() == space; }
  // Kicks until whoever was inside has left.
  void KickOut(const AddressSpace* space);

  // At most one image; by the user or whoever keeps others from using the CPU.
  base::Result<void> GetXsave(XsaveArea* area);
  base::Result<void> SetXsave(const XsaveArea& area);
  base::Result<void> SetDebug(std::span<const uint64_t, 8> values);
  uint64_t DebugStatus();

  // The pool's: whose vector state it holds, whether it is in use, when it was last.
  KvmContext* resident = nullptr;
  bool in_use = false;
  uint64_t used_at = 0;
  std::atomic<bool> wanted{false};  // somebody waits for any CPU
  // The user's: which translations it may have.
  uint64_t space_id = 0;
  uint64_t generation = 0;
  uint64_t root = 0;  // last entered by
  bool debug_on = false;

  // KVM_RUNs; of these, entered by ring 0's own iretq or sysretq.
  uint64_t exits() const { return exits_.load(std::memory_order_relaxed); }
  uint64_t ring0_entries() const { return ring0_entries_.load(std::memory_order_relaxed); }

 private:
  Vcpu() = default;
  base::Result<void> SetUp(Vm& vm, uint64_t root);
  void LoadGeneral(const Registers& registers);
  void LoadRegisters(const Registers& registers, uint64_t root);
  // Ring 0, where the CPU stopped, returns to ring 3; false if it can't with these registers.
  bool LoadForRing0(const Registers& registers, uint64_t root);
  void StoreRegisters(Registers& registers);
  bool InRing0() const;
  // After a kick in ring 0: nothing if the CPU has to go on to where it leaves, else how it counts.
  std::optional<Exit> RollBack(Registers& registers);
  Exit Syscall(Registers& registers, Exit exit);
  Exit Trap(uint32_t vector, Registers& registers);

  base::UniqueFd fd_;
  kvm_run* run_ = nullptr;
  uint32_t run_size_ = 0;
  uint64_t xcr0_ = 3;
  uint8_t* page_ = nullptr;
  uint8_t* answers_ = nullptr;
  uint64_t text_ = 0;
  uint64_t syscall_entry_ = kEntryText;
  Abilities abilities_;
  bool probing_ = false;
  bool in_ring0_ = false;    // where it stopped last, with nothing of it under way
  bool by_syscall_ = false;  // and it came there by `syscall`
  kvm_sregs template_ = {};
  std::atomic<uint64_t> epoch_{0};  // odd while running
  std::atomic<const AddressSpace*> space_{nullptr};
  std::atomic<pid_t> tid_{0};
  std::atomic<uint64_t> exits_{0};
  std::atomic<uint64_t> ring0_entries_{0};
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_VCPU_H_
