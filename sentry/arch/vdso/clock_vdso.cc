// SPDX-License-Identifier: Apache-2.0
#include "sentry/arch/vdso/clock_vdso.h"

#include <cpuid.h>
#include <string.h>
#include <x86intrin.h>

#include <algorithm>
#include <cmath>

#include "platform/safe_copy.h"
#include "sentry/arch/vdso/host_clocksource.h"
#include "sentry/arch/vdso/vdso_image.h"
#include "sentry/mm/memory_manager.h"

namespace sentry::arch {
namespace {

constexpr double kShift = 4294967296.0;
// The rate is re-measured after these times; the first is too short for the precision of the later ones.
constexpr double kIntervalsNs[] = {50e6, 250e6, 1e9};
constexpr double kStaleNs = 2e9;
// Two counters of one clock don't differ by more between updates (adjtimex slews by at most 500 ppm).
constexpr double kMaxRateChange = 1e-3;
constexpr double kMaxSlew = 5e-4;

constexpr char kVvarName[] = "[vvar]";
constexpr uint64_t kBelowImage = 2 * kPageSize;

Result<void> MapVvar(mm::MemoryManager& mm, uint64_t address, RefPtr<mm::MappedObject> object, uint64_t offset) {
  TRY(mm.Mmap({.address = address,
               .length = kPageSize,
               .protection = {true, false, false},
               .max_protection = {true, false, false},
               .fixed = true,
               .object = std::move(object),
               .offset = offset,
               .name = kVvarName}));
  return OkResult();
}

bool TscIsInvariant() {
  unsigned a, b, c, d;
  return __get_cpuid(0x8000'0007, &a, &b, &c, &d) && (d & (1u << 8));
}

uint64_t Tsc() {
  _mm_lfence();
  uint64_t value = __rdtsc();
  _mm_lfence();
  return value;
}

int64_t Evaluate(const platform::ClockParams& params, uint64_t tsc) {
  uint64_t delta = tsc > params.tsc_base ? tsc - params.tsc_base : 0;
  delta = std::min(delta, params.max_delta);
  return params.monotonic_ns + static_cast<int64_t>(static_cast<unsigned __int128>(delta) * params.multiplier >> 32);
}

// The tightest of a few readings.
ClockCalibrator::Sample TakeSample() {
  ClockCalibrator::Sample best{};
  uint64_t best_width = UINT64_MAX;
  for (int i = 0; i < 5; ++i) {
    uint64_t before = Tsc();
    int64_t monotonic = base::MonotonicNs();
    uint64_t middle = Tsc();
    int64_t realtime = base::RealtimeNs();
    uint64_t after = Tsc();
    if (after - before >= best_width) continue;
    best_width = after - before;
    int64_t monotonic_later = base::MonotonicNs();
    uint64_t end = Tsc();
    // Realtime was read about halfway between the two monotonic readings.
    double rate = static_cast<double>(monotonic_later - monotonic) / static_cast<double>(end - before);
    int64_t at_realtime = monotonic + static_cast<int64_t>(rate * static_cast<double>(after - before) / 2);
    best = {before + (middle - before) / 2, monotonic, monotonic + (realtime - at_realtime)};
  }
  return best;
}

}  // namespace

platform::ClockParams ClockCalibrator::Update(const Sample& sample) {
  double elapsed = static_cast<double>(sample.monotonic_ns - last_.monotonic_ns);
  double ticks = static_cast<double>(sample.tsc - last_.tsc);
  bool first = !have_sample_;
  bool sane = !first && sample.tsc > last_.tsc && elapsed > 1e6;
  double rate = sane ? elapsed / ticks : 0;
  if (sane && ns_per_tick_ != 0 && std::abs(rate / ns_per_tick_ - 1) > kMaxRateChange) {
    // A suspended or migrated machine: learn the rate anew.
    sane = false;
    updates_ = 0;
  }
  last_ = sample;
  have_sample_ = true;
  if (!sane) {
    params_.usable = 0;
    ns_per_tick_ = 0;
    // The rate of ordinary machines is 1-5 GHz: 50 ms is 50-250 million ticks.
    interval_ = 100'000'000;
    return params_;
  }
  ns_per_tick_ = rate;
  size_t step = std::min<size_t>(updates_++, std::size(kIntervalsNs) - 1);
  interval_ = static_cast<uint64_t>(kIntervalsNs[step] / rate);
  int64_t start = sample.monotonic_ns;
  double slew = 0;
  if (params_.multiplier != 0) {
    // Guests may have read up to this; if that is ahead of the host's clock, run slower until it has caught up.
    int64_t shown = Evaluate(params_, sample.tsc);
    if (shown > start) {
      slew = std::min(static_cast<double>(shown - start) / kIntervalsNs[step], kMaxSlew);
      start = shown;
    }
  }
  params_.usable = 1;
  params_.tsc_base = sample.tsc;
  params_.max_delta = static_cast<uint64_t>(kStaleNs / rate);
  params_.multiplier = static_cast<uint64_t>(rate * (1 - slew) * kShift);
  params_.monotonic_ns = start;
  params_.realtime_offset_ns = sample.realtime_ns - sample.monotonic_ns;
  return params_;
}

// The offsets of the first time namespace, the parameters, and the image; or the offsets of another one. Mapped
// private, so that a debugger's breakpoints stay in one process.
class ClockVdso::Pages final : public mm::MappedObject {
 public:
  Pages(platform::MemoryFile& memory, platform::FileRange range) : memory_(memory), range_(range) {}
  ~Pages() override { memory_.DecRef(range_); }
  Result<mm::Backing> GetBacking(uint64_t offset, uint64_t length, bool) override {
    if (offset >= range_.length()) return Errno(EFAULT);
    length = std::min(length, range_.length() - offset);
    memory_.IncRef({range_.start + offset, range_.start + offset + length});
    return mm::Backing{.fd = memory_.fd(),
                       .offset = range_.start + offset,
                       .length = length,
                       .in_memory_file = true,
                       .writable = false};
  }
  std::string Name() const override { return "[vdso]"; }
  dev_t Device() const override { return 0; }
  uint64_t InodeNumber() const override { return 0; }
  const void* Identity() const override { return this; }
  mm::ReverseMap& reverse_map() override { return reverse_map_; }
  platform::FileRange range() const { return range_; }

 private:
  platform::MemoryFile& memory_;
  const platform::FileRange range_;
  mm::ReverseMap reverse_map_;
};

ClockVdso::ClockVdso(platform::MemoryFile& memory, RefPtr<Pages> pages, bool usable)
    : memory_(memory),
      pages_(std::move(pages)),
      params_(reinterpret_cast<platform::ClockParams*>(memory.Pointer(pages_->range().start + kPageSize))),
      usable_(usable) {}

ClockVdso::~ClockVdso() = default;

Result<std::unique_ptr<Vdso>> ClockVdso::Create(platform::MemoryFile& memory) {
  auto range = TRY(memory.Allocate(kBelowImage + PageUp(kVdsoImageSize)));
  auto pages = MakeRef<Pages>(memory, range);
  platform::ClockParams empty{};
  if (platform::SafeCopy(memory.Pointer(range.start + kPageSize), &empty, sizeof empty) != sizeof empty ||
      platform::SafeCopy(memory.Pointer(range.start + kBelowImage), kVdsoImage, kVdsoImageSize) != kVdsoImageSize) {
    return Errno(ENOMEM);
  }
  bool usable = TscIsInvariant() && HostClockIsTsc();
  std::unique_ptr<Vdso> vdso(new ClockVdso(memory, std::move(pages), usable));
  vdso->UpdateParams();
  return vdso;
}

void ClockVdso::UpdateParams() {
  if (!usable_ || __rdtsc() < due_.load(std::memory_order_relaxed)) return;
  if (!mu_.TryLock()) return;
  // The pages stay allocated: plain stores don't fault.
  uint32_t sequence = params_->sequence;
  auto set_sequence = [&](uint32_t value) {
    __atomic_store_n(&params_->sequence, value, __ATOMIC_RELEASE);
    if (copy_) __atomic_store_n(&copy_->sequence, value, __ATOMIC_RELEASE);
  };
  set_sequence(sequence + 1);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  // Within the update, so that no guest reads the old parameters later than the instant of the sample.
  ClockCalibrator::Sample sample = TakeSample();
  platform::ClockParams params = calibrator_.Update(sample);
  params.sequence = sequence + 1;
  memcpy(params_, &params, sizeof params);
  if (copy_) memcpy(copy_, &params, sizeof params);
  set_sequence(sequence + 2);
  due_.store(sample.tsc + calibrator_.interval(), std::memory_order_relaxed);
  mu_.Unlock();
}

void ClockVdso::Mirror(platform::ClockParams* copy) {
  MutexLock lock(mu_);
  memcpy(copy, params_, sizeof *copy);
  copy_ = copy;
}

Result<uint64_t> ClockVdso::MapInto(mm::MemoryManager& mm, RefPtr<mm::MappedObject> offsets) {
  const uint64_t length = pages_->range().length();
  const uint64_t base = TRY(mm.Mmap({.length = length, .protection = {}}));
  TRY(MapVvar(mm, base, offsets ? std::move(offsets) : RefPtr<mm::MappedObject>(pages_), 0));
  TRY(MapVvar(mm, base + kPageSize, pages_, kPageSize));
  return mm.Mmap({.address = base + kBelowImage,
                  .length = length - kBelowImage,
                  .protection = {true, false, true},
                  .fixed = true,
                  .object = pages_,
                  .offset = kBelowImage,
                  .name = "[vdso]"});
}

Result<RefPtr<mm::MappedObject>> ClockVdso::NewOffsets(int64_t monotonic_ns) {
  auto range = TRY(memory_.Allocate(kPageSize));
  auto page = MakeRef<Pages>(memory_, range);
  const platform::VdsoOffsets offsets{.monotonic_ns = monotonic_ns};
  if (platform::SafeCopy(memory_.Pointer(range.start), &offsets, sizeof offsets) != sizeof offsets)
    return Errno(ENOMEM);
  return RefPtr<mm::MappedObject>(std::move(page));
}

Result<void> ClockVdso::SetOffsets(mm::MemoryManager& mm, RefPtr<mm::MappedObject> offsets) {
  if (!offsets) offsets = pages_;
  std::vector<uint64_t> places;  // guests may have moved it
  mm.ForEachVma(
      [&](const mm::VmaInfo& vma) {
        // The first namespace's page and the parameters are neighbours of one object: one mapping.
        if (vma.name == kVvarName && vma.offset == 0) places.push_back(vma.start);
      },
      /*residency=*/false);
  for (uint64_t address : places) TRY(MapVvar(mm, address, offsets, 0));
  return OkResult();
}

}  // namespace sentry::arch
