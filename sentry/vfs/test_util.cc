// SPDX-License-Identifier: Apache-2.0
#include "sentry/vfs/test_util.h"

#include <sys/inotify.h>

namespace sentry::vfs {

void RecordingWatch::OnEvent(uint32_t mask, uint32_t cookie, std::string_view name) {
  static constexpr struct {
    uint32_t bit;
    const char* name;
  } kNames[] = {{IN_ACCESS, "access"},
                {IN_MODIFY, "modify"},
                {IN_ATTRIB, "attrib"},
                {IN_CLOSE_WRITE, "closewrite"},
                {IN_CLOSE_NOWRITE, "close"},
                {IN_OPEN, "open"},
                {IN_MOVED_FROM, "from"},
                {IN_MOVED_TO, "to"},
                {IN_CREATE, "create"},
                {IN_DELETE, "delete"},
                {IN_DELETE_SELF, "deleteself"},
                {IN_MOVE_SELF, "moveself"},
                {IN_ISDIR, "dir"}};
  std::string line = label_ + "/" + std::string(name) + ":";
  for (const auto& entry : kNames) {
    if (mask & entry.bit) line += std::string(" ") + entry.name;
  }
  log_->push_back(line);
  last_cookie = cookie;
}

}  // namespace sentry::vfs
