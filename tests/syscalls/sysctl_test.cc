// SPDX-License-Identifier: Apache-2.0
// Settings below /proc/sys do what they say: those of net in the network namespace of who writes them.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <functional>
#include <string>

#include "tests/syscalls/util.h"

namespace {

std::string Path(const std::string& name) { return "/proc/sys/net/" + name; }
// 0 or an errno.
int Set(const std::string& name, const std::string& value) {
  Fd fd(open(Path(name).c_str(), O_WRONLY));
  if (!fd.ok()) return errno;
  return write(fd.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size()) ? 0 : errno;
}
std::string Get(const std::string& name) { return ReadFile(Path(name)); }

// In a namespace of its own, so that neither the machine nor the next test is changed.
int Alone(const std::function<void()>& body) {
  return RunInChild([&] {
    CHILD_CHECK(unshare(CLONE_NEWNET) == 0);
    body();
  });
}

Fd Tcp() { return Fd(socket(AF_INET, SOCK_STREAM, 0)); }
int Option(const Fd& fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  CHILD_CHECK(getsockopt(fd.get(), level, name, &value, &size) == 0);
  return value;
}
// That the kernel gives a socket without one.
int Port(int type) {
  Fd fd(socket(AF_INET, type, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  CHILD_CHECK(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  socklen_t size = sizeof address;
  CHILD_CHECK(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return ntohs(address.sin_port);
}

TEST(NetSysctl, LocalPortRange) {
  EXPECT_EQ(Exited(0), Alone([] {
              CHILD_CHECK(Get("ipv4/ip_local_port_range") == "32768\t60999\n");
              CHILD_CHECK(Set("ipv4/ip_local_port_range", "40000 40003\n") == 0);
              CHILD_CHECK(Get("ipv4/ip_local_port_range") == "40000\t40003\n");
              for (int i = 0; i < 20; ++i) {
                for (int type : {SOCK_STREAM, SOCK_DGRAM}) {
                  const int port = Port(type);
                  CHILD_CHECK(port >= 40000 && port <= 40003);
                }
              }
              CHILD_CHECK(Set("ipv4/ip_local_port_range", "50000 40000") == EINVAL);
              CHILD_CHECK(Set("ipv4/ip_local_port_range", "0 40000") == EINVAL);
              CHILD_CHECK(Set("ipv4/ip_local_port_range", "1 65536") == EINVAL);
              CHILD_CHECK(Set("ipv4/ip_local_port_range", "many") == EINVAL);
              CHILD_CHECK(Get("ipv4/ip_local_port_range") == "40000\t40003\n");
            }));
}

TEST(NetSysctl, OfTheNamespaceAlone) {
  EXPECT_EQ(Exited(0), Alone([] {
              CHILD_CHECK(Set("ipv4/ip_default_ttl", "77") == 0);
              CHILD_CHECK(Alone([] {
                            CHILD_CHECK(Get("ipv4/ip_default_ttl") == "64\n");
                            CHILD_CHECK(Set("ipv4/ip_default_ttl", "99") == 0);
                          }) == Exited(0));
              CHILD_CHECK(Get("ipv4/ip_default_ttl") == "77\n");
              CHILD_CHECK(Option(Tcp(), IPPROTO_IP, IP_TTL) == 77);
              CHILD_CHECK(Set("ipv4/ip_default_ttl", "256") == EINVAL);
              CHILD_CHECK(Set("ipv4/ip_default_ttl", "0") == EINVAL);
            }));
}

TEST(NetSysctl, KeepAlive) {
  EXPECT_EQ(Exited(0), Alone([] {
              CHILD_CHECK(Set("ipv4/tcp_keepalive_time", "100") == 0);
              CHILD_CHECK(Set("ipv4/tcp_keepalive_intvl", "11") == 0);
              CHILD_CHECK(Set("ipv4/tcp_keepalive_probes", "3") == 0);
              Fd fd = Tcp();
              CHILD_CHECK(Option(fd, IPPROTO_TCP, TCP_KEEPIDLE) == 100);
              CHILD_CHECK(Option(fd, IPPROTO_TCP, TCP_KEEPINTVL) == 11);
              CHILD_CHECK(Option(fd, IPPROTO_TCP, TCP_KEEPCNT) == 3);
            }));
}

TEST(NetSysctl, FinTimeoutAndSynRetries) {
  EXPECT_EQ(Exited(0), Alone([] {
              CHILD_CHECK(Set("ipv4/tcp_fin_timeout", "21") == 0);
              CHILD_CHECK(Set("ipv4/tcp_syn_retries", "2") == 0);
              Fd fd = Tcp();
              CHILD_CHECK(Option(fd, IPPROTO_TCP, TCP_LINGER2) == 21);
              CHILD_CHECK(Option(fd, IPPROTO_TCP, TCP_SYNCNT) == 2);
              CHILD_CHECK(Set("ipv4/tcp_syn_retries", "0") == EINVAL);
              CHILD_CHECK(Set("ipv4/tcp_syn_retries", "128") == EINVAL);
            }));
}

TEST(NetSysctl, BufferSizes) {
  EXPECT_EQ(Exited(0), Alone([] {
              CHILD_CHECK(Set("ipv4/tcp_rmem", "4096 50000 100000") == 0);
              CHILD_CHECK(Set("ipv4/tcp_wmem", "4096 60000 200000") == 0);
              CHILD_CHECK(Get("ipv4/tcp_rmem") == "4096\t50000\t100000\n");
              Fd fd = Tcp();
              CHILD_CHECK(Option(fd, SOL_SOCKET, SO_RCVBUF) == 50000);
              CHILD_CHECK(Option(fd, SOL_SOCKET, SO_SNDBUF) == 60000);
            }));
}

TEST(NetSysctl, BacklogIsCut) {
  EXPECT_EQ(Exited(0), Alone([] {
              CHILD_CHECK(Set("core/somaxconn", "5") == 0);
              CHILD_CHECK(Get("core/somaxconn") == "5\n");
              Fd fd = Tcp();
              CHILD_CHECK(listen(fd.get(), 100) == 0);
              tcp_info info = {};
              socklen_t size = sizeof info;
              CHILD_CHECK(getsockopt(fd.get(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
              CHILD_CHECK(info.tcpi_sacked == 5);  // of one who listens: the backlog
            }));
}

TEST(NetSysctl, CongestionControl) {
  EXPECT_EQ(Exited(0), Alone([] {
              auto control = [] {
                Fd fd = Tcp();
                char name[16] = {};
                socklen_t size = sizeof name;
                CHILD_CHECK(getsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, name, &size) == 0);
                return std::string(name);
              };
              CHILD_CHECK(control() + "\n" == Get("ipv4/tcp_congestion_control"));
              CHILD_CHECK(Set("ipv4/tcp_congestion_control", "reno") == 0);
              CHILD_CHECK(control() == "reno");
              CHILD_CHECK(Set("ipv4/tcp_congestion_control", "nonesuch") == ENOENT);
              CHILD_CHECK(Get("ipv4/tcp_congestion_control") == "reno\n");
            }));
}

TEST(NetSysctl, WhoMayPing) {
  EXPECT_EQ(Exited(0), Alone([] {
              auto ping = [] { return Fd(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)).ok(); };
              CHILD_CHECK(Set("ipv4/ping_group_range", "5 3") == 0);
              CHILD_CHECK(Get("ipv4/ping_group_range") == "1\t0\n");  // nobody
              CHILD_CHECK(!ping() && errno == EACCES);
              CHILD_CHECK(Set("ipv4/ping_group_range", "0 10") == 0);
              CHILD_CHECK(ping());
            }));
}

TEST(NetSysctl, NotForTheUnprivileged) {
  EXPECT_EQ(Exited(0), Alone([] {
              CHILD_CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
              CHILD_CHECK(Set("ipv4/ip_default_ttl", "70") == EACCES);
              CHILD_CHECK(Get("ipv4/ip_default_ttl") == "64\n");
            }));
}

// A user namespace of an ordinary user's, who is root in it; with a network namespace or in the one that was there.
int AsRootOfAUserNamespace(int more_flags, const std::function<void()>& body) {
  return RunInChild([&] {
    CHILD_CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
    prctl(PR_SET_DUMPABLE, 1);  // or the maps are root's
    CHILD_CHECK(unshare(CLONE_NEWUSER | more_flags) == 0);
    CHILD_CHECK(WriteFile("/proc/self/setgroups", "deny"));
    CHILD_CHECK(WriteFile("/proc/self/gid_map", "0 65534 1"));
    CHILD_CHECK(WriteFile("/proc/self/uid_map", "0 65534 1"));
    body();
  });
}

TEST(NetSysctl, BelongsToTheRootOfTheNamespacesOwner) {
  EXPECT_EQ(Exited(0), AsRootOfAUserNamespace(CLONE_NEWNET, [] {
              struct stat st;
              CHILD_CHECK(stat(Path("ipv4/ip_default_ttl").c_str(), &st) == 0);
              CHILD_CHECK(st.st_uid == 0 && st.st_gid == 0 && (st.st_mode & 07777) == 0644);
              CHILD_CHECK(Set("ipv4/ip_default_ttl", "72") == 0);
              CHILD_CHECK(Get("ipv4/ip_default_ttl") == "72\n");
              CHILD_CHECK(Option(Tcp(), IPPROTO_IP, IP_TTL) == 72);
            }));
  EXPECT_EQ(Exited(0), AsRootOfAUserNamespace(0, [] {
              struct stat st;
              CHILD_CHECK(stat(Path("ipv4/ip_default_ttl").c_str(), &st) == 0);
              CHILD_CHECK(st.st_uid == 65534);
              CHILD_CHECK(Set("ipv4/ip_default_ttl", "72") == EACCES);
            }));
}

// Of the whole machine: raised, and put back.
class Raised {
 public:
  Raised(std::string path, const std::string& value) : path_(std::move(path)), old_(ReadFile(path_)) {
    EXPECT_EQ(0, Write(value));
  }
  ~Raised() { EXPECT_EQ(0, Write(old_)); }
  int Write(const std::string& value) {
    Fd fd(open(path_.c_str(), O_WRONLY));
    if (!fd.ok()) return errno;
    return write(fd.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size()) ? 0 : errno;
  }

 private:
  std::string path_, old_;
};

TEST(FsSysctl, PipeMaxSize) {
  const char* path = "/proc/sys/fs/pipe-max-size";
  const long size = 2 * atol(ReadFile(path).c_str());
  ASSERT_GT(size, 0);
  auto grow = [size] {
    return RunInChild([size] {
      CHILD_CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
      Pipe pipe;
      const int got = fcntl(pipe.w.get(), F_SETPIPE_SZ, size);
      if (got == -1) _exit(errno);
      CHILD_CHECK(got == size && fcntl(pipe.r.get(), F_GETPIPE_SZ) == size);
    });
  };
  EXPECT_EQ(Exited(EPERM), grow());
  {
    Raised raised(path, std::to_string(size));
    EXPECT_EQ(std::to_string(size) + "\n", ReadFile(path));
    EXPECT_EQ(Exited(0), grow());
    EXPECT_EQ(EINVAL, raised.Write("none"));
  }
  EXPECT_EQ(Exited(EPERM), grow());
}

TEST(FsSysctl, NrOpen) {
  const char* path = "/proc/sys/fs/nr_open";
  const auto old = static_cast<rlim_t>(atol(ReadFile(path).c_str()));
  auto limit = [](rlim_t hard) {
    return RunInChild([hard] {
      const rlimit limit = {64, hard};
      if (setrlimit(RLIMIT_NOFILE, &limit) != 0) _exit(errno);
    });
  };
  if (limit(old) == Exited(EPERM)) GTEST_SKIP() << "without CAP_SYS_RESOURCE no limit can be raised";
  EXPECT_EQ(Exited(EPERM), limit(old + 64));
  {
    Raised raised(path, std::to_string(old + 64));
    EXPECT_EQ(Exited(0), limit(old + 64));
    EXPECT_EQ(Exited(EPERM), limit(old + 65));
  }
  EXPECT_EQ(Exited(EPERM), limit(old + 64));
}

}  // namespace
