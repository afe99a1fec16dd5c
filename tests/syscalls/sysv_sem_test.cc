// SPDX-License-Identifier: Apache-2.0
// semget(2), semop(2), semtimedop(2), semctl(2), /proc/sysvipc/sem.
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include <thread>
#include <vector>

#include "tests/syscalls/util.h"

#ifndef SEM_STAT_ANY
#define SEM_STAT_ANY 20
#endif

namespace {

constexpr pid_t kNobody = 65534;

// A set that goes with its scope.
class SemSet {
 public:
  explicit SemSet(int count = 1, int mode = 0600) : id_(semget(IPC_PRIVATE, count, mode)) {}
  explicit SemSet(int id, std::nullptr_t) : id_(id) {}
  ~SemSet() {
    if (id_ >= 0) semctl(id_, 0, IPC_RMID);
  }
  int id() const { return id_; }
  int Release() { return std::exchange(id_, -1); }

 private:
  int id_;
};

int Op(int id, int number, int change, int flags = 0) {
  sembuf op = {static_cast<unsigned short>(number), static_cast<short>(change), static_cast<short>(flags)};
  return semop(id, &op, 1);
}
int Value(int id, int number = 0) { return semctl(id, number, GETVAL); }

// Until `count` tasks wait in the set for `command`.
void AwaitWaiters(int id, int command, int count, int number = 0) {
  for (int i = 0; i < 20000 && semctl(id, number, command) != count; ++i) usleep(1000);
  ASSERT_EQ(semctl(id, number, command), count);
}

void BecomeNobody() {
  CHILD_CHECK(setresgid(kNobody, kNobody, kNobody) == 0);
  CHILD_CHECK(setresuid(kNobody, kNobody, kNobody) == 0);
}

TEST(SysvSem, Get) {
  EXPECT_FAILS(EINVAL, semget(IPC_PRIVATE, 0, 0600));
  EXPECT_FAILS(EINVAL, semget(IPC_PRIVATE, -1, 0600));
  EXPECT_FAILS(EINVAL, semget(IPC_PRIVATE, 32001, 0600));
  EXPECT_FAILS(EINVAL, semget(IPC_PRIVATE, INT_MAX, 0600));
  const key_t key = 0x5e300000 + getpid();
  EXPECT_FAILS(ENOENT, semget(key, 2, 0));
  SemSet set(semget(key, 2, IPC_CREAT | IPC_EXCL | 0600), nullptr);
  ASSERT_OK(set.id());
  EXPECT_EQ(semget(key, 2, 0), set.id());
  EXPECT_EQ(semget(key, 0, IPC_CREAT), set.id());
  EXPECT_FAILS(EINVAL, semget(key, 3, 0));
  EXPECT_FAILS(EEXIST, semget(key, 2, IPC_CREAT | IPC_EXCL));
  int id = set.Release();
  ASSERT_OK(semctl(id, 0, IPC_RMID));
  EXPECT_FAILS(ENOENT, semget(key, 2, 0));
  EXPECT_FAILS(EINVAL, Value(id));
}

TEST(SysvSem, OldIdsFindNothing) {
  int first = semget(IPC_PRIVATE, 1, 0600);
  ASSERT_OK(semctl(first, 0, IPC_RMID));
  SemSet second;
  EXPECT_NE(first, second.id());
  EXPECT_FAILS(EINVAL, Op(first, 0, 1));
}

TEST(SysvSem, Values) {
  SemSet set(3);
  EXPECT_EQ(Value(set.id(), 2), 0);
  ASSERT_OK(semctl(set.id(), 1, SETVAL, 5));
  EXPECT_EQ(Value(set.id(), 1), 5);
  EXPECT_EQ(semctl(set.id(), 1, GETPID), getpid());
  EXPECT_FAILS(ERANGE, semctl(set.id(), 1, SETVAL, 32768));
  EXPECT_FAILS(ERANGE, semctl(set.id(), 1, SETVAL, -1));
  EXPECT_FAILS(EINVAL, semctl(set.id(), 3, SETVAL, 1));
  EXPECT_FAILS(EINVAL, semctl(set.id(), -1, GETVAL));
  unsigned short values[3] = {1, 2, 3}, got[3] = {};
  ASSERT_OK(semctl(set.id(), 0, SETALL, values));
  ASSERT_OK(semctl(set.id(), 0, GETALL, got));
  EXPECT_EQ(got[0], 1);
  EXPECT_EQ(got[2], 3);
  values[1] = 40000;
  EXPECT_FAILS(ERANGE, semctl(set.id(), 0, SETALL, values));
  EXPECT_EQ(Value(set.id(), 0), 1);
  EXPECT_FAILS(EFAULT, semctl(set.id(), 0, SETALL, 8));
  EXPECT_FAILS(EFAULT, semctl(set.id(), 0, GETALL, 8));
  EXPECT_FAILS(EFAULT, semctl(set.id(), 0, IPC_STAT, 8));
  EXPECT_FAILS(EFAULT, semctl(set.id(), 0, IPC_SET, 8));
  EXPECT_FAILS(EINVAL, semctl(set.id(), 0, 99, 0));
  EXPECT_FAILS(EINVAL, semctl(-1, 0, GETVAL));
}

TEST(SysvSem, OperationsAreAllOrNothing) {
  SemSet set(2);
  sembuf ops[] = {{0, 3, 0}, {1, -1, IPC_NOWAIT}};
  EXPECT_FAILS(EAGAIN, semop(set.id(), ops, 2));
  EXPECT_EQ(Value(set.id(), 0), 0);
  ops[1].sem_op = 1;
  ASSERT_OK(semop(set.id(), ops, 2));
  EXPECT_EQ(Value(set.id(), 0), 3);
  EXPECT_EQ(Value(set.id(), 1), 1);
  // One semaphore twice in a call: the second sees the first.
  sembuf twice[] = {{0, -3, IPC_NOWAIT}, {0, 0, IPC_NOWAIT}, {0, 7, 0}};
  ASSERT_OK(semop(set.id(), twice, 3));
  EXPECT_EQ(Value(set.id(), 0), 7);
  EXPECT_FAILS(EAGAIN, Op(set.id(), 0, 0, IPC_NOWAIT));
  EXPECT_FAILS(ERANGE, Op(set.id(), 0, 32767));
  EXPECT_EQ(Value(set.id(), 0), 7);
}

TEST(SysvSem, BadArguments) {
  SemSet set(1);
  sembuf op = {0, 1, 0};
  EXPECT_FAILS(EINVAL, semop(set.id(), &op, 0));
  EXPECT_FAILS(E2BIG, semop(set.id(), &op, 501));
  EXPECT_FAILS(E2BIG, syscall(SYS_semop, set.id(), &op, 0xffffffffu));
  EXPECT_FAILS(EFAULT, semop(set.id(), reinterpret_cast<sembuf*>(8), 1));
  EXPECT_FAILS(EFBIG, Op(set.id(), 1, 1));
  EXPECT_FAILS(EFBIG, Op(set.id(), 65535, 1));
  EXPECT_FAILS(EINVAL, Op(-1, 0, 1));
  EXPECT_FAILS(EINVAL, Op(INT_MAX, 0, 1));
  timespec bad = {0, 1000000000}, negative = {-1, 0};
  EXPECT_FAILS(EINVAL, semtimedop(set.id(), &op, 1, &bad));
  EXPECT_FAILS(EINVAL, semtimedop(set.id(), &op, 1, &negative));
  EXPECT_FAILS(EFAULT, semtimedop(set.id(), &op, 1, reinterpret_cast<timespec*>(8)));
  EXPECT_EQ(Value(set.id()), 0);
}

TEST(SysvSem, TimedOut) {
  SemSet set(1);
  sembuf op = {0, -1, 0};
  timespec soon = {0, 10000000}, none = {0, 0};
  EXPECT_FAILS(EAGAIN, semtimedop(set.id(), &op, 1, &soon));
  EXPECT_FAILS(EAGAIN, semtimedop(set.id(), &op, 1, &none));
  EXPECT_EQ(semctl(set.id(), 0, GETNCNT), 0);
}

TEST(SysvSem, WhoeverMakesItPossibleDoesIt) {
  SemSet set(1);
  Child child([&] { CHILD_CHECK(Op(set.id(), 0, -2) == 0); });
  AwaitWaiters(set.id(), GETNCNT, 1);
  ASSERT_OK(Op(set.id(), 0, 1));
  EXPECT_EQ(semctl(set.id(), 0, GETNCNT), 1);
  EXPECT_EQ(Value(set.id()), 1);
  ASSERT_OK(Op(set.id(), 0, 1));
  // The sleeper's operation is part of this one, as others see it.
  EXPECT_EQ(Value(set.id()), 0);
  EXPECT_EQ(semctl(set.id(), 0, GETNCNT), 0);
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(semctl(set.id(), 0, GETPID), child.pid());
}

TEST(SysvSem, WaitForZero) {
  SemSet set(1);
  ASSERT_OK(semctl(set.id(), 0, SETVAL, 1));
  Child child([&] { CHILD_CHECK(Op(set.id(), 0, 0) == 0); });
  AwaitWaiters(set.id(), GETZCNT, 1);
  EXPECT_EQ(semctl(set.id(), 0, GETNCNT), 0);
  ASSERT_OK(Op(set.id(), 0, -1));
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST(SysvSem, FirstComeFirstServed) {
  SemSet set(2);
  // Each waits for one unit, then tells its turn through the order in which the second semaphore counts.
  int* order = static_cast<int*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  Child first([&] {
    CHILD_CHECK(Op(set.id(), 0, -1) == 0);
    order[0] = 1;
    CHILD_CHECK(Op(set.id(), 1, 1) == 0);
  });
  AwaitWaiters(set.id(), GETNCNT, 1);
  Child second([&] { CHILD_CHECK(Op(set.id(), 0, -1) == 0); });
  AwaitWaiters(set.id(), GETNCNT, 2);
  ASSERT_OK(Op(set.id(), 0, 1));
  ASSERT_OK(Op(set.id(), 1, -1));
  EXPECT_EQ(order[0], 1);
  EXPECT_EQ(semctl(set.id(), 0, GETNCNT), 1);
  ASSERT_OK(Op(set.id(), 0, 1));
  EXPECT_EQ(first.Wait(), Exited(0));
  EXPECT_EQ(second.Wait(), Exited(0));
  munmap(order, 4096);
}

TEST(SysvSem, SetvalAndSetallWake) {
  SemSet set(1);
  Child one([&] { CHILD_CHECK(Op(set.id(), 0, -3) == 0); });
  AwaitWaiters(set.id(), GETNCNT, 1);
  ASSERT_OK(semctl(set.id(), 0, SETVAL, 4));
  EXPECT_EQ(one.Wait(), Exited(0));
  EXPECT_EQ(Value(set.id()), 1);
  Child two([&] { CHILD_CHECK(Op(set.id(), 0, -3) == 0); });
  AwaitWaiters(set.id(), GETNCNT, 1);
  unsigned short value = 3;
  ASSERT_OK(semctl(set.id(), 0, SETALL, &value));
  EXPECT_EQ(two.Wait(), Exited(0));
}

TEST(SysvSem, RemovalWakes) {
  SemSet set(1);
  int id = set.Release();
  Child child([&] { CHILD_CHECK(Op(id, 0, -1) == -1 && errno == EIDRM); });
  AwaitWaiters(id, GETNCNT, 1);
  ASSERT_OK(semctl(id, 0, IPC_RMID));
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST(SysvSem, SignalsInterruptAlways) {
  SemSet set(1);
  EXPECT_EQ(RunInChild([&] {
              ScopedHandler handler(
                  SIGALRM, [](int) {}, SA_RESTART);
              ScopedTicks ticks;
              CHILD_CHECK(Op(set.id(), 0, -1) == -1 && errno == EINTR);
              CHILD_CHECK(semctl(set.id(), 0, GETNCNT) == 0);
            }),
            Exited(0));
}

TEST(SysvSem, UndoAtExit) {
  SemSet set(2);
  ASSERT_OK(semctl(set.id(), 0, SETVAL, 5));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Op(set.id(), 0, -2, SEM_UNDO) == 0);
              CHILD_CHECK(Op(set.id(), 1, 4, SEM_UNDO) == 0);
              CHILD_CHECK(Op(set.id(), 1, 1) == 0);
              CHILD_CHECK(Value(set.id(), 0) == 3);
            }),
            Exited(0));
  EXPECT_EQ(Value(set.id(), 0), 5);
  EXPECT_EQ(Value(set.id(), 1), 1);
}

TEST(SysvSem, UndoWakesAndSurvivesKill) {
  SemSet set(1);
  ASSERT_OK(semctl(set.id(), 0, SETVAL, 1));
  Event taken;
  Child holder([&] {
    CHILD_CHECK(Op(set.id(), 0, -1, SEM_UNDO) == 0);
    taken.Set();
    pause();
  });
  ASSERT_TRUE(taken.Wait());
  Child waiter([&] { CHILD_CHECK(Op(set.id(), 0, -1) == 0); });
  AwaitWaiters(set.id(), GETNCNT, 1);
  holder.Kill(SIGKILL);
  EXPECT_EQ(holder.Wait(), Killed(SIGKILL));
  EXPECT_EQ(waiter.Wait(), Exited(0));
}

TEST(SysvSem, UndoStopsAtZero) {
  SemSet set(1);
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Op(set.id(), 0, 3, SEM_UNDO) == 0);
              CHILD_CHECK(Op(set.id(), 0, -2) == 0);
            }),
            Exited(0));
  EXPECT_EQ(Value(set.id()), 0);
}

TEST(SysvSem, SetvalForgetsUndo) {
  SemSet set(1);
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Op(set.id(), 0, 3, SEM_UNDO) == 0);
              CHILD_CHECK(semctl(set.id(), 0, SETVAL, 9) == 0);
            }),
            Exited(0));
  EXPECT_EQ(Value(set.id()), 9);
}

TEST(SysvSem, UndoValueIsBounded) {
  SemSet set(1);
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Op(set.id(), 0, 32767, SEM_UNDO) == 0);
              CHILD_CHECK(Op(set.id(), 0, -32767) == 0);
              CHILD_CHECK(Op(set.id(), 0, 2, SEM_UNDO) == -1 && errno == ERANGE);
              CHILD_CHECK(Value(set.id()) == 0);
            }),
            Exited(0));
}

TEST(SysvSem, UndoIsNotInheritedByFork) {
  SemSet set(1);
  ASSERT_OK(semctl(set.id(), 0, SETVAL, 2));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Op(set.id(), 0, -1, SEM_UNDO) == 0);
              CHILD_CHECK(RunInChild([] {}) == Exited(0));
              CHILD_CHECK(Value(set.id()) == 1);
            }),
            Exited(0));
  EXPECT_EQ(Value(set.id()), 2);
}

TEST(SysvSem, ThreadsShareUndo) {
  SemSet set(1);
  ASSERT_OK(semctl(set.id(), 0, SETVAL, 1));
  EXPECT_EQ(RunInChild([&] {
              std::thread([&] { CHILD_CHECK(Op(set.id(), 0, -1, SEM_UNDO) == 0); }).join();
              // pthreads share the list (CLONE_SYSVSEM): the thread's end gives nothing back.
              CHILD_CHECK(Value(set.id()) == 0);
            }),
            Exited(0));
  EXPECT_EQ(Value(set.id()), 1);
}

TEST(SysvSem, UnshareGivesUndoBack) {
  SemSet set(1);
  ASSERT_OK(semctl(set.id(), 0, SETVAL, 1));
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(Op(set.id(), 0, -1, SEM_UNDO) == 0);
              CHILD_CHECK(unshare(CLONE_SYSVSEM) == 0);
              CHILD_CHECK(Value(set.id()) == 1);
            }),
            Exited(0));
}

TEST(SysvSem, UndoOfRemovedSetIsDropped) {
  EXPECT_EQ(RunInChild([&] {
              for (int i = 0; i < 100; ++i) {
                int id = semget(IPC_PRIVATE, 1, 0600);
                CHILD_CHECK(Op(id, 0, 1, SEM_UNDO) == 0);
                CHILD_CHECK(semctl(id, 0, IPC_RMID) == 0);
              }
            }),
            Exited(0));
}

TEST(SysvSem, Status) {
  SemSet set(4, 0640);
  semid_ds ds = {};
  ASSERT_OK(semctl(set.id(), 0, IPC_STAT, &ds));
  EXPECT_EQ(ds.sem_nsems, 4u);
  EXPECT_EQ(ds.sem_perm.mode, 0640);
  EXPECT_EQ(ds.sem_perm.uid, geteuid());
  EXPECT_EQ(ds.sem_perm.cuid, geteuid());
  EXPECT_EQ(ds.sem_perm.__key, IPC_PRIVATE);
  EXPECT_EQ(ds.sem_otime, 0);
  EXPECT_NE(ds.sem_ctime, 0);
  ASSERT_OK(Op(set.id(), 0, 1));
  ASSERT_OK(semctl(set.id(), 0, IPC_STAT, &ds));
  EXPECT_NE(ds.sem_otime, 0);
  ds.sem_perm.uid = kNobody;
  ds.sem_perm.mode = 07604;
  ASSERT_OK(semctl(set.id(), 0, IPC_SET, &ds));
  ASSERT_OK(semctl(set.id(), 0, IPC_STAT, &ds));
  EXPECT_EQ(ds.sem_perm.uid, uid_t{kNobody});
  EXPECT_EQ(ds.sem_perm.cuid, geteuid());
  EXPECT_EQ(ds.sem_perm.mode, 0604);
  ds.sem_perm.uid = -1;
  EXPECT_FAILS(EINVAL, semctl(set.id(), 0, IPC_SET, &ds));
}

TEST(SysvSem, Info) {
  SemSet set(3);
  seminfo info = {};
  int highest = semctl(0, 0, IPC_INFO, &info);
  ASSERT_OK(highest);
  EXPECT_EQ(info.semvmx, 32767);
  EXPECT_EQ(info.semmsl, 32000);
  EXPECT_EQ(info.semopm, 500);
  EXPECT_EQ(info.semmns, 1024000000);
  EXPECT_EQ(info.semmni, 32000);
  EXPECT_EQ(info.semusz, 20);
  EXPECT_EQ(info.semaem, 32767);
  ASSERT_OK(semctl(0, 0, SEM_INFO, &info));
  EXPECT_GE(info.semusz, 1);
  EXPECT_GE(info.semaem, 3);
  bool found = false;
  for (int i = 0; i <= highest; ++i) {
    semid_ds ds;
    int id = semctl(i, 0, SEM_STAT, &ds);
    found |= id == set.id() && ds.sem_nsems == 3;
    EXPECT_EQ(semctl(i, 0, SEM_STAT_ANY, &ds), id);
  }
  EXPECT_TRUE(found);
  EXPECT_FAILS(EFAULT, semctl(0, 0, IPC_INFO, 8));
}

TEST(SysvSem, Permissions) {
  SemSet set(1, 0604), closed(1, 0600), open(1, 0666);
  EXPECT_EQ(RunInChild([&] {
              BecomeNobody();
              CHILD_CHECK(Value(set.id()) == 0);
              CHILD_CHECK(Op(set.id(), 0, 1) == -1 && errno == EACCES);
              CHILD_CHECK(Op(set.id(), 0, 0) == 0);
              CHILD_CHECK(semctl(set.id(), 0, SETVAL, 1) == -1 && errno == EACCES);
              CHILD_CHECK(Value(closed.id()) == -1 && errno == EACCES);
              semid_ds ds;
              CHILD_CHECK(semctl(closed.id(), 0, IPC_STAT, &ds) == -1 && errno == EACCES);
              CHILD_CHECK(semctl(closed.id() & 32767, 0, SEM_STAT, &ds) == -1 && errno == EACCES);
              CHILD_CHECK(semctl(closed.id() & 32767, 0, SEM_STAT_ANY, &ds) == closed.id());
              CHILD_CHECK(Op(open.id(), 0, 1) == 0);
              CHILD_CHECK(semctl(open.id(), 0, IPC_STAT, &ds) == 0);
              CHILD_CHECK(semctl(open.id(), 0, IPC_SET, &ds) == -1 && errno == EPERM);
              CHILD_CHECK(semctl(open.id(), 0, IPC_RMID) == -1 && errno == EPERM);
            }),
            Exited(0));
}

TEST(SysvSem, NamespaceIsItsOwn) {
  SemSet set;
  EXPECT_EQ(RunInChild([&] {
              int outer = open("/proc/self/ns/ipc", O_RDONLY);
              CHILD_CHECK(outer >= 0);
              CHILD_CHECK(unshare(CLONE_NEWIPC) == 0);
              CHILD_CHECK(Value(set.id()) == -1 && errno == EINVAL);
              int inner = semget(0x1234, 7, IPC_CREAT | 0600);
              CHILD_CHECK(inner >= 0);
              CHILD_CHECK(ReadFile("/proc/sysvipc/sem").find("      4660 ") != std::string::npos);
              CHILD_CHECK(setns(outer, CLONE_NEWIPC) == 0);
              CHILD_CHECK(Value(set.id()) == 0);
            }),
            Exited(0));
}

TEST(SysvSem, Sysctl) {
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(unshare(CLONE_NEWIPC) == 0);
              CHILD_CHECK(ReadFile("/proc/sys/kernel/sem") == "32000\t1024000000\t500\t32000\n");
              CHILD_CHECK(WriteFile("/proc/sys/kernel/sem", "10 15 3 2\n"));
              CHILD_CHECK(ReadFile("/proc/sys/kernel/sem") == "10\t15\t3\t2\n");
              CHILD_CHECK(semget(IPC_PRIVATE, 11, 0600) == -1 && errno == EINVAL);
              int one = semget(IPC_PRIVATE, 10, 0600);
              CHILD_CHECK(one >= 0);
              CHILD_CHECK(semget(IPC_PRIVATE, 6, 0600) == -1 && errno == ENOSPC);
              CHILD_CHECK(semget(IPC_PRIVATE, 5, 0600) >= 0);
              CHILD_CHECK(WriteFile("/proc/sys/kernel/sem", "10 1000 3 2\n"));
              CHILD_CHECK(semget(IPC_PRIVATE, 1, 0600) == -1 && errno == ENOSPC);
              sembuf ops[4] = {{0, 1, 0}, {0, 1, 0}, {0, 1, 0}, {0, 1, 0}};
              CHILD_CHECK(semop(one, ops, 4) == -1 && errno == E2BIG);
              CHILD_CHECK(semop(one, ops, 3) == 0);
              CHILD_CHECK(!WriteFile("/proc/sys/kernel/sem", "x\n"));
            }),
            Exited(0));
}

TEST(SysvSem, ProcTable) {
  SemSet set(6, 0640);
  char row[128];
  snprintf(row, sizeof row, "%10d %10d  %4o %10u %5u", 0, set.id(), 0640, 6u, geteuid());
  EXPECT_NE(ReadFile("/proc/sysvipc/sem").find(row), std::string::npos) << row;
}

// Many processes over one set: nothing is lost.
TEST(SysvSem, Contention) {
  SemSet set(2);
  ASSERT_OK(semctl(set.id(), 0, SETVAL, 1));
  int* counter = static_cast<int*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  constexpr int kProcesses = 4, kRounds = 200;
  {
    std::vector<std::unique_ptr<Child>> children;
    for (int i = 0; i < kProcesses; ++i) {
      children.push_back(std::make_unique<Child>([&] {
        for (int round = 0; round < kRounds; ++round) {
          CHILD_CHECK(Op(set.id(), 0, -1, SEM_UNDO) == 0);
          ++*counter;
          CHILD_CHECK(Op(set.id(), 0, 1, SEM_UNDO) == 0);
        }
      }));
    }
    for (auto& child : children) EXPECT_EQ(child->Wait(), Exited(0));
  }
  EXPECT_EQ(*counter, kProcesses * kRounds);
  EXPECT_EQ(Value(set.id()), 1);
  munmap(counter, 4096);
}

}  // namespace
