// SPDX-License-Identifier: Apache-2.0
// One filter of seccomp(2): a checked program, its place in a chain, and what is known of it at installation. Filters
// are immutable and shared by every task that inherits them; a chain only ever grows at its leaf.
#ifndef SENTRY_KERNEL_SECCOMP_FILTER_H_
#define SENTRY_KERNEL_SECCOMP_FILTER_H_

#include <linux/seccomp.h>

#include <bitset>
#include <vector>

#include "sentry/bpf/bpf.h"
#include "sentry/common.h"

namespace sentry::kernel {

class SeccompListener;

class SeccompFilter : public RefCounted<SeccompFilter> {
 public:
  // System call numbers whose verdict is looked up instead of computed.
  static constexpr size_t kCachedCalls = 512;

  // EINVAL: the program is not one that seccomp takes. `flags`: SECCOMP_FILTER_FLAG_LOG and _WAIT_KILLABLE_RECV count.
  static Result<RefPtr<SeccompFilter>> Create(std::vector<bpf::Instruction> program, uint64_t flags);
  ~SeccompFilter();
  // Iterative: a chain may be thousands of filters long.
  void OnLastRef() const;

  const std::vector<bpf::Instruction>& program() const { return program_; }
  const SeccompFilter* previous() const { return previous_.get(); }
  bool log() const { return log_; }
  bool wait_killable() const { return wait_killable_; }
  // Of the chain up to here.
  uint32_t depth() const { return depth_; }
  // The call is allowed whatever its arguments are, by the whole chain.
  bool AlwaysAllows(uint64_t number) const { return number < kCachedCalls && allowed_[number]; }

  // The verdict of the chain: of all filters' the one that takes precedence; `*by` gets the filter that gave it.
  uint32_t Run(const seccomp_data& data, const SeccompFilter** by) const;

  // Puts the new filter on top of `previous` (may be null). ENOMEM when the chain gets too long. Before it is shared.
  Result<void> Chain(RefPtr<SeccompFilter> previous);
  void SetListener(RefPtr<SeccompListener> listener);
  const RefPtr<SeccompListener>& listener() const { return listener_; }

  // Tasks with this filter as their leaf and filters on top of it that are in use. At zero the listener is told.
  void AddUser() const { users_.fetch_add(1, std::memory_order_relaxed); }
  void RemoveUser() const;

 private:
  explicit SeccompFilter(std::vector<bpf::Instruction> program);
  bool DecidesByNumber(uint32_t number) const;

  const std::vector<bpf::Instruction> program_;
  const size_t counted_length_;  // towards the limit of a chain
  mutable RefPtr<SeccompFilter> previous_;
  RefPtr<SeccompListener> listener_;
  bool log_ = false, wait_killable_ = false;
  uint32_t depth_ = 1;
  std::bitset<kCachedCalls> allowed_;
  mutable std::atomic<int> users_{0};
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_SECCOMP_FILTER_H_
