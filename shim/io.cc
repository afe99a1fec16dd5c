// SPDX-License-Identifier: Apache-2.0
#include "shim/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/log.h"
#include "runsc/errors.h"
#include "shim/reaper.h"
#include "shim/thread.h"

namespace shim {
namespace {

constexpr char kFileScheme[] = "file://";
constexpr char kBinaryScheme[] = "binary://";
constexpr int kLoggerTimeoutMs = 10'000;
constexpr size_t kChunk = 16 << 10;

absl::Status PathError(const std::string& path) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", runsc::ErrnoText(errno)));
}

bool IsFifo(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 && S_ISFIFO(st.st_mode);
}

// %41 -> A, + -> space.
std::string Unescape(absl::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    int value;
    if (text[i] == '%' && i + 2 < text.size() &&
        sscanf(std::string(text.substr(i + 1, 2)).c_str(), "%2x", &value) == 1) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

bool WriteAll(int fd, const char* data, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, data, length);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) {
      pollfd p{.fd = fd, .events = POLLOUT};
      poll(&p, 1, -1);
      continue;
    }
    if (n < 0) return false;
    data += n;
    length -= n;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::shared_ptr<ProcessIo>> ProcessIo::Open(const IoRequest& request) {
  auto io = std::make_shared<ProcessIo>();
  io->stop_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!io->stop_.ok()) return absl::ResourceExhaustedError(absl::StrCat("eventfd: ", strerror(errno)));
  if (!request.in.empty()) RETURN_IF_ERROR(io->OpenInput(request.in));
  if (absl::StartsWith(request.out, kBinaryScheme)) {
    RETURN_IF_ERROR(io->StartLogger(request.out, request));
  } else {
    if (!request.out.empty()) RETURN_IF_ERROR(io->OpenOutput(request.out, &io->child_[1]));
    // A terminal has one output.
    if (!request.err.empty() && !request.terminal) RETURN_IF_ERROR(io->OpenOutput(request.err, &io->child_[2]));
  }
  // A stream that nobody asked for is there all the same: the program would take its number for another file.
  for (base::UniqueFd& fd : io->child_) {
    if (!fd.ok() && !request.terminal) fd.Reset(open("/dev/null", O_RDWR | O_CLOEXEC));
  }
  return io;
}

absl::Status ProcessIo::OpenInput(const std::string& path) {
  if (!IsFifo(path)) {
    child_[0].Reset(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    return child_[0].ok() ? absl::OkStatus() : PathError(path);
  }
  // The writer may not be there yet: until it is, and until CloseIO, our own writing end keeps the input open. fifo(7):
  // read and write at once never waits.
  base::MutexLock lock(mu_);
  stdin_keeper_.Reset(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!stdin_keeper_.ok()) return PathError(path);
  child_[0].Reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return child_[0].ok() ? absl::OkStatus() : PathError(path);
}

absl::Status ProcessIo::OpenOutput(const std::string& path, base::UniqueFd* child) {
  if (absl::StartsWith(path, kFileScheme)) {
    std::string file = path.substr(strlen(kFileScheme));
    child->Reset(open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644));
    return child->ok() ? absl::OkStatus() : PathError(file);
  }
  if (!IsFifo(path)) {
    child->Reset(open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY));
    return child->ok() ? absl::OkStatus() : PathError(path);
  }
  base::UniqueFd keeper(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!keeper.ok()) return PathError(path);
  child->Reset(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!child->ok()) return PathError(path);
  keepers_.push_back(std::move(keeper));
  return absl::OkStatus();
}

absl::Status ProcessIo::StartLogger(const std::string& uri, const IoRequest& request) {
  std::vector<std::string> parts = absl::StrSplit(uri.substr(strlen(kBinaryScheme)), absl::MaxSplits('?', 1));
  SpawnOptions options{
      .argv = {parts[0]},
      .extra_env = {"CONTAINER_ID=" + request.container_id, "CONTAINER_NAMESPACE=" + request.name_space}};
  if (parts.size() > 1) {
    for (absl::string_view pair : absl::StrSplit(parts[1], '&', absl::SkipEmpty())) {
      std::vector<absl::string_view> both = absl::StrSplit(pair, absl::MaxSplits('=', 1));
      options.argv.push_back(Unescape(both[0]));
      if (both.size() > 1 && !both[1].empty()) options.argv.push_back(Unescape(both[1]));
    }
  }
  int out[2], err[2], ready[2];
  if (pipe2(out, O_CLOEXEC) != 0) return absl::ResourceExhaustedError("pipe");
  base::UniqueFd out_read(out[0]);
  child_[1].Reset(out[1]);
  if (pipe2(err, O_CLOEXEC) != 0) return absl::ResourceExhaustedError("pipe");
  base::UniqueFd err_read(err[0]);
  child_[2].Reset(err[1]);
  if (pipe2(ready, O_CLOEXEC) != 0) return absl::ResourceExhaustedError("pipe");
  base::UniqueFd ready_read(ready[0]), ready_write(ready[1]);
  options.fds = {{3, out_read.get()}, {4, err_read.get()}, {5, ready_write.get()}};
  auto pid = Reaper::Get().Spawn(options);
  if (!pid.ok()) return runsc::Annotate(pid.status(), uri);
  ready_write.Reset();
  // It closes that one, or writes to it, once it reads.
  pollfd p{.fd = ready_read.get(), .events = POLLIN};
  if (poll(&p, 1, kLoggerTimeoutMs) <= 0) {
    return absl::DeadlineExceededError(absl::StrCat(uri, ": the logger is not ready within 10 s"));
  }
  return absl::OkStatus();
}

std::vector<int> ProcessIo::ChildFds() const { return {child_[0].get(), child_[1].get(), child_[2].get()}; }

void ProcessIo::ChildStarted() {
  for (base::UniqueFd& fd : child_) fd.Reset();
}

absl::Status ProcessIo::Attach(base::UniqueFd master) {
  master_ = std::move(master);
  {
    base::MutexLock lock(mu_);
    output_done_ = false;
  }
  auto self = shared_from_this();
  if (!StartThread([self] { self->CopyOutput(); })) return absl::ResourceExhaustedError("no thread for a terminal");
  if (child_[0].ok() && !StartThread([self] { self->CopyInput(); })) {
    return absl::ResourceExhaustedError("no thread for a terminal");
  }
  return absl::OkStatus();
}

void ProcessIo::CopyOutput() {
  char buffer[kChunk];
  while (true) {
    // A process of the container's that outlives the one of the terminal may hold on to it: Close ends the wait.
    pollfd fds[2] = {{.fd = master_.get(), .events = POLLIN}, {.fd = stop_.get(), .events = POLLIN}};
    if (poll(fds, 2, -1) < 0 && errno == EINTR) continue;
    if (!fds[0].revents && fds[1].revents) break;
    ssize_t n = read(master_.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    // EIO: nobody has the other side open.
    if (n <= 0) break;
    if (child_[1].ok() && !WriteAll(child_[1].get(), buffer, n)) child_[1].Reset();
  }
  child_[1].Reset();
  base::MutexLock lock(mu_);
  output_done_ = true;
  changed_.NotifyAll();
}

void ProcessIo::CopyInput() {
  char buffer[kChunk];
  while (true) {
    pollfd fds[2] = {{.fd = child_[0].get(), .events = POLLIN}, {.fd = stop_.get(), .events = POLLIN}};
    if (poll(fds, 2, -1) < 0 && errno == EINTR) continue;
    if (fds[1].revents) break;
    ssize_t n = read(child_[0].get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || !WriteAll(master_.get(), buffer, n)) break;
  }
  child_[0].Reset();
}

absl::Status ProcessIo::Resize(uint16_t rows, uint16_t columns) {
  winsize size{.ws_row = rows, .ws_col = columns};
  if (!master_.ok() || ioctl(master_.get(), TIOCSWINSZ, &size) != 0) {
    return absl::FailedPreconditionError("the process has no terminal");
  }
  return absl::OkStatus();
}

void ProcessIo::CloseStdin() {
  base::MutexLock lock(mu_);
  stdin_keeper_.Reset();
}

void ProcessIo::Drain() {
  const int64_t deadline = base::MonotonicNs() + base::kNsPerSecond;
  base::MutexLock lock(mu_);
  while (!output_done_ && changed_.WaitUntil(mu_, deadline)) {
  }
}

void ProcessIo::Close() {
  uint64_t one = 1;
  [[maybe_unused]] ssize_t n = write(stop_.get(), &one, sizeof one);
  CloseStdin();
  keepers_.clear();
}

}  // namespace shim
