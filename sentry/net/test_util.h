// SPDX-License-Identifier: Apache-2.0
// For tests of the stack: a clock moved by hand, and links that keep packets or lose them by a fixed seed.
#ifndef SENTRY_NET_TEST_UTIL_H_
#define SENTRY_NET_TEST_UTIL_H_

#include <deque>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "sentry/net/datagram.h"
#include "sentry/net/stack.h"
#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::net {

// One clock for all stacks of a test.
struct TestClock {
  int64_t now_ns = 1'000'000'000'000;
};

class TestEnvironment final : public Environment {
 public:
  TestEnvironment(TestClock& clock, uint64_t seed) : clock_(clock), random_(seed) {}
  int64_t NowNs() override { return clock_.now_ns; }
  int64_t RealtimeNs() override { return clock_.now_ns; }
  uint64_t Random() override { return random_(); }
  void WakeAt(int64_t deadline_ns) override { wake_at_ns = deadline_ns; }
  int64_t wake_at_ns = kNoDeadline;

 private:
  TestClock& clock_;
  std::mt19937_64 random_;
};

// Keeps what is sent.
class CapturingLink final : public Link {
 public:
  void Transmit(PacketPtr packet, const IpAddress&) override { sent.push_back(packet->ToString()); }
  std::deque<std::string> sent;
};

class TestObserver final : public Observer {
 public:
  void OnEvents(uint32_t e) override { events |= e; }
  uint32_t events = 0;
};

inline IpAddress Ip(const char* text) {
  in_addr v4;
  in6_addr v6;
  if (inet_pton(AF_INET, text, &v4) == 1) return IpAddress::V4Bytes(&v4);
  inet_pton(AF_INET6, text, &v6);
  return IpAddress::V6Bytes(&v6);
}

inline RefPtr<Stack> NewStack(TestClock& clock, uint64_t seed) {
  auto stack = MakeRef<Stack>(MakeRef<TestEnvironment>(clock, seed));
  (void)stack->Change([](Config& config) { return config.SetUp(1, true); }).ok();
  return stack;
}

inline uint32_t AddLink(Stack& stack, RefPtr<Link> link, const char* address, int prefix, uint32_t mtu = 1500) {
  Interface eth;
  eth.name = "eth0";
  eth.flags = IFF_BROADCAST | IFF_MULTICAST;
  eth.mtu = mtu;
  eth.type = 1;
  eth.link = std::move(link);
  const uint32_t index = stack.AddInterface(std::move(eth));
  (void)stack
      .Change([&](Config& config) -> Result<void> {
        TRY(config.SetUp(index, true));
        return config.AddAddress(index, {.ip = Ip(address), .prefix = prefix});
      })
      .ok();
  return index;
}

}  // namespace sentry::net

#endif  // SENTRY_NET_TEST_UTIL_H_
