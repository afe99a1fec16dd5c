// SPDX-License-Identifier: Apache-2.0
// OOM events. The sandbox kills the guest process that uses most before the host's limit is reached, and tells of it;
// where the host was faster, the memory cgroup (version 1) does.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "runsc/container/store.h"
#include "runsc/control/client.h"
#include "shim/proto/events.pb.h"
#include "shim/task.h"
#include "shim/thread.h"

namespace shim {
namespace {

// An eventfd that counts the OOM events of a v1 memory cgroup (cgroups(7), memory.txt); closed if there is none.
base::UniqueFd HostEvents(const std::vector<std::string>& cgroups) {
  for (const std::string& path : cgroups) {
    if (!absl::StrContains(path, "/memory/")) continue;
    base::UniqueFd control(open((path + "/memory.oom_control").c_str(), O_RDONLY | O_CLOEXEC));
    base::UniqueFd registry(open((path + "/cgroup.event_control").c_str(), O_WRONLY | O_CLOEXEC));
    base::UniqueFd events(eventfd(0, EFD_CLOEXEC));
    if (!control.ok() || !registry.ok() || !events.ok()) continue;
    std::string text = absl::StrCat(events.get(), " ", control.get());
    if (write(registry.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size())) return events;
  }
  return base::UniqueFd();
}

}  // namespace

void Task::WatchMemory() {
  auto publish = [self = shared_from_this()] {
    pb::TaskOOM event;
    event.set_container_id(self->id_);
    self->publisher_->Publish("/tasks/oom", "containerd.events.TaskOOM", event.SerializeAsString());
  };
  bool inside = StartThread([self = shared_from_this(), publish] {
    uint64_t seen = 0;
    while (true) {
      auto client = runsc::control::Client::Connect(self->runtime_.StateDirectory(self->id_), self->id_);
      if (!client.ok()) return;
      auto kills = client->WaitOom(seen);
      if (!kills.ok()) return;
      seen = *kills;
      publish();
    }
  });
  auto record = runsc::ContainerStore(runtime_.root()).Load(id_);
  // What is in the cgroup of a container that joined a sandbox is its gofer.
  const bool watched = record.ok() && record->sandbox_id.empty();
  auto events = std::make_shared<base::UniqueFd>(watched ? HostEvents(record->cgroup_paths) : base::UniqueFd());
  base::UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid(), 0)));
  if (!events->ok() || !pidfd.ok()) return;
  auto ended = std::make_shared<base::UniqueFd>(std::move(pidfd));
  bool outside = StartThread([publish, events, ended] {
    while (true) {
      pollfd fds[2] = {{.fd = events->get(), .events = POLLIN}, {.fd = ended->get(), .events = POLLIN}};
      if (poll(fds, 2, -1) < 0) continue;
      uint64_t count = 0;
      // The removal of the cgroup wakes it, too.
      bool gone = fds[1].revents != 0;
      if (fds[0].revents && read(events->get(), &count, sizeof count) == sizeof count && !gone) publish();
      if (gone) return;
    }
  });
  if (!inside || !outside) LOG_WARNING("no threads to watch the container's memory with");
}

}  // namespace shim
