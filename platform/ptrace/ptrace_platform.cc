// SPDX-License-Identifier: Apache-2.0
#include "platform/ptrace/ptrace_platform.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>

#include <string>
#include <utility>

#include "platform/ptrace/address_space.h"
#include "platform/ptrace/context.h"

namespace platform::ptrace {
namespace {

// CPUID leaf 0xd: the size of an uncompacted image of all components the host enabled in XCR0.
size_t XsaveSize() {
  uint32_t a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & (1u << 27)) == 0) return 512;
  if (__get_cpuid_count(0xd, 0, &a, &b, &c, &d) == 0 || b < 576) return 512;
  return b;
}

std::vector<uint8_t> InitialFpu() {
  std::vector<uint8_t> image(XsaveSize());
  image[0] = 0x7f;  // FCW = 0x37f
  image[1] = 0x03;
  image[24] = 0x80;  // MXCSR = 0x1f80
  image[25] = 0x1f;
  // XSTATE_BV: with x87 and SSE absent, the kernel would keep the old MXCSR.
  if (image.size() > 512) image[512] = 3;
  return image;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PtracePlatform>> PtracePlatform::Start() {
  std::unique_ptr<PtracePlatform> platform(new PtracePlatform());
  absl::StatusOr<std::unique_ptr<stub::Zygote>> zygote = stub::Zygote::Start();
  if (!zygote.ok()) return zygote.status();
  platform->zygote_ = *std::move(zygote);
  platform->initial_fpu_ = InitialFpu();
  absl::Status status = platform->SelfTest();
  if (!status.ok()) return status;
  return platform;
}

absl::Status PtracePlatform::SelfTest() {
  auto failed = [](const std::string& what, int error) {
    std::string message = "ptrace platform: self-test: " + what;
    if (error != 0) message += std::string(": ") + base::Errno(error).Name();
    return absl::UnavailableError(message +
                                  "; ptrace(2) must be allowed for this process's own children "
                                  "(see kernel.yama.ptrace_scope and the seccomp profile of an outer container)");
  };
  auto space = PtraceAddressSpace::Create(*this);
  if (!space.ok()) return failed("no stub process", space.error_number());
  // Binding pins the thread; the caller is not a guest's thread and gets its mask back.
  cpu_set_t affinity;
  bool restore = sched_getaffinity(0, sizeof(affinity), &affinity) == 0;
  auto context = std::make_unique<PtraceContext>(*this);
  base::Result<void> bound = context->Bind(**space);
  absl::Status status;
  if (!bound.ok()) {
    status = failed("no stub thread", bound.error_number());
  } else {
    // The stub page's own `syscall` with exit_group in rax: must arrive here, not in the host.
    Registers registers = {};
    registers.cs = 0x33;
    registers.ss = 0x2b;
    registers.eflags = 0x202;
    registers.rip = layout().call();
    registers.rax = SYS_exit_group;
    Event event = context->Switch(registers);
    if (event.kind != Event::Kind::kSyscall || registers.orig_rax != SYS_exit_group ||
        registers.rip != layout().call_done() - 1) {
      status = failed("PTRACE_SYSEMU didn't intercept a call", 0);
    } else {
      // The host may know a smaller image than the CPU.
      std::vector<uint8_t> image(initial_fpu_.size());
      size_t size = context->GetFpu(image);
      if (size < 512) {
        status = failed("no vector state from PTRACE_GETREGSET", 0);
      } else {
        initial_fpu_.resize(size);
        // A kernel with rseq looks at the arguments (flags that there are not: EINVAL); one without answers ENOSYS.
        const uint64_t nothing[] = {0, 0, ~uint64_t{0}, 0};
        supports_rseq_ =
            placement_.numbered_densely() && context->tracee().Call(SYS_rseq, nothing).error_number() == EINVAL;
        if (!context->ResetFpu().ok()) status = failed("vector state refused by PTRACE_SETREGSET", 0);
      }
    }
  }
  context->Release();
  if (restore) sched_setaffinity(0, sizeof(affinity), &affinity);
  return status;
}

base::Result<base::RefPtr<AddressSpace>> PtracePlatform::NewAddressSpace() {
  return base::RefPtr<AddressSpace>(TRY(PtraceAddressSpace::Create(*this)));
}

std::unique_ptr<Context> PtracePlatform::NewContext() { return std::make_unique<PtraceContext>(*this); }

void PtracePlatform::OnBlock() {
  if (PtraceContext* context = PtraceContext::Current()) placement_.Leave(context->slot());
}

void PtracePlatform::OnStubLost(std::function<void()> callback) {
  watch_.Start([callback = std::move(callback)](pid_t, int) { callback(); });
}

void PtracePlatform::OnUnblock() {
  PtraceContext* context = PtraceContext::Current();
  if (context == nullptr) return;
  placement_.Enter(context->slot());
  context->Rebalance();
}

}  // namespace platform::ptrace
