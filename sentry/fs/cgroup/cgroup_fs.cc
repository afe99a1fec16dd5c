// SPDX-License-Identifier: Apache-2.0
// Instances and mount options.
#include "sentry/fs/cgroup/cgroup_fs.h"

#include <algorithm>

#include "sentry/kernel/task.h"

namespace sentry::fs {
namespace {

using kernel::kControllers;

// The mounted views. An instance is taken out at its last unmount.
struct Instances {
  Mutex mu{LockRank::kNamespace};
  std::vector<RefPtr<CgroupFs>> list ABSL_GUARDED_BY(mu);
  static Instances& Get() {
    static Instances& instances = *new Instances();
    return instances;
  }
};

struct V1Options {
  uint32_t controllers = 0;
  std::string name;
  std::string shown;  // those without a meaning here
};

bool IsHierarchyName(std::string_view name) {
  constexpr size_t kMaxName = 64;
  return !name.empty() && name.size() < kMaxName && std::all_of(name.begin(), name.end(), [](char c) {
    return isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

Result<V1Options> ParseV1(std::string_view text) {
  V1Options options;
  bool none = false, all = false;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view word = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const auto* known = std::find_if(std::begin(kControllers), std::end(kControllers),
                                     [&](const kernel::ControllerName& each) { return word == each.name; });
    if (known != std::end(kControllers)) {
      options.controllers |= known->bit;
    } else if (word == "all") {
      all = true;
    } else if (word == "none") {
      none = true;
    } else if (word.starts_with("name=")) {
      if (!options.name.empty() || !IsHierarchyName(word.substr(5))) return Errno(EINVAL);
      options.name = word.substr(5);
    } else if (word == "xattr" || word == "clone_children" || word == "cpuset_v2_mode" || word == "noprefix" ||
               word.starts_with("release_agent=")) {
      options.shown += "," + std::string(word);
    } else if (!word.empty()) {
      return Errno(EINVAL);
    }
  }
  if (all && options.controllers) return Errno(EINVAL);
  if (all || (!none && !options.controllers && options.name.empty())) options.controllers = kernel::kV1Controllers;
  if (none && options.controllers) return Errno(EINVAL);
  if (!options.controllers && options.name.empty()) return Errno(EINVAL);
  return options;
}

Result<RefPtr<vfs::Filesystem>> View(const RefPtr<Cgroup>& root, const std::string& options) {
  kernel::Task* task = kernel::Task::CurrentOrNull();
  RefPtr<Cgroup> top = root;
  if (task) {
    MutexLock lock(Cgroups::mu());
    top = task->namespaces().cgroup->RootOf(root->hierarchy());
  }
  return RefPtr<vfs::Filesystem>(CgroupFs::Get(std::move(top), options));
}

}  // namespace

RefPtr<CgroupFs> CgroupFs::Get(RefPtr<Cgroup> root, const std::string& options) {
  Instances& instances = Instances::Get();
  auto made = MakeRef<CgroupFs>(root, options);
  MutexLock lock(instances.mu);
  for (const RefPtr<CgroupFs>& each : instances.list) {
    if (each->root_group_ == root) return each;
  }
  instances.list.push_back(made);
  return made;
}

RefPtr<vfs::Inode> CgroupFs::Root() {
  MutexLock lock(mu_);
  if (!root_) root_ = MakeRef<CgroupDirectory>(*this, root_group_);
  return root_;
}

std::string CgroupFs::MountOptions() const {
  if (root_group_->IsV2()) return options_;
  return Cgroups::NameOf(root_group_->hierarchy()) + options_;
}

std::string CgroupFs::MountRoot(std::string path) const {
  kernel::Task* task = kernel::Task::CurrentOrNull();
  if (!task) return path;
  std::string top;
  {
    MutexLock lock(Cgroups::mu());
    top = root_group_->PathFrom(*task->namespaces().cgroup->RootOf(root_group_->hierarchy()));
  }
  if (path == "/") return top;
  return top == "/" ? path : top + path;
}

void CgroupFs::OnLastUnmount() {
  if (IsMounted()) return;  // again
  RefPtr<CgroupFs> self;
  bool last = true;
  {
    Instances& instances = Instances::Get();
    MutexLock lock(instances.mu);
    for (auto it = instances.list.begin(); it != instances.list.end();) {
      if (it->get() == this) {
        self = std::move(*it);
        it = instances.list.erase(it);
        continue;
      }
      last &= &(*it)->root_group_->hierarchy() != &root_group_->hierarchy();
      ++it;
    }
  }
  RefPtr<CgroupDirectory> root;
  {
    MutexLock lock(mu_);
    root = std::move(root_);
  }
  if (root) root->Clear();
  if (last) Cgroups::Get().Release(root_group_->hierarchy());
}

Result<RefPtr<vfs::Filesystem>> NewCgroup1(const vfs::MountSource& source) {
  const V1Options options = TRY(ParseV1(source.options));
  kernel::Task* task = kernel::Task::CurrentOrNull();
  const bool may_make = !task || (task->namespaces().cgroup->is_initial() && task->HasCapability(CAP_SYS_ADMIN));
  return View(TRY(Cgroups::Get().FindOrMake(false, options.controllers, options.name, may_make)), options.shown);
}

Result<RefPtr<vfs::Filesystem>> NewCgroup2(const vfs::MountSource& source) {
  std::string shown;
  for (std::string_view text = source.options; !text.empty();) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view word = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    if (word != "nsdelegate" && word != "memory_recursiveprot" && word != "memory_localevents" &&
        word != "favordynmods")
      return Errno(EINVAL);
    shown += (shown.empty() ? "" : ",") + std::string(word);
  }
  return View(TRY(Cgroups::Get().FindOrMake(true, 0, "", false)), shown);
}

RefPtr<vfs::Filesystem> NewCgroup2At(RefPtr<Cgroup> root) { return CgroupFs::Get(std::move(root), ""); }

}  // namespace sentry::fs
