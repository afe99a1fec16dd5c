// SPDX-License-Identifier: Apache-2.0
#include "sentry/arch/signal_frame.h"

#include <sys/ucontext.h>
#include <ucontext.h>

#include <cstring>
#include <vector>

#include "gtest/gtest.h"

namespace sentry::arch {
namespace {

// glibc's types are the kernel's layout up to the mask.
static_assert(offsetof(UserContext, flags) == offsetof(ucontext_t, uc_flags));
static_assert(offsetof(UserContext, link) == offsetof(ucontext_t, uc_link));
static_assert(offsetof(UserContext, stack) == offsetof(ucontext_t, uc_stack));
static_assert(offsetof(UserContext, context) == offsetof(ucontext_t, uc_mcontext));
static_assert(offsetof(UserContext, mask) == offsetof(ucontext_t, uc_sigmask));
static_assert(sizeof(SigContext) == sizeof(mcontext_t));
static_assert(sizeof(SignalStack) == sizeof(stack_t));
static_assert(offsetof(SigContext, r8) == REG_R8 * 8 && offsetof(SigContext, rdi) == REG_RDI * 8);
static_assert(offsetof(SigContext, rsp) == REG_RSP * 8 && offsetof(SigContext, rip) == REG_RIP * 8);
static_assert(offsetof(SigContext, eflags) == REG_EFL * 8 && offsetof(SigContext, cs) == REG_CSGSFS * 8);
static_assert(offsetof(SigContext, err) == REG_ERR * 8 && offsetof(SigContext, trapno) == REG_TRAPNO * 8);
static_assert(offsetof(SigContext, cr2) == REG_CR2 * 8 &&
              offsetof(SigContext, fpstate) == offsetof(mcontext_t, fpregs));
static_assert(offsetof(RtSignalFrame, context) == 8 && offsetof(RtSignalFrame, info) == 312);

class FakeMemory final : public FrameMemory {
 public:
  static constexpr uint64_t kBase = 0x10000;
  Result<void> Read(uint64_t from, void* to, size_t length) override {
    if (!Inside(from, length)) return Errno(EFAULT);
    memcpy(to, bytes_.data() + (from - kBase), length);
    return {};
  }
  Result<void> Write(uint64_t to, const void* from, size_t length) override {
    if (!Inside(to, length)) return Errno(EFAULT);
    memcpy(bytes_.data() + (to - kBase), from, length);
    return {};
  }
  uint8_t* At(uint64_t address) { return bytes_.data() + (address - kBase); }

 private:
  bool Inside(uint64_t address, size_t length) const {
    return address >= kBase && length <= bytes_.size() && address - kBase <= bytes_.size() - length;
  }
  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(0x10000);
};

class FakeContext final : public platform::Context {
 public:
  explicit FakeContext(size_t size) : fpu(size) {
    for (size_t i = 0; i < 464; ++i) fpu[i] = static_cast<uint8_t>(i);
    if (size > 512) fpu[512] = 7;
    for (size_t i = 576; i < size; ++i) fpu[i] = static_cast<uint8_t>(i * 3);
  }
  base::Result<void> Bind(platform::AddressSpace&) override { return {}; }
  platform::Event Switch(platform::Registers&) override { return {platform::Event::Kind::kDead}; }
  base::Result<std::unique_ptr<platform::Context>> CloneInSpace() override { return Errno(EAGAIN); }
  void Interrupt() override {}
  size_t GetFpu(std::span<uint8_t> buffer) override {
    memcpy(buffer.data(), fpu.data(), fpu.size());
    return fpu.size();
  }
  base::Result<void> SetFpu(std::span<const uint8_t> image) override {
    if (reject) return Errno(EINVAL);
    fpu.assign(image.begin(), image.end());
    return {};
  }
  base::Result<void> ResetFpu() override {
    ++resets;
    return {};
  }
  void Release() override {}

  std::vector<uint8_t> fpu;
  bool reject = false;
  int resets = 0;
};

struct SignalFrameTest : testing::Test {
  SignalFrameTest() {
    registers.rsp = 0x1f000;
    registers.rip = 0x401000;
    registers.rax = 42, registers.rbx = 43, registers.r15 = 44;
    registers.eflags = 0x202 | kEflagsDirection;
    request.handler = 0x402000;
    request.restorer = 0x403000;
    request.flags = kSaRestorer | SA_SIGINFO;
    memset(&request.info, 0, sizeof request.info);
    request.info.si_signo = SIGUSR1;
    request.info.si_pid = 77;
    request.mask = 0x1234;
  }
  RtSignalFrame Frame() {
    RtSignalFrame frame;
    memcpy(&frame, memory.At(registers.rsp), sizeof frame);
    return frame;
  }
  static constexpr size_t kFpuSize = 832;
  FakeMemory memory;
  FakeContext context{kFpuSize};
  FrameRequest request;
  SignalStack stack;
  platform::Registers registers = {};
};

TEST_F(SignalFrameTest, LayoutAndRegisters) {
  ASSERT_TRUE(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).ok());
  EXPECT_EQ(registers.rsp % 16, 8u);
  EXPECT_EQ(registers.rip, 0x402000u);
  EXPECT_EQ(registers.rdi, static_cast<uint64_t>(SIGUSR1));
  EXPECT_EQ(registers.rsi, registers.rsp + 312);
  EXPECT_EQ(registers.rdx, registers.rsp + 8);
  EXPECT_EQ(registers.rax, 0u);
  EXPECT_EQ(registers.eflags, 0x202u);
  RtSignalFrame frame = Frame();
  EXPECT_EQ(frame.restorer, 0x403000u);
  EXPECT_EQ(frame.context.flags, 7u);
  EXPECT_EQ(frame.context.mask, 0x1234u);
  EXPECT_EQ(frame.context.context.rax, 42u);
  EXPECT_EQ(frame.context.context.cs, 0x33);
  EXPECT_EQ(frame.context.context.ss, 0x2b);
  EXPECT_EQ(frame.info.si_pid, 77);
  uint64_t fpstate = frame.context.context.fpstate;
  EXPECT_EQ(fpstate % 64, 0u);
  EXPECT_LE(fpstate + kFpuSize + 4, 0x1f000u - 128);  // the red zone is whole
  uint32_t words[6];
  memcpy(words, memory.At(fpstate + 464), sizeof words);
  EXPECT_EQ(words[0], kFpXstateMagic1);
  EXPECT_EQ(words[1], kFpuSize + 4);
  EXPECT_EQ(words[4], kFpuSize);
  uint32_t magic2;
  memcpy(&magic2, memory.At(fpstate + kFpuSize), 4);
  EXPECT_EQ(magic2, kFpXstateMagic2);
  EXPECT_EQ(context.resets, 1);  // the handler starts with fresh vector state
}

TEST_F(SignalFrameTest, RoundTrip) {
  platform::Registers before = registers;
  std::vector<uint8_t> fpu = context.fpu;
  ASSERT_TRUE(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).ok());
  registers.rsp += 8;  // the handler's ret
  registers.rbx = 0;
  registers.eflags = 0x202;
  context.fpu.assign(kFpuSize, 0xff);
  auto state = PopSignalFrame(memory, context, kFpuSize, &registers);
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(state->mask, 0x1234u);
  EXPECT_EQ(state->stack.flags, static_cast<uint32_t>(SS_DISABLE));
  EXPECT_EQ(registers.rsp, before.rsp);
  EXPECT_EQ(registers.rip, before.rip);
  EXPECT_EQ(registers.rbx, 43u);
  EXPECT_EQ(registers.r15, 44u);
  EXPECT_EQ(registers.eflags, before.eflags);
  EXPECT_EQ(memcmp(context.fpu.data(), fpu.data(), 464), 0);
  EXPECT_EQ(memcmp(context.fpu.data() + 576, fpu.data() + 576, kFpuSize - 576), 0);
}

TEST_F(SignalFrameTest, AlternateStack) {
  stack = {.sp = 0x12000, .flags = 0, .size = 0x4000};
  request.flags |= SA_ONSTACK;
  ASSERT_TRUE(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).ok());
  EXPECT_GT(registers.rsp, 0x12000u);
  EXPECT_LT(registers.rsp, 0x16000u);
  EXPECT_EQ(Frame().context.stack.sp, 0x12000u);
  // A second signal nests below the first on the same stack.
  uint64_t outer = registers.rsp;
  ASSERT_TRUE(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).ok());
  EXPECT_LT(registers.rsp, outer - 128);
}

TEST_F(SignalFrameTest, AlternateStackOverflowIsRefused) {
  stack = {.sp = 0x12000, .flags = 0, .size = 1024};
  request.flags |= SA_ONSTACK;
  platform::Registers before = registers;
  EXPECT_EQ(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).error_number(), EFAULT);
  EXPECT_EQ(registers.rsp, before.rsp);
}

TEST_F(SignalFrameTest, AutodisarmForgetsTheStack) {
  stack = {.sp = 0x12000, .flags = kSsAutodisarm, .size = 0x4000};
  request.flags |= SA_ONSTACK;
  ASSERT_TRUE(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).ok());
  EXPECT_EQ(stack.size, 0u);
  EXPECT_EQ(stack.flags, static_cast<uint32_t>(SS_DISABLE));
  EXPECT_EQ(Frame().context.stack.flags, kSsAutodisarm);
}

TEST_F(SignalFrameTest, NoRestorerOrNoMemoryIsAFault) {
  request.flags &= ~kSaRestorer;
  EXPECT_EQ(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).error_number(), EFAULT);
  request.flags |= kSaRestorer;
  registers.rsp = 0x10100;
  EXPECT_EQ(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).error_number(), EFAULT);
  registers.rsp = 8;  // wraps
  EXPECT_EQ(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).error_number(), EFAULT);
}

TEST_F(SignalFrameTest, HostileFramesAreRefused) {
  ASSERT_TRUE(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).ok());
  registers.rsp += 8;
  platform::Registers entry = registers;
  auto* frame = reinterpret_cast<RtSignalFrame*>(memory.At(entry.rsp - 8));
  frame->context.context.rip = 0xffff'8000'0000'0000;
  EXPECT_EQ(PopSignalFrame(memory, context, kFpuSize, &registers).error_number(), EFAULT);
  frame->context.context.rip = 0x401000;
  frame->context.context.eflags = ~uint64_t{0};
  frame->context.context.cs = 0x10;
  ASSERT_TRUE(PopSignalFrame(memory, context, kFpuSize, &registers).ok());
  EXPECT_EQ(registers.eflags & ~kUserEflags, 0x202u);  // no IOPL, NT, VM
  EXPECT_EQ(registers.cs, kUserCs);
  registers = entry;
  context.reject = true;
  context.resets = 0;
  EXPECT_EQ(PopSignalFrame(memory, context, kFpuSize, &registers).error_number(), EFAULT);
  EXPECT_EQ(context.resets, 1);
  EXPECT_EQ(registers.rsp, entry.rsp);
  context.reject = false;
  frame->context.context.fpstate = 0x7fff'0000'0000;
  EXPECT_EQ(PopSignalFrame(memory, context, kFpuSize, &registers).error_number(), EFAULT);
}

TEST_F(SignalFrameTest, LegacyFpstateWhenTheMagicIsGone) {
  ASSERT_TRUE(PushSignalFrame(memory, context, kFpuSize, request, &stack, &registers).ok());
  uint64_t fpstate = Frame().context.context.fpstate;
  memset(memory.At(fpstate + kFpuSize), 0, 4);
  registers.rsp += 8;
  ASSERT_TRUE(PopSignalFrame(memory, context, kFpuSize, &registers).ok());
  EXPECT_EQ(context.fpu[512], 3);
  EXPECT_EQ(context.fpu[700], 0);
}

}  // namespace
}  // namespace sentry::arch
