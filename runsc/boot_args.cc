// SPDX-License-Identifier: Apache-2.0
#include "runsc/boot_args.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

namespace runsc {
namespace {

void Report(int fd, const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    // The CLI is gone: there is nobody to tell.
    if (n <= 0) return;
    done += n;
  }
}

}  // namespace

void ReportReady(base::UniqueFd report_fd) { Report(report_fd.get(), "R\n"); }

void ReportFailure(base::UniqueFd report_fd, const std::string& line) {
  std::string bytes = "E" + line.substr(0, 4000);
  std::replace(bytes.begin(), bytes.end(), '\n', ' ');
  Report(report_fd.get(), bytes + "\n");
}

bool PassHookGate(base::UniqueFd gate) {
  if (!gate.ok()) return true;
  Report(gate.get(), "n");
  char go;
  ssize_t n;
  do {
    n = read(gate.get(), &go, 1);
  } while (n < 0 && errno == EINTR);
  return n == 1;
}

void RecordExitStatus(int exit_status_fd, int wait_status) {
  char text[kExitStatusSize];
  int n = snprintf(text, sizeof text, "%d\n", wait_status);
  // A full disk leaves the status unknown; the process's own exit code still tells whoever reaps it.
  [[maybe_unused]] ssize_t written = pwrite(exit_status_fd, text, n, 0);
}

ExitStatusView::ExitStatusView(int exit_status_fd) {
  if (exit_status_fd < 0) return;
  void* mapped = mmap(nullptr, kExitStatusSize, PROT_READ, MAP_SHARED, exit_status_fd, 0);
  if (mapped != MAP_FAILED) text_ = static_cast<const char*>(mapped);
}

ExitStatusView::~ExitStatusView() {
  if (text_) munmap(const_cast<char*>(text_), kExitStatusSize);
}

int ExitStatusView::WaitStatus() const {
  char text[kExitStatusSize + 1] = {};
  if (text_) memcpy(text, text_, kExitStatusSize);
  char* end = nullptr;
  const long value = strtol(text, &end, 10);
  return end == text || *end != '\n' || value < 0 || value > 0xffff ? SIGKILL : static_cast<int>(value);
}

int ExitCodeOf(int wait_status) {
  if (WIFSIGNALED(wait_status)) return 128 + WTERMSIG(wait_status);
  return WEXITSTATUS(wait_status);
}

}  // namespace runsc
