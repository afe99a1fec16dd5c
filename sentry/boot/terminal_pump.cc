// SPDX-License-Identifier: Apache-2.0
#include "sentry/boot/terminal_pump.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "sentry/boot/terminal.h"
#include "sentry/kernel/core/io.h"

namespace sentry {

struct TerminalPump::State {
  base::UniqueFd host;
  vfs::FileRef master;
  base::Mutex mu{base::LockRank::kBoot};
  base::CondVar changed;
  bool output_ended ABSL_GUARDED_BY(mu) = false;
  // The thread that reads the host's terminal, while it runs.
  std::optional<pthread_t> input ABSL_GUARDED_BY(mu);

  // It waits on the host alone: SIGWINCH makes it look.
  void EndOutput() {
    base::MutexLock lock(mu);
    output_ended = true;
    changed.NotifyAll();
    if (input) pthread_kill(*input, SIGWINCH);
  }
  bool OutputEnded() {
    base::MutexLock lock(mu);
    return output_ended;
  }
};

namespace {

// Writes all of it; false when the user's side is gone.
bool WriteAll(int fd, const uint8_t* data, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, data, length);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return false;
      pollfd p{.fd = fd, .events = POLLOUT, .revents = 0};
      poll(&p, 1, -1);
      continue;
    }
    data += n;
    length -= static_cast<size_t>(n);
  }
  return true;
}

// The host's terminal is this process's controlling one: the kernel sends SIGWINCH when its size changes. The threads
// of a sentry block it (BlockResizes); the ones that feed terminals take it while they wait here, and only then, so
// that none is missed.
void AwaitInputOrResize(int host) {
  sigset_t mask;
  pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  sigdelset(&mask, SIGWINCH);
  pollfd p{.fd = host, .events = POLLIN, .revents = 0};
  ppoll(&p, 1, nullptr, &mask);
}

void CopySize(int host, vfs::FileDescription& master, winsize* last) {
  winsize now = {};
  if (ioctl(host, TIOCGWINSZ, &now) != 0 || memcmp(&now, last, sizeof now) == 0) return;
  *last = now;
  if (now.ws_row || now.ws_col) SetTerminalSize(master, now.ws_row, now.ws_col);
}

}  // namespace

void BlockResizes() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigaction(SIGWINCH, &action, nullptr);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGWINCH);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

std::shared_ptr<TerminalPump> TerminalPump::Start(base::UniqueFd host, vfs::FileRef master) {
  auto state = std::make_shared<State>();
  state->host = std::move(host);
  state->master = std::move(master);
  std::thread([state] {
    Blocker blocker;
    BlockerEntry entry(blocker);
    state->master->wait_queue()->Add(entry, kAllEvents);
    uint8_t buffer[8192];
    for (;;) {
      BufferTarget target(buffer, sizeof buffer);
      auto n = state->master->Read(target);
      if (n.ok() && *n > 0) {
        if (!WriteAll(state->host.get(), buffer, *n)) break;
        continue;
      }
      if (n.ok() || n.error() != Errno(EAGAIN)) break;
      blocker.Wait(kNoDeadline);
    }
    state->EndOutput();
  }).detach();
  std::thread([state] {
    {
      base::MutexLock lock(state->mu);
      state->input = pthread_self();
    }
    base::Cleanup over([&] {
      base::MutexLock lock(state->mu);
      state->input.reset();
    });
    Blocker blocker;
    BlockerEntry entry(blocker);
    state->master->wait_queue()->Add(entry, kAllEvents);
    uint8_t buffer[8192];
    winsize size = {};
    while (!state->OutputEnded()) {
      CopySize(state->host.get(), *state->master, &size);
      AwaitInputOrResize(state->host.get());
      pollfd p{.fd = state->host.get(), .events = POLLIN, .revents = 0};
      if (poll(&p, 1, 0) <= 0) continue;
      ssize_t n = read(state->host.get(), buffer, sizeof buffer);
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n <= 0) break;
      BufferSource source(buffer, static_cast<size_t>(n));
      while (source.remaining()) {
        auto put = state->master->Write(source);
        if (put.ok()) continue;
        if (put.error() != Errno(EAGAIN)) return;
        blocker.Wait(kNoDeadline);
      }
    }
  }).detach();
  return std::shared_ptr<TerminalPump>(new TerminalPump(std::move(state)));
}

void TerminalPump::Drain(int64_t timeout_ns) {
  base::MutexLock lock(state_->mu);
  int64_t deadline = base::MonotonicNs() + timeout_ns;
  while (!state_->output_ended && state_->changed.WaitUntil(state_->mu, deadline)) {
  }
}

}  // namespace sentry
