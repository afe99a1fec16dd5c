// SPDX-License-Identifier: Apache-2.0
// rseq(2) used wrongly: descriptors that no kernel can use, and an area that can't be written.
#include <linux/rseq.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

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

void OnSignal(int) {}

void Unregister() { CHILD_CHECK(Rseq(OwnArea(), kSize, RSEQ_FLAG_UNREGISTER, kSignature) == 0); }

TEST_F(RseqTest, BadDescriptorIsASegmentationFault) {
  const uint64_t bad[] = {8, 0xffff'8000'0000'0000};
  for (uint64_t descriptor : bad) {
    EXPECT_EQ(RunInChild([&] {
                // A handler of SIGSEGV can't be entered either.
                ScopedHandler handler(SIGUSR1, OnSignal), segv(SIGSEGV, OnSignal);
                OwnArea()->rseq_cs = descriptor;
                raise(SIGUSR1);
              }),
              Killed(SIGSEGV))
        << descriptor;
  }
}

TEST_F(RseqTest, BadSignatureIsASegmentationFault) {
  EXPECT_EQ(RunInChild([] {
              ScopedHandler handler(SIGUSR1, OnSignal);
              static rseq_cs section = {};
              section.start_ip = 0x1000;
              section.post_commit_offset = 0x7000'0000'0000;
              static const uint64_t code = 0;
              section.abort_ip = reinterpret_cast<uint64_t>(&code) + 4;
              section.start_ip = section.abort_ip + 8;  // everything above the data
              OwnArea()->rseq_cs = reinterpret_cast<uint64_t>(&section);
              section.post_commit_offset = 0x7fff'0000'0000 - section.start_ip;
              raise(SIGUSR1);
            }),
            Killed(SIGSEGV));
}

TEST_F(RseqTest, UnwritableAreaIsASegmentationFault) {
  EXPECT_EQ(RunInChild([] {
              Unregister();
              void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              CHILD_CHECK(Rseq(page, kSize, 0, kSignature) == 0);
              CHILD_CHECK(mprotect(page, 4096, PROT_READ) == 0);
              for (;;) usleep(1000);
            }),
            Killed(SIGSEGV));
}

}  // namespace
