# SPDX-License-Identifier: Apache-2.0
"""A program on a pty, for tests that type and read."""
import fcntl
import os
import select
import struct
import subprocess
import termios
import time

from engine import require


class Terminal:
    def __init__(self, argv, environment, rows=40, columns=100):
        self.master, slave = os.openpty()
        self.resize(rows, columns)
        self.text = ""

        def control():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=environment, preexec_fn=control
        )
        os.close(slave)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def until(self, wanted, again="", limit=30):
        """Reads until the screen has shown `wanted`, and drops all up to it. Types `again` when nothing comes."""
        end = time.monotonic() + limit
        while wanted not in self.text:
            require(time.monotonic() < end, f"the terminal did not show {wanted!r} but {self.text[-400:]!r}")
            if not select.select([self.master], [], [], 0.5)[0]:
                self.type(again)
            else:
                try:
                    self.text += os.read(self.master, 4096).decode(errors="replace").replace("\r", "")
                except OSError:
                    require(wanted in self.text, f"the terminal ended without {wanted!r}: {self.text[-400:]!r}")
        self.text = self.text.split(wanted, 1)[1]

    def wait(self, limit=30):
        """The exit status. Output is read meanwhile, so that nobody blocks on it."""
        end = time.monotonic() + limit
        while self.process.poll() is None:
            require(time.monotonic() < end, f"the program on the terminal did not end: {self.text[-400:]!r}")
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self.master, 4096).decode(errors="replace")
                except OSError:
                    pass
        os.close(self.master)
        return self.process.returncode
