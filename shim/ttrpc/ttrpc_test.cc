// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <string>
#include <thread>

#include "shim/proto/ttrpc.pb.h"
#include "shim/ttrpc/client.h"
#include "shim/ttrpc/frame.h"
#include "shim/ttrpc/server.h"

namespace shim::ttrpc {
namespace {

struct Pair {
  Pair() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    a.Reset(ends[0]);
    b.Reset(ends[1]);
  }
  void Send(const std::string& bytes) {
    EXPECT_EQ(write(a.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  base::UniqueFd a, b;
};

TEST(Frame, IsTenBytesOfHeaderAndThePayload) {
  Frame frame{.stream = 0x01020305, .type = FrameType::kResponse, .flags = 7, .payload = "ab"};
  EXPECT_EQ(Encode(frame), std::string("\0\0\0\2\1\2\3\5\2\7ab", 12));
}

TEST(Frame, ComesInPieces) {
  Pair pair;
  const std::string bytes = Encode({.stream = 9, .type = FrameType::kRequest, .payload = "hello"});
  std::thread writer([&] {
    for (char byte : bytes) pair.Send(std::string(1, byte));
  });
  Frame frame;
  EXPECT_TRUE(Read(pair.b.get(), &frame).ok());
  writer.join();
  EXPECT_EQ(frame.stream, 9u);
  EXPECT_EQ(frame.type, FrameType::kRequest);
  EXPECT_EQ(frame.payload, "hello");
}

TEST(Frame, EndOfStream) {
  Frame frame;
  for (size_t sent : {size_t{0}, size_t{4}, size_t{12}}) {
    Pair pair;
    pair.Send(Encode({.stream = 1, .payload = "hello"}).substr(0, sent));
    pair.a.Reset();
    absl::Status status = Read(pair.b.get(), &frame);
    EXPECT_EQ(status.code(), sent == 0 ? absl::StatusCode::kUnavailable : absl::StatusCode::kDataLoss) << sent;
  }
}

TEST(Frame, TooLongIsReadOver) {
  Pair pair;
  std::thread writer([&] {
    std::string header("\0\x40\0\1\0\0\0\5\1\0", 10);  // 4 MiB and one byte, stream 5
    pair.Send(header);
    std::string piece(1 << 16, 'x');
    for (int i = 0; i < 64; ++i) pair.Send(piece);
    pair.Send("x");
    pair.Send(Encode({.stream = 7, .payload = "after"}));
  });
  Frame frame;
  EXPECT_TRUE(absl::IsResourceExhausted(Read(pair.b.get(), &frame)));
  EXPECT_EQ(frame.stream, 5u);
  EXPECT_TRUE(Read(pair.b.get(), &frame).ok());
  EXPECT_EQ(frame.payload, "after");
  writer.join();
}

// A directory of the test's own whose path is short: a socket's holds 107 bytes, and Bazel's directories are longer.
std::string SocketDirectory() {
  static const std::string directory = [] {
    char name[] = "/tmp/ttrpc.XXXXXX";
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

// A server in this process, at a socket in the test's directory. Servers are never destroyed.
std::string StartServer(Handler handler) {
  static int count = 0;
  std::string path = SocketDirectory() + "/" + std::to_string(count++);
  sockaddr_un name = {.sun_family = AF_UNIX};
  EXPECT_LT(path.size(), sizeof name.sun_path);
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  unlink(path.c_str());
  base::UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  EXPECT_EQ(listen(listener.get(), 16), 0);
  auto* server = new Server(std::move(listener), std::move(handler));
  std::thread([server] { server->Serve().IgnoreError(); }).detach();
  return path;
}

absl::StatusOr<std::string> Echo(const std::string& service, const std::string& method, const std::string& payload) {
  if (method == "Fail") return absl::NotFoundError("no such thing");
  return service + "/" + method + ":" + payload;
}

TEST(Server, AnswersCallsAndErrors) {
  auto client = Client::Connect("unix://" + StartServer(Echo));
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_EQ(*client->Call("s", "m", "p", 20'000), "s/m:p");
  absl::Status status = client->Call("s", "Fail", "", 20'000).status();
  EXPECT_EQ(status, absl::NotFoundError("no such thing"));
  EXPECT_EQ(*client->Call("s", "m", std::string(1 << 20, 'x'), 20'000), "s/m:" + std::string(1 << 20, 'x'));
}

TEST(Server, ABlockedCallHoldsUpNobody) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  std::string path = StartServer(
      [released](const std::string&, const std::string& method, const std::string&) -> absl::StatusOr<std::string> {
        if (method == "Wait") released.wait();
        return method;
      });
  // Both on one connection, by hand: the client class makes one call at a time.
  sockaddr_un name = {.sun_family = AF_UNIX};
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  for (uint32_t stream : {1u, 3u}) {
    pb::RpcRequest request;
    request.set_method(stream == 1 ? "Wait" : "Go");
    ASSERT_TRUE(Write(fd.get(), {.stream = stream, .payload = request.SerializeAsString()}).ok());
  }
  Frame frame;
  ASSERT_TRUE(Read(fd.get(), &frame).ok());
  EXPECT_EQ(frame.stream, 3u);
  release.set_value();
  ASSERT_TRUE(Read(fd.get(), &frame).ok());
  EXPECT_EQ(frame.stream, 1u);
}

TEST(Server, RefusesWhatIsNoRequest) {
  std::string path = StartServer(Echo);
  const Frame bad[] = {{.stream = 2, .payload = ""},
                       {.stream = 1, .type = FrameType::kData, .payload = ""},
                       {.stream = 1, .payload = "\xff\xff"}};
  for (const Frame& sent : bad) {
    sockaddr_un name = {.sun_family = AF_UNIX};
    path.copy(name.sun_path, sizeof name.sun_path - 1);
    base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
    ASSERT_TRUE(Write(fd.get(), sent).ok());
    Frame frame;
    ASSERT_TRUE(Read(fd.get(), &frame).ok());
    pb::RpcResponse response;
    ASSERT_TRUE(response.ParseFromString(frame.payload));
    EXPECT_EQ(response.status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument));
    // The connection lives on.
    pb::RpcRequest request;
    request.set_method("m");
    ASSERT_TRUE(Write(fd.get(), {.stream = 11, .payload = request.SerializeAsString()}).ok());
    ASSERT_TRUE(Read(fd.get(), &frame).ok());
    EXPECT_EQ(frame.stream, 11u);
  }
}

TEST(Client, SaysWhatIsWrong) {
  EXPECT_TRUE(absl::IsUnavailable(Client::Connect("/no/such/socket").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Client::Connect("").status()));
  // An answer for somebody else.
  Pair pair;
  Client client(std::move(pair.a));
  ASSERT_TRUE(Write(pair.b.get(), {.stream = 5, .type = FrameType::kResponse}).ok());
  EXPECT_TRUE(absl::IsDataLoss(client.Call("s", "m", "", 20'000).status()));
}

}  // namespace
}  // namespace shim::ttrpc
