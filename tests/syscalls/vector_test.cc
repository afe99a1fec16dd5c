// SPDX-License-Identifier: Apache-2.0
// The vector registers of a thread (SSE, AVX, AVX-512, as far as the CPU has them) are its own: calls, faults, signals,
// other threads and processes leave them as they are, and signal frames hold them (Intel SDM 1, chapter 13).
#include <cpuid.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

namespace {

constexpr int kVectors = 32, kMasks = 8;

struct alignas(64) Registers {
  uint8_t vectors[kVectors][64] = {};
  uint64_t masks[kMasks] = {};
};

// What Hold does between loading and storing, beside a system call.
constexpr long kTouch = -1;    // writes to *a
constexpr long kWaitFor = -2;  // until *a is not zero
constexpr long kNothing = -3;

// The rest of the registers' values are in `set`: nothing may happen between it and `get` but what is asked for.
#define DO_CALL                                                                                \
  "cmp $-1, %%rax; je 10f; cmp $-2, %%rax; je 20f; cmp $-3, %%rax; je 90f; syscall; jmp 90f\n" \
  "10: movl $1, (%%rdi); jmp 90f\n"                                                            \
  "20: pause; cmpl $0, (%%rdi); je 20b\n"                                                      \
  "90:\n"
#define REGISTERS_16 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define REGISTERS_32 REGISTERS_16 ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"
#define LOAD(instruction, kind, list) ".irp i," list "\n" instruction " \\i*64(%%r12), %%" kind "\\i\n.endr\n"
#define STORE(instruction, kind, list) ".irp i," list "\n" instruction " %%" kind "\\i, \\i*64(%%r13)\n.endr\n"
#define HOLD(name, load, store)                                                                                  \
  long name(const Registers& set, Registers& get, long number, long a, long b, long c, long d) {                 \
    register const Registers* in asm("r12") = &set;                                                              \
    register Registers* out asm("r13") = &get;                                                                   \
    register long fourth asm("r10") = d;                                                                         \
    asm volatile(load DO_CALL store                                                                              \
                 : "+a"(number)                                                                                  \
                 : "r"(in), "r"(out), "D"(a), "S"(b), "d"(c), "r"(fourth)                                        \
                 : "rcx", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", \
                   "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                        \
    return number;                                                                                               \
  }

HOLD(HoldSse, LOAD("movdqu", "xmm", REGISTERS_16), STORE("movdqu", "xmm", REGISTERS_16))
HOLD(HoldAvx, LOAD("vmovdqu", "ymm", REGISTERS_16), STORE("vmovdqu", "ymm", REGISTERS_16) "vzeroupper\n")
#define MASKS "0,1,2,3,4,5,6,7"
HOLD(HoldAvx512, LOAD("vmovdqu64", "zmm", REGISTERS_32) ".irp i," MASKS "\nkmovq 2048+\\i*8(%%r12), %%k\\i\n.endr\n",
     STORE("vmovdqu64", "zmm", REGISTERS_32) ".irp i," MASKS "\nkmovq %%k\\i, 2048+\\i*8(%%r13)\n.endr\nvzeroupper\n")

struct Kind {
  const char* name;
  long (*hold)(const Registers&, Registers&, long, long, long, long, long);
  int vectors, bytes, masks;
  bool (*there)();
};

const Kind kKinds[] = {
    {"SSE", &HoldSse, 16, 16, 0, [] { return true; }},
    {"AVX", &HoldAvx, 16, 32, 0, [] { return __builtin_cpu_supports("avx") != 0; }},
    {"AVX512", &HoldAvx512, 32, 64, 8,
     [] { return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0; }},
};

// Different in every byte's neighbours, and between seeds.
Registers Pattern(const Kind& kind, unsigned seed) {
  Registers r;
  for (int i = 0; i < kind.vectors; ++i)
    for (int j = 0; j < kind.bytes; ++j) r.vectors[i][j] = static_cast<uint8_t>(seed * 89 + i * 37 + j * 11 + 1);
  for (int i = 0; i < kind.masks; ++i) r.masks[i] = (seed + 1) * 0x9e3779b97f4a7c15u * (i + 1);
  return r;
}

// "" or the first register that differs.
std::string Difference(const Kind& kind, const Registers& want, const Registers& got) {
  for (int i = 0; i < kind.vectors; ++i)
    for (int j = 0; j < kind.bytes; ++j)
      if (want.vectors[i][j] != got.vectors[i][j])
        return std::string(kind.name) + " register " + std::to_string(i) + " from byte " + std::to_string(j) + " on";
  for (int i = 0; i < kind.masks; ++i)
    if (want.masks[i] != got.masks[i]) return "mask " + std::to_string(i);
  return "";
}

class Vector : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!kind().there()) GTEST_SKIP() << "this CPU has no " << kind().name;
  }
  static const Kind& kind() { return kKinds[GetParam()]; }
  // The result of the call.
  long Hold(unsigned seed, long number, long a = 0, long b = 0, long c = 0, long d = 0) {
    const Registers set = Pattern(kind(), seed);
    Registers get;
    const long result = kind().hold(set, get, number, a, b, c, d);
    EXPECT_EQ("", Difference(kind(), set, get)) << "call " << number;
    return result;
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, Vector, testing::Range(0, 3), [](const auto& info) { return kKinds[info.param].name; });

// All registers of the kind are zero, as a thread that knows nothing of the others could leave them.
void Clobber(const Kind& kind) {
  Registers nothing, get;
  kind.hold(nothing, get, kNothing, 0, 0, 0, 0);
}

TEST_P(Vector, SurvivesCalls) {
  EXPECT_EQ(getpid(), Hold(1, SYS_getpid));
  EXPECT_EQ(0, Hold(2, SYS_sched_yield));
  timespec moment = {0, 2'000'000};
  EXPECT_EQ(0, Hold(3, SYS_nanosleep, reinterpret_cast<long>(&moment)));
  int word = 1;
  EXPECT_EQ(-ETIMEDOUT,
            Hold(4, SYS_futex, reinterpret_cast<long>(&word), FUTEX_WAIT, 1, reinterpret_cast<long>(&moment)));
  EXPECT_EQ(-EFAULT, Hold(5, SYS_uname, 8));
  EXPECT_EQ(-ENOSYS, Hold(6, 5000));
  Pipe pipe;
  char c = 'x';
  EXPECT_EQ(1, Hold(7, SYS_write, pipe.w.get(), reinterpret_cast<long>(&c), 1));
  EXPECT_EQ(1, Hold(8, SYS_read, pipe.r.get(), reinterpret_cast<long>(&c), 1));
}

TEST_P(Vector, SurvivesPageFaults) {
  constexpr size_t kPages = 64, kPage = 4096;
  void* fresh = mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(MAP_FAILED, fresh);
  for (size_t i = 0; i < kPages; ++i) Hold(i, kTouch, reinterpret_cast<long>(fresh) + i * kPage);
  // Shared with a child: written to, they are copied.
  Event go;
  Child child([&] { CHILD_CHECK(go.Wait()); });
  for (size_t i = 0; i < kPages; ++i) Hold(i, kTouch, reinterpret_cast<long>(fresh) + i * kPage);
  go.Set();
  EXPECT_EQ(Exited(0), child.Wait());
  munmap(fresh, kPages * kPage);
}

std::atomic<const Kind*> handler_kind{nullptr};
std::atomic<int> handled{0};
void ClobberingHandler(int) {
  Clobber(*handler_kind);
  handled = 1;
}

TEST_P(Vector, SurvivesSignalsOfItsOwn) {
  handler_kind = &kind();
  ScopedHandler handler(SIGUSR1, ClobberingHandler);
  for (unsigned i = 0; i < 20; ++i) {
    handled = 0;
    EXPECT_EQ(0, Hold(i, SYS_tgkill, getpid(), gettid(), SIGUSR1));
    EXPECT_EQ(1, handled);
  }
}

// They come while the thread computes.
TEST_P(Vector, SurvivesSignalsOfOthers) {
  handler_kind = &kind();
  ScopedHandler handler(SIGUSR1, ClobberingHandler);
  static_assert(sizeof handled == sizeof(int));
  const pid_t pid = getpid(), tid = gettid();
  for (unsigned i = 0; i < 20; ++i) {
    handled = 0;
    std::thread sender([&] {
      while (!handled) syscall(SYS_tgkill, pid, tid, SIGUSR1), sched_yield();
    });
    Hold(i, kWaitFor, reinterpret_cast<long>(&handled));
    sender.join();
  }
}

TEST_P(Vector, IsCopiedByFork) {
  const Registers set = Pattern(kind(), 17);
  Registers get;
  const long pid = kind().hold(set, get, SYS_fork, 0, 0, 0, 0);
  if (pid == 0) _exit(Difference(kind(), set, get).empty() ? 0 : 1);
  ASSERT_GT(pid, 0);
  EXPECT_EQ("", Difference(kind(), set, get));
  EXPECT_EQ(Exited(0), WaitStatus(static_cast<pid_t>(pid)));
}

TEST_P(Vector, IsOfEachThreadAndProcess) {
  constexpr int kThreads = 4, kRounds = 300;
  std::atomic<int> different{0};
  auto work = [&](int index) {
    timespec moment = {0, 1000};
    for (int i = 0; i < kRounds; ++i) {
      const Registers set = Pattern(kind(), index * kRounds + i);
      Registers get;
      if (i % 3)
        kind().hold(set, get, SYS_sched_yield, 0, 0, 0, 0);
      else
        kind().hold(set, get, SYS_nanosleep, reinterpret_cast<long>(&moment), 0, 0, 0);
      different += !Difference(kind(), set, get).empty();
    }
  };
  Child other([&] {
    work(kThreads);
    CHILD_CHECK(different == 0);
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) threads.emplace_back(work, t);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(0, different);
  EXPECT_EQ(Exited(0), other.Wait());
}

// Components of the extended state: where in the frame, and whether it is there (SDM 1, 13.4).
constexpr int kAvxState = 2, kMaskState = 5, kHighHalves = 6, kHighVectors = 7;
unsigned OffsetOf(int component) {
  unsigned size = 0, offset = 0, c = 0, d = 0;
  __cpuid_count(13, component, size, offset, c, d);
  return offset;
}

struct Frame {
  uint8_t* area = nullptr;
  bool extended = false, has_end = false;
  uint64_t features = 0, present = 0;
  uint32_t size = 0;
};

Frame FrameOf(void* context) {
  Frame frame;
  frame.area = reinterpret_cast<uint8_t*>(static_cast<ucontext_t*>(context)->uc_mcontext.fpregs);
  if (!frame.area) return frame;
  _fpx_sw_bytes software;
  memcpy(&software, frame.area + 464, sizeof software);
  frame.extended = software.magic1 == FP_XSTATE_MAGIC1;
  frame.features = software.xstate_bv;
  frame.size = software.xstate_size;
  uint32_t end = 0;
  memcpy(&end, frame.area + software.extended_size - 4, sizeof end);
  frame.has_end = end == FP_XSTATE_MAGIC2;
  memcpy(&frame.present, frame.area + 512, sizeof frame.present);
  return frame;
}

Frame seen;
uint8_t seen_low[16], seen_upper[16], seen_high[32], seen_last[64];
uint64_t seen_mask;

// Looks at vector register 3 and the last one, and changes what comes back in 3 and in mask 2.
void LookingHandler(int, siginfo_t*, void* context) {
  seen = FrameOf(context);
  const Kind& kind = *handler_kind;
  memcpy(seen_low, seen.area + 160 + 3 * 16, 16);
  seen.area[160 + 3 * 16] = 0xee;
  if (kind.bytes > 16) {
    memcpy(seen_upper, seen.area + OffsetOf(kAvxState) + 3 * 16, 16);
    seen.area[OffsetOf(kAvxState) + 3 * 16] = 0xee;
  }
  if (kind.bytes > 32) {
    memcpy(seen_high, seen.area + OffsetOf(kHighHalves) + 3 * 32, 32);
    seen.area[OffsetOf(kHighHalves) + 3 * 32] = 0xee;
    memcpy(seen_last, seen.area + OffsetOf(kHighVectors) + 15 * 64, 64);
    memcpy(&seen_mask, seen.area + OffsetOf(kMaskState) + 2 * 8, 8);
    const uint64_t mask = 0xeeee;
    memcpy(seen.area + OffsetOf(kMaskState) + 2 * 8, &mask, 8);
  }
}

TEST_P(Vector, IsInTheSignalFrameAndComesBackFromThere) {
  handler_kind = &kind();
  ScopedHandler handler(SIGUSR1, LookingHandler);
  const Registers set = Pattern(kind(), 23);
  Registers get;
  ASSERT_EQ(0, kind().hold(set, get, SYS_tgkill, getpid(), gettid(), SIGUSR1, 0));
  ASSERT_NE(nullptr, seen.area);
  Registers want = set;
  EXPECT_EQ(0, memcmp(seen_low, set.vectors[3], 16));
  want.vectors[3][0] = 0xee;
  if (kind().bytes > 16) {
    EXPECT_TRUE(seen.extended && seen.has_end);
    EXPECT_TRUE(seen.features >> kAvxState & 1) << seen.features;
    EXPECT_TRUE(seen.present >> kAvxState & 1) << seen.present;
    EXPECT_EQ(0, memcmp(seen_upper, set.vectors[3] + 16, 16));
    want.vectors[3][16] = 0xee;
  }
  if (kind().bytes > 32) {
    EXPECT_EQ(7u, seen.features >> kMaskState & 7) << seen.features;
    EXPECT_EQ(0, memcmp(seen_high, set.vectors[3] + 32, 32));
    EXPECT_EQ(0, memcmp(seen_last, set.vectors[31], 64));
    EXPECT_EQ(seen_mask, set.masks[2]);
    want.vectors[3][32] = 0xee;
    want.masks[2] = 0xeeee;
  }
  EXPECT_EQ("", Difference(kind(), want, get));
}

// What the CPU has that the kernel enabled, no less and no more.
TEST(VectorState, TheFrameHoldsAllThatIsEnabled) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  __cpuid(1, a, b, c, d);
  if (!(c & bit_OSXSAVE)) GTEST_SKIP() << "no XSAVE";
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  handler_kind = &kKinds[0];
  ScopedHandler handler(SIGUSR1, LookingHandler);
  raise(SIGUSR1);
  ASSERT_TRUE(seen.extended && seen.has_end);
  EXPECT_EQ(uint64_t{high} << 32 | low, seen.features);
  unsigned enabled_size = 0;
  __cpuid_count(13, 0, a, enabled_size, c, d);
  EXPECT_EQ(enabled_size, seen.size);
}

}  // namespace
