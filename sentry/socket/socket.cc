// SPDX-License-Identifier: Apache-2.0
#include "sentry/socket/socket.h"

#include <fcntl.h>

#include "base/log.h"
#include "sentry/socket/environment.h"
#include "sentry/vfs/special_files.h"

namespace sentry::socket {
namespace {

constexpr int kFamilies = 46;  // AF_MAX
Domain domains[kFamilies];
Environment environment = {};
DeviceIoctl device_ioctl = nullptr;

}  // namespace

void SetEnvironment(const Environment& value) { environment = value; }
const Environment& GetEnvironment() { return environment; }

namespace {
RefPtr<UserNamespace> CallersNetOwner() {
  return environment.net_owner ? environment.net_owner() : RefPtr<UserNamespace>();
}
}  // namespace

bool HasNetCapability(int capability) {
  return Caller::Current().creds()->HasCapabilityIn(CallersNetOwner(), capability);
}

void RegisterDomain(int family, const Domain& domain) {
  CHECK_THAT(family >= 0 && family < kFamilies);
  domains[family] = domain;
}

const Domain* FindDomain(int family) {
  if (family < 0 || family >= kFamilies || !domains[family].create) return nullptr;
  return &domains[family];
}

void SetDeviceIoctl(DeviceIoctl handler) { device_ioctl = handler; }
Result<int64_t> CallDeviceIoctl(unsigned request, uint64_t argument) {
  if (!device_ioctl) return Errno(ENOTTY);
  return device_ioctl(request, argument);
}

Socket::Socket(vfs::Path path, int flags, int domain, int type, int protocol)
    : FileDescription(std::move(path), O_RDWR | (flags & O_NONBLOCK)),
      domain_(domain),
      type_(type),
      protocol_(protocol),
      net_owner_(CallersNetOwner()) {}

bool Socket::HasNetCapability(int capability) const {
  return Caller::Current().creds()->HasCapabilityIn(net_owner_, capability);
}

vfs::Path Socket::NewPath() { return vfs::NewAnonymousPath("socket:", S_IFSOCK | 0777, *Caller::Current().creds()); }

Result<size_t> Socket::Read(IoTarget& target) {
  if (target.remaining() == 0) return size_t{0};
  ReceiveRequest request(target);
  request.nonblocking = IsNonBlocking();
  return Receive(request);
}

Result<size_t> Socket::Write(IoSource& source) {
  SendRequest request(source, type_ == SOCK_SEQPACKET ? MSG_EOR : 0);
  return Send(request);
}

std::string Socket::LinkName() const {
  auto stat = inode()->GetStat();
  return "socket:[" + std::to_string(stat.ok() ? stat->ino : 0) + "]";
}

int64_t Socket::IoDeadline(bool is_write) {
  int64_t timeout = is_write ? send_timeout_ns() : receive_timeout_ns(), deadline;
  if (timeout == kNoDeadline || __builtin_add_overflow(base::MonotonicNs(), timeout, &deadline)) return kNoDeadline;
  return deadline;
}

}  // namespace sentry::socket
