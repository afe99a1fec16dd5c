// SPDX-License-Identifier: Apache-2.0
// The transformation table of capabilities(7).
#include "sentry/kernel/exec_credentials.h"

#include <gtest/gtest.h>
#include <linux/securebits.h>
#include <string.h>

namespace sentry::kernel {
namespace {

constexpr CapabilitySet kNet = CapBit(CAP_NET_RAW), kKill = CapBit(CAP_KILL);

RefPtr<Credentials> User(uid_t uid) {
  auto creds = Credentials::Root(0);
  creds->ruid = creds->euid = creds->suid = creds->fsuid = uid;
  creds->bounding = kAllCapabilities;
  return creds;
}

ExecCredentials Transformed(const Credentials& creds, const ExecFile& file) {
  auto result = TransformCredentials(creds, file);
  EXPECT_TRUE(result.ok());
  return std::move(result).value();
}

TEST(ExecCredentials, PlainUserLosesAllButAmbient) {
  auto creds = User(1000);
  creds->permitted = creds->effective = creds->inheritable = kNet | kKill;
  creds->ambient = kKill;
  auto after = Transformed(*creds, {});
  EXPECT_EQ(after.creds->permitted, kKill);
  EXPECT_EQ(after.creds->effective, kKill);
  EXPECT_EQ(after.creds->ambient, kKill);
  EXPECT_EQ(after.creds->inheritable, kNet | kKill);
  EXPECT_FALSE(after.secure);
}

TEST(ExecCredentials, RootGetsTheBoundingSet) {
  auto creds = User(0);
  creds->bounding = kNet;
  auto after = Transformed(*creds, {});
  EXPECT_EQ(after.creds->permitted, kNet);
  EXPECT_EQ(after.creds->effective, kNet);
  EXPECT_FALSE(after.secure);
  creds->securebits = SECBIT_NOROOT | SECBIT_KEEP_CAPS;
  after = Transformed(*creds, {});
  EXPECT_EQ(after.creds->permitted, 0u);
  EXPECT_EQ(after.creds->securebits, static_cast<uint32_t>(SECBIT_NOROOT));
}

TEST(ExecCredentials, SetUserIdRoot) {
  auto after = Transformed(*User(1000), {.set_uid = 0});
  EXPECT_EQ(after.creds->ruid, 1000u);
  EXPECT_EQ(after.creds->euid, 0u);
  EXPECT_EQ(after.creds->suid, 0u);
  EXPECT_EQ(after.creds->effective, kAllCapabilities);
  EXPECT_TRUE(after.secure);
  EXPECT_TRUE(after.changed_ids);
}

TEST(ExecCredentials, FileCapabilities) {
  auto creds = User(1000);
  creds->bounding = kNet;
  creds->ambient = kKill;
  FileCapabilities caps{.permitted = kNet, .effective = true};
  auto after = Transformed(*creds, {.capabilities = caps});
  EXPECT_EQ(after.creds->permitted, kNet);
  EXPECT_EQ(after.creds->effective, kNet);
  EXPECT_EQ(after.creds->ambient, 0u);
  EXPECT_TRUE(after.secure);
  // An "effective" file that cannot have all it wants doesn't start.
  caps.permitted = kNet | kKill;
  EXPECT_EQ(TransformCredentials(*creds, {.capabilities = caps}).error_number(), EPERM);
  caps.effective = false;
  after = Transformed(*creds, {.capabilities = caps});
  EXPECT_EQ(after.creds->permitted, kNet);
  EXPECT_EQ(after.creds->effective, 0u);
}

std::string Attribute(std::initializer_list<uint32_t> words) {
  std::string bytes;
  for (uint32_t word : words) bytes.append(reinterpret_cast<const char*>(&word), 4);
  return bytes;
}

TEST(FileCapabilities, ParsesRevisionsTwoAndThree) {
  auto caps = ParseFileCapabilities(Attribute({VFS_CAP_REVISION_2 | 1, 1u << CAP_NET_RAW, 0, 1, 2}));
  ASSERT_TRUE(caps.ok());
  EXPECT_TRUE(caps->effective);
  EXPECT_EQ(caps->permitted, kNet | uint64_t{1} << 32);
  EXPECT_EQ(caps->inheritable, uint64_t{2} << 32);
  caps = ParseFileCapabilities(Attribute({VFS_CAP_REVISION_3, 1, 0, 0, 0, 1000}));
  ASSERT_TRUE(caps.ok());
  EXPECT_FALSE(caps->effective);
  EXPECT_EQ(caps->root_uid, 1000u);
}

TEST(FileCapabilities, RefusesMalformedValues) {
  EXPECT_EQ(ParseFileCapabilities("").error_number(), EINVAL);
  EXPECT_EQ(ParseFileCapabilities("abc").error_number(), EINVAL);
  EXPECT_EQ(ParseFileCapabilities(Attribute({VFS_CAP_REVISION_2, 0, 0, 0})).error_number(), EINVAL);
  EXPECT_EQ(ParseFileCapabilities(Attribute({VFS_CAP_REVISION_2, 0, 0, 0, 0, 0})).error_number(), EINVAL);
  EXPECT_EQ(ParseFileCapabilities(Attribute({VFS_CAP_REVISION_3, 0, 0, 0, 0})).error_number(), EINVAL);
  EXPECT_EQ(ParseFileCapabilities(Attribute({0x05000000, 0, 0, 0, 0})).error_number(), EINVAL);
}

}  // namespace
}  // namespace sentry::kernel
