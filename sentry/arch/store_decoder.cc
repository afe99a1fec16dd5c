// SPDX-License-Identifier: Apache-2.0
// Opcodes: Intel SDM volume 2, appendix A.
#include "sentry/arch/store_decoder.h"

namespace sentry::arch {
namespace {

// `reg` is the middle field of ModRM, which extends some opcodes.
bool StoresOneByte(uint8_t opcode, unsigned reg) {
  if (opcode < 0x40) return (opcode & 7) <= 1 && opcode < 0x38;  // ADD … XOR r/m, r; CMP (38, 39) only reads
  if (opcode >= 0x50 && opcode <= 0x57) return true;             // PUSH
  switch (opcode) {
    case 0x68:
    case 0x6a:
    case 0x9c:  // PUSH, PUSHF
    case 0x6c:
    case 0x6d:  // INS
    case 0x86:
    case 0x87:
    case 0x88:
    case 0x89:  // XCHG, MOV
    case 0x8c:
    case 0x8f:  // MOV from a segment, POP
    case 0xa2:
    case 0xa3:  // MOV moffs
    case 0xa4:
    case 0xa5:
    case 0xaa:
    case 0xab:  // MOVS, STOS
    case 0xc0:
    case 0xc1:
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:  // shifts
    case 0xc6:
    case 0xc7:
    case 0xc8:
    case 0xe8:  // MOV immediate, ENTER, CALL
      return true;
    case 0x80:
    case 0x81:
    case 0x83:
      return reg != 7;  // CMP
    case 0xd9:
      return reg == 2 || reg == 3 || reg >= 6;  // FST, FSTP, FNSTENV, FNSTCW
    case 0xdb:
      return (reg >= 1 && reg <= 3) || reg == 7;
    case 0xdd:
      return (reg >= 1 && reg <= 3) || reg >= 6;
    case 0xdf:
      return (reg >= 1 && reg <= 3) || reg >= 6;
    case 0xf6:
    case 0xf7:
      return reg == 2 || reg == 3;  // NOT, NEG
    case 0xfe:
      return reg <= 1;  // INC, DEC
    case 0xff:
      return reg <= 3 || reg == 6;  // INC, DEC, CALL, PUSH
    default:
      return false;
  }
}

bool StoresTwoByte(uint8_t opcode, unsigned reg) {
  if (opcode >= 0x90 && opcode <= 0x9f) return true;  // SETcc
  switch (opcode) {
    case 0x11:
    case 0x13:
    case 0x17:
    case 0x29:
    case 0x2b:  // MOVUPS, MOVLPS, MOVHPS, MOVAPS, MOVNTPS
    case 0x7e:
    case 0x7f:
    case 0xd6:
    case 0xe7:  // MOVD, MOVDQ, MOVQ, MOVNTDQ
    case 0xa0:
    case 0xa8:  // PUSH FS, GS
    case 0xa4:
    case 0xa5:
    case 0xac:
    case 0xad:  // SHLD, SHRD
    case 0xab:
    case 0xb3:
    case 0xbb:  // BTS, BTR, BTC
    case 0xb0:
    case 0xb1:
    case 0xc0:
    case 0xc1:
    case 0xc3:  // CMPXCHG, XADD, MOVNTI
      return true;
    case 0xae:
      return reg == 0 || reg == 3 || reg == 4 || reg == 6;  // FXSAVE, STMXCSR, XSAVE, XSAVEOPT
    case 0xba:
      return reg >= 5;  // BTS, BTR, BTC immediate
    case 0xc7:
      return reg == 1 || reg == 4 || reg == 5;  // CMPXCHG8B, XSAVEC, XSAVES
    default:
      return false;
  }
}

bool IsPrefix(uint8_t byte) {
  switch (byte) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool StoresToMemory(std::span<const uint8_t> code) {
  size_t at = 0;
  bool repeat_f3 = false;
  constexpr unsigned kCut = 0x27;  // no store in any of the maps
  auto next = [&]() -> unsigned { return at < code.size() ? code[at++] : kCut; };
  auto reg = [&]() -> unsigned { return at < code.size() ? code[at] >> 3 & 7 : 0; };
  while (at < code.size() && IsPrefix(code[at])) repeat_f3 = code[at++] == 0xf3 || repeat_f3;
  if (at < code.size() && (code[at] & 0xf0) == 0x40) ++at;  // REX
  unsigned opcode = next();
  switch (opcode) {
    case 0x0f:
      opcode = next();
      if (opcode == 0x7e && repeat_f3) return false;  // MOVQ xmm, m64
      return StoresTwoByte(static_cast<uint8_t>(opcode), reg());
    case 0xc5: {  // VEX
      unsigned prefix = next() & 3;
      opcode = next();
      if (opcode == 0x7e && prefix == 2) return false;
      return StoresTwoByte(static_cast<uint8_t>(opcode), reg());
    }
    case 0xc4:
    case 0x62: {  // VEX, EVEX
      unsigned map = next() & (opcode == 0x62 ? 7u : 31u);
      unsigned prefix = next() & 3;
      if (opcode == 0x62) next();
      opcode = next();
      if (map != 1 || (opcode == 0x7e && prefix == 2)) return false;
      return StoresTwoByte(static_cast<uint8_t>(opcode), reg());
    }
    default:
      return StoresOneByte(static_cast<uint8_t>(opcode), reg());
  }
}

}  // namespace sentry::arch
