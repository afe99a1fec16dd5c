// SPDX-License-Identifier: Apache-2.0
// What a ring keeps for its requests: registered files and buffers, buffer groups, eventfd, personalities, restrictions
// (io_uring_register(2)).
#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "sentry/fs/eventfd/eventfd.h"
#include "sentry/syscalls/uring.h"

namespace sentry::syscalls {
namespace {

constexpr unsigned kMaxFixedFiles = 1u << 20;  // IORING_MAX_FIXED_FILES
constexpr unsigned kMaxBuffers = 1u << 14;     // IORING_MAX_REG_BUFFERS
constexpr uint64_t kMaxBuffer = 1ull << 30;    // bytes of one registered buffer
constexpr size_t kMaxProvided = 1u << 16;      // buffers of one group
constexpr size_t kMaxGroups = 1u << 16;
constexpr unsigned kMaxRestrictions =
    unsigned{IORING_RESTRICTION_LAST} + unsigned{IORING_REGISTER_LAST} + unsigned{IORING_OP_LAST};
constexpr int kSkip = IORING_REGISTER_FILES_SKIP;
static_assert(sizeof(io_uring_buf) == 16);

// A descriptor to be registered; -1 is an empty slot. No ring may be: it would hold itself.
Result<vfs::FileRef> FileToRegister(Task& task, int fd) {
  if (fd == -1) return vfs::FileRef();
  vfs::FileRef file = TRY(GetFile(task, fd));
  if (RingOf(*file)) return Errno(EBADF);
  return file;
}

}  // namespace

// --- Files

Result<vfs::FileRef> Ring::FixedFile(uint32_t index) const {
  MutexLock lock(mu_);
  if (index >= files_.size() || !files_[index]) return Errno(EBADF);
  return files_[index];
}

Result<uint32_t> Ring::InstallFixed(uint32_t slot_plus_one, vfs::FileRef file) {
  if (RingOf(*file)) return Errno(EBADF);
  vfs::FileRef dropped;  // after the lock
  MutexLock lock(mu_);
  if (!has_files_) return Errno(ENXIO);
  uint32_t slot = slot_plus_one - 1;
  if (slot_plus_one == IORING_FILE_INDEX_ALLOC) {
    const uint32_t end = std::min<uint32_t>(alloc_end_, files_.size());
    for (slot = alloc_start_; slot < end && files_[slot];) ++slot;
    if (slot >= end) return Errno(ENFILE);
  }
  if (slot >= files_.size()) return Errno(EINVAL);
  dropped = std::exchange(files_[slot], std::move(file));
  return slot;
}

Result<void> Ring::RemoveFixed(uint32_t index) {
  vfs::FileRef dropped;
  MutexLock lock(mu_);
  if (!has_files_) return Errno(ENXIO);
  if (index >= files_.size()) return Errno(EINVAL);
  if (!files_[index]) return Errno(EBADF);
  dropped = std::move(files_[index]);
  return OkResult();
}

Result<int64_t> Ring::UpdateFiles(Task& task, uint32_t offset, UserAddr fds, uint32_t count) {
  {
    MutexLock lock(mu_);
    if (!has_files_) return Errno(ENXIO);
    if (uint64_t{offset} + count > files_.size()) return Errno(EINVAL);
  }
  for (uint32_t done = 0; done < count; ++done) {
    auto fd = task.CopyIn<int>(fds + uint64_t{done} * sizeof(int));
    Result<vfs::FileRef> file = fd.ok() ? *fd == kSkip ? vfs::FileRef() : FileToRegister(task, *fd) : fd.error();
    if (!file.ok()) return done ? Result<int64_t>(done) : file.error();
    if (*fd == kSkip) continue;
    vfs::FileRef dropped;
    MutexLock lock(mu_);
    if (offset + done >= files_.size()) return Errno(EINVAL);
    dropped = std::exchange(files_[offset + done], std::move(*file));
  }
  return count;
}

Result<void> Ring::RegisterFiles(Task& task, UserAddr argument, unsigned count) {
  if (count == 0) return Errno(EINVAL);
  if (count > kMaxFixedFiles || count > task.SoftLimit(RLIMIT_NOFILE)) return Errno(EMFILE);
  {
    MutexLock lock(mu_);
    if (has_files_) return Errno(EBUSY);
  }
  std::vector<vfs::FileRef> files(count);
  if (!argument.IsNull()) {
    for (unsigned i = 0; i < count; ++i) {
      int fd = TRY(task.CopyIn<int>(argument + uint64_t{i} * sizeof(int)));
      files[i] = TRY(FileToRegister(task, fd));
    }
  }
  MutexLock lock(mu_);
  if (has_files_) return Errno(EBUSY);
  has_files_ = true;
  files_ = std::move(files);
  alloc_start_ = 0;
  alloc_end_ = UINT32_MAX;
  return OkResult();
}

// --- Buffers

Result<void> Ring::CheckFixedBuffer(uint32_t index, uint64_t address, uint64_t length) const {
  MutexLock lock(mu_);
  if (index >= buffers_.size()) return Errno(EFAULT);
  const uint64_t start = reinterpret_cast<uint64_t>(buffers_[index].iov_base);
  uint64_t end;
  if (__builtin_add_overflow(address, length, &end)) return Errno(EFAULT);
  if (address < start || end > start + buffers_[index].iov_len) return Errno(EFAULT);
  return OkResult();
}

Result<void> Ring::RegisterBuffers(Task& task, UserAddr argument, unsigned count) {
  if (count == 0 || count > kMaxBuffers) return Errno(EINVAL);
  {
    MutexLock lock(mu_);
    if (has_buffers_) return Errno(EBUSY);
  }
  std::vector<iovec> buffers(count);
  for (unsigned i = 0; i < count; ++i) {
    iovec& buffer = buffers[i] = TRY(task.CopyIn<iovec>(argument + uint64_t{i} * sizeof(iovec)));
    if (!buffer.iov_base) {
      if (buffer.iov_len) return Errno(EFAULT);
      continue;
    }
    const uint64_t start = reinterpret_cast<uint64_t>(buffer.iov_base);
    if (buffer.iov_len == 0 || buffer.iov_len > kMaxBuffer || start + buffer.iov_len < start) return Errno(EFAULT);
    // It must be there, and writable, to the end: looked at piece by piece.
    for (uint64_t at = start, end = start + buffer.iov_len; at < end;) {
      auto pinned = TRY(task.mm().Pin(UserAddr(at), end - at, true));
      if (pinned.size() == 0) break;  // memory of a host file: not to be pinned, but there
      at += pinned.size();
    }
  }
  MutexLock lock(mu_);
  if (has_buffers_) return Errno(EBUSY);
  has_buffers_ = true;
  buffers_ = std::move(buffers);
  return OkResult();
}

Result<SelectedBuffer> Ring::SelectBuffer(Task& task, uint16_t group_id, uint32_t limit) {
  uint64_t ring;
  uint32_t entries;
  uint16_t head;
  {
    MutexLock lock(mu_);
    auto it = buffer_groups_.find(group_id);
    if (it == buffer_groups_.end()) return Errno(ENOBUFS);
    BufferGroup& group = it->second;
    if (!group.ring) {
      if (group.buffers.empty()) return Errno(ENOBUFS);
      SelectedBuffer buffer = group.buffers.front();
      group.buffers.pop_front();
      if (limit) buffer.length = std::min(buffer.length, limit);
      return buffer;
    }
    ring = group.ring;
    entries = group.entries;
    head = group.head++;
  }
  auto take = [&]() -> Result<SelectedBuffer> {
    uint16_t tail = TRY(task.CopyIn<uint16_t>(UserAddr(ring) + offsetof(io_uring_buf, resv)));
    if (tail == head) return Errno(ENOBUFS);
    auto entry = TRY(task.CopyIn<io_uring_buf>(UserAddr(ring) + uint64_t{head & (entries - 1)} * sizeof(io_uring_buf)));
    return SelectedBuffer{entry.addr, limit ? std::min(entry.len, limit) : entry.len, entry.bid};
  };
  auto taken = take();
  if (taken.ok()) return taken;
  MutexLock lock(mu_);
  auto it = buffer_groups_.find(group_id);
  if (it != buffer_groups_.end() && it->second.ring == ring) --it->second.head;
  return Errno(ENOBUFS);
}

void Ring::ReturnBuffer(uint16_t group_id, const SelectedBuffer& buffer) {
  MutexLock lock(mu_);
  auto it = buffer_groups_.find(group_id);
  if (it == buffer_groups_.end()) return;
  if (it->second.ring) {
    --it->second.head;
  } else {
    it->second.buffers.push_front(buffer);
  }
}

Result<void> Ring::ProvideBuffers(const io_uring_sqe& sqe) {
  const int64_t count = sqe.fd;
  if (count <= 0 || count > 65536) return Errno(E2BIG);
  if (sqe.len == 0) return Errno(EINVAL);
  uint64_t size, end;
  if (__builtin_mul_overflow(uint64_t{sqe.len}, static_cast<uint64_t>(count), &size) ||
      __builtin_add_overflow(sqe.addr, size, &end))
    return Errno(EOVERFLOW);
  if (end > platform::kGuestAddressLimit) return Errno(EFAULT);
  if (sqe.off > 65535) return Errno(E2BIG);
  if (sqe.off + count > 65536) return Errno(EINVAL);
  MutexLock lock(mu_);
  if (!buffer_groups_.contains(sqe.buf_group) && buffer_groups_.size() >= kMaxGroups) return Errno(ENOMEM);
  BufferGroup& group = buffer_groups_[sqe.buf_group];
  if (group.ring) return Errno(EINVAL);
  if (group.buffers.size() + count > kMaxProvided) return Errno(ENOMEM);
  for (int64_t i = 0; i < count; ++i)
    group.buffers.push_back({sqe.addr + i * sqe.len, sqe.len, static_cast<uint16_t>(sqe.off + i)});
  return OkResult();
}

Result<int64_t> Ring::RemoveBuffers(uint16_t group_id, uint32_t count) {
  MutexLock lock(mu_);
  auto it = buffer_groups_.find(group_id);
  if (it == buffer_groups_.end()) return Errno(ENOENT);
  if (it->second.ring) return Errno(EINVAL);
  auto& buffers = it->second.buffers;
  const size_t n = std::min<size_t>(count, buffers.size());
  buffers.erase(buffers.begin(), buffers.begin() + static_cast<ptrdiff_t>(n));
  return static_cast<int64_t>(n);
}

Result<void> Ring::RegisterBufferRing(Task& task, UserAddr argument, unsigned count) {
  if (count != 1) return Errno(EINVAL);
  auto reg = TRY(task.CopyIn<io_uring_buf_reg>(argument));
  if (reg.pad || reg.resv[0] || reg.resv[1] || reg.resv[2]) return Errno(EINVAL);
  if (!reg.ring_addr) return Errno(EFAULT);
  if (reg.ring_addr & (kPageSize - 1)) return Errno(EINVAL);
  if (!std::has_single_bit(reg.ring_entries) || reg.ring_entries >= 65536) return Errno(EINVAL);
  TRY(task.CopyIn<io_uring_buf>(UserAddr(reg.ring_addr)));
  MutexLock lock(mu_);
  auto it = buffer_groups_.find(reg.bgid);
  if (it != buffer_groups_.end() && (it->second.ring || !it->second.buffers.empty())) return Errno(EEXIST);
  buffer_groups_[reg.bgid] = {.buffers = {}, .ring = reg.ring_addr, .entries = reg.ring_entries, .head = 0};
  return OkResult();
}

Result<void> Ring::UnregisterBufferRing(Task& task, UserAddr argument, unsigned count) {
  if (count != 1) return Errno(EINVAL);
  auto reg = TRY(task.CopyIn<io_uring_buf_reg>(argument));
  if (reg.resv[0] || reg.resv[1] || reg.resv[2]) return Errno(EINVAL);
  MutexLock lock(mu_);
  auto it = buffer_groups_.find(reg.bgid);
  if (it == buffer_groups_.end()) return Errno(ENOENT);
  if (!it->second.ring) return Errno(EINVAL);
  buffer_groups_.erase(it);
  return OkResult();
}

// --- The rest

Result<void> Ring::RegisterEventfd(Task& task, UserAddr argument, unsigned count, bool async_only) {
  if (count != 1) return Errno(EINVAL);
  int fd = TRY(task.CopyIn<int>(argument));
  {
    MutexLock lock(mu_);
    if (eventfd_) return Errno(EBUSY);
  }
  vfs::FileRef file = TRY(task.fds().GetOpen(fd));
  if (!fs::IsEventFd(*file)) return Errno(EINVAL);
  MutexLock lock(mu_);
  if (eventfd_) return Errno(EBUSY);
  eventfd_ = std::move(file);
  eventfd_async_ = async_only;
  return OkResult();
}

Result<void> Ring::RegisterProbe(Task& task, UserAddr argument, unsigned count) {
  if (count > 256) return Errno(EINVAL);
  // struct io_uring_probe without its array, which is for as many operations as were asked for.
  using Header = std::array<uint8_t, 16>;
  static_assert(sizeof(Header) == sizeof(io_uring_probe));
  auto header = TRY(task.CopyIn<Header>(argument));
  if (std::any_of(header.begin(), header.end(), [](uint8_t b) { return b != 0; })) return Errno(EINVAL);
  count = std::min<unsigned>(count, IORING_OP_LAST);
  header[offsetof(io_uring_probe, last_op)] = IORING_OP_LAST - 1;
  header[offsetof(io_uring_probe, ops_len)] = static_cast<uint8_t>(count);
  TRY(task.CopyOut(argument, header));
  for (unsigned i = 0; i < count; ++i) {
    io_uring_probe_op op = {};
    op.op = static_cast<uint8_t>(i);
    op.flags = FindUringOp(i) ? IO_URING_OP_SUPPORTED : 0;
    TRY(task.CopyOut(argument + sizeof header + i * sizeof op, op));
  }
  return OkResult();
}

Result<void> Ring::RegisterRestrictions(Task& task, UserAddr argument, unsigned count) {
  if (!IsDisabled()) return Errno(EBADFD);
  if (argument.IsNull() || count > kMaxRestrictions) return Errno(EINVAL);
  Restrictions restrictions;
  for (unsigned i = 0; i < count; ++i) {
    auto r = TRY(task.CopyIn<io_uring_restriction>(argument + uint64_t{i} * sizeof(io_uring_restriction)));
    switch (r.opcode) {
      case IORING_RESTRICTION_REGISTER_OP:
        if (r.register_op >= IORING_REGISTER_LAST) return Errno(EINVAL);
        restrictions.register_ops[r.register_op] = true;
        break;
      case IORING_RESTRICTION_SQE_OP:
        if (r.sqe_op >= IORING_OP_LAST) return Errno(EINVAL);
        restrictions.sqe_ops[r.sqe_op] = true;
        break;
      case IORING_RESTRICTION_SQE_FLAGS_ALLOWED:
        restrictions.flags_allowed = r.sqe_flags;
        break;
      case IORING_RESTRICTION_SQE_FLAGS_REQUIRED:
        restrictions.flags_required = r.sqe_flags;
        break;
      default:
        return Errno(EINVAL);
    }
  }
  restrictions.set = true;
  MutexLock lock(mu_);
  if (restrictions_.set) return Errno(EBUSY);
  restrictions_ = restrictions;
  return OkResult();
}

Value Ring::RegisterPersonality(Task& task) {
  MutexLock lock(mu_);
  if (personalities_.size() >= 65535) return Errno(EBUSY);
  while (next_personality_ == 0 || personalities_.contains(next_personality_)) ++next_personality_;
  personalities_[next_personality_] = task.creds();
  return next_personality_++;
}

RefPtr<const Credentials> Ring::Personality(uint16_t id) const {
  MutexLock lock(mu_);
  auto it = personalities_.find(id);
  return it == personalities_.end() ? nullptr : it->second;
}

Value Ring::Register(Task& task, unsigned opcode, UserAddr argument, unsigned count) {
  if (opcode >= IORING_REGISTER_LAST) return Errno(EINVAL);
  TRY(CheckIssuer(task));
  {
    MutexLock lock(mu_);
    if (restrictions_.active && !restrictions_.register_ops[opcode]) return Errno(EACCES);
  }
  const auto none = [&](bool ok) { return ok && argument.IsNull() && count == 0; };
  const auto done = [](Result<void> result) { return result.ok() ? Value(0) : Value(result.error()); };
  switch (opcode) {
    case IORING_REGISTER_BUFFERS:
      if (argument.IsNull()) return Errno(EFAULT);
      return done(RegisterBuffers(task, argument, count));
    case IORING_UNREGISTER_BUFFERS: {
      if (!none(true)) return Errno(EINVAL);
      MutexLock lock(mu_);
      if (!std::exchange(has_buffers_, false)) return Errno(ENXIO);
      buffers_.clear();
      return 0;
    }
    case IORING_REGISTER_FILES:
      if (argument.IsNull()) return Errno(EFAULT);
      return done(RegisterFiles(task, argument, count));
    case IORING_REGISTER_FILES2: {
      // Only what liburing's register_files_sparse asks for: all empty, no tags.
      auto reg = TRY(task.CopyIn<io_uring_rsrc_register>(argument));
      if (count != sizeof reg || reg.resv2 || (reg.flags & ~IORING_RSRC_REGISTER_SPARSE) || reg.tags)
        return Errno(EINVAL);
      if ((reg.flags & IORING_RSRC_REGISTER_SPARSE) && reg.data) return Errno(EINVAL);
      return done(RegisterFiles(task, UserAddr(reg.data), reg.nr));
    }
    case IORING_UNREGISTER_FILES: {
      if (!none(true)) return Errno(EINVAL);
      std::vector<vfs::FileRef> dropped;
      MutexLock lock(mu_);
      if (!std::exchange(has_files_, false)) return Errno(ENXIO);
      dropped.swap(files_);
      return 0;
    }
    case IORING_REGISTER_FILES_UPDATE: {
      if (count == 0) return Errno(EINVAL);
      auto update = TRY(task.CopyIn<io_uring_files_update>(argument));
      if (update.resv) return Errno(EINVAL);
      return UpdateFiles(task, update.offset, UserAddr(update.fds), count);
    }
    case IORING_REGISTER_FILE_ALLOC_RANGE: {
      auto range = TRY(task.CopyIn<io_uring_file_index_range>(argument));
      if (count || range.resv) return Errno(EINVAL);
      uint32_t end;
      if (__builtin_add_overflow(range.off, range.len, &end)) return Errno(EOVERFLOW);
      MutexLock lock(mu_);
      if (end > files_.size()) return Errno(EINVAL);
      alloc_start_ = range.off;
      alloc_end_ = end;
      return 0;
    }
    case IORING_REGISTER_EVENTFD:
    case IORING_REGISTER_EVENTFD_ASYNC:
      return done(RegisterEventfd(task, argument, count, opcode == IORING_REGISTER_EVENTFD_ASYNC));
    case IORING_UNREGISTER_EVENTFD: {
      if (!none(true)) return Errno(EINVAL);
      vfs::FileRef dropped;
      MutexLock lock(mu_);
      if (!eventfd_) return Errno(ENXIO);
      dropped = std::move(eventfd_);
      return 0;
    }
    case IORING_REGISTER_PROBE:
      if (argument.IsNull()) return Errno(EINVAL);
      return done(RegisterProbe(task, argument, count));
    case IORING_REGISTER_PERSONALITY:
      return none(true) ? RegisterPersonality(task) : Value(Errno(EINVAL));
    case IORING_UNREGISTER_PERSONALITY: {
      if (!argument.IsNull()) return Errno(EINVAL);
      MutexLock lock(mu_);
      return personalities_.erase(static_cast<uint16_t>(count)) && count < 65536 ? Value(0) : Value(Errno(EINVAL));
    }
    case IORING_REGISTER_RESTRICTIONS:
      return done(RegisterRestrictions(task, argument, count));
    case IORING_REGISTER_ENABLE_RINGS: {
      if (!none(true)) return Errno(EINVAL);
      if (!IsDisabled()) return Errno(EBADFD);
      MutexLock lock(mu_);
      restrictions_.active = restrictions_.set;
      disabled_.store(false, std::memory_order_release);
      return 0;
    }
    case IORING_REGISTER_IOWQ_AFF:
    case IORING_UNREGISTER_IOWQ_AFF:
      // Threads of the sentry run where their process may.
      return (opcode == IORING_REGISTER_IOWQ_AFF ? argument.IsNull() || count == 0 : !none(true)) ? Value(Errno(EINVAL))
                                                                                                  : Value(0);
    case IORING_REGISTER_IOWQ_MAX_WORKERS: {
      if (argument.IsNull() || count != 2) return Errno(EINVAL);
      using Counts = std::array<uint32_t, 2>;
      TRY(task.CopyIn<Counts>(argument));
      const Counts counts = {kernel::AsyncWork::kMaxBlocking, kernel::AsyncWork::kMaxBlocking};
      TRY(task.CopyOut(argument, counts));
      return 0;
    }
    case IORING_REGISTER_PBUF_RING:
      return done(RegisterBufferRing(task, argument, count));
    case IORING_UNREGISTER_PBUF_RING:
      return done(UnregisterBufferRing(task, argument, count));
  }
  return Errno(EINVAL);
}

}  // namespace sentry::syscalls
