// SPDX-License-Identifier: Apache-2.0
// A container's mount tree: the root over its gofer tree, bind mounts, and the sentry's own filesystems, as config.json
// says.
#ifndef SENTRY_BOOT_FILESYSTEMS_H_
#define SENTRY_BOOT_FILESYSTEMS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "gofer/protocol/client.h"
#include "runsc/boot_args.h"
#include "sentry/boot/host_info.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/vfs/path.h"

namespace sentry {

// Filesystem types, devices and FIFOs, registered with the vfs; what proc shows of the host. Once, before the first
// mount.
void RegisterFilesystems(const HostInfo& host, uint64_t total_memory);

class GoferLink {
 public:
  GoferLink(RefPtr<vfs::Filesystem> filesystem, gofer::Client* client)
      : filesystem_(std::move(filesystem)), client_(client) {}
  int socket() const { return client_->socket_fd(); }  // borrowed, to poll for hang-up
  // What is open stays readable where the gofer donated it; all else is EIO from now on.
  void HangUp() const { client_->Disconnect(); }

 private:
  RefPtr<vfs::Filesystem> filesystem_;  // owns the client
  gofer::Client* client_;
};

struct MountTreeRequest {
  const runsc::BootArgs* args;
  std::vector<base::UniqueFd> gofer_fds;  // one per spec::GoferMounts(spec); taken
  std::function<void()> on_gofer_lost;    // from any thread, once per connection
  const Credentials* creds;               // of the sandbox's root: makes mount points
  RefPtr<kernel::PidNamespace> pid_ns;    // that /proc shows
  bool is_first = true;                   // of the sandbox: its limits are enforced from outside
};

struct MountTree {
  RefPtr<vfs::MountNamespace> mounts;
  vfs::Path root;
  RefPtr<vfs::Filesystem> overlay;  // of the root, made by fs::NewOverlay; null: writes go to the host's tree
  vfs::Path devpts;                 // root of the /dev/pts mount: terminals are made in it
  std::vector<GoferLink> gofers;
};

// Errors name the mount by its destination and say what to do.
absl::StatusOr<MountTree> BuildMountTree(MountTreeRequest request);

}  // namespace sentry

#endif  // SENTRY_BOOT_FILESYSTEMS_H_
