// SPDX-License-Identifier: Apache-2.0
// rseq(2): registration and its errors, the CPU number, and that critical sections restart: at signals, preemption and
// migration. The C library's own registration of each thread is what most tests use.
#include <linux/rseq.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

namespace {

constexpr uint32_t kSignature = 0x5305'3053;  // RSEQ_SIG, which the code before abort handlers repeats
constexpr uint32_t kSize = 32;

long Rseq(void* area, uint32_t length, int flags, uint32_t signature) {
  return syscall(SYS_rseq, area, length, flags, signature);
}

// The C library's registration of this thread.
struct rseq* OwnArea() {
  return reinterpret_cast<struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
}

volatile uint32_t& CpuId(struct rseq* area) { return *const_cast<volatile uint32_t*>(&area->cpu_id); }

class RseqTest : public testing::Test {
 protected:
  void SetUp() override {
    if (static_cast<int>(CpuId(OwnArea())) < 0)
      GTEST_SKIP() << "the C library could not register rseq: the kernel lacks it";
  }
};

// Adds one to counters[cpu] in a critical section that writes to `touched` and is `spin` rounds long. False if it was
// restarted.
bool Increment(struct rseq* area, int64_t* counters, uint64_t spin, volatile char* touched) {
  long restarted = 0;
  asm volatile(
      ".pushsection .data\n .balign 32\n"
      "9: .long 0, 0\n .quad 1f, 2f - 1f, 4f\n"
      ".popsection\n"
      "lea 9b(%%rip), %%rax\n"
      "mov %%rax, 8(%[area])\n"
      "1: mov 4(%[area]), %%eax\n"
      "mov (%[counters], %%rax, 8), %%rdx\n"
      "movb $1, (%[touched])\n"
      "mov %[spin], %%rcx\n"
      "3: dec %%rcx\n jns 3b\n"
      "inc %%rdx\n"
      "mov %%rdx, (%[counters], %%rax, 8)\n"
      "2: jmp 5f\n"
      ".long 0x53053053\n"
      "4: mov $1, %[restarted]\n"
      "5:\n"
      : [restarted] "+r"(restarted)
      : [area] "r"(area), [counters] "r"(counters), [spin] "r"(spin), [touched] "r"(touched)
      : "rax", "rcx", "rdx", "memory", "cc");
  return restarted == 0;
}

// Waits in a critical section for *flag. False if it was restarted instead of leaving at the end.
bool WaitInSection(struct rseq* area, const std::atomic<int>* flag) {
  long restarted = 0;
  asm volatile(
      ".pushsection .data\n .balign 32\n"
      "9: .long 0, 0\n .quad 1f, 2f - 1f, 4f\n"
      ".popsection\n"
      "lea 9b(%%rip), %%rax\n"
      "mov %%rax, 8(%[area])\n"
      "1: cmpl $0, (%[flag])\n je 1b\n"
      "2: jmp 5f\n"
      ".long 0x53053053\n"
      "4: mov $1, %[restarted]\n"
      "5:\n"
      : [restarted] "+r"(restarted)
      : [area] "r"(area), [flag] "r"(flag)
      : "rax", "memory", "cc");
  return restarted == 0;
}

std::atomic<int> signalled{0};
void OnSignal(int) { signalled = 1; }

// Whether a signal restarts a section of this thread. One that a signal did not interrupt runs until there is one.
bool RestartsAtSignal() {
  ScopedHandler handler(SIGALRM, OnSignal);
  ScopedTicks ticks;
  for (int i = 0; i < 100; ++i) {
    signalled = 0;
    // A tick between the reset and the section ends it in order; a preemption restarts it without a signal.
    if (!WaitInSection(OwnArea(), &signalled) && signalled != 0) return true;
  }
  return false;
}

// Unregisters what the C library registered, in a child: the library's sched_getcpu falls back to the system call.
void Unregister() { CHILD_CHECK(Rseq(OwnArea(), kSize, RSEQ_FLAG_UNREGISTER, kSignature) == 0); }

TEST_F(RseqTest, EveryThreadKnowsItsCpu) {
  auto check = [] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    ASSERT_OK(sched_setaffinity(0, sizeof one, &one));
    unsigned cpu;
    ASSERT_OK(syscall(SYS_getcpu, &cpu, nullptr, nullptr));
    EXPECT_EQ(CpuId(OwnArea()), cpu);
  };
  std::thread(check).join();
  EXPECT_EQ(RunInChild([] { CHILD_CHECK(CpuId(OwnArea()) < 8192); }), Exited(0));
}

TEST_F(RseqTest, CpuFollowsAffinity) {
  std::thread([] {
    cpu_set_t all, one;
    ASSERT_OK(sched_getaffinity(0, sizeof all, &all));
    for (int round = 0; round < 3; ++round) {
      for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &all)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        ASSERT_OK(sched_setaffinity(0, sizeof one, &one));
        EXPECT_EQ(CpuId(OwnArea()), static_cast<uint32_t>(cpu));
        EXPECT_EQ(sched_getcpu(), cpu);
      }
    }
  }).join();
}

TEST_F(RseqTest, ErrorsOfARegisteredThread) {
  EXPECT_EQ(RunInChild([] {
              auto fails = [](int error, long result) { return result == -1 && errno == error; };
              alignas(kSize) static char other[kSize];
              CHILD_CHECK(fails(EBUSY, Rseq(OwnArea(), kSize, 0, kSignature)));
              CHILD_CHECK(fails(EPERM, Rseq(OwnArea(), kSize, 0, kSignature + 1)));
              CHILD_CHECK(fails(EINVAL, Rseq(other, kSize, 0, kSignature)));
              CHILD_CHECK(fails(EINVAL, Rseq(OwnArea(), kSize, 1 << 30, kSignature)));
              CHILD_CHECK(fails(EINVAL, Rseq(other, kSize, RSEQ_FLAG_UNREGISTER, kSignature)));
              CHILD_CHECK(fails(EINVAL, Rseq(OwnArea(), kSize / 2, RSEQ_FLAG_UNREGISTER, kSignature)));
              CHILD_CHECK(fails(EINVAL, Rseq(OwnArea(), kSize, -1, kSignature)));
              CHILD_CHECK(fails(EPERM, Rseq(OwnArea(), kSize, RSEQ_FLAG_UNREGISTER, kSignature + 1)));
              CHILD_CHECK(CpuId(OwnArea()) < 8192);
            }),
            Exited(0));
}

TEST_F(RseqTest, UnregisterAndRegister) {
  EXPECT_EQ(RunInChild([] {
              auto fails = [](int error, long result) { return result == -1 && errno == error; };
              Unregister();
              CHILD_CHECK(CpuId(OwnArea()) == static_cast<uint32_t>(RSEQ_CPU_ID_UNINITIALIZED));
              CHILD_CHECK(fails(EINVAL, Rseq(OwnArea(), kSize, RSEQ_FLAG_UNREGISTER, kSignature)));
              alignas(kSize) static char area[2 * kSize];
              CHILD_CHECK(fails(EINVAL, Rseq(area, kSize - 1, 0, kSignature)));
              CHILD_CHECK(fails(EINVAL, Rseq(area, 0, 0, kSignature)));
              CHILD_CHECK(fails(EINVAL, Rseq(area + 4, kSize, 0, kSignature)));
              CHILD_CHECK(fails(EFAULT, Rseq(reinterpret_cast<void*>(0xffff'8000'0000'0000), kSize, 0, kSignature)));
              CHILD_CHECK(Rseq(area + kSize, kSize, 0, kSignature) == 0);
              CHILD_CHECK(CpuId(reinterpret_cast<struct rseq*>(area + kSize)) < 8192);
            }),
            Exited(0));
}

TEST_F(RseqTest, SignalsRestartSections) { EXPECT_TRUE(RestartsAtSignal()); }

TEST_F(RseqTest, HandlerReturnsToTheAbortHandler) {
  static std::atomic<uint64_t> seen;
  seen = 0;
  ScopedHandler handler(SIGALRM, [](int, siginfo_t*, void* context) {
    auto* area = OwnArea();
    auto rip = static_cast<uint64_t>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
    uint32_t before;
    memcpy(&before, reinterpret_cast<void*>(rip - 4), 4);
    // The kernel has taken the descriptor away, and the frame shows the abort handler.
    if (before == kSignature && area->rseq_cs == 0) seen = rip;
    signalled = 1;
  });
  ScopedTicks ticks;
  for (int i = 0; i < 100 && seen == 0; ++i) {
    signalled = 0;
    WaitInSection(OwnArea(), &signalled);
  }
  EXPECT_NE(seen, 0u);
}

TEST_F(RseqTest, ForkInherits) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(RestartsAtSignal());
              CHILD_CHECK(RunInChild([] { CHILD_CHECK(RestartsAtSignal()); }) == Exited(0));
              CHILD_CHECK(RestartsAtSignal());
            }),
            Exited(0));
}

// Lost updates show when a section that another thread interrupted goes on as if nothing had happened.
TEST_F(RseqTest, PreemptionRestartsSections) {
  constexpr int kThreads = 4;
  constexpr int64_t kRounds = 400;
  constexpr uint64_t kSpin = 200'000;
  static int64_t counters[8192];
  std::atomic<int64_t> done{0}, restarts{0};
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      volatile char own = 0;
      ASSERT_OK(sched_setaffinity(0, sizeof one, &one));
      while (done + restarts < kRounds) {
        if (Increment(OwnArea(), counters, kSpin, &own)) {
          ++done;
        } else {
          ++restarts;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t sum = 0;
  for (int64_t counter : counters) sum += counter;
  EXPECT_EQ(sum, done);
  // Four busy threads on one CPU share it in slices of some milliseconds.
  EXPECT_GT(restarts, 0);
}

// A fault in the middle of a section, on memory shared with a child, is no way around its protection.
TEST_F(RseqTest, FaultsInSectionsLoseNoUpdates) {
  constexpr int kThreads = 4;
  constexpr size_t kStride = 64 << 10, kPieces = 256;
  constexpr uint64_t kSpin = 500'000;
  static int64_t counters[8192];
  char* region =
      static_cast<char*>(mmap(nullptr, kStride * kPieces, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(region, MAP_FAILED);
  memset(region, 1, kStride * kPieces);
  Child sharer([] { pause(); });
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  std::atomic<int64_t> done{0};
  std::atomic<size_t> next{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      ASSERT_OK(sched_setaffinity(0, sizeof one, &one));
      for (size_t piece; (piece = next++) < kPieces;) {
        if (Increment(OwnArea(), counters, kSpin, region + piece * kStride)) ++done;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int64_t sum = 0;
  for (int64_t counter : counters) sum += counter;
  EXPECT_EQ(sum, done);
  munmap(region, kStride * kPieces);
}

}  // namespace
