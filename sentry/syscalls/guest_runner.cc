// SPDX-License-Identifier: Apache-2.0
// Runs one static host program in a kernel of its own, without boot, gofer or confinement: for tests and for debugging
// the sentry. Usage: guest_runner PROGRAM [ARGUMENT]... ; descriptors 0-2 are one tmpfs file whose contents are printed
// at the end. Other files named by GUEST_FILES (colon-separated, absolute) appear at the same place. The exit status is
// the guest's, as a shell would give it.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fstream>
#include <sstream>

#include "base/log.h"
#include "platform/safe_copy.h"
#include "platform/select.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/kernel.h"
#include "sentry/syscalls/table.h"
#include "sentry/vfs/vfs.h"

namespace sentry {
namespace {

// The caller of the set-up calls below; it never blocks.
class SetupCaller final : public Caller {
 public:
  explicit SetupCaller(RefPtr<const Credentials> creds) : creds_(std::move(creds)) { SetCurrent(this); }
  ~SetupCaller() override { SetCurrent(nullptr); }
  const RefPtr<const Credentials>& creds() const override { return creds_; }
  Blocker& blocker() override { return blocker_; }
  Result<void> Block(int64_t) override { return base::kErestartsys; }
  Result<void> BlockKillable(int64_t) override { return base::kErestartsys; }
  Result<void> CopyInBytes(UserAddr, void*, size_t) override { return Errno(EFAULT); }
  Result<void> CopyOutBytes(UserAddr, const void*, size_t) override { return Errno(EFAULT); }
  Result<std::string> CopyInString(UserAddr, size_t) override { return Errno(EFAULT); }
  uint64_t SoftLimit(int) const override { return UINT64_MAX; }
  pid_t CallerTgid() const override { return 0; }
  pid_t CallerTid() const override { return 0; }
  const void* LockOwner() const override { return this; }
  void RaiseSelf(int) override {}
  mode_t umask() const override { return 022; }

 private:
  RefPtr<const Credentials> creds_;
  Blocker blocker_;
};

void Import(const vfs::WalkContext& context, const std::string& host, const std::string& guest) {
  std::ifstream in(host, std::ios::binary);
  std::stringstream data;
  data << in.rdbuf();
  std::string bytes = data.str();
  auto file = vfs::Open(context, guest, O_CREAT | O_WRONLY | O_TRUNC, 0755);
  CHECK_THAT(file.ok());
  BufferSource source(bytes.data(), bytes.size());
  while (source.remaining() > 0) CHECK_THAT((*file)->Write(source).ok());
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

int Main(int argc, char** argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: guest_runner PROGRAM [ARGUMENT]...\n");
    return 2;
  }
  auto platform = platform::MakePlatform("ptrace");
  if (!platform.ok()) {
    fprintf(stderr, "%s\n", std::string(platform.status().message()).c_str());
    return 125;
  }
  platform::InstallSafeCopyHandler();
  auto memory = platform::MemoryFile::Create();
  CHECK_THAT(memory.ok());
  tmpfs::ConfigureTmpfs(**memory, uint64_t{1} << 30);
  RefPtr<Credentials> root = Credentials::Root(kAllCapabilities);
  auto* kernel = new kernel::Kernel(std::move(*platform), std::move(*memory), {});
  kernel->set_syscall_handler(syscalls::Dispatch);

  RefPtr<kernel::ThreadGroup> group;
  vfs::FileRef out;
  {
    SetupCaller caller(root);
    auto filesystem = tmpfs::Tmpfs::Create(kernel->memory_file(), {.mode = 0755});
    auto mount = MakeRef<vfs::Mount>(filesystem, vfs::Dentry::NewRoot(filesystem->Root()), 0, "tmpfs");
    auto mounts = MakeRef<vfs::MountNamespace>(mount, kernel->root_user_ns());
    vfs::Path at{mount, mount->root()};
    vfs::WalkContext context{at, at, *root, mounts, 022};
    for (const char* directory : {"/bin", "/tmp"}) CHECK_THAT(vfs::Mkdir(context, directory, 0777).ok());
    std::string program = "/bin/" + BaseName(argv[1]);
    Import(context, argv[1], program);
    if (const char* more = getenv("GUEST_FILES")) {
      std::stringstream list(more);
      for (std::string each; std::getline(list, each, ':');) {
        for (size_t slash = each.find('/', 1); slash != each.npos; slash = each.find('/', slash + 1)) {
          (void)vfs::Mkdir(context, each.substr(0, slash), 0755);
        }
        Import(context, each, each);
      }
    }
    out = vfs::Open(context, "/tmp/out", O_CREAT | O_RDWR | O_APPEND, 0666).value_or(nullptr);
    CHECK_THAT(out);
    kernel::ProcessRequest request;
    request.root = request.cwd = at;
    request.mounts = mounts;
    request.creds = root;
    request.filename = program;
    request.argv.assign(argv + 1, argv + argc);
    request.envp = {"PATH=/bin", "HOME=/"};
    request.fds = MakeRef<kernel::FdTable>();
    for (int i = 0; i < 3; ++i) CHECK_THAT(request.fds->Add(out, false, 1024).ok());
    auto started = kernel->StartProcess(request);
    if (!started.ok()) {
      fprintf(stderr, "%s: %s\n", argv[1], started.error().Name());
      return 126;
    }
    group = *started;
  }
  auto status = group->WaitForExit(base::MonotonicNs() + 60 * base::kNsPerSecond);
  SetupCaller caller(root);
  std::string text(1 << 20, 0);
  BufferTarget target(text.data(), text.size());
  auto n = out->PRead(target, 0);
  fwrite(text.data(), 1, n.ok() ? *n : 0, stdout);
  fflush(stdout);
  if (!status) {
    fprintf(stderr, "guest_runner: no end after 60 s\n");
    _exit(124);
  }
  _exit(status->signal ? 128 + status->signal : status->code);
}

}  // namespace
}  // namespace sentry

int main(int argc, char** argv) { return sentry::Main(argc, argv); }
