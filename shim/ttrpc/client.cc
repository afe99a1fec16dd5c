// SPDX-License-Identifier: Apache-2.0
#include "shim/ttrpc/client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "shim/proto/ttrpc.pb.h"
#include "shim/ttrpc/frame.h"

namespace shim::ttrpc {

absl::StatusOr<Client> Client::Connect(const std::string& address) {
  constexpr char kScheme[] = "unix://";
  std::string path = address.rfind(kScheme, 0) == 0 ? address.substr(strlen(kScheme)) : address;
  sockaddr_un name = {.sun_family = AF_UNIX};
  if (path.empty() || path.size() >= sizeof name.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat("ttrpc: \"", path, "\": not the path of a socket"));
  }
  memcpy(name.sun_path, path.c_str(), path.size() + 1);
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.ok() || connect(fd.get(), reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) {
    return absl::UnavailableError(absl::StrCat("ttrpc: ", path, ": ", strerror(errno)));
  }
  return Client(std::move(fd));
}

absl::StatusOr<std::string> Client::Call(const std::string& service, const std::string& method,
                                         const std::string& payload, int timeout_ms) {
  timeval limit{.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
  setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  pb::RpcRequest request;
  request.set_service(service);
  request.set_method(method);
  request.set_payload(payload);
  request.set_timeout_nano(int64_t{timeout_ms} * 1'000'000);
  Frame frame{.stream = next_stream_, .type = FrameType::kRequest};
  next_stream_ += 2;
  request.SerializeToString(&frame.payload);
  const uint32_t stream = frame.stream;
  if (auto status = Write(socket_.get(), frame); !status.ok()) return status;
  if (auto status = Read(socket_.get(), &frame); !status.ok()) return status;
  pb::RpcResponse response;
  if (frame.stream != stream || frame.type != FrameType::kResponse || !response.ParseFromString(frame.payload)) {
    return absl::DataLossError("ttrpc: not the answer to the request");
  }
  if (response.status().code() == 0) return response.payload();
  return absl::Status(static_cast<absl::StatusCode>(response.status().code()), response.status().message());
}

}  // namespace shim::ttrpc
