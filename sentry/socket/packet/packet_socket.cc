// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/packet/packet_socket.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <map>

#include "sentry/mm/memory_manager.h"
#include "sentry/socket/environment.h"
#include "sentry/socket/inet/inet_socket.h"
#include "sentry/socket/inet/stacks.h"
#include "sentry/socket/packet/address.h"
#include "sentry/socket/packet/rx_ring.h"

namespace sentry::socket {
namespace {

constexpr size_t kEthernetHeader = PacketEndpoint::kEthernetHeader;
constexpr size_t kAddressSize = offsetof(sockaddr_ll, sll_addr) + 6;
constexpr uint32_t kMaxReserve = 32768;
constexpr size_t kMaxMemberships = 1024;
constexpr int kIgnoreOutgoing = 23;  // PACKET_IGNORE_OUTGOING

class PacketSocket final : public Socket {
 public:
  PacketSocket(vfs::Path path, int flags, int type, int protocol, RefPtr<net::Stack> stack)
      : Socket(std::move(path), flags, AF_PACKET, type, protocol),
        endpoint_(MakeRef<PacketEndpoint>(*stack, type == SOCK_DGRAM)),
        events_(MakeRef<SocketEvents>()) {
    events_->set_file(this);
    endpoint_->set_observer(events_);
    endpoint_->Bind(ntohs(static_cast<uint16_t>(protocol)), 0);
  }
  ~PacketSocket() override {
    events_->set_file(nullptr);
    endpoint_->Close();
  }

  Result<void> Bind(std::string_view address) override;
  Result<std::string> GetName() override;
  Result<std::string> GetPeer() override { return Errno(EOPNOTSUPP); }
  Result<size_t> Send(SendRequest& request) override;
  Result<size_t> Receive(ReceiveRequest& request) override;
  EventMask Poll() override { return endpoint_->Poll() | (error_ ? EventMask{EPOLLERR} : 0); }
  WaitQueue* wait_queue() override { return &events_->queue(); }
  bool RaisesSigpipe() const override { return false; }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override;
  Result<void> SetOption(int level, int name, std::string_view value) override;
  Result<std::string> GetOption(int level, int name) override { return QueryOption(level, name, {}); }
  Result<std::string> QueryOption(int level, int name, std::string_view input) override;
  Result<void> OnSetFlags(int flags) override {
    events_->set_async(flags & O_ASYNC);
    return OkResult();
  }
  Result<void> ConfigureMmap(mm::MmapRequest& request) override;

 private:
  void OnOptionSet(int) override { endpoint_->set_receive_buffer(static_cast<size_t>(options().receive_buffer)); }
  Result<void> AttachFilter(std::vector<sock_filter> program) override;
  Result<void> DetachFilter() override;
  int TakeError() override { return error_.exchange(0); }
  bool cooked() const { return endpoint_->cooked(); }
  Result<void> SetRing(std::string_view value);
  Result<void> ChangeMembership(std::string_view value, bool add);

  const RefPtr<PacketEndpoint> endpoint_;
  const RefPtr<SocketEvents> events_;
  std::atomic<int> error_{0};
  std::atomic<int> version_{TPACKET_V1}, auxiliary_{0}, original_device_{0}, loss_{0}, timestamp_{0};
  std::atomic<uint32_t> reserve_{0};
  Mutex mu_;
  bool filtered_ ABSL_GUARDED_BY(mu_) = false;
  RefPtr<RxRing> ring_ ABSL_GUARDED_BY(mu_);
  // Promiscuous mode and the like, which there is nothing to do for: all frames of a link are seen. Counted all the
  // same.
  std::map<std::string, int> memberships_ ABSL_GUARDED_BY(mu_);
};

Result<sockaddr_ll> Parse(std::string_view bytes) {
  sockaddr_ll address = {};
  if (bytes.size() < sizeof address - 2) return Errno(EINVAL);  // as Linux: the hardware address's last bytes may lack
  memcpy(&address, bytes.data(), std::min(bytes.size(), sizeof address));
  if (address.sll_family != AF_PACKET) return Errno(EINVAL);
  return address;
}

Result<void> PacketSocket::Bind(std::string_view bytes) {
  if (bytes.size() < sizeof(sockaddr_ll)) return Errno(EINVAL);
  const sockaddr_ll address = TRY(Parse(bytes));
  const auto index = static_cast<uint32_t>(address.sll_ifindex);
  if (address.sll_ifindex < 0) return Errno(ENODEV);
  const auto config = endpoint_->stack().config();
  const net::Interface* interface = index ? config->Find(index) : nullptr;
  if (index && !interface) return Errno(ENODEV);
  const uint16_t protocol = address.sll_protocol ? ntohs(address.sll_protocol) : endpoint_->protocol();
  endpoint_->Bind(protocol, index);
  if (interface && !interface->IsUp()) error_ = ENETDOWN;
  return OkResult();
}

Result<std::string> PacketSocket::GetName() {
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(endpoint_->protocol());
  address.sll_ifindex = static_cast<int>(endpoint_->interface());
  const auto config = endpoint_->stack().config();
  const net::Interface* interface = config->Find(endpoint_->interface());
  if (interface) {
    address.sll_hatype = interface->type;
    address.sll_halen = 6;
    memcpy(address.sll_addr, interface->hardware_address.data(), 6);
  }
  return OptionBytes(&address, interface ? kAddressSize : offsetof(sockaddr_ll, sll_addr));
}

Result<size_t> PacketSocket::Send(SendRequest& request) {
  if (request.flags & MSG_OOB) return Errno(EINVAL);
  auto index = endpoint_->interface();
  uint16_t protocol = htons(endpoint_->protocol());
  sockaddr_ll to = {};
  if (!request.address.empty()) {
    to = TRY(Parse(request.address));
    index = static_cast<uint32_t>(to.sll_ifindex);
    protocol = to.sll_protocol;
  }
  const auto config = endpoint_->stack().config();
  const net::Interface* out = config->Find(index);
  if (!out) return Errno(ENXIO);
  if (!out->IsUp()) return Errno(ENETDOWN);
  const size_t length = request.data.remaining();
  const size_t in_front = cooked() ? 0 : kEthernetHeader;
  if (length < in_front) return Errno(EINVAL);
  if (length - in_front > out->mtu) return Errno(EMSGSIZE);
  std::string bytes(length, '\0');
  if (length && TRY(request.data.Take(bytes.data(), length)) < length) return Errno(EFAULT);
  uint8_t header[kEthernetHeader];
  if (cooked()) {
    if (request.address.empty()) to.sll_halen = 0;
    if (!request.address.empty() && to.sll_halen < 6) return Errno(EINVAL);
    memcpy(header, to.sll_addr, 6);
    memcpy(header + 6, out->hardware_address.data(), 6);
    memcpy(header + 12, &protocol, 2);
  } else {
    memcpy(header, bytes.data(), sizeof header);
  }
  net::Buffer rest = net::Buffer::Copy(bytes.data() + in_front, length - in_front);
  if (rest.size() != length - in_front) return Errno(ENOBUFS);
  TRY(endpoint_->Send(index, header, std::move(rest)));
  return length;
}

Result<size_t> PacketSocket::Receive(ReceiveRequest& request) {
  if (request.flags & (MSG_OOB | MSG_ERRQUEUE)) return Errno(request.flags & MSG_OOB ? EINVAL : EAGAIN);
  if (int error = TakeError()) return Errno(error);
  const CapturedFrame frame = TRY(endpoint_->Receive(request.flags & MSG_PEEK));
  const size_t skipped = cooked() ? kEthernetHeader : 0;
  const size_t here = std::min<size_t>(frame.kept, request.data.remaining());
  std::string bytes(skipped + here, '\0');
  frame.packet->CopyTo(bytes.data(), bytes.size());
  if (here) TRY(request.data.Put(bytes.data() + skipped, here));
  if (here < frame.kept) request.message_flags |= MSG_TRUNC;
  const sockaddr_ll address = PacketAddressOf(frame);
  request.address = OptionBytes(&address, kAddressSize);
  if (options().timestamp) {
    const timeval time = {frame.realtime_ns / base::kNsPerSecond, frame.realtime_ns % base::kNsPerSecond / 1000};
    request.control.push_back({SOL_SOCKET, SO_TIMESTAMP, OptionBytes(&time, sizeof time)});
  } else if (options().timestamp_ns) {
    const timespec time = base::ToTimespec(frame.realtime_ns);
    request.control.push_back({SOL_SOCKET, SO_TIMESTAMPNS, OptionBytes(&time, sizeof time)});
  }
  if (auxiliary_) {
    tpacket_auxdata data = {};
    data.tp_status = TP_STATUS_USER | (frame.checksum_missing ? TP_STATUS_CSUMNOTREADY : 0);
    data.tp_len = static_cast<uint32_t>(frame.packet->size() - skipped);
    data.tp_snaplen = frame.kept;
    data.tp_net = cooked() ? 0 : kEthernetHeader;
    request.control.push_back({SOL_PACKET, PACKET_AUXDATA, OptionBytes(&data, sizeof data)});
  }
  return request.flags & MSG_TRUNC ? frame.kept : here;
}

Result<int64_t> PacketSocket::Ioctl(unsigned request, uint64_t argument) {
  int value = 0;
  switch (request) {
    case SIOCOUTQ:
      break;
    case SIOCINQ:
      value = static_cast<int>(endpoint_->FirstLength());
      break;
    default:
      return InterfaceIoctl(endpoint_->stack(), HasNetCapability(CAP_NET_ADMIN), request, argument);
  }
  TRY(Caller::Current().CopyOut(UserAddr(argument), value));
  return 0;
}

Result<void> PacketSocket::AttachFilter(std::vector<sock_filter> program) {
  std::vector<bpf::Instruction> instructions(program.size());
  static_assert(sizeof(bpf::Instruction) == sizeof(sock_filter));
  memcpy(static_cast<void*>(instructions.data()), program.data(), program.size() * sizeof(sock_filter));
  endpoint_->SetFilter(TRY(net::Filter::Create(std::move(instructions))));
  MutexLock lock(mu_);
  filtered_ = true;
  return OkResult();
}

Result<void> PacketSocket::DetachFilter() {
  endpoint_->SetFilter(nullptr);
  MutexLock lock(mu_);
  if (!std::exchange(filtered_, false)) return Errno(ENOENT);
  return OkResult();
}

Result<void> PacketSocket::SetRing(std::string_view value) {
  const int version = version_;
  tpacket_req3 request = {};
  const size_t size = version == TPACKET_V3 ? sizeof(tpacket_req3) : sizeof(tpacket_req);
  if (value.size() < size) return Errno(EINVAL);
  memcpy(&request, value.data(), size);
  // Memory comes and goes without the lock.
  RefPtr<RxRing> ring;
  if (request.tp_block_nr == 0) {
    if (request.tp_frame_nr) return Errno(EINVAL);
  } else {
    ring = TRY(RxRing::Create(version, request, reserve_, cooked()));
  }
  RefPtr<FrameRing> shown(ring);
  {
    MutexLock lock(mu_);
    if (ring && ring_) return Errno(EBUSY);
    std::swap(ring_, ring);
  }
  endpoint_->SetRing(std::move(shown));
  return OkResult();
}

Result<void> PacketSocket::ConfigureMmap(mm::MmapRequest& request) {
  MutexLock lock(mu_);
  if (!ring_ || request.offset != 0 || request.length != ring_->memory()->length()) return Errno(EINVAL);
  request.object = ring_->memory()->object();
  return OkResult();
}

Result<void> PacketSocket::ChangeMembership(std::string_view value, bool add) {
  packet_mreq request;
  if (value.size() < sizeof request) return Errno(EINVAL);
  memcpy(&request, value.data(), sizeof request);
  if (request.mr_alen > sizeof request.mr_address || request.mr_type > PACKET_MR_UNICAST) return Errno(EINVAL);
  if (add && !endpoint_->stack().config()->Find(static_cast<uint32_t>(request.mr_ifindex))) return Errno(ENODEV);
  const std::string key(value.substr(0, sizeof request));
  MutexLock lock(mu_);
  if (add) {
    if (memberships_.size() >= kMaxMemberships) return Errno(ENOBUFS);
    ++memberships_[key];
    return OkResult();
  }
  auto it = memberships_.find(key);
  // As on Linux, one that was not there is no error.
  if (it != memberships_.end() && --it->second == 0) memberships_.erase(it);
  return OkResult();
}

Result<void> PacketSocket::SetOption(int level, int name, std::string_view value) {
  if (level != SOL_PACKET) return level == SOL_SOCKET ? Socket::SetOption(level, name, value) : Errno(ENOPROTOOPT);
  switch (name) {
    case PACKET_ADD_MEMBERSHIP:
    case PACKET_DROP_MEMBERSHIP:
      return ChangeMembership(value, name == PACKET_ADD_MEMBERSHIP);
    case PACKET_RX_RING:
      return SetRing(value);
  }
  const int number = TRY(OptionInt(value));
  const auto has_ring = [&] {
    MutexLock lock(mu_);
    return ring_ != nullptr;
  };
  switch (name) {
    case PACKET_VERSION:
      if (number != TPACKET_V1 && number != TPACKET_V2 && number != TPACKET_V3) return Errno(EINVAL);
      if (has_ring()) return Errno(EBUSY);
      version_ = number;
      return OkResult();
    case PACKET_RESERVE:
      if (number < 0 || static_cast<uint32_t>(number) > kMaxReserve) return Errno(EINVAL);
      if (has_ring()) return Errno(EBUSY);
      reserve_ = static_cast<uint32_t>(number);
      return OkResult();
    case PACKET_AUXDATA:
      auxiliary_ = number != 0;
      return OkResult();
    case PACKET_ORIGDEV:
      original_device_ = number != 0;
      return OkResult();
    case PACKET_LOSS:
      if (has_ring()) return Errno(EBUSY);
      loss_ = number != 0;
      return OkResult();
    case PACKET_TIMESTAMP:
      timestamp_ = number;
      return OkResult();
    case PACKET_COPY_THRESH:
    case PACKET_QDISC_BYPASS:
      return OkResult();
    case kIgnoreOutgoing:
      if (number < 0 || number > 1) return Errno(EINVAL);
      endpoint_->set_ignore_outgoing(number != 0);
      return OkResult();
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<std::string> PacketSocket::QueryOption(int level, int name, std::string_view input) {
  if (level != SOL_PACKET) {
    if (level != SOL_SOCKET) return Errno(ENOPROTOOPT);
    return Socket::GetOption(level, name);
  }
  switch (name) {
    case PACKET_STATISTICS: {
      const PacketEndpoint::Counts counts = endpoint_->TakeCounts();
      const tpacket_stats_v3 stats = {.tp_packets = counts.seen, .tp_drops = counts.lost, .tp_freeze_q_cnt = 0};
      return OptionBytes(&stats, version_ == TPACKET_V3 ? sizeof stats : sizeof(tpacket_stats));
    }
    case PACKET_HDRLEN:
      switch (TRY(OptionInt(input))) {
        case TPACKET_V1:
          return OptionBytes(static_cast<int>(sizeof(tpacket_hdr)));
        case TPACKET_V2:
          return OptionBytes(static_cast<int>(sizeof(tpacket2_hdr)));
        case TPACKET_V3:
          return OptionBytes(static_cast<int>(sizeof(tpacket3_hdr)));
        default:
          return Errno(EINVAL);
      }
    case PACKET_VERSION:
      return OptionBytes(version_);
    case PACKET_RESERVE:
      return OptionBytes(static_cast<int>(reserve_));
    case PACKET_AUXDATA:
      return OptionBytes(auxiliary_);
    case PACKET_ORIGDEV:
      return OptionBytes(original_device_);
    case PACKET_LOSS:
      return OptionBytes(loss_);
    case PACKET_TIMESTAMP:
      return OptionBytes(timestamp_);
    case kIgnoreOutgoing:
      return OptionBytes(int{endpoint_->ignores_outgoing()});
    default:
      return Errno(ENOPROTOOPT);
  }
}

Result<vfs::FileRef> Create(int type, int protocol, int flags) {
  if (!HasNetCapability(CAP_NET_RAW)) return Errno(EPERM);
  if (type != SOCK_RAW && type != SOCK_DGRAM) return Errno(ESOCKTNOSUPPORT);
  RefPtr<net::Stack> stack = CallersStack();
  // --network=host: the host's interfaces are shown, their frames are not.
  if (stack->is_frozen()) return Errno(EPERM);
  return vfs::FileRef(new PacketSocket(Socket::NewPath(), flags, type, protocol, std::move(stack)));
}

}  // namespace

void RegisterPacketSockets() { RegisterDomain(AF_PACKET, {.create = &Create}); }

}  // namespace sentry::socket
