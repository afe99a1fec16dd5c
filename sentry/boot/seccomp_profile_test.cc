// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/seccomp_profile.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <sys/syscall.h>

namespace sentry {
namespace {

using runsc::spec::Seccomp;
using runsc::spec::SeccompArgument;
using runsc::spec::SeccompOperator;

constexpr uint32_t kEperm = SECCOMP_RET_ERRNO | EPERM, kEnosys = SECCOMP_RET_ERRNO | ENOSYS;

struct Call {
  int number;
  uint64_t arguments[6] = {};
};

uint32_t Verdict(const Seccomp& profile, const Call& call) {
  auto filter = CompileSeccompProfile(profile);
  EXPECT_TRUE(filter.ok()) << filter.status();
  if (!filter.ok()) return 0;
  seccomp_data data = {.nr = call.number, .arch = AUDIT_ARCH_X86_64};
  std::copy(std::begin(call.arguments), std::end(call.arguments), data.args);
  const kernel::SeccompFilter* by;
  return (*filter)->Run(data, &by);
}

TEST(SeccompProfile, NamesAndDefault) {
  Seccomp profile = {.default_verdict = kEperm};
  profile.rules = {{.names = {"read", "no_such_call", "futex_waitv"}, .verdict = SECCOMP_RET_ALLOW},
                   {.names = {"write"}, .verdict = SECCOMP_RET_TRAP}};
  EXPECT_EQ(SECCOMP_RET_ALLOW, Verdict(profile, {SYS_read}));
  EXPECT_EQ(SECCOMP_RET_TRAP, Verdict(profile, {SYS_write}));
  EXPECT_EQ(kEperm, Verdict(profile, {SYS_open}));
  EXPECT_EQ(kEnosys, Verdict(profile, {450})) << "newer than the profile";
  EXPECT_EQ(SECCOMP_RET_KILL_THREAD, Verdict(profile, {SYS_read | 0x40000000})) << "x32 was not listed";
  EXPECT_TRUE((*CompileSeccompProfile(profile))->AlwaysAllows(SYS_read));
  EXPECT_FALSE((*CompileSeccompProfile(profile))->AlwaysAllows(SYS_write));
  profile.x32 = true;
  EXPECT_EQ(SECCOMP_RET_ALLOW, Verdict(profile, {SYS_read | 0x40000000}));
  EXPECT_EQ(kEnosys, Verdict(profile, {-1}));
  profile.default_verdict = SECCOMP_RET_ALLOW;
  EXPECT_EQ(SECCOMP_RET_ALLOW, Verdict(profile, {450})) << "no cut under a permissive default";
}

TEST(SeccompProfile, Operators) {
  constexpr uint64_t kValue = 0x500000005;
  struct {
    SeccompOperator op;
    // Of: smaller low half, smaller high half, equal, greater low half, greater high half.
    bool holds[5];
  } const cases[] = {
      {SeccompOperator::kEqual, {false, false, true, false, false}},
      {SeccompOperator::kNotEqual, {true, true, false, true, true}},
      {SeccompOperator::kLess, {true, true, false, false, false}},
      {SeccompOperator::kLessOrEqual, {true, true, true, false, false}},
      {SeccompOperator::kGreater, {false, false, false, true, true}},
      {SeccompOperator::kGreaterOrEqual, {false, false, true, true, true}},
  };
  const uint64_t values[5] = {kValue - 1, 0x4ffffffff, kValue, kValue + 1, 0x600000000};
  for (const auto& each : cases) {
    Seccomp profile = {.default_verdict = kEperm};
    profile.rules = {{.names = {"write"}, .verdict = SECCOMP_RET_ALLOW, .arguments = {{2, kValue, 0, each.op}}}};
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(each.holds[i] ? SECCOMP_RET_ALLOW : kEperm, Verdict(profile, {SYS_write, {0, 0, values[i]}}))
          << static_cast<int>(each.op) << " " << i;
    }
    EXPECT_EQ(kEperm, Verdict(profile, {SYS_read, {0, 0, kValue}}));
  }
  Seccomp profile = {.default_verdict = kEperm};
  profile.rules = {{.names = {"write"},
                    .verdict = SECCOMP_RET_ALLOW,
                    .arguments = {{0, 0xff000000ff, 0x1200000034, SeccompOperator::kMaskedEqual}}}};
  EXPECT_EQ(SECCOMP_RET_ALLOW, Verdict(profile, {SYS_write, {0x9912abcdef34}}));
  EXPECT_EQ(kEperm, Verdict(profile, {SYS_write, {0x9913abcdef34}}));
  EXPECT_EQ(kEperm, Verdict(profile, {SYS_write, {0x9912abcdef35}}));
}

TEST(SeccompProfile, ConditionsAreAllOrAlternatives) {
  Seccomp profile = {.default_verdict = kEperm};
  profile.rules = {{.names = {"personality"},
                    .verdict = SECCOMP_RET_ALLOW,
                    .arguments = {{0, 8, 0, SeccompOperator::kEqual}, {0, 0x20000, 0, SeccompOperator::kEqual}}},
                   {.names = {"read"},
                    .verdict = SECCOMP_RET_ALLOW,
                    .arguments = {{0, 1, 0, SeccompOperator::kEqual}, {1, 2, 0, SeccompOperator::kEqual}}}};
  EXPECT_EQ(SECCOMP_RET_ALLOW, Verdict(profile, {SYS_personality, {8}}));
  EXPECT_EQ(SECCOMP_RET_ALLOW, Verdict(profile, {SYS_personality, {0x20000}}));
  EXPECT_EQ(kEperm, Verdict(profile, {SYS_personality, {9}}));
  EXPECT_EQ(SECCOMP_RET_ALLOW, Verdict(profile, {SYS_read, {1, 2}}));
  EXPECT_EQ(kEperm, Verdict(profile, {SYS_read, {1, 3}}));
  EXPECT_EQ(kEperm, Verdict(profile, {SYS_read, {3, 2}}));
}

TEST(SeccompProfile, TooLong) {
  Seccomp profile = {.default_verdict = kEperm};
  profile.rules.resize(2100, {.names = {"read"}, .verdict = SECCOMP_RET_ALLOW});
  EXPECT_FALSE(CompileSeccompProfile(profile).ok());
}

}  // namespace
}  // namespace sentry
