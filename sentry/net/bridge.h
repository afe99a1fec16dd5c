// SPDX-License-Identifier: Apache-2.0
// A learning bridge (IEEE 802.1D without the spanning tree) between devices of one stack, which has a port of its own:
// the interface that the bridge is. Thread-safe.
#ifndef SENTRY_NET_BRIDGE_H_
#define SENTRY_NET_BRIDGE_H_

#include <map>
#include <vector>

#include "sentry/net/virtual_device.h"

namespace sentry::net {

class Bridge final : public VirtualDevice {
 public:
  // `own`: of its own interface.
  explicit Bridge(const HardwareAddress& own) : VirtualDevice(Kind::kBridge), own_(own) {}

  // From its own interface.
  bool Send(std::span<const uint8_t> header, const Packet& packet) override;
  void set_up(bool up) override { up_.store(up, std::memory_order_relaxed); }
  void Stop(const EthernetLink& link) override;
  void Attach(RefPtr<EthernetLink> link, Stack& stack) override;

  // A frame that came in at a port. Within no lock.
  void ReceiveAt(FrameDevice* port, PacketPtr frame);
  void AddPort(RefPtr<FrameDevice> port);
  void RemovePort(FrameDevice& port);
  // What it has learned and still believes.
  size_t learned() const;

 private:
  static constexpr size_t kMaxLearned = 4096;
  static constexpr int64_t kAgeNs = 300'000 * kNsPerMs;  // ageing_time
  struct Learned {
    FrameDevice* port;
    int64_t seen_ns;
  };
  // Where a frame goes; empty: to nobody. `from` null: the own interface's.
  std::vector<RefPtr<FrameDevice>> Targets(const HardwareAddress& to, FrameDevice* from) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Learn(const HardwareAddress& from, FrameDevice* port, int64_t now_ns) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const HardwareAddress own_;
  std::atomic<bool> up_{false};
  mutable Mutex mu_{LockRank::kNetDevice};
  std::vector<RefPtr<FrameDevice>> ports_ ABSL_GUARDED_BY(mu_);
  std::map<HardwareAddress, Learned> table_ ABSL_GUARDED_BY(mu_);
  RefPtr<EthernetLink> link_ ABSL_GUARDED_BY(mu_);
  Stack* stack_ ABSL_GUARDED_BY(mu_) = nullptr;  // of the link
};

}  // namespace sentry::net

#endif  // SENTRY_NET_BRIDGE_H_
