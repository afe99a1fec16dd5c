// SPDX-License-Identifier: Apache-2.0
// Packets with fds over an AF_UNIX SOCK_SEQPACKET socket. Used by both ends; the callers serialise the use of one
// socket per direction.
#ifndef GOFER_PROTOCOL_HOST_TRANSPORT_H_
#define GOFER_PROTOCOL_HOST_TRANSPORT_H_

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "gofer/protocol/messages.h"

namespace gofer {

struct Packet {
  MessageHeader header;
  std::span<const uint8_t> payload;  // in the buffer given to ReceivePacket
  std::vector<base::UniqueFd> fds;
};

// header.length and .fds are filled in. Blocks while the peer does not read. EPIPE when the peer is gone.
base::Result<void> SendPacket(int socket, uint16_t code, uint64_t tag, std::span<const uint8_t> payload,
                              std::span<const int> fds);
// Blocks. `buffer` has at least kMaxMessage bytes. ECONNRESET: the peer hung up. EBADMSG: the packet is shorter than a
// header, longer than allowed, its header does not say what came, or fds came that are not accepted (none is left
// open). EMFILE: the packet was read but this process has no fd numbers left for what came with it.
base::Result<Packet> ReceivePacket(int socket, std::span<uint8_t> buffer, bool accept_fds);

// Both ends close-on-exec.
base::Result<std::pair<base::UniqueFd, base::UniqueFd>> MakeSocketPair();
// EINVAL unless `fd` is a connected AF_UNIX SOCK_SEQPACKET socket.
base::Result<void> CheckSocket(int fd);
// Makes both ends' waits return.
void ShutdownSocket(int fd);

}  // namespace gofer

#endif  // GOFER_PROTOCOL_HOST_TRANSPORT_H_
