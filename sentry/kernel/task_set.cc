// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/task_set.h"

#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {

RefPtr<Task> TaskSet::FindTask(const PidNamespace& ns, pid_t tid) {
  MutexLock lock(mu_);
  auto it = ns.tasks_.find(tid);
  return it == ns.tasks_.end() ? nullptr : RefPtr<Task>(it->second);
}

RefPtr<ThreadGroup> TaskSet::FindThreadGroup(const PidNamespace& ns, pid_t tgid) {
  MutexLock lock(mu_);
  auto it = ns.tasks_.find(tgid);
  if (it == ns.tasks_.end() || it->second->group().state().leader != it->second) return nullptr;
  return it->second->group_ref();
}

RefPtr<ProcessGroup> TaskSet::FindProcessGroup(const PidNamespace& ns, pid_t id) {
  MutexLock lock(mu_);
  auto it = ns.groups_.find(id);
  return it == ns.groups_.end() ? nullptr : RefPtr<ProcessGroup>(it->second);
}

std::vector<std::pair<pid_t, RefPtr<ThreadGroup>>> TaskSet::ThreadGroups(const PidNamespace& ns) {
  std::vector<std::pair<pid_t, RefPtr<ThreadGroup>>> groups;
  MutexLock lock(mu_);
  for (const auto& [id, task] : ns.tasks_) {
    if (task->group().state().leader == task) groups.emplace_back(id, task->group_ref());
  }
  return groups;
}

pid_t TaskSet::LastPid(const PidNamespace& ns) const {
  MutexLock lock(mu_);
  return ns.last_pid_;
}

size_t TaskSet::task_count() const {
  MutexLock lock(mu_);
  return task_count_;
}

uint64_t TaskSet::forks_total() const {
  MutexLock lock(mu_);
  return forks_total_;
}

void TaskSet::MoveTaskCount(Task& task, uid_t uid) {
  MutexLock lock(mu_);
  Task::Internal& internal = task.internal();
  if (internal.released || task.tid() == 0) return;
  if (auto it = tasks_of_user_.find(internal.counted_uid); it != tasks_of_user_.end() && --it->second == 0)
    tasks_of_user_.erase(it);
  internal.counted_uid = uid;
  ++tasks_of_user_[uid];
}

size_t TaskSet::TasksOfUser(uid_t uid) const {
  MutexLock lock(mu_);
  auto it = tasks_of_user_.find(uid);
  return it == tasks_of_user_.end() ? 0 : it->second;
}

Result<void> TaskSet::CheckKillPermission(const Task& by, Task& target, int signal) {
  if (&by.group() == &target.group()) return OkResult();
  RefPtr<const Credentials> sender = by.creds_ref();
  RefPtr<const Credentials> receiver = target.creds_ref();
  if (sender->euid == receiver->suid || sender->euid == receiver->ruid || sender->ruid == receiver->suid ||
      sender->ruid == receiver->ruid || sender->HasCapabilityIn(receiver->user_ns, CAP_KILL)) {
    return OkResult();
  }
  if (signal == SIGCONT && by.group().session() == target.group().session()) return OkResult();
  return Errno(EPERM);
}

}  // namespace sentry::kernel
