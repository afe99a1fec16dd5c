// SPDX-License-Identifier: Apache-2.0
// Guests for tests: one platform for the whole test binary, tiny programs in machine code, and an address space with
// code, data and stack. The same tests are built for each platform, linked with its definitions of the functions below.
#ifndef PLATFORM_TESTING_TEST_GUEST_H_
#define PLATFORM_TESTING_TEST_GUEST_H_

#include <cstdint>
#include <memory>
#include <span>

#include "platform/memory_file.h"
#include "platform/platform.h"
#include "platform/ptrace/placement.h"

// Defines `name`, the machine code of assembly text (AT&T).
#define GUEST_PROGRAM(name, text)                                                                     \
  asm(".pushsection .rodata\n.balign 16\n" #name "_begin:\n" text "\n" #name "_end:\n.popsection\n"); \
  extern "C" const uint8_t name##_begin[], name##_end[];                                              \
  static std::span<const uint8_t> name() { return {name##_begin, name##_end}; }                       \
  static_assert(true)

namespace platform::testing {

inline constexpr uint64_t kCodeAddress = 0x40'0000;
inline constexpr uint64_t kDataAddress = 0x80'0000;  // 16 pages, rw; the stack is their upper end
inline constexpr uint64_t kDataLength = 16 * kPageSize;
inline constexpr Protection kReadOnly = {.read = true};
inline constexpr Protection kReadWrite = {.read = true, .write = true};
inline constexpr Protection kReadExec = {.read = true, .exec = true};

// Started by the first call, which has to be the main thread's.
Platform& TestPlatform();
MemoryFile& TestMemory();

// Defined by each platform. Those of stubs only where there are any.
std::unique_ptr<Platform> StartTestPlatform();
bool HasStubs();
pid_t StubPid(AddressSpace& space);
pid_t StubTid(Context& context);
pid_t ZygotePid();
ptrace::Placement& TestPlacement();
ptrace::Placement::Slot& SlotOf(Context& context);

class TestGuest {
 public:
  // Binds a context of the calling thread and maps the program and the data. Fails the test otherwise.
  explicit TestGuest(std::span<const uint8_t> program);
  ~TestGuest();

  // Registers at the program's start.
  static Registers Start();
  AddressSpace& space() { return *space_; }
  base::RefPtr<AddressSpace> space_ref() { return space_; }
  Context& context() { return *context_; }
  // The sentry's view of guest data.
  uint8_t* Data(uint64_t offset = 0) { return TestMemory().Pointer(data_.start + offset); }
  volatile uint64_t& Word(uint64_t index) { return reinterpret_cast<volatile uint64_t*>(Data())[index]; }
  pid_t stub_pid() const { return StubPid(*space_); }
  FileRange code_range() const { return code_; }
  FileRange data_range() const { return data_; }

 private:
  FileRange code_;
  FileRange data_;
  base::RefPtr<AddressSpace> space_;
  std::unique_ptr<Context> context_;
};

}  // namespace platform::testing

#endif  // PLATFORM_TESTING_TEST_GUEST_H_
