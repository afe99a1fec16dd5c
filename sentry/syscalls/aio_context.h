// SPDX-License-Identifier: Apache-2.0
// Kernel aio (io_setup(2)): a context is a ring of completions that the guest maps and may reap by itself (libaio and
// fio do), plus the requests under way. Reads, writes and syncs are done in io_submit, as Linux does for buffered
// files; polls complete later, on the process's retry thread (kernel/async_work.h).
//
// Locks: AioTable::mu_ and AioContext::mu_ are leaves, never held together.
#ifndef SENTRY_SYSCALLS_AIO_CONTEXT_H_
#define SENTRY_SYSCALLS_AIO_CONTEXT_H_

#include <linux/aio_abi.h>

#include <map>
#include <vector>

#include "sentry/kernel/async_work.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/ring_memory.h"
#include "sentry/syscalls/syscall.h"

namespace sentry::syscalls {

class AioContext final : public kernel::AsyncClient {
 public:
  // A poll request that waits for its file.
  class PollRequest;

  // Maps the ring into the caller. EAGAIN over fs.aio-max-nr, EINVAL, ENOMEM.
  static Result<RefPtr<AioContext>> Create(Task& task, uint32_t events);
  ~AioContext() override;

  uint64_t id() const { return id_; }  // the ring's address
  uint32_t capacity() const { return ring_events_ - 1; }

  // Room for one more completion; EAGAIN. Each is followed by one Complete or Release.
  Result<void> Reserve();
  void Release();
  void Complete(const io_event& event, vfs::FileDescription* eventfd);
  // Takes up to `limit` completions into the guest's array. EFAULT when the first could not be stored.
  Result<size_t> Take(Task& task, UserAddr events, size_t limit);
  WaitQueue& queue() { return queue_; }

  Result<void> SubmitPoll(Task& task, const iocb& request, UserAddr user, vfs::FileRef file, vfs::FileRef eventfd);
  // io_cancel(2): EINVAL when it is not under way.
  Result<void> Cancel(UserAddr user);
  size_t CancelRequestsOf(const kernel::ThreadGroup& group) override;
  // No request is accepted any more, those under way are cancelled, waiters woken. False when it was already.
  bool Shut();
  bool IsShut() const { return shut_.load(std::memory_order_acquire); }
  uint64_t mapped_length() const { return ring_->length(); }

 private:
  AioContext(RefPtr<RingMemory> ring, uint32_t reserved, uint32_t ring_events);
  uint32_t PendingLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  size_t Cancel(bool (*matches)(const PollRequest&, const void*), const void* argument);

  const RefPtr<RingMemory> ring_;
  const uint32_t reserved_;     // of fs.aio-nr
  const uint32_t ring_events_;  // slots; one stays free
  uint64_t id_ = 0;
  std::atomic<bool> shut_{false};
  mutable Mutex mu_{LockRank::kLeaf};
  uint32_t tail_ ABSL_GUARDED_BY(mu_) = 0;
  uint32_t in_flight_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<RefPtr<PollRequest>> polls_ ABSL_GUARDED_BY(mu_);
  std::vector<RefPtr<kernel::ThreadGroup>> groups_ ABSL_GUARDED_BY(mu_);  // that know this as a client
  // Orders readers: one takes from the ring at a time.
  Mutex take_mu_{LockRank::kFile};
  WaitQueue queue_;
};

// The contexts of an address space; ended with it.
class AioTable final : public mm::MemoryManager::Companion {
 public:
  // Null: the address space has none yet.
  static RefPtr<AioTable> Of(Task& task);
  static RefPtr<AioTable> GetOrMake(Task& task);
  void Add(RefPtr<AioContext> context);
  Result<RefPtr<AioContext>> Find(uint64_t id) const;  // EINVAL
  Result<RefPtr<AioContext>> Remove(uint64_t id);      // EINVAL
  void OnClear() override;

 private:
  mutable Mutex mu_{LockRank::kLeaf};
  std::map<uint64_t, RefPtr<AioContext>> contexts_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_AIO_CONTEXT_H_
