// SPDX-License-Identifier: Apache-2.0
#include "sentry/arch/store_decoder.h"

#include <vector>

#include "gtest/gtest.h"

namespace sentry::arch {
namespace {

using Code = std::vector<uint8_t>;

TEST(StoreDecoder, Stores) {
  for (const Code& code : {
           Code{0x88, 0x07},                                // mov %al,(%rdi)
           Code{0x48, 0x89, 0x07},                          // mov %rax,(%rdi)
           Code{0xc6, 0x00, 0x01},                          // movb $1,(%rax)
           Code{0x66, 0xc7, 0x00, 1, 0},                    // movw $1,(%rax)
           Code{0xf0, 0x48, 0x0f, 0xb1, 0x0f},              // lock cmpxchg %rcx,(%rdi)
           Code{0xf3, 0x48, 0xab},                          // rep stosq
           Code{0x01, 0x07}, Code{0x83, 0x07, 0x01},        // add %eax,(%rdi); addl $1,(%rdi)
           Code{0xff, 0x07}, Code{0x55}, Code{0xff, 0x30},  // incl (%rdi); push %rbp; push (%rax)
           Code{0x0f, 0x29, 0x07}, Code{0xf3, 0x0f, 0x7f, 0x07}, Code{0x66, 0x0f, 0x7e, 0x07},  // movaps, movdqu, movd
           Code{0xc5, 0xfe, 0x7f, 0x07},                                                        // vmovdqu %ymm0,(%rdi)
           Code{0xc4, 0x41, 0x7e, 0x7f, 0x07},                                                  // vmovdqu %ymm8,(%r15)
           Code{0x62, 0xf1, 0xfe, 0x48, 0x7f, 0x07},  // vmovdqu64 %zmm0,(%rdi)
       }) {
    EXPECT_TRUE(StoresToMemory(code)) << ::testing::PrintToString(code);
  }
}

TEST(StoreDecoder, Loads) {
  for (const Code& code : {
           Code{0x8a, 0x07},
           Code{0x48, 0x8b, 0x07},  // mov (%rdi),…
           Code{0x39, 0x07},
           Code{0x83, 0x3f, 0x01},  // cmp %eax,(%rdi); cmpl $1,(%rdi)
           Code{0x03, 0x07},
           Code{0x85, 0x07},
           Code{0xff, 0x27},  // add (%rdi),%eax; test; jmp *(%rdi)
           Code{0x0f, 0xb6, 0x07},
           Code{0x0f, 0x28, 0x07},        // movzbl, movaps
           Code{0xf3, 0x0f, 0x7e, 0x07},  // movq (%rdi),%xmm0
           Code{0xc5, 0xfe, 0x6f, 0x07},
           Code{0xc5, 0xfa, 0x7e, 0x07},  // vmovdqu, vmovq from memory
           Code{0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x07},
       }) {
    EXPECT_FALSE(StoresToMemory(code)) << ::testing::PrintToString(code);
  }
}

TEST(StoreDecoder, CutShort) {
  EXPECT_FALSE(StoresToMemory({}));
  const Code code{0xf0, 0x66, 0x48, 0x0f, 0xba, 0x2f, 0x01};
  for (size_t n = 0; n < 5; ++n) EXPECT_FALSE(StoresToMemory(std::span(code).first(n)));
  EXPECT_TRUE(StoresToMemory(code));
}

}  // namespace
}  // namespace sentry::arch
