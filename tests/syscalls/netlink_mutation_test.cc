// SPDX-License-Identifier: Apache-2.0
// Requests to rtnetlink(7) with bytes changed at random: whatever they do in a network namespace of their own, the
// kernel answers afterwards. In a pid namespace, too: what a message names by number is ours.
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sys/wait.h>

#include <random>
#include <vector>

#include "tests/syscalls/inet_util.h"

namespace {

constexpr int kRounds = 20'000;

class Message {
 public:
  template <typename Body>
  Message(uint16_t type, uint16_t flags, const Body& body) {
    nlmsghdr h = {};
    h.nlmsg_type = type;
    h.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    Raw(&h, sizeof h);
    Raw(&body, sizeof body);
  }
  Message& Put(uint16_t type, const std::string& value) {
    const rtattr a = {static_cast<uint16_t>(RTA_LENGTH(value.size())), type};
    Raw(&a, sizeof a);
    Raw(value.data(), value.size());
    return *this;
  }
  Message& Put(uint16_t type, uint32_t value) { return Put(type, std::string(reinterpret_cast<char*>(&value), 4)); }
  std::string Finish() {
    const auto length = static_cast<uint32_t>(text_.size());
    memcpy(text_.data(), &length, sizeof length);
    return text_;
  }
  // The attributes alone.
  static std::string Attributes(Message& m) { return m.text_.substr(NLMSG_LENGTH(sizeof(ifinfomsg))); }

 private:
  void Raw(const void* data, size_t size) {
    text_.append(static_cast<const char*>(data), size);
    text_.resize(NLMSG_ALIGN(text_.size()));
  }
  std::string text_;
};

std::vector<std::string> Seeds() {
  const uint16_t make = NLM_F_CREATE | NLM_F_EXCL;
  std::vector<std::string> seeds;
  Message peer(0, 0, ifinfomsg{});
  peer.Put(IFLA_IFNAME, "peer0");
  Message data(0, 0, ifinfomsg{});
  data.Put(VETH_INFO_PEER, std::string(sizeof(ifinfomsg), '\0') + Message::Attributes(peer));
  Message veth_info(0, 0, ifinfomsg{});
  veth_info.Put(IFLA_INFO_KIND, "veth").Put(IFLA_INFO_DATA, Message::Attributes(data));
  Message bridge_info(0, 0, ifinfomsg{});
  bridge_info.Put(IFLA_INFO_KIND, "bridge");
  seeds.push_back(Message(RTM_NEWLINK, make, ifinfomsg{})
                      .Put(IFLA_IFNAME, "v0")
                      .Put(IFLA_LINKINFO, Message::Attributes(veth_info))
                      .Finish());
  seeds.push_back(Message(RTM_NEWLINK, make, ifinfomsg{})
                      .Put(IFLA_IFNAME, "br0")
                      .Put(IFLA_LINKINFO, Message::Attributes(bridge_info))
                      .Finish());
  ifinfomsg third = {};
  third.ifi_index = 3;
  third.ifi_flags = third.ifi_change = IFF_UP;
  seeds.push_back(Message(RTM_NEWLINK, 0, third).Put(IFLA_MASTER, 4u).Put(IFLA_ADDRESS, "\2abcde").Finish());
  seeds.push_back(Message(RTM_SETLINK, 0, third).Put(IFLA_NET_NS_PID, 1u).Put(IFLA_IFNAME, "moved").Finish());
  seeds.push_back(Message(RTM_SETLINK, 0, third).Put(IFLA_NET_NS_FD, 3u).Finish());
  seeds.push_back(Message(RTM_DELLINK, 0, third).Finish());
  seeds.push_back(Message(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{}).Put(IFLA_MASTER, 4u).Finish());
  ifaddrmsg address = {};
  address.ifa_family = AF_INET;
  address.ifa_prefixlen = 24;
  address.ifa_index = 3;
  seeds.push_back(Message(RTM_NEWADDR, NLM_F_CREATE, address).Put(IFA_LOCAL, 0x0100000au).Finish());
  rtmsg route = {};
  route.rtm_family = AF_INET;
  route.rtm_table = RT_TABLE_MAIN;
  route.rtm_type = RTN_UNICAST;
  seeds.push_back(Message(RTM_NEWROUTE, NLM_F_CREATE, route).Put(RTA_GATEWAY, 0x0200000au).Put(RTA_OIF, 3u).Finish());
  seeds.push_back(Message(RTM_GETROUTE, NLM_F_DUMP, route).Finish());
  return seeds;
}

// In the child; its status.
int Mutate() {
  const std::vector<std::string> seeds = Seeds();
  Fd s(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!s.ok()) return 10;
  std::mt19937_64 random(11);
  std::vector<char> answer(65536);
  for (int i = 0; i < kRounds; ++i) {
    std::string m = seeds[random() % seeds.size()];
    for (uint64_t n = random() % 4; n > 0; --n) {
      // The length, the flags and the type stay mostly as they are: past them is what is worth looking at.
      const size_t from = random() % 8 == 0 ? 0 : NLMSG_HDRLEN;
      m[from + random() % (m.size() - from)] = static_cast<char>(random() % 4 == 0 ? random() % 8 : random());
    }
    (void)!send(s.get(), m.data(), m.size(), MSG_DONTWAIT);
    while (recv(s.get(), answer.data(), answer.size(), MSG_DONTWAIT) > 0) {
    }
  }
  // It still answers, as before: lo is there.
  Fd fresh(socket(AF_INET, SOCK_DGRAM, 0));
  ifreq r = {};
  r.ifr_ifindex = 1;
  return fresh.ok() && ioctl(fresh.get(), SIOCGIFNAME, &r) == 0 && r.ifr_name[0] ? 0 : 11;
}

TEST_F(InetTest, MutatedRequestsHarmNobody) {
  const pid_t outer = fork();
  if (outer == 0) {
    if (unshare(CLONE_NEWPID | CLONE_NEWNET)) _exit(20);
    const pid_t inner = fork();
    if (inner == 0) _exit(Mutate());
    int status = 0;
    _exit(waitpid(inner, &status, 0) == inner && WIFEXITED(status) ? WEXITSTATUS(status) : 21);
  }
  int status = 0;
  ASSERT_EQ(waitpid(outer, &status, 0), outer);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(SetLoopback(true), 0) << "our own namespace is as it was";
}

}  // namespace
