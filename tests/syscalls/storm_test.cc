// SPDX-License-Identifier: Apache-2.0
// Many threads, many signals, much memory at once: what a platform has to keep apart must stay apart.
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/syscalls/util.h"

namespace {

constexpr size_t kPage = 4096;

std::atomic<int> handled{0};

// Wipes the vector registers, which the return from the handler brings back.
void Wipe(int) {
  asm volatile("pxor %%xmm0, %%xmm0; pxor %%xmm7, %%xmm7; pxor %%xmm15, %%xmm15" ::: "xmm0", "xmm7", "xmm15");
  handled.fetch_add(1);
}

// Rounds after which a register, general or vector, was not what this thread had put there.
int CountLostRegisters(uint64_t mark, const std::atomic<bool>& stop) {
  int lost = 0;
  while (!stop) {
    uint64_t general = mark, low = 0, middle = 0, high = 0;
    asm volatile(
        "movq %[m], %%xmm0; movq %[m], %%xmm7; movq %[m], %%xmm15; mov $2000, %%ecx;"
        "1: dec %%ecx; jnz 1b;"
        "movq %%xmm0, %[a]; movq %%xmm7, %[b]; movq %%xmm15, %[c]"
        : [m] "+r"(general), [a] "=&r"(low), [b] "=&r"(middle), [c] "=&r"(high)
        :
        : "ecx", "cc", "xmm0", "xmm7", "xmm15");
    lost += general != mark || low != mark || middle != mark || high != mark ? 1 : 0;
  }
  return lost;
}

TEST(StormTest, SignalsToThreadsThatCompute) {
  constexpr int kThreads = 8;
  constexpr int kSignals = 4000;
  struct sigaction action = {}, old;
  action.sa_handler = Wipe;
  ASSERT_EQ(sigaction(SIGRTMIN, &action, &old), 0);
  handled = 0;
  std::atomic<bool> stop{false};
  std::atomic<int> lost{0};
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&lost, &stop, i] { lost += CountLostRegisters(0x0101'0101'0101'0101 * (i + 1), stop); });
  }
  for (int sent = 0; sent < kSignals; ++sent) {
    // EAGAIN: as many are queued as may be.
    while (pthread_sigqueue(threads[static_cast<size_t>(sent % kThreads)].native_handle(), SIGRTMIN, {}) != 0) {
      sched_yield();
    }
  }
  while (handled < kSignals) sched_yield();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(handled, kSignals);
  EXPECT_EQ(sigaction(SIGRTMIN, &old, nullptr), 0);
}

TEST(StormTest, TwoHundredThreadsThatAllRun) {
  constexpr int kThreads = 200;
  constexpr int kRounds = 50;
  std::atomic<int> inside{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      ++inside;
      while (inside < kThreads) sched_yield();  // all at once
      const auto tid = static_cast<pid_t>(syscall(SYS_gettid));
      for (int round = 0; round < kRounds; ++round) {
        volatile double sum = tid;
        for (int k = 0; k < 1000; ++k) sum = sum + 1;
        if (static_cast<pid_t>(syscall(SYS_gettid)) != tid || sum != tid + 1000.0) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(StormTest, MemoryTakenAndGivenBackByEightThreads) {
  constexpr size_t kLength = 16 << 20;
  constexpr int kRounds = 6;
  std::atomic<int> bad{0};
  std::vector<std::thread> threads;
  for (uint64_t i = 1; i <= 8; ++i) {
    threads.emplace_back([&bad, i] {
      for (int round = 0; round < kRounds; ++round) {
        auto* memory =
            static_cast<uint64_t*>(mmap(nullptr, kLength, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (memory == MAP_FAILED) {
          ++bad;
          return;
        }
        const size_t step = kPage / sizeof *memory;
        const size_t words = kLength / sizeof *memory;
        for (size_t at = 0; at < words; at += step) bad += memory[at] != 0 ? 1 : 0;
        for (size_t at = 0; at < words; at += step) memory[at] = i << 32 | at;
        for (size_t at = 0; at < words; at += step) bad += memory[at] != (i << 32 | at) ? 1 : 0;
        // The first half goes, the second stays.
        madvise(memory, kLength / 2, MADV_DONTNEED);
        for (size_t at = 0; at < words; at += step) {
          bad += memory[at] != (at < words / 2 ? 0 : i << 32 | at) ? 1 : 0;
        }
        munmap(memory, kLength);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bad, 0);
}

}  // namespace
