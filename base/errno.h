// SPDX-License-Identifier: Apache-2.0
// Errno: a Linux error number as a value. Guest-visible numbers are those of errno(3); the numbers from 512 up are
// internal restart codes (include/linux/errno.h) that only the edge of the system call path may convert.
#ifndef BASE_ERRNO_H_
#define BASE_ERRNO_H_

#include <errno.h>

#include <cstdint>

namespace base {

class [[nodiscard]] Errno {
 public:
  constexpr explicit Errno(int number) : number_(number) {}
  // The calling thread's errno, to be taken at once after a failed host call.
  static Errno Last() { return Errno(errno); }

  constexpr int number() const { return number_; }
  constexpr bool IsRestart() const { return number_ >= 512 && number_ <= 516; }
  friend constexpr bool operator==(Errno a, Errno b) { return a.number_ == b.number_; }
  // "ENOENT", "ERESTARTSYS"; never null.
  const char* Name() const;

 private:
  int number_;
};

// signal(7): restart when the handler has SA_RESTART, else EINTR.
inline constexpr Errno kErestartsys{512};
// Restart always.
inline constexpr Errno kErestartnointr{513};
// Restart only when no handler runs, else EINTR.
inline constexpr Errno kErestartnohand{514};
// Like 514, but the restart goes through restart_syscall(2) and the task's restart block.
inline constexpr Errno kErestartRestartblock{516};

}  // namespace base

#endif  // BASE_ERRNO_H_
