// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/seccomp_profile.h"

#include <linux/audit.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "sentry/syscalls/table.h"

namespace sentry {
namespace {

using bpf::Instruction;
using runsc::spec::Seccomp;
using runsc::spec::SeccompArgument;
using runsc::spec::SeccompOperator;
using runsc::spec::SeccompRule;

constexpr uint32_t kX32Bit = 0x40000000;
constexpr uint8_t kFail = 0xff;  // a jump to the rule's end, to be filled in

Instruction Statement(int code, uint32_t k) { return {static_cast<uint16_t>(code), 0, 0, k}; }
Instruction Load(size_t offset) { return Statement(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)); }
Instruction Jump(int operation, uint32_t k, uint8_t taken, uint8_t otherwise) {
  return {static_cast<uint16_t>(BPF_JMP | operation | BPF_K), taken, otherwise, k};
}
Instruction Return(uint32_t verdict) { return Statement(BPF_RET | BPF_K, verdict); }

const std::map<std::string_view, uint32_t>& Numbers() {
  static const auto* numbers = [] {
    auto* map = new std::map<std::string_view, uint32_t>;
    for (unsigned number = 0; number < syscalls::kTableSize; ++number) {
      if (const syscalls::Entry* entry = syscalls::Find(number)) (*map)[entry->name] = number;
    }
    return map;
  }();
  return *numbers;
}

// Falls through when the condition holds of the 64-bit argument, in two halves.
void AppendCondition(const SeccompArgument& condition, std::vector<Instruction>* out) {
  const uint64_t value = condition.op == SeccompOperator::kMaskedEqual ? condition.value_two : condition.value;
  const auto high = static_cast<uint32_t>(value >> 32), low = static_cast<uint32_t>(value);
  const size_t at = offsetof(seccomp_data, args) + condition.index * sizeof(uint64_t);
  switch (condition.op) {
    case SeccompOperator::kEqual:
      out->insert(out->end(), {Load(at + 4), Jump(BPF_JEQ, high, 0, kFail), Load(at), Jump(BPF_JEQ, low, 0, kFail)});
      break;
    case SeccompOperator::kNotEqual:
      out->insert(out->end(), {Load(at + 4), Jump(BPF_JEQ, high, 0, 2), Load(at), Jump(BPF_JEQ, low, kFail, 0)});
      break;
    case SeccompOperator::kGreater:
    case SeccompOperator::kGreaterOrEqual: {
      const int last = condition.op == SeccompOperator::kGreater ? BPF_JGT : BPF_JGE;
      out->insert(out->end(), {Load(at + 4), Jump(BPF_JGT, high, 3, 0), Jump(BPF_JEQ, high, 0, kFail), Load(at),
                               Jump(last, low, 0, kFail)});
      break;
    }
    case SeccompOperator::kLess:
    case SeccompOperator::kLessOrEqual: {
      const int not_last = condition.op == SeccompOperator::kLess ? BPF_JGE : BPF_JGT;
      out->insert(out->end(), {Load(at + 4), Jump(BPF_JGT, high, kFail, 0), Jump(BPF_JEQ, high, 0, 2), Load(at),
                               Jump(not_last, low, kFail, 0)});
      break;
    }
    case SeccompOperator::kMaskedEqual:
      out->insert(
          out->end(),
          {Load(at + 4), Statement(BPF_ALU | BPF_AND | BPF_K, static_cast<uint32_t>(condition.value >> 32)),
           Jump(BPF_JEQ, high, 0, kFail), Load(at),
           Statement(BPF_ALU | BPF_AND | BPF_K, static_cast<uint32_t>(condition.value)), Jump(BPF_JEQ, low, 0, kFail)});
      break;
  }
}

// One rule with conditions that must all hold. It leaves the accumulator undefined.
void AppendRule(uint32_t number, const std::vector<SeccompArgument>& conditions, uint32_t verdict,
                std::vector<Instruction>* program) {
  std::vector<Instruction> rule = {Statement(BPF_LD | BPF_MEM, 0), Jump(BPF_JEQ, number, 0, kFail)};
  for (const SeccompArgument& condition : conditions) AppendCondition(condition, &rule);
  rule.push_back(Return(verdict));
  for (size_t i = 0; i < rule.size(); ++i) {
    const auto to_end = static_cast<uint8_t>(rule.size() - i - 1);
    if (rule[i].jt == kFail) rule[i].jt = to_end;
    if (rule[i].jf == kFail) rule[i].jf = to_end;
  }
  program->insert(program->end(), rule.begin(), rule.end());
}

// runc: conditions on different arguments are alternatives as soon as one argument has two of them.
bool AreAlternatives(const std::vector<SeccompArgument>& conditions) {
  std::set<uint32_t> seen;
  return std::any_of(conditions.begin(), conditions.end(),
                     [&](const SeccompArgument& c) { return !seen.insert(c.index).second; });
}

bool IsPermissive(uint32_t verdict) {
  const uint32_t action = verdict & SECCOMP_RET_ACTION_FULL;
  return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG || action == SECCOMP_RET_TRACE;
}

}  // namespace

absl::StatusOr<RefPtr<kernel::SeccompFilter>> CompileSeccompProfile(const Seccomp& profile) {
  const uint32_t foreign = SECCOMP_RET_KILL_THREAD;
  std::vector<Instruction> program = {Load(offsetof(seccomp_data, arch)), Jump(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
                                      Return(foreign), Load(offsetof(seccomp_data, nr))};
  if (profile.x32) {
    // The same calls by other numbers; -1 stays what it is.
    program.insert(program.end(), {Jump(BPF_JEQ, 0xffffffff, 1, 0), Statement(BPF_ALU | BPF_AND | BPF_K, ~kX32Bit)});
  } else {
    program.insert(program.end(), {Jump(BPF_JGE, kX32Bit, 0, 2), Jump(BPF_JEQ, 0xffffffff, 1, 0), Return(foreign)});
  }

  uint32_t last = 0;
  std::vector<Instruction> conditional, plain;
  for (const SeccompRule& rule : profile.rules) {
    for (const std::string& name : rule.names) {
      auto found = Numbers().find(name);
      if (found == Numbers().end()) continue;
      const uint32_t number = found->second;
      last = std::max(last, number);
      if (rule.verdict == profile.default_verdict) continue;
      if (rule.arguments.empty()) {
        plain.insert(plain.end(), {Jump(BPF_JEQ, number, 0, 1), Return(rule.verdict)});
      } else if (AreAlternatives(rule.arguments)) {
        for (const SeccompArgument& each : rule.arguments) AppendRule(number, {each}, rule.verdict, &conditional);
      } else {
        AppendRule(number, rule.arguments, rule.verdict, &conditional);
      }
    }
  }
  // As runc: calls that are newer than the profile do not exist, so that programs fall back.
  const uint32_t enosys = SECCOMP_RET_ERRNO | ENOSYS;
  if (!IsPermissive(profile.default_verdict) && profile.default_verdict != enosys) {
    program.insert(program.end(), {Jump(BPF_JGT, last, 0, 1), Return(enosys)});
  }
  if (!conditional.empty()) {
    program.push_back(Statement(BPF_ST, 0));
    program.insert(program.end(), conditional.begin(), conditional.end());
    program.push_back(Statement(BPF_LD | BPF_MEM, 0));
  }
  program.insert(program.end(), plain.begin(), plain.end());
  program.push_back(Return(profile.default_verdict));

  if (program.size() > bpf::kMaxInstructions) {
    return absl::InvalidArgumentError(absl::StrCat("linux.seccomp: its filter has ", program.size(),
                                                   " instructions, more than a Linux filter's ",
                                                   bpf::kMaxInstructions));
  }
  auto filter = kernel::SeccompFilter::Create(std::move(program), profile.flags & SECCOMP_FILTER_FLAG_LOG);
  if (!filter.ok()) return absl::InternalError("linux.seccomp: its filter is not valid");
  return *filter;
}

}  // namespace sentry
