// SPDX-License-Identifier: Apache-2.0
// Ids and keys of one kind of System V object in one namespace. An id is sequence * 32768 + index; the index is the
// lowest free one, and the sequence goes up whenever an index could be met again, so that an old id finds nothing.
// Everything here runs with the owner's mutex held.
#ifndef SENTRY_KERNEL_IPC_REGISTRY_H_
#define SENTRY_KERNEL_IPC_REGISTRY_H_

#include <map>

#include "sentry/common.h"
#include "sentry/kernel/ipc/permissions.h"

namespace sentry::ipc {

inline constexpr int kIndexBits = 15;
inline constexpr int kMaxObjects = 1 << kIndexBits;  // IPCMNI

struct IpcObject {
  Permissions permissions;
  int id = -1;
  bool removed = false;
};

// How an id argument is meant.
enum class IdKind { kId, kIndex };

template <typename T>
class Registry {
 public:
  // EINVAL.
  Result<RefPtr<T>> Find(int id, IdKind kind = IdKind::kId) const {
    if (id < 0) return Errno(EINVAL);
    auto it = objects_.find(id & (kMaxObjects - 1));
    if (it == objects_.end() || (kind == IdKind::kId && it->second->id != id)) return Errno(EINVAL);
    return it->second;
  }

  // ipcget of Linux: `check(existing)` and `make()` decide. `limit` is how many there may be. The id.
  template <typename Check, typename Make>
  Result<int> Get(key_t key, int flags, int limit, const Credentials& creds, Check check, Make make) {
    if (key != IPC_PRIVATE) {
      auto it = keys_.find(key);
      if (it != keys_.end()) {
        if ((flags & IPC_CREAT) && (flags & IPC_EXCL)) return Errno(EEXIST);
        T& found = *objects_.at(it->second);
        TRY(check(found));
        TRY(CheckAccess(found.permissions, static_cast<uint32_t>(flags), creds));
        return found.id;
      }
      if (!(flags & IPC_CREAT)) return Errno(ENOENT);
    }
    RefPtr<T> made = TRY(make());
    if (static_cast<int>(objects_.size()) >= std::min(limit, kMaxObjects)) return Errno(ENOSPC);
    made->permissions = NewPermissions(key, static_cast<uint32_t>(flags), creds);
    int index = 0;
    for (const auto& [used, object] : objects_) {
      if (used != index) break;
      ++index;
    }
    if (index <= last_index_) sequence_ = (sequence_ + 1) % (INT32_MAX >> kIndexBits);
    last_index_ = index;
    made->id = sequence_ << kIndexBits | index;
    if (key != IPC_PRIVATE) keys_[key] = index;
    int id = made->id;
    objects_[index] = std::move(made);
    return id;
  }

  // The caller keeps a reference over this.
  void Remove(T& object) {
    if (object.removed) return;
    object.removed = true;
    ForgetKey(object);
    objects_.erase(object.id & (kMaxObjects - 1));
  }
  void ForgetKey(T& object) {
    if (object.permissions.key != IPC_PRIVATE) keys_.erase(object.permissions.key);
    object.permissions.key = IPC_PRIVATE;
  }

  size_t size() const { return objects_.size(); }
  int max_index() const { return objects_.empty() ? 0 : objects_.rbegin()->first; }
  const std::map<int, RefPtr<T>>& objects() const { return objects_; }  // by index

 private:
  std::map<int, RefPtr<T>> objects_;
  std::map<key_t, int> keys_;
  int last_index_ = -1, sequence_ = 0;
};

}  // namespace sentry::ipc

#endif  // SENTRY_KERNEL_IPC_REGISTRY_H_
