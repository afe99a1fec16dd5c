// SPDX-License-Identifier: Apache-2.0
#include "shim/publisher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "shim/proto/events.pb.h"
#include "shim/ttrpc/server.h"

namespace shim {
namespace {

// containerd's side: keeps what it gets; refuses topics that start with /bad.
class Receiver {
 public:
  explicit Receiver(const std::string& path) {
    sockaddr_un name = {.sun_family = AF_UNIX};
    path.copy(name.sun_path, sizeof name.sun_path - 1);
    unlink(path.c_str());
    base::UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
    EXPECT_EQ(listen(listener.get(), 16), 0);
    auto* server = new ttrpc::Server(
        std::move(listener), [this](const std::string& service, const std::string& method, const std::string& payload) {
          return Take(service, method, payload);
        });
    std::thread([server] { server->Serve().IgnoreError(); }).detach();
  }

  std::vector<std::string> Await(size_t count) {
    base::MutexLock lock(mu_);
    const int64_t deadline = base::MonotonicNs() + 50 * base::kNsPerSecond;
    while (topics_.size() < count && changed_.WaitUntil(mu_, deadline)) {
    }
    EXPECT_GE(topics_.size(), count);
    return topics_;
  }

 private:
  absl::StatusOr<std::string> Take(const std::string& service, const std::string& method, const std::string& payload) {
    EXPECT_EQ(service, "containerd.services.events.ttrpc.v1.Events");
    EXPECT_EQ(method, "Forward");
    pb::ForwardRequest request;
    EXPECT_TRUE(request.ParseFromString(payload));
    const pb::Envelope& envelope = request.envelope();
    EXPECT_EQ(envelope.namespace_(), "ns");
    EXPECT_GT(envelope.timestamp().seconds(), 0);
    if (envelope.topic().rfind("/bad", 0) == 0) return absl::InvalidArgumentError("no");
    EXPECT_EQ(envelope.event().type_url(), "containerd.events.TaskExit");
    base::MutexLock lock(mu_);
    topics_.push_back(envelope.topic() + envelope.event().value());
    changed_.NotifyAll();
    return std::string();
  }

  base::Mutex mu_;
  base::CondVar changed_;
  std::vector<std::string> topics_ ABSL_GUARDED_BY(mu_);
};

// A directory of the test's own whose path is short: a socket's holds 107 bytes, and Bazel's directories are longer.
std::string SocketDirectory() {
  static const std::string directory = [] {
    char name[] = "/tmp/publisher.XXXXXX";
    EXPECT_NE(mkdtemp(name), nullptr);
    // Its sockets are gone with it: nothing else is made there.
    atexit([] {
      std::error_code ignored;
      std::filesystem::remove_all(SocketDirectory(), ignored);
    });
    return std::string(name);
  }();
  return directory;
}

std::string SocketPath(const char* name) { return SocketDirectory() + "/" + name; }

TEST(Publisher, KeepsTheOrderAndSkipsWhatIsRefused) {
  std::string path = SocketPath("order");
  auto* receiver = new Receiver(path);
  auto* publisher = new Publisher({.name_space = "ns", .ttrpc_address = path});
  publisher->Start();
  publisher->Publish("/a", "containerd.events.TaskExit", "1");
  publisher->Publish("/bad", "containerd.events.TaskExit", "2");
  publisher->Publish("/b", "containerd.events.TaskExit", "3");
  EXPECT_THAT(receiver->Await(2), testing::ElementsAre("/a1", "/b3"));
  publisher->Flush(20'000);
}

TEST(Publisher, WaitsForAContainerdThatIsAway) {
  std::string path = SocketPath("away");
  auto* publisher = new Publisher({.name_space = "ns", .ttrpc_address = "unix://" + path});
  publisher->Start();
  // More than fit into the queue: exits stay, the rest makes room.
  for (int i = 0; i < 3000; ++i) publisher->Publish("/other", "containerd.events.TaskExit", "");
  for (int i = 0; i < 10; ++i) publisher->Publish("/tasks/exit", "containerd.events.TaskExit", std::to_string(i));
  for (int i = 0; i < 3000; ++i) publisher->Publish("/other", "containerd.events.TaskExit", "");
  auto* receiver = new Receiver(path);
  std::vector<std::string> exits;
  for (const std::string& topic : receiver->Await(2048)) {
    if (topic.rfind("/tasks/exit", 0) == 0) exits.push_back(topic);
  }
  ASSERT_EQ(exits.size(), 10u);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(exits[i], "/tasks/exit" + std::to_string(i));
}

}  // namespace
}  // namespace shim
