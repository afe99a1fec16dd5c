// SPDX-License-Identifier: Apache-2.0
#include "sentry/trace/flag_tables.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <linux/fs.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>

namespace sentry::trace {
namespace {

#define NAMED(name) \
  NamedValue { static_cast<uint64_t>(name), #name }
// The kernel's 32 bits of an int constant that glibc may show as negative.
#define NAMED32(name) \
  NamedValue { static_cast<uint32_t>(name), #name }

constexpr NamedValue kAccessModes[] = {NAMED(O_RDONLY), NAMED(O_WRONLY), NAMED(O_RDWR)};
constexpr NamedValue kOpenFlags[] = {
    NAMED(O_CREAT),           NAMED(O_EXCL),    NAMED(O_NOCTTY),    NAMED(O_TRUNC),    NAMED(O_APPEND),
    NAMED(O_NONBLOCK),        NAMED(O_SYNC),    NAMED(O_DSYNC),     NAMED(O_ASYNC),    NAMED(O_DIRECT),
    {0100000, "O_LARGEFILE"}, NAMED(O_TMPFILE), NAMED(O_DIRECTORY), NAMED(O_NOFOLLOW), NAMED(O_NOATIME),
    NAMED(O_CLOEXEC),         NAMED(O_PATH),
};
constexpr NamedValue kCloseOnExec[] = {NAMED(FD_CLOEXEC)};
constexpr NamedValue kProt[] = {NAMED(PROT_READ), NAMED(PROT_WRITE), NAMED(PROT_EXEC), NAMED(PROT_GROWSDOWN),
                                NAMED(PROT_GROWSUP)};
constexpr NamedValue kProtNone[] = {NAMED(PROT_NONE)};
constexpr NamedValue kMapTypes[] = {{0, "MAP_FILE"}, NAMED(MAP_SHARED), NAMED(MAP_PRIVATE), NAMED(MAP_SHARED_VALIDATE)};
constexpr NamedValue kMapFlags[] = {
    NAMED(MAP_FIXED),      NAMED(MAP_ANONYMOUS), NAMED(MAP_32BIT),     NAMED(MAP_GROWSDOWN),       NAMED(MAP_DENYWRITE),
    NAMED(MAP_EXECUTABLE), NAMED(MAP_LOCKED),    NAMED(MAP_NORESERVE), NAMED(MAP_POPULATE),        NAMED(MAP_NONBLOCK),
    NAMED(MAP_STACK),      NAMED(MAP_HUGETLB),   NAMED(MAP_SYNC),      NAMED(MAP_FIXED_NOREPLACE),
};
constexpr NamedValue kSignals[] = {
    {0, "0"},       NAMED(SIGHUP),  NAMED(SIGINT),    NAMED(SIGQUIT), NAMED(SIGILL),    NAMED(SIGTRAP),
    NAMED(SIGABRT), NAMED(SIGBUS),  NAMED(SIGFPE),    NAMED(SIGKILL), NAMED(SIGUSR1),   NAMED(SIGSEGV),
    NAMED(SIGUSR2), NAMED(SIGPIPE), NAMED(SIGALRM),   NAMED(SIGTERM), NAMED(SIGSTKFLT), NAMED(SIGCHLD),
    NAMED(SIGCONT), NAMED(SIGSTOP), NAMED(SIGTSTP),   NAMED(SIGTTIN), NAMED(SIGTTOU),   NAMED(SIGURG),
    NAMED(SIGXCPU), NAMED(SIGXFSZ), NAMED(SIGVTALRM), NAMED(SIGPROF), NAMED(SIGWINCH),  NAMED(SIGIO),
    NAMED(SIGPWR),  NAMED(SIGSYS),  {32, "SIGRTMIN"},
};
constexpr NamedValue kSigHow[] = {NAMED(SIG_BLOCK), NAMED(SIG_UNBLOCK), NAMED(SIG_SETMASK)};
constexpr NamedValue kCloneFlags[] = {
    NAMED(CLONE_VM),
    NAMED(CLONE_FS),
    NAMED(CLONE_FILES),
    NAMED(CLONE_SIGHAND),
    NAMED(CLONE_PIDFD),
    NAMED(CLONE_PTRACE),
    NAMED(CLONE_VFORK),
    NAMED(CLONE_PARENT),
    NAMED(CLONE_THREAD),
    NAMED(CLONE_NEWNS),
    NAMED(CLONE_SYSVSEM),
    NAMED(CLONE_SETTLS),
    NAMED(CLONE_PARENT_SETTID),
    NAMED(CLONE_CHILD_CLEARTID),
    NAMED(CLONE_DETACHED),
    NAMED(CLONE_UNTRACED),
    NAMED(CLONE_CHILD_SETTID),
    NAMED(CLONE_NEWCGROUP),
    NAMED(CLONE_NEWUTS),
    NAMED(CLONE_NEWIPC),
    NAMED(CLONE_NEWUSER),
    NAMED(CLONE_NEWPID),
    NAMED(CLONE_NEWNET),
    NAMED(CLONE_IO),
};
constexpr NamedValue kFutexCommands[] = {
    NAMED(FUTEX_WAIT),           NAMED(FUTEX_WAKE),        NAMED(FUTEX_FD),          NAMED(FUTEX_REQUEUE),
    NAMED(FUTEX_CMP_REQUEUE),    NAMED(FUTEX_WAKE_OP),     NAMED(FUTEX_LOCK_PI),     NAMED(FUTEX_UNLOCK_PI),
    NAMED(FUTEX_TRYLOCK_PI),     NAMED(FUTEX_WAIT_BITSET), NAMED(FUTEX_WAKE_BITSET), NAMED(FUTEX_WAIT_REQUEUE_PI),
    NAMED(FUTEX_CMP_REQUEUE_PI), NAMED(FUTEX_LOCK_PI2),
};
constexpr NamedValue kFutexFlags[] = {NAMED(FUTEX_PRIVATE_FLAG), NAMED(FUTEX_CLOCK_REALTIME)};
constexpr NamedValue kDomains[] = {
    NAMED(AF_UNSPEC),  NAMED(AF_UNIX),   NAMED(AF_INET), NAMED(AF_INET6),
    NAMED(AF_NETLINK), NAMED(AF_PACKET), NAMED(AF_ALG),  NAMED(AF_VSOCK),
};
constexpr NamedValue kSocketTypes[] = {
    NAMED(SOCK_STREAM),    NAMED(SOCK_DGRAM), NAMED(SOCK_RAW),    NAMED(SOCK_RDM),
    NAMED(SOCK_SEQPACKET), NAMED(SOCK_DCCP),  NAMED(SOCK_PACKET),
};
constexpr NamedValue kSocketFlags[] = {NAMED(SOCK_CLOEXEC), NAMED(SOCK_NONBLOCK)};
constexpr NamedValue kWhence[] = {NAMED(SEEK_SET), NAMED(SEEK_CUR), NAMED(SEEK_END), NAMED(SEEK_DATA),
                                  NAMED(SEEK_HOLE)};
constexpr NamedValue kAccess[] = {NAMED(R_OK), NAMED(W_OK), NAMED(X_OK)};
constexpr NamedValue kAccessNone[] = {NAMED(F_OK)};
constexpr NamedValue kAtFlags[] = {
    NAMED(AT_SYMLINK_NOFOLLOW), {AT_REMOVEDIR, "AT_REMOVEDIR"}, NAMED(AT_SYMLINK_FOLLOW),  NAMED(AT_NO_AUTOMOUNT),
    NAMED(AT_EMPTY_PATH),       NAMED(AT_STATX_FORCE_SYNC),     NAMED(AT_STATX_DONT_SYNC), NAMED(AT_RECURSIVE),
};
constexpr NamedValue kClocks[] = {
    NAMED(CLOCK_REALTIME),          NAMED(CLOCK_MONOTONIC),     NAMED(CLOCK_PROCESS_CPUTIME_ID),
    NAMED(CLOCK_THREAD_CPUTIME_ID), NAMED(CLOCK_MONOTONIC_RAW), NAMED(CLOCK_REALTIME_COARSE),
    NAMED(CLOCK_MONOTONIC_COARSE),  NAMED(CLOCK_BOOTTIME),      NAMED(CLOCK_REALTIME_ALARM),
    NAMED(CLOCK_BOOTTIME_ALARM),    NAMED(CLOCK_TAI),
};
constexpr NamedValue kFcntl[] = {
    NAMED(F_DUPFD),         NAMED(F_GETFD),         NAMED(F_SETFD),
    NAMED(F_GETFL),         NAMED(F_SETFL),         NAMED(F_GETLK),
    NAMED(F_SETLK),         NAMED(F_SETLKW),        NAMED(F_SETOWN),
    NAMED(F_GETOWN),        {10, "F_SETSIG"},       {11, "F_GETSIG"},
    {15, "F_SETOWN_EX"},    {16, "F_GETOWN_EX"},    {36, "F_OFD_GETLK"},
    {37, "F_OFD_SETLK"},    {38, "F_OFD_SETLKW"},   {1024, "F_SETLEASE"},
    {1025, "F_GETLEASE"},   {1026, "F_NOTIFY"},     {1030, "F_DUPFD_CLOEXEC"},
    {1031, "F_SETPIPE_SZ"}, {1032, "F_GETPIPE_SZ"}, {1033, "F_ADD_SEALS"},
    {1034, "F_GET_SEALS"},
};
constexpr NamedValue kIoctls[] = {
    NAMED(TCGETS),          NAMED(TCSETS),      NAMED(TCSETSW),       NAMED(TCSETSF),        NAMED(TIOCGWINSZ),
    NAMED(TIOCSWINSZ),      NAMED(TIOCGPGRP),   NAMED(TIOCSPGRP),     NAMED(TIOCSCTTY),      NAMED(TIOCNOTTY),
    NAMED(TIOCGSID),        NAMED(TIOCGPTN),    NAMED(TIOCSPTLCK),    NAMED(TIOCGPTPEER),    NAMED(TIOCPKT),
    NAMED(TIOCSTI),         NAMED(TCSBRK),      NAMED(TCXONC),        NAMED(TCFLSH),         NAMED(TCSBRKP),
    NAMED(FIONREAD),        NAMED(FIONBIO),     NAMED(FIOASYNC),      NAMED(FIOCLEX),        NAMED(FIONCLEX),
    NAMED(TIOCOUTQ),        NAMED(FIGETBSZ),    NAMED(FICLONE),       NAMED(FICLONERANGE),   NAMED(FS_IOC_GETFLAGS),
    NAMED(FS_IOC_SETFLAGS), NAMED(SIOCGIFCONF), NAMED(SIOCGIFFLAGS),  NAMED(SIOCGIFADDR),    NAMED(SIOCGIFINDEX),
    NAMED(SIOCGIFNAME),     NAMED(SIOCGIFMTU),  NAMED(SIOCGIFHWADDR), NAMED(SIOCGIFNETMASK), NAMED(SIOCETHTOOL),
};
constexpr NamedValue kRlimits[] = {
    NAMED(RLIMIT_CPU),      NAMED(RLIMIT_FSIZE), NAMED(RLIMIT_DATA),   NAMED(RLIMIT_STACK),
    NAMED(RLIMIT_CORE),     NAMED(RLIMIT_RSS),   NAMED(RLIMIT_NPROC),  NAMED(RLIMIT_NOFILE),
    NAMED(RLIMIT_MEMLOCK),  NAMED(RLIMIT_AS),    NAMED(RLIMIT_LOCKS),  NAMED(RLIMIT_SIGPENDING),
    NAMED(RLIMIT_MSGQUEUE), NAMED(RLIMIT_NICE),  NAMED(RLIMIT_RTPRIO), NAMED(RLIMIT_RTTIME),
};
constexpr NamedValue kPollEvents[] = {
    NAMED(POLLIN),         NAMED(POLLPRI),        NAMED(POLLOUT),        NAMED(POLLERR),
    NAMED(POLLHUP),        NAMED(POLLNVAL),       {0x40, "POLLRDNORM"},  {0x80, "POLLRDBAND"},
    {0x100, "POLLWRNORM"}, {0x200, "POLLWRBAND"}, {0x2000, "POLLRDHUP"},
};
constexpr NamedValue kSigactionFlags[] = {
    NAMED(SA_NOCLDSTOP), NAMED(SA_NOCLDWAIT), NAMED(SA_SIGINFO), {0x04000000, "SA_RESTORER"},
    NAMED(SA_ONSTACK),   NAMED(SA_RESTART),   NAMED(SA_NODEFER), NAMED32(SA_RESETHAND),
};
constexpr NamedValue kFileTypes[] = {NAMED(S_IFREG),  NAMED(S_IFDIR), NAMED(S_IFLNK), NAMED(S_IFIFO),
                                     NAMED(S_IFSOCK), NAMED(S_IFCHR), NAMED(S_IFBLK)};
constexpr NamedValue kDirFd[] = {NAMED32(AT_FDCWD)};

#undef NAMED
#undef NAMED32

constexpr NameTable kTables[] = {
    {"access", Naming::kBits, kAccess, 0, kAccessNone},
    {"at_flags", Naming::kBits, kAtFlags},
    {"clock", Naming::kValue, kClocks},
    {"clone_flags", Naming::kBits, kCloneFlags, CSIGNAL, kSignals, 64},
    {"dirfd", Naming::kValue, kDirFd},
    {"fcntl", Naming::kValue, kFcntl},
    {"file_type", Naming::kValue, kFileTypes},
    {"futex_op", Naming::kBits, kFutexFlags, FUTEX_CMD_MASK & 0x7f, kFutexCommands},
    {"ioctl", Naming::kValue, kIoctls},
    {"mmap_flags", Naming::kBits, kMapFlags, 0xf, kMapTypes},
    {"open_flags", Naming::kBits, kOpenFlags, O_ACCMODE, kAccessModes},
    {"fd_flags", Naming::kBits, kOpenFlags},
    {"fd_close_on_exec", Naming::kBits, kCloseOnExec},
    {"poll_events", Naming::kBits, kPollEvents},
    {"prot", Naming::kBits, kProt, 0, kProtNone},
    {"rlimit", Naming::kValue, kRlimits},
    {"sa_flags", Naming::kBits, kSigactionFlags},
    {"sighow", Naming::kValue, kSigHow},
    {"signal", Naming::kValue, kSignals},
    {"sock_domain", Naming::kValue, kDomains},
    {"sock_type", Naming::kBits, kSocketFlags, 0xf, kSocketTypes},
    {"whence", Naming::kValue, kWhence},
};

const char* NameOf(std::span<const NamedValue> names, uint64_t value) {
  for (const NamedValue& named : names) {
    if (named.value == value) return named.name;
  }
  return nullptr;
}

}  // namespace

std::span<const NameTable> NameTables() { return kTables; }

const NameTable* FindNameTable(const char* kind, size_t length) {
  for (const NameTable& table : kTables) {
    if (strlen(table.kind) == length && memcmp(table.kind, kind, length) == 0) return &table;
  }
  return nullptr;
}

void AppendNames(std::string& out, const NameTable& table, uint64_t value) {
  char number[24];
  if (table.width == 32) value &= 0xffffffff;
  if (table.naming == Naming::kValue) {
    if (const char* name = NameOf(table.names, value)) {
      out += name;
    } else {
      // Small numbers are descriptors, signals, ids: decimal; the rest are requests and bits.
      if (value < 0x1000 || value > 0xfffffff0) {
        snprintf(number, sizeof number, "%d", static_cast<int>(value));
      } else {
        snprintf(number, sizeof number, "%#lx", value);
      }
      out += number;
    }
    return;
  }
  const size_t start = out.size();
  const auto add = [&](const char* text) {
    if (out.size() > start) out += '|';
    out += text;
  };
  if (table.field) {
    uint64_t field = value & table.field;
    if (const char* name = NameOf(table.field_names, field)) {
      if (table.width == 32 || field) add(name);
    } else {
      snprintf(number, sizeof number, "%#lx", field);
      add(number);
    }
    value &= ~table.field;
  } else if (value == 0 && !table.field_names.empty()) {
    add(table.field_names.front().name);
  }
  for (const NamedValue& named : table.names) {
    if (!named.value || (value & named.value) != named.value) continue;
    add(named.name);
    value &= ~named.value;
  }
  if (value) {
    snprintf(number, sizeof number, "%#lx", value);
    add(number);
  }
  if (out.size() == start) out += '0';
}

}  // namespace sentry::trace
