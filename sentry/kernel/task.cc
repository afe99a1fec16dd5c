// SPDX-License-Identifier: Apache-2.0
// Task: construction, and the plain accessors.
#include "sentry/kernel/task.h"

#include <x86intrin.h>

#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {

Result<RefPtr<ExeFile>> ExeFile::Create(vfs::FileRef file) {
  TRY(file->inode()->DenyWriteAccess());
  return RefPtr<ExeFile>(new ExeFile(std::move(file)));
}

ExeFile::~ExeFile() { file_->inode()->AllowWriteAccess(); }

Task::Task(Kernel& kernel, RefPtr<ThreadGroup> group)
    : kernel_(kernel),
      group_(std::move(group)),
      start_time_ns_(base::ClockNs(CLOCK_BOOTTIME)),
      ptrace_(std::make_unique<PtraceState>()),
      internal_(std::make_unique<Internal>()) {}

Task::~Task() = default;

pid_t Task::TidIn(const PidNamespace& ns) const {
  if (ns.level() == 0) return tid();
  if (!pid_ns().IsSameOrDescendantOf(ns)) return 0;
  return internal_->ids[ns.level()].load(std::memory_order_relaxed);
}

std::string Task::name() const {
  MutexLock lock(mu_);
  return name_;
}

void Task::set_name(std::string_view name) {
  MutexLock lock(mu_);
  name_ = name.substr(0, 15);
}

RefPtr<mm::MemoryManager> Task::mm_ref() const {
  MutexLock lock(mu_);
  return mm_;
}

RefPtr<FdTable> Task::fds_ref() const {
  MutexLock lock(mu_);
  return fds_;
}

RefPtr<vfs::FsContext> Task::fs_ref() const {
  MutexLock lock(mu_);
  return fs_;
}

RefPtr<Namespaces> Task::namespaces_ref() const {
  MutexLock lock(mu_);
  return namespaces_;
}

// The old values go after the lock: their last reference may close files.
void Task::set_fds(RefPtr<FdTable> fds) {
  MutexLock lock(mu_);
  std::swap(fds_, fds);
}

void Task::set_fs(RefPtr<vfs::FsContext> fs) {
  MutexLock lock(mu_);
  std::swap(fs_, fs);
}

void Task::set_namespaces(RefPtr<Namespaces> value) {
  MutexLock lock(mu_);
  std::swap(namespaces_, value);
  internal_->answers_stale.store(true, std::memory_order_relaxed);
}

RefPtr<const Credentials> Task::creds_ref() const {
  MutexLock lock(mu_);
  return creds_;
}

void Task::set_creds(RefPtr<const Credentials> creds) {
  uid_t old_uid = creds_ ? creds_->ruid : creds->ruid;
  uid_t new_uid = creds->ruid;
  {
    MutexLock lock(mu_);
    std::swap(creds_, creds);
  }
  internal_->answers_stale.store(true, std::memory_order_relaxed);
  if (old_uid != new_uid) kernel_.tasks().MoveTaskCount(*this, new_uid);
}

vfs::Path Task::exe() const {
  MutexLock lock(mu_);
  return exe_;
}

Result<void> Task::CopyInBytes(UserAddr from, void* to, size_t length) {
  size_t n = TRY(mm_->CopyIn(from, to, length));
  if (n != length) return Errno(EFAULT);
  return OkResult();
}

Result<void> Task::CopyOutBytes(UserAddr to, const void* from, size_t length) {
  size_t n = TRY(mm_->CopyOut(to, from, length));
  if (n != length) return Errno(EFAULT);
  return OkResult();
}

Result<std::string> Task::CopyInString(UserAddr from, size_t limit) { return mm_->CopyInString(from, limit); }

pid_t Task::CallerTgid() const { return group_->TgidIn(pid_ns()); }

void Task::RequestExit(int code) {
  internal_->exit_code = code;
  internal_->work.fetch_or(kWorkExit, std::memory_order_release);
}

bool Task::IsExited() const {
  RunState state = internal_->run_state.load(std::memory_order_acquire);
  return state == RunState::kZombie || state == RunState::kDead;
}

char Task::StateLetter() const {
  switch (internal_->run_state.load(std::memory_order_relaxed)) {
    case RunState::kKernel:
    case RunState::kGuest:
      return 'R';
    case RunState::kSleeping:
      return 'S';
    case RunState::kDiskSleep:
      return 'D';
    case RunState::kStopped:
      return 'T';
    case RunState::kTraced:
      return 't';
    case RunState::kZombie:
      return 'Z';
    case RunState::kDead:
      return 'X';
  }
  return 'X';
}

CpuUsage Task::usage() const {
  const Internal& in = *internal_;
  uint64_t now = __rdtsc();
  auto running = [now](const std::atomic<uint64_t>& since) {
    uint64_t start = since.load(std::memory_order_relaxed);
    return start && now > start ? now - start : 0;
  };
  CpuUsage usage;
  usage.user_ns = kernel_.TicksToNs(in.user_ticks.load(std::memory_order_relaxed) + running(in.guest_entry_tick));
  usage.system_ns = kernel_.TicksToNs(in.system_ticks.load(std::memory_order_relaxed) + running(in.kernel_entry_tick));
  usage.voluntary_switches = in.voluntary_switches.load(std::memory_order_relaxed);
  usage.minor_faults = in.minor_faults.load(std::memory_order_relaxed);
  usage.major_faults = in.major_faults.load(std::memory_order_relaxed);
  usage.max_rss_kb = in.max_rss_kb.load(std::memory_order_relaxed);
  usage.read_chars = io_read_.bytes.load(std::memory_order_relaxed);
  usage.written_chars = io_written_.bytes.load(std::memory_order_relaxed);
  usage.read_calls = io_read_.calls.load(std::memory_order_relaxed);
  usage.write_calls = io_written_.calls.load(std::memory_order_relaxed);
  return usage;
}

}  // namespace sentry::kernel
