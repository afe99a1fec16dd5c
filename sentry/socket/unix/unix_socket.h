// SPDX-License-Identifier: Apache-2.0
// UnixSocket: the file of an AF_UNIX endpoint.
#ifndef SENTRY_SOCKET_UNIX_UNIX_SOCKET_H_
#define SENTRY_SOCKET_UNIX_UNIX_SOCKET_H_

#include "sentry/socket/socket.h"
#include "sentry/socket/unix/endpoint.h"

namespace sentry::socket {

class UnixSocket final : public Socket {
 public:
  UnixSocket(vfs::Path path, int flags, RefPtr<UnixEndpoint> endpoint);
  ~UnixSocket() override;
  UnixEndpoint& endpoint() { return *endpoint_; }
  uint64_t inode_number() const { return inode_number_; }

  Result<void> Bind(std::string_view address) override { return endpoint_->Bind(address); }
  Result<void> Connect(std::string_view address, bool nonblocking, WaitOn* wait_on) override;
  Result<void> Listen(int backlog) override { return endpoint_->Listen(backlog); }
  Result<vfs::FileRef> Accept(int flags) override;
  Result<void> Shutdown(int how) override { return endpoint_->Shutdown(how); }
  Result<std::string> GetName() override { return endpoint_->Name(); }
  Result<std::string> GetPeer() override { return endpoint_->PeerName(); }
  Result<size_t> Send(SendRequest& request) override { return endpoint_->Send(request); }
  Result<size_t> Receive(ReceiveRequest& request) override;
  Result<void> SetOption(int level, int name, std::string_view value) override;
  Result<std::string> GetOption(int level, int name) override;

  Result<size_t> Read(IoTarget& target) override;
  EventMask Poll() override { return endpoint_->Poll(); }
  WaitQueue* wait_queue() override { return &endpoint_->queue(); }
  Result<int64_t> Ioctl(unsigned request, uint64_t argument) override;
  Result<void> OnSetFlags(int flags) override;

 private:
  void OnOptionSet(int name) override;
  int TakeError() override { return endpoint_->TakeError(); }
  bool IsListening() override { return endpoint_->IsListening(); }

  const RefPtr<UnixEndpoint> endpoint_;
  const uint64_t inode_number_;
};

// Registers AF_UNIX; at start.
void RegisterUnixSockets();

// /proc/net/unix of the caller's network namespace.
std::string ProcNetUnix();
// Its open sockets.
std::vector<UnixDiagnosis> DiagnoseUnixSockets();

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_UNIX_UNIX_SOCKET_H_
