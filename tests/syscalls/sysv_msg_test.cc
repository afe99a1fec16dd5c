// SPDX-License-Identifier: Apache-2.0
// msgget(2), msgsnd(2), msgrcv(2), msgctl(2), /proc/sysvipc/msg.
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/syscall.h>

#include <string>

#include "tests/syscalls/util.h"

#ifndef MSG_COPY
#define MSG_COPY 040000
#endif
#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif

namespace {

constexpr pid_t kNobody = 65534;

struct Buffer {
  long type;
  char text[8192];
};

class Queue {
 public:
  explicit Queue(int mode = 0600) : id_(msgget(IPC_PRIVATE, mode)) {}
  explicit Queue(int id, std::nullptr_t) : id_(id) {}
  ~Queue() {
    if (id_ >= 0) msgctl(id_, IPC_RMID, nullptr);
  }
  int id() const { return id_; }
  int Release() { return std::exchange(id_, -1); }

 private:
  int id_;
};

int Send(int id, long type, const std::string& text, int flags = IPC_NOWAIT) {
  Buffer buffer;
  buffer.type = type;
  memcpy(buffer.text, text.data(), text.size());
  return msgsnd(id, &buffer, text.size(), flags);
}

// "type:text", or the errno's name for the usual ones.
std::string Receive(int id, long type, int flags = IPC_NOWAIT, size_t limit = sizeof Buffer::text) {
  Buffer buffer;
  ssize_t n = msgrcv(id, &buffer, limit, type, flags);
  if (n < 0) return strerrorname_np(errno);
  return std::to_string(buffer.type) + ":" + std::string(buffer.text, static_cast<size_t>(n));
}

msqid_ds Stat(int id) {
  msqid_ds ds = {};
  EXPECT_OK(msgctl(id, IPC_STAT, &ds));
  return ds;
}

TEST(SysvMsg, Get) {
  const key_t key = 0x5e600000 + getpid();
  EXPECT_FAILS(ENOENT, msgget(key, 0));
  Queue queue(msgget(key, IPC_CREAT | IPC_EXCL | 0600), nullptr);
  ASSERT_OK(queue.id());
  EXPECT_EQ(msgget(key, 0), queue.id());
  EXPECT_FAILS(EEXIST, msgget(key, IPC_CREAT | IPC_EXCL));
}

TEST(SysvMsg, InOrder) {
  Queue queue;
  ASSERT_OK(Send(queue.id(), 1, "one"));
  ASSERT_OK(Send(queue.id(), 2, "two"));
  ASSERT_OK(Send(queue.id(), 1, ""));
  EXPECT_EQ(Stat(queue.id()).msg_qnum, 3u);
  EXPECT_EQ(Stat(queue.id()).__msg_cbytes, 6u);
  EXPECT_EQ(Receive(queue.id(), 0), "1:one");
  EXPECT_EQ(Receive(queue.id(), 0), "2:two");
  EXPECT_EQ(Receive(queue.id(), 0), "1:");
  EXPECT_EQ(Receive(queue.id(), 0), "ENOMSG");
  EXPECT_EQ(Stat(queue.id()).__msg_cbytes, 0u);
}

TEST(SysvMsg, TypeSelection) {
  Queue queue;
  for (long type : {5, 3, 4, 3, 9}) ASSERT_OK(Send(queue.id(), type, std::to_string(type)));
  EXPECT_EQ(Receive(queue.id(), 4), "4:4");
  EXPECT_EQ(Receive(queue.id(), 4), "ENOMSG");
  EXPECT_EQ(Receive(queue.id(), 5, IPC_NOWAIT | MSG_EXCEPT), "3:3");
  EXPECT_EQ(Receive(queue.id(), -5), "3:3");
  EXPECT_EQ(Receive(queue.id(), -5), "5:5");
  EXPECT_EQ(Receive(queue.id(), -8), "ENOMSG");
  EXPECT_EQ(Receive(queue.id(), LONG_MIN), "9:9");
}

TEST(SysvMsg, Sizes) {
  Queue queue;
  ASSERT_OK(Send(queue.id(), 1, "abcdef"));
  EXPECT_EQ(Receive(queue.id(), 0, IPC_NOWAIT, 3), "E2BIG");
  EXPECT_EQ(Receive(queue.id(), 0, IPC_NOWAIT | MSG_NOERROR, 3), "1:abc");
  EXPECT_EQ(Receive(queue.id(), 0), "ENOMSG");
  EXPECT_EQ(Receive(queue.id(), 0, IPC_NOWAIT, 0), "ENOMSG");
  Buffer buffer = {.type = 1};
  EXPECT_FAILS(EINVAL, msgsnd(queue.id(), &buffer, 8193, IPC_NOWAIT));
  EXPECT_FAILS(EINVAL, msgsnd(queue.id(), &buffer, SIZE_MAX, IPC_NOWAIT));
  EXPECT_FAILS(EINVAL, msgrcv(queue.id(), &buffer, SIZE_MAX, 0, IPC_NOWAIT));
  EXPECT_OK(msgsnd(queue.id(), &buffer, 8192, IPC_NOWAIT));
}

TEST(SysvMsg, BadArguments) {
  Queue queue;
  EXPECT_FAILS(EINVAL, Send(queue.id(), 0, "x"));
  EXPECT_FAILS(EINVAL, Send(queue.id(), -1, "x"));
  EXPECT_FAILS(EINVAL, Send(-1, 1, "x"));
  EXPECT_FAILS(EINVAL, Send(INT_MAX, 1, "x"));
  EXPECT_FAILS(EFAULT, msgsnd(queue.id(), reinterpret_cast<void*>(8), 1, 0));
  EXPECT_FAILS(EINVAL, msgrcv(-1, nullptr, 1, 0, IPC_NOWAIT));
  ASSERT_OK(Send(queue.id(), 1, "lost"));
  EXPECT_FAILS(EFAULT, msgrcv(queue.id(), reinterpret_cast<void*>(8), 100, 0, IPC_NOWAIT));
  EXPECT_FAILS(EINVAL, msgctl(queue.id(), 99, nullptr));
  EXPECT_FAILS(EINVAL, msgctl(-1, IPC_RMID, nullptr));
  EXPECT_FAILS(EFAULT, msgctl(queue.id(), IPC_STAT, reinterpret_cast<msqid_ds*>(8)));
  EXPECT_FAILS(EFAULT, msgctl(queue.id(), IPC_SET, reinterpret_cast<msqid_ds*>(8)));
}

TEST(SysvMsg, Copy) {
  Queue queue;
  ASSERT_OK(Send(queue.id(), 7, "zero"));
  ASSERT_OK(Send(queue.id(), 8, "one"));
  EXPECT_EQ(Receive(queue.id(), 1, MSG_COPY), "EINVAL");
  EXPECT_EQ(Receive(queue.id(), 1, MSG_COPY | IPC_NOWAIT | MSG_EXCEPT), "EINVAL");
  EXPECT_EQ(Receive(queue.id(), 1, MSG_COPY | IPC_NOWAIT), "8:one");
  EXPECT_EQ(Receive(queue.id(), 0, MSG_COPY | IPC_NOWAIT, 2), "E2BIG");
  // A copy is whole or not at all.
  EXPECT_EQ(Receive(queue.id(), 0, MSG_COPY | IPC_NOWAIT | MSG_NOERROR, 2), "EINVAL");
  EXPECT_EQ(Receive(queue.id(), 2, MSG_COPY | IPC_NOWAIT), "ENOMSG");
  EXPECT_EQ(Stat(queue.id()).msg_qnum, 2u);
}

TEST(SysvMsg, FullQueueBlocks) {
  Queue queue;
  const std::string big(8192, 'b');
  ASSERT_OK(Send(queue.id(), 1, big));
  ASSERT_OK(Send(queue.id(), 1, big));
  EXPECT_FAILS(EAGAIN, Send(queue.id(), 1, "x"));
  ASSERT_OK(Send(queue.id(), 1, ""));
  Event started;
  Child child([&] {
    started.Set();
    CHILD_CHECK(Send(queue.id(), 2, "late", 0) == 0);
  });
  ASSERT_TRUE(started.Wait());
  EXPECT_EQ(Receive(queue.id(), 0), "1:" + big);
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(Receive(queue.id(), 2, 0), "2:late");
}

TEST(SysvMsg, ReceiverBlocksForItsType) {
  Queue queue;
  Event started;
  Child child([&] {
    started.Set();
    CHILD_CHECK(Receive(queue.id(), 3, 0) == "3:mine");
  });
  ASSERT_TRUE(started.Wait());
  ASSERT_OK(Send(queue.id(), 2, "other"));
  ASSERT_OK(Send(queue.id(), 3, "mine"));
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(Receive(queue.id(), 0), "2:other");
  EXPECT_EQ(Stat(queue.id()).msg_lspid, getpid());
}

TEST(SysvMsg, RemovalWakes) {
  Queue queue;
  int id = queue.Release();
  Event started;
  Child child([&] {
    started.Set();
    std::string got = Receive(id, 0, 0);
    // It may not have been asleep yet.
    CHILD_CHECK(got == "EIDRM" || got == "EINVAL");
  });
  ASSERT_TRUE(started.Wait());
  usleep(20000);
  ASSERT_OK(msgctl(id, IPC_RMID, nullptr));
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_FAILS(EINVAL, Send(id, 1, "x"));
}

TEST(SysvMsg, SignalsInterruptAlways) {
  Queue queue;
  EXPECT_EQ(RunInChild([&] {
              ScopedHandler handler(
                  SIGALRM, [](int) {}, SA_RESTART);
              ScopedTicks ticks;
              CHILD_CHECK(Receive(queue.id(), 0, 0) == "EINTR");
              std::string big(8192, 'b');
              CHILD_CHECK(Send(queue.id(), 1, big) == 0 && Send(queue.id(), 1, big) == 0);
              CHILD_CHECK(Send(queue.id(), 1, big, 0) == -1 && errno == EINTR);
            }),
            Exited(0));
}

TEST(SysvMsg, Control) {
  Queue queue(0640);
  msqid_ds ds = Stat(queue.id());
  EXPECT_EQ(ds.msg_perm.mode, 0640);
  EXPECT_EQ(ds.msg_qbytes, 16384u);
  EXPECT_EQ(ds.msg_lspid, 0);
  EXPECT_EQ(ds.msg_stime, 0);
  EXPECT_NE(ds.msg_ctime, 0);
  ds.msg_qbytes = 10;
  ds.msg_perm.mode = 0600;
  ASSERT_OK(msgctl(queue.id(), IPC_SET, &ds));
  EXPECT_FAILS(EAGAIN, Send(queue.id(), 1, "eleven char"));
  ASSERT_OK(Send(queue.id(), 1, "0123456789"));
  EXPECT_NE(Stat(queue.id()).msg_stime, 0);
  EXPECT_EQ(Receive(queue.id(), 0), "1:0123456789");
  EXPECT_EQ(Stat(queue.id()).msg_lrpid, getpid());
  EXPECT_NE(Stat(queue.id()).msg_rtime, 0);
}

// Empty messages cost room, too.
TEST(SysvMsg, EmptyMessagesAreBounded) {
  Queue queue;
  msqid_ds ds = Stat(queue.id());
  ds.msg_qbytes = 3;
  ASSERT_OK(msgctl(queue.id(), IPC_SET, &ds));
  for (int i = 0; i < 3; ++i) ASSERT_OK(Send(queue.id(), 1, ""));
  EXPECT_FAILS(EAGAIN, Send(queue.id(), 1, ""));
}

TEST(SysvMsg, Info) {
  Queue queue;
  ASSERT_OK(Send(queue.id(), 1, "abc"));
  msginfo info = {};
  int highest = msgctl(0, IPC_INFO, reinterpret_cast<msqid_ds*>(&info));
  ASSERT_OK(highest);
  EXPECT_EQ(info.msgmax, 8192);
  EXPECT_EQ(info.msgmnb, 16384);
  EXPECT_EQ(info.msgmni, 32000);
  EXPECT_EQ(info.msgssz, 16);
  EXPECT_EQ(info.msgmap, 16384);
  EXPECT_EQ(info.msgpool, 512000);
  EXPECT_EQ(info.msgseg, 0xffff);
  ASSERT_OK(msgctl(0, MSG_INFO, reinterpret_cast<msqid_ds*>(&info)));
  EXPECT_GE(info.msgpool, 1);
  EXPECT_GE(info.msgmap, 1);
  EXPECT_GE(info.msgtql, 3);
  bool found = false;
  for (int i = 0; i <= highest; ++i) {
    msqid_ds ds;
    found |= msgctl(i, MSG_STAT, &ds) == queue.id() && ds.msg_qnum == 1;
  }
  EXPECT_TRUE(found);
}

TEST(SysvMsg, Permissions) {
  Queue writable(0602), closed(0600);
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(setresgid(kNobody, kNobody, kNobody) == 0);
              CHILD_CHECK(setresuid(kNobody, kNobody, kNobody) == 0);
              CHILD_CHECK(Send(writable.id(), 1, "in") == 0);
              CHILD_CHECK(Receive(writable.id(), 0) == "EACCES");
              CHILD_CHECK(Send(closed.id(), 1, "in") == -1 && errno == EACCES);
              msqid_ds ds;
              CHILD_CHECK(msgctl(closed.id() & 32767, MSG_STAT, &ds) == -1 && errno == EACCES);
              CHILD_CHECK(msgctl(closed.id() & 32767, MSG_STAT_ANY, &ds) == closed.id());
              CHILD_CHECK(msgctl(writable.id(), IPC_RMID, nullptr) == -1 && errno == EPERM);
              // Raising the size of one's own queue above msgmnb takes CAP_SYS_RESOURCE.
              Queue own;
              CHILD_CHECK(msgctl(own.id(), IPC_STAT, &ds) == 0);
              ds.msg_qbytes = 16385;
              CHILD_CHECK(msgctl(own.id(), IPC_SET, &ds) == -1 && errno == EPERM);
            }),
            Exited(0));
  EXPECT_EQ(Receive(writable.id(), 0), "1:in");
}

TEST(SysvMsg, NamespaceAndSysctl) {
  Queue queue;
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(unshare(CLONE_NEWIPC) == 0);
              CHILD_CHECK(Send(queue.id(), 1, "x") == -1 && errno == EINVAL);
              CHILD_CHECK(WriteFile("/proc/sys/kernel/msgmax", "4\n"));
              CHILD_CHECK(WriteFile("/proc/sys/kernel/msgmnb", "6\n"));
              CHILD_CHECK(WriteFile("/proc/sys/kernel/msgmni", "1\n"));
              int own = msgget(IPC_PRIVATE, 0600);
              CHILD_CHECK(own >= 0);
              CHILD_CHECK(msgget(IPC_PRIVATE, 0600) == -1 && errno == ENOSPC);
              CHILD_CHECK(Send(own, 1, "12345") == -1 && errno == EINVAL);
              CHILD_CHECK(Send(own, 1, "1234") == 0);
              CHILD_CHECK(Send(own, 1, "123") == -1 && errno == EAGAIN);
            }),
            Exited(0));
  EXPECT_EQ(ReadFile("/proc/sys/kernel/msgmax"), "8192\n");
}

TEST(SysvMsg, ProcTable) {
  Queue queue(0644);
  ASSERT_OK(Send(queue.id(), 1, "12345"));
  char row[128];
  snprintf(row, sizeof row, "%10d %10d  %4o  %10lu %10lu %5u %5u", 0, queue.id(), 0644, 5ul, 1ul,
           static_cast<unsigned>(getpid()), 0u);
  EXPECT_NE(ReadFile("/proc/sysvipc/msg").find(row), std::string::npos) << row;
}

}  // namespace
