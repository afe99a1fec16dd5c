// SPDX-License-Identifier: Apache-2.0
// Names from base/ that every part of the sentry uses unqualified.
#ifndef SENTRY_COMMON_H_
#define SENTRY_COMMON_H_

#include "base/clock.h"
#include "base/mutex.h"
#include "base/ref_ptr.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace sentry {

using base::Errno;
using base::kNoDeadline;
using base::LockRank;
using base::MakeRef;
using base::Mutex;
using base::MutexLock;
using base::OkResult;
using base::RefCounted;
using base::RefPtr;
using base::Result;
using base::UniqueFd;

inline constexpr uint64_t kPageSize = 4096;
constexpr uint64_t PageDown(uint64_t n) { return n & ~(kPageSize - 1); }
constexpr uint64_t PageUp(uint64_t n) { return (n + kPageSize - 1) & ~(kPageSize - 1); }

}  // namespace sentry

#endif  // SENTRY_COMMON_H_
