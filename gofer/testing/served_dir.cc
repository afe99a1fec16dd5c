// SPDX-License-Identifier: Apache-2.0
#include "gofer/testing/served_dir.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "base/log.h"
#include "gofer/protocol/host_transport.h"

namespace gofer {

TempDir::TempDir() {
  const char* base = getenv("TEST_TMPDIR");
  path_ = std::string(base ? base : "/tmp") + "/gofer.XXXXXX";
  CHECK_THAT(mkdtemp(path_.data()) != nullptr);
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void TempDir::Write(const std::string& name, const std::string& text) const {
  std::ofstream(Path(name), std::ios::binary) << text;
}

std::string TempDir::Read(const std::string& name) const {
  std::ifstream in(Path(name), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

ServedDir::ServedDir(Connection::Settings settings) : ServedDir("", settings) {}

ServedDir::ServedDir(const std::string& path, Connection::Settings settings) {
  auto ends = MakeSocketPair();
  CHECK_THAT(ends.ok());
  socket_ = std::move(ends->second);
  GoferConfig config{.confine = false};
  config.trees.push_back(
      {.socket = std::move(ends->first), .root_path = path.empty() ? dir_.path() : path, .settings = settings});
  thread_ = std::thread([this, config = std::move(config)]() mutable { result_ = RunGofer(std::move(config)); });
}

ServedDir::~ServedDir() { (void)Finish(); }

base::Result<std::unique_ptr<Client>> ServedDir::Connect(Client::Options options) {
  return Client::Connect(std::move(socket_), std::move(options));
}

absl::Status ServedDir::Finish() {
  socket_.Reset();
  if (thread_.joinable()) thread_.join();
  return result_;
}

}  // namespace gofer
