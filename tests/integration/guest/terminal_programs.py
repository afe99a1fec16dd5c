# SPDX-License-Identifier: Apache-2.0
"""Full-screen programs driven through a pseudo-terminal: keys in, what they draw out, sizes, suspension, the end."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from expect import Session  # noqa: E402


def need(condition, what):
    if not condition:
        sys.exit("FAILED: " + what)


def vim():
    s = Session(["vi", "-n", "/tmp/text"], rows=30, columns=100)
    s.expect("/tmp/text")
    s.send("ihello terminal\x1b")
    s.send("yy2p:%s/hello/goodbye/\r")
    s.expect("goodbye")
    s.resize(20, 60)
    # A command of the shell gets the terminal, and gives it back.
    s.send(":!stty size\r")
    s.expect("20 60")
    s.send("\r:wq\r")
    s.end(0)
    with open("/tmp/text", encoding="ascii") as text:
        need(text.read() == "goodbye terminal\n" * 3, "what vi wrote")


def tmux():
    s = Session(["tmux", "-f", "/dev/null", "new-session", "-s", "one", "sh"], rows=30, columns=100)
    s.send("PS1='inn''er> '\n")
    s.expect("inner> ")
    s.send("tty; stty size\n")
    s.expect("/dev/pts/")
    s.expect("29 100")
    s.send("\x02%")  # splits the window: a second shell beside the first
    s.send("echo sec''ond; stty size\n")
    s.expect("second")
    s.resize(40, 120)
    s.send("tmux list-panes -F '#{pane_width}x#{pane_height}'\n")
    s.expect("x39")
    s.send("\x02d")
    s.expect("detached")
    s.end(0)
    need(os.waitstatus_to_exitcode(os.system("tmux has-session -t one")) == 0, "the session lives on, detached")
    s = Session(["tmux", "attach", "-t", "one"], rows=24, columns=80)
    s.expect("second")
    s.send("tmux kill-server\n")
    s.expect("exited")
    need(os.waitstatus_to_exitcode(os.system("tmux has-session -t one 2>/dev/null")) == 1, "the server is gone")
    s.end(1)


def htop():
    s = Session(["htop", "-d", "5"], rows=30, columns=120)
    s.expect("Load average")
    s.expect("PID")
    s.send("/htop\r\r")
    s.expect("htop")
    s.resize(35, 100)
    s.send("q")
    s.end(0)


def top():
    s = Session(["top", "-d", "0.3"], rows=24, columns=80)
    s.expect("Tasks:")
    s.expect("COMMAND")
    s.expect("top")
    s.send("q")
    s.end(0)


def more():
    with open("/tmp/lines", "w", encoding="ascii") as out:
        out.writelines(f"line {i}\n" for i in range(1000))
    s = Session(["more", "/tmp/lines"], rows=24, columns=80)
    s.expect("line 20")
    s.send(" ")
    s.expect("line 40")
    s.send("q")
    s.end(0)


for program in (vim, tmux, htop, top, more):
    program()
    print(program.__name__, flush=True)
