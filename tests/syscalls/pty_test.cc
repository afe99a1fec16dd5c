// SPDX-License-Identifier: Apache-2.0
// Pseudo-terminals: line discipline, job control, hangup.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>

#include <memory>

#include "tests/syscalls/util.h"

namespace {

struct Pty {
  Pty() {
    m = Fd(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!m.ok() || grantpt(m.get()) != 0 || unlockpt(m.get()) != 0) return;
    char buf[64];
    if (ptsname_r(m.get(), buf, sizeof buf) != 0) return;
    name = buf;
    s = Fd(open(buf, O_RDWR | O_NOCTTY | O_CLOEXEC));
  }
  void Change(const std::function<void(termios&)>& f) {
    termios t;
    ASSERT_OK(tcgetattr(s.get(), &t));
    f(t);
    ASSERT_OK(tcsetattr(s.get(), TCSANOW, &t));
  }
  void Raw() {
    Change([](termios& t) { cfmakeraw(&t); });
  }
  Fd m, s;
  std::string name;
};

class PtyTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(p_.s.ok()) << strerror(errno); }
  void Type(const std::string& text) {
    ASSERT_EQ(static_cast<ssize_t>(text.size()), write(p_.m.get(), text.data(), text.size()));
  }
  // One read, or "" when nothing comes within 20 s.
  static std::string Read(const Fd& fd, size_t n = 256) {
    char buf[256];
    if (!PollFor(fd.get(), POLLIN, 20000)) return "";
    ssize_t got = read(fd.get(), buf, n);
    return got > 0 ? std::string(buf, got) : "";
  }
  // Reads until `n` bytes have come.
  static std::string ReadN(const Fd& fd, size_t n) {
    std::string out;
    while (out.size() < n) {
      std::string part = Read(fd, n - out.size());
      if (part.empty()) break;
      out += part;
    }
    return out;
  }
  void NoEcho() {
    p_.Change([](termios& t) { t.c_lflag &= ~ECHO; });
  }
  // A session leader with the slave as its controlling terminal, running `body`.
  std::unique_ptr<Child> Session(const std::function<void()>& body) {
    return std::make_unique<Child>([&, body] {
      CHILD_CHECK(setsid() == getpid());
      CHILD_CHECK(ioctl(p_.s.get(), TIOCSCTTY, 0) == 0);
      body();
    });
  }
  Pty p_;
};

TEST_F(PtyTest, SlaveIsANamedTerminal) {
  EXPECT_EQ(0u, p_.name.find("/dev/pts/"));
  EXPECT_EQ(1, isatty(p_.s.get()));
  struct stat st;
  ASSERT_OK(fstat(p_.s.get(), &st));
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(136u, st.st_rdev >> 8);
  Pipe pipe;
  EXPECT_EQ(0, isatty(pipe.r.get()));
  EXPECT_EQ(ENOTTY, errno);
}

TEST_F(PtyTest, LockedSlaveCannotBeOpened) {
  Fd m(posix_openpt(O_RDWR | O_NOCTTY));
  char buf[64];
  ASSERT_EQ(0, ptsname_r(m.get(), buf, sizeof buf));
  EXPECT_FAILS(EIO, open(buf, O_RDWR | O_NOCTTY));
}

TEST_F(PtyTest, CanonicalInputComesByLine) {
  NoEcho();
  Type("ab");
  EXPECT_FALSE(PollFor(p_.s.get(), POLLIN, 0));
  Type("c\nde\n");
  EXPECT_EQ("abc\n", Read(p_.s));
  EXPECT_EQ("d", Read(p_.s, 1));
  EXPECT_EQ("e\n", Read(p_.s));
}

TEST_F(PtyTest, EraseAndKill) {
  NoEcho();
  Type("abx\177c\n");
  EXPECT_EQ("abc\n", Read(p_.s));
  Type("junk\025ok\n");
  EXPECT_EQ("ok\n", Read(p_.s));
  Type("one two\027three\n");
  EXPECT_EQ("one three\n", Read(p_.s));
}

TEST_F(PtyTest, EndOfFileCharacter) {
  NoEcho();
  Type("ab\004");
  EXPECT_EQ("ab", Read(p_.s));
  Type("\004");
  ASSERT_TRUE(PollFor(p_.s.get(), POLLIN, 20000));
  char c;
  EXPECT_EQ(0, read(p_.s.get(), &c, 1));
}

TEST_F(PtyTest, EchoAndCarriageReturn) {
  Type("hi\r");
  EXPECT_EQ("hi\n", Read(p_.s)) << "ICRNL";
  EXPECT_EQ("hi\r\n", ReadN(p_.m, 4)) << "the echo passes ONLCR";
}

TEST_F(PtyTest, ControlCharactersEchoWithACaret) {
  Type("\001");
  EXPECT_EQ("^A", ReadN(p_.m, 2));
}

TEST_F(PtyTest, OutputProcessing) {
  ASSERT_EQ(2, write(p_.s.get(), "a\n", 2));
  EXPECT_EQ("a\r\n", ReadN(p_.m, 3));
  p_.Change([](termios& t) { t.c_oflag &= ~OPOST; });
  ASSERT_EQ(2, write(p_.s.get(), "a\n", 2));
  EXPECT_EQ("a\n", ReadN(p_.m, 2));
}

TEST_F(PtyTest, RawModePassesBytes) {
  p_.Raw();
  Type("\003\r\004x");
  EXPECT_EQ("\003\r\004x", ReadN(p_.s, 4));
}

TEST_F(PtyTest, VminWaitsForThatMany) {
  p_.Raw();
  p_.Change([](termios& t) { t.c_cc[VMIN] = 3; });
  Child reader([&] {
    char buf[8];
    CHILD_CHECK(read(p_.s.get(), buf, sizeof buf) >= 3);
  });
  Type("a");
  Type("b");
  Type("c");
  EXPECT_EQ(Exited(0), reader.Wait());
}

TEST_F(PtyTest, VtimeGivesUp) {
  p_.Raw();
  p_.Change([](termios& t) {
    t.c_cc[VMIN] = 0;
    t.c_cc[VTIME] = 1;
  });
  char c;
  EXPECT_EQ(0, read(p_.s.get(), &c, 1));
  p_.Change([](termios& t) { t.c_cc[VTIME] = 0; });
  EXPECT_EQ(0, read(p_.s.get(), &c, 1));
}

TEST_F(PtyTest, TermioIsTheLowHalf) {
  termios before;
  ASSERT_OK(tcgetattr(p_.s.get(), &before));
  termio old{};
  ASSERT_OK(ioctl(p_.s.get(), TCGETA, &old));
  EXPECT_EQ(before.c_lflag & 0xffff, old.c_lflag);
  EXPECT_EQ(before.c_cc[VINTR], old.c_cc[VINTR]);
  old.c_lflag &= ~static_cast<uint16_t>(ECHO);
  old.c_cc[VINTR] = 5;
  ASSERT_OK(ioctl(p_.s.get(), TCSETA, &old));
  termios after;
  ASSERT_OK(tcgetattr(p_.m.get(), &after));
  EXPECT_EQ(before.c_lflag & ~ECHO, after.c_lflag);
  EXPECT_EQ(5, after.c_cc[VINTR]);
  EXPECT_EQ(before.c_cc[VSUSP], after.c_cc[VSUSP]);
  Type("typed\n");
  // Linux hands it to the line discipline later: there must be something to flush.
  ASSERT_TRUE(PollFor(p_.s.get(), POLLIN, 20000));
  ASSERT_OK(ioctl(p_.s.get(), TCSETAF, &old));
  EXPECT_FALSE(PollFor(p_.s.get(), POLLIN, 0));
  ASSERT_OK(ioctl(p_.s.get(), TCSETAW, &old));
  EXPECT_FAILS(EFAULT, ioctl(p_.s.get(), TCGETA, nullptr));
  EXPECT_FAILS(EFAULT, ioctl(p_.s.get(), TCSETA, nullptr));
}

TEST_F(PtyTest, LockedTermiosStay) {
  // The kernel's struct termios: four words, the line discipline, 19 characters.
  struct KernelTermios {
    uint32_t iflag, oflag, cflag, lflag;
    uint8_t line, cc[19];
  } locks{};
  memset(&locks, 0xff, sizeof locks);
  ASSERT_OK(ioctl(p_.s.get(), TIOCGLCKTRMIOS, &locks));
  EXPECT_EQ(0u, locks.lflag);
  locks.lflag = ECHO;
  locks.cc[VINTR] = 1;
  if (ioctl(p_.s.get(), TIOCSLCKTRMIOS, &locks) != 0) {
    ASSERT_EQ(EPERM, errno);
    GTEST_SKIP() << "needs CAP_SYS_ADMIN";
  }
  p_.Change([](termios& t) {
    t.c_lflag &= ~(ECHO | ICANON);
    t.c_cc[VINTR] = 7;
    t.c_cc[VQUIT] = 8;
  });
  termios now;
  ASSERT_OK(tcgetattr(p_.s.get(), &now));
  EXPECT_TRUE(now.c_lflag & ECHO);
  EXPECT_FALSE(now.c_lflag & ICANON);
  EXPECT_EQ(3, now.c_cc[VINTR]);
  EXPECT_EQ(8, now.c_cc[VQUIT]);
  EXPECT_FAILS(EFAULT, ioctl(p_.s.get(), TIOCGLCKTRMIOS, nullptr));
}

TEST_F(PtyTest, WindowSize) {
  winsize ws = {24, 80, 1, 2}, got = {};
  ASSERT_OK(ioctl(p_.m.get(), TIOCSWINSZ, &ws));
  ASSERT_OK(ioctl(p_.s.get(), TIOCGWINSZ, &got));
  EXPECT_EQ(0, memcmp(&ws, &got, sizeof ws));
}

TEST_F(PtyTest, FionreadAndFlush) {
  NoEcho();
  Type("abc\n");
  ASSERT_TRUE(PollFor(p_.s.get(), POLLIN, 20000));
  int n = 0;
  ASSERT_OK(ioctl(p_.s.get(), FIONREAD, &n));
  EXPECT_EQ(4, n);
  ASSERT_OK(tcflush(p_.s.get(), TCIFLUSH));
  EXPECT_FALSE(PollFor(p_.s.get(), POLLIN, 0));
}

TEST_F(PtyTest, MasterReadAfterSlaveCloseIsEIO) {
  ASSERT_EQ(1, write(p_.s.get(), "x", 1));
  EXPECT_EQ("x", Read(p_.m));
  p_.s.reset();
  char c;
  EXPECT_FAILS(EIO, read(p_.m.get(), &c, 1));
  pollfd pfd = {p_.m.get(), POLLIN, 0};
  EXPECT_EQ(1, poll(&pfd, 1, 0));
  EXPECT_TRUE(pfd.revents & POLLHUP);
}

TEST_F(PtyTest, SlaveAfterMasterClose) {
  p_.m.reset();
  char c;
  EXPECT_EQ(0, read(p_.s.get(), &c, 1));
  EXPECT_FAILS(EIO, write(p_.s.get(), "x", 1));
}

TEST_F(PtyTest, NonblockingReadIsEAGAIN) {
  ASSERT_OK(fcntl(p_.s.get(), F_SETFL, O_NONBLOCK));
  char c;
  EXPECT_FAILS(EAGAIN, read(p_.s.get(), &c, 1));
}

TEST_F(PtyTest, ControllingTerminal) {
  auto leader = Session([&] {
    CHILD_CHECK(tcgetpgrp(p_.s.get()) == getpid());
    CHILD_CHECK(tcgetsid(p_.s.get()) == getpid());
    Fd tty(open("/dev/tty", O_RDWR));
    CHILD_CHECK(tty.ok() && write(tty.get(), "t", 1) == 1);
    tty.reset();
    signal(SIGHUP, SIG_IGN);
    CHILD_CHECK(ioctl(p_.s.get(), TIOCNOTTY) == 0);
    CHILD_CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
  });
  EXPECT_EQ("t", Read(p_.m));
  EXPECT_EQ(Exited(0), leader->Wait());
}

TEST_F(PtyTest, OpenByASessionLeaderTakesTheTerminal) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              setsid();
              Fd fd(open(p_.name.c_str(), O_RDWR));
              CHILD_CHECK(tcgetpgrp(fd.get()) == getpid());
            }));
}

TEST_F(PtyTest, ScttyNeedsASessionLeader) {
  EXPECT_EQ(Exited(0), RunInChild([&] {
              setsid();
              CHILD_CHECK(RunInChild([&] { CHILD_CHECK(ioctl(p_.s.get(), TIOCSCTTY, 0) == -1 && errno == EPERM); }) ==
                          Exited(0));
            }));
}

TEST_F(PtyTest, SignalCharacters) {
  for (auto [c, sig] : {std::pair{"\003", SIGINT}, {"\034", SIGQUIT}}) {
    Pty pty;
    Event ready;
    Child leader([&] {
      setsid();
      CHILD_CHECK(ioctl(pty.s.get(), TIOCSCTTY, 0) == 0);
      ready.Set();
      for (;;) pause();
    });
    ASSERT_TRUE(ready.Wait());
    ASSERT_EQ(1, write(pty.m.get(), c, 1));
    EXPECT_EQ(Killed(sig), leader.Wait());
  }
}

TEST_F(PtyTest, SuspendCharacterStopsTheForegroundGroup) {
  Event ready;
  auto leader = Session([&] {
    signal(SIGTTOU, SIG_IGN);
    Child job([&] {
      setpgid(0, 0);
      CHILD_CHECK(tcsetpgrp(p_.s.get(), getpid()) == 0);
      ready.Set();
      for (;;) pause();
    });
    CHILD_CHECK(job.Wait(WUNTRACED) == Stopped(SIGTSTP));
    job.Kill(SIGKILL);
    job.Wait();
  });
  ASSERT_TRUE(ready.Wait());
  Type("\032");
  EXPECT_EQ(Exited(0), leader->Wait());
}

TEST_F(PtyTest, BackgroundReadStopsWithSIGTTIN) {
  auto leader = Session([&] {
    Child job([&] {
      setpgid(0, 0);
      char c;
      ssize_t n = read(p_.s.get(), &c, 1);
      (void)n;
    });
    CHILD_CHECK(job.Wait(WUNTRACED) == Stopped(SIGTTIN));
    job.Kill(SIGKILL);
    CHILD_CHECK(job.Wait() == Killed(SIGKILL));
    Child ignorer([&] {
      setpgid(0, 0);
      signal(SIGTTIN, SIG_IGN);
      char c;
      CHILD_CHECK(read(p_.s.get(), &c, 1) == -1 && errno == EIO);
    });
    CHILD_CHECK(ignorer.Wait() == Exited(0));
  });
  EXPECT_EQ(Exited(0), leader->Wait());
}

TEST_F(PtyTest, BackgroundWriteStopsWithTostop) {
  auto leader = Session([&] {
    auto job = [&] {
      setpgid(0, 0);
      CHILD_CHECK(write(p_.s.get(), "b", 1) == 1);
    };
    CHILD_CHECK(RunInChild(job) == Exited(0));
    p_.Change([](termios& t) { t.c_lflag |= TOSTOP; });
    Child stopped(job);
    CHILD_CHECK(stopped.Wait(WUNTRACED) == Stopped(SIGTTOU));
  });
  EXPECT_EQ(Exited(0), leader->Wait());
}

TEST_F(PtyTest, TcsetpgrpErrors) {
  EXPECT_FAILS(ENOTTY, tcgetpgrp(p_.s.get())) << "not our controlling terminal";
  auto leader = Session([&] {
    CHILD_CHECK(tcsetpgrp(p_.s.get(), 0x3ffffff0) == -1 && errno == ESRCH);
    CHILD_CHECK(tcsetpgrp(p_.s.get(), getppid()) == -1 && errno == EPERM);
  });
  EXPECT_EQ(Exited(0), leader->Wait());
}

TEST_F(PtyTest, HangupReachesTheLeaderAndTheForeground) {
  Pipe seen;
  Event ready;
  auto leader = Session([&] {
    // Only then is closing the master in the parent the last close.
    p_.m.reset();
    sigset_t set = SetOf({SIGHUP, SIGCONT});
    sigprocmask(SIG_BLOCK, &set, nullptr);
    ready.Set();
    timespec limit = {20, 0};
    int got = 0;
    for (int i = 0; i < 2; ++i) got += sigtimedwait(&set, nullptr, &limit);
    CHILD_CHECK(got == SIGHUP + SIGCONT);
  });
  ASSERT_TRUE(ready.Wait());
  p_.m.reset();
  EXPECT_EQ(Exited(0), leader->Wait());
}

TEST_F(PtyTest, LeaderExitHangsUpTheForeground) {
  Event ready;
  Pipe alive;
  auto leader = Session([&] {
    pid_t job = fork();
    if (job == 0) {
      alarm(30);  // and no parent-death signal, which would end it as well
      ready.Set();
      for (;;) pause();
    }
    CHILD_CHECK(ready.Wait());
  });
  alive.w.reset();
  EXPECT_EQ(Exited(0), leader->Wait());
  char c;
  ASSERT_TRUE(PollFor(alive.r.get(), POLLIN, 20000));
  EXPECT_EQ(0, read(alive.r.get(), &c, 1)) << "SIGHUP ended the job, which held the last write end";
}

TEST_F(PtyTest, WindowChangeSignalsTheForeground) {
  Event ready;
  auto leader = Session([&] {
    sigset_t set = SetOf({SIGWINCH});
    sigprocmask(SIG_BLOCK, &set, nullptr);
    ScopedHandler handler(SIGWINCH, [](int) {});
    ready.Set();
    timespec limit = {20, 0};
    CHILD_CHECK(sigtimedwait(&set, nullptr, &limit) == SIGWINCH);
  });
  ASSERT_TRUE(ready.Wait());
  winsize ws = {50, 100, 0, 0};
  ASSERT_OK(ioctl(p_.m.get(), TIOCSWINSZ, &ws));
  EXPECT_EQ(Exited(0), leader->Wait());
}

TEST_F(PtyTest, PacketMode) {
  int on = 1;
  ASSERT_OK(ioctl(p_.m.get(), TIOCPKT, &on));
  ASSERT_EQ(1, write(p_.s.get(), "p", 1));
  EXPECT_EQ(std::string("\0p", 2), Read(p_.m));
}

}  // namespace
