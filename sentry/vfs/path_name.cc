// SPDX-License-Identifier: Apache-2.0
// d_path: the name of a place, put together from the leaf up.
#include <vector>

#include "sentry/vfs/dentry_cache.h"
#include "sentry/vfs/vfs.h"

namespace sentry::vfs {
namespace {

// Components from `path` up to `root` (null: to the top of everything); what was reached goes to `*top`.
std::string Ascend(Path path, const Path* root, Path* top) {
  std::vector<std::string> names;
  size_t length = 0;
  for (;;) {
    if (root && path == *root) break;
    if (path.dentry == path.mount->root()) {
      Path covered;
      if (!MountNamespace::CoveredBy(*path.mount, &covered)) break;
      path = std::move(covered);
      continue;
    }
    RefPtr<Dentry> up = path.dentry->parent();
    if (!up) break;
    names.push_back(path.dentry->name());
    length += names.back().size() + 1;
    path.dentry = std::move(up);
  }
  std::string result;
  result.reserve(length + 1);
  for (auto it = names.rbegin(); it != names.rend(); ++it) {
    result += '/';
    result += *it;
  }
  if (result.empty()) result = "/";
  *top = std::move(path);
  return result;
}

}  // namespace

std::string PathName(const MountNamespace& mounts, const Path& path, const Path& root) {
  // Objects outside any tree are called by their own name.
  if (!path.dentry->parent() && !(path.dentry == path.mount->root())) {
    std::string name = path.dentry->name();
    return path.inode()->IsRegular() ? name + " (deleted)" : name;
  }
  Path top;
  std::string name = Ascend(path, &root, &top);
  if (!(top == root)) name = "(unreachable)" + name;
  if (path.dentry->IsUnhashed()) name += " (deleted)";
  return name;
}

std::string PathNameFromTop(const Path& path) {
  if (!path.dentry->parent() && !(path.dentry == path.mount->root())) {
    std::string name = path.dentry->name();
    return path.inode()->IsRegular() ? name + " (deleted)" : name;
  }
  Path top;
  std::string name = Ascend(path, nullptr, &top);
  if (path.dentry->IsUnhashed()) name += " (deleted)";
  return name;
}

}  // namespace sentry::vfs
