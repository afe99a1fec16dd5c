// SPDX-License-Identifier: Apache-2.0
// The sentry's seccomp allow-list. Each row names who needs the call; a row that nobody needs any more goes.
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/sanitizer.h"
#include "platform/kvm/kvm_abi.h"
#include "platform/safe_copy.h"
#include "sentry/boot/confine.h"
#include "sentry/socket/host/host_options.h"

namespace sentry {
namespace {

struct Row {
  int number;
  const char* why;
};

constexpr int kSysCachestat = 451;  // Linux 6.5, not in older headers

constexpr Row kAllowed[] = {
    {SYS_read, "donated fds, zygote"},
    {SYS_write, "donated fds, log"},
    {SYS_readv, "donated fds into pinned pages"},
    {SYS_writev, "donated fds"},
    {SYS_pread64, "donated files"},
    {SYS_pwrite64, "donated files"},
    {SYS_preadv, "donated files into pinned pages"},
    {SYS_pwritev, "donated files"},
    {SYS_lseek, "donated files: SEEK_DATA, SEEK_HOLE"},
    {SYS_close, "donated fds"},
    {SYS_fstat, "donated files, memory usage"},
    {SYS_newfstatat, "fstat as glibc makes it"},
    {SYS_fsync, "donated files"},
    {SYS_fdatasync, "donated files"},
    {SYS_ftruncate, "memory file, donated files"},
    {SYS_fallocate, "memory file: give pages back; donated files"},
    {SYS_poll, "standard streams, control connections"},
    {SYS_ppoll, "the same"},
    {SYS_epoll_wait, "host poller"},
    {SYS_epoll_pwait, "host poller"},
    {SYS_epoll_ctl, "host poller"},
    {SYS_sendmsg, "gofer, control"},
    {SYS_recvmsg, "gofer, control"},
    {SYS_sendto, "zygote"},
    {SYS_recvfrom, "zygote"},
    {SYS_accept4, "control connections"},
    {SYS_shutdown, "control connections, gofer"},
    {SYS_getpeername, "gofer of a container that joins: is it a connected socket"},
    {SYS_munmap, "heap, stacks"},
    {SYS_mincore, "memory file: what is in use"},
    {kSysCachestat, "memory file: what is in use"},
    {SYS_mremap, "heap"},
    {SYS_madvise, "heap, stacks"},
    {SYS_brk, "heap"},
    {SYS_clock_gettime, "without a vDSO clock"},
    {SYS_clock_nanosleep, "bounded waits"},
    {SYS_nanosleep, "bounded waits"},
    {SYS_gettid, "tgkill"},
    {SYS_getpid, "tgkill"},
    {SYS_tgkill, "platform kicks; abort"},
    {SYS_kill, "stub processes"},
    {SYS_pidfd_open, "stubs: to notice their death"},
    {SYS_wait4, "stubs"},
    {SYS_waitid, "stubs"},
    {SYS_sched_setaffinity, "platform: a stub and its tracer share a CPU"},
    {SYS_sched_getaffinity, "thread creation"},
    {SYS_sched_yield, "spin waits"},
    {SYS_getcpu, "platform"},
    {SYS_set_robust_list, "thread creation"},
    {SYS_rseq, "thread creation"},
    {SYS_rt_sigprocmask, "thread creation"},
    {SYS_rt_sigaction, "abort"},
    {SYS_rt_sigreturn, "recoverable faults"},
    {SYS_sigaltstack, "threads"},
    {SYS_restart_syscall, "stop and continue"},
    {SYS_exit, "threads"},
    {SYS_exit_group, "the end"},
    {SYS_getrandom, "guest entropy"},
    {SYS_sysinfo, "loadavg, meminfo"},
    {SYS_getrusage, "CPU accounting"},
    {SYS_dup, "standard streams"},
};

// --network=host; each row is a call of sentry/socket/host.
constexpr Row kHostNetwork[] = {{SYS_bind, "host sockets"},
                                {SYS_connect, "host sockets"},
                                {SYS_listen, "host sockets"},
                                {SYS_getsockname, "host sockets"}};

template <typename Allow>
bool AddHostNetwork(Allow allow) {
  const auto number = [](int value) { return static_cast<uint64_t>(static_cast<unsigned>(value)); };
  bool ok = true;
  for (const Row& row : kHostNetwork) ok = ok && allow(row.number, {});
  for (const socket::HostSocketKind& kind : socket::kHostSocketKinds) {
    ok = ok && allow(SYS_socket, {SCMP_A0(SCMP_CMP_EQ, number(kind.family)),
                                  SCMP_A1(SCMP_CMP_EQ, number(kind.type | SOCK_NONBLOCK | SOCK_CLOEXEC)),
                                  SCMP_A2(SCMP_CMP_EQ, number(kind.protocol))});
  }
  for (const socket::HostOption& option : socket::kHostOptions) {
    for (const auto& [use, call] :
         {std::pair{socket::HostOption::kSet, SYS_setsockopt}, std::pair{socket::HostOption::kGet, SYS_getsockopt}}) {
      if (!(option.use & use)) continue;
      ok = ok && allow(call, {SCMP_A1(SCMP_CMP_EQ, number(option.level)), SCMP_A2(SCMP_CMP_EQ, number(option.name))});
    }
  }
  for (unsigned request : socket::kHostSocketIoctls) ok = ok && allow(SYS_ioctl, {SCMP_A1(SCMP_CMP_EQ, request)});
  return ok;
}

bool AddRules(scmp_filter_ctx filter, const FilterOptions& options, std::string* failed) {
  auto allow = [&](int number, std::initializer_list<scmp_arg_cmp> conditions) {
    if (seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, static_cast<unsigned>(conditions.size()),
                               conditions.begin()) == 0)
      return true;
    char* name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
    *failed = name ? name : "?";
    free(name);
    return false;
  };
  for (const Row& row : kAllowed) {
    if (!allow(row.number, {})) return false;
  }
  for (long number : base::SanitizerCalls()) {
    if (!allow(static_cast<int>(number), {})) return false;
  }
  for (long number : base::SanitizerRefusedCalls()) {
    if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), static_cast<int>(number), 0) != 0) return false;
  }
  // No executable mapping, ever.
  bool ok = allow(SYS_mmap, {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}) &&
            allow(SYS_mprotect, {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
  // Threads only. clone3 keeps its flags in memory where a filter can't look: glibc falls back on ENOSYS.
  constexpr uint64_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
  ok = ok && allow(SYS_clone, {SCMP_A0(SCMP_CMP_MASKED_EQ, kThread, kThread)});
  ok = ok && seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SYS_clone3, 0) == 0;
  for (int operation :
       {FUTEX_WAIT, FUTEX_WAKE, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET, FUTEX_REQUEUE, FUTEX_CMP_REQUEUE}) {
    ok = ok &&
         allow(SYS_futex, {SCMP_A1(SCMP_CMP_MASKED_EQ,
                                   static_cast<uint64_t>(~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)) & 0xffffffff,
                                   static_cast<uint64_t>(operation))});
  }
  for (int command : {F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL})
    ok = ok && allow(SYS_fcntl, {SCMP_A1(SCMP_CMP_EQ, static_cast<uint64_t>(command))});
  for (unsigned long request : {FIONREAD, TIOCGWINSZ, TCGETS})
    ok = ok && allow(SYS_ioctl, {SCMP_A1(SCMP_CMP_EQ, request)});
  // Of the gofer of a container that joins: what its socket is.
  for (int option : {SO_DOMAIN, SO_TYPE}) {
    ok = ok &&
         allow(SYS_getsockopt, {SCMP_A1(SCMP_CMP_EQ, SOL_SOCKET), SCMP_A2(SCMP_CMP_EQ, static_cast<uint64_t>(option))});
  }
  // The limit of descriptors, which bounds a gofer connection's: to read.
  ok = ok && allow(SYS_prlimit64, {SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A2(SCMP_CMP_EQ, 0)});
  // What ended a stub: PIDFD_GET_INFO of 64 bytes.
  ok = ok && allow(SYS_ioctl, {SCMP_A1(SCMP_CMP_EQ, _IOWR(0xff, 11, char[64]))});
  if (!options.ptrace && options.kvm_vm < 0) {
    // systrap: orders to the service threads of stubs. The last is SECCOMP_IOCTL_NOTIF_SET_FLAGS.
    for (uint64_t request : {SECCOMP_IOCTL_NOTIF_RECV + 0ul, SECCOMP_IOCTL_NOTIF_SEND + 0ul, SECCOMP_IOW(4, __u64)})
      ok = ok && allow(SYS_ioctl, {SCMP_A1(SCMP_CMP_EQ, request)});
  }
  if (options.host_network) ok = ok && AddHostNetwork(allow);
  if (options.kvm_vm >= 0) {
    const auto vm = static_cast<uint64_t>(options.kvm_vm);
    ok = ok && allow(SYS_ioctl, {SCMP_A0(SCMP_CMP_EQ, vm), SCMP_A1(SCMP_CMP_EQ, KVM_SET_USER_MEMORY_REGION)});
    ok = ok && allow(SYS_ioctl, {SCMP_A0(SCMP_CMP_EQ, vm), SCMP_A1(SCMP_CMP_EQ, KVM_CREATE_VCPU),
                                 SCMP_A2(SCMP_CMP_LT, platform::kvm::kMaxVcpus)});
    ok = ok && allow(SYS_ioctl, {SCMP_A1(SCMP_CMP_EQ, KVM_RUN), SCMP_A2(SCMP_CMP_EQ, 0)});
    // A new CPU's set-up, then vector state and breakpoints from turn to turn; registers travel in its shared page.
    for (uint64_t request : {KVM_GET_SREGS + 0ul, KVM_SET_SREGS + 0ul, KVM_SET_XCRS + 0ul, KVM_SET_DEVICE_ATTR + 0ul,
                             KVM_GET_DEBUGREGS + 0ul, KVM_SET_DEBUGREGS + 0ul, platform::kvm::kSetCpuid,
                             platform::kvm::kSetMsrs, platform::kvm::kGetXsave, platform::kvm::kSetXsave})
      ok = ok && allow(SYS_ioctl, {SCMP_A1(SCMP_CMP_EQ, request)});
  }
  ok = ok && allow(SYS_membarrier, {SCMP_A0(SCMP_CMP_EQ, MEMBARRIER_CMD_GLOBAL)});
  for (int option : {PR_SET_NAME, PR_GET_NAME, PR_SET_VMA})
    ok = ok && allow(SYS_prctl, {SCMP_A0(SCMP_CMP_EQ, static_cast<uint64_t>(option))});
  for (uint64_t request : {PTRACE_SEIZE + 0ul,
                           PTRACE_INTERRUPT + 0ul,
                           PTRACE_CONT + 0ul,
                           PTRACE_SYSEMU + 0ul,
                           PTRACE_SYSEMU_SINGLESTEP + 0ul,
                           PTRACE_SINGLESTEP + 0ul,
                           PTRACE_GETREGS + 0ul,
                           PTRACE_SETREGS + 0ul,
                           PTRACE_GETREGSET + 0ul,
                           PTRACE_SETREGSET + 0ul,
                           PTRACE_GETSIGINFO + 0ul,
                           PTRACE_DETACH + 0ul,
                           PTRACE_GET_SYSCALL_INFO + 0ul,
                           PTRACE_PEEKDATA + 0ul,
                           PTRACE_POKEDATA + 0ul,  // one word of a guest's rseq area, with what it held
                           PTRACE_PEEKUSER + 0ul,
                           PTRACE_POKEUSER + 0ul,
                           PTRACE_SETOPTIONS + 0ul,
                           PTRACE_GETEVENTMSG + 0ul,
                           PTRACE_LISTEN + 0ul,
                           PTRACE_SETSIGMASK + 0ul,
                           PTRACE_KILL + 0ul}) {
    ok = ok && (!options.ptrace || allow(SYS_ptrace, {SCMP_A0(SCMP_CMP_EQ, request)}));
  }
  if (!ok && failed->empty()) *failed = "a rule with arguments";
  return ok;
}

// Debug only: says which call was refused, then dies as the filter would have had it.
void OnForbidden(int, siginfo_t* info, void* context) {
  const auto& regs = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const char* path = info->si_syscall == SYS_openat ? reinterpret_cast<const char*>(regs[REG_RSI]) : "";
  char text[320];
  int n = snprintf(text, sizeof text,
                   "sentry: forbidden host call %d(%#llx, %#llx, %#llx) %.100s at %p: add it to sentry/boot/filter.cc "
                   "if it is meant\n",
                   info->si_syscall, regs[REG_RDI], regs[REG_RSI], regs[REG_RDX], path, info->si_call_addr);
  [[maybe_unused]] ssize_t written = write(base::LogFd(), text, static_cast<size_t>(n));
  // Our own frames keep their pointers; those of the C library may be missing.
  auto* frame = reinterpret_cast<uint64_t*>(regs[REG_RBP]);
  for (int i = 0; i < 12 && frame && reinterpret_cast<uint64_t>(frame) % 8 == 0; ++i) {
    uint64_t values[2];
    if (platform::SafeCopy(values, frame, sizeof values) != sizeof values) break;
    n = snprintf(text, sizeof text, "  called from %#lx\n", values[1]);
    written = write(base::LogFd(), text, static_cast<size_t>(n));
    frame = reinterpret_cast<uint64_t*>(values[0]);
  }
  _exit(128 + SIGSYS);
}

}  // namespace

std::vector<std::string> AllowedSentryCalls() {
  std::vector<std::string> names;
  auto add = [&](int number) {
    char* name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
    if (name) names.emplace_back(name);
    free(name);
  };
  for (const Row& row : kAllowed) add(row.number);
  for (int number : {SYS_mmap, SYS_mprotect, SYS_clone, SYS_futex, SYS_fcntl, SYS_ioctl, SYS_prctl, SYS_ptrace,
                     SYS_getsockopt, SYS_prlimit64})
    add(number);
  return names;
}

absl::Status InstallSentryFilter(const FilterOptions& options) {
  if (options.debug) {
    struct sigaction action = {};
    action.sa_sigaction = OnForbidden;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSYS, &action, nullptr);
  }
  scmp_filter_ctx filter = seccomp_init(options.debug ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS);
  if (!filter) return absl::InternalError("seccomp filter of the sentry: out of memory");
  std::string failed;
  int error = 0;
  seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  if (!AddRules(filter, options, &failed)) error = EINVAL;
  if (!error) error = -seccomp_load(filter);
  seccomp_release(filter);
  if (error)
    return absl::InternalError(absl::StrCat("seccomp filter of the sentry: ", failed.empty() ? "seccomp_load" : failed,
                                            ": ", strerror(error)));
  return absl::OkStatus();
}

}  // namespace sentry
