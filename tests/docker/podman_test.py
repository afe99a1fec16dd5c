#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""podman with any runtime: podman_test.py RUNTIME [--flags=FLAGS] [PATTERN...]

FLAGS are more global flags of RUNTIME. Needs root and the packages of `tools/deps docker`.
"""
import argparse
import os
import shlex
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import isolated  # noqa: E402
from engine import require, run_tests, until  # noqa: E402
from images import make_archive, root_of  # noqa: E402
from terminal import Terminal  # noqa: E402

LIMIT = 280


def same(got, wanted):
    require(got == wanted, f"got {got!r}, wanted {wanted!r}")


class Tests:
    def __init__(self, work, runtime, flags):
        self.work = work
        self.podman = [
            "podman", "--root", work + "/podman", "--runroot", work + "/podman-run", "--tmpdir", work + "/podman-tmp",
            "--cgroup-manager=cgroupfs", "--events-backend=file", "--storage-driver=overlay", "--runtime", runtime,
            *(f"--runtime-flag={flag.lstrip('-')}" for flag in flags),
        ]  # fmt: skip
        self.options = ["--network=none", "--cgroup-parent", "/" + os.path.basename(work)]

    def call(self, *argv, **kwargs):
        kwargs.setdefault("timeout", 60)
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([*self.podman, *argv], capture_output=True, text=True, check=False, **kwargs)

    def ok(self, *argv, **kwargs):
        done = self.call(*argv, **kwargs)
        require(done.returncode == 0, f"podman {shlex.join(argv)}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.rstrip("\n")

    def run(self, *argv, **kwargs):
        return self.call("run", "--rm", *self.options, *argv, **kwargs)

    def start(self, *argv):
        return self.ok("run", "-d", "--name", "box", *self.options, *argv)

    def cleanup(self):
        left = self.ok("ps", "-aq").split()
        if left:
            self.ok("rm", "-f", "-t", "0", *left)
        # conmon's own cgroup is podman's.
        until(lambda: not [c for c in isolated.container_cgroups(self.work) if not c.endswith("/conmon")], "no cgroups")

    def test_run(self):
        done = self.run("busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
        same((done.returncode, done.stdout, done.stderr), (7, "out\n", "err\n"))
        same(self.run("-i", "busybox", "cat", input="in").stdout, "in")
        same(self.run("-u", "12:34", "-w", "/tmp", "-e", "A=1", "busybox", "sh", "-c", "id -u; id -g; pwd; echo $A").stdout,
             "12\n34\n/tmp\n1\n")  # fmt: skip
        require(self.run("busybox", "/no/such").returncode in (126, 127), "a missing program")

    def test_terminal(self):
        shell = Terminal([*self.podman, "run", "--rm", "-it", *self.options, "busybox", "sh"], os.environ, 41, 103)
        shell.type("until test \"$(stty size)\" = '41 103'; do sleep 0.1; done; echo siz''ed\n")
        shell.until("sized")
        shell.type("exit 5\n")
        same(shell.wait(), 5)

    def test_exec(self):
        self.start("busybox", "sleep", "1000")
        done = self.call("exec", "box", "sh", "-c", "echo out; exit 3")
        same((done.returncode, done.stdout), (3, "out\n"))
        shell = Terminal([*self.podman, "exec", "-it", "box", "sh"], os.environ, 31, 77)
        shell.type("until test \"$(stty size)\" = '31 77'; do sleep 0.1; done; echo siz''ed\n")
        shell.until("sized")
        shell.type("exit 6\n")
        same(shell.wait(), 6)

    def test_life_cycle(self):
        self.start("busybox", "sh", "-c", 'trap "echo bye; exit 9" TERM; echo ready; while :; do sleep 0.1; done')
        until(lambda: "ready" in self.ok("logs", "box"), "the trap is set")
        self.ok("pause", "box")
        same(self.ok("inspect", "-f", "{{.State.Status}}", "box"), "paused")
        self.ok("unpause", "box")
        self.ok("stop", "-t", "30", "box")
        same(self.ok("inspect", "-f", "{{.State.ExitCode}}", "box"), "9")
        require("bye" in self.ok("logs", "box"), "the trap did not run")
        self.ok("start", "box")
        self.ok("kill", "box")
        until(lambda: self.ok("inspect", "-f", "{{.State.ExitCode}}", "box") == "137", "it is killed")

    def test_volumes_and_limits(self):
        os.makedirs(self.work + "/shared", exist_ok=True)
        same(self.run("-v", self.work + "/shared:/v", "-m", "64m", "busybox", "sh", "-c", "echo x >/v/f; ls /v").stdout, "f\n")
        with open(self.work + "/shared/f") as file:
            same(file.read(), "x\n")
        require(self.run("--read-only", "busybox", "touch", "/x").returncode != 0, "a read-only root is written")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runtime")
    parser.add_argument("--flags", default="")
    parser.add_argument("pattern", nargs="*")
    arguments = parser.parse_intermixed_args()
    work = isolated.enter(LIMIT)
    tests = Tests(work, os.path.realpath(shutil.which(arguments.runtime)), arguments.flags.split())
    archive = work + "/busybox.tar"
    make_archive(root_of("busybox"), "docker.io/library/busybox:latest", archive)
    tests.ok("load", "-i", archive)
    return run_tests(
        [(name, getattr(tests, name), tests.cleanup) for name in dir(tests) if name.startswith("test_")],
        arguments.pattern,
    )


if __name__ == "__main__":
    sys.exit(main())
