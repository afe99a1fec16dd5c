// SPDX-License-Identifier: Apache-2.0
// UTS, IPC, network, cgroup, time and pid namespaces (namespaces(7)). The mount namespace is vfs's, the user namespace
// core's.
#ifndef SENTRY_KERNEL_NAMESPACES_H_
#define SENTRY_KERNEL_NAMESPACES_H_

#include <sys/types.h>

#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/core/credentials.h"
#include "sentry/kernel/ipc/message_queue.h"
#include "sentry/kernel/ipc/semaphore.h"
#include "sentry/kernel/ipc/shared_memory.h"

namespace sentry::mm {
class MappedObject;
}

namespace sentry::kernel {

class Cgroup;
struct CgroupHierarchy;
class Task;
class ThreadGroup;
class ProcessGroup;
class Session;

// kernel.pid_max: ids are below.
inline constexpr pid_t kPidMax = 4194304;
inline constexpr pid_t kReservedPids = 300;
inline constexpr int kMaxPidLevel = 32;  // MAX_PID_NS_LEVEL

class UtsNamespace : public RefCounted<UtsNamespace> {
 public:
  UtsNamespace(std::string host_name, std::string domain_name, RefPtr<UserNamespace> owner, UserCharge charge = {});
  std::string host_name() const;
  std::string domain_name() const;
  void set_host_name(std::string name);
  void set_domain_name(std::string name);
  RefPtr<UtsNamespace> Clone(RefPtr<UserNamespace> owner, UserCharge charge) const;
  const RefPtr<UserNamespace>& owner() const { return owner_; }
  uint64_t inode_number() const { return inode_number_; }

 private:
  mutable Mutex mu_{LockRank::kNamespace};
  std::string host_name_ ABSL_GUARDED_BY(mu_), domain_name_ ABSL_GUARDED_BY(mu_);
  RefPtr<UserNamespace> owner_;
  UserCharge charge_;
  uint64_t inode_number_;
};

// What layers above keep for it (AF_UNIX names, a TCP/IP stack) they key by its inode number.
class NetNamespace : public RefCounted<NetNamespace> {
 public:
  explicit NetNamespace(RefPtr<UserNamespace> owner, UserCharge charge = {}, bool is_first = false);
  ~NetNamespace();
  uint64_t inode_number() const { return inode_number_; }
  // The sandbox's own, whose interfaces are set up from the start.
  bool is_first() const { return is_first_; }
  // Told when a namespace is gone, so that the network layer drops what it keeps for it; set once at start.
  static void SetEndHook(void (*hook)(uint64_t inode_number));
  const RefPtr<UserNamespace>& owner() const { return owner_; }

 private:
  RefPtr<UserNamespace> owner_;
  UserCharge charge_;
  uint64_t inode_number_;
  const bool is_first_;
};

// What a layer above keeps for each IPC namespace (fs/mqueue).
class IpcAttachment : public RefCounted<IpcAttachment> {
 public:
  virtual ~IpcAttachment() = default;
};

// /proc/sys/fs/mqueue.
struct MqueueLimits {
  int queues = 256, messages = 10, message_size = 8192, default_messages = 10, default_message_size = 8192;
};

// System V objects go with it (ipc_namespaces(7)); segments still attached stay as plain shared memory.
class IpcNamespace : public RefCounted<IpcNamespace> {
 public:
  IpcNamespace(platform::MemoryFile& memory, RefPtr<UserNamespace> owner, UserCharge charge = {});
  ~IpcNamespace();
  ipc::Semaphores& semaphores() const { return *semaphores_; }
  ipc::SharedMemory& shared_memory() const { return *shared_memory_; }
  ipc::MessageQueues& messages() const { return *messages_; }
  MqueueLimits mqueue_limits() const;
  void set_mqueue_limits(const MqueueLimits& limits);
  // The one attachment, made by the first who asks. It ends before the namespace does.
  using MakeAttachment = RefPtr<IpcAttachment> (*)(IpcNamespace& owner);
  RefPtr<IpcAttachment> Attachment(MakeAttachment make);
  uint64_t inode_number() const { return inode_number_; }
  const RefPtr<UserNamespace>& owner() const { return owner_; }

 private:
  RefPtr<UserNamespace> owner_;
  UserCharge charge_;
  uint64_t inode_number_;
  const RefPtr<ipc::Semaphores> semaphores_;
  const RefPtr<ipc::SharedMemory> shared_memory_;
  const RefPtr<ipc::MessageQueues> messages_;
  mutable Mutex mu_{LockRank::kNamespace};
  MqueueLimits mqueue_limits_ ABSL_GUARDED_BY(mu_);
  RefPtr<IpcAttachment> attachment_ ABSL_GUARDED_BY(mu_);
};

// cgroup_namespaces(7): which group of each hierarchy its members see as "/".
class CgroupNamespace : public RefCounted<CgroupNamespace> {
 public:
  // `is_initial`: of the sandbox or of a container, where v1 hierarchies may be made.
  CgroupNamespace(std::vector<RefPtr<Cgroup>> roots, RefPtr<UserNamespace> owner, UserCharge charge, bool is_initial);
  ~CgroupNamespace();
  const RefPtr<UserNamespace>& owner() const { return owner_; }
  uint64_t inode_number() const { return inode_number_; }
  bool is_initial() const { return is_initial_; }
  // Where the hierarchy is younger: a container's group in it, else its root. T held.
  RefPtr<Cgroup> RootOf(const CgroupHierarchy& hierarchy) const;

 private:
  const std::vector<RefPtr<Cgroup>> roots_;
  const RefPtr<UserNamespace> owner_;
  const UserCharge charge_;
  const uint64_t inode_number_;
  const bool is_initial_;
};

// What is added to the host's clocks, in nanoseconds.
struct ClockOffsets {
  int64_t monotonic_ns = 0, boottime_ns = 0;
};

// time_namespaces(7). Thread-safe.
class TimeNamespace : public RefCounted<TimeNamespace> {
 public:
  TimeNamespace(ClockOffsets offsets, RefPtr<UserNamespace> owner, UserCharge charge, bool is_first);
  ~TimeNamespace();
  const RefPtr<UserNamespace>& owner() const { return owner_; }
  uint64_t inode_number() const { return inode_number_; }
  ClockOffsets offsets() const {
    return {monotonic_ns_.load(std::memory_order_relaxed), boottime_ns_.load(std::memory_order_relaxed)};
  }
  // EACCES once a task has entered it.
  Result<void> SetOffsets(ClockOffsets offsets);
  // A task enters: the offsets are fixed from now on. The page that its vDSO reads them from; null: the first
  // namespace's. ENOMEM.
  Result<RefPtr<mm::MappedObject>> Enter();
  // What is added to a clock of the host; 0 for those that no namespace shifts.
  int64_t OffsetOf(clockid_t clock) const;

 private:
  const RefPtr<UserNamespace> owner_;
  const UserCharge charge_;
  const uint64_t inode_number_;
  std::atomic<int64_t> monotonic_ns_, boottime_ns_;
  mutable Mutex mu_{LockRank::kNamespace};
  bool frozen_ ABSL_GUARDED_BY(mu_);
  RefPtr<mm::MappedObject> page_ ABSL_GUARDED_BY(mu_);
  const bool is_first_;
};

// pid_namespaces(7). All maps are guarded by the TaskSet mutex. Every task has an id in its namespace and each
// ancestor.
class PidNamespace : public RefCounted<PidNamespace> {
 public:
  PidNamespace(RefPtr<PidNamespace> parent, RefPtr<UserNamespace> owner, UserCharge charge = {});
  ~PidNamespace();
  const RefPtr<PidNamespace>& parent() const { return parent_; }
  const RefPtr<UserNamespace>& owner() const { return owner_; }
  uint64_t inode_number() const { return inode_number_; }
  int level() const { return level_; }
  bool IsSameOrDescendantOf(const PidNamespace& other) const;
  // An id that no task, group or session has; EAGAIN when all are used. TaskSet mutex.
  Result<pid_t> PickIdLocked() const;
  bool IsFreeLocked(pid_t id) const;

 private:
  friend class Task;
  friend class Cgroups;
  friend class TaskSet;
  friend class ThreadGroup;
  friend class Kernel;
  friend class ProcessGroup;
  friend class Session;
  RefPtr<PidNamespace> parent_;
  RefPtr<UserNamespace> owner_;
  UserCharge charge_;
  uint64_t inode_number_;
  int level_;
  pid_t last_pid_ = 0;
  bool dying_ = false;  // its init is gone: no new tasks
  ThreadGroup* init_ = nullptr;
  std::map<pid_t, Task*> tasks_;
  std::map<pid_t, ProcessGroup*> groups_;
  std::map<pid_t, Session*> sessions_;
};

}  // namespace sentry::kernel

#endif  // SENTRY_KERNEL_NAMESPACES_H_
