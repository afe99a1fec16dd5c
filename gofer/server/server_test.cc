// SPDX-License-Identifier: Apache-2.0
// Client and server together, in one process over a temporary directory.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "gofer/protocol/client.h"
#include "gofer/protocol/host_transport.h"
#include "gofer/testing/exercise.h"
#include "gofer/testing/served_dir.h"
#include "gtest/gtest.h"

namespace gofer {
namespace {

std::unique_ptr<Client> Connected(ServedDir& served, Client::Options options = {}) {
  auto client = served.Connect(std::move(options));
  EXPECT_TRUE(client.ok()) << client.error().Name();
  return client.ok() ? std::move(*client) : nullptr;
}

TEST(Server, ServesEveryRequest) {
  ServedDir served;
  auto client = Connected(served);
  EXPECT_FALSE(client->mount().read_only);
  EXPECT_TRUE(S_ISDIR(client->mount().root.attr.mode));
  EXPECT_EQ(client->mount().name_max, 255u);
  ExerciseEverything(*client);
  client.reset();
  EXPECT_TRUE(served.Finish().ok());
}

TEST(Server, ServesEveryRequestOnOneChannel) {
  ServedDir served;
  auto client = Connected(served, {.max_channels = 1});
  ExerciseEverything(*client);
}

TEST(Server, ManyThreadsShareChannels) {
  ServedDir served;
  auto client = Connected(served);
  ExerciseChannels(*client);
}

TEST(Server, ReadOnlyRefusesEveryChange) {
  ServedDir served({.read_only = true, .max_fds = 0});
  served.dir().Write("file", "text");
  auto c = Connected(served);
  NodeId root = c->mount().root.node;
  EXPECT_TRUE(c->mount().read_only);
  auto file = c->Lookup(root, "file");
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(c->Open(file->node, O_RDONLY).ok());
  EXPECT_EQ(c->Open(file->node, O_RDWR).error_number(), EROFS);
  EXPECT_EQ(c->Open(file->node, O_RDONLY | O_TRUNC).error_number(), EROFS);
  EXPECT_EQ(c->Create(root, "n", O_RDONLY, 0600, 0, 0).error_number(), EROFS);
  EXPECT_EQ(c->Mkdir(root, "n", 0700, 0, 0).error_number(), EROFS);
  EXPECT_EQ(c->Symlink(root, "n", "t", 0, 0).error_number(), EROFS);
  EXPECT_EQ(c->Mknod(root, "n", S_IFIFO, 0, 0, 0, 0).error_number(), EROFS);
  EXPECT_EQ(c->Link(file->node, root, "n").error_number(), EROFS);
  EXPECT_EQ(c->Unlink(root, "file").error_number(), EROFS);
  EXPECT_EQ(c->Rmdir(root, "n").error_number(), EROFS);
  EXPECT_EQ(c->Rename(root, "file", root, "n", 0).error_number(), EROFS);
  EXPECT_EQ(c->SetAttr(file->node, {.fields = kSetMode, .mode = 0}).error_number(), EROFS);
  EXPECT_EQ(c->SetXattr(file->node, "user.a", "b", 0).error_number(), EROFS);
  EXPECT_EQ(c->RemoveXattr(file->node, "user.a").error_number(), EROFS);
  EXPECT_EQ(served.dir().Read("file"), "text");
}

TEST(Server, SingleFileAsRoot) {
  TempDir dir;
  dir.Write("hosts", "127.0.0.1");
  ServedDir served(dir.Path("hosts"), {.max_fds = 0});
  auto c = Connected(served);
  EXPECT_TRUE(S_ISREG(c->mount().root.attr.mode));
  EXPECT_TRUE(c->Open(c->mount().root.node, O_RDONLY).ok());
  EXPECT_EQ(c->Lookup(c->mount().root.node, "x").error_number(), ENOTDIR);
  EXPECT_EQ(c->OpenDir(c->mount().root.node).error_number(), ENOTDIR);
}

TEST(Server, RootFdIsDonatedOnlyWhenAsked) {
  ServedDir plain, direct({.donate_root = true, .max_fds = 0});
  EXPECT_FALSE(Connected(plain)->mount().root_fd.ok());
  direct.dir().Write("f", "data");
  auto c = Connected(direct);
  base::UniqueFd fd(openat(c->mount().root_fd.get(), "f", O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(fd.ok());
}

TEST(Server, NodesSurviveEvictionOfTheirFds) {
  constexpr int kFiles = 300;
  ServedDir served({.max_fds = 40});
  for (int i = 0; i < kFiles; ++i) served.dir().Write("f" + std::to_string(i), std::to_string(i));
  auto c = Connected(served);
  NodeId root = c->mount().root.node;
  std::vector<NodeId> nodes;
  for (int i = 0; i < kFiles; ++i) nodes.push_back(c->Lookup(root, "f" + std::to_string(i)).value_or(NodeAttr()).node);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < kFiles; ++i) {
      auto file = c->Open(nodes[i], O_RDONLY);
      ASSERT_TRUE(file.ok()) << i << " " << file.error().Name();
      char text[8] = {};
      ASSERT_GT(pread(file->fd.get(), text, sizeof text - 1, 0), 0);
      EXPECT_EQ(text, std::to_string(i));
    }
  }
  // Evicted by now; renamed through us they are found again, deleted through us they live on.
  ASSERT_TRUE(c->Rename(root, "f0", root, "g0", 0).ok());
  for (int i = 10; i < kFiles; ++i) ASSERT_TRUE(c->GetAttr(nodes[i]).ok());
  EXPECT_TRUE(c->GetAttr(nodes[0]).ok());
  ASSERT_TRUE(c->Unlink(root, "f1").ok());
  for (int i = 10; i < kFiles; ++i) ASSERT_TRUE(c->GetAttr(nodes[i]).ok());
  EXPECT_EQ(c->GetAttr(nodes[1])->nlink, 0u);
}

TEST(Server, FileReplacedFromOutsideIsStaleNotAnother) {
  ServedDir served;
  served.dir().Write("a", "old");
  auto c = Connected(served);
  auto node = c->Lookup(c->mount().root.node, "a");
  ASSERT_TRUE(node.ok());
  served.dir().Write("b", "new");
  ASSERT_EQ(rename(served.dir().Path("b").c_str(), served.dir().Path("a").c_str()), 0);
  EXPECT_EQ(c->Open(node->node, O_RDONLY).error_number(), ESTALE);
  auto again = c->Lookup(c->mount().root.node, "a");
  ASSERT_TRUE(again.ok());
  EXPECT_NE(again->attr.ino, node->attr.ino);
  EXPECT_TRUE(c->Open(again->node, O_RDONLY).ok());
  EXPECT_EQ(c->GetAttr(node->node).error_number(), ESTALE);
}

TEST(Server, DirectoryNodesFollowOutsideRenames) {
  ServedDir served;
  auto c = Connected(served);
  NodeId root = c->mount().root.node;
  auto dir = c->Mkdir(root, "d", 0700, kKeepId, kKeepId);
  ASSERT_TRUE(dir.ok());
  ASSERT_EQ(rename(served.dir().Path("d").c_str(), served.dir().Path("e").c_str()), 0);
  EXPECT_TRUE(c->Create(dir->node, "f", O_RDWR, 0600, kKeepId, kKeepId).ok());
  EXPECT_EQ(access(served.dir().Path("e/f").c_str(), F_OK), 0);
}

TEST(Server, SwappedSymlinkIsNotFollowed) {
  ServedDir served;
  TempDir outside;
  outside.Write("secret", "s");
  auto c = Connected(served);
  NodeId root = c->mount().root.node;
  ASSERT_EQ(symlink(outside.path().c_str(), served.dir().Path("d").c_str()), 0);
  ASSERT_EQ(symlink(outside.Path("secret").c_str(), served.dir().Path("s").c_str()), 0);
  std::string_view path[] = {"d", "secret"};
  auto walk = c->Walk(root, path);
  ASSERT_TRUE(walk.ok());
  EXPECT_EQ(walk->found.size(), 1u);
  auto node = c->Lookup(root, "s");
  EXPECT_EQ(c->Open(node->node, O_RDONLY).error_number(), ELOOP);
  EXPECT_NE(c->SetAttr(node->node, {.fields = kSetMode, .mode = 0}).error_number(), 0);
  EXPECT_EQ(c->Create(root, "s", O_RDWR, 0600, kKeepId, kKeepId).error_number(), EEXIST);
  struct stat s;
  ASSERT_EQ(stat(outside.Path("secret").c_str(), &s), 0);
  EXPECT_NE(s.st_mode & 0777, 0u);
}

TEST(Server, NodeLimitIsEnfileUntilForgotten) {
  ServedDir served({.max_nodes = 10, .max_fds = 0});
  served.dir().Write("f", "");
  auto c = Connected(served);
  NodeId root = c->mount().root.node;
  std::vector<NodeId> nodes;
  for (int i = 0; i < 9; ++i) {
    auto node = c->Lookup(root, "f");
    ASSERT_TRUE(node.ok());
    nodes.push_back(node->node);
  }
  EXPECT_EQ(c->Lookup(root, "f").error_number(), ENFILE);
  c->Forget(nodes[0]);  // queued: the client sends it when the server says ENFILE
  EXPECT_TRUE(c->Lookup(root, "f").ok());
  EXPECT_EQ(c->Create(root, "new", O_RDWR, 0600, kKeepId, kKeepId).error_number(), ENFILE);
  EXPECT_NE(access(served.dir().Path("new").c_str(), F_OK), 0);
}

TEST(Server, DirectoriesBeyondTheFdLimitAreEnfile) {
  ServedDir served({.max_fds = 32});
  auto c = Connected(served);
  NodeId root = c->mount().root.node;
  std::vector<NodeId> nodes;
  int error = 0;
  for (int i = 0; i < 64 && error == 0; ++i) {
    auto dir = c->Mkdir(root, "d" + std::to_string(i), 0700, kKeepId, kKeepId);
    error = dir.error_number();
    if (dir.ok()) nodes.push_back(dir->node);
  }
  EXPECT_EQ(error, ENFILE);
  EXPECT_GE(nodes.size(), 20u);
  for (NodeId node : nodes) c->Forget(node);
  EXPECT_TRUE(c->Lookup(root, "d0").ok());
}

TEST(Server, DeadPeerIsEioAndReportedOnce) {
  auto ends = MakeSocketPair();
  ASSERT_TRUE(ends.ok());
  GoferConfig config{.confine = false};
  TempDir dir;
  config.trees.push_back({.socket = std::move(ends->first), .root_path = dir.path()});
  int server_fd = dup(config.trees[0].socket.get());
  std::thread server([&] { EXPECT_TRUE(RunGofer(std::move(config)).ok()); });
  std::atomic<int> reports{0};
  auto c = Client::Connect(std::move(ends->second), {.on_disconnect = [&] { ++reports; }});
  ASSERT_TRUE(c.ok());
  NodeId root = (*c)->mount().root.node;
  EXPECT_TRUE((*c)->GetAttr(root).ok());
  ShutdownSocket(server_fd);
  server.join();
  for (int i = 0; i < 3; ++i) EXPECT_EQ((*c)->GetAttr(root).error_number(), EIO);
  EXPECT_FALSE((*c)->connected());
  EXPECT_EQ(reports, 1);
  close(server_fd);
}

TEST(Server, BadConfigurationsAreNamed) {
  EXPECT_FALSE(RunGofer({}).ok());
  GoferConfig config{.confine = false};
  config.trees.push_back({.socket = base::UniqueFd(open("/dev/null", O_RDWR | O_CLOEXEC)), .root_path = "/x"});
  absl::Status status = RunGofer(std::move(config));
  EXPECT_NE(std::string(status.message()).find("/x"), std::string::npos);
  auto ends = MakeSocketPair();
  GoferConfig missing{.confine = false};
  missing.trees.push_back({.socket = std::move(ends->first), .root_path = "/does/not/exist"});
  status = RunGofer(std::move(missing));
  EXPECT_NE(std::string(status.message()).find("/does/not/exist"), std::string::npos);
}

}  // namespace
}  // namespace gofer
