// SPDX-License-Identifier: Apache-2.0
// poll(2), ppoll(2), select(2), pselect6(2).
#include <poll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>

#include <algorithm>
#include <deque>

#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

struct Watched {
  vfs::FileRef file;  // null: not to be looked at
  EventMask wanted = 0;
  EventMask ready = 0;
};

// How many have events, once one has; waits until `deadline_ns` (0 of them then). Interrupted: kErestartsys.
Result<int> PollFiles(Task& task, std::vector<Watched>& files, int64_t deadline_ns) {
  std::deque<BlockerEntry> entries;
  // What came together with a signal or the deadline is still taken, as Linux does.
  Result<void> slept;
  for (bool registered = false;; registered = true) {
    int count = 0;
    for (Watched& w : files) {
      if (!w.file) continue;
      w.ready = w.file->Poll() & (w.wanted | EPOLLERR | EPOLLHUP);
      count += w.ready != 0;
    }
    if (count) return count;
    if (!slept.ok()) return slept.error() == Errno(ETIMEDOUT) ? Result<int>(0) : slept.error();
    if (registered) {
      slept = task.Block(deadline_ns);
      continue;
    }
    if (deadline_ns != kNoDeadline && deadline_ns <= base::MonotonicNs()) return 0;
    for (Watched& w : files) {
      WaitQueue* queue = w.file ? w.file->wait_queue() : nullptr;
      if (queue) queue->Add(entries.emplace_back(task.blocker()), w.wanted);
    }
  }
}

Result<int> DoPoll(Task& task, UserAddr address, uint64_t count, int64_t deadline_ns) {
  if (count > task.SoftLimit(RLIMIT_NOFILE)) return Errno(EINVAL);
  std::vector<pollfd> fds(count);
  if (count) TRY(task.CopyInBytes(address, fds.data(), count * sizeof(pollfd)));
  std::vector<Watched> files(count);
  int invalid = 0;
  for (size_t i = 0; i < count; ++i) {
    fds[i].revents = 0;
    if (fds[i].fd < 0) continue;
    auto file = GetFile(task, fds[i].fd);
    if (!file.ok()) {
      fds[i].revents = POLLNVAL;
      ++invalid;
      continue;
    }
    files[i] = {std::move(*file), static_cast<EventMask>(static_cast<unsigned short>(fds[i].events))};
  }
  int ready = TRY(PollFiles(task, files, invalid ? 0 : deadline_ns));
  for (size_t i = 0; i < count; ++i) {
    if (files[i].file) fds[i].revents = static_cast<short>(files[i].ready);
    TRY(task.CopyOut(address + i * sizeof(pollfd) + offsetof(pollfd, revents), fds[i].revents));
  }
  return ready + invalid;
}

Value PollOrRestart(Task& task, UserAddr address, uint64_t count, int64_t deadline_ns) {
  auto ready = DoPoll(task, address, count, deadline_ns);
  if (ready.ok()) return *ready;
  if (ready.error() != base::kErestartsys) return ready.error();
  task.restart_block = [address, count, deadline_ns](Task& t) { return PollOrRestart(t, address, count, deadline_ns); };
  return base::kErestartRestartblock;
}

constexpr size_t kWordBits = 64;
using BitWords = std::vector<uint64_t>;

Result<BitWords> CopyInSet(Task& task, UserAddr address, int count) {
  BitWords words((count + kWordBits - 1) / kWordBits);
  if (!address.IsNull() && !words.empty()) TRY(task.CopyInBytes(address, words.data(), words.size() * 8));
  return words;
}

// select(2)'s three sets as poll events (fs/select.c).
constexpr EventMask kSelectIn = EPOLLIN | EPOLLRDNORM | EPOLLRDBAND | EPOLLHUP | EPOLLERR;
constexpr EventMask kSelectOut = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLERR;
constexpr EventMask kSelectExcept = EPOLLPRI;

Result<int> DoSelect(Task& task, int count, UserAddr in_address, UserAddr out_address, UserAddr except_address,
                     int64_t deadline_ns) {
  if (count < 0) return Errno(EINVAL);
  count = static_cast<int>(std::min<uint64_t>(count, std::max<uint64_t>(task.SoftLimit(RLIMIT_NOFILE), 1024)));
  BitWords in = TRY(CopyInSet(task, in_address, count)), out = TRY(CopyInSet(task, out_address, count)),
           except = TRY(CopyInSet(task, except_address, count));
  std::vector<Watched> files;
  std::vector<int> numbers;
  for (int fd = 0; fd < count; ++fd) {
    uint64_t bit = uint64_t{1} << (fd % kWordBits);
    size_t word = fd / kWordBits;
    EventMask wanted = (in[word] & bit ? kSelectIn : 0) | (out[word] & bit ? kSelectOut : 0) |
                       (except[word] & bit ? kSelectExcept : 0);
    if (!wanted) continue;
    files.push_back({TRY(GetFile(task, fd)), wanted});
    numbers.push_back(fd);
  }
  TRY(PollFiles(task, files, deadline_ns));
  BitWords in_ready(in.size()), out_ready(in.size()), except_ready(in.size());
  int total = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    uint64_t bit = uint64_t{1} << (numbers[i] % kWordBits);
    size_t word = numbers[i] / kWordBits;
    auto report = [&](const BitWords& asked, EventMask events, BitWords& ready) {
      if (!(asked[word] & bit) || !(files[i].ready & events)) return;
      ready[word] |= bit;
      ++total;
    };
    report(in, kSelectIn, in_ready);
    report(out, kSelectOut, out_ready);
    report(except, kSelectExcept, except_ready);
  }
  if (!in_address.IsNull() && !in.empty()) TRY(task.CopyOutBytes(in_address, in_ready.data(), in_ready.size() * 8));
  if (!out_address.IsNull() && !in.empty()) TRY(task.CopyOutBytes(out_address, out_ready.data(), out_ready.size() * 8));
  if (!except_address.IsNull() && !in.empty())
    TRY(task.CopyOutBytes(except_address, except_ready.data(), except_ready.size() * 8));
  return total;
}

// The time left goes back to the guest's time-out (poll_select_finish); a fault there is ignored.
template <typename T>
void CopyOutRemaining(Task& task, UserAddr address, int64_t deadline_ns) {
  if (address.IsNull() || deadline_ns == kNoDeadline) return;
  int64_t left = std::max<int64_t>(deadline_ns - base::MonotonicNs(), 0);
  T value;
  if constexpr (std::is_same_v<T, timeval>)
    value = {left / base::kNsPerSecond, left % base::kNsPerSecond / 1000};
  else
    value = {left / base::kNsPerSecond, left % base::kNsPerSecond};
  (void)task.CopyOut(address, value).ok();
}

Errno NoHand(Errno error) { return error == base::kErestartsys ? base::kErestartnohand : error; }

}  // namespace

SYSCALL_HANDLER(SysPoll) {
  int timeout_ms = args.Int(2);
  int64_t deadline = timeout_ms < 0    ? kNoDeadline
                     : timeout_ms == 0 ? 0
                                       : DeadlineAfter(timeout_ms * int64_t{1'000'000});
  return PollOrRestart(task, args.Addr(0), args.Uint(1), deadline);
}

SYSCALL_HANDLER(SysPpoll) {
  int64_t deadline = TRY(CopyInTimeoutDeadline(task, args.Addr(2)));
  if (!args.Addr(3).IsNull()) task.SetTemporaryMask(TRY(CopyInSignalSet(task, args.Addr(3), args.Size(4))));
  auto ready = DoPoll(task, args.Addr(0), args.Uint(1), deadline);
  CopyOutRemaining<timespec>(task, args.Addr(2), deadline);
  if (!ready.ok()) return NoHand(ready.error());
  return *ready;
}

SYSCALL_HANDLER(SysSelect) {
  int64_t deadline = kNoDeadline;
  if (!args.Addr(4).IsNull()) {
    timeval tv = TRY(task.CopyIn<timeval>(args.Addr(4)));
    if (tv.tv_sec < 0 || tv.tv_usec < 0) return Errno(EINVAL);
    int64_t ns;
    if (__builtin_mul_overflow(tv.tv_sec, base::kNsPerSecond, &ns) ||
        __builtin_mul_overflow(tv.tv_usec, 1000, &tv.tv_usec) || __builtin_add_overflow(ns, tv.tv_usec, &ns))
      ns = INT64_MAX;
    deadline = DeadlineAfter(ns);
  }
  auto ready = DoSelect(task, args.Int(0), args.Addr(1), args.Addr(2), args.Addr(3), deadline);
  CopyOutRemaining<timeval>(task, args.Addr(4), deadline);
  if (!ready.ok()) return NoHand(ready.error());
  return *ready;
}

SYSCALL_HANDLER(SysPselect6) {
  int64_t deadline = TRY(CopyInTimeoutDeadline(task, args.Addr(4)));
  if (!args.Addr(5).IsNull()) {
    struct MaskArgument {
      uint64_t address, size;
    };
    MaskArgument mask = TRY(task.CopyIn<MaskArgument>(args.Addr(5)));
    if (mask.address) task.SetTemporaryMask(TRY(CopyInSignalSet(task, UserAddr(mask.address), mask.size)));
  }
  auto ready = DoSelect(task, args.Int(0), args.Addr(1), args.Addr(2), args.Addr(3), deadline);
  CopyOutRemaining<timespec>(task, args.Addr(4), deadline);
  if (!ready.ok()) return NoHand(ready.error());
  return *ready;
}

}  // namespace sentry::syscalls
