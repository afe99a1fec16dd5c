// SPDX-License-Identifier: Apache-2.0
// seccomp(2): modes, actions and their precedence, chains, inheritance, synchronisation of threads, tracing.
#include <pthread.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/user.h>

#include <atomic>
#include <iterator>
#include <string>
#include <thread>

#include "tests/syscalls/seccomp_util.h"

namespace {

std::string StatusLine(const std::string& pid, const std::string& name) {
  std::string status = ReadFile("/proc/" + pid + "/status");
  size_t at = status.find("\n" + name + ":\t");
  if (at == std::string::npos) return "";
  at += name.size() + 3;
  return status.substr(at, status.find('\n', at) - at);
}

TEST(Seccomp, BadArguments) {
  EXPECT_FAILS(EINVAL, Seccomp(99, 0, nullptr));
  EXPECT_FAILS(EINVAL, Seccomp(~0u, ~0u, nullptr));
  EXPECT_FAILS(EINVAL, Seccomp(SECCOMP_SET_MODE_STRICT, 1, nullptr));
  EXPECT_FAILS(EINVAL, Seccomp(SECCOMP_SET_MODE_STRICT, 0, "x"));
  EXPECT_FAILS(EINVAL, Seccomp(SECCOMP_SET_MODE_FILTER, ~0u, nullptr));
  EXPECT_FAILS(EFAULT, Seccomp(SECCOMP_SET_MODE_FILTER, 0, nullptr));
  EXPECT_FAILS(EFAULT, Seccomp(SECCOMP_SET_MODE_FILTER, 0, reinterpret_cast<void*>(8)));
  EXPECT_FAILS(EFAULT, prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0));
  EXPECT_FAILS(EINVAL, prctl(PR_SET_SECCOMP, 0, 0));
  EXPECT_FAILS(EINVAL, prctl(PR_SET_SECCOMP, 3, 0));
  EXPECT_FAILS(EINVAL, prctl(PR_SET_SECCOMP, ~0ul, 0));
  EXPECT_EQ(0, prctl(PR_GET_SECCOMP));
  const Filter fine = On(kProbe, SECCOMP_RET_ERRNO);
  EXPECT_FAILS(EINVAL, Install(fine, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER));
  EXPECT_FAILS(EINVAL, Install(fine, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV));
  EXPECT_FAILS(EINVAL, Install(fine, 1 << 30));
  sock_fprog bad = {4, reinterpret_cast<sock_filter*>(8)};
  EXPECT_FAILS(EFAULT, Seccomp(SECCOMP_SET_MODE_FILTER, 0, &bad));
}

TEST(Seccomp, BadPrograms) {
  const std::vector<Filter> bad = {
      {},
      Filter(4097, Ret(SECCOMP_RET_ALLOW)),
      {Load(0)},                                    // no return
      {Load(2), Ret(0)},                            // not aligned
      {Load(64), Ret(0)},                           // beyond the data
      {Load(0xfffff000), Ret(0)},                   // ancillary
      {Stmt(BPF_LD | BPF_H | BPF_ABS, 0), Ret(0)},  // half a word
      {Stmt(BPF_LD | BPF_B | BPF_ABS, 0), Ret(0)},
      {Stmt(BPF_LD | BPF_W | BPF_IND, 0), Ret(0)},
      {Stmt(BPF_LDX | BPF_B | BPF_MSH, 0), Ret(0)},
      {Stmt(BPF_ALU | BPF_MOD | BPF_K, 3), Ret(0)},
      {Stmt(BPF_ALU | BPF_MOD | BPF_X, 0), Ret(0)},
      {Stmt(BPF_ALU | BPF_DIV | BPF_K, 0), Ret(0)},
      {Stmt(BPF_ALU | BPF_LSH | BPF_K, 32), Ret(0)},
      {Stmt(BPF_LD | BPF_MEM, 0), Ret(0)},  // never written
      {Stmt(BPF_ST, 16), Ret(0)},
      {Jump(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0), Ret(0)},
      {Stmt(BPF_JMP | BPF_JA, 0xffffffff), Ret(0)},
      {Stmt(0xffff, 0), Ret(0)},
  };
  for (size_t i = 0; i < bad.size(); ++i) {
    EXPECT_EQ(-1, Install(bad[i])) << i;
    EXPECT_EQ(EINVAL, errno) << i;
  }
  EXPECT_EQ(Exited(0), RunInChild([] {
              // What a filter may do.
              Filter odd = {Stmt(BPF_LD | BPF_W | BPF_LEN, 0),  Stmt(BPF_MISC | BPF_TAX, 0),
                            Stmt(BPF_ALU | BPF_SUB | BPF_X, 0), Stmt(BPF_ALU | BPF_ADD | BPF_K, SECCOMP_RET_ALLOW),
                            Stmt(BPF_LDX | BPF_W | BPF_LEN, 0), Stmt(BPF_RET | BPF_A, 0)};
              CHILD_CHECK(Install(odd) == 0);
              CHILD_CHECK(Install(Filter(4096, Ret(SECCOMP_RET_ALLOW))) == 0);
              CHILD_CHECK(getppid() > 0);
            }));
}

TEST(Seccomp, ActionsThatAreThere) {
  for (uint32_t action : {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO,
                          SECCOMP_RET_USER_NOTIF, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW}) {
    EXPECT_OK(Seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action)) << std::hex << action;
  }
  for (uint32_t action : {0x7ffe0000u, 1u, 0xffffffffu, 0x00050001u}) {
    EXPECT_FAILS(EOPNOTSUPP, Seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action)) << std::hex << action;
  }
  uint32_t action = SECCOMP_RET_ALLOW;
  EXPECT_FAILS(EINVAL, Seccomp(SECCOMP_GET_ACTION_AVAIL, 1, &action));
  EXPECT_FAILS(EFAULT, Seccomp(SECCOMP_GET_ACTION_AVAIL, 0, nullptr));
}

TEST(Seccomp, NotifSizes) {
  seccomp_notif_sizes sizes = {};
  ASSERT_OK(Seccomp(SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
  EXPECT_EQ(80, sizes.seccomp_notif);
  EXPECT_EQ(24, sizes.seccomp_notif_resp);
  EXPECT_EQ(64, sizes.seccomp_data);
  EXPECT_FAILS(EINVAL, Seccomp(SECCOMP_GET_NOTIF_SIZES, 1, &sizes));
  EXPECT_FAILS(EFAULT, Seccomp(SECCOMP_GET_NOTIF_SIZES, 0, nullptr));
}

TEST(Seccomp, StrictMode) {
  EXPECT_EQ(Exited(7), RunInChild([] {
              CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
              (void)!write(-1, "", 0);
              syscall(SYS_exit, 7);
            }));
  EXPECT_EQ(Killed(SIGKILL), RunInChild([] {
              CHILD_CHECK(Seccomp(SECCOMP_SET_MODE_STRICT, 0, nullptr) == 0);
              syscall(SYS_getpid);
              syscall(SYS_exit, 1);
            }));
  // exit_group is not among the four.
  EXPECT_EQ(Killed(SIGKILL), RunInChild([] {
              CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
              syscall(SYS_exit_group, 0);
            }));
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_ERRNO | 1)) == 0);
              CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == -1 && errno == EINVAL);
            }));
}

TEST(Seccomp, ErrnoAndItsLimits) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(Install(On(SYS_getpgid, SECCOMP_RET_ERRNO | 77)) == 0);
              CHILD_CHECK(Install(On(SYS_getsid, SECCOMP_RET_ERRNO | 0)) == 0);
              CHILD_CHECK(Install(On(SYS_getpgrp, SECCOMP_RET_ERRNO | 0xffff)) == 0);
              CHILD_CHECK(syscall(SYS_getpgid, 0) == -1 && errno == 77);
              CHILD_CHECK(syscall(SYS_getsid, 0) == 0);
              CHILD_CHECK(syscall(SYS_getpgrp) == -1 && errno == 4095);
              CHILD_CHECK(getppid() > 0);
              CHILD_CHECK(prctl(PR_GET_SECCOMP) == 2);
            }));
}

TEST(Seccomp, Precedence) {
  struct {
    uint32_t first, second;
    int want;
  } const cases[] = {
      {SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | 5, Exited(5)},
      {SECCOMP_RET_ERRNO | 5, SECCOMP_RET_ALLOW, Exited(5)},
      {SECCOMP_RET_ERRNO | 5, SECCOMP_RET_LOG, Exited(5)},
      {SECCOMP_RET_ERRNO | 5, SECCOMP_RET_TRACE, Exited(5)},
      {SECCOMP_RET_TRACE, SECCOMP_RET_LOG, Exited(ENOSYS)},
      // Of equals the newest counts.
      {SECCOMP_RET_ERRNO | 5, SECCOMP_RET_ERRNO | 6, Exited(6)},
      {SECCOMP_RET_ERRNO | 6, SECCOMP_RET_ERRNO | 5, Exited(5)},
      {SECCOMP_RET_ERRNO | 5, SECCOMP_RET_TRAP, Killed(SIGSYS)},
      {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ERRNO | 5, Killed(SIGSYS)},
      {SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, Killed(SIGSYS)},
      // An action that is none kills.
      {0x7ffe0000, SECCOMP_RET_ALLOW, Killed(SIGSYS)},
  };
  for (const auto& each : cases) {
    EXPECT_EQ(each.want, RunInChild([&] {
                CHILD_CHECK(Install(On(kProbe, each.first)) == 0);
                CHILD_CHECK(Install(On(kProbe, each.second)) == 0);
                _exit(Probe() == -1 ? errno : 0);
              }))
        << std::hex << each.first << " " << each.second;
  }
}

TEST(Seccomp, FilterSeesTheCall) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              // Both halves of the second argument, the architecture.
              constexpr uint64_t kWanted = 0x1234567890abcdef;
              Filter filter = {Load(offsetof(seccomp_data, nr)),
                               Jump(BPF_JMP | BPF_JEQ | BPF_K, kProbe, 0, 7),
                               Load(offsetof(seccomp_data, arch)),
                               Jump(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
                               Load(offsetof(seccomp_data, args[1])),
                               Jump(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(kWanted), 0, 3),
                               Load(offsetof(seccomp_data, args[1]) + 4),
                               Jump(BPF_JMP | BPF_JEQ | BPF_K, kWanted >> 32, 0, 1),
                               Ret(SECCOMP_RET_ERRNO | 99),
                               Ret(SECCOMP_RET_ALLOW)};
              CHILD_CHECK(Install(filter) == 0);
              CHILD_CHECK(Probe(0, static_cast<long>(kWanted)) == -1 && errno == 99);
              CHILD_CHECK(Probe(0, static_cast<long>(kWanted + 1)) > 0);
              CHILD_CHECK(Probe(0, static_cast<long>(kWanted ^ (1ull << 40))) > 0);
            }));
}

TEST(Seccomp, X32NumbersAreSeenAsTheyAre) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              constexpr uint32_t kX32 = 0x40000000;
              CHILD_CHECK(Install(On(kX32 | SYS_getpid, SECCOMP_RET_ERRNO | 55)) == 0);
              CHILD_CHECK(Install(On(-1, SECCOMP_RET_ERRNO | 56)) == 0);
              CHILD_CHECK(syscall(kX32 | SYS_getpid) == -1 && errno == 55);
              CHILD_CHECK(syscall(-1) == -1 && errno == 56);
              CHILD_CHECK(syscall(0xffffffffL) == -1 && errno == 56);
              CHILD_CHECK(syscall(SYS_getpid) == getpid());
            }));
}

siginfo_t g_info;
ucontext_t g_context;
void OnSigsys(int, siginfo_t* info, void* context) {
  g_info = *info;
  auto* uc = static_cast<ucontext_t*>(context);
  g_context = *uc;
  uc->uc_mcontext.gregs[REG_RAX] = 4321;
}

TEST(Seccomp, TrapTellsAll) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              ScopedHandler handler(SIGSYS, OnSigsys);
              CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_TRAP | 0xabcd)) == 0);
              CHILD_CHECK(Probe(11, 22) == 4321);
              CHILD_CHECK(g_info.si_signo == SIGSYS && g_info.si_code == 1);
              CHILD_CHECK(g_info.si_errno == 0xabcd);
              CHILD_CHECK(g_info.si_syscall == kProbe);
              CHILD_CHECK(g_info.si_arch == AUDIT_ARCH_X86_64);
              CHILD_CHECK(reinterpret_cast<greg_t>(g_info.si_call_addr) == g_context.uc_mcontext.gregs[REG_RIP]);
              CHILD_CHECK(g_context.uc_mcontext.gregs[REG_RAX] == kProbe);
              CHILD_CHECK(g_context.uc_mcontext.gregs[REG_RDI] == 11 && g_context.uc_mcontext.gregs[REG_RSI] == 22);
            }));
  EXPECT_EQ(Killed(SIGSYS), RunInChild([] {
              signal(SIGSYS, SIG_IGN);
              CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_TRAP)) == 0);
              Probe();
            }));
  EXPECT_EQ(Killed(SIGSYS), RunInChild([] {
              ScopedHandler handler(SIGSYS, OnSigsys);
              ScopedBlock block({SIGSYS});
              CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_TRAP)) == 0);
              Probe();
            }));
}

TEST(Seccomp, KillIsNotCaught) {
  for (uint32_t action : {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD}) {
    EXPECT_EQ(Killed(SIGSYS), RunInChild([&] {
                ScopedHandler handler(SIGSYS, OnSigsys);
                CHILD_CHECK(Install(On(kProbe, action)) == 0);
                Probe();
              }));
  }
}

TEST(Seccomp, KillThreadKillsOne) {
  EXPECT_EQ(Exited(3), RunInChild([] {
              CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_KILL_THREAD)) == 0);
              pthread_t thread;
              static std::atomic<bool> after{false};
              CHILD_CHECK(pthread_create(
                              &thread, nullptr,
                              [](void*) -> void* {
                                Probe();
                                after = true;
                                return nullptr;
                              },
                              nullptr) == 0);
              pthread_join(thread, nullptr);
              CHILD_CHECK(!after);
              _exit(3);
            }));
  EXPECT_EQ(Killed(SIGSYS), RunInChild([] {
              CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_KILL_PROCESS)) == 0);
              std::thread([] { Probe(); }).join();
              _exit(3);
            }));
}

TEST(Seccomp, WithoutPrivilegeNeedsNoNewPrivs) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              const Filter filter = On(kProbe, SECCOMP_RET_ERRNO | 1);
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(Install(filter) == -1 && errno == EACCES);
              // Looked at before the program, after its size.
              sock_fprog bad = {1, reinterpret_cast<sock_filter*>(8)};
              CHILD_CHECK(Seccomp(SECCOMP_SET_MODE_FILTER, 0, &bad) == -1 && errno == EACCES);
              bad.len = 0;
              CHILD_CHECK(Seccomp(SECCOMP_SET_MODE_FILTER, 0, &bad) == -1 && errno == EINVAL);
              NoNewPrivs();
              CHILD_CHECK(Install(filter) == 0);
              CHILD_CHECK(Probe() == -1 && errno == 1);
            }));
}

TEST(Seccomp, InheritedByForkThreadsAndExec) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(Install(On(SYS_getpgid, SECCOMP_RET_ERRNO | 44)) == 0);
              CHILD_CHECK(RunInChild([] {
                            CHILD_CHECK(Probe() == -1 && errno == 44);
                            CHILD_CHECK(Install(On(SYS_getsid, SECCOMP_RET_ERRNO | 45)) == 0);
                          }) == Exited(0));
              CHILD_CHECK(getsid(0) >= 0);
              std::thread([] { CHILD_CHECK(Probe() == -1 && errno == 44); }).join();
              // A program that says by its status what it is under.
              setenv("SECCOMP_TEST_CHILD", "1", 1);
              execl("/proc/self/exe", "seccomp_test", nullptr);
            }));
}

// Run by the test above.
[[gnu::constructor]] void ExecChild() {
  if (!getenv("SECCOMP_TEST_CHILD")) return;
  _exit(Probe() == -1 && errno == 44 && prctl(PR_GET_SECCOMP) == 2 ? 0 : 1);
}

TEST(Seccomp, StatusLines) {
  EXPECT_EQ("0", StatusLine("self", "Seccomp"));
  EXPECT_EQ("0", StatusLine("self", "Seccomp_filters"));
  Event ready, done;
  Child child([&] {
    CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_ERRNO)) == 0);
    CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_ERRNO)) == 0);
    ready.Set();
    done.Wait();
  });
  ASSERT_TRUE(ready.Wait());
  std::string pid = std::to_string(child.pid());
  EXPECT_EQ("2", StatusLine(pid, "Seccomp"));
  EXPECT_EQ("2", StatusLine(pid, "Seccomp_filters"));
  done.Set();
  EXPECT_EQ(Exited(0), child.Wait());
}

// How many copies of a filter fit into one task's chain.
int Capacity(const Filter& filter) {
  int n = 0;
  while (Install(filter) == 0) ++n;
  return errno == ENOMEM ? n : -1;
}

TEST(Seccomp, ChainsAreBounded) {
  // 32768 instructions in all and four more for each filter below; Linux counts those that it translates to: three at
  // the start, two for a return, and one or two for a jump.
  EXPECT_EQ(Exited(0), RunInChild([] {
              const Filter large(4096, Ret(SECCOMP_RET_ALLOW));
              CHILD_CHECK(Capacity(large) == 3);
              CHILD_CHECK(Install(Filter(4085, Ret(SECCOMP_RET_ALLOW))) == -1 && errno == ENOMEM);
              CHILD_CHECK(Install(Filter(4084, Ret(SECCOMP_RET_ALLOW))) == 0);
              CHILD_CHECK(Install({Ret(SECCOMP_RET_ALLOW)}) == -1 && errno == ENOMEM);
            }));
  EXPECT_EQ(Exited(0), RunInChild([] { CHILD_CHECK(Capacity({Ret(SECCOMP_RET_ALLOW)}) == (32768 + 4) / 9); }));
  struct {
    sock_filter each;
    int translated;
  } const cases[] = {
      {Jump(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1), 1},
      {Jump(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 0), 1},
      {Jump(BPF_JMP | BPF_JEQ | BPF_K, 1, 1, 2), 2},
      {Jump(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1), 2},
      {Jump(BPF_JMP | BPF_JGE | BPF_K, ~0u, 0, 1), 2},
      {Jump(BPF_JMP | BPF_JGE | BPF_X, ~0u, 0, 1), 1},
      {Load(0), 1},
      {Stmt(BPF_LD | BPF_W | BPF_LEN, 0), 1},
      {Stmt(BPF_ALU | BPF_DIV | BPF_X, 0), 5},
      {Stmt(BPF_ALU | BPF_DIV | BPF_K, 3), 1},
      {Stmt(BPF_ALU | BPF_ADD | BPF_K, ~0u), 1},
      {Stmt(BPF_MISC | BPF_TAX, 0), 1},
      {Stmt(BPF_RET | BPF_A, 0), 1},
      {Stmt(BPF_JMP | BPF_JA, 0), 1},
  };
  for (size_t i = 0; i < std::size(cases); ++i) {
    EXPECT_EQ(Exited(0), RunInChild([&] {
                // The first one lets everything pass before the others are reached.
                Filter filter = {Stmt(BPF_JMP | BPF_JA, 1000)};
                filter.insert(filter.end(), 1000, cases[i].each);
                filter.insert(filter.end(), 3, Ret(SECCOMP_RET_ALLOW));
                const int length = 3 + 1 + 1000 * cases[i].translated + 6;
                CHILD_CHECK(Capacity(filter) == (32768 + 4) / (length + 4));
              }))
        << i;
  }
}

TEST(Seccomp, TsyncReachesAllThreads) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              static std::atomic<bool> synced{false};
              static std::atomic<int> ready{0};
              auto body = [](void*) -> void* {
                ++ready;
                while (!synced) sched_yield();
                CHILD_CHECK(Probe() == -1 && errno == 61);
                CHILD_CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
                return nullptr;
              };
              pthread_t threads[3];
              for (pthread_t& thread : threads) CHILD_CHECK(pthread_create(&thread, nullptr, body, nullptr) == 0);
              while (ready < 3) sched_yield();
              NoNewPrivs();
              CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_ERRNO | 61), SECCOMP_FILTER_FLAG_TSYNC) == 0);
              synced = true;
              for (pthread_t thread : threads) pthread_join(thread, nullptr);
            }));
}

TEST(Seccomp, TsyncFailsOverForeignFilters) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              static std::atomic<pid_t> tid{0};
              static std::atomic<bool> done{false};
              std::thread other([] {
                CHILD_CHECK(Install(On(SYS_getsid, SECCOMP_RET_ERRNO | 1)) == 0);
                tid = static_cast<pid_t>(syscall(SYS_gettid));
                while (!done) sched_yield();
                CHILD_CHECK(Probe() >= 0);
              });
              while (!tid) sched_yield();
              const Filter filter = On(kProbe, SECCOMP_RET_ERRNO | 62);
              CHILD_CHECK(Install(filter, SECCOMP_FILTER_FLAG_TSYNC) == tid);
              CHILD_CHECK(Install(filter, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH) == -1);
              CHILD_CHECK(errno == ESRCH);
              CHILD_CHECK(Probe() >= 0);
              CHILD_CHECK(Install(filter) == 0);
              CHILD_CHECK(Probe() == -1 && errno == 62);
              done = true;
              other.join();
            }));
}

TEST(Seccomp, FlagsWithoutEffectAreTaken) {
  EXPECT_EQ(
      Exited(0), RunInChild([] {
        CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_LOG), SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
                                                             SECCOMP_FILTER_FLAG_TSYNC_ESRCH) == 0);
        CHILD_CHECK(Probe() >= 0);
      }));
}

// Tracing.

long Ptrace(int req, pid_t pid, uintptr_t addr = 0, const void* data = nullptr) {
  return ptrace(static_cast<__ptrace_request>(req), pid, addr, data);
}
constexpr int kSeccompStop = Stopped(SIGTRAP) | PTRACE_EVENT_SECCOMP << 16;

// A tracee that stops itself after it has installed `filter`, then runs `body`.
class Tracee : public Child {
 public:
  Tracee(const Filter& filter, const std::function<void()>& body)
      : Child([&] {
          CHILD_CHECK(Ptrace(PTRACE_TRACEME, 0) == 0);
          CHILD_CHECK(Install(filter) == 0);
          raise(SIGSTOP);
          body();
        }) {
    EXPECT_EQ(Stopped(SIGSTOP), Wait());
  }
  int Resume(int req) { return Ptrace(req, pid()) == 0 ? Wait(__WALL) : -1; }
};

TEST(SeccompTrace, EventCarriesDataAndTracerDecides) {
  Tracee t(On(kProbe, SECCOMP_RET_TRACE | 0x1234), [] {
    CHILD_CHECK(Probe() > 0);
    CHILD_CHECK(Probe() == -1 && errno == ENOSYS);
    CHILD_CHECK(Probe() == 777);
    CHILD_CHECK(syscall(SYS_getpgid, 0) == getpid());  // made getpid by the tracer
  });
  EXPECT_FAILS(EINVAL, Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, reinterpret_cast<void*>(1ul << 30)));
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, reinterpret_cast<void*>(PTRACE_O_TRACESECCOMP)));
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(kSeccompStop, t.Resume(PTRACE_CONT)) << i;
    unsigned long message = 0;
    ASSERT_OK(Ptrace(PTRACE_GETEVENTMSG, t.pid(), 0, &message));
    EXPECT_EQ(0x1234u, message);
    user_regs_struct regs = {};
    ASSERT_OK(Ptrace(PTRACE_GETREGS, t.pid(), 0, &regs));
    EXPECT_EQ(static_cast<unsigned long>(kProbe), regs.orig_rax);
    EXPECT_EQ(-ENOSYS, static_cast<long>(regs.rax));
    __ptrace_syscall_info info = {};
    ASSERT_EQ(84, Ptrace(PTRACE_GET_SYSCALL_INFO, t.pid(), sizeof info, &info));
    EXPECT_EQ(PTRACE_SYSCALL_INFO_SECCOMP, info.op);
    EXPECT_EQ(static_cast<unsigned long>(kProbe), info.seccomp.nr);
    EXPECT_EQ(0x1234u, info.seccomp.ret_data);
    if (i == 1 || i == 2) regs.orig_rax = -1;
    if (i == 2) regs.rax = 777;
    if (i == 3) regs.orig_rax = SYS_getpid;
    if (i) {
      ASSERT_OK(Ptrace(PTRACE_SETREGS, t.pid(), 0, &regs));
    }
  }
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(SeccompTrace, ChangedCallIsFilteredAgain) {
  Filter filter = {Load(0),
                   Jump(BPF_JMP | BPF_JEQ | BPF_K, kProbe, 0, 1),
                   Ret(SECCOMP_RET_TRACE),
                   Jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsid, 0, 1),
                   Ret(SECCOMP_RET_ERRNO | 88),
                   Ret(SECCOMP_RET_ALLOW)};
  Tracee t(filter, [] { CHILD_CHECK(Probe() == -1 && errno == 88); });
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, reinterpret_cast<void*>(PTRACE_O_TRACESECCOMP)));
  ASSERT_EQ(kSeccompStop, t.Resume(PTRACE_CONT));
  user_regs_struct regs = {};
  ASSERT_OK(Ptrace(PTRACE_GETREGS, t.pid(), 0, &regs));
  regs.orig_rax = SYS_getsid;
  ASSERT_OK(Ptrace(PTRACE_SETREGS, t.pid(), 0, &regs));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(SeccompTrace, SyscallStopComesBefore) {
  Tracee t(On(kProbe, SECCOMP_RET_TRACE), [] { Probe(); });
  ASSERT_OK(
      Ptrace(PTRACE_SETOPTIONS, t.pid(), 0, reinterpret_cast<void*>(PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD)));
  constexpr int kStop = Stopped(SIGTRAP | 0x80);
  user_regs_struct regs = {};
  do {
    ASSERT_EQ(kStop, t.Resume(PTRACE_SYSCALL));
    ASSERT_OK(Ptrace(PTRACE_GETREGS, t.pid(), 0, &regs));
  } while (regs.orig_rax != kProbe);
  EXPECT_EQ(kSeccompStop, t.Resume(PTRACE_SYSCALL));
  EXPECT_EQ(kStop, t.Resume(PTRACE_SYSCALL));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

TEST(SeccompTrace, WithoutOptionOrTracerIsEnosys) {
  Tracee t(On(kProbe, SECCOMP_RET_TRACE), [] { CHILD_CHECK(Probe() == -1 && errno == ENOSYS); });
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_TRACE)) == 0);
              CHILD_CHECK(Probe() == -1 && errno == ENOSYS);
            }));
}

TEST(SeccompTrace, FiltersCanBeRead) {
  constexpr int kGetFilter = 0x420c, kGetMetadata = 0x420d;
  const Filter first = On(kProbe, SECCOMP_RET_ERRNO | 1), second = {Ret(SECCOMP_RET_ALLOW)};
  Tracee t(first, [&] {
    CHILD_CHECK(Install(second, SECCOMP_FILTER_FLAG_LOG) == 0);
    raise(SIGSTOP);
  });
  ASSERT_EQ(Stopped(SIGSTOP), t.Resume(PTRACE_CONT));
  Filter got(10);
  if (long n = Ptrace(kGetFilter, t.pid(), 0, got.data()); n == -1 && errno == EIO)
    GTEST_SKIP() << "needs CONFIG_CHECKPOINT_RESTORE";
  ASSERT_EQ(4, Ptrace(kGetFilter, t.pid(), 0, nullptr));
  ASSERT_EQ(4, Ptrace(kGetFilter, t.pid(), 0, got.data()));
  EXPECT_EQ(0, memcmp(got.data(), first.data(), 4 * sizeof(sock_filter)));
  EXPECT_EQ(1, Ptrace(kGetFilter, t.pid(), 1, got.data()));
  EXPECT_FAILS(ENOENT, Ptrace(kGetFilter, t.pid(), 2, got.data()));
  EXPECT_FAILS(EFAULT, Ptrace(kGetFilter, t.pid(), 0, reinterpret_cast<void*>(8)));
  struct {
    uint64_t offset, flags;
  } metadata = {0, 99};
  EXPECT_EQ(16, Ptrace(kGetMetadata, t.pid(), sizeof metadata, &metadata));
  EXPECT_EQ(0u, metadata.flags);
  metadata.offset = 1;
  EXPECT_EQ(16, Ptrace(kGetMetadata, t.pid(), 4096, &metadata));
  EXPECT_EQ(static_cast<uint64_t>(SECCOMP_FILTER_FLAG_LOG), metadata.flags);
  EXPECT_FAILS(EINVAL, Ptrace(kGetMetadata, t.pid(), 7, &metadata));
  EXPECT_EQ(Exited(0), t.Resume(PTRACE_CONT));
}

}  // namespace
