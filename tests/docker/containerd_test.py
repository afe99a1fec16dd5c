#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""containerd's tasks with runsc: containerd_test.py RUNSC [--shim SHIM] [--flags FLAGS] [PATTERN...]

With --shim through it (io.containerd.runsc.v1), FLAGS being more global flags of runsc; else as the binary of
io.containerd.runc.v2. RUNSC may then be runc. Needs root and the packages of `tools/deps docker`.
"""
import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import isolated  # noqa: E402
from engine import Containerd, processes, require, run_tests, until, until_none, use_shim  # noqa: E402
from images import make_archive, root_of  # noqa: E402
from terminal import Terminal  # noqa: E402

LIMIT = 540
IMAGE = "docker.io/library/busybox:latest"


def same(got, wanted):
    require(got == wanted, f"got {got!r}, wanted {wanted!r}")


class Events:
    """`ctr events` in the background: topics and payloads as they come."""

    def __init__(self, containerd):
        self.lines = []
        self.process = subprocess.Popen(
            ["ctr", "-a", containerd.socket, "events"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def topics(self, container):
        return [line.split()[5] for line in self.lines if f'"{container}"' in line and " /tasks/" in line]

    def exit_status(self, container):
        """Of its init, once that has been told; else None. 0 is not printed."""
        for line in self.lines:
            if " /tasks/exit " in line and f'"id":"{container}"' in line:
                return json.loads(line[line.index("{") :]).get("exit_status", 0)
        return None

    def stop(self):
        self.process.kill()
        self.process.wait()


class Tests:
    def __init__(self, containerd, work, runtime, is_shim):
        self.containerd = containerd
        self.ctr = containerd.ctr
        self.work = work
        self.runtime = runtime
        self.is_shim = is_shim
        self.count = 0

    def ok(self, *argv, **kwargs):
        done = self.ctr(*argv, **kwargs)
        require(done.returncode == 0, f"ctr {shlex.join(argv)}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.rstrip("\n")

    def name(self):
        self.count += 1
        return f"box{self.count}"

    def arguments(self, name, *options):
        return ["run", *self.runtime, "--cgroup", f"/{os.path.basename(self.work)}/{name}", *options, IMAGE, name]

    def run(self, *argv, options=(), **kwargs):
        """A container in the foreground that is removed at its end: the CompletedProcess."""
        return self.ctr(*self.arguments(self.name(), "--rm", *options), *argv, **kwargs)

    def start(self, *argv, options=()):
        """A container in the background: its name."""
        name = self.name()
        self.ok(*self.arguments(name, "-d", *options), *argv)
        return name

    def status(self, name):
        for line in self.ok("task", "ls").splitlines()[1:]:
            fields = line.split()
            if fields[0] == name:
                return fields[2]
        return "GONE"

    def pid(self, name):
        for line in self.ok("task", "ls").splitlines()[1:]:
            fields = line.split()
            if fields[0] == name:
                return int(fields[1])
        raise AssertionError(f"{name} has no task")

    def cleanup(self):
        for name in self.ok("task", "ls", "-q").split():
            self.ctr("task", "kill", "-s", "KILL", name)
            until(lambda name=name: self.status(name) in ("STOPPED", "GONE"), f"{name} ends")
            self.ctr("task", "rm", name)
        for name in self.ok("container", "ls", "-q").split():
            self.ctr("container", "rm", name)
        left = until_none(lambda: processes("containerd-shim", "-namespace "))
        require(not left, f"shims are left: {left}")
        left = until_none(lambda: processes("runsc-sandbox") or processes("runsc-gofer"))
        require(not left, f"processes are left: {left}")
        until(lambda: not isolated.container_cgroups(self.work), "the containers' cgroups are gone")
        with open("/proc/self/mounts") as mounts:
            left = [line for line in mounts if f"{self.work}/containerd-state" in line]
        require(not left, f"mounts are left: {left}")

    def test_run(self):
        done = self.run("sh", "-c", "echo out; echo err >&2; exit 7")
        same((done.returncode, done.stdout, done.stderr), (7, "out\n", "err\n"))

    def test_run_errors(self):
        done = self.run("/no/such/program")
        require(done.returncode != 0 and "/no/such/program" in done.stderr, f"{done}")
        same(self.run("sh", "-c", "sh -c 'kill -9 $$'; exit $?").returncode, 137)

    def test_stdin(self):
        # ctr tells no container of the end of its input: none is waited for.
        same(self.run("head", "-n", "2", input="one\ntwo\n").stdout, "one\ntwo\n")
        same(self.run("sh", "-c", "head -c 1000000 | wc -c", input="x" * 1_000_000).stdout.strip(), "1000000")

    def test_terminal(self):
        shell = Terminal(["ctr", "-a", self.containerd.socket, *self.arguments(self.name(), "--rm", "-t"), "sh"],
                         os.environ, 41, 103)  # fmt: skip
        shell.type("until test \"$(stty size)\" = '41 103'; do sleep 0.1; done; echo siz''ed\n")
        shell.until("sized")
        shell.resize(50, 120)
        shell.type("until test \"$(stty size)\" = '50 120'; do sleep 0.1; done; echo resiz''ed\n")
        shell.until("resized")
        shell.type("exit 5\n")
        same(shell.wait(), 5)

    def test_exec(self):
        name = self.start("sleep", "1000")
        same(self.status(name), "RUNNING")
        done = self.ctr("task", "exec", "--exec-id", "e1", name, "sh", "-c", "echo out; echo err >&2; exit 3")
        same((done.returncode, done.stdout, done.stderr), (3, "out\n", "err\n"))
        done = self.ctr("task", "exec", "--exec-id", "e1", "--cwd", "/tmp", "--user", "5:6", name, "sh", "-c",
                        "pwd; id -u; id -g")  # fmt: skip
        same(done.stdout, "/tmp\n5\n6\n")
        same(self.ctr("task", "exec", "--exec-id", "e2", name, "head", "-c", "2", input="in").stdout, "in")
        same(self.ctr("task", "exec", "--exec-id", "e3", name, "sh", "-c", "kill -9 $$").returncode, 137)
        done = self.ctr("task", "exec", "--exec-id", "e4", name, "/no/such")
        require(done.returncode != 0 and "/no/such" in done.stderr, f"{done}")
        shell = Terminal(["ctr", "-a", self.containerd.socket, "task", "exec", "-t", "--exec-id", "e5", name, "sh"],
                         os.environ, 31, 77)  # fmt: skip
        shell.type("until test \"$(stty size)\" = '31 77'; do sleep 0.1; done; echo siz''ed\n")
        shell.until("sized")
        shell.type("exit 6\n")
        same(shell.wait(), 6)

    def test_kill_and_delete(self):
        name = self.start("sh", "-c", 'trap "exit 9" TERM; touch /ready; while :; do sleep 0.1; done')
        until(lambda: self.ctr("task", "exec", "--exec-id", "e", name, "test", "-e", "/ready").returncode == 0, "ready")
        require(self.ctr("task", "rm", name).returncode != 0, "a running task is removed")
        self.ok("task", "kill", name)
        until(lambda: self.status(name) == "STOPPED", "the trap ends it")
        same(self.events.exit_status(name), 9)
        self.ok("task", "rm", name)
        require(self.ctr("task", "kill", name).returncode != 0, "a removed task is killed")

    def test_pause_metrics_and_ps(self):
        name = self.start("sleep", "1000", options=["--memory-limit", str(64 << 20)])
        self.ok("task", "pause", name)
        same(self.status(name), "PAUSED")
        self.ok("task", "resume", name)
        same(self.status(name), "RUNNING")
        metrics = self.ok("task", "metrics", name)
        require("memory" in metrics, metrics)
        pid = self.pid(name)
        require(str(pid) in self.ok("task", "ps", name).split(), "the sandbox is not listed")

    def listen(self):
        """Starts to read events, and waits until they come."""
        self.events = Events(self.containerd)

        def heard():
            name = self.name()
            self.ok(*self.arguments(name, "--rm"), "true")
            return self.events.topics(name)

        until(heard, "events are read", 60)

    def test_exits_are_not_lost(self):
        names = []
        for status in range(8):
            names.append(self.name())
            same(self.ctr(*self.arguments(names[-1], "--rm"), "sh", "-c", f"exit {status}").returncode, status)
        for status, name in enumerate(names):
            until(lambda name=name: "/tasks/delete" in self.events.topics(name), f"the events of {name}")
            same(self.events.topics(name), ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"])
            same(self.events.exit_status(name), status)

    def test_parallel(self):
        names = [self.name() for _ in range(8)]
        running = [
            subprocess.Popen(["ctr", "-a", self.containerd.socket, *self.arguments(name, "--rm"), "sh", "-c", "exit 3"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            for name in names
        ]  # fmt: skip
        same([process.wait(120) for process in running], [3] * len(names))

    def test_loggers(self):
        log = os.path.join(self.work, "out.log")
        name = self.start("sh", "-c", "echo one; echo two >&2", options=["--log-uri", "file://" + log])
        until(lambda: self.status(name) == "STOPPED", "it ends")
        with open(log) as file:
            same(sorted(file.read().split()), ["one", "two"])
        logger = os.path.join(self.work, "logger")
        with open(logger, "w") as file:
            file.write(f"#!/bin/sh\nexec 5>&-\n(echo $CONTAINER_NAMESPACE/$CONTAINER_ID $@; cat <&3) >{log}.new\n"
                       f"mv {log}.new {log}.2\n")  # fmt: skip
        os.chmod(logger, 0o755)
        name = self.start("echo", "to the logger", options=["--log-uri", f"binary://{logger}?key=a%20value"])
        # runc's shim ends a logger's input with the task's removal.
        until(lambda: self.status(name) == "STOPPED", "it ends")
        self.ok("task", "rm", name)
        until(lambda: os.path.exists(log + ".2"), "the logger has all")
        with open(log + ".2") as file:
            same(file.read(), f"default/{name} key a value\nto the logger\n")

    def test_killed_sandbox(self):
        name = self.start("sleep", "1000")
        os.kill(self.pid(name), 9)
        until(lambda: self.status(name) == "STOPPED", "its end is seen")
        same(self.events.exit_status(name), 137)

    def test_killed_shim(self):
        name = self.start("sleep", "1000")
        shims = processes("containerd-shim", f"-id {name}")
        same(len(shims), 1)
        os.kill(next(iter(shims)), 9)
        until(lambda: self.status(name) in ("STOPPED", "UNKNOWN", "GONE"), "containerd has noticed")
        self.ctr("task", "rm", name)
        until(lambda: not processes("runsc-sandbox", name), "the sandbox is gone")

    def test_containerd_restart(self):
        name = self.start("sleep", "1000")
        self.events.stop()
        self.containerd.stop()
        self.containerd.start()
        self.listen()
        same(self.status(name), "RUNNING")
        same(self.ctr("task", "exec", "--exec-id", "e", name, "echo", "still").stdout, "still\n")
        self.ok("task", "kill", "-s", "KILL", name)
        until(lambda: self.events.exit_status(name) == 137, "its end is told")

    def test_flags_of_the_configuration(self):
        """The table [runsc_config] of the options' file, and annotations where that allows them."""
        if not self.is_shim:
            return
        logs = os.path.join(self.work, "flags")
        config = os.path.join(self.work, "flags.toml")

        def run(table, *options):
            with open(config, "w") as file:
                file.write(f'root = "{self.work}/runsc"\n[runsc_config]\ndebug-log = "{logs}/"\n{table}')
            kept, self.runtime = self.runtime, [*self.runtime[:-1], config]
            try:
                return self.run("sh", "-c", "exit 0", options=options)
            finally:
                self.runtime = kept

        def traced():
            """Whether the sandbox's log has system calls; takes the logs away."""
            text = ""
            for name in os.listdir(logs):
                with open(os.path.join(logs, name)) as file:
                    text += file.read()
            shutil.rmtree(logs)
            return "exit_group(" in text

        same((run("").returncode, traced()), (0, False))
        same((run("strace = true\n").returncode, traced()), (0, True))
        wish = ["--annotation", "dev.gvisor.flag.strace=true"]
        done = run("", *wish)
        require(done.returncode != 0 and "allow-flag-override" in done.stderr, f"an annotation that is not allowed: {done}")
        shutil.rmtree(logs, ignore_errors=True)
        same((run("allow-flag-override = true\n", *wish).returncode, traced()), (0, True))
        done = run('no-such-flag = "x"\n')
        require(done.returncode != 0 and "no-such-flag" in done.stderr, f"a flag that is not there: {done}")

    def test_out_of_memory(self):
        # runc's shim knows of what the host's kernel kills only, which the sandbox is faster than.
        if not self.is_shim:
            return
        name = self.start("sh", "-c", "dd if=/dev/zero of=/dev/shm/f bs=1M count=60; sleep 1000",
                          options=["--memory-limit", str(32 << 20)])  # fmt: skip
        until(lambda: "/tasks/oom" in self.events.topics(name), "the event", 60)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runtime")
    parser.add_argument("--shim")
    parser.add_argument("--flags", default="")
    parser.add_argument("pattern", nargs="*")
    arguments = parser.parse_intermixed_args()
    work = isolated.enter(LIMIT)
    binary = os.path.realpath(shutil.which(arguments.runtime))
    if arguments.shim:
        use_shim(work, arguments.shim, "containerd-shim-runsc-v1", binary)
        runtime = ["--runtime", "io.containerd.runsc.v1"]
        config = os.path.join(work, "runsc.toml")
        with open(config, "w") as file:
            pairs = (flag.lstrip("-").split("=") for flag in arguments.flags.split())
            file.write(f'root = "{work}/runsc"\n[runsc_config]\n' + "".join(f'{k} = "{v}"\n' for k, v in pairs))
        runtime += ["--runtime-config-path", config]
    else:
        runtime = ["--runtime", "io.containerd.runc.v2", "--runc-binary", binary, "--runc-root", work + "/runsc"]
    containerd = Containerd(work)
    archive = os.path.join(work, "busybox.tar")
    make_archive(root_of("busybox"), IMAGE, archive)
    tests = Tests(containerd, work, runtime, bool(arguments.shim))
    tests.ok("image", "import", archive)
    tests.listen()
    return run_tests(
        [(name, getattr(tests, name), tests.cleanup) for name in dir(tests) if name.startswith("test_")],
        arguments.pattern,
    )


if __name__ == "__main__":
    sys.exit(main())
