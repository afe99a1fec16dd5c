// SPDX-License-Identifier: Apache-2.0
#include "runsc/sandbox/id_maps.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/unique_fd.h"
#include "runsc/errors.h"
#include "runsc/spec/json_reader.h"

namespace runsc {
namespace {

constexpr char kDefaultPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string Find(const char* program) {
  const char* path = getenv("PATH");
  for (absl::string_view directory : absl::StrSplit(path && *path ? path : kDefaultPath, ':', absl::SkipEmpty())) {
    std::string file = absl::StrCat(directory, "/", program);
    if (file[0] == '/' && access(file.c_str(), X_OK) == 0) return file;
  }
  return "";
}

// By the file: a static program has no other name services.
std::string UserName(uint32_t uid) {
  std::string text;
  if (!spec::ReadSmallFile("/etc/passwd", &text).ok()) return "";
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    std::vector<std::string> fields = absl::StrSplit(line, ':');
    uint32_t number;
    if (fields.size() > 2 && absl::SimpleAtoi(fields[2], &number) && number == uid) return fields[0];
  }
  return "";
}

}  // namespace

std::vector<spec::IdMapping> MapOfRanges(const std::string& text, const std::string& name, uint32_t uid,
                                         uint32_t self) {
  std::vector<spec::IdMapping> map = {{.container_id = 0, .host_id = self, .size = 1}};
  uint32_t next = 1;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    std::vector<std::string> fields = absl::StrSplit(line, ':');
    uint32_t first, count;
    if (fields.size() != 3 || fields[0].empty() || (fields[0] != name && fields[0] != absl::StrCat(uid))) continue;
    if (!absl::SimpleAtoi(fields[1], &first) || !absl::SimpleAtoi(fields[2], &count) || count == 0) continue;
    if (first > UINT32_MAX - count || next > UINT32_MAX - count) continue;
    map.push_back({.container_id = next, .host_id = first, .size = count});
    next += count;
  }
  if (map.size() == 1) map.clear();
  return map;
}

IdMaps OwnIdMaps() {
  IdMaps maps;
  std::string uids, gids;
  if (Find("newuidmap").empty() || Find("newgidmap").empty()) return maps;
  if (!spec::ReadSmallFile("/etc/subuid", &uids).ok() || !spec::ReadSmallFile("/etc/subgid", &gids).ok()) return maps;
  const uint32_t uid = geteuid();
  const std::string name = UserName(uid);
  maps = {.uid = MapOfRanges(uids, name, uid, uid), .gid = MapOfRanges(gids, name, uid, getegid())};
  if (maps.uid.empty() || maps.gid.empty()) maps = {};
  return maps;
}

absl::Status SetMapByHelper(const char* program, pid_t pid, const std::vector<spec::IdMapping>& map) {
  const std::string file = Find(program);
  if (file.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(program, ": not found in PATH: an ordinary user needs it for these ids (Debian: uidmap)"));
  }
  std::vector<std::string> words = {program, absl::StrCat(pid)};
  for (const spec::IdMapping& m : map) {
    for (uint32_t number : {m.container_id, m.host_id, m.size}) words.push_back(absl::StrCat(number));
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  base::UniqueFd output(memfd_create("output", MFD_CLOEXEC));
  if (!output.ok()) return absl::InternalError(absl::StrCat("memfd_create: ", ErrnoText(errno)));
  const pid_t child = fork();
  if (child < 0) return absl::InternalError(absl::StrCat("fork: ", ErrnoText(errno)));
  if (child == 0) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    dup2(output.get(), 1);
    dup2(output.get(), 2);
    char* environment[] = {nullptr};
    execve(file.c_str(), argv.data(), environment);
    dprintf(output.get(), "exec: %s", ErrnoText(errno).c_str());
    _exit(127);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  char text[400];
  const ssize_t n = pread(output.get(), text, sizeof text, 0);
  std::string words_of_it(text, n > 0 ? static_cast<size_t>(n) : 0);
  while (!words_of_it.empty() && words_of_it.back() == '\n') words_of_it.pop_back();
  for (char& c : words_of_it) c = c == '\n' ? ' ' : c;
  return absl::FailedPreconditionError(words_of_it.empty() ? absl::StrCat(program, ": failed") : words_of_it);
}

}  // namespace runsc
