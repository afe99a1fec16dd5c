// SPDX-License-Identifier: Apache-2.0
// The tables a task is in: made visible at birth, removed when it is waited for.
#include <algorithm>

#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {

Result<void> Task::Internal::PickIdsLocked(PidNamespace& ns, const std::vector<pid_t>& set_tid,
                                           std::vector<pid_t>* ids) {
  ids->assign(ns.level() + 1, 0);
  if (set_tid.size() > ids->size()) return Errno(EINVAL);
  size_t index = 0;
  for (PidNamespace* at = &ns; at; at = at->parent().get(), ++index) {
    pid_t& id = (*ids)[at->level()];
    if (index < set_tid.size()) {
      id = set_tid[index];
      if (id < 1 || id >= kPidMax) return Errno(EINVAL);
      // The first task of a namespace is its init.
      if (id != 1 && !at->init_) return Errno(EINVAL);
      if (!at->IsFreeLocked(id)) return Errno(EEXIST);
    } else {
      id = TRY(at->PickIdLocked());
    }
  }
  return OkResult();
}

Result<void> Task::Internal::LinkLocked(Task& child, const LinkRequest& request) {
  TaskSet& tasks = child.kernel_.tasks();
  tasks.mu().AssertHeld();
  ThreadGroup& group = *child.group_;
  ThreadGroup::State& state = group.state();
  PidNamespace& ns = *group.pid_ns_;
  for (const PidNamespace* at = &ns; at; at = at->parent().get()) {
    if (at->dying_) return Errno(ENOMEM);
  }
  if (tasks.task_count_ >= child.kernel_.max_tasks()) return Errno(EAGAIN);
  uid_t uid = child.creds_->ruid;
  std::vector<pid_t> ids;
  TRY(PickIdsLocked(ns, request.set_tid, &ids));

  if (request.parent && !request.new_group) {
    SignalLock lock(group);
    uint32_t work = request.parent->internal_->work.load(std::memory_order_acquire);
    if (state.exiting || state.exec_task || (work & (kWorkFatal | kWorkStop))) return base::kErestartnointr;
    state.threads.push_back(RefPtr<Task>(&child));
    ++state.live_threads;
  } else {
    SignalLock lock(group);
    state.threads.push_back(RefPtr<Task>(&child));
    state.leader = &child;
    state.live_threads = 1;
  }
  for (PidNamespace* at = &ns; at; at = at->parent().get()) {
    pid_t id = ids[at->level()];
    child.internal_->ids[at->level()].store(id, std::memory_order_relaxed);
    at->tasks_[id] = &child;
    if (request.set_tid.empty()) at->last_pid_ = id;
  }
  child.tid_.store(ids[0], std::memory_order_release);
  child.internal_->counted_uid = uid;
  ++tasks.tasks_of_user_[uid];
  ++tasks.task_count_;
  ++tasks.forks_total_;
  if (!request.new_group) return OkResult();

  std::copy(ids.begin(), ids.end(), group.ids_.begin());
  group.tgid_ = ids[0];
  if (!ns.init_) ns.init_ = &group;
  if (request.parent) {
    state.parent = request.parent;
    auto& siblings = request.parent->group().state().children;
    state.child_position = siblings.insert(siblings.end(), RefPtr<ThreadGroup>(&group));
  }
  if (request.process_group) {
    request.process_group->JoinLocked(group);
  } else {
    auto session = MakeRef<Session>(group.tgid_, &ns, &group);
    session->RegisterLocked(group);
    auto process_group = MakeRef<ProcessGroup>(group.tgid_, session, &ns);
    process_group->RegisterLocked(group);
    process_group->JoinLocked(group);
  }
  return OkResult();
}

void Task::Internal::ReleaseTaskLocked(Task& task, Garbage& garbage) {
  Internal& internal = *task.internal_;
  if (internal.released) return;
  internal.released = true;
  TaskSet& tasks = task.kernel_.tasks();
  tasks.mu().AssertHeld();
  ThreadGroup& group = *task.group_;
  ThreadGroup::State& state = group.state();
  {
    SignalLock lock(group);
    state.dead_usage += task.usage();
    auto it = std::find_if(state.threads.begin(), state.threads.end(), [&](const auto& t) { return t.get() == &task; });
    if (it != state.threads.end()) {
      garbage.tasks.push_back(std::move(*it));
      state.threads.erase(it);
    }
    if (state.leader == &task) state.leader = nullptr;
  }
  for (PidNamespace* at = group.pid_ns_.get(); at; at = at->parent().get()) {
    auto it = at->tasks_.find(internal.ids[at->level()].load(std::memory_order_relaxed));
    if (it != at->tasks_.end() && it->second == &task) at->tasks_.erase(it);
    if (at->dying_ && at->init_) at->init_->child_queue().Notify(kEventIn);
  }
  if (auto it = tasks.tasks_of_user_.find(internal.counted_uid);
      it != tasks.tasks_of_user_.end() && --it->second == 0) {
    tasks.tasks_of_user_.erase(it);
  }
  Cgroups::Get().ReleaseLocked(task);
  --tasks.task_count_;
  internal.run_state.store(RunState::kDead, std::memory_order_release);
}

void Task::Internal::ReleaseGroupLocked(ThreadGroup& group, Garbage& garbage) {
  ThreadGroup::State& state = group.state();
  if (state.released) return;
  state.released = true;
  // Whoever calls has it from a list; keep it until the lock is gone.
  garbage.groups.push_back(RefPtr<ThreadGroup>(&group));
  if (state.process_group) {
    garbage.process_groups.push_back(state.process_group);
    state.process_group->LeaveLocked(group);
  }
  if (state.leader) ReleaseTaskLocked(*state.leader, garbage);
  if (group.pid_ns_->init_ == &group) group.pid_ns_->init_ = nullptr;
  if (state.parent) {
    state.parent->group().state().children.erase(state.child_position);
    state.parent = nullptr;
  }
}

}  // namespace sentry::kernel
