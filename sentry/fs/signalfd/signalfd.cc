// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/signalfd/signalfd.h"

#include <fcntl.h>
#include <sys/signalfd.h>

#include <cstdio>

#include "sentry/vfs/special_files.h"

namespace sentry::fs {
namespace {

constexpr char kName[] = "anon_inode:[signalfd]";

// fs/signalfd.c: signalfd_copyinfo.
signalfd_siginfo Convert(const kernel::SignalInfo& info) {
  signalfd_siginfo out = {};
  out.ssi_signo = static_cast<uint32_t>(info.si_signo);
  out.ssi_errno = info.si_errno;
  out.ssi_code = info.si_code;
  if (info.si_code == SI_TIMER) {
    out.ssi_tid = static_cast<uint32_t>(info.si_timerid);
    out.ssi_overrun = static_cast<uint32_t>(info.si_overrun);
    out.ssi_int = info.si_int;
    out.ssi_ptr = reinterpret_cast<uint64_t>(info.si_ptr);
  } else if (info.si_code <= 0) {
    out.ssi_pid = static_cast<uint32_t>(info.si_pid);
    out.ssi_uid = info.si_uid;
    out.ssi_int = info.si_int;
    out.ssi_ptr = reinterpret_cast<uint64_t>(info.si_ptr);
  } else if (info.si_signo == SIGCHLD) {
    out.ssi_pid = static_cast<uint32_t>(info.si_pid);
    out.ssi_uid = info.si_uid;
    out.ssi_status = info.si_status;
    out.ssi_utime = static_cast<uint64_t>(info.si_utime);
    out.ssi_stime = static_cast<uint64_t>(info.si_stime);
  } else if (info.si_signo == SIGPOLL) {
    out.ssi_band = static_cast<uint32_t>(info.si_band);
    out.ssi_fd = info.si_fd;
  } else if (info.si_signo == SIGSEGV || info.si_signo == SIGBUS || info.si_signo == SIGILL ||
             info.si_signo == SIGFPE || info.si_signo == SIGTRAP) {
    out.ssi_addr = reinterpret_cast<uint64_t>(info.si_addr);
  } else {
    out.ssi_pid = static_cast<uint32_t>(info.si_pid);
    out.ssi_uid = info.si_uid;
  }
  return out;
}

}  // namespace

class SignalFd::Relay final : public WaitEntry {
 public:
  Relay(WaitQueue& to, RefPtr<kernel::ThreadGroup> group) : to_(to), group_(std::move(group)) {
    group_->signal_queue().Add(*this, kEventIn);
  }
  ~Relay() override {
    if (queue()) queue()->Remove(*this);
  }
  void OnEvent(EventMask events) override { to_.Notify(events); }
  const kernel::ThreadGroup& group() const { return *group_; }

 private:
  WaitQueue& to_;
  const RefPtr<kernel::ThreadGroup> group_;
};

SignalFd::SignalFd(vfs::Path path, kernel::SignalSet mask, int flags)
    : FileDescription(std::move(path), O_RDWR | (flags & O_NONBLOCK)), mask_(mask & ~kernel::kUnblockable) {}

SignalFd::~SignalFd() = default;

RefPtr<SignalFd> SignalFd::Create(const Credentials& creds, kernel::SignalSet mask, int flags) {
  return RefPtr<SignalFd>(new SignalFd(vfs::NewAnonymousPath(kName, 0600, creds), mask, flags));
}

SignalFd* SignalFd::From(vfs::FileDescription& file) {
  if (file.path().dentry->parent() || file.path().dentry->name() != kName) return nullptr;
  return static_cast<SignalFd*>(&file);
}

void SignalFd::set_mask(kernel::SignalSet mask) {
  mask_ = mask & ~kernel::kUnblockable;
  queue_.Notify(kEventIn);
}

Result<size_t> SignalFd::Read(IoTarget& target) {
  if (target.remaining() < sizeof(signalfd_siginfo)) return Errno(EINVAL);
  size_t done = 0;
  while (target.remaining() >= sizeof(signalfd_siginfo)) {
    auto info = kernel::Task::Current().TakeSignal(mask_);
    if (!info.ok()) {
      if (done) break;
      return info.error();
    }
    signalfd_siginfo out = Convert(*info);
    done += TRY(target.Put(&out, sizeof out));
  }
  return done;
}

EventMask SignalFd::Poll() {
  kernel::Task* task = kernel::Task::CurrentOrNull();
  return task && (task->PendingSignals() & mask_) ? kEventIn : 0;
}

WaitQueue* SignalFd::wait_queue() {
  kernel::Task* task = kernel::Task::CurrentOrNull();
  if (!task) return &queue_;
  std::vector<std::unique_ptr<Relay>> ended;  // dropped after the lock, with what may be a group's last reference
  MutexLock lock(mu_);
  bool known = false;
  for (auto& relay : relays_) {
    known = known || &relay->group() == &task->group();
    if (relay->group().HasExited()) ended.push_back(std::move(relay));
  }
  std::erase(relays_, nullptr);
  if (!known) relays_.push_back(std::make_unique<Relay>(queue_, task->group_ref()));
  return &queue_;
}

std::string SignalFd::FdInfo() const {
  char line[48];
  snprintf(line, sizeof line, "sigmask:\t%016lx\n", static_cast<unsigned long>(mask_.load()));
  return line;
}

}  // namespace sentry::fs
