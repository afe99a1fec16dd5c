// SPDX-License-Identifier: Apache-2.0
// A process's streams as containerd names them: the paths of fifos, file:///PATH, binary:///PATH?ARG=VALUE (a logger)
// or nothing. Without a terminal the container gets the fifos themselves and nothing is copied here; with one, two
// threads copy between the terminal's master and the fifos. Thread-safe.
#ifndef SHIM_IO_H_
#define SHIM_IO_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace shim {

struct IoRequest {
  bool terminal = false;
  std::string in, out, err;
  std::string container_id;  // for loggers
  std::string name_space;
};

class ProcessIo : public std::enable_shared_from_this<ProcessIo> {
 public:
  // Opens the files and starts the logger. Errors name the path.
  static absl::StatusOr<std::shared_ptr<ProcessIo>> Open(const IoRequest& request);

  // What the process gets as 0, 1 and 2; -1 for /dev/null. Without a terminal only. Borrowed.
  std::vector<int> ChildFds() const;
  // The process has them: our copies go, so that a reader sees their end.
  void ChildStarted();
  // With a terminal: starts to copy.
  absl::Status Attach(base::UniqueFd master);
  absl::Status Resize(uint16_t rows, uint16_t columns);
  // No more input: the process sees the end once what is on its way is read.
  void CloseStdin();
  // The process has ended: what its terminal still holds comes out (a second at most).
  void Drain();
  // Lets go of everything.
  void Close();

 private:
  absl::Status OpenInput(const std::string& path);
  absl::Status OpenOutput(const std::string& path, base::UniqueFd* child);
  absl::Status StartLogger(const std::string& uri, const IoRequest& request);
  void CopyOutput();
  void CopyInput();

  base::UniqueFd child_[3];
  // Our own ends of the fifos: a container whose client has gone blocks when a fifo is full, and is not killed by it.
  std::vector<base::UniqueFd> keepers_;
  mutable base::Mutex mu_;
  base::CondVar changed_;
  base::UniqueFd stdin_keeper_ ABSL_GUARDED_BY(mu_);
  bool output_done_ ABSL_GUARDED_BY(mu_) = true;
  base::UniqueFd master_;
  base::UniqueFd stop_;  // eventfd: input ends
};

}  // namespace shim

#endif  // SHIM_IO_H_
