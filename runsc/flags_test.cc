// SPDX-License-Identifier: Apache-2.0
#include "runsc/flags.h"

#include "gtest/gtest.h"
#include "runsc/global_flags.h"

namespace runsc {
namespace {

constexpr FlagDef kTable[] = {
    {"bundle", "b", FlagType::kString, ".", "where"},  {"detach", "d", FlagType::kBool, "false", "leave"},
    {"env", "e", FlagType::kList, "", "variable"},     {"count", "", FlagType::kInteger, "3", "how many"},
    {"old", "", FlagType::kBool, "false", "", "gone"},
};

absl::StatusOr<ParsedFlags> Parse(std::vector<std::string> arguments, bool interspersed = true) {
  return ParseFlags(kTable, arguments, interspersed);
}

TEST(Flags, AllSpellings) {
  auto p = Parse({"-b", "x", "--env=A=1", "-e", "B", "id", "--detach", "--count", "-7"});
  ASSERT_TRUE(p.ok()) << p.status();
  EXPECT_EQ(p->Get("bundle"), "x");
  EXPECT_TRUE(p->GetBool("detach"));
  EXPECT_EQ(p->GetAll("env"), (std::vector<std::string>{"A=1", "B"}));
  EXPECT_EQ(p->GetInteger("count"), -7);
  EXPECT_EQ(p->args, std::vector<std::string>{"id"});
  EXPECT_EQ(p->AsArguments(),
            (std::vector<std::string>{"--bundle=x", "--env=A=1", "--env=B", "--detach=true", "--count=-7"}));
  EXPECT_FALSE(p->Has("help"));
}

TEST(Flags, DefaultsAndStops) {
  auto p = Parse({"-detach=0", "cmd", "-b", "x"}, /*interspersed=*/false);
  ASSERT_TRUE(p.ok());
  EXPECT_EQ(p->Get("bundle"), ".");
  EXPECT_EQ(p->args, (std::vector<std::string>{"cmd", "-b", "x"}));
  p = Parse({"--", "-b"});
  EXPECT_EQ(p->args, std::vector<std::string>{"-b"});
  p = Parse({"-", "-h"});
  EXPECT_EQ(p->args, std::vector<std::string>{"-"});
  EXPECT_TRUE(p->Has("help"));
  EXPECT_EQ(Parse({"--old"})->warnings, std::vector<std::string>{"--old has no effect: gone"});
}

TEST(Flags, Errors) {
  EXPECT_EQ(Parse({"--nope"}).status().message(), "flag provided but not defined: -nope");
  EXPECT_EQ(Parse({"-b"}).status().message(), "--bundle: needs a value");
  EXPECT_EQ(Parse({"-d=maybe"}).status().message(), "--detach: must be true or false, is \"maybe\"");
  EXPECT_EQ(Parse({"--count=1x"}).status().message(), "--count: must be an integer, is \"1x\"");
}

std::string GlobalError(std::vector<std::string> arguments) {
  auto parsed = ParseFlags(GlobalFlags(), arguments, false);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  auto config = ParseGlobalFlags(*parsed);
  return std::string(config.status().message());
}

TEST(GlobalFlags, BadValuesAreNamed) {
  EXPECT_EQ(GlobalError({"--root=/r"}), "");
  EXPECT_EQ(GlobalError({"--root=/r", "--platform=xen"}),
            "--platform: must be auto, ptrace, systrap or kvm, is \"xen\"");
  EXPECT_EQ(GlobalError({"--root=/r", "--network", "x"}), "--network: must be sandbox, host or none, is \"x\"");
  EXPECT_EQ(GlobalError({"--root=/r", "--file-access=x"}), "--file-access: must be exclusive or shared, is \"x\"");
  EXPECT_EQ(GlobalError({"--root=/r", "--log-format=x"}), "--log-format: must be text or json, is \"x\"");
  EXPECT_EQ(GlobalError({"--root=/r", "--host-uds=x"}), "--host-uds: must be none, open, create or all, is \"x\"");
}

TEST(GlobalFlags, Overlay2) {
  Config config;
  ASSERT_TRUE(ParseOverlay2("all:dir=/a,b,size=2k", &config).ok());
  EXPECT_TRUE(config.overlay_root && config.overlay_all);
  EXPECT_EQ(config.overlay_medium, "/a,b");
  EXPECT_EQ(config.overlay_size, 2048u);
  ASSERT_TRUE(ParseOverlay2("none", &config).ok());
  EXPECT_FALSE(config.overlay_root || config.overlay_all);
  ASSERT_TRUE(ParseOverlay2("root:memory", &config).ok());
  EXPECT_TRUE(config.overlay_root && !config.overlay_all);
  for (const char* bad :
       {"", "root", "root:", "some:self", "root:dir=x", "root:memory,size=-1", "root:memory,size=99999999t"}) {
    EXPECT_FALSE(ParseOverlay2(bad, &config).ok()) << bad;
  }
}

TEST(GlobalFlags, LogPatterns) {
  EXPECT_EQ(ExpandLogPath("/l/", "T", "boot", "c1"), "/l/runsc.log.T.boot.txt");
  EXPECT_EQ(ExpandLogPath("/l/%ID%-%COMMAND%.%TIMESTAMP%", "T", "boot", "c1"), "/l/c1-boot.T");
  EXPECT_EQ(ExpandLogPath("/l/file", "T", "boot", "c1"), "/l/file");
}

}  // namespace
}  // namespace runsc
