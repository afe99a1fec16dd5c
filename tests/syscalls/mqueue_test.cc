// SPDX-License-Identifier: Apache-2.0
// mq_open(3) and its family, the mqueue filesystem, /proc/sys/fs/mqueue.
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/syscalls/util.h"

namespace {

constexpr pid_t kNobody = 65534;

// A queue of the test's own, unlinked with its scope.
class Mq {
 public:
  explicit Mq(int flags = O_RDWR, long messages = 4, long size = 64) : name_("/mq_test_" + std::to_string(getpid())) {
    mq_unlink(name_.c_str());
    mq_attr attr = {};
    attr.mq_maxmsg = messages;
    attr.mq_msgsize = size;
    fd_ = mq_open(name_.c_str(), flags | O_CREAT | O_EXCL, 0600, &attr);
  }
  ~Mq() {
    if (fd_ >= 0) mq_close(fd_);
    mq_unlink(name_.c_str());
  }
  mqd_t fd() const { return fd_; }
  const char* name() const { return name_.c_str(); }

 private:
  std::string name_;
  mqd_t fd_;
};

int Send(mqd_t fd, const std::string& text, unsigned priority = 0) {
  return mq_send(fd, text.data(), text.size(), priority);
}
// "priority:text", or the errno's name.
std::string Receive(mqd_t fd, size_t room = 64) {
  std::string text(room, '\0');
  unsigned priority = 99;
  ssize_t n = mq_receive(fd, text.data(), text.size(), &priority);
  if (n < 0) return strerrorname_np(errno);
  return std::to_string(priority) + ":" + text.substr(0, static_cast<size_t>(n));
}
mq_attr Attributes(mqd_t fd) {
  mq_attr attr = {};
  EXPECT_OK(mq_getattr(fd, &attr));
  return attr;
}

TEST(Mqueue, Open) {
  Mq queue;
  ASSERT_OK(queue.fd());
  EXPECT_FAILS(EEXIST, mq_open(queue.name(), O_RDWR | O_CREAT | O_EXCL, 0600, nullptr));
  mqd_t again = mq_open(queue.name(), O_RDONLY);
  ASSERT_OK(again);
  EXPECT_EQ(fcntl(again, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(Attributes(again).mq_maxmsg, 4);
  EXPECT_EQ(Attributes(again).mq_msgsize, 64);
  mq_close(again);
  EXPECT_FAILS(ENOENT, mq_open("/mq_test_none", O_RDWR));
  EXPECT_FAILS(ENOENT, syscall(SYS_mq_open, "", O_RDWR, 0, nullptr));
  EXPECT_FAILS(EACCES, syscall(SYS_mq_open, "/a", O_RDWR, 0, nullptr));
  EXPECT_FAILS(EACCES, syscall(SYS_mq_open, "a/b", O_RDWR | O_CREAT, 0600, nullptr));
  EXPECT_FAILS(EACCES, syscall(SYS_mq_open, "..", O_RDWR | O_CREAT, 0600, nullptr));
  EXPECT_FAILS(ENAMETOOLONG, syscall(SYS_mq_open, std::string(256, 'n').c_str(), O_RDWR | O_CREAT, 0600, nullptr));
  EXPECT_FAILS(EFAULT, syscall(SYS_mq_open, 8, O_RDWR, 0, nullptr));
  EXPECT_FAILS(EFAULT, syscall(SYS_mq_open, "a", O_RDWR | O_CREAT, 0600, 8));
  EXPECT_FAILS(EINVAL, syscall(SYS_mq_open, queue.name() + 1, O_ACCMODE, 0, nullptr));
}

TEST(Mqueue, Attributes) {
  mq_attr attr = {};
  for (auto [messages, size] : {std::pair<long, long>{0, 64}, {4, 0}, {-1, 64}, {4, -1}, {65537, 1}, {1, 16777217}}) {
    attr.mq_maxmsg = messages;
    attr.mq_msgsize = size;
    EXPECT_FAILS(EINVAL, mq_open("/mq_test_bad", O_RDWR | O_CREAT, 0600, &attr));
  }
  EXPECT_FAILS(ENOENT, mq_unlink("/mq_test_bad"));
  mq_unlink("/mq_test_default");
  mqd_t fd = mq_open("/mq_test_default", O_RDWR | O_CREAT, 0600, nullptr);
  ASSERT_OK(fd);
  EXPECT_EQ(Attributes(fd).mq_maxmsg, 10);
  EXPECT_EQ(Attributes(fd).mq_msgsize, 8192);
  mq_close(fd);
  EXPECT_OK(mq_unlink("/mq_test_default"));
}

TEST(Mqueue, PriorityOrder) {
  Mq queue;
  ASSERT_OK(Send(queue.fd(), "low", 1));
  ASSERT_OK(Send(queue.fd(), "high", 32767));
  ASSERT_OK(Send(queue.fd(), "low too", 1));
  ASSERT_OK(Send(queue.fd(), "", 5));
  EXPECT_EQ(Attributes(queue.fd()).mq_curmsgs, 4);
  EXPECT_EQ(Receive(queue.fd()), "32767:high");
  EXPECT_EQ(Receive(queue.fd()), "5:");
  EXPECT_EQ(Receive(queue.fd()), "1:low");
  EXPECT_EQ(Receive(queue.fd()), "1:low too");
}

TEST(Mqueue, BadArguments) {
  Mq queue;
  EXPECT_FAILS(EINVAL, Send(queue.fd(), "x", 32768));
  EXPECT_FAILS(EMSGSIZE, Send(queue.fd(), std::string(65, 'x')));
  EXPECT_FAILS(EMSGSIZE, syscall(SYS_mq_timedsend, queue.fd(), "x", SIZE_MAX, 0, nullptr));
  EXPECT_EQ(Receive(queue.fd(), 63), "EMSGSIZE");
  EXPECT_FAILS(EFAULT, syscall(SYS_mq_timedsend, queue.fd(), 8, 4, 0, nullptr));
  EXPECT_FAILS(EFAULT, syscall(SYS_mq_timedsend, queue.fd(), "x", 1, 0, 8));
  timespec bad = {0, 1000000000};
  EXPECT_FAILS(EINVAL, syscall(SYS_mq_timedsend, queue.fd(), "x", 1, 0, &bad));
  Fd null(open("/dev/null", O_RDWR));
  EXPECT_FAILS(EBADF, Send(null.get(), "x"));
  EXPECT_FAILS(EBADF, Send(-1, "x"));
  EXPECT_EQ(Receive(null.get()), "EBADF");
  mqd_t reader = mq_open(queue.name(), O_RDONLY), writer = mq_open(queue.name(), O_WRONLY);
  EXPECT_FAILS(EBADF, Send(reader, "x"));
  EXPECT_EQ(Receive(writer), "EBADF");
  mq_close(reader);
  mq_close(writer);
  mq_attr attr = {};
  attr.mq_flags = O_APPEND;
  EXPECT_FAILS(EINVAL, mq_setattr(queue.fd(), &attr, nullptr));
  EXPECT_FAILS(EBADF, mq_getattr(null.get(), &attr));
  EXPECT_FAILS(EFAULT, syscall(SYS_mq_getsetattr, queue.fd(), 8, nullptr));
  EXPECT_FAILS(EFAULT, syscall(SYS_mq_getsetattr, queue.fd(), nullptr, 8));
}

TEST(Mqueue, NonBlocking) {
  Mq queue(O_RDWR | O_NONBLOCK, 1);
  EXPECT_EQ(Attributes(queue.fd()).mq_flags, O_NONBLOCK);
  EXPECT_EQ(Receive(queue.fd()), "EAGAIN");
  ASSERT_OK(Send(queue.fd(), "x"));
  EXPECT_FAILS(EAGAIN, Send(queue.fd(), "y"));
  mq_attr attr = {}, old = {};
  ASSERT_OK(mq_setattr(queue.fd(), &attr, &old));
  EXPECT_EQ(old.mq_flags, O_NONBLOCK);
  EXPECT_EQ(old.mq_curmsgs, 1);
  EXPECT_EQ(fcntl(queue.fd(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(Mqueue, TimeOuts) {
  Mq queue(O_RDWR, 1);
  timespec past = {1, 0}, soon;
  clock_gettime(CLOCK_REALTIME, &soon);
  soon.tv_nsec += 20000000;
  if (soon.tv_nsec >= 1000000000) soon.tv_sec++, soon.tv_nsec -= 1000000000;
  char room[64];
  EXPECT_FAILS(ETIMEDOUT, mq_timedreceive(queue.fd(), room, sizeof room, nullptr, &past));
  EXPECT_FAILS(ETIMEDOUT, mq_timedreceive(queue.fd(), room, sizeof room, nullptr, &soon));
  ASSERT_OK(mq_timedsend(queue.fd(), "x", 1, 0, &past));
  EXPECT_FAILS(ETIMEDOUT, mq_timedsend(queue.fd(), "x", 1, 0, &past));
}

TEST(Mqueue, BlockedSidesMeet) {
  Mq queue(O_RDWR, 1);
  Event started;
  Child child([&] {
    started.Set();
    CHILD_CHECK(Receive(queue.fd()) == "3:first");
    CHILD_CHECK(Receive(queue.fd()) == "3:second");
    CHILD_CHECK(Receive(queue.fd()) == "3:third");
  });
  ASSERT_TRUE(started.Wait());
  for (const char* text : {"first", "second", "third"}) ASSERT_OK(Send(queue.fd(), text, 3));
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST(Mqueue, SignalsInterrupt) {
  Mq queue;
  EXPECT_EQ(RunInChild([&] {
              ScopedHandler handler(SIGALRM, [](int) {});
              ScopedTicks ticks;
              CHILD_CHECK(Receive(queue.fd()) == "EINTR");
            }),
            Exited(0));
}

TEST(Mqueue, Poll) {
  Mq queue(O_RDWR, 2);
  pollfd p = {queue.fd(), POLLIN | POLLOUT, 0};
  ASSERT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLOUT);
  ASSERT_OK(Send(queue.fd(), "a"));
  ASSERT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN | POLLOUT);
  ASSERT_OK(Send(queue.fd(), "b"));
  ASSERT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN);
  Fd epoll(epoll_create1(0));
  epoll_event event = {.events = EPOLLOUT, .data = {}};
  ASSERT_OK(epoll_ctl(epoll.get(), EPOLL_CTL_ADD, queue.fd(), &event));
  EXPECT_EQ(epoll_wait(epoll.get(), &event, 1, 0), 0);
  Child child([&] { CHILD_CHECK(Receive(queue.fd()) == "0:a"); });
  EXPECT_EQ(epoll_wait(epoll.get(), &event, 1, 10000), 1);
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST(Mqueue, NotifyBySignal) {
  Mq queue;
  ScopedBlock block({SIGRTMIN});
  sigset_t set = SetOf({SIGRTMIN});
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN;
  event.sigev_value.sival_int = 4711;
  ASSERT_OK(mq_notify(queue.fd(), &event));
  EXPECT_EQ(RunInChild([&] { CHILD_CHECK(mq_notify(queue.fd(), &event) == -1 && errno == EBUSY); }), Exited(0));
  Child child([&] { CHILD_CHECK(Send(queue.fd(), "wake") == 0); });
  EXPECT_EQ(child.Wait(), Exited(0));
  siginfo_t info = {};
  timespec bound = {10, 0};
  ASSERT_EQ(sigtimedwait(&set, &info, &bound), SIGRTMIN);
  EXPECT_EQ(info.si_code, SI_MESGQ);
  EXPECT_EQ(info.si_pid, child.pid());
  EXPECT_EQ(info.si_uid, getuid());
  EXPECT_EQ(info.si_value.sival_int, 4711);
  // Once only; and only for an empty queue.
  ASSERT_OK(mq_notify(queue.fd(), &event));
  ASSERT_OK(Send(queue.fd(), "more"));
  timespec none = {0, 0};
  EXPECT_FAILS(EAGAIN, sigtimedwait(&set, &info, &none));
  ASSERT_OK(mq_notify(queue.fd(), nullptr));
  EXPECT_EQ(Receive(queue.fd()), "0:wake");
  EXPECT_EQ(Receive(queue.fd()), "0:more");
  ASSERT_OK(Send(queue.fd(), "unheard"));
  EXPECT_FAILS(EAGAIN, sigtimedwait(&set, &info, &none));
}

TEST(Mqueue, NotifyGoesToAWaitingReceiverInstead) {
  Mq queue;
  ScopedBlock block({SIGRTMIN});
  sigset_t set = SetOf({SIGRTMIN});
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN;
  ASSERT_OK(mq_notify(queue.fd(), &event));
  Event started;
  Child child([&] {
    started.Set();
    CHILD_CHECK(Receive(queue.fd()) == "0:x");
  });
  ASSERT_TRUE(started.Wait());
  // Until it sleeps in the call.
  for (int i = 0; i < 10000; ++i) {
    if (ReadFile("/proc/" + std::to_string(child.pid()) + "/stat").find(") S ") != std::string::npos) break;
    usleep(1000);
  }
  ASSERT_OK(Send(queue.fd(), "x"));
  EXPECT_EQ(child.Wait(), Exited(0));
  siginfo_t info;
  timespec none = {0, 0};
  EXPECT_FAILS(EAGAIN, sigtimedwait(&set, &info, &none));
  // Still registered.
  EXPECT_EQ(RunInChild([&] { CHILD_CHECK(mq_notify(queue.fd(), &event) == -1 && errno == EBUSY); }), Exited(0));
}

TEST(Mqueue, NotifyRules) {
  Mq queue;
  sigevent event = {};
  event.sigev_notify = 77;
  EXPECT_FAILS(EINVAL, mq_notify(queue.fd(), &event));
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = 65;
  EXPECT_FAILS(EINVAL, mq_notify(queue.fd(), &event));
  event.sigev_notify = SIGEV_NONE;
  EXPECT_FAILS(EBADF, mq_notify(-1, &event));
  Fd null(open("/dev/null", O_RDWR));
  EXPECT_FAILS(EBADF, mq_notify(null.get(), &event));
  EXPECT_FAILS(EFAULT, syscall(SYS_mq_notify, queue.fd(), 8));
  ASSERT_OK(mq_notify(queue.fd(), &event));
  EXPECT_FAILS(EBUSY, mq_notify(queue.fd(), &event));
  // A close of any descriptor of it by the registered process ends the registration.
  mqd_t other = mq_open(queue.name(), O_RDONLY);
  mq_close(other);
  EXPECT_OK(mq_notify(queue.fd(), &event));
  // So does the end of the process.
  ASSERT_OK(mq_notify(queue.fd(), nullptr));
  EXPECT_EQ(RunInChild([&] { CHILD_CHECK(mq_notify(queue.fd(), &event) == 0); }), Exited(0));
  EXPECT_OK(mq_notify(queue.fd(), &event));
}

// SIGEV_THREAD of the system call: a cookie of 32 bytes is sent to a netlink socket, its last byte says why.
class MqCookie : public testing::Test {
 protected:
  static constexpr size_t kLength = 32;
  static constexpr char kWoken = 1, kRemoved = 2;
  MqCookie() {
    for (size_t i = 0; i < kLength; ++i) cookie_[i] = static_cast<char>('A' + i);
  }
  long Register(int socket, const void* cookie) {
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD;
    event.sigev_signo = socket;
    event.sigev_value.sival_ptr = const_cast<void*>(cookie);
    return syscall(SYS_mq_notify, queue_.fd(), &event);
  }
  long Register() { return Register(netlink_.get(), cookie_); }
  // The last byte of the cookie that came; -1 for none or another.
  int Came() {
    if (!PollFor(netlink_.get(), POLLIN, 10'000)) return -1;
    char got[kLength + 1] = {};
    if (recv(netlink_.get(), got, sizeof got, MSG_DONTWAIT) != kLength) return -1;
    return memcmp(got, cookie_, kLength - 1) == 0 ? got[kLength - 1] : -1;
  }
  bool Nothing() { return !PollFor(netlink_.get(), POLLIN, 0); }
  Mq queue_;
  Fd netlink_{socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0)};
  char cookie_[kLength];
};

TEST_F(MqCookie, ComesWithTheFirstMessage) {
  ASSERT_OK(Register());
  EXPECT_FAILS(EBUSY, Register());
  EXPECT_TRUE(Nothing());
  ASSERT_OK(Send(queue_.fd(), "first"));
  EXPECT_EQ(kWoken, Came());
  EXPECT_EQ("0:first", Receive(queue_.fd()));
  ASSERT_OK(Send(queue_.fd(), "unheard"));
  EXPECT_TRUE(Nothing()) << "once only";
}

TEST_F(MqCookie, ComesWhenTheRegistrationEnds) {
  ASSERT_OK(Register());
  ASSERT_OK(syscall(SYS_mq_notify, queue_.fd(), nullptr));
  EXPECT_EQ(kRemoved, Came());
  ASSERT_OK(Register());
  mq_close(mq_open(queue_.name(), O_RDONLY));
  EXPECT_EQ(kRemoved, Came());
  EXPECT_EQ(RunInChild([&] { CHILD_CHECK(Register() == 0); }), Exited(0));
  EXPECT_EQ(kRemoved, Came()) << "at the end of the process";
  EXPECT_TRUE(Nothing());
}

TEST_F(MqCookie, BadSocketsAndCookies) {
  EXPECT_FAILS(EBADF, Register(-1, cookie_));
  Fd null(open("/dev/null", O_RDWR));
  EXPECT_FAILS(ENOTSOCK, Register(null.get(), cookie_));
  Fd other(socket(AF_UNIX, SOCK_STREAM, 0));
  EXPECT_FAILS(EINVAL, Register(other.get(), cookie_));
  EXPECT_FAILS(EFAULT, Register(netlink_.get(), reinterpret_cast<void*>(8)));
  EXPECT_FAILS(EFAULT, Register(-1, reinterpret_cast<void*>(8)));
  ASSERT_OK(Register()) << "nothing was registered";
}

TEST(Mqueue, NotifyByTheCLibrarysThread) {
  static Event* called;
  Event event;
  called = &event;
  Mq queue;
  sigevent request = {};
  request.sigev_notify = SIGEV_THREAD;
  request.sigev_value.sival_int = 4711;
  request.sigev_notify_function = [](sigval value) {
    if (value.sival_int == 4711) called->Set();
  };
  ASSERT_OK(mq_notify(queue.fd(), &request));
  ASSERT_OK(Send(queue.fd(), "x"));
  EXPECT_TRUE(event.Wait());
}

TEST(Mqueue, UnlinkedQueueLivesOn) {
  Mq queue;
  ASSERT_OK(Send(queue.fd(), "still here"));
  ASSERT_OK(mq_unlink(queue.name()));
  EXPECT_FAILS(ENOENT, mq_unlink(queue.name()));
  EXPECT_FAILS(ENOENT, mq_open(queue.name(), O_RDWR));
  EXPECT_EQ(Receive(queue.fd()), "0:still here");
  struct stat st;
  ASSERT_OK(fstat(queue.fd(), &st));
  EXPECT_EQ(st.st_nlink, 0u);
}

TEST(Mqueue, Permissions) {
  Mq queue;
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(setresgid(kNobody, kNobody, kNobody) == 0);
              CHILD_CHECK(setresuid(kNobody, kNobody, kNobody) == 0);
              CHILD_CHECK(mq_open(queue.name(), O_RDONLY) == -1 && errno == EACCES);
              CHILD_CHECK(mq_unlink(queue.name()) == -1 && (errno == EPERM || errno == EACCES));
              // Without CAP_SYS_RESOURCE the limits of /proc/sys/fs/mqueue hold.
              mq_attr attr = {};
              attr.mq_maxmsg = 11;
              attr.mq_msgsize = 64;
              CHILD_CHECK(mq_open("/mq_test_nobody", O_RDWR | O_CREAT, 0600, &attr) == -1 && errno == EINVAL);
              attr.mq_maxmsg = 10;
              mqd_t fd = mq_open("/mq_test_nobody", O_RDWR | O_CREAT, 0600, &attr);
              CHILD_CHECK(fd >= 0);
              CHILD_CHECK(mq_unlink("/mq_test_nobody") == 0);
            }),
            Exited(0));
}

TEST(Mqueue, ResourceLimit) {
  EXPECT_EQ(RunInChild([&] {
              rlimit limit = {10000, 10000};
              CHILD_CHECK(setrlimit(RLIMIT_MSGQUEUE, &limit) == 0);
              CHILD_CHECK(setresuid(4242, 4242, 4242) == 0);
              mq_attr attr = {};
              attr.mq_maxmsg = 10;
              attr.mq_msgsize = 1000;
              CHILD_CHECK(mq_open("/mq_test_limit", O_RDWR | O_CREAT, 0600, &attr) == -1 && errno == EMFILE);
              attr.mq_msgsize = 100;
              mqd_t first = mq_open("/mq_test_limit", O_RDWR | O_CREAT, 0600, &attr);
              CHILD_CHECK(first >= 0);
              attr.mq_msgsize = 800;
              CHILD_CHECK(mq_open("/mq_test_limit2", O_RDWR | O_CREAT, 0600, &attr) == -1 && errno == EMFILE);
              CHILD_CHECK(mq_unlink("/mq_test_limit") == 0);
              // The queue counts until its last descriptor is gone.
              CHILD_CHECK(mq_open("/mq_test_limit2", O_RDWR | O_CREAT, 0600, &attr) == -1 && errno == EMFILE);
              CHILD_CHECK(mq_close(first) == 0);
              CHILD_CHECK(mq_open("/mq_test_limit2", O_RDWR | O_CREAT, 0600, &attr) >= 0);
              CHILD_CHECK(mq_unlink("/mq_test_limit2") == 0);
            }),
            Exited(0));
}

TEST(Mqueue, Filesystem) {
  TempDir dir;
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(unshare(CLONE_NEWIPC | CLONE_NEWNS) == 0);
              mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
              CHILD_CHECK(mount("mqueue", dir.path().c_str(), "mqueue", 0, nullptr) == 0);
              mq_attr attr = {};
              attr.mq_maxmsg = 3;
              attr.mq_msgsize = 30;
              mqd_t fd = mq_open("/visible", O_RDWR | O_CREAT, 0640, &attr);
              CHILD_CHECK(fd >= 0);
              CHILD_CHECK(Send(fd, "12345") == 0);
              struct stat st;
              CHILD_CHECK(stat((dir / "visible").c_str(), &st) == 0);
              CHILD_CHECK(S_ISREG(st.st_mode) && st.st_size == 80 && (st.st_mode & 0777) == 0640);
              CHILD_CHECK(ReadFile(dir / "visible") == "QSIZE:5          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n");
              // A file made there is a queue, a descriptor opened there a message queue descriptor.
              int made = open((dir / "made").c_str(), O_CREAT | O_RDWR, 0600);
              CHILD_CHECK(made >= 0);
              CHILD_CHECK(Send(made, "by open") == 0);
              CHILD_CHECK(write(made, "x", 1) == -1 && errno == EINVAL);
              CHILD_CHECK(mkdir((dir / "d").c_str(), 0700) == -1 && errno == EPERM);
              mqd_t opened = mq_open("/made", O_RDWR);
              CHILD_CHECK(Receive(opened, 8192) == "0:by open");
              DIR* listing = opendir(dir.path().c_str());
              int seen = 0;
              while (dirent* entry = readdir(listing)) {
                seen += std::string(entry->d_name) == "visible" || std::string(entry->d_name) == "made";
              }
              CHILD_CHECK(seen == 2);
              closedir(listing);
              CHILD_CHECK(unlink((dir / "made").c_str()) == 0);
              CHILD_CHECK(mq_open("/made", O_RDWR) == -1 && errno == ENOENT);
              CHILD_CHECK(umount(dir.path().c_str()) == 0 || umount2(dir.path().c_str(), MNT_DETACH) == 0);
              // What the namespace holds does not go with a mount.
              CHILD_CHECK(mq_open("/visible", O_RDWR) >= 0);
            }),
            Exited(0));
}

TEST(Mqueue, NamespaceIsItsOwn) {
  Mq queue;
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(unshare(CLONE_NEWIPC) == 0);
              CHILD_CHECK(mq_open(queue.name(), O_RDWR) == -1 && errno == ENOENT);
              CHILD_CHECK(mq_open(queue.name(), O_RDWR | O_CREAT, 0600, nullptr) >= 0);
              // The descriptor from outside still works.
              CHILD_CHECK(Send(queue.fd(), "through") == 0);
            }),
            Exited(0));
  EXPECT_EQ(Receive(queue.fd()), "0:through");
}

TEST(Mqueue, Sysctl) {
  EXPECT_EQ(RunInChild([&] {
              CHILD_CHECK(unshare(CLONE_NEWIPC) == 0);
              CHILD_CHECK(ReadFile("/proc/sys/fs/mqueue/msg_max") == "10\n");
              CHILD_CHECK(ReadFile("/proc/sys/fs/mqueue/queues_max") == "256\n");
              CHILD_CHECK(WriteFile("/proc/sys/fs/mqueue/msg_default", "7\n"));
              CHILD_CHECK(WriteFile("/proc/sys/fs/mqueue/msgsize_default", "4000\n"));
              mqd_t fd = mq_open("/defaults", O_RDWR | O_CREAT, 0600, nullptr);
              CHILD_CHECK(fd >= 0);
              mq_attr attr;
              CHILD_CHECK(mq_getattr(fd, &attr) == 0 && attr.mq_maxmsg == 7 && attr.mq_msgsize == 4000);
            }),
            Exited(0));
  EXPECT_EQ(ReadFile("/proc/sys/fs/mqueue/msg_default"), "10\n");
}

}  // namespace
