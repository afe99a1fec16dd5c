// SPDX-License-Identifier: Apache-2.0
#include "gofer/server/server.h"

#include <malloc.h>
#include <poll.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory_trim.h"
#include "gofer/filter.h"
#include "gofer/protocol/host_transport.h"
#include "gofer/sandbox.h"
#include "gofer/server/channel_server.h"

namespace gofer {
namespace {

using base::Result;
using base::UniqueFd;

constexpr int64_t kGraceNs = 2 * base::kNsPerSecond;

// What the process needs besides: log, sockets of 8 channels per connection, fds on their way out.
uint64_t FdShare(uint64_t limit, size_t trees) {
  uint64_t reserved = 64 + trees * 40;
  if (limit <= reserved + trees * 32) return 32;
  return (limit - reserved) / trees;
}

absl::Status WithErrno(std::string what, base::Errno error) {
  return absl::ErrnoToStatus(error.number(), absl::StrCat("gofer: ", what));
}

absl::StatusOr<std::vector<UniqueFd>> OpenRoots(const std::vector<ServedTree>& trees) {
  std::vector<UniqueFd> roots;
  for (const ServedTree& tree : trees) {
    Result<UniqueFd> root = HostFs::OpenRoot(tree.root_path);
    if (!root.ok()) return WithErrno(absl::StrCat("open of the served tree ", tree.root_path), root.error());
    roots.push_back(std::move(*root));
  }
  return roots;
}

absl::StatusOr<std::vector<UniqueFd>> Confine(const GoferConfig& config, const HostFs& fs) {
  std::vector<SandboxRoot> sources;
  for (const ServedTree& tree : config.trees) {
    sources.push_back({.path = tree.root_path,
                       .read_only = tree.settings.read_only,
                       .submounts = tree.settings.submounts,
                       .devices = tree.settings.allow_devices});
  }
  absl::StatusOr<std::vector<UniqueFd>> roots = ConfineGofer(sources, config.in_namespace);
  if (!roots.ok()) return roots.status();
  // Reads its file once, on the first use in a log line: after the filter that would be a forbidden open.
  tzset();
  // One malloc arena: further ones make glibc open /sys/devices/system/cpu/online and /proc/sys/vm/overcommit_memory
  // when they are made and trimmed. It also bounds the memory of many threads, which hardly allocate.
  mallopt(M_ARENA_MAX, 1);
  absl::Status filter = InstallGoferFilter({.proc_fd = fs.proc_fd(), .debug = config.debug_filter});
  if (!filter.ok()) return filter;
  return roots;
}

void WaitForHangups(const std::vector<std::shared_ptr<ChannelServer>>& servers) {
  std::vector<pollfd> fds;
  for (const auto& server : servers) fds.push_back({.fd = server->primary_fd(), .events = 0});
  while (!fds.empty()) {
    if (poll(fds.data(), fds.size(), -1) < 0) continue;  // EINTR
    std::erase_if(fds, [](const pollfd& p) { return p.revents != 0; });
  }
}

}  // namespace

absl::Status RunGofer(GoferConfig config) {
  if (config.trees.empty()) return absl::InvalidArgumentError("gofer: no tree to serve was given");
  for (const ServedTree& tree : config.trees) {
    if (!CheckSocket(tree.socket.get()).ok()) {
      return absl::InvalidArgumentError(absl::StrCat("gofer: the socket for ", tree.root_path, " (fd ",
                                                     tree.socket.get(),
                                                     ") is not a connected AF_UNIX SOCK_SEQPACKET socket"));
    }
  }
  Result<HostFs> fs = HostFs::Create();
  if (!fs.ok()) return WithErrno("open of /proc/self/fd (is /proc mounted?)", fs.error());
  auto shared_fs = std::make_shared<const HostFs>(std::move(*fs));
  uint64_t share = FdShare(HostFs::RaiseFdLimit(), config.trees.size());
  absl::StatusOr<std::vector<UniqueFd>> roots = config.confine ? Confine(config, *shared_fs) : OpenRoots(config.trees);
  if (!roots.ok()) return roots.status();

  std::vector<std::shared_ptr<ChannelServer>> servers;
  for (size_t i = 0; i < config.trees.size(); ++i) {
    ServedTree& tree = config.trees[i];
    if (tree.settings.max_fds == 0) tree.settings.max_fds = share;
    auto server = std::make_shared<ChannelServer>(shared_fs, std::move((*roots)[i]), tree.settings);
    Result<void> started = server->AddChannel(std::move(tree.socket));
    if (!started.ok()) {
      for (auto& other : servers) other->Shutdown();
      return WithErrno(absl::StrCat("thread for ", tree.root_path), started.error());
    }
    servers.push_back(std::move(server));
  }
  base::TrimMemory();
  WaitForHangups(servers);
  for (auto& server : servers) server->Shutdown();
  int64_t deadline = base::MonotonicNs() + kGraceNs;
  bool all_ended = true;
  for (auto& server : servers) all_ended &= server->WaitUntil(deadline);
  if (!all_ended) {
    return absl::DeadlineExceededError("gofer: the sentry is gone and a host filesystem does not answer; leaving");
  }
  return absl::OkStatus();
}

}  // namespace gofer
