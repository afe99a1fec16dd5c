// SPDX-License-Identifier: Apache-2.0
// Zygote: the process that all stub processes are forked from. It is made once from the sentry, keeps nothing of it but
// the shared table of host fds, and runs only the stub's pages under a filter. Thread-safe after Start.
#ifndef PLATFORM_STUB_ZYGOTE_H_
#define PLATFORM_STUB_ZYGOTE_H_

#include <linux/filter.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "platform/stub/stub_page.h"

namespace platform::stub {

// What a platform runs in its stubs.
struct StubProgram {
  const char* platform;           // for messages
  std::span<const uint8_t> code;  // position independent, at most a page
  uint64_t zygote;  // offset of the zygote's code. On entry: %r12 = the pages, %r13 = a writable page that
                    // forks don't inherit, %r14 = socket, %r15 = own pid, %rbx = end of the address space
  // Fills a read-only page behind the code, at address `data`, given the code's address; null: there is none.
  std::function<void(std::span<uint8_t> data, uint64_t page)> fill_data;
  std::function<std::vector<sock_filter>(uint64_t page, int socket)> filter;
  // Handled at `handler` (an offset) on the alternate stack, SA_NODEFER, nothing masked. Then everything else is
  // ignored, and the zygote blocks all signals. Empty: all signals have their default actions.
  std::span<const int> signals;
  uint64_t handler = 0;
};

class Zygote {
 public:
  // Call before the process is confined, after its uids, gids and namespaces are final (a stub must pass ptrace(2)'s
  // access check against the sentry), and from a thread that lives as long as the sentry: the kernel kills the zygote
  // when this thread ends (PR_SET_PDEATHSIG).
  static absl::StatusOr<std::unique_ptr<Zygote>> Start() { return Start(PtraceStubProgram()); }
  static absl::StatusOr<std::unique_ptr<Zygote>> Start(const StubProgram& program);
  static StubProgram PtraceStubProgram();
  // Kills and reaps the zygote; the kernel then kills every stub process left.
  ~Zygote();

  const StubLayout& layout() const { return layout_; }
  pid_t pid() const { return pid_; }
  // A new stub process, untraced. `request` is what the zygote's code reads for each. EAGAIN or ENOMEM from the host;
  // ESRCH if the zygote is lost.
  base::Result<pid_t> Fork(std::span<const uint8_t> request) ABSL_LOCKS_EXCLUDED(mu_);
  // Sends `message` and waits for an answer of the same length, which replaces it: for platforms whose zygote's code
  // knows more than forking. ESRCH if the zygote is lost.
  base::Result<void> Exchange(std::span<uint8_t> message) ABSL_LOCKS_EXCLUDED(mu_);
  // On the ptrace platform: it waits in the pause loop.
  base::Result<pid_t> Fork() {
    const uint8_t request[] = {1};
    return Fork(request);
  }

 private:
  Zygote() = default;
  base::Result<void> Exchange(std::span<const uint8_t> request, std::span<uint8_t> answer) ABSL_LOCKS_EXCLUDED(mu_);

  StubLayout layout_;
  const char* platform_ = "";
  pid_t pid_ = -1;
  base::UniqueFd pidfd_;
  base::UniqueFd socket_;                  // the sentry's end
  base::UniqueFd peer_socket_;             // the zygote's end: one fd table, so it must stay open here
  base::Mutex mu_{base::LockRank::kLeaf};  // one request at a time
};

}  // namespace platform::stub

#endif  // PLATFORM_STUB_ZYGOTE_H_
