// SPDX-License-Identifier: Apache-2.0
#include "sentry/syscalls/async_notifier.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <map>

#include "sentry/fs/inotify/inotify.h"
#include "sentry/kernel/async_work.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/session.h"

namespace sentry::syscalls {
namespace {

// Who owns a file may not thereby signal whom it could not kill(2) (sigio_perm of the kernel).
bool MaySignal(const Credentials& creds, const RefPtr<Task>& target) {
  if (!target) return false;
  RefPtr<const Credentials> theirs = target->creds_ref();
  if (!theirs) return false;
  return creds.euid == 0 || creds.euid == theirs->suid || creds.euid == theirs->ruid || creds.ruid == theirs->suid ||
         creds.ruid == theirs->ruid;
}

// What an owner hears of. POLL_OUT only from files that can be written to: queues are shared by both directions.
EventMask Interest(const vfs::FileDescription& file) {
  EventMask mask = EPOLLPRI;
  if (file.IsReadable()) mask |= kEventIn | EPOLLRDHUP;
  if (file.IsWritable()) mask |= kEventOut;
  return mask;
}

class Notifier final : public kernel::AsyncJob, public WaitEntry, public vfs::FileDescription::EpollLink {
 public:
  Notifier(Task& task, vfs::FileDescription& file, int fd) : signal_(task, fd), file_(&file) {}
  ~Notifier() override {
    if (queue()) queue()->Remove(*this);
  }

  // The caller of either holds the file.
  void Start(vfs::FileDescription& file) {
    MutexLock lock(mu_);
    if (!file_) return;  // stopped already, by another thread
    file.AddEpollLink(this);
    file.wait_queue()->Add(*this, Interest(file));
  }
  void Stop(vfs::FileDescription& file) {
    {
      MutexLock lock(mu_);
      file.RemoveEpollLink(this);
      file_ = nullptr;
    }
    if (queue()) queue()->Remove(*this);
  }
  void OnFileDestroyed() override;

  const kernel::TaskIdentity& identity() const override { return identity_; }
  void OnEvent(EventMask events) override {
    // Events that come while a signal is on its way are told by that one.
    if (events_.fetch_or(events, std::memory_order_acq_rel) != 0) return;
    if (TryIncRef()) signal_.group->async_work().Retry(RefPtr<AsyncJob>::Adopt(this));
  }

  void Run(Task&) override {
    const EventMask events = events_.exchange(0, std::memory_order_acq_rel);
    vfs::AsyncOwner owner;
    {
      MutexLock lock(mu_);
      if (!file_) return;
      owner = file_->async_owner();
    }
    Tell(owner, events);
  }

 private:
  // In the order of POLL_IN..POLL_HUP of siginfo.h, with the bands that poll(2) gives them.
  void Tell(const vfs::AsyncOwner& owner, EventMask events) const {
    if (events & EPOLLHUP) return signal_.Send(owner, POLL_HUP, POLLHUP | POLLERR);
    if (events & EPOLLERR) return signal_.Send(owner, POLL_ERR, POLLERR);
    if (events & kEventIn) return signal_.Send(owner, POLL_IN, POLLIN | POLLRDNORM);
    if (events & kEventOut) return signal_.Send(owner, POLL_OUT, POLLOUT | POLLWRNORM | POLLWRBAND);
    signal_.Send(owner, POLL_PRI, POLLPRI | POLLRDBAND);
  }

  const OwnerSignal signal_;
  const kernel::TaskIdentity identity_;  // a signal needs nothing of the process
  Mutex mu_{LockRank::kEpollSet};        // outside of the file's own lock
  vfs::FileDescription* file_;           // null once it is gone
  std::atomic<EventMask> events_{0};
};

// One per file with O_ASYNC.
struct Registry {
  Mutex mu{LockRank::kLeaf};
  std::map<const vfs::FileDescription*, RefPtr<Notifier>> notifiers ABSL_GUARDED_BY(mu);
};
Registry& TheRegistry() {
  static Registry* registry = new Registry;
  return *registry;
}

RefPtr<Notifier> Forget(const vfs::FileDescription* file) {
  Registry& registry = TheRegistry();
  MutexLock lock(registry.mu);
  auto it = registry.notifiers.find(file);
  if (it == registry.notifiers.end()) return nullptr;
  RefPtr<Notifier> notifier = std::move(it->second);
  registry.notifiers.erase(it);
  return notifier;
}

void Notifier::OnFileDestroyed() {
  RefPtr<Notifier> self(this);
  vfs::FileDescription* file;
  {
    MutexLock lock(mu_);
    file = std::exchange(file_, nullptr);
  }
  if (queue()) queue()->Remove(*this);
  if (file) (void)Forget(file);
}

}  // namespace

void OwnerSignal::Send(const vfs::AsyncOwner& owner, int code, int64_t band) const {
  if (owner.id == 0) return;
  kernel::SignalInfo info = kernel::KernelSignal(SIGIO);
  if (owner.signal != 0) {
    info = {};
    info.si_signo = owner.signal;
    info.si_code = code;
    info.si_band = band;
    info.si_fd = fd;
  }
  kernel::TaskSet& tasks = kernel::Kernel::Get().tasks();
  const kernel::PidNamespace& ns = *group->pid_ns();
  switch (owner.type) {
    case F_OWNER_TID: {
      RefPtr<Task> thread = tasks.FindTask(ns, owner.id);
      if (MaySignal(*creds, thread)) (void)thread->SendSignal(info).ok();
      return;
    }
    case F_OWNER_PID: {
      RefPtr<kernel::ThreadGroup> process = tasks.FindThreadGroup(ns, owner.id);
      if (process && MaySignal(*creds, process->leader())) (void)process->SendSignal(info).ok();
      return;
    }
    case F_OWNER_PGRP: {
      RefPtr<kernel::ProcessGroup> wanted = tasks.FindProcessGroup(ns, owner.id);
      if (!wanted) return;
      for (auto& [id, member] : tasks.ThreadGroups(ns)) {
        if (member->process_group() == wanted && MaySignal(*creds, member->leader()))
          (void)member->SendSignal(info).ok();
      }
      return;
    }
  }
}

bool SignalsReadiness(vfs::FileDescription& file) {
  if (!file.wait_queue()) return false;
  const mode_t type = file.inode()->type();
  return S_ISSOCK(type) || S_ISFIFO(type) || S_ISCHR(type) || fs::InotifyFile::From(file);
}

Result<void> SetStatusFlags(Task& task, vfs::FileDescription& file, int fd, int flags) {
  const int old = file.flags() & O_ASYNC;
  if (!SignalsReadiness(file)) return file.SetStatusFlags((flags & ~O_ASYNC) | old);
  const bool on = flags & O_ASYNC, changes = (flags ^ old) & O_ASYNC;
  if (on && changes) TRY(task.group().async_work().Prepare());
  TRY(file.SetStatusFlags(flags));
  if (!changes) return OkResult();
  if (!on) {
    if (RefPtr<Notifier> notifier = Forget(&file)) notifier->Stop(file);
    return OkResult();
  }
  auto notifier = MakeRef<Notifier>(task, file, fd);
  Registry& registry = TheRegistry();
  {
    MutexLock lock(registry.mu);
    if (!registry.notifiers.emplace(&file, notifier).second) return OkResult();  // another thread did it
  }
  notifier->Start(file);
  return OkResult();
}

}  // namespace sentry::syscalls
