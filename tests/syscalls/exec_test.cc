// SPDX-License-Identifier: Apache-2.0
// execve and execveat: arguments, environment, errors, scripts, and what survives the new image.
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <vector>

#include "tests/syscalls/util.h"

namespace {

struct Outcome {
  int status;
  std::string out;
};

// Runs `exec` in a child whose standard output is collected; `exec` returning means that the exec failed, and the
// child then prints the errno and exits with 100.
Outcome Capture(const std::function<void()>& exec) {
  Pipe p(O_CLOEXEC);
  Child child([&] {
    dup2(p.w.get(), 1);
    exec();
    dprintf(1, "errno=%d", errno);
    _exit(100);
  });
  p.w.reset();
  Outcome o;
  char buf[4096];
  ssize_t n;
  while ((n = read(p.r.get(), buf, sizeof buf)) > 0) o.out.append(buf, n);
  o.status = child.Wait();
  return o;
}

Outcome Exec(const std::string& path, std::vector<std::string> argv, std::vector<std::string> envp = {}) {
  std::vector<char*> a, e;
  for (auto& s : argv) a.push_back(s.data());
  for (auto& s : envp) e.push_back(s.data());
  a.push_back(nullptr);
  e.push_back(nullptr);
  return Capture([&] { execve(path.c_str(), a.data(), e.data()); });
}

std::string Err(int e) { return "errno=" + std::to_string(e); }

TEST(Exec, PassesArguments) {
  Outcome o = Exec("/bin/sh", {"sh", "-c", "printf '%s|' \"$0\" \"$@\"", "a", "", "b c", "d"});
  EXPECT_EQ(Exited(0), o.status);
  EXPECT_EQ("a||b c|d|", o.out);
}

TEST(Exec, ReplacesEnvironment) {
  Outcome o = Exec("/usr/bin/env", {"env"}, {"ONE=1", "TWO=2 3", "EMPTY="});
  EXPECT_EQ(Exited(0), o.status);
  EXPECT_EQ("ONE=1\nTWO=2 3\nEMPTY=\n", o.out);
}

TEST(Exec, CmdlineShowsNewArguments) {
  Outcome o = Exec("/bin/cat", {"my-cat", "/proc/self/cmdline"});
  EXPECT_EQ(std::string("my-cat\0/proc/self/cmdline\0", 26), o.out);
}

TEST(Exec, CommIsTheFileName) {
  Outcome o = Exec("/bin/cat", {"other-name", "/proc/self/comm"});
  EXPECT_EQ("cat\n", o.out);
}

TEST(Exec, ProcSelfExeNamesTheImage) {
  char want[PATH_MAX];
  ASSERT_NE(nullptr, realpath("/usr/bin/readlink", want));
  Outcome o = Exec("/usr/bin/readlink", {"readlink", "/proc/self/exe"});
  EXPECT_EQ(std::string(want) + "\n", o.out);
}

TEST(Exec, PidIsKept) {
  Pipe p(O_CLOEXEC);
  Child child([&] {
    dup2(p.w.get(), 1);
    execl("/bin/sh", "sh", "-c", "echo $$", nullptr);
  });
  p.w.reset();
  char buf[32] = {};
  ASSERT_GT(read(p.r.get(), buf, sizeof buf - 1), 0);
  EXPECT_EQ(child.pid(), atoi(buf));
  EXPECT_EQ(Exited(0), child.Wait());
}

TEST(Exec, MissingFile) { EXPECT_EQ(Err(ENOENT), Exec("/nonexistent/file", {"x"}).out); }

TEST(Exec, EmptyPath) { EXPECT_EQ(Err(ENOENT), Exec("", {"x"}).out); }

TEST(Exec, ComponentIsNotADirectory) { EXPECT_EQ(Err(ENOTDIR), Exec("/bin/sh/x", {"x"}).out); }

TEST(Exec, DirectoryIsRefused) { EXPECT_EQ(Err(EACCES), Exec("/tmp", {"x"}).out); }

TEST(Exec, PathTooLong) { EXPECT_EQ(Err(ENAMETOOLONG), Exec(std::string(PATH_MAX + 10, 'a'), {"x"}).out); }

TEST(Exec, WithoutExecuteBitEvenRootIsRefused) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "#!/bin/sh\n", 0644));
  EXPECT_EQ(Err(EACCES), Exec(dir / "f", {"x"}).out);
}

TEST(Exec, UnknownFormat) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "no known format here\n", 0755));
  EXPECT_EQ(Err(ENOEXEC), Exec(dir / "f", {"x"}).out);
}

TEST(Exec, EmptyFile) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "", 0755));
  EXPECT_EQ(Err(ENOEXEC), Exec(dir / "f", {"x"}).out);
}

TEST(Exec, TruncatedElf) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", std::string("\177ELF\2\1\1\0", 8), 0755));
  EXPECT_EQ(Err(ENOEXEC), Exec(dir / "f", {"x"}).out);
}

TEST(Exec, FileOpenForWriting) {
  TempDir dir;
  std::string image = ReadFile("/bin/true");
  ASSERT_FALSE(image.empty());
  ASSERT_TRUE(WriteFile(dir / "f", image, 0755));
  Fd fd(open((dir / "f").c_str(), O_WRONLY));
  EXPECT_EQ(Err(ETXTBSY), Exec(dir / "f", {"x"}).out);
  fd.reset();
  EXPECT_EQ(Exited(0), Exec(dir / "f", {"x"}).status);
}

TEST(Exec, SymlinkLoop) {
  TempDir dir;
  ASSERT_OK(symlink((dir / "l").c_str(), (dir / "l").c_str()));
  EXPECT_EQ(Err(ELOOP), Exec(dir / "l", {"x"}).out);
}

TEST(Exec, ArgumentOverMaximumLength) {
  // MAX_ARG_STRLEN is 32 pages, the terminating NUL included.
  EXPECT_EQ(Err(E2BIG), Exec("/bin/true", {"x", std::string(32 * 4096, 'a')}).out);
  EXPECT_EQ(Exited(0), Exec("/bin/true", {"x", std::string(32 * 4096 - 1, 'a')}).status);
}

TEST(Exec, ArgumentsOverAQuarterOfTheStackLimit) {
  Outcome o = Capture([] {
    rlimit rl = {1 << 20, 1 << 20};
    CHILD_CHECK(setrlimit(RLIMIT_STACK, &rl) == 0);
    std::string arg(100 << 10, 'a');
    char* argv[] = {arg.data(), arg.data(), arg.data(), nullptr};
    execv("/bin/true", argv);
  });
  EXPECT_EQ(Err(E2BIG), o.out);
}

TEST(Exec, BadPointers) {
  auto bad = reinterpret_cast<char* const*>(8);
  EXPECT_EQ(Err(EFAULT), Capture([&] { execve("/bin/true", bad, nullptr); }).out);
  EXPECT_EQ(Err(EFAULT), Capture([&] { syscall(SYS_execve, 8, nullptr, nullptr); }).out);
}

TEST(Exec, FailureLeavesTheProcessAsItWas) {
  ScopedHandler handler(SIGUSR1, [](int) {});
  Fd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  char* argv[] = {nullptr};
  EXPECT_FAILS(ENOENT, execve("/nonexistent", argv, argv));
  struct sigaction sa;
  ASSERT_OK(sigaction(SIGUSR1, nullptr, &sa));
  EXPECT_NE(SIG_DFL, sa.sa_handler);
  EXPECT_OK(fcntl(fd.get(), F_GETFD));
}

TEST(ExecScript, InterpreterGetsOptionAndPath) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "s", "#! /bin/echo  one two \nignored\n", 0755));
  // All after the interpreter is a single argument, without surrounding blanks.
  EXPECT_EQ("one two " + (dir / "s") + " x y\n", Exec(dir / "s", {"argv0", "x", "y"}).out);
}

TEST(ExecScript, RunsWithoutTrailingNewline) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "s", "#!/bin/echo", 0755));
  EXPECT_EQ((dir / "s") + "\n", Exec(dir / "s", {"s"}).out);
}

TEST(ExecScript, NestedInterpreters) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "a", "#!/bin/echo inner\n", 0755));
  ASSERT_TRUE(WriteFile(dir / "b", "#!" + (dir / "a") + " outer\n", 0755));
  EXPECT_EQ("inner " + (dir / "a") + " outer " + (dir / "b") + "\n", Exec(dir / "b", {"b"}).out);
}

TEST(ExecScript, InterpreterLoopIsELOOP) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "s", "#!" + (dir / "s") + "\n", 0755));
  EXPECT_EQ(Err(ELOOP), Exec(dir / "s", {"s"}).out);
}

TEST(ExecScript, MissingInterpreter) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "s", "#!/nonexistent/interp\n", 0755));
  EXPECT_EQ(Err(ENOENT), Exec(dir / "s", {"s"}).out);
}

TEST(ExecScript, EmptyInterpreterName) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "s", "#!  \n", 0755));
  EXPECT_EQ(Err(ENOEXEC), Exec(dir / "s", {"s"}).out);
}

TEST(ExecState, CloseOnExecDescriptorsAreGone) {
  Fd keep(open("/dev/null", O_RDONLY));
  Fd gone(open("/dev/null", O_RDONLY | O_CLOEXEC));
  std::string cmd = "[ -e /proc/self/fd/" + std::to_string(keep.get()) + " ] && [ ! -e /proc/self/fd/" +
                    std::to_string(gone.get()) + " ]";
  EXPECT_EQ(Exited(0), Exec("/bin/sh", {"sh", "-c", cmd}).status);
}

TEST(ExecState, HandlersResetIgnoredKept) {
  Outcome o = Capture([] {
    signal(SIGUSR1, [](int) {});
    signal(SIGUSR2, SIG_IGN);
    execl("/bin/grep", "grep", "-E", "^Sig(Ign|Cgt)", "/proc/self/status", nullptr);
  });
  unsigned long ign = 0, cgt = ~0ul;
  ASSERT_EQ(2, sscanf(o.out.c_str(), "SigIgn: %lx SigCgt: %lx", &ign, &cgt)) << o.out;
  EXPECT_TRUE(ign & (1ul << (SIGUSR2 - 1)));
  EXPECT_FALSE(ign & (1ul << (SIGUSR1 - 1)));
  EXPECT_FALSE(cgt & (1ul << (SIGUSR1 - 1)));
}

TEST(ExecState, MaskAndPendingSignalsAreKept) {
  Outcome o = Capture([] {
    sigset_t set = SetOf({SIGUSR1});
    sigprocmask(SIG_BLOCK, &set, nullptr);
    raise(SIGUSR1);
    execl("/bin/grep", "grep", "-E", "^(SigPnd|SigBlk)", "/proc/self/status", nullptr);
  });
  unsigned long pnd = 0, blk = 0;
  ASSERT_EQ(2, sscanf(o.out.c_str(), "SigPnd: %lx SigBlk: %lx", &pnd, &blk)) << o.out;
  EXPECT_TRUE(pnd & (1ul << (SIGUSR1 - 1)));
  EXPECT_TRUE(blk & (1ul << (SIGUSR1 - 1)));
}

TEST(ExecState, AlarmIsKept) {
  // Standard output is the pipe that Capture reads; the pending alarm ends cat, which nothing else would.
  Pipe never;
  Outcome o = Capture([&] {
    dup2(never.r.get(), 0);
    itimerval t = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &t, nullptr);
    execl("/bin/cat", "cat", nullptr);
  });
  EXPECT_EQ(Killed(SIGALRM), o.status);
}

TEST(Execveat, RelativeToDirectory) {
  Fd dir(open("/bin", O_PATH | O_DIRECTORY));
  Outcome o = Capture([&] {
    const char* argv[] = {"echo", "hi", nullptr};
    syscall(SYS_execveat, dir.get(), "echo", argv, environ, 0);
  });
  EXPECT_EQ("hi\n", o.out);
}

TEST(Execveat, EmptyPathRunsTheDescriptor) {
  Fd fd(open("/bin/echo", O_PATH | O_CLOEXEC));
  Outcome o = Capture([&] {
    const char* argv[] = {"echo", "fd", nullptr};
    syscall(SYS_execveat, fd.get(), "", argv, environ, AT_EMPTY_PATH);
  });
  EXPECT_EQ("fd\n", o.out);
}

TEST(Execveat, ScriptByCloexecDescriptorIsENOENT) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "s", "#!/bin/echo\n", 0755));
  Fd fd(open((dir / "s").c_str(), O_RDONLY | O_CLOEXEC));
  const char* argv[] = {"s", nullptr};
  EXPECT_EQ(Err(ENOENT), Capture([&] { syscall(SYS_execveat, fd.get(), "", argv, environ, AT_EMPTY_PATH); }).out);
}

TEST(Execveat, NofollowRefusesASymlink) {
  TempDir dir;
  ASSERT_OK(symlink("/bin/true", (dir / "l").c_str()));
  const char* argv[] = {"l", nullptr};
  EXPECT_EQ(Err(ELOOP), Capture([&] {
                          syscall(SYS_execveat, AT_FDCWD, (dir / "l").c_str(), argv, environ, AT_SYMLINK_NOFOLLOW);
                        }).out);
}

TEST(Execveat, MemfdImageRuns) {
  Fd fd(memfd_create("image", MFD_CLOEXEC));
  std::string image = ReadFile("/bin/echo");
  ASSERT_EQ(static_cast<ssize_t>(image.size()), write(fd.get(), image.data(), image.size()));
  Outcome o = Capture([&] {
    const char* argv[] = {"echo", "memfd", nullptr};
    syscall(SYS_execveat, fd.get(), "", argv, environ, AT_EMPTY_PATH);
  });
  EXPECT_EQ("memfd\n", o.out);
}

TEST(Auxv, DescribesThisProcess) {
  EXPECT_EQ(4096u, getauxval(AT_PAGESZ));
  EXPECT_EQ(static_cast<unsigned long>(sysconf(_SC_CLK_TCK)), getauxval(AT_CLKTCK));
  EXPECT_EQ(getuid(), getauxval(AT_UID));
  EXPECT_EQ(geteuid(), getauxval(AT_EUID));
  EXPECT_EQ(0u, getauxval(AT_SECURE));
  ASSERT_NE(0u, getauxval(AT_RANDOM));
  ASSERT_NE(0u, getauxval(AT_EXECFN));
  struct stat a, b;
  ASSERT_OK(stat(reinterpret_cast<const char*>(getauxval(AT_EXECFN)), &a));
  ASSERT_OK(stat("/proc/self/exe", &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
}

}  // namespace
