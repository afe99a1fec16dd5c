// SPDX-License-Identifier: Apache-2.0
// Where AF_UNIX endpoints are found: abstract names by network namespace and type, and socket files through their
// inodes.
#ifndef SENTRY_SOCKET_UNIX_NAMES_H_
#define SENTRY_SOCKET_UNIX_NAMES_H_

#include <map>
#include <set>
#include <tuple>

#include "sentry/socket/unix/endpoint.h"

namespace sentry::socket {

// A sockaddr_un: the family, then a path up to NUL, an abstract name (its first byte is NUL), or nothing.
struct ParsedUnixName {
  enum class Kind : uint8_t { kUnnamed, kPath, kAbstract } kind = Kind::kUnnamed;
  std::string path;   // kPath
  std::string bytes;  // the sockaddr as getsockname(2) shows it
};
// EINVAL: another family, or longer than sockaddr_un.
Result<ParsedUnixName> ParseUnixName(std::string_view address);

// What a socket inode's special() is: the endpoint bound there, or null once that ended.
class BoundName final : public vfs::SpecialObject {
 public:
  explicit BoundName(RefPtr<UnixEndpoint> endpoint) : endpoint_(std::move(endpoint)) {}
  RefPtr<UnixEndpoint> Get() const;
  void Clear();

 private:
  mutable Mutex mu_{LockRank::kLeaf};
  RefPtr<UnixEndpoint> endpoint_ ABSL_GUARDED_BY(mu_);
};

class UnixNames {
 public:
  static UnixNames& Get();
  // False: taken. The name is kept until Remove.
  bool AddAbstract(uint64_t net_namespace, int type, const std::string& bytes, UnixEndpoint& endpoint);
  void RemoveAbstract(uint64_t net_namespace, int type, const std::string& bytes);
  RefPtr<UnixEndpoint> FindAbstract(uint64_t net_namespace, int type, const std::string& bytes) const;
  // The endpoint that the caller means. ENOENT and other errors of the walk, EACCES, ECONNREFUSED, EPROTOTYPE.
  Result<RefPtr<UnixEndpoint>> Find(const UnixEndpoint& from, const ParsedUnixName& name) const;

  // Every endpoint with a file, for /proc/net/unix.
  void AddOpen(UnixEndpoint& endpoint);
  void RemoveOpen(UnixEndpoint& endpoint);
  std::vector<RefPtr<UnixEndpoint>> List(uint64_t net_namespace) const;

 private:
  using Key = std::tuple<uint64_t, int, std::string>;
  mutable Mutex mu_{LockRank::kLeaf};
  std::map<Key, RefPtr<UnixEndpoint>> abstract_ ABSL_GUARDED_BY(mu_);
  std::set<UnixEndpoint*> open_ ABSL_GUARDED_BY(mu_);  // their files keep them
};

}  // namespace sentry::socket

#endif  // SENTRY_SOCKET_UNIX_NAMES_H_
