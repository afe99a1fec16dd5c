// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/seccomp_filter.h"

#include <linux/audit.h>

#include <atomic>
#include <cstring>

#include "sentry/kernel/seccomp_listener.h"

namespace sentry::kernel {
namespace {

// MAX_INSNS_PER_PATH, and what each filter counts on top of its instructions.
constexpr size_t kMaxChainInstructions = (1 << 18) / sizeof(bpf::Instruction);
constexpr size_t kFilterPenalty = 4;
// Of all filters of the sandbox together (64 MiB): a chain per process must not fill the sentry's memory.
constexpr size_t kMaxInstructionsOfAll = 8 << 20;
constexpr size_t kFilterOverhead = 64;  // in instructions
std::atomic<size_t> instructions_of_all{0};

// Linux counts the instructions of its translation: those of an entry, and as many for each of ours as are given here.
size_t TranslatedLength(const std::vector<bpf::Instruction>& program) {
  size_t length = 3;
  for (const bpf::Instruction& in : program) {
    const bool x = BPF_SRC(in.code) == BPF_X;
    const unsigned operation = BPF_OP(in.code);
    size_t each = 1;
    if (BPF_CLASS(in.code) == BPF_RET) {
      each = BPF_RVAL(in.code) == BPF_K ? 2 : 1;
    } else if (BPF_CLASS(in.code) == BPF_ALU && operation == BPF_DIV && x) {
      each = 5;  // with the test for zero
    } else if (BPF_CLASS(in.code) == BPF_JMP && operation != BPF_JA) {
      // A constant that looks negative is loaded first; two targets that are both elsewhere take two jumps.
      const bool one_jump = in.jf == 0 || (in.jt == 0 && operation != BPF_JSET);
      each = (one_jump ? 1 : 2) + (!x && static_cast<int32_t>(in.k) < 0);
    }
    length += each;
  }
  return length;
}

// What seccomp takes of classic BPF: aligned words of its data instead of packets, no remainder.
Result<void> CheckForSeccomp(const std::vector<bpf::Instruction>& program) {
  for (const bpf::Instruction& in : program) {
    bool ok = true;
    switch (BPF_CLASS(in.code)) {
      case BPF_LD:
      case BPF_LDX:
        switch (BPF_MODE(in.code)) {
          case BPF_ABS:
            ok = BPF_SIZE(in.code) == BPF_W && in.k < sizeof(seccomp_data) && in.k % 4 == 0;
            break;
          case BPF_IND:
          case BPF_MSH:
            ok = false;
            break;
          default:
            break;
        }
        break;
      case BPF_ALU:
        ok = BPF_OP(in.code) != BPF_MOD;
        break;
      default:
        break;
    }
    if (!ok) return Errno(EINVAL);
  }
  return OkResult();
}

int32_t ActionOf(uint32_t verdict) { return static_cast<int32_t>(verdict & SECCOMP_RET_ACTION_FULL); }

}  // namespace

SeccompFilter::SeccompFilter(std::vector<bpf::Instruction> program)
    : program_(std::move(program)), counted_length_(TranslatedLength(program_)) {
  instructions_of_all.fetch_add(program_.size() + kFilterOverhead, std::memory_order_relaxed);
}

SeccompFilter::~SeccompFilter() {
  instructions_of_all.fetch_sub(program_.size() + kFilterOverhead, std::memory_order_relaxed);
}

Result<RefPtr<SeccompFilter>> SeccompFilter::Create(std::vector<bpf::Instruction> program, uint64_t flags) {
  TRY(bpf::Check(program));
  TRY(CheckForSeccomp(program));
  RefPtr<SeccompFilter> filter(new SeccompFilter(std::move(program)));
  if (instructions_of_all.load(std::memory_order_relaxed) > kMaxInstructionsOfAll) return Errno(ENOMEM);
  filter->log_ = flags & SECCOMP_FILTER_FLAG_LOG;
  filter->wait_killable_ = flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  for (uint32_t number = 0; number < kCachedCalls; ++number) filter->allowed_[number] = filter->DecidesByNumber(number);
  return filter;
}

// Runs the program with only the number and the architecture known: true when nothing else is looked at and the
// verdict is to allow.
bool SeccompFilter::DecidesByNumber(uint32_t number) const {
  bool unknown = false;
  uint32_t verdict = bpf::Run(std::span<const bpf::Instruction>(program_), sizeof(seccomp_data),
                              [&](uint32_t offset, unsigned, uint32_t* value) {
                                if (offset == offsetof(seccomp_data, nr)) {
                                  *value = number;
                                } else if (offset == offsetof(seccomp_data, arch)) {
                                  *value = AUDIT_ARCH_X86_64;
                                } else {
                                  unknown = true;
                                  return false;
                                }
                                return true;
                              });
  return !unknown && (verdict & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ALLOW;
}

uint32_t SeccompFilter::Run(const seccomp_data& data, const SeccompFilter** by) const {
  auto load = [&data](uint32_t offset, unsigned, uint32_t* value) {
    memcpy(value, reinterpret_cast<const char*>(&data) + offset, sizeof *value);
    return true;
  };
  uint32_t verdict = SECCOMP_RET_ALLOW;
  *by = nullptr;
  for (const SeccompFilter* at = this; at; at = at->previous()) {
    uint32_t next = bpf::Run(std::span<const bpf::Instruction>(at->program_), sizeof data, load);
    if (ActionOf(next) >= ActionOf(verdict)) continue;
    verdict = next;
    *by = at;
  }
  return verdict;
}

Result<void> SeccompFilter::Chain(RefPtr<SeccompFilter> previous) {
  size_t total = counted_length_;
  for (const SeccompFilter* at = previous.get(); at; at = at->previous()) total += at->counted_length_ + kFilterPenalty;
  if (total > kMaxChainInstructions) return Errno(ENOMEM);
  if (previous) {
    depth_ = previous->depth_ + 1;
    allowed_ &= previous->allowed_;
  }
  previous_ = std::move(previous);
  return OkResult();
}

void SeccompFilter::SetListener(RefPtr<SeccompListener> listener) { listener_ = std::move(listener); }

void SeccompFilter::RemoveUser() const {
  for (const SeccompFilter* at = this; at && at->users_.fetch_sub(1, std::memory_order_acq_rel) == 1;
       at = at->previous()) {
    if (at->listener_) at->listener_->Orphan();
  }
}

void SeccompFilter::OnLastRef() const {
  RefPtr<SeccompFilter> at = std::move(previous_);
  while (at && at->HasOneRef()) at = RefPtr<SeccompFilter>(std::move(at->previous_));
}

}  // namespace sentry::kernel
