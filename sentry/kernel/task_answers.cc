// SPDX-License-Identifier: Apache-2.0
// System calls that the platform may answer without the sentry (platform::Context::SetAnswer).
#include <sys/syscall.h>

#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

constexpr uint32_t kAnswered[] = {SYS_getpid, SYS_gettid,  SYS_getppid,       SYS_getuid,       SYS_geteuid,
                                  SYS_getgid, SYS_getegid, SYS_clock_gettime, SYS_gettimeofday, SYS_time};

std::atomic<bool> calls_are_watched{false};

// Ids of a user namespace change when its maps are written, by anybody.
bool MapsAreFinal(const Credentials& creds) {
  return !creds.user_ns || (creds.user_ns->HasMap(IdKind::kUser) && creds.user_ns->HasMap(IdKind::kGroup));
}

// T held. Null: the call makes an event.
std::optional<uint32_t> AnswerLocked(Task& task, uint32_t number, bool final_ids) {
  const Credentials& creds = *task.creds();
  const RefPtr<TimeNamespace>& time = task.namespaces().time;
  auto id = [&](uint32_t shown) { return final_ids ? std::optional<uint32_t>(shown) : std::nullopt; };
  switch (number) {
    case SYS_getpid:
      return static_cast<uint32_t>(task.CallerTgid());
    case SYS_gettid:
      return static_cast<uint32_t>(task.CallerTid());
    case SYS_getppid: {
      const Task* parent = task.group().state().parent;
      return parent ? static_cast<uint32_t>(parent->group().TgidIn(task.pid_ns())) : 0;
    }
    case SYS_getuid:
      return id(creds.ShownUid(creds.ruid));
    case SYS_geteuid:
      return id(creds.ShownUid(creds.euid));
    case SYS_getgid:
      return id(creds.ShownGid(creds.rgid));
    case SYS_getegid:
      return id(creds.ShownGid(creds.egid));
    default:  // clocks; a task is in a namespace whose offsets are fixed
      return !time || time->offsets().monotonic_ns == 0 ? std::optional<uint32_t>(0) : std::nullopt;
  }
}

}  // namespace

void WatchCalls() { calls_are_watched.store(true, std::memory_order_relaxed); }

void Task::Internal::PublishAnswers(Task& task) {
  Internal& internal = *task.internal_;
  MutexLock lock(task.kernel_.tasks().mu());
  internal.answers_stale.store(false, std::memory_order_relaxed);
  internal.answers_traced = internal.trace_syscalls.load();
  const bool watched = calls_are_watched.load(std::memory_order_relaxed) || internal.answers_traced;
  const int mode = internal.seccomp.mode.load(std::memory_order_relaxed);
  const SeccompFilter* filter = internal.seccomp.filter.load(std::memory_order_relaxed);
  const bool final_ids = MapsAreFinal(*task.creds_);
  for (uint32_t number : kAnswered) {
    const bool allowed =
        mode == SECCOMP_MODE_DISABLED || (mode == SECCOMP_MODE_FILTER && filter && filter->AlwaysAllows(number));
    task.context_->SetAnswer(number, watched || !allowed ? std::nullopt : AnswerLocked(task, number, final_ids));
  }
}

void Task::Internal::WithdrawAnswer(Task& task, uint32_t number) {
  task.internal_->answers_stale.store(true, std::memory_order_relaxed);
  if (task.context_) task.context_->SetAnswer(number, std::nullopt);
}

void Task::Internal::WithdrawAnswers(Task& task) {
  for (uint32_t number : kAnswered) WithdrawAnswer(task, number);
}

}  // namespace sentry::kernel
