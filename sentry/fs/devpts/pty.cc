// SPDX-License-Identifier: Apache-2.0
// The drivers of major 5, and terminals for boot/.
#include "sentry/fs/devpts/pty.h"

#include "sentry/fs/devpts/devpts_fs.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/special_files.h"

namespace sentry::fs {

using kernel::Task;

namespace {

enum Minor : unsigned { kTty = 0, kConsole = 1, kPtmx = 2 };

bool IsDevptsRoot(const vfs::Path& path) {
  return path && path.inode()->IsDirectory() && path.inode()->filesystem().TypeName() == "devpts" &&
         !path.dentry->parent();
}

// A ptmx node outside a devpts uses the one that is mounted at "pts" beside it (Linux's devpts_mntget).
Result<vfs::FileRef> OpenPtmxNode(const vfs::Path& path, int flags) {
  Task* task = Task::CurrentOrNull();
  RefPtr<vfs::Dentry> directory = path.dentry->parent();
  if (!task || !directory) return Errno(ENODEV);
  const vfs::Path start{path.mount, directory};
  RefPtr<kernel::Namespaces> namespaces = task->namespaces_ref();
  RefPtr<Credentials> creds = Credentials::Root(kAllCapabilities);
  vfs::WalkContext context{start, start, *creds, namespaces ? namespaces->mounts : nullptr, 0};
  auto root = vfs::Resolve(context, "pts", vfs::kDirectory | vfs::kNoSymlinks);
  if (!root.ok() || !IsDevptsRoot(*root)) return Errno(ENODEV);
  return Devpts::OpenMaster(path, *root, flags);
}

// The only kind of controlling terminal there is, is Tty.
Result<vfs::FileRef> OpenOwnTerminal(const vfs::Path& path, int flags) {
  Task* task = Task::CurrentOrNull();
  RefPtr<kernel::Session> session = task ? task->group().session() : nullptr;
  RefPtr<kernel::ControllingTerminal> terminal = session ? session->terminal() : nullptr;
  if (!terminal) return Errno(ENXIO);
  return OpenSlaveFile(path, flags | O_NOCTTY, RefPtr<Tty>(static_cast<Tty*>(terminal.get())), false);
}

Result<vfs::FileRef> OpenTtyDevice(const vfs::Path& path, int flags, dev_t device) {
  switch (minor(device)) {
    case kTty:
    case kConsole:
      return OpenOwnTerminal(path, flags);
    case kPtmx:
      return OpenPtmxNode(path, flags);
    default:
      return Errno(ENXIO);
  }
}

// A slave's node outside its devpts says nothing about the instance.
Result<vfs::FileRef> OpenSlaveNode(const vfs::Path&, int, dev_t) { return Errno(EIO); }

}  // namespace

void RegisterTerminals() {
  vfs::RegisterDevice(S_IFCHR, 5, &OpenTtyDevice);
  for (unsigned major = 136; major < 144; ++major) vfs::RegisterDevice(S_IFCHR, major, &OpenSlaveNode);
}

Result<PtyPair> NewPtyPair(const vfs::Path& devpts_root) {
  if (!IsDevptsRoot(devpts_root)) return Errno(EINVAL);
  Devpts& fs = static_cast<Devpts&>(devpts_root.inode()->filesystem());
  RefPtr<Credentials> creds = Credentials::Root(kAllCapabilities);
  RefPtr<Tty> tty = TRY(fs.NewTty(*creds));
  tty->SetLocked(false);
  PtyPair pair;
  pair.name = std::to_string(tty->index());
  vfs::WalkContext context{devpts_root, devpts_root, *creds, nullptr, 0};
  vfs::Path ptmx = TRY(vfs::Resolve(context, "ptmx", 0));
  // From here on, dropping the master takes the terminal away again.
  pair.master = NewMasterFile(ptmx, devpts_root, O_RDWR | O_NONBLOCK | O_NOCTTY, tty);
  vfs::Path slave = TRY(vfs::Resolve(context, pair.name, 0));
  pair.slave = TRY(OpenSlaveFile(slave, O_RDWR | O_NOCTTY, tty, true));
  pair.terminal = tty;
  return pair;
}

RefPtr<kernel::ControllingTerminal> TerminalOf(vfs::FileDescription& file) { return TtyOf(file); }

Result<void> SetWindowSize(vfs::FileDescription& file, const winsize& size) {
  RefPtr<Tty> tty = TtyOf(file);
  if (!tty) return Errno(ENOTTY);
  tty->SetWindowSize(size);
  return OkResult();
}

}  // namespace sentry::fs
