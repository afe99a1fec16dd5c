// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "sentry/trace/flag_tables.h"
#include "sentry/trace/format.h"

namespace sentry::trace {
namespace {

// Guest memory is the bytes of `memory`, from kBase on.
class Guest final : public Caller {
 public:
  static constexpr uint64_t kBase = 0x10000;
  const RefPtr<const Credentials>& creds() const override { return creds_; }
  Blocker& blocker() override { return blocker_; }
  Result<void> Block(int64_t) override { return Errno(EAGAIN); }
  Result<void> BlockKillable(int64_t) override { return Errno(EAGAIN); }
  Result<void> CopyInBytes(UserAddr from, void* to, size_t length) override {
    if (from.value() < kBase || from.value() - kBase > memory.size() || length > memory.size() - (from.value() - kBase))
      return Errno(EFAULT);
    memcpy(to, memory.data() + (from.value() - kBase), length);
    return OkResult();
  }
  Result<void> CopyOutBytes(UserAddr, const void*, size_t) override { return Errno(EFAULT); }
  Result<std::string> CopyInString(UserAddr from, size_t limit) override {
    if (from.value() < kBase || from.value() - kBase >= memory.size()) return Errno(EFAULT);
    std::string text = memory.substr(from.value() - kBase);
    size_t end = text.find('\0');
    if (end == std::string::npos || end >= limit) return Errno(end == std::string::npos ? EFAULT : ENAMETOOLONG);
    return text.substr(0, end);
  }
  uint64_t SoftLimit(int) const override { return 0; }
  pid_t CallerTgid() const override { return 1; }
  pid_t CallerTid() const override { return 1; }
  const void* LockOwner() const override { return this; }
  void RaiseSelf(int) override {}
  mode_t umask() const override { return 0; }

  uint64_t Add(const void* data, size_t length) {
    uint64_t at = kBase + memory.size();
    memory.append(static_cast<const char*>(data), length);
    return at;
  }
  template <typename T>
  uint64_t Put(const T& value) {
    return Add(&value, sizeof value);
  }
  uint64_t Text(const char* text) { return Add(text, strlen(text) + 1); }
  std::string memory;

 private:
  RefPtr<const Credentials> creds_;
  Blocker blocker_;
};

class StraceTest : public ::testing::Test {
 protected:
  std::string Show(const char* kinds, std::initializer_list<uint64_t> raw, const Result<int64_t>* result = nullptr,
                   size_t max_string = 32) {
    CallView call{.name = "call", .kinds = kinds, .result = result};
    std::copy(raw.begin(), raw.end(), call.raw);
    return FormatCall(call, guest_, max_string);
  }
  Guest guest_;
};

TEST(TableTest, EveryKindIsKnown) {
  struct Row {
    const char* name;
    const char* kinds;
  };
  static constexpr Row kRows[] = {
#define CALL(number, name, handler, arguments) {#name, arguments},
#define PART(number, name, handler, arguments, note) {#name, arguments},
#define NONE(number, name, error, reason)
#define GONE(number, name, reason)
#include "sentry/syscalls/table_x86_64.inc"
#undef CALL
#undef PART
#undef NONE
#undef GONE
  };
  for (const Row& row : kRows) {
    std::string_view kinds = row.kinds;
    int count = 0;
    while (!kinds.empty()) {
      std::string_view kind = kinds.substr(0, kinds.find(','));
      kinds.remove_prefix(std::min(kinds.size(), kind.size() + 1));
      EXPECT_TRUE(IsKnownKind(kind)) << row.name << ": " << kind;
      ++count;
    }
    EXPECT_LE(count, 6) << row.name;
  }
  EXPECT_FALSE(IsKnownKind("no_such_kind"));
}

TEST_F(StraceTest, PathsAndFlags) {
  uint64_t path = guest_.Text("/etc/passwd");
  EXPECT_EQ(Show("dirfd,path,open_flags,mode", {uint32_t(AT_FDCWD), path, O_RDONLY | O_CLOEXEC, 0644}),
            "call(AT_FDCWD, \"/etc/passwd\", O_RDONLY|O_CLOEXEC)");
  EXPECT_EQ(Show("dirfd,path,open_flags,mode", {3, path, O_RDWR | O_CREAT, 0644}),
            "call(3, \"/etc/passwd\", O_RDWR|O_CREAT, 0644)");
  EXPECT_EQ(Show("path", {5}), "call(0x5)");
  EXPECT_EQ(Show("path", {path}, nullptr, 4), "call(\"/etc\"...)");
  EXPECT_EQ(Show("path", {0}), "call(NULL)");
}

TEST_F(StraceTest, Fcntl) {
  EXPECT_EQ(Show("fd,fcntl,fcntl_arg", {3, F_GETFD, 99}), "call(3, F_GETFD)");
  EXPECT_EQ(Show("fd,fcntl,fcntl_arg", {3, F_SETFD, 1}), "call(3, F_SETFD, FD_CLOEXEC)");
  EXPECT_EQ(Show("fd,fcntl,fcntl_arg", {3, F_SETFL, O_NONBLOCK}), "call(3, F_SETFL, O_RDONLY|O_NONBLOCK)");
  EXPECT_EQ(Show("fd,fcntl,fcntl_arg", {3, F_DUPFD, 10}), "call(3, F_DUPFD, 10)");
  EXPECT_EQ(Show("ofds,fd_flags", {0, O_CLOEXEC}), "call(NULL, O_CLOEXEC)");
}

TEST_F(StraceTest, BitsWithoutNames) {
  EXPECT_EQ(Show("prot", {PROT_READ | 0x40}), "call(PROT_READ|0x40)");
  EXPECT_EQ(Show("prot", {0}), "call(PROT_NONE)");
  EXPECT_EQ(Show("at_flags", {0}), "call(0)");
  EXPECT_EQ(Show("mmap_flags", {MAP_PRIVATE | MAP_ANONYMOUS}), "call(MAP_PRIVATE|MAP_ANONYMOUS)");
  EXPECT_EQ(Show("clone_flags", {CLONE_VM | CLONE_VFORK | SIGCHLD}), "call(SIGCHLD|CLONE_VM|CLONE_VFORK)");
  EXPECT_EQ(Show("futex_op", {128 | 9 | 256}), "call(FUTEX_WAIT_BITSET|FUTEX_PRIVATE_FLAG|FUTEX_CLOCK_REALTIME)");
  EXPECT_EQ(Show("sock_type", {SOCK_DGRAM | SOCK_CLOEXEC}), "call(SOCK_DGRAM|SOCK_CLOEXEC)");
  EXPECT_EQ(Show("signal,ioctl,fcntl", {SIGKILL, 0x5401, 1030}), "call(SIGKILL, TCGETS, F_DUPFD_CLOEXEC)");
  EXPECT_EQ(Show("signal,ioctl", {40, 0x12345678}), "call(40, 0x12345678)");
}

TEST_F(StraceTest, Numbers) {
  EXPECT_EQ(Show("int,int,uint,size,hex,oct", {0xffffffff, uint64_t{1} << 33, 0xffffffff, 7, 0, 0755}),
            "call(-1, 8589934592, 4294967295, 7, 0, 0755)");
}

TEST_F(StraceTest, BuffersAreBounded) {
  uint64_t data = guest_.Add(
      "a\n\"\x01"
      "1\xff",
      6);
  EXPECT_EQ(Show("buf,size", {data, 6}), R"(call("a\n\"\0011\377", 6))");
  EXPECT_EQ(Show("buf,size", {data, 1000000}, nullptr, 3), R"(call("a\n\""..., 1000000))");
  EXPECT_EQ(Show("obuf,size", {data, 6}), "call(0x10000, 6)");
  Result<int64_t> one = int64_t{1}, failed = Errno(EFAULT);
  EXPECT_EQ(Show("obuf,size", {data, 6}, &one), R"(call("a", 6))");
  EXPECT_EQ(Show("obuf,size", {data, 6}, &failed), "call(0x10000, 6)");
  EXPECT_EQ(Show("buf,size", {0xdead0000, 6}), "call(0xdead0000, 6)");
}

TEST_F(StraceTest, Structures) {
  timespec ts = {1, 5};
  EXPECT_EQ(Show("timespec", {guest_.Put(ts)}), "call({tv_sec=1, tv_nsec=5})");
  uint64_t set = 1u << (SIGINT - 1) | uint64_t{1} << 33;
  EXPECT_EQ(Show("sigset", {guest_.Put(set)}), "call([INT RT_2])");
  EXPECT_EQ(Show("sigset", {guest_.Put(~uint64_t{0})}), "call(~[])");
  uint64_t action[] = {1, SA_RESTART, 0, 0};
  EXPECT_EQ(Show("sigaction", {guest_.Put(action)}), "call({sa_handler=SIG_IGN, sa_mask=[], sa_flags=SA_RESTART})");
  Result<int64_t> ok = int64_t{0};
  struct stat st = {};
  st.st_mode = S_IFREG | 0644;
  st.st_size = 12;
  EXPECT_EQ(Show("ostat", {guest_.Put(st)}, &ok), "call({st_mode=S_IFREG|0644, st_size=12, ...})");
  pollfd fd = {.fd = 3, .events = POLLIN, .revents = POLLHUP};
  EXPECT_EQ(Show("pollfds,uint", {guest_.Put(fd), 1}, &ok), "call([{fd=3, events=POLLIN, revents=POLLHUP}], 1)");
  int fds[] = {3, 4};
  EXPECT_EQ(Show("ofds", {guest_.Put(fds)}, &ok), "call([3, 4])");
  uint64_t argv[] = {guest_.Text("ls"), guest_.Text("-l"), 0};
  EXPECT_EQ(Show("argv", {guest_.Put(argv)}), "call([\"ls\", \"-l\"])");
}

TEST_F(StraceTest, SocketAddresses) {
  sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/s"};
  EXPECT_EQ(Show("sockaddr,int", {guest_.Put(un), 5}), "call({sa_family=AF_UNIX, sun_path=\"/s\"}, 5)");
  sockaddr_in in = {};
  in.sin_family = AF_INET;
  in.sin_port = htons(80);
  in.sin_addr.s_addr = htonl(0x7f000001);
  EXPECT_EQ(Show("sockaddr,int", {guest_.Put(in), 16}),
            "call({sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr(\"127.0.0.1\")}, 16)");
  EXPECT_EQ(Show("sockaddr,int", {guest_.Put(in), 1}).find("sa_family"), std::string::npos);
}

TEST_F(StraceTest, HostileCounts) {
  uint64_t data = guest_.Add("abcdefgh", 8);
  Result<int64_t> huge = INT64_MAX;
  EXPECT_NE(Show("obuf,size", {data, UINT64_MAX}, &huge), "");
  EXPECT_NE(Show("iovec,int", {data, UINT64_MAX}, &huge), "");
  EXPECT_NE(Show("pollfds,uint", {data, UINT64_MAX}, &huge), "");
  EXPECT_NE(Show("sockaddr,int", {data, UINT64_MAX}), "");
  EXPECT_NE(Show("argv", {UINT64_MAX - 3}), "");
}

TEST(FormatTest, Results) {
  const auto show = [](const char* name, Result<int64_t> result, uint64_t second = 0) {
    return FormatResult({.name = name, .raw = {0, second}, .result = &result});
  };
  EXPECT_EQ(show("open", 3), "3");
  EXPECT_EQ(show("open", Errno(ENOENT)), "-1 ENOENT (No such file or directory)");
  EXPECT_EQ(show("read", base::kErestartsys), "? ERESTARTSYS");
  EXPECT_EQ(show("mmap", 0x7f0000001000), "0x7f0000001000");
  EXPECT_EQ(show("umask", 022), "022");
  EXPECT_EQ(show("fcntl", 1, F_GETFD), "0x1 (flags FD_CLOEXEC)");
  EXPECT_EQ(show("fcntl", 0, F_GETFD), "0");
  EXPECT_EQ(show("fcntl", O_RDWR | O_NONBLOCK, F_GETFL), "0x802 (flags O_RDWR|O_NONBLOCK)");
  EXPECT_EQ(show("fcntl", 7, F_DUPFD), "7");
}

}  // namespace
}  // namespace sentry::trace
