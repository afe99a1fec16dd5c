// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/fanotify/fanotify.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "sentry/kernel/kernel.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/special_files.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {
namespace {

constexpr char kName[] = "anon_inode:[fanotify]";

// The process of an event as the reader sees it.
pid_t ShownPid(const FanotifyGroup& group, pid_t pid) {
  auto& task = kernel::Task::Current();
  kernel::Kernel& kernel = task.kernel();
  if (group.unprivileged() && pid != task.group().tgid() && pid != task.tid()) return 0;
  if (group.flags() & FAN_REPORT_TID) {
    RefPtr<kernel::Task> thread = kernel.tasks().FindTask(*kernel.root_pid_ns(), pid);
    if (thread) return thread->TidIn(task.pid_ns());
  } else if (RefPtr<kernel::ThreadGroup> process = kernel.tasks().FindThreadGroup(*kernel.root_pid_ns(), pid)) {
    return process->TgidIn(task.pid_ns());
  }
  return &task.pid_ns() == kernel.root_pid_ns().get() ? pid : 0;
}

}  // namespace

bool TakeFanotifyGroup(uid_t user);  // fanotify_group.cc

FanotifyFile::FanotifyFile(vfs::Path path, RefPtr<FanotifyGroup> group, unsigned event_flags)
    : FileDescription(std::move(path), O_RDWR | (group->flags() & FAN_NONBLOCK ? O_NONBLOCK : 0)),
      group_(std::move(group)),
      event_flags_(event_flags) {}

Result<RefPtr<FanotifyFile>> FanotifyFile::Create(const Credentials& creds, unsigned flags, unsigned event_flags,
                                                  bool unprivileged) {
  if (!TakeFanotifyGroup(creds.ruid)) return Errno(EMFILE);
  auto group = MakeRef<FanotifyGroup>(flags, unprivileged, creds.ruid);
  return RefPtr<FanotifyFile>(
      new FanotifyFile(vfs::NewAnonymousPath(kName, 0600, creds), std::move(group), event_flags));
}

FanotifyFile* FanotifyFile::From(vfs::FileDescription& file) {
  if (file.path().dentry->parent() || file.path().dentry->name() != kName) return nullptr;
  return static_cast<FanotifyFile*>(&file);
}

FanotifyFile::~FanotifyFile() {
  vfs::Fanotify::Get().RemoveAll(*group_);
  group_->Close();
}

Result<int> FanotifyFile::OpenFor(const FanotifyGroup::Event& event) {
  auto& task = kernel::Task::Current();
  const vfs::WalkContext context{
      .root = task.fs().root(), .start = task.fs().cwd(), .creds = *task.creds(), .mounts = task.namespaces().mounts};
  const int flags = static_cast<int>(event_flags_) & ~O_CLOEXEC;
  vfs::FileRef file = TRY(vfs::OpenPath(context, *event.path, flags | vfs::kNoNotify));
  return task.fds().Add(std::move(file), event_flags_ & O_CLOEXEC, task.SoftLimit(RLIMIT_NOFILE));
}

Result<size_t> FanotifyFile::Read(IoTarget& target) {
  size_t done = 0;
  for (;;) {
    auto taken = group_->Take(target.remaining());
    if (!taken.ok()) return done ? Result<size_t>(done) : taken.error();
    FanotifyGroup::Event& event = *taken;
    const std::string info = group_->InfoOf(event);
    fanotify_event_metadata metadata = {};
    metadata.event_len = static_cast<uint32_t>(sizeof metadata + info.size());
    metadata.vers = FANOTIFY_METADATA_VERSION;
    metadata.metadata_len = sizeof metadata;
    metadata.mask = event.mask;
    metadata.fd = FAN_NOFD;
    metadata.pid = event.pid ? ShownPid(*group_, event.pid) : 0;
    Result<void> failed;
    if (event.path) {
      auto fd = OpenFor(event);
      if (fd.ok()) {
        metadata.fd = *fd;
      } else {
        failed = fd.error();
      }
    }
    if (failed.ok()) {
      // Before the reader can answer.
      if (event.question) group_->AwaitAnswer(event.question, metadata.fd);
      std::string record(reinterpret_cast<const char*>(&metadata), sizeof metadata);
      record += info;
      auto put = target.Put(record.data(), record.size());
      if (put.ok() && *put == record.size()) {
        done += *put;
        continue;
      }
      failed = Errno(EFAULT);
      if (metadata.fd >= 0) (void)kernel::Task::Current().fds().Close(metadata.fd).ok();
    }
    if (event.question) group_->AnswerTo(*event.question, FAN_DENY);
    return done ? Result<size_t>(done) : failed.error();
  }
}

Result<size_t> FanotifyFile::Write(IoSource& source) {
  fanotify_response response;
  if (source.remaining() < sizeof response) return Errno(EINVAL);
  if (TRY(source.Take(&response, sizeof response)) != sizeof response) return Errno(EFAULT);
  const unsigned answer = response.response & ~unsigned{FAN_AUDIT};
  if ((answer != FAN_ALLOW && answer != FAN_DENY) || response.fd < 0) return Errno(EINVAL);
  if ((response.response & FAN_AUDIT) && !(group_->flags() & FAN_ENABLE_AUDIT)) return Errno(EINVAL);
  TRY(group_->Answer(response.fd, static_cast<int>(answer)));
  return sizeof response;
}

Result<int64_t> FanotifyFile::Ioctl(unsigned request, uint64_t argument) {
  if (request != FIONREAD) return Errno(ENOTTY);
  TRY(Caller::Current().CopyOut(UserAddr(argument), static_cast<int>(group_->QueuedBytes())));
  return 0;
}

std::string FanotifyFile::FdInfo() const {
  char line[160];
  snprintf(line, sizeof line, "fanotify flags:%x event-flags:%x\n", group_->flags(), event_flags_);
  std::string text = line;
  for (const vfs::Fanotify::Info& mark : vfs::Fanotify::Get().List(*group_)) {
    const unsigned flags = mark.survives_modify ? FAN_MARK_IGNORED_SURV_MODIFY : 0;
    switch (mark.kind) {
      case vfs::Fanotify::Kind::kInode:
        snprintf(line, sizeof line, "fanotify ino:%llx sdev:%llx", static_cast<unsigned long long>(mark.inode),
                 static_cast<unsigned long long>(mark.device));
        break;
      case vfs::Fanotify::Kind::kMount:
        snprintf(line, sizeof line, "fanotify mnt_id:%llx", static_cast<unsigned long long>(mark.mount_id));
        break;
      case vfs::Fanotify::Kind::kFilesystem:
        snprintf(line, sizeof line, "fanotify sdev:%llx", static_cast<unsigned long long>(mark.device));
        break;
    }
    text += line;
    snprintf(line, sizeof line, " mflags:%x mask:%llx ignored_mask:%llx\n", flags,
             static_cast<unsigned long long>(mark.mask), static_cast<unsigned long long>(mark.ignored));
    text += line;
  }
  return text;
}

}  // namespace sentry::fs
