// SPDX-License-Identifier: Apache-2.0
#include "platform/kvm/vcpu_pool.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "platform/kvm/context.h"

namespace platform::kvm {
namespace {

constexpr int64_t kTurnNs = 5'000'000;

}  // namespace

void VcpuPool::Create(Make make, uint32_t ready, uint32_t limit) {
  make_ = std::move(make);
  limit_ = std::min<uint32_t>(limit, kMaxVcpus);
  ready_ = std::min(ready, limit_);
}

void VcpuPool::SaveLocked(KvmContext& context) {
  if (context.vcpu_ == nullptr) return;
  if (!context.vcpu_->GetXsave(&context.fpu_).ok()) {
    LOG_ERROR("kvm platform: KVM_GET_XSAVE failed; the guest thread's vector state is reset");
    context.SetInitialFpu();
  }
}

void VcpuPool::Save(KvmContext& context) {
  base::MutexLock lock(mu_);
  SaveLocked(context);
}

void VcpuPool::Evict(KvmContext& context) {
  base::MutexLock lock(mu_);
  if (context.vcpu_ == nullptr) return;
  SaveLocked(context);
  context.vcpu_->resident = nullptr;
  context.vcpu_ = nullptr;
}

void VcpuPool::SetAnswer(KvmContext& context, size_t index, uint64_t entry) {
  base::MutexLock lock(mu_);
  context.answers_[index] = entry;
  if (context.vcpu_ != nullptr) context.vcpu_->SetAnswer(index, entry);
}

Vcpu* VcpuPool::FindLocked(KvmContext& context) {
  if (context.vcpu_ != nullptr) return context.vcpu_;
  const size_t count = count_.load(std::memory_order_relaxed);
  Vcpu* best = nullptr;
  for (size_t i = 0; i < count; ++i) {
    Vcpu* cpu = cpus_[i].get();
    if (cpu->in_use) continue;
    // One without vector state to save, else the one idle for the longest time.
    if (best == nullptr || (cpu->resident == nullptr && best->resident != nullptr) ||
        ((cpu->resident == nullptr) == (best->resident == nullptr) && cpu->used_at < best->used_at)) {
      best = cpu;
    }
  }
  if (best != nullptr && (best->resident == nullptr || count >= ready_)) return best;
  if (count < limit_) {
    base::Result<std::unique_ptr<Vcpu>> made = make_(static_cast<uint32_t>(count));
    if (made.ok()) {
      cpus_[count] = *std::move(made);
      count_.store(count + 1, std::memory_order_release);
      return cpus_[count].get();
    }
    LOG_WARNING("kvm platform: the host gives no more than %zu virtual CPUs: %s", count, made.error().Name());
    limit_ = static_cast<uint32_t>(count);
    ready_ = std::min(ready_, limit_);
  }
  return best;
}

void VcpuPool::MarkWantedLocked() {
  Vcpu* oldest = nullptr;
  const size_t count = count_.load(std::memory_order_relaxed);
  for (size_t i = 0; i < count; ++i) {
    Vcpu* cpu = cpus_[i].get();
    if (cpu->in_use && (oldest == nullptr || cpu->used_at < oldest->used_at)) oldest = cpu;
  }
  if (oldest == nullptr) return;
  oldest->wanted.store(true);
  oldest->Kick();
}

Vcpu* VcpuPool::Acquire(KvmContext& context) {
  base::MutexLock lock(mu_);
  Vcpu* cpu = next_ticket_ == served_ ? FindLocked(context) : nullptr;
  if (cpu == nullptr) {
    const uint64_t ticket = next_ticket_++;
    for (;;) {
      if (ticket == served_) {
        cpu = FindLocked(context);
        if (cpu != nullptr || limit_ == 0) break;
      }
      // A turn long at least, whoever has it.
      if (!returned_.WaitUntil(mu_, base::MonotonicNs() + kTurnNs)) MarkWantedLocked();
    }
    ++served_;
    returned_.NotifyAll();
    if (cpu == nullptr) return nullptr;
  }
  cpu->in_use = true;
  cpu->used_at = ++now_;
  if (cpu->resident != &context) {
    if (cpu->resident != nullptr) {
      SaveLocked(*cpu->resident);
      cpu->resident->vcpu_ = nullptr;
    }
    cpu->resident = &context;
    context.vcpu_ = cpu;
    if (!cpu->SetXsave(context.fpu_).ok()) LOG_ERROR("kvm platform: KVM_SET_XSAVE failed");
    for (size_t i = 0; i < kAnswers; ++i) cpu->SetAnswer(i, context.answers_[i]);
    context.debug_dirty_ = true;
  }
  return cpu;
}

void VcpuPool::Return(Vcpu* cpu) {
  base::MutexLock lock(mu_);
  cpu->in_use = false;
  cpu->wanted.store(false, std::memory_order_relaxed);
  if (next_ticket_ != served_) returned_.NotifyAll();
}

}  // namespace platform::kvm
