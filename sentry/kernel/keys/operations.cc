// SPDX-License-Identifier: Apache-2.0
// The calls.
#include <stdio.h>

#include <algorithm>

#include "sentry/kernel/keys/keys.h"

namespace sentry::keys {
namespace {

constexpr size_t kMaxPayload = 32767;
constexpr int64_t kPersistentSeconds = 3 * 24 * 3600;
constexpr gid_t kNoGroup = static_cast<gid_t>(-1);

int64_t Deadline(int64_t seconds) { return base::RealtimeNs() + seconds * base::kNsPerSecond; }

Result<void> CheckPayload(Type type, const std::string& payload) {
  if (type == Type::kKeyring) return payload.empty() ? OkResult() : Result<void>(Errno(EINVAL));
  return payload.empty() || payload.size() > kMaxPayload ? Result<void>(Errno(EINVAL)) : OkResult();
}

uint32_t DefaultPermissions(Type type) {
  uint32_t possessor = kView | kSearch | kLink | kSetAttr | kWrite;
  if (type != Type::kLogon) possessor |= kRead;
  return PossessorBits(possessor) | UserBits(kView);
}

}  // namespace

Keys& Keys::Get() {
  static Keys& keys = *new Keys();
  return keys;
}

RefPtr<TaskKeyrings> Keys::Inherit(const RefPtr<TaskKeyrings>& parent, bool thread) {
  if (!parent) return nullptr;
  auto rings = MakeRef<TaskKeyrings>();
  MutexLock lock(mu_);
  rings->session = parent->session;
  rings->request_destination = parent->request_destination;
  if (thread) rings->process = parent->process;
  // A thread gets a keyring of its own when its creator has one.
  if (thread && parent->thread) {
    auto made = Key::Create(Type::kKeyring, "_tid", parent->thread->uid, parent->thread->gid,
                            PossessorBits(kAll) | UserBits(kView));
    if (made.ok()) rings->thread = *made;
  }
  return rings;
}

void Keys::OnExec(TaskKeyrings& rings) {
  MutexLock lock(mu_);
  rings.thread = nullptr;
  rings.process = nullptr;
}

Result<int32_t> Keys::Add(const Subject& subject, Type type, std::string description, std::string payload,
                          int32_t ring_id) {
  MutexLock lock(mu_);
  Found ring = TRY(Lookup(subject, ring_id, true, kWrite));
  if (description.empty()) return Errno(EINVAL);
  if (type == Type::kLogon) {
    // "service:name" (keyrings(7)).
    const size_t colon = description.find(':');
    if (colon == std::string::npos || colon == 0) return Errno(EINVAL);
  }
  TRY(CheckPayload(type, payload));
  if (!ring.key->IsKeyring()) return Errno(ENOTDIR);
  RefPtr<Key>* old = type == Type::kKeyring ? nullptr : LinkOf(*ring.key, type, description);
  if (old && (*old)->Validate().ok()) {
    RefPtr<Key> key = *old;
    if (!key->Allows(subject.creds, ring.possessed, kWrite)) return Errno(EACCES);
    TRY(key->SetPayload(std::move(payload)));
    key->expiry_ns = 0;
    return key->serial;
  }
  RefPtr<Key> key = TRY(
      Key::Create(type, std::move(description), subject.creds.fsuid, subject.creds.fsgid, DefaultPermissions(type)));
  if (!payload.empty()) TRY(key->SetPayload(std::move(payload)));
  TRY(LinkTo(*ring.key, key));
  return key->serial;
}

Result<int32_t> Keys::Search(const Subject& subject, int32_t where, Type type, const std::string& description,
                             int32_t destination) {
  MutexLock lock(mu_);
  const Match match{.type = type, .description = &description};
  RefPtr<Key> key, to;
  if (where != 0) {
    Found ring = TRY(LookupRing(subject, where, false, kSearch));
    if (destination != 0) to = TRY(LookupRing(subject, destination, true, kWrite)).key;
    std::set<const Key*> visited;
    auto found = SearchIn(subject, ring.key, ring.possessed, match, 0, visited);
    // What is there but may not be had is not told from what is not there.
    if (!found.ok()) return found.error() == Errno(EACCES) ? Errno(ENOKEY) : found.error();
    key = *found;
    if (to && !key->Allows(subject.creds, ring.possessed, kLink)) return Errno(EACCES);
  } else {
    if (destination != 0) to = TRY(LookupRing(subject, destination, true, kWrite)).key;
    auto found = SearchOwn(subject, match);
    if (!found.ok()) return found.error() == Errno(EACCES) ? Errno(ENOKEY) : found.error();
    key = *found;
    if (to && !key->Allows(subject.creds, true, kLink)) return Errno(EACCES);
  }
  if (to) TRY(LinkTo(*to, key));
  return key->serial;
}

Result<int32_t> Keys::GetId(const Subject& subject, int32_t id, bool create) {
  MutexLock lock(mu_);
  return TRY(Lookup(subject, id, create, kSearch)).key->serial;
}

Result<int32_t> Keys::JoinSession(const Subject& subject, const std::optional<std::string>& name) {
  MutexLock lock(mu_);
  const Credentials& creds = subject.creds;
  RefPtr<Key> session;
  if (name) {
    for (RefPtr<Key>& key : Key::List()) {
      if (key->IsKeyring() && key->description == *name && key->Validate().ok() && key->Allows(creds, false, kSearch)) {
        session = key;
        break;
      }
    }
  }
  if (!session) {
    const uint32_t user = name ? kView | kRead | kLink : kView | kRead;
    session = TRY(Key::Create(Type::kKeyring, name ? *name : "_ses", creds.fsuid, creds.fsgid,
                              PossessorBits(kAll) | UserBits(user)));
  }
  subject.rings.session = session;
  return session->serial;
}

Result<void> Keys::Update(const Subject& subject, int32_t id, std::string payload) {
  MutexLock lock(mu_);
  Found found = TRY(Lookup(subject, id, false, kWrite));
  if (found.key->IsKeyring()) return Errno(EOPNOTSUPP);
  TRY(CheckPayload(found.key->type, payload));
  TRY(found.key->SetPayload(std::move(payload)));
  found.key->expiry_ns = 0;
  return OkResult();
}

Result<void> Keys::Revoke(const Subject& subject, int32_t id) {
  MutexLock lock(mu_);
  auto found = Lookup(subject, id, false, kWrite);
  if (!found.ok() && found.error() == Errno(EACCES)) found = Lookup(subject, id, false, kSetAttr);
  if (!found.ok()) return found.error();
  Key& key = *found->key;
  key.revoked = true;
  // Its contents are gone for good.
  std::vector<RefPtr<Key>> links;
  links.swap(key.links);
  if (!links.empty()) (void)key.ChargeLinks(-static_cast<int>(links.size()));
  (void)key.SetPayload("");
  return OkResult();
}

Result<void> Keys::Chown(const Subject& subject, int32_t id, uid_t uid, gid_t gid) {
  MutexLock lock(mu_);
  if (uid == static_cast<uid_t>(-1) && gid == static_cast<gid_t>(-1)) return OkResult();
  Key& key = *TRY(Lookup(subject, id, true, kSetAttr, /*invalid_too=*/true)).key;
  if (!subject.creds.HasCapability(CAP_SYS_ADMIN)) {
    if (uid != static_cast<uid_t>(-1) && key.uid != uid) return Errno(EACCES);
    if (gid != static_cast<gid_t>(-1) && gid != key.gid && !subject.creds.InGroup(gid)) return Errno(EACCES);
  }
  if (uid != static_cast<uid_t>(-1)) TRY(key.SetUser(uid));
  if (gid != static_cast<gid_t>(-1)) key.gid = gid;
  return OkResult();
}

Result<void> Keys::SetPermissions(const Subject& subject, int32_t id, uint32_t permissions) {
  constexpr uint32_t kKnown = kAll * 0x01010101u;
  if (permissions & ~kKnown) return Errno(EINVAL);
  MutexLock lock(mu_);
  Key& key = *TRY(Lookup(subject, id, true, kSetAttr, /*invalid_too=*/true)).key;
  if (key.uid != subject.creds.fsuid && !subject.creds.HasCapability(CAP_SYS_ADMIN)) return Errno(EACCES);
  key.permissions = permissions;
  return OkResult();
}

Result<std::string> Keys::Describe(const Subject& subject, int32_t id) {
  MutexLock lock(mu_);
  const Key& key = *TRY(Lookup(subject, id, false, kView, /*invalid_too=*/true)).key;
  char head[96];
  // -1 is no group; it shows as the overflow id does elsewhere.
  snprintf(head, sizeof head, "%s;%d;%d;%08x;", TypeName(key.type), static_cast<int>(key.uid),
           key.gid == kNoGroup ? 65534 : static_cast<int>(key.gid), key.permissions);
  return head + key.description;
}

Result<void> Keys::CheckView(const Subject& subject, int32_t id) {
  MutexLock lock(mu_);
  TRY(Lookup(subject, id, false, kView, /*invalid_too=*/true));
  return OkResult();
}

Result<void> Keys::Clear(const Subject& subject, int32_t id) {
  MutexLock lock(mu_);
  Key& ring = *TRY(LookupRing(subject, id, true, kWrite)).key;
  std::vector<RefPtr<Key>> links;
  links.swap(ring.links);
  if (!links.empty()) (void)ring.ChargeLinks(-static_cast<int>(links.size()));
  return OkResult();
}

Result<void> Keys::Link(const Subject& subject, int32_t id, int32_t ring_id) {
  MutexLock lock(mu_);
  Found ring = TRY(Lookup(subject, ring_id, true, kWrite));
  Found key = TRY(Lookup(subject, id, true, kLink));
  if (!ring.key->IsKeyring()) return Errno(ENOTDIR);
  return LinkTo(*ring.key, key.key);
}

Result<void> Keys::Unlink(const Subject& subject, int32_t id, int32_t ring_id) {
  MutexLock lock(mu_);
  Found ring = TRY(Lookup(subject, ring_id, false, kWrite));
  Found key = TRY(Lookup(subject, id, false, 0, /*invalid_too=*/true));
  if (!ring.key->IsKeyring()) return Errno(ENOTDIR);
  auto& links = ring.key->links;
  auto it = std::find(links.begin(), links.end(), key.key);
  if (it == links.end()) return Errno(ENOENT);
  links.erase(it);
  return ring.key->ChargeLinks(-1);
}

Result<void> Keys::Move(const Subject& subject, int32_t id, int32_t from_id, int32_t to_id, bool exclusive) {
  MutexLock lock(mu_);
  Found key = TRY(Lookup(subject, id, true, kLink));
  Found from = TRY(Lookup(subject, from_id, false, kWrite));
  Found to = TRY(Lookup(subject, to_id, true, kWrite));
  if (from.key == to.key) return OkResult();
  if (!from.key->IsKeyring() || !to.key->IsKeyring()) return Errno(ENOTDIR);
  auto& links = from.key->links;
  if (std::find(links.begin(), links.end(), key.key) == links.end()) return Errno(ENOENT);
  if (exclusive && LinkOf(*to.key, key.key->type, key.key->description)) return Errno(EEXIST);
  TRY(LinkTo(*to.key, key.key));
  links.erase(std::find(links.begin(), links.end(), key.key));
  return from.key->ChargeLinks(-1);
}

Result<std::string> Keys::Read(const Subject& subject, int32_t id) {
  MutexLock lock(mu_);
  Found found = TRY(Lookup(subject, id, false, 0));
  const Key& key = *found.key;
  // To possess it with the right to find it is enough (keyctl_read(3)).
  if (!key.Allows(subject.creds, found.possessed, kRead) &&
      !(found.possessed && key.Allows(subject.creds, true, kSearch)))
    return Errno(EACCES);
  if (key.type == Type::kLogon) return Errno(EOPNOTSUPP);
  if (!key.IsKeyring()) return key.payload;
  std::string serials;
  for (const RefPtr<Key>& link : key.links) {
    serials.append(reinterpret_cast<const char*>(&link->serial), sizeof link->serial);
  }
  return serials;
}

Result<void> Keys::SetTimeout(const Subject& subject, int32_t id, unsigned seconds) {
  MutexLock lock(mu_);
  Key& key = *TRY(Lookup(subject, id, true, kSetAttr)).key;
  key.expiry_ns = seconds ? Deadline(seconds) : 0;
  return OkResult();
}

Result<void> Keys::Invalidate(const Subject& subject, int32_t id) {
  MutexLock lock(mu_);
  Key& key = *TRY(Lookup(subject, id, false, kSearch)).key;
  key.invalidated = true;
  return OkResult();
}

Result<int32_t> Keys::GetPersistent(const Subject& subject, uid_t uid, int32_t ring_id) {
  const Credentials& creds = subject.creds;
  if (uid == static_cast<uid_t>(-1)) uid = creds.ruid;
  if (uid != creds.ruid && uid != creds.euid && !creds.HasCapability(CAP_SETUID)) return Errno(EPERM);
  MutexLock lock(mu_);
  Found ring = TRY(LookupRing(subject, ring_id, true, kWrite));
  RefPtr<Key>& slot = users_[uid].persistent;
  if (!slot || !slot->Validate().ok()) {
    slot = TRY(Key::Create(Type::kKeyring, "_persistent." + std::to_string(uid), uid, kNoGroup,
                           PossessorBits(kAll & ~kSetAttr) | UserBits(kView | kRead)));
  }
  // Every use gives it its whole time again.
  slot->expiry_ns = Deadline(kPersistentSeconds);
  TRY(LinkTo(*ring.key, slot));
  return slot->serial;
}

Result<int> Keys::SetRequestDestination(const Subject& subject, int destination) {
  constexpr int kNoChange = -1, kGroup = 6, kLast = 7;
  if (destination < kNoChange || destination > kLast || destination == kGroup) return Errno(EINVAL);
  MutexLock lock(mu_);
  const int old = subject.rings.request_destination;
  if (destination != kNoChange) subject.rings.request_destination = destination;
  return old;
}

std::vector<Keys::Row> Keys::List(const Subject& subject) {
  std::vector<RefPtr<Key>> keys = Key::List();
  std::vector<Row> rows;
  MutexLock lock(mu_);
  for (const RefPtr<Key>& key : keys) {
    const bool possessed = SearchOwn(subject, {.key = key.get()}).ok();
    if (!key->Allows(subject.creds, possessed, kView)) continue;
    std::string summary = key->description;
    if (key->IsKeyring()) {
      summary += key->links.empty() ? ": empty" : ": " + std::to_string(key->links.size());
    } else if (key->type == Type::kUser) {
      summary += ": " + std::to_string(key->payload.size());
    }
    const int64_t left = key->expiry_ns ? (key->expiry_ns - base::RealtimeNs()) / base::kNsPerSecond : -1;
    rows.push_back({.serial = key->serial,
                    .revoked = key->revoked,
                    .invalidated = key->invalidated,
                    .expired = key->expiry_ns && base::RealtimeNs() >= key->expiry_ns,
                    .seconds_left = left,
                    .permissions = key->permissions,
                    .uid = key->uid,
                    .gid = key->gid == kNoGroup ? 65534 : key->gid,
                    .uses = key->RefCountForDebug() - 1,
                    .type = TypeName(key->type),
                    .summary = std::move(summary)});
  }
  return rows;
}

}  // namespace sentry::keys
