// SPDX-License-Identifier: Apache-2.0
#include "sentry/fs/pipe/pipe.h"

#include <string.h>

#include <algorithm>
#include <bit>

#include "sentry/kernel/core/tunables.h"

namespace sentry::fs {

void Pipe::ConsumeLocked(size_t length) {
  used_ -= length;
  consumed_ += length;
  head_ = used_ ? (head_ + length) % capacity_ : 0;
}

Result<size_t> Pipe::ReadLocked(IoTarget& target) {
  if (target.remaining() == 0) return size_t{0};
  if (used_ == 0) {
    if (writers_ == 0) return size_t{0};
    return Errno(EAGAIN);
  }
  size_t done = 0, head = head_;
  size_t want = std::min(used_, target.remaining());
  if (!packets_.empty()) want = std::min<uint64_t>(want, packets_.front().end - consumed_);
  while (done < want) {
    size_t run = std::min(want - done, capacity_ - head);
    auto n = target.Put(ring_.get() + head, run);
    if (!n.ok()) {
      if (done) break;
      return n;
    }
    done += *n;
    head = (head + *n) % capacity_;
    if (*n < run) break;
  }
  ConsumeLocked(done);
  if (!packets_.empty() && consumed_ > packets_.front().start) {
    ConsumeLocked(packets_.front().end - consumed_);
    packets_.pop_front();
  }
  return done;
}

Result<size_t> Pipe::Read(IoTarget& target) {
  size_t done;
  {
    MutexLock lock(mu_);
    done = TRY(ReadLocked(target));
  }
  if (done) queue_.NotifyOne(kEventOut);
  return done;
}

Result<size_t> Pipe::FillLocked(IoSource& source, size_t length) {
  if (!ring_) ring_ = std::make_unique<uint8_t[]>(capacity_);
  size_t done = 0;
  while (done < length) {
    size_t tail = (head_ + used_) % capacity_;
    size_t run = std::min(length - done, capacity_ - tail);
    auto n = source.Take(ring_.get() + tail, run);
    if (!n.ok()) {
      if (done) break;
      return n;
    }
    done += *n;
    used_ += *n;
    if (*n < run) break;
  }
  return done;
}

Result<size_t> Pipe::Write(IoSource& source, bool packets) {
  size_t done = 0;
  {
    MutexLock lock(mu_);
    if (readers_ == 0) return Errno(EPIPE);
    size_t want = source.remaining();
    if (want == 0) return size_t{0};
    if (RoomLocked() == 0 || (want <= kAtomic && want > RoomLocked())) return Errno(EAGAIN);
    if (!packets) {
      done = TRY(FillLocked(source, std::min(want, RoomLocked())));
    } else {
      while (done < want) {
        const size_t piece = std::min(want - done, kAtomic);
        if (piece > RoomLocked()) break;
        const uint64_t start = consumed_ + used_;
        auto n = FillLocked(source, piece);
        if (!n.ok()) {
          if (done) break;
          return n;
        }
        if (*n) packets_.push_back({start, start + *n});
        done += *n;
        if (*n < piece) break;
      }
      if (done == 0) return Errno(EAGAIN);
    }
  }
  if (done) queue_.NotifyOne(kEventIn);
  return done;
}

Result<size_t> Pipe::Tee(Pipe& from, Pipe& to, size_t length) {
  size_t done = 0;
  {
    base::LockPair lock(from.mu_, to.mu_);
    if (to.readers_ == 0) return Errno(EPIPE);
    if (from.used_ == 0) {
      if (from.writers_ == 0) return size_t{0};
      return Errno(EAGAIN);
    }
    length = std::min({length, from.used_, to.RoomLocked()});
    if (length == 0) return Errno(ENOBUFS);
    const uint64_t start = to.consumed_ + to.used_;
    while (done < length) {
      const size_t at = (from.head_ + done) % from.capacity_;
      BufferSource source(from.ring_.get() + at, std::min(length - done, from.capacity_ - at));
      done += TRY(to.FillLocked(source, source.remaining()));
    }
    for (const Packet& packet : from.packets_) {
      if (packet.start >= from.consumed_ + done) break;
      to.packets_.push_back(
          {start + (packet.start - from.consumed_), start + std::min<uint64_t>(packet.end - from.consumed_, done)});
    }
  }
  to.queue_.NotifyOne(kEventIn);
  return done;
}

size_t Pipe::Available() const {
  MutexLock lock(mu_);
  return used_;
}

size_t Pipe::capacity() const {
  MutexLock lock(mu_);
  return capacity_;
}

Result<size_t> Pipe::SetCapacity(size_t wanted) {
  if (wanted > (size_t{1} << 31)) return Errno(EINVAL);
  size_t rounded = std::bit_ceil(std::max(wanted, kAtomic));
  if (rounded > static_cast<size_t>(tunables::pipe_max_size.Get())) return Errno(EPERM);
  {
    MutexLock lock(mu_);
    if (rounded < used_ || rounded / kAtomic < packets_.size()) return Errno(EBUSY);
    if (ring_) {
      auto ring = std::make_unique<uint8_t[]>(rounded);
      size_t first = std::min(used_, capacity_ - head_);
      memcpy(ring.get(), ring_.get() + head_, first);
      memcpy(ring.get() + first, ring_.get(), used_ - first);
      ring_ = std::move(ring);
    }
    head_ = 0;
    capacity_ = rounded;
  }
  queue_.Notify(kEventOut);
  return rounded;
}

EventMask Pipe::Poll(bool readable, bool writable) const {
  MutexLock lock(mu_);
  EventMask mask = 0;
  if (readable) {
    if (used_) mask |= kEventIn;
    if (writers_ == 0 && writer_opens_) mask |= EPOLLHUP;
  }
  if (writable) {
    if (RoomLocked() >= kAtomic) mask |= kEventOut;
    if (readers_ == 0) mask |= EPOLLERR;
  }
  return mask;
}

void Pipe::AddEnd(bool readable, bool writable) {
  {
    MutexLock lock(mu_);
    readers_ += readable;
    writers_ += writable;
    reader_opens_ += readable;
    writer_opens_ += writable;
  }
  queue_.Notify(kAllEvents);
}

void Pipe::RemoveEnd(bool readable, bool writable) {
  {
    MutexLock lock(mu_);
    readers_ -= readable;
    writers_ -= writable;
    if (readers_ == 0 && writers_ == 0) {
      // The data of a FIFO does not survive its last user.
      ring_.reset();
      head_ = used_ = 0;
      packets_.clear();
    }
  }
  queue_.Notify(kAllEvents);
}

Result<void> Pipe::WaitForPeer(Caller& caller, bool for_writer) {
  BlockerEntry entry(caller.blocker());
  queue_.Add(entry, kAllEvents);
  uint64_t before;
  {
    MutexLock lock(mu_);
    if (for_writer ? writers_ : readers_) return OkResult();
    before = for_writer ? writer_opens_ : reader_opens_;
  }
  for (;;) {
    {
      MutexLock lock(mu_);
      if ((for_writer ? writer_opens_ : reader_opens_) != before) return OkResult();
    }
    TRY(caller.Block());
  }
}

bool Pipe::HasReaders() const {
  MutexLock lock(mu_);
  return readers_ > 0;
}

}  // namespace sentry::fs
