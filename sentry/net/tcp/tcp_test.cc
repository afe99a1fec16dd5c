// SPDX-License-Identifier: Apache-2.0
// TCP packet by packet against a scripted peer, and between two stacks over a link that loses, doubles and reorders.
#include <errno.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "sentry/net/checksum.h"
#include "sentry/net/test_util.h"

namespace sentry::net {
namespace {

constexpr int64_t kMs = 1'000'000;

Buffer Bytes(const std::string& text) { return Buffer::Copy(text.data(), text.size()); }

// What the endpoint has to read, read.
std::string ReadAll(TcpEndpoint& endpoint) {
  std::string all;
  bool mark;
  for (;;) {
    auto data = endpoint.Peek(0, 1 << 20, &mark);
    if (!data.ok() || data->empty()) return all;
    all += data->ToString();
    endpoint.Consume(data->size());
  }
}

// --- A scripted peer

struct Segment {
  TcpHeader header;
  std::string data;
};

class Scripted : public testing::Test {
 protected:
  Scripted() : stack_(NewStack(clock_, 1)), link_(MakeRef<CapturingLink>()) {
    interface_ = AddLink(*stack_, link_, "10.0.0.1", 24);
  }
  void Advance(int64_t ns) {
    clock_.now_ns += ns;
    stack_->RunTimers();
  }
  // The next segment that the stack sent; a failure if there is none.
  Segment Sent() {
    Segment s;
    if (link_->sent.empty()) {
      ADD_FAILURE() << "nothing was sent";
      return s;
    }
    PacketPtr p = Packet::FromBytes(link_->sent.front().data(), link_->sent.front().size());
    link_->sent.pop_front();
    EXPECT_EQ(ChecksumOf(p->Front(20), 20), 0);
    p->source = IpAddress::V4Bytes(p->Front(20) + 12);
    p->destination = IpAddress::V4Bytes(p->Front(20) + 16);
    p->Consume(20);
    EXPECT_TRUE(IsTcpChecksumRight(*p));
    EXPECT_TRUE(s.header.Parse(*p));
    p->Consume(s.header.header_size);
    s.data = p->ToString();
    return s;
  }
  bool NothingSent() const { return link_->sent.empty(); }
  void Send(TcpHeader h, const std::string& data = "") {
    auto p = std::make_unique<Packet>();
    p->source = Ip("10.0.0.2");
    p->destination = Ip("10.0.0.1");
    p->payload = Bytes(data);
    h.source_port = peer_port_;
    h.destination_port = port_;
    h.Push(*p);
    SetTcpChecksum(*p);
    uint8_t* ip = p->Push(20);
    memset(ip, 0, 20);
    const size_t size = p->size();
    ip[0] = 0x45;
    ip[2] = static_cast<uint8_t>(size >> 8);
    ip[3] = static_cast<uint8_t>(size);
    ip[8] = 64;
    ip[9] = 6;
    memcpy(ip + 12, p->source.v4_bytes(), 4);
    memcpy(ip + 16, p->destination.v4_bytes(), 4);
    const uint16_t sum = ChecksumOf(ip, 20);
    memcpy(ip + 10, &sum, 2);
    const std::string bytes = p->ToString();
    stack_->Receive(interface_, Packet::FromBytes(bytes.data(), bytes.size()));
  }
  TcpHeader Ack(uint8_t flags = kTcpAck) {
    TcpHeader h;
    h.flags = flags;
    h.seq = seq_;
    h.ack = ack_;
    h.window = 65535;
    return h;
  }
  // Data of the peer in order.
  void SendData(const std::string& data) {
    Send(Ack(kTcpAck | kTcpPsh), data);
    seq_ += static_cast<uint32_t>(data.size());
  }
  // An endpoint connected to the peer; `mss` and SACK as the peer offers them.
  RefPtr<TcpEndpoint> Connect(bool sack = false, uint16_t mss = 1000, uint16_t window = 65535) {
    auto e = MakeRef<TcpEndpoint>(*stack_, false);
    EXPECT_EQ(e->Connect({Ip("10.0.0.2"), peer_port_}).error_number(), EINPROGRESS);
    Segment syn = Sent();
    EXPECT_EQ(syn.header.flags, kTcpSyn);
    EXPECT_EQ(syn.header.mss, 1460);
    port_ = syn.header.source_port;
    ack_ = syn.header.seq + 1;
    TcpHeader h = Ack(kTcpSyn | kTcpAck);
    h.has_mss = true;
    h.mss = mss;
    h.sack_permitted = sack;
    h.window = window;
    Send(h);
    ++seq_;
    EXPECT_EQ(Sent().header.flags, kTcpAck);
    EXPECT_TRUE(e->Connect({}).ok());
    EXPECT_EQ(e->state(), TcpState::kEstablished);
    return e;
  }
  Result<void> Write(TcpEndpoint& e, const std::string& data) { return e.Append(Bytes(data), false, false); }

  TestClock clock_;
  RefPtr<Stack> stack_;
  RefPtr<CapturingLink> link_;
  uint32_t interface_;
  uint16_t port_ = 0, peer_port_ = 80;
  uint32_t seq_ = 5000, ack_ = 0;
};

TEST_F(Scripted, HandshakeDataAndClose) {
  auto e = Connect();
  ASSERT_TRUE(Write(*e, "hello").ok());
  Segment s = Sent();
  EXPECT_EQ(s.data, "hello");
  EXPECT_EQ(s.header.seq, ack_);
  ack_ += 5;
  SendData("world");
  EXPECT_EQ(ReadAll(*e), "world");
  EXPECT_EQ(Sent().header.ack, seq_);
  e->Close(false);
  s = Sent();
  EXPECT_EQ(s.header.flags & kTcpFin, kTcpFin);
  ++ack_;
  Send(Ack(kTcpAck | kTcpFin));
  ++seq_;
  s = Sent();
  EXPECT_EQ(s.header.ack, seq_);
  EXPECT_EQ(stack_->tcp().time_wait_count(), 1);
  // The FIN again is answered, and the wait ends in time.
  --seq_;
  Send(Ack(kTcpAck | kTcpFin));
  EXPECT_EQ(Sent().header.ack, seq_ + 1);
  Advance(61'000 * kMs);
  EXPECT_EQ(stack_->tcp().time_wait_count(), 0);
}

TEST_F(Scripted, RefusedAndTimedOut) {
  auto e = MakeRef<TcpEndpoint>(*stack_, false);
  EXPECT_EQ(e->Connect({Ip("10.0.0.2"), 80}).error_number(), EINPROGRESS);
  Segment syn = Sent();
  port_ = syn.header.source_port;
  EXPECT_EQ(e->Connect({}).error_number(), EALREADY);
  TcpHeader h = Ack(kTcpRst | kTcpAck);
  h.ack = syn.header.seq;  // not acceptable
  Send(h);
  EXPECT_EQ(e->state(), TcpState::kSynSent);
  h.ack = syn.header.seq + 1;
  Send(h);
  EXPECT_EQ(e->Poll() & (EPOLLERR | EPOLLHUP), uint32_t{EPOLLERR | EPOLLHUP});
  EXPECT_EQ(e->Connect({}).error_number(), ECONNREFUSED);

  e->ChangeOptions([](TcpOptions& o) { o.syn_count = 2; });
  EXPECT_EQ(e->Connect({Ip("10.0.0.2"), 80}).error_number(), EINPROGRESS);
  Sent();
  for (int64_t wait : {1000, 2000}) {
    Advance((wait - 1) * kMs);
    EXPECT_TRUE(NothingSent());
    Advance(2 * kMs);
    EXPECT_EQ(Sent().header.flags, kTcpSyn);
  }
  Advance(4100 * kMs);
  EXPECT_EQ(e->Connect({}).error_number(), ETIMEDOUT);
}

TEST_F(Scripted, RetransmissionTimeoutDoubles) {
  auto e = Connect();
  ASSERT_TRUE(Write(*e, "x").ok());
  const uint32_t seq = Sent().header.seq;
  int64_t wait = 200;
  Advance(199 * kMs);
  EXPECT_TRUE(NothingSent());
  Advance(10 * kMs);
  EXPECT_EQ(Sent().header.seq, seq);
  for (int i = 0; i < 3; ++i) {
    wait *= 2;
    Advance((wait - 20) * kMs);
    EXPECT_TRUE(NothingSent()) << i;
    Advance(40 * kMs);
    Segment again = Sent();
    EXPECT_EQ(again.header.seq, seq);
    EXPECT_EQ(again.data, "x");
  }
  ack_ += 1;
  Send(Ack());
  Advance(10'000 * kMs);
  EXPECT_TRUE(NothingSent());
}

TEST_F(Scripted, ThreeDuplicateAcksResendWithoutSack) {
  auto e = Connect();
  ASSERT_TRUE(Write(*e, std::string(5000, 'a')).ok());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Sent().data.size(), 1000u);
  for (int i = 0; i < 2; ++i) Send(Ack());
  EXPECT_TRUE(NothingSent());
  Send(Ack());
  EXPECT_EQ(Sent().header.seq, ack_);
  // A partial acknowledgement shows the next hole.
  ack_ += 2000;
  Send(Ack());
  EXPECT_EQ(Sent().header.seq, ack_);
  ack_ += 3000;
  Send(Ack());
  EXPECT_TRUE(NothingSent());
  EXPECT_EQ(e->SendQueued(), 0u);
}

TEST_F(Scripted, SackResendsOnlyTheHole) {
  auto e = Connect(true);
  ASSERT_TRUE(Write(*e, std::string(6000, 'a')).ok());
  std::vector<uint32_t> seqs;
  for (int i = 0; i < 6; ++i) seqs.push_back(Sent().header.seq);
  clock_.now_ns += 20 * kMs;
  TcpHeader h = Ack();
  h.sack_count = 1;
  h.sacks[0] = {seqs[2], seqs[5]};  // 2, 3 and 4 have come; 0 and 1 are missing
  Send(h);
  EXPECT_EQ(Sent().header.seq, seqs[0]);
  Advance(1 * kMs);
  h.sacks[0] = {seqs[2], seqs[5] + 1000};
  Send(h);
  EXPECT_EQ(Sent().header.seq, seqs[1]);
  EXPECT_TRUE(NothingSent());
  ack_ += 6000;
  Send(Ack());
  EXPECT_EQ(e->SendQueued(), 0u);
  // A SACK of what was never sent is nothing.
  h = Ack();
  h.sack_count = 2;
  h.sacks[0] = {ack_ + 100, ack_ + 5000};
  h.sacks[1] = {ack_ + 5000, ack_ + 100};
  Send(h);
  ASSERT_TRUE(Write(*e, "z").ok());
  EXPECT_EQ(Sent().data, "z");
}

TEST_F(Scripted, OutOfOrderIsReassembledAndSacked) {
  auto e = Connect(true);
  const uint32_t base = seq_;
  const auto piece = [&](uint32_t at, const std::string& data) {
    TcpHeader h = Ack();
    h.seq = base + at;
    Send(h, data);
  };
  piece(5, "fghij");
  Segment s = Sent();
  EXPECT_EQ(s.header.ack, base);
  ASSERT_EQ(s.header.sack_count, 1);
  EXPECT_EQ(s.header.sacks[0].start, base + 5);
  EXPECT_EQ(s.header.sacks[0].end, base + 10);
  piece(15, "pqrst");
  s = Sent();
  ASSERT_EQ(s.header.sack_count, 2);
  EXPECT_EQ(s.header.sacks[0].start, base + 15);  // the latest first
  piece(8, "ijklmnop");                           // overlaps both
  s = Sent();
  EXPECT_EQ(s.header.sacks[s.header.sack_count - 1].start, base + 5);
  EXPECT_EQ(s.header.sacks[s.header.sack_count - 1].end, base + 20);
  piece(0, "abcdefg");
  EXPECT_EQ(Sent().header.ack, base + 20);
  EXPECT_EQ(ReadAll(*e), "abcdefghijklmnopqrst");
  // A duplicate is told by a D-SACK.
  link_->sent.clear();
  piece(3, "de");
  s = Sent();
  EXPECT_EQ(s.header.ack, base + 20);
  ASSERT_GE(s.header.sack_count, 1);
  EXPECT_EQ(s.header.sacks[0].start, base + 3);
}

TEST_F(Scripted, ZeroWindowIsProbedAndOpens) {
  auto e = Connect(false, 1000, 10);
  ASSERT_TRUE(Write(*e, std::string(30, 'a')).ok());
  EXPECT_EQ(Sent().data.size(), 10u);
  ack_ += 10;
  TcpHeader h = Ack();
  h.window = 0;
  Send(h);
  EXPECT_TRUE(NothingSent());
  Advance(300 * kMs);
  Segment probe = Sent();
  EXPECT_EQ(probe.header.seq, ack_ - 1);
  EXPECT_TRUE(probe.data.empty());
  Send(h);
  Advance(300 * kMs);
  EXPECT_TRUE(NothingSent()) << "the second one comes later";
  Advance(300 * kMs);
  Sent();
  h.window = 100;
  Send(h);
  EXPECT_EQ(Sent().data.size(), 20u);
}

TEST_F(Scripted, NagleAndCork) {
  auto e = Connect();
  ASSERT_TRUE(Write(*e, "a").ok());
  EXPECT_EQ(Sent().data, "a");
  ASSERT_TRUE(Write(*e, "b").ok());
  ASSERT_TRUE(Write(*e, "c").ok());
  EXPECT_TRUE(NothingSent());
  ack_ += 1;
  Send(Ack());
  EXPECT_EQ(Sent().data, "bc");
  e->ChangeOptions([](TcpOptions& o) { o.no_delay = true; });
  ASSERT_TRUE(Write(*e, "d").ok());
  EXPECT_EQ(Sent().data, "d");
  e->ChangeOptions([](TcpOptions& o) { o.cork = true; });
  ack_ += 3;
  Send(Ack());
  ASSERT_TRUE(Write(*e, "e").ok());
  EXPECT_TRUE(NothingSent());
  e->ChangeOptions([](TcpOptions& o) { o.cork = false; });
  EXPECT_EQ(Sent().data, "e");
}

TEST_F(Scripted, DelayedAck) {
  auto e = Connect();
  // Out of the quick phase.
  for (int i = 0; i < 40; ++i) {
    SendData(std::string(1000, 'x'));
    ReadAll(*e);
  }
  link_->sent.clear();
  ASSERT_TRUE(Write(*e, "request").ok());
  Sent();
  ack_ += 7;
  TcpHeader h = Ack();
  Send(h, "r");
  ++seq_;
  link_->sent.clear();
  h = Ack();
  Send(h, "s");
  ++seq_;
  Advance(41 * kMs);
  ASSERT_FALSE(NothingSent());
  EXPECT_EQ(Sent().header.ack, seq_);
}

TEST_F(Scripted, ResetOnlyWithTheExactNumber) {
  auto e = Connect();
  TcpHeader h = Ack(kTcpRst);
  h.seq = seq_ + 10;
  Send(h);
  EXPECT_EQ(e->state(), TcpState::kEstablished);
  EXPECT_EQ(Sent().header.flags, kTcpAck) << "a challenge";
  h = Ack(kTcpSyn);
  Send(h);
  EXPECT_EQ(e->state(), TcpState::kEstablished);
  h = Ack(kTcpRst);
  Send(h);
  EXPECT_EQ(e->state(), TcpState::kClosed);
  EXPECT_EQ(e->TakeError(), ECONNRESET);
  bool mark;
  EXPECT_TRUE(e->Peek(0, 1, &mark)->empty());
}

TEST_F(Scripted, KeepAliveEndsADeadConnection) {
  auto e = Connect();
  e->ChangeOptions([](TcpOptions& o) {
    o.keep_alive = true;
    o.keep_idle = 10;
    o.keep_interval = 2;
    o.keep_count = 3;
  });
  Advance(9'900 * kMs);
  EXPECT_TRUE(NothingSent());
  Advance(200 * kMs);
  EXPECT_EQ(Sent().header.seq, ack_ - 1);
  Send(Ack());
  Advance(10'100 * kMs);
  Sent();
  Advance(2'100 * kMs);
  Sent();
  Advance(2'100 * kMs);
  Sent();
  Advance(2'100 * kMs);
  EXPECT_EQ(Sent().header.flags & kTcpRst, kTcpRst);
  EXPECT_EQ(e->TakeError(), ETIMEDOUT);
}

TEST_F(Scripted, UserTimeout) {
  auto e = Connect();
  e->ChangeOptions([](TcpOptions& o) { o.user_timeout_ms = 1500; });
  ASSERT_TRUE(Write(*e, "x").ok());
  for (int i = 0; i < 40; ++i) Advance(50 * kMs);
  EXPECT_EQ(e->TakeError(), ETIMEDOUT);
}

TEST_F(Scripted, CloseWithUnreadDataResets) {
  auto e = Connect();
  SendData("unread");
  link_->sent.clear();
  e->Close(false);
  EXPECT_EQ(Sent().header.flags & kTcpRst, kTcpRst);
}

TEST_F(Scripted, ListenerBacklogAndReset) {
  auto l = MakeRef<TcpEndpoint>(*stack_, false);
  ASSERT_TRUE(l->Bind({Ip("10.0.0.1"), 7000}).ok());
  ASSERT_TRUE(l->Listen(1).ok());
  port_ = 7000;
  for (uint16_t p = 1000; p < 1004; ++p) {
    peer_port_ = p;
    seq_ = 77;
    TcpHeader h;
    h.flags = kTcpSyn;
    h.seq = seq_;
    h.window = 1000;
    Send(h);
    if (p >= 1002) {
      EXPECT_TRUE(NothingSent()) << "the queue is full";
      continue;
    }
    Segment s = Sent();
    EXPECT_EQ(s.header.flags, kTcpSyn | kTcpAck);
    ++seq_;
    ack_ = s.header.seq + 1;
    Send(Ack());
  }
  EXPECT_EQ(l->ReadyConnections(), 2u);
  auto a = l->Accept();
  ASSERT_TRUE(a.ok());
  EXPECT_EQ((*a)->remote()->port, 1000);
  link_->sent.clear();
  l->Close(false);
  EXPECT_EQ(Sent().header.flags & kTcpRst, kTcpRst) << "the one that nobody took";
  peer_port_ = 999;
  TcpHeader h;
  h.flags = kTcpSyn;
  Send(h);
  Segment s = Sent();
  EXPECT_EQ(s.header.flags, kTcpRst | kTcpAck);
  EXPECT_EQ(s.header.ack, 1u);
  (*a)->Close(true);
}

TEST_F(Scripted, SynFloodIsBounded) {
  auto l = MakeRef<TcpEndpoint>(*stack_, false);
  ASSERT_TRUE(l->Bind({Ip("10.0.0.1"), 7000}).ok());
  ASSERT_TRUE(l->Listen(10).ok());
  port_ = 7000;
  for (int i = 0; i < 5000; ++i) {
    peer_port_ = static_cast<uint16_t>(1000 + i);
    TcpHeader h;
    h.flags = kTcpSyn;
    Send(h);
  }
  EXPECT_LE(stack_->tcp().endpoint_count(), 200);
  l->Close(false);
  EXPECT_LE(stack_->tcp().endpoint_count(), 1);
}

TEST_F(Scripted, HostileHeadersAreSurvived) {
  auto e = Connect(true);
  std::mt19937 random(7);
  const std::string good = [&] {
    TcpHeader h = Ack(kTcpAck | kTcpPsh);
    h.has_timestamp = true;
    h.sack_count = 3;
    auto p = std::make_unique<Packet>();
    p->payload = Bytes("payload");
    h.source_port = peer_port_;
    h.destination_port = port_;
    h.Push(*p);
    uint8_t* ip = p->Push(20);
    memset(ip, 0, 20);
    ip[0] = 0x45;
    ip[3] = static_cast<uint8_t>(p->size());
    ip[8] = 64;
    ip[9] = 6;
    memcpy(ip + 12, Ip("10.0.0.2").v4_bytes(), 4);
    memcpy(ip + 16, Ip("10.0.0.1").v4_bytes(), 4);
    return p->ToString();
  }();
  for (int i = 0; i < 200'000; ++i) {
    std::string bad = good;
    for (int n = random() % 6; n >= 0; --n) bad[random() % bad.size()] = static_cast<char>(random());
    bad.resize(random() % (bad.size() + 1));
    auto p = Packet::FromBytes(bad.data(), bad.size());
    p->trusted_checksums = true;
    stack_->Receive(interface_, std::move(p));
    link_->sent.clear();
    if (i % 64 == 0) Advance(10 * kMs);
  }
}

// --- Two stacks

// Carries packets to the other stack after a delay, if it doesn't lose them.
class Wire {
 public:
  Wire(TestClock& clock, uint64_t seed) : clock_(clock), random_(seed) {}
  double loss = 0, duplicate = 0, reorder = 0;
  int64_t delay_ns = 5 * kMs;

  class End final : public Link {
   public:
    End(Wire& wire, int side) : wire_(wire), side_(side) {}
    void Transmit(PacketPtr packet, const IpAddress&) override { wire_.Carry(1 - side_, packet->ToString()); }

   private:
    Wire& wire_;
    const int side_;
  };
  void Attach(int side, Stack& stack, uint32_t interface) {
    stacks_[side] = &stack;
    interfaces_[side] = interface;
  }
  void Carry(int to, std::string bytes) {
    ++carried;
    const auto chance = [&](double p) { return std::uniform_real_distribution<>(0, 1)(random_) < p; };
    if (chance(loss)) return;
    int64_t at = clock_.now_ns + delay_ns;
    if (chance(reorder)) at += delay_ns / 2;
    if (chance(duplicate)) queue_.emplace(at + 1, std::pair(to, bytes));
    queue_.emplace(at, std::pair(to, std::move(bytes)));
  }
  // To the next thing that happens; false: nothing does.
  bool Step() {
    int64_t next = queue_.empty() ? kNoDeadline : queue_.begin()->first;
    for (Stack* s : stacks_) next = std::min(next, s->timers().Earliest());
    if (next == kNoDeadline) return false;
    clock_.now_ns = std::max(clock_.now_ns, next);
    while (!queue_.empty() && queue_.begin()->first <= clock_.now_ns) {
      auto [to, bytes] = std::move(queue_.begin()->second);
      queue_.erase(queue_.begin());
      stacks_[to]->Receive(interfaces_[to], Packet::FromBytes(bytes.data(), bytes.size()));
    }
    for (Stack* s : stacks_) s->RunTimers();
    return true;
  }
  size_t carried = 0;

 private:
  TestClock& clock_;
  std::mt19937_64 random_;
  Stack* stacks_[2] = {};
  uint32_t interfaces_[2] = {};
  std::multimap<int64_t, std::pair<int, std::string>> queue_;
};

struct Conditions {
  const char* name;
  double loss, duplicate, reorder;
  bool sack, timestamps;
};

class Transfer : public testing::TestWithParam<Conditions> {};

// Every byte arrives, in both directions, and both sides end.
TEST_P(Transfer, EveryByteArrives) {
  TestClock clock;
  Wire wire(clock, 42);
  wire.loss = GetParam().loss;
  wire.duplicate = GetParam().duplicate;
  wire.reorder = GetParam().reorder;
  RefPtr<Stack> stacks[2];
  const char* addresses[2] = {"10.0.0.1", "10.0.0.2"};
  for (int i = 0; i < 2; ++i) {
    stacks[i] = NewStack(clock, 100 + static_cast<uint64_t>(i));
    stacks[i]->settings().tcp_sack = GetParam().sack;
    stacks[i]->settings().tcp_timestamps = GetParam().timestamps;
    wire.Attach(i, *stacks[i], AddLink(*stacks[i], MakeRef<Wire::End>(wire, i), addresses[i], 24));
  }
  auto l = MakeRef<TcpEndpoint>(*stacks[1], false);
  ASSERT_TRUE(l->Bind({Ip("10.0.0.2"), 80}).ok());
  ASSERT_TRUE(l->Listen(5).ok());
  auto c = MakeRef<TcpEndpoint>(*stacks[0], false);
  EXPECT_EQ(c->Connect({Ip("10.0.0.2"), 80}).error_number(), EINPROGRESS);
  RefPtr<TcpEndpoint> s;
  constexpr size_t kSize = 1'500'000;
  std::string data[2], got[2];
  std::mt19937 random(3);
  for (auto& d : data) {
    d.resize(kSize);
    for (char& b : d) b = static_cast<char>(random());
  }
  size_t done[2] = {};
  bool shut[2] = {};
  const auto pump = [&](int i, TcpEndpoint& e) {
    for (;;) {
      if (done[i] == kSize) {
        if (!shut[i]) {
          EXPECT_TRUE(e.Shutdown(SHUT_WR).ok());
        }
        shut[i] = true;
        break;
      }
      bool end;
      auto room = e.ReserveSend(std::min<size_t>(kSize - done[i], 1 + random() % 20000), &end);
      if (!room.ok()) break;
      ASSERT_TRUE(e.Append(Buffer::Copy(data[i].data() + done[i], *room), false, false).ok());
      done[i] += *room;
    }
    got[1 - i] += ReadAll(e);
  };
  const int64_t start = clock.now_ns;
  for (int steps = 0; steps < 3'000'000 && (got[0].size() < kSize || got[1].size() < kSize); ++steps) {
    if (!wire.Step()) break;
    if (!s) {
      auto accepted = l->Accept();
      if (accepted.ok()) s = *accepted;
    }
    if (c->state() != TcpState::kSynSent) pump(0, *c);
    if (s) pump(1, *s);
  }
  EXPECT_TRUE(got[0] == data[0]);
  EXPECT_TRUE(got[1] == data[1]);
  const int64_t took_ms = (clock.now_ns - start) / kMs;
  const tcp_info info = c->Info();
  printf("%s: %lld ms of the test's clock, %zu packets, %u resent, %u timeouts\n", GetParam().name,
         static_cast<long long>(took_ms), wire.carried, info.tcpi_total_retrans,
         static_cast<unsigned>(stacks[0]->statistics().tcp.timeouts.load()));
  if (wire.loss == 0 && wire.reorder == 0) {
    EXPECT_EQ(info.tcpi_total_retrans, 0u);
  }
  for (int steps = 0; steps < 1000 && wire.Step(); ++steps) {
    if (s && s->state() == TcpState::kClosed) break;
  }
  c->Close(false);
  if (s) s->Close(false);
  l->Close(false);
  for (int steps = 0; steps < 100'000 && wire.Step(); ++steps) {
  }
  EXPECT_EQ(stacks[0]->tcp().endpoint_count(), 1);
  EXPECT_EQ(stacks[0]->tcp().time_wait_count() + stacks[1]->tcp().time_wait_count(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, Transfer,
    testing::Values(Conditions{"clean", 0, 0, 0, true, true}, Conditions{"loss1", 0.01, 0, 0, true, true},
                    Conditions{"loss5", 0.05, 0, 0, true, true}, Conditions{"loss5_reno", 0.05, 0, 0, false, false},
                    Conditions{"reordered", 0, 0, 0.1, true, true}, Conditions{"doubled", 0, 0.1, 0, true, true},
                    Conditions{"everything", 0.03, 0.05, 0.05, true, true},
                    Conditions{"everything_plain", 0.03, 0.05, 0.05, false, false}),
    [](const auto& info) { return std::string(info.param.name); });

// --- One stack, over its loopback

TEST(Loopback, ConnectTransferEpollAndReuse) {
  TestClock clock;
  RefPtr<Stack> stack = NewStack(clock, 9);
  auto l = MakeRef<TcpEndpoint>(*stack, true);
  ASSERT_TRUE(l->Bind({IpAddress::AnyV6(), 0}).ok());
  ASSERT_TRUE(l->Listen(5).ok());
  const uint16_t port = l->local().port;
  auto watcher = MakeRef<TestObserver>();
  l->set_observer(watcher);
  auto c = MakeRef<TcpEndpoint>(*stack, false);
  EXPECT_EQ(c->Connect({IpAddress::LoopbackV4(), port}).error_number(), EINPROGRESS);
  EXPECT_TRUE(c->Connect({}).ok()) << "the handshake is over when connect returns";
  EXPECT_TRUE(watcher->events & EPOLLIN);
  auto accepted = l->Accept();
  ASSERT_TRUE(accepted.ok());
  RefPtr<TcpEndpoint> s = *accepted;
  EXPECT_EQ(s->local().ip, IpAddress::LoopbackV4());
  const std::string block(200'000, 'q');
  std::string got;
  size_t sent = 0;
  while (sent < 5'000'000) {
    bool end;
    auto room = c->ReserveSend(block.size(), &end);
    if (room.ok()) {
      ASSERT_TRUE(c->Append(Buffer::Copy(block.data(), *room), false, false).ok());
      sent += *room;
    } else {
      const size_t before = got.size();
      got += ReadAll(*s);
      if (got.size() == before) {
        clock.now_ns += 50 * kMs;
        stack->RunTimers();
      }
    }
  }
  for (int i = 0; i < 10 && got.size() < sent; ++i) {
    got += ReadAll(*s);
    clock.now_ns += 50 * kMs;
    stack->RunTimers();
  }
  EXPECT_EQ(got.size(), sent);
  EXPECT_EQ(c->Info().tcpi_total_retrans, 0u);
  c->Close(false);
  EXPECT_TRUE(s->Poll() & EPOLLRDHUP);
  s->Close(false);
  // The port is still taken by TIME-WAIT of the other side, which doesn't stop a new listener with SO_REUSEADDR.
  EXPECT_EQ(stack->tcp().time_wait_count(), 1);
  l->Close(false);
}

TEST(Loopback, MutualCloseLeavesNothing) {
  TestClock clock;
  RefPtr<Stack> stack = NewStack(clock, 9);
  for (int i = 0; i < 200; ++i) {
    auto l = MakeRef<TcpEndpoint>(*stack, false);
    l->ChangeOptions([](TcpOptions& o) { o.reuse_address = true; });
    ASSERT_TRUE(l->Bind({IpAddress::LoopbackV4(), 8080}).ok()) << i;
    ASSERT_TRUE(l->Listen(5).ok());
    auto c = MakeRef<TcpEndpoint>(*stack, false);
    EXPECT_EQ(c->Connect({IpAddress::LoopbackV4(), 8080}).error_number(), EINPROGRESS);
    auto s = l->Accept();
    ASSERT_TRUE(s.ok());
    (i % 2 ? *c : **s).Close(false);
    (i % 2 ? **s : *c).Close(false);
    l->Close(false);
  }
  clock.now_ns += 61'000 * kMs;
  stack->RunTimers();
  EXPECT_EQ(stack->tcp().time_wait_count(), 0);
  EXPECT_EQ(stack->tcp().endpoint_count(), 0);
}

}  // namespace
}  // namespace sentry::net
