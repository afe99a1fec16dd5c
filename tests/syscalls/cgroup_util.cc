// SPDX-License-Identifier: Apache-2.0
#include "tests/syscalls/cgroup_util.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#include <sstream>

namespace {

// Mounts of the tests stay out of the host's namespace.
bool OwnMountNamespace() {
  static const bool own = unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  return own;
}

void RemoveTree(const std::string& path) {
  if (DIR* directory = opendir(path.c_str())) {
    while (dirent* entry = readdir(directory)) {
      if (entry->d_type == DT_DIR && entry->d_name[0] != '.') RemoveTree(path + "/" + entry->d_name);
    }
    closedir(directory);
  }
  for (const char* list : {"/cgroup.procs", "/cgroup.threads", "/tasks"}) {
    std::istringstream pids(ReadFile(path + list));
    for (pid_t pid; pids >> pid;) {
      if (pid > 1 && pid != getpid()) kill(pid, SIGKILL);
    }
  }
  // The dead leave a moment later.
  (void)Eventually([&] { return rmdir(path.c_str()) == 0 || errno == ENOENT; });
}

}  // namespace

Hierarchy::Hierarchy(const std::string& options) {
  if (!OwnMountNamespace()) {
    why_ = std::string("no mount namespace: ") + strerror(errno);
  } else if (mount("cgroup", path().c_str(), options.empty() ? "cgroup2" : "cgroup", 0,
                   options.empty() ? nullptr : options.c_str()) != 0) {
    why_ = "mount of cgroup \"" + options + "\": " + strerror(errno);
  }
}

Hierarchy::~Hierarchy() {
  if (ok()) umount2(path().c_str(), MNT_DETACH);
}

Group::Group(const std::string& parent) {
  static int count = 0;
  path_ = parent + "/test-" + std::to_string(getpid()) + "-" + std::to_string(count++);
  EXPECT_OK(mkdir(path_.c_str(), 0755));
}

Group::~Group() { RemoveTree(path_); }

int Group::Write(const std::string& file, const std::string& text) const { return Store(path_ + "/" + file, text); }

int Store(const std::string& path, const std::string& text) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.ok()) return errno;
  return write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : errno;
}

long ValueOf(const std::string& text, const std::string& key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, key.size() + 1, key + " ") == 0) return std::stol(line.substr(key.size() + 1));
  }
  return -1;
}

std::string PathIn(const std::string& pid, const std::string& controllers) {
  std::istringstream lines(ReadFile("/proc/" + pid + "/cgroup"));
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (line.substr(first + 1, second - first - 1) == controllers) return line.substr(second + 1);
  }
  return "";
}

bool Eventually(const std::function<bool()>& condition) {
  timespec now, end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += 20;
  do {
    if (condition()) return true;
    sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while (now.tv_sec < end.tv_sec);
  return condition();
}

std::string EnableControllers(const Hierarchy& v2, const std::vector<std::string>& controllers) {
  std::string enable;
  const std::string there = " " + ReadFile(v2 / "cgroup.controllers");
  for (const std::string& name : controllers) {
    if (there.find(" " + name) == std::string::npos) return "v2 has no controller \"" + name + "\" on this system";
    enable += "+" + name + " ";
  }
  if (access((v2 / "cgroup.type").c_str(), F_OK) == 0) {
    // Groups but the root either have processes or hand resources out.
    const std::string child = v2 / "others";
    if (mkdir(child.c_str(), 0755) != 0 && errno != EEXIST) return std::string("mkdir: ") + strerror(errno);
    std::istringstream pids(ReadFile(v2 / "cgroup.procs"));
    for (std::string pid; pids >> pid;) {
      if (pid != "0") (void)Store(child + "/cgroup.procs", pid);
    }
  }
  const int error = Store(v2 / "cgroup.subtree_control", enable);
  return error ? std::string("cgroup.subtree_control: ") + strerror(error) : "";
}

Controller::Controller(int version, const std::string& name)
    : version_(version), name_(name), hierarchy_(version == 1 ? name : "") {
  why_ = !hierarchy_.ok() ? hierarchy_.why() : version == 2 ? EnableControllers(hierarchy_, {name}) : "";
}

Controller::~Controller() {
  if (version_ == 2 && why_.empty()) (void)Store(hierarchy_ / "cgroup.subtree_control", "-" + name_);
}
