// SPDX-License-Identifier: Apache-2.0
// glog formats the line (time, thread, severity); a sink writes it to one fd, so no file is opened after start.
#include "base/log.h"

#include <glog/logging.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <string>

// Of the sanitizers' runtime, where there is one.
extern "C" [[gnu::weak]] void __sanitizer_print_stack_trace();  // NOLINT(bugprone-reserved-identifier)

namespace base {
namespace {

std::atomic<int> minimum_level{static_cast<int>(LogLevel::kWarning)};
std::atomic<int> log_fd{STDERR_FILENO};
std::atomic<bool> initialised{false};
const char* process_name = "runsc";

class FdSink : public google::LogSink {
 public:
  void send(google::LogSeverity severity, const char*, const char*, int, const google::LogMessageTime& time,
            const char* message, size_t length) override {
    char head[80];
    const tm& t = time.tm();
    int n = snprintf(head, sizeof head, "%c%02d%02d %02d:%02d:%02d.%06d %s %d] ", "IWEF"[severity & 3], t.tm_mon + 1,
                     t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, static_cast<int>(time.usec()), process_name, gettid());
    std::string line(head, n);
    line.append(message, length);
    line.push_back('\n');
    // A full or closed log must not stop the kernel: the result is dropped on purpose.
    [[maybe_unused]] ssize_t written = write(log_fd.load(), line.data(), line.size());
  }
};

void Emit(LogLevel level, const char* format, va_list args) {
  char text[4096];
  int n = vsnprintf(text, sizeof text, format, args);
  if (n < 0) return;
  if (!initialised.load(std::memory_order_acquire)) {
    dprintf(log_fd.load(), "%s: %s\n", process_name, text);
    return;
  }
  static FdSink* sink = new FdSink;
  google::LogSeverity severity = level >= LogLevel::kError     ? google::GLOG_ERROR
                                 : level == LogLevel::kWarning ? google::GLOG_WARNING
                                                               : google::GLOG_INFO;
  google::LogMessage("", 0, severity, sink, /*also_send_to_log=*/false).stream() << text;
}

}  // namespace

// glog looks the user up by name when USER is unset, by a constructor of its own: that opens files, and crashes in a
// static binary where the name service has modules.
__attribute__((constructor(101))) static void NameUser() { setenv("USER", "root", /*overwrite=*/0); }

void InitLogging(const char* process, int fd, LogLevel minimum) {
  // With TZ unset glibc looks at the file at every conversion; with it set, once.
  setenv("TZ", ":/etc/localtime", /*overwrite=*/0);
  tzset();
  process_name = process;
  if (fd >= 0) log_fd = fd;
  minimum_level = static_cast<int>(minimum);
  FLAGS_logtostderr = false;
  FLAGS_stderrthreshold = google::GLOG_FATAL;
  FLAGS_log_prefix = false;
  if (!initialised.exchange(true)) google::InitGoogleLogging("runsc");
}

// base/log_level.h
void SetLogLevel(LogLevel minimum);
void SetLogLevel(LogLevel minimum) { minimum_level.store(static_cast<int>(minimum), std::memory_order_relaxed); }

int LogFd() { return log_fd.load(); }

bool LogEnabled(LogLevel level) { return static_cast<int>(level) >= minimum_level.load(std::memory_order_relaxed); }

void Log(LogLevel level, const char* format, ...) {
  if (!LogEnabled(level)) return;
  va_list args;
  va_start(args, format);
  Emit(level, format, args);
  va_end(args);
}

void Fatal(const char* file, int line, const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  dprintf(log_fd.load(), "%s: fatal at %s:%d: %s\n", process_name, file, line, text);
  if (log_fd.load() != STDERR_FILENO) {
    dprintf(STDERR_FILENO, "%s: fatal at %s:%d: %s\n", process_name, file, line, text);
  }
  if (__sanitizer_print_stack_trace) __sanitizer_print_stack_trace();
  abort();
}

}  // namespace base
