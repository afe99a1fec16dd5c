// SPDX-License-Identifier: Apache-2.0
// Finding keys: by number, in keyrings, and what possession is.
#include <linux/keyctl.h>

#include <algorithm>

#include "sentry/kernel/keys/keys.h"

namespace sentry::keys {
namespace {

constexpr int kMaxDepth = 6;  // KEYRING_SEARCH_MAX_DEPTH
constexpr uint32_t kUserRingPermissions = PossessorBits(kAll & ~kSetAttr) | UserBits(kAll);
constexpr gid_t kNoGroup = static_cast<gid_t>(-1);

// The error that says most, of several keyrings that were searched in vain.
Errno Better(Errno a, Errno b) {
  auto rank = [](Errno e) { return e == Errno(ENOKEY) ? 0 : e == Errno(EACCES) ? 1 : 2; };
  return rank(b) > rank(a) ? b : a;
}

}  // namespace

Result<void> Keys::InstallUserRings(uid_t uid) {
  UserRings& rings = users_[uid];
  if (rings.user && rings.session) return OkResult();
  RefPtr<Key> user =
      TRY(Key::Create(Type::kKeyring, "_uid." + std::to_string(uid), uid, kNoGroup, kUserRingPermissions));
  RefPtr<Key> session =
      TRY(Key::Create(Type::kKeyring, "_uid_ses." + std::to_string(uid), uid, kNoGroup, kUserRingPermissions));
  TRY(LinkTo(*session, user));
  rings.user = std::move(user);
  rings.session = std::move(session);
  return OkResult();
}

Result<RefPtr<Key>> Keys::SpecialRing(const Subject& subject, int32_t id, bool create) {
  const Credentials& creds = subject.creds;
  auto own = [&](RefPtr<Key>& slot, const char* name) -> Result<RefPtr<Key>> {
    if (!slot) {
      if (!create) return Errno(ENOKEY);
      slot = TRY(Key::Create(Type::kKeyring, name, creds.fsuid, creds.fsgid, PossessorBits(kAll) | UserBits(kView)));
    }
    return slot;
  };
  switch (id) {
    case KEY_SPEC_THREAD_KEYRING:
      return own(subject.rings.thread, "_tid");
    case KEY_SPEC_PROCESS_KEYRING:
      return own(subject.rings.process, "_pid");
    case KEY_SPEC_SESSION_KEYRING:
      if (!subject.rings.session && create) {
        subject.rings.session = TRY(Key::Create(Type::kKeyring, "_ses", creds.fsuid, creds.fsgid,
                                                PossessorBits(kAll) | UserBits(kView | kRead)));
      }
      if (subject.rings.session) return subject.rings.session;
      [[fallthrough]];
    case KEY_SPEC_USER_SESSION_KEYRING:
      TRY(InstallUserRings(creds.ruid));
      return users_[creds.ruid].session;
    case KEY_SPEC_USER_KEYRING:
      TRY(InstallUserRings(creds.ruid));
      return users_[creds.ruid].user;
    case KEY_SPEC_REQKEY_AUTH_KEY:
    case KEY_SPEC_REQUESTOR_KEYRING:
      return Errno(ENOKEY);
    default:
      return Errno(EINVAL);
  }
}

Result<RefPtr<Key>> Keys::SearchIn(const Subject& subject, const RefPtr<Key>& ring, bool possessed, const Match& match,
                                   int depth, std::set<const Key*>& visited) {
  if (!visited.insert(ring.get()).second) return Errno(ENOKEY);
  TRY(ring->Validate());
  if (!ring->Allows(subject.creds, possessed, kSearch)) return Errno(EACCES);
  if (match.key == ring.get()) return ring;
  Errno error(ENOKEY);
  for (const RefPtr<Key>& key : ring->links) {
    const bool matches =
        match.key ? match.key == key.get() : key->type == match.type && key->description == *match.description;
    if (!matches) continue;
    // Possession does not depend on the state of the key.
    Result<void> valid = match.key ? OkResult() : key->Validate();
    if (valid.ok() && key->Allows(subject.creds, possessed, kSearch)) return key;
    error = Better(error, valid.ok() ? Errno(EACCES) : valid.error());
  }
  if (depth >= kMaxDepth) return error;
  for (const RefPtr<Key>& key : ring->links) {
    if (!key->IsKeyring()) continue;
    auto found = SearchIn(subject, key, possessed, match, depth + 1, visited);
    if (found.ok()) return found;
    // What may not be searched is passed over.
    if (found.error() != Errno(EACCES)) error = Better(error, found.error());
  }
  return error;
}

Result<RefPtr<Key>> Keys::SearchOwn(const Subject& subject, const Match& match) {
  RefPtr<Key> session = subject.rings.session;
  if (!session) {
    auto it = users_.find(subject.creds.ruid);
    if (it != users_.end()) session = it->second.session;
  }
  Errno error(ENOKEY);
  std::set<const Key*> visited;
  for (const RefPtr<Key>& ring : {subject.rings.thread, subject.rings.process, session}) {
    if (!ring) continue;
    auto found = SearchIn(subject, ring, true, match, 0, visited);
    if (found.ok()) return found;
    error = Better(error, found.error());
  }
  return error;
}

Result<Keys::Found> Keys::Lookup(const Subject& subject, int32_t id, bool create, uint32_t need, bool invalid_too) {
  Found found;
  if (id < 0) {
    found = {TRY(SpecialRing(subject, id, create)), true};
  } else {
    if (id == 0) return Errno(EINVAL);
    found.key = Key::Find(id);
    if (!found.key) return Errno(ENOKEY);
    found.possessed = SearchOwn(subject, {.key = found.key.get()}).ok();
  }
  if (!invalid_too) TRY(found.key->Validate());
  if (!found.key->Allows(subject.creds, found.possessed, need)) return Errno(EACCES);
  return found;
}

Result<Keys::Found> Keys::LookupRing(const Subject& subject, int32_t id, bool create, uint32_t need) {
  Found found = TRY(Lookup(subject, id, create, need));
  if (!found.key->IsKeyring()) return Errno(ENOTDIR);
  return found;
}

RefPtr<Key>* Keys::LinkOf(Key& ring, Type type, const std::string& description) {
  for (RefPtr<Key>& key : ring.links) {
    if (key->type == type && key->description == description) return &key;
  }
  return nullptr;
}

Result<void> Keys::CheckCycle(const Key& ring, const Key& key, int depth, std::set<const Key*>& visited) {
  if (&ring == &key) return Errno(EDEADLK);
  if (!visited.insert(&key).second) return OkResult();
  for (const RefPtr<Key>& next : key.links) {
    if (!next->IsKeyring()) continue;
    if (depth >= kMaxDepth) return Errno(ELOOP);
    TRY(CheckCycle(ring, *next, depth + 1, visited));
  }
  return OkResult();
}

void Keys::DropDead(Key& ring) {
  auto dead = [](const RefPtr<Key>& key) { return key->invalidated; };
  const size_t before = ring.links.size();
  ring.links.erase(std::remove_if(ring.links.begin(), ring.links.end(), dead), ring.links.end());
  if (ring.links.size() != before)
    (void)ring.ChargeLinks(static_cast<int>(ring.links.size()) - static_cast<int>(before));
}

// A key of the same type and description gives way.
Result<void> Keys::LinkTo(Key& ring, const RefPtr<Key>& key) {
  if (key->IsKeyring()) {
    std::set<const Key*> visited;
    TRY(CheckCycle(ring, *key, 0, visited));
  }
  DropDead(ring);
  if (RefPtr<Key>* old = LinkOf(ring, key->type, key->description)) {
    *old = key;
    return OkResult();
  }
  TRY(ring.ChargeLinks(1));
  ring.links.push_back(key);
  return OkResult();
}

}  // namespace sentry::keys
