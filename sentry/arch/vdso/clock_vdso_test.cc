// SPDX-License-Identifier: Apache-2.0
// The image's functions, called where the fake address space maps them; and the calibration on simulated clocks.
#include "sentry/arch/vdso/clock_vdso.h"

#include <elf.h>
#include <sched.h>
#include <string.h>
#include <sys/time.h>

#include <random>
#include <string_view>

#include "sentry/mm/fake_platform.h"

namespace sentry::arch {
namespace {

int64_t Evaluate(const platform::ClockParams& params, uint64_t tsc) {
  uint64_t delta = tsc > params.tsc_base ? tsc - params.tsc_base : 0;
  return params.monotonic_ns + static_cast<int64_t>(static_cast<unsigned __int128>(delta) * params.multiplier >> 32);
}

TEST(ClockCalibrator, FollowsWithoutGoingBack) {
  std::mt19937_64 random(3);
  for (double ghz : {1.0, 2.6, 5.0}) {
    ClockCalibrator calibrator;
    double mono = 1e9, tsc = 12345;
    int64_t shown = 0;
    for (int i = 0; i < 200; ++i) {
      // The host's clock is slewed by up to 100 ppm, and each sample is up to 30 ns off.
      double rate = (1 + (static_cast<double>(random() % 201) - 100) * 1e-6) / ghz;
      int64_t noise = static_cast<int64_t>(random() % 61) - 30;
      platform::ClockParams params =
          calibrator.Update({static_cast<uint64_t>(tsc), static_cast<int64_t>(mono) + noise, 77});
      double step = static_cast<double>(calibrator.interval()) * (1 + static_cast<double>(random() % 50) / 100);
      for (int j = 0; j <= 10; ++j) {
        double now = tsc + step * j / 10, true_ns = mono + step * j / 10 * rate;
        if (!params.usable || now - tsc > static_cast<double>(params.max_delta)) continue;
        int64_t value = Evaluate(params, static_cast<uint64_t>(now));
        ASSERT_GE(value, shown) << "went back at update " << i;
        shown = value;
        ASSERT_NEAR(static_cast<double>(value), true_ns, 600e3) << i;
      }
      tsc += step;
      mono += step * rate;
    }
  }
}

TEST(ClockCalibrator, SteadyClocksAgreeWithinAMicrosecond) {
  ClockCalibrator calibrator;
  double mono = 5e12, tsc = 1e10;
  for (int i = 0; i < 50; ++i) {
    platform::ClockParams params = calibrator.Update({static_cast<uint64_t>(tsc), static_cast<int64_t>(mono), 77});
    double step = static_cast<double>(calibrator.interval());
    if (i > 0) {
      ASSERT_TRUE(params.usable);
      ASSERT_NEAR(static_cast<double>(Evaluate(params, static_cast<uint64_t>(tsc + step))), mono + step / 2.6, 1000);
    }
    tsc += step;
    mono += step / 2.6;
  }
}

TEST(ClockCalibrator, AJumpDistrustsTheTsc) {
  ClockCalibrator calibrator;
  EXPECT_FALSE(calibrator.Update({1'000'000, 1'000'000, 0}).usable);
  EXPECT_TRUE(calibrator.Update({201'000'000, 101'000'000, 0}).usable);
  EXPECT_FALSE(calibrator.Update({301'000'000, 301'000'000, 0}).usable) << "another machine's rate";
  EXPECT_TRUE(calibrator.Update({501'000'000, 501'000'000, 0}).usable);
  EXPECT_FALSE(calibrator.Update({400'000'000, 700'000'000, 0}).usable) << "the counter went back";
}

class ClockVdsoTest : public mm::MmTest {
 protected:
  void SetUp() override {
    MmTest::SetUp();
    vdso = std::move(ClockVdso::Create(*memory)).value();
    base = vdso->MapInto(*mm, nullptr).value_or(0);
    ASSERT_NE(base, 0u);
    mm->MapEagerly();
    for (const auto& info : Vmas(*mm)) {
      uint64_t ignored;
      ASSERT_EQ(mm::Peek(*mm, info.start, &ignored), 0);
    }
    image = mm::SpaceOf(*mm).Host(base);
  }
  void TearDown() override {
    mm.Reset();
    vdso.reset();
    MmTest::TearDown();
  }
  // By the dynamic symbol table, as libc does.
  template <typename F>
  F Find(const char* name) {
    auto* header = reinterpret_cast<const Elf64_Ehdr*>(image);
    auto* segments = reinterpret_cast<const Elf64_Phdr*>(image + header->e_phoff);
    const Elf64_Sym* symbols = nullptr;
    const char* strings = nullptr;
    const uint32_t* hash = nullptr;
    for (int i = 0; i < header->e_phnum; ++i) {
      if (segments[i].p_type != PT_DYNAMIC) continue;
      auto* dynamic = reinterpret_cast<const Elf64_Dyn*>(image + segments[i].p_vaddr);
      for (; dynamic->d_tag != DT_NULL; ++dynamic) {
        const uint8_t* at = image + dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const Elf64_Sym*>(at);
        if (dynamic->d_tag == DT_STRTAB) strings = reinterpret_cast<const char*>(at);
        if (dynamic->d_tag == DT_HASH) hash = reinterpret_cast<const uint32_t*>(at);
        EXPECT_NE(dynamic->d_tag, DT_RELA) << "no relocations";
      }
    }
    for (uint32_t i = 0; hash && i < hash[1]; ++i) {
      if (std::string_view(strings + symbols[i].st_name) == name) {
        return reinterpret_cast<F>(const_cast<uint8_t*>(image) + symbols[i].st_value);
      }
    }
    ADD_FAILURE() << name;
    return nullptr;
  }
  const platform::ClockParams& Params() { return *reinterpret_cast<const platform::ClockParams*>(image - kPageSize); }
  // False when this host's TSC is not used.
  bool BecomesUsable() {
    for (int64_t end = base::MonotonicNs() + base::kNsPerSecond; base::MonotonicNs() < end && !Params().usable;) {
      vdso->UpdateParams();
    }
    return Params().usable;
  }

  std::unique_ptr<Vdso> vdso;
  uint64_t base = 0;
  const uint8_t* image = nullptr;
};

TEST_F(ClockVdsoTest, LooksLikeLinuxs) {
  EXPECT_EQ(memcmp(image, ELFMAG, SELFMAG), 0);
  auto vmas = Vmas(*mm);
  ASSERT_EQ(vmas.size(), 2u);
  EXPECT_EQ(vmas[0].name, "[vvar]");
  EXPECT_EQ(vmas[1].name, "[vdso]");
  EXPECT_EQ(vmas[1].start, base);
  EXPECT_TRUE(vmas[1].protection.exec && !vmas[1].protection.write);
  EXPECT_EQ(mm->Mprotect(vmas[0].start, kPageSize, {true, true, false}).error_number(), EACCES);
  EXPECT_EQ(mm::Poke(*mm, vmas[0].start, 1), SIGSEGV);
}

TEST_F(ClockVdsoTest, AgreesWithTheHost) {
  auto clock_gettime_v = Find<int (*)(clockid_t, timespec*)>("__vdso_clock_gettime");
  auto gettimeofday_v = Find<int (*)(timeval*, void*)>("__vdso_gettimeofday");
  auto time_v = Find<time_t (*)(time_t*)>("__vdso_time");
  auto getcpu_v = Find<int (*)(unsigned*, unsigned*, void*)>("__vdso_getcpu");
  ASSERT_TRUE(clock_gettime_v && gettimeofday_v && time_v && getcpu_v);
  for (int round = 0; round < 2; ++round) {
    // First by system calls (no rate is known yet), then by the TSC.
    EXPECT_EQ(Params().usable, static_cast<uint32_t>(round));
    int64_t worst = 0, last = 0;
    for (int i = 0; i < 20000; ++i) {
      for (clockid_t clock : {CLOCK_MONOTONIC, CLOCK_REALTIME}) {
        timespec ts;
        int64_t before = base::ClockNs(clock);
        ASSERT_EQ(clock_gettime_v(clock, &ts), 0);
        int64_t after = base::ClockNs(clock);
        int64_t value = ts.tv_sec * base::kNsPerSecond + ts.tv_nsec;
        ASSERT_LT(ts.tv_nsec, base::kNsPerSecond);
        worst = std::max({worst, before - value, value - after});
        if (clock == CLOCK_MONOTONIC) {
          ASSERT_GE(value, last - (round ? 0 : 1));
          last = value;
        }
      }
    }
    RecordProperty("worst_ns", static_cast<int>(worst));
    printf("round %d: at most %ld ns beside the host's clock\n", round, static_cast<long>(worst));
    EXPECT_LT(worst, 50'000);
    timeval tv;
    ASSERT_EQ(gettimeofday_v(&tv, nullptr), 0);
    EXPECT_NEAR(static_cast<double>(tv.tv_sec), static_cast<double>(time(nullptr)), 1);
    time_t seconds = 0;
    EXPECT_EQ(time_v(&seconds), seconds);
    EXPECT_NEAR(static_cast<double>(seconds), static_cast<double>(time(nullptr)), 1);
    unsigned cpu = 99999;
    ASSERT_EQ(getcpu_v(&cpu, nullptr, nullptr), 0);
    EXPECT_LT(cpu, 99999u);
    timespec ts;
    EXPECT_EQ(clock_gettime_v(CLOCK_BOOTTIME, &ts), 0);
    EXPECT_NE(clock_gettime_v(12345, &ts), 0);
    if (round == 0 && !BecomesUsable()) GTEST_SKIP() << "this host does not keep time by the TSC";
  }
}

}  // namespace
}  // namespace sentry::arch
