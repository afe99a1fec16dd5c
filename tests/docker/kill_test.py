#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each part at each step of a container's life: kill_test.py RUNTIME [--flags=FLAGS | --shim=SHIM] [PATTERN...]

A test is VICTIM_STEP. Afterwards the daemon that was killed is started again, nothing may claim to run that doesn't, and
`docker rm --force` must clear all: processes, mounts, cgroups. Arguments as docker_test.py's.
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import isolated  # noqa: E402
from engine import Containerd, Docker, processes, require, run_tests, until, until_none, use_shim  # noqa: E402

LIMIT = 540
BUSY = ["busybox", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]


class Kills:
    def __init__(self, docker, containerd, work, is_runsc, has_own_shim):
        self.has_own_shim = has_own_shim
        self.docker = docker
        self.containerd = containerd
        self.work = work
        self.is_runsc = is_runsc
        self.clients = []

    # Each victim: the pids to kill, and what to start again.

    def dockerd(self):
        return [self.docker.process.pid]

    def containerd_(self):
        return [self.containerd.process.pid]

    def shim(self):
        return list(processes("containerd-shim", "-namespace "))

    def sentry(self):
        return list(processes("runsc-sandbox") if self.is_runsc else processes("runc", "init") or processes("sleep"))

    def gofer(self):
        return list(processes("runsc-gofer"))

    # Each step: a container "box", and what is under way.

    def client(self, *argv):
        self.clients.append(self.docker.popen(*argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def created(self):
        self.docker.ok("create", "--stop-timeout", "1", "--name", "box", "--runtime", "tested", *BUSY)

    def starting(self):
        self.created()
        self.client("start", "box")
        # The first of its processes is there.
        until(lambda: self.gofer() or self.sentry(), "the start is under way")

    def running(self):
        self.created()
        self.docker.ok("start", "box")
        until(lambda: "ready" in self.docker.ok("logs", "box"), "the container runs")

    def paused(self):
        self.running()
        self.docker.ok("pause", "box")

    def executing(self):
        self.running()
        self.client("exec", "box", "sleep", "4321")
        until(lambda: "4321" in self.docker.ok("exec", "box", "ps"), "the second process runs")

    def stopping(self):
        self.running()
        self.client("stop", "-t", "3", "box")

    def removing(self):
        self.running()
        self.client("rm", "-f", "box")

    STEPS = ["created", "starting", "running", "paused", "executing", "stopping", "removing"]
    VICTIMS = ["dockerd", "containerd_", "shim", "sentry", "gofer"]

    def run(self, victim, step):
        getattr(self, step)()
        for pid in getattr(self, victim)():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for daemon in self.docker, self.containerd:
            if daemon.process.poll() is not None or getattr(self, victim)() == [daemon.process.pid]:
                daemon.process.wait()
        if self.containerd.process.returncode is not None:
            self.containerd.start()
        if self.docker.process.returncode is not None:
            # Written by the one that was killed.
            pidfile = self.work + "/dockerd.pid"
            if os.path.exists(pidfile):
                os.unlink(pidfile)
            self.docker.start()
        # dockerd finds containerd again at its own pace.
        until(lambda: self.docker("run", "--rm", "--runtime", "tested", "busybox", "true").returncode == 0, "docker runs containers")
        hang = False
        for client in self.clients:
            try:
                client.wait(5)
            except subprocess.TimeoutExpired:
                hang = True
                client.kill()
                client.wait()
        self.clients.clear()
        # Who attached to a process of exec hears of its end. Through runc's shim dockerd has forgotten of it by then.
        require(not hang or victim in ("dockerd", "containerd_", "shim") or not self.has_own_shim, "a client of docker hangs")
        self.settle()
        self.remove()

    def settle(self):
        """What claims to run does, soon."""

        def is_true():
            done = self.docker("inspect", "-f", "{{.State.Status}}", "box")
            status = done.stdout.strip()
            if done.returncode != 0 or status in ("created", "exited", "dead"):
                return True
            if status == "paused":
                return self.docker("unpause", "box").returncode == 0 and False
            return self.docker("exec", "box", "true").returncode == 0

        until(is_true, "what claims to run does")

    def remove(self):
        last = []

        def removed():
            done = self.docker("rm", "-f", "-v", "box")
            last[:] = [done.stderr]
            return done.returncode == 0 or "No such container" in done.stderr

        try:
            until(removed, "docker rm -f")
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from None
        self.nothing_left()

    def nothing_left(self):
        left = until_none(lambda: {**processes("runsc-sandbox"), **processes("runsc-gofer")})
        require(not left, f"processes are left: {left}")
        # containerd that is killed while runc's shim starts leaves that, whatever the runtime.
        left = self.has_own_shim and until_none(lambda: processes("containerd-shim", "-namespace "))
        require(not left, f"shims are left: {left}")
        left = until_none(lambda: isolated.container_cgroups(self.work))
        require(not left, f"cgroups are left: {left}")
        with open("/proc/self/mounts") as mounts:
            left = [line for line in mounts if f"{self.work}/docker/overlay2" in line or f"{self.work}/containerd-state" in line]
        require(not left, f"mounts are left: {left}")
        if self.is_runsc:
            found = subprocess.run(["find", self.work + "/docker-exec", "/run/containerd", "-name", "state.json"], capture_output=True, text=True)
            require(not found.stdout, f"states are left: {found.stdout}")

    def cleanup(self):
        left = self.docker("ps", "-aq").stdout.split()
        if left:
            self.docker("rm", "-f", "-v", *left)
        for pid in [*self.shim(), *self.sentry(), *self.gofer()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def tests(self):
        for victim in self.VICTIMS:
            for step in self.STEPS:
                yield f"{victim.rstrip('_')}_{step}", lambda victim=victim, step=step: self.run(victim, step), self.cleanup


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runtime")
    parser.add_argument("--flags", default="")
    parser.add_argument("--shim")
    parser.add_argument("pattern", nargs="*")
    arguments = parser.parse_intermixed_args()
    work = isolated.enter(LIMIT)
    runtime = os.path.realpath(shutil.which(arguments.runtime))
    is_runsc = os.path.basename(runtime).startswith("runsc")
    if arguments.shim:
        use_shim(work, arguments.shim, "containerd-shim-runc-v2", runtime)
    containerd = Containerd(work)
    docker = Docker(work, containerd, {"tested": {"path": runtime, "runtimeArgs": arguments.flags.split()}})
    docker.import_root("busybox")
    kills = Kills(docker, containerd, work, is_runsc, bool(arguments.shim))
    begin = time.monotonic()
    status = run_tests(list(kills.tests()), arguments.pattern)
    print(f"{time.monotonic() - begin:.0f} s")
    if status:
        print(docker.tail(60), containerd.tail(120), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
