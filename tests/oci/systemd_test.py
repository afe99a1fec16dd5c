#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""--systemd-cgroup with a stand-in for systemd on a real bus: systemd_test.py RUNSC

Debian's dbus-daemon checks what runsc sends; the stand-in (python3-jeepney) records it, answers as org.freedesktop.systemd1(5)
says, and makes no cgroup: that part is the host's own. Needs root and the packages dbus-daemon, python3-jeepney, busybox-static.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading

from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_call, new_method_return, new_signal
from jeepney.io.blocking import open_dbus_connection

NAME = "org.freedesktop.systemd1"
MANAGER = NAME + ".Manager"
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
<allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
<allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
</policy></busconfig>
"""


def require(condition, message):
    if not condition:
        raise AssertionError(message)


def same(got, wanted):
    require(got == wanted, f"got {got!r}, wanted {wanted!r}")


class FakeSystemd(threading.Thread):
    def __init__(self, address):
        super().__init__(daemon=True)
        self.bus = open_dbus_connection(address)
        owner = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
        reply = self.bus.send_and_get_reply(new_method_call(owner, "RequestName", "su", (NAME, 4)))
        same(reply.body, (1,))
        self.calls = []
        self.result = "done"
        self.error = None
        self.jobs = 0

    def run(self):
        while True:
            try:
                message = self.bus.receive()
            except ConnectionResetError:
                return  # the bus is gone: the test is over
            if message.header.message_type != MessageType.method_call:
                continue
            member = message.header.fields[HeaderFields.member]
            self.calls.append((member, message.header.fields.get(HeaderFields.signature, ""), message.body))
            if member != "Subscribe" and self.error:
                self.bus.send(new_error(message, self.error, "s", ("the stand-in refuses",)))
                continue
            if member not in ("StartTransientUnit", "StopUnit"):
                self.bus.send(new_method_return(message))
                continue
            self.jobs += 1
            job = f"/org/freedesktop/systemd1/job/{self.jobs}"
            other = f"/org/freedesktop/systemd1/job/{self.jobs + 1000}"
            removed = lambda path, result: new_signal(  # noqa: E731
                DBusAddress("/org/freedesktop/systemd1", NAME, MANAGER), "JobRemoved", "uoss",
                (self.jobs, path, message.body[0], result))  # fmt: skip
            # Also that of somebody else's job, and this one's before the answer that names it.
            self.bus.send(removed(other, "failed"))
            self.bus.send(removed(job, self.result))
            self.bus.send(new_method_return(message, "o", (job,)))

    def of(self, member):
        return [call for call in self.calls if call[0] == member]


class Tests:
    def __init__(self, runsc, work, systemd):
        self.runsc = runsc
        self.work = work
        self.systemd = systemd
        self.slice = f"runsctest{os.getpid()}.slice"

    def call(self, *argv, flags=()):
        argv = [self.runsc, "--root", self.work + "/state", "--systemd-cgroup", *flags, *argv]
        # Files: a container in the background keeps its streams.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=60, check=False)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(argv, done.returncode, out.read(), err.read())

    def ok(self, *argv):
        done = self.call(*argv)
        require(done.returncode == 0, f"{argv}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def bundle(self, *args, **resources):
        bundle = tempfile.mkdtemp(dir=self.work)
        config = {
            "ociVersion": "1.0.2", "root": {"path": self.work + "/rootfs"},
            "process": {"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}},
            "linux": {"cgroupsPath": f"{self.slice}:pre:c", "resources": resources, "namespaces": [{"type": "network"}]},
        }  # fmt: skip
        with open(bundle + "/config.json", "w") as file:
            json.dump(config, file)
        return bundle

    def directories(self):
        return [path for path in self.places() if os.path.isdir(path)]

    def places(self):
        return [f"/sys/fs/cgroup/{name}/{self.slice}/pre-c.scope" for name in os.listdir("/sys/fs/cgroup")]

    def cleanup(self):
        self.systemd.result, self.systemd.error = "done", None
        self.call("delete", "--force", "c")
        self.systemd.calls.clear()
        same(self.directories(), [])
        for path in self.places():
            if os.path.isdir(os.path.dirname(path)):
                os.rmdir(os.path.dirname(path))

    def test_life(self):
        bundle = self.bundle("/bin/busybox", "sleep", "100", memory={"limit": 64 << 20}, pids={"limit": 10},
                             cpu={"shares": 512, "quota": 50000, "period": 100000})  # fmt: skip
        self.ok("run", "-d", "-b", bundle, "c")
        ((_, signature, body),) = self.systemd.of("StartTransientUnit")
        same(signature, "ssa(sv)a(sa(sv))")
        same((body[0], body[1], body[3]), ("pre-c.scope", "replace", []))
        properties = dict(body[2])
        state = json.loads(open(self.work + "/state/c/state.json").read())
        same(properties.pop("PIDs"), ("au", [state["goferPid"]]))
        same(properties, {
            "Description": ("s", "runsc container c"), "Slice": ("s", self.slice), "Delegate": ("b", True),
            "MemoryAccounting": ("b", True), "CPUAccounting": ("b", True), "TasksAccounting": ("b", True),
            "DefaultDependencies": ("b", False), "MemoryLimit": ("t", 64 << 20), "CPUShares": ("t", 512),
            "CPUQuotaPerSecUSec": ("t", 500000), "TasksMax": ("t", 104),
        })  # fmt: skip
        # Both processes are where systemd would have put the first.
        base = f"/sys/fs/cgroup/memory/{self.slice}/pre-c.scope"
        pids = set(open(base + "/cgroup.procs").read().split())
        require({str(state["goferPid"]), str(state["sandboxPid"])} <= pids, f"processes {pids}, {state}")
        same(open(base + "/memory.limit_in_bytes").read().strip(), str(64 << 20))
        self.ok("update", "--memory", str(32 << 20), "c")
        ((_, signature, body),) = self.systemd.of("SetUnitProperties")
        same((signature, body), ("sba(sv)", ("pre-c.scope", True, [("MemoryLimit", ("t", 32 << 20))])))
        same(open(base + "/memory.limit_in_bytes").read().strip(), str(32 << 20))
        self.ok("kill", "c", "KILL")
        self.ok("delete", "--force", "c")
        same(self.systemd.of("StopUnit"), [("StopUnit", "ss", ("pre-c.scope", "replace"))])
        same(self.directories(), [])

    def test_a_scope_that_is_gone_is_no_error(self):
        self.ok("run", "-d", "-b", self.bundle("/bin/busybox", "sleep", "100"), "c")
        self.systemd.error = NAME + ".NoSuchUnit"
        done = self.ok("delete", "--force", "c")
        same((done.stdout, done.stderr), ("", ""))

    def test_what_systemd_refuses_is_told(self):
        self.systemd.error = NAME + ".UnitExists"
        done = self.call("run", "-d", "-b", self.bundle("/bin/busybox", "true"), "c")
        require(done.returncode != 0, "it runs")
        same(done.stderr.strip(), f"runsc: systemd: StartTransientUnit: {NAME}.UnitExists: the stand-in refuses")
        require(not os.path.exists(self.work + "/state/c"), "a state is left")

    def test_a_job_that_fails_is_told(self):
        self.systemd.result = "timeout"
        done = self.call("run", "-d", "-b", self.bundle("/bin/busybox", "true"), "c")
        require(done.returncode != 0, "it runs")
        same(done.stderr.strip(), "runsc: systemd: StartTransientUnit of pre-c.scope: timeout")
        require(not os.path.exists(self.work + "/state/c"), "a state is left")

    def test_without_systemd_there_is_a_warning(self):
        address = os.environ.pop("DBUS_SYSTEM_BUS_ADDRESS")
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = "unix:path=/no/such/bus"
        try:
            bundle = self.bundle("/bin/busybox", "echo", "ran", memory={"limit": 64 << 20})
            done = self.call("run", "-b", bundle, "c")
            same((done.returncode, done.stdout), (0, "ran\n"))
            require("/no/such/bus" in done.stderr and len(done.stderr.splitlines()) == 1, f"said {done.stderr!r}")
        finally:
            os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = address

    def test_bad_paths(self):
        bundle = self.bundle("/bin/busybox", "true")
        for path, words in ("/a/b", "slice:prefix:name"), (f"{self.slice}:p:x.slice", "cannot be a slice"):
            with open(bundle + "/config.json") as file:
                config = json.load(file)
            config["linux"]["cgroupsPath"] = path
            with open(bundle + "/config.json", "w") as file:
                json.dump(config, file)
            done = self.call("run", "-b", bundle, "c")
            require(done.returncode != 0 and words in done.stderr, f"{path}: {done.stderr}")
        same(self.systemd.calls, [])


def main():
    if os.geteuid() != 0:
        sys.exit("systemd_test.py: needs root")
    runsc = os.path.realpath(sys.argv[1])
    work = tempfile.mkdtemp(prefix="systemd-test.", dir="/tmp")
    failed = 0
    daemon = None
    try:
        os.makedirs(work + "/rootfs/bin")
        shutil.copy(shutil.which("busybox"), work + "/rootfs/bin/busybox")
        with open(work + "/bus.conf", "w") as file:
            file.write(CONFIG % (work + "/bus"))
        daemon = subprocess.Popen(["dbus-daemon", "--nofork", "--nopidfile", "--config-file", work + "/bus.conf",
                                   "--print-address=1"], stdout=subprocess.PIPE, text=True)  # fmt: skip
        require(daemon.stdout.readline(), "dbus-daemon does not start")
        address = "unix:path=" + work + "/bus"
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = address
        systemd = FakeSystemd(address)
        systemd.start()
        tests = Tests(runsc, work, systemd)
        for name in [name for name in dir(tests) if name.startswith("test_")]:
            try:
                getattr(tests, name)()
                tests.cleanup()
                print("passed", name)
            except (AssertionError, subprocess.SubprocessError, OSError, KeyError, ValueError) as error:
                failed += 1
                print(f"FAILED {name}: {type(error).__name__}: {error}")
                tests.cleanup()
    finally:
        if daemon:
            daemon.terminate()
            daemon.wait()
        shutil.rmtree(work, ignore_errors=True)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
