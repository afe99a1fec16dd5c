// SPDX-License-Identifier: Apache-2.0
// rseq(2) used wrongly, without harm. Not on systrap: there the host kills the stub (docs/status.md).
#include <linux/rseq.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

#include <thread>

#include "tests/syscalls/util.h"

namespace {

constexpr uint32_t kSignature = 0x5305'3053;  // RSEQ_SIG
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

void Unregister() { CHILD_CHECK(Rseq(OwnArea(), kSize, RSEQ_FLAG_UNREGISTER, kSignature) == 0); }

// A thread that ends with a descriptor that no kernel can use takes nobody along.
TEST_F(RseqTest, BadDescriptorAtTheEndOfAThread) {
  EXPECT_EQ(RunInChild([] {
              std::thread([] {
                OwnArea()->rseq_cs = 8;
                syscall(SYS_exit, 0);
              }).join();
            }),
            Exited(0));
}

// Mappings that change below the area, by this thread and by another, are no harm as long as it can be written.
TEST_F(RseqTest, AreaMayBeMappedAgain) {
  EXPECT_EQ(RunInChild([] {
              Unregister();
              constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
              void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, kFlags, -1, 0);
              CHILD_CHECK(Rseq(page, kSize, 0, kSignature) == 0);
              auto remap = [&] {
                CHILD_CHECK(mmap(page, 4096, PROT_READ | PROT_WRITE, kFlags | MAP_FIXED, -1, 0) == page);
              };
              for (int i = 0; i < 20; ++i) {
                remap();
                usleep(100);
                std::thread(remap).join();
                usleep(100);
                CHILD_CHECK(madvise(page, 4096, MADV_DONTNEED) == 0);
                usleep(100);
                CHILD_CHECK(RunInChild([] {}) == Exited(0));
              }
              usleep(100);
              CHILD_CHECK(CpuId(static_cast<struct rseq*>(page)) == static_cast<uint32_t>(sched_getcpu()));
            }),
            Exited(0));
}

}  // namespace
