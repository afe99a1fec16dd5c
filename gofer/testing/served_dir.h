// SPDX-License-Identifier: Apache-2.0
// For tests: a temporary directory, served by a gofer on a thread of the test's own process, unconfined.
#ifndef GOFER_TESTING_SERVED_DIR_H_
#define GOFER_TESTING_SERVED_DIR_H_

#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "base/unique_fd.h"
#include "gofer/protocol/client.h"
#include "gofer/server/server.h"

namespace gofer {

// An empty directory below TEST_TMPDIR (or /tmp), removed with all it holds at the end.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  const std::string& path() const { return path_; }
  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  void Write(const std::string& name, const std::string& text) const;
  std::string Read(const std::string& name) const;

 private:
  std::string path_;
};

class ServedDir {
 public:
  explicit ServedDir(Connection::Settings settings = {.max_fds = 0});
  // Serves `path` instead of a directory of its own.
  ServedDir(const std::string& path, Connection::Settings settings);
  // Hangs up and waits for the server to end.
  ~ServedDir();

  const TempDir& dir() const { return dir_; }
  // The client's end, for tests that speak raw bytes; -1 once a client has it.
  int raw_socket() const { return socket_.get(); }
  base::Result<std::unique_ptr<Client>> Connect(Client::Options options = {});
  // What RunGofer returned; waits for it. The client must have hung up.
  absl::Status Finish();

 private:
  TempDir dir_;
  base::UniqueFd socket_;
  absl::Status result_;
  std::thread thread_;
};

}  // namespace gofer

#endif  // GOFER_TESTING_SERVED_DIR_H_
