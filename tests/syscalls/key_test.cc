// SPDX-License-Identifier: Apache-2.0
// add_key(2), request_key(2), keyctl(2), /proc/keys, /proc/key-users. Every test is in a session keyring of its own.
#include <linux/keyctl.h>
#include <sys/syscall.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

namespace {

constexpr uid_t kNobody = 65534;
constexpr int kSession = KEY_SPEC_SESSION_KEYRING;

long Keyctl(int operation, long a = 0, long b = 0, long c = 0, long d = 0) {
  return syscall(SYS_keyctl, operation, a, b, c, d);
}
long P(const void* pointer) { return reinterpret_cast<long>(pointer); }
int AddKey(const char* type, const char* description, const std::string& payload, int ring = kSession) {
  return static_cast<int>(syscall(SYS_add_key, type, description, payload.data(), payload.size(), ring));
}
int AddRing(const char* name, int ring = kSession) {
  return static_cast<int>(syscall(SYS_add_key, "keyring", name, nullptr, 0, ring));
}
std::string Read(int key) {
  std::string data(4096, '\0');
  long n = Keyctl(KEYCTL_READ, key, P(data.data()), static_cast<long>(data.size()));
  if (n < 0) return strerrorname_np(errno);
  return data.substr(0, static_cast<size_t>(n));
}
std::string Describe(int key) {
  char text[512] = {};
  long n = Keyctl(KEYCTL_DESCRIBE, key, P(text), sizeof text);
  if (n < 0) return strerrorname_np(errno);
  return std::string(text, static_cast<size_t>(n - 1));
}
int Request(const char* type, const char* description, int ring = 0) {
  return static_cast<int>(syscall(SYS_request_key, type, description, nullptr, ring));
}

class Keys : public testing::Test {
 protected:
  void SetUp() override {
    if (Keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0) < 0) GTEST_SKIP() << "no keyrings here: " << strerror(errno);
  }
};

TEST_F(Keys, AddReadUpdate) {
  int key = AddKey("user", "one", "payload");
  ASSERT_OK(key);
  EXPECT_EQ(Read(key), "payload");
  EXPECT_EQ(AddKey("user", "one", "changed"), key);
  EXPECT_EQ(Read(key), "changed");
  ASSERT_OK(Keyctl(KEYCTL_UPDATE, key, P("again"), 5));
  EXPECT_EQ(Read(key), "again");
  char small[2] = {'.', '.'};
  EXPECT_EQ(Keyctl(KEYCTL_READ, key, P(small), 2), 5);
  EXPECT_EQ(small[0], '.');
  EXPECT_EQ(Keyctl(KEYCTL_READ, key, 0, 0), 5);
  EXPECT_EQ(Describe(key), "user;" + std::to_string(geteuid()) + ";" + std::to_string(getegid()) + ";3f010000;one");
  EXPECT_EQ(Request("user", "one"), key);
  EXPECT_FAILS(ENOKEY, Request("user", "two"));
}

TEST_F(Keys, BadArguments) {
  EXPECT_FAILS(EINVAL, AddKey("user", "empty", ""));
  EXPECT_FAILS(EINVAL, AddKey("user", "big", std::string(32768, 'x')));
  EXPECT_FAILS(EINVAL, AddKey("user", "", "x"));
  EXPECT_FAILS(EINVAL, AddKey("", "x", "x"));
  EXPECT_FAILS(EPERM, AddKey(".hidden", "x", "x"));
  EXPECT_FAILS(ENODEV, AddKey("nosuchtype", "x", "x"));
  EXPECT_FAILS(EINVAL, AddKey(std::string(40, 't').c_str(), "x", "x"));
  EXPECT_FAILS(EPERM, AddRing(".ring"));
  EXPECT_FAILS(EINVAL, AddKey("keyring", "ring", "payload"));
  EXPECT_FAILS(EINVAL, AddKey("logon", "nocolon", "x"));
  EXPECT_FAILS(EFAULT, syscall(SYS_add_key, 8, "x", "x", 1, kSession));
  EXPECT_FAILS(EFAULT, syscall(SYS_add_key, "user", 8, "x", 1, kSession));
  EXPECT_FAILS(EFAULT, syscall(SYS_add_key, "user", "x", 8, 1, kSession));
  EXPECT_FAILS(EINVAL, syscall(SYS_add_key, "user", "x", "x", 1 << 20, kSession));
  EXPECT_FAILS(EINVAL, syscall(SYS_add_key, "user", "x", "x", SIZE_MAX, kSession));
  EXPECT_FAILS(EINVAL, AddKey("user", "x", "x", 0));
  EXPECT_FAILS(EINVAL, AddKey("user", "x", "x", -99));
  EXPECT_FAILS(ENOKEY, AddKey("user", "x", "x", 0x7ffffffe));
  int key = AddKey("user", "x", "x");
  EXPECT_FAILS(ENOTDIR, AddKey("user", "y", "x", key));
  EXPECT_FAILS(EINVAL, Keyctl(KEYCTL_UPDATE, key, P("x"), 5000));
  EXPECT_FAILS(EFAULT, Keyctl(KEYCTL_UPDATE, key, 8, 5));
  EXPECT_FAILS(EFAULT, Keyctl(KEYCTL_READ, key, 8, 100));
  EXPECT_FAILS(EFAULT, Keyctl(KEYCTL_DESCRIBE, key, 8, 100));
  EXPECT_FAILS(ENOKEY, Keyctl(KEYCTL_READ, 0x7ffffffe, 0, 0));
  EXPECT_FAILS(EOPNOTSUPP, Keyctl(9999));
  EXPECT_FAILS(EOPNOTSUPP, Keyctl(-1));
  EXPECT_FAILS(EFAULT, syscall(SYS_request_key, 8, "x", nullptr, 0));
  EXPECT_FAILS(EFAULT, syscall(SYS_request_key, "user", 8, nullptr, 0));
}

TEST_F(Keys, LogonCannotBeRead) {
  int key = AddKey("logon", "service:name", "secret");
  ASSERT_OK(key);
  EXPECT_EQ(Read(key), "EOPNOTSUPP");
  EXPECT_NE(Describe(key).find(";3d010000;service:name"), std::string::npos);
}

TEST_F(Keys, LinkAndUnlink) {
  int ring = AddRing("inner");
  ASSERT_OK(ring);
  int key = AddKey("user", "deep", "d", ring);
  ASSERT_OK(key);
  EXPECT_EQ(Read(ring), std::string(reinterpret_cast<char*>(&key), 4));
  EXPECT_EQ(Request("user", "deep"), key);
  EXPECT_EQ(Keyctl(KEYCTL_SEARCH, kSession, P("user"), P("deep"), 0), key);
  ASSERT_OK(Keyctl(KEYCTL_LINK, key, kSession));
  ASSERT_OK(Keyctl(KEYCTL_UNLINK, key, ring));
  EXPECT_EQ(Read(ring), "");
  EXPECT_EQ(Read(key), "d");
  EXPECT_FAILS(ENOENT, Keyctl(KEYCTL_UNLINK, key, ring));
  EXPECT_FAILS(ENOTDIR, Keyctl(KEYCTL_LINK, ring, key));
  // Without any link it is gone, at once or soon.
  ASSERT_OK(Keyctl(KEYCTL_UNLINK, key, kSession));
  bool gone = false;
  for (int i = 0; i < 5000 && !gone; ++i) {
    gone = Keyctl(KEYCTL_READ, key, 0, 0) == -1 && (errno == ENOKEY || errno == EACCES);
    if (!gone) usleep(1000);
  }
  EXPECT_TRUE(gone);
}

TEST_F(Keys, NoCycles) {
  int a = AddRing("a");
  int b = AddRing("b", a);
  EXPECT_FAILS(EDEADLK, Keyctl(KEYCTL_LINK, a, b));
  EXPECT_FAILS(EDEADLK, Keyctl(KEYCTL_LINK, a, a));
}

TEST_F(Keys, LongChainsEnd) {
  int first = AddRing("chain"), at = first;
  for (int i = 0; i < 150; ++i) {
    int next = AddRing("next");
    // Deep down it is not possessed any more.
    ASSERT_OK(Keyctl(KEYCTL_SETPERM, next, 0x3f3f0000));
    ASSERT_OK(Keyctl(KEYCTL_LINK, next, at));
    ASSERT_OK(Keyctl(KEYCTL_UNLINK, next, kSession));
    at = next;
  }
  EXPECT_FAILS(ELOOP, Keyctl(KEYCTL_LINK, first, AddRing("other")));
  EXPECT_OK(Keyctl(KEYCTL_CLEAR, kSession));
}

TEST_F(Keys, RevokeTimeoutInvalidate) {
  int key = AddKey("user", "r", "x");
  ASSERT_OK(Keyctl(KEYCTL_REVOKE, key));
  EXPECT_EQ(Read(key), "EKEYREVOKED");
  EXPECT_FAILS(EKEYREVOKED, Request("user", "r"));
  int fresh = AddKey("user", "r", "y");
  EXPECT_NE(fresh, key);
  EXPECT_EQ(Read(fresh), "y");
  ASSERT_OK(Keyctl(KEYCTL_SET_TIMEOUT, fresh, 1));
  std::string got;
  for (int i = 0; i < 10000 && (got = Read(fresh)) == "y"; ++i) usleep(1000);
  EXPECT_EQ(got, "EKEYEXPIRED");
  int third = AddKey("user", "i", "z");
  ASSERT_OK(Keyctl(KEYCTL_INVALIDATE, third));
  EXPECT_EQ(Read(third), "ENOKEY");
  EXPECT_EQ(Request("user", "i"), -1);
  EXPECT_TRUE(errno == ENOKEY || errno == EKEYREVOKED) << errno;  // collected already, or not yet
}

TEST_F(Keys, Permissions) {
  int key = AddKey("user", "p", "x");
  ASSERT_OK(Keyctl(KEYCTL_SETPERM, key, 0x3b000000));  // the possessor may not write
  EXPECT_FAILS(EACCES, Keyctl(KEYCTL_UPDATE, key, P("y"), 1));
  EXPECT_EQ(Read(key), "x");
  EXPECT_FAILS(EINVAL, Keyctl(KEYCTL_SETPERM, key, 0x40000000));
  ASSERT_OK(Keyctl(KEYCTL_SETPERM, key, 0x28000000));
  EXPECT_EQ(Describe(key), "EACCES");
  EXPECT_EQ(Read(key), "x");  // who possesses it and may find it may read it
  ASSERT_OK(Keyctl(KEYCTL_SETPERM, key, 0x3f3f0000));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(setresuid(kNobody, kNobody, kNobody) == 0);
              // Still possessed through the session.
              CHILD_CHECK(Read(key) == "x");
              CHILD_CHECK(Keyctl(KEYCTL_SETPERM, key, 0x3f3f3f3f) == -1 && errno == EACCES);
              CHILD_CHECK(Keyctl(KEYCTL_CHOWN, key, kNobody, -1) == -1 && errno == EACCES);
              CHILD_CHECK(Keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0) > 0);
              CHILD_CHECK(Read(key) == "EACCES");
              CHILD_CHECK(Describe(key) == "EACCES");
            }),
            Exited(0));
  ASSERT_OK(Keyctl(KEYCTL_CHOWN, key, kNobody, kNobody));
  EXPECT_EQ(Describe(key), "user;65534;65534;3f3f0000;p");
}

TEST_F(Keys, SpecialKeyrings) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(Keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 0) == -1 && errno == ENOKEY);
              long thread = Keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 1);
              long process = Keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1);
              CHILD_CHECK(thread > 0 && process > 0 && thread != process);
              long user = Keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 0);
              long user_session = Keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_SESSION_KEYRING, 0);
              CHILD_CHECK(user > 0 && user_session > 0);
              CHILD_CHECK(Describe(static_cast<int>(user)).ends_with("_uid.0"));
              CHILD_CHECK(Describe(static_cast<int>(user_session)).ends_with("_uid_ses.0"));
              CHILD_CHECK(Keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_GROUP_KEYRING, 0) == -1 && errno == EINVAL);
              int key = AddKey("user", "in process", "x", KEY_SPEC_PROCESS_KEYRING);
              CHILD_CHECK(Request("user", "in process") == key);
              // Children have neither.
              CHILD_CHECK(RunInChild([&] {
                            CHILD_CHECK(Keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0) == -1);
                            CHILD_CHECK(Request("user", "in process") == -1 && errno == ENOKEY);
                          }) == Exited(0));
              std::thread([&] {
                CHILD_CHECK(Keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0) == process);
                long own = Keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 0);
                CHILD_CHECK(own > 0 && own != thread);  // as its creator had one
              }).join();
            }),
            Exited(0));
}

TEST_F(Keys, Sessions) {
  long mine = Keyctl(KEYCTL_GET_KEYRING_ID, kSession, 0);
  ASSERT_OK(mine);
  int key = AddKey("user", "shared", "x");
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Keyctl(KEYCTL_GET_KEYRING_ID, kSession, 0) == mine);
              CHILD_CHECK(Request("user", "shared") == key);
              long fresh = Keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0);
              CHILD_CHECK(fresh > 0 && fresh != mine);
              CHILD_CHECK(Request("user", "shared") == -1 && errno == ENOKEY);
              std::string name = "named-" + std::to_string(getpid());
              long named = Keyctl(KEYCTL_JOIN_SESSION_KEYRING, P(name.c_str()));
              CHILD_CHECK(named > 0);
              CHILD_CHECK(Keyctl(KEYCTL_JOIN_SESSION_KEYRING, P(".bad")) == -1 && errno == EPERM);
              CHILD_CHECK(Keyctl(KEYCTL_JOIN_SESSION_KEYRING, 8) == -1 && errno == EFAULT);
              CHILD_CHECK(RunInChild([&] { execl("/bin/true", "true", nullptr); }) == Exited(0));
            }),
            Exited(0));
  EXPECT_EQ(Keyctl(KEYCTL_GET_KEYRING_ID, kSession, 0), mine);
}

TEST_F(Keys, Persistent) {
  long ring = Keyctl(KEYCTL_GET_PERSISTENT, -1, kSession);
  if (ring == -1 && errno == EOPNOTSUPP) GTEST_SKIP() << "CONFIG_PERSISTENT_KEYRINGS is off";
  ASSERT_OK(ring);
  EXPECT_TRUE(Describe(static_cast<int>(ring)).ends_with("_persistent.0"));
  EXPECT_EQ(Keyctl(KEYCTL_GET_PERSISTENT, -1, kSession), ring);
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(setresuid(kNobody, kNobody, kNobody) == 0);
              CHILD_CHECK(Keyctl(KEYCTL_GET_PERSISTENT, 0, kSession) == -1 && errno == EPERM);
            }),
            Exited(0));
}

TEST_F(Keys, Move) {
  int a = AddRing("from"), b = AddRing("to");
  int key = AddKey("user", "m", "x", a);
  long moved = Keyctl(KEYCTL_MOVE, key, a, b, 0);
  if (moved == -1 && errno == EOPNOTSUPP) GTEST_SKIP() << "Linux before 5.3";
  ASSERT_OK(moved);
  EXPECT_EQ(Read(a), "");
  EXPECT_EQ(Read(b).size(), 4u);
  EXPECT_FAILS(ENOENT, Keyctl(KEYCTL_MOVE, key, a, b, 0));
  AddKey("user", "m", "other", a);
  EXPECT_FAILS(EEXIST, Keyctl(KEYCTL_MOVE, key, b, a, KEYCTL_MOVE_EXCL));
  EXPECT_FAILS(EINVAL, Keyctl(KEYCTL_MOVE, key, b, a, 2));
}

TEST_F(Keys, Quota) {
  EXPECT_EQ(RunInChild([] {
              CHILD_CHECK(setresuid(4243, 4243, 4243) == 0);
              CHILD_CHECK(Keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0) > 0);
              int made = 0;
              for (; made < 1000; ++made) {
                if (AddKey("user", ("q" + std::to_string(made)).c_str(), "x") < 0) break;
              }
              CHILD_CHECK(errno == EDQUOT);
              CHILD_CHECK(made > 150 && made <= 200);
              CHILD_CHECK(Keyctl(KEYCTL_CLEAR, kSession) == 0);
              std::string big(19000, 'b');
              int key = -1;
              for (int i = 0; i < 5000 && key < 0; ++i) {
                key = AddKey("user", "big", big);  // Linux collects the others a little later
                if (key < 0) usleep(1000);
              }
              CHILD_CHECK(key > 0);
              CHILD_CHECK(AddKey("user", "big2", big) == -1 && errno == EDQUOT);
            }),
            Exited(0));
}

TEST_F(Keys, Odds) {
  int key = AddKey("user", "o", "x");
  char label[8] = {1};
  EXPECT_GE(Keyctl(KEYCTL_GET_SECURITY, key, P(label), sizeof label), 1);
  EXPECT_FAILS(EPERM, Keyctl(KEYCTL_INSTANTIATE, key, P("x"), 1, 0));
  EXPECT_EQ(Keyctl(KEYCTL_ASSUME_AUTHORITY, 0), 0);
  EXPECT_EQ(
      RunInChild([] {
        CHILD_CHECK(Keyctl(KEYCTL_SET_REQKEY_KEYRING, KEY_REQKEY_DEFL_NO_CHANGE) == 0);
        CHILD_CHECK(Keyctl(KEYCTL_SET_REQKEY_KEYRING, KEY_REQKEY_DEFL_SESSION_KEYRING) == 0);
        CHILD_CHECK(Keyctl(KEYCTL_SET_REQKEY_KEYRING, KEY_REQKEY_DEFL_NO_CHANGE) == KEY_REQKEY_DEFL_SESSION_KEYRING);
        CHILD_CHECK(Keyctl(KEYCTL_SET_REQKEY_KEYRING, 77) == -1 && errno == EINVAL);
      }),
      Exited(0));
}

TEST_F(Keys, ProcFiles) {
  int key = AddKey("user", "seen", "12345");
  char row[32];
  snprintf(row, sizeof row, "%08x I--Q---", static_cast<unsigned>(key));
  const std::string table = ReadFile("/proc/keys");
  const size_t at = table.find(row);
  ASSERT_NE(at, std::string::npos) << table;
  const std::string line = table.substr(at, table.find('\n', at) - at);
  EXPECT_NE(line.find("perm 3f010000     0     0 user      seen: 5"), std::string::npos) << line;
  EXPECT_NE(ReadFile("/proc/key-users").find("    0: "), std::string::npos);
}

}  // namespace
