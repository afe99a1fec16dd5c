// SPDX-License-Identifier: Apache-2.0
// Client and server of the control protocol over real sockets, and what hostile framing does.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "base/mutex.h"
#include "gtest/gtest.h"
#include "runsc/control/client.h"
#include "runsc/control/control.pb.h"
#include "runsc/control/server.h"
#include "runsc/control/wire.h"

namespace runsc::control {
namespace {

class FakeSandbox : public ControlHandler {
 public:
  absl::Status Start(const std::string& id) override {
    if (id != "c") return absl::NotFoundError("no container " + id);
    return absl::OkStatus();
  }
  absl::Status SetNetwork(const std::string&, NetworkConfig config) override {
    last_network = std::move(config);
    return absl::OkStatus();
  }
  absl::StatusOr<int32_t> Exec(ExecRequest request) override {
    if (request.process.args[0] != "write") return absl::InvalidArgumentError("exec: \"x\": not found");
    if (request.process.capabilities->bounding != 5 || request.process.rlimits.size() != 1) return 1;
    if (request.fds.size() != 3 || request.fds[0].ok()) return 2;
    std::string line = request.process.env[0] + request.process.cwd;
    if (write(request.fds[1].get(), line.data(), line.size()) < 0) return 3;
    return 42;
  }
  void Wait(const std::string&, int32_t pid, WaitDone done) override {
    if (pid == 7) return done(absl::NotFoundError("no process 7"));
    base::MutexLock lock(mu_);
    waiters_.push_back(std::move(done));
    changed_.NotifyAll();
  }
  absl::Status Signal(const std::string&, int32_t, int signal, SignalScope scope) override {
    if (scope != SignalScope::kAll) return absl::FailedPreconditionError("one line");
    Finish(signal);
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<ProcessInfo>> Processes(const std::string&) override {
    return std::vector<ProcessInfo>{{.pid = 1, .command = "in\xffit"}, {.pid = 2, .ppid = 1, .command = "sh"}};
  }
  NetworkConfig last_network;
  absl::StatusOr<ContainerInfo> State(const std::string&) override {
    return ContainerInfo{.state = ContainerState::kPaused};
  }
  absl::Status ResizeTerminal(const std::string&, int32_t, uint16_t rows, uint16_t columns) override {
    return rows == 24 && columns == 80 ? absl::OkStatus() : absl::InvalidArgumentError("size");
  }
  absl::Status Pause(const std::string&) override { return absl::UnimplementedError("pause"); }
  absl::Status Resume(const std::string&) override { return absl::OkStatus(); }
  absl::Status Update(const std::string&, const ResourceUpdate& update) override {
    last_update = update;
    return absl::OkStatus();
  }
  ResourceUpdate last_update;
  void WaitOom(const std::string&, uint64_t seen, CountDone done) override { done(seen + 1); }
  absl::StatusOr<Stats> GetStats(const std::string&) override { return Stats{.memory_bytes = 9, .pids = 3}; }
  void Shutdown() override { Finish(9); }

  void WaitForWaiters(size_t count) {
    base::MutexLock lock(mu_);
    while (waiters_.size() < count) changed_.Wait(mu_);
  }

 private:
  void Finish(int status) {
    std::vector<WaitDone> waiters;
    {
      base::MutexLock lock(mu_);
      waiters.swap(waiters_);
    }
    for (auto& done : waiters) done(status);
  }
  base::Mutex mu_{base::LockRank::kContainer};
  base::CondVar changed_;
  std::vector<WaitDone> waiters_;
};

class ControlTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* tmp = getenv("TEST_TMPDIR");
    directory_ = std::string(tmp ? tmp : "/tmp") + "/control.XXXXXX";
    ASSERT_NE(mkdtemp(directory_.data()), nullptr);
    // Longer than sun_path.
    directory_ += "/" + std::string(150, 'd');
    ASSERT_EQ(mkdir(directory_.c_str(), 0700), 0);
    auto listener = ListenOn(directory_, "control.sock");
    ASSERT_TRUE(listener.ok()) << listener.status();
    struct stat st;
    ASSERT_EQ(stat((directory_ + "/control.sock").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600u);
    auto server = ControlServer::Create(*std::move(listener), &sandbox_);
    ASSERT_TRUE(server.ok());
    server_ = *std::move(server);
    thread_ = std::thread([this] { server_->Serve(); });
  }
  void TearDown() override {
    server_->Stop();
    thread_.join();
  }
  Client Connect(const std::string& id = "c") {
    auto client = Client::Connect(directory_, id);
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }
  FakeSandbox sandbox_;
  std::string directory_;
  std::unique_ptr<ControlServer> server_;
  std::thread thread_;
};

// A description with one of everything; `sockets` of its interfaces are some file.
NetworkConfig SomeNetwork() {
  NetworkConfig config;
  NetworkInterface& eth0 = config.interfaces.emplace_back();
  eth0.name = "eth0";
  eth0.index = 7;
  eth0.hardware_address = {2, 0, 0, 0, 0, 9};
  eth0.mtu = 1450;
  eth0.flags = 0x1003;
  eth0.addresses.push_back(
      {.ip = std::string("\x0a\0\0\x02", 4), .prefix = 24, .broadcast = std::string("\x0a\0\0\xff", 4)});
  eth0.addresses.push_back({.ip = std::string(16, '\x20'), .prefix = 64});
  eth0.socket.Reset(memfd_create("socket", MFD_CLOEXEC));
  config.routes.push_back({.destination = std::string(4, '\0'),
                           .gateway = std::string("\x0a\0\0\x01", 4),
                           .interface = 7,
                           .metric = 5,
                           .type = 1});
  config.permanent.push_back(
      {.ip = std::string("\x0a\0\0\x09", 4), .hardware_address = {2, 0, 0, 0, 0, 8}, .interface = 7});
  return config;
}

TEST_F(ControlTest, TheNetworkArrivesWhole) {
  NetworkConfig config = SomeNetwork();
  config.resolver.Reset(memfd_create("resolver", MFD_CLOEXEC));
  ASSERT_EQ(3, write(config.resolver.get(), "dns", 3));
  ASSERT_TRUE(Connect().SetNetwork(config).ok());
  const NetworkConfig& got = sandbox_.last_network;
  ASSERT_EQ(1u, got.interfaces.size());
  EXPECT_EQ("eth0", got.interfaces[0].name);
  EXPECT_EQ(config.interfaces[0].hardware_address, got.interfaces[0].hardware_address);
  EXPECT_EQ(2u, got.interfaces[0].addresses.size());
  EXPECT_TRUE(got.interfaces[0].socket.ok());
  ASSERT_EQ(1u, got.routes.size());
  EXPECT_EQ(config.routes[0].gateway, got.routes[0].gateway);
  EXPECT_EQ(1u, got.permanent.size());
  char text[4] = {};
  EXPECT_EQ(3, pread(got.resolver.get(), text, 3, 0));
  EXPECT_STREQ("dns", text);
  // And through a file, without the sockets.
  auto again = ParseNetwork(SerializeNetwork(config));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(config.interfaces[0].addresses[0].broadcast, again->interfaces[0].addresses[0].broadcast);
  EXPECT_FALSE(again->interfaces[0].socket.ok());
  EXPECT_EQ(absl::StatusCode::kDataLoss, ParseNetwork("nonsense").status().code());
}

TEST_F(ControlTest, MalformedNetworksAreRefused) {
  const std::function<void(NetworkConfig&)> kHarm[] = {
      [](NetworkConfig& c) { c.interfaces[0].name = ""; },
      [](NetworkConfig& c) { c.interfaces[0].name = "sixteen-letters-"; },
      [](NetworkConfig& c) { c.interfaces[0].index = 0; },
      [](NetworkConfig& c) { c.interfaces[0].mtu = 0; },
      [](NetworkConfig& c) { c.interfaces[0].addresses[0].ip = "five5"; },
      [](NetworkConfig& c) { c.interfaces[0].addresses[0].prefix = 33; },
      [](NetworkConfig& c) { c.interfaces[0].addresses[0].broadcast = std::string(16, 'x'); },
      [](NetworkConfig& c) { c.routes[0].destination = ""; },
      [](NetworkConfig& c) { c.routes[0].gateway = std::string(16, 'x'); },
      [](NetworkConfig& c) { c.routes[0].type = 256; },
      [](NetworkConfig& c) { c.permanent[0].ip = ""; },
  };
  for (const auto& harm : kHarm) {
    NetworkConfig config = SomeNetwork();
    harm(config);
    EXPECT_EQ(absl::StatusCode::kInvalidArgument, Connect().SetNetwork(config).code()) << &harm - kHarm;
  }
  EXPECT_TRUE(sandbox_.last_network.interfaces.empty());
}

TEST_F(ControlTest, CallsCarryValuesAndErrors) {
  Client client = Connect();
  EXPECT_TRUE(client.Start().ok());
  EXPECT_EQ(Connect("d").Start(), absl::NotFoundError("no container d"));
  EXPECT_EQ(client.Pause().code(), absl::StatusCode::kUnimplemented);
  auto processes = client.Processes();
  ASSERT_TRUE(processes.ok());
  ASSERT_EQ(processes->size(), 2u);
  EXPECT_EQ((*processes)[0].command, "in\xffit");
  EXPECT_EQ(client.State()->state, ContainerState::kPaused);
  EXPECT_TRUE(client.ResizeTerminal(0, 24, 80).ok());
  EXPECT_EQ(client.Signal(1, 0, SignalScope::kProcess).message(), "one line");
  EXPECT_EQ(client.GetStats()->pids, 3u);
  EXPECT_TRUE(client.Update({.memory_limit_bytes = 12345}).ok());
  EXPECT_EQ(sandbox_.last_update.memory_limit_bytes, 12345u);
  EXPECT_FALSE(sandbox_.last_update.max_tasks);
  EXPECT_EQ(*client.WaitOom(6), 7u);
}

TEST_F(ControlTest, ExecCarriesDescriptorsAndTheProcess) {
  base::UniqueFd file(memfd_create("out", MFD_CLOEXEC));
  spec::Process process;
  process.args = {"write"};
  process.env = {"A=" + std::string(1 << 20, 'x')};
  process.cwd = "/w";
  process.capabilities = spec::Capabilities{.bounding = 5};
  process.rlimits = {{.resource = 7, .soft = 1, .hard = 2}};
  auto pid = Connect().Exec(process, {-1, file.get(), file.get()});
  ASSERT_TRUE(pid.ok()) << pid.status();
  EXPECT_EQ(*pid, 42);
  std::string got(2 << 20, '\0');
  ssize_t n = pread(file.get(), got.data(), got.size(), 0);
  ASSERT_GE(n, 0);
  got.resize(n);
  EXPECT_EQ(got, process.env[0] + "/w");
  process.args.clear();
  EXPECT_EQ(Connect().Exec(process, {-1, 0, 1}).status().message(), "process.args: must not be empty");
}

TEST_F(ControlTest, WaitDoesNotHoldUpOthersAndIsAnsweredLater) {
  Client waiter = Connect();
  ASSERT_TRUE(waiter.BeginWait(0).ok());
  sandbox_.WaitForWaiters(1);
  EXPECT_TRUE(Connect().Signal(0, 15, SignalScope::kAll).ok());
  auto status = waiter.FinishWait();
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(*status, 15);
  Client other = Connect();
  ASSERT_TRUE(other.BeginWait(7).ok());
  EXPECT_EQ(other.FinishWait().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ControlTest, AWaiterThatLeftDoesNotDisturb) {
  {
    Client waiter = Connect();
    ASSERT_TRUE(waiter.BeginWait(0).ok());
    sandbox_.WaitForWaiters(1);
  }
  EXPECT_TRUE(Connect().Signal(0, 9, SignalScope::kAll).ok());
  EXPECT_TRUE(Connect().Start().ok());
}

TEST_F(ControlTest, ShutdownAnswersFirst) { EXPECT_TRUE(Connect().Shutdown().ok()); }

TEST_F(ControlTest, BrokenFramesEndOnlyTheirConnection) {
  const std::string bad[] = {
      std::string("\xff\xff\xff\xff", 4),     // a length over the limit
      std::string("\x03\x00\x00\x00zzz", 7),  // not a protobuf
      std::string("\x00\x00\x00\x00", 4),     // an empty request
  };
  for (const std::string& bytes : bad) {
    Client client = Connect();
    ASSERT_EQ(write(client.fd(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    char c;
    EXPECT_EQ(read(client.fd(), &c, 1), 0) << "connection still open";
  }
  // Descriptors where none belong.
  Client client = Connect();
  pb::Request request;
  request.mutable_start();
  std::string payload;
  request.SerializeToString(&payload);
  ASSERT_TRUE(SendFrame(client.fd(), payload, {0, 1}, 1000).ok());
  char c;
  EXPECT_EQ(read(client.fd(), &c, 1), 0);
  EXPECT_TRUE(Connect().Start().ok());
}

TEST(Wire, TooLargeAFrameIsRefusedBeforeItIsSent) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  base::UniqueFd a(ends[0]), b(ends[1]);
  EXPECT_EQ(SendFrame(a.get(), std::string(kMaxFrame + 1, 0), {}, 100).code(), absl::StatusCode::kInvalidArgument);
  Frame frame;
  EXPECT_EQ(ReceiveFrame(b.get(), &frame, 10).code(), absl::StatusCode::kDeadlineExceeded);
  a.Reset();
  EXPECT_EQ(ReceiveFrame(b.get(), &frame, 10).code(), absl::StatusCode::kUnavailable);
}

TEST(Wire, AStalledReaderTimesTheSenderOut) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  base::UniqueFd a(ends[0]), b(ends[1]);
  EXPECT_EQ(SendFrame(a.get(), std::string(8 << 20, 0), {}, 20).code(), absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace runsc::control
