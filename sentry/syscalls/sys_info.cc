// SPDX-License-Identifier: Apache-2.0
// What the system is: uname(2), sysinfo(2), sethostname(2), syslog(2); and getrandom(2), membarrier(2).
#include <linux/membarrier.h>
#include <linux/sysinfo.h>
#include <sys/klog.h>
#include <sys/random.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string_view>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/load_average.h"
#include "sentry/kernel/memory_use.h"
#include "sentry/syscalls/access_ok.h"
#include "sentry/syscalls/handlers.h"
#include "sentry/syscalls/host_info.h"

namespace sentry::syscalls {
namespace {

constexpr size_t kUtsLength = 64;
constexpr char kKernelLog[] = "<6>[    0.000000] Linux version (runsc sandbox)\n";
// How much of it was taken by SYSLOG_ACTION_READ.
std::atomic<size_t> log_read{0};

void Put(char (&field)[kUtsLength + 1], std::string_view value) {
  memcpy(field, value.data(), std::min(value.size(), kUtsLength));
}

Result<std::string> CopyInName(Task& task, const Arguments& args) {
  if (!task.HasCapabilityIn(task.namespaces().uts->owner(), CAP_SYS_ADMIN)) return Errno(EPERM);
  int length = args.Int(1);
  if (length < 0 || static_cast<size_t>(length) > kUtsLength) return Errno(EINVAL);
  std::string name(static_cast<size_t>(length), '\0');
  if (length) TRY(task.CopyInBytes(args.Addr(0), name.data(), name.size()));
  name.resize(strnlen(name.data(), name.size()));
  return name;
}

}  // namespace

SYSCALL_HANDLER(SysUname) {
  struct {
    char sysname[kUtsLength + 1], nodename[kUtsLength + 1], release[kUtsLength + 1], version[kUtsLength + 1],
        machine[kUtsLength + 1], domainname[kUtsLength + 1];
  } uts;
  memset(&uts, 0, sizeof uts);
  const kernel::KernelOptions& options = kernel::Kernel::Get().options();
  const kernel::UtsNamespace& ns = *task.namespaces().uts;
  constexpr uint32_t kPersonalityLinux32 = 8, kPersonalityMask = 0xff;
  bool is32 = (task.personality.load(std::memory_order_relaxed) & kPersonalityMask) == kPersonalityLinux32;
  Put(uts.sysname, "Linux");
  Put(uts.nodename, ns.host_name());
  Put(uts.release, options.release);
  Put(uts.version, options.version);
  Put(uts.machine, is32 ? "i686" : "x86_64");
  Put(uts.domainname, ns.domain_name());
  TRY(task.CopyOut(args.Addr(0), uts));
  return 0;
}

SYSCALL_HANDLER(SysSethostname) {
  std::string name = TRY(CopyInName(task, args));
  task.namespaces().uts->set_host_name(std::move(name));
  return 0;
}

SYSCALL_HANDLER(SysSetdomainname) {
  std::string name = TRY(CopyInName(task, args));
  task.namespaces().uts->set_domain_name(std::move(name));
  return 0;
}

SYSCALL_HANDLER(SysSysinfo) {
  kernel::Kernel& kernel = kernel::Kernel::Get();
  struct sysinfo info;
  memset(&info, 0, sizeof info);
  const int64_t uptime = base::ClockNs(CLOCK_BOOTTIME) + task.namespaces().time->OffsetOf(CLOCK_BOOTTIME);
  info.uptime = (uptime + base::kNsPerSecond - 1) / base::kNsPerSecond;  // Linux rounds up
  const kernel::LoadAverage::Averages loads = kernel::LoadAverage::Get(kernel);
  for (size_t i = 0; i < loads.size(); ++i) info.loads[i] = loads[i] << (SI_LOAD_SHIFT - kernel::LoadAverage::kShift);
  info.totalram = TotalMemory();
  uint64_t used = kernel.memory_file().UsedBytes();
  info.freeram = info.totalram > used ? info.totalram - used : 0;
  info.sharedram = std::min(kernel::SharedMemoryInUse(), used);
  info.procs = static_cast<uint16_t>(std::min<size_t>(kernel.tasks().task_count(), UINT16_MAX));
  info.mem_unit = 1;
  TRY(task.CopyOut(args.Addr(0), info));
  return 0;
}

SYSCALL_HANDLER(SysSyslog) {
  enum {
    kClose = 0,
    kOpen = 1,
    kRead = 2,
    kReadAll = 3,
    kReadClear = 4,
    kClear = 5,
    kConsoleOff = 6,
    kConsoleOn = 7,
    kConsoleLevel = 8,
    kUnread = 9,
    kSize = 10
  };
  int action = args.Int(0);
  size_t length = sizeof kKernelLog - 1;
  if (action < kClose || action > kSize) return Errno(EINVAL);
  if (action == kSize) return 1 << 18;
  if (action != kReadAll && !task.HasCapability(CAP_SYSLOG) && !task.HasCapability(CAP_SYS_ADMIN)) return Errno(EPERM);
  switch (action) {
    case kReadAll:
    case kReadClear: {
      if (args.Addr(1).IsNull() || args.Int(2) < 0) return Errno(EINVAL);
      size_t n = std::min<size_t>(static_cast<size_t>(args.Int(2)), length);
      TRY(task.CopyOutBytes(args.Addr(1), kKernelLog + (length - n), n));
      return static_cast<int64_t>(n);
    }
    case kRead: {
      if (args.Addr(1).IsNull() || args.Int(2) < 0) return Errno(EINVAL);
      if (args.Int(2) == 0) return 0;
      size_t from = log_read.load(std::memory_order_relaxed), n;
      do {
        // After the boot's line there is never a new one to wait for.
        while (from == length) {
          if (!task.Block().ok()) return base::kErestartsys;
        }
        n = std::min<size_t>(static_cast<size_t>(args.Int(2)), length - from);
      } while (!log_read.compare_exchange_weak(from, from + n, std::memory_order_relaxed));
      TRY(task.CopyOutBytes(args.Addr(1), kKernelLog + from, n));
      return static_cast<int64_t>(n);
    }
    case kUnread:
      return static_cast<int64_t>(length - log_read.load(std::memory_order_relaxed));
    case kConsoleLevel:
      return args.Int(2) < 1 || args.Int(2) > 8 ? Value(Errno(EINVAL)) : Value(0);
    default:
      return 0;
  }
}

// The terminal of the caller's session is not taken from anybody: its master side hangs up by closing.
SYSCALL_HANDLER(SysVhangup) { return task.HasCapability(CAP_SYS_TTY_CONFIG) ? Value(0) : Value(Errno(EPERM)); }

SYSCALL_HANDLER(SysGetrandom) {
  if (args.Uint(2) & ~unsigned{GRND_NONBLOCK | GRND_RANDOM | 4 /* GRND_INSECURE */}) return Errno(EINVAL);
  if ((args.Uint(2) & (GRND_RANDOM | 4)) == (GRND_RANDOM | 4)) return Errno(EINVAL);
  size_t total = std::min<size_t>(args.Size(1), INT32_MAX);
  TRY(CheckRange(args.Addr(0), total));
  size_t done = 0;
  uint8_t buffer[1024];
  while (done < total) {
    size_t n = std::min(total - done, sizeof buffer);
    HostRandom(buffer, n);
    mm::UserTarget target(task.mm(), args.Addr(0) + done, n);
    Result<size_t> copied = target.Put(buffer, n);
    if (!copied.ok() || *copied < n) {
      done += copied.ok() ? *copied : 0;
      return done ? Value(static_cast<int64_t>(done)) : Value(Errno(EFAULT));
    }
    done += n;
    // A huge request stays killable.
    if (done % (1 << 20) == 0 && task.HasDeliverableSignal()) break;
  }
  return static_cast<int64_t>(done);
}

SYSCALL_HANDLER(SysMembarrier) {
  constexpr int kSupported = MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_GLOBAL_EXPEDITED |
                             MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED | MEMBARRIER_CMD_PRIVATE_EXPEDITED |
                             MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;
  if (!HostHasMemoryBarrier()) return Errno(ENOSYS);
  if (args.Uint(1) != 0) return Errno(EINVAL);
  std::atomic<uint32_t>& registered = task.mm().membarrier_flags;
  switch (args.Int(0)) {
    case MEMBARRIER_CMD_QUERY:
      return kSupported;
    case MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED:
    case MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED:
      registered.fetch_or(static_cast<uint32_t>(args.Int(0)));
      return 0;
    case MEMBARRIER_CMD_PRIVATE_EXPEDITED:
      if (!(registered.load() & MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)) return Errno(EPERM);
      break;
    case MEMBARRIER_CMD_GLOBAL:
    case MEMBARRIER_CMD_GLOBAL_EXPEDITED:
      break;
    default:
      return Errno(EINVAL);
  }
  TRY(HostMemoryBarrier());
  return 0;
}

}  // namespace sentry::syscalls
