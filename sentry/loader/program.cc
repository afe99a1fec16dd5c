// SPDX-License-Identifier: Apache-2.0
// Opening executables and following "#!" lines.
#include <string.h>

#include "sentry/loader/loader.h"
#include "sentry/loader/script.h"
#include "sentry/vfs/inotify_watches.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/leases.h"

namespace sentry::loader {

Result<vfs::FileRef> OpenExecutablePath(const vfs::WalkContext& context, const vfs::Path& path) {
  vfs::Inode& inode = *path.inode();
  if (!inode.IsRegular() || (path.mount->flags() & vfs::kMountNoExec)) return Errno(EACCES);
  TRY(inode.CheckPermission(context.creds, vfs::kMayExec));
  // Even who may override permissions needs one execute bit to be there.
  vfs::InodeStat stat = TRY(inode.GetStat());
  if ((stat.mode & 0111) == 0) return Errno(EACCES);
  TRY(vfs::LandlockCheckOpen(path, O_RDONLY, /*execute=*/true));
  if (vfs::Leases::Get().Any()) TRY(vfs::Leases::Get().Break(inode, /*write=*/false, /*nonblocking=*/false));
  TRY(vfs::AskToExecute(path));
  vfs::FileRef file = TRY(inode.Open(path, O_RDONLY | O_LARGEFILE));
  vfs::NotifyExecuted(path);
  return file;
}

Result<vfs::FileRef> OpenExecutable(const vfs::WalkContext& context, std::string_view path, uint32_t resolve_flags) {
  vfs::Path where = TRY(vfs::Resolve(context, path, resolve_flags));
  if (!where.inode()) return Errno(ENOENT);
  if (where.inode()->IsSymlink()) return Errno(ELOOP);
  return OpenExecutablePath(context, where);
}

Result<Program> FindProgram(const vfs::WalkContext& context, vfs::FileRef file, const std::string& filename,
                            std::vector<std::string> argv, bool reachable) {
  if (argv.empty()) argv.emplace_back();
  std::string script = filename;
  for (int depth = 0;; ++depth) {
    if (depth > kMaxScriptDepth) return Errno(ELOOP);
    std::vector<uint8_t> start(kFormatBytes);
    BufferTarget target(start);
    while (target.remaining() > 0) {
      size_t n = TRY(file->PRead(target, static_cast<int64_t>(target.done())));
      if (n == 0) break;
    }
    start.resize(target.done());
    std::string_view head(reinterpret_cast<const char*>(start.data()), start.size());
    if (!head.starts_with("#!")) return Program{std::move(file), std::move(argv), std::move(start)};
    ScriptLine line = TRY(ParseScriptLine(head));
    if (!reachable) return Errno(ENOENT);
    argv[0] = script;
    if (line.has_argument) argv.insert(argv.begin(), line.argument);
    argv.insert(argv.begin(), line.interpreter);
    file = TRY(OpenExecutable(context, line.interpreter, vfs::kFollowFinal));
    script = line.interpreter;
  }
}

}  // namespace sentry::loader
