// SPDX-License-Identifier: Apache-2.0
// /proc: what programs parse there.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>

#include <regex>
#include <set>
#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

namespace {

std::string Link(const std::string& path) {
  char buf[PATH_MAX];
  ssize_t n = readlink(path.c_str(), buf, sizeof buf);
  return n < 0 ? "" : std::string(buf, n);
}

// The value after "key:" and blanks, up to the end of its line.
std::string Field(const std::string& text, const std::string& key) {
  size_t at = text.find("\n" + key + ":");
  if (text.compare(0, key.size() + 1, key + ":") == 0)
    at = static_cast<size_t>(-1);
  else if (at == std::string::npos)
    return "";
  size_t start = text.find_first_not_of(" \t", at + key.size() + 2);
  return text.substr(start, text.find('\n', start) - start);
}

std::vector<std::string> List(const std::string& path) {
  std::vector<std::string> out;
  DIR* d = opendir(path.c_str());
  while (dirent* e = d ? readdir(d) : nullptr) out.push_back(e->d_name);
  if (d) closedir(d);
  return out;
}

TEST(ProcSelf, IsThePid) {
  EXPECT_EQ(std::to_string(getpid()), Link("/proc/self"));
  EXPECT_EQ(std::to_string(getpid()) + "/task/" + std::to_string(gettid()), Link("/proc/thread-self"));
}

TEST(ProcSelf, StatFields) {
  std::string stat = ReadFile("/proc/self/stat");
  int pid, ppid, pgrp, session;
  char comm[64], state;
  ASSERT_EQ(6, sscanf(stat.c_str(), "%d (%63[^)]) %c %d %d %d", &pid, comm, &state, &ppid, &pgrp, &session)) << stat;
  EXPECT_EQ(getpid(), pid);
  EXPECT_EQ('R', state);
  EXPECT_EQ(getppid(), ppid);
  EXPECT_EQ(getpgrp(), pgrp);
  EXPECT_EQ(getsid(0), session);
  EXPECT_EQ('\n', stat.back());
  int fields = 2;
  for (char c : stat.substr(stat.rfind(')'))) fields += c == ' ';
  EXPECT_EQ(52, fields);
}

TEST(ProcSelf, StatusFields) {
  std::string s = ReadFile("/proc/self/status");
  EXPECT_EQ(std::to_string(getpid()), Field(s, "Pid"));
  EXPECT_EQ(std::to_string(getpid()), Field(s, "Tgid"));
  EXPECT_EQ(std::to_string(getppid()), Field(s, "PPid"));
  EXPECT_EQ("0", Field(s, "TracerPid"));
  EXPECT_EQ("0\t0\t0\t0", Field(s, "Uid"));
  EXPECT_EQ("R (running)", Field(s, "State"));
  EXPECT_EQ("1", Field(s, "Threads"));
  EXPECT_GT(atol(Field(s, "VmRSS").c_str()), 0);
  EXPECT_GT(atol(Field(s, "VmSize").c_str()), 0);
  EXPECT_EQ(16u, Field(s, "CapEff").size());
  EXPECT_EQ(16u, Field(s, "SigCgt").size());
  std::string comm = ReadFile("/proc/self/comm");
  EXPECT_EQ(comm.substr(0, comm.size() - 1), Field(s, "Name"));
}

TEST(ProcSelf, StatusShowsSignalSets) {
  ScopedBlock block({SIGUSR1});
  ScopedHandler handler(SIGUSR2, [](int) {});
  std::string s = ReadFile("/proc/self/status");
  EXPECT_TRUE(strtoul(Field(s, "SigBlk").c_str(), nullptr, 16) & 1ul << (SIGUSR1 - 1));
  EXPECT_TRUE(strtoul(Field(s, "SigCgt").c_str(), nullptr, 16) & 1ul << (SIGUSR2 - 1));
}

TEST(ProcSelf, FdLinks) {
  TempDir dir;
  Fd f(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  Pipe p;
  std::string base = "/proc/self/fd/";
  EXPECT_EQ(dir / "f", Link(base + std::to_string(f.get())));
  EXPECT_EQ(0u, Link(base + std::to_string(p.r.get())).find("pipe:["));
  EXPECT_EQ(Link(base + std::to_string(p.r.get())), Link(base + std::to_string(p.w.get())));
  std::set<std::string> names;
  for (auto& n : List("/proc/self/fd")) names.insert(n);
  EXPECT_TRUE(names.count(std::to_string(f.get())));
  EXPECT_FALSE(names.count("999"));
  EXPECT_FAILS(ENOENT, access("/proc/self/fd/999", F_OK));
}

TEST(ProcSelf, Fdinfo) {
  TempDir dir;
  Fd f(open((dir / "f").c_str(), O_RDWR | O_CREAT | O_APPEND, 0600));
  ASSERT_EQ(5, write(f.get(), "12345", 5));
  std::string info = ReadFile("/proc/self/fdinfo/" + std::to_string(f.get()));
  EXPECT_EQ("5", Field(info, "pos"));
  EXPECT_TRUE(strtol(Field(info, "flags").c_str(), nullptr, 8) & O_APPEND);
}

TEST(ProcSelf, CwdRootAndExe) {
  EXPECT_EQ(Exited(0), RunInChild([] { CHILD_CHECK(chdir("/tmp") == 0 && Link("/proc/self/cwd") == "/tmp"); }));
  EXPECT_EQ("/", Link("/proc/self/root"));
  struct stat a, b;
  std::string exe = Link("/proc/self/exe");
  ASSERT_OK(stat(exe.c_str(), &a));
  ASSERT_OK(stat("/proc/self/exe", &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
}

TEST(ProcSelf, EnvironAndCmdlineOfTheExec) {
  Pipe out(O_CLOEXEC);
  Child child([&] {
    dup2(out.w.get(), 1);
    char* argv[] = {const_cast<char*>("cat"), const_cast<char*>("/proc/self/environ"), nullptr};
    char* envp[] = {const_cast<char*>("A=1"), const_cast<char*>("B=2"), nullptr};
    execve("/bin/cat", argv, envp);
  });
  EXPECT_EQ(Exited(0), child.Wait());
  char buf[64];
  ssize_t n = read(out.r.get(), buf, sizeof buf);
  EXPECT_EQ(std::string("A=1\0B=2\0", 8), std::string(buf, n < 0 ? 0 : n));
}

TEST(ProcSelf, TaskListsThreads) {
  Event started, done;
  pid_t tid = 0;
  std::thread t([&] {
    tid = gettid();
    started.Set();
    EXPECT_TRUE(done.Wait());
  });
  ASSERT_TRUE(started.Wait());
  EXPECT_OK(access(("/proc/self/task/" + std::to_string(tid) + "/stat").c_str(), R_OK));
  EXPECT_EQ("2", Field(ReadFile("/proc/self/status"), "Threads"));
  done.Set();
  t.join();
}

TEST(ProcSelf, LimitsShowRlimits) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              rlimit rl = {123, 456};
              CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0);
              std::string s = ReadFile("/proc/self/limits");
              size_t at = s.find("Max open files");
              CHILD_CHECK(at != std::string::npos);
              int soft, hard;
              CHILD_CHECK(sscanf(s.c_str() + at, "Max open files %d %d files", &soft, &hard) == 2);
              CHILD_CHECK(soft == 123 && hard == 456);
            }));
}

TEST(ProcSelf, MemReadsAndWrites) {
  static volatile long word = 77;
  Fd mem(open("/proc/self/mem", O_RDWR));
  long got = 0;
  ASSERT_EQ(8, pread(mem.get(), &got, 8, reinterpret_cast<off_t>(&word)));
  EXPECT_EQ(77, got);
  got = 78;
  ASSERT_EQ(8, pwrite(mem.get(), &got, 8, reinterpret_cast<off_t>(&word)));
  EXPECT_EQ(78, word);
  EXPECT_FAILS(EIO, pread(mem.get(), &got, 8, 4096));
}

TEST(ProcSelf, MountsNameTheRoot) {
  std::string mounts = ReadFile("/proc/self/mounts"), info = ReadFile("/proc/self/mountinfo");
  EXPECT_NE(std::string::npos, mounts.find(" / "));
  EXPECT_NE(std::string::npos, mounts.find(" /proc proc "));
  // The mount at "/"; its own root is another directory than "/" where a directory was bound there.
  EXPECT_TRUE(std::regex_search(info, std::regex("(^|\n)[0-9]+ [0-9]+ [0-9]+:[0-9]+ /\\S* / "))) << info;
  EXPECT_NE(std::string::npos, info.find(" - proc "));
  EXPECT_EQ("self/mounts", Link("/proc/mounts"));
}

TEST(ProcPid, OthersMayNotLookInside) {
  Child target([] {
    for (;;) pause();
  });
  std::string base = "/proc/" + std::to_string(target.pid());
  EXPECT_EQ(Exited(0), RunInChild([&] {
              CHILD_CHECK(setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(!ReadFile(base + "/stat").empty() && !ReadFile(base + "/cmdline").empty());
              CHILD_CHECK(Link(base + "/exe").empty() && errno == EACCES);
              CHILD_CHECK(open((base + "/environ").c_str(), O_RDONLY) == -1 && errno == EACCES);
              CHILD_CHECK(opendir((base + "/fd").c_str()) == nullptr && errno == EACCES);
            }));
}

TEST(ProcPid, VanishesAfterReaping) {
  std::string base;
  Fd held;
  {
    Child child([] {
      for (;;) pause();
    });
    base = "/proc/" + std::to_string(child.pid());
    held = Fd(open((base + "/stat").c_str(), O_RDONLY));
    ASSERT_TRUE(held.ok());
  }
  EXPECT_FAILS(ENOENT, access(base.c_str(), F_OK));
  char c;
  EXPECT_FAILS(ESRCH, read(held.get(), &c, 1));
}

TEST(ProcPid, RootListsProcesses) {
  bool found = false;
  for (auto& n : List("/proc")) found |= n == std::to_string(getpid());
  EXPECT_TRUE(found);
  EXPECT_FAILS(ENOENT, access("/proc/1073741808", F_OK));
}

TEST(ProcRoot, Meminfo) {
  std::string s = ReadFile("/proc/meminfo");
  long total = atol(Field(s, "MemTotal").c_str()), free = atol(Field(s, "MemFree").c_str());
  EXPECT_GT(total, 0);
  EXPECT_GT(total, free);
  EXPECT_FALSE(Field(s, "MemAvailable").empty());
  EXPECT_FALSE(Field(s, "SwapTotal").empty());
}

TEST(ProcRoot, CpuinfoCountsProcessors) {
  std::string s = "\n" + ReadFile("/proc/cpuinfo");
  int count = 0;
  for (size_t at = 0; (at = s.find("\nprocessor\t:", at)) != std::string::npos; ++at) ++count;
  EXPECT_EQ(sysconf(_SC_NPROCESSORS_ONLN), count);
  EXPECT_NE(std::string::npos, s.find("flags\t\t:"));
}

TEST(ProcRoot, UptimeLoadavgStatVersion) {
  double up = 0, idle = -1;
  ASSERT_EQ(2, sscanf(ReadFile("/proc/uptime").c_str(), "%lf %lf", &up, &idle));
  EXPECT_GT(up, 0);
  double a, b, c;
  int run, all, last;
  ASSERT_EQ(6, sscanf(ReadFile("/proc/loadavg").c_str(), "%lf %lf %lf %d/%d %d", &a, &b, &c, &run, &all, &last));
  EXPECT_GT(all, 0);
  std::string stat = ReadFile("/proc/stat");
  EXPECT_EQ(0u, stat.find("cpu "));
  EXPECT_NE(std::string::npos, stat.find("\nbtime "));
  utsname u;
  uname(&u);
  EXPECT_EQ(0u, ReadFile("/proc/version").find(std::string("Linux version ") + u.release));
}

TEST(ProcRoot, TimesCountFromBoot) {
  constexpr int64_t kTickNs = 10'000'000, kSecondNs = 1'000'000'000;
  auto boot_clock = [] {
    timespec t;
    EXPECT_OK(clock_gettime(CLOCK_BOOTTIME, &t));
    return t.tv_sec * kSecondNs + t.tv_nsec;
  };
  int64_t before = boot_clock();
  double up = 0;
  ASSERT_EQ(1, sscanf(ReadFile("/proc/uptime").c_str(), "%lf", &up));
  struct sysinfo info;
  ASSERT_OK(sysinfo(&info));
  Event go;
  Child child([&] { CHILD_CHECK(go.Wait()); });
  int64_t after = boot_clock();
  std::string stat = ReadFile("/proc/" + std::to_string(child.pid()) + "/stat");
  go.Set();
  EXPECT_EQ(Exited(0), child.Wait());

  auto hundredths = static_cast<int64_t>(up * 100 + 0.5);
  EXPECT_LE(before / kTickNs, hundredths);
  EXPECT_GE(after / kTickNs, hundredths);
  EXPECT_LE((before + kSecondNs - 1) / kSecondNs, info.uptime) << "rounded up";
  EXPECT_GE((after + kSecondNs - 1) / kSecondNs, info.uptime);
  // Fields 3 on follow the name in parentheses; the start is the 22nd.
  size_t at = stat.rfind(')') + 1;
  for (int field = 2; field < 21; ++field) at = stat.find(' ', at + 1);
  int64_t start = strtoll(stat.c_str() + at, nullptr, 10);
  EXPECT_LE(before / kTickNs, start);
  EXPECT_GE(after / kTickNs, start);
}

TEST(ProcRoot, Filesystems) {
  std::string s = ReadFile("/proc/filesystems");
  EXPECT_NE(std::string::npos, s.find("nodev\tproc\n"));
  EXPECT_NE(std::string::npos, s.find("nodev\ttmpfs\n"));
}

TEST(ProcSys, KernelNames) {
  utsname u;
  uname(&u);
  EXPECT_EQ(std::string(u.nodename) + "\n", ReadFile("/proc/sys/kernel/hostname"));
  EXPECT_EQ(std::string(u.release) + "\n", ReadFile("/proc/sys/kernel/osrelease"));
  EXPECT_EQ("Linux\n", ReadFile("/proc/sys/kernel/ostype"));
  EXPECT_GT(atol(ReadFile("/proc/sys/kernel/pid_max").c_str()), 300);
  EXPECT_GT(atol(ReadFile("/proc/sys/kernel/cap_last_cap").c_str()), 30);
  EXPECT_GT(atol(ReadFile("/proc/sys/fs/file-max").c_str()), 0);
  std::string uuid = ReadFile("/proc/sys/kernel/random/uuid");
  EXPECT_EQ(37u, uuid.size());
  EXPECT_NE(uuid, ReadFile("/proc/sys/kernel/random/uuid"));
  EXPECT_EQ(ReadFile("/proc/sys/kernel/random/boot_id"), ReadFile("/proc/sys/kernel/random/boot_id"));
}

TEST(ProcFile, SeekAndPartialReads) {
  std::string whole = ReadFile("/proc/self/limits");
  Fd fd(open("/proc/self/limits", O_RDONLY));
  std::string parts;
  char buf[7];
  ssize_t n;
  while ((n = read(fd.get(), buf, sizeof buf)) > 0) parts.append(buf, n);
  EXPECT_EQ(whole, parts);
  ASSERT_EQ(4, lseek(fd.get(), 4, SEEK_SET));
  ASSERT_EQ(7, read(fd.get(), buf, 7));
  EXPECT_EQ(whole.substr(4, 7), std::string(buf, 7));
  struct stat st;
  ASSERT_OK(fstat(fd.get(), &st));
  EXPECT_EQ(0, st.st_size);
  EXPECT_FAILS(ENOENT, open("/proc/self/nonexistent", O_RDONLY));
}

TEST(Proc, MemoryZones) {
  EXPECT_NE(ReadFile("/proc/buddyinfo").find("Node 0, zone "), std::string::npos);
  const std::string zones = ReadFile("/proc/zoneinfo");
  EXPECT_NE(zones.find("Node 0, zone "), std::string::npos);
  EXPECT_NE(zones.find("  pages free "), std::string::npos);
  EXPECT_NE(zones.find("        managed  "), std::string::npos);
}

TEST(Proc, NumaMaps) {
  const std::string maps = ReadFile("/proc/self/numa_maps");
  if (maps.empty() && access("/proc/self/numa_maps", F_OK) != 0) GTEST_SKIP() << "a kernel without CONFIG_NUMA";
  EXPECT_NE(maps.find(" default"), std::string::npos);
  EXPECT_NE(maps.find(" stack anon="), std::string::npos);
  EXPECT_NE(maps.find(" N0="), std::string::npos);
}

TEST(ProcSelf, IoCountsCallsAndBytes) {
  auto count = [](const char* key) { return atoll(Field(ReadFile("/proc/thread-self/io"), key).c_str()); };
  TempDir dir;
  Fd f(open((dir / "f").c_str(), O_RDWR | O_CREAT, 0600));
  const std::string text(1000, 'x');
  const long long written = count("wchar"), writes = count("syscw");
  ASSERT_EQ(write(f.get(), text.data(), text.size()), 1000);
  ASSERT_EQ(pwrite(f.get(), text.data(), 10, 0), 10);
  EXPECT_EQ(count("wchar"), written + 1010);
  EXPECT_EQ(count("syscw"), writes + 2);
  char buffer[600];
  const long long read_before = count("rchar");
  const long long own = count("rchar") - read_before;  // of reading the file itself
  ASSERT_EQ(pread(f.get(), buffer, sizeof buffer, 0), 600);
  EXPECT_NEAR(count("rchar"), read_before + 2 * own + 600, 8);
  // Of a process: also of threads that ended, and of children that were waited for.
  auto of_process = [] { return atoll(Field(ReadFile("/proc/self/io"), "wchar").c_str()); };
  const long long before = of_process();
  std::thread([&] { EXPECT_EQ(write(f.get(), text.data(), 500), 500); }).join();
  EXPECT_EQ(Exited(0), RunInChild([&] { CHILD_CHECK(write(f.get(), text.data(), 70) == 70); }));
  EXPECT_EQ(of_process(), before + 570);
}

TEST(ProcSelf, MapFiles) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", std::string(8192, 'x')));
  Fd f(open((dir / "f").c_str(), O_RDONLY));
  void* p = mmap(nullptr, 8192, PROT_READ, MAP_SHARED, f.get(), 0);
  ASSERT_NE(p, MAP_FAILED);
  char name[64];
  snprintf(name, sizeof name, "%lx-%lx", reinterpret_cast<unsigned long>(p), reinterpret_cast<unsigned long>(p) + 8192);
  EXPECT_EQ(Link(std::string("/proc/self/map_files/") + name), dir / "f");
  EXPECT_EQ(ReadFile(std::string("/proc/self/map_files/") + name).size(), 8192u);
  std::vector<std::string> names = List("/proc/self/map_files");
  EXPECT_NE(std::find(names.begin(), names.end(), name), names.end());
  struct stat st;
  ASSERT_OK(lstat((std::string("/proc/self/map_files/") + name).c_str(), &st));
  EXPECT_TRUE(S_ISLNK(st.st_mode));
  munmap(p, 8192);
  EXPECT_FAILS(ENOENT, lstat((std::string("/proc/self/map_files/") + name).c_str(), &st));
  EXPECT_FAILS(ENOENT, lstat("/proc/self/map_files/nonsense", &st));
}

}  // namespace
