// SPDX-License-Identifier: Apache-2.0
// SharedFile: the memory that the sentry shares with its stubs, one sparse memfd in units of kAreaSize: a control page
// per stub process, an area per guest thread. A stub maps its own units only. Thread-safe.
#ifndef PLATFORM_SYSTRAP_SHARED_FILE_H_
#define PLATFORM_SYSTRAP_SHARED_FILE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "platform/systrap/stub_memory.h"

namespace platform::systrap {

class SharedFile {
 public:
  static absl::StatusOr<std::unique_ptr<SharedFile>> Create();
  ~SharedFile();

  int fd() const { return fd_.get(); }
  // The offset of a zeroed unit. ENOMEM.
  base::Result<uint64_t> Allocate() ABSL_LOCKS_EXCLUDED(mu_);
  // No process may write to the unit any more.
  void Free(uint64_t offset) ABSL_LOCKS_EXCLUDED(mu_);
  uint8_t* Pointer(uint64_t offset) const { return base_ + offset; }

 private:
  SharedFile() = default;

  base::UniqueFd fd_;
  uint8_t* base_ = nullptr;
  base::Mutex mu_{base::LockRank::kLeaf};
  std::vector<uint64_t> free_ ABSL_GUARDED_BY(mu_);
  uint64_t next_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace platform::systrap

#endif  // PLATFORM_SYSTRAP_SHARED_FILE_H_
