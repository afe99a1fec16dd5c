// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/inet/proc_net.h"

#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "sentry/net/datagram.h"
#include "sentry/net/ethernet.h"
#include "sentry/net/tcp/tcp_endpoint.h"

namespace sentry::socket {
namespace {

[[gnu::format(printf, 2, 3)]] void Add(std::string& text, const char* format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  text += line;
}

// An address as these files have it: its words in the machine's order.
std::string Hex(const net::IpAddress& ip, bool v6) {
  char text[40];
  uint32_t words[4];
  if (!v6) {
    uint32_t word = 0;
    if (ip.IsV4()) memcpy(&word, ip.v4_bytes(), 4);
    snprintf(text, sizeof text, "%08X", word);
    return text;
  }
  memcpy(words, ip.v6_bytes(), 16);
  snprintf(text, sizeof text, "%08X%08X%08X%08X", words[0], words[1], words[2], words[3]);
  return text;
}

std::string Padded(std::string line, size_t width) {
  if (line.size() < width) line.resize(width, ' ');
  return line + "\n";
}

constexpr size_t kTcpWidth = 149, kUdpWidth = 127;
constexpr long kTicksPerSecond = 100;

std::string TcpTable(net::Stack& stack, bool v6) {
  std::string text =
      v6 ? "  sl  local_address                         remote_address                        st tx_queue "
           "rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
         : Padded(
               "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
               "timeout inode",
               kTcpWidth);
  int number = 0;
  const auto add = [&](const net::TcpEndpoint& e) {
    if (e.is_v6() != v6) return;
    const net::TcpEndpoint::Snapshot s = e.TakeSnapshot();
    if (s.state == net::TcpState::kClosed) return;
    const bool listening = s.state == net::TcpState::kListen;
    std::string line;
    Add(line, "%4d: %s:%04X %s:%04X %02X %08zX:%08zX %02X:%08llX %08X %5u %8d %llu %d %016X %d %d %d %d %d", number++,
        Hex(s.local.ip, v6).c_str(), s.local.port, Hex(s.remote.ip, v6).c_str(), s.remote.port,
        static_cast<unsigned>(s.state), listening ? size_t{0} : s.send_queue, s.receive_queue,
        static_cast<unsigned>(s.timer),
        static_cast<unsigned long long>(s.timer_ns * kTicksPerSecond / base::kNsPerSecond), s.retransmits,
        e.file_owner.load(), 0, static_cast<unsigned long long>(e.file_inode.load()), 1, 0,
        listening ? 100 : static_cast<int>(s.rto_ms / 10), listening ? 0 : static_cast<int>(s.ato_ms / 10), 0,
        listening ? 10 : static_cast<int>(s.cwnd), s.ssthresh);
    text += v6 ? line + "\n" : Padded(line, kTcpWidth);
  };
  for (const auto& endpoint : stack.tcp().ports().All(true)) add(static_cast<net::TcpEndpoint&>(*endpoint));
  stack.tcp().ForEach([&](net::TcpHandler& handler) {
    if (const net::TcpEndpoint* e = handler.AsConnection()) {
      add(*e);
      return;
    }
    if (handler.is_v6() != v6) return;
    const net::FourTuple& t = handler.AsTimeWait()->state().tuple;
    std::string line;
    Add(line, "%4d: %s:%04X %s:%04X %02X %08X:%08X %02X:%08X %08X %5d %8d %d %d %016X", number++,
        Hex(t.local, v6).c_str(), t.local_port, Hex(t.remote, v6).c_str(), t.remote_port, 6, 0, 0, 3, 0, 0, 0, 0, 0, 3,
        0);
    text += v6 ? line + "\n" : Padded(line, kTcpWidth);
  });
  return text;
}

std::string DatagramLine(const net::DatagramEndpoint& e, bool v6, int number) {
  const net::SocketAddress local = e.local();
  const auto remote = e.remote();
  std::string line;
  Add(line, "%5d: %s:%04X %s:%04X %02X %08X:%08zX %02X:%08X %08X %5u %8d %llu %d %016X %llu", number,
      Hex(local.ip, v6).c_str(), local.port, Hex(remote ? remote->ip : net::IpAddress::Any(!v6), v6).c_str(),
      remote ? remote->port : 0, remote ? 1u : 7u, 0u, e.QueuedBytes(), 0u, 0u, 0u, e.file_owner.load(), 0,
      static_cast<unsigned long long>(e.file_inode.load()), 2, 0, static_cast<unsigned long long>(e.drops()));
  return v6 ? line + "\n" : Padded(line, kUdpWidth);
}

std::string DatagramHeader(bool v6) {
  return v6 ? "  sl  local_address                         remote_address                        st tx_queue rx_queue "
              "tr "
              "tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
            : Padded(
                  "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
                  "inode ref pointer drops",
                  kUdpWidth);
}

std::string UdpTable(net::Stack& stack, bool v6) {
  std::string text = DatagramHeader(v6);
  for (const auto& endpoint : stack.udp_ports().All(false)) {
    const auto& e = static_cast<net::DatagramEndpoint&>(*endpoint);
    if (e.is_v6() == v6) text += DatagramLine(e, v6, e.local().port);
  }
  return text;
}

std::string RawTable(net::Stack& stack, bool v6) {
  std::string text = DatagramHeader(v6);
  for (const auto& endpoint : stack.RawEndpoints()) {
    if (endpoint->is_v6() == v6) text += DatagramLine(*endpoint, v6, endpoint->protocol());
  }
  return text;
}

struct Field {
  const char* name;
  long long value;
};

std::string Fields(const char* group, std::initializer_list<Field> fields) {
  std::string names = group, values = group;
  names += ":";
  values += ":";
  for (const Field& f : fields) {
    names += std::string(" ") + f.name;
    values += " " + std::to_string(f.value);
  }
  return names + "\n" + values + "\n";
}

long long V(const net::Counter& c) { return static_cast<long long>(c.load(std::memory_order_relaxed)); }

}  // namespace

std::string ProcNetTcp(net::Stack& stack) { return TcpTable(stack, false); }
std::string ProcNetTcp6(net::Stack& stack) { return TcpTable(stack, true); }
std::string ProcNetUdp(net::Stack& stack) { return UdpTable(stack, false); }
std::string ProcNetUdp6(net::Stack& stack) { return UdpTable(stack, true); }
std::string ProcNetRaw(net::Stack& stack) { return RawTable(stack, false); }
std::string ProcNetRaw6(net::Stack& stack) { return RawTable(stack, true); }

std::string ProcNetDev(net::Stack& stack) {
  std::string text =
      "Inter-|   Receive                                                |  Transmit\n"
      " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
      "compressed\n";
  for (const net::Interface& i : stack.config()->interfaces) {
    const net::LinkStatistics& s = i.link->statistics();
    Add(text, "%6s: %7lld %7lld %4d %4lld %4d %5d %10d %9d %8lld %7lld %4d %4lld %4d %5d %7d %10d\n", i.name.c_str(),
        V(s.rx_bytes), V(s.rx_packets), 0, V(s.rx_dropped), 0, 0, 0, 0, V(s.tx_bytes), V(s.tx_packets), 0,
        V(s.tx_dropped), 0, 0, 0, 0);
  }
  return text;
}

std::string ProcNetArp(net::Stack& stack) {
  std::string text = "IP address       HW type     Flags       HW address            Mask     Device\n";
  for (const net::Interface& i : stack.config()->interfaces) {
    for (const net::Neighbour& n : i.link->Neighbours()) {
      if (!n.ip.IsV4()) continue;
      using State = net::Neighbour::State;
      // ATF_COM, ATF_PERM.
      const unsigned flags = n.state == State::kIncomplete || n.state == State::kFailed ? 0u
                             : n.state == State::kPermanent                             ? 6u
                                                                                        : 2u;
      const net::HardwareAddress& h = n.hardware;
      Add(text, "%-16s 0x%-10x0x%-10x%02x:%02x:%02x:%02x:%02x:%02x     *        %s\n", n.ip.ToString().c_str(), 1u,
          flags, h[0], h[1], h[2], h[3], h[4], h[5], i.name.c_str());
    }
  }
  return text;
}

std::string ProcNetRoute(net::Stack& stack) {
  constexpr size_t kWidth = 127;
  std::string text =
      Padded("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT", kWidth);
  auto config = stack.config();
  for (const net::Route& r : config->routes) {
    if (!r.destination.IsV4() || r.table == RT_TABLE_LOCAL) continue;
    const net::Interface* i = config->Find(r.interface);
    const uint32_t mask = htonl(r.prefix ? ~0u << (32 - r.prefix) : 0);
    unsigned flags = 1;              // RTF_UP
    if (r.has_gateway) flags |= 2;   // RTF_GATEWAY
    if (r.prefix == 32) flags |= 4;  // RTF_HOST
    if (r.type == RTN_UNREACHABLE) flags |= 0x200;
    std::string line;
    Add(line, "%s\t%s\t%s\t%04X\t%d\t%u\t%d\t%08X\t%d\t%u\t%u", i ? i->name.c_str() : "*",
        Hex(r.destination, false).c_str(), Hex(r.has_gateway ? r.gateway : net::IpAddress::AnyV4(), false).c_str(),
        flags, 0, 0u, static_cast<int>(r.metric), mask, 0, 0u, 0u);
    text += Padded(line, kWidth);
  }
  return text;
}

std::string ProcNetRoute6(net::Stack& stack) {
  std::string text;
  auto config = stack.config();
  const auto hex = [](const net::IpAddress& ip) {
    char out[33];
    for (int i = 0; i < 16; ++i) snprintf(out + 2 * i, 3, "%02x", ip.v6_bytes()[i]);
    return std::string(out);
  };
  for (const net::Route& r : config->routes) {
    if (r.destination.IsV4()) continue;
    const net::Interface* i = config->Find(r.interface);
    const unsigned flags = 1u | (r.has_gateway ? 2u : 0u) | (r.type == RTN_LOCAL ? 0x80000000u : 0u);
    Add(text, "%s %02x %s %02x %s %08x %08x %08x %08x %8s\n", hex(r.destination).c_str(),
        static_cast<unsigned>(r.prefix), hex(net::IpAddress()).c_str(), 0u,
        hex(r.has_gateway ? r.gateway : net::IpAddress()).c_str(), r.metric, 1u, 0u, flags, i ? i->name.c_str() : "lo");
  }
  return text;
}

std::string ProcNetIfInet6(net::Stack& stack) {
  std::string text;
  for (const net::Interface& i : stack.config()->interfaces) {
    for (const net::InterfaceAddress& a : i.addresses) {
      if (a.ip.IsV4()) continue;
      for (int b = 0; b < 16; ++b) Add(text, "%02x", a.ip.v6_bytes()[b]);
      const unsigned scope = a.ip.IsLoopback() ? 0x10 : a.ip.IsLinkLocalV6() ? 0x20 : 0;
      Add(text, " %02x %02x %02x %02x %8s\n", i.index, static_cast<unsigned>(a.prefix), scope, a.flags & 0xff,
          i.name.c_str());
    }
  }
  return text;
}

std::string ProcNetSnmp(net::Stack& stack) {
  const net::Statistics& s = stack.statistics();
  const net::Settings& settings = stack.settings();
  const net::IpStatistics& ip = s.ip4;
  const net::TcpStatistics& t = s.tcp;
  std::string text = Fields("Ip", {{"Forwarding", settings.forwarding ? 1 : 2},
                                   {"DefaultTTL", settings.default_ttl},
                                   {"InReceives", V(ip.in_receives)},
                                   {"InHdrErrors", V(ip.in_header_errors)},
                                   {"InAddrErrors", V(ip.in_address_errors)},
                                   {"ForwDatagrams", V(ip.forwarded)},
                                   {"InUnknownProtos", V(ip.in_unknown_protocols)},
                                   {"InDiscards", V(ip.in_discards)},
                                   {"InDelivers", V(ip.in_delivers)},
                                   {"OutRequests", V(ip.out_requests)},
                                   {"OutDiscards", V(ip.out_discards)},
                                   {"OutNoRoutes", V(ip.out_no_routes)},
                                   {"ReasmTimeout", V(ip.reassembly_timeouts)},
                                   {"ReasmReqds", V(ip.reassembly_requests)},
                                   {"ReasmOKs", V(ip.reassembly_oks)},
                                   {"ReasmFails", V(ip.reassembly_fails)},
                                   {"FragOKs", V(ip.fragment_oks)},
                                   {"FragFails", V(ip.fragment_fails)},
                                   {"FragCreates", V(ip.fragment_creates)},
                                   {"OutTransmits", V(ip.out_requests)}});
  const net::IcmpStatistics& i = s.icmp4;
  text += Fields("Icmp", {{"InMsgs", V(i.in_messages)},
                          {"InErrors", V(i.in_errors)},
                          {"InCsumErrors", V(i.in_checksum_errors)},
                          {"InDestUnreachs", V(i.in_unreachables)},
                          {"InTimeExcds", V(i.in_time_exceeded)},
                          {"InParmProbs", 0},
                          {"InSrcQuenchs", 0},
                          {"InRedirects", 0},
                          {"InEchos", V(i.in_echos)},
                          {"InEchoReps", V(i.in_echo_replies)},
                          {"InTimestamps", 0},
                          {"InTimestampReps", 0},
                          {"InAddrMasks", 0},
                          {"InAddrMaskReps", 0},
                          {"OutMsgs", V(i.out_messages)},
                          {"OutErrors", 0},
                          {"OutRateLimitGlobal", V(i.out_rate_limited)},
                          {"OutRateLimitHost", 0},
                          {"OutDestUnreachs", V(i.out_unreachables)},
                          {"OutTimeExcds", 0},
                          {"OutParmProbs", 0},
                          {"OutSrcQuenchs", 0},
                          {"OutRedirects", 0},
                          {"OutEchos", 0},
                          {"OutEchoReps", V(i.out_echo_replies)},
                          {"OutTimestamps", 0},
                          {"OutTimestampReps", 0},
                          {"OutAddrMasks", 0},
                          {"OutAddrMaskReps", 0}});
  text += Fields("Tcp", {{"RtoAlgorithm", 1},
                         {"RtoMin", 200},
                         {"RtoMax", 120000},
                         {"MaxConn", -1},
                         {"ActiveOpens", V(t.active_opens)},
                         {"PassiveOpens", V(t.passive_opens)},
                         {"AttemptFails", V(t.attempt_fails)},
                         {"EstabResets", V(t.established_resets)},
                         {"CurrEstab", t.current_established.load()},
                         {"InSegs", V(t.in_segments)},
                         {"OutSegs", V(t.out_segments)},
                         {"RetransSegs", V(t.retransmitted_segments)},
                         {"InErrs", V(t.in_errors)},
                         {"OutRsts", V(t.out_resets)},
                         {"InCsumErrors", V(t.in_checksum_errors)}});
  for (const auto& [name, u] : {std::pair("Udp", &s.udp4), std::pair("UdpLite", &s.udplite4)}) {
    text += Fields(name, {{"InDatagrams", V(u->in_datagrams)},
                          {"NoPorts", V(u->no_ports)},
                          {"InErrors", V(u->in_errors)},
                          {"OutDatagrams", V(u->out_datagrams)},
                          {"RcvbufErrors", V(u->receive_buffer_errors)},
                          {"SndbufErrors", V(u->send_buffer_errors)},
                          {"InCsumErrors", V(u->in_checksum_errors)},
                          {"IgnoredMulti", 0},
                          {"MemErrors", 0}});
  }
  return text;
}

std::string ProcNetSnmp6(net::Stack& stack) {
  const net::Statistics& s = stack.statistics();
  std::string text;
  const auto line = [&](const char* name, const net::Counter& c) { Add(text, "%-32s\t%lld\n", name, V(c)); };
  line("Ip6InReceives", s.ip6.in_receives);
  line("Ip6InHdrErrors", s.ip6.in_header_errors);
  line("Ip6InAddrErrors", s.ip6.in_address_errors);
  line("Ip6InDiscards", s.ip6.in_discards);
  line("Ip6InDelivers", s.ip6.in_delivers);
  line("Ip6OutRequests", s.ip6.out_requests);
  line("Ip6OutNoRoutes", s.ip6.out_no_routes);
  line("Icmp6InMsgs", s.icmp6.in_messages);
  line("Icmp6InErrors", s.icmp6.in_errors);
  line("Icmp6OutMsgs", s.icmp6.out_messages);
  line("Udp6InDatagrams", s.udp6.in_datagrams);
  line("Udp6NoPorts", s.udp6.no_ports);
  line("Udp6InErrors", s.udp6.in_errors);
  line("Udp6OutDatagrams", s.udp6.out_datagrams);
  return text;
}

std::string ProcNetNetstat(net::Stack& stack) {
  const net::TcpStatistics& t = stack.statistics().tcp;
  std::string text = Fields("TcpExt", {{"SyncookiesSent", 0},
                                       {"TW", V(t.time_wait)},
                                       {"TWRecycled", V(t.time_wait_reused)},
                                       {"PAWSEstab", V(t.paws_rejected)},
                                       {"DelayedACKs", V(t.delayed_acks)},
                                       {"ListenOverflows", V(t.listen_overflows)},
                                       {"ListenDrops", V(t.listen_drops)},
                                       {"TCPSackRecovery", V(t.sack_recoveries)},
                                       {"TCPRenoRecovery", V(t.reno_recoveries)},
                                       {"TCPLostRetransmit", V(t.lost_retransmits)},
                                       {"TCPFastRetrans", V(t.fast_retransmits)},
                                       {"TCPTimeouts", V(t.timeouts)},
                                       {"TCPLossProbes", V(t.loss_probes)},
                                       {"TCPDSACKOldSent", V(t.duplicate_sacks)},
                                       {"TCPAbortOnData", V(t.abort_on_data)},
                                       {"TCPAbortOnClose", V(t.abort_on_close)},
                                       {"TCPAbortOnTimeout", V(t.abort_on_timeout)},
                                       {"TCPOFOQueue", V(t.out_of_order_queued)},
                                       {"TCPOFODrop", V(t.out_of_order_dropped)},
                                       {"TCPChallengeACK", V(t.challenge_acks)},
                                       {"TCPKeepAlive", V(t.keep_alives)},
                                       {"TCPZeroWindowDrop", V(t.zero_window_drops)}});
  const net::IpStatistics& ip = stack.statistics().ip4;
  text += Fields("IpExt", {{"InNoRoutes", V(ip.in_address_errors)},
                           {"InTruncatedPkts", 0},
                           {"InMcastPkts", 0},
                           {"OutMcastPkts", 0},
                           {"InBcastPkts", 0},
                           {"OutBcastPkts", 0},
                           {"InOctets", V(ip.in_octets)},
                           {"OutOctets", V(ip.out_octets)}});
  return text;
}

std::string ProcNetSockstat(net::Stack& stack) {
  int tcp = 0, udp = 0, lite = 0, raw = 0;
  const auto count = [](const auto& list, int& n) {
    for (const auto& e : list) n += !e->is_v6();
  };
  count(stack.tcp().ports().All(false), tcp);
  count(stack.udp_ports().All(false), udp);
  count(stack.udplite_ports().All(false), lite);
  count(stack.RawEndpoints(), raw);
  std::string text;
  const int alloc = stack.tcp().endpoint_count();
  Add(text, "sockets: used %d\n", alloc + udp + lite + raw);
  Add(text, "TCP: inuse %d orphan %d tw %d alloc %d mem %zu\n", tcp, stack.tcp().orphan_count().load(),
      stack.tcp().time_wait_count().load(), alloc, net::Block::total() / 4096);
  Add(text, "UDP: inuse %d mem 0\nUDPLITE: inuse %d\nRAW: inuse %d\nFRAG: inuse 0 memory 0\n", udp, lite, raw);
  return text;
}

}  // namespace sentry::socket
