// SPDX-License-Identifier: Apache-2.0
#include "sentry/bpf/bpf.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace sentry::bpf {
namespace {

using Program = std::vector<Instruction>;

Instruction Stmt(int code, uint32_t k) { return BPF_STMT(static_cast<uint16_t>(code), k); }
Instruction Jump(int code, uint32_t k, uint8_t jt, uint8_t jf) {
  return BPF_JUMP(static_cast<uint16_t>(code), k, jt, jf);
}
Instruction Ret(uint32_t k) { return Stmt(BPF_RET | BPF_K, k); }

// A packet of bytes, big-endian as socket filters see it.
uint32_t RunOn(const Program& program, const std::vector<uint8_t>& packet) {
  return Run(program, static_cast<uint32_t>(packet.size()), [&](uint32_t offset, unsigned size, uint32_t* value) {
    if (offset > packet.size() || packet.size() - offset < size) return false;
    for (unsigned i = 0; i < size; ++i) *value = *value << 8 | packet[offset + i];
    return true;
  });
}

bool Passes(const Program& program) { return Check(program).ok(); }

TEST(Check, LengthAndEnd) {
  EXPECT_FALSE(Passes({}));
  EXPECT_TRUE(Passes({Ret(1)}));
  EXPECT_FALSE(Passes({Stmt(BPF_LD | BPF_IMM, 1)}));
  EXPECT_TRUE(Passes(Program(kMaxInstructions, Ret(0))));
  EXPECT_FALSE(Passes(Program(kMaxInstructions + 1, Ret(0))));
}

TEST(Check, EveryOperationOrNone) {
  size_t known = 0;
  for (int code = 0; code <= 0xffff; ++code) {
    known += Passes({Stmt(BPF_STX, 0), Stmt(BPF_ST, 1), Jump(code, 1, 0, 0), Ret(0), Ret(0), Ret(0)});
  }
  const size_t alu = 2 * 10 + 1, jumps = 2 * 4 + 1, loads = 9 + 4, stores = 2, moves = 2, returns = 2;
  EXPECT_EQ(alu + jumps + loads + stores + moves + returns, known);
}

TEST(Check, Operands) {
  EXPECT_FALSE(Passes({Stmt(BPF_ALU | BPF_DIV | BPF_K, 0), Ret(0)}));
  EXPECT_FALSE(Passes({Stmt(BPF_ALU | BPF_MOD | BPF_K, 0), Ret(0)}));
  EXPECT_TRUE(Passes({Stmt(BPF_ALU | BPF_RSH | BPF_K, 31), Ret(0)}));
  EXPECT_FALSE(Passes({Stmt(BPF_ALU | BPF_RSH | BPF_K, 32), Ret(0)}));
  EXPECT_FALSE(Passes({Stmt(BPF_ALU | BPF_LSH | BPF_K, 32), Ret(0)}));
  EXPECT_FALSE(Passes({Stmt(BPF_ST, BPF_MEMWORDS), Ret(0)}));
  EXPECT_TRUE(Passes({Stmt(BPF_LD | BPF_W | BPF_ABS, uint32_t(SKF_AD_OFF) + SKF_AD_CPU), Ret(0)}));
  EXPECT_FALSE(Passes({Stmt(BPF_LD | BPF_W | BPF_ABS, uint32_t(SKF_AD_OFF) + SKF_AD_CPU + 1), Ret(0)}));
  EXPECT_FALSE(Passes({Stmt(BPF_LD | BPF_W | BPF_ABS, uint32_t(SKF_AD_OFF) + SKF_AD_MAX), Ret(0)}));
}

TEST(Check, JumpsStayInside) {
  EXPECT_TRUE(Passes({Stmt(BPF_JMP | BPF_JA, 0), Ret(0)}));
  EXPECT_FALSE(Passes({Stmt(BPF_JMP | BPF_JA, 1), Ret(0)}));
  EXPECT_FALSE(Passes({Stmt(BPF_JMP | BPF_JA, 0xffffffff), Ret(0)}));
  EXPECT_TRUE(Passes({Jump(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0), Ret(0), Ret(0)}));
  EXPECT_FALSE(Passes({Jump(BPF_JMP | BPF_JEQ | BPF_K, 0, 2, 0), Ret(0), Ret(0)}));
  EXPECT_FALSE(Passes({Jump(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 255), Ret(0), Ret(0)}));
}

TEST(Check, ScratchMustBeWrittenOnAllPaths) {
  EXPECT_FALSE(Passes({Stmt(BPF_LD | BPF_MEM, 3), Ret(0)}));
  EXPECT_TRUE(Passes({Stmt(BPF_ST, 3), Stmt(BPF_LDX | BPF_MEM, 3), Ret(0)}));
  EXPECT_FALSE(Passes({Stmt(BPF_ST, 3), Stmt(BPF_LDX | BPF_MEM, 4), Ret(0)}));
  // One branch writes it.
  EXPECT_FALSE(Passes({Jump(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), Stmt(BPF_ST, 0), Stmt(BPF_LD | BPF_MEM, 0), Ret(0)}));
  EXPECT_TRUE(Passes({Jump(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2), Stmt(BPF_ST, 0), Stmt(BPF_JMP | BPF_JA, 1),
                      Stmt(BPF_ST, 0), Stmt(BPF_LD | BPF_MEM, 0), Ret(0)}));
}

TEST(Run, Arithmetic) {
  auto value = [](int op, uint32_t a, uint32_t b) {
    Program k = {Stmt(BPF_LD | BPF_IMM, a), Stmt(BPF_ALU | op | BPF_K, b), Stmt(BPF_RET | BPF_A, 0)};
    Program x = {Stmt(BPF_LD | BPF_IMM, a), Stmt(BPF_LDX | BPF_IMM, b), Stmt(BPF_ALU | op | BPF_X, 0),
                 Stmt(BPF_RET | BPF_A, 0)};
    EXPECT_TRUE(Passes(k) && Passes(x));
    EXPECT_EQ(RunOn(k, {}), RunOn(x, {}));
    return RunOn(x, {});
  };
  EXPECT_EQ(1u, value(BPF_ADD, 0xffffffff, 2));
  EXPECT_EQ(0xffffffffu, value(BPF_SUB, 1, 2));
  EXPECT_EQ(0xfffffffeu, value(BPF_MUL, 0xffffffff, 2));
  EXPECT_EQ(3u, value(BPF_DIV, 7, 2));
  EXPECT_EQ(1u, value(BPF_MOD, 7, 2));
  EXPECT_EQ(4u, value(BPF_AND, 6, 12));
  EXPECT_EQ(14u, value(BPF_OR, 6, 12));
  EXPECT_EQ(10u, value(BPF_XOR, 6, 12));
  EXPECT_EQ(0x80000000u, value(BPF_LSH, 1, 31));
  EXPECT_EQ(1u, value(BPF_RSH, 0x80000000, 31));
  EXPECT_EQ(0xffffffffu, RunOn({Stmt(BPF_LD | BPF_IMM, 1), Stmt(BPF_ALU | BPF_NEG, 0), Stmt(BPF_RET | BPF_A, 0)}, {}));
  // By a zero that the checker could not see: the program ends with 0.
  for (int op : {BPF_DIV, BPF_MOD})
    EXPECT_EQ(0u, RunOn({Stmt(BPF_LD | BPF_IMM, 1), Stmt(BPF_ALU | op | BPF_X, 0), Ret(9)}, {}));
}

TEST(Run, LoadsAndBounds) {
  std::vector<uint8_t> packet = {0x45, 1, 2, 3, 4, 5};
  auto load = [&](int code, uint32_t k) { return RunOn({Stmt(code, k), Stmt(BPF_RET | BPF_A, 0)}, packet); };
  EXPECT_EQ(0x45010203u, load(BPF_LD | BPF_W | BPF_ABS, 0));
  EXPECT_EQ(0x0405u, load(BPF_LD | BPF_H | BPF_ABS, 4));
  EXPECT_EQ(5u, load(BPF_LD | BPF_B | BPF_ABS, 5));
  EXPECT_EQ(0u, load(BPF_LD | BPF_B | BPF_ABS, 6));
  EXPECT_EQ(0u, load(BPF_LD | BPF_W | BPF_ABS, 3));
  EXPECT_EQ(6u, load(BPF_LD | BPF_W | BPF_LEN, 0));
  EXPECT_EQ(20u,
            RunOn({Stmt(BPF_LDX | BPF_B | BPF_MSH, 0), Stmt(BPF_MISC | BPF_TXA, 0), Stmt(BPF_RET | BPF_A, 0)}, packet));
  Program indirect = {Stmt(BPF_LDX | BPF_IMM, 2), Stmt(BPF_LD | BPF_B | BPF_IND, 1), Stmt(BPF_RET | BPF_A, 0)};
  EXPECT_EQ(3u, RunOn(indirect, packet));
  indirect[0].k = 0xffffffff;  // 1 + x wraps to 0
  EXPECT_EQ(0u, RunOn(indirect, packet));
}

TEST(Run, JumpsAndScratch) {
  Program p = {Stmt(BPF_LD | BPF_B | BPF_ABS, 0),
               Stmt(BPF_ST, 15),
               Stmt(BPF_MISC | BPF_TAX, 0),
               Stmt(BPF_LD | BPF_IMM, 7),
               Stmt(BPF_LD | BPF_MEM, 15),
               Jump(BPF_JMP | BPF_JGT | BPF_K, 5, 0, 1),
               Ret(1),
               Jump(BPF_JMP | BPF_JSET | BPF_K, 4, 0, 1),
               Ret(2),
               Ret(3)};
  ASSERT_TRUE(Passes(p));
  EXPECT_EQ(1u, RunOn(p, {6}));
  EXPECT_EQ(2u, RunOn(p, {5}));
  EXPECT_EQ(3u, RunOn(p, {3}));
}

// Programs that come of random changes to a sound one: whatever the checker passes runs to its end inside its bounds
// (asan and ubsan see the rest), and gives the same twice.
TEST(Fuzz, CheckedProgramsAreSafe) {
  std::mt19937 random(20240607);
  const Program seed = {Stmt(BPF_LD | BPF_W | BPF_ABS, 0),
                        Stmt(BPF_ST, 0),
                        Stmt(BPF_LDX | BPF_MEM, 0),
                        Jump(BPF_JMP | BPF_JEQ | BPF_K, 3, 1, 4),
                        Stmt(BPF_ALU | BPF_DIV | BPF_X, 0),
                        Stmt(BPF_ALU | BPF_LSH | BPF_K, 3),
                        Stmt(BPF_LD | BPF_H | BPF_IND, 2),
                        Stmt(BPF_MISC | BPF_TXA, 0),
                        Jump(BPF_JMP | BPF_JGE | BPF_X, 0, 0, 1),
                        Stmt(BPF_RET | BPF_A, 0),
                        Stmt(BPF_JMP | BPF_JA, 0),
                        Ret(0x7fff0000)};
  std::vector<uint8_t> packet(64);
  size_t passed = 0;
  for (int round = 0; round < 200000; ++round) {
    Program p = seed;
    for (unsigned changes = 1 + random() % 6; changes; --changes) {
      Instruction& in = p[random() % p.size()];
      switch (random() % 6) {
        case 0:
          in.code = static_cast<uint16_t>(random() % 4 ? random() & 0xff : random());
          break;
        case 1:
          in.jt = static_cast<uint8_t>(random() % 3 ? random() % 12 : random());
          break;
        case 2:
          in.jf = static_cast<uint8_t>(random() % 3 ? random() % 12 : random());
          break;
        case 3:
          in.k = random() % 2 ? random() % 20 : random();
          break;
        case 4:
          std::swap(in, p[random() % p.size()]);
          break;
        default:
          p.insert(p.begin() + random() % p.size(), p[random() % p.size()]);
      }
    }
    if (!Passes(p)) continue;
    ++passed;
    for (uint8_t& byte : packet) byte = static_cast<uint8_t>(random());
    ASSERT_EQ(RunOn(p, packet), RunOn(p, packet));
  }
  EXPECT_GT(passed, 10000u);
}

}  // namespace
}  // namespace sentry::bpf
