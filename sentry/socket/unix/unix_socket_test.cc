// SPDX-License-Identifier: Apache-2.0
// AF_UNIX without a kernel: what the native system call tests can't see (cycles, limits, accounting) and the basics.
#include "sentry/socket/unix/unix_socket.h"

#include <fcntl.h>
#include <sys/un.h>

#include <thread>

#include "sentry/socket/environment.h"
#include "sentry/socket/unix/in_flight.h"
#include "sentry/socket/unix/names.h"
#include "sentry/vfs/test_util.h"

namespace sentry::socket {
namespace {

class LimitedCaller : public vfs::FakeCaller {
 public:
  using FakeCaller::FakeCaller;
  uint64_t SoftLimit(int) const override { return limit; }
  uint64_t limit = UINT64_MAX;
};

class UnixSocketTest : public vfs::VfsTest {
 protected:
  UnixSocketTest() : caller_(root_creds_) {
    current_ = this;
    static const bool once = (RegisterUnixSockets(), true);
    EXPECT_TRUE(once);
    SetEnvironment({.caller_pid = [] { return 7; },
                    .pid_seen_by_caller = [](pid_t pid) { return pid; },
                    .net_namespace = [] { return current_->net_namespace_; },
                    .walk = [] { return current_->Root(); }});
  }
  struct Pair {
    vfs::FileRef a, b;
  };
  static Pair NewPair(int type) {
    auto made = FindDomain(AF_UNIX)->create_pair(type, 0, O_NONBLOCK);
    EXPECT_TRUE(made.ok());
    return {made->first, made->second};
  }
  static vfs::FileRef New(int type) { return *FindDomain(AF_UNIX)->create(type, 0, O_NONBLOCK); }
  static Socket& S(const vfs::FileRef& file) { return *file->AsSocket(); }
  static Result<size_t> Send(const vfs::FileRef& to, std::string_view text, std::vector<vfs::FileRef> files = {},
                             std::string address = "") {
    BufferSource source(text.data(), text.size());
    SendRequest request(source);
    request.files = std::move(files);
    request.address = std::move(address);
    return S(to).Send(request);
  }
  struct Got {
    std::string text;
    std::vector<vfs::FileRef> files;
    int error = 0, flags = 0;
    std::optional<Identity> creds;
    std::string address;
  };
  static Got Receive(const vfs::FileRef& from, size_t room = 64, int flags = 0) {
    std::string buffer(room, '\0');
    BufferTarget target(buffer.data(), buffer.size());
    ReceiveRequest request(target, flags);
    request.nonblocking = true;
    auto n = S(from).Receive(request);
    if (!n.ok()) return {.error = n.error_number()};
    return {buffer.substr(0, target.done()),
            std::move(request.files),
            0,
            request.message_flags,
            request.creds,
            request.address};
  }
  static std::string Abstract(std::string_view name) {
    sa_family_t family = AF_UNIX;
    return OptionBytes(&family, sizeof family) + '\0' + std::string(name);
  }
  static std::string InTree(std::string_view path) {
    sa_family_t family = AF_UNIX;
    return OptionBytes(&family, sizeof family) + std::string(path);
  }
  static int Connect(const vfs::FileRef& socket, const std::string& address, WaitOn* wait_on = nullptr) {
    WaitOn ignored;
    return S(socket).Connect(address, true, wait_on ? wait_on : &ignored).error_number();
  }

  static inline UnixSocketTest* current_ = nullptr;
  uint64_t net_namespace_ = 1;
  LimitedCaller caller_;
};

TEST_F(UnixSocketTest, StreamsMergeAndSplit) {
  Pair p = NewPair(SOCK_STREAM);
  ASSERT_EQ(Send(p.a, "abc").value_or(0), 3u);
  ASSERT_EQ(Send(p.a, "def").value_or(0), 3u);
  EXPECT_EQ(Receive(p.b, 4, MSG_PEEK).text, "abcd");
  EXPECT_EQ(Receive(p.b, 4).text, "abcd");
  EXPECT_EQ(Receive(p.b, 4).text, "ef");
  EXPECT_EQ(Receive(p.b).error, EAGAIN);
}

TEST_F(UnixSocketTest, SenderPaysUntilTheDataIsRead) {
  for (int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    Pair p = NewPair(type);
    std::string chunk(1000, 'x');
    size_t sent = 0;
    int error;
    for (;;) {
      auto n = Send(p.a, chunk);
      if (!n.ok()) {
        error = n.error_number();
        break;
      }
      sent += *n;
      ASSERT_LT(sent, 400000u);
    }
    EXPECT_EQ(error, EAGAIN);
    EXPECT_GT(sent, 50000u);
    EXPECT_FALSE(p.a->Poll() & EPOLLOUT);
    while (Receive(p.b, 65536).error == 0) {
    }
    EXPECT_TRUE(p.a->Poll() & EPOLLOUT) << type;
    EXPECT_EQ(static_cast<UnixSocket&>(S(p.a)).endpoint().SentBytes(), 0u);
  }
}

TEST_F(UnixSocketTest, ManyTinySendsDoNotCostManyBlocks) {
  Pair p = NewPair(SOCK_STREAM);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(Send(p.a, "y").value_or(0), 1u);
  EXPECT_LT(static_cast<UnixSocket&>(S(p.a)).endpoint().SentBytes(), 8192u);
  EXPECT_EQ(Receive(p.b, 2000).text.size(), 1000u);
}

TEST_F(UnixSocketTest, CyclesOfDescriptorsAreCollected) {
  ASSERT_EQ(InFlight::Get().count(), 0u);
  {
    Pair p = NewPair(SOCK_STREAM);
    ASSERT_TRUE(Send(p.a, "x", {p.a}).ok());  // b holds a
    ASSERT_TRUE(Send(p.b, "x", {p.b}).ok());  // a holds b
  }
  EXPECT_EQ(InFlight::Get().count(), 2u) << "only the queues know them now";
  { Pair other = NewPair(SOCK_STREAM); }
  EXPECT_EQ(InFlight::Get().count(), 0u);
}

TEST_F(UnixSocketTest, AReachableCycleStays) {
  Pair p = NewPair(SOCK_DGRAM);
  {
    Pair q = NewPair(SOCK_DGRAM);
    ASSERT_TRUE(Send(q.a, "x", {q.a}).ok());
    ASSERT_TRUE(Send(q.b, "x", {q.b}).ok());
    ASSERT_TRUE(Send(p.a, "keep", {q.a}).ok());
  }
  { Pair other = NewPair(SOCK_DGRAM); }
  EXPECT_EQ(InFlight::Get().count(), 3u);
  {
    Got got = Receive(p.b);
    ASSERT_EQ(got.files.size(), 1u);
    EXPECT_EQ(Receive(got.files[0]).files.size(), 1u);
  }
  { Pair other = NewPair(SOCK_DGRAM); }
  EXPECT_EQ(InFlight::Get().count(), 0u);
}

TEST_F(UnixSocketTest, ADescriptorInABacklogIsCollectedWithItsListener) {
  {
    vfs::FileRef listener = New(SOCK_STREAM), client = New(SOCK_STREAM);
    ASSERT_TRUE(S(listener).Bind(Abstract("gc")).ok());
    ASSERT_TRUE(S(listener).Listen(4).ok());
    ASSERT_EQ(Connect(client, Abstract("gc")), 0);
    ASSERT_TRUE(Send(client, "x", {listener}).ok());
  }
  { Pair other = NewPair(SOCK_STREAM); }
  EXPECT_EQ(InFlight::Get().count(), 0u);
  vfs::FileRef again = New(SOCK_STREAM);
  EXPECT_TRUE(S(again).Bind(Abstract("gc")).ok()) << "the name is free";
}

TEST_F(UnixSocketTest, LongChainsOfQueuesEndInLittleStack) {
  vfs::FileRef held = NewPair(SOCK_DGRAM).a;
  for (int i = 0; i < 30000; ++i) {
    Pair p = NewPair(SOCK_DGRAM);
    ASSERT_TRUE(Send(p.a, "x", {held}).ok());
    held = p.b;
  }
  held.Reset();
  EXPECT_EQ(InFlight::Get().count(), 0u);
}

TEST_F(UnixSocketTest, TooManyDescriptorsInFlight) {
  caller_.limit = 10;
  LimitedCaller poor(user_creds_);
  poor.limit = 10;
  Pair p = NewPair(SOCK_STREAM);
  vfs::FileRef other = New(SOCK_DGRAM);
  ASSERT_TRUE(Send(p.a, "x", std::vector<vfs::FileRef>(11, other)).ok());
  EXPECT_EQ(Send(p.a, "x", {other}).error_number(), ETOOMANYREFS);
  EXPECT_EQ(Receive(p.b).files.size(), 11u);
  EXPECT_TRUE(Send(p.a, "x", {other}).ok());
}

TEST_F(UnixSocketTest, ConnectWaitsForTheBacklog) {
  vfs::FileRef listener = New(SOCK_STREAM), first = New(SOCK_STREAM), second = New(SOCK_STREAM);
  ASSERT_TRUE(S(listener).Bind(InTree("/s")).ok());
  ASSERT_TRUE(S(listener).Listen(0).ok());
  ASSERT_EQ(Connect(first, InTree("/s")), 0);
  WaitOn wait_on;
  ASSERT_EQ(Connect(second, InTree("/s"), &wait_on), EAGAIN);
  ASSERT_TRUE(wait_on);
  BlockerEntry entry(caller_.blocker());
  wait_on->queue.Add(entry, kEventOut);
  ASSERT_TRUE(S(listener).Accept(0).ok());
  EXPECT_TRUE(caller_.blocker().Wait(0)) << "accept makes room and says so";
  EXPECT_EQ(Connect(second, InTree("/s")), 0);
  listener.Reset();
  EXPECT_EQ(Receive(second).error, ECONNRESET) << "never accepted";
  EXPECT_EQ(Connect(New(SOCK_STREAM), InTree("/s")), ECONNREFUSED);
}

TEST_F(UnixSocketTest, DatagramQueueIsBounded) {
  vfs::FileRef receiver = New(SOCK_DGRAM), sender = New(SOCK_DGRAM);
  ASSERT_TRUE(S(receiver).Bind(Abstract("q")).ok());
  ASSERT_EQ(Connect(sender, Abstract("q")), 0);
  int sent = 0;
  while (Send(sender, "x").ok()) ++sent;
  EXPECT_EQ(sent, 11);
  EXPECT_FALSE(sender->Poll() & EPOLLOUT);
  BlockerEntry entry(caller_.blocker());
  sender->wait_queue()->Add(entry, kEventOut);
  EXPECT_EQ(Receive(receiver).text, "x");
  EXPECT_TRUE(caller_.blocker().Wait(0));
  EXPECT_TRUE(sender->Poll() & EPOLLOUT);
  receiver.Reset();
  EXPECT_EQ(Send(sender, "x").error_number(), ECONNREFUSED);
  EXPECT_EQ(Send(sender, "x").error_number(), ENOTCONN);
}

TEST_F(UnixSocketTest, AbstractNamesBelongToANamespaceAndAType) {
  vfs::FileRef one = New(SOCK_DGRAM), stream = New(SOCK_STREAM);
  ASSERT_TRUE(S(one).Bind(Abstract("n")).ok());
  EXPECT_EQ(S(New(SOCK_DGRAM)).Bind(Abstract("n")).error_number(), EADDRINUSE);
  EXPECT_TRUE(S(stream).Bind(Abstract("n")).ok());
  net_namespace_ = 2;
  EXPECT_EQ(Connect(New(SOCK_DGRAM), Abstract("n")), ECONNREFUSED);
  EXPECT_EQ(ProcNetUnix().find("@n"), std::string::npos);
  net_namespace_ = 1;
  EXPECT_NE(ProcNetUnix().find("@n"), std::string::npos);
  one.Reset();
  EXPECT_TRUE(S(New(SOCK_DGRAM)).Bind(Abstract("n")).ok());
}

TEST_F(UnixSocketTest, CredentialsSplitAStream) {
  Pair p = NewPair(SOCK_STREAM);
  ASSERT_TRUE(S(p.b).SetOption(SOL_SOCKET, SO_PASSCRED, OptionBytes(1)).ok());
  ASSERT_TRUE(Send(p.a, "root").ok());
  {
    LimitedCaller user(user_creds_);
    ASSERT_TRUE(Send(p.a, "user").ok());
  }
  LimitedCaller again(root_creds_);
  Got got = Receive(p.b);
  EXPECT_EQ(got.text, "root");
  EXPECT_EQ(got.creds->uid, 0u);
  got = Receive(p.b);
  EXPECT_EQ(got.text, "user");
  EXPECT_EQ(got.creds->uid, 1000u);
  EXPECT_EQ(got.creds->pid, 7);
}

TEST_F(UnixSocketTest, PeekOffsetWalks) {
  Pair p = NewPair(SOCK_STREAM);
  ASSERT_TRUE(S(p.b).SetOption(SOL_SOCKET, SO_PEEK_OFF, OptionBytes(0)).ok());
  ASSERT_TRUE(Send(p.a, "abcdef").ok());
  EXPECT_EQ(Receive(p.b, 2, MSG_PEEK).text, "ab");
  EXPECT_EQ(Receive(p.b, 2, MSG_PEEK).text, "cd");
  EXPECT_EQ(Receive(p.b, 2).text, "ab");
  EXPECT_EQ(Receive(p.b, 2, MSG_PEEK).text, "ef");
}

TEST_F(UnixSocketTest, Options) {
  vfs::FileRef s = New(SOCK_STREAM);
  auto value = [&](int name) {
    return OptionInt(S(s).GetOption(SOL_SOCKET, name).value_or(std::string(4, '\xff'))).value_or(-2);
  };
  ASSERT_TRUE(S(s).SetOption(SOL_SOCKET, SO_SNDBUF, OptionBytes(1)).ok());
  EXPECT_EQ(value(SO_SNDBUF), 4608);
  ASSERT_TRUE(S(s).SetOption(SOL_SOCKET, SO_RCVBUF, OptionBytes(-1)).ok());
  EXPECT_EQ(value(SO_RCVBUF), 2 * 212992);
  ASSERT_TRUE(S(s).SetOption(SOL_SOCKET, SO_REUSEADDR, OptionBytes(9)).ok());
  EXPECT_EQ(value(SO_REUSEADDR), 1);
  EXPECT_EQ(S(s).SetOption(SOL_SOCKET, SO_TYPE, OptionBytes(1)).error_number(), ENOPROTOOPT);
  EXPECT_EQ(S(s).SetOption(SOL_SOCKET, SO_RCVTIMEO, OptionBytes(1)).error_number(), EINVAL);
  EXPECT_EQ(value(SO_DOMAIN), AF_UNIX);
  LimitedCaller user(user_creds_);
  EXPECT_EQ(S(s).SetOption(SOL_SOCKET, SO_SNDBUFFORCE, OptionBytes(1)).error_number(), EPERM);
}

// Everything at once from several threads: lock ranks, lifetimes and accounting hold, and nothing stays.
TEST_F(UnixSocketTest, Storm) {
  constexpr int kThreads = 4, kSockets = 8, kRounds = 6000;
  Mutex mu{LockRank::kBoot};
  std::vector<vfs::FileRef> pool;
  constexpr int kTypes[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
  for (int i = 0; i < kSockets; ++i) pool.push_back(New(kTypes[i % 3]));
  auto body = [&](unsigned seed) {
    LimitedCaller caller(root_creds_);
    auto next = [&](unsigned below) { return (seed = seed * 1664525 + 1013904223) / 65536 % below; };
    for (int round = 0; round < kRounds; ++round) {
      vfs::FileRef a, b;
      {
        MutexLock lock(mu);
        a = pool[next(kSockets)];
        b = pool[next(kSockets)];
      }
      const std::string name = Abstract(std::to_string(next(6)));
      switch (next(10)) {
        case 0: {
          vfs::FileRef dropped[2];  // after the lock
          Pair p = NewPair(kTypes[next(3)]);
          MutexLock lock(mu);
          dropped[0] = std::exchange(pool[next(kSockets)], p.a);
          dropped[1] = std::exchange(pool[next(kSockets)], next(2) ? p.b : New(kTypes[next(3)]));
          break;
        }
        case 1:
          (void)S(a).Bind(name).ok();
          break;
        case 2:
          (void)Connect(a, name);
          break;
        case 3:
          (void)S(a).Listen(static_cast<int>(next(3))).ok();
          break;
        case 4:
          (void)S(a).Accept(O_NONBLOCK).ok();
          break;
        case 5:
          (void)Send(a, "with files", {a, b}).ok();
          break;
        case 6:
          (void)Send(a, std::string(next(5000), 'x')).ok();
          break;
        case 7:
          (void)Receive(a, next(8000), next(4) ? 0 : MSG_PEEK);
          break;
        case 8:
          if (next(20) == 0) (void)S(a).Shutdown(static_cast<int>(next(3))).ok();
          break;
        case 9:
          (void)a->Poll();
          (void)S(a).GetPeer().ok();
          break;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(body, i + 1);
  for (std::thread& thread : threads) thread.join();
  pool.clear();
  for (int i = 0; i < 10000 && InFlight::Get().count(); ++i)
    NewPair(SOCK_STREAM);  // ends of sockets pay for the collector
  EXPECT_EQ(InFlight::Get().count(), 0u);
  EXPECT_EQ(ProcNetUnix().find('@'), std::string::npos) << "names and sockets are gone";
}

TEST_F(UnixSocketTest, PollFollowsAConnection) {
  vfs::FileRef s = New(SOCK_STREAM);
  EXPECT_EQ(s->Poll() & ~EPOLLWRBAND, kEventOut | EPOLLHUP);
  Pair p = NewPair(SOCK_STREAM);
  EXPECT_EQ(p.a->Poll() & ~EPOLLWRBAND, kEventOut);
  p.b.Reset();
  EXPECT_EQ(p.a->Poll() & ~EPOLLWRBAND, kEventIn | kEventOut | EPOLLRDHUP | EPOLLHUP);
  EXPECT_EQ(Send(p.a, "x").error_number(), EPIPE);
}

}  // namespace
}  // namespace sentry::socket
