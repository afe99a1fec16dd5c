// SPDX-License-Identifier: Apache-2.0
// Logging glue over glog, kept out of hot headers. Lines go to the fd given to InitLogging (default: warnings and up to
// stderr); nothing is opened after that, so a confined process can log. Thread-safe.
#ifndef BASE_LOG_H_
#define BASE_LOG_H_

#include <cstdarg>

namespace base {

enum class LogLevel : int { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

// `fd` is borrowed for the life of the process; -1 = stderr. `process` prefixes each line ("sentry", "gofer", "runsc").
void InitLogging(const char* process, int fd, LogLevel minimum);
bool LogEnabled(LogLevel level);
// Where lines go: for signal handlers, which may only write(2).
int LogFd();
[[gnu::format(printf, 2, 3)]] void Log(LogLevel level, const char* format, ...);
// Logs and aborts: a broken invariant of our own, never guest input.
[[noreturn, gnu::format(printf, 3, 4)]] void Fatal(const char* file, int line, const char* format, ...);

}  // namespace base

#define LOG_DEBUG(...) \
  (::base::LogEnabled(::base::LogLevel::kDebug) ? ::base::Log(::base::LogLevel::kDebug, __VA_ARGS__) : (void)0)
#define LOG_INFO(...) \
  (::base::LogEnabled(::base::LogLevel::kInfo) ? ::base::Log(::base::LogLevel::kInfo, __VA_ARGS__) : (void)0)
#define LOG_WARNING(...) ::base::Log(::base::LogLevel::kWarning, __VA_ARGS__)
#define LOG_ERROR(...) ::base::Log(::base::LogLevel::kError, __VA_ARGS__)
#define FATAL(...) ::base::Fatal(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK_THAT(condition)                                      \
  do {                                                             \
    if (!(condition)) [[unlikely]]                                 \
      ::base::Fatal(__FILE__, __LINE__, "broken: %s", #condition); \
  } while (false)

#endif  // BASE_LOG_H_
