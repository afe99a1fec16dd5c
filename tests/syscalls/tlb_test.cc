// SPDX-License-Identifier: Apache-2.0
// No thread reaches memory through a mapping that another thread has taken away: the classic stale translation.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kWords = kPage / sizeof(uint64_t);
constexpr int kPairs = 4;
constexpr int kRounds = 200;
constexpr uintptr_t kBase = 0x2000'0000'0000;

thread_local sigjmp_buf on_fault;

void OnFault(int) { siglongjmp(on_fault, 1); }

void* MapPage(void* at) {
  void* page =
      mmap(at, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | (at != nullptr ? MAP_FIXED : 0), -1, 0);
  if (page == MAP_FAILED) abort();
  return page;
}

// Writes other numbers to the page as fast as it can, whether it is there or not.
void Hammer(volatile uint64_t* page, const std::atomic<bool>& stop) {
  volatile uint64_t number = 1;
  while (!stop) {
    if (sigsetjmp(on_fault, 0) != 0) continue;
    while (!stop) {
      number = number + 1;
      for (size_t i = 0; i < kWords; ++i) page[i] = number;
    }
  }
}

// Changes seen in pages that nobody writes to: a new one, likely of the memory just given back; a read-only one.
int Change(void* at) {
  int bad = 0;
  for (int round = 0; round < kRounds; ++round) {
    munmap(at, kPage);
    auto* fresh = static_cast<volatile uint64_t*>(MapPage(nullptr));
    for (int look = 0; look < 200; ++look) {
      for (size_t i = 0; i < kWords; ++i) bad += fresh[i] != 0 ? 1 : 0;
    }
    munmap(const_cast<uint64_t*>(fresh), kPage);
    auto* page = static_cast<volatile uint64_t*>(MapPage(at));
    mprotect(at, kPage, PROT_READ);
    const uint64_t last = page[kWords - 1];
    for (int look = 0; look < 20'000; ++look) bad += page[kWords - 1] != last ? 1 : 0;
    mprotect(at, kPage, PROT_READ | PROT_WRITE);
  }
  return bad;
}

TEST(TlbTest, EightThreadsMapAndUnmap) {
  struct sigaction action = {}, old;
  action.sa_handler = OnFault;
  action.sa_flags = SA_NODEFER;
  ASSERT_EQ(sigaction(SIGSEGV, &action, &old), 0);
  std::atomic<bool> stop{false};
  std::atomic<int> bad{0};
  std::vector<std::thread> hammers, changers;
  for (int i = 0; i < kPairs; ++i) {
    void* at = reinterpret_cast<void*>(kBase + static_cast<uintptr_t>(i) * 0x100'0000);
    MapPage(at);
    hammers.emplace_back([at, &stop] { Hammer(static_cast<volatile uint64_t*>(at), stop); });
    changers.emplace_back([at, &bad] { bad += Change(at); });
  }
  for (std::thread& thread : changers) thread.join();
  stop = true;
  for (std::thread& thread : hammers) thread.join();
  EXPECT_EQ(bad, 0);
  EXPECT_EQ(sigaction(SIGSEGV, &old, nullptr), 0);
}

TEST(TlbTest, AThousandForksWithExec) {
  for (int i = 0; i < 1000; ++i) {
    const pid_t pid = fork();
    if (pid == 0) {
      execl("/bin/true", "true", nullptr);
      _exit(9);
    }
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_EQ(status, 0);
  }
}

}  // namespace
