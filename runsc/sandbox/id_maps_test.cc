// SPDX-License-Identifier: Apache-2.0
#include "runsc/sandbox/id_maps.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace runsc {
namespace {

std::string Text(const std::vector<spec::IdMapping>& map) {
  std::string text;
  for (const spec::IdMapping& m : map) absl::StrAppend(&text, m.container_id, " ", m.host_id, " ", m.size, ";");
  return text;
}

TEST(MapOfRanges, TakesTheUsersLines) {
  const std::string file = "root:1:2\nme:200000:65536\n\nme:1000000:10\n54321:5000:7\nmen:1:1\n";
  EXPECT_EQ(Text(MapOfRanges(file, "me", 54321, 54321)), "0 54321 1;1 200000 65536;65537 1000000 10;65547 5000 7;");
  EXPECT_EQ(Text(MapOfRanges(file, "", 54321, 100)), "0 100 1;1 5000 7;");
  EXPECT_EQ(Text(MapOfRanges(file, "nobody", 7, 7)), "");
}

TEST(MapOfRanges, SkipsWhatIsMalformed) {
  EXPECT_EQ(Text(MapOfRanges("me:1\nme:x:5\nme:1:0\nme:4294967290:10\nme:-1:5\nme:1:2:3\n:1:2\n", "me", 7, 7)), "");
  EXPECT_EQ(Text(MapOfRanges(":1:2\n", "", 7, 7)), "");
  EXPECT_EQ(Text(MapOfRanges("me:10:4294967285\nme:20:30\n", "me", 7, 7)), "0 7 1;1 10 4294967285;");
}

TEST(SetMapByHelper, HasItsWords) {
  absl::Status status = SetMapByHelper("no-such-helper", getpid(), {});
  EXPECT_EQ(status.message(),
            "no-such-helper: not found in PATH: an ordinary user needs it for these ids (Debian: uidmap)");
  status = SetMapByHelper("ls", getpid(), {{.container_id = 1, .host_id = 2, .size = 3}});
  EXPECT_NE(status.message().find("cannot access"), std::string::npos) << status;
}

}  // namespace
}  // namespace runsc
