# SPDX-License-Identifier: Apache-2.0
"""A small expect: a command on a new pseudo-terminal, waited for with bounds. For guest and host scripts."""
import errno
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time


class Session:
    def __init__(self, command, rows=24, columns=80, limit=20.0):
        self.limit = limit
        self.text = b""
        self.mark = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
                os.execvp(command[0], command)
            except OSError as error:
                os.write(2, str(error).encode())
                os._exit(127)

    def fail(self, what):
        print(f"FAILED: {what}\n--- the terminal's text ---\n{self.text.decode(errors='replace')}", file=sys.stderr)
        sys.exit(1)

    def send(self, text):
        os.write(self.fd, text.encode())

    def _read(self, deadline):
        """False at the end of the session or the deadline."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.fd], [], [], left)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        self.text += data
        return bool(data)

    def expect(self, wanted, limit=None):
        """Waits for text after the last match; returns what came before it."""
        wanted = wanted.encode()
        deadline = time.monotonic() + (limit or self.limit)
        while True:
            at = self.text.find(wanted, self.mark)
            if at >= 0:
                before = self.text[self.mark : at]
                self.mark = at + len(wanted)
                return before.decode(errors="replace")
            if not self._read(deadline):
                self.fail(f"no {wanted!r} within {limit or self.limit} s or before the end, after byte {self.mark}")

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self, status):
        """The command must end with this exit status."""
        deadline = time.monotonic() + self.limit
        while self._read(deadline):
            pass
        while True:
            pid, raw = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                self.fail("the command does not end")
            time.sleep(0.01)
        got = os.waitstatus_to_exitcode(raw)
        if got != status:
            self.fail(f"exit status {got}, not {status}")
