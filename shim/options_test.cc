// SPDX-License-Identifier: Apache-2.0
#include "shim/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "shim/proto/options.pb.h"

namespace shim {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ParseConfig, TakesNamesAndFlags) {
  RuntimeOptions options;
  ASSERT_TRUE(ParseConfig(R"(# comment
binary_name = "/opt/runsc"   # more
root = "/run/x"
[runsc_config]
  platform = "ptrace"
debug = true
"strace-log-size" = 12
)",
                          &options)
                  .ok());
  EXPECT_EQ(options.binary, "/opt/runsc");
  EXPECT_EQ(options.root, "/run/x");
  EXPECT_THAT(options.flags, ElementsAre("--platform=ptrace", "--debug=true", "--strace-log-size=12"));
}

TEST(ParseConfig, NamesTheLine) {
  const std::pair<const char*, const char*> rows[] = {
      {"\nnonsense", "line 2: must look like"},
      {"color = \"red\"", "line 1: unknown key"},
      {"root = \"relative\"", "line 1: root must be an absolute"},
      {"root = [1]", "line 1: a value is"},
      {"root = \"open", "line 1: a value is"},
      {"[runsc_config\n", "line 1: a table"},
      {"[other]\n", "line 1: the only table"},
  };
  for (const auto& [text, wanted] : rows) {
    RuntimeOptions options;
    absl::Status status = ParseConfig(text, &options);
    EXPECT_THAT(std::string(status.message()), HasSubstr(wanted)) << text;
  }
}

TEST(ParseOptions, OfRunc) {
  pb::RuncOptions runc;
  runc.set_binary_name("/x/runsc");
  runc.set_root("/r");
  runc.set_systemd_cgroup(true);
  pb::Any any;
  any.set_type_url("containerd.runc.v1.Options");
  any.set_value(runc.SerializeAsString());
  auto options = ParseOptions(any);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->binary, "/x/runsc");
  EXPECT_EQ(options->root, "/r");
  EXPECT_THAT(options->flags, ElementsAre("--systemd-cgroup=true"));
}

TEST(ParseOptions, OfABody) {
  pb::RuntimeOptions runtime;
  runtime.set_config_body("root = \"/b\"\n");
  pb::Any any;
  any.set_type_url("types.example/runtimeoptions.v1.Options");
  any.set_value(runtime.SerializeAsString());
  EXPECT_EQ(ParseOptions(any)->root, "/b");
  any.set_value("\xff");
  EXPECT_FALSE(ParseOptions(any).ok());
  any.set_type_url("something.else");
  EXPECT_FALSE(ParseOptions(any).ok());
}

}  // namespace
}  // namespace shim
