// SPDX-License-Identifier: Apache-2.0
#include "sentry/trace/format.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <vector>

#include "sentry/trace/flag_tables.h"

namespace sentry::trace {
namespace {

constexpr size_t kMaxElements = 16;  // of arrays

[[gnu::format(printf, 2, 3)]] void AppendFormat(std::string& out, const char* format, ...) {
  char text[128];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  out += text;
}

struct Context {
  const CallView& call;
  Caller& memory;
  size_t max_string;
  std::string& out;
  int index = 0;

  uint64_t value() const { return call.raw[index]; }
  uint64_t next() const { return index < 5 ? call.raw[index + 1] : 0; }
  UserAddr address() const { return UserAddr(value()); }
  bool succeeded() const { return call.result && call.result->ok(); }
};

void Pointer(Context& c) {
  if (c.value() == 0) {
    c.out += "NULL";
  } else {
    AppendFormat(c.out, "%#lx", c.value());
  }
}

void Names(std::string& out, std::string_view kind, uint64_t value) {
  AppendNames(out, *FindNameTable(kind.data(), kind.size()), value);
}

void Bytes(Context& c, UserAddr address, uint64_t length) {
  std::string bytes(std::min<uint64_t>(length, c.max_string), '\0');
  if (address.IsNull() || (!bytes.empty() && !c.memory.CopyInBytes(address, bytes.data(), bytes.size()).ok())) {
    AppendFormat(c.out, "%#lx", address.value());
    return;
  }
  AppendQuoted(c.out, bytes, length > bytes.size());
}

void String(Context& c) {
  auto text = c.value() ? c.memory.CopyInString(c.address(), PATH_MAX) : Result<std::string>(Errno(EFAULT));
  if (!text.ok()) return Pointer(c);
  AppendQuoted(c.out, std::string_view(*text).substr(0, c.max_string), text->size() > c.max_string);
}

void Int(Context& c) {
  uint32_t high = c.value() >> 32;
  // An int's upper half is whatever the guest left there, an offset's belongs to it.
  if (high == 0 || high == UINT32_MAX) {
    AppendFormat(c.out, "%d", static_cast<int>(c.value()));
  } else {
    AppendFormat(c.out, "%ld", static_cast<int64_t>(c.value()));
  }
}
void Fd(Context& c) { AppendFormat(c.out, "%d", static_cast<int>(c.value())); }
void Uint(Context& c) { AppendFormat(c.out, "%u", static_cast<unsigned>(c.value())); }
void Size(Context& c) { AppendFormat(c.out, "%lu", c.value()); }
void Hex(Context& c) { AppendFormat(c.out, c.value() ? "%#lx" : "%lu", c.value()); }
void Oct(Context& c) { AppendFormat(c.out, "%#o", static_cast<unsigned>(c.value())); }

void InBuffer(Context& c) { Bytes(c, c.address(), c.next()); }

void OutBuffer(Context& c) {
  if (!c.succeeded()) return Pointer(c);
  Bytes(c, c.address(), std::min<uint64_t>(**c.call.result, c.next()));
}

void OutPath(Context& c) { c.succeeded() ? String(c) : Pointer(c); }

void AppendSignals(std::string& out, uint64_t set) {
  // The shorter of what is in the set and what is not.
  const bool inverted = __builtin_popcountll(set) > 32;
  if (inverted) {
    set = ~set;
    out += '~';
  }
  out += '[';
  bool first = true;
  for (int signal = 1; signal <= 64; ++signal) {
    if (!(set >> (signal - 1) & 1)) continue;
    if (!first) out += ' ';
    first = false;
    std::string name;
    Names(name, "signal", signal);
    out += name.starts_with("SIG") ? name.substr(3) : "RT_" + std::to_string(signal - 32);
  }
  out += ']';
}

void SigSet(Context& c) {
  auto set = c.value() ? c.memory.CopyIn<uint64_t>(c.address()) : Result<uint64_t>(Errno(EFAULT));
  if (!set.ok()) return Pointer(c);
  AppendSignals(c.out, *set);
}
void OutSigSet(Context& c) { c.succeeded() ? SigSet(c) : Pointer(c); }

void SigAction(Context& c) {
  struct KernelAction {
    uint64_t handler, flags, restorer, mask;
  };
  auto action = c.value() ? c.memory.CopyIn<KernelAction>(c.address()) : Result<KernelAction>(Errno(EFAULT));
  if (!action.ok()) return Pointer(c);
  static constexpr const char* kHandlers[] = {"SIG_DFL", "SIG_IGN"};
  c.out += "{sa_handler=";
  if (action->handler < 2) {
    c.out += kHandlers[action->handler];
  } else {
    AppendFormat(c.out, "%#lx", action->handler);
  }
  c.out += ", sa_mask=";
  AppendSignals(c.out, action->mask);
  c.out += ", sa_flags=";
  Names(c.out, "sa_flags", action->flags);
  c.out += '}';
}
void OutSigAction(Context& c) { c.succeeded() ? SigAction(c) : Pointer(c); }

void TimeSpec(Context& c) {
  auto ts = c.value() ? c.memory.CopyIn<timespec>(c.address()) : Result<timespec>(Errno(EFAULT));
  if (!ts.ok()) return Pointer(c);
  AppendFormat(c.out, "{tv_sec=%ld, tv_nsec=%ld}", ts->tv_sec, ts->tv_nsec);
}
void TimeVal(Context& c) {
  auto tv = c.value() ? c.memory.CopyIn<timeval>(c.address()) : Result<timeval>(Errno(EFAULT));
  if (!tv.ok()) return Pointer(c);
  AppendFormat(c.out, "{tv_sec=%ld, tv_usec=%ld}", tv->tv_sec, tv->tv_usec);
}

void OutStat(Context& c) {
  auto st = c.succeeded() && c.value() ? c.memory.CopyIn<struct stat>(c.address()) : Result<struct stat>(Errno(EFAULT));
  if (!st.ok()) return Pointer(c);
  c.out += "{st_mode=";
  Names(c.out, "file_type", st->st_mode & S_IFMT);
  AppendFormat(c.out, "|%04o, st_size=%ld, ...}", st->st_mode & 07777, st->st_size);
}

// An array of `count` elements: [a, b, ...].
template <typename T, typename F>
void Array(Context& c, uint64_t count, F each) {
  std::vector<T> elements(std::min<uint64_t>(count, kMaxElements));
  if (!c.value() ||
      (!elements.empty() && !c.memory.CopyInBytes(c.address(), elements.data(), elements.size() * sizeof(T)).ok())) {
    return Pointer(c);
  }
  c.out += '[';
  for (size_t i = 0; i < elements.size(); ++i) {
    if (i) c.out += ", ";
    each(elements[i]);
  }
  c.out += count > elements.size() ? ", ...]" : "]";
}

void IoVectors(Context& c) {
  // What a read put there, or what a write takes.
  uint64_t left = c.succeeded() ? **c.call.result : UINT64_MAX;
  Array<iovec>(c, c.next() & 0xffffffff, [&](const iovec& v) {
    c.out += "{iov_base=";
    uint64_t length = std::min<uint64_t>(v.iov_len, left);
    if (left != UINT64_MAX) left -= length;
    Bytes(c, UserAddr(reinterpret_cast<uint64_t>(v.iov_base)), length);
    AppendFormat(c.out, ", iov_len=%zu}", v.iov_len);
  });
}

void PollFds(Context& c) {
  Array<pollfd>(c, c.next() & 0xffffffff, [&](const pollfd& p) {
    AppendFormat(c.out, "{fd=%d, events=", p.fd);
    Names(c.out, "poll_events", static_cast<unsigned short>(p.events));
    if (c.succeeded()) {
      c.out += ", revents=";
      Names(c.out, "poll_events", static_cast<unsigned short>(p.revents));
    }
    c.out += '}';
  });
}

void OutFds(Context& c) {
  if (!c.succeeded()) return Pointer(c);
  Array<int>(c, 2, [&](int fd) { AppendFormat(c.out, "%d", fd); });
}

void ArgVector(Context& c) {
  if (!c.value()) return Pointer(c);
  c.out += '[';
  for (size_t i = 0;; ++i) {
    auto pointer = c.memory.CopyIn<uint64_t>(c.address() + i * sizeof(uint64_t));
    if (!pointer.ok() || *pointer == 0) break;
    if (i) c.out += ", ";
    if (i == kMaxElements) {
      c.out += "...";
      break;
    }
    auto text = c.memory.CopyInString(UserAddr(*pointer), PATH_MAX);
    if (text.ok()) {
      AppendQuoted(c.out, std::string_view(*text).substr(0, c.max_string), text->size() > c.max_string);
    } else {
      AppendFormat(c.out, "%#lx", *pointer);
    }
  }
  c.out += ']';
}

void SockAddr(Context& c) {
  sockaddr_storage storage = {};
  const size_t length = std::min<uint64_t>(c.next() & 0xffffffff, sizeof storage);
  if (!c.value() || length < sizeof(sa_family_t) || !c.memory.CopyInBytes(c.address(), &storage, length).ok())
    return Pointer(c);
  char text[INET6_ADDRSTRLEN];
  c.out += "{sa_family=";
  Names(c.out, "sock_domain", storage.ss_family);
  if (storage.ss_family == AF_UNIX && length > offsetof(sockaddr_un, sun_path)) {
    const char* path = reinterpret_cast<const char*>(&storage) + offsetof(sockaddr_un, sun_path);
    size_t size = length - offsetof(sockaddr_un, sun_path);
    const bool is_abstract = path[0] == '\0';
    c.out += is_abstract ? ", sun_path=@" : ", sun_path=";
    AppendQuoted(
        c.out, is_abstract ? std::string_view(path + 1, size - 1) : std::string_view(path, strnlen(path, size)), false);
  } else if (storage.ss_family == AF_INET && length >= sizeof(sockaddr_in)) {
    sockaddr_in in;
    memcpy(&in, &storage, sizeof in);
    AppendFormat(c.out, ", sin_port=htons(%u), sin_addr=inet_addr(\"%s\")", ntohs(in.sin_port),
                 inet_ntop(AF_INET, &in.sin_addr, text, sizeof text));
  } else if (storage.ss_family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    sockaddr_in6 in;
    memcpy(&in, &storage, sizeof in);
    AppendFormat(c.out, ", sin6_port=htons(%u), sin6_addr=\"%s\"", ntohs(in.sin6_port),
                 inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text));
  }
  c.out += '}';
}

// The names of what an fcntl command takes or gives; null for others.
const char* FcntlNames(uint64_t command) {
  switch (static_cast<int>(command)) {
    case F_GETFD:
    case F_SETFD:
      return "fd_close_on_exec";
    case F_GETFL:
    case F_SETFL:
      return "open_flags";
    default:
      return nullptr;
  }
}

// fcntl(2): these take no third argument.
bool FcntlTakesNothing(uint64_t command) {
  constexpr int kTakeNothing[] = {F_GETFD, F_GETFL, F_GETOWN, F_GETSIG, F_GETLEASE, F_GETPIPE_SZ, F_GET_SEALS};
  return std::find(std::begin(kTakeNothing), std::end(kTakeNothing), static_cast<int>(command)) !=
         std::end(kTakeNothing);
}

void FcntlArgument(Context& c) {
  const uint64_t command = c.call.raw[c.index - 1];
  if (const char* names = FcntlNames(command)) {
    Names(c.out, names, c.value());
  } else if (static_cast<int>(command) == F_DUPFD || static_cast<int>(command) == F_DUPFD_CLOEXEC) {
    Int(c);
  } else {
    Hex(c);
  }
}

struct Kind {
  std::string_view name;
  void (*format)(Context&);
};

// Beside the kinds that are only names (flag_tables.h). "mode" is shown only after flags that create.
constexpr Kind kKinds[] = {
    {"argv", &ArgVector},
    {"buf", &InBuffer},
    {"fd", &Fd},
    {"hex", &Hex},
    {"int", &Int},
    {"iovec", &IoVectors},
    {"mode", &Oct},
    {"obuf", &OutBuffer},
    {"oct", &Oct},
    {"ofds", &OutFds},
    {"opath", &OutPath},
    {"osigaction", &OutSigAction},
    {"osigset", &OutSigSet},
    {"ostat", &OutStat},
    {"path", &String},
    {"pollfds", &PollFds},
    {"ptr", &Pointer},
    {"sigaction", &SigAction},
    {"sigset", &SigSet},
    {"size", &Size},
    {"sockaddr", &SockAddr},
    {"str", &String},
    {"timespec", &TimeSpec},
    {"timeval", &TimeVal},
    {"uint", &Uint},
    {"fcntl_arg", &FcntlArgument},
};

const Kind* FindKind(std::string_view name) {
  for (const Kind& kind : kKinds) {
    if (kind.name == name) return &kind;
  }
  return nullptr;
}

// Calls that return an address.
constexpr std::string_view kPointerResults[] = {"mmap", "mremap", "brk", "shmat"};

}  // namespace

void AppendQuoted(std::string& out, std::string_view bytes, bool cut) {
  static constexpr char kEscapes[] = "\"\"\\\\\nn\tt\rr\vv\ff";
  out += '"';
  for (size_t i = 0; i < bytes.size(); ++i) {
    const unsigned char byte = bytes[i];
    const char* escape = nullptr;
    for (const char* e = kEscapes; *e; e += 2) {
      if (*e == static_cast<char>(byte)) escape = e + 1;
    }
    if (escape) {
      out += '\\';
      out += *escape;
    } else if (byte >= ' ' && byte < 0x7f) {
      out += static_cast<char>(byte);
    } else {
      // Three digits where a digit follows, else as few as needed.
      const bool digit_follows = i + 1 < bytes.size() && bytes[i + 1] >= '0' && bytes[i + 1] <= '9';
      AppendFormat(out, digit_follows ? "\\%03o" : "\\%o", byte);
    }
  }
  out += cut ? "\"..." : "\"";
}

bool IsKnownKind(std::string_view kind) { return FindKind(kind) || FindNameTable(kind.data(), kind.size()); }

std::string FormatCall(const CallView& call, Caller& memory, size_t max_string) {
  std::string out = call.name;
  out += '(';
  Context context{call, memory, max_string, out};
  std::string_view kinds = call.kinds;
  bool hides_mode = false;
  for (int i = 0; i < 6 && !kinds.empty(); ++i) {
    std::string_view kind = kinds.substr(0, kinds.find(','));
    kinds.remove_prefix(std::min(kinds.size(), kind.size() + 1));
    if (kind == "mode" && hides_mode) continue;
    if (kind == "fcntl_arg" && i > 0 && FcntlTakesNothing(call.raw[i - 1])) continue;
    if (i) out += ", ";
    context.index = i;
    if (const Kind* known = FindKind(kind)) {
      known->format(context);
    } else if (const NameTable* table = FindNameTable(kind.data(), kind.size())) {
      AppendNames(out, *table, call.raw[i]);
    } else {
      AppendFormat(out, "%#lx", call.raw[i]);
    }
    if (kind == "open_flags") hides_mode = !(call.raw[i] & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)));
  }
  out += ')';
  return out;
}

std::string FormatResult(const CallView& call) {
  const Result<int64_t>& result = *call.result;
  const std::string_view name = call.name;
  std::string out;
  if (!result.ok()) {
    if (result.error().IsRestart()) return std::string("? ") + result.error().Name();
    out = std::string("-1 ") + result.error().Name();
    const char* meaning = strerrordesc_np(result.error().number());
    return meaning ? out + " (" + meaning + ")" : out;
  }
  const bool is_pointer =
      std::find(std::begin(kPointerResults), std::end(kPointerResults), name) != std::end(kPointerResults);
  const int command = static_cast<int>(call.raw[1]);
  if (name == "fcntl" && *result != 0 && (command == F_GETFD || command == F_GETFL)) {
    AppendFormat(out, "%#lx (flags ", *result);
    Names(out, FcntlNames(call.raw[1]), *result);
    return out + ')';
  }
  AppendFormat(out, name == "umask" ? "%#03lo" : is_pointer ? "%#lx" : "%ld", *result);
  return out;
}

}  // namespace sentry::trace
