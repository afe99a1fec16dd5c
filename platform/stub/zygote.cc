// SPDX-License-Identifier: Apache-2.0
#include "platform/stub/zygote.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "base/cleanup.h"
#include "base/log.h"
#include "platform/platform.h"
#include "platform/stub/stub_filter.h"

namespace platform::stub {
namespace {

// No answer within this time means that the host is not able to run the zygote any more.
constexpr int kForkTimeoutMs = 10'000;
constexpr uint64_t kPkruComponent = 1u << 9;

struct alignas(64) XsaveImage {
  uint8_t bytes[16384];
};
// All zero but MXCSR: XRSTOR then puts every component into its initial state.
XsaveImage initial_vector_state;

bool HasXsave() {
  uint32_t a = 1, b, c = 0, d;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return (c & (1u << 27)) != 0;  // OSXSAVE
}

absl::Status HostError(const StubProgram& program, const char* what) {
  return absl::UnavailableError(std::string(program.platform) + " platform: " + what + ": " + strerror(errno));
}

// Code, data, scratch.
size_t PagesOf(const StubProgram& program) { return program.fill_data ? 3 : 2; }

// Finds room for the stub's pages and the scratch page behind them: above the guest's addresses, beside the sentry's
// own stack and vDSO. The zygote inherits them.
absl::StatusOr<uint64_t> MapStubPages(const StubProgram& program) {
  const size_t length = PagesOf(program) * kPageSize;
  for (uint64_t at = kGuestAddressLimit; at + length <= kStubPagesEnd; at += 16 * kPageSize) {
    void* want = reinterpret_cast<void*>(at);
    void* page = mmap(want, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (page == MAP_FAILED) continue;
    if (page != want) {  // a kernel before 4.17 takes the address as a hint
      munmap(page, length);
      continue;
    }
    memset(page, 0xcc, kPageSize);
    memcpy(page, program.code.data(), program.code.size());
    uint8_t* data = static_cast<uint8_t*>(page) + kPageSize;
    if (program.fill_data) program.fill_data({data, kPageSize}, at);
    if (mprotect(page, kPageSize, PROT_READ | PROT_EXEC) != 0 ||
        (program.fill_data && mprotect(data, kPageSize, PROT_READ) != 0)) {
      int error = errno;
      munmap(page, length);
      errno = error;
      return HostError(program, "mprotect of the stub page");
    }
    return at;
  }
  return absl::UnavailableError(std::string(program.platform) +
                                " platform: no free address for the stub page above the guest's address space");
}

struct ZygoteStart {
  uint64_t page;
  uint64_t scratch;
  uint64_t entry;
  uint64_t handler;  // 0: none
  std::span<const int> signals;
  int socket;
  pid_t parent;
  uint64_t vector_components;  // RFBM for XRSTOR, 0: no XSAVE
  sock_fprog filter;
};

// Runs in the forked child: async-signal-safe calls only, and no return.
[[noreturn]] void RunZygote(const ZygoteStart& start) {
  auto check = [](bool ok, int code) {
    if (!ok) syscall(SYS_exit_group, code);
  };
  check(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0, 2);
  check(getppid() == start.parent, 3);
  // The kernel would touch this thread's rseq area, which is about to be unmapped; glibc registers 32 bytes.
  if (__rseq_size != 0) {
    auto* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
    check(syscall(SYS_rseq, area, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) == 0, 4);
  }
  stack_t no_stack = {};
  no_stack.ss_flags = SS_DISABLE;
  sigaltstack(&no_stack, nullptr);
  // The kernel's own layout: glibc's sigaction refuses its internal signals.
  struct {
    void* handler;
    uint64_t flags;
    void* restorer;
    uint64_t mask;
  } action = {};
  if (start.handler != 0) action.handler = reinterpret_cast<void*>(SIG_IGN);
  for (int signal = 1; signal < _NSIG; ++signal) syscall(SYS_rt_sigaction, signal, &action, nullptr, 8);
  // Dead stub processes leave no zombies.
  action.handler = reinterpret_cast<void*>(SIG_IGN);
  action.flags = SA_NOCLDWAIT;
  check(syscall(SYS_rt_sigaction, SIGCHLD, &action, nullptr, 8) == 0, 5);
  // x86-64's kernel wants a restorer; ours never returns to it.
  constexpr uint64_t kRestorer = 0x0400'0000;
  action.handler = action.restorer = reinterpret_cast<void*>(start.handler);
  action.flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | kRestorer;
  for (int signal : start.signals) check(syscall(SYS_rt_sigaction, signal, &action, nullptr, 8) == 0, 13);
  uint64_t blocked = start.handler != 0 ? ~uint64_t{0} : 0;
  check(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, nullptr, 8) == 0, 6);

  rlimit no_core = {};
  check(setrlimit(RLIMIT_CORE, &no_core) == 0, 7);
  __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct no_capabilities[2] = {};
  check(syscall(SYS_capset, &header, no_capabilities) == 0, 8);
  // ptrace(2): a sentry without capabilities may only trace dumpable processes.
  check(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0, 9);
  prctl(PR_SET_NAME, "stub", 0, 0, 0);
  check(madvise(reinterpret_cast<void*>(start.scratch), kPageSize, MADV_DONTFORK) == 0, 10);
  check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, 11);
  pid_t self = getpid();
  check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &start.filter, 0, 0) == 0, 12);

  // No vector register may carry the sentry's data into stubs; the stub page itself uses none.
  if (start.vector_components != 0) {
    asm volatile("xrstor64 %0"
                 :
                 : "m"(initial_vector_state), "a"(static_cast<uint32_t>(start.vector_components)),
                   "d"(static_cast<uint32_t>(start.vector_components >> 32)));
  } else {
    asm volatile("fxrstor64 %0" : : "m"(initial_vector_state));
  }
  register uint64_t page asm("r12") = start.page;
  register uint64_t scratch asm("r13") = start.scratch;
  register uint64_t socket asm("r14") = static_cast<uint64_t>(start.socket);
  register uint64_t pid asm("r15") = static_cast<uint64_t>(self);
  asm volatile("jmp *%%rax" : : "a"(start.entry), "b"(kHostAddressEnd), "r"(page), "r"(scratch), "r"(socket), "r"(pid));
  __builtin_unreachable();
}

}  // namespace

StubProgram Zygote::PtraceStubProgram() {
  return {.platform = "ptrace",
          .code = StubCode(),
          .zygote = OffsetOf(kStubPageZygote),
          .fill_data = nullptr,
          .filter = [](uint64_t page, int) { return BuildStubFilter(page); },
          .signals = {}};
}

absl::StatusOr<std::unique_ptr<Zygote>> Zygote::Start(const StubProgram& program) {
  std::unique_ptr<Zygote> zygote(new Zygote());
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) return HostError(program, "socketpair");
  zygote->socket_.Reset(sockets[0]);
  zygote->peer_socket_.Reset(sockets[1]);

  zygote->platform_ = program.platform;
  absl::StatusOr<uint64_t> page = MapStubPages(program);
  if (!page.ok()) return page.status();
  zygote->layout_.page = *page;
  const uint64_t length = PagesOf(program) * kPageSize;
  base::Cleanup unmap([&] { munmap(reinterpret_cast<void*>(*page), length); });

  ZygoteStart start = {};
  start.page = *page;
  start.scratch = *page + length - kPageSize;
  start.entry = *page + program.zygote;
  start.signals = program.signals;
  if (!program.signals.empty()) start.handler = *page + program.handler;
  start.socket = sockets[1];
  start.parent = getpid();
  initial_vector_state.bytes[0] = 0x7f;  // FCW = 0x37f, for FXRSTOR
  initial_vector_state.bytes[1] = 0x03;
  initial_vector_state.bytes[24] = 0x80;  // MXCSR = 0x1f80
  initial_vector_state.bytes[25] = 0x1f;
  if (HasXsave()) {
    uint32_t low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    // Protection keys keep the kernel's default: their initial state would allow all.
    start.vector_components = ((uint64_t{high} << 32) | low) & ~kPkruComponent;
  }
  std::vector<sock_filter> filter = program.filter(*page, sockets[1]);
  start.filter = {.len = static_cast<unsigned short>(filter.size()), .filter = filter.data()};

  // No handler of the sentry may run in the child.
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int pidfd = -1;
  long pid = syscall(SYS_clone, CLONE_FILES | CLONE_PIDFD | SIGCHLD, nullptr, &pidfd, nullptr, 0);
  if (pid == 0) RunZygote(start);
  int error = errno;
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  if (pid < 0) {
    errno = error;
    return HostError(program, "clone of the stub zygote");
  }
  zygote->pid_ = static_cast<pid_t>(pid);
  zygote->pidfd_.Reset(pidfd);
  return zygote;
}

Zygote::~Zygote() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, __WALL) < 0 && errno == EINTR) {
  }
}

base::Result<void> Zygote::Exchange(std::span<const uint8_t> request, std::span<uint8_t> answer) {
  base::MutexLock lock(mu_);
  if (send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return base::Errno(ESRCH);
  }
  pollfd fds[2] = {{.fd = socket_.get(), .events = POLLIN}, {.fd = pidfd_.get(), .events = POLLIN}};
  for (;;) {
    int n = poll(fds, 2, kForkTimeoutMs);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || (fds[0].revents & POLLIN) == 0) {
      LOG_ERROR("%s platform: the stub zygote (pid %d) %s", platform_, pid_, n == 0 ? "doesn't answer" : "is dead");
      // A late answer must not be taken for the next one's.
      kill(pid_, SIGKILL);
      return base::Errno(ESRCH);
    }
    break;
  }
  if (recv(socket_.get(), answer.data(), answer.size(), MSG_WAITALL) != static_cast<ssize_t>(answer.size())) {
    return base::Errno(ESRCH);
  }
  return base::OkResult();
}

base::Result<void> Zygote::Exchange(std::span<uint8_t> message) { return Exchange(message, message); }

base::Result<pid_t> Zygote::Fork(std::span<const uint8_t> request) {
  int32_t answer;
  TRY(Exchange(request, {reinterpret_cast<uint8_t*>(&answer), sizeof answer}));
  if (answer < 0) return base::Errno(-answer);
  return static_cast<pid_t>(answer);
}

}  // namespace platform::stub
