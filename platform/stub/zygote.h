// SPDX-License-Identifier: Apache-2.0
// Zygote: the process that all stub processes are forked from. It is made once from the sentry, keeps nothing of it but
// the shared table of host fds, and runs only the stub page under the stub filter. Thread-safe after Start.
#ifndef PLATFORM_STUB_ZYGOTE_H_
#define PLATFORM_STUB_ZYGOTE_H_

#include <sys/types.h>

#include <memory>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "platform/stub/stub_page.h"

namespace platform::stub {

class Zygote {
 public:
  // Call before the process is confined, after its uids, gids and namespaces are final (a stub must pass ptrace(2)'s
  // access check against the sentry), and from a thread that lives as long as the sentry: the kernel kills the zygote
  // when this thread ends (PR_SET_PDEATHSIG).
  static absl::StatusOr<std::unique_ptr<Zygote>> Start();
  // Kills and reaps the zygote; the kernel then kills every stub process left.
  ~Zygote();

  const StubLayout& layout() const { return layout_; }
  pid_t pid() const { return pid_; }
  // A new stub process, waiting in the pause loop, untraced. EAGAIN or ENOMEM from the host; ESRCH if the zygote is
  // lost.
  base::Result<pid_t> Fork() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  Zygote() = default;

  StubLayout layout_;
  pid_t pid_ = -1;
  base::UniqueFd pidfd_;
  base::UniqueFd socket_;                  // the sentry's end
  base::UniqueFd peer_socket_;             // the zygote's end: one fd table, so it must stay open here
  base::Mutex mu_{base::LockRank::kLeaf};  // one request at a time
};

}  // namespace platform::stub

#endif  // PLATFORM_STUB_ZYGOTE_H_
