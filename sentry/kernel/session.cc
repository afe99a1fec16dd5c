// SPDX-License-Identifier: Apache-2.0
// Process groups, sessions, setsid(2), setpgid(2) and the orphan rules of job control.
#include "sentry/kernel/session.h"

#include <vector>

#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {

Session::Session(pid_t id, PidNamespace* ns, ThreadGroup* leader)
    : id_(id), ns_(RefPtr<PidNamespace>(ns)), leader_(leader) {}
Session::~Session() = default;

pid_t Session::IdIn(const PidNamespace& ns) const {
  auto it = ids_.find(&ns);
  return it == ids_.end() ? 0 : it->second;
}

RefPtr<ControllingTerminal> Session::terminal() const {
  MutexLock lock(mu_);
  return terminal_;
}

bool Session::SetTerminal(RefPtr<ControllingTerminal> terminal) {
  MutexLock lock(mu_);
  if (terminal_) return false;
  terminal_ = std::move(terminal);
  return true;
}

void Session::ClearTerminal() {
  RefPtr<ControllingTerminal> old;
  MutexLock lock(mu_);
  std::swap(old, terminal_);
}

void Session::RegisterLocked(const ThreadGroup& leader) {
  for (PidNamespace* ns = ns_.get(); ns; ns = ns->parent().get()) {
    pid_t id = leader.TgidIn(*ns);
    ids_[ns] = id;
    ns->sessions_[id] = this;
  }
}

void Session::UnregisterLocked() {
  for (PidNamespace* ns = ns_.get(); ns; ns = ns->parent().get()) ns->sessions_.erase(ids_[ns]);
}

ProcessGroup::ProcessGroup(pid_t id, RefPtr<Session> session, PidNamespace* ns)
    : id_(id), ns_(RefPtr<PidNamespace>(ns)), session_(std::move(session)) {}
ProcessGroup::~ProcessGroup() = default;

pid_t ProcessGroup::IdIn(const PidNamespace& ns) const {
  auto it = ids_.find(&ns);
  return it == ids_.end() ? 0 : it->second;
}

void ProcessGroup::RegisterLocked(const ThreadGroup& leader) {
  ++session_->group_count_;
  for (PidNamespace* ns = ns_.get(); ns; ns = ns->parent().get()) {
    pid_t id = leader.TgidIn(*ns);
    ids_[ns] = id;
    ns->groups_[id] = this;
  }
}

void ProcessGroup::UnregisterLocked() {
  for (PidNamespace* ns = ns_.get(); ns; ns = ns->parent().get()) ns->groups_.erase(ids_[ns]);
  if (--session_->group_count_ == 0) session_->UnregisterLocked();
}

void ProcessGroup::JoinLocked(ThreadGroup& member) {
  members_.insert(&member);
  member.state().process_group = RefPtr<ProcessGroup>(this);
}

void ProcessGroup::LeaveLocked(ThreadGroup& member) {
  RefPtr<ProcessGroup> self = std::move(member.state().process_group);
  members_.erase(&member);
  if (members_.empty()) UnregisterLocked();
}

bool ProcessGroup::IsOrphanedLocked(const ThreadGroup* ignored) const {
  for (ThreadGroup* member : members_) {
    const ThreadGroup::State& state = member->state();
    if (member == ignored || state.zombie || !state.parent) continue;
    ThreadGroup& parent = state.parent->group();
    const RefPtr<ProcessGroup>& parents = parent.state().process_group;
    // The init of a pid namespace counts like any parent; Linux leaves out only the machine's own, which is never
    // inside.
    if (!parents) continue;
    if (parents.get() != this && parents->session_ == session_) return false;
  }
  return true;
}

bool ProcessGroup::IsOrphaned() const {
  MutexLock lock(Kernel::Get().tasks().mu());
  return IsOrphanedLocked(nullptr);
}

bool ProcessGroup::HasStoppedMemberLocked() const {
  for (ThreadGroup* member : members_) {
    SignalLock lock(*member);
    if (member->state().stop.complete) return true;
  }
  return false;
}

void ProcessGroup::SendSignalLocked(const SignalInfo& info) {
  for (ThreadGroup* member : members_) (void)member->SendSignal(info);
}

void ProcessGroup::SendSignal(const SignalInfo& info) {
  MutexLock lock(Kernel::Get().tasks().mu());
  SendSignalLocked(info);
}

Result<pid_t> ThreadGroup::CreateSession() {
  RefPtr<ProcessGroup> old;
  MutexLock lock(Kernel::Get().tasks().mu());
  // EPERM for a group leader, and also when its id is still in use for a group that others are in (setsid(2)).
  if (state_->process_group && state_->process_group->id() == tgid_) return Errno(EPERM);
  if (pid_ns_->groups_.contains(TgidIn(*pid_ns_))) return Errno(EPERM);
  auto session = MakeRef<Session>(tgid_, pid_ns_.get(), this);
  session->RegisterLocked(*this);
  auto group = MakeRef<ProcessGroup>(tgid_, session, pid_ns_.get());
  group->RegisterLocked(*this);
  old = state_->process_group;
  if (old) old->LeaveLocked(*this);
  group->JoinLocked(*this);
  return TgidIn(*pid_ns_);
}

Result<void> ThreadGroup::SetProcessGroup(pid_t group_in_ns, const PidNamespace& ns, Task& by) {
  RefPtr<ProcessGroup> old;
  MutexLock lock(Kernel::Get().tasks().mu());
  State& state = *state_;
  ThreadGroup& caller = by.group();
  const RefPtr<ProcessGroup>& callers = caller.state().process_group;
  if (!state.process_group || !callers) return Errno(ESRCH);
  if (this != &caller) {
    if (!state.parent || &state.parent->group() != &caller) return Errno(ESRCH);
    if (state.process_group->session() != callers->session()) return Errno(EPERM);
    if (state.has_exec) return Errno(EACCES);
  }
  const RefPtr<Session>& session = state.process_group->session();
  if (session->leader_ == this) return Errno(EPERM);
  pid_t own = TgidIn(ns);
  if (group_in_ns == 0) group_in_ns = own;
  RefPtr<ProcessGroup> group;
  if (auto it = ns.groups_.find(group_in_ns); it != ns.groups_.end()) {
    group = RefPtr<ProcessGroup>(it->second);
    if (group->session() != callers->session()) return Errno(EPERM);
  } else if (group_in_ns != own) {
    return Errno(EPERM);
  }
  if (group && group == state.process_group) return OkResult();
  if (!group) {
    group = MakeRef<ProcessGroup>(tgid_, session, pid_ns_.get());
    group->RegisterLocked(*this);
  }
  old = state.process_group;
  old->LeaveLocked(*this);
  group->JoinLocked(*this);
  return OkResult();
}

}  // namespace sentry::kernel
