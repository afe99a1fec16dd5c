// SPDX-License-Identifier: Apache-2.0
// AF_PACKET (packet(7)) on the loopback: what is captured, sent, filtered, and the rings that libpcap reads.
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <vector>

#include "tests/syscalls/inet_util.h"

namespace {

constexpr int kLo = 1;

struct Frame {
  std::string data;
  sockaddr_ll from = {};
  ssize_t result = -1;
};

class PacketTest : public InetTest {
 protected:
  static Fd Open(int type, int protocol) { return Fd(socket(AF_PACKET, type | SOCK_CLOEXEC, htons(protocol))); }
  static int Bind(const Fd& fd, int protocol, int index) {
    sockaddr_ll a = {};
    a.sll_family = AF_PACKET;
    a.sll_protocol = htons(static_cast<uint16_t>(protocol));
    a.sll_ifindex = index;
    return bind(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a);
  }
  static Frame Next(const Fd& fd, int flags = 0, size_t room = 65536) {
    Frame f;
    if (!PollFor(fd.get(), POLLIN, 5000)) return f;
    f.data.resize(room);
    socklen_t len = sizeof f.from;
    f.result =
        recvfrom(fd.get(), f.data.data(), room, MSG_DONTWAIT | flags, reinterpret_cast<sockaddr*>(&f.from), &len);
    f.data.resize(std::min<size_t>(room, static_cast<size_t>(std::max<ssize_t>(f.result, 0))));
    return f;
  }
  // A datagram from a socket of its own to one that takes it.
  void SetUp() override {
    to_ = Fd(socket(AF_INET, SOCK_DGRAM, 0));
    Addr any("127.0.0.1", 0);
    ASSERT_OK(bind(to_.get(), any.sa(), any.len));
    at_ = NameOf(to_.get());
  }
  void Say(const std::string& text) {
    Fd from(socket(AF_INET, SOCK_DGRAM, 0));
    ASSERT_EQ(sendto(from.get(), text.data(), text.size(), 0, at_.sa(), at_.len), static_cast<ssize_t>(text.size()));
  }
  static bool Contains(const std::string& data, const char* text) { return data.find(text) != std::string::npos; }
  static tpacket_stats Statistics(const Fd& fd) {
    tpacket_stats s = {};
    socklen_t len = sizeof s;
    EXPECT_OK(getsockopt(fd.get(), SOL_PACKET, PACKET_STATISTICS, &s, &len));
    return s;
  }

  Fd to_;
  Addr at_;
};

TEST_F(PacketTest, KindsAndPrivileges) {
  EXPECT_FAILS(ESOCKTNOSUPPORT, socket(AF_PACKET, SOCK_STREAM, htons(ETH_P_ALL)));
  EXPECT_TRUE(Open(SOCK_RAW, ETH_P_ALL).ok());
  EXPECT_TRUE(Open(SOCK_DGRAM, 0).ok());
  const pid_t pid = fork();
  if (pid == 0) {
    if (setresuid(65534, 65534, 65534)) _exit(1);
    _exit(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)) == -1 && errno == EPERM ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST_F(PacketTest, FramesAreSeenOutAndIn) {
  Fd raw = Open(SOCK_RAW, ETH_P_ALL);
  ASSERT_OK(Bind(raw, ETH_P_ALL, kLo));
  Say("seen twice");
  for (int type : {PACKET_OUTGOING, PACKET_HOST}) {
    const Frame f = Next(raw);
    ASSERT_EQ(f.result, 14 + 20 + 8 + 10);
    EXPECT_EQ(f.data.substr(0, 12), std::string(12, '\0'));
    EXPECT_EQ(f.data.substr(12, 3), std::string("\x08\x00\x45", 3));
    EXPECT_EQ(f.data.substr(42), "seen twice");
    EXPECT_EQ(f.from.sll_family, AF_PACKET);
    EXPECT_EQ(ntohs(f.from.sll_protocol), ETH_P_IP);
    EXPECT_EQ(f.from.sll_ifindex, kLo);
    EXPECT_EQ(f.from.sll_hatype, ARPHRD_LOOPBACK);
    EXPECT_EQ(f.from.sll_pkttype, type);
    EXPECT_EQ(f.from.sll_halen, 6);
  }
  EXPECT_FALSE(PollFor(raw.get(), POLLIN, 0));
  const tpacket_stats s = Statistics(raw);
  EXPECT_EQ(s.tp_packets, 2u);
  EXPECT_EQ(s.tp_drops, 0u);
  EXPECT_EQ(Statistics(raw).tp_packets, 0u) << "reading clears them";
}

TEST_F(PacketTest, CookedWithoutTheHeader) {
  Fd cooked = Open(SOCK_DGRAM, ETH_P_ALL);
  Say("cooked");
  const Frame f = Next(cooked);
  ASSERT_EQ(f.result, 20 + 8 + 6);
  EXPECT_EQ(f.data[0], 0x45);
  EXPECT_EQ(f.data.substr(28), "cooked");
}

TEST_F(PacketTest, OneProtocolOnlyInwards) {
  Fd v4 = Open(SOCK_RAW, ETH_P_IP), v6 = Open(SOCK_RAW, ETH_P_IPV6), none = Open(SOCK_RAW, 0);
  Say("once");
  const Frame f = Next(v4);
  EXPECT_EQ(f.from.sll_pkttype, PACKET_HOST);
  EXPECT_FALSE(PollFor(v4.get(), POLLIN, 0));
  EXPECT_FALSE(PollFor(v6.get(), POLLIN, 0));
  EXPECT_FALSE(PollFor(none.get(), POLLIN, 0));
  // It starts with bind.
  ASSERT_OK(Bind(none, ETH_P_IP, kLo));
  Say("again");
  EXPECT_TRUE(Contains(Next(none).data, "again"));
  int one = 1;
  Fd in = Open(SOCK_RAW, ETH_P_ALL);
  ASSERT_OK(setsockopt(in.get(), SOL_PACKET, 23 /* PACKET_IGNORE_OUTGOING */, &one, sizeof one));
  Say("inwards");
  EXPECT_EQ(Next(in).from.sll_pkttype, PACKET_HOST);
  EXPECT_FALSE(PollFor(in.get(), POLLIN, 0));
}

TEST_F(PacketTest, NamesAndErrors) {
  Fd raw = Open(SOCK_RAW, ETH_P_ALL);
  EXPECT_FAILS(ENODEV, Bind(raw, ETH_P_ALL, 12345));
  sockaddr_ll a = {};
  EXPECT_FAILS(EINVAL, bind(raw.get(), reinterpret_cast<sockaddr*>(&a), sizeof a));
  a.sll_family = AF_PACKET;
  EXPECT_FAILS(EINVAL, bind(raw.get(), reinterpret_cast<sockaddr*>(&a), 8));
  ASSERT_OK(Bind(raw, ETH_P_IP, kLo));
  socklen_t len = sizeof a;
  ASSERT_OK(getsockname(raw.get(), reinterpret_cast<sockaddr*>(&a), &len));
  EXPECT_EQ(ntohs(a.sll_protocol), ETH_P_IP);
  EXPECT_EQ(a.sll_ifindex, kLo);
  EXPECT_EQ(a.sll_hatype, ARPHRD_LOOPBACK);
  EXPECT_EQ(len, offsetof(sockaddr_ll, sll_addr) + 6);
  EXPECT_FAILS(EOPNOTSUPP, getpeername(raw.get(), reinterpret_cast<sockaddr*>(&a), &len));
  EXPECT_FAILS(EOPNOTSUPP, connect(raw.get(), reinterpret_cast<sockaddr*>(&a), sizeof a));
  EXPECT_FAILS(EOPNOTSUPP, listen(raw.get(), 1));
  EXPECT_FAILS(EAGAIN, recv(raw.get(), &a, 1, MSG_DONTWAIT));
  EXPECT_EQ(GetInt(raw.get(), SOL_SOCKET, SO_TYPE), SOCK_RAW);
  EXPECT_EQ(GetInt(raw.get(), SOL_SOCKET, SO_DOMAIN), AF_PACKET);
  packet_mreq m = {.mr_ifindex = kLo, .mr_type = PACKET_MR_PROMISC, .mr_alen = 0, .mr_address = {}};
  EXPECT_OK(setsockopt(raw.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m));
  EXPECT_OK(setsockopt(raw.get(), SOL_PACKET, PACKET_DROP_MEMBERSHIP, &m, sizeof m));
  EXPECT_OK(setsockopt(raw.get(), SOL_PACKET, PACKET_DROP_MEMBERSHIP, &m, sizeof m)) << "one that is not there";
  m.mr_ifindex = 12345;
  EXPECT_FAILS(ENODEV, setsockopt(raw.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof m));
  EXPECT_FAILS(ENOPROTOOPT, setsockopt(raw.get(), SOL_PACKET, 999, &kLo, sizeof kLo));
}

TEST_F(PacketTest, FilterChoosesAndCuts) {
  Fd raw = Open(SOCK_RAW, ETH_P_IP);
  // UDP to our port: 60 bytes of it.
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 3),
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 36),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(at_.port()), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 60),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  sock_fprog program = {static_cast<unsigned short>(std::size(code)), code};
  ASSERT_OK(setsockopt(raw.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
  Fd other(socket(AF_INET, SOCK_DGRAM, 0)), from(socket(AF_INET, SOCK_DGRAM, 0));
  Addr any("127.0.0.1", 0);
  ASSERT_OK(bind(other.get(), any.sa(), any.len));
  Addr elsewhere = NameOf(other.get());
  ASSERT_EQ(sendto(from.get(), "no", 2, 0, elsewhere.sa(), elsewhere.len), 2);
  Say(std::string(500, 'y'));
  const Frame f = Next(raw, MSG_TRUNC);
  EXPECT_EQ(f.result, 60);
  EXPECT_EQ(f.data.substr(42), std::string(18, 'y'));
  EXPECT_FALSE(PollFor(raw.get(), POLLIN, 0));
  // Words that are not in the bytes.
  sock_filter type[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_PKTTYPE)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  program = {static_cast<unsigned short>(std::size(type)), type};
  Fd all = Open(SOCK_DGRAM, ETH_P_ALL);
  ASSERT_OK(setsockopt(all.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
  Say("out");
  EXPECT_EQ(Next(all).from.sll_pkttype, PACKET_OUTGOING);
  EXPECT_FALSE(PollFor(all.get(), POLLIN, 0));
  int none = 0;
  ASSERT_OK(setsockopt(all.get(), SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none));
  EXPECT_FAILS(ENOENT, setsockopt(all.get(), SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none));
}

TEST_F(PacketTest, AuxiliaryData) {
  Fd raw = Open(SOCK_RAW, ETH_P_IP);
  int one = 1;
  ASSERT_OK(setsockopt(raw.get(), SOL_PACKET, PACKET_AUXDATA, &one, sizeof one));
  ASSERT_OK(setsockopt(raw.get(), SOL_SOCKET, SO_TIMESTAMP, &one, sizeof one));
  Say(std::string(100, 'z'));
  ASSERT_TRUE(PollFor(raw.get(), POLLIN, 5000));
  char data[50];
  alignas(cmsghdr) char control[512];
  iovec v = {data, sizeof data};
  msghdr h = {};
  h.msg_iov = &v;
  h.msg_iovlen = 1;
  h.msg_control = control;
  h.msg_controllen = sizeof control;
  ASSERT_EQ(recvmsg(raw.get(), &h, 0), 50);
  EXPECT_TRUE(h.msg_flags & MSG_TRUNC);
  bool aux = false, time = false;
  for (cmsghdr* c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
    time |= c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMP;
    if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
    aux = true;
    tpacket_auxdata a;
    memcpy(&a, CMSG_DATA(c), sizeof a);
    EXPECT_EQ(a.tp_len, 142u);
    EXPECT_EQ(a.tp_snaplen, 142u);
    EXPECT_EQ(a.tp_net, 14);
  }
  EXPECT_TRUE(aux && time);
}

TEST_F(PacketTest, SentFramesArrive) {
  Fd to(socket(AF_INET6, SOCK_DGRAM, 0));
  Addr any("::1", 0);
  ASSERT_OK(bind(to.get(), any.sa(), any.len));
  const int port = NameOf(to.get()).port();
  // IPv6 and UDP by hand.
  uint8_t ip[40 + 12] = {0x60, 0, 0, 0, 0, 12, 17, 64};
  ip[23] = ip[39] = 1;
  ip[40] = 0x30;
  ip[41] = 0x39;
  ip[42] = static_cast<uint8_t>(port >> 8);
  ip[43] = static_cast<uint8_t>(port);
  ip[45] = 12;
  memcpy(ip + 48, "hand", 4);
  unsigned sum = 12 + 17;
  for (size_t i = 8; i < sizeof ip; i += 2) sum += static_cast<unsigned>(ip[i] << 8 | ip[i + 1]);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = ~(sum + (sum >> 16)) & 0xffff;
  ip[46] = static_cast<uint8_t>(sum >> 8);
  ip[47] = static_cast<uint8_t>(sum);
  sockaddr_ll a = {};
  a.sll_family = AF_PACKET;
  a.sll_ifindex = kLo;
  a.sll_protocol = htons(ETH_P_IPV6);
  a.sll_halen = 6;
  std::string frame(12, '\0');
  frame += std::string("\x86\xdd", 2) + std::string(reinterpret_cast<char*>(ip), sizeof ip);
  Fd raw = Open(SOCK_RAW, 0), cooked = Open(SOCK_DGRAM, 0);
  Fd watch = Open(SOCK_RAW, ETH_P_ALL);
  ASSERT_EQ(sendto(raw.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&a), sizeof a),
            static_cast<ssize_t>(frame.size()));
  ASSERT_EQ(sendto(cooked.get(), ip, sizeof ip, 0, reinterpret_cast<sockaddr*>(&a), sizeof a), 52);
  for (int i = 0; i < 2; ++i) {
    char text[8];
    ASSERT_TRUE(PollFor(to.get(), POLLIN, 5000));
    Addr from;
    ASSERT_EQ(recvfrom(to.get(), text, sizeof text, 0, from.sa(), &from.len), 4);
    EXPECT_EQ(memcmp(text, "hand", 4), 0);
    EXPECT_EQ(from.port(), 12345);
  }
  EXPECT_EQ(Next(watch).from.sll_pkttype, PACKET_OUTGOING) << "others see what one sends";
  ASSERT_OK(Bind(raw, ETH_P_IPV6, kLo));
  EXPECT_EQ(send(raw.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  EXPECT_FAILS(EINVAL, send(raw.get(), frame.data(), 5, 0));
  EXPECT_FAILS(ENXIO, send(cooked.get(), ip, sizeof ip, 0));
  a.sll_ifindex = 12345;
  EXPECT_FAILS(ENXIO, sendto(raw.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&a), sizeof a));
  const std::string large(70000, 'x');
  EXPECT_FAILS(EMSGSIZE, send(raw.get(), large.data(), large.size(), 0));
}

TEST_F(PacketTest, TheQueueIsBounded) {
  Fd raw = Open(SOCK_RAW, ETH_P_ALL);
  ASSERT_OK(SetInt(raw.get(), SOL_SOCKET, SO_RCVBUF, 20000));
  for (int i = 0; i < 200; ++i) Say(std::string(1000, 'x'));
  const tpacket_stats s = Statistics(raw);
  EXPECT_EQ(s.tp_packets, 400u);
  EXPECT_GT(s.tp_drops, 300u);
  EXPECT_LT(s.tp_drops, 400u);
}

class Rings : public PacketTest {
 protected:
  static constexpr unsigned kBlock = 65536, kBlocks = 4, kSlot = 2048;
  static int SetVersion(const Fd& fd, int version) { return SetInt(fd.get(), SOL_PACKET, PACKET_VERSION, version); }
  static char* Map(const Fd& fd) {
    void* at = mmap(nullptr, kBlock * kBlocks, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    return at == MAP_FAILED ? nullptr : static_cast<char*>(at);
  }
};

TEST_F(Rings, Arguments) {
  Fd raw = Open(SOCK_RAW, ETH_P_ALL);
  for (auto [version, size] : {std::pair{TPACKET_V1, sizeof(tpacket_hdr)}, std::pair{TPACKET_V2, sizeof(tpacket2_hdr)},
                               std::pair{TPACKET_V3, sizeof(tpacket3_hdr)}}) {
    int value = version;
    socklen_t len = sizeof value;
    EXPECT_OK(getsockopt(raw.get(), SOL_PACKET, PACKET_HDRLEN, &value, &len));
    EXPECT_EQ(static_cast<size_t>(value), size);
  }
  int value = 7;
  socklen_t len = sizeof value;
  EXPECT_FAILS(EINVAL, getsockopt(raw.get(), SOL_PACKET, PACKET_HDRLEN, &value, &len));
  EXPECT_FAILS(EINVAL, SetVersion(raw, 3));
  ASSERT_OK(SetVersion(raw, TPACKET_V2));
  EXPECT_FAILS(EINVAL, mmap(nullptr, kBlock, PROT_READ, MAP_SHARED, raw.get(), 0) == MAP_FAILED ? -1 : 0);
  for (tpacket_req r : {tpacket_req{kBlock + 1, kBlocks, kSlot, 128}, tpacket_req{kBlock, kBlocks, kSlot, 127},
                        tpacket_req{kBlock, kBlocks, kSlot + 1, 128}, tpacket_req{kBlock, kBlocks, 16, kBlock / 16 * 4},
                        tpacket_req{kBlock, 0, kSlot, 128}, tpacket_req{4096, 4, 8192, 2}})
    EXPECT_FAILS(EINVAL, setsockopt(raw.get(), SOL_PACKET, PACKET_RX_RING, &r, sizeof r));
  tpacket_req r = {kBlock, kBlocks, kSlot, kBlock / kSlot * kBlocks};
  EXPECT_FAILS(EINVAL, setsockopt(raw.get(), SOL_PACKET, PACKET_RX_RING, &r, sizeof r - 4));
  ASSERT_OK(setsockopt(raw.get(), SOL_PACKET, PACKET_RX_RING, &r, sizeof r));
  EXPECT_FAILS(EBUSY, SetVersion(raw, TPACKET_V3));
  EXPECT_FAILS(EBUSY, setsockopt(raw.get(), SOL_PACKET, PACKET_RX_RING, &r, sizeof r));
  r = {};
  EXPECT_OK(setsockopt(raw.get(), SOL_PACKET, PACKET_RX_RING, &r, sizeof r));
  EXPECT_OK(SetVersion(raw, TPACKET_V3));
}

TEST_F(Rings, Version2) {
  Fd raw = Open(SOCK_RAW, 0);
  ASSERT_OK(SetVersion(raw, TPACKET_V2));
  const unsigned slots = kBlock / kSlot * kBlocks;
  tpacket_req r = {kBlock, kBlocks, kSlot, slots};
  ASSERT_OK(setsockopt(raw.get(), SOL_PACKET, PACKET_RX_RING, &r, sizeof r));
  char* ring = Map(raw);
  ASSERT_NE(ring, nullptr);
  ASSERT_OK(Bind(raw, ETH_P_IP, kLo));
  EXPECT_FALSE(PollFor(raw.get(), POLLIN, 0));
  // Twice round, the second time with frames that don't fit a slot.
  for (unsigned i = 0; i < 2 * slots; ++i) {
    const bool large = i >= slots;
    const std::string text = std::to_string(i) + std::string(large ? 3000 : 10, 'r');
    Say(text);
    ASSERT_TRUE(PollFor(raw.get(), POLLIN, 5000)) << i;
    char* slot = ring + i % slots * kSlot;
    auto* h = reinterpret_cast<volatile tpacket2_hdr*>(slot);
    ASSERT_TRUE(h->tp_status & TP_STATUS_USER) << i;
    EXPECT_EQ(h->tp_len, 42 + text.size());
    if (!large) {
      EXPECT_EQ(h->tp_snaplen, 42 + text.size());
    } else {
      EXPECT_EQ(h->tp_snaplen, kSlot - h->tp_mac);
    }
    EXPECT_EQ(h->tp_net, h->tp_mac + 14);
    EXPECT_EQ(std::string(slot + h->tp_mac + 42, 11), text.substr(0, 11)) << i;
    const auto* from = reinterpret_cast<sockaddr_ll*>(slot + TPACKET_ALIGN(sizeof(tpacket2_hdr)));
    EXPECT_EQ(from->sll_ifindex, kLo);
    EXPECT_EQ(from->sll_pkttype, PACKET_HOST);
    EXPECT_GT(h->tp_sec, 1'600'000'000u);
    __atomic_store_n(reinterpret_cast<uint32_t*>(slot), TP_STATUS_KERNEL, __ATOMIC_RELEASE);
  }
  // A full ring loses frames.
  for (unsigned i = 0; i < slots + 5; ++i) Say("full");
  EXPECT_EQ(Statistics(raw).tp_drops, 5u);
  munmap(ring, kBlock * kBlocks);
}

TEST_F(Rings, Version3) {
  Fd raw = Open(SOCK_RAW, 0);
  ASSERT_OK(SetVersion(raw, TPACKET_V3));
  tpacket_req3 r = {};
  r.tp_block_size = kBlock;
  r.tp_block_nr = kBlocks;
  r.tp_frame_size = kSlot;
  r.tp_frame_nr = kBlock / kSlot * kBlocks;
  r.tp_retire_blk_tov = 20;
  ASSERT_OK(setsockopt(raw.get(), SOL_PACKET, PACKET_RX_RING, &r, sizeof r));
  char* ring = Map(raw);
  ASSERT_NE(ring, nullptr);
  ASSERT_OK(Bind(raw, ETH_P_IP, kLo));
  // Frames come in blocks: by time when there are few, when a block is full when there are many.
  unsigned block = 0;
  std::vector<std::string> sent, seen;
  uint64_t sequence = 0;
  const auto read_until = [&](size_t count) {
    while (seen.size() < count) {
      ASSERT_TRUE(PollFor(raw.get(), POLLIN, 5000)) << seen.size() << " of " << count;
      char* at = ring + block * kBlock;
      auto* d = reinterpret_cast<tpacket_block_desc*>(at);
      if (!(__atomic_load_n(&d->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) continue;
      EXPECT_GT(d->hdr.bh1.num_pkts, 0u);
      EXPECT_GT(d->hdr.bh1.seq_num, sequence);
      sequence = d->hdr.bh1.seq_num;
      EXPECT_EQ(d->version, static_cast<uint32_t>(TPACKET_V3));
      char* frame = at + d->hdr.bh1.offset_to_first_pkt;
      for (unsigned i = 0; i < d->hdr.bh1.num_pkts; ++i) {
        const auto* h = reinterpret_cast<tpacket3_hdr*>(frame);
        ASSERT_EQ(h->tp_len, h->tp_snaplen);
        seen.emplace_back(frame + h->tp_mac + 42, h->tp_snaplen - 42);
        EXPECT_EQ(h->tp_next_offset == 0, i + 1 == d->hdr.bh1.num_pkts);
        frame += h->tp_next_offset;
      }
      __atomic_store_n(&d->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
      block = (block + 1) % kBlocks;
    }
  };
  for (int i = 0; i < 3; ++i) {
    sent.push_back("few " + std::to_string(i));
    Say(sent.back());
  }
  read_until(sent.size());
  for (int i = 0; i < 1000; ++i) {
    sent.push_back("many " + std::to_string(i) + std::string(static_cast<size_t>(i % 700), 'm'));
    Say(sent.back());
    if (i % 50 == 49) read_until(sent.size());
  }
  read_until(sent.size());
  EXPECT_EQ(sent, seen);
  munmap(ring, kBlock * kBlocks);
}

}  // namespace
