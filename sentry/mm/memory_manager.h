// SPDX-License-Identifier: Apache-2.0
// MemoryManager: one guest address space (Linux's mm_struct): VMAs, page mappings, copy-on-write, and copies between
// the sentry and guest memory. Thread-safe; shared by the tasks of a process and by CLONE_VM children.
//
// Two trees under mu_: VMAs say what the guest asked for; page mappings ("pmaps") say which host file range backs which
// addresses now. A pmap is made eagerly for private anonymous memory (a range of the MemoryFile, faulted in by the host
// kernel) and lazily otherwise. Private pmaps shared after fork or backed by a file are mapped read-only into the stub
// and copied on the first write, in granules of up to 64 KiB.
#ifndef SENTRY_MM_MEMORY_MANAGER_H_
#define SENTRY_MM_MEMORY_MANAGER_H_

#include <signal.h>
#include <sys/uio.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "platform/memory_file.h"
#include "platform/platform.h"
#include "sentry/common.h"
#include "sentry/kernel/core/io.h"
#include "sentry/kernel/core/user_addr.h"
#include "sentry/mm/mapped_object.h"

namespace sentry::mm {

using platform::Access;
using platform::Protection;

struct MmapRequest {
  uint64_t address = 0;  // hint, or exact with fixed
  uint64_t length = 0;
  Protection protection;
  Protection max_protection{
      true, true, true};  // what mprotect may raise to (a shared mapping of a read-only file can't be written)
  bool is_private = true;
  bool fixed = false;
  bool no_replace = false;  // MAP_FIXED_NOREPLACE
  bool grows_down = false;
  bool populate = false;
  bool no_reserve = false;
  bool locked = false;
  bool stack = false;           // the initial stack: named [stack]
  bool below_4g = false;        // MAP_32BIT
  RefPtr<MappedObject> object;  // null: anonymous
  uint64_t offset = 0;
  const char* name = nullptr;  // "[vdso]", "[heap]"; static storage
};

// A view of one VMA for /proc.
struct VmaInfo {
  uint64_t start, end;
  Protection protection;
  bool is_private, grows_down, locked;
  uint64_t offset;
  dev_t device;
  uint64_t inode;
  std::string name;
  uint64_t resident;  // bytes, an estimate
  uint64_t anonymous;
};

struct MmLimits {                       // soft rlimits, refreshed by the task layer
  uint64_t address_space = UINT64_MAX;  // RLIMIT_AS
  uint64_t data = UINT64_MAX;           // RLIMIT_DATA
  uint64_t stack = 8 << 20;             // RLIMIT_STACK
  uint64_t memlock = UINT64_MAX;
};

// The layout and image facts that exec sets and /proc and prctl(PR_SET_MM) show.
struct ImageInfo {
  uint64_t start_code = 0, end_code = 0, start_data = 0, end_data = 0, start_stack = 0;
  uint64_t arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
  uint64_t vdso = 0;
  std::vector<uint64_t> auxv;  // pairs, as the guest got them
};

struct FutexKey {
  const void* object;  // mapping identity, MemoryFile, or the MemoryManager for private futexes
  uint64_t offset;
  friend bool operator==(const FutexKey&, const FutexKey&) = default;
};

class PinSet;

// Guest pages held in place: the memory stays valid (though perhaps no longer mapped) until destruction.
class PinnedPages {
 public:
  PinnedPages() = default;
  PinnedPages(PinnedPages&&) noexcept;
  PinnedPages& operator=(PinnedPages&&) noexcept;
  ~PinnedPages();
  // Pieces in guest order. Touch by host calls (which give EFAULT) or SafeCopy only.
  const std::vector<iovec>& pieces() const { return pieces_; }
  size_t size() const;

 private:
  friend class MemoryManager;
  platform::MemoryFile* file_ = nullptr;
  std::shared_ptr<PinSet> pins_;  // set while pinned for writing: fork copies such pages instead of sharing them
  std::vector<platform::FileRange> ranges_;
  std::vector<iovec> pieces_;
};

class MemoryManager : public RefCounted<MemoryManager> {
 public:
  static Result<RefPtr<MemoryManager>> Create(platform::Platform& platform, platform::MemoryFile& memory_file);
  ~MemoryManager();

  platform::AddressSpace& address_space() { return *address_space_; }

  // The system calls. All validate their arguments as Linux does and give its errors.
  Result<uint64_t> Mmap(const MmapRequest& request);
  Result<void> Munmap(uint64_t address, uint64_t length);
  Result<void> Detach(uint64_t address);                 // shmdt(2)
  Result<void> Seal(uint64_t address, uint64_t length);  // mseal(2)
  // remap_file_pages(2)
  Result<void> RemapPages(uint64_t address, uint64_t length, uint64_t page_offset, bool populate);
  Result<void> Mprotect(uint64_t address, uint64_t length, Protection protection, bool grows_down = false);
  Result<uint64_t> Mremap(uint64_t old_address, uint64_t old_length, uint64_t new_length, int flags,
                          uint64_t new_address);
  // brk(2): the new (or unchanged) break.
  uint64_t Brk(uint64_t address);
  void SetBrkStart(uint64_t address);  // exec
  Result<void> Madvise(uint64_t address, uint64_t length, int advice);
  Result<void> Msync(uint64_t address, uint64_t length, int flags);
  // One byte per page. At most 64 GiB at once (ENOMEM): callers go in steps.
  Result<void> Mincore(uint64_t address, uint64_t length, std::vector<uint8_t>* pages);
  Result<void> Mlock(uint64_t address, uint64_t length, bool lock);
  // MCL_* flags; 0 is munlockall(2) (the caller refuses mlockall(0) itself).
  Result<void> MlockAll(int flags);
  // Where the top-down search for free addresses starts (exec); fork inherits it.
  void SetMmapBase(uint64_t base);
  // exec, once the image is there: lends the platform addresses beside it and beside libraries
  // (AddressSpace::LendRoom).
  void LendRooms();
  // The base as Linux picks it: below the stack limit (clamped to [128 MiB, 5/6 of the space]) and 28 bits of `random`
  // pages.
  static uint64_t ChooseMmapBase(uint64_t stack_limit, uint64_t random);
  // Memory of the sandbox in bytes, process-wide: single requests beyond it are refused with ENOMEM (overcommit mode
  // 0). UINT64_MAX (the default): never.
  static void SetMemoryLimit(uint64_t bytes);
  static uint64_t MemoryLimit();
  // fork: a copy whose private pages are shared copy-on-write with this one, save a few that both will write at once:
  // those around the addresses `written`, and those that this side wrote after its last fork. They are copied here and
  // now, so `written` is not empty only if nobody else runs in this space.
  Result<RefPtr<MemoryManager>> Fork(std::span<const uint64_t> written = {});
  // Drops every mapping (exec and exit; futex and shared-memory owners rely on it happening when the last user leaves).
  void Clear();

  // A fault reported by the platform. Ok: the access can be retried. Errors carry the signal: the pair {signal,
  // si_code}.
  struct FaultSignal {
    int signal = 0;  // 0 = resolved
    int code = 0;
  };
  // `host_signal` is the host's (SIGSEGV or SIGBUS). By the faulting guest thread's own sentry thread.
  FaultSignal HandleFault(uint64_t address, Access access, int host_signal = SIGSEGV);
  // A program is going to be loaded: nothing reaches the stub before MapEagerly, or the first fault.
  void BeginImage();
  // After fork or exec, with the context bound: maps all that is there, in one go, so that start-up takes few faults.
  // Of a new image also what it will touch: its files, and copies of their data.
  void MapEagerly();

  // Copies to and from guest memory; partial counts on a fault (EFAULT when nothing was copied). `ignore_permissions`
  // is ptrace's and /proc/PID/mem's access: may read PROT_NONE, and writes break copy-on-write even in read-only
  // private VMAs.
  Result<size_t> CopyIn(UserAddr from, void* to, size_t length, bool ignore_permissions = false);
  Result<size_t> CopyOut(UserAddr to, const void* from, size_t length, bool ignore_permissions = false);
  Result<size_t> ZeroOut(UserAddr to, size_t length);
  Result<std::string> CopyInString(UserAddr from, size_t limit);
  // Pins up to `length` bytes starting at `address` for host I/O; a prefix when a later page is unmapped or is not in
  // the MemoryFile. EFAULT when the first page is not accessible; an empty result when it cannot be pinned (use a
  // bounce buffer).
  Result<PinnedPages> Pin(UserAddr address, size_t length, bool for_write);

  // Atomic access to an aligned 32-bit word (EFAULT, EINVAL when misaligned).
  Result<uint32_t> Load32(UserAddr address);
  // The old value; stored `desired` iff it equalled `expected`.
  Result<uint32_t> CompareExchange32(UserAddr address, uint32_t expected, uint32_t desired);
  Result<FutexKey> GetFutexKey(UserAddr address, bool process_shared);

  // In address order, on a snapshot: `visit` runs without locks. `residency` fills VmaInfo::resident and anonymous
  // (host calls per mapping: for smaps, not for maps).
  void ForEachVma(const std::function<void(const VmaInfo&)>& visit, bool residency = false);
  // Object and offset mapped at an address (for /proc/PID/map_files, exe); null object when anonymous or unmapped.
  RefPtr<MappedObject> ObjectAt(uint64_t address, uint64_t* offset);
  struct Usage {
    uint64_t virtual_bytes, resident_bytes, shared_bytes, data_bytes, stack_bytes, code_bytes, locked_bytes,
        peak_virtual, peak_resident;
  };
  Usage GetUsage();
  void SetLimits(const MmLimits& limits);

  // What a higher layer keeps with an address space (aio contexts). OnClear comes, without locks, before the mappings
  // go.
  class Companion : public RefCounted<Companion> {
   public:
    virtual ~Companion() = default;
    virtual void OnClear() = 0;
  };
  RefPtr<Companion> companion() const;
  // The one that is there after the call: `companion`, or an earlier one.
  RefPtr<Companion> SetCompanion(RefPtr<Companion> companion);

  // Appends the ranges of the MemoryFile that hold private memory of this space. After fork the same range may be in
  // several spaces.
  void PrivateRanges(std::vector<platform::FileRange>* ranges) const;

  // Some of this memory is, or was, registered with a userfaultfd (userfault.h): accesses may have to wait for its
  // handler. A copy waits by itself when its thread holds no Mutex; with one it fails (EFAULT, a short count).
  bool HasUserfaults() const { return userfaults_.load(std::memory_order_acquire); }
  // Without locks, before a copy that will be made under some: waits until all of the range can be accessed.
  Result<void> AwaitUserfaults(UserAddr address, size_t length, bool write);

  // Image facts; the exe file is kept as an opaque reference by the kernel layer (Task).
  ImageInfo image() const;
  void SetImage(const ImageInfo& image);
  // prctl(PR_SET_DUMPABLE).
  std::atomic<int> dumpable{1};
  // membarrier registrations, and a count of users (tasks) for exit handling.
  std::atomic<uint32_t> membarrier_flags{0};
  std::atomic<int> task_count{0};

  // Drops the page mappings of a range of addresses; see ReverseMap::Invalidate.
  void InvalidatePages(uint64_t address, uint64_t length, bool private_copies);
  // The same for what this space maps of bytes [offset, offset+length) of the object with that reverse map, wherever it
  // is now.
  void InvalidateObject(const ReverseMap& map, uint64_t offset, uint64_t length, bool private_copies);

 private:
  friend class UserfaultContext;
  MemoryManager(platform::Platform& platform, platform::MemoryFile& memory_file, RefPtr<platform::AddressSpace> space);
  struct State;  // VMAs, pmaps, break, image (mm_state.h)
  class Lock;    // holds mu_, and drops objects that VMAs let go of after it is released

  platform::Platform& platform_;
  platform::MemoryFile& memory_file_;
  RefPtr<platform::AddressSpace> address_space_;
  mutable Mutex mu_{LockRank::kMm};
  std::unique_ptr<State> state_ ABSL_PT_GUARDED_BY(mu_);
  mutable Mutex companion_mu_{LockRank::kLeaf};
  RefPtr<Companion> companion_ ABSL_GUARDED_BY(companion_mu_);
  std::atomic<bool> userfaults_{false};
};

// A position in a list of guest vectors, of which at most MAX_RW_COUNT bytes count.
class UserCursor {
 public:
  UserCursor(MemoryManager& mm, std::vector<iovec> vectors);
  MemoryManager& mm() const { return mm_; }
  size_t remaining() const { return remaining_; }
  void Advance(size_t n);
  // Undoes the last `n` bytes of Advance.
  void Retreat(size_t n);
  // Calls `step(address, bytes done so far, length)` for the pieces of the next `length` bytes and advances by what
  // each says it did; ends at the first that did less. The count done, or the error of the first step.
  template <typename Step>
  Result<size_t> Walk(size_t length, Step step);
  // The same with pinned pages and a host call on a file at `offset` (-1: its position, one call only):
  // `call(pieces, position)`. `bounce(position, length)` moves what can't be pinned, and advances itself.
  template <typename Call, typename Bounce>
  Result<size_t> WalkPinned(size_t length, int64_t offset, bool for_write, Call call, Bounce bounce);

 private:
  struct Batch;
  Result<Batch> Pin(size_t length, bool for_write) const;
  MemoryManager& mm_;
  std::vector<iovec> vectors_;
  size_t index_ = 0, offset_ = 0, remaining_ = 0;
};

// IoTarget/IoSource over guest memory.
class UserTarget final : public IoTarget {
 public:
  UserTarget(MemoryManager& mm, std::vector<iovec> vectors) : at_(mm, std::move(vectors)) {}
  UserTarget(MemoryManager& mm, UserAddr address, size_t length);
  size_t remaining() const override { return at_.remaining(); }
  Result<size_t> Put(const void* data, size_t length) override;
  Result<size_t> PutZeroes(size_t length) override;
  Result<size_t> PutFromHost(int fd, int64_t offset, size_t length) override;

 private:
  UserCursor at_;
};

class UserSource final : public IoSource {
 public:
  UserSource(MemoryManager& mm, std::vector<iovec> vectors) : at_(mm, std::move(vectors)) {}
  UserSource(MemoryManager& mm, UserAddr address, size_t length);
  size_t remaining() const override { return at_.remaining(); }
  Result<size_t> Take(void* data, size_t length) override;
  void Untake(size_t length) override { at_.Retreat(length); }
  Result<size_t> TakeToHost(int fd, int64_t offset, size_t length) override;

 private:
  UserCursor at_;
};

}  // namespace sentry::mm

#endif  // SENTRY_MM_MEMORY_MANAGER_H_
