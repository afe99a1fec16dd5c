// SPDX-License-Identifier: Apache-2.0
// What the CLI hands to the two internal subcommands: `runsc boot` (the sentry) and `runsc gofer`. Descriptors are
// inherited at the fixed numbers below, everything else is in the argument vector (the global flags, parsed by the
// one flag table) and in sealed memfds. A number that is not in use is closed: no other fd is open at exec.
#ifndef RUNSC_BOOT_ARGS_H_
#define RUNSC_BOOT_ARGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "runsc/config.h"
#include "runsc/spec/spec.h"

namespace runsc {

// 0 and 1 are /dev/null. 2 is the CLI's stderr when it stays attached, else /dev/null.
inline constexpr int kReportFd = 3;      // pipe, write end: ReportReady or ReportFailure, exactly once
inline constexpr int kLogFd = 4;         // --debug-log; closed when logging is off
inline constexpr int kSpecFd = 5;        // sealed memfd: the validated config.json
inline constexpr int kControlFd = 7;     // boot only: listening AF_UNIX SOCK_STREAM socket of control/server.h
inline constexpr int kHookGateFd = 7;    // gofer only: see PassHookGate; closed without hooks.createContainer
inline constexpr int kExitStatusFd = 8;  // file in the state directory, see RecordExitStatus; gofer: to read
inline constexpr int kStdioFd = 9;       // boot only: 9, 10, 11 = the container's stdin, stdout, stderr
inline constexpr int kConsoleFd = 9;     // boot only, process.terminal: instead of the three, one host pty (raw mode)
inline constexpr int kUpperDirFd = 12;   // boot only: the O_DIRECTORY of --overlay2=…:dir=/self uppers; may be closed
// kFirstGoferFd + i: SOCK_SEQPACKET pair for tree i of spec::GoferMounts; both ends have the same number.
inline constexpr int kFirstGoferFd = 13;

// Where the upper layer of the root lives (--overlay2).
enum class UpperLayer : uint8_t { kNone, kMemory, kFile };

// `runsc boot`. sentry::BootMain(BootArgs) returns the exit status of the process.
//
// The process was started in new pid (it is pid 1), mount, ipc, uts and (unless a netns is named in config.json, or it
// has none and --network=host) net namespaces; a session of its own; a user namespace too when rootless or when
// config.json maps ids. Its mount namespace is still a private copy of the host's. It holds the CLI's capabilities.
// RLIMIT_NOFILE's soft limit is raised to the hard one; signal mask empty, dispositions default but SIGPIPE and SIGHUP
// ignored; umask 0; cwd "/"; environment empty but for USER=root. PDEATHSIG is SIGKILL when the CLI stays attached (not
// across setuid-like credential changes: reset it after dropping them if `die_with_parent`).
//
// It must: confine itself; ReportReady once the control server answers (the container is then `created`) or
// ReportFailure with one line; run the container's init process on Start; when that process exits, answer waiters,
// RecordExitStatus, and return 128 + signal or the exit code, so that whoever reaps the sandbox's pid learns it too.
struct BootArgs {
  std::string container_id;
  std::string bundle;
  Config config;  // the global flags
  spec::Spec spec;
  base::UniqueFd report_fd;
  int log_fd = -1;                        // borrowed; InitLogging("sentry", ...) was called with it already
  std::vector<base::UniqueFd> gofer_fds;  // one per tree of spec::GoferMounts(spec), in that order
  base::UniqueFd control_fd;
  base::UniqueFd exit_status_fd;
  // terminal: [console]; else [stdin, stdout, stderr]; an entry may be closed (-1) when the CLI's was. Then those of
  // --preserve-fds, which the process has as 3, 4, ...; they come behind the gofer's sockets.
  std::vector<base::UniqueFd> stdio;
  bool terminal = false;
  // The upper layer over the root and whether bind mounts get one as well (--overlay2=all:...).
  UpperLayer upper = UpperLayer::kMemory;
  bool upper_on_all_mounts = false;
  base::UniqueFd upper_dir_fd;
  bool die_with_parent = false;
  // `runsc do`: the spec was made by us; root is the host's.
  bool is_do = false;
  // The CLI's own time stamp (CLOCK_MONOTONIC) when it started, for start-up logging.
  int64_t cli_start_ns = 0;
};

// `runsc gofer`: started in a new pid namespace (user too as above; gofer/sandbox.h enters the rest), the same clean
// state. It serves tree i of GoferMounts(spec) over gofer_fds[i] and ends when the sentry has closed its ends. Its
// report pipe carries failures only: a sentry that has mounted everything proves that the gofer is ready.
// The gofer of a container that joined a sandbox is what the host sees of the container: it returns its exit code.
struct GoferArgs {
  std::string container_id;
  Config config;
  spec::Spec spec;
  std::vector<spec::GoferMount> mounts;
  base::UniqueFd report_fd;
  int log_fd = -1;
  std::vector<base::UniqueFd> gofer_fds;  // one per element of `mounts`
  base::UniqueFd hook_gate_fd;
  base::UniqueFd exit_status_fd;  // of a container that joined a sandbox: what RecordExitStatus wrote
};

// Tell the CLI that the process is ready, or why it is not, and close the pipe. The line is shown to the user as is:
// it names the thing (path, field of config.json, system call) and the way out. Newlines in it become spaces.
void ReportReady(base::UniqueFd report_fd);
void ReportFailure(base::UniqueFd report_fd, const std::string& line);

// The gofer's end of a socket pair: its mount namespace is there, the CLI may run hooks.createContainer in it. Returns
// when the CLI has, or has no hooks (`gate` is closed). False: the CLI gave up, or ended.
bool PassHookGate(base::UniqueFd gate);

// Writes the container's wait status (waitpid(2) encoding) to kExitStatusFd: one pwrite(2), done before the process
// exits, so that `runsc wait` and `runsc state` know it afterwards.
void RecordExitStatus(int exit_status_fd, int wait_status);

// A view of such a file for a process that may not read(2) later: it is given kExitStatusSize bytes before.
// Thread-safe.
inline constexpr int kExitStatusSize = 16;
class ExitStatusView {
 public:
  explicit ExitStatusView(int exit_status_fd);  // of a closed one: shows nothing
  ~ExitStatusView();
  ExitStatusView(const ExitStatusView&) = delete;
  ExitStatusView& operator=(const ExitStatusView&) = delete;
  bool ok() const { return text_ != nullptr; }
  // What RecordExitStatus wrote; that of SIGKILL where it wrote nothing valid.
  int WaitStatus() const;

 private:
  const char* text_ = nullptr;
};

// 128 + signal, or the exit code: what runc and runsc return for a wait status.
int ExitCodeOf(int wait_status);

}  // namespace runsc

#endif  // RUNSC_BOOT_ARGS_H_
