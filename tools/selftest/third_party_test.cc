// SPDX-License-Identifier: Apache-2.0
// Shows that every system library under third_party/ compiles with the project's options, links and works.
#include <glog/logging.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <seccomp.h>
#include <sys/capability.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tools/selftest/selftest.pb.h"

namespace {

TEST(ThirdParty, AbslStatusCarriesItsMessage) {
  absl::Mutex mu;
  absl::MutexLock lock(&mu);
  absl::flat_hash_map<std::string, int> map = {{"a", 1}};
  absl::Status status = absl::NotFoundError(absl::StrCat("no field ", map["a"]));
  EXPECT_EQ(status.message(), "no field 1");
}

TEST(ThirdParty, ProtobufRoundTrips) {
  runsc::selftest::Record record;
  record.set_name("x");
  record.add_values(42);
  runsc::selftest::Record parsed;
  ASSERT_TRUE(parsed.ParseFromString(record.SerializeAsString()));
  EXPECT_EQ(parsed.name(), "x");
  EXPECT_THAT(parsed.values(), testing::ElementsAre(42));
}

TEST(ThirdParty, JsonReportsBadInputWithoutExceptions) {
  EXPECT_TRUE(nlohmann::json::parse("{", nullptr, false).is_discarded());
  nlohmann::json value = nlohmann::json::parse(R"({"a": [1, 2]})", nullptr, false);
  ASSERT_TRUE(value.is_object());
  EXPECT_EQ(value["a"][1].get<int>(), 2);
}

TEST(ThirdParty, SeccompKnowsSystemCalls) { EXPECT_EQ(seccomp_syscall_resolve_name("read"), SCMP_SYS(read)); }

TEST(ThirdParty, LibcapNamesCapabilities) {
  cap_value_t value = -1;
  ASSERT_EQ(cap_from_name("cap_sys_admin", &value), 0);
  EXPECT_EQ(value, CAP_SYS_ADMIN);
}

TEST(ThirdParty, GlogCountsMessages) {
  const int64_t before = google::LogMessage::num_messages(google::GLOG_INFO);
  LOG(INFO) << "one message";
  EXPECT_EQ(google::LogMessage::num_messages(google::GLOG_INFO), before + 1);
}

}  // namespace
