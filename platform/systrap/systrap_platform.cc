// SPDX-License-Identifier: Apache-2.0
#include "platform/systrap/systrap_platform.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "platform/systrap/address_space.h"
#include "platform/systrap/context.h"
#include "platform/systrap/filters.h"

namespace platform::systrap {
namespace {

// Calls that take the sentry longer than this are rare where spinning pays (SpinPolicy).
constexpr uint64_t kStubSpinUs = 20;
// More would cost memory that is seldom needed: a fork with exec takes two and gives back two.
constexpr size_t kMaxPooledStubs = 8;
constexpr unsigned long kFsgsbase = 2;  // HWCAP2_FSGSBASE
constexpr int kSignals[] = {SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, KICK_SIGNAL};

// What the kernel writes into the software-reserved bytes of a signal frame's vector state (struct _fpx_sw_bytes).
struct SoftwareBytes {
  uint32_t magic1;
  uint32_t extended_size;
  uint64_t xfeatures;
  uint32_t xstate_size;
};
constexpr uint32_t kMagic1 = 0x46505853;
constexpr size_t kSoftwareReserved = 464;
constexpr size_t kMxcsrMaskOffset = 28;

SoftwareBytes probed;
uint32_t probed_mxcsr_mask;

void OnProbe(int, siginfo_t*, void* context) {
  auto* image = reinterpret_cast<const uint8_t*>(static_cast<ucontext_t*>(context)->uc_mcontext.fpregs);
  if (image == nullptr) return;
  memcpy(&probed, image + kSoftwareReserved, sizeof probed);
  memcpy(&probed_mxcsr_mask, image + kMxcsrMaskOffset, sizeof probed_mxcsr_mask);
}

absl::Status Failed(const std::string& what, int error = 0) {
  std::string message = "systrap platform: " + what;
  if (error != 0) message += std::string(": ") + base::Errno(error).Name();
  return absl::UnavailableError(message);
}

// A guest for the self-test: a call, then a fault.
constexpr uint8_t kTestProgram[] = {
    0xb8, 39,   0,    0,    0,           // mov $39, %eax
    0x0f, 0x05,                          // syscall
    0x48, 0x8b, 0x04, 0x25, 0, 0, 1, 0,  // mov 0x10000, %rax
};
constexpr uint64_t kTestAddress = 0x40'0000;

}  // namespace

absl::StatusOr<std::unique_ptr<SystrapPlatform>> SystrapPlatform::Start() {
  if ((getauxval(AT_HWCAP2) & kFsgsbase) == 0) return Failed("needs a CPU and a kernel with FSGSBASE (Linux 5.9)");
  std::unique_ptr<SystrapPlatform> platform(new SystrapPlatform());
  absl::Status status = platform->ProbeVectorState();
  if (!status.ok()) return status;
  platform->CalibrateSpinning();
  auto file = SharedFile::Create();
  if (!file.ok()) return file.status();
  platform->file_ = *std::move(file);
  base::Result<uint64_t> clock = platform->file_->Allocate();
  if (!clock.ok()) return Failed("no shared memory");
  platform->clock_offset_ = *clock;

  stub::StubProgram program = {
      .platform = "systrap",
      .code = {kSystrapBegin, kSystrapEnd},
      .zygote = StubOffset(kSystrapZygote),
      .fill_data =
          [&](std::span<uint8_t> bytes, uint64_t page) {
            auto& data = *reinterpret_cast<StubData*>(bytes.data());
            data.xfeatures = platform->xfeatures_;
            data.no_signals = 0;
            data.file = platform->file_->fd();
            data.control = kControlAddress;
            data.clock = kClockAddress;
            data.clock_offset = platform->clock_offset_;
            data.spins = platform->stub_spins_;
            data.gate_context = StubThread::FrameContext(platform->initial_fpu_.size());
            data.gate_fpu = StubThread::FrameFpu(platform->initial_fpu_.size());
            uint64_t at = offsetof(StubData, programs);
            auto put = [&](const std::vector<sock_filter>& filter, sock_fprog* where) {
              size_t length = filter.size() * sizeof(sock_filter);
              CHECK_THAT(at + length <= bytes.size());
              memcpy(bytes.data() + at, filter.data(), length);
              *where = {.len = static_cast<unsigned short>(filter.size()),
                        .filter = reinterpret_cast<sock_filter*>(page + kPageSize + at)};
              at += length;
            };
            put(BuildServiceFilter(), &data.service_filter);
            put(BuildGuestFilter(page), &data.guest_filter);
          },
      .filter = BuildBaseFilter,
      .signals = kSignals,
      .handler = StubOffset(kSystrapHandler),
  };
  absl::StatusOr<std::unique_ptr<stub::Zygote>> zygote = stub::Zygote::Start(program);
  if (!zygote.ok()) return zygote.status();
  platform->zygote_ = *std::move(zygote);
  status = platform->SelfTest();
  if (!status.ok()) return status;
  return platform;
}

// How long a PAUSE and a tick are: of the machine, in a hundred microseconds.
void SystrapPlatform::CalibrateSpinning() {
  constexpr int kPauses = 256;
  constexpr int64_t kCalibrationNs = 100'000;
  const int64_t start = base::MonotonicNs();
  const uint64_t first = __rdtsc();
  // The shortest round was not interrupted.
  uint64_t best = ~uint64_t{0}, last;
  int64_t now;
  do {
    uint64_t before = __rdtsc();
    for (int i = 0; i < kPauses; ++i) _mm_pause();
    last = __rdtsc();
    best = std::min(best, last - before);
    now = base::MonotonicNs();
  } while (now - start < kCalibrationNs);
  ticks_per_us_ = std::max<uint64_t>((last - first) * 1000 / static_cast<uint64_t>(now - start), 1);
  stub_spins_ = std::max<uint64_t>(kStubSpinUs * ticks_per_us_ * kPauses / std::max<uint64_t>(best, 1), 1);
}

// What the kernel saves in a signal frame, as it says in one.
absl::Status SystrapPlatform::ProbeVectorState() {
  struct sigaction action = {}, old;
  action.sa_sigaction = OnProbe;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGURG, &action, &old);
  sigset_t unblock, mask;
  sigemptyset(&unblock);
  sigaddset(&unblock, SIGURG);
  probed = {};
  pthread_sigmask(SIG_UNBLOCK, &unblock, &mask);
  raise(SIGURG);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  sigaction(SIGURG, &old, nullptr);
  if (probed.magic1 != kMagic1 || probed.xstate_size < 576 || probed.xstate_size > kAreaSize / 4) {
    return Failed("signal frames without XSAVE state, or with more than " + std::to_string(kAreaSize / 4) + " bytes");
  }
  xfeatures_ = probed.xfeatures;
  mxcsr_mask_ = probed_mxcsr_mask != 0 ? probed_mxcsr_mask : 0xffbf;
  initial_fpu_.assign(probed.xstate_size, 0);
  initial_fpu_[0] = 0x7f;  // FCW = 0x37f
  initial_fpu_[1] = 0x03;
  initial_fpu_[24] = 0x80;  // MXCSR = 0x1f80
  initial_fpu_[25] = 0x1f;
  initial_fpu_[512] = 3;  // XSTATE_BV: x87, SSE
  return absl::OkStatus();
}

absl::Status SystrapPlatform::SelfTest() {
  auto space = SystrapAddressSpace::Create(*this);
  if (!space.ok()) {
    return Failed("self-test: no stub process (seccomp(2) with user notification must be allowed here)",
                  space.error_number());
  }
  // Binding pins the thread; the caller is not a guest's thread and gets its mask back.
  cpu_set_t affinity;
  bool restore = sched_getaffinity(0, sizeof(affinity), &affinity) == 0;
  absl::Status status = RunTestGuest(**space);
  if (restore) sched_setaffinity(0, sizeof(affinity), &affinity);
  return status;
}

absl::Status SystrapPlatform::RunTestGuest(SystrapAddressSpace& space) {
  base::Result<uint64_t> unit = file_->Allocate();
  if (!unit.ok()) return Failed("self-test: no memory");
  memcpy(file_->Pointer(*unit), kTestProgram, sizeof kTestProgram);
  SystrapContext context(*this);
  base::Result<void> bound = context.Bind(space);
  if (!bound.ok()) return Failed("self-test: no stub thread", bound.error_number());
  base::Result<void> mapped =
      space.Map(kTestAddress, kPageSize, file_->fd(), *unit, {.read = true, .exec = true}, false);
  if (!mapped.ok()) return Failed("self-test: no executable mapping of shared memory", mapped.error_number());
  Registers registers = {};
  registers.cs = 0x33;
  registers.ss = 0x2b;
  registers.eflags = 0x202;
  registers.rip = kTestAddress;
  Event event = context.Switch(registers);
  if (event.kind != Event::Kind::kSyscall || registers.orig_rax != SYS_getpid) {
    return Failed("self-test: a call was not trapped");
  }
  event = context.Switch(registers);
  if (event.kind != Event::Kind::kFault || event.address != kGuestAddressMin || event.access != Access::kRead) {
    return Failed("self-test: a fault was not seen");
  }
  supports_rseq_ = placement_.numbered_densely() && context.HostHasRseq();
  context.Release();
  space.Unmap(kTestAddress, kPageSize);
  file_->Free(*unit);
  return absl::OkStatus();
}

base::Result<base::RefPtr<AddressSpace>> SystrapPlatform::NewAddressSpace() {
  return base::RefPtr<AddressSpace>(TRY(SystrapAddressSpace::Create(*this)));
}

std::unique_ptr<Context> SystrapPlatform::NewContext() { return std::make_unique<SystrapContext>(*this); }

void SystrapPlatform::OnBlock() {
  if (SystrapContext* context = SystrapContext::Current()) context->OnBlock();
}

void SystrapPlatform::OnUnblock() {
  SystrapContext* context = SystrapContext::Current();
  if (context != nullptr) context->OnUnblock();
}

void SystrapPlatform::PinZygote() {
  if (SystrapContext* current = SystrapContext::Current()) placement_.PinOther(current->slot(), zygote_->pid());
}

base::Result<pid_t> SystrapPlatform::Fork(uint64_t control) {
  PinZygote();
  uint8_t request[sizeof control];
  memcpy(request, &control, sizeof control);
  return zygote_->Fork(request);
}

void SystrapPlatform::OnStubLost(std::function<void()> callback) {
  watch_.Start([this, callback = std::move(callback)](pid_t pid, int signal) {
    const bool own = std::find(std::begin(kSignals), std::end(kSignals), signal) != std::end(kSignals);
    // A guest that made its own stub fault has ended itself only.
    if (OnDeath(pid, own ? signal : 0) && !own) callback();
  });
  watching_ = true;
}

bool SystrapPlatform::OnDeath(pid_t pid, int signal) {
  std::vector<uint64_t> units;
  {
    base::MutexLock lock(spaces_mu_);
    auto pooled = std::find_if(pool_.begin(), pool_.end(), [&](const StubProcess& stub) { return stub.pid == pid; });
    if (pooled == pool_.end()) {
      auto it = spaces_.find(pid);
      if (it != spaces_.end()) it->second->OnDeath(signal);
      return true;
    }
    units = pooled->Units();
    pool_.erase(pooled);
  }
  FreeAfterDeath(pid, std::move(units));
  return false;
}

void SystrapPlatform::Register(SystrapAddressSpace& space, bool watched) {
  {
    base::MutexLock lock(spaces_mu_);
    spaces_[space.pid()] = &space;
  }
  if (!watched) watch_.Add(space.pid(), space.pid());
}

bool SystrapPlatform::HasRoomForStub() {
  base::MutexLock lock(spaces_mu_);
  return pool_.size() < kMaxPooledStubs;
}

bool SystrapPlatform::GiveStub(SystrapAddressSpace& space, StubProcess& stub) {
  base::MutexLock lock(spaces_mu_);
  if (pool_.size() >= kMaxPooledStubs) return false;
  auto it = spaces_.find(space.pid());
  if (it != spaces_.end() && it->second == &space) spaces_.erase(it);
  pool_.push_back(std::move(stub));
  return true;
}

std::optional<StubProcess> SystrapPlatform::TakeStub() {
  for (;;) {
    StubProcess stub;
    {
      base::MutexLock lock(spaces_mu_);
      if (pool_.empty()) return std::nullopt;
      stub = std::move(pool_.back());
      pool_.pop_back();
    }
    if (kill(stub.pid, 0) == 0) return stub;
    watch_.Remove(stub.pid);
    FreeAfterDeath(stub.pid, stub.Units());
  }
}

void SystrapPlatform::Forget(SystrapAddressSpace& space) { watch_.Remove(space.pid()); }

void SystrapPlatform::Unregister(SystrapAddressSpace& space) {
  watch_.Remove(space.pid());
  base::MutexLock lock(spaces_mu_);
  auto it = spaces_.find(space.pid());
  if (it != spaces_.end() && it->second == &space) spaces_.erase(it);
}

void SystrapPlatform::FreeAfterDeath(pid_t pid, std::vector<uint64_t> units) {
  std::vector<Grave> gone;
  {
    base::MutexLock lock(spaces_mu_);
    graves_.push_back({.pid = pid, .units = std::move(units)});
    while (!graves_.empty() && kill(graves_.front().pid, 0) != 0) {
      gone.push_back(std::move(graves_.front()));
      graves_.pop_front();
    }
  }
  for (const Grave& grave : gone) {
    for (uint64_t unit : grave.units) file_->Free(unit);
  }
}

}  // namespace platform::systrap
