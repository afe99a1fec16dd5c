// SPDX-License-Identifier: Apache-2.0
// The tree: hierarchies, groups, what cgroup.type and cgroup.subtree_control allow.
#include "sentry/kernel/cgroup.h"

#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task_internal.h"

namespace sentry::kernel {
namespace {

// What guests may make the sentry keep. The depth also bounds recursion (a group's end may be its parents' end).
constexpr int64_t kMaxGroups = 16384;
constexpr int kMaxDepth = 128;

uint64_t NextGroupId() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

CgroupCpuUsage Since(const Task& task, const CgroupCpuUsage& base) {
  const CpuUsage now = task.usage();
  return {std::max<int64_t>(now.user_ns - base.user_ns, 0), std::max<int64_t>(now.system_ns - base.system_ns, 0)};
}

}  // namespace

Cgroup::Cgroup(RefPtr<CgroupHierarchy> hierarchy, RefPtr<Cgroup> parent, std::string name)
    : hierarchy_(std::move(hierarchy)),
      parent_(std::move(parent)),
      name_(std::move(name)),
      id_(NextGroupId()),
      depth_(parent_ ? parent_->depth_ + 1 : 0) {}
Cgroup::~Cgroup() {
  if (IsRoot()) hierarchy_->root = nullptr;
}

bool Cgroup::IsBelow(const Cgroup& ancestor) const {
  const Cgroup* at = this;
  while (at && at->depth_ > ancestor.depth_) at = at->parent();
  return at == &ancestor;
}

std::string Cgroup::PathFrom(const Cgroup& root) const {
  std::string up, down;
  const Cgroup* top = &root;
  for (; !IsBelow(*top); top = top->parent()) up += "/..";
  for (const Cgroup* at = this; at != top; at = at->parent()) down.insert(0, "/" + at->name_);
  return up.empty() && down.empty() ? "/" : up + down;
}

void Cgroup::ForEach(const std::function<void(Cgroup&)>& visit) {
  std::vector<Cgroup*> todo{this};
  for (size_t i = 0; i < todo.size(); ++i) {
    visit(*todo[i]);
    for (auto& [name, child] : todo[i]->children) todo.push_back(child.get());
  }
}

uint32_t Cgroup::AvailableControllers() const {
  const uint32_t all = hierarchy_->controllers;
  return IsV2() && parent_ && !is_container ? parent_->subtree_control & all : all;
}

CgroupCpuUsage Cgroup::CpuUsage() const {
  CgroupCpuUsage total;
  const_cast<Cgroup*>(this)->ForEach([&](Cgroup& group) {
    auto add = [&](const CgroupCpuUsage& usage) {
      total.user_ns += usage.user_ns;
      total.system_ns += usage.system_ns;
    };
    add(group.gone);
    for (Task* task : group.tasks_)
      add(Since(*task, task->internal().cgroups->places[static_cast<size_t>(hierarchy_->slot)].base));
  });
  return total;
}

void Cgroup::Notify(CgroupEvent event) {
  sequences_[static_cast<size_t>(event)].fetch_add(1, std::memory_order_acq_rel);
  event_queue_.Notify(EPOLLPRI | EPOLLERR);
  if (observer) observer->OnEvent(event);
}

bool Cgroup::IsFreezing() const {
  const Cgroup* at = this;
  while (at && !at->freeze) at = at->parent();
  return at != nullptr;
}

bool Cgroup::IsThrottled() const {
  const Cgroup* at = this;
  while (at && !at->cpu.throttled) at = at->parent();
  return at != nullptr;
}

// The rules of threads follow kernel/cgroup/cgroup.c of Linux (cgroup_is_thread_root and its neighbours).
bool Cgroup::IsThreadRoot() const {
  if (threaded) return false;
  for (const auto& [name, child] : children) {
    if (child->threaded) return true;
  }
  return !tasks_.empty() && (subtree_control & kThreadedControllers);
}

bool Cgroup::IsValidDomain() const {
  if (threaded) return false;
  for (const Cgroup* at = parent(); at; at = at->parent()) {
    if ((!at->IsRoot() && at->IsThreadRoot()) || at->threaded) return false;
  }
  return true;
}

bool Cgroup::CanBeThreadRoot() const {
  if (IsRoot()) return true;
  if (threaded) return false;
  for (const auto& [name, child] : children) {
    if (!child->threaded && child->IsPopulated()) return false;
  }
  return !(subtree_control & ~kThreadedControllers);
}

const Cgroup& Cgroup::Domain() const {
  const Cgroup* at = this;
  while (at->threaded && at->parent()) at = at->parent();
  return *at;
}

Cgroups::Cgroups() {
  auto v2 = MakeRef<CgroupHierarchy>();
  v2->controllers = kV2Controllers;
  roots_[0] = MakeRef<Cgroup>(v2, nullptr, "");
  v2->root = roots_[0].get();
  root_namespace_ = MakeRef<CgroupNamespace>(std::vector{roots_[0]}, Kernel::Get().root_user_ns(), UserCharge(),
                                             /*is_initial=*/true);
}

Cgroups& Cgroups::Get() {
  static Cgroups& cgroups = *new Cgroups();
  return cgroups;
}

Mutex& Cgroups::mu() { return Kernel::Get().tasks().mu(); }

std::vector<RefPtr<Cgroup>> Cgroups::RootsLocked() const {
  std::vector<RefPtr<Cgroup>> list;
  for (const auto& root : roots_) {
    if (root) list.push_back(root);
  }
  return list;
}

Result<RefPtr<Cgroup>> Cgroups::FindOrMake(bool v2, uint32_t controllers, const std::string& name, bool may_make) {
  MutexLock lock(mu());
  if (v2) return roots_[0];
  int slot = 0;
  for (int i = 1; i < kMaxHierarchies; ++i) {
    const RefPtr<Cgroup>& root = roots_[static_cast<size_t>(i)];
    if (!root) {
      if (slot == 0) slot = i;
      continue;
    }
    const CgroupHierarchy* each = &root->hierarchy();
    const bool same_name = !name.empty() && each->name == name;
    if (same_name ? (controllers == 0 || each->controllers == controllers)
                  : (name.empty() && each->controllers == controllers))
      return root;
    if (same_name || (each->controllers & controllers)) return Errno(EBUSY);
  }
  if (!may_make) return Errno(EPERM);
  Cgroup& unified = *roots_[0];
  bool in_use = false;
  unified.ForEach([&](Cgroup& group) { in_use |= (group.subtree_control & controllers) != 0; });
  if (in_use) return Errno(EBUSY);
  if (slot == 0) return Errno(ENOSPC);
  auto made = MakeRef<CgroupHierarchy>();
  made->slot = slot;
  made->id = next_id_++;
  made->controllers = controllers;
  made->name = name;
  auto root = MakeRef<Cgroup>(made, nullptr, "");
  made->root = root.get();
  roots_[static_cast<size_t>(slot)] = root;
  unified.hierarchy().controllers &= ~controllers;
  MirrorContainers(*root);
  return root;
}

// Each container's group, with its limits, and the tasks where they are or below.
void Cgroups::MirrorContainers(Cgroup& root) {
  std::map<const Cgroup*, RefPtr<Cgroup>> mirror;
  roots_[0]->ForEach([&](Cgroup& group) {
    RefPtr<Cgroup>& to = mirror[&group];
    if (group.IsRoot()) {
      to = RefPtr<Cgroup>(&root);
    } else if (!group.is_container) {
      to = mirror[group.parent()];
    } else {
      to = MakeContainerGroupLocked(root, group.PathFrom(*roots_[0]));
      to->pids.max = group.pids.max;
      to->memory.max = group.memory.max;
      to->cpu = group.cpu;
      to->cpu.throttled = false;
      // v1 wants both set before a task comes.
      const unsigned cpus = std::max(1u, Kernel::Get().options().cpus);
      to->cpus = !group.cpus.empty() ? group.cpus : cpus > 1 ? "0-" + std::to_string(cpus - 1) : "0";
      to->mems = group.mems.empty() ? "0" : group.mems;
    }
    for (Task* task : group.tasks_) Enter(*task, to);
  });
}

void Cgroups::Release(CgroupHierarchy& hierarchy) {
  MutexLock lock(mu());
  if (hierarchy.IsV2() || !hierarchy.root || hierarchy.root->removed) return;
  bool in_use = false;
  hierarchy.root->ForEach([&](Cgroup& group) { in_use |= !group.IsRoot() && !group.is_container; });
  if (in_use) return;
  const RefPtr<Cgroup> root = std::move(roots_[static_cast<size_t>(hierarchy.slot)]);
  roots_[0]->hierarchy().controllers |= hierarchy.controllers & kV2Controllers;
  std::vector<RefPtr<Cgroup>> groups;
  root->ForEach([&](Cgroup& group) { groups.emplace_back(&group); });
  for (const RefPtr<Cgroup>& group : groups) {
    const std::set<Task*> tasks = group->tasks_;
    for (Task* task : tasks) {
      Leave(*task, task->internal().cgroups->places[static_cast<size_t>(hierarchy.slot)]);
      SetCharge(*task->internal().cgroups);
      UpdateStops(*task);
    }
    group->removed = true;
    group->children.clear();
  }
  groups_ -= static_cast<int64_t>(groups.size()) - 1;
}

Result<RefPtr<Cgroup>> Cgroups::MakeLocked(Cgroup& parent, const std::string& name) {
  if (parent.removed) return Errno(ENODEV);
  if (parent.children.contains(name)) return Errno(EEXIST);
  if (groups_ >= kMaxGroups || parent.depth() + 1 > kMaxDepth) return Errno(EAGAIN);
  int64_t level = 1;
  for (const Cgroup* at = &parent; at; at = at->parent(), ++level) {
    if (level > at->max_depth || at->descendants >= at->max_descendants) return Errno(EAGAIN);
  }
  auto made = MakeRef<Cgroup>(RefPtr<CgroupHierarchy>(&parent.hierarchy()), RefPtr<Cgroup>(&parent), name);
  made->clone_children = parent.clone_children;
  made->notify_on_release = parent.notify_on_release;
  if (parent.clone_children) made->cpus = parent.cpus, made->mems = parent.mems;
  parent.children[name] = made;
  for (Cgroup* at = &parent; at; at = at->parent()) ++at->descendants;
  ++groups_;
  if (parent.IsFreezing()) made->frozen_shown = true;
  return made;
}

Result<void> Cgroups::RemoveLocked(Cgroup& group) {
  if (group.removed || group.IsRoot() || !group.children.empty() || group.IsPopulated()) return Errno(EBUSY);
  Cgroup& parent = *group.parent();
  group.removed = true;
  parent.gone.user_ns += group.gone.user_ns;
  parent.gone.system_ns += group.gone.system_ns;
  for (Cgroup* at = &parent; at; at = at->parent()) --at->descendants;
  --groups_;
  // What is left of its memory is the parent's from now on.
  std::erase_if(parent.charges, [&](const auto& charge) { return charge != parent.charges[0] && charge->IsEmpty(); });
  for (RefPtr<mm::MemoryCharge>& charge : group.charges) {
    if (!charge->IsEmpty()) parent.charges.push_back(charge);
  }
  auto it = parent.children.find(group.name());
  const RefPtr<Cgroup> keep = std::move(it->second);
  parent.children.erase(it);
  return OkResult();
}

Result<void> Cgroups::SetSubtreeControlLocked(Cgroup& group, uint32_t enable, uint32_t disable) {
  if (group.removed) return Errno(ENODEV);
  enable &= ~group.subtree_control;
  disable &= group.subtree_control;
  if (enable & ~group.AvailableControllers()) return Errno(ENOENT);
  for (const auto& [name, child] : group.children) {
    if (child->subtree_control & disable) return Errno(EBUSY);
  }
  if (enable) {
    if (!group.Domain().IsValidDomain()) return Errno(EOPNOTSUPP);
    if (!group.IsRoot()) {
      bool inside = false;
      if (enable & ~kThreadedControllers) {
        if (group.IsThreadRoot() || group.threaded) return Errno(EOPNOTSUPP);
      } else {
        inside = group.CanBeThreadRoot() || group.threaded;
      }
      if (!inside && !group.tasks_.empty()) return Errno(EBUSY);
    }
  }
  group.subtree_control = (group.subtree_control | enable) & ~disable;
  // What is no longer controlled has no limits.
  for (const auto& [name, child] : group.children) {
    if (disable & kPids) child->pids.max = kCgroupNoLimit;
    if (disable & kMemory) child->memory.max = child->memory.high = kCgroupNoLimit;
    if (disable & kCpu) {
      child->cpu.quota_ns = -1;
      if (std::exchange(child->cpu.throttled, false)) UpdateStopsLocked(*child);
    }
  }
  return OkResult();
}

Result<void> Cgroups::MakeThreadedLocked(Cgroup& group) {
  if (group.threaded) return OkResult();
  if (group.removed) return Errno(ENODEV);
  if (group.IsRoot()) return Errno(EINVAL);
  if (group.IsPopulated() || (group.subtree_control & ~kThreadedControllers)) return Errno(EOPNOTSUPP);
  const Cgroup& parent = *group.parent();
  const Cgroup& domain = parent.Domain();
  if (!domain.IsValidDomain() || !(parent.threaded || domain.CanBeThreadRoot())) return Errno(EOPNOTSUPP);
  group.threaded = true;
  return OkResult();
}

RefPtr<Cgroup> Cgroups::MakeContainerGroup(const std::string& path) {
  MutexLock lock(mu());
  return MakeContainerGroupLocked(*roots_[0], path);
}

RefPtr<Cgroup> Cgroups::MakeContainerGroupLocked(Cgroup& root, const std::string& path) {
  RefPtr<Cgroup> at(&root);
  for (size_t start = 0; start < path.size();) {
    const size_t slash = std::min(path.find('/', start), path.size());
    const std::string name = path.substr(start, slash - start);
    start = slash + 1;
    if (name.empty() || name == "." || name == "..") continue;
    auto it = at->children.find(name);
    if (it != at->children.end()) {
      at = RefPtr<Cgroup>(it->second);
      continue;
    }
    auto made = MakeLocked(*at, name);
    if (!made.ok()) break;
    at = *made;
    at->is_container = true;
  }
  return at;
}

RefPtr<CgroupNamespace> Cgroups::NewNamespace(const Task* task, Cgroup* in, RefPtr<UserNamespace> owner,
                                              UserCharge charge) {
  std::vector<RefPtr<Cgroup>> roots;
  {
    MutexLock lock(mu());
    for (const RefPtr<Cgroup>& root : RootsLocked()) {
      if (task) roots.emplace_back(&Of(*task, root->hierarchy()));
    }
    if (!task) roots.emplace_back(in);
  }
  return MakeRef<CgroupNamespace>(std::move(roots), std::move(owner), std::move(charge), /*is_initial=*/!task);
}

std::string Cgroups::NameOf(const CgroupHierarchy& hierarchy) {
  std::string text;
  for (const ControllerName& controller : kControllers) {
    if (!(hierarchy.controllers & controller.bit)) continue;
    text += text.empty() ? "" : ",";
    text += controller.name;
  }
  if (!hierarchy.name.empty()) text += (text.empty() ? "name=" : ",name=") + hierarchy.name;
  return text;
}

std::string Cgroups::TextOf(const Task& task, const CgroupNamespace& seen_from) {
  MutexLock lock(mu());
  std::vector<RefPtr<Cgroup>> list = RootsLocked();
  std::sort(list.begin(), list.end(),
            [](const auto& a, const auto& b) { return a->hierarchy().id > b->hierarchy().id; });
  std::string text;
  for (const RefPtr<Cgroup>& root : list) {
    const CgroupHierarchy& hierarchy = root->hierarchy();
    Cgroup& group = Of(task, hierarchy);
    text += std::to_string(hierarchy.id) + ":" + (hierarchy.IsV2() ? "" : NameOf(hierarchy)) + ":" +
            group.PathFrom(*seen_from.RootOf(hierarchy)) + (group.removed ? " (deleted)" : "") + "\n";
  }
  return text;
}

std::string Cgroups::Table() {
  MutexLock lock(mu());
  std::string text;
  for (const ControllerName& controller : kControllers) {
    const Cgroup* owner = roots_[0].get();
    for (const auto& root : roots_) {
      if (root && !root->IsV2() && (root->hierarchy().controllers & controller.bit)) owner = root.get();
    }
    text += std::string(controller.name) + "\t" + std::to_string(owner->hierarchy().id) + "\t" +
            std::to_string(owner->descendants + 1) + "\t1\n";
  }
  return text;
}

}  // namespace sentry::kernel
