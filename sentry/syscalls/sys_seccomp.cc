// SPDX-License-Identifier: Apache-2.0
// seccomp(2), and prctl(2)'s older way to it.
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "sentry/kernel/seccomp.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/prctl_util.h"

namespace sentry::syscalls {
namespace {

constexpr uint64_t kKnownFlags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
                                 SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
                                 SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;

// struct sock_fprog, laid out.
struct Program {
  uint16_t length;
  uint64_t filter;
};

Value SetStrict(Task& task) {
  TRY(kernel::SetSeccompStrict(task));
  return 0;
}

Value ActionAvailable(Task& task, UserAddr address) {
  switch (TRY(task.CopyIn<uint32_t>(address))) {
    case SECCOMP_RET_KILL_PROCESS:
    case SECCOMP_RET_KILL_THREAD:
    case SECCOMP_RET_TRAP:
    case SECCOMP_RET_ERRNO:
    case SECCOMP_RET_USER_NOTIF:
    case SECCOMP_RET_TRACE:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ALLOW:
      return 0;
    default:
      return Errno(EOPNOTSUPP);
  }
}

Value SetSeccompFilter(Task& task, uint64_t flags, UserAddr address) {
  const bool sync = flags & SECCOMP_FILTER_FLAG_TSYNC, listener = flags & SECCOMP_FILTER_FLAG_NEW_LISTENER;
  if (flags & ~kKnownFlags) return Errno(EINVAL);
  // Both answer by the call's value.
  if (sync && listener && !(flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH)) return Errno(EINVAL);
  if ((flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) && !listener) return Errno(EINVAL);
  const auto given = TRY(task.CopyIn<Program>(address));
  if (given.length == 0 || given.length > BPF_MAXINSNS) return Errno(EINVAL);
  TRY(kernel::CheckMayAddSeccompFilter(task));
  std::vector<bpf::Instruction> program(given.length);
  TRY(task.CopyInBytes(UserAddr(given.filter), program.data(), program.size() * sizeof(bpf::Instruction)));
  return kernel::AddSeccompFilter(task, flags, std::move(program));
}

}  // namespace

Value PrctlSetSeccomp(Task& task, uint64_t mode, UserAddr filter) {
  switch (mode) {
    case SECCOMP_MODE_STRICT:
      return SetStrict(task);
    case SECCOMP_MODE_FILTER:
      return SetSeccompFilter(task, 0, filter);
    default:
      return Errno(EINVAL);
  }
}

SYSCALL_HANDLER(SysSeccomp) {
  const uint32_t flags = args.Uint(1);
  const UserAddr address = args.Addr(2);
  switch (args.Uint(0)) {
    case SECCOMP_SET_MODE_STRICT:
      if (flags != 0 || !address.IsNull()) return Errno(EINVAL);
      return SetStrict(task);
    case SECCOMP_SET_MODE_FILTER:
      return SetSeccompFilter(task, flags, address);
    case SECCOMP_GET_ACTION_AVAIL:
      if (flags != 0) return Errno(EINVAL);
      return ActionAvailable(task, address);
    case SECCOMP_GET_NOTIF_SIZES: {
      if (flags != 0) return Errno(EINVAL);
      const seccomp_notif_sizes sizes = {sizeof(seccomp_notif), sizeof(seccomp_notif_resp), sizeof(seccomp_data)};
      TRY(task.CopyOut(address, sizes));
      return 0;
    }
    default:
      return Errno(EINVAL);
  }
}

}  // namespace sentry::syscalls
