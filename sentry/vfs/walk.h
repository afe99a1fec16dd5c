// SPDX-License-Identifier: Apache-2.0
// Walker: the state machine of path resolution (path_resolution(7), openat2(2)). Private to vfs/.
//
//   Walker walker(context, flags);
//   TRY(walker.Start(path));
//   do { TRY(walker.WalkToLast()); } while (!TRY(walker.StepLast()));
//   walker.current() is the result
#ifndef SENTRY_VFS_WALK_H_
#define SENTRY_VFS_WALK_H_

#include <string>
#include <string_view>
#include <vector>

#include "sentry/vfs/vfs.h"

namespace sentry::vfs {

class Walker {
 public:
  // What the last component is: Linux's LAST_*.
  enum class Last { kNormal, kDot, kDotDot, kRoot };

  Walker(const WalkContext& context, uint32_t flags);
  Result<void> Start(std::string_view path);
  // Resolves all but the last component; current() is then its directory, which may be searched.
  Result<void> WalkToLast();
  // Resolves the last component. False: it was a symlink, and WalkToLast has more to do.
  Result<bool> StepLast();
  // Takes `child` of current() (whose lookup the caller did) as the last component: follows mounts, and links if
  // `follow`.
  Result<bool> EnterLast(RefPtr<Dentry> child, bool follow);
  // Checks kDirectory, trailing slashes and the escape checks of openat2 on the result.
  Result<Path> Finish();

  const Path& current() const { return current_; }
  Last last_kind() const { return last_kind_; }
  const std::string& last_name() const { return last_name_; }
  bool trailing_slash() const { return trailing_slash_; }

 private:
  struct Pending {
    std::string text;
    size_t position = 0;
  };
  bool NextComponent(std::string* name);
  Result<void> StepUp();
  // Enters a looked-up child. True if current_ is it; false if a link's text was pushed (or a magic link jumped).
  Result<void> Enter(RefPtr<Dentry> child, bool follow, bool* pushed);
  Result<void> FollowLink(Path link, bool* pushed);
  Result<void> JumpToRoot();
  Result<void> CrossInto(Path path);

  const WalkContext& context_;
  const uint32_t flags_;
  Path root_;
  Path current_;
  std::vector<Pending> pending_;
  int links_ = 0;
  bool trailing_slash_ = false;
  bool scoped_;
  bool went_up_ = false;
  uint64_t topology_;
  Last last_kind_ = Last::kRoot;
  std::string last_name_;
};

}  // namespace sentry::vfs

#endif  // SENTRY_VFS_WALK_H_
