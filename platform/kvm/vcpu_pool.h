// SPDX-License-Identifier: Apache-2.0
// VcpuPool: the VM's CPUs, made on demand. A context keeps the CPU it ran on, with its vector state in it, until
// another context needs one. Thread-safe.
#ifndef PLATFORM_KVM_VCPU_POOL_H_
#define PLATFORM_KVM_VCPU_POOL_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/mutex.h"
#include "base/result.h"
#include "platform/kvm/vcpu.h"

namespace platform::kvm {

class VcpuPool {
 public:
  using Make = std::function<base::Result<std::unique_ptr<Vcpu>>(uint32_t)>;

  // More than `ready` CPUs are made only while so many are in use at once; never more than `limit`.
  void Create(Make make, uint32_t ready, uint32_t limit);

  // A CPU in use by the caller with the context's vector state loaded. Waits while all are in use, and has one taken
  // away from its user. Null if the host gives none.
  Vcpu* Acquire(KvmContext& context) ABSL_LOCKS_EXCLUDED(mu_);
  void Return(Vcpu* cpu) ABSL_LOCKS_EXCLUDED(mu_);
  // The context's vector state is in its buffer on return and no CPU remembers it.
  void Evict(KvmContext& context) ABSL_LOCKS_EXCLUDED(mu_);
  // As Evict, but the CPU keeps its copy: for reading.
  void Save(KvmContext& context) ABSL_LOCKS_EXCLUDED(mu_);
  // The context's answer to kAnswerable[index]; the CPU that it is resident on has it at once.
  void SetAnswer(KvmContext& context, size_t index, uint64_t entry) ABSL_LOCKS_EXCLUDED(mu_);

  template <typename F>
  void ForEach(F visit) {
    const size_t count = count_.load(std::memory_order_acquire);
    for (size_t i = 0; i < count; ++i) visit(*cpus_[i]);
  }
  size_t count() const { return count_.load(std::memory_order_acquire); }

 private:
  Vcpu* FindLocked(KvmContext& context) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SaveLocked(KvmContext& context) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MarkWantedLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Make make_;
  uint32_t ready_ = 0;
  uint32_t limit_ = 0;
  base::Mutex mu_{base::LockRank::kPlatform};
  base::CondVar returned_;
  std::array<std::unique_ptr<Vcpu>, kMaxVcpus> cpus_;  // the first count_, for good
  std::atomic<size_t> count_{0};
  uint64_t now_ ABSL_GUARDED_BY(mu_) = 0;
  // Who waits is served in order.
  uint64_t next_ticket_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t served_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace platform::kvm

#endif  // PLATFORM_KVM_VCPU_POOL_H_
