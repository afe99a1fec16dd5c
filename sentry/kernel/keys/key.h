// SPDX-License-Identifier: Apache-2.0
// A key: something small with a type, a description, an owner and permissions (keyrings(7)).
#ifndef SENTRY_KERNEL_KEYS_KEY_H_
#define SENTRY_KERNEL_KEYS_KEY_H_

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "sentry/common.h"
#include "sentry/kernel/core/credentials.h"
#include "sentry/kernel/ipc/budget.h"

namespace sentry::keys {

enum class Type { kUser, kLogon, kKeyring };
const char* TypeName(Type type);

// Permission bits of one of the four sets, possessor (24), user (16), group (8), other (0).
enum Need : uint32_t { kView = 1, kRead = 2, kWrite = 4, kSearch = 8, kLink = 16, kSetAttr = 32, kAll = 63 };
constexpr uint32_t PossessorBits(uint32_t need) { return need << 24; }
constexpr uint32_t UserBits(uint32_t need) { return need << 16; }

// Everything below `description` is guarded by Keys' mutex.
class Key final : public RefCounted<Key> {
 public:
  // EDQUOT beyond the owner's quota.
  static Result<RefPtr<Key>> Create(Type type, std::string description, uid_t uid, gid_t gid, uint32_t permissions);
  ~Key();
  // A living key by its number, or null.
  static RefPtr<Key> Find(int32_t serial);
  static std::vector<RefPtr<Key>> List();
  struct UserTotals {
    uid_t uid;
    int keys, bytes;
  };
  static std::vector<UserTotals> Users();
  static constexpr int kRootKeys = 1000000, kRootBytes = 25000000, kUserKeys = 200, kUserBytes = 20000;

  const int32_t serial;
  const Type type;
  const std::string description;
  uid_t uid;
  gid_t gid;
  uint32_t permissions;
  std::string payload;
  std::vector<RefPtr<Key>> links;  // of a keyring
  int64_t expiry_ns = 0;           // CLOCK_REALTIME; 0: never
  bool revoked = false, invalidated = false;

  bool IsKeyring() const { return type == Type::kKeyring; }
  // ENOKEY, EKEYREVOKED, EKEYEXPIRED.
  Result<void> Validate() const;
  bool Allows(const Credentials& creds, bool possessed, uint32_t need) const;
  // Replaces the contents; EDQUOT.
  Result<void> SetPayload(std::string value);
  // A keyring's size changed by this many links; EDQUOT.
  Result<void> ChargeLinks(int change);
  // Moves what it counts to; EDQUOT.
  Result<void> SetUser(uid_t new_uid);

 private:
  Key(int32_t serial, Type type, std::string description, uid_t uid, gid_t gid, uint32_t permissions)
      : serial(serial), type(type), description(std::move(description)), uid(uid), gid(gid), permissions(permissions) {}
  int counted_bytes_ = 0;
  ipc::Charge charge_, payload_charge_;
};

}  // namespace sentry::keys

#endif  // SENTRY_KERNEL_KEYS_KEY_H_
