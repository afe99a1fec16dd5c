// SPDX-License-Identifier: Apache-2.0
#include "platform/kvm/vcpu.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

extern "C" const uint8_t kKvmEntryBegin[], kKvmIret[], kKvmSysret[], kKvmAnswer[], kKvmAnswerSaved[],
    kKvmAnswerCommitted[], kKvmAnswerDone[], kKvmAnswerNot[], kKvmAnswerLeave[];

namespace platform::kvm {
namespace {

constexpr uint64_t kCr0 = 0x8005'0033;  // PE MP ET NE WP AM PG
constexpr uint64_t kEfer = 0xd01;       // SCE LME LMA NXE
constexpr uint32_t kMsrStar = 0xc000'0081, kMsrLstar = 0xc000'0082, kMsrCstar = 0xc000'0083, kMsrMask = 0xc000'0084;
constexpr uint32_t kMsrSysenterCs = 0x174;
// CF PF AF ZF SF TF DF OF NT RF AC ID: what ring 3 may choose. Never IOPL.
constexpr uint64_t kUserFlags = 0x25'4dd5;
constexpr uint64_t kFixedFlags = 0x202;
constexpr uint16_t kSyscallPort = 0x10, kVectorPort = 0x20, kInt80Port = 0x80;
constexpr uint64_t kTaskStateRsp0 = 4, kTaskStateIst1 = 36, kTaskStateIoMap = 102, kTaskStateLimit = 103;
// Of a CPU's data page: the end of the stack of exceptions that may come in ring 0. The other one ends with the page.
constexpr uint64_t kIstTop = 2048;
constexpr uint64_t kSavedRdx = 128;  // as entry.S has it
constexpr uint64_t kFrameSize = 40;
constexpr uint64_t kTrapFlag = 0x100, kResumeFlag = 0x1'0000;
constexpr uint64_t kPageFaultFetch = 16;
constexpr int kSyncedRegisters = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
constexpr int kMaxRing0Runs = 10'000;

bool HasErrorCode(uint32_t vector) {
  constexpr uint32_t kVectors = 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21;
  return vector < 32 && ((kVectors | 1u << 29 | 1u << 30) >> vector & 1) != 0;
}

// Exceptions that may come in ring 0, where the stack is the guest's: #DB, NMI, double fault, machine check.
bool OnOtherStack(uint32_t vector) { return vector == 1 || vector == 2 || vector == 8 || vector == 18; }

kvm_segment Segment(uint16_t selector, uint8_t type, bool code64) {
  return {.base = 0,
          .limit = 0xffff'ffff,
          .selector = selector,
          .type = type,
          .present = 1,
          .dpl = 3,
          .db = static_cast<uint8_t>(code64 ? 0 : 1),
          .s = 1,
          .l = static_cast<uint8_t>(code64 ? 1 : 0),
          .g = 1,
          .avl = 0,
          .unusable = 0,
          .padding = 0};
}

constexpr uint8_t kCodeType = 11, kDataType = 3;
constexpr uint64_t kRing0Flags = 2;

uint16_t DataSelector(uint64_t value) { return value == kUserData ? kUserData : 0; }

uint64_t Offset(const uint8_t* label) { return static_cast<uint64_t>(label - kKvmEntryBegin); }

}  // namespace

base::Result<std::unique_ptr<Vcpu>> Vcpu::Create(Vm& vm, uint32_t index, uint8_t* page, uint8_t* answers, uint64_t text,
                                                 uint64_t root) {
  std::unique_ptr<Vcpu> cpu(new Vcpu());
  int fd;
  do {
    fd = ioctl(vm.fd(), KVM_CREATE_VCPU, static_cast<unsigned long>(index));
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return base::Errno::Last();
  cpu->fd_.Reset(fd);
  cpu->run_size_ = vm.run_size();
  void* run = mmap(nullptr, vm.run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (run == MAP_FAILED) return base::Errno::Last();
  cpu->run_ = static_cast<kvm_run*>(run);
  cpu->page_ = page;
  cpu->answers_ = answers;
  cpu->text_ = text;
  TRY(cpu->SetUp(vm, root));
  return cpu;
}

Vcpu::~Vcpu() {
  if (run_ != nullptr) munmap(run_, run_size_);
}

base::Result<void> Vcpu::SetUp(Vm& vm, uint64_t root) {
  const int fd = fd_.get();
  if (ioctl(fd, kSetCpuid, &vm.cpuid()) != 0) return base::Errno::Last();
  const uint64_t page_address = text_ + kVcpuData;
  const uint64_t stack = page_address + kPageSize, other_stack = page_address + kIstTop;
  memcpy(page_ + kTaskStateRsp0, &stack, sizeof stack);
  memcpy(page_ + kTaskStateIst1, &other_stack, sizeof other_stack);
  const uint16_t no_io_map = kTaskStateLimit + 1;
  memcpy(page_ + kTaskStateIoMap, &no_io_map, sizeof no_io_map);
  kvm_sregs& s = template_;
  if (ioctl(fd, KVM_GET_SREGS, &s) != 0) return base::Errno::Last();
  s.cs = Segment(kUserCode, kCodeType, true);
  s.ss = Segment(kUserData, kDataType, false);
  s.ds = s.es = s.fs = s.gs = Segment(0, kDataType, false);
  s.tr = {.base = page_address, .limit = kTaskStateLimit, .selector = 0x40, .type = 11, .present = 1};
  s.ldt = {};
  s.ldt.unusable = 1;
  s.gdt = {.base = kGdt, .limit = 10 * 8 - 1, .padding = {}};
  s.idt = {.base = kIdt, .limit = kPageSize - 1, .padding = {}};
  s.cr0 = kCr0;
  s.cr3 = root;
  s.cr4 = vm.cr4();
  s.efer = kEfer;
  if (ioctl(fd, KVM_SET_SREGS, &s) != 0) return base::Errno::Last();
  xcr0_ = vm.xcr0();
  if (vm.xcr0() != 3) {
    kvm_xcrs xcrs = {};
    xcrs.nr_xcrs = 1;
    xcrs.xcrs[0].value = vm.xcr0();
    if (ioctl(fd, KVM_SET_XCRS, &xcrs) != 0) return base::Errno::Last();
  }
  const kvm_msr_entry msrs[] = {
      {kMsrStar, 0, uint64_t{kUserCode32} << 48 | uint64_t{kKernelCode} << 32},
      {kMsrLstar, 0, kEntryText},
      {kMsrCstar, 0, kEntryText},
      {kMsrMask, 0, kUserFlags | 0x200},
      {kMsrSysenterCs, 0, 0},
  };
  MsrTable table;
  for (const kvm_msr_entry& msr : msrs) table.entries[table.count++] = msr;
  if (ioctl(fd, kSetMsrs, &table) != static_cast<int>(table.count)) return base::Errno(EINVAL);
  // The host's time-stamp counter: the vDSO computes with it.
  uint64_t offset = 0;
  const kvm_device_attr attribute = {
      .flags = 0, .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = reinterpret_cast<uint64_t>(&offset)};
  if (ioctl(fd, KVM_SET_DEVICE_ATTR, &attribute) != 0) return base::Errno::Last();
  run_->kvm_valid_regs = kSyncedRegisters | KVM_SYNC_X86_EVENTS;
  return base::OkResult();
}

void Vcpu::Begin(const AddressSpace* space) {
  tid_.store(static_cast<pid_t>(syscall(SYS_gettid)), std::memory_order_relaxed);
  space_.store(space, std::memory_order_relaxed);
  __atomic_store_n(&run_->immediate_exit, 0, __ATOMIC_RELAXED);
  epoch_.fetch_add(1, std::memory_order_seq_cst);
}

void Vcpu::End() { epoch_.fetch_add(1, std::memory_order_seq_cst); }

void Vcpu::Kick() {
  if ((epoch_.load(std::memory_order_seq_cst) & 1) == 0) return;
  __atomic_store_n(&run_->immediate_exit, 1, __ATOMIC_SEQ_CST);
  syscall(SYS_tgkill, getpid(), tid_.load(std::memory_order_relaxed), kKickSignal);
}

void Vcpu::KickOut(const AddressSpace* space) {
  const uint64_t epoch = epoch_.load(std::memory_order_seq_cst);
  if ((epoch & 1) == 0 || space_.load(std::memory_order_relaxed) != space) return;
  // Again now and then: the thread may have cleared the mark on its way in.
  for (int round = 0; epoch_.load(std::memory_order_seq_cst) == epoch; ++round) {
    if (round % 1024 == 0) Kick();
    sched_yield();
  }
}

void Vcpu::LoadGeneral(const Registers& r) {
  run_->s.regs.regs = {.rax = r.rax,
                       .rbx = r.rbx,
                       .rcx = r.rcx,
                       .rdx = r.rdx,
                       .rsi = r.rsi,
                       .rdi = r.rdi,
                       .rsp = r.rsp,
                       .rbp = r.rbp,
                       .r8 = r.r8,
                       .r9 = r.r9,
                       .r10 = r.r10,
                       .r11 = r.r11,
                       .r12 = r.r12,
                       .r13 = r.r13,
                       .r14 = r.r14,
                       .r15 = r.r15,
                       .rip = r.rip,
                       .rflags = (r.eflags & kUserFlags) | kFixedFlags};
}

void Vcpu::LoadRegisters(const Registers& r, uint64_t root) {
  LoadGeneral(r);
  kvm_sregs& s = run_->s.regs.sregs;
  s = template_;
  s.cr3 = root;
  if (r.cs == kUserCode32) s.cs = Segment(kUserCode32, kCodeType, false);
  s.ds.selector = DataSelector(r.ds);
  s.es.selector = DataSelector(r.es);
  s.fs.selector = DataSelector(r.fs);
  s.gs.selector = DataSelector(r.gs);
  s.fs.base = r.fs_base;
  s.gs.base = r.gs_base;
  run_->kvm_dirty_regs = kSyncedRegisters;
}

bool Vcpu::LoadForRing0(const Registers& r, uint64_t root) {
  const kvm_sregs& s = run_->s.regs.sregs;
  if (!abilities_.iret || !in_ring0_ || s.cr3 != root || s.fs.base != r.fs_base || s.gs.base != r.gs_base ||
      s.ds.selector != DataSelector(r.ds) || s.es.selector != DataSelector(r.es) ||
      s.fs.selector != DataSelector(r.fs) || s.gs.selector != DataSelector(r.gs)) {
    return false;
  }
  LoadGeneral(r);
  kvm_regs& k = run_->s.regs.regs;
  const uint64_t flags = k.rflags;
  k.rflags = kRing0Flags;
  // sysretq wants what `syscall` left: rcx and r11, and a stack segment loaded by it.
  if (abilities_.sysret && by_syscall_ && r.cs == kUserCode && r.rcx == r.rip && r.r11 == flags &&
      (flags & (kTrapFlag | kResumeFlag)) == 0) {
    k.rip = text_ + Offset(kKvmSysret);
  } else {
    const uint64_t frame[] = {r.rip, r.cs, flags, r.rsp, r.ss};
    static_assert(sizeof frame == kFrameSize);
    memcpy(page_ + kPageSize - sizeof frame, frame, sizeof frame);
    k.rsp = text_ + kVcpuData + kPageSize - kFrameSize;
    k.rip = text_ + Offset(kKvmIret);
  }
  run_->kvm_dirty_regs = KVM_SYNC_X86_REGS;
  ring0_entries_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void Vcpu::StoreRegisters(Registers& r) {
  const kvm_regs& k = run_->s.regs.regs;
  const kvm_sregs& s = run_->s.regs.sregs;
  r.rax = k.rax;
  r.rbx = k.rbx;
  r.rcx = k.rcx;
  r.rdx = k.rdx;
  r.rsi = k.rsi;
  r.rdi = k.rdi;
  r.rsp = k.rsp;
  r.rbp = k.rbp;
  r.r8 = k.r8;
  r.r9 = k.r9;
  r.r10 = k.r10;
  r.r11 = k.r11;
  r.r12 = k.r12;
  r.r13 = k.r13;
  r.r14 = k.r14;
  r.r15 = k.r15;
  r.rip = k.rip;
  r.eflags = k.rflags;
  r.cs = s.cs.selector;
  r.ss = s.ss.selector;
  r.ds = s.ds.selector;
  r.es = s.es.selector;
  r.fs = s.fs.selector;
  r.gs = s.gs.selector;
  r.fs_base = s.fs.base;
  r.gs_base = s.gs.base;
  r.orig_rax = ~uint64_t{0};
}

// Not only by its privilege: where the host emulates `syscall`, it stops at the entry in ring 3 for a moment.
bool Vcpu::InRing0() const { return (run_->s.regs.sregs.cs.selector & 3) == 0 || run_->s.regs.regs.rip >= kEntryText; }

std::optional<Exit> Vcpu::RollBack(Registers& registers) {
  if ((run_->s.regs.sregs.cs.selector & 3) != 0) return std::nullopt;
  const uint64_t at = run_->s.regs.regs.rip - text_;
  // Still on its way to ring 3: the registers are as they came.
  if (at == Offset(kKvmIret) || at == Offset(kKvmSysret)) return Exit{.kind = Exit::Kind::kKicked};
  if (at < Offset(kKvmAnswer) || at > Offset(kKvmAnswerLeave)) return std::nullopt;
  StoreRegisters(registers);
  if ((at >= Offset(kKvmAnswerSaved) && at < Offset(kKvmAnswerDone)) || at == Offset(kKvmAnswerNot)) {
    memcpy(&registers.rdx, page_ + kSavedRdx, sizeof registers.rdx);
  }
  const Exit exit = Syscall(registers, {.kind = Exit::Kind::kTrap});
  in_ring0_ = by_syscall_ = true;
  if (at >= Offset(kKvmAnswerCommitted) && at <= Offset(kKvmAnswerDone)) return Exit{.kind = Exit::Kind::kKicked};
  return exit;
}

Exit Vcpu::Syscall(Registers& registers, Exit exit) {
  registers.rip = registers.rcx;
  registers.eflags = registers.r11;
  registers.cs = kUserCode;
  registers.ss = kUserData;
  exit.vector = kSyscallTrap;
  return exit;
}

Exit Vcpu::Run(Registers& registers, uint64_t root) {
  if (!LoadForRing0(registers, root)) LoadRegisters(registers, root);
  for (int round = 0; round < kMaxRing0Runs; ++round) {
    const int result = ioctl(fd_.get(), KVM_RUN, 0);
    const int error = errno;
    exits_.fetch_add(1, std::memory_order_relaxed);
    if (result != 0) {
      const bool delivering = run_->s.regs.events.exception.injected != 0 || InRing0();
      if (error == EINTR || error == EAGAIN) {
        if (delivering) {
          if (std::optional<Exit> exit = RollBack(registers)) return *exit;
          // On its way out of ring 3: what it leaves for is known a few instructions later.
          __atomic_store_n(&run_->immediate_exit, 0, __ATOMIC_RELAXED);
          continue;
        }
        in_ring0_ = false;
        StoreRegisters(registers);
        return {.kind = Exit::Kind::kKicked};
      }
      in_ring0_ = false;
      if (error == EFAULT && !delivering) {
        StoreRegisters(registers);
        return {.kind = Exit::Kind::kHostFault};
      }
      if (!probing_) LOG_ERROR("kvm platform: KVM_RUN: %s at %#llx", base::Errno(error).Name(), run_->s.regs.regs.rip);
      return {.kind = Exit::Kind::kBroken};
    }
    if (run_->exit_reason == KVM_EXIT_INTR) continue;
    if (run_->exit_reason == KVM_EXIT_IO && InRing0() && run_->io.direction == KVM_EXIT_IO_OUT) {
      const uint16_t port = run_->io.port;
      in_ring0_ = (run_->s.regs.sregs.cs.selector & 3) == 0;
      by_syscall_ = port == kSyscallPort;
      if (port == kSyscallPort) return Trap(kSyscallTrap, registers);
      if (port == kInt80Port) return Trap(kInt80, registers);
      if (port >= kVectorPort && port < kVectorPort + 32u) return Trap(port - kVectorPort, registers);
    }
    in_ring0_ = false;
    if (!probing_) {
      LOG_ERROR("kvm platform: exit reason %u (%#llx) at %#llx", run_->exit_reason, run_->hw.hardware_exit_reason,
                run_->s.regs.regs.rip);
    }
    return {.kind = Exit::Kind::kBroken};
  }
  in_ring0_ = false;
  LOG_ERROR("kvm platform: ring 0 doesn't end at %#llx", run_->s.regs.regs.rip);
  return {.kind = Exit::Kind::kBroken};
}

Exit Vcpu::Trap(uint32_t vector, Registers& registers) {
  const uint64_t cr2 = run_->s.regs.sregs.cr2;
  StoreRegisters(registers);
  Exit exit = {.kind = Exit::Kind::kTrap, .vector = vector, .address = cr2};
  if (vector == kSyscallTrap) return Syscall(registers, exit);
  // What the CPU pushed, from its own page, which ring 3 can't write.
  const uint64_t pushed = kFrameSize + (HasErrorCode(vector) ? 8 : 0);
  const uint64_t top = OnOtherStack(vector) ? kIstTop : kPageSize;
  uint64_t frame[kFrameSize / 8];
  memcpy(frame, page_ + top - sizeof frame, sizeof frame);
  if (HasErrorCode(vector)) memcpy(&exit.error, page_ + top - pushed, sizeof exit.error);
  const bool here = registers.rsp == text_ + kVcpuData + top - pushed;
  // `mov %ss` holds a breakpoint's trap back over the next instruction, also over `syscall`.
  if (here && vector == 1 && (frame[1] & 3) == 0 && frame[0] == syscall_entry_) {
    registers.rsp = frame[3];
    return Syscall(registers, exit);
  }
  if (!here || (frame[1] & 3) != 3) {
    in_ring0_ = false;
    if (!probing_) {
      LOG_ERROR("kvm platform: exception %u in ring 0 at %#lx, stack %#llx, address %#lx", vector, frame[0],
                registers.rsp, cr2);
    }
    exit.kind = Exit::Kind::kBroken;
    return exit;
  }
  registers.rip = frame[0];
  registers.cs = static_cast<uint16_t>(frame[1]);
  registers.eflags = frame[2];
  registers.rsp = frame[3];
  registers.ss = static_cast<uint16_t>(frame[4]);
  // A host that emulates `syscall` without leaving ring 3: the fetch at the entry faults. Nothing is lost if a guest
  // jumps there by itself: all that counts is in its own registers.
  if (vector == 14 && (exit.error & kPageFaultFetch) != 0 && registers.rip == kEntryText && cr2 == kEntryText) {
    return Syscall(registers, exit);
  }
  return exit;
}

base::Result<void> Vcpu::SetAbilities(const Abilities& abilities, bool probing) {
  probing_ = probing;
  abilities_ = abilities;
  syscall_entry_ = abilities.answers ? text_ + Offset(kKvmAnswer) : kEntryText;
  MsrTable table;
  table.entries[table.count++] = {kMsrLstar, 0, syscall_entry_};
  if (ioctl(fd_.get(), kSetMsrs, &table) != 1) return base::Errno(EINVAL);
  return base::OkResult();
}

void Vcpu::SetAnswer(size_t index, uint64_t entry) {
  auto* table = reinterpret_cast<uint64_t*>(answers_);
  __atomic_store_n(&table[kAnswerable[index]], entry, __ATOMIC_RELEASE);
}

base::Result<void> Vcpu::GetXsave(XsaveArea* area) {
  if (ioctl(fd_.get(), kGetXsave, area) != 0) return base::Errno::Last();
  // KVM adds protection keys, which guests don't have.
  uint64_t components;
  memcpy(&components, area->bytes + 512, sizeof components);
  components &= xcr0_;
  memcpy(area->bytes + 512, &components, sizeof components);
  return base::OkResult();
}

base::Result<void> Vcpu::SetXsave(const XsaveArea& area) {
  if (ioctl(fd_.get(), kSetXsave, &area) != 0) return base::Errno::Last();
  return base::OkResult();
}

base::Result<void> Vcpu::SetDebug(std::span<const uint64_t, 8> values) {
  kvm_debugregs registers = {};
  for (size_t i = 0; i < 4; ++i) registers.db[i] = values[i];
  registers.dr6 = values[6] | kDebugStatusInitial;
  registers.dr7 = values[7] | 0x400;
  if (ioctl(fd_.get(), KVM_SET_DEBUGREGS, &registers) != 0) return base::Errno::Last();
  return base::OkResult();
}

uint64_t Vcpu::DebugStatus() {
  kvm_debugregs registers = {};
  if (ioctl(fd_.get(), KVM_GET_DEBUGREGS, &registers) != 0) return kDebugStatusInitial;
  return registers.dr6;
}

}  // namespace platform::kvm
