// SPDX-License-Identifier: Apache-2.0
#include "platform/testing/test_guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utility>

#include "base/log.h"

namespace platform::testing {

Platform& TestPlatform() {
  static Platform* platform = StartTestPlatform().release();
  return *platform;
}

MemoryFile& TestMemory() {
  static MemoryFile* file = [] {
    auto made = MemoryFile::Create();
    CHECK_THAT(made.ok());
    return made->release();
  }();
  return *file;
}

TestGuest::TestGuest(std::span<const uint8_t> program) {
  TestPlatform();
  code_ = *TestMemory().Allocate(kPageSize);
  data_ = *TestMemory().Allocate(kDataLength);
  CHECK_THAT(program.size() <= kPageSize);
  memcpy(TestMemory().Pointer(code_.start), program.data(), program.size());
  auto space = TestPlatform().NewAddressSpace();
  CHECK_THAT(space.ok());
  space_ = *space;
  context_ = TestPlatform().NewContext();
  CHECK_THAT(context_->Bind(*space_).ok());
  CHECK_THAT(space_->Map(kCodeAddress, kPageSize, TestMemory().fd(), code_.start, kReadExec, false).ok());
  CHECK_THAT(space_->Map(kDataAddress, kDataLength, TestMemory().fd(), data_.start, kReadWrite, false).ok());
}

TestGuest::~TestGuest() {
  context_->Release();
  context_.reset();
  space_.Reset();
  TestMemory().DecRef(code_);
  TestMemory().DecRef(data_);
}

Registers TestGuest::Start() {
  Registers registers = {};
  registers.cs = 0x33;
  registers.ss = 0x2b;
  registers.eflags = 0x202;
  registers.rip = kCodeAddress;
  registers.rsp = kDataAddress + kDataLength;
  return registers;
}

}  // namespace platform::testing
