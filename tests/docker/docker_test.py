#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""docker run and its family with any runtime: docker_test.py RUNTIME [--flags=FLAGS | --shim=SHIM] [PATTERN...]

RUNTIME is a binary that dockerd gets as a runtime's path, FLAGS are more global flags of it. SHIM takes the place of runc's
(Debian's Docker accepts no other name for a shim). Run with runc it shows
that a test states what Docker users see. Needs root and the packages of `tools/deps docker`.
"""
import argparse
import contextlib
import json
import os
import shutil
import sys
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import isolated  # noqa: E402
from engine import Containerd, Docker, require, run_tests, until, use_shim  # noqa: E402
from terminal import Terminal  # noqa: E402

LIMIT = 540


def same(got, wanted):
    require(got == wanted, f"got {got!r}, wanted {wanted!r}")


class Tests:
    """Each test_* gets a container name that nobody else has, and the containers are removed after it."""

    def __init__(self, docker, work, is_runsc):
        self.docker = docker
        self.work = work
        self.is_runsc = is_runsc

    def tried(self, *argv, **kwargs):
        """docker run --rm in the foreground, which may fail."""
        return self.docker("run", "--rm", "--runtime", "tested", *argv, **kwargs)

    def run(self, *argv, **kwargs):
        """docker run --rm in the foreground: what it prints."""
        return self.docker.ok("run", "--rm", "--runtime", "tested", *argv, **kwargs)

    def start(self, *argv, runtime=None):
        """A container in the background, named box: its id."""
        return self.docker.ok("run", "-d", "--name", "box", "--runtime", runtime or "tested", *argv)

    def exec(self, *argv, **kwargs):
        return self.docker.ok("exec", "box", *argv, **kwargs)

    def status(self):
        return self.docker.inspect("box", ".State.Status")

    def await_exit(self):
        until(lambda: self.status() == "exited", "the container ends")
        return int(self.docker.inspect("box", ".State.ExitCode"))

    def cleanup(self):
        left = self.docker.ok("ps", "-aq").split()
        if left:
            self.docker("rm", "-f", "-v", *left)
        # docker answers before the runtime has cleared all away.
        until(lambda: not isolated.container_cgroups(self.work), "the containers' cgroups are gone", 10)

    # The process and its streams.

    def test_run(self):
        done = self.tried("busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
        same((done.returncode, done.stdout, done.stderr), (7, "out\n", "err\n"))
        if self.is_runsc:
            require("runsc@sandbox" in self.run("busybox", "cat", "/proc/version"), "not our kernel")

    def test_run_errors(self):
        done = self.tried("busybox", "/no/such/program")
        require(done.returncode in (126, 127) and "/no/such/program" in done.stderr, f"{done}")
        done = self.tried("-w", "/etc/passwd", "busybox", "true")
        require(done.returncode in (125, 126, 127) and "/etc/passwd" in done.stderr, f"{done}")
        same(self.tried("busybox", "sh", "-c", "kill -9 $$; exit 3").returncode, 3)
        same(self.tried("busybox", "sh", "-c", 'sh -c "kill -9 \\$\\$"; exit $?').returncode, 137)

    def test_environment(self):
        out = self.run("-e", "A=b c", "-w", "/tmp", "-h", "name", "busybox", "sh", "-c", "pwd; echo $A; hostname")
        same(out, "/tmp\nb c\nname")

    def test_stdin(self):
        same(self.run("-i", "busybox", "cat", input="one\ntwo\n"), "one\ntwo")
        same(self.run("-i", "busybox", "wc", "-c", input="x" * 3_000_000).strip(), "3000000")

    def test_terminal(self):
        shell = Terminal(["docker", "run", "--rm", "-it", "--runtime", "tested", "busybox", "sh"], self.docker.environment, 41, 103)
        # docker sends the size a moment after the start.
        shell.type("until test \"$(stty size)\" = '41 103'; do sleep 0.1; done; echo siz''ed\n")
        shell.until("sized")
        shell.type("tty; test -t 0 && echo on''e\n")
        shell.until("/dev/pts/0\none")
        shell.resize(50, 120)
        shell.type("until test \"$(stty size)\" = '50 120'; do sleep 0.1; done; echo resiz''ed\n")
        shell.until("resized")
        shell.type("cat\n")
        # The terminal's echo and cat's answer: cat is in the foreground.
        shell.until("ab\nab\n", again="ab\n")
        shell.type("\x03")
        shell.until("status 130", again="echo st''atus $?\n")
        shell.type("exit 5\n")
        same(shell.wait(), 5)

    def test_detach_and_attach(self):
        command = ["docker", "run", "-it", "--name", "box", "--runtime", "tested", "busybox", "sh"]
        first = Terminal(command, self.docker.environment)
        first.type("X=kept; echo rea''dy\n")
        first.until("ready")
        first.type("\x10\x11")
        same(first.wait(), 0)
        same(self.status(), "running")
        second = Terminal(["docker", "attach", "box"], self.docker.environment)
        second.type("echo $X again\nexit 4\n")
        second.until("kept again")
        same(second.wait(), 4)

    def test_exec(self):
        self.start("busybox", "sleep", "1000")
        done = self.docker("exec", "box", "sh", "-c", "echo out; echo err >&2; exit 3")
        same((done.returncode, done.stdout, done.stderr), (3, "out\n", "err\n"))
        out = self.docker.ok(
            "exec", "-e", "A=1", "-w", "/tmp", "-u", "5:6", "box", "sh", "-c", "echo $A; pwd; id -u; id -g"
        )
        same(out, "1\n/tmp\n5\n6")
        same(self.docker.ok("exec", "-i", "box", "cat", input="in"), "in")
        same(self.docker("exec", "box", "sh", "-c", "kill -9 $$").returncode, 137)
        require(self.docker("exec", "box", "/no/such").returncode in (126, 127), "a missing program")
        self.docker.ok("exec", "-d", "box", "sh", "-c", "echo done >/tmp/done")
        until(lambda: self.docker("exec", "box", "cat", "/tmp/done").stdout == "done\n", "the detached exec's work")

    def test_exec_terminal(self):
        self.start("busybox", "sleep", "1000")
        shell = Terminal(["docker", "exec", "-it", "box", "sh"], self.docker.environment, 31, 77)
        shell.type("until test \"$(stty size)\" = '31 77'; do sleep 0.1; done; tty\n")
        shell.until("/dev/pts/")
        shell.type("exit 6\n")
        same(shell.wait(), 6)
        same(self.status(), "running")

    def test_logs(self):
        self.start("busybox", "sh", "-c", "echo one; echo two >&2; sleep 0.2; echo three")
        same(self.await_exit(), 0)
        done = self.docker("logs", "box")
        same((done.stdout, done.stderr), ("one\nthree\n", "two\n"))
        same(self.docker.ok("logs", "--tail", "1", "box"), "three")
        follow = self.docker.ok("run", "-d", "--runtime", "tested", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
        same(self.docker.ok("logs", "-f", follow), "1\n2\n3")

    def test_top(self):
        self.start("busybox", "sh", "-c", "sleep 3601 & sleep 3602 & wait")
        until(lambda: "3602" in self.exec("ps"), "both children run")
        out = self.docker.ok("top", "box", "-o", "pid,comm")
        rows = [line.split(None, 1) for line in out.splitlines()[1:]]
        require(all(os.path.exists(f"/proc/{pid}") for pid, _ in rows), f"top names processes that aren't: {out}")
        if self.is_runsc:
            # Guests' processes are none of the host's, where docker looks: the sandbox stands for them. Above all it must
            # not be another process of the host with the number that one has inside.
            same(rows, [[self.docker.inspect("box", ".State.Pid"), "runsc-sandbox"]])
        else:
            same(sorted(name for _, name in rows), ["sh", "sleep", "sleep"])

    def test_stats(self):
        self.start("busybox", "sh", "-c", "while :; do :; done")

        def numbers():
            text = self.docker.ok("stats", "--no-stream", "--format", "{{json .}}", "box")
            return json.loads(text)

        stats = until(lambda: (lambda s: s if float(s["CPUPerc"].rstrip("%")) > 0 else None)(numbers()), "it is busy")
        require(int(stats["PIDs"]) >= 1, f"pids: {stats}")
        require(not stats["MemUsage"].startswith("0B"), f"memory: {stats}")

    # Life cycle.

    def test_pause(self):
        self.start("busybox", "sh", "-c", "while :; do echo x >>/tmp/ticks; sleep 0.05; done")
        until(lambda: self.docker("exec", "box", "test", "-s", "/tmp/ticks").returncode == 0, "it ticks")
        self.docker.ok("pause", "box")
        same(self.status(), "paused")
        done = self.docker("exec", "box", "true")
        require(done.returncode != 0 and "paused" in done.stderr, f"exec in a paused container: {done}")
        self.docker.ok("unpause", "box")
        same(self.status(), "running")
        before = int(self.exec("wc", "-l", "/tmp/ticks").split()[0])
        until(lambda: int(self.exec("wc", "-l", "/tmp/ticks").split()[0]) > before + 2, "it ticks again")

    def test_paused_container_is_killed(self):
        self.start("busybox", "sleep", "1000")
        self.docker.ok("pause", "box")
        self.docker.ok("rm", "-f", "box")

    def test_stop_delivers_term(self):
        self.start("busybox", "sh", "-c", 'trap "echo got TERM; exit 9" TERM; echo ready; while :; do sleep 0.1; done')
        until(lambda: "ready" in self.docker.ok("logs", "box"), "the trap is set")
        self.docker.ok("stop", "-t", "30", "box")
        same(self.await_exit(), 9)
        require("got TERM" in self.docker.ok("logs", "box"), "no TERM in the container")

    def test_stop_kills_in_the_end(self):
        self.start("busybox", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
        self.docker.ok("stop", "-t", "1", "box")
        same(self.await_exit(), 137)

    def test_stop_signal(self):
        self.start("--stop-signal", "USR2", "busybox", "sh", "-c", 'trap "exit 8" USR2; echo ready; while :; do sleep 0.1; done')
        until(lambda: "ready" in self.docker.ok("logs", "box"), "the trap is set")
        self.docker.ok("stop", "-t", "30", "box")
        same(self.await_exit(), 8)

    def test_kill(self):
        self.start("busybox", "sh", "-c", 'trap "echo USR1" USR1; echo ready; while :; do sleep 0.1; done')
        until(lambda: "ready" in self.docker.ok("logs", "box"), "the trap is set")
        self.docker.ok("kill", "-s", "USR1", "box")
        until(lambda: "USR1" in self.docker.ok("logs", "box"), "the trap runs")
        same(self.status(), "running")
        self.docker.ok("kill", "box")
        same(self.await_exit(), 137)

    def test_start_again(self):
        self.start("busybox", "sh", "-c", "echo run; exit 2")
        same(self.await_exit(), 2)
        same(self.docker("start", "-a", "box").returncode, 2)
        same(self.docker.ok("logs", "box"), "run\nrun")
        same(self.docker.ok("wait", "box"), "2")

    def test_restart_policies(self):
        self.start("--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 3")
        until(lambda: self.docker.inspect("box", ".RestartCount") == "2" and self.status() == "exited", "two restarts", 60)
        same(self.docker.ok("logs", "box"), "try\ntry\ntry")
        self.docker.ok("rm", "box")
        self.start("--restart", "always", "busybox", "sleep", "1000")
        pid = self.docker.inspect("box", ".State.Pid")
        os.kill(int(pid), 9)
        until(lambda: self.status() == "running" and self.docker.inspect("box", ".State.Pid") not in ("0", pid), "a new life")
        self.docker.ok("restart", "-t", "0", "box")
        same(self.status(), "running")
        self.docker.ok("stop", "-t", "0", "box")
        same(self.status(), "exited")

    def test_health(self):
        self.start(
            "--health-cmd", "test -e /tmp/well", "--health-interval", "300ms", "--health-retries", "1",
            "busybox", "sh", "-c", "touch /tmp/well; sleep 1000",
        )  # fmt: skip
        until(lambda: self.docker.inspect("box", ".State.Health.Status") == "healthy", "healthy")
        self.exec("rm", "/tmp/well")
        until(lambda: self.docker.inspect("box", ".State.Health.Status") == "unhealthy", "unhealthy")

    def test_init(self):
        # A daemon's child is reparented to the init, and reaped.
        self.start("--init", "busybox", "sh", "-c", "(sleep 0.1 & sleep 0.1 &) ; sleep 1000")
        require("init" in self.exec("cat", "/proc/1/comm"), "the first process is not an init")
        until(lambda: "Z" not in self.exec("ps", "-o", "pid,stat,args"), "no zombies")
        self.docker.ok("stop", "-t", "30", "box")
        same(self.await_exit(), 143)

    # Files.

    def test_volumes(self):
        shared = os.path.join(self.work, "shared")
        os.makedirs(shared, exist_ok=True)
        with open(shared + "/in", "w") as file:
            file.write("from outside")
        out = self.run("-v", shared + ":/v", "busybox", "sh", "-c", "cat /v/in; echo back >/v/out; mkdir /v/d; ls /v")
        same(out, "from outsided\nin\nout")
        with open(shared + "/out") as file:
            same(file.read(), "back\n")
        done = self.tried("-v", shared + ":/v:ro", "busybox", "touch", "/v/x")
        require(done.returncode != 0 and "Read-only file system" in done.stderr, f"{done}")
        # The host's later writes are seen.
        self.start("-v", shared + ":/v", "busybox", "sleep", "1000")
        require(self.docker("exec", "box", "cat", "/v/late").returncode != 0, "a file from nowhere")
        with open(shared + "/late", "w") as file:
            file.write("late")
        same(self.exec("cat", "/v/late"), "late")
        shutil.rmtree(shared)

    def test_named_volume(self):
        self.run("-v", "vol:/v", "busybox", "sh", "-c", "echo data >/v/f")
        same(self.run("-v", "vol:/v", "busybox", "cat", "/v/f"), "data")
        self.docker.ok("volume", "rm", "vol")

    def test_tmpfs(self):
        out = self.run("--tmpfs", "/t:size=1m,mode=1770", "busybox", "sh", "-c",
                       "stat -c %a /t; dd if=/dev/zero of=/t/f bs=64k count=100 2>&1 | grep -o 'No space.*'; stat -c %s /t/f")
        same(out, "1770\nNo space left on device\n1048576")

    def test_read_only(self):
        done = self.tried("--read-only", "--tmpfs", "/tmp", "busybox", "sh", "-c", "echo a >/tmp/a; echo b >/b")
        require(done.returncode != 0 and "Read-only file system" in done.stderr, f"{done}")

    def test_copy(self):
        # `shared`: the mode in which the container's root is the host's, so that docker sees its writes.
        source = os.path.join(self.work, "copied")
        with open(source, "w") as file:
            file.write("copied in\n")
        self.docker.ok("create", "--name", "box", "--runtime", "shared", "busybox", "sh", "-c", "cat /tmp/before; sleep 1000")
        self.docker.ok("cp", source, "box:/tmp/before")
        self.docker.ok("start", "box")
        until(lambda: self.docker.ok("logs", "box") == "copied in", "the copied file is seen")
        require(self.docker("exec", "box", "cat", "/tmp/during").returncode != 0, "a file from nowhere")
        self.docker.ok("cp", source, "box:/tmp/during")
        same(self.exec("cat", "/tmp/during"), "copied in")
        self.exec("sh", "-c", "echo written >/etc/written; chmod 640 /etc/written; rm /tmp/before")
        self.docker.ok("cp", "box:/etc/written", self.work + "/out")
        with open(self.work + "/out") as file:
            same(file.read(), "written\n")
        require(self.docker("cp", "box:/tmp/before", self.work + "/out").returncode != 0, "a removed file is copied")

    def test_commit(self):
        self.start("busybox", "sh", "-c",
                   "echo new >/etc/new; rm /etc/group; mkdir -p /d/e; ln -s new /etc/link; chown 5:6 /d; sleep 1000", runtime="shared")
        until(lambda: self.docker("exec", "box", "test", "-L", "/etc/link").returncode == 0, "it has written")
        changes = self.docker.ok("diff", "box").splitlines()
        require({"A /etc/new", "D /etc/group", "A /d/e", "A /etc/link"} <= set(changes), f"diff: {changes}")
        self.docker.ok("commit", "box", "committed")
        out = self.run("committed", "sh", "-c", "cat /etc/link; test -e /etc/group || echo gone; stat -c %u:%g /d")
        same(out, "new\ngone\n5:6")
        self.cleanup()
        self.docker.ok("rmi", "committed")

    def test_build(self):
        context = os.path.join(self.work, "context")
        os.makedirs(context, exist_ok=True)
        with open(context + "/Dockerfile", "w") as file:
            file.write("FROM busybox\nRUN echo built >/made && chmod 600 /made\nCOPY Dockerfile /from\nRUN cat /made >>/from\n"
                       'ENTRYPOINT ["sh", "-c", "tail -n 1 /from; stat -c %a /made"]\n')  # fmt: skip
        environment = dict(self.docker.environment, DOCKER_BUILDKIT="0")
        self.docker.environment, kept = environment, self.docker.environment
        try:
            self.docker.ok("build", "-t", "built", context)
        finally:
            self.docker.environment = kept
        same(self.run("built"), "built\n600")
        self.docker.ok("rmi", "built")

    # Limits and rights.

    # --- Networks

    SERVE = "mkdir /www; echo page > /www/index.html; exec httpd -f -h /www -p 80"

    def fetch(self, address):
        """What the HTTP server at an address says to the engine's host, which has a moment to come up."""
        got = []

        def fetched():
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://{address}/", timeout=10) as page:
                    got.append(page.read().decode())
            return got

        until(fetched, f"an answer from {address}")
        return got[0]

    def test_network_addresses(self):
        self.start("busybox", "sh", "-c", self.SERVE)
        address = self.docker.inspect("box", ".NetworkSettings.IPAddress")
        same(self.fetch(address), "page\n")
        # The name that docker gives it, from the /etc/hosts that it mounts.
        same(self.exec("sh", "-c", "wget -qO- http://$(hostname)/"), "page")
        same(self.run("busybox", "wget", "-qO-", f"http://{address}/"), "page")
        gateway = self.docker.inspect("box", ".NetworkSettings.Gateway")
        require(f"default via {gateway} dev eth0" in self.exec("ip", "route"), self.exec("ip", "route"))
        require("1 packets received" in self.exec("ping", "-c", "1", "-W", "10", gateway), "ping of the gateway")

    def test_published_port(self):
        self.start("-p", "127.0.0.1:8088:80", "busybox", "sh", "-c", self.SERVE)
        same(self.fetch("127.0.0.1:8088"), "page\n")

    def test_network_comes_back(self):
        """A restarted container has its network again."""
        self.start("busybox", "sh", "-c", self.SERVE)
        same(self.fetch(self.docker.inspect("box", ".NetworkSettings.IPAddress")), "page\n")
        self.docker.ok("restart", "-t", "0", "box")
        same(self.fetch(self.docker.inspect("box", ".NetworkSettings.IPAddress")), "page\n")

    def test_network_by_name(self):
        """Containers of a user-defined network find each other by Docker's own name server."""
        self.docker.ok("network", "create", "pair")
        try:
            self.start("--network", "pair", "--network-alias", "other", "busybox", "sh", "-c", self.SERVE)
            self.fetch(self.docker.inspect("box", ".NetworkSettings.Networks.pair.IPAddress"))
            for name in "box", "other":
                same(self.run("--network", "pair", "busybox", "wget", "-qO-", f"http://{name}/"), "page")
            require(self.tried("--network", "pair", "busybox", "wget", "-T5", "-qO-", "http://nobody/").returncode != 0, "nobody")
        finally:
            self.cleanup()
            self.docker.ok("network", "rm", "pair")

    def test_network_none(self):
        same(self.run("--network", "none", "busybox", "sh", "-c", "ls /sys/class/net; ip -o -4 addr | wc -l").split()[-1], "1")
        require(self.tried("--network", "none", "busybox", "wget", "-qO-", "http://172.17.0.1/").returncode != 0, "a way out")

    def test_memory_limit(self):
        self.start("-m", "64m", "busybox", "sh", "-c", "awk '/MemTotal/ { print $2 }' /proc/meminfo; sleep 1000")
        until(lambda: self.docker.ok("logs", "box"), "it says its memory")
        if self.is_runsc:
            same(self.docker.ok("logs", "box"), "65536")
        same(self.docker.inspect("box", ".HostConfig.Memory"), str(64 << 20))
        done = self.tried("-m", "64m", "--memory-swap", "64m", "--tmpfs", "/t:size=1g", "busybox",
                           "sh", "-c", "dd if=/dev/zero of=/t/f bs=1M count=500")  # fmt: skip
        require(done.returncode != 0, f"500 MB fit into 64: {done}")

    def test_update(self):
        identity = self.start("-m", "64m", "--memory-swap", "64m", "busybox", "sleep", "1000")
        self.docker.ok("update", "-m", "48m", "--memory-swap", "48m", "--cpu-shares", "200", "--pids-limit", "99", "box")
        base = f"{os.path.basename(self.work)}/{identity}"
        with open(f"/sys/fs/cgroup/memory/{base}/memory.limit_in_bytes") as file:
            same(file.read().strip(), str(48 << 20))
        with open(f"/sys/fs/cgroup/cpu/{base}/cpu.shares") as file:
            same(file.read().strip(), "200")

    def test_cpus(self):
        identity = self.start("--cpus", "0.5", "--cpuset-cpus", "0", "busybox", "sleep", "1000")
        base = f"{os.path.basename(self.work)}/{identity}"
        with open(f"/sys/fs/cgroup/cpu/{base}/cpu.cfs_quota_us") as file:
            same(file.read().strip(), "50000")
        with open(f"/sys/fs/cgroup/cpuset/{base}/cpuset.cpus") as file:
            same(file.read().strip(), "0")
        same(self.exec("nproc"), "1")

    def test_pids_limit(self):
        # The shell whose fork fails ends.
        out = self.run("--pids-limit", "20", "busybox", "sh", "-c",
                       "(i=0; while test $i -lt 40; do sleep 5 & i=$((i + 1)); done) 2>&1; echo end", timeout=60)  # fmt: skip
        require("can't fork" in out or "Resource temporarily unavailable" in out, f"40 processes of 20: {out}")

    def test_user(self):
        same(self.run("-u", "12:34", "--group-add", "56", "busybox", "id"), "uid=12 gid=34 groups=34,56")

    def test_capabilities(self):
        status = "grep -E 'Cap(Eff|Bnd)' /proc/self/status | sort | cut -f 2"
        same(self.run("--cap-drop", "ALL", "busybox", "sh", "-c", status), "0000000000000000\n0000000000000000")
        same(self.run("--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", status),
             "0000000000001000\n0000000000001000")  # fmt: skip
        require(self.tried("--cap-drop", "CHOWN", "busybox", "chown", "5", "/tmp").returncode != 0, "chown")
        self.run("busybox", "chown", "5", "/tmp")
        out = self.run("--security-opt", "no-new-privileges", "busybox", "grep", "NoNewPrivs", "/proc/self/status")
        same(out.split(), ["NoNewPrivs:", "1"])

    def test_ulimit(self):
        same(self.run("--ulimit", "nofile=100:200", "busybox", "sh", "-c", "ulimit -n; ulimit -Hn"), "100\n200")

    def test_seccomp(self):
        same(self.run("busybox", "grep", "Seccomp:", "/proc/self/status").split(), ["Seccomp:", "2"])
        require(self.tried("busybox", "unshare", "-m", "true").returncode != 0, "unshare is allowed")
        same(self.run("--security-opt", "seccomp=unconfined", "busybox", "grep", "Seccomp:", "/proc/self/status").split(),
             ["Seccomp:", "0"])  # fmt: skip

    def test_masked_paths(self):
        out = self.run("busybox", "sh", "-c",
                       "cat /proc/keys | wc -c; ls /sys/firmware | wc -l; echo 1 2>&1 >/proc/sys/kernel/panic; :")  # fmt: skip
        same(out.split("\n")[:2], ["0", "0"])
        require("Read-only file system" in out, f"/proc/sys is written: {out}")

    def test_sysctl_and_privileged(self):
        same(self.run("--sysctl", "kernel.msgmax=12345", "busybox", "cat", "/proc/sys/kernel/msgmax"), "12345")
        if self.is_runsc:
            # Here root lacks a capability that runc would have to give.
            self.run("--privileged", "busybox", "sh", "-c", "mkdir /m && mount -t tmpfs none /m && echo x >/m/x")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runtime")
    parser.add_argument("--flags", default="")
    parser.add_argument("--shim")
    parser.add_argument("pattern", nargs="*")
    arguments = parser.parse_intermixed_args()
    work = isolated.enter(LIMIT)
    runtime = os.path.realpath(shutil.which(arguments.runtime))
    flags = arguments.flags.split()
    is_runsc = os.path.basename(runtime).startswith("runsc")
    shared = ["--overlay2=none", "--file-access=shared"] if is_runsc else []
    if arguments.shim:
        use_shim(work, arguments.shim, "containerd-shim-runc-v2", runtime)
    docker = Docker(
        work, Containerd(work),
        # The first is the default, which builds use too.
        {"shared": {"path": runtime, "runtimeArgs": flags + shared}, "tested": {"path": runtime, "runtimeArgs": flags}},
    )  # fmt: skip
    docker.import_root("busybox")
    tests = Tests(docker, work, is_runsc)
    return run_tests(
        [(name, getattr(tests, name), tests.cleanup) for name in dir(tests) if name.startswith("test_")], arguments.pattern
    )


if __name__ == "__main__":
    sys.exit(main())
