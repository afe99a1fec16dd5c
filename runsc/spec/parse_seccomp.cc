// SPDX-License-Identifier: Apache-2.0
// linux.seccomp.
#include <errno.h>
#include <linux/seccomp.h>

#include <string_view>

#include "absl/strings/str_cat.h"
#include "runsc/spec/parse_internal.h"

namespace runsc::spec {
namespace {

template <typename T>
struct Named {
  std::string_view name;
  T value;
};

constexpr Named<uint32_t> kActions[] = {
    {"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD}, {"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
    {"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},      {"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
    {"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},        {"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO},
    {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE},      {"SCMP_ACT_LOG", SECCOMP_RET_LOG},
};
constexpr Named<SeccompOperator> kOperators[] = {
    {"SCMP_CMP_NE", SeccompOperator::kNotEqual},           {"SCMP_CMP_LT", SeccompOperator::kLess},
    {"SCMP_CMP_LE", SeccompOperator::kLessOrEqual},        {"SCMP_CMP_EQ", SeccompOperator::kEqual},
    {"SCMP_CMP_GE", SeccompOperator::kGreaterOrEqual},     {"SCMP_CMP_GT", SeccompOperator::kGreater},
    {"SCMP_CMP_MASKED_EQ", SeccompOperator::kMaskedEqual},
};
constexpr Named<uint32_t> kFlags[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
};
// Not of this machine is not wrong, only without effect.
constexpr std::string_view kArchitectures[] = {
    "SCMP_ARCH_X86",         "SCMP_ARCH_X86_64", "SCMP_ARCH_X32",       "SCMP_ARCH_ARM",     "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",        "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",    "SCMP_ARCH_PPC64",     "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",       "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64",  "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",        "SCMP_ARCH_SH",     "SCMP_ARCH_SHEB",
};

template <typename T, size_t n>
bool Find(const Named<T> (&table)[n], std::string_view name, T* value) {
  for (const Named<T>& each : table) {
    if (each.name != name) continue;
    *value = each.value;
    return true;
  }
  return false;
}

// The action with its errno (or its message for a tracer) in the low bits.
void ReadAction(ObjectReader& r, const char* name, const char* errno_name, uint32_t* verdict) {
  std::string action;
  std::optional<int64_t> value;
  r.String(name, &action, Need::kRequired);
  r.OptionalInteger(errno_name, &value, 0, SECCOMP_RET_DATA);
  if (!r.ok()) return;
  if (action == "SCMP_ACT_NOTIFY") {
    return r.Fail(name, "SCMP_ACT_NOTIFY is not supported: a seccomp agent of the host cannot reach into the sandbox");
  }
  if (!Find(kActions, action, verdict)) return r.Fail(name, "unknown action \"" + action + "\"");
  const bool takes_value = *verdict == SECCOMP_RET_ERRNO || *verdict == SECCOMP_RET_TRACE;
  if (value && !takes_value) return r.Fail(errno_name, "only SCMP_ACT_ERRNO and SCMP_ACT_TRACE take a value");
  if (takes_value) *verdict |= static_cast<uint32_t>(value.value_or(EPERM));
}

void ReadRule(ObjectReader& r, SeccompRule* rule) {
  r.Strings("names", &rule->names, Need::kRequired);
  ReadAction(r, "action", "errnoRet", &rule->verdict);
  r.Objects("args", [&](ObjectReader& argument, size_t) {
    SeccompArgument out;
    std::string op;
    uint32_t index = 0;
    argument.Uint32("index", &index, Need::kRequired);
    argument.Unsigned("value", &out.value, Need::kRequired);
    argument.Unsigned("valueTwo", &out.value_two);
    argument.String("op", &op, Need::kRequired);
    if (!argument.ok()) return;
    if (index > 5) return argument.Fail("index", absl::StrCat("must be in 0..5, is ", index));
    out.index = index;
    if (!Find(kOperators, op, &out.op)) return argument.Fail("op", "unknown operator \"" + op + "\"");
    rule->arguments.push_back(out);
  });
  // What Docker writes into its profiles beside the specification's fields.
  r.Ignore({"name", "comment", "includes", "excludes"});
  if (r.ok() && rule->names.empty()) r.Fail("names", "must not be empty");
}

}  // namespace

void ReadSeccomp(ObjectReader& r, Seccomp* seccomp) {
  ReadAction(r, "defaultAction", "defaultErrnoRet", &seccomp->default_verdict);
  std::vector<std::string> architectures, flags;
  r.Strings("architectures", &architectures);
  for (size_t i = 0; i < architectures.size(); ++i) {
    bool known = false;
    for (std::string_view each : kArchitectures) known = known || each == architectures[i];
    if (!known) {
      r.Fail(absl::StrCat("architectures[", i, "]"), "unknown architecture \"" + architectures[i] + "\"");
    }
    seccomp->x32 = seccomp->x32 || architectures[i] == "SCMP_ARCH_X32";
  }
  r.Strings("flags", &flags);
  for (size_t i = 0; i < flags.size(); ++i) {
    uint32_t flag = 0;
    if (!Find(kFlags, flags[i], &flag)) r.Fail(absl::StrCat("flags[", i, "]"), "unknown flag \"" + flags[i] + "\"");
    seccomp->flags |= flag;
  }
  r.WarnUnsupported("listenerPath", "a seccomp agent of the host cannot reach into the sandbox");
  r.Ignore({"listenerMetadata"});
  r.Objects("syscalls", [&](ObjectReader& rule, size_t) {
    seccomp->rules.emplace_back();
    ReadRule(rule, &seccomp->rules.back());
  });
}

}  // namespace runsc::spec
