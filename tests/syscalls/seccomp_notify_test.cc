// SPDX-License-Identifier: Apache-2.0
// SECCOMP_RET_USER_NOTIF and the listener's file (seccomp_unotify(2)).
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "tests/syscalls/seccomp_util.h"

namespace {

constexpr unsigned kSetFlags = _IOW('!', 4, uint64_t);

int Listen(long number = kProbe, unsigned more = 0) {
  return static_cast<int>(Install(On(number, SECCOMP_RET_USER_NOTIF), SECCOMP_FILTER_FLAG_NEW_LISTENER | more));
}

void SendFd(int socket, int fd) {
  char byte = 0, control[CMSG_SPACE(sizeof(int))] = {};
  iovec iov = {&byte, 1};
  msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  CHILD_CHECK(sendmsg(socket, &message, 0) == 1);
}

int ReceiveFd(int socket) {
  char byte, control[CMSG_SPACE(sizeof(int))] = {};
  iovec iov = {&byte, 1};
  msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &message, 0) != 1) return -1;
  int fd = -1;
  if (cmsghdr* header = CMSG_FIRSTHDR(&message)) memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

// A child that hands over its listener and runs `body` under it.
class Target {
 public:
  explicit Target(const std::function<void()>& body, unsigned flags = 0, long number = kProbe) {
    int pair[2];
    EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    Fd mine(pair[0]), its(pair[1]);
    child_ = std::make_unique<Child>([&] {
      mine.reset();
      int listener = Listen(number, flags);
      CHILD_CHECK(listener >= 0);
      SendFd(its.get(), listener);
      its.reset();
      close(listener);
      body();
    });
    its.reset();
    listener.reset(ReceiveFd(mine.get()));
    EXPECT_TRUE(listener.ok());
  }
  seccomp_notif Receive() {
    seccomp_notif note = {};
    EXPECT_TRUE(PollFor(listener.get(), POLLIN, 20000));
    EXPECT_OK(ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_RECV, &note));
    return note;
  }
  int Send(uint64_t id, int64_t value, int error = 0, uint32_t flags = 0) {
    seccomp_notif_resp response = {id, value, error, flags};
    return ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_SEND, &response);
  }
  int AddFd(const seccomp_notif_addfd& request) { return ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_ADDFD, &request); }
  bool Valid(uint64_t id) { return ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0; }
  short Events() {
    pollfd p = {listener.get(), POLLIN | POLLOUT, 0};
    poll(&p, 1, 0);
    return p.revents;
  }
  Child& child() { return *child_; }
  Fd listener;

 private:
  std::unique_ptr<Child> child_;
};

TEST(SeccompNotify, ValueErrorAndContinue) {
  Target t([] {
    CHILD_CHECK(Probe(1, 2) == 0x123456789);
    CHILD_CHECK(Probe() == -1 && errno == EPERM);
    CHILD_CHECK(Probe() == getpgrp());
  });
  seccomp_notif note = t.Receive();
  EXPECT_EQ(static_cast<uint32_t>(t.child().pid()), note.pid);
  EXPECT_EQ(kProbe, note.data.nr);
  EXPECT_EQ(static_cast<uint32_t>(AUDIT_ARCH_X86_64), note.data.arch);
  EXPECT_EQ(1u, note.data.args[0]);
  EXPECT_EQ(2u, note.data.args[1]);
  EXPECT_EQ(0u, note.flags);
  EXPECT_TRUE(t.Valid(note.id));
  EXPECT_FALSE(t.Valid(note.id + 1));
  EXPECT_FAILS(EINVAL, t.Send(note.id, 0, 0, 2));
  EXPECT_FAILS(EINVAL, t.Send(note.id, 1, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
  EXPECT_FAILS(EINVAL, t.Send(note.id, 0, -1, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
  EXPECT_FAILS(ENOENT, t.Send(note.id + 1, 0));
  EXPECT_OK(t.Send(note.id, 0x123456789));
  note = t.Receive();
  EXPECT_OK(t.Send(note.id, 5, -EPERM));
  note = t.Receive();
  EXPECT_OK(t.Send(note.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE));
  EXPECT_EQ(Exited(0), t.child().Wait());
  EXPECT_FALSE(t.Valid(note.id));
  EXPECT_FAILS(ENOENT, t.Send(note.id, 0));
}

TEST(SeccompNotify, BadRequests) {
  Target t([] { Probe(); });
  int fd = t.listener.get();
  EXPECT_FAILS(EFAULT, ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, nullptr));
  seccomp_notif dirty = {};
  dirty.data.args[5] = 1;
  EXPECT_FAILS(EINVAL, ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &dirty));
  EXPECT_FAILS(EFAULT, ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, nullptr));
  EXPECT_FAILS(EFAULT, ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, nullptr));
  EXPECT_FAILS(EFAULT, ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, nullptr));
  EXPECT_FAILS(EINVAL, ioctl(fd, TIOCGWINSZ, nullptr));
  EXPECT_FAILS(EINVAL, ioctl(fd, ~0u, nullptr));
  char byte;
  EXPECT_FAILS(EINVAL, read(fd, &byte, 1));
  EXPECT_FAILS(EINVAL, write(fd, &byte, 1));
  seccomp_notif note = t.Receive();
  EXPECT_OK(t.Send(note.id, 0));
  EXPECT_EQ(Exited(0), t.child().Wait());
}

TEST(SeccompNotify, DescriptorIsClosedOnExec) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              int fd = Listen();
              CHILD_CHECK(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
            }));
}

TEST(SeccompNotify, PollTellsStates) {
  Event go;
  Target t([&] {
    go.Wait();
    Probe();
  });
  EXPECT_EQ(0, t.Events());
  go.Set();
  ASSERT_TRUE(PollFor(t.listener.get(), POLLIN, 20000));
  EXPECT_EQ(POLLIN, t.Events());
  seccomp_notif note = t.Receive();
  EXPECT_EQ(POLLOUT, t.Events());
  EXPECT_OK(t.Send(note.id, 0));
  EXPECT_EQ(Exited(0), t.child().Wait());
  ASSERT_TRUE(PollFor(t.listener.get(), POLLHUP, 20000));
  EXPECT_EQ(POLLHUP, t.Events());
}

TEST(SeccompNotify, OneListenerPerChain) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              int fd = Listen();
              CHILD_CHECK(fd >= 0);
              CHILD_CHECK(Listen(SYS_getsid) == -1 && errno == EBUSY);
              close(fd);
              // Whose supervisor is gone counts no more; its calls fail.
              CHILD_CHECK(Probe() == -1 && errno == ENOSYS);
              CHILD_CHECK(Listen(SYS_getsid) >= 0);
            }));
  EXPECT_EQ(Exited(0), RunInChild([] {
              CHILD_CHECK(Install(On(kProbe, SECCOMP_RET_USER_NOTIF)) == 0);
              CHILD_CHECK(Probe() == -1 && errno == ENOSYS);
            }));
}

TEST(SeccompNotify, ClosingAnswersWhoWaits) {
  Target t([] { CHILD_CHECK(Probe() == -1 && errno == ENOSYS); });
  t.Receive();
  t.listener.reset();
  EXPECT_EQ(Exited(0), t.child().Wait());
}

TEST(SeccompNotify, SignalsInterruptAndRestart) {
  static std::atomic<int> signals;
  Target t([] {
    signals = 0;
    ScopedHandler handler(
        SIGUSR1, [](int) { ++signals; }, SA_RESTART);
    CHILD_CHECK(Probe() == 12);
    CHILD_CHECK(signals == 1);
  });
  seccomp_notif first = t.Receive();
  EXPECT_OK(t.child().Kill(SIGUSR1));
  // The call is made again and has another number.
  seccomp_notif second = t.Receive();
  EXPECT_NE(first.id, second.id);
  EXPECT_FALSE(t.Valid(first.id));
  EXPECT_FAILS(ENOENT, t.Send(first.id, 11));
  EXPECT_OK(t.Send(second.id, 12));
  EXPECT_EQ(Exited(0), t.child().Wait());
}

TEST(SeccompNotify, WaitKillableIsNotInterruptedOnceSeen) {
  static std::atomic<int> signals;
  Target t(
      [] {
        signals = 0;
        ScopedHandler handler(SIGUSR1, [](int) { ++signals; });
        CHILD_CHECK(Probe() == 12);
        CHILD_CHECK(signals == 1);
      },
      SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  seccomp_notif note = t.Receive();
  EXPECT_OK(t.child().Kill(SIGUSR1));
  // The signal stays pending: seen by /proc before the answer.
  std::string status;
  do {
    status = ReadFile("/proc/" + std::to_string(t.child().pid()) + "/status");
  } while (status.find("ShdPnd:\t0000000000000200") == std::string::npos);
  EXPECT_TRUE(t.Valid(note.id));
  EXPECT_OK(t.Send(note.id, 12));
  EXPECT_EQ(Exited(0), t.child().Wait());
}

TEST(SeccompNotify, DeathEndsTheWait) {
  for (unsigned flags : {0u, unsigned{SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV}}) {
    Target t([] { Probe(); }, flags);
    seccomp_notif note = t.Receive();
    EXPECT_OK(t.child().Kill(SIGKILL));
    EXPECT_EQ(Killed(SIGKILL), t.child().Wait());
    EXPECT_FAILS(ENOENT, t.Send(note.id, 0));
  }
}

TEST(SeccompNotify, SentTwiceOrUnseen) {
  Target t([] { Probe(); });
  ASSERT_TRUE(PollFor(t.listener.get(), POLLIN, 20000));
  // The number is not known yet, but it is the one before the next.
  seccomp_notif note = t.Receive();
  Fd other(dup(t.listener.get()));
  EXPECT_OK(t.Send(note.id, 0));
  EXPECT_TRUE(t.Send(note.id, 0) == -1 && (errno == ENOENT || errno == EINPROGRESS));
  EXPECT_EQ(Exited(0), t.child().Wait());
}

TEST(SeccompNotify, FaultPutsTheCallBack) {
  Target t([] { CHILD_CHECK(Probe() == 3); });
  ASSERT_TRUE(PollFor(t.listener.get(), POLLIN, 20000));
  EXPECT_FAILS(EFAULT, ioctl(t.listener.get(), SECCOMP_IOCTL_NOTIF_RECV, reinterpret_cast<void*>(8)));
  EXPECT_EQ(POLLIN, t.Events());
  EXPECT_OK(t.Send(t.Receive().id, 3));
  EXPECT_EQ(Exited(0), t.child().Wait());
}

TEST(SeccompNotify, AddFd) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "f", "hello"));
  Fd file(open((dir / "f").c_str(), O_RDONLY));
  ASSERT_TRUE(file.ok());
  Target t([] {
    char text[6] = {};
    int fd = static_cast<int>(Probe());
    CHILD_CHECK(fd > 2);
    CHILD_CHECK(pread(fd, text, 5, 0) == 5 && std::string(text) == "hello");
    CHILD_CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHILD_CHECK(Probe() == 33);
    CHILD_CHECK(pread(33, text, 5, 0) == 5 && fcntl(33, F_GETFD) == 0);
    fd = static_cast<int>(Probe());
    CHILD_CHECK(pread(fd, text, 5, 0) == 5);
  });
  seccomp_notif note = t.Receive();
  seccomp_notif_addfd request = {
      .id = note.id, .flags = 0, .srcfd = static_cast<uint32_t>(file.get()), .newfd = 0, .newfd_flags = O_CLOEXEC};
  auto bad = [&](int error, auto change) {
    seccomp_notif_addfd r = request;
    change(r);
    EXPECT_FAILS(error, t.AddFd(r));
  };
  bad(EINVAL, [](auto& r) { r.newfd_flags = O_RDWR; });
  bad(EINVAL, [](auto& r) { r.flags = 4; });
  bad(EINVAL, [](auto& r) { r.newfd = 33; });
  bad(EBADF, [](auto& r) { r.srcfd = 9999; });
  bad(ENOENT, [](auto& r) { r.id += 1; });
  bad(EBADF, [](auto& r) {
    r.flags = SECCOMP_ADDFD_FLAG_SETFD;
    r.newfd = 1 << 30;
  });
  // Sizes of other versions.
  EXPECT_FAILS(EINVAL, ioctl(t.listener.get(), _IOC(_IOC_WRITE, '!', 3, 23), &request));
  EXPECT_FAILS(EINVAL, ioctl(t.listener.get(), _IOC(_IOC_WRITE, '!', 3, 4096), &request));
  struct {
    seccomp_notif_addfd request;
    uint64_t more;
  } longer = {request, 1};
  EXPECT_FAILS(E2BIG, ioctl(t.listener.get(), _IOC(_IOC_WRITE, '!', 3, sizeof longer), &longer));

  int fd = t.AddFd(request);
  ASSERT_GT(fd, 2);
  EXPECT_OK(t.Send(note.id, fd));

  note = t.Receive();
  request.id = note.id;
  request.flags = SECCOMP_ADDFD_FLAG_SETFD;
  request.newfd = 33;
  request.newfd_flags = 0;
  EXPECT_EQ(33, t.AddFd(request));
  EXPECT_EQ(33, t.AddFd(request));
  EXPECT_OK(t.Send(note.id, 33));

  note = t.Receive();
  request.id = note.id;
  request.flags = SECCOMP_ADDFD_FLAG_SEND;
  request.newfd = 0;
  EXPECT_GT(t.AddFd(request), 2);
  EXPECT_EQ(Exited(0), t.child().Wait());
}

TEST(SeccompNotify, SetFlags) {
  Target t([] { Probe(); });
  if (ioctl(t.listener.get(), kSetFlags, 1) == -1 && errno == EINVAL) {
    EXPECT_OK(t.Send(t.Receive().id, 0));
    GTEST_SKIP() << "a kernel before 6.6";
  }
  EXPECT_OK(ioctl(t.listener.get(), kSetFlags, 0));
  EXPECT_FAILS(EINVAL, ioctl(t.listener.get(), kSetFlags, 2));
  EXPECT_FAILS(EINVAL, ioctl(t.listener.get(), kSetFlags, ~0ul));
  EXPECT_OK(t.Send(t.Receive().id, 0));
  EXPECT_EQ(Exited(0), t.child().Wait());
}

TEST(SeccompNotify, ThreadsAskAtOnce) {
  constexpr int kThreads = 4, kCalls = 50;
  Target t([] {
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([i] {
        for (int n = 0; n < kCalls; ++n) CHILD_CHECK(Probe(i, n) == i * 1000 + n);
      });
    }
    for (std::thread& each : threads) each.join();
  });
  for (int n = 0; n < kThreads * kCalls; ++n) {
    seccomp_notif note = t.Receive();
    ASSERT_OK(t.Send(note.id, static_cast<int64_t>(note.data.args[0] * 1000 + note.data.args[1])));
  }
  EXPECT_EQ(Exited(0), t.child().Wait());
}

TEST(SeccompNotify, NewListenerWithTsync) {
  EXPECT_EQ(Exited(0), RunInChild([] {
              int fd = Listen(kProbe, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH);
              CHILD_CHECK(fd >= 0);
              std::thread asks([] { CHILD_CHECK(Probe() == 8); });
              seccomp_notif note = {};
              CHILD_CHECK(ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &note) == 0);
              seccomp_notif_resp response = {note.id, 8, 0, 0};
              CHILD_CHECK(ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0);
              asks.join();
            }));
}

}  // namespace
