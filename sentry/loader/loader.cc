// SPDX-License-Identifier: Apache-2.0
// Mapping ELF images and the first stack (fs/binfmt_elf.c is the reference for layout and errors).
#include "sentry/loader/loader.h"

#include <cpuid.h>
#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

#include <algorithm>

#include "sentry/loader/elf.h"
#include "sentry/loader/initial_stack.h"

namespace sentry::loader {
namespace {

using mm::MmapRequest;

// Position-independent programs start at two thirds of the address space, interpreters in the mmap area.
constexpr uint64_t kDynamicBase = 0x5555'5555'4000;
constexpr uint64_t kDynamicRandomPages = uint64_t{1} << 28;
constexpr uint64_t kStackRandomPages = uint64_t{1} << 22;  // 16 GiB
constexpr uint64_t kBrkRandomPages = (32 << 20) / kPageSize;
constexpr uint64_t kStackExpand = 128 << 10;  // mapped below the arguments at once

constexpr uint64_t kUserCodeSegment = 0x33, kUserStackSegment = 0x2b, kInterruptFlag = 0x202;

struct Random {
  bool enabled;
  uint64_t Pages(uint64_t count) const {
    if (!enabled) return 0;
    uint64_t n;
    FillRandom(&n, sizeof n);
    return n % count * kPageSize;
  }
};

struct Mapped {
  uint64_t bias = 0, entry = 0, start = 0, end = 0;
  uint64_t program_headers = 0;
  uint64_t start_code = UINT64_MAX, end_code = 0, start_data = 0, end_data = 0;
};

Result<std::vector<uint8_t>> ReadAt(vfs::FileDescription& file, uint64_t offset, size_t size) {
  std::vector<uint8_t> bytes(size);
  BufferTarget target(bytes);
  while (target.remaining() > 0) {
    size_t n = TRY(file.PRead(target, static_cast<int64_t>(offset + target.done())));
    if (n == 0) break;
  }
  bytes.resize(target.done());
  return bytes;
}

Result<ElfFile> ReadElf(vfs::FileDescription& file, std::span<const uint8_t> start) {
  HeaderTable table = TRY(FindProgramHeaders(start));
  std::vector<uint8_t> headers;
  if (table.offset + table.size <= start.size()) {
    headers.assign(start.begin() + table.offset, start.begin() + table.offset + table.size);
  } else {
    headers = TRY(ReadAt(file, table.offset, table.size));
  }
  return ParseElf(start, headers);
}

Result<uint64_t> MapAnonymous(mm::MemoryManager& mm, uint64_t address, uint64_t length,
                              platform::Protection protection) {
  MmapRequest request;
  request.address = address;
  request.length = length;
  request.protection = protection;
  request.fixed = true;
  return mm.Mmap(request);
}

// One PT_LOAD: the file's pages, zeroes behind them.
Result<void> MapSegment(mm::MemoryManager& mm, vfs::FileDescription& file, const Segment& segment, uint64_t bias) {
  const platform::Protection protection{.read = segment.read, .write = segment.write, .exec = segment.exec};
  const uint64_t start = bias + PageDown(segment.address);
  const uint64_t file_end = bias + segment.address + segment.file_size;
  const uint64_t memory_end = PageUp(bias + segment.address + segment.memory_size);
  uint64_t mapped_end = start;
  if (segment.file_size > 0) {
    MmapRequest request;
    request.address = start;
    request.length = PageUp(file_end) - start;
    request.protection = protection;
    request.fixed = true;
    request.offset = PageDown(segment.offset);
    TRY(file.ConfigureMmap(request));
    TRY(mm.Mmap(request));
    mapped_end = PageUp(file_end);
    // A read-only last page keeps the file's bytes, as Linux leaves it.
    if (segment.memory_size > segment.file_size && segment.write && file_end < mapped_end) {
      if (!mm.ZeroOut(UserAddr(file_end), mapped_end - file_end).ok()) return Errno(EFAULT);
    }
  }
  if (memory_end > mapped_end) TRY(MapAnonymous(mm, mapped_end, memory_end - mapped_end, protection));
  return OkResult();
}

// The bias for a position-independent image: at `preferred` if that is free, else where mmap(2) would put it.
Result<uint64_t> ChooseBias(mm::MemoryManager& mm, const ElfFile& elf, uint64_t preferred) {
  const uint64_t extent = elf.end - elf.start;
  const uint64_t slack = elf.alignment > kPageSize ? elf.alignment : 0;
  MmapRequest probe;
  probe.address = preferred;
  probe.length = extent + slack;
  probe.no_reserve = true;
  uint64_t found = TRY(mm.Mmap(probe));
  TRY(mm.Munmap(found, extent + slack));
  // A multiple of the alignment keeps addresses congruent; modulo 2^64, since the image may ask for more than `found`.
  return (found - elf.start + elf.alignment - 1) & ~(elf.alignment - 1);
}

Result<Mapped> MapElf(mm::MemoryManager& mm, vfs::FileDescription& file, const ElfFile& elf, uint64_t preferred) {
  Mapped mapped;
  if (elf.is_position_independent) mapped.bias = TRY(ChooseBias(mm, elf, preferred));
  if (!elf.is_position_independent &&
      (elf.start < platform::kGuestAddressMin || elf.end > platform::kGuestAddressLimit)) {
    return Errno(ENOMEM);
  }
  mapped.start = mapped.bias + elf.start;
  mapped.end = mapped.bias + elf.end;
  for (const Segment& segment : elf.segments) {
    TRY(MapSegment(mm, file, segment, mapped.bias));
    uint64_t start = mapped.bias + segment.address;
    if (segment.exec) {
      mapped.start_code = std::min(mapped.start_code, start);
      mapped.end_code = std::max(mapped.end_code, start + segment.file_size);
    }
    mapped.start_data = std::max(mapped.start_data, start);
    mapped.end_data = std::max(mapped.end_data, start + segment.file_size);
  }
  if (mapped.start_code == UINT64_MAX) mapped.start_code = mapped.start;
  mapped.entry = mapped.bias + elf.entry;
  if (elf.program_headers_address) mapped.program_headers = mapped.bias + elf.program_headers_address;
  return mapped;
}

// The ELF interpreter named by PT_INTERP. Its own defects are ELIBBAD.
Result<Mapped> MapInterpreter(mm::MemoryManager& mm, const LoadRequest& request, const ElfFile& program) {
  std::vector<uint8_t> name = TRY(ReadAt(*request.program.file, program.interpreter_offset, program.interpreter_size));
  if (name.size() != program.interpreter_size) return Errno(EIO);
  if (name.back() != 0) return Errno(ENOEXEC);
  std::string path(reinterpret_cast<const char*>(name.data()));
  vfs::FileRef file = TRY(OpenExecutable(request.context, path, vfs::kFollowFinal));
  std::vector<uint8_t> start = TRY(ReadAt(*file, 0, kElfHeaderSize));
  if (start.size() != kElfHeaderSize) return Errno(EIO);
  auto elf = ReadElf(*file, start);
  if (!elf.ok()) return Errno(elf.error() == Errno(ENOEXEC) ? ELIBBAD : elf.error().number());
  return MapElf(mm, *file, *elf, 0);
}

std::vector<std::pair<uint64_t, uint64_t>> AuxiliaryVector(const LoadRequest& request, const ElfFile& elf,
                                                           const Mapped& program, uint64_t interpreter_base,
                                                           uint64_t vdso) {
  const Credentials& creds = request.new_creds;
  std::vector<std::pair<uint64_t, uint64_t>> auxv;
  if (vdso) auxv.emplace_back(AT_SYSINFO_EHDR, vdso);
    // What the CPU says about itself is the host's in any case (cpuid), so the sentry's own values hold for guests.
#ifdef AT_MINSIGSTKSZ
  if (uint64_t size = getauxval(AT_MINSIGSTKSZ)) auxv.emplace_back(AT_MINSIGSTKSZ, size);
#endif
  // The C library gives its own meaning to what the kernel put there: edx of leaf 1 (ELF_HWCAP in asm/elf.h).
  unsigned eax = 0, ebx = 0, ecx = 0, features = 0;
  __cpuid(1, eax, ebx, ecx, features);
  auxv.insert(auxv.end(), {{AT_HWCAP, features},
                           {AT_PAGESZ, kPageSize},
                           {AT_CLKTCK, 100},
                           {AT_PHDR, program.program_headers},
                           {AT_PHENT, kProgramHeaderSize},
                           {AT_PHNUM, elf.program_header_count},
                           {AT_BASE, interpreter_base},
                           {AT_FLAGS, 0},
                           {AT_ENTRY, program.entry},
                           {AT_UID, creds.ruid},
                           {AT_EUID, creds.euid},
                           {AT_GID, creds.rgid},
                           {AT_EGID, creds.egid},
                           {AT_SECURE, request.secure},
                           {AT_HWCAP2, getauxval(AT_HWCAP2)}});
  return auxv;
}

}  // namespace

Result<Image> Load(platform::Platform& platform, platform::MemoryFile& memory_file, const LoadRequest& request) {
  const Program& program = request.program;
  if (program.start.size() < kElfHeaderSize) return Errno(ENOEXEC);
  ElfFile elf = TRY(ReadElf(*program.file, program.start));

  Image image;
  image.mm = TRY(mm::MemoryManager::Create(platform, memory_file));
  mm::MemoryManager& mm = *image.mm;
  mm.BeginImage();
  mm.SetLimits(request.limits);
  const Random random{request.randomize};
  uint64_t seed = 0;
  if (request.randomize) FillRandom(&seed, sizeof seed);
  mm.SetMmapBase(mm::MemoryManager::ChooseMmapBase(request.limits.stack, seed));

  const uint64_t top = platform::kGuestAddressLimit - random.Pages(kStackRandomPages);
  const bool has_interpreter = elf.interpreter_size != 0;
  uint64_t preferred = has_interpreter ? kDynamicBase + random.Pages(kDynamicRandomPages) : 0;
  Mapped main = TRY(MapElf(mm, *program.file, elf, preferred));
  uint64_t entry = main.entry, interpreter_base = 0;
  if (has_interpreter) {
    Mapped interpreter = TRY(MapInterpreter(mm, request, elf));
    entry = interpreter.entry;
    interpreter_base = interpreter.bias;
  }
  if (entry >= platform::kGuestAddressLimit) return Errno(EINVAL);
  // A static position-independent program sits in the mmap area; its heap gets a place of its own below.
  uint64_t heap = elf.is_position_independent && !has_interpreter ? kDynamicBase : main.end;
  mm.SetBrkStart(heap + random.Pages(kBrkRandomPages));

  uint64_t vdso = 0;
  if (request.vdso) vdso = TRY(request.vdso->MapInto(mm, request.clock_offsets));

  StackContents contents;
  contents.argv = &program.argv;
  contents.envp = &request.envp;
  contents.filename = request.filename;
  FillRandom(contents.random, sizeof contents.random);
  contents.auxv = AuxiliaryVector(request, elf, main, interpreter_base, vdso);
  InitialStack stack = TRY(BuildInitialStack(contents, top, request.limits.stack));

  MmapRequest map;
  const uint64_t contents_size = PageUp(stack.bytes.size());
  map.length = std::clamp(PageDown(request.limits.stack), contents_size, contents_size + kStackExpand);
  map.address = top - map.length;
  map.protection = {.read = true, .write = true, .exec = elf.executable_stack};
  map.fixed = true;
  map.no_replace = true;
  map.grows_down = true;
  map.stack = true;
  TRY(mm.Mmap(map));
  size_t stored = TRY(mm.CopyOut(UserAddr(stack.pointer), stack.bytes.data(), stack.bytes.size()));
  if (stored != stack.bytes.size()) return Errno(EFAULT);

  mm::ImageInfo info;
  info.start_code = main.start_code;
  info.end_code = main.end_code;
  info.start_data = main.start_data;
  info.end_data = main.end_data;
  info.start_stack = stack.pointer;
  info.arg_start = stack.arg_start;
  info.arg_end = stack.arg_end;
  info.env_start = stack.env_start;
  info.env_end = stack.env_end;
  info.vdso = vdso;
  info.auxv = std::move(stack.auxv);
  mm.SetImage(info);
  mm.LendRooms();

  platform::Registers& regs = image.registers;
  regs.rip = entry;
  regs.rsp = stack.pointer;
  regs.cs = kUserCodeSegment;
  regs.ss = kUserStackSegment;
  regs.eflags = kInterruptFlag;
  regs.orig_rax = ~uint64_t{0};
  return image;
}

}  // namespace sentry::loader
