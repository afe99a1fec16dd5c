# SPDX-License-Identifier: Apache-2.0
"""What is measured. Each workload checks that the program did its work and returns samples of one or more metrics."""

import csv
import dataclasses
import io
import json
import os
import select
import shutil
import time

from . import host
from .runtimes import Failed, finish, start

GUEST = "guest"  # the program's name in Stage.data


@dataclasses.dataclass
class Sample:
    metric: str
    unit: str  # of values of which less is better
    median: float
    best: float


@dataclasses.dataclass
class Session:
    stage: host.Stage
    ms: int  # of each micro operation and round
    iterations: int  # instead of `ms`, if not 0
    small: bool  # tiny counts: does it work?

    @property
    def guest(self):
        return os.path.join(self.stage.data, GUEST)

    def few(self, many):
        return max(1, many // 50) if self.small else many


class Workload:
    """`name` is also the metric unless the samples say otherwise."""

    long = False
    needs = ()  # programs of the host

    def __init__(self, name, what):
        self.name, self.what = name, what

    def measure(self, session, runtime):
        raise NotImplementedError


def expect(condition, what, output):
    if not condition:
        raise Failed(f"{what}: {output[-300:]!r}")


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class Micro(Workload):
    def measure(self, session, runtime):
        budget = ["--iterations", str(session.iterations)] if session.iterations else ["--ms", str(session.ms)]
        out = runtime.run([session.guest, "run", *budget, "--dir", session.stage.data, self.name])
        rows = [line.split("\t") for line in out.splitlines() if line.startswith("@op\t")]
        expect(len(rows) == 1 and rows[0][1] == self.name and int(rows[0][3]) > 0, self.name, out)
        return [Sample(self.name, "ns", median=float(rows[0][5]), best=float(rows[0][4]))]


def elapsed_ms(out):
    times = [line.split("\t")[1] for line in out.splitlines() if line.startswith("@time\t")]
    expect(len(times) == 1, "guest time", out)
    return int(times[0]) / 1e6


class StartToExit(Workload):
    """`true`, from before the runtime is executed until it was waited for."""

    def measure(self, session, runtime):
        times = []
        for _ in range(session.few(50) // 5 or 1):
            argv, root = runtime.command(["/bin/true"])
            timed = [session.guest, "time", *(["--root", root] if root else []), "--", *argv]
            times.append(elapsed_ms(finish(start(timed), runtime.name, 60)))
        return [Sample(self.name, "ms", median(times), min(times))]


class Timed(Workload):
    """A shell script in which `@` stands for `guest time --`; `check` judges its whole output."""

    def __init__(self, name, what, script, check, needs=(), long=False, timeout=600):
        super().__init__(name, what)
        self.script, self.check, self.needs, self.long, self.timeout = script, check, needs, long, timeout

    def measure(self, session, runtime):
        text = self.script(session).replace("@ ", f"{session.guest} time -- ")
        out = runtime.run(["/bin/bash", "-ec", text], timeout=self.timeout)
        expect(self.check(session, out), self.name, out)
        took = elapsed_ms(out)
        return [Sample(self.name, "ms", took, took)]


class Memory(Workload):
    """PSS of every process of sandboxes that sleep, and how often they are switched to."""

    def __init__(self, name, what, count):
        super().__init__(name, what)
        self.count = count
        self.long = count > 1

    def measure(self, session, runtime):
        count = min(self.count, 2) if session.small else self.count
        launched, pids = [], set()
        before = set(host.descendants())
        try:
            for _ in range(count):
                process = runtime.launch(["/bin/sh", "-c", "echo ready; exec sleep 1000"])
                launched.append(process)
                await_line(process, "ready", runtime.name)
                if not runtime.is_native and process.wait(60) != 0:
                    raise Failed(f"{runtime.name}: run --detach: status {process.returncode}")
            await_sleep(session)
            pids = set(host.descendants()) - before
            sizes = {pid: host.pss_kib(pid) or 0 for pid in pids}
            expect(sum(sizes.values()) > 0, "no process is left that could be measured", str(pids))
            samples = [Sample(self.name, "KiB", sum(sizes.values()) / count, sum(sizes.values()) / count)]
            if self.count == 1:
                samples.append(self.idle(session, pids))
            return samples
        finally:
            for pid in set(host.descendants()) - before:
                end(pid)
            runtime.clean_up()
            host.reap()
            for process in launched:
                process.stdout.close()
                process.stderr.close()

    @staticmethod
    def idle(session, pids):
        seconds = 0.1 if session.small else 4.0
        first, start_time = sum(map(host.switches, pids)), time.monotonic()
        time.sleep(seconds)
        rate = (sum(map(host.switches, pids)) - first) / (time.monotonic() - start_time)
        return Sample("idle_wakeups", "/s", rate, rate)


def end(pid):
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass


def await_line(process, want, name):
    deadline, text = time.monotonic() + 60, b""
    while want.encode() not in text:
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        chunk = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not chunk:
            error = process.stderr.read() if process.poll() not in (None, 0) else ""
            raise Failed(f"{name}: did not say {want!r}: {text!r} {error}")
        text += chunk


def await_sleep(session):
    """What a start leaves running (threads that end, memory that is given back) is over."""
    time.sleep(0.05 if session.small else 1.0)


class Fio(Workload):
    needs = ("fio",)

    def __init__(self, where, kind):
        super().__init__(f"fio_{where}_{kind}", f"fio {kind} 4 KiB, psync, on {where}: per operation")
        self.where, self.kind = where, kind

    def measure(self, session, runtime):
        directory = {"root": session.stage.data, "bind": session.stage.bind, "tmpfs": "/tmp"}[self.where]
        size = "1m" if session.small else "64m"
        runtime_s = "--loops=1" if session.small else "--time_based --runtime=2"
        script = (f"fio --name=job --filename={directory}/fio-{runtime.name} --rw={self.kind} --bs=4k --size={size} --ioengine=psync "
                  f"--invalidate=0 --thread {runtime_s} --output-format=json --unlink=1")
        out = runtime.run(["/bin/bash", "-ec", script], timeout=120)
        job = json.loads(out[out.index("{"):])["jobs"][0]
        side = job["read" if "read" in self.kind else "write"]
        expect(job["error"] == 0 and side["total_ios"] > 0, self.name, out)
        per_operation = 1e9 / side["iops"]
        return [Sample(self.name, "ns", per_operation, per_operation)]


class Redis(Workload):
    needs = ("redis-server", "redis-benchmark", "redis-cli")

    def measure(self, session, runtime):
        count = session.few(20000)
        script = (f"redis-server --port 6399 --bind 127.0.0.1 --save '' --daemonize yes --dir /tmp >/dev/null\n"
                  f"for i in $(seq 200); do redis-cli -p 6399 ping 2>/dev/null | grep -q PONG && break; sleep 0.05; done\n"
                  f"redis-benchmark -p 6399 -t set,get,lpush -n {count} -c 20 --csv\n"
                  f"redis-cli -p 6399 strlen key:__rand_int__; redis-cli -p 6399 llen mylist; redis-cli -p 6399 shutdown nosave || true")
        out = runtime.run(["/bin/bash", "-c", script], timeout=300)
        expect(f"\n{count}\n" in out, "redis: the list has other elements", out)
        samples = []
        for row in csv.reader(io.StringIO(out)):
            if len(row) > 1 and row[0] in ("SET", "GET", "LPUSH"):
                per_request = 1e9 / float(row[1])
                samples.append(Sample(f"redis_{row[0].lower()}", "ns", per_request, per_request))
        expect(len(samples) == 3, "redis-benchmark", out)
        return samples


def _python(session):
    times = 1 if session.small else 5
    loop = "for i in $(seq %d); do /usr/bin/python3 -c \"import json,ssl,asyncio; print(\\\"imported\\\")\"; done" % times
    return f"@ bash -ec '{loop}'"


def _build(session):
    return f"cp -r {session.stage.data}/project /tmp/project; @ make -s -j2 -C /tmp/project; /tmp/project/program"


def _sqlite(session):
    rows = session.few(20000)
    return (f"echo 'create table t(a integer primary key, b text, c integer); "
            f"with recursive n(i) as (select 1 union all select i+1 from n where i<{rows}) "
            f"insert into t select i, hex(i*7919), i*7919%1000 from n; create index x on t(c); "
            f"update t set b=b||c where a%3=0; select count(*), sum(a) from t; "
            f"select count(*) from t where c between 10 and 500;' >/tmp/sql; @ sqlite3 /tmp/test.db '.read /tmp/sql'")


def _forks(count):
    return lambda session: f"@ bash -ec 'for ((i = 0; i < {session.few(count)}; i++)); do /bin/true; done; echo all $i'"


def files_below_usr():
    return 1 + sum(len(dirs) + len(files) for _, dirs, files in os.walk("/usr"))


def _find_check(session, out):
    # What else is installed meanwhile: within 2 %.
    found, there = int(out.split()[0]), files_below_usr()
    return abs(found - there) <= there // 50


def all_workloads(operations):
    """`operations`: (name, meaning) of the guest program's."""
    micro = [Micro(name, what) for name, what in operations]
    return micro + [
        StartToExit("start_true", "`true`, start of the runtime to its end"),
        Memory("memory_sleep", "PSS of all processes of a sandbox that sleeps", 1),
        Memory("memory_sleep_50", "the same of each of 50", 50),
        Timed("python_5", "python3 with json, ssl, asyncio, 5 times", _python,
              lambda s, out: out.count("imported") == (1 if s.small else 5), needs=("/usr/bin/python3",)),
        Timed("build_c", "C program of 24 files, make -j2", _build, lambda s, out: "program of 24 parts" in out, needs=("make", "gcc")),
        Timed("find_usr", "find /usr | wc -l", lambda s: "@ bash -c 'find /usr | wc -l'", _find_check, needs=("find",)),
        Timed("sqlite", "sqlite3: insert, index, update, select on a tmpfs", _sqlite,
              lambda s, out: f"{s.few(20000)}|{s.few(20000) * (s.few(20000) + 1) // 2}" in out, needs=("sqlite3",)),
        Timed("forks_300", "300 × /bin/true from bash", _forks(300), lambda s, out: f"all {s.few(300)}" in out),
        Timed("forks_10000", "10,000 × /bin/true from bash", _forks(10000), lambda s, out: f"all {s.few(10000)}" in out, long=True,
              timeout=1800),
        *[Fio(where, kind) for where, kind in (("root", "randread"), ("bind", "randread"), ("bind", "randwrite"), ("tmpfs", "randread"),
                                               ("tmpfs", "randwrite"))],
        Redis("redis", "redis-benchmark over the loopback: per request"),
    ]


def prepare_data(session, guest_binary):
    """The files that the workloads use, in Stage.data: on the root of the containers."""
    data = session.stage.data
    shutil.copy(guest_binary, session.guest)
    os.chmod(session.guest, 0o755)
    with open(os.path.join(data, "data"), "wb") as file:
        file.write(b"".join(bytes([page + 1]) * host.PAGE for page in range(16)))
    os.mkdir(os.path.join(data, "many"))
    for number in range(200):
        open(os.path.join(data, "many", f"name-{number}"), "w").close()
    project = os.path.join(data, "project")
    os.mkdir(project)
    parts = 24
    for number in range(parts):
        functions = "\n".join(f"static int f{i}(int x) {{ char b[32]; snprintf(b, sizeof b, \"%d\", x * {i + number}); return atoi(b) % 97; }}"
                              for i in range(40))
        calls = " + ".join(f"f{i}(x)" for i in range(40))
        with open(os.path.join(project, f"part{number}.c"), "w") as file:
            file.write(f"#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n{functions}\nint part{number}(int x) {{ return {calls}; }}\n")
    with open(os.path.join(project, "main.c"), "w") as file:
        file.write("#include <stdio.h>\n" + "".join(f"int part{n}(int);\n" for n in range(parts)) + "int main(void) { long sum = 0;\n" +
                   "".join(f"sum += part{n}({n});\n" for n in range(parts)) +
                   f"return printf(\"program of {parts} parts: %ld\\n\", sum) < 0; }}\n")
    with open(os.path.join(project, "Makefile"), "w") as file:
        objects = " ".join(["main.o"] + [f"part{n}.o" for n in range(parts)])
        file.write(f"program: {objects}\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O1 -c -o $@ $<\n")
