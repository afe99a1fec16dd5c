// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of internet sockets: a network namespace of the test's own with its loopback up, and addresses.
#ifndef TESTS_SYSCALLS_INET_UTIL_H_
#define TESTS_SYSCALLS_INET_UTIL_H_

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/syscalls/util.h"

struct Addr {
  sockaddr_storage storage = {};
  socklen_t len = sizeof(sockaddr_storage);
  Addr() = default;
  // `text`: an IPv4 or IPv6 address.
  Addr(const char* text, int port) {
    auto* in = reinterpret_cast<sockaddr_in*>(&storage);
    auto* in6 = reinterpret_cast<sockaddr_in6*>(&storage);
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
      in->sin_family = AF_INET;
      in->sin_port = htons(static_cast<uint16_t>(port));
      len = sizeof *in;
    } else {
      in6->sin6_family = AF_INET6;
      in6->sin6_port = htons(static_cast<uint16_t>(port));
      inet_pton(AF_INET6, text, &in6->sin6_addr);
      len = sizeof *in6;
    }
  }
  sockaddr* sa() { return reinterpret_cast<sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
  int port() const { return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port); }  // in both at one place
  std::string text() const {
    char out[INET6_ADDRSTRLEN] = "?";
    if (family() == AF_INET)
      inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr, out, sizeof out);
    if (family() == AF_INET6)
      inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr, out, sizeof out);
    return out;
  }
};

inline Addr NameOf(int fd) {
  Addr a;
  if (getsockname(fd, a.sa(), &a.len)) a.len = 0;
  return a;
}
inline Addr PeerOf(int fd) {
  Addr a;
  if (getpeername(fd, a.sa(), &a.len)) a.len = 0;
  return a;
}
inline int GetInt(int fd, int level, int name) {
  int value = -12345;
  socklen_t len = sizeof value;
  return getsockopt(fd, level, name, &value, &len) ? -errno : value;
}
inline int SetInt(int fd, int level, int name, int value) { return setsockopt(fd, level, name, &value, sizeof value); }

inline int SetLoopback(bool up) {
  Fd s(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq r = {};
  strcpy(r.ifr_name, "lo");
  if (ioctl(s.get(), SIOCGIFFLAGS, &r)) return -1;
  r.ifr_flags = static_cast<short>(up ? r.ifr_flags | IFF_UP : r.ifr_flags & ~IFF_UP);
  return ioctl(s.get(), SIOCSIFFLAGS, &r);
}

// All tests of a program run in one fresh network namespace, which INET_TEST_HERE says that the caller made.
class InetTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static bool done = false;
    if (done) return;
    done = true;
    if (getenv("INET_TEST_HERE")) return;
    ASSERT_EQ(unshare(CLONE_NEWNET), 0) << strerror(errno);
    ASSERT_EQ(SetLoopback(true), 0) << strerror(errno);
  }
};

#endif  // TESTS_SYSCALLS_INET_UTIL_H_
