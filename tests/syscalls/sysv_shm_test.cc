// SPDX-License-Identifier: Apache-2.0
// shmget(2), shmat(2), shmdt(2), shmctl(2), /proc/sysvipc/shm.
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "tests/syscalls/util.h"

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif

namespace {

constexpr size_t kPage = 4096;
constexpr pid_t kNobody = 65534;

class Segment {
 public:
  explicit Segment(size_t size = kPage, int mode = 0600) : id_(shmget(IPC_PRIVATE, size, mode)) {}
  explicit Segment(int id, std::nullptr_t) : id_(id) {}
  ~Segment() {
    if (id_ >= 0) shmctl(id_, IPC_RMID, nullptr);
  }
  int id() const { return id_; }
  int Release() { return std::exchange(id_, -1); }

 private:
  int id_;
};

shmid_ds Stat(int id) {
  shmid_ds ds = {};
  if (shmctl(id, IPC_STAT, &ds) != 0) ds.shm_nattch = 9999;
  return ds;
}
char* Attach(int id, void* at = nullptr, int flags = 0) { return static_cast<char*>(shmat(id, at, flags)); }
char* const kFailed = reinterpret_cast<char*>(-1);

TEST(SysvShm, Get) {
  EXPECT_FAILS(EINVAL, shmget(IPC_PRIVATE, 0, 0600));
  EXPECT_FAILS(EINVAL, shmget(IPC_PRIVATE, SIZE_MAX, 0600));
  const key_t key = 0x5e400000 + getpid();
  EXPECT_FAILS(ENOENT, shmget(key, kPage, 0));
  Segment segment(shmget(key, 2 * kPage, IPC_CREAT | IPC_EXCL | 0600), nullptr);
  ASSERT_OK(segment.id());
  EXPECT_EQ(shmget(key, 1, 0), segment.id());
  EXPECT_EQ(shmget(key, 0, 0), segment.id());
  EXPECT_FAILS(EINVAL, shmget(key, 2 * kPage + 1, 0));
  EXPECT_FAILS(EEXIST, shmget(key, kPage, IPC_CREAT | IPC_EXCL));
}

TEST(SysvShm, HugeSizes) {
  // More than any address space: refused, and nothing is left.
  int id = shmget(IPC_PRIVATE, size_t{1} << 62, 0600);
  EXPECT_EQ(id, -1);
  EXPECT_TRUE(errno == ENOMEM || errno == ENOSPC) << errno;
  id = shmget(IPC_PRIVATE, size_t{1} << 50, 0600 | SHM_NORESERVE);
  if (id >= 0) {
    EXPECT_EQ(Attach(id), kFailed);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_OK(shmctl(id, IPC_RMID, nullptr));
  }
}

TEST(SysvShm, SharedBetweenProcesses) {
  Segment segment(3 * kPage);
  char* memory = Attach(segment.id());
  ASSERT_NE(memory, kFailed);
  EXPECT_EQ(memory[0], 0);
  memory[2 * kPage] = 'p';
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(memory[2 * kPage] == 'p');
              memory[1] = 'f';
              char* again = Attach(segment.id());
              CHILD_CHECK(again != kFailed && again != memory);
              CHILD_CHECK(again[1] == 'f');
              again[kPage] = 'a';
            }),
            Exited(0));
  EXPECT_EQ(memory[1], 'f');
  EXPECT_EQ(memory[kPage], 'a');
  ASSERT_OK(shmdt(memory));
  // The contents stay without anybody attached.
  memory = Attach(segment.id());
  EXPECT_EQ(memory[1], 'f');
  ASSERT_OK(shmdt(memory));
}

TEST(SysvShm, AttachmentsAreCounted) {
  Segment segment(2 * kPage);
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 0u);
  char* a = Attach(segment.id());
  char* b = Attach(segment.id(), nullptr, SHM_RDONLY);
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 2u);
  EXPECT_EQ(Stat(segment.id()).shm_cpid, getpid());
  EXPECT_EQ(Stat(segment.id()).shm_lpid, getpid());
  EXPECT_NE(Stat(segment.id()).shm_atime, 0);
  EXPECT_EQ(Stat(segment.id()).shm_dtime, 0);
  Event forked, go;
  Child child([&] {
    forked.Set();
    CHILD_CHECK(go.Wait());
  });
  ASSERT_TRUE(forked.Wait());
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 4u);
  go.Set();
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 2u);
  EXPECT_EQ(Stat(segment.id()).shm_lpid, child.pid());
  EXPECT_NE(Stat(segment.id()).shm_dtime, 0);
  ASSERT_OK(shmdt(a));
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 1u);
  // munmap(2) detaches too; a hole makes two attachments of one.
  ASSERT_OK(munmap(b, kPage));
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 1u);
  ASSERT_OK(munmap(b + kPage, kPage));
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 0u);
}

TEST(SysvShm, SplitMappingsCountAndDetachTogether) {
  Segment segment(3 * kPage);
  char* memory = Attach(segment.id());
  ASSERT_OK(mprotect(memory + kPage, kPage, PROT_READ));
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 3u);
  ASSERT_OK(shmdt(memory));
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 0u);
  EXPECT_FAILS(EINVAL, shmdt(memory));
  unsigned char vec[3];
  EXPECT_FAILS(ENOMEM, mincore(memory, 3 * kPage, vec));
}

TEST(SysvShm, ExecDetaches) {
  Segment segment;
  char* memory = Attach(segment.id());
  ASSERT_NE(memory, kFailed);
  // The child's program would keep the count up if it still had the segment.
  Pipe in, out;
  Child child([&] {
    dup2(in.r.get(), 0);
    dup2(out.w.get(), 1);
    in.w.reset();
    execl("/bin/cat", "cat", nullptr);
    _exit(1);
  });
  char c = 'x';
  ASSERT_EQ(write(in.w.get(), &c, 1), 1);
  ASSERT_EQ(read(out.r.get(), &c, 1), 1);
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 1u);
  in.w.reset();
  EXPECT_EQ(child.Wait(), Exited(0));
  shmdt(memory);
}

TEST(SysvShm, RemovalWaitsForTheLastDetach) {
  const key_t key = 0x5e500000 + getpid();
  int id = shmget(key, kPage, IPC_CREAT | 0600);
  char* memory = Attach(id);
  ASSERT_OK(shmctl(id, IPC_RMID, nullptr));
  EXPECT_FAILS(ENOENT, shmget(key, kPage, 0));
  EXPECT_EQ(Stat(id).shm_perm.mode, 0600 | SHM_DEST);
  EXPECT_EQ(Stat(id).shm_perm.__key, IPC_PRIVATE);
  memory[0] = 'x';
  char* again = Attach(id);
  ASSERT_NE(again, kFailed);
  EXPECT_EQ(again[0], 'x');
  ASSERT_OK(shmdt(memory));
  EXPECT_EQ(Stat(id).shm_nattch, 1u);
  ASSERT_OK(shmdt(again));
  shmid_ds ds;
  EXPECT_FAILS(EINVAL, shmctl(id, IPC_STAT, &ds));
  EXPECT_EQ(Attach(id), kFailed);
  EXPECT_EQ(errno, EINVAL);
}

TEST(SysvShm, RemovedSegmentGoesWithItsProcess) {
  int id = shmget(IPC_PRIVATE, kPage, 0600);
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Attach(id) != kFailed);
              CHILD_CHECK(shmctl(id, IPC_RMID, nullptr) == 0);
            }),
            Exited(0));
  shmid_ds ds;
  EXPECT_FAILS(EINVAL, shmctl(id, IPC_STAT, &ds));
}

TEST(SysvShm, ReadOnly) {
  Segment segment;
  char* memory = Attach(segment.id(), nullptr, SHM_RDONLY);
  ASSERT_NE(memory, kFailed);
  EXPECT_FAILS(EACCES, mprotect(memory, kPage, PROT_READ | PROT_WRITE));
  EXPECT_EQ(RunInChild([&] {
              signal(SIGSEGV, SIG_DFL);
              *static_cast<volatile char*>(memory) = 1;
            }),
            Killed(SIGSEGV));
  shmdt(memory);
}

TEST(SysvShm, Exec) {
  Segment segment(kPage, 0700);
  auto* code = reinterpret_cast<unsigned char*>(Attach(segment.id(), nullptr, SHM_EXEC));
  ASSERT_NE(reinterpret_cast<char*>(code), kFailed);
  const unsigned char body[] = {0xb8, 42, 0, 0, 0, 0xc3};  // mov $42, %eax; ret
  memcpy(code, body, sizeof body);
  EXPECT_EQ(reinterpret_cast<int (*)()>(code)(), 42);
  shmdt(code);
}

TEST(SysvShm, AddressRules) {
  Segment segment(2 * kPage);
  char* room = static_cast<char*>(mmap(nullptr, 8 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  EXPECT_EQ(Attach(segment.id(), room + kPage), kFailed);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(Attach(segment.id(), room + 1), kFailed);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(Attach(segment.id(), nullptr, SHM_REMAP), kFailed);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(Attach(segment.id(), room + kPage, SHM_REMAP), room + kPage);
  EXPECT_EQ(Attach(segment.id(), room + 4 * kPage + 5, SHM_REMAP | SHM_RND), room + 4 * kPage);
  room[kPage] = 'z';
  EXPECT_EQ(room[4 * kPage], 'z');
  ASSERT_OK(shmdt(room + kPage));
  EXPECT_FAILS(EINVAL, shmdt(room + 3 * kPage + 1));
  ASSERT_OK(munmap(room, 8 * kPage));
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 0u);
  EXPECT_EQ(Attach(segment.id(), room), room);
  ASSERT_OK(shmdt(room));
  EXPECT_EQ(Attach(segment.id(), reinterpret_cast<void*>(~uint64_t{0} << 12)), kFailed);
  EXPECT_EQ(errno, EINVAL);  // it wraps
  EXPECT_EQ(Attach(-1), kFailed);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(Attach(INT_MAX), kFailed);
  EXPECT_EQ(errno, EINVAL);
}

TEST(SysvShm, DetachOfOtherMappingsFails) {
  void* memory = mmap(nullptr, kPage, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT_FAILS(EINVAL, shmdt(memory));
  EXPECT_FAILS(EINVAL, shmdt(nullptr));
  munmap(memory, kPage);
}

TEST(SysvShm, SizeIsRoundedUpToPages) {
  Segment segment(kPage + 1);
  EXPECT_EQ(Stat(segment.id()).shm_segsz, kPage + 1);
  char* memory = Attach(segment.id());
  memory[2 * kPage - 1] = 1;
  ASSERT_OK(shmdt(memory));
}

TEST(SysvShm, Control) {
  Segment segment(kPage, 0640);
  shmid_ds ds = Stat(segment.id());
  EXPECT_EQ(ds.shm_perm.mode, 0640);
  ds.shm_perm.mode = 0604;
  ds.shm_perm.gid = kNobody;
  ASSERT_OK(shmctl(segment.id(), IPC_SET, &ds));
  EXPECT_EQ(Stat(segment.id()).shm_perm.mode, 0604);
  EXPECT_EQ(Stat(segment.id()).shm_perm.gid, gid_t{kNobody});
  ASSERT_OK(shmctl(segment.id(), SHM_LOCK, nullptr));
  EXPECT_EQ(Stat(segment.id()).shm_perm.mode, 0604 | SHM_LOCKED);
  ASSERT_OK(shmctl(segment.id(), SHM_UNLOCK, nullptr));
  EXPECT_EQ(Stat(segment.id()).shm_perm.mode, 0604);
  EXPECT_FAILS(EFAULT, shmctl(segment.id(), IPC_STAT, reinterpret_cast<shmid_ds*>(8)));
  EXPECT_FAILS(EFAULT, shmctl(segment.id(), IPC_SET, reinterpret_cast<shmid_ds*>(8)));
  EXPECT_FAILS(EINVAL, shmctl(segment.id(), 99, nullptr));
  EXPECT_FAILS(EINVAL, shmctl(-1, IPC_STAT, &ds));
  EXPECT_FAILS(EINVAL, shmctl(segment.id(), -1, nullptr));
}

TEST(SysvShm, Info) {
  Segment segment(3 * kPage);
  char* memory = Attach(segment.id());
  memory[0] = 1;
  shminfo info = {};
  int highest = shmctl(0, IPC_INFO, reinterpret_cast<shmid_ds*>(&info));
  ASSERT_OK(highest);
  EXPECT_EQ(info.shmmin, 1u);
  EXPECT_EQ(info.shmmni, 4096u);
  EXPECT_EQ(info.shmmax, 18446744073692774399u);
  EXPECT_EQ(info.shmall, 18446744073692774399u);
  shm_info usage = {};
  ASSERT_OK(shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&usage)));
  EXPECT_GE(usage.used_ids, 1);
  EXPECT_GE(usage.shm_tot, 3u);
  EXPECT_GE(usage.shm_rss, 1u);
  bool found = false;
  for (int i = 0; i <= highest; ++i) {
    shmid_ds ds;
    int id = shmctl(i, SHM_STAT, &ds);
    found |= id == segment.id() && ds.shm_segsz == 3 * kPage;
  }
  EXPECT_TRUE(found);
  shmdt(memory);
}

TEST(SysvShm, Permissions) {
  Segment readable(kPage, 0604), closed(kPage, 0600);
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(setresgid(kNobody, kNobody, kNobody) == 0);
              CHILD_CHECK(setresuid(kNobody, kNobody, kNobody) == 0);
              CHILD_CHECK(Attach(readable.id()) == kFailed && errno == EACCES);
              CHILD_CHECK(Attach(readable.id(), nullptr, SHM_RDONLY) != kFailed);
              CHILD_CHECK(Attach(readable.id(), nullptr, SHM_RDONLY | SHM_EXEC) == kFailed && errno == EACCES);
              CHILD_CHECK(Attach(closed.id(), nullptr, SHM_RDONLY) == kFailed && errno == EACCES);
              shmid_ds ds;
              CHILD_CHECK(shmctl(closed.id(), IPC_STAT, &ds) == -1 && errno == EACCES);
              CHILD_CHECK(shmctl(closed.id() & 32767, SHM_STAT_ANY, &ds) == closed.id());
              CHILD_CHECK(shmctl(readable.id(), IPC_RMID, nullptr) == -1 && errno == EPERM);
              CHILD_CHECK(shmctl(readable.id(), SHM_LOCK, nullptr) == -1 && errno == EPERM);
            }),
            Exited(0));
}

TEST(SysvShm, NamespaceEndLeavesMappings) {
  Segment outer;
  EXPECT_EQ(RunInChild([&] {
              int home = open("/proc/self/ns/ipc", O_RDONLY);
              CHILD_CHECK(unshare(CLONE_NEWIPC) == 0);
              CHILD_CHECK(Attach(outer.id()) == kFailed && errno == EINVAL);
              int id = shmget(IPC_PRIVATE, kPage, 0600);
              char* memory = Attach(id);
              CHILD_CHECK(memory != kFailed);
              *memory = 'k';
              CHILD_CHECK(setns(home, 0) == 0);
              CHILD_CHECK(*memory == 'k');
              CHILD_CHECK(shmdt(memory) == 0);
            }),
            Exited(0));
}

TEST(SysvShm, Sysctl) {
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(unshare(CLONE_NEWIPC) == 0);
              CHILD_CHECK(WriteFile("/proc/sys/kernel/shmmax", "8192\n"));
              CHILD_CHECK(shmget(IPC_PRIVATE, 8193, 0600) == -1 && errno == EINVAL);
              CHILD_CHECK(WriteFile("/proc/sys/kernel/shmall", "3\n"));
              CHILD_CHECK(shmget(IPC_PRIVATE, 8192, 0600) >= 0);
              CHILD_CHECK(shmget(IPC_PRIVATE, 8192, 0600) == -1 && errno == ENOSPC);
              CHILD_CHECK(WriteFile("/proc/sys/kernel/shmmni", "1\n"));
              CHILD_CHECK(shmget(IPC_PRIVATE, 1, 0600) == -1 && errno == ENOSPC);
              CHILD_CHECK(ReadFile("/proc/sys/kernel/shmmni") == "1\n");
              CHILD_CHECK(!WriteFile("/proc/sys/kernel/shmmni", "32769\n"));
            }),
            Exited(0));
  EXPECT_NE(ReadFile("/proc/sys/kernel/shmmax"), "8192\n");
}

TEST(SysvShm, ProcFiles) {
  Segment segment(2 * kPage, 0600);
  char* memory = Attach(segment.id());
  char row[128];
  snprintf(row, sizeof row, "%10d %10d  %4o %21lu %5u %5u  %5lu", 0, segment.id(), 0600, 2 * kPage,
           static_cast<unsigned>(getpid()), static_cast<unsigned>(getpid()), 1ul);
  EXPECT_NE(ReadFile("/proc/sysvipc/shm").find(row), std::string::npos) << row;
  char line[64];
  snprintf(line, sizeof line, "%d ", segment.id());
  const std::string maps = ReadFile("/proc/self/maps");
  EXPECT_NE(maps.find("/SYSV00000000 (deleted)"), std::string::npos);
  shmdt(memory);
}

TEST(SysvShm, RemapMovesAndGrowsWithinTheSegment) {
  Segment segment(2 * kPage);
  char* memory = Attach(segment.id());
  memory[0] = 'm';
  void* moved = mremap(memory, 2 * kPage, 2 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED,
                       mmap(nullptr, 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(moved, MAP_FAILED);
  EXPECT_EQ(static_cast<char*>(moved)[0], 'm');
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 1u);
  EXPECT_OK(shmdt(moved));
  EXPECT_EQ(Stat(segment.id()).shm_nattch, 0u);
}

}  // namespace
