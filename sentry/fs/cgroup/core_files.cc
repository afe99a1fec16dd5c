// SPDX-License-Identifier: Apache-2.0
// cgroup.* of v2, and the files that every v1 group has.
#include <algorithm>
#include <set>

#include "sentry/fs/cgroup/cgroup_fs.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task_internal.h"
#include "sentry/kernel/thread_group_state.h"

namespace sentry::fs {
namespace {

using kernel::kCgroupNoLimit;
using kernel::Task;

using Context = CgroupFileContext;

std::string NamesOf(uint32_t controllers) {
  std::string text;
  for (const kernel::ControllerName& each : kernel::kControllers) {
    if (controllers & each.bit) text += (text.empty() ? "" : " ") + std::string(each.name);
  }
  return text.empty() ? text : text + "\n";
}

// Ids as the reader's pid namespace shows them. Linux's v2 lists a 0 for each that it can't see, v1 leaves it out.
Result<std::string> ListTasks(const Context& context, bool processes) {
  Task* reader = Task::CurrentOrNull();
  const kernel::PidNamespace& ns = reader ? reader->pid_ns() : *kernel::Kernel::Get().root_pid_ns();
  std::set<pid_t> ids;
  size_t hidden = 0;
  {
    MutexLock lock(Cgroups::mu());
    std::set<const kernel::ThreadGroup*> seen;
    auto add = [&](Task* task) {
      if (processes && !seen.insert(&task->group()).second) return;
      const pid_t id = processes ? task->group().TgidIn(ns) : task->TidIn(ns);
      if (id != 0) ids.insert(id);
      if (id == 0 && context.group.IsV2()) ++hidden;
    };
    if (!processes) {
      for (Task* task : context.group.tasks()) add(task);
    } else if (context.group.IsV2() && context.group.threaded) {
      return Errno(EOPNOTSUPP);
    } else {
      for (Task* task : context.group.tasks()) add(task);
      // The processes of the threaded groups below are the domain's.
      const_cast<Cgroup&>(context.group).ForEach([&](Cgroup& below) {
        if (&below == &context.group || !below.threaded || &below.Domain() != &context.group) return;
        for (Task* task : below.tasks()) add(task);
      });
    }
  }
  std::string text;
  for (size_t i = 0; i < hidden; ++i) text += "0\n";
  for (pid_t id : ids) text += std::to_string(id) + "\n";
  return text;
}

Result<std::string> Processes(const Context& context) { return ListTasks(context, true); }
Result<std::string> Threads(const Context& context) { return ListTasks(context, false); }

// v1: root, or an owner of the process (__cgroup1_procs_write).
Result<void> MayMoveV1(const Credentials& creds, const Task& task) {
  RefPtr<const Credentials> target = task.creds_ref();
  if (!target || creds.euid == 0 || creds.euid == target->ruid || creds.euid == target->suid) return OkResult();
  return Errno(EACCES);
}

Result<void> Move(const Context& context, std::string_view text, bool whole_process) {
  Task* writer = Task::CurrentOrNull();
  const int64_t id = TRY(ParseCgroupNumber(text));
  if (id < 0 || id > INT32_MAX) return Errno(EINVAL);
  const kernel::PidNamespace& ns = writer ? writer->pid_ns() : *kernel::Kernel::Get().root_pid_ns();
  RefPtr<Task> task(id == 0 ? writer : nullptr);
  if (id != 0) task = kernel::Kernel::Get().tasks().FindTask(ns, static_cast<pid_t>(id));
  if (!task) return Errno(ESRCH);
  Cgroup& to = context.group;
  if (!to.IsV2() && context.opener) TRY(MayMoveV1(*context.opener, *task));
  MutexLock lock(Cgroups::mu());
  std::vector<Task*> tasks;
  if (whole_process) {
    for (const RefPtr<Task>& thread : task->group().state().threads) tasks.push_back(thread.get());
  } else {
    tasks.push_back(task.get());
  }
  std::erase_if(tasks, [](Task* each) { return !each->internal().cgroups || !each->internal().cgroups->live; });
  if (tasks.empty()) return Errno(ESRCH);
  if (to.removed) return Errno(ENODEV);
  // The whole process is where its leader (or, after that one's end, any other thread) is.
  if (context.opener) TRY(MayMoveLocked(*context.opener, Cgroups::Of(*tasks[0], to.hierarchy()), to));
  return Cgroups::Get().MoveLocked(tasks, to, whole_process);
}

Result<void> MoveProcess(const Context& context, std::string_view text) { return Move(context, text, true); }
Result<void> MoveThread(const Context& context, std::string_view text) { return Move(context, text, false); }

Result<std::string> Controllers(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return NamesOf(context.group.AvailableControllers());
}

Result<std::string> SubtreeControl(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return NamesOf(context.group.subtree_control);
}

Result<void> WriteSubtreeControl(const Context& context, std::string_view text) {
  uint32_t enable = 0, disable = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (word.empty()) continue;
    const auto* known = std::find_if(std::begin(kernel::kControllers), std::end(kernel::kControllers),
                                     [&](const auto& each) { return word.substr(1) == each.name; });
    if ((word[0] != '+' && word[0] != '-') || known == std::end(kernel::kControllers) ||
        !(known->bit & kernel::kV2Controllers))
      return Errno(EINVAL);
    uint32_t& to = word[0] == '+' ? enable : disable;
    uint32_t& other = word[0] == '+' ? disable : enable;
    to |= known->bit;
    other &= ~known->bit;
  }
  MutexLock lock(Cgroups::mu());
  return Cgroups::Get().SetSubtreeControlLocked(context.group, enable, disable);
}

Result<std::string> Events(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return std::string("populated ") + (context.group.IsPopulated() ? "1" : "0") + "\nfrozen " +
         (context.group.IsFrozen() ? "1\n" : "0\n");
}

Result<std::string> Type(const Context& context) {
  MutexLock lock(Cgroups::mu());
  const Cgroup& group = context.group;
  if (group.threaded) return std::string("threaded\n");
  if (!group.IsValidDomain()) return std::string("domain invalid\n");
  return std::string(group.IsThreadRoot() ? "domain threaded\n" : "domain\n");
}

Result<void> WriteType(const Context& context, std::string_view text) {
  if (text != "threaded") return Errno(EINVAL);
  MutexLock lock(Cgroups::mu());
  return Cgroups::Get().MakeThreadedLocked(context.group);
}

Result<std::string> Freeze(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return std::string(context.group.freeze ? "1\n" : "0\n");
}

Result<void> WriteFreeze(const Context& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupNumber(text));
  if (value != 0 && value != 1) return Errno(ERANGE);
  MutexLock lock(Cgroups::mu());
  if (std::exchange(context.group.freeze, value == 1) != (value == 1)) Cgroups::Get().UpdateStopsLocked(context.group);
  return OkResult();
}

Result<void> WriteKill(const Context& context, std::string_view text) {
  if (TRY(ParseCgroupNumber(text)) != 1) return Errno(ERANGE);
  MutexLock lock(Cgroups::mu());
  if (context.group.threaded) return Errno(EOPNOTSUPP);
  Cgroups::Get().KillLocked(context.group);
  return OkResult();
}

template <int64_t Cgroup::*kField>
Result<std::string> Number(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return ShowCgroupLimit(context.group.*kField);
}

template <int64_t Cgroup::*kField>
Result<void> WriteBound(const Context& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupLimit(text));
  if (value < 0) return Errno(ERANGE);
  MutexLock lock(Cgroups::mu());
  context.group.*kField = value > INT32_MAX ? kCgroupNoLimit : value;
  return OkResult();
}

Result<std::string> Stat(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return "nr_descendants " + std::to_string(context.group.descendants) + "\nnr_dying_descendants 0\n";
}

template <bool Cgroup::*kField>
Result<std::string> Flag(const Context& context) {
  MutexLock lock(Cgroups::mu());
  return std::string(context.group.*kField ? "1\n" : "0\n");
}

template <bool Cgroup::*kField>
Result<void> WriteFlag(const Context& context, std::string_view text) {
  const int64_t value = TRY(ParseCgroupNumber(text));
  MutexLock lock(Cgroups::mu());
  context.group.*kField = value != 0;
  return OkResult();
}

Result<std::string> Nothing(const Context&) { return std::string("\n"); }
Result<std::string> Zero(const Context&) { return std::string("0\n"); }
// No program of the host's may be started from here.
Result<void> Refuse(const Context&, std::string_view) { return Errno(EPERM); }

constexpr uint8_t kV2All = kOnV2 | kEverywhere, kV2Others = kOnV2 | kOnOthers, kV1All = kOnV1 | kEverywhere;

constexpr CgroupFile kCoreFiles[] = {
    {"cgroup.controllers", 0444, kV2All, 0, &Controllers},
    {"cgroup.events", 0444, kV2Others, 0, &Events, nullptr, CgroupEvent::kEvents},
    {"cgroup.freeze", 0644, kV2Others, 0, &Freeze, &WriteFreeze},
    {"cgroup.kill", 0200, kV2Others, 0, nullptr, &WriteKill},
    {"cgroup.max.depth", 0644, kV2All, 0, &Number<&Cgroup::max_depth>, &WriteBound<&Cgroup::max_depth>},
    {"cgroup.max.descendants", 0644, kV2All, 0, &Number<&Cgroup::max_descendants>,
     &WriteBound<&Cgroup::max_descendants>},
    {"cgroup.procs", 0644, kV2All, 0, &Processes, &MoveProcess},
    {"cgroup.stat", 0444, kV2All, 0, &Stat},
    {"cgroup.subtree_control", 0644, kV2All, 0, &SubtreeControl, &WriteSubtreeControl},
    {"cgroup.threads", 0644, kV2All, 0, &Threads, &MoveThread},
    {"cgroup.type", 0644, kV2Others, 0, &Type, &WriteType},
    {"cgroup.clone_children", 0644, kV1All, 0, &Flag<&Cgroup::clone_children>, &WriteFlag<&Cgroup::clone_children>},
    {"cgroup.procs", 0644, kV1All, 0, &Processes, &MoveProcess},
    {"cgroup.sane_behavior", 0444, kOnV1 | kOnRoot, 0, &Zero},
    {"notify_on_release", 0644, kV1All, 0, &Flag<&Cgroup::notify_on_release>, &WriteFlag<&Cgroup::notify_on_release>},
    {"release_agent", 0644, kOnV1 | kOnRoot, 0, &Nothing, &Refuse},
    {"tasks", 0644, kV1All, 0, &Threads, &MoveThread},
};

}  // namespace

std::span<const CgroupFile> CoreFiles() { return kCoreFiles; }

}  // namespace sentry::fs
