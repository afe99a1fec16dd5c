#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""python3: subprocess: pipes, statuses, signals, timeouts, environment, descriptors, process groups."""
import os
import signal
import subprocess
import sys
import threading


def expect(error, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except error as e:
        return e
    raise AssertionError(f"no {error}")


def main():
    run = subprocess.run
    assert run(["echo", "out"], capture_output=True, text=True, timeout=30).stdout == "out\n"
    assert run(["sh", "-c", "exit 42"], timeout=30).returncode == 42
    assert run(["sh", "-c", "kill -SEGV $$"], timeout=30).returncode == -signal.SIGSEGV
    assert run(["sh", "-c", "echo err >&2"], capture_output=True, timeout=30).stderr == b"err\n"
    expect(FileNotFoundError, run, ["/nonexistent"])
    expect(PermissionError, run, ["/etc/passwd"])
    expect(subprocess.TimeoutExpired, run, ["sleep", "100"], timeout=0.2)
    error = expect(subprocess.CalledProcessError, run, ["false"], check=True)
    assert error.returncode == 1

    # More than pipes hold, in both directions at once.
    data = os.urandom(3 << 20)
    assert run(["cat"], input=data, capture_output=True, timeout=60).stdout == data

    # Three processes in a chain.
    a = subprocess.Popen(["seq", "1", "5000"], stdout=subprocess.PIPE)
    b = subprocess.Popen(["grep", "7"], stdin=a.stdout, stdout=subprocess.PIPE)
    c = subprocess.Popen(["wc", "-l"], stdin=b.stdout, stdout=subprocess.PIPE)
    a.stdout.close()
    b.stdout.close()
    wanted = sum("7" in str(i) for i in range(1, 5001))
    assert int(c.communicate(timeout=60)[0]) == wanted
    assert (a.wait(20), b.wait(20)) == (0, 0)

    out = run(["env"], env={"ONLY": "this"}, capture_output=True, text=True, timeout=30).stdout
    assert out == "ONLY=this\n", out
    assert run(["pwd"], cwd="/usr", capture_output=True, text=True, timeout=30).stdout == "/usr\n"

    # Descriptors are not inherited unless they are passed.
    r, w = os.pipe()
    script = "import os,sys\ntry: os.write(int(sys.argv[1]), b'x')\nexcept OSError as e: sys.exit(e.errno)"
    assert run([sys.executable, "-c", script, str(w)], timeout=60).returncode == 9
    assert run([sys.executable, "-c", script, str(w)], pass_fds=[w], timeout=60).returncode == 0
    assert os.read(r, 10) == b"x"

    # A session of its own, killed as a group.
    p = subprocess.Popen(["sh", "-c", "sleep 100 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True)
    grandchild = int(p.stdout.readline())
    assert os.getsid(p.pid) == p.pid == os.getpgid(grandchild)
    os.killpg(p.pid, signal.SIGKILL)
    assert p.wait(20) == -signal.SIGKILL
    # Its output ends when the last holder of the pipe is dead.
    assert p.stdout.read() == ""
    # The first process of a pid namespace inherits orphans.
    if os.getpid() == 1:
        os.waitpid(grandchild, 0)

    # From several threads at once.
    bad = []

    def spawn(n):
        for i in range(10):
            if run(["sh", "-c", f"exit {(n + i) % 200}"], timeout=60).returncode != (n + i) % 200:
                bad.append((n, i))

    threads = [threading.Thread(target=spawn, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(100)
    assert not bad, bad
    expect(ChildProcessError, os.waitpid, -1, os.WNOHANG)
    print("PASSED")


main()
