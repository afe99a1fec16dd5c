// SPDX-License-Identifier: Apache-2.0
// The kernel's termios (termios(3) has glibc's, which differs). Never together with <termios.h>.
#ifndef SENTRY_FS_DEVPTS_TERMIOS_H_
#define SENTRY_FS_DEVPTS_TERMIOS_H_

#include <asm/termbits.h>

namespace sentry::fs {

// struct termios of the old calls is a prefix of it.
using Termios = ::termios2;
static_assert(sizeof(Termios) == 44 && sizeof(::termios) == 36);

// What a new pseudo-terminal starts with (tty_std_termios).
constexpr Termios DefaultTermios() {
  Termios t = {};
  t.c_iflag = ICRNL | IXON;
  t.c_oflag = OPOST | ONLCR;
  t.c_cflag = B38400 | CS8 | CREAD;
  t.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
  t.c_cc[VINTR] = 3;
  t.c_cc[VQUIT] = 28;
  t.c_cc[VERASE] = 127;
  t.c_cc[VKILL] = 21;
  t.c_cc[VEOF] = 4;
  t.c_cc[VTIME] = 0;
  t.c_cc[VMIN] = 1;
  t.c_cc[VSTART] = 17;
  t.c_cc[VSTOP] = 19;
  t.c_cc[VSUSP] = 26;
  t.c_cc[VREPRINT] = 18;
  t.c_cc[VDISCARD] = 15;
  t.c_cc[VWERASE] = 23;
  t.c_cc[VLNEXT] = 22;
  t.c_ispeed = t.c_ospeed = 38400;
  return t;
}

}  // namespace sentry::fs

#endif  // SENTRY_FS_DEVPTS_TERMIOS_H_
