// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/mqueue/queue.h"

#include <stdio.h>

#include "base/cleanup.h"
#include "sentry/vfs/file_description.h"

namespace sentry::fs {
namespace {

constexpr uint64_t kShownSize = 80;  // st_size of every queue on Linux

class QueueFile final : public vfs::FileDescription {
 public:
  QueueFile(vfs::Path path, int flags, RefPtr<Queue> queue)
      : FileDescription(std::move(path), flags), queue_(std::move(queue)) {}

  // The status, for cat(1).
  Result<size_t> PRead(IoTarget& target, int64_t offset) override {
    const std::string line = queue_->StatusLine();
    if (offset >= static_cast<int64_t>(line.size())) return size_t{0};
    return target.Put(line.data() + offset, line.size() - static_cast<size_t>(offset));
  }
  Result<size_t> PWrite(IoSource&, int64_t, int64_t*) override { return Errno(EINVAL); }
  EventMask Poll() override { return queue_->Poll(); }
  WaitQueue* wait_queue() override { return &queue_->wait_queue(); }
  // Any descriptor of the queue that the registered process closes ends its registration.
  Result<void> Flush() override {
    if (kernel::Task* task = kernel::Task::CurrentOrNull()) queue_->LeaveNotification(&task->group());
    return FileDescription::Flush();
  }

 private:
  const RefPtr<Queue> queue_;
};

}  // namespace

Queue::Queue(vfs::Filesystem& fs, uint64_t ino, const vfs::CreateAttributes& attributes, const MqAttributes& limits,
             MqUserBytes bytes)
    : Inode(RefPtr<vfs::Filesystem>(&fs), S_IFREG),
      ino_(ino),
      limits_(limits),
      bytes_(std::move(bytes)),
      mode_(S_IFREG | (attributes.mode & 07777)),
      uid_(attributes.uid),
      gid_(attributes.gid),
      atime_(vfs::Timestamp::Now()),
      mtime_(atime_),
      ctime_(atime_) {}

Queue::~Queue() = default;

Result<vfs::InodeStat> Queue::GetStat() {
  MutexLock lock(mu_);
  vfs::InodeStat stat;
  stat.ino = ino_;
  stat.dev = filesystem().device();
  stat.mode = mode_;
  stat.nlink = unlinked_.load(std::memory_order_relaxed) ? 0 : 1;
  stat.uid = uid_;
  stat.gid = gid_;
  stat.size = kShownSize;
  stat.atime = atime_;
  stat.mtime = mtime_;
  stat.ctime = ctime_;
  return stat;
}

Result<void> Queue::SetStat(const vfs::SetStatRequest& request) {
  MutexLock lock(mu_);
  if (request.mode) mode_ = S_IFREG | (*request.mode & 07777);
  if (request.uid) uid_ = *request.uid;
  if (request.gid) gid_ = *request.gid;
  if (request.atime) atime_ = *request.atime;
  if (request.mtime) mtime_ = *request.mtime;
  ctime_ = vfs::Timestamp::Now();
  return OkResult();
}

Result<vfs::FileRef> Queue::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<QueueFile>(path, flags, RefPtr<Queue>(this)));
}

Result<void> Queue::Send(std::string& text, unsigned priority, ipc::Charge& charge) {
  Registration told;
  {
    MutexLock lock(mu_);
    if (count_ >= limits_.max_messages) return Errno(EAGAIN);
    queued_bytes_ += text.size();
    messages_[priority].push_back({std::move(text), std::move(charge)});
    mtime_ = ctime_ = vfs::Timestamp::Now();
    // mq_notify(3): only a message that comes to an empty queue, for which nobody waits.
    if (count_++ == 0 && waiting_receivers.load(std::memory_order_seq_cst) == 0)
      told = std::exchange(registration_, {});
  }
  wait_queue_.Notify(kEventIn);
  if (told.tell) told.tell(MqEnd::kMessage);
  if (told.group && told.kind == SIGEV_SIGNAL && told.signal != 0) {
    kernel::SignalInfo info = {};
    info.si_signo = told.signal;
    info.si_code = SI_MESGQ;
    info.si_value = told.value;
    if (kernel::Task* task = kernel::Task::CurrentOrNull()) {
      info.si_pid = task->group().TgidIn(*told.group->pid_ns());
      info.si_uid = task->creds()->ruid;
    }
    (void)told.group->SendSignal(info);
  }
  return OkResult();
}

Result<MqMessage> Queue::Receive() {
  MqMessage message;
  {
    MutexLock lock(mu_);
    auto it = messages_.begin();
    if (it == messages_.end()) return Errno(EAGAIN);
    message = {std::move(it->second.front().text), it->first};
    it->second.pop_front();
    if (it->second.empty()) messages_.erase(it);
    --count_;
    queued_bytes_ -= message.text.size();
    atime_ = ctime_ = vfs::Timestamp::Now();
  }
  wait_queue_.Notify(kEventOut);
  return message;
}

Result<void> Queue::Notify(kernel::Task& task, const sigevent* event, std::function<void(MqEnd)> tell) {
  if (!event) {
    LeaveNotification(&task.group());
    return OkResult();
  }
  Registration made = {.group = task.group_ref(),
                       .kind = event->sigev_notify,
                       .signal = event->sigev_notify == SIGEV_SIGNAL ? event->sigev_signo : 0,
                       .value = event->sigev_value,
                       .tell = std::move(tell)};
  MutexLock lock(mu_);
  // Of a process that is gone there is nothing left but its reference.
  if (registration_.group && !registration_.group->HasExited()) return Errno(EBUSY);
  std::swap(registration_, made);
  return OkResult();
}

void Queue::LeaveNotification(const kernel::ThreadGroup* group) {
  Registration dropped;
  {
    MutexLock lock(mu_);
    if (registration_.group.get() == group) dropped = std::exchange(registration_, {});
  }
  if (dropped.tell) dropped.tell(MqEnd::kRemoved);
}

std::string Queue::StatusLine() {
  MutexLock lock(mu_);
  pid_t pid = 0;
  if (registration_.group) {
    kernel::Task* task = kernel::Task::CurrentOrNull();
    if (task) pid = registration_.group->TgidIn(task->pid_ns());
  }
  char line[128];
  snprintf(line, sizeof line, "QSIZE:%-10lu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", queued_bytes_,
           registration_.group ? registration_.kind : 0,
           registration_.group && registration_.kind == SIGEV_SIGNAL ? registration_.signal : 0, pid);
  return line;
}

EventMask Queue::Poll() {
  MutexLock lock(mu_);
  return (count_ > 0 ? kEventIn : 0) | (count_ < limits_.max_messages ? kEventOut : 0);
}

MqAttributes Queue::attributes() {
  MutexLock lock(mu_);
  return {limits_.max_messages, limits_.message_size, count_};
}

MqAttributes AttributesOf(Queue& queue) { return queue.attributes(); }
Result<void> MqNotify(kernel::Task& task, Queue& queue, const sigevent* event, std::function<void(MqEnd)> tell) {
  return queue.Notify(task, event, std::move(tell));
}

Result<void> MqSend(Caller& caller, Queue& queue, std::string text, unsigned priority, bool nonblocking,
                    int64_t deadline_ns) {
  ipc::Charge charge = TRY(ipc::Charge::Take(text.size() + sizeof(MqMessage)));
  return BlockOn(caller, queue.wait_queue(), kEventOut, nonblocking, deadline_ns,
                 [&] { return queue.Send(text, priority, charge); });
}

Result<MqMessage> MqReceive(Caller& caller, Queue& queue, size_t room, bool nonblocking, int64_t deadline_ns) {
  if (room < static_cast<size_t>(queue.attributes().message_size)) return Errno(EMSGSIZE);
  if (nonblocking) return queue.Receive();
  queue.waiting_receivers.fetch_add(1, std::memory_order_seq_cst);
  base::Cleanup leave([&] { queue.waiting_receivers.fetch_sub(1, std::memory_order_seq_cst); });
  return BlockOn(caller, queue.wait_queue(), kEventIn, false, deadline_ns, [&] { return queue.Receive(); });
}

}  // namespace sentry::fs
