// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/proc/proc_inode.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>

#include <algorithm>

#include "sentry/fs/proc/text_file.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/ptrace.h"

namespace sentry::fs {

using kernel::Kernel;
using kernel::Task;

RefPtr<Task> TaskRef::Get() const {
  kernel::TaskSet& tasks = Kernel::Get().tasks();
  const kernel::PidNamespace& root = *Kernel::Get().root_pid_ns();
  if (task) return tasks.FindTask(root, task->tid()) == task ? task : nullptr;
  if (!(tasks.FindThreadGroup(root, group->tgid()) == group)) return nullptr;
  return group->leader();
}

ProcInode::ProcInode(ProcFs& fs, mode_t mode, uint64_t ino, TaskRef task)
    : Inode(RefPtr<vfs::Filesystem>(&fs), mode & S_IFMT),
      mode_(mode),
      ino_(ino),
      task_(std::move(task)),
      created_(vfs::Timestamp::Now()) {}

Result<RefPtr<Task>> ProcInode::LiveTask() const {
  RefPtr<Task> task = task_ ? task_.Get() : nullptr;
  if (!task) return Errno(ESRCH);
  return task;
}

Result<vfs::InodeStat> ProcInode::GetStat() {
  vfs::InodeStat stat;
  stat.ino = ino_;
  stat.dev = filesystem().device();
  stat.mode = mode_;
  stat.nlink = IsDirectory() ? 2 : 1;
  stat.block_size = 1024;
  stat.atime = stat.mtime = stat.ctime = created_;
  if (task_) {
    RefPtr<Task> task = task_.Get();
    if (!task) return Errno(ENOENT);
    // Undumpable processes' files are root's, but not what everyone may list (task_dump_owner).
    RefPtr<mm::MemoryManager> mm = task->mm_ref();
    const bool own = mode_ == (S_IFDIR | 0555) || !mm || mm->dumpable.load(std::memory_order_relaxed) == 1;
    RefPtr<const Credentials> creds = task->creds_ref();
    if (creds && !own && creds->RootUid() != kInvalidId) {
      stat.uid = creds->RootUid();
      if (gid_t root = creds->ToKernel(IdKind::kGroup, 0); root != kInvalidId) stat.gid = root;
    }
    if (creds && own) {
      stat.uid = creds->euid;
      stat.gid = creds->egid;
    }
  }
  return stat;
}

Result<void> ProcInode::SetStat(const vfs::SetStatRequest& request) {
  if (request.mode || request.uid || request.gid) return Errno(EPERM);
  return OkResult();
}

Result<void> ProcInode::CheckPermission(const Credentials& creds, int mask) {
  if (task_ && IsDirectory()) {
    RefPtr<Task> task = task_.Get();
    if (!task) return Errno(ENOENT);
    if (!fs().MaySee(*task, 1)) return Errno(EPERM);
    // The threads of a process may look at its descriptors whatever its dumpability (proc_fd_permission).
    Task* caller = Task::CurrentOrNull();
    if (caller && &caller->group() == task_.group.get() && !(mask & vfs::kMayWrite)) return OkResult();
  }
  return Inode::CheckPermission(creds, mask);
}

namespace {

// The user namespace that owns the caller's network namespace; null without a caller, or with one that is ending.
RefPtr<UserNamespace> CallersNetOwner() {
  const Task* caller = Task::CurrentOrNull();
  RefPtr<kernel::Namespaces> namespaces = caller ? caller->namespaces_ref() : nullptr;
  return namespaces && namespaces->net ? namespaces->net->owner() : nullptr;
}

}  // namespace

// Root of the user namespace that owns the network namespace (net_ctl_set_ownership), if it has one.
Result<vfs::InodeStat> TextInode::GetStat() {
  vfs::InodeStat stat = TRY(ProcInode::GetStat());
  if (!entry_.of_net) return stat;
  RefPtr<UserNamespace> owner = CallersNetOwner();
  if (!owner) return stat;
  if (uint32_t root = owner->ToKernel(IdKind::kUser, 0); root != kInvalidId) stat.uid = root;
  if (uint32_t root = owner->ToKernel(IdKind::kGroup, 0); root != kInvalidId) stat.gid = root;
  return stat;
}

// Who administers the network has what its root has (net_ctl_permissions).
Result<void> TextInode::CheckPermission(const Credentials& creds, int mask) {
  if (entry_.of_net && (mask & static_cast<int>(entry_.mode >> 6 & 7)) == mask) {
    RefPtr<UserNamespace> owner = CallersNetOwner();
    if (owner && creds.HasCapabilityIn(owner, CAP_NET_ADMIN)) return OkResult();
  }
  return ProcInode::CheckPermission(creds, mask);
}

Result<Context> TextInode::MakeContext() const {
  Context context{fs(), entry_, nullptr};
  if (task_ref()) {
    context.task = TRY(LiveTask());
    context.whole_process = !task_ref().task;
  }
  return context;
}

Result<vfs::FileRef> TextInode::Open(const vfs::Path& path, int flags) {
  Context context = TRY(MakeContext());
  if (entry_.open) TRY(entry_.open(context));
  if (entry_.make_file) return entry_.make_file(context, path, flags);
  return vfs::FileRef(MakeRef<TextFile>(path, flags));
}

Result<std::string> TextInode::Generate() const {
  Context context = TRY(MakeContext());
  if (entry_.read) return entry_.read(context);
  return std::string(entry_.text);
}

Result<size_t> TextInode::Store(std::string_view data, RefPtr<const Credentials> opener, bool at_start) const {
  if (!entry_.write) return Errno(EINVAL);
  Context context = TRY(MakeContext());
  context.opener = std::move(opener);
  context.at_start = at_start;
  return entry_.write(context, data);
}

namespace {

class DirectoryFile final : public vfs::FileDescription {
 public:
  DirectoryFile(vfs::Path path, int flags) : FileDescription(std::move(path), flags) {}
  Result<size_t> PRead(IoTarget&, int64_t) override { return Errno(EISDIR); }

  Result<void> IterateDirectory(const DirSink& sink) override {
    auto& directory = static_cast<ProcDirectory&>(*inode());
    // Listing may take locks below that of the position, and drop references.
    std::vector<ProcDirectory::Entry> entries = TRY(directory.List());
    RefPtr<vfs::Dentry> up = path().dentry->parent();
    const uint64_t parent = up ? static_cast<ProcInode&>(*up->inode()).ino() : directory.ino();
    MutexLock lock(position_mu());
    int64_t at = position();
    if (at == 0) {
      if (!sink({".", directory.ino(), DT_DIR, 1})) return OkResult();
      set_position(at = 1);
    }
    if (at == 1) {
      if (!sink({"..", parent, DT_DIR, 2})) return OkResult();
      set_position(at = 2);
    }
    for (const ProcDirectory::Entry& entry : entries) {
      if (entry.cookie < at) continue;
      if (!sink({entry.name, entry.ino, entry.type, entry.cookie + 1})) return OkResult();
      set_position(entry.cookie + 1);
    }
    return OkResult();
  }
};

}  // namespace

Result<vfs::FileRef> ProcDirectory::Open(const vfs::Path& path, int flags) {
  return vfs::FileRef(MakeRef<DirectoryFile>(path, flags));
}

void StaticDirectory::Add(std::string name, RefPtr<ProcInode> inode) {
  entries_.emplace_back(std::move(name), std::move(inode));
}

ProcInode* StaticDirectory::Find(std::string_view name) const {
  auto it = std::find_if(entries_.begin(), entries_.end(), [&](const auto& entry) { return entry.first == name; });
  return it == entries_.end() ? nullptr : it->second.get();
}

Result<RefPtr<vfs::Inode>> StaticDirectory::Lookup(std::string_view name) {
  ProcInode* found = Find(name);
  if (!found) return Errno(ENOENT);
  return RefPtr<vfs::Inode>(found);
}

Result<std::vector<ProcDirectory::Entry>> StaticDirectory::List() {
  std::vector<Entry> list;
  int64_t cookie = kFirstCookie;
  for (const auto& [name, inode] : entries_)
    list.push_back({name, inode->ino(), static_cast<uint8_t>(inode->type() >> 12), cookie++});
  return list;
}

void StaticDirectory::Clear() {
  for (auto& [name, inode] : entries_) {
    // Every directory in the table is a static one.
    if (inode->IsDirectory()) static_cast<StaticDirectory&>(*inode).Clear();
  }
  entries_.clear();
}

void Append(std::string& text, const char* format, ...) {
  char buffer[512];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(buffer, sizeof buffer, format, args);
  va_end(args);
  if (n < 0) return;
  if (static_cast<size_t>(n) < sizeof buffer) {
    text.append(buffer, static_cast<size_t>(n));
    return;
  }
  const size_t old = text.size();
  text.resize(old + static_cast<size_t>(n) + 1);
  va_start(args, format);
  vsnprintf(text.data() + old, static_cast<size_t>(n) + 1, format, args);
  va_end(args);
  text.pop_back();
}

bool ParseId(std::string_view text, int* id) {
  if (text.empty() || text.size() > 10 || (text[0] == '0' && text.size() > 1)) return false;
  int64_t value = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + (c - '0');
  }
  if (value > INT32_MAX) return false;
  *id = static_cast<int>(value);
  return true;
}

Result<int64_t> ParseNumber(std::string_view data) {
  const char* blanks = " \t\n\0";
  const size_t first = data.find_first_not_of(blanks, 0, 4);
  if (first == std::string_view::npos) return Errno(EINVAL);
  data = data.substr(first, data.find_last_not_of(blanks, std::string_view::npos, 4) - first + 1);
  const bool negative = data.starts_with('-');
  if (negative) data.remove_prefix(1);
  if (data.empty() || data.size() > 18) return Errno(EINVAL);
  int64_t value = 0;
  for (char c : data) {
    if (c < '0' || c > '9') return Errno(EINVAL);
    value = value * 10 + (c - '0');
  }
  return negative ? -value : value;
}

uint32_t ShownToReader(IdKind kind, uint32_t id) {
  Caller* caller = Caller::CurrentOrNull();
  return caller ? caller->creds()->Shown(kind, id) : id;
}

int64_t ReaderBootOffset() {
  Task* reader = Task::CurrentOrNull();
  return reader ? reader->namespaces().time->OffsetOf(CLOCK_BOOTTIME) : 0;
}

Result<void> CheckAccess(Task& target, Errno error) {
  Task* caller = Task::CurrentOrNull();
  if (!caller || kernel::CheckPtraceAccess(*caller, target).ok()) return OkResult();
  return error;
}

}  // namespace sentry::fs
