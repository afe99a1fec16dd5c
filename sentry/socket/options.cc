// SPDX-License-Identifier: Apache-2.0
// SOL_SOCKET options (socket(7), net/core/sock.c): values that read back, with the limits and privileges Linux has.
#include <linux/capability.h>
#include <string.h>
#include <sys/time.h>

#include <algorithm>

#include "sentry/socket/socket.h"

namespace sentry::socket {
namespace {

constexpr int kMaxBuffer = 212992;          // net.core.[rw]mem_max
constexpr int kMaxForcedBuffer = 64 << 20;  // SO_*BUFFORCE: a bound of ours on the sentry's memory
constexpr int kMinSendBuffer = 4608, kMinReceiveBuffer = 2304;

bool Has(int capability) { return Caller::Current().creds()->HasCapability(capability); }

Result<int64_t> TimeoutOf(std::string_view value) {
  timeval tv;
  if (value.size() < sizeof tv) return Errno(EINVAL);
  memcpy(&tv, value.data(), sizeof tv);
  if (tv.tv_usec < 0 || tv.tv_usec >= 1'000'000) return Errno(EDOM);
  if (tv.tv_sec < 0) return int64_t{0};
  if (tv.tv_sec == 0 && tv.tv_usec == 0) return kNoDeadline;
  if (tv.tv_sec >= INT64_MAX / base::kNsPerSecond) return kNoDeadline;
  return tv.tv_sec * base::kNsPerSecond + tv.tv_usec * 1000;
}

std::string TimeoutBytes(int64_t ns) {
  timeval tv = {};
  if (ns != kNoDeadline) tv = {ns / base::kNsPerSecond, ns % base::kNsPerSecond / 1000};
  return OptionBytes(&tv, sizeof tv);
}

int BufferSize(int value, bool force, int minimum) {
  value = force ? std::clamp(value, 0, kMaxForcedBuffer / 2)
                : static_cast<int>(std::min(static_cast<unsigned>(value), static_cast<unsigned>(kMaxBuffer)));
  return std::max(value * 2, minimum);
}

}  // namespace

Result<int> OptionInt(std::string_view value) {
  int number;
  if (value.size() < sizeof number) return Errno(EINVAL);
  memcpy(&number, value.data(), sizeof number);
  return number;
}

std::string OptionBytes(const void* data, size_t length) { return std::string(static_cast<const char*>(data), length); }

// Options that are one int; a boolean one keeps 0 or 1.
struct Socket::IntOption {
  int name;
  std::atomic<int> Options::*value;
  bool is_boolean;
};

const Socket::IntOption Socket::kIntOptions[] = {
    {SO_DEBUG, &Options::debug, true},
    {SO_REUSEADDR, &Options::reuse_address, true},
    {SO_REUSEPORT, &Options::reuse_port, true},
    {SO_KEEPALIVE, &Options::keep_alive, true},
    {SO_BROADCAST, &Options::broadcast, true},
    {SO_OOBINLINE, &Options::oob_inline, true},
    {SO_DONTROUTE, &Options::dont_route, true},
    {SO_NO_CHECK, &Options::no_check, true},
    {SO_TIMESTAMP, &Options::timestamp, true},
    {SO_TIMESTAMPNS, &Options::timestamp_ns, true},
    {SO_PASSCRED, &Options::pass_creds, true},
    {SO_PASSSEC, &Options::pass_security, true},
    {SO_RXQ_OVFL, &Options::receive_queue_overflow, true},
    {SO_WIFI_STATUS, &Options::wifi_status, true},
    {SO_LOCK_FILTER, &Options::lock_filter, true},
    {SO_MARK, &Options::mark, false},
    {SO_INCOMING_CPU, &Options::incoming_cpu, false},
};

const Socket::IntOption* Socket::FindIntOption(int name) {
  for (const IntOption& option : kIntOptions) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

Result<void> Socket::SetOption(int level, int name, std::string_view value) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  if (name == SO_LINGER) {
    linger setting;
    TRY(OptionInt(value));
    if (value.size() < sizeof setting) return Errno(EINVAL);
    memcpy(&setting, value.data(), sizeof setting);
    options_.linger_on = setting.l_onoff != 0;
    if (setting.l_onoff) options_.linger_seconds = setting.l_linger;
    return OkResult();
  }
  if (name == SO_BINDTODEVICE) return Errno(domain_ == AF_UNIX ? EOPNOTSUPP : ENODEV);
  int number = TRY(OptionInt(value));
  if (const IntOption* option = FindIntOption(name)) {
    if (name == SO_DEBUG && number != 0 && !Has(CAP_NET_ADMIN)) return Errno(EACCES);
    if (name == SO_MARK && !HasNetCapability(CAP_NET_RAW) && !HasNetCapability(CAP_NET_ADMIN)) return Errno(EPERM);
    if (name == SO_LOCK_FILTER && number == 0 && options_.lock_filter) return Errno(EPERM);
    (options_.*option->value) = option->is_boolean ? number != 0 : number;
    OnOptionSet(name);
    return OkResult();
  }
  switch (name) {
    case SO_SNDBUF:
    case SO_SNDBUFFORCE:
      if (name == SO_SNDBUFFORCE && !Has(CAP_NET_ADMIN)) return Errno(EPERM);
      options_.send_buffer = BufferSize(number, name == SO_SNDBUFFORCE, kMinSendBuffer);
      break;
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
      if (name == SO_RCVBUFFORCE && !Has(CAP_NET_ADMIN)) return Errno(EPERM);
      options_.receive_buffer = BufferSize(number, name == SO_RCVBUFFORCE, kMinReceiveBuffer);
      break;
    case SO_PRIORITY:
      if ((number < 0 || number > 6) && !HasNetCapability(CAP_NET_RAW) && !HasNetCapability(CAP_NET_ADMIN)) {
        return Errno(EPERM);
      }
      options_.priority = number;
      break;
    case SO_RCVLOWAT:
      options_.receive_low_water = number < 0 ? INT32_MAX : std::max(number, 1);
      break;
    case SO_RCVTIMEO:
      options_.receive_timeout_ns = TRY(TimeoutOf(value));
      return OkResult();
    case SO_SNDTIMEO:
      options_.send_timeout_ns = TRY(TimeoutOf(value));
      return OkResult();
    case SO_BUSY_POLL:
      if (number < 0) return Errno(EINVAL);
      if (number > options_.busy_poll && !Has(CAP_NET_ADMIN)) return Errno(EPERM);
      options_.busy_poll = number;
      break;
    case SO_DETACH_FILTER:
      if (options_.lock_filter) return Errno(EPERM);
      return DetachFilter();
    case SO_ATTACH_FILTER:
      return SetFilter(value);
    case SO_ATTACH_BPF:
    case SO_ZEROCOPY:
      return Errno(EOPNOTSUPP);
    case SO_TYPE:
    case SO_PROTOCOL:
    case SO_DOMAIN:
    case SO_ERROR:
    default:
      return Errno(ENOPROTOOPT);
  }
  OnOptionSet(name);
  return OkResult();
}

Result<void> Socket::SetFilter(std::string_view value) {
  struct Program {  // sock_fprog, laid out
    uint16_t length;
    uint64_t filter;
  } program;
  if (value.size() != sizeof program) return Errno(EINVAL);
  memcpy(&program, value.data(), sizeof program);
  if (options_.lock_filter) return Errno(EPERM);
  if (!program.filter || program.length == 0 || program.length > BPF_MAXINSNS) return Errno(EINVAL);
  std::vector<sock_filter> instructions(program.length);
  TRY(Caller::Current().CopyInBytes(UserAddr(program.filter), instructions.data(),
                                    instructions.size() * sizeof(sock_filter)));
  return AttachFilter(std::move(instructions));
}

Result<std::string> Socket::GetOption(int level, int name) {
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  if (const IntOption* option = FindIntOption(name)) return OptionBytes((options_.*option->value).load());
  switch (name) {
    case SO_SNDBUF:
      return OptionBytes(options_.send_buffer);
    case SO_RCVBUF:
      return OptionBytes(options_.receive_buffer);
    case SO_PRIORITY:
      return OptionBytes(options_.priority);
    case SO_RCVLOWAT:
      return OptionBytes(options_.receive_low_water);
    case SO_SNDLOWAT:
      return OptionBytes(1);
    case SO_RCVTIMEO:
      return TimeoutBytes(options_.receive_timeout_ns);
    case SO_SNDTIMEO:
      return TimeoutBytes(options_.send_timeout_ns);
    case SO_BUSY_POLL:
      return OptionBytes(options_.busy_poll);
    case SO_ZEROCOPY:
      return OptionBytes(options_.zero_copy);
    case SO_LINGER: {
      linger setting = {options_.linger_on, options_.linger_seconds};
      return OptionBytes(&setting, sizeof setting);
    }
    case SO_TYPE:
      return OptionBytes(type_);
    case SO_DOMAIN:
      return OptionBytes(domain_);
    case SO_PROTOCOL:
      return OptionBytes(protocol_);
    case SO_ERROR:
      return OptionBytes(TakeError());
    case SO_ACCEPTCONN:
      return OptionBytes(IsListening());
    case SO_GET_FILTER:
      return std::string();
    case SO_COOKIE: {
      uint64_t cookie = TRY(inode()->GetStat()).ino;
      return OptionBytes(&cookie, sizeof cookie);
    }
    default:
      return Errno(ENOPROTOOPT);
  }
}

}  // namespace sentry::socket
