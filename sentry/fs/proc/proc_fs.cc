// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/proc/proc_fs.h"

#include "sentry/fs/proc/task_dir.h"
#include "sentry/kernel/ptrace.h"

namespace sentry::fs {

using kernel::Kernel;
using kernel::Task;

namespace {

ProcHostInfo& HostInfo() {
  static ProcHostInfo& info = *new ProcHostInfo();
  return info;
}

Result<std::string> SelfLink(ProcFs& fs) {
  Task* task = Task::CurrentOrNull();
  pid_t pid = task ? task->group().TgidIn(fs.pid_ns()) : 0;
  if (pid == 0) return Errno(ENOENT);
  return std::to_string(pid);
}

Result<std::string> ThreadSelfLink(ProcFs& fs) {
  std::string self = TRY(SelfLink(fs));
  return self + "/task/" + std::to_string(Task::Current().TidIn(fs.pid_ns()));
}

}  // namespace

void SetProcHostInfo(ProcHostInfo info) {
  if (info.cpus == 0) info.cpus = 1;
  HostInfo() = std::move(info);
}
const ProcHostInfo& GetProcHostInfo() { return HostInfo(); }

Result<ProcOptions> ProcOptions::Parse(std::string_view text) {
  ProcOptions options;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    std::string_view option = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    int number;
    if (option.empty()) continue;
    if (option.starts_with("hidepid=")) {
      std::string_view value = option.substr(8);
      if (value == "off") value = "0";
      if (value == "noaccess") value = "1";
      if (value == "invisible") value = "2";
      if (value == "ptraceable") value = "4";
      if (!ParseId(value, &number) || number > 4 || number == 3) return Errno(EINVAL);
      options.hide_pid = number;
    } else if (option.starts_with("gid=")) {
      if (!ParseId(option.substr(4), &number)) return Errno(EINVAL);
      options.gid = static_cast<gid_t>(number);
    } else if (option == "subset=pid") {
      options.pids_only = true;
    } else {
      return Errno(EINVAL);
    }
  }
  return options;
}

ProcFs::~ProcFs() = default;

ProcOptions ProcFs::options() const {
  MutexLock lock(mu_);
  return options_;
}

bool ProcFs::MaySee(Task& task, int level) const {
  const ProcOptions now = options();
  if (now.hide_pid < level) return true;
  Caller* caller = Caller::CurrentOrNull();
  // The group's members see all, except with hidepid=4.
  if (now.hide_pid != 4 && now.gid && caller && caller->creds()->InGroup(now.gid)) return true;
  return CheckAccess(task, Errno(EPERM)).ok();
}

RefPtr<vfs::Inode> ProcFs::Root() {
  {
    MutexLock lock(mu_);
    if (root_) return root_;
  }
  auto root = MakeRef<RootDirectory>(*this);
  root->Add("self", MakeRef<ProcLink>(*this, NextInode(), &SelfLink));
  root->Add("thread-self", MakeRef<ProcLink>(*this, NextInode(), &ThreadSelfLink));
  if (!options().pids_only) {
    AddSystemFiles(*this, *root);
    AddSysctls(*this, *root);
  }
  MutexLock lock(mu_);
  if (!root_) root_ = root;
  return root_;
}

std::string ProcFs::MountOptions() const {
  static constexpr const char* kNames[] = {"", "noaccess", "invisible", "", "ptraceable"};
  const ProcOptions now = options();
  std::string text;
  if (now.hide_pid) text = std::string("hidepid=") + kNames[now.hide_pid];
  if (now.gid) text += (text.empty() ? "gid=" : ",gid=") + std::to_string(now.gid);
  if (now.pids_only) text += text.empty() ? "subset=pid" : ",subset=pid";
  return text;
}

Result<void> ProcFs::Remount(std::string_view text) {
  ProcOptions parsed = TRY(ProcOptions::Parse(text));
  MutexLock lock(mu_);
  options_.hide_pid = parsed.hide_pid;
  options_.gid = parsed.gid;
  return OkResult();
}

void ProcFs::OnLastUnmount() {
  RefPtr<StaticDirectory> root;
  {
    MutexLock lock(mu_);
    root = std::move(root_);
  }
  if (root) root->Clear();
}

Result<RefPtr<vfs::Filesystem>> NewProcFor(RefPtr<kernel::PidNamespace> pid_ns, std::string_view text) {
  ProcOptions options = TRY(ProcOptions::Parse(text));
  return RefPtr<vfs::Filesystem>(MakeRef<ProcFs>(std::move(pid_ns), options));
}

Result<RefPtr<vfs::Filesystem>> NewProc(const vfs::MountSource& source) {
  Task* task = Task::CurrentOrNull();
  return NewProcFor(task ? task->group().pid_ns() : Kernel::Get().root_pid_ns(), source.options);
}

}  // namespace sentry::fs
