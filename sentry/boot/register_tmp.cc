#include "sentry/boot/filesystems.h"
#include "sentry/boot/terminal.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/pipe/pipe.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/vfs/vfs.h"
namespace sentry {
void RegisterFilesystems(const HostInfo& host, uint64_t total_memory) {
  for (const char* t : {"tmpfs", "ramfs", "devtmpfs"}) vfs::RegisterFilesystemType(t, &tmpfs::NewTmpfs);
  for (const char* t : {"proc", "sysfs", "devpts"}) vfs::RegisterFilesystemType(t, [](const vfs::MountSource& s) { return tmpfs::NewTmpfs({s.source, "", s.creds}); });
  fs::RegisterDevices();
  fs::RegisterFifos();
}
absl::StatusOr<ContainerTerminal> NewContainerTerminal(const MountTree&, const Credentials&, const std::optional<runsc::spec::ConsoleSize>&) { return absl::UnimplementedError("tty"); }
void SetTerminalSize(vfs::FileDescription&, uint16_t, uint16_t) {}
}  // namespace sentry
