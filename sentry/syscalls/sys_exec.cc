// SPDX-License-Identifier: Apache-2.0
// execve(2), execveat(2).
#include <fcntl.h>

#include <algorithm>

#include "sentry/kernel/task_internal.h"
#include "sentry/loader/initial_stack.h"
#include "sentry/loader/loader.h"
#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {
namespace {

// A NULL-terminated array of strings; NULL itself is an empty one. `budget` is what argv and envp may still take:
// E2BIG.
Result<std::vector<std::string>> CopyInStrings(Task& task, UserAddr array, uint64_t* budget) {
  std::vector<std::string> strings;
  if (array.IsNull()) return strings;
  for (;;) {
    // Up to the end of the page, so that an array that ends just before an unmapped one can be read.
    uint64_t pointers[64];
    size_t count = std::clamp<uint64_t>((PageDown(array.value()) + kPageSize - array.value()) / sizeof(uint64_t), 1,
                                        std::size(pointers));
    TRY(task.CopyInBytes(array, pointers, count * sizeof(uint64_t)));
    for (size_t i = 0; i < count; ++i) {
      if (pointers[i] == 0) return strings;
      auto s = task.CopyInString(UserAddr(pointers[i]), loader::kMaxArgumentString);
      if (!s.ok()) return Errno(s.error() == Errno(ENAMETOOLONG) ? E2BIG : s.error().number());
      uint64_t cost = s->size() + 1 + sizeof(uint64_t);
      if (cost > *budget) return Errno(E2BIG);
      *budget -= cost;
      strings.push_back(std::move(*s));
    }
    array = array + count * sizeof(uint64_t);
  }
}

Value Execute(Task& task, const vfs::FileRef& file, std::string filename, UserAddr argv, UserAddr envp,
              bool reachable) {
  uint64_t budget = loader::ArgumentSpace(task.SoftLimit(RLIMIT_STACK));
  std::vector<std::string> arguments = TRY(CopyInStrings(task, argv, &budget));
  std::vector<std::string> environment = TRY(CopyInStrings(task, envp, &budget));
  TRY(Task::Internal::Exec(task, file, std::move(filename), std::move(arguments), std::move(environment), reachable));
  return 0;
}

}  // namespace

SYSCALL_HANDLER(SysExecve) {
  std::string path = TRY(CopyInPath(task, args.Addr(0)));
  vfs::WalkContext context = TRY(WalkFrom(task, AT_FDCWD, path));
  vfs::FileRef file = TRY(loader::OpenExecutable(context, path, vfs::kFollowFinal));
  return Execute(task, file, std::move(path), args.Addr(1), args.Addr(2), /*reachable=*/true);
}

SYSCALL_HANDLER(SysExecveat) {
  int dirfd = args.Int(0), flags = args.Int(4);
  if (flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) return Errno(EINVAL);
  std::string path = TRY(CopyInPath(task, args.Addr(1)));
  const bool empty_allowed = flags & AT_EMPTY_PATH;
  vfs::WalkContext context = TRY(WalkFrom(task, dirfd, path, empty_allowed));
  uint32_t resolve = 0;
  if (!(flags & AT_SYMLINK_NOFOLLOW)) resolve |= vfs::kFollowFinal;
  if (empty_allowed) resolve |= vfs::kEmptyPath;
  vfs::FileRef file = TRY(loader::OpenExecutable(context, path, resolve));
  std::string filename = path;
  bool reachable = true;
  if (dirfd != AT_FDCWD && (path.empty() || path[0] != '/')) {
    filename = "/dev/fd/" + std::to_string(dirfd) + (path.empty() ? "" : "/" + path);
    // An interpreter would look there after the descriptor was closed.
    reachable = !TRY(task.fds().GetCloseOnExec(dirfd));
  }
  return Execute(task, file, std::move(filename), args.Addr(2), args.Addr(3), reachable);
}

}  // namespace sentry::syscalls
