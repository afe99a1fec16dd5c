// SPDX-License-Identifier: Apache-2.0
// capget(2), capset(2).
#include <linux/capability.h>

#include "sentry/syscalls/cred_util.h"
#include "sentry/syscalls/handlers.h"

namespace sentry::syscalls {
namespace {

struct Header {
  uint32_t version;
  int32_t pid;
};
struct Data {
  uint32_t effective, permitted, inheritable;
};

// The version first: an unknown one is told before the rest is read.
Result<Header> CopyInHeader(Task& task, UserAddr address) {
  Header header = {};
  header.version = TRY(task.CopyIn<uint32_t>(address));
  if (header.version == _LINUX_CAPABILITY_VERSION_1 || header.version == _LINUX_CAPABILITY_VERSION_2 ||
      header.version == _LINUX_CAPABILITY_VERSION_3)
    header = TRY(task.CopyIn<Header>(address));
  return header;
}

// Data records of a version; 0 and the preferred version in the guest's header when it is unknown.
Result<int> RecordsOf(Task& task, UserAddr address, const Header& header) {
  switch (header.version) {
    case _LINUX_CAPABILITY_VERSION_1:
      return 1;
    case _LINUX_CAPABILITY_VERSION_2:
    case _LINUX_CAPABILITY_VERSION_3:
      return 2;
    default:
      TRY(task.CopyOut(address, uint32_t{_LINUX_CAPABILITY_VERSION_3}));
      return 0;
  }
}

}  // namespace

SYSCALL_HANDLER(SysCapget) {
  Header header = TRY(CopyInHeader(task, args.Addr(0)));
  int records = TRY(RecordsOf(task, args.Addr(0), header));
  bool probe = args.Addr(1).IsNull();
  if (records == 0) return probe ? Value(0) : Value(Errno(EINVAL));
  if (probe) return 0;
  if (header.pid < 0) return Errno(EINVAL);
  RefPtr<Task> target = TRY(FindTask(task, header.pid));
  RefPtr<const Credentials> creds = target->creds_ref();
  if (!creds) return Errno(ESRCH);
  Data data[2];
  for (int i = 0; i < 2; ++i) {
    int shift = 32 * i;
    data[i] = {.effective = static_cast<uint32_t>(creds->effective >> shift),
               .permitted = static_cast<uint32_t>(creds->permitted >> shift),
               .inheritable = static_cast<uint32_t>(creds->inheritable >> shift)};
  }
  TRY(task.CopyOutBytes(args.Addr(1), data, records * sizeof(Data)));
  return 0;
}

SYSCALL_HANDLER(SysCapset) {
  Header header = TRY(CopyInHeader(task, args.Addr(0)));
  int records = TRY(RecordsOf(task, args.Addr(0), header));
  if (records == 0) return Errno(EINVAL);
  if (header.pid != 0 && header.pid != task.CallerTid()) return Errno(EPERM);
  Data data[2] = {};
  TRY(task.CopyInBytes(args.Addr(1), data, records * sizeof(Data)));
  auto whole = [&](uint32_t Data::*member) {
    return (uint64_t{data[1].*member} << 32 | data[0].*member) & kAllCapabilities;
  };
  CapabilitySet effective = whole(&Data::effective);
  CapabilitySet permitted = whole(&Data::permitted);
  CapabilitySet inheritable = whole(&Data::inheritable);

  const Credentials& old = *task.creds();
  if (!old.HasOwnCapability(CAP_SETPCAP) && (inheritable & ~(old.inheritable | old.permitted))) return Errno(EPERM);
  if (inheritable & ~(old.inheritable | old.bounding)) return Errno(EPERM);
  if (permitted & ~old.permitted) return Errno(EPERM);
  if (effective & ~permitted) return Errno(EPERM);
  RefPtr<Credentials> now = old.Clone();
  now->effective = effective;
  now->permitted = permitted;
  now->inheritable = inheritable;
  now->ambient &= permitted & inheritable;
  InstallCredentials(task, std::move(now));
  return 0;
}

}  // namespace sentry::syscalls
