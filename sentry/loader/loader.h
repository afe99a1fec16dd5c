// SPDX-License-Identifier: Apache-2.0
// What execve(2) loads: finds the program behind "#!" lines, maps it and its ELF interpreter into a new address space,
// and lays out the first stack. Nothing of the caller changes; errors leave nothing behind. Usable with and without a
// current task.
#ifndef SENTRY_LOADER_LOADER_H_
#define SENTRY_LOADER_LOADER_H_

#include <string>
#include <vector>

#include "platform/platform.h"
#include "sentry/arch/vdso.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/vfs/vfs.h"

namespace sentry::loader {

void FillRandom(void* to, size_t size);

// Opens a file for execution. ENOENT…, EACCES: not a regular file, no execute permission, or on a noexec mount. Read
// permission is not needed.
Result<vfs::FileRef> OpenExecutable(const vfs::WalkContext& context, std::string_view path, uint32_t resolve_flags);
// The same for a place already found.
Result<vfs::FileRef> OpenExecutablePath(const vfs::WalkContext& context, const vfs::Path& path);

// The program after all "#!" lines.
struct Program {
  vfs::FileRef file;
  std::vector<std::string> argv;
  std::vector<uint8_t> start;  // its first kFormatBytes
};
// `filename` is what a script's interpreter gets as its argument; `reachable` false: the path can't be opened by it (a
// close-on-exec descriptor of execveat), so that a script gives ENOENT. ENOEXEC, ELOOP, and the errors of
// OpenExecutable.
Result<Program> FindProgram(const vfs::WalkContext& context, vfs::FileRef file, const std::string& filename,
                            std::vector<std::string> argv, bool reachable = true);

struct LoadRequest {
  const vfs::WalkContext& context;  // to open the ELF interpreter with
  const Program& program;
  std::string filename;  // AT_EXECFN
  const std::vector<std::string>& envp;
  const Credentials& new_creds;  // AT_UID … AT_EGID
  bool secure = false;           // AT_SECURE
  bool randomize = true;         // not ADDR_NO_RANDOMIZE
  mm::MmLimits limits;
  arch::Vdso* vdso = nullptr;
  RefPtr<mm::MappedObject> clock_offsets;  // of the time namespace; null: none
};

struct Image {
  RefPtr<mm::MemoryManager> mm;
  platform::Registers registers = {};
};

// ENOEXEC, ELIBBAD (a broken interpreter), EINVAL, ENOMEM, E2BIG, EIO, and those of opening the interpreter.
Result<Image> Load(platform::Platform& platform, platform::MemoryFile& memory_file, const LoadRequest& request);

}  // namespace sentry::loader

#endif  // SENTRY_LOADER_LOADER_H_
