// SPDX-License-Identifier: Apache-2.0
// The keys of the sandbox and what tasks do with them: add_key(2), request_key(2), keyctl(2). Thread-safe.
#ifndef SENTRY_KERNEL_KEYS_KEYS_H_
#define SENTRY_KERNEL_KEYS_KEYS_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sentry/kernel/keys/key.h"

namespace sentry::keys {

// A task's own keyrings; null where there is none yet. Guarded by Keys' mutex.
struct TaskKeyrings : public RefCounted<TaskKeyrings> {
  RefPtr<Key> thread, process, session;
  int request_destination = 0;  // KEY_REQKEY_DEFL_*
};

// Who asks.
struct Subject {
  const Credentials& creds;
  TaskKeyrings& rings;
  pid_t pid = 0;
};

class Keys {
 public:
  static Keys& Get();

  // The keyrings of a new task: the session's, and the process's for a thread. Null when the parent has none.
  RefPtr<TaskKeyrings> Inherit(const RefPtr<TaskKeyrings>& parent, bool thread);
  void OnExec(TaskKeyrings& rings);

  // add_key(2). EINVAL, ENOTDIR, EACCES, EDQUOT…
  Result<int32_t> Add(const Subject& subject, Type type, std::string description, std::string payload, int32_t ring);
  // request_key(2) and KEYCTL_SEARCH (`where` not 0). `destination` 0: none.
  Result<int32_t> Search(const Subject& subject, int32_t where, Type type, const std::string& description,
                         int32_t destination);
  Result<int32_t> GetId(const Subject& subject, int32_t id, bool create);
  // Empty name: a new one without.
  Result<int32_t> JoinSession(const Subject& subject, const std::optional<std::string>& name);
  Result<void> Update(const Subject& subject, int32_t id, std::string payload);
  Result<void> Revoke(const Subject& subject, int32_t id);
  Result<void> Chown(const Subject& subject, int32_t id, uid_t uid, gid_t gid);
  Result<void> SetPermissions(const Subject& subject, int32_t id, uint32_t permissions);
  Result<std::string> Describe(const Subject& subject, int32_t id);
  Result<void> Clear(const Subject& subject, int32_t id);
  Result<void> Link(const Subject& subject, int32_t id, int32_t ring);
  Result<void> Unlink(const Subject& subject, int32_t id, int32_t ring);
  Result<void> Move(const Subject& subject, int32_t id, int32_t from, int32_t to, bool exclusive);
  Result<std::string> Read(const Subject& subject, int32_t id);
  Result<void> SetTimeout(const Subject& subject, int32_t id, unsigned seconds);
  Result<void> Invalidate(const Subject& subject, int32_t id);
  Result<int32_t> GetPersistent(const Subject& subject, uid_t uid, int32_t ring);
  Result<void> CheckView(const Subject& subject, int32_t id);
  Result<int> SetRequestDestination(const Subject& subject, int destination);

  struct Row {
    int32_t serial;
    bool revoked, invalidated, expired;
    int64_t seconds_left;  // -1: no time-out
    uint32_t permissions;
    uid_t uid;
    gid_t gid;
    int uses;
    const char* type;
    std::string summary;
  };
  std::vector<Row> List(const Subject& subject);  // what the subject may see

 private:
  struct Found {
    RefPtr<Key> key;
    bool possessed = false;
  };
  struct Match {
    const Key* key = nullptr;  // this one, or by name:
    Type type = Type::kUser;
    const std::string* description = nullptr;
  };
  // All with mu_ held. keyrings.cc:
  Result<Found> Lookup(const Subject& subject, int32_t id, bool create, uint32_t need, bool invalid_too = false);
  Result<Found> LookupRing(const Subject& subject, int32_t id, bool create, uint32_t need);
  Result<RefPtr<Key>> SpecialRing(const Subject& subject, int32_t id, bool create);
  Result<RefPtr<Key>> SearchIn(const Subject& subject, const RefPtr<Key>& ring, bool possessed, const Match& match,
                               int depth, std::set<const Key*>& visited);
  Result<RefPtr<Key>> SearchOwn(const Subject& subject, const Match& match);
  Result<void> InstallUserRings(uid_t uid);
  static RefPtr<Key>* LinkOf(Key& ring, Type type, const std::string& description);
  static Result<void> LinkTo(Key& ring, const RefPtr<Key>& key);
  static Result<void> CheckCycle(const Key& ring, const Key& key, int depth, std::set<const Key*>& visited);
  static void DropDead(Key& ring);

  struct UserRings {
    RefPtr<Key> user, session, persistent;
  };
  Mutex mu_{LockRank::kNamespace};
  std::map<uid_t, UserRings> users_;
};

}  // namespace sentry::keys

#endif  // SENTRY_KERNEL_KEYS_KEYS_H_
