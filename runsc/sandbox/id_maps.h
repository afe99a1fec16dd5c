// SPDX-License-Identifier: Apache-2.0
// Maps of user namespaces that an ordinary user makes: the ids that the system grants it (subuid(5), subgid(5)), set by
// the set-id programs newuidmap(1) and newgidmap(1).
#ifndef RUNSC_SANDBOX_ID_MAPS_H_
#define RUNSC_SANDBOX_ID_MAPS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runsc/spec/spec.h"

namespace runsc {

// Id 0 for `self`, and the ids from 1 on for the ranges that `text`, a subuid(5) file, gives the user. Lines that are
// not "USER:FIRST:COUNT" are skipped, `user` is the name or the number. Empty: it has none.
std::vector<spec::IdMapping> MapOfRanges(const std::string& text, const std::string& name, uint32_t uid, uint32_t self);

// Such maps of the calling user, of /etc/subuid and /etc/subgid. Both empty unless it has ranges of both and the
// programs are there.
struct IdMaps {
  std::vector<spec::IdMapping> uid, gid;
};
IdMaps OwnIdMaps();

// Has `program` ("newuidmap", "newgidmap"; found by PATH) write a map of the namespace of `pid`. The error has its
// words.
absl::Status SetMapByHelper(const char* program, pid_t pid, const std::vector<spec::IdMapping>& map);

}  // namespace runsc

#endif  // RUNSC_SANDBOX_ID_MAPS_H_
