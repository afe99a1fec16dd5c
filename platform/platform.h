// SPDX-License-Identifier: Apache-2.0
// The platform contract: how guest code is run. The sentry owns everything else: what a call does, what a fault means,
// which pages are mapped. A platform decides where stub threads run, who spins, who sleeps and on which CPU.
//
// Threads: one sentry thread per guest thread. A Context belongs to the thread that calls Switch (its owner); all its
// methods but Interrupt are called by the owner only. Registers are the x86-64 user_regs_struct; `orig_rax` carries the
// call's number after a syscall event.
#ifndef PLATFORM_PLATFORM_H_
#define PLATFORM_PLATFORM_H_

#include <errno.h>
#include <signal.h>
#include <sys/user.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "base/ref_ptr.h"
#include "base/result.h"
#include "platform/clock_params.h"

namespace platform {

using Registers = user_regs_struct;

inline constexpr uint64_t kPageSize = 4096;
// What a stub has for itself at the top of its address space, less a page.
inline constexpr uint64_t kStubSpace = uint64_t{512} << 20;
// The first address that no process of this host can map, at most that of 4-level page tables (TASK_SIZE_MAX).
uint64_t FindHostAddressEnd();
// Both are found out when the process starts: a host that is a sandbox itself ends its processes' addresses lower than
// Linux does.
inline const uint64_t kHostAddressEnd = FindHostAddressEnd();
// Guest addresses are below this; the platform's stub lives above it.
inline const uint64_t kGuestAddressLimit = (kHostAddressEnd + kPageSize) / kStubSpace * kStubSpace - kStubSpace;
// The lowest address a guest may map (vm.mmap_min_addr).
inline constexpr uint64_t kGuestAddressMin = 0x1'0000;

// DR6 when nothing has happened: the reserved bits read as ones.
inline constexpr uint64_t kDebugStatusInitial = 0xffff'0ff0;

struct Protection {
  bool read = false;
  bool write = false;
  bool exec = false;
  friend bool operator==(const Protection&, const Protection&) = default;
  int ToHost() const;  // PROT_*
};

enum class Access : uint8_t { kUnknown, kRead, kWrite, kExec };

struct Event {
  enum class Kind : uint8_t {
    kSyscall,  // registers are as at entry: orig_rax = number, rip after the instruction, rax = -ENOSYS or the number
    kCompatSyscall,  // int 0x80, sysenter: to be refused; never reached the host
    kFault,          // memory fault at `address`; `info` is the host's siginfo (SIGSEGV or SIGBUS)
    kSignal,       // another synchronous signal: SIGILL, SIGFPE, SIGTRAP, general-protection SIGSEGV; `info` says which
    kInterrupted,  // Interrupt() was called
    kDead,         // the stub was lost (killed from outside): the guest thread group must die
  };
  Kind kind;
  Access access = Access::kUnknown;
  uint64_t address = 0;
  siginfo_t info = {};
};

// One range of AddressSpace::MapAll: the arguments of Map.
struct Mapping {
  uint64_t address, length;
  int fd;
  uint64_t offset;
  Protection protection;
  bool populate = false;
};

// What rseq(2) registers. `address` 0: nothing.
struct RseqArea {
  uint64_t address = 0;
  uint32_t length = 0;
  uint32_t signature = 0;
};

// A guest address space in the host. Thread-safe.
class AddressSpace : public base::RefCounted<AddressSpace> {
 public:
  virtual ~AddressSpace() = default;

  // Maps [address, address+length) to `fd` at `offset`, shared, replacing what is there. Only by a thread whose
  // Context is bound to this space (see Context::Bind); others leave the range unmapped and let it fault.
  // `fd` must stay open during the call only. ENOMEM when the host refuses (too many mappings).
  virtual base::Result<void> Map(uint64_t address, uint64_t length, int fd, uint64_t offset, Protection protection,
                                 bool populate) = 0;
  // Map for each; cheaper than one by one. After an error, some are mapped.
  virtual base::Result<void> MapAll(std::span<const Mapping> mappings);
  // From any thread. On return no guest thread can reach the old mapping. Unmapped ranges are allowed.
  virtual void Unmap(uint64_t address, uint64_t length) = 0;
  // Changes what is mapped in the range to `protection`, as Unmap in its guarantees. Holes are allowed.
  virtual void Protect(uint64_t address, uint64_t length, Protection protection) = 0;

  // [address, address+length), just mapped to be read and run, is text of the guest's that does not change: the
  // platform may run a copy with other instructions in their place, until the range is mapped, unmapped or protected
  // anew.
  virtual void MarkText(uint64_t address, uint64_t length) {}
  // Addresses that the guest uses for nothing: the platform may put code of its own there, near text, until the guest's
  // use begins. From any thread.
  virtual void LendRoom(uint64_t address, uint64_t length) {}
  virtual void TakeBackRoom(uint64_t address, uint64_t length) {}
};

class Context {
 public:
  virtual ~Context() = default;

  // Binds the calling (owner) thread to `space`, so that Map works before the first Switch. Switch binds by itself.
  // Errors: ENOMEM, EAGAIN when the host gives no process.
  virtual base::Result<void> Bind(AddressSpace& space) = 0;
  // Runs guest code with `registers` until an event, and stores the registers back. Must be bound.
  virtual Event Switch(Registers& registers) = 0;
  // Makes a Context for another guest thread in the space this one is bound to; its vector state is a copy of this
  // one's now. The result is handed to the thread that will own it.
  virtual base::Result<std::unique_ptr<Context>> CloneInSpace() = 0;
  // From any thread: the current Switch, or else the next one, returns kInterrupted soon.
  virtual void Interrupt() = 0;
  // The XSAVE image of the guest thread's vector state (standard, uncompacted format, as in signal frames).
  // At most FpuStateSize() bytes; empty if never bound (initial state).
  virtual size_t GetFpu(std::span<uint8_t> buffer) = 0;
  // EINVAL if the image is malformed.
  virtual base::Result<void> SetFpu(std::span<const uint8_t> image) = 0;
  virtual base::Result<void> ResetFpu() = 0;
  // DR0-DR7 as ptrace(2) shows them (DR4 and DR5: 0), valid until the next Bind to another space. The caller has
  // checked that all addresses are the guest's. EIO if the host has no debug registers to give; what is set then is
  // undefined.
  virtual base::Result<void> SetDebugRegisters(std::span<const uint64_t, 8>) { return base::Errno(EIO); }
  // DR6: after a SIGTRAP event, which breakpoint was met.
  virtual uint64_t DebugStatus() { return kDebugStatusInitial; }
  // Restartable sequences (rseq(2)): the host's kernel keeps the CPU number in the guest's area, and restarts critical
  // sections at preemption and migration; the guest must be given the area writable first. An area that the host cannot
  // write gives kFault, a write at its address, at the next Switch. Restarting at signals that the sentry delivers is
  // the caller's. Address 0 ends it, and so does Release and a Bind to another space. ENOSYS: see
  // Platform::SupportsRseq.
  virtual base::Result<void> SetRseq(const RseqArea& area) { return base::Errno(ENOSYS); }
  // From any thread. System call `number` of this guest thread needs no event from now on: `value` is its result, for
  // good or until this is called again; null: events again. For clock_gettime, gettimeofday and time the result comes
  // from Platform::clock_params, whatever `value`. A platform may make events nevertheless. A new Context answers
  // nothing; answers outlive a Bind to another space.
  virtual void SetAnswer(uint32_t number, std::optional<uint32_t> value) {}
  // The CPUs this guest thread may run on: bit i is the i-th of those the sentry started with. Without any of those
  // set, or on a host that refuses, it runs anywhere.
  virtual void SetAffinity(uint64_t cpus) {}
  // Ends the stub thread. By the owner, before it exits. Idempotent.
  virtual void Release() = 0;
};

class Platform {
 public:
  virtual ~Platform() = default;
  virtual const char* Name() const = 0;
  virtual base::Result<base::RefPtr<AddressSpace>> NewAddressSpace() = 0;
  virtual std::unique_ptr<Context> NewContext() = 0;
  virtual size_t FpuStateSize() const = 0;
  // Whether guests may use rseq(2): the host can, and its numbers of the CPUs are those that guests see.
  virtual bool SupportsRseq() const { return false; }
  // The parameters by which SetAnswer's clocks go, to be kept up to date by the caller; null: no clocks.
  virtual ClockParams* clock_params() { return nullptr; }
  // Whether the platform may keep an otherwise idle CPU busy for a moment, to answer faster: not under a CPU quota.
  // Before the first guest; the default is that it may not.
  virtual void AllowSpinning(bool allowed) {}
  // Whether the platform may patch guests' text (AddressSpace::MarkText). Before the first guest; the default is that
  // it may.
  virtual void AllowPatching(bool allowed) {}
  // Called by a sentry thread around long sleeps, so that the platform can balance guests over CPUs. Cheap.
  virtual void OnBlock() {}
  virtual void OnUnblock() {}
  // Once, after confinement: `callback` runs on a thread of the platform when a stub dies that the sentry did not end.
  virtual void OnStubLost(std::function<void()> callback) {}
};

}  // namespace platform

#endif  // PLATFORM_PLATFORM_H_
