// SPDX-License-Identifier: Apache-2.0
// System V semaphores: semget(2), semop(2), semctl(2). Thread-safe.
#ifndef SENTRY_KERNEL_IPC_SEMAPHORE_H_
#define SENTRY_KERNEL_IPC_SEMAPHORE_H_

#include <sys/sem.h>

#include <atomic>
#include <list>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sentry/kernel/core/caller.h"
#include "sentry/kernel/ipc/budget.h"
#include "sentry/kernel/ipc/permissions.h"
#include "sentry/kernel/ipc/registry.h"

namespace sentry::ipc {

inline constexpr int kSemValueMax = 32767;  // SEMVMX, and SEMAEM for undo values

class Semaphores;
class SemaphoreUndo;

// /proc/sys/kernel/sem, in its order.
struct SemaphoreLimits {
  int per_set = 32000, total = 1024000000, per_call = 500, sets = 32000;
};

struct SemaphoreSetStatus {
  Permissions permissions;
  int id = 0;
  unsigned count = 0;
  int64_t otime = 0, ctime = 0;
};

class Semaphores : public RefCounted<Semaphores> {
 public:
  SemaphoreLimits limits() const;
  void set_limits(const SemaphoreLimits& limits);

  Result<int> Get(key_t key, int count, int flags, const Credentials& creds);
  // semop(2), semtimedop(2): all operations or none. `undo` is the caller's list, needed when an operation has
  // SEM_UNDO. Blocks: EINTR, EAGAIN at the deadline, EIDRM.
  Result<void> Operate(Caller& caller, int id, const std::vector<sembuf>& operations, const RefPtr<SemaphoreUndo>& undo,
                       int64_t deadline_ns);

  // semctl(2). `check` false: SEM_STAT_ANY.
  Result<SemaphoreSetStatus> Status(int id, IdKind kind, bool check, const Credentials& creds) const;
  Result<std::vector<uint16_t>> GetAll(int id, const Credentials& creds) const;
  // The number of semaphores, for who may change them: SETALL's array is that long.
  Result<unsigned> CountForWrite(int id, const Credentials& creds) const;
  Result<void> SetAll(int id, const std::vector<uint16_t>& values, const Credentials& creds);
  Result<void> SetValue(int id, int number, int value, const Credentials& creds);
  Result<int> GetValue(int id, int number, const Credentials& creds) const;
  Result<pid_t> GetPid(int id, int number, const Credentials& creds) const;
  // How many wait for the value to rise, or to be zero.
  Result<int> CountWaiters(int id, int number, bool for_zero, const Credentials& creds) const;
  Result<void> SetOwner(int id, const OwnerChange& change, const Credentials& creds);
  Result<void> Remove(int id, const Credentials& creds);
  struct Totals {
    int sets, semaphores, max_index;
  };
  Totals totals() const;
  std::vector<SemaphoreSetStatus> List() const;

  // The namespace ends.
  void Shutdown();

 private:
  friend class SemaphoreUndo;
  struct Semaphore {
    int value = 0;
    PidStamp pid;
  };
  struct Waiting;
  struct Set : public RefCounted<Set>, public IpcObject {
    explicit Set(RefPtr<Semaphores> semaphores) : owner(std::move(semaphores)) {}
    const RefPtr<Semaphores> owner;
    std::vector<Semaphore> semaphores;
    int64_t otime = 0, ctime = 0;
    std::list<Waiting*> waiting;
    struct Undo {
      std::vector<int16_t> values;
      Charge charge;
    };
    std::map<SemaphoreUndo*, Undo> undo;
    Charge charge;
  };
  // Why operations can't be done now.
  enum class Outcome { kDone, kWait, kFailed };

  static Outcome TryLocked(Set& set, const std::vector<sembuf>& operations, SemaphoreUndo* undo, const PidStamp& pid,
                           size_t* blocking, Errno* error);
  static void WakeLocked(Set& set);
  void RemoveLocked(Set& set);
  Result<RefPtr<Set>> FindLocked(int id, uint32_t access, const Credentials& creds) const;
  Result<RefPtr<Set>> FindOwnedLocked(int id, const Credentials& creds) const;
  Result<const Semaphore*> SemaphoreLocked(int id, int number, const Credentials& creds) const;

  mutable Mutex mu_{LockRank::kNamespace};
  SemaphoreLimits limits_ ABSL_GUARDED_BY(mu_);
  Registry<Set> sets_ ABSL_GUARDED_BY(mu_);
  int used_ ABSL_GUARDED_BY(mu_) = 0;  // semaphores of all sets
};

// What SEM_UNDO operations of a process, or of those that share it (CLONE_SYSVSEM), are to be undone by at its end.
class SemaphoreUndo : public RefCounted<SemaphoreUndo> {
 public:
  ~SemaphoreUndo() { Apply(); }
  // Tasks that share it.
  std::atomic<int> users{1};
  // The last of them ends: gives everything back.
  void Apply();

 private:
  friend class Semaphores;
  void Add(Semaphores::Set& set);
  void Forget(Semaphores::Set& set);
  Mutex mu_{LockRank::kLeaf};
  std::map<Semaphores::Set*, RefPtr<Semaphores::Set>> sets_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::ipc

#endif  // SENTRY_KERNEL_IPC_SEMAPHORE_H_
