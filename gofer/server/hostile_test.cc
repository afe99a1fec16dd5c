// SPDX-License-Identifier: Apache-2.0
// A sentry that was taken over: whatever it sends, the gofer answers with an error or hangs up, and other connections
// and the host's files outside the tree are not affected.
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "gofer/protocol/codec.h"
#include "gofer/protocol/host_transport.h"
#include "gofer/testing/served_dir.h"
#include "gtest/gtest.h"

namespace gofer {
namespace {

constexpr uint64_t kRoot = 1;  // the first id

// The client's end, without the client.
class Raw {
 public:
  explicit Raw(ServedDir& served) : socket_(served.raw_socket()) {}

  // The reply's code, or -1 when the server hung up.
  int Call(uint16_t code, const std::vector<uint8_t>& body, const std::vector<int>& fds = {}) {
    if (!SendPacket(socket_, code, ++tag_, body, fds).ok()) return -1;
    reply_ = ReceivePacket(socket_, buffer_, true);
    if (!reply_.ok()) return -1;
    EXPECT_EQ(reply_->header.tag, tag_);
    if (reply_->header.code != 0) {
      EXPECT_TRUE(reply_->payload.empty());
      EXPECT_TRUE(reply_->fds.empty());
    }
    return reply_->header.code;
  }
  template <typename T>
  int Call(Op op, const T& request, std::initializer_list<std::string_view> strings = {}) {
    std::vector<uint8_t> body(sizeof request);
    memcpy(body.data(), &request, sizeof request);
    for (std::string_view s : strings) {
      body.push_back(s.size() & 0xff);
      body.push_back(s.size() >> 8);
      body.insert(body.end(), s.begin(), s.end());
    }
    return Call(static_cast<uint16_t>(op), body);
  }
  // The bits of the tags above the counter.
  void SetTagHint(uint64_t hint) { tag_ = hint << kTagCpuShift | 100; }
  int Mount() { return Call(Op::kMount, MountRequest{.version = kProtocolVersion}); }
  std::span<const uint8_t> payload() const { return reply_->payload; }

 private:
  int socket_;
  uint64_t tag_ = 100;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(kMaxMessage);
  base::Result<Packet> reply_{base::Errno(EIO)};
};

TEST(Hostile, NothingWorksBeforeMountAndMountWorksOnce) {
  ServedDir served;
  Raw raw(served);
  for (uint16_t op = 2; op < static_cast<uint16_t>(Op::kEnd); ++op) {
    if (op == static_cast<uint16_t>(Op::kOpenChannel)) continue;
    EXPECT_EQ(raw.Call(op, {}), ENOTCONN) << op;
  }
  EXPECT_EQ(raw.Call(Op::kMount, MountRequest{.version = 99}), EPROTO);
  EXPECT_EQ(raw.Mount(), 0);
  EXPECT_EQ(raw.Mount(), EBUSY);
}

TEST(Hostile, UnknownOperationsAreEnosys) {
  ServedDir served;
  Raw raw(served);
  ASSERT_EQ(raw.Mount(), 0);
  for (int op : {0, static_cast<int>(Op::kEnd), 1000, 0xffff}) EXPECT_EQ(raw.Call(op, {}), ENOSYS) << op;
}

TEST(Hostile, EveryRequestChecksItsLength) {
  ServedDir served;
  Raw raw(served);
  ASSERT_EQ(raw.Mount(), 0);
  for (uint16_t op = static_cast<uint16_t>(Op::kWalk); op < static_cast<uint16_t>(Op::kEnd); ++op) {
    EXPECT_EQ(raw.Call(op, {}), EINVAL) << op;
    EXPECT_EQ(raw.Call(op, {1, 0, 0}), EINVAL) << op;
    EXPECT_NE(raw.Call(op, std::vector<uint8_t>(kMaxPayload, 0xff)), 0) << op;
    std::vector<uint8_t> zeros(kMaxPayload, 0);
    int code = raw.Call(op, zeros);
    EXPECT_TRUE(code == EINVAL || code == ENOENT) << op << " " << code;
  }
  EXPECT_EQ(raw.Call(Op::kWalk, WalkRequest{.dir = kRoot, .count = 2}, {"one"}), EINVAL);
  EXPECT_EQ(raw.Call(Op::kWalk, WalkRequest{.dir = kRoot, .count = UINT32_MAX}, {"one"}), EINVAL);
  EXPECT_EQ(raw.Call(Op::kForget, ForgetRequest{.count = UINT32_MAX}), EINVAL);
  EXPECT_EQ(raw.Call(Op::kForget, ForgetRequest{.count = 3}), EINVAL);
}

TEST(Hostile, BadIdsAreEnoent) {
  ServedDir served;
  Raw raw(served);
  ASSERT_EQ(raw.Mount(), 0);
  for (uint64_t id : {uint64_t{0}, uint64_t{2}, UINT64_MAX}) {
    for (Op op : {Op::kGetAttr, Op::kReadLink, Op::kOpenDir, Op::kCloseDir, Op::kListDir, Op::kStatFs, Op::kListXattr,
                  Op::kSyncFs}) {
      EXPECT_EQ(raw.Call(op, NodeRequest{id}), ENOENT);
    }
    for (Op op : {Op::kUnlink, Op::kRmdir}) EXPECT_EQ(raw.Call(op, NodeRequest{id}, {"x"}), ENOENT);
    EXPECT_EQ(raw.Call(Op::kOpen, OpenRequest{.node = id}), ENOENT);
    EXPECT_EQ(raw.Call(Op::kLink, LinkRequest{.node = kRoot, .dir = id}, {"x"}), EPERM);
    EXPECT_EQ(raw.Call(Op::kRename, RenameRequest{.old_dir = kRoot, .new_dir = id}, {"x", "y"}), ENOENT);
    EXPECT_EQ(raw.Call(Op::kReadDir, ReadDirRequest{.handle = id}), ENOENT);
  }
}

TEST(Hostile, BadNamesNeverReachTheHost) {
  ServedDir served;
  Raw raw(served);
  ASSERT_EQ(raw.Mount(), 0);
  std::string long_name(256, 'x');
  using namespace std::string_view_literals;
  for (std::string_view name :
       {""sv, "."sv, ".."sv, "/"sv, "a/b"sv, "../x"sv, "a\0b"sv, "\0"sv, std::string_view(long_name)}) {
    int want = name.size() > 255 ? ENAMETOOLONG : EINVAL;
    for (Op op : {Op::kCreate, Op::kMkdir}) {
      EXPECT_EQ(raw.Call(op, MakeRequest{.dir = kRoot, .uid = kKeepId, .gid = kKeepId}, {name}), want) << name;
    }
    EXPECT_EQ(raw.Call(Op::kSymlink, MakeRequest{.dir = kRoot}, {name, "t"}), want);
    EXPECT_EQ(raw.Call(Op::kMknod, MakeRequest{.dir = kRoot, .mode = S_IFIFO}, {name}), want);
    EXPECT_EQ(raw.Call(Op::kLink, LinkRequest{.node = kRoot, .dir = kRoot}, {name}), want);
    EXPECT_EQ(raw.Call(Op::kUnlink, NodeRequest{kRoot}, {name}), want);
    EXPECT_EQ(raw.Call(Op::kRmdir, NodeRequest{kRoot}, {name}), want);
    EXPECT_EQ(raw.Call(Op::kRename, RenameRequest{.old_dir = kRoot, .new_dir = kRoot}, {name, "x"}), want);
    EXPECT_EQ(raw.Call(Op::kRename, RenameRequest{.old_dir = kRoot, .new_dir = kRoot}, {"x", name}), want);
    ASSERT_EQ(raw.Call(Op::kWalk, WalkRequest{.dir = kRoot, .count = 1}, {name}), 0);
    WalkReply walk = Reader(raw.payload()).Get<WalkReply>();
    EXPECT_EQ(walk.found, 0u);
    EXPECT_EQ(walk.stop_errno, static_cast<uint32_t>(want));
  }
  EXPECT_EQ(raw.Call(Op::kSymlink, MakeRequest{.dir = kRoot}, {"s", std::string(4096, 't')}), ENAMETOOLONG);
  EXPECT_EQ(raw.Call(Op::kSymlink, MakeRequest{.dir = kRoot}, {"s", ""}), ENOENT);
  EXPECT_EQ(raw.Call(Op::kMkdir, MakeRequest{.dir = kRoot, .mode = 0x10000}, {"d"}), EINVAL);
  EXPECT_EQ(raw.Call(Op::kCreate, MakeRequest{.dir = kRoot, .flags = O_PATH}, {"f"}), EINVAL);
  EXPECT_EQ(raw.Call(Op::kSetXattr, SetXattrRequest{.node = kRoot, .flags = 7}, {"user.x", "v"}), EINVAL);
}

// The CPUs that threads of this process other than the caller may run on, where it is only one.
std::multiset<std::string> PinnedThreads() {
  std::multiset<std::string> found;
  DIR* tasks = opendir("/proc/self/task");
  while (dirent* entry = readdir(tasks)) {
    std::ifstream status(std::string("/proc/self/task/") + entry->d_name + "/status");
    for (std::string line; std::getline(status, line);) {
      if (!line.starts_with("Cpus_allowed_list:\t")) continue;
      std::string list = line.substr(line.find('\t') + 1);
      if (list.find_first_of(",-") == std::string::npos) found.insert(list);
    }
  }
  closedir(tasks);
  return found;
}

TEST(Hostile, CpuHintsAreFollowedWhenTheyCanBe) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  if (CPU_COUNT(&allowed) < 2) GTEST_SKIP() << "every thread is on one CPU";
  int cpu = 0;
  while (!CPU_ISSET(cpu, &allowed)) ++cpu;
  ServedDir served;
  Raw raw(served);
  ASSERT_EQ(raw.Mount(), 0);
  const auto before = PinnedThreads();
  raw.SetTagHint(static_cast<uint64_t>(cpu) + 1);
  EXPECT_EQ(raw.Call(Op::kGetAttr, NodeRequest{kRoot}), 0);
  EXPECT_EQ(PinnedThreads(), before) << "after one request";
  EXPECT_EQ(raw.Call(Op::kGetAttr, NodeRequest{kRoot}), 0);
  auto after = before;
  after.insert(std::to_string(cpu));
  EXPECT_EQ(PinnedThreads(), after);
  for (uint64_t hint : {kMaxTagCpu, uint64_t{5000}, uint64_t{0}, uint64_t{3}, kMaxTagCpu}) {
    raw.SetTagHint(hint);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(raw.Call(Op::kGetAttr, NodeRequest{kRoot}), 0);
  }
}

TEST(Hostile, UndelegatedFdsEndTheConnection) {
  ServedDir served;
  Raw raw(served);
  ASSERT_EQ(raw.Mount(), 0);
  EXPECT_EQ(raw.Call(static_cast<uint16_t>(Op::kGetAttr), std::vector<uint8_t>(8, 0), {STDIN_FILENO}), -1);
  EXPECT_TRUE(served.Finish().ok());
}

TEST(Hostile, BrokenFramesEndTheConnection) {
  std::vector<uint8_t> short_frame(7, 0), lying(64, 0), claims_fds(16, 0), oversized(kMaxMessage + 1, 0);
  lying[0] = 63;
  claims_fds[0] = 16;
  claims_fds[6] = 1;
  for (const auto& frame : {short_frame, lying, claims_fds, oversized}) {
    ServedDir served;
    Raw raw(served);
    ASSERT_EQ(raw.Mount(), 0);
    ASSERT_EQ(send(served.raw_socket(), frame.data(), frame.size(), MSG_NOSIGNAL), static_cast<ssize_t>(frame.size()));
    EXPECT_EQ(raw.Call(Op::kGetAttr, NodeRequest{kRoot}), -1);
    EXPECT_TRUE(served.Finish().ok());
  }
}

TEST(Hostile, ChannelsAreBounded) {
  ServedDir served;
  Raw raw(served);
  for (int i = 1; i < kMaxChannels; ++i) EXPECT_EQ(raw.Call(static_cast<uint16_t>(Op::kOpenChannel), {}), 0);
  EXPECT_EQ(raw.Call(static_cast<uint16_t>(Op::kOpenChannel), {}), ENFILE);
  EXPECT_EQ(raw.Mount(), 0);
}

TEST(Hostile, ServerEndsThoughRepliesAreNeverRead) {
  ServedDir served;
  Raw raw(served);
  ASSERT_EQ(raw.Mount(), 0);
  // Until the server's send buffer is full and its thread blocks; then ours fills as well.
  std::vector<uint8_t> body(8, 0);
  body[0] = kRoot;
  MessageHeader header{.length = 24, .code = static_cast<uint16_t>(Op::kGetAttr)};
  std::vector<uint8_t> packet(24);
  memcpy(packet.data(), &header, sizeof header);
  memcpy(packet.data() + 16, body.data(), 8);
  for (int i = 0; i < 100000; ++i) {
    if (send(served.raw_socket(), packet.data(), packet.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) break;
  }
  EXPECT_TRUE(served.Finish().ok());
}

// How many 8-byte words and strings each request has, from kWalk on.
struct Shape {
  uint8_t words;
  uint8_t strings;
};
constexpr Shape kShapes[] = {
    {2, 1}, {1, 0}, {8, 0}, {2, 0}, {4, 1}, {4, 1}, {4, 2}, {4, 1}, {2, 1}, {1, 1}, {1, 1}, {3, 2},
    {1, 0}, {1, 0}, {2, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 1}, {2, 2}, {1, 0}, {1, 1}, {1, 0}, {1, 0},
};
static_assert(std::size(kShapes) == static_cast<size_t>(Op::kEnd) - static_cast<size_t>(Op::kWalk));

// Valid frames with random operations, ids and bodies, partly well-formed so that they get past the parser. Bounded by
// a count and by time. GOFER_FUZZ_COUNT and GOFER_FUZZ_SEED repeat or lengthen a run.
TEST(Hostile, RandomMessages) {
  const char* count_text = getenv("GOFER_FUZZ_COUNT");
  const char* seed_text = getenv("GOFER_FUZZ_SEED");
  int count = count_text ? atoi(count_text) : 1'000'000;
  uint32_t seed = seed_text ? strtoul(seed_text, nullptr, 0) : std::random_device()();
  SCOPED_TRACE("GOFER_FUZZ_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  TempDir outer;
  ASSERT_EQ(mkdir(outer.Path("tree").c_str(), 0755), 0);
  outer.Write("outside", "untouched");
  ServedDir served(outer.Path("tree"), {.max_nodes = 500, .max_fds = 100});
  Raw raw(served);
  ASSERT_EQ(raw.Mount(), 0);
  const std::string names[] = {"a",
                               "b",
                               "c",
                               "..",
                               "../outside",
                               ".",
                               "",
                               "dir",
                               std::string(255, 'n'),
                               std::string("a\0", 2),
                               "user.x",
                               "/etc/passwd",
                               "outside"};
  int64_t deadline = base::MonotonicNs() + 8 * base::kNsPerSecond;
  int succeeded = 0;
  std::vector<uint8_t> body(kMaxPayload);
  int sent = 0;
  for (; sent < count && (count_text || base::MonotonicNs() < deadline); ++sent) {
    Writer w(body);
    uint16_t op = 2 + random() % static_cast<uint16_t>(Op::kEnd);
    if (op == static_cast<uint16_t>(Op::kSyncFs)) continue;  // slow, and slows down its neighbours
    Shape shape{static_cast<uint8_t>(random() % 10), static_cast<uint8_t>(random() % 3)};
    size_t known = op - static_cast<size_t>(Op::kWalk);
    if (op >= static_cast<uint16_t>(Op::kWalk) && known < std::size(kShapes) && random() % 8) shape = kShapes[known];
    for (int k = 0; k < shape.words; ++k) {
      switch (random() % 4) {
        case 0:
          w.Put(uint64_t{random() % 50});
          break;
        case 1:
          w.Put(uint64_t{kRoot});
          break;
        case 2:
          w.Put(uint64_t{random() % 03777} << 32 | random() % 8);
          break;
        default:
          w.Put(uint64_t{random()} << 32 | random());
      }
    }
    for (int k = 0; k < shape.strings; ++k) w.PutString(names[random() % std::size(names)]);
    if (random() % 16 == 0) {
      for (size_t k = random() % 64; k > 0; --k) w.Put(static_cast<uint8_t>(random()));
    }
    if (!w.written().empty() && random() % 8 == 0) body[random() % w.written().size()] ^= 1 << (random() % 8);
    int code = raw.Call(op, {w.written().begin(), w.written().end()});
    ASSERT_GE(code, 0) << "hung up at " << sent << ", operation " << op;
    ASSERT_LT(code, 512);
    succeeded += code == 0;
  }
  RecordProperty("succeeded", succeeded);
  RecordProperty("sent", sent);
  EXPECT_GT(succeeded, 0);
  EXPECT_EQ(raw.Call(Op::kGetAttr, NodeRequest{0}), ENOENT);
  EXPECT_EQ(outer.Read("outside"), "untouched");
}

}  // namespace
}  // namespace gofer
