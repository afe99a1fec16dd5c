// SPDX-License-Identifier: Apache-2.0
// Counters of a stack as /proc/net/snmp and netstat name them (RFC 1213, RFC 2012, linux/snmp.h). Lock-free.
#ifndef SENTRY_NET_STATISTICS_H_
#define SENTRY_NET_STATISTICS_H_

#include <atomic>
#include <cstdint>

namespace sentry::net {

using Counter = std::atomic<uint64_t>;
inline void Count(Counter& counter, uint64_t n = 1) { counter.fetch_add(n, std::memory_order_relaxed); }

struct IpStatistics {
  Counter in_receives{0}, in_header_errors{0}, in_address_errors{0}, in_unknown_protocols{0}, in_discards{0},
      in_delivers{0}, out_requests{0}, out_discards{0}, out_no_routes{0}, reassembly_timeouts{0},
      reassembly_requests{0}, reassembly_oks{0}, reassembly_fails{0}, fragment_oks{0}, fragment_fails{0},
      fragment_creates{0}, in_octets{0}, out_octets{0}, forwarded{0}, in_no_routes{0};
};

struct IcmpStatistics {
  Counter in_messages{0}, in_errors{0}, in_checksum_errors{0}, out_messages{0}, out_errors{0}, in_echos{0},
      in_echo_replies{0}, out_echo_replies{0}, in_unreachables{0}, out_unreachables{0}, in_time_exceeded{0},
      out_rate_limited{0};
};

struct TcpStatistics {
  Counter active_opens{0}, passive_opens{0}, attempt_fails{0}, established_resets{0}, in_segments{0}, out_segments{0},
      retransmitted_segments{0}, in_errors{0}, out_resets{0}, in_checksum_errors{0};
  std::atomic<int64_t> current_established{0};
  // TcpExt.
  Counter listen_overflows{0}, listen_drops{0}, time_wait{0}, delayed_acks{0}, fast_retransmits{0}, timeouts{0},
      loss_probes{0}, sack_recoveries{0}, reno_recoveries{0}, paws_rejected{0}, challenge_acks{0}, pure_acks{0},
      predicted{0}, out_of_order_queued{0}, out_of_order_dropped{0}, abort_on_data{0}, abort_on_close{0},
      abort_on_timeout{0}, abort_on_linger{0}, abort_on_memory{0}, duplicate_sacks{0}, keep_alives{0},
      receive_collapsed{0}, zero_window_drops{0}, time_wait_reused{0}, lost_retransmits{0};
};

struct UdpStatistics {
  Counter in_datagrams{0}, no_ports{0}, in_errors{0}, out_datagrams{0}, receive_buffer_errors{0}, send_buffer_errors{0},
      in_checksum_errors{0};
};

struct Statistics {
  IpStatistics ip4, ip6;
  IcmpStatistics icmp4, icmp6;
  TcpStatistics tcp;
  UdpStatistics udp4, udp6, udplite4, udplite6;
};

}  // namespace sentry::net

#endif  // SENTRY_NET_STATISTICS_H_
