// SPDX-License-Identifier: Apache-2.0
// The contents of /dev that the OCI runtime spec ("Default Devices", "Dev symbolic links") and programs expect.
#include "sentry/fs/dev/dev.h"
#include "sentry/vfs/vfs.h"

namespace sentry::fs {
namespace {

struct Entry {
  const char* name;
  mode_t mode;
  unsigned major, minor;
  const char* target;
};

constexpr Entry kEntries[] = {
    {"null", S_IFCHR | 0666, 1, 3, nullptr},      {"zero", S_IFCHR | 0666, 1, 5, nullptr},
    {"full", S_IFCHR | 0666, 1, 7, nullptr},      {"random", S_IFCHR | 0666, 1, 8, nullptr},
    {"urandom", S_IFCHR | 0666, 1, 9, nullptr},   {"tty", S_IFCHR | 0666, 5, 0, nullptr},
    {"fd", S_IFLNK, 0, 0, "/proc/self/fd"},       {"stdin", S_IFLNK, 0, 0, "/proc/self/fd/0"},
    {"stdout", S_IFLNK, 0, 0, "/proc/self/fd/1"}, {"stderr", S_IFLNK, 0, 0, "/proc/self/fd/2"},
    {"core", S_IFLNK, 0, 0, "/proc/kcore"},       {"ptmx", S_IFLNK, 0, 0, "pts/ptmx"},
    {"pts", S_IFDIR | 0755, 0, 0, nullptr},       {"shm", S_IFDIR | 01777, 0, 0, nullptr},
    {"mqueue", S_IFDIR | 0755, 0, 0, nullptr},
};

Result<void> Make(const vfs::WalkContext& context, const Entry& entry) {
  switch (entry.mode & S_IFMT) {
    case S_IFLNK:
      return vfs::Symlink(context, entry.target, entry.name);
    case S_IFDIR:
      return vfs::Mkdir(context, entry.name, entry.mode & 07777);
    default:
      return vfs::Mknod(context, entry.name, entry.mode, makedev(entry.major, entry.minor));
  }
}

}  // namespace

Result<void> PopulateDev(const RefPtr<vfs::MountNamespace>& mounts, const vfs::Path& dev_root, std::string* failed) {
  RefPtr<Credentials> creds = Credentials::Root(kAllCapabilities);
  vfs::WalkContext context{dev_root, dev_root, *creds, mounts, 0};
  for (const Entry& entry : kEntries) {
    auto made = Make(context, entry);
    if (made.ok() || made.error() == Errno(EEXIST)) continue;
    if (failed) *failed = entry.name;
    return made.error();
  }
  return OkResult();
}

}  // namespace sentry::fs
