// SPDX-License-Identifier: Apache-2.0
// A small user of io_uring by its raw calls: what liburing does, with every step in sight of the tests.
#ifndef TESTS_SYSCALLS_URING_UTIL_H_
#define TESTS_SYSCALLS_URING_UTIL_H_

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <atomic>
#include <map>
#include <optional>
#include <vector>

#include "tests/syscalls/util.h"

inline long UringSetup(unsigned entries, io_uring_params* p) { return syscall(SYS_io_uring_setup, entries, p); }
inline long UringEnter(int fd, unsigned submit, unsigned wait, unsigned flags, const void* arg = nullptr,
                       size_t size = 8) {
  return syscall(SYS_io_uring_enter, fd, submit, wait, flags, arg, size);
}
inline long UringRegister(int fd, unsigned op, const void* arg, unsigned n) {
  return syscall(SYS_io_uring_register, fd, op, arg, n);
}

// Whether this kernel lets the caller make a ring (kernel.io_uring_disabled, seccomp).
inline bool UringAvailable() {
  io_uring_params p = {};
  long fd = UringSetup(1, &p);
  if (fd >= 0) close(static_cast<int>(fd));
  return fd >= 0;
}
#define REQUIRE_URING() \
  if (!UringAvailable()) GTEST_SKIP() << "this kernel refuses io_uring_setup(2) here"

struct Cqe {
  uint64_t data;
  int res;
  uint32_t flags;
};

class TestRing {
 public:
  explicit TestRing(unsigned entries = 8, unsigned flags = 0, unsigned cq_entries = 0) {
    params.flags = flags | (cq_entries ? IORING_SETUP_CQSIZE : 0);
    params.cq_entries = cq_entries;
    fd.reset(static_cast<int>(UringSetup(entries, &params)));
    EXPECT_TRUE(fd.ok()) << strerror(errno);
    if (!fd.ok()) return;
    size_ = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    ring_ = static_cast<char*>(
        mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), IORING_OFF_SQ_RING));
    EXPECT_NE(ring_, MAP_FAILED);
    sqes_size_ = params.sq_entries * sizeof(io_uring_sqe);
    sqes = static_cast<io_uring_sqe*>(
        mmap(nullptr, sqes_size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), IORING_OFF_SQES));
    EXPECT_NE(static_cast<void*>(sqes), MAP_FAILED);
  }
  ~TestRing() {
    if (!ring_) return;
    munmap(ring_, size_);
    munmap(sqes, sqes_size_);
  }
  std::atomic<unsigned>& Word(unsigned offset) { return *reinterpret_cast<std::atomic<unsigned>*>(ring_ + offset); }
  std::atomic<unsigned>& SqHead() { return Word(params.sq_off.head); }
  std::atomic<unsigned>& SqTail() { return Word(params.sq_off.tail); }
  std::atomic<unsigned>& SqFlags() { return Word(params.sq_off.flags); }
  std::atomic<unsigned>& CqHead() { return Word(params.cq_off.head); }
  std::atomic<unsigned>& CqTail() { return Word(params.cq_off.tail); }
  unsigned* Array() { return reinterpret_cast<unsigned*>(ring_ + params.sq_off.array); }

  // The next entry, zeroed and queued; it is filled in before Submit.
  io_uring_sqe& Add(int op, int file = -1, const void* addr = nullptr, unsigned len = 0, uint64_t off = 0) {
    unsigned tail = SqTail().load(), index = tail & (params.sq_entries - 1);
    io_uring_sqe& sqe = sqes[index];
    memset(&sqe, 0, sizeof sqe);
    sqe.opcode = static_cast<uint8_t>(op);
    sqe.fd = file;
    sqe.addr = reinterpret_cast<uint64_t>(addr);
    sqe.len = len;
    sqe.off = off;
    sqe.user_data = next_data++;
    Array()[index] = index;
    SqTail().store(tail + 1);
    ++pending;
    return sqe;
  }
  long Submit(unsigned wait = 0) {
    return UringEnter(fd.get(), std::exchange(pending, 0), wait, wait ? IORING_ENTER_GETEVENTS : 0);
  }
  std::optional<Cqe> Peek() {
    unsigned head = CqHead().load();
    if (head == CqTail().load()) return std::nullopt;
    auto* cqes = reinterpret_cast<io_uring_cqe*>(ring_ + params.cq_off.cqes);
    const io_uring_cqe& c = cqes[head & (params.cq_entries - 1)];
    Cqe cqe = {c.user_data, c.res, c.flags};
    CqHead().store(head + 1);
    return cqe;
  }
  // The next completion; waits.
  Cqe Next() {
    for (;;) {
      if (auto cqe = Peek()) return *cqe;
      if (UringEnter(fd.get(), 0, 1, IORING_ENTER_GETEVENTS) < 0 && errno != EINTR) {
        ADD_FAILURE() << strerror(errno);
        return {0, -10000, 0};
      }
    }
  }
  // Submits what is queued, and gives the result of its one request.
  int Run() {
    if (Submit(1) < 0) return -20000 - errno;
    return Next().res;
  }
  // Submits, then n completions by user data.
  std::map<uint64_t, int> RunAll(int n) {
    EXPECT_GE(Submit(), 0) << strerror(errno);
    std::map<uint64_t, int> results;
    for (int i = 0; i < n; ++i) {
      Cqe cqe = Next();
      results[cqe.data] = cqe.res;
    }
    return results;
  }

  io_uring_params params = {};
  Fd fd;
  io_uring_sqe* sqes = nullptr;
  unsigned pending = 0;
  uint64_t next_data = 1;

 private:
  char* ring_ = nullptr;
  size_t size_ = 0, sqes_size_ = 0;
};

#endif  // TESTS_SYSCALLS_URING_UTIL_H_
