// SPDX-License-Identifier: Apache-2.0
#include "platform/kvm/kvm_platform.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/log.h"
#include "platform/kvm/address_space.h"
#include "platform/kvm/context.h"

extern "C" const uint8_t kKvmEntryBegin[], kKvmEntryEnd[];

namespace platform::kvm {
namespace {

constexpr uint64_t kEntrySize = 8;  // of each way in, see entry.S
constexpr uint64_t kCode64 = 0x00af'9b00'0000'ffff, kData = 0x00cf'9300'0000'ffff;
constexpr uint64_t kDpl3 = uint64_t{3} << 45;
constexpr uint64_t kUser32 = 0x00cf'9b00'0000'ffff | kDpl3;
constexpr uint32_t kZapSlot = Arena::kSize / Arena::kSlotSize;
constexpr uint64_t kZapGpa = uint64_t{1} << 20;
constexpr uint64_t kTestCode = 0x40'0000, kTestData = 0x80'0000;

absl::Status Failed(const std::string& what, int error = 0) {
  std::string message = "kvm platform: " + what;
  if (error != 0) message += std::string(": ") + base::Errno(error).Name();
  return absl::UnavailableError(message);
}

// The end of the last component of an uncompacted image.
size_t XsaveSize(uint64_t xcr0) {
  size_t size = 576;
  for (uint32_t i = 2; i < 63; ++i) {
    uint32_t a, b, c, d;
    if ((xcr0 >> i & 1) == 0 || __get_cpuid_count(0xd, i, &a, &b, &c, &d) == 0) continue;
    size = std::max<size_t>(size, a + b);
  }
  return size;
}

void Ignore(int) {}

thread_local bool thread_prepared = false;

}  // namespace

absl::StatusOr<std::unique_ptr<KvmPlatform>> KvmPlatform::Start(base::UniqueFd device) {
  std::unique_ptr<KvmPlatform> platform(new KvmPlatform());
  absl::Status status = platform->vm_.Create(std::move(device));
  if (!status.ok()) return status;
  platform->fpu_size_ = XsaveSize(platform->vm_.xcr0());
  if (platform->fpu_size_ > sizeof(XsaveArea)) return Failed("vector state is larger than KVM_GET_XSAVE's");
  struct sigaction action = {};
  action.sa_handler = Ignore;
  action.sa_flags = SA_RESTART;
  if (sigaction(kKickSignal, &action, nullptr) != 0) return Failed("sigaction", errno);
  status = platform->MakeKernel();
  if (!status.ok()) return status;
  status = platform->SelfTest();
  if (!status.ok()) return status;
  return platform;
}

absl::Status KvmPlatform::MakeKernel() {
  Vm& vm = vm_;
  base::Result<void> made = arena_.Create([&vm](uint32_t slot, uint64_t gpa, uint8_t* host, uint64_t length) {
    return vm.SetSlot(slot, 0, gpa, host, length);
  });
  if (!made.ok()) return Failed("address space for page tables", made.error_number());
  arena_.set_zap([this] { Zap(); });
  kernel_ = std::make_unique<PageTables>(arena_, false);
  made = kernel_->Create(0);
  base::Result<uint64_t> text = arena_.Allocate(), gdt = arena_.Allocate(), idt = arena_.Allocate();
  if (!made.ok() || !text.ok() || !gdt.ok() || !idt.ok()) return Failed("memory for the ring-0 part");
  memset(arena_.Pointer(*text), 0xcc, kPageSize);
  memcpy(arena_.Pointer(*text), kKvmEntryBegin, static_cast<size_t>(kKvmEntryEnd - kKvmEntryBegin));
  const uint64_t descriptors[] = {0, 0, kCode64, kData, kUser32, kData | kDpl3, kCode64 | kDpl3};
  memcpy(arena_.Pointer(*gdt), descriptors, sizeof descriptors);
  auto* gates = reinterpret_cast<uint64_t*>(arena_.Pointer(*idt));
  auto gate = [&](uint64_t vector, uint64_t entry, bool user) {
    const uint64_t target = kEntryText + kEntrySize * entry;
    const uint64_t kind = user ? 0xee : 0x8e;
    // Those that may come while ring 0 still has the guest's stack get one of their own (IST 1).
    const uint64_t stack = vector == 1 || vector == 2 || vector == 8 || vector == 18 ? 1 : 0;
    gates[2 * vector] =
        (target & 0xffff) | uint64_t{kKernelCode} << 16 | stack << 32 | kind << 40 | (target >> 16 & 0xffff) << 48;
    gates[2 * vector + 1] = target >> 32;
  };
  for (uint64_t vector = 0; vector < 32; ++vector) gate(vector, 1 + vector, vector == 3 || vector == 4);
  gate(kInt80, 33, true);
  if (!kernel_->MapKernel(kEntryText, *text, false, true).ok() || !kernel_->MapKernel(kGdt, *gdt, false, false).ok() ||
      !kernel_->MapKernel(kIdt, *idt, false, false).ok() ||
      // So that the first entry of the upper half is there for all CPUs to come.
      !kernel_->MapKernel(kVcpuPages, *text, false, false).ok()) {
    return Failed("memory for the ring-0 part");
  }
  const long cpus = std::max(sysconf(_SC_NPROCESSORS_ONLN), 1L);
  pool_.Create(
      [this, text = *text](uint32_t index) -> base::Result<std::unique_ptr<Vcpu>> {
        const uint64_t page = TRY(arena_.Allocate()), answers = TRY(arena_.Allocate());
        const uint64_t address = kVcpuPages + index * kVcpuStride;
        TRY(kernel_->MapKernel(address, text, false, true));
        TRY(kernel_->MapKernel(address + kVcpuData, page, true, false));
        TRY(kernel_->MapKernel(address + kVcpuAnswers, answers, false, false));
        auto cpu =
            TRY(Vcpu::Create(vm_, index, arena_.Pointer(page), arena_.Pointer(answers), address, kernel_->root(0)));
        TRY(cpu->SetAbilities(abilities_, false));
        return cpu;
      },
      static_cast<uint32_t>(4 * cpus + 4), vm_.max_vcpus());
  return absl::OkStatus();
}

// Any change of the slots makes KVM drop all it derived from guest page tables.
void KvmPlatform::Zap() {
  if (!shadow_) return;
  base::Result<void> added = vm_.SetSlot(kZapSlot, 0, kZapGpa, arena_.Pointer(Arena::kGuestPhysical), kPageSize);
  if (!added.ok() || !vm_.SetSlot(kZapSlot, 0, kZapGpa, arena_.Pointer(Arena::kGuestPhysical), 0).ok()) {
    FATAL("kvm platform: the memory slots can't be changed: old page tables would come back to life");
  }
}

void KvmPlatform::KickOut(const AddressSpace* space) {
  pool_.ForEach([&](Vcpu& cpu) { cpu.KickOut(space); });
}

void KvmPlatform::PrepareThread() {
  if (thread_prepared) [[likely]]
    return;
  thread_prepared = true;
  sigset_t kick;
  sigemptyset(&kick);
  sigaddset(&kick, kKickSignal);
  pthread_sigmask(SIG_UNBLOCK, &kick, nullptr);
}

uint64_t KvmPlatform::Exits() {
  uint64_t exits = 0;
  pool_.ForEach([&](Vcpu& cpu) { exits += cpu.exits(); });
  return exits;
}

uint64_t KvmPlatform::Ring0Entries() {
  uint64_t entries = 0;
  pool_.ForEach([&](Vcpu& cpu) { entries += cpu.ring0_entries(); });
  return entries;
}

base::Result<base::RefPtr<AddressSpace>> KvmPlatform::NewAddressSpace() {
  return base::RefPtr<AddressSpace>(TRY(KvmAddressSpace::Create(*this)));
}

std::unique_ptr<Context> KvmPlatform::NewContext() { return std::make_unique<KvmContext>(*this); }

// Only while no guest runs.
void KvmPlatform::SetAbilities(const Abilities& abilities, bool probing) {
  abilities_ = abilities;
  pool_.ForEach([&](Vcpu& cpu) {
    if (!cpu.SetAbilities(abilities, probing).ok()) FATAL("kvm platform: KVM_SET_MSRS failed");
  });
}

void KvmPlatform::TryRing0(KvmContext& context, const Registers& start) {
  // Whether the call arrives as it should, from a CPU that ring 0 itself brought back to ring 3 when it was `entered`.
  auto call = [&](const Registers& from) {
    Registers registers = from;
    const uint64_t before = Ring0Entries();
    const Event event = context.Switch(registers);
    return event.kind == Event::Kind::kSyscall && registers.orig_rax == from.rax && registers.rip == kTestCode + 10 &&
           registers.rbx == from.rbx && registers.rsp == from.rsp && registers.cs == kUserCode &&
           registers.ss == kUserData && Ring0Entries() == before + 1;
  };
  Registers by_iret = start;
  by_iret.rbx = 0x1122'3344'5566'7788;
  by_iret.rsp = 0x7000'0000;
  Registers by_sysret = by_iret;
  by_sysret.rcx = by_sysret.rip;
  by_sysret.r11 = by_sysret.eflags;
  Abilities abilities = {.iret = true};
  SetAbilities(abilities, true);
  Registers first = start;
  // Leaves the CPU in ring 0, by way of `syscall`.
  abilities.iret = context.Switch(first).kind == Event::Kind::kSyscall && call(by_iret) && call(by_iret);
  abilities.sysret = abilities.iret;
  SetAbilities(abilities, true);
  abilities.sysret = abilities.iret && call(by_sysret) && call(by_sysret);
  abilities.answers = abilities.sysret;
  SetAbilities(abilities, true);
  if (abilities.answers) {
    constexpr uint32_t kAnswer = 0x1234'5678;
    context.SetAnswer(SYS_getpid, kAnswer);
    Registers registers = by_iret;
    const Event event = context.Switch(registers);
    // It goes on to the load behind the call.
    abilities.answers = event.kind == Event::Kind::kFault && event.address == kGuestAddressMin &&
                        registers.rip == kTestCode + 10 && registers.rax == kAnswer && registers.rdx == by_iret.rdx;
    context.SetAnswer(SYS_getpid, std::nullopt);
  }
  SetAbilities(abilities, false);
}

void KvmPlatform::MeasureRoundTrip(KvmContext& context, const Registers& start) {
  constexpr int kRounds = 32;
  auto fastest = [&](auto&& step) {
    uint64_t best = ~uint64_t{0};
    for (int round = 0; round < kRounds; ++round) {
      const uint64_t before = __rdtsc();
      step();
      best = std::min<uint64_t>(best, __rdtsc() - before);
    }
    return static_cast<double>(best);
  };
  const double guest = fastest([&] {
    Registers registers = start;
    context.Switch(registers);
  });
  round_trip_ = guest / std::max(fastest([] { syscall(SYS_getppid); }), 1.0);
}

// A call, a fault, and whether a changed page table is noticed.
absl::Status KvmPlatform::SelfTest() {
  constexpr uint8_t kProgram[] = {
      0x48, 0x8b, 0x3c, 0x25, 0, 0, 0x80, 0,  // mov 0x800000, %rdi
      0x0f, 0x05,                             // syscall
      0x48, 0x8b, 0x04, 0x25, 0, 0, 1,    0,  // mov 0x10000, %rax
  };
  base::UniqueFd file(memfd_create("kvm-self-test", MFD_CLOEXEC));
  if (!file || ftruncate(file.get(), 4 * kPageSize) != 0) return Failed("self-test: memfd", errno);
  uint64_t words[] = {1, 2};
  if (pwrite(file.get(), kProgram, sizeof kProgram, 0) != sizeof kProgram ||
      pwrite(file.get(), &words[0], 8, kPageSize) != 8 || pwrite(file.get(), &words[1], 8, 2 * kPageSize) != 8) {
    return Failed("self-test: write", errno);
  }
  auto space = KvmAddressSpace::Create(*this);
  if (!space.ok()) return Failed("self-test: page tables", space.error_number());
  KvmContext context(*this);
  if (!context.Bind(**space).ok()) return Failed("self-test: bind");
  auto map = [&](uint64_t address, uint64_t offset, Protection protection) {
    return (*space)->Map(address, kPageSize, file.get(), offset, protection, true);
  };
  if (base::Result<void> mapped = map(kTestCode, 0, {.read = true, .exec = true}); !mapped.ok()) {
    return Failed("self-test: KVM_SET_USER_MEMORY_REGION", mapped.error_number());
  }
  Registers start = {};
  start.cs = kUserCode;
  start.ss = kUserData;
  start.eflags = 0x202;
  start.rip = kTestCode;
  start.rax = SYS_getpid;
  auto read = [&](uint64_t* word) {
    Registers registers = start;
    Event event = context.Switch(registers);
    *word = registers.rdi;
    return event.kind == Event::Kind::kSyscall && registers.orig_rax == SYS_getpid && registers.rip == kTestCode + 10;
  };
  uint64_t word = 0;
  if (!map(kTestData, kPageSize, {.read = true}).ok() || !read(&word) || word != words[0]) {
    return Failed("self-test: a guest's system call didn't arrive");
  }
  shadow_ = false;
  if (!map(kTestData, 2 * kPageSize, {.read = true}).ok() || !read(&word)) return Failed("self-test: remapping");
  shadow_ = word != words[1];
  if (shadow_) {
    if (!map(kTestData, kPageSize, {.read = true}).ok() || !map(kTestData, 2 * kPageSize, {.read = true}).ok() ||
        !read(&word) || word != words[1]) {
      return Failed("self-test: the host's KVM doesn't notice changes of page tables");
    }
  }
  Registers registers = start;
  registers.rip = kTestCode + 10;
  Event event = context.Switch(registers);
  if (event.kind != Event::Kind::kFault || event.address != kGuestAddressMin || event.access != Access::kRead ||
      registers.rip != kTestCode + 10) {
    return Failed("self-test: a guest's page fault didn't arrive");
  }
  const uint64_t watch[8] = {kTestData, 0, 0, 0, 0, 0, kDebugStatusInitial, 1 | 3 << 16 | 2 << 18};  // any access
  const uint64_t none[8] = {0, 0, 0, 0, 0, 0, kDebugStatusInitial, 0};
  registers = start;
  has_debug_ = context.SetDebugRegisters(watch).ok() && context.Switch(registers).kind == Event::Kind::kSignal;
  if (!has_debug_) LOG_INFO("kvm platform: the host's KVM has no debug registers for guests");
  if (has_debug_ && !context.SetDebugRegisters(none).ok()) return Failed("self-test: debug registers");
  XsaveArea area;
  std::span<uint8_t> image(area.bytes, fpu_size_);
  context.GetFpu(image);
  uint32_t mask;
  memcpy(&mask, area.bytes + 28, sizeof mask);
  if (mask != 0) mxcsr_mask_ = mask;
  TryRing0(context, start);
  registers = start;
  if (context.Switch(registers).kind != Event::Kind::kSyscall) return Failed("self-test: ring 0 lost its way");
  MeasureRoundTrip(context, start);
  context.Release();
  LOG_INFO(
      "kvm platform: ring 3 is entered by %s; system calls are %s; page tables are %s; a call costs %.0f of the host's",
      abilities_.sysret ? "iretq and sysretq"
      : abilities_.iret ? "iretq"
                        : "registers set from the host",
      abilities_.answers ? "answered in ring 0 where they can be" : "all the sentry's",
      shadow_ ? "shadowed by the host's KVM (no nested paging)" : "walked by the CPU", round_trip_);
  return absl::OkStatus();
}

}  // namespace platform::kvm
