// SPDX-License-Identifier: Apache-2.0
#include "sentry/kernel/keys/key.h"

#include <x86intrin.h>

#include <algorithm>
#include <map>

namespace sentry::keys {
namespace {

constexpr int kLinkBytes = 8;

struct Totals {
  int keys = 0, bytes = 0;
};

struct Table {
  Mutex mu{LockRank::kLeaf};
  std::map<int32_t, Key*> keys ABSL_GUARDED_BY(mu);
  std::map<uid_t, Totals> users ABSL_GUARDED_BY(mu);
  uint64_t random ABSL_GUARDED_BY(mu) = __rdtsc() | 1;
  static Table& Get() {
    static Table& table = *new Table();
    return table;
  }

  Result<void> CountLocked(uid_t uid, int more_keys, int more_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    Totals& totals = users[uid];
    const int keys_limit = uid == 0 ? Key::kRootKeys : Key::kUserKeys;
    const int bytes_limit = uid == 0 ? Key::kRootBytes : Key::kUserBytes;
    const bool over = (more_keys > 0 && totals.keys + more_keys > keys_limit) ||
                      (more_bytes > 0 && totals.bytes + more_bytes > bytes_limit);
    if (!over) {
      totals.keys += more_keys;
      totals.bytes += more_bytes;
    }
    if (totals.keys == 0) users.erase(uid);
    return over ? Result<void>(Errno(EDQUOT)) : OkResult();
  }
};

}  // namespace

const char* TypeName(Type type) {
  switch (type) {
    case Type::kUser:
      return "user";
    case Type::kLogon:
      return "logon";
    case Type::kKeyring:
      return "keyring";
  }
  return "";
}

Result<RefPtr<Key>> Key::Create(Type type, std::string description, uid_t uid, gid_t gid, uint32_t permissions) {
  const int bytes = static_cast<int>(description.size()) + 1;
  auto charge = ipc::Charge::Take(sizeof(Key) + description.size());
  if (!charge.ok()) return Errno(EDQUOT);
  Table& table = Table::Get();
  MutexLock lock(table.mu);
  TRY(table.CountLocked(uid, 1, bytes));
  int32_t serial;
  do {
    table.random ^= table.random << 13, table.random ^= table.random >> 7, table.random ^= table.random << 17;
    serial = static_cast<int32_t>(table.random >> 33);
  } while (serial < 3 || table.keys.contains(serial));
  RefPtr<Key> key(new Key(serial, type, std::move(description), uid, gid, permissions));
  key->counted_bytes_ = bytes;
  key->charge_ = std::move(*charge);
  table.keys[serial] = key.get();
  return key;
}

// Chains of keyrings may be long: their ends are taken one after another, not one inside the other.
Key::~Key() {
  {
    Table& table = Table::Get();
    MutexLock lock(table.mu);
    table.keys.erase(serial);
    (void)table.CountLocked(uid, -1, -counted_bytes_);
  }
  thread_local std::vector<RefPtr<Key>>* pending = nullptr;
  if (pending) {
    std::move(links.begin(), links.end(), std::back_inserter(*pending));
    return;
  }
  std::vector<RefPtr<Key>> rest = std::move(links);
  pending = &rest;
  while (!rest.empty()) {
    RefPtr<Key> last = std::move(rest.back());
    rest.pop_back();
    last.Reset();
  }
  pending = nullptr;
}

RefPtr<Key> Key::Find(int32_t serial) {
  Table& table = Table::Get();
  MutexLock lock(table.mu);
  auto it = table.keys.find(serial);
  if (it == table.keys.end() || !it->second->TryIncRef()) return nullptr;
  return RefPtr<Key>::Adopt(it->second);
}

std::vector<RefPtr<Key>> Key::List() {
  std::vector<RefPtr<Key>> list;
  Table& table = Table::Get();
  MutexLock lock(table.mu);
  for (const auto& [serial, key] : table.keys) {
    if (key->TryIncRef()) list.push_back(RefPtr<Key>::Adopt(key));
  }
  return list;
}

std::vector<Key::UserTotals> Key::Users() {
  std::vector<UserTotals> list;
  Table& table = Table::Get();
  MutexLock lock(table.mu);
  for (const auto& [uid, totals] : table.users) list.push_back({uid, totals.keys, totals.bytes});
  return list;
}

Result<void> Key::Validate() const {
  if (invalidated) return Errno(ENOKEY);
  if (revoked) return Errno(EKEYREVOKED);
  if (expiry_ns && base::RealtimeNs() >= expiry_ns) return Errno(EKEYEXPIRED);
  return OkResult();
}

bool Key::Allows(const Credentials& creds, bool possessed, uint32_t need) const {
  uint32_t granted = permissions;
  if (uid == creds.fsuid) {
    granted >>= 16;
  } else if (gid != static_cast<gid_t>(-1) && (permissions & (uint32_t{kAll} << 8)) && creds.InGroup(gid)) {
    granted >>= 8;
  }
  if (possessed) granted |= permissions >> 24;
  return (granted & need & kAll) == need;
}

Result<void> Key::SetPayload(std::string value) {
  auto charge = ipc::Charge::Take(value.size());
  if (!charge.ok()) return Errno(EDQUOT);
  const int change = static_cast<int>(value.size()) - static_cast<int>(payload.size());
  {
    Table& table = Table::Get();
    MutexLock lock(table.mu);
    TRY(table.CountLocked(uid, 0, change));
  }
  counted_bytes_ += change;
  payload_charge_ = std::move(*charge);
  payload = std::move(value);
  return OkResult();
}

Result<void> Key::ChargeLinks(int change) {
  Table& table = Table::Get();
  MutexLock lock(table.mu);
  TRY(table.CountLocked(uid, 0, change * kLinkBytes));
  counted_bytes_ += change * kLinkBytes;
  return OkResult();
}

Result<void> Key::SetUser(uid_t new_uid) {
  if (new_uid == uid) return OkResult();
  Table& table = Table::Get();
  MutexLock lock(table.mu);
  TRY(table.CountLocked(new_uid, 1, counted_bytes_));
  (void)table.CountLocked(uid, -1, -counted_bytes_);
  uid = new_uid;
  return OkResult();
}

}  // namespace sentry::keys
