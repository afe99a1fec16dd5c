// SPDX-License-Identifier: Apache-2.0
// Control groups for tests: hierarchies mounted in a mount namespace of the test's own, and groups in them that are
// removed with all they hold.
#ifndef TESTS_SYSCALLS_CGROUP_UTIL_H_
#define TESTS_SYSCALLS_CGROUP_UTIL_H_

#include <memory>
#include <string>
#include <vector>

#include "tests/syscalls/util.h"

// A cgroup filesystem mounted until the end of the scope. ok(): false where it can't be had, and why() says so.
class Hierarchy {
 public:
  // `options` empty: v2; else v1's ("pids", "none,name=x").
  explicit Hierarchy(const std::string& options);
  ~Hierarchy();
  Hierarchy(const Hierarchy&) = delete;
  bool ok() const { return why_.empty(); }
  const std::string& why() const { return why_; }
  const std::string& path() const { return directory_.path(); }
  std::string operator/(const std::string& name) const { return path() + "/" + name; }

 private:
  TempDir directory_;
  std::string why_;
};

// A group below `parent` with a name of its own; its processes are killed, and it and its children removed, at the end.
class Group {
 public:
  explicit Group(const std::string& parent);
  ~Group();
  Group(const Group&) = delete;
  const std::string& path() const { return path_; }
  // As /proc/PID/cgroup shows it, for a group directly below the hierarchy's root.
  std::string name() const { return path_.substr(path_.rfind('/')); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::string Read(const std::string& file) const { return ReadFile(path_ + "/" + file); }
  // 0, or the errno of open or write.
  int Write(const std::string& file, const std::string& text) const;

 private:
  std::string path_;
};

// 0, or the errno of open(2) or write(2). Unlike WriteFile makes and truncates nothing.
int Store(const std::string& path, const std::string& text);
// The number after `key` and a blank, at the start of a line; -1: none.
long ValueOf(const std::string& text, const std::string& key);
// The path of the line of /proc/PID/cgroup whose middle field is `controllers` ("" for v2); "" when there is none.
std::string PathIn(const std::string& pid, const std::string& controllers);
// Waits, bounded, until `condition` holds, yielding the processor.
bool Eventually(const std::function<bool()>& condition);
// Makes `controllers` ("pids memory") available below the v2 hierarchy's root as this process sees it: moves its
// processes to a child group first where that is not the real root. "" or why that can't be.
std::string EnableControllers(const Hierarchy& v2, const std::vector<std::string>& controllers);

// A hierarchy in which groups below path() have a controller, of either version, until the end of the scope.
class Controller {
 public:
  Controller(int version, const std::string& name);
  ~Controller();
  Controller(const Controller&) = delete;
  int version() const { return version_; }
  const std::string& path() const { return hierarchy_.path(); }
  std::string operator/(const std::string& name) const { return path() + "/" + name; }
  // Why it can't be had here: a reason to skip in v2 (the host's v1 hierarchies may have the controller).
  const std::string& why() const { return why_; }

 private:
  const int version_;
  const std::string name_;
  Hierarchy hierarchy_;
  std::string why_;
};

// Tests of a controller with the version as parameter. Hosts whose v1 hierarchies have a controller have none of it in
// v2: those tests are skipped there, with the reason.
class ControllerTest : public testing::TestWithParam<int> {
 protected:
  // Skips (v2 without the controller) or fails (v1).
  void Use(const std::string& name) {
    controller_ = std::make_unique<Controller>(GetParam(), name);
    if (controller_->why().empty()) return;
    if (GetParam() == 2) GTEST_SKIP() << controller_->why();
    FAIL() << controller_->why();
  }
  bool v2() const { return GetParam() == 2; }
  const std::string& path() const { return controller_->path(); }

 private:
  std::unique_ptr<Controller> controller_;
};

#define USE(name) \
  Use(name);      \
  if (IsSkipped() || HasFatalFailure()) return

#endif  // TESTS_SYSCALLS_CGROUP_UTIL_H_
