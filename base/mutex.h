// SPDX-License-Identifier: Apache-2.0
// Mutex with a rank, CondVar, SharedMutex. A thread may only take a Mutex whose rank is higher than that of every Mutex
// it holds; debug builds (no NDEBUG) check this at run time and abort naming both. Two of one rank may be taken only
// with LockPair (address order) or through LockNested (the caller's README says why the order is safe). A Mutex is for
// short sections; it is never held while waiting for a guest, and across host I/O only where the rank's comment says
// so.
#ifndef BASE_MUTEX_H_
#define BASE_MUTEX_H_

#include <pthread.h>
#include <time.h>

#include <cstdint>

#include "absl/base/thread_annotations.h"

namespace base {

// The lock order of the whole program, outermost first. Gaps are room for new classes.
enum class LockRank : uint8_t {
  kBoot = 10,  // boot/: loader, control server
  kContainer = 12,
  kEpollNesting = 16,  // changes of epoll topology: adds that could close a cycle, a file's or an epoll's end
  kEpollSet =
      18,        // an epoll instance's interest list; nests for epoll in epoll (LockNested); files are polled under it
  kTty = 20,     // a terminal's state (devpts); may signal process groups
  kRename = 24,  // vfs: one rename at a time per filesystem
  kMountTable = 26,         // vfs: the mount tree of a namespace
  kStackedDirectory2 = 28,  // as kDirectory, of an overlay that has an overlay of this kind among its layers
  kStackedCopy2 = 29,       // as kStackedCopy, of such an overlay
  kStackedDirectory =
      30,             // as kDirectory, of an overlay over other mounts' directories, whose locks are taken under it
  kStackedCopy = 31,  // one copy-up of an inode of such an overlay; held over its I/O
  kDirectory = 34,    // a dentry's children; held across the filesystem's own directory I/O; parent before child
  kFile = 38,         // a file description's position
  kOverlayCopy = 39,  // one copy-up of an overlay inode; held over its I/O
  kOverlayWork = 40,  // an overlay's work directory
  kInode = 42,        // an inode's data or attributes; held across donated-fd I/O
  kNetIo = 45,        // one reader, one writer of an internet socket at a time; guest memory is copied under it
  kSocket = 46,       // AF_UNIX endpoint; two by LockPair; an internet endpoint
  kNetListen = 47,    // a listener's queue
  kPipe = 48,
  kFdTable = 50,
  kFsContext = 52,  // cwd, root, umask
  kFutexPi = 54,    // priority-inheritance futex operations; held across the access to the futex word
  kMm = 56,         // an address space's VMAs and page mappings; two by LockPair (fork)
  kMappable = 58,   // a file's page cache and its reverse mappings
  kFutex = 60,      // futex hash buckets; two by LockPair
  kTaskSet = 64,    // kernel: the task tree, pids, process groups, sessions
  kNetPorts = 66,   // net: who has which port
  kSignal = 68,     // a thread group's signal state
  kNetTable = 69,   // net: ports, connections, configuration
  kNetTimer = 70,   // net: a stack's timers
  kNetDevice = 71,  // net: a link's queue
  kTimer = 72,      // timer wheel, posix timers
  kTask = 76,       // small per-task state
  kNamespace = 78,
  kInotify = 82,
  kWaitQueue = 86,  // event queues: callbacks run under it and may only wake
  kBlocker = 90,
  kMemoryFile = 94,
  kPlatform = 96,
  kGoferChannel = 98,  // held across one request to the gofer
  kLeaf = 110,         // takes no other lock
  kLog = 120,
};

// How many Mutexes the calling thread holds.
int HeldMutexes();

class ABSL_LOCKABLE Mutex {
 public:
  explicit constexpr Mutex(LockRank rank = LockRank::kLeaf) : rank_(rank) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  ~Mutex() { pthread_mutex_destroy(&mutex_); }

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION();
  // For the second lock of one rank.
  void LockNested() ABSL_EXCLUSIVE_LOCK_FUNCTION();
  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true);
  void Unlock() ABSL_UNLOCK_FUNCTION();
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() {}

 private:
  friend class CondVar;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  LockRank rank_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_.Lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Locks two mutexes of one rank in address order; they may be the same one.
class ABSL_SCOPED_LOCKABLE LockPair {
 public:
  LockPair(Mutex& a, Mutex& b) ABSL_EXCLUSIVE_LOCK_FUNCTION(a, b);
  ~LockPair() ABSL_UNLOCK_FUNCTION();

 private:
  Mutex* first_;
  Mutex* second_;  // null when both are one
};

class CondVar {
 public:
  CondVar();
  ~CondVar() { pthread_cond_destroy(&cond_); }
  CondVar(const CondVar&) = delete;
  CondVar& operator=(const CondVar&) = delete;
  void Wait(Mutex& mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // False on time-out; `deadline_ns` is absolute CLOCK_MONOTONIC.
  bool WaitUntil(Mutex& mutex, int64_t deadline_ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void NotifyOne() { pthread_cond_signal(&cond_); }
  void NotifyAll() { pthread_cond_broadcast(&cond_); }

 private:
  pthread_cond_t cond_;
};

}  // namespace base

#endif  // BASE_MUTEX_H_
