// SPDX-License-Identifier: Apache-2.0
// Work that a thread does once it holds no lock of the stack: telling observers, and carrying packets over the
// loopback to the other end. So an endpoint's lock is never held while another's is taken, and a woken thread does not
// run into the lock of its waker.
#ifndef SENTRY_NET_DEFERRED_H_
#define SENTRY_NET_DEFERRED_H_

#include <cstdint>

#include "sentry/common.h"

namespace sentry::net {

// Told of events (EPOLLIN…) on an endpoint, without locks of the stack. Thread-safe.
class Observer : public RefCounted<Observer> {
 public:
  virtual ~Observer() = default;
  virtual void OnEvents(uint32_t events) = 0;
};

// Something to run later on this thread.
class DeferredTask : public RefCounted<DeferredTask> {
 public:
  virtual ~DeferredTask() = default;
  // True: there is more to do, after what else is waiting.
  virtual bool Run() = 0;
};

// While one lives on this thread nothing deferred runs; the end of the outermost runs all of it.
class DeferScope {
 public:
  DeferScope();
  ~DeferScope();
  DeferScope(const DeferScope&) = delete;
};

// Within a DeferScope.
void DeferEvents(const RefPtr<Observer>& observer, uint32_t events);
void DeferTask(RefPtr<DeferredTask> task);

// The lock of an endpoint, within a DeferScope.
class ABSL_SCOPED_LOCKABLE Section {
 public:
  explicit Section(Mutex& mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : lock_(mu) {}
  ~Section() ABSL_UNLOCK_FUNCTION() {}

 private:
  DeferScope scope_;
  MutexLock lock_;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_DEFERRED_H_
