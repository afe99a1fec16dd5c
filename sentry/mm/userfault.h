// SPDX-License-Identifier: Apache-2.0
// userfaultfd(2), the part of the address space: memory whose faults a handler in the guest resolves. A context belongs
// to one address space; its VMAs refer to it. A fault queues itself here, checks again that it has to wait, and sleeps
// until the handler wakes its page; the file of fs/userfaultfd reads the queue. Thread-safe.
//
// Lock order: an address space's kMm, then mu_ (a leaf). Nobody waits with either.
#ifndef SENTRY_MM_USERFAULT_H_
#define SENTRY_MM_USERFAULT_H_

#include <linux/userfaultfd.h>

#include <deque>
#include <functional>
#include <vector>

#include "sentry/kernel/core/wait_queue.h"
#include "sentry/mm/memory_manager.h"

namespace sentry::mm {

class UserfaultContext final : public RefCounted<UserfaultContext> {
 public:
  // UFFDIO_REGISTER_MODE_* that are there.
  static constexpr uint64_t kModes = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP;
  static constexpr uint64_t kFeatures =
      UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
      UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_SIGBUS | UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EXACT_ADDRESS;

  UserfaultContext(RefPtr<MemoryManager> mm, bool user_mode_only)
      : mm_(std::move(mm)), user_mode_only_(user_mode_only) {}

  bool user_mode_only() const { return user_mode_only_; }
  bool IsEnabled() const { return enabled_.load(std::memory_order_acquire); }
  uint64_t features() const { return features_.load(std::memory_order_relaxed); }
  bool HasFeature(uint64_t feature) const { return features() & feature; }
  // UFFDIO_API; false if it was called already.
  bool Enable(uint64_t features);

  // The ioctls. Ranges are validated here: EINVAL, and each one's own errors.
  Result<void> Register(uint64_t start, uint64_t length, uint64_t modes);
  Result<void> Unregister(uint64_t start, uint64_t length);
  // Puts `length` bytes into missing pages; `fill` writes a page of 4096 bytes for an offset (null: zeroes). `*done`
  // counts what was placed also when an error ends it: EEXIST, ENOENT, ENOMEM, ESRCH, EAGAIN (the space is changing).
  using Fill = std::function<Result<void>(uint64_t offset, void* page)>;
  Result<void> Place(uint64_t start, uint64_t length, const Fill& fill, bool write_protected, uint64_t* done);
  Result<void> WriteProtect(uint64_t start, uint64_t length, bool on);
  Result<void> CheckRange(uint64_t start, uint64_t length) const;
  void Wake(uint64_t start, uint64_t length);

  // The oldest message that nobody read, faults before events; false when there is none. `fork`: the child's context,
  // for UFFD_EVENT_FORK, to be made a descriptor of the reader.
  bool NextMessage(uffd_msg* message, RefPtr<UserfaultContext>* fork);
  bool HasMessages() const;
  WaitQueue& read_queue() { return read_queue_; }
  // The descriptor is closed: nothing waits any more, and the memory is as if it had never been registered.
  void Release();
  struct Counts {
    size_t pending, total;
  };
  Counts counts() const;

  // ---- of the address space
  // Waits as the access of that kind must (UFFD_PAGEFAULT_FLAG_*): ok when it may be tried again. `killable`: only
  // death interrupts.
  Result<void> Await(uint64_t address, uint64_t flags, bool killable);
  struct Event {
    RefPtr<UserfaultContext> context;
    uffd_msg message;
    RefPtr<UserfaultContext> fork;
  };
  // Queues it and waits until it was read. Without locks.
  static void Post(Event event);
  // Places nothing while an operation that has an event changes the space.
  void BeginChange() { changing_.fetch_add(1, std::memory_order_acq_rel); }
  void EndChange() { changing_.fetch_sub(1, std::memory_order_acq_rel); }

 private:
  struct Waiting {
    uint64_t address, flags;
    uint32_t tid;
    bool delivered = false, woken = false;
  };
  struct Posted {
    Event* event;
    bool delivered = false;
  };
  void Remove(Waiting* waiting);
  bool MustWait(uint64_t page, uint64_t flags);

  const RefPtr<MemoryManager> mm_;
  const bool user_mode_only_;
  std::atomic<bool> enabled_{false};
  std::atomic<uint64_t> features_{0};
  std::atomic<int> changing_{0};
  mutable Mutex mu_{LockRank::kLeaf};
  bool released_ ABSL_GUARDED_BY(mu_) = false;
  std::deque<Waiting*> waiting_ ABSL_GUARDED_BY(mu_);
  std::deque<Posted*> posted_ ABSL_GUARDED_BY(mu_);
  WaitQueue read_queue_, wake_queue_;
};

// A fault that has to wait.
struct Userfault {
  RefPtr<UserfaultContext> context;
  uint64_t address = 0, flags = 0;
  explicit operator bool() const { return static_cast<bool>(context); }
};

// For a copy by the calling thread: waits if it holds no lock, and says whether to go on. If it holds one, the fault is
// kept for AwaitMissedUserfault.
Result<void> AwaitForCopy(Userfault fault);
// At the end of a system call that failed with EFAULT: whether that was because a copy under a lock had to wait for a
// handler. Then it has waited, and the call can be made again.
bool AwaitMissedUserfault();

}  // namespace sentry::mm

#endif  // SENTRY_MM_USERFAULT_H_
