// SPDX-License-Identifier: Apache-2.0
// io_uring(7): rings and requests.
//
// A request is tried at once by the thread that submits it, without sleeping (kernel::NoSleep). What would sleep waits
// armed on its file's queue and is tried again on the process's retry thread, or, when there is nothing to wait for in
// that way, runs on a thread of its own (kernel/async_work.h). Each attempt calls the system call's own handler, with
// the request's file in a CallScope. A request ends by Finish, once, by whoever moved it to kDone under Ring::mu_.
//
// Locks: Ring::mu_ and UringQueues' are leaves; no lock is held while a request is tried.
#ifndef SENTRY_SYSCALLS_URING_H_
#define SENTRY_SYSCALLS_URING_H_

#include <linux/io_uring.h>

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "sentry/kernel/async_work.h"
#include "sentry/kernel/core/timer.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/syscalls/syscall.h"
#include "sentry/syscalls/uring_queues.h"

namespace sentry::syscalls {

class Ring;

// Submits for a ring with IORING_SETUP_SQPOLL. It doesn't spin: when the queue is empty it asks to be woken.
class SqThread final : public kernel::AsyncJob {
 public:
  SqThread(RefPtr<Ring> ring, Task& task);
  const kernel::TaskIdentity& identity() const override { return identity_; }
  kernel::ThreadGroup& group() const { return *group_; }
  void Run(Task& worker) override;
  void Stop();

 private:
  const RefPtr<Ring> ring_;
  const RefPtr<kernel::ThreadGroup> group_;
  const kernel::TaskIdentity identity_;
  std::atomic<bool> stopped_{false};
};

// What an attempt of a request came to.
struct Outcome {
  enum Kind { kDone, kWait, kPending };
  Kind kind = kDone;
  int32_t result = 0;
  uint32_t flags = 0;  // IORING_CQE_F_*
  static Outcome Done(int64_t result, uint32_t flags = 0) { return {kDone, static_cast<int32_t>(result), flags}; }
  static Outcome Error(int error) { return {kDone, -error, 0}; }
  static Outcome Wait() { return {kWait, 0, 0}; }        // it would sleep: arm it
  static Outcome Pending() { return {kPending, 0, 0}; }  // something else will finish it
};

// A buffer that IOSQE_BUFFER_SELECT picked for one attempt.
struct SelectedBuffer {
  uint64_t address = 0;
  uint32_t length = 0;
  uint16_t id = 0;
};

class UringRequest final : public kernel::AsyncJob, public WaitEntry {
 public:
  enum class State {
    kNew,       // of the submitting thread alone, or behind a link or a drain
    kQueued,    // to be issued by the retry thread
    kRunning,   // being tried
    kArmed,     // waits on its file's queue
    kBlocking,  // on, or on its way to, a thread of its own
    kTimer,     // waits for its timer
    kDone
  };
  UringRequest(RefPtr<Ring> ring, Task& task, const io_uring_sqe& sqe);
  ~UringRequest() override;

  // Tries `first` and what follows it by links, until something has to wait.
  static void Issue(Task& task, RefPtr<UringRequest> first);
  // The same, soon, on the retry thread.
  static void IssueLater(RefPtr<UringRequest> request);

  const kernel::TaskIdentity& identity() const override { return identity_; }
  kernel::ThreadGroup& group() const { return *group_; }
  void Run(Task& worker) override;
  void OnEvent(EventMask) override { Kick(); }

  // Cancels it for `result`, if it waits. 0, or -EALREADY while it is being tried (it will end soon), -ENOENT when it
  // has ended.
  int Cancel(int32_t result = -ECANCELED);
  // True for the one who may call Finish. `from` must be its state.
  bool Claim(State from);
  // Posts the completion, then starts or cancels what is linked. The request to issue next on this thread, if any.
  RefPtr<UringRequest> Finish(int32_t result, uint32_t flags = 0);
  // Finish for callers that cannot issue.
  void FinishElsewhere(int32_t result);
  // A completion before the last one (multishot); false when it could not be kept.
  bool PostMore(int32_t result, uint32_t flags = 0);

  // Sets the timer, again perhaps; on expiry Run is called.
  void StartTimer(int64_t deadline_ns);
  void MakeTimer();  // before the request is seen by others
  RefPtr<UringRequest> StartTimeout();
  // Of an armed poll request that was claimed: waits again, for other events perhaps.
  void Rearm(bool new_events);
  // Runs soon on the retry thread. From callbacks too.
  void Kick();
  bool IsLinkTimeout() const { return sqe.opcode == IORING_OP_LINK_TIMEOUT; }
  // Calls a handler with the request's file and tells its result.
  Value Call(Task& task, Handler handler, const Arguments& args, vfs::FileRef* made = nullptr);
  Outcome CallDone(Task& task, Handler handler, const Arguments& args);

  const RefPtr<Ring> ring;
  io_uring_sqe sqe;            // the sentry's copy
  vfs::FileRef file;           // resolved at the first attempt
  RefPtr<UringRequest> next;   // linked behind this one
  std::vector<iovec> vectors;  // of READV and WRITEV: imported once
  bool imported = false;
  int prepare_error = 0;    // why the entry was refused
  int64_t expected = 0;     // a smaller result breaks the chain: bytes asked for, of reads and writes
  EventMask wait_mask = 0;  // events to be armed for; 0: cannot be armed
  SelectedBuffer buffer;
  int64_t deadline_ns = 0;       // timeouts
  uint64_t target_count = 0;     // TIMEOUT: ends when so many completions have come; 0: by time only
  RefPtr<UringRequest> watched;  // LINK_TIMEOUT: whom it bounds; guarded by Ring::mu_

 private:
  friend class Ring;
  RefPtr<UringRequest> Attempt(Task& task, bool may_sleep);
  RefPtr<UringRequest> Arm(Task& task);
  RefPtr<UringRequest> GoBlocking(Task& task);
  Result<void> ResolveFile(Task& task);
  void StartLinkTimeout();

  const RefPtr<kernel::ThreadGroup> group_;
  kernel::TaskIdentity identity_;
  std::atomic<bool> kicked_{false};
  bool counted_ = false;               // in Ring::in_flight_
  State state_ = State::kNew;          // guarded by Ring::mu_
  bool missed_ = false;                // the same: an event came while it was being tried
  bool cancelled_ = false;             // the same: ends with cancel_result_ instead of waiting (again)
  RefPtr<UringRequest> link_timeout_;  // the same: bounds this one
  std::unique_ptr<Timer> timer_;       // made once, before the request is seen by others
};

class Ring final : public kernel::AsyncClient {
 public:
  // Flags were checked. Fills in the params.
  static Result<RefPtr<Ring>> Create(Task& task, uint32_t entries, io_uring_params* params);
  ~Ring() override;

  UringQueues& queues() { return *queues_; }
  uint32_t setup_flags() const { return setup_flags_; }

  // io_uring_enter(2)'s two halves. The number of entries taken.
  Result<int64_t> Submit(Task& task, uint32_t count);
  // Until `min` completions are there. EINTR, ETIME.
  Result<void> Wait(Task& task, uint32_t min, int64_t deadline_ns);
  WaitQueue& queue() { return queue_; }
  WaitQueue& sq_queue() { return sq_queue_; }
  // Posts, wakes, signals the eventfd. `counts`: for TIMEOUT's completion count.
  bool Post(uint64_t user_data, int32_t result, uint32_t flags, bool counts = true);
  EventMask Poll();

  // The ring's file was closed: cancels everything; later requests are cancelled at once.
  void Close();
  size_t CancelRequestsOf(const kernel::ThreadGroup& group) override;
  bool IsClosed() const { return closed_.load(std::memory_order_acquire); }

  // Requests that wait. `matches` is called under mu_.
  using Matcher = std::function<bool(const UringRequest&)>;
  std::vector<RefPtr<UringRequest>> Find(const Matcher& matches, bool all);

  // Registered files (a null reference is an empty slot).
  Result<vfs::FileRef> FixedFile(uint32_t index) const;                      // EBADF
  Result<uint32_t> InstallFixed(uint32_t slot_plus_one, vfs::FileRef file);  // ENXIO, EINVAL, ENFILE
  Result<void> RemoveFixed(uint32_t index);                                  // ENXIO, EINVAL, EBADF
  Result<int64_t> UpdateFiles(Task& task, uint32_t offset, UserAddr fds, uint32_t count);
  // Registered buffers: EFAULT unless [address, address + length) lies in the buffer of that index.
  Result<void> CheckFixedBuffer(uint32_t index, uint64_t address, uint64_t length) const;

  // Buffer groups (IORING_OP_PROVIDE_BUFFERS and registered buffer rings). ENOBUFS.
  Result<SelectedBuffer> SelectBuffer(Task& task, uint16_t group, uint32_t limit);
  void ReturnBuffer(uint16_t group, const SelectedBuffer& buffer);  // it was not used
  Result<void> ProvideBuffers(const io_uring_sqe& sqe);
  Result<int64_t> RemoveBuffers(uint16_t group, uint32_t count);

  // io_uring_register(2).
  Value Register(Task& task, unsigned opcode, UserAddr argument, unsigned count);
  RefPtr<const Credentials> Personality(uint16_t id) const;  // null: none
  bool IsDisabled() const { return disabled_.load(std::memory_order_acquire); }
  // For IORING_SETUP_SQPOLL: wakes the submitting thread, starts it first.
  Result<void> WakeSqThread(Task& task);
  Result<void> CheckIssuer(Task& task);  // EEXIST: IORING_SETUP_SINGLE_ISSUER and another task

 private:
  friend class UringRequest;
  struct BufferGroup {
    std::deque<SelectedBuffer> buffers;
    uint64_t ring = 0;  // address of a registered buffer ring; 0: classic
    uint32_t entries = 0;
    uint16_t head = 0;
  };
  struct Restrictions {
    std::array<bool, IORING_REGISTER_LAST> register_ops = {};
    std::array<bool, IORING_OP_LAST> sqe_ops = {};
    uint8_t flags_allowed = 0, flags_required = 0;
    bool active = false, set = false;
  };

  Ring(std::unique_ptr<UringQueues> queues, uint32_t setup_flags);
  void KnowGroup(kernel::ThreadGroup& group);
  void Add(UringRequest& request);     // it waits now
  void Remove(UringRequest& request);  // it has ended
  void RequestEnded(bool counted);
  void CheckCountedTimeouts();
  Result<void> CheckEntry(const io_uring_sqe& sqe);
  bool MustDefer(const RefPtr<UringRequest>& head);
  void RunDeferred();

  Result<void> RegisterBuffers(Task& task, UserAddr argument, unsigned count);
  Result<void> RegisterFiles(Task& task, UserAddr argument, unsigned count);
  Result<void> RegisterEventfd(Task& task, UserAddr argument, unsigned count, bool async_only);
  Result<void> RegisterProbe(Task& task, UserAddr argument, unsigned count);
  Result<void> RegisterRestrictions(Task& task, UserAddr argument, unsigned count);
  Value RegisterPersonality(Task& task);
  Result<void> RegisterBufferRing(Task& task, UserAddr argument, unsigned count);
  Result<void> UnregisterBufferRing(Task& task, UserAddr argument, unsigned count);

  const std::unique_ptr<UringQueues> queues_;
  const uint32_t setup_flags_;
  WaitQueue queue_;     // completions
  WaitQueue sq_queue_;  // the SQPOLL thread sleeps here
  std::atomic<bool> closed_{false}, disabled_{false};
  std::atomic<pid_t> issuer_{0};

  mutable Mutex mu_{LockRank::kLeaf};
  std::unordered_map<UringRequest*, RefPtr<UringRequest>> waiting_ ABSL_GUARDED_BY(mu_);
  uint64_t completions_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t in_flight_ ABSL_GUARDED_BY(mu_) = 0;                     // submitted, not ended, not deferred
  std::deque<RefPtr<UringRequest>> deferred_ ABSL_GUARDED_BY(mu_);  // behind IOSQE_IO_DRAIN
  size_t counted_timeouts_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<RefPtr<kernel::ThreadGroup>> groups_ ABSL_GUARDED_BY(mu_);
  std::vector<vfs::FileRef> files_ ABSL_GUARDED_BY(mu_);
  bool has_files_ ABSL_GUARDED_BY(mu_) = false, has_buffers_ ABSL_GUARDED_BY(mu_) = false;
  uint32_t alloc_start_ ABSL_GUARDED_BY(mu_) = 0, alloc_end_ ABSL_GUARDED_BY(mu_) = UINT32_MAX;
  std::vector<iovec> buffers_ ABSL_GUARDED_BY(mu_);
  std::map<uint16_t, BufferGroup> buffer_groups_ ABSL_GUARDED_BY(mu_);
  vfs::FileRef eventfd_ ABSL_GUARDED_BY(mu_);
  bool eventfd_async_ ABSL_GUARDED_BY(mu_) = false;
  std::map<uint16_t, RefPtr<const Credentials>> personalities_ ABSL_GUARDED_BY(mu_);
  uint16_t next_personality_ ABSL_GUARDED_BY(mu_) = 1;
  Restrictions restrictions_ ABSL_GUARDED_BY(mu_);
  RefPtr<SqThread> sq_thread_ ABSL_GUARDED_BY(mu_);  // null: not running
};

// The descriptor's side. Null for another file.
Ring* RingOf(vfs::FileDescription& file);
vfs::FileRef NewRingFile(Task& task, RefPtr<Ring> ring);

// One row of the table of operations.
struct UringOp {
  const char* name;
  Outcome (*run)(UringRequest& request, Task& task);
  bool needs_file = false;
  EventMask wait_mask = 0;       // to be armed for when it would sleep
  bool selects_buffers = false;  // takes IOSQE_BUFFER_SELECT
  bool takes_ioprio = false;
};
// Null: not supported.
const UringOp* FindUringOp(unsigned opcode);
Outcome RunPollAdd(UringRequest& request, Task& task);
Outcome RunPollRemove(UringRequest& request, Task& task);
Outcome RunAsyncCancel(UringRequest& request, Task& task);
Outcome RunTimeout(UringRequest& request, Task& task);
Outcome RunTimeoutRemove(UringRequest& request, Task& task);
Outcome RunLinkTimeout(UringRequest& request, Task& task);
// Fields and time of a TIMEOUT or LINK_TIMEOUT, checked when it is submitted. EINVAL, EFAULT.
Result<void> PrepareTimeout(UringRequest& request, Task& task);

}  // namespace sentry::syscalls

#endif  // SENTRY_SYSCALLS_URING_H_
