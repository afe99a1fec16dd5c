// SPDX-License-Identifier: Apache-2.0
#include "sentry/loader/elf.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <string.h>

#include <functional>
#include <random>

namespace sentry::loader {
namespace {

struct TestImage {
  Elf64_Ehdr header = {};
  std::vector<Elf64_Phdr> segments;
  TestImage() {
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_DYN;
    header.e_machine = EM_X86_64;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phoff = sizeof(Elf64_Ehdr);
    header.e_entry = 0x1234;
    segments.push_back({.p_type = PT_LOAD,
                        .p_flags = PF_R | PF_X,
                        .p_offset = 0,
                        .p_vaddr = 0,
                        .p_filesz = 0x1800,
                        .p_memsz = 0x1800,
                        .p_align = 0x1000});
    segments.push_back({.p_type = PT_LOAD,
                        .p_flags = PF_R | PF_W,
                        .p_offset = 0x1800,
                        .p_vaddr = 0x2800,
                        .p_filesz = 0x100,
                        .p_memsz = 0x5000,
                        .p_align = 0x200000});
  }
  Result<ElfFile> Parse() {
    header.e_phnum = segments.size();
    return ParseElf({reinterpret_cast<uint8_t*>(&header), sizeof header},
                    {reinterpret_cast<uint8_t*>(segments.data()), segments.size() * sizeof(Elf64_Phdr)});
  }
  int Error() { return Parse().error_number(); }
};

TEST(Elf, ParsesAnOrdinaryImage) {
  TestImage image;
  image.segments.push_back({.p_type = PT_INTERP, .p_offset = 0x318, .p_filesz = 28});
  image.segments.push_back({.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W});
  auto elf = image.Parse();
  ASSERT_TRUE(elf.ok());
  EXPECT_TRUE(elf->is_position_independent);
  EXPECT_EQ(elf->entry, 0x1234u);
  EXPECT_EQ(elf->program_headers_address, sizeof(Elf64_Ehdr));
  EXPECT_EQ(elf->segments.size(), 2u);
  EXPECT_TRUE(elf->segments[1].write);
  EXPECT_EQ(elf->start, 0u);
  EXPECT_EQ(elf->end, 0x8000u);
  EXPECT_EQ(elf->alignment, 0x200000u);
  EXPECT_EQ(elf->interpreter_size, 28u);
  EXPECT_FALSE(elf->executable_stack);
}

TEST(Elf, RefusesForeignHeaders) {
  const std::pair<const char*, std::function<void(Elf64_Ehdr&)>> kCases[] = {
      {"magic", [](auto& h) { h.e_ident[1] = 'X'; }},
      {"32 bit", [](auto& h) { h.e_ident[EI_CLASS] = ELFCLASS32; }},
      {"big endian", [](auto& h) { h.e_ident[EI_DATA] = ELFDATA2MSB; }},
      {"core", [](auto& h) { h.e_type = ET_CORE; }},
      {"machine", [](auto& h) { h.e_machine = EM_AARCH64; }},
      {"phentsize", [](auto& h) { h.e_phentsize = 32; }},
      {"table far away", [](auto& h) { h.e_phoff = UINT64_MAX; }},
  };
  for (const auto& [name, change] : kCases) {
    TestImage image;
    change(image.header);
    EXPECT_EQ(image.Error(), ENOEXEC) << name;
  }
  TestImage empty;
  empty.segments.clear();
  EXPECT_EQ(empty.Error(), ENOEXEC);
  TestImage many;
  many.segments.resize(65536 / sizeof(Elf64_Phdr) + 1);
  EXPECT_EQ(many.Error(), ENOEXEC);
}

TEST(Elf, RefusesSegmentsThatCannotBe) {
  const std::pair<const char*, std::function<void(Elf64_Phdr&)>> kCases[] = {
      {"file larger than memory", [](auto& p) { p.p_filesz = p.p_memsz + 1; }},
      {"memory beyond the space", [](auto& p) { p.p_memsz = uint64_t{1} << 63; }},
      {"wrapping address", [](auto& p) { p.p_vaddr = UINT64_MAX - 0x7ff; }},
      {"wrapping offset", [](auto& p) { p.p_offset = UINT64_MAX - 0x7ff; }},
      {"offset and address differ modulo the page", [](auto& p) { p.p_offset += 8; }},
  };
  for (const auto& [name, change] : kCases) {
    TestImage image;
    change(image.segments[1]);
    EXPECT_EQ(image.Error(), EINVAL) << name;
  }
  TestImage none;
  for (auto& p : none.segments) p.p_type = PT_NOTE;
  EXPECT_EQ(none.Error(), EINVAL);
  TestImage interpreter;
  interpreter.segments.push_back({.p_type = PT_INTERP, .p_offset = 0, .p_filesz = 1});
  EXPECT_EQ(interpreter.Error(), ENOEXEC);
  interpreter.segments.back().p_filesz = 5000;
  EXPECT_EQ(interpreter.Error(), ENOEXEC);
}

TEST(Elf, WhateverIsAcceptedHasSaneNumbers) {
  std::mt19937_64 random(1);
  int accepted = 0;
  for (int i = 0; i < 200000; ++i) {
    TestImage image;
    auto* bytes = reinterpret_cast<uint8_t*>(image.segments.data());
    for (int flips = 0; flips < 3; ++flips) bytes[random() % (image.segments.size() * sizeof(Elf64_Phdr))] = random();
    auto elf = image.Parse();
    if (!elf.ok()) continue;
    ++accepted;
    EXPECT_LT(elf->start, elf->end);
    EXPECT_LE(elf->end, uint64_t{1} << 47);
    EXPECT_EQ(elf->alignment & (elf->alignment - 1), 0u);
    for (const Segment& s : elf->segments) {
      EXPECT_LE(s.file_size, s.memory_size);
      EXPECT_LE(s.address + s.memory_size, elf->end);
    }
  }
  EXPECT_GT(accepted, 1000);
}

}  // namespace
}  // namespace sentry::loader
