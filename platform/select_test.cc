// SPDX-License-Identifier: Apache-2.0
#include "platform/select.h"

#include <unistd.h>

#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace platform {
namespace {

bool HasKvm() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string word;
  while (cpuinfo >> word) {
    if (word == "vmx" || word == "svm") return access("/dev/kvm", R_OK | W_OK) == 0;
  }
  return false;
}

TEST(SelectTest, KnownNames) {
  for (std::string name : {"ptrace", "systrap", "auto"}) {
    auto platform = MakePlatform(name);
    ASSERT_TRUE(platform.ok()) << platform.status().ToString();
    // "auto" is kvm only where the hardware makes it fast.
    const std::string chosen((*platform)->Name());
    EXPECT_TRUE(chosen == (name == "auto" ? "systrap" : name) || (name == "auto" && HasKvm() && chosen == "kvm"));
    EXPECT_GE((*platform)->FpuStateSize(), 512u);
  }
}

// Where it can't run, the message says so in one line that names the device or the capability.
TEST(SelectTest, KvmRunsOrSaysWhyNot) {
  auto platform = MakePlatform("kvm");
  if (platform.ok()) {
    EXPECT_EQ((*platform)->Name(), std::string("kvm"));
    return;
  }
  EXPECT_EQ(platform.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(std::string(platform.status().message()).find("kvm"), std::string::npos);
}

TEST(SelectTest, OnlyKvmNeedsADevice) {
  for (const char* name : {"auto", "ptrace", "systrap"}) {
    auto device = OpenDevice(name);
    ASSERT_TRUE(device.ok());
    EXPECT_TRUE(!device->ok() || (name == std::string("auto") && HasKvm()));
  }
}

TEST(SelectTest, UnknownNameIsNamedWithTheKnownOnes) {
  auto platform = MakePlatform("vax");
  ASSERT_FALSE(platform.ok());
  EXPECT_EQ(platform.status().code(), absl::StatusCode::kInvalidArgument);
  std::string message(platform.status().message());
  EXPECT_NE(message.find("vax"), std::string::npos);
  EXPECT_NE(message.find("ptrace"), std::string::npos);
}

}  // namespace
}  // namespace platform
