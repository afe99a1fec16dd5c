// SPDX-License-Identifier: Apache-2.0
// The run-time check of lock ranks, and condition variables on CLOCK_MONOTONIC.
#include "base/mutex.h"

#include <cstdio>
#include <cstdlib>

namespace base {
namespace {

thread_local int held_count = 0;

#ifndef NDEBUG
constexpr int kMaxHeld = 24;
struct Held {
  const Mutex* mutex;
  LockRank rank;
};
thread_local Held held[kMaxHeld];

void Push(const Mutex* mutex, LockRank rank, bool nested) {
  for (int i = 0; i < held_count; ++i) {
    bool bad = nested ? held[i].rank > rank : held[i].rank >= rank;
    if (bad) {
      fprintf(stderr, "base/mutex: lock of rank %d taken while one of rank %d is held (see LockRank); called from",
              static_cast<int>(rank), static_cast<int>(held[i].rank));
      // Frame pointers are kept in debug builds: addr2line -Cfe BINARY says who it was.
      auto* frame = static_cast<void**>(__builtin_frame_address(0));
      for (int depth = 0; depth < 8 && frame && frame[0] > static_cast<void*>(frame); ++depth) {
        fprintf(stderr, " %p", frame[1]);
        frame = static_cast<void**>(frame[0]);
      }
      fprintf(stderr, "\n");
      abort();
    }
  }
  if (held_count < kMaxHeld) held[held_count] = {mutex, rank};
  ++held_count;
}

void Pop(const Mutex* mutex) {
  for (int i = held_count - 1; i >= 0; --i) {
    if (i < kMaxHeld && held[i].mutex == mutex) {
      for (int j = i; j + 1 < held_count && j + 1 < kMaxHeld; ++j) held[j] = held[j + 1];
      break;
    }
  }
  --held_count;
}
#else
inline void Push(const Mutex*, LockRank, bool) { ++held_count; }
inline void Pop(const Mutex*) { --held_count; }
#endif

}  // namespace

int HeldMutexes() { return held_count; }

void Mutex::Lock() {
  Push(this, rank_, false);
  pthread_mutex_lock(&mutex_);
}

void Mutex::LockNested() {
  Push(this, rank_, true);
  pthread_mutex_lock(&mutex_);
}

bool Mutex::TryLock() {
  if (pthread_mutex_trylock(&mutex_) != 0) return false;
  Push(this, rank_, true);
  return true;
}

void Mutex::Unlock() {
  Pop(this);
  pthread_mutex_unlock(&mutex_);
}

LockPair::LockPair(Mutex& a, Mutex& b) ABSL_NO_THREAD_SAFETY_ANALYSIS : first_(&a), second_(&b) {
  if (first_ == second_) second_ = nullptr;
  if (second_ && second_ < first_) {
    first_ = &b;
    second_ = &a;
  }
  first_->Lock();
  if (second_) second_->LockNested();
}

LockPair::~LockPair() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  if (second_) second_->Unlock();
  first_->Unlock();
}

CondVar::CondVar() {
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&cond_, &attr);
  pthread_condattr_destroy(&attr);
}

void CondVar::Wait(Mutex& mutex) { pthread_cond_wait(&cond_, &mutex.mutex_); }

bool CondVar::WaitUntil(Mutex& mutex, int64_t deadline_ns) {
  timespec ts{.tv_sec = deadline_ns / 1'000'000'000, .tv_nsec = deadline_ns % 1'000'000'000};
  return pthread_cond_timedwait(&cond_, &mutex.mutex_, &ts) == 0;
}

}  // namespace base
