#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""podman as an ordinary user: podman_rootless_test.py RUNTIME [--flags=FLAGS] [PATTERN...]

Each test runs twice: for a user without subordinate ids (podman then has one id), and with them. Needs root, to become the user,
and the packages of `tools/deps docker`. The user has a root directory of its own: the machine's may be closed to others.
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
USER_ID = 54321
HOME = "/home/me"


def same(got, wanted):
    require(got == wanted, f"got {got!r}, wanted {wanted!r}")


def enter_root(work, files):
    """A root with the machine's programs, a user and a home; `files` are copied there as (source, name)."""
    root = work + "/root"
    os.mkdir(root)
    run = lambda *argv: subprocess.run(argv, check=True)  # noqa: E731
    run("mount", "-t", "tmpfs", "-o", "mode=755", "root", root)
    for name in "usr", "dev", "proc", "sys", "bin", "sbin", "lib", "lib64":
        if os.path.islink("/" + name):
            os.symlink(os.readlink("/" + name), f"{root}/{name}")
        elif os.path.isdir("/" + name):
            os.mkdir(f"{root}/{name}")
            run("mount", "--rbind", "/" + name, f"{root}/{name}")
    run("cp", "-a", "/etc", root + "/etc")
    for name, mode in ("tmp", 0o1777), ("var", 0o755), ("var/tmp", 0o1777), ("run", 0o755), ("run/user", 0o755), ("home", 0o755), ("old", 0o700):
        os.mkdir(f"{root}/{name}")
        os.chmod(f"{root}/{name}", mode)
    for path in f"{root}{HOME}", f"{root}/run/user/{USER_ID}":
        os.mkdir(path, 0o700)
        os.chown(path, USER_ID, USER_ID)
    for source, name in files:
        shutil.copy(source, f"{root}/home/{name}")
    with open(root + "/home/secret", "w") as file:
        file.write("secret")
    os.chmod(root + "/home/secret", 0o600)
    with open(root + "/etc/passwd", "a") as file:
        file.write(f"me:x:{USER_ID}:{USER_ID}::{HOME}:/bin/sh\n")
    with open(root + "/etc/group", "a") as file:
        file.write(f"me:x:{USER_ID}:\n")
    os.chdir(root)
    run("pivot_root", ".", "old")
    os.chdir("/")
    run("umount", "-l", "/old")


class Tests:
    def __init__(self, runtime, flags):
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": HOME, "USER": "me", "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": f"/run/user/{USER_ID}", "TERM": "xterm",
        }  # fmt: skip
        # Not even a session's keyring or groups of ours.
        self.as_user = ["setpriv", "--reuid", str(USER_ID), "--regid", str(USER_ID), "--clear-groups"]
        self.podman = [
            *self.as_user, "podman", "--cgroup-manager=cgroupfs", "--events-backend=file", "--storage-driver=vfs",
            "--runtime", runtime, *(f"--runtime-flag={flag.lstrip('-')}" for flag in flags),
        ]  # fmt: skip
        self.options = ["--network=none"]
        self.is_runsc = os.path.basename(runtime).startswith("runsc")

    def call(self, *argv, **kwargs):
        kwargs.setdefault("timeout", 60)
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([*self.podman, *argv], env=self.environment, capture_output=True, text=True, check=False, **kwargs)

    def ok(self, *argv, **kwargs):
        done = self.call(*argv, **kwargs)
        require(done.returncode == 0, f"podman {shlex.join(argv)}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.rstrip("\n")

    def run(self, *argv, **kwargs):
        return self.call("run", "--rm", *self.options, *argv, **kwargs)

    def cleanup(self):
        left = self.ok("ps", "-aq").split()
        if left:
            self.ok("rm", "-f", "-t", "0", *left)

    def set_up(self, ranges):
        """As a fresh user: with ranges of ids or without."""
        for name in "subuid", "subgid":
            with open("/etc/" + name, "w") as file:
                file.write("me:200000:65536\n" if ranges else "")
        self.call("system", "migrate")
        self.ok("load", "-i", "/home/busybox.tar", timeout=120)
        out = self.ok("unshare", "cat", "/proc/self/uid_map").split("\n")
        same(len(out), 2 if ranges else 1)

    def tear_down(self):
        self.ok("rmi", "-f", "-a")
        self.ok("system", "reset", "-f")

    def test_run(self):
        done = self.run("busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
        same((done.returncode, done.stdout, done.stderr), (7, "out\n", "err\n"))
        require(not self.is_runsc or "runsc@sandbox" in self.run("busybox", "cat", "/proc/version").stdout, "not our kernel")
        same(self.run("-i", "busybox", "cat", input="in").stdout, "in")
        same(self.run("-w", "/tmp", "-e", "A=1", "busybox", "sh", "-c", "id -u; pwd; echo $A").stdout, "0\n/tmp\n1\n")
        require(self.run("busybox", "/no/such").returncode in (126, 127), "a missing program")

    def test_terminal(self):
        shell = Terminal([*self.podman, "run", "--rm", "-it", *self.options, "busybox", "sh"], self.environment, 41, 103)
        shell.type("until test \"$(stty size)\" = '41 103'; do sleep 0.1; done; echo siz''ed\n")
        shell.until("sized")
        shell.type("exit 5\n")
        same(shell.wait(), 5)

    def test_exec_and_life_cycle(self):
        self.ok("run", "-d", "--name", "box", *self.options, "busybox", "sh", "-c",
                'trap "echo bye; exit 9" TERM; echo ready; while :; do sleep 0.1; done')  # fmt: skip
        until(lambda: "ready" in self.ok("logs", "box"), "the trap is set")
        done = self.call("exec", "box", "sh", "-c", "echo out; exit 3")
        same((done.returncode, done.stdout), (3, "out\n"))
        self.ok("stop", "-t", "30", "box")
        same(self.ok("inspect", "-f", "{{.State.ExitCode}}", "box"), "9")
        require("bye" in self.ok("logs", "box"), "the trap did not run")
        self.ok("start", "box")
        self.ok("kill", "box")
        until(lambda: self.ok("inspect", "-f", "{{.State.ExitCode}}", "box") == "137", "it is killed")

    def test_volumes_have_the_users_files(self):
        shared = HOME + "/shared"
        os.makedirs(shared, exist_ok=True)
        os.chown(shared, USER_ID, USER_ID)
        same(self.run("-v", shared + ":/v", "busybox", "sh", "-c", "echo x >/v/f; stat -c %u:%g /v/f; ls /v").stdout, "0:0\nf\n")
        stat = os.stat(shared + "/f")
        same((stat.st_uid, stat.st_gid), (USER_ID, USER_ID))
        if os.path.getsize("/etc/subuid"):
            same(self.run("-v", shared + ":/v", "busybox", "sh", "-c", "chown 5:6 /v/f; stat -c %u:%g /v/f").stdout, "5:6\n")
            stat = os.stat(shared + "/f")
            same((stat.st_uid, stat.st_gid), (200004, 200005))
        shutil.rmtree(shared)

    def test_users_inside(self):
        if os.path.getsize("/etc/subuid"):
            same(self.run("-u", "12:34", "busybox", "sh", "-c", "id -u; id -g").stdout, "12\n34\n")
        # What belongs to the machine's root stays closed: a volume gives no rights.
        done = self.run("-v", "/home/secret:/secret", "busybox", "sh", "-c", "cat /secret || echo closed")
        same((done.returncode, done.stdout), (0, "closed\n"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runtime")
    parser.add_argument("--flags", default="")
    parser.add_argument("pattern", nargs="*")
    arguments = parser.parse_intermixed_args()
    work = isolated.enter(LIMIT)
    archive = work + "/busybox.tar"
    make_archive(root_of("busybox"), "docker.io/library/busybox:latest", archive, all_of_root=True)
    os.chmod(archive, 0o644)
    runtime = os.path.realpath(shutil.which(arguments.runtime))
    enter_root(work, [(runtime, os.path.basename(runtime)), (archive, "busybox.tar")])
    tests = Tests("/home/" + os.path.basename(runtime), arguments.flags.split())
    status = 0
    for ranges in False, True:
        print("with ranges of ids" if ranges else "with one id", flush=True)
        tests.set_up(ranges)
        status |= run_tests(
            [(name, getattr(tests, name), tests.cleanup) for name in dir(tests) if name.startswith("test_")],
            arguments.pattern,
        )
        tests.tear_down()
    return status


if __name__ == "__main__":
    sys.exit(main())
