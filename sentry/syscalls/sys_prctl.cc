// SPDX-License-Identifier: Apache-2.0
// prctl(2), arch_prctl(2), personality(2).
#include <asm/prctl.h>
#include <linux/prctl.h>
#include <linux/securebits.h>
#include <sys/personality.h>

#include <algorithm>
#include <cstring>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/syscalls/cred_util.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/prctl_util.h"

namespace sentry::syscalls {
namespace {

constexpr int kDumpableUser = 1;
constexpr int kSecurebitsAll = SECURE_ALL_BITS | SECURE_ALL_LOCKS;

Value SetName(Task& task, UserAddr address) {
  // At most 16 bytes are looked at, whether terminated or not.
  char name[16] = {};
  for (int i = 0; i < 15; ++i) {
    TRY(task.CopyInBytes(address + i, &name[i], 1));
    if (!name[i]) break;
  }
  task.set_name(std::string_view(name, strnlen(name, 15)));
  return 0;
}

Value GetName(Task& task, UserAddr address) {
  char name[16] = {};
  std::string value = task.name();
  memcpy(name, value.data(), std::min<size_t>(value.size(), 15));
  TRY(task.CopyOut(address, name));
  return 0;
}

uint32_t Securebits(const Credentials& creds) { return creds.securebits | (creds.keep_caps ? SECBIT_KEEP_CAPS : 0); }

Value SetSecurebits(Task& task, uint64_t bits) {
  const Credentials& old = *task.creds();
  uint32_t before = Securebits(old);
  if (bits & ~uint64_t{kSecurebitsAll}) return Errno(EPERM);
  uint32_t locked = (before & SECURE_ALL_LOCKS) >> 1;
  bool clears_lock = (before & SECURE_ALL_LOCKS & ~bits) != 0;
  if ((locked & (before ^ bits)) || clears_lock || !old.HasOwnCapability(CAP_SETPCAP)) return Errno(EPERM);
  RefPtr<Credentials> now = old.Clone();
  now->securebits = static_cast<uint32_t>(bits) & ~SECBIT_KEEP_CAPS;
  now->keep_caps = bits & SECBIT_KEEP_CAPS;
  task.set_creds(std::move(now));
  return 0;
}

Value SetKeepCaps(Task& task, uint64_t value) {
  if (value > 1) return Errno(EINVAL);
  const Credentials& old = *task.creds();
  if (old.securebits & SECBIT_KEEP_CAPS_LOCKED) return Errno(EPERM);
  RefPtr<Credentials> now = old.Clone();
  now->keep_caps = value;
  task.set_creds(std::move(now));
  return 0;
}

Value DropBounding(Task& task, uint64_t capability) {
  if (!task.HasOwnCapability(CAP_SETPCAP)) return Errno(EPERM);
  if (capability > CAP_LAST_CAP) return Errno(EINVAL);
  RefPtr<Credentials> now = task.creds()->Clone();
  now->bounding &= ~CapBit(static_cast<int>(capability));
  task.set_creds(std::move(now));
  return 0;
}

Value Ambient(Task& task, const Arguments& args) {
  uint64_t capability = args.Ulong(2);
  const Credentials& old = *task.creds();
  if (args.raw[3] || args.raw[4]) return Errno(EINVAL);
  if (args.raw[1] == PR_CAP_AMBIENT_CLEAR_ALL) {
    if (capability) return Errno(EINVAL);
    RefPtr<Credentials> now = old.Clone();
    now->ambient = 0;
    task.set_creds(std::move(now));
    return 0;
  }
  if (capability > CAP_LAST_CAP) return Errno(EINVAL);
  CapabilitySet bit = CapBit(static_cast<int>(capability));
  switch (args.raw[1]) {
    case PR_CAP_AMBIENT_IS_SET:
      return (old.ambient & bit) != 0;
    case PR_CAP_AMBIENT_RAISE:
      if (!(old.permitted & old.inheritable & bit) || (old.securebits & SECBIT_NO_CAP_AMBIENT_RAISE))
        return Errno(EPERM);
      break;
    case PR_CAP_AMBIENT_LOWER:
      break;
    default:
      return Errno(EINVAL);
  }
  RefPtr<Credentials> now = old.Clone();
  now->ambient = args.raw[1] == PR_CAP_AMBIENT_RAISE ? now->ambient | bit : now->ambient & ~bit;
  task.set_creds(std::move(now));
  return 0;
}

// What programs that rewrite their title use; the heap and the executable cannot be moved.
Value SetMm(Task& task, const Arguments& args) {
  if (args.raw[4] || (args.raw[3] && args.raw[1] != PR_SET_MM_AUXV && args.raw[1] != PR_SET_MM_MAP &&
                      args.raw[1] != PR_SET_MM_MAP_SIZE)) {
    return Errno(EINVAL);
  }
  if (args.raw[1] == PR_SET_MM_MAP_SIZE) {
    TRY(task.CopyOut(args.Addr(2), static_cast<uint32_t>(sizeof(prctl_mm_map))));
    return 0;
  }
  if (!task.HasCapability(CAP_SYS_RESOURCE)) return Errno(EPERM);
  uint64_t address = args.raw[2];
  if (address >= platform::kGuestAddressLimit || address < platform::kGuestAddressMin) return Errno(EINVAL);
  mm::ImageInfo image = task.mm().image();
  switch (args.raw[1]) {
    case PR_SET_MM_START_CODE:
      image.start_code = address;
      break;
    case PR_SET_MM_END_CODE:
      image.end_code = address;
      break;
    case PR_SET_MM_START_DATA:
      image.start_data = address;
      break;
    case PR_SET_MM_END_DATA:
      image.end_data = address;
      break;
    case PR_SET_MM_START_STACK:
      image.start_stack = address;
      break;
    case PR_SET_MM_ARG_START:
      image.arg_start = address;
      break;
    case PR_SET_MM_ARG_END:
      image.arg_end = address;
      break;
    case PR_SET_MM_ENV_START:
      image.env_start = address;
      break;
    case PR_SET_MM_ENV_END:
      image.env_end = address;
      break;
    default:
      return Errno(EINVAL);
  }
  task.mm().SetImage(image);
  return 0;
}

Value SetDumpable(Task& task, uint64_t value) {
  if (value > kDumpableUser) return Errno(EINVAL);
  task.mm().dumpable.store(static_cast<int>(value), std::memory_order_relaxed);
  return 0;
}

Value SetParentDeathSignal(Task& task, uint64_t signal) {
  if (signal > static_cast<uint64_t>(kernel::kSignalMax)) return Errno(EINVAL);
  task.parent_death_signal.store(static_cast<int>(signal), std::memory_order_relaxed);
  return 0;
}

Value SetTimerSlack(Task& task, int64_t slack) {
  task.timer_slack_ns.store(slack <= 0 ? 50000 : static_cast<uint64_t>(slack), std::memory_order_relaxed);
  return 0;
}

}  // namespace

SYSCALL_HANDLER(SysPrctl) {
  uint64_t value = args.raw[1];
  bool more = args.raw[2] || args.raw[3] || args.raw[4];
  switch (args.Int(0)) {
    case PR_SET_PDEATHSIG:
      return SetParentDeathSignal(task, value);
    case PR_GET_PDEATHSIG:
      TRY(task.CopyOut(args.Addr(1), int32_t{task.parent_death_signal.load(std::memory_order_relaxed)}));
      return 0;
    case PR_GET_DUMPABLE:
      return task.mm().dumpable.load(std::memory_order_relaxed);
    case PR_SET_DUMPABLE:
      return SetDumpable(task, value);
    case PR_GET_KEEPCAPS:
      return task.creds()->keep_caps;
    case PR_SET_KEEPCAPS:
      return SetKeepCaps(task, value);
    case PR_SET_NAME:
      return SetName(task, args.Addr(1));
    case PR_GET_NAME:
      return GetName(task, args.Addr(1));
    case PR_GET_TIMING:
      return PR_TIMING_STATISTICAL;
    case PR_SET_TIMING:
      return value == PR_TIMING_STATISTICAL ? Value(0) : Value(Errno(EINVAL));
    case PR_GET_SECCOMP:
      return kernel::SeccompStatusOf(task).mode;
    case PR_SET_SECCOMP:
      return PrctlSetSeccomp(task, value, args.Addr(2));
    case PR_CAPBSET_READ:
      if (value > CAP_LAST_CAP) return Errno(EINVAL);
      return (task.creds()->bounding & CapBit(static_cast<int>(value))) != 0;
    case PR_CAPBSET_DROP:
      return DropBounding(task, value);
    case PR_GET_TSC:
      TRY(task.CopyOut(args.Addr(1), int32_t{PR_TSC_ENABLE}));
      return 0;
    case PR_SET_TSC:
      return value == PR_TSC_ENABLE ? Value(0) : Value(Errno(EINVAL));
    case PR_GET_SECUREBITS:
      return Securebits(*task.creds());
    case PR_SET_SECUREBITS:
      return SetSecurebits(task, value);
    case PR_SET_TIMERSLACK:
      return SetTimerSlack(task, args.Long(1));
    case PR_GET_TIMERSLACK:
      return static_cast<int64_t>(task.timer_slack_ns.load(std::memory_order_relaxed));
    case PR_MCE_KILL:
      return more && args.raw[3] ? Value(Errno(EINVAL)) : Value(0);
    case PR_MCE_KILL_GET:
      return value || more ? Value(Errno(EINVAL)) : Value(PR_MCE_KILL_DEFAULT);
    case PR_SET_MM:
      return SetMm(task, args);
    case PR_SET_PTRACER:
      // Yama is off: everybody of the same user may trace.
      return Errno(EINVAL);
    case PR_SET_CHILD_SUBREAPER:
      task.group().child_subreaper.store(value != 0, std::memory_order_relaxed);
      return 0;
    case PR_GET_CHILD_SUBREAPER:
      TRY(task.CopyOut(args.Addr(1), int32_t{task.group().child_subreaper.load(std::memory_order_relaxed)}));
      return 0;
    case PR_SET_NO_NEW_PRIVS:
      if (value != 1 || more) return Errno(EINVAL);
      task.no_new_privs.store(true, std::memory_order_relaxed);
      return 0;
    case PR_GET_NO_NEW_PRIVS:
      if (value || more) return Errno(EINVAL);
      return task.no_new_privs.load(std::memory_order_relaxed);
    case PR_GET_TID_ADDRESS:
      TRY(task.CopyOut(args.Addr(1), task.clear_child_tid.value()));
      return 0;
    case PR_SET_THP_DISABLE:
      return args.raw[2] || args.raw[3] || args.raw[4] ? Value(Errno(EINVAL)) : Value(0);
    case PR_GET_THP_DISABLE:
      return value || more ? Value(Errno(EINVAL)) : Value(0);
    case PR_CAP_AMBIENT:
      return Ambient(task, args);
    case PR_GET_SPECULATION_CTRL:
      if (args.raw[2] || args.raw[3] || args.raw[4]) return Errno(EINVAL);
      if (value > PR_SPEC_L1D_FLUSH) return Errno(ENODEV);
      return PR_SPEC_NOT_AFFECTED;
    case PR_SET_SPECULATION_CTRL:
      return value > PR_SPEC_L1D_FLUSH ? Value(Errno(ENODEV)) : Value(Errno(ENXIO));
    case PR_GET_IO_FLUSHER:
    case PR_SET_IO_FLUSHER:
      return task.HasCapability(CAP_SYS_RESOURCE) ? Value(0) : Value(Errno(EPERM));
#ifdef PR_SET_VMA
    case PR_SET_VMA:
      // Names of anonymous memory are accepted and not shown.
      return value == 0 ? Value(0) : Value(Errno(EINVAL));
#endif
    default:
      return Errno(EINVAL);
  }
}

SYSCALL_HANDLER(SysArchPrctl) {
  uint64_t value = args.raw[1];
  kernel::Registers& regs = task.regs();
  switch (args.Int(0)) {
    case ARCH_SET_FS:
    case ARCH_SET_GS:
      if (value >= platform::kGuestAddressLimit) return Errno(EPERM);
      (args.Int(0) == ARCH_SET_FS ? regs.fs_base : regs.gs_base) = value;
      return 0;
    case ARCH_GET_FS:
      TRY(task.CopyOut(args.Addr(1), uint64_t{regs.fs_base}));
      return 0;
    case ARCH_GET_GS:
      TRY(task.CopyOut(args.Addr(1), uint64_t{regs.gs_base}));
      return 0;
    case ARCH_GET_CPUID:
      return 1;  // the instruction works
    case ARCH_SET_CPUID:
      return Errno(ENODEV);
    default:
      return Errno(EINVAL);
  }
}

SYSCALL_HANDLER(SysPersonality) {
  uint32_t old = task.personality.load(std::memory_order_relaxed);
  uint32_t wanted = args.Uint(0);
  if (wanted == 0xffffffff) return old;
  // Other execution domains have no system calls here.
  if ((wanted & PER_MASK) != PER_LINUX && (wanted & PER_MASK) != PER_LINUX32) return Errno(EINVAL);
  task.personality.store(wanted, std::memory_order_relaxed);
  return old;
}

}  // namespace sentry::syscalls
