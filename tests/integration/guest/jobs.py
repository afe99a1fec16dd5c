#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Job control in an interactive shell on a pty: jobs.py SHELL-COMMAND... The shell is bash, here or in a sandbox."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from expect import Session  # noqa: E402

PROMPT = "pr0mpt> "


def main():
    s = Session(sys.argv[1:] or ["bash", "--norc", "--noprofile", "-i"], rows=31, columns=97)

    def run(line):
        """Types a line, returns what it printed. The echo of the line comes first."""
        s.send(line + "\n")
        s.expect(line[-20:])
        return s.expect(PROMPT)

    def check(condition, what):
        if not condition:
            s.fail(what)

    def foreground(command):
        """Types a foreground job and waits until it runs: it tells so itself."""
        s.send(f"sh -c 'echo rea\"\"dy; exec {command}'\n")
        s.expect("ready\r\n")

    # The quotes keep the echo of this line from looking like the prompt.
    s.send("bind 'set enable-bracketed-paste off'; PS1='pr0''mpt> '\n")
    s.expect(PROMPT, 60)
    output = run("cat /proc/$$/stat")
    check("31 97" in run("stty size"), "stty size")
    check("m" in run("echo $-"), "no job control in this shell (echo $-)")
    check("/dev/pts/" in run("tty") or "/dev/console" in run("tty"), "tty")
    fields = output[output.rindex(")") :].split()
    # State, parent, process group, session, terminal, foreground group.
    check(int(fields[4]) != 0, f"the shell has no controlling terminal: {output}")

    # A background job and its end.
    check("[1]" in run("sleep 300 &"), "a background job")
    check("Running" in run("jobs"), "jobs shows it")
    # In one line: a prompt in between would report the job and forget it.
    check("143" in run("kill %1; wait %1; echo status=$?"), "the status of a killed job")

    # ^C interrupts the foreground job only.
    foreground("sleep 300")
    s.send("\x03")
    s.expect("^C")
    s.expect(PROMPT)
    check("status=130" in run("echo status=$?"), "^C")

    # ^Z stops it, bg continues it, fg brings it back, ^C ends it. The job tells when it has been continued: for fg that
    # is after it has been given the terminal.
    # perl, as a shell that forks may be stopped in vfork, which no ^Z gets out of.
    s.send("perl -e '$|=1; $SIG{CONT}=sub{print \"conti\".\"nued\\n\"}; print \"rea\".\"dy\\n\"; sleep 1 while 1'\n")
    s.expect("ready\r\n")
    s.send("\x1a")
    s.expect("Stopped")
    s.expect(PROMPT)
    check("Stopped" in run("jobs"), "jobs shows the stopped job")
    check("T" in run("ps -o stat= -p $(jobs -p)"), "the state of a stopped process")
    s.send("bg\n")
    s.expect("continued\r\n")
    # The prompt after bg comes before or after that.
    s.send("echo barr\"\"ier\n")
    s.expect("barrier\r\n")
    s.expect(PROMPT)
    check("Running" in run("jobs"), "jobs after bg")
    check("Stopped" in run("kill -STOP %1; while ! jobs | grep -q Stopped; do sleep 0.05; done; jobs"), "a stop by signal")
    s.send("fg\n")
    s.expect("continued\r\n")
    s.send("\x03")
    s.expect(PROMPT)
    check("perl" not in run("jobs"), "the job after ^C")

    # ^\ quits, a background reader of the terminal is stopped.
    foreground("sleep 302")
    s.send("\x1c")
    s.expect(PROMPT)
    check("status=131" in run("echo status=$?"), "^\\")
    run("cat &")
    output = run("wait %1 2>/dev/null; while ! jobs | grep -q Stopped; do sleep 0.05; done; jobs")
    check("Stopped" in output, "SIGTTIN")
    run("kill -9 %1; wait %1 2>/dev/null")

    # A pipeline is one job.
    s.send("cat | sh -c 'echo rea\"\"dy; exec cat'\n")
    s.expect("ready\r\n")
    s.send("typed\n")
    s.expect("typed")
    s.expect("typed")
    s.send("\x04")
    s.expect(PROMPT)
    check("status=0" in run("echo status=$?"), "^D ends cat")

    # Line editing of the terminal itself: erase and kill characters while cat reads.
    foreground("cat")
    s.send("wrong\x15riX\x7fght\n")
    s.expect("\r\nright\r\n")
    s.send("\x04")
    s.expect(PROMPT)

    # A here-document typed at the prompts.
    s.send("cat <<END | tr a-z A-Z\nfirst line\nsecond $((20 + 3))\nEND\n")
    s.expect("FIRST LINE\r\nSECOND 23\r\n")
    s.expect(PROMPT)

    # A new size is told by SIGWINCH.
    # Only builtins meanwhile: the signal goes to the foreground job, which is then the shell.
    run("trap 'resized=yes; echo win''ch' WINCH")
    s.resize(50, 120)
    output = run("while test -z \"$resized\"; do read -t 0.1 nothing; done; stty size")
    check("50 120" in output, "the new size")
    check(b"winch" in s.text, "SIGWINCH")

    # The end of the session hangs the jobs up.
    s.send("exit 5\n")
    s.end(5)
    print("PASSED")


main()
