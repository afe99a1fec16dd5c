// SPDX-License-Identifier: Apache-2.0
// Life cycles of tasks without guest code: a platform whose Switch reports a system call at once, and a system call
// handler that runs a C++ function chosen by the registers. `stack` of clone(2) names the function of a child, the
// entry point that of an image.
#include "sentry/kernel/kernel.h"

#include <dirent.h>
#include <elf.h>
#include <sched.h>
#include <sys/wait.h>

#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/task_internal.h"
#include "sentry/loader/loader.h"
#include "sentry/mm/fake_platform.h"
#include "sentry/vfs/test_util.h"

namespace sentry::kernel {
namespace {

constexpr int kStay = -1;     // a program that goes on (after exec)
constexpr int kForever = -2;  // spins in the guest

using Program = std::function<int(Task&)>;
std::vector<Program> g_programs;
std::atomic<int> g_contexts{0};

class ScriptContext final : public platform::Context {
 public:
  ScriptContext() { ++g_contexts; }
  ~ScriptContext() override { Release(); }
  Result<void> Bind(platform::AddressSpace&) override { return OkResult(); }
  platform::Event Switch(Registers& registers) override {
    if (interrupted_.exchange(false)) return {.kind = platform::Event::Kind::kInterrupted};
    registers.orig_rax = 1000;
    return {.kind = platform::Event::Kind::kSyscall};
  }
  Result<std::unique_ptr<platform::Context>> CloneInSpace() override {
    return std::unique_ptr<platform::Context>(std::make_unique<ScriptContext>());
  }
  void Interrupt() override { interrupted_ = true; }
  size_t GetFpu(std::span<uint8_t>) override { return 0; }
  Result<void> SetFpu(std::span<const uint8_t>) override { return OkResult(); }
  Result<void> ResetFpu() override { return OkResult(); }
  void Release() override {
    if (!released_) --g_contexts;
    released_ = true;
  }

 private:
  std::atomic<bool> interrupted_{false};
  bool released_ = false;
};

class ScriptPlatform final : public platform::Platform {
 public:
  const char* Name() const override { return "script"; }
  Result<RefPtr<platform::AddressSpace>> NewAddressSpace() override {
    return RefPtr<platform::AddressSpace>(new mm::FakeSpace());
  }
  std::unique_ptr<platform::Context> NewContext() override { return std::make_unique<ScriptContext>(); }
  size_t FpuStateSize() const override { return 64; }
};

// Init of the root pid namespace, whose end would be the end of all.
constexpr size_t kKeeper = 255;

void RunProgram(Task& task) {
  uint64_t index = task.regs().rsp < 4096 ? task.regs().rsp : (task.regs().rip & 0xfff) / 16;
  if (index == kKeeper) {
    (void)task.Block();
    return;
  }
  int code = g_programs[index](task);
  if (code >= 0) task.RequestExit(code);
}

std::string MakeElf(size_t program) {
  struct {
    Elf64_Ehdr header = {};
    Elf64_Phdr segments[2] = {};
  } image;
  memcpy(image.header.e_ident, ELFMAG, SELFMAG);
  image.header.e_ident[EI_CLASS] = ELFCLASS64;
  image.header.e_ident[EI_DATA] = ELFDATA2LSB;
  image.header.e_type = ET_EXEC;
  image.header.e_machine = EM_X86_64;
  image.header.e_phentsize = sizeof(Elf64_Phdr);
  image.header.e_phoff = sizeof(Elf64_Ehdr);
  image.header.e_phnum = 2;
  image.header.e_entry = 0x400000 + program * 16;
  image.segments[0] = {
      .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = 0x400000, .p_filesz = 4096, .p_memsz = 4096};
  image.segments[1] = {
      .p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_vaddr = 0x402000, .p_filesz = 64, .p_memsz = 20000};
  std::string bytes(4096, 0);
  memcpy(bytes.data(), &image, sizeof image);
  return bytes;
}

Kernel& TheKernel() {
  static Kernel& kernel = *[] {
    // Lives as long as the test, as the memory of its tmpfs, which must be the same.
    auto* made =
        new Kernel(std::make_unique<ScriptPlatform>(), std::unique_ptr<platform::MemoryFile>(&vfs::TestMemory()), {});
    made->set_syscall_handler(RunProgram);
    return made;
  }();
  return kernel;
}

size_t HostThreads() {
  size_t n = 0;
  DIR* dir = opendir("/proc/self/task");
  while (readdir(dir)) ++n;
  closedir(dir);
  return n - 2;
}

// What tasks do on their last steps happens after others may have seen them gone.
template <typename F>
void Eventually(F condition) {
  int64_t deadline = base::MonotonicNs() + 20 * base::kNsPerSecond;
  while (!condition() && base::MonotonicNs() < deadline) sched_yield();
  EXPECT_TRUE(condition());
}

class KernelTest : public vfs::VfsTest {
 protected:
  void SetUp() override {
    // No program 0: that is no stack to give to clone.
    g_programs.assign(1, nullptr);
    static const RefPtr<ThreadGroup> kKeeperGroup = [this] {
      MakeFile(FileOf(kKeeper), MakeElf(kKeeper), 0755);
      ProcessRequest request = RequestFor(kKeeper);
      request.container_id = "keeper";
      return *TheKernel().StartProcess(request);
    }();
    file_bytes_ = TheKernel().memory_file().UsedBytes();
  }
  void TearDown() override {
    Eventually([] { return TheKernel().tasks().task_count() == 1 && g_contexts == 1 && HostThreads() == 2; });
    EXPECT_EQ(TheKernel().memory_file().UsedBytes(), file_bytes_);
  }
  // A file that runs `program`; its index is also the `stack` to give to clone.
  size_t Define(Program program) {
    g_programs.push_back(std::move(program));
    size_t index = g_programs.size() - 1;
    MakeFile(FileOf(index), MakeElf(index), 0755);
    file_bytes_ = TheKernel().memory_file().UsedBytes();
    return index;
  }
  static std::string FileOf(size_t index) { return "/prog" + std::to_string(index); }
  ProcessRequest RequestFor(size_t index) {
    ProcessRequest request;
    request.root = root_;
    request.cwd = cwd_;
    request.mounts = mounts_;
    request.creds = root_creds_;
    request.filename = FileOf(index);
    request.argv = {"prog"};
    request.fds = MakeRef<FdTable>();
    request.container_id = "c";
    return request;
  }
  RefPtr<ThreadGroup> Start(Program program) {
    auto group = TheKernel().StartProcess(RequestFor(Define(std::move(program))));
    EXPECT_EQ(E(group), 0);
    return *group;
  }
  // Runs `init` as the init of a container to its end: the exit status word, -1 if it hangs.
  int RunInit(Program init) {
    RefPtr<ThreadGroup> group = Start(std::move(init));
    auto status = group->WaitForExit(base::MonotonicNs() + 30 * base::kNsPerSecond);
    if (!status) {
      ADD_FAILURE() << "no exit";
      TheKernel().KillContainer("c");
      return -1;
    }
    return status->ToWaitStatus();
  }
  static pid_t Spawn(Task& task, size_t program, uint64_t flags = 0, int exit_signal = SIGCHLD) {
    auto pid = task.Clone({.flags = flags, .exit_signal = exit_signal, .stack = program});
    return pid.ok() ? *pid : -pid.error_number();
  }
  static WaitResult Wait(Task& task, int options = WEXITED, pid_t pid = -1) {
    WaitRequest request;
    request.options = options;
    if (pid > 0) request.who = WaitRequest::Who::kPid, request.id = pid;
    auto result = TheKernel().tasks().Wait(task, request);
    if (!result.ok()) return {.pid = -result.error_number()};
    return *result;
  }
  int Exec(Task& task, size_t program) {
    vfs::WalkContext context{root_, cwd_, *root_creds_, mounts_, 022};
    auto file = loader::OpenExecutable(context, FileOf(program), vfs::kFollowFinal);
    if (!file.ok()) return file.error_number();
    return task.Exec(*file, FileOf(program), {"prog", "x"}, {}).error_number();
  }

  uint64_t file_bytes_ = 0;  // memory that the programs' files take: all that may be left in the end
};

TEST_F(KernelTest, InitExits) {
  EXPECT_EQ(RunInit([](Task& task) {
              EXPECT_EQ(task.CallerTgid(), 1);
              EXPECT_EQ(task.CallerTid(), 1);
              EXPECT_EQ(task.name(), "prog1");
              EXPECT_EQ(task.group().session()->IdIn(task.pid_ns()), 1);
              EXPECT_EQ(Wait(task).pid, -ECHILD);
              return 7;
            }),
            0x700);
}

TEST_F(KernelTest, StartErrorsLeaveNothing) {
  ProcessRequest request = RequestFor(0);
  request.filename = "/missing";
  EXPECT_EQ(E(TheKernel().StartProcess(request)), ENOENT);
  MakeFile("/text", "no format", 0755);
  request.filename = "/text";
  EXPECT_EQ(E(TheKernel().StartProcess(request)), ENOEXEC);
  MakeFile("/plain", "x", 0644);
  request.filename = "/plain";
  EXPECT_EQ(E(TheKernel().StartProcess(request)), EACCES);
  MakeFile("/loop", "#!/loop\n", 0755);
  file_bytes_ = TheKernel().memory_file().UsedBytes();
  request.filename = "/loop";
  EXPECT_EQ(E(TheKernel().StartProcess(request)), ELOOP);
  request.filename = "nowhere";
  EXPECT_EQ(E(TheKernel().StartProcess(request)), ENOENT);
}

TEST_F(KernelTest, WaitReportsChildren) {
  size_t child = Define([](Task&) { return 3; });
  EXPECT_EQ(RunInit([&](Task& task) {
              pid_t pid = Spawn(task, child);
              EXPECT_GT(pid, 1);
              WaitResult peek = Wait(task, WEXITED | WNOWAIT);
              EXPECT_EQ(peek.pid, pid);
              WaitResult result = Wait(task);
              EXPECT_EQ(result.pid, pid);
              EXPECT_EQ(result.wait_status, 0x300);
              EXPECT_EQ(result.code, CLD_EXITED);
              EXPECT_EQ(Wait(task, WEXITED | WNOHANG).pid, -ECHILD);
              // One that sends another signal is a "clone" child.
              pid = Spawn(task, child, 0, SIGUSR1);
              EXPECT_EQ(Wait(task, WEXITED).pid, -ECHILD);
              EXPECT_EQ(Wait(task, static_cast<int>(WEXITED | __WCLONE)).pid, pid);
              return 0;
            }),
            0);
}

TEST_F(KernelTest, IgnoredSigchldReapsByItself) {
  size_t child = Define([](Task&) { return 3; });
  EXPECT_EQ(RunInit([&](Task& task) {
              {
                SignalLock lock(task.group());
                lock.handlers().actions[SIGCHLD].handler = kSignalIgnore;
              }
              EXPECT_GT(Spawn(task, child), 1);
              EXPECT_EQ(Wait(task).pid, -ECHILD);
              return 0;
            }),
            0);
}

TEST_F(KernelTest, ExitGroupEndsAllThreads) {
  std::atomic<int> started{0};
  size_t thread = Define([&](Task& task) {
    ++started;
    while (task.Block().ok()) {
    }
    return kStay;
  });
  constexpr uint64_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
  EXPECT_EQ(RunInit([&](Task& task) {
              for (int i = 0; i < 5; ++i) EXPECT_GT(Spawn(task, thread, kThread), 0);
              while (started < 5) sched_yield();
              EXPECT_EQ(task.group().thread_count(), 6);
              task.group().Exit({.code = 9});
              return kStay;
            }),
            0x900);
}

TEST_F(KernelTest, ProcessEndsWithItsLastThread) {
  size_t thread = Define([&](Task& task) {
    // The leader goes first and stays as a zombie.
    while (!task.group().leader()->IsExited()) sched_yield();
    return 5;
  });
  constexpr uint64_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
  EXPECT_EQ(RunInit([&](Task& task) {
              EXPECT_GT(Spawn(task, thread, kThread), 0);
              return 4;
            }),
            0x500);
}

TEST_F(KernelTest, CpuLimitKillsAndIsInherited) {
  size_t child = Define([&](Task& task) {
    while (task.Block().ok()) {
    }
    return kStay;
  });
  EXPECT_EQ(RunInit([&](Task& task) {
              EXPECT_TRUE(task.group().limits().Set(RLIMIT_CPU, {0, 0}, false).ok());
              EXPECT_GT(Spawn(task, child), 0);
              EXPECT_EQ(Wait(task).wait_status, SIGKILL);
              task.group().timers().EnforceCpuLimit();
              while (task.Block().ok()) {
              }
              return kStay;
            }),
            SIGKILL);
}

TEST_F(KernelTest, ExecByAThreadTakesTheLeadersId) {
  size_t image = Define([&](Task& task) {
    EXPECT_EQ(task.group().thread_count(), 1);
    EXPECT_EQ(task.CallerTid(), task.CallerTgid());
    EXPECT_EQ(task.group().leader().get(), &task);
    return 6;
  });
  size_t sleeper = Define([&](Task& task) {
    while (task.Block().ok()) {
    }
    return kStay;
  });
  size_t executor = Define([&](Task& task) {
    EXPECT_NE(task.CallerTid(), task.CallerTgid());
    EXPECT_EQ(Exec(task, image), 0);
    return kStay;
  });
  constexpr uint64_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
  size_t leader = Define([&](Task& task) {
    EXPECT_GT(Spawn(task, sleeper, kThread), 0);
    EXPECT_GT(Spawn(task, executor, kThread), 0);
    while (task.Block().ok()) {
    }
    return kStay;
  });
  EXPECT_EQ(RunInit([&](Task& task) {
              pid_t pid = Spawn(task, leader);
              WaitResult result = Wait(task);
              EXPECT_EQ(result.pid, pid);
              EXPECT_EQ(result.wait_status, 0x600);
              return 0;
            }),
            0);
}

TEST_F(KernelTest, OrphansGoToTheSubreaperOrInit) {
  size_t orphan = Define([](Task& task) {
    while (task.group().parent()->TgidIn(task.pid_ns()) == 0) sched_yield();
    return 2;
  });
  size_t middle = Define([&](Task& task) {
    EXPECT_GT(Spawn(task, orphan), 0);
    return 1;
  });
  size_t reaper = Define([&](Task& task) {
    task.group().child_subreaper = true;
    EXPECT_GT(Spawn(task, middle), 0);
    int sum = 0;
    for (int i = 0; i < 2; ++i) sum += Wait(task).wait_status >> 8;
    return sum;
  });
  EXPECT_EQ(RunInit([&](Task& task) {
              EXPECT_GT(Spawn(task, reaper), 0);
              EXPECT_EQ(Wait(task).wait_status, 0x300);
              EXPECT_GT(Spawn(task, middle), 0);
              int sum = 0;
              for (int i = 0; i < 2; ++i) sum += Wait(task).wait_status >> 8;
              return sum;
            }),
            0x300);
}

TEST_F(KernelTest, VforkParentWaits) {
  std::atomic<bool> child_done{false};
  Task* parent = nullptr;
  size_t child = Define([&](Task&) {
    // A parent that does not wait for the child sleeps later, having seen that it is not done.
    while (parent->StateLetter() == 'R') sched_yield();
    child_done = true;
    return 0;
  });
  EXPECT_EQ(RunInit([&](Task& task) {
              parent = &task;
              EXPECT_GT(Spawn(task, child, CLONE_VM | CLONE_VFORK), 0);
              EXPECT_TRUE(child_done);
              Wait(task);
              return 0;
            }),
            0);
}

TEST_F(KernelTest, NamespaceDiesWithItsInit) {
  size_t spinner = Define([](Task&) { return kForever; });
  std::atomic<int> ready{0};
  size_t sleeper = Define([&](Task& task) {
    EXPECT_GT(Spawn(task, spinner), 0);
    ++ready;
    while (task.Block().ok()) {
    }
    return kStay;
  });
  EXPECT_EQ(RunInit([&](Task& task) {
              for (int i = 0; i < 3; ++i) EXPECT_GT(Spawn(task, sleeper), 0);
              EXPECT_GT(Spawn(task, sleeper, CLONE_NEWPID), 0);
              while (ready < 4) sched_yield();
              return 8;
            }),
            0x800);
  EXPECT_EQ(TheKernel().tasks().task_count(), 1u);
}

TEST_F(KernelTest, KillEndsASpinningContainer) {
  RefPtr<ThreadGroup> group = Start([](Task&) { return kForever; });
  EXPECT_FALSE(group->WaitForExit(0).has_value());
  TheKernel().KillContainer("other");
  EXPECT_FALSE(group->IsExiting());
  TheKernel().KillContainer("c");
  EXPECT_EQ(group->WaitForExit(base::kNoDeadline)->signal, SIGKILL);
}

TEST_F(KernelTest, PauseStopsAndResumes) {
  std::atomic<uint64_t> steps{0};
  RefPtr<ThreadGroup> group = Start([&](Task&) {
    ++steps;
    return kForever;
  });
  RefPtr<Task> task = group->leader();
  TheKernel().Pause();
  Eventually([&] { return task->StateLetter() == 'T'; });
  uint64_t at = steps;
  for (int i = 0; i < 100; ++i) sched_yield();
  EXPECT_EQ(steps, at);
  TheKernel().Unpause();
  Eventually([&] { return steps > at; });
  task.Reset();
  TheKernel().KillContainer("c");
  EXPECT_TRUE(group->WaitForExit(base::kNoDeadline).has_value());
}

TEST_F(KernelTest, SessionsAndGroups) {
  size_t sleeper = Define([](Task& task) {
    while (task.Block().ok()) {
    }
    return kStay;
  });
  size_t own_session = Define([](Task& task) {
    auto id = task.group().CreateSession();
    EXPECT_EQ(E(id), 0);
    EXPECT_EQ(*id, task.CallerTgid());
    EXPECT_EQ(E(task.group().CreateSession()), EPERM);
    EXPECT_EQ(E(task.group().SetProcessGroup(0, task.pid_ns(), task)), EPERM);
    EXPECT_TRUE(task.group().process_group()->IsOrphaned());
    return 0;
  });
  EXPECT_EQ(RunInit([&](Task& task) {
              EXPECT_EQ(E(task.group().CreateSession()), EPERM);
              pid_t a = Spawn(task, sleeper), b = Spawn(task, sleeper);
              TaskSet& tasks = TheKernel().tasks();
              auto first = tasks.FindThreadGroup(task.pid_ns(), a), second = tasks.FindThreadGroup(task.pid_ns(), b);
              EXPECT_EQ(E(first->SetProcessGroup(0, task.pid_ns(), task)), 0);
              EXPECT_EQ(first->process_group()->IdIn(task.pid_ns()), a);
              EXPECT_EQ(E(second->SetProcessGroup(a, task.pid_ns(), task)), 0);
              EXPECT_EQ(E(second->SetProcessGroup(12345, task.pid_ns(), task)), EPERM);
              tasks.FindProcessGroup(task.pid_ns(), a)->SendSignal(KernelSignal(SIGTERM));
              for (int i = 0; i < 2; ++i) EXPECT_EQ(Wait(task).wait_status, SIGTERM);
              EXPECT_EQ(tasks.FindProcessGroup(task.pid_ns(), a), nullptr);
              Spawn(task, own_session);
              EXPECT_EQ(Wait(task).wait_status, 0);
              return 0;
            }),
            0);
}

TEST_F(KernelTest, CloneRefusesBadFlags) {
  EXPECT_EQ(RunInit([&](Task& task) {
              for (uint64_t flags : {uint64_t{CLONE_THREAD}, uint64_t{CLONE_SIGHAND}, uint64_t{CLONE_NEWNS | CLONE_FS},
                                     uint64_t{CLONE_PARENT}, uint64_t{CLONE_NEWUSER | CLONE_FS}}) {
                EXPECT_EQ(Spawn(task, 0, flags), -EINVAL) << flags;
              }
              EXPECT_EQ(E(task.Clone({.exit_signal = SIGCHLD, .set_tid = {0}})), EINVAL);
              EXPECT_EQ(E(task.Clone({.exit_signal = SIGCHLD, .set_tid = {1}})), EEXIST);
              return 0;
            }),
            0);
}

TEST_F(KernelTest, PidFileIsReadableAfterTheEnd) {
  RefPtr<ThreadGroup> group = Start([](Task&) { return kForever; });
  vfs::FileRef file = NewPidFile(group, 0);
  EXPECT_EQ(file->Poll(), 0u);
  EXPECT_EQ(ThreadGroupOfPidFile(*file), group);
  group->Exit({.signal = SIGKILL});
  EXPECT_TRUE(group->WaitForExit(base::kNoDeadline).has_value());
  EXPECT_EQ(file->Poll(), kEventIn);
}

TEST_F(KernelTest, ThousandForksAndExecsLeakNothing) {
  size_t image = Define([](Task&) { return 1; });
  size_t child = Define([&](Task& task) {
    EXPECT_EQ(Exec(task, image), 0);
    return kStay;
  });
  EXPECT_EQ(RunInit([&](Task& task) {
              uint64_t memory = 0;
              for (int i = 0; i < 1000; ++i) {
                EXPECT_GT(Spawn(task, child), 0);
                EXPECT_EQ(Wait(task).wait_status, 0x100);
                uint64_t used = TheKernel().memory_file().UsedBytes();
                if (i == 0) memory = used;
                EXPECT_LE(used, memory);
              }
              EXPECT_EQ(TheKernel().tasks().task_count(), 2u);
              EXPECT_EQ(g_contexts, 2);
              return 0;
            }),
            0);
}

}  // namespace
}  // namespace sentry::kernel
