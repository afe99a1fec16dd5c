// SPDX-License-Identifier: Apache-2.0
// The sentry's filter as the kernel evaluates it: each test installs it in a child of its own and makes one call there.
#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <span>
#include <vector>

#include "base/sanitizer.h"
#include "platform/kvm/kvm_abi.h"
#include "sentry/boot/confine.h"
#include "sentry/socket/host/host_options.h"

namespace sentry {
namespace {

constexpr int kNoFilter = 99;

// The wait status of a child that runs `body` under the filter; `body`'s result is the child's exit status.
int UnderFilter(const std::function<int()>& body, const FilterOptions& options = {}) {
  const pid_t pid = fork();
  if (pid == 0) {
    const rlimit none = {};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!InstallSentryFilter(options).ok()) _exit(kNoFilter);
    _exit(body());
  }
  int status = 0;
  EXPECT_EQ(pid, waitpid(pid, &status, 0));
  return status;
}

struct Call {
  const char* what;
  long number;
  std::vector<unsigned long> arguments;
};

long Make(const Call& call) {
  unsigned long a[6] = {};
  std::copy(call.arguments.begin(), call.arguments.end(), a);
  return syscall(call.number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

TEST(SentryFilter, KillsTheProcessForWhatIsNotAllowed) {
  char path[] = "/";
  const auto at = reinterpret_cast<unsigned long>(path);
  const Call kCalls[] = {
      {"open", SYS_open, {at, O_RDONLY}},
      {"openat", SYS_openat, {static_cast<unsigned long>(AT_FDCWD), at, O_RDONLY}},
      {"openat2", SYS_openat2, {}},
      {"socket", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}},
      {"connect", SYS_connect, {0, 0, 0}},
      {"execve", SYS_execve, {at, 0, 0}},
      {"execveat", SYS_execveat, {}},
      {"fork", SYS_fork, {}},
      {"vfork", SYS_vfork, {}},
      {"clone of a process", SYS_clone, {SIGCHLD}},
      {"clone of a process with shared memory", SYS_clone, {CLONE_VM | CLONE_VFORK | SIGCHLD}},
      {"an executable mapping", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, ~0ul, 0}},
      {"mprotect to executable", SYS_mprotect, {0x10000, 4096, PROT_EXEC}},
      {"pkey_mprotect", SYS_pkey_mprotect, {}},
      {"ptrace attach", SYS_ptrace, {PTRACE_ATTACH, 1}},
      {"ptrace traceme", SYS_ptrace, {PTRACE_TRACEME}},
      {"process_vm_readv", SYS_process_vm_readv, {}},
      {"prctl", SYS_prctl, {PR_SET_DUMPABLE, 1}},
      {"ioctl TIOCSTI", SYS_ioctl, {0, TIOCSTI, at}},
      {"fcntl F_SETFL", SYS_fcntl, {0, F_SETFL, 0}},
      {"setuid", SYS_setuid, {0}},
      {"mount", SYS_mount, {}},
      {"unshare", SYS_unshare, {CLONE_NEWUSER}},
      {"setns", SYS_setns, {}},
      {"bpf", SYS_bpf, {}},
      {"io_uring_setup", SYS_io_uring_setup, {}},
      {"perf_event_open", SYS_perf_event_open, {}},
      {"keyctl", SYS_keyctl, {}},
      {"pidfd_getfd", SYS_pidfd_getfd, {}},
      {"userfaultfd", SYS_userfaultfd, {}},
      {"a seccomp filter", SYS_seccomp, {}},
      {"an x32 number", 0x40000000 | SYS_read, {0, 0, 0}},
      {"no such number", 100000, {}},
  };
  const auto has = [](std::span<const long> calls, long number) {
    return std::ranges::find(calls, number) != calls.end();
  };
  for (const Call& call : kCalls) {
    // Under a sanitizer, what its runtime calls is allowed or fails.
    if (has(base::SanitizerCalls(), call.number) || has(base::SanitizerRefusedCalls(), call.number)) continue;
    const int status = UnderFilter([&] {
      Make(call);
      return 0;
    });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << call.what << ": wait status " << status;
  }
}

// Of the virtual machine's ioctls only those of the platform, and only with a virtual machine.
TEST(SentryFilter, KvmIoctls) {
  const struct {
    int fd;
    unsigned long request, argument;
    bool allowed;
  } kCalls[] = {
      {77, KVM_RUN, 0, true},
      {77, KVM_RUN, 1, false},
      {99, KVM_CREATE_VCPU, 0, true},
      {99, KVM_CREATE_VCPU, platform::kvm::kMaxVcpus - 1, true},
      {99, KVM_CREATE_VCPU, platform::kvm::kMaxVcpus, false},
      {77, KVM_CREATE_VCPU, 0, false},
      {99, KVM_SET_USER_MEMORY_REGION, 0, true},
      {77, KVM_SET_USER_MEMORY_REGION, 0, false},
      {77, KVM_GET_SREGS, 0, true},
      {77, KVM_SET_SREGS, 0, true},
      {77, KVM_SET_XCRS, 0, true},
      {77, KVM_SET_DEVICE_ATTR, 0, true},
      {77, KVM_GET_DEBUGREGS, 0, true},
      {77, KVM_SET_DEBUGREGS, 0, true},
      {77, platform::kvm::kSetCpuid, 0, true},
      {77, platform::kvm::kSetMsrs, 0, true},
      {77, platform::kvm::kGetXsave, 0, true},
      {77, platform::kvm::kSetXsave, 0, true},
      {77, KVM_CREATE_VM, 0, false},
      {77, KVM_CREATE_IRQCHIP, 0, false},
      {99, KVM_CREATE_DEVICE, 0, false},
      {99, KVM_IOEVENTFD, 0, false},
      {99, KVM_IRQFD, 0, false},
      {99, KVM_SIGNAL_MSI, 0, false},
      {99, KVM_GET_DIRTY_LOG, 0, false},
      {77, KVM_SET_REGS, 0, false},
      {77, KVM_SET_GUEST_DEBUG, 0, false},
      {77, KVM_TRANSLATE, 0, false},
      {77, KVM_SET_SIGNAL_MASK, 0, false},
  };
  for (const auto& call : kCalls) {
    for (int vm : {99, -1}) {
      const int status = UnderFilter(
          [&] {
            syscall(SYS_ioctl, call.fd, call.request, call.argument);
            return 0;
          },
          {.kvm_vm = vm, .ptrace = false});
      EXPECT_EQ(call.allowed && vm >= 0, WIFEXITED(status))
          << std::hex << call.request << " of " << call.fd << ", " << vm;
    }
  }
}

// --network=host widens the filter by the host's AF_INET sockets, and by nothing else.
TEST(SentryFilter, HostSockets) {
  constexpr unsigned long kTcp = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  constexpr unsigned long kUdp = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const struct {
    Call call;
    bool allowed;
  } kCalls[] = {
      {{"TCP", SYS_socket, {AF_INET, kTcp, IPPROTO_TCP}}, true},
      {{"UDP over IPv6", SYS_socket, {AF_INET6, kUdp, IPPROTO_UDP}}, true},
      {{"echo", SYS_socket, {AF_INET, kUdp, IPPROTO_ICMP}}, true},
      {{"bind", SYS_bind, {99, 0, 0}}, true},
      {{"connect", SYS_connect, {99, 0, 0}}, true},
      {{"listen", SYS_listen, {99, 0}}, true},
      {{"TCP_NODELAY", SYS_setsockopt, {99, IPPROTO_TCP, TCP_NODELAY}}, true},
      {{"TCP_INFO", SYS_getsockopt, {99, IPPROTO_TCP, TCP_INFO}}, true},
      {{"SIOCOUTQ", SYS_ioctl, {99, SIOCOUTQ}}, true},
      {{"a socket that blocks", SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_TCP}}, false},
      {{"SCTP", SYS_socket, {AF_INET, kTcp, IPPROTO_SCTP}}, false},
      {{"raw", SYS_socket, {AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP}}, false},
      {{"Unix", SYS_socket, {AF_UNIX, kTcp, 0}}, false},
      {{"netlink", SYS_socket, {AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0}}, false},
      {{"packet", SYS_socket, {AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0}}, false},
      {{"SO_ATTACH_FILTER", SYS_setsockopt, {99, SOL_SOCKET, SO_ATTACH_FILTER}}, false},
      {{"TCP_INFO is no option to set", SYS_setsockopt, {99, IPPROTO_TCP, TCP_INFO}}, false},
      {{"TCP_REPAIR", SYS_setsockopt, {99, IPPROTO_TCP, TCP_REPAIR}}, false},
      {{"TCP_ULP", SYS_setsockopt, {99, IPPROTO_TCP, TCP_ULP}}, false},
      {{"iptables", SYS_setsockopt, {99, IPPROTO_IP, 64}}, false},
      {{"SO_PEERCRED", SYS_getsockopt, {99, SOL_SOCKET, SO_PEERCRED}}, false},
      {{"SIOCSIFFLAGS", SYS_ioctl, {99, SIOCSIFFLAGS}}, false},
      {{"sendmmsg", SYS_sendmmsg, {99, 0, 0, 0}}, false},
      {{"openat", SYS_openat, {99, 0, 0}}, false},
  };
  for (const auto& [call, allowed] : kCalls) {
    for (bool host : {true, false}) {
      const int status = UnderFilter(
          [&] {
            Make(call);
            return 0;
          },
          {.host_network = host});
      EXPECT_EQ(allowed && host, WIFEXITED(status) && WEXITSTATUS(status) == 0) << call.what << ", " << host;
    }
  }
}

TEST(SentryFilter, TracesNobodyOnAPlatformThatDoesNot) {
  for (bool ptrace : {true, false}) {
    const int status = UnderFilter(
        [] {
          syscall(SYS_ptrace, PTRACE_CONT, 1, 0, 0);
          return 0;
        },
        {.ptrace = ptrace});
    EXPECT_EQ(ptrace, WIFEXITED(status)) << "wait status " << status;
  }
}

TEST(SentryFilter, AnotherArchitecturesCallsEndTheProcess) {
  const int status = UnderFilter([] {
    long result = 20;  // getpid of i386
    asm volatile("int $0x80" : "+a"(result)::"memory");
    return 0;
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << "wait status " << status;
}

TEST(SentryFilter, LetsTheSentryWork) {
  EXPECT_EQ(0, UnderFilter([] {
              const auto page = static_cast<unsigned long>(
                  Make({"", SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, ~0ul, 0}}));
              if (page >= -4095ul) return 1;
              if (Make({"", SYS_mprotect, {page, 4096, PROT_READ}}) != 0) return 2;
              if (Make({"", SYS_munmap, {page, 4096}}) != 0) return 3;
              if (Make({"", SYS_gettid, {}}) != getpid()) return 4;
              if (Make({"", SYS_fcntl, {0, F_DUPFD_CLOEXEC, 100}}) < 100) return 5;
              if (Make({"", SYS_prctl, {PR_SET_NAME, reinterpret_cast<unsigned long>("name")}}) != 0) return 6;
              return 0;
            }));
}

// Its flags are in memory, out of a filter's sight: glibc then falls back on clone.
TEST(SentryFilter, Clone3IsNotThere) {
  EXPECT_EQ(0, UnderFilter([] {
              clone_args args = {};
              args.exit_signal = SIGCHLD;
              const long result = syscall(SYS_clone3, &args, sizeof args);
              return result == -1 && errno == ENOSYS ? 0 : 1;
            }));
}

TEST(SentryFilter, ThreadsCanBeMade) {
  EXPECT_EQ(0, UnderFilter([] {
              alignas(16) static char stack[65536];
              static int child_tid = 1;
              constexpr int kFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                                     CLONE_CHILD_CLEARTID;
              const int tid =
                  clone([](void*) { return 0; }, stack + sizeof stack, kFlags, nullptr, nullptr, nullptr, &child_tid);
              return tid > 0 ? 0 : errno;
            }));
}

TEST(SentryFilter, DebugNamesTheCallAndEndsTheProcess) {
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!InstallSentryFilter({.debug = true}).ok()) _exit(kNoFilter);
    syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(pid, waitpid(pid, &status, 0));
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(128 + SIGSYS, WEXITSTATUS(status));
}

TEST(SentryFilter, ListsWhatItAllows) {
  const std::vector<std::string> names = AllowedSentryCalls();
  EXPECT_NE(names.end(), std::find(names.begin(), names.end(), "read"));
  EXPECT_EQ(names.end(), std::find(names.begin(), names.end(), "openat"));
  EXPECT_EQ(names.end(), std::find(names.begin(), names.end(), "execve"));
}

}  // namespace
}  // namespace sentry
