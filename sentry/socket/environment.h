// SPDX-License-Identifier: Apache-2.0
// What sockets need to know about the calling task beyond Caller: the system call layer provides it, tests fake it.
#ifndef SENTRY_SOCKET_ENVIRONMENT_H_
#define SENTRY_SOCKET_ENVIRONMENT_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>

#include "sentry/kernel/core/credentials.h"
#include "sentry/mm/mapped_object.h"
#include "sentry/vfs/vfs.h"

namespace sentry::socket {

// A network namespace, held while it is worked on. `id` as Environment::net_namespace has it.
struct NetNamespaceHandle {
  uint64_t id = 0;
  bool is_first = false;
  RefPtr<UserNamespace> owner;
  std::shared_ptr<const void> hold;
};

// Memory that the sentry shares with a guest, which may change any byte at any time. Offsets are within the length: the
// caller's promise. Thread-safe.
class SharedPages : public RefCounted<SharedPages> {
 public:
  virtual ~SharedPages() = default;
  virtual uint64_t length() const = 0;
  // Aligned words, with acquire and release ordering.
  virtual uint32_t Load(uint64_t offset) const = 0;
  virtual void Store(uint64_t offset, uint32_t value) = 0;
  virtual void Read(uint64_t offset, void* to, size_t length) const = 0;
  virtual void Write(uint64_t offset, const void* from, size_t length) = 0;
  // What mmap(2) maps.
  virtual RefPtr<mm::MappedObject> object() const = 0;
};

struct Environment {
  // The caller's process id in the sandbox's root pid namespace.
  pid_t (*caller_pid)();
  // Such an id as the caller's own namespace shows it; 0 when it is not visible there.
  pid_t (*pid_seen_by_caller)(pid_t root_pid);
  // Identifies the caller's network namespace (its inode number, which is never used again).
  uint64_t (*net_namespace)();
  // Whether that is the sandbox's first one. Null: it is.
  bool (*in_first_net_namespace)() = nullptr;
  // The user namespace that owns it. Null: the root one.
  RefPtr<UserNamespace> (*net_owner)() = nullptr;
  // Of a process as the caller names it (ESRCH), or a namespace's file among the caller's descriptors (EBADF, EINVAL).
  Result<NetNamespaceHandle> (*net_namespace_of_pid)(pid_t pid) = nullptr;
  Result<NetNamespaceHandle> (*net_namespace_of_fd)(int fd) = nullptr;
  // Zeroes, rounded up to whole pages. ENOMEM.
  Result<RefPtr<SharedPages>> (*new_shared_pages)(uint64_t length) = nullptr;
  // Where the caller's path names start. The credentials are those of Caller::Current().
  vfs::WalkContext (*walk)();
};

// Once, before the first socket.
void SetEnvironment(const Environment& environment);
const Environment& GetEnvironment();

// Whether the caller has a capability over its network namespace (what is yet to be made there).
bool HasNetCapability(int capability);

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_ENVIRONMENT_H_
