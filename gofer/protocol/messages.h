// SPDX-License-Identifier: Apache-2.0
// The wire format: one SOCK_SEQPACKET packet is one message = MessageHeader, a fixed struct per operation, then the
// strings (u16 length + bytes) and arrays that its comment names. Little-endian, naturally aligned, no implicit
// padding. fds travel by SCM_RIGHTS in the same packet, only from the server to the client. Each request gets exactly
// one reply on its channel, in order.
#ifndef GOFER_PROTOCOL_MESSAGES_H_
#define GOFER_PROTOCOL_MESSAGES_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "gofer/protocol/types.h"

namespace gofer {

static_assert(std::endian::native == std::endian::little, "the wire format is the memory format");

inline constexpr uint32_t kProtocolVersion = 1;
inline constexpr size_t kMaxPayload = 65536;
inline constexpr size_t kMaxFdsPerMessage = 4;
inline constexpr int kMaxChannels = 8;  // per connection, the first one included

enum class Op : uint16_t {
  kMount = 1,    // MountRequest → MountReply [+ fd]
  kOpenChannel,  // nothing → nothing + 1 fd (the client's end of a new socketpair: the client needs no socket call)
  kWalk,         // WalkRequest, name... → WalkReply, NodeAttr...
  kGetAttr,      // NodeRequest → Attr
  kSetAttr,      // SetAttrRequest → Attr
  kOpen,         // OpenRequest → nothing + fd
  kCreate,       // MakeRequest, name → NodeAttr + fd
  kMkdir,        // MakeRequest, name → NodeAttr
  kSymlink,      // MakeRequest, name, target → NodeAttr
  kMknod,        // MakeRequest, name → NodeAttr
  kLink,         // LinkRequest, name → NodeAttr
  kUnlink,       // NodeRequest (directory), name → nothing
  kRmdir,        // NodeRequest (directory), name → nothing
  kRename,       // RenameRequest, old name, new name → nothing
  kReadLink,     // NodeRequest → bytes up to the end
  kOpenDir,      // NodeRequest → NodeRequest (the handle)
  kReadDir,      // ReadDirRequest → ReadDirReply, (DirEntryHead + name bytes)...
  kCloseDir,     // NodeRequest (the handle) → nothing
  kListDir,      // NodeRequest → as kReadDir: the first entries, without a handle
  kStatFs,       // NodeRequest → StatFs
  kGetXattr,     // NodeRequest, name → bytes up to the end
  kSetXattr,     // SetXattrRequest, name, value → nothing
  kListXattr,    // NodeRequest → bytes up to the end
  kRemoveXattr,  // NodeRequest, name → nothing
  kSyncFs,       // NodeRequest → nothing
  kForget,       // ForgetRequest, NodeId... → nothing; unknown ids are passed over
  kEnd,
};

struct MessageHeader {
  uint32_t length;  // of the whole packet, header included
  uint16_t code;    // request: Op; reply: 0 or an errno (then no payload and no fds)
  uint16_t fds;     // how many travel along
  uint64_t tag;  // chosen by the client, repeated in the reply; of a request the bits from kTagCpuShift on are a hint
};
static_assert(sizeof(MessageHeader) == 16);
// The CPU that the client's thread runs on, plus 1; 0: unknown. Where a wake-up on another CPU costs an interrupt (tens
// of microseconds in a virtual machine), a server thread that runs on the client's CPU answers several times sooner.
inline constexpr int kTagCpuShift = 48;
inline constexpr uint64_t kMaxTagCpu = 0xffff;
inline constexpr size_t kMaxMessage = sizeof(MessageHeader) + kMaxPayload;

struct MountRequest {
  uint32_t version;
  uint32_t reserved;
};
static_assert(sizeof(MountRequest) == 8);

enum MountFlag : uint32_t { kMountReadOnly = 1, kMountSubmounts = 2 };

struct MountReply {
  NodeAttr root;
  uint32_t flags;  // MountFlag
  uint32_t name_max;
  uint64_t max_nodes;
  uint64_t max_fds;
};
static_assert(sizeof(NodeAttr) == 152 && sizeof(MountReply) == 176);

struct NodeRequest {
  uint64_t node;
};
static_assert(sizeof(NodeRequest) == 8);

struct WalkRequest {
  uint64_t dir;
  uint32_t count;
  uint32_t reserved;
};
static_assert(sizeof(WalkRequest) == 16);

struct WalkReply {
  uint32_t found;
  uint32_t stop_errno;
};
static_assert(sizeof(WalkReply) == 8);
static_assert(sizeof(WalkReply) + kMaxWalkNames * sizeof(NodeAttr) <= kMaxPayload);
static_assert(sizeof(WalkRequest) + kMaxWalkNames * (2 + kMaxNameLength) <= kMaxPayload);

struct SetAttrRequest {
  uint64_t node;
  AttrChange change;
};
static_assert(sizeof(SetAttrRequest) == 64);

struct OpenRequest {
  uint64_t node;
  uint32_t flags;
  uint32_t reserved;
};
static_assert(sizeof(OpenRequest) == 16);

struct MakeRequest {
  uint64_t dir;
  uint32_t flags;  // kCreate: open flags
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  uint32_t major;  // kMknod
  uint32_t minor;
};
static_assert(sizeof(MakeRequest) == 32);

struct LinkRequest {
  uint64_t node;
  uint64_t dir;
};
static_assert(sizeof(LinkRequest) == 16);

struct RenameRequest {
  uint64_t old_dir;
  uint64_t new_dir;
  uint32_t flags;
  uint32_t reserved;
};
static_assert(sizeof(RenameRequest) == 24);

struct ReadDirRequest {
  uint64_t handle;
  uint64_t cookie;
};
static_assert(sizeof(ReadDirRequest) == 16);

struct ReadDirReply {
  uint32_t count;
  uint32_t end;
};
static_assert(sizeof(ReadDirReply) == 8);

struct DirEntryHead {
  uint64_t ino;
  uint64_t cookie;
  uint16_t name_length;
  uint8_t type;
  uint8_t reserved[5];
};
static_assert(sizeof(DirEntryHead) == 24);

struct SetXattrRequest {
  uint64_t node;
  uint32_t flags;
  uint32_t reserved;
};
static_assert(sizeof(SetXattrRequest) == 16);
static_assert(sizeof(SetXattrRequest) + 2 + kMaxNameLength + 2 + kMaxXattrSize <= kMaxPayload);

struct ForgetRequest {
  uint32_t count;
  uint32_t reserved;
};
static_assert(sizeof(ForgetRequest) == 8);
inline constexpr size_t kMaxForgets = 4096;

}  // namespace gofer

#endif  // GOFER_PROTOCOL_MESSAGES_H_
