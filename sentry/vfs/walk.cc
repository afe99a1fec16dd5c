// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/walk.h"

#include <limits.h>

#include "sentry/vfs/dentry_cache.h"

namespace sentry::vfs {
namespace {
constexpr int kMaxLinks = 40;
}

Walker::Walker(const WalkContext& context, uint32_t flags)
    : context_(context),
      flags_(flags),
      root_((flags & (kBeneath | kInRoot)) ? context.start : context.root),
      scoped_(flags & (kBeneath | kInRoot)),
      topology_(DentryCache::Get().topology_sequence()) {}

Result<void> Walker::JumpToRoot() {
  if (flags_ & kBeneath) return Errno(EXDEV);
  if ((flags_ & kNoXdev) && !(current_.mount == root_.mount)) return Errno(EXDEV);
  current_ = root_;
  return OkResult();
}

Result<void> Walker::Start(std::string_view path) {
  if (path.size() >= PATH_MAX) return Errno(ENAMETOOLONG);
  if (path.empty() && !(flags_ & kEmptyPath)) return Errno(ENOENT);
  current_ = context_.start;
  if (!current_) return Errno(ENOENT);
  if (path.starts_with('/')) {
    // The crossing check compares with the start; an absolute path begins at the root without one.
    if (flags_ & kBeneath) return Errno(EXDEV);
    current_ = root_;
  } else if (!path.empty() && !current_.inode()->IsDirectory()) {
    return Errno(ENOTDIR);
  }
  pending_.push_back({std::string(path)});
  return OkResult();
}

bool Walker::NextComponent(std::string* name) {
  while (!pending_.empty()) {
    Pending& top = pending_.back();
    const std::string& text = top.text;
    size_t begin = text.find_first_not_of('/', top.position);
    if (begin == std::string::npos) {
      pending_.pop_back();
      continue;
    }
    size_t end = text.find('/', begin);
    if (end == std::string::npos) end = text.size();
    name->assign(text, begin, end - begin);
    size_t next = text.find_first_not_of('/', end);
    if (next == std::string::npos) {
      if (end < text.size() && pending_.size() == 1) trailing_slash_ = true;
      pending_.pop_back();
    } else {
      top.position = next;
    }
    return true;
  }
  return false;
}

Result<void> Walker::WalkToLast() {
  std::string name;
  for (;;) {
    if (!NextComponent(&name)) {
      last_kind_ = Last::kRoot;
      last_name_ = "/";
      return OkResult();
    }
    if (!current_.inode()->IsDirectory()) return Errno(ENOTDIR);
    TRY(current_.inode()->CheckPermission(context_.creds, kMayExec));
    const bool is_dot = name == ".", is_dot_dot = name == "..";
    if (pending_.empty()) {
      last_kind_ = is_dot ? Last::kDot : is_dot_dot ? Last::kDotDot : Last::kNormal;
      last_name_ = std::move(name);
      return OkResult();
    }
    if (is_dot) continue;
    if (is_dot_dot) {
      TRY(StepUp());
      continue;
    }
    RefPtr<Dentry> child = TRY(DentryCache::Get().Lookup(*current_.dentry, name, flags_ & kCached));
    bool pushed = false;
    TRY(Enter(std::move(child), true, &pushed));
    if (!pushed && !current_.inode()->IsDirectory()) return Errno(ENOTDIR);
  }
}

Result<bool> Walker::StepLast() {
  switch (last_kind_) {
    case Last::kRoot:
    case Last::kDot:
      return true;
    case Last::kDotDot:
      TRY(StepUp());
      return true;
    case Last::kNormal:
      break;
  }
  RefPtr<Dentry> child = TRY(DentryCache::Get().Lookup(*current_.dentry, last_name_, flags_ & kCached));
  return EnterLast(std::move(child), flags_ & kFollowFinal);
}

Result<bool> Walker::EnterLast(RefPtr<Dentry> child, bool follow) {
  bool pushed = false;
  TRY(Enter(std::move(child), follow || trailing_slash_, &pushed));
  return !pushed;
}

Result<void> Walker::CrossInto(Path path) {
  if (context_.mounts && DentryCache::IsMountpoint(*path.dentry)) {
    Path top = context_.mounts->CrossMounts(path);
    if ((flags_ & kNoXdev) && !(top.mount == path.mount)) return Errno(EXDEV);
    path = std::move(top);
  }
  current_ = std::move(path);
  return OkResult();
}

Result<void> Walker::StepUp() {
  Path here = current_;
  for (;;) {
    if (here == root_) {
      if (flags_ & kBeneath) return Errno(EXDEV);
      break;
    }
    if (here.dentry == here.mount->root()) {
      Path covered;
      if (!MountNamespace::CoveredBy(*here.mount, &covered)) break;
      if (flags_ & kNoXdev) return Errno(EXDEV);
      here = std::move(covered);
      continue;
    }
    RefPtr<Dentry> up = here.dentry->parent();
    if (!up) break;
    here.dentry = std::move(up);
    break;
  }
  went_up_ = true;
  // openat2(2): a concurrent rename or mount may have let ".." escape the scope.
  if (scoped_ && DentryCache::Get().topology_sequence() != topology_) return Errno(EAGAIN);
  return CrossInto(std::move(here));
}

Result<void> Walker::Enter(RefPtr<Dentry> child, bool follow, bool* pushed) {
  if (!child->inode()) return Errno(ENOENT);
  Path path{current_.mount, std::move(child)};
  if (path.inode()->IsSymlink() && follow) return FollowLink(std::move(path), pushed);
  return CrossInto(std::move(path));
}

Result<void> Walker::FollowLink(Path link, bool* pushed) {
  if (flags_ & kNoSymlinks) return Errno(ELOOP);
  if (++links_ > kMaxLinks) return Errno(ELOOP);
  if (link.mount->flags() & kMountNoSymFollow) return Errno(ELOOP);
  Inode& inode = *link.inode();
  auto magic = inode.FollowMagicLink();
  if (!magic.ok()) return magic.error();
  if (magic->has_value()) {
    Path target = std::move(**magic);
    if (flags_ & kNoMagicLinks) return Errno(ELOOP);
    if (scoped_) return Errno(EXDEV);
    if ((flags_ & kNoXdev) && !(target.mount == current_.mount)) return Errno(EXDEV);
    current_ = std::move(target);
    return OkResult();
  }
  std::string text = TRY(inode.ReadLink());
  if (text.empty()) return Errno(ENOENT);
  if (text.starts_with('/')) TRY(JumpToRoot());
  // Only slashes after the link in the original path make the result a directory; those at the end of the link's own
  // text do, too.
  pending_.push_back({std::move(text)});
  *pushed = true;
  return OkResult();
}

Result<Path> Walker::Finish() {
  if ((trailing_slash_ || (flags_ & kDirectory)) && !current_.inode()->IsDirectory()) return Errno(ENOTDIR);
  if (scoped_ && went_up_ && DentryCache::Get().topology_sequence() != topology_) return Errno(EAGAIN);
  return current_;
}

Result<Path> Resolve(const WalkContext& context, std::string_view path, uint32_t flags) {
  Walker walker(context, flags);
  TRY(walker.Start(path));
  do {
    TRY(walker.WalkToLast());
  } while (!TRY(walker.StepLast()));
  return walker.Finish();
}

Result<ParentAndName> ResolveParent(const WalkContext& context, std::string_view path, uint32_t flags) {
  Walker walker(context, flags & ~kEmptyPath);
  TRY(walker.Start(path));
  TRY(walker.WalkToLast());
  return ParentAndName{walker.current(), walker.last_name(), walker.trailing_slash()};
}

}  // namespace sentry::vfs
