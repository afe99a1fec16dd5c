// SPDX-License-Identifier: Apache-2.0
// containerd-shim-runsc-v1: containerd calls it with `start` to get the address of a shim, and with `delete` to clear
// up what a lost one left. Without a command it is the shim itself, started by `start`.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "runsc/container/store.h"
#include "runsc/errors.h"
#include "runsc/spec/json_reader.h"
#include "runsc/spec/spec.h"
#include "shim/mounts.h"
#include "shim/options.h"
#include "shim/proto/task.pb.h"
#include "shim/publisher.h"
#include "shim/reaper.h"
#include "shim/runtime.h"
#include "shim/service.h"
#include "shim/thread.h"
#include "shim/ttrpc/client.h"
#include "shim/ttrpc/server.h"

namespace shim {
namespace {

// containerd's own directory for the sockets of shims.
constexpr char kSocketDirectory[] = "/run/containerd/s";
constexpr int kListenerFd = 3;

struct Arguments {
  std::string name_space, id, address, publish_binary, bundle, command;
  bool debug = false, version = false;
};

// As Go's flag package parses them: one or two dashes, "-name value" or "-name=value".
absl::StatusOr<Arguments> ParseArguments(int argc, char** argv) {
  Arguments arguments;
  std::string ignored;
  const std::pair<const char*, std::string*> strings[] = {
      {"namespace", &arguments.name_space},          {"id", &arguments.id},         {"address", &arguments.address},
      {"publish-binary", &arguments.publish_binary}, {"bundle", &arguments.bundle}, {"socket", &ignored},
  };
  for (int i = 1; i < argc; ++i) {
    std::string text = argv[i];
    if (text[0] != '-') {
      arguments.command = text;
      continue;
    }
    text.erase(0, text.rfind("--", 0) == 0 ? 2 : 1);
    std::string name = text.substr(0, text.find('='));
    if (name == "debug" || name == "v" || name == "version") {
      (name == "debug" ? arguments.debug : arguments.version) = true;
      continue;
    }
    std::string* to = nullptr;
    for (const auto& [known, value] : strings) {
      if (name == known) to = value;
    }
    if (!to) return absl::InvalidArgumentError(absl::StrCat("unknown flag -", name));
    if (name.size() < text.size()) {
      *to = text.substr(name.size() + 1);
    } else if (++i < argc) {
      *to = argv[i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat("-", name, " needs a value"));
    }
  }
  return arguments;
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::string fresh = path + ".new";
  base::UniqueFd fd(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (fd.ok() && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
      rename(fresh.c_str(), path.c_str()) == 0) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat(path, ": ", runsc::ErrnoText(errno)));
}

// The address that an earlier start left in this bundle, if a shim answers there.
std::string RunningShim() {
  std::string address;
  if (!runsc::spec::ReadSmallFile("address", &address).ok()) return "";
  return ttrpc::Client::Connect(address).ok() ? address : "";
}

// A container of a pod is served by the shim of the sandbox that it joins: its address, if it answers. containerd's
// bundles are siblings.
std::string ShimOfSandbox() {
  std::string text, address;
  std::map<std::string, std::string> annotations;
  if (!runsc::spec::ReadSmallFile("config.json", &text).ok()) return "";
  auto read = [&](runsc::spec::ObjectReader& r) { r.StringMap("annotations", &annotations); };
  if (!runsc::spec::ReadJsonObject(text, "", read, nullptr).ok()) return "";
  const runsc::spec::Pod pod = runsc::spec::PodOf(annotations);
  if (pod.role != runsc::spec::PodRole::kContainer || !runsc::ValidateId(pod.sandbox_id).ok()) return "";
  if (!runsc::spec::ReadSmallFile("../" + pod.sandbox_id + "/address", &address).ok()) return "";
  return ttrpc::Client::Connect(address).ok() ? address : "";
}

absl::StatusOr<base::UniqueFd> Listen(std::string* path) {
  mkdir("/run/containerd", 0711);
  mkdir(kSocketDirectory, 0711);
  // Named at random: the bundle's file `address` says which it is.
  unsigned char random[16];
  if (getrandom(random, sizeof random, 0) != sizeof random) return absl::InternalError("getrandom");
  *path = absl::StrCat(kSocketDirectory, "/");
  for (unsigned char byte : random) {
    char hex[3];
    snprintf(hex, sizeof hex, "%02x", byte);
    *path += hex;
  }
  sockaddr_un address = {.sun_family = AF_UNIX};
  path->copy(address.sun_path, sizeof address.sun_path - 1);
  base::UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  fchmod(listener.get(), 0600);
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(listener.get(), 128) != 0) {
    return absl::InternalError(absl::StrCat(*path, ": ", runsc::ErrnoText(errno)));
  }
  return listener;
}

// The daemon is to outlive what runs in it when memory is short.
void LowerOomScore(pid_t pid) {
  std::string path = absl::StrCat("/proc/", pid, "/oom_score_adj");
  base::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.ok() || write(fd.get(), "-998", 4) != 4) {
    // Not permitted without CAP_SYS_RESOURCE: it only makes the shim more likely to be chosen.
    LOG_INFO("%s: %s", path.c_str(), runsc::ErrnoText(errno).c_str());
  }
}

absl::StatusOr<int> Start(const Arguments& arguments) {
  std::string address = RunningShim();
  if (!address.empty()) {
    printf("%s", address.c_str());
    return 0;
  }
  address = ShimOfSandbox();
  if (!address.empty()) {
    RETURN_IF_ERROR(WriteFile("address", address));
    printf("%s", address.c_str());
    return 0;
  }
  std::string path;
  base::UniqueFd listener = VALUE_OR_RETURN(Listen(&path));
  address = "unix://" + path;
  absl::Status status = WriteFile("address", address);
  pid_t pid = -1;
  if (status.ok()) pid = fork();
  if (pid == 0) {
    setsid();
    // dup2(2) onto itself would leave it to be closed at exec.
    if (listener.get() == kListenerFd) fcntl(kListenerFd, F_SETFD, 0);
    dup2(listener.get(), kListenerFd);
    std::vector<const char*> argv = {"containerd-shim-runsc-v1",
                                     "-namespace",
                                     arguments.name_space.c_str(),
                                     "-id",
                                     arguments.id.c_str(),
                                     "-address",
                                     arguments.address.c_str(),
                                     "-publish-binary",
                                     arguments.publish_binary.c_str()};
    if (arguments.debug) argv.push_back("-debug");
    argv.push_back(nullptr);
    // containerd reads our output to its end.
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2; ++fd) dup2(null, fd);
    execv("/proc/self/exe", const_cast<char**>(argv.data()));
    _exit(127);
  }
  if (pid < 0) {
    unlink(path.c_str());
    return status.ok() ? absl::ResourceExhaustedError(absl::StrCat("fork: ", runsc::ErrnoText(errno))) : status;
  }
  WriteFile("shim.pid", absl::StrCat(pid)).IgnoreError();
  LowerOomScore(pid);
  printf("%s", address.c_str());
  return 0;
}

// A shim is lost, and maybe its container's sandbox is still there.
absl::StatusOr<int> Delete(const Arguments& arguments) {
  std::string bundle = arguments.bundle;
  if (bundle.empty()) {
    char* cwd = getcwd(nullptr, 0);
    bundle = cwd ? cwd : "/";
    free(cwd);
  }
  RETURN_IF_ERROR(Reaper::Start());
  std::string text;
  pb::Any any;
  // As the shim left them in Create.
  if (runsc::spec::ReadSmallFile(bundle + "/options.any", &text).ok()) any.ParseFromString(text);
  RuntimeOptions options = VALUE_OR_RETURN(ParseOptions(any));
  absl::Status deleted =
      Runtime(options, arguments.name_space, bundle).Call({.arguments = {"delete", "--force", arguments.id}});
  if (!deleted.ok()) fprintf(stderr, "%s\n", std::string(deleted.message()).c_str());
  UnmountAll(bundle + "/rootfs");
  // Where it answers, it serves other containers of the pod.
  if (runsc::spec::ReadSmallFile(bundle + "/address", &text).ok() && text.rfind("unix://", 0) == 0 &&
      !ttrpc::Client::Connect(text).ok()) {
    unlink(text.substr(strlen("unix://")).c_str());
  }
  pb::DeleteResponse response;
  // Without it dockerd takes the end for another process's, and the container for a running one.
  uint32_t pid = 0;
  if (runsc::spec::ReadSmallFile(bundle + "/init.pid", &text).ok() && absl::SimpleAtoi(text, &pid))
    response.set_pid(pid);
  response.set_exit_status(128 + SIGKILL);
  const int64_t now = base::RealtimeNs();
  response.mutable_exited_at()->set_seconds(now / base::kNsPerSecond);
  response.mutable_exited_at()->set_nanos(static_cast<int32_t>(now % base::kNsPerSecond));
  std::string out = response.SerializeAsString();
  fwrite(out.data(), 1, out.size(), stdout);
  return 0;
}

absl::StatusOr<int> Serve(const Arguments& arguments) {
  std::string address;
  RETURN_IF_ERROR(runsc::spec::ReadSmallFile("address", &address));
  fcntl(kListenerFd, F_SETFD, FD_CLOEXEC);
  // Not the "exe" that it was started as.
  prctl(PR_SET_NAME, "containerd-shim", 0, 0, 0);
  // A fifo that containerd reads; nothing waits for it.
  static base::UniqueFd log(open("log", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  base::InitLogging("shim", log.ok() ? log.get() : STDERR_FILENO,
                    arguments.debug ? base::LogLevel::kDebug : base::LogLevel::kInfo);
  RETURN_IF_ERROR(Reaper::Start());
  const char* ttrpc_address = getenv("TTRPC_ADDRESS");
  auto* publisher = new Publisher({.name_space = arguments.name_space,
                                   .ttrpc_address = ttrpc_address ? ttrpc_address : "",
                                   .publish_binary = arguments.publish_binary,
                                   .grpc_address = arguments.address});
  publisher->Start();
  auto* service = new Service(arguments.name_space, publisher, [publisher, address] {
    // Behind the answer to the call that asks for it.
    StartThread([publisher, address] {
      publisher->Flush(5000);
      unlink(address.substr(strlen("unix://")).c_str());
      Pause(20);
      _exit(0);
    });
  });
  auto* server =
      new ttrpc::Server(base::UniqueFd(kListenerFd),
                        [service](const std::string& name, const std::string& method, const std::string& payload) {
                          return service->Call(name, method, payload);
                        });
  RETURN_IF_ERROR(server->Serve());
  return 0;
}

absl::StatusOr<int> Main(int argc, char** argv) {
  Arguments arguments = VALUE_OR_RETURN(ParseArguments(argc, argv));
  if (arguments.version) {
    printf("containerd-shim-runsc-v1:\n  Version:  0.1.0\n");
    return 0;
  }
  if (arguments.name_space.empty() || arguments.id.empty()) {
    return absl::InvalidArgumentError("-namespace and -id are needed: this program is run by containerd");
  }
  if (arguments.command == "start") return Start(arguments);
  if (arguments.command == "delete") return Delete(arguments);
  if (arguments.command.empty()) return Serve(arguments);
  return absl::InvalidArgumentError(absl::StrCat("unknown command \"", arguments.command, "\": start or delete"));
}

}  // namespace
}  // namespace shim

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  auto code = shim::Main(argc, argv);
  if (code.ok()) return *code;
  fprintf(stderr, "containerd-shim-runsc-v1: %s\n", std::string(code.status().message()).c_str());
  return 1;
}
